#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <string>

#include "bindings/cuda.h"
#include "random/gaussian.h"
#include "rows/device.h"

namespace py = pybind11;

namespace infall {

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

    def_launch(module, "gaussian_rows",
               +[](const int64_t* indices, int64_t count, int64_t dim, uint64_t seed,
                   uint32_t layer, float* out, Stream stream) {
                   device::gaussian_rows({seed, layer, dim}, indices, count, out, stream);
               },
               {"indices", "count", "dim", "seed", "layer", "out"});

    def_launch(module, "select_stream",
               +[](const float* w, int64_t dim, uint64_t seed, uint32_t layer, int64_t first_row,
                   int64_t end_row, int64_t num_rows, int64_t batch, bool absolute, bool by_index,
                   std::array<double, 2> thresholds, void* workspace, int64_t* indices,
                   double* projections, Stream stream) {
                   device::select_stream({seed, layer, dim},
                                         {first_row,
                                          end_row,
                                          num_rows,
                                          batch,
                                          absolute,
                                          by_index,
                                          {thresholds[0], thresholds[1]},
                                          workspace,
                                          indices,
                                          projections},
                                         w, stream);
               },
               {"w", "dim", "seed", "layer", "first_row", "end_row", "num_rows", "batch",
                "absolute", "by_index", "thresholds", "workspace", "indices", "projections"});

    def_launch(module, "select_rotated",
               +[](const double* factors, int64_t span, uint64_t seed, uint32_t layer,
                   int64_t first_row, int64_t end_row, int64_t num_rows, int64_t batch,
                   bool absolute, bool by_index, std::array<double, 2> thresholds, void* workspace,
                   int64_t* indices, double* projections, Stream stream) {
                   device::select_rotated({seed, layer, 0},
                                          {first_row,
                                           end_row,
                                           num_rows,
                                           batch,
                                           absolute,
                                           by_index,
                                           {thresholds[0], thresholds[1]},
                                           workspace,
                                           indices,
                                           projections},
                                          factors, span, stream);
               },
               {"factors", "span", "seed", "layer", "first_row", "end_row", "num_rows", "batch",
                "absolute", "by_index", "thresholds", "workspace", "indices", "projections"});

    def_launch(module, "select_matrix",
               +[](const void* weights, const std::string& dtype, int64_t rows, int64_t dim,
                   int64_t row_stride, int64_t column_stride, const void* w, int64_t num_rows,
                   int64_t batch, bool absolute, bool by_index, void* workspace, int64_t* indices,
                   double* projections, Stream stream) {
                   device::select_matrix(
                       {weights, element_type(dtype), rows, dim, row_stride, column_stride},
                       {0,
                        rows,
                        num_rows,
                        batch,
                        absolute,
                        by_index,
                        {0, 0},
                        workspace,
                        indices,
                        projections},
                       w, stream);
               },
               {"weights", "dtype", "rows", "dim", "row_stride", "column_stride", "w", "num_rows",
                "batch", "absolute", "by_index", "workspace", "indices", "projections"});

    def_launch(module, "gather_rows",
               +[](const void* matrix, const std::string& dtype, int64_t rows, int64_t dim,
                   int64_t row_stride, int64_t column_stride, const int64_t* indices, int64_t count,
                   void* out, Stream stream) {
                   device::gather_rows(
                       {matrix, element_type(dtype), rows, dim, row_stride, column_stride}, indices,
                       count, out, stream);
               },
               {"matrix", "dtype", "rows", "dim", "row_stride", "column_stride", "indices", "count",
                "out"});

    def_launch(module, "deciding_entries",
               +[](const int64_t* rows, int64_t count, int64_t span, uint64_t seed, uint32_t layer,
                   double* out, Stream stream) {
                   device::deciding_entries({seed, layer, 0}, rows, count, span, out, stream);
               },
               {"rows", "count", "span", "seed", "layer", "out"});

    def_launch(module, "hyperplane_codes",
               +[](const float* x, int64_t dim, int64_t num_inputs, int64_t num_bits, uint64_t seed,
                   std::optional<uint32_t> layer, uint8_t* out, Stream stream) {
                   const GaussianLayer planes{seed, layer.value_or(0), dim,
                                              layer ? layer_rows : hyperplanes};
                   device::hyperplane_codes(planes, x, num_inputs, num_bits, out, stream);
               },
               {"x", "dim", "num_inputs", "num_bits", "seed", "layer", "out"});
}

}  // namespace infall
