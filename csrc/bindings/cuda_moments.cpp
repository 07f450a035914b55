// The CUDA twins of the moment kernels for Python; see cuda.cpp.
#include <pybind11/pybind11.h>

#include <string>

#include "bindings/cuda.h"
#include "classes/moments_device.h"

namespace py = pybind11;

namespace infall {
namespace {

device::ClassOrder order_of(int64_t num_samples, Pointer order, Pointer starts) {
    return {num_samples, as<const int64_t>(order), as<const int64_t>(starts)};
}

ClassState state_of(int64_t num_classes, Pointer counts, Pointer shifts, bool shifts_are_float64,
                    Pointer sums, Pointer squares) {
    return {num_classes,
            as<int64_t>(counts),
            {as<void>(shifts), shifts_are_float64},
            as<double>(sums),
            as<double>(squares)};
}

}  // namespace

void bind_cuda_moments(py::module_& module) {
    module.def("moments_scratch", &device::moments_scratch, py::arg("num_classes"), py::arg("dim"));

    module.def(
        "accumulate_moments",
        [](Pointer features, const std::string& dtype, int64_t stride, int64_t dim,
           int64_t num_samples, Pointer order, Pointer starts, int64_t num_classes, Pointer counts,
           Pointer shifts, bool shifts_are_float64, Pointer sums, Pointer squares, Pointer scratch,
           int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::accumulate_moments(
                rows_of(features, dtype, stride, dim), order_of(num_samples, order, starts),
                state_of(num_classes, counts, shifts, shifts_are_float64, sums, squares),
                as<double>(scratch), as<void>(stream));
        },
        py::arg("features"), py::arg("dtype"), py::arg("stride"), py::arg("dim"),
        py::arg("num_samples"), py::arg("order"), py::arg("starts"), py::arg("num_classes"),
        py::arg("counts"), py::arg("shifts"), py::arg("shifts_are_float64"), py::arg("sums"),
        py::arg("squares"), py::arg("scratch"), py::arg("device"), py::arg("stream"));

    module.def(
        "class_means",
        [](int64_t num_classes, int64_t dim, Pointer counts, Pointer shifts,
           bool shifts_are_float64, Pointer sums, Pointer squares, Pointer centre, Pointer means,
           Pointer square_offsets, int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::class_means(
                state_of(num_classes, counts, shifts, shifts_are_float64, sums, squares), dim,
                as<const double>(centre), as<double>(means), as<double>(square_offsets),
                as<void>(stream));
        },
        py::arg("num_classes"), py::arg("dim"), py::arg("counts"), py::arg("shifts"),
        py::arg("shifts_are_float64"), py::arg("sums"), py::arg("squares"), py::arg("centre"),
        py::arg("means"), py::arg("square_offsets"), py::arg("device"), py::arg("stream"));

    module.def(
        "subtract",
        [](Pointer features, const std::string& dtype, int64_t stride, int64_t dim,
           int64_t num_samples, Pointer labels, int64_t num_classes, Pointer base,
           bool base_is_float64, Pointer out, int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::subtract(rows_of(features, dtype, stride, dim), num_samples,
                             as<const int64_t>(labels), num_classes, as<const void>(base),
                             base_is_float64, as<double>(out), as<void>(stream));
        },
        py::arg("features"), py::arg("dtype"), py::arg("stride"), py::arg("dim"),
        py::arg("num_samples"), py::arg("labels"), py::arg("num_classes"), py::arg("base"),
        py::arg("base_is_float64"), py::arg("out"), py::arg("device"), py::arg("stream"));

    module.def(
        "sums_by_class",
        [](Pointer values, int64_t num_samples, Pointer order, Pointer starts, int64_t num_classes,
           Pointer sums, int device_number, Pointer stream) {
            const Launching launching(device_number);
            device::sums_by_class(as<const double>(values), order_of(num_samples, order, starts),
                                  num_classes, as<double>(sums), as<void>(stream));
        },
        py::arg("values"), py::arg("num_samples"), py::arg("order"), py::arg("starts"),
        py::arg("num_classes"), py::arg("sums"), py::arg("device"), py::arg("stream"));
}

}  // namespace infall
