#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "bindings/cuda.h"
#include "random/gaussian.h"
#include "rows/device.h"
#if defined(INFALL_CUDA_EMULATED)
#include "runtime/cuda_emulation.h"
#endif

namespace py = pybind11;

namespace infall {

template <>
struct Given<GaussianLayer> : GivenFields<GaussianLayer, uint64_t, uint32_t, int64_t> {};
template <>
struct Given<device::DeviceMatrix> : GivenFields<device::DeviceMatrix, const void*, ElementType,
                                                 int64_t, int64_t, int64_t, int64_t> {};
template <>
struct Given<device::DeviceSelection>
    : GivenFields<device::DeviceSelection, int64_t, int64_t, int64_t, int64_t, bool, bool, double,
                  double, void*, int64_t*, double*> {};

void bind_cuda_rows(py::module_& module) {
    def_launch(module, "unit_vectors", device::unit_vectors,
               {"w", "batch", "dim", "directions", "norms", "exponents"});
    def_launch(module, "householder", device::householder,
               {"w", "batch", "dim", "v", "scale", "columns"});
    def_launch(module, "discard_undirected", device::discard_undirected,
               {"norms", "batch", "num_rows", "indices", "projections"});
    def_launch(module, "multiply_in_order", device::multiply_in_order,
               {"rows", "count", "dim", "w", "out"});
    def_launch(module, "rotate_rows", device::rotate_rows,
               {"z", "count", "dim", "deciding", "v", "scale", "span", "scratch"});
    def_launch(module, "hamming_distances", device::hamming_distances,
               {"a", "a_count", "b", "b_count", "bytes", "out"});
    module.def("selection_workspace", size_of(&device::selection_workspace), py::arg("num_rows"),
               py::arg("available_rows"), py::arg("batch"));
    module.def("matrix_workspace", size_of(&device::matrix_workspace), py::arg("rows"),
               py::arg("num_rows"), py::arg("batch"));

    def_launch(module, "gaussian_rows", device::gaussian_rows,
               {"layer", "indices", "count", "out"});
    def_launch(module, "select_stream", device::select_stream, {"layer", "task", "w", "screened"});
    def_launch(module, "screen_estimates", device::screen_estimates,
               {"layer", "first_row", "count", "w", "estimates", "margin"});
    def_launch(module, "select_rotated", device::select_rotated,
               {"layer", "task", "factors", "span"});
    def_launch(module, "select_matrix", device::select_matrix, {"matrix", "task", "w"});
    def_launch(module, "gather_rows", device::gather_rows, {"matrix", "indices", "count", "out"});
    def_launch(module, "deciding_entries", device::deciding_entries,
               {"layer", "rows", "count", "span", "out"});

    def_launch(module, "hyperplane_codes",
               +[](const float* x, int64_t dim, int64_t num_inputs, int64_t num_bits, uint64_t seed,
                   std::optional<uint32_t> layer, uint8_t* out, Stream stream) {
                   const GaussianLayer planes{seed, layer.value_or(0), dim,
                                              layer ? layer_rows : hyperplanes};
                   device::hyperplane_codes(planes, x, num_inputs, num_bits, out, stream);
               },
               {"x", "dim", "num_inputs", "num_bits", "seed", "layer", "out"});

#if defined(INFALL_CUDA_EMULATED)
    // For tests: where the errors of approximate functions lie, in units of the largest allowed.
    module.def(
        "set_approximation_errors",
        [](double low, double high) { emulation::approximation_errors = {low, high}; },
        py::arg("low"), py::arg("high"));
#endif
}

}  // namespace infall
