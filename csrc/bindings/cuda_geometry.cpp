#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>

#include "bindings/cuda.h"
#include "classes/device.h"

namespace py = pybind11;

namespace infall {

void bind_cuda_geometry(py::module_& module) {
    module.def("geometry_workspace", &device::geometry_workspace, py::arg("classes"));

    def_launch(
        module, "pair_geometry",
        +[](const double* means, const double* variances, const double* extremes, int64_t classes,
            int64_t dim, void* workspace, std::array<Pointer, 10> totals, Stream stream) {
            const auto sum = [&](size_t i) { return as<double>(totals[i]); };
            const auto argument = [&](size_t i) { return as<int64_t>(totals[i]); };
            const PairTotals out{sum(0), sum(1), sum(3), sum(4),      sum(5),
                                 sum(6), sum(8), sum(9), argument(2), argument(7)};
            device::pair_geometry(means, variances, extremes, classes, dim, workspace, out, stream);
        },
        {"means", "variances", "extremes", "classes", "dim", "workspace", "totals"});

    def_launch(module, "cdnv_block", device::cdnv_block,
               {"means", "variances", "extremes", "classes", "dim", "first_class", "end_class",
                "workspace", "out"});
}

}  // namespace infall
