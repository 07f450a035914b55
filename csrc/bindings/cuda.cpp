// The CUDA twins for Python: device pointers and streams come as integers, the Python modules own
// the memory behind them.
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
namespace {

device::DeviceSelection selection(int64_t first_row, int64_t end_row, int64_t num_rows,
                                  int64_t batch, bool absolute, bool by_index,
                                  std::array<double, 2> thresholds, Pointer workspace,
                                  Pointer indices, Pointer projections) {
    return {first_row,
            end_row,
            num_rows,
            batch,
            absolute,
            by_index,
            {thresholds[0], thresholds[1]},
            as<void>(workspace),
            as<int64_t>(indices),
            as<double>(projections)};
}

device::Element element_of(const std::string& dtype) {
    if (dtype == "float32") return device::Element::float32;
    if (dtype == "float64") return device::Element::float64;
    if (dtype == "float16") return device::Element::float16;
    if (dtype == "bfloat16") return device::Element::bfloat16;
    throw py::type_error("dtype is '" + dtype + "'");
}

}  // namespace
}  // namespace infall

PYBIND11_MODULE(INFALL_CUDA_MODULE, module) {
    using namespace infall;
    module.doc() = "The CUDA kernels of infall. Arguments are checked by the Python modules.";
    bind_cuda_frames(module);
    bind_cuda_geometry(module);
    module.def("device_count", &device::device_count);
    module.def("architectures", [] { return std::string(INFALL_CUDA_ARCHITECTURES); });
    bind_cuda_moments(module);
    module.def("selection_workspace", size_of(&device::selection_workspace), py::arg("num_rows"),
               py::arg("available_rows"), py::arg("batch"));

    module.def(
        "unit_vectors",
        [](Pointer w, int64_t batch, int64_t dim, Pointer directions, Pointer norms,
           Pointer exponents, int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::unit_vectors(as<const double>(w), batch, dim, as<double>(directions),
                                 as<double>(norms), as<int64_t>(exponents), as<void>(stream));
        },
        py::arg("w"), py::arg("batch"), py::arg("dim"), py::arg("directions"), py::arg("norms"),
        py::arg("exponents"), py::arg("device"), py::arg("stream"));

    module.def(
        "householder",
        [](Pointer w, int64_t batch, int64_t dim, Pointer v, Pointer scale, Pointer columns,
           int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::householder(as<const double>(w), batch, dim, as<double>(v), as<double>(scale),
                                as<double>(columns), as<void>(stream));
        },
        py::arg("w"), py::arg("batch"), py::arg("dim"), py::arg("v"), py::arg("scale"),
        py::arg("columns"), py::arg("device"), py::arg("stream"));

    module.def(
        "discard_undirected",
        [](Pointer norms, int64_t batch, int64_t num_rows, Pointer indices, Pointer projections,
           int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::discard_undirected(as<const double>(norms), batch, num_rows,
                                       as<int64_t>(indices), as<double>(projections),
                                       as<void>(stream));
        },
        py::arg("norms"), py::arg("batch"), py::arg("num_rows"), py::arg("indices"),
        py::arg("projections"), py::arg("device"), py::arg("stream"));

    module.def(
        "multiply_in_order",
        [](Pointer rows, int64_t count, int64_t dim, Pointer w, Pointer out, int device_number,
           Pointer stream) {
            const Launching launching(device_number);
            device::multiply_in_order(as<const float>(rows), count, dim, as<const double>(w),
                                      as<double>(out), as<void>(stream));
        },
        py::arg("rows"), py::arg("count"), py::arg("dim"), py::arg("w"), py::arg("out"),
        py::arg("device"), py::arg("stream"));

    module.def(
        "gaussian_rows",
        [](Pointer indices, int64_t count, int64_t dim, uint64_t seed, uint32_t layer, Pointer out,
           int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::gaussian_rows({seed, layer, dim}, as<const int64_t>(indices), count,
                                  as<float>(out), as<void>(stream));
        },
        py::arg("indices"), py::arg("count"), py::arg("dim"), py::arg("seed"), py::arg("layer"),
        py::arg("out"), py::arg("device"), py::arg("stream"));

    module.def(
        "select_stream",
        [](Pointer w, int64_t dim, uint64_t seed, uint32_t layer, int64_t first_row,
           int64_t end_row, int64_t num_rows, int64_t batch, bool absolute, bool by_index,
           std::array<double, 2> thresholds, Pointer workspace, Pointer indices,
           Pointer projections, int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::select_stream({seed, layer, dim},
                                  selection(first_row, end_row, num_rows, batch, absolute, by_index,
                                            thresholds, workspace, indices, projections),
                                  as<const float>(w), as<void>(stream));
        },
        py::arg("w"), py::arg("dim"), py::arg("seed"), py::arg("layer"), py::arg("first_row"),
        py::arg("end_row"), py::arg("num_rows"), py::arg("batch"), py::arg("absolute"),
        py::arg("by_index"), py::arg("thresholds"), py::arg("workspace"), py::arg("indices"),
        py::arg("projections"), py::arg("device"), py::arg("stream"));

    module.def(
        "select_rotated",
        [](Pointer factors, int64_t span, uint64_t seed, uint32_t layer, int64_t first_row,
           int64_t end_row, int64_t num_rows, int64_t batch, bool absolute, bool by_index,
           std::array<double, 2> thresholds, Pointer workspace, Pointer indices,
           Pointer projections, int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::select_rotated({seed, layer, 0},
                                   selection(first_row, end_row, num_rows, batch, absolute,
                                             by_index, thresholds, workspace, indices, projections),
                                   as<const double>(factors), span, as<void>(stream));
        },
        py::arg("factors"), py::arg("span"), py::arg("seed"), py::arg("layer"),
        py::arg("first_row"), py::arg("end_row"), py::arg("num_rows"), py::arg("batch"),
        py::arg("absolute"), py::arg("by_index"), py::arg("thresholds"), py::arg("workspace"),
        py::arg("indices"), py::arg("projections"), py::arg("device"), py::arg("stream"));

    module.def("matrix_workspace", size_of(&device::matrix_workspace), py::arg("rows"),
               py::arg("num_rows"), py::arg("batch"));

    module.def(
        "select_matrix",
        [](Pointer weights, const std::string& dtype, int64_t rows, int64_t dim, int64_t row_stride,
           int64_t column_stride, Pointer w, int64_t num_rows, int64_t batch, bool absolute,
           bool by_index, Pointer workspace, Pointer indices, Pointer projections,
           int device_number, Pointer stream) {
            const Launching launching(device_number);
            const device::DeviceMatrix matrix{
                as<const void>(weights), element_of(dtype), rows, dim, row_stride, column_stride};
            device::select_matrix(matrix,
                                  selection(0, rows, num_rows, batch, absolute, by_index, {0, 0},
                                            workspace, indices, projections),
                                  as<const void>(w), as<void>(stream));
        },
        py::arg("weights"), py::arg("dtype"), py::arg("rows"), py::arg("dim"),
        py::arg("row_stride"), py::arg("column_stride"), py::arg("w"), py::arg("num_rows"),
        py::arg("batch"), py::arg("absolute"), py::arg("by_index"), py::arg("workspace"),
        py::arg("indices"), py::arg("projections"), py::arg("device"), py::arg("stream"));

    module.def(
        "gather_rows",
        [](Pointer matrix, const std::string& dtype, int64_t rows, int64_t dim, int64_t row_stride,
           int64_t column_stride, Pointer indices, int64_t count, Pointer out, int device_number,
           Pointer stream) {
            const Launching launching(device_number);
            device::gather_rows(
                {as<const void>(matrix), element_of(dtype), rows, dim, row_stride, column_stride},
                as<const int64_t>(indices), count, as<void>(out), as<void>(stream));
        },
        py::arg("matrix"), py::arg("dtype"), py::arg("rows"), py::arg("dim"), py::arg("row_stride"),
        py::arg("column_stride"), py::arg("indices"), py::arg("count"), py::arg("out"),
        py::arg("device"), py::arg("stream"));

    module.def(
        "deciding_entries",
        [](Pointer rows, int64_t count, int64_t span, uint64_t seed, uint32_t layer, Pointer out,
           int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::deciding_entries({seed, layer, 0}, as<const int64_t>(rows), count, span,
                                     as<double>(out), as<void>(stream));
        },
        py::arg("rows"), py::arg("count"), py::arg("span"), py::arg("seed"), py::arg("layer"),
        py::arg("out"), py::arg("device"), py::arg("stream"));

    module.def(
        "rotate_rows",
        [](Pointer z, int64_t count, int64_t dim, Pointer deciding, Pointer v, Pointer scale,
           int64_t span, Pointer scratch, int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::rotate_rows(as<float>(z), count, dim, as<const double>(deciding),
                                as<const double>(v), as<const double>(scale), span,
                                as<double>(scratch), as<void>(stream));
        },
        py::arg("z"), py::arg("count"), py::arg("dim"), py::arg("deciding"), py::arg("v"),
        py::arg("scale"), py::arg("span"), py::arg("scratch"), py::arg("device"),
        py::arg("stream"));

    module.def(
        "hyperplane_codes",
        [](Pointer x, int64_t dim, int64_t num_inputs, int64_t num_bits, uint64_t seed,
           std::optional<uint32_t> layer, Pointer out, int device_number, Pointer stream) {
            const GaussianLayer planes{seed, layer.value_or(0), dim,
                                       layer ? layer_rows : hyperplanes};
            const Launching launching(device_number);
            device::hyperplane_codes(planes, as<const float>(x), num_inputs, num_bits,
                                     as<uint8_t>(out), as<void>(stream));
        },
        py::arg("x"), py::arg("dim"), py::arg("num_inputs"), py::arg("num_bits"), py::arg("seed"),
        py::arg("layer"), py::arg("out"), py::arg("device"), py::arg("stream"));

    module.def(
        "hamming_distances",
        [](Pointer a, int64_t a_count, Pointer b, int64_t b_count, int64_t bytes, Pointer out,
           int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::hamming_distances(as<const uint8_t>(a), a_count, as<const uint8_t>(b), b_count,
                                      bytes, as<int32_t>(out), as<void>(stream));
        },
        py::arg("a"), py::arg("a_count"), py::arg("b"), py::arg("b_count"), py::arg("bytes"),
        py::arg("out"), py::arg("device"), py::arg("stream"));
}
