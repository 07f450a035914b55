#include <pybind11/pybind11.h>

#include "bindings/arrays.h"
#include "bindings/watch.h"
#include "classes/geometry.h"

namespace py = pybind11;

namespace infall {
void bind_geometry(py::module_& module) {
    module.def(
        "pair_geometry",
        [](const Array<double>& means, const Array<double>& variances, int num_threads,
           const py::object& progress) {
            require_entries(means.shape(1), "means");
            const py::ssize_t classes = means.shape(0);
            Array<double> cdnv_sum(classes), cdnv_max(classes), cdnv_min(classes);
            Array<double> excess_sum(classes), excess_squares(classes), excess_max(classes);
            Array<double> gram_sum(classes), gram_squares(classes);
            Array<int64_t> cdnv_argmax(classes), excess_argmax(classes);
            const PairTotals totals{cdnv_sum.mutable_data(),       cdnv_max.mutable_data(),
                                    cdnv_min.mutable_data(),       excess_sum.mutable_data(),
                                    excess_squares.mutable_data(), excess_max.mutable_data(),
                                    gram_sum.mutable_data(),       gram_squares.mutable_data(),
                                    cdnv_argmax.mutable_data(),    excess_argmax.mutable_data()};
            compute(progress, [&](Watch* watch) {
                pair_geometry(means.data(), variances.data(), classes, means.shape(1), num_threads,
                              watch, totals);
            });
            return py::make_tuple(cdnv_sum, cdnv_max, cdnv_argmax, cdnv_min, excess_sum,
                                  excess_squares, excess_max, excess_argmax, gram_sum,
                                  gram_squares);
        },
        py::arg("means").noconvert(), py::arg("variances").noconvert(), py::arg("num_threads"),
        py::arg("progress"));

    module.def(
        "cdnv_block",
        [](const Array<double>& means, const Array<double>& variances, int64_t first_class,
           int64_t end_class, int num_threads, const py::object& progress) {
            require_entries(means.shape(1), "means");
            const int64_t classes = means.shape(0);
            Array<double> out({static_cast<py::ssize_t>(end_class - first_class),
                               static_cast<py::ssize_t>(classes)});
            double* values = out.mutable_data();
            compute(progress, [&](Watch* watch) {
                cdnv_block(means.data(), variances.data(), classes, means.shape(1), first_class,
                           end_class, num_threads, watch, values);
            });
            return out;
        },
        py::arg("means").noconvert(), py::arg("variances").noconvert(), py::arg("first_class"),
        py::arg("end_class"), py::arg("num_threads"), py::arg("progress"));
}

}  // namespace infall
