// The CUDA twins of the class kernels for Python; pointers and streams come as integers.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>

#include "bindings/cuda.h"
#include "classes/device.h"

namespace py = pybind11;

namespace infall {
void bind_cuda_geometry(py::module_& module) {
    module.def("geometry_workspace", &device::geometry_workspace, py::arg("classes"));

    module.def(
        "pair_geometry",
        [](Pointer means, Pointer variances, Pointer extremes, int64_t classes, int64_t dim,
           Pointer workspace, std::array<Pointer, 10> totals, int device_number, Pointer stream) {
            const device::OnDevice on(device_number);
            const PairTotals out{as<double>(totals[0]),  as<double>(totals[1]),
                                 as<double>(totals[3]),  as<double>(totals[4]),
                                 as<double>(totals[5]),  as<double>(totals[6]),
                                 as<double>(totals[8]),  as<double>(totals[9]),
                                 as<int64_t>(totals[2]), as<int64_t>(totals[7])};
            device::pair_geometry(as<const double>(means), as<const double>(variances),
                                  as<const double>(extremes), classes, dim, as<void>(workspace),
                                  out, as<void>(stream));
        },
        py::arg("means"), py::arg("variances"), py::arg("extremes"), py::arg("classes"),
        py::arg("dim"), py::arg("workspace"), py::arg("totals"), py::arg("device"),
        py::arg("stream"));

    module.def(
        "cdnv_block",
        [](Pointer means, Pointer variances, Pointer extremes, int64_t classes, int64_t dim,
           int64_t first_class, int64_t end_class, Pointer workspace, Pointer out,
           int device_number, Pointer stream) {
            const device::OnDevice on(device_number);
            device::cdnv_block(as<const double>(means), as<const double>(variances),
                               as<const double>(extremes), classes, dim, first_class, end_class,
                               as<void>(workspace), as<double>(out), as<void>(stream));
        },
        py::arg("means"), py::arg("variances"), py::arg("extremes"), py::arg("classes"),
        py::arg("dim"), py::arg("first_class"), py::arg("end_class"), py::arg("workspace"),
        py::arg("out"), py::arg("device"), py::arg("stream"));
}

}  // namespace infall
