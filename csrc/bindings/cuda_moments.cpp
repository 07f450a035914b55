#include <pybind11/pybind11.h>

#include <string>

#include "bindings/cuda.h"
#include "classes/device.h"

namespace py = pybind11;

namespace infall {

void bind_cuda_moments(py::module_& module) {
    module.def("moments_scratch", &device::moments_scratch, py::arg("num_classes"), py::arg("dim"));

    def_launch(
        module, "accumulate_moments",
        +[](const void* features, const std::string& dtype, int64_t stride, int64_t dim,
            int64_t num_samples, const int64_t* order, const int64_t* starts, int64_t num_classes,
            int64_t* counts, void* shifts, bool shifts_are_float64, double* sums, double* squares,
            double* scratch, Stream stream) {
            device::accumulate_moments(
                rows_of(features, dtype, stride, dim), {num_samples, order, starts},
                {num_classes, counts, {shifts, shifts_are_float64}, sums, squares}, scratch,
                stream);
        },
        {"features", "dtype", "stride", "dim", "num_samples", "order", "starts", "num_classes",
         "counts", "shifts", "shifts_are_float64", "sums", "squares", "scratch"});

    def_launch(module, "class_means",
               +[](int64_t num_classes, int64_t dim, int64_t* counts, void* shifts,
                   bool shifts_are_float64, double* sums, double* squares, const double* centre,
                   double* means, double* square_offsets, Stream stream) {
                   device::class_means(
                       {num_classes, counts, {shifts, shifts_are_float64}, sums, squares}, dim,
                       centre, means, square_offsets, stream);
               },
               {"num_classes", "dim", "counts", "shifts", "shifts_are_float64", "sums", "squares",
                "centre", "means", "square_offsets"});

    def_launch(module, "subtract",
               +[](const void* features, const std::string& dtype, int64_t stride, int64_t dim,
                   int64_t num_samples, const int64_t* labels, int64_t num_classes,
                   const void* base, bool base_is_float64, double* out, Stream stream) {
                   device::subtract(rows_of(features, dtype, stride, dim), num_samples, labels,
                                    num_classes, base, base_is_float64, out, stream);
               },
               {"features", "dtype", "stride", "dim", "num_samples", "labels", "num_classes",
                "base", "base_is_float64", "out"});

    def_launch(module, "sums_by_class",
               +[](const double* values, int64_t num_samples, const int64_t* order,
                   const int64_t* starts, int64_t num_classes, double* sums, Stream stream) {
                   device::sums_by_class(values, {num_samples, order, starts}, num_classes, sums,
                                         stream);
               },
               {"values", "num_samples", "order", "starts", "num_classes", "sums"});
}

}  // namespace infall
