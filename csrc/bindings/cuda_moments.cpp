#include <pybind11/pybind11.h>

#include "bindings/cuda.h"
#include "classes/device.h"

namespace py = pybind11;

namespace infall {

template <>
struct Given<device::ClassOrder>
    : GivenFields<device::ClassOrder, int64_t, const int64_t*, const int64_t*> {};
template <>
struct Given<ClassShifts> : GivenFields<ClassShifts, void*, bool> {};
template <>
struct Given<ClassState>
    : GivenFields<ClassState, int64_t, int64_t*, ClassShifts, double*, double*> {};

void bind_cuda_moments(py::module_& module) {
    module.def("moments_scratch", &device::moments_scratch, py::arg("num_classes"), py::arg("dim"),
               py::arg("num_samples"));

    def_launch(module, "accumulate_moments", device::accumulate_moments,
               {"features", "samples", "state", "scratch"});
    def_launch(module, "class_means", device::class_means,
               {"state", "dim", "centre", "means", "square_offsets"});
    def_launch(
        module, "subtract", device::subtract,
        {"features", "num_samples", "labels", "num_classes", "base", "base_is_float64", "out"});
    def_launch(module, "sums_by_class", device::sums_by_class,
               {"values", "samples", "num_classes", "sums"});
}

}  // namespace infall
