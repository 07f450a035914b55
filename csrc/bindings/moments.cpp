#include "classes/moments.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <vector>

#include "bindings/checks.h"
#include "bindings/features.h"
#include "bindings/watch.h"

namespace py = pybind11;

namespace infall {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

ClassShifts shifts_of(py::array& shifts) {
    return {shifts.mutable_data(), shifts.dtype().itemsize() == sizeof(double)};
}

ClassState state_of(Array<int64_t>& counts, py::array& shifts, Array<double>& sums,
                    Array<double>& squares) {
    return {counts.size(), counts.mutable_data(), shifts_of(shifts), sums.mutable_data(),
            squares.mutable_data()};
}

}  // namespace

void bind_moments(py::module_& module) {
    module.def(
        "accumulate_moments",
        [](const py::array& features, const Array<int64_t>& labels, Array<int64_t>& counts,
           py::array& shifts, Array<double>& sums, Array<double>& squares, int num_threads,
           const py::object& progress) {
            const FeatureRows rows = rows_of(features);
            const ClassState state = state_of(counts, shifts, sums, squares);
            int64_t overflowed;
            compute(progress, [&](Watch* watch) {
                overflowed = accumulate_moments(rows, labels.size(), labels.data(), state,
                                                num_threads, watch);
            });
            return overflowed;
        },
        py::arg("features").noconvert(), py::arg("labels").noconvert(),
        py::arg("counts").noconvert(), py::arg("shifts").noconvert(), py::arg("sums").noconvert(),
        py::arg("squares").noconvert(), py::arg("num_threads"), py::arg("progress"));

    module.def(
        "first_nonfinite",
        [](const py::array& features, int num_threads) {
            require_entries(features.shape(1), "features");
            const FeatureRows rows = rows_of(features);
            const int64_t count = features.shape(0);
            int64_t sample;
            compute(py::none(), [&](Watch* watch) {
                sample = first_nonfinite(rows, count, num_threads, watch);
            });
            return sample;
        },
        py::arg("features").noconvert(), py::arg("num_threads"));

    module.def(
        "start_classes",
        [](const py::array& features, const Array<int64_t>& labels, Array<int64_t>& counts,
           py::array& shifts, Array<double>& sums, Array<double>& squares) {
            const FeatureRows rows = rows_of(features);
            const ClassState state = state_of(counts, shifts, sums, squares);
            compute(py::none(),
                    [&](Watch*) { start_classes(rows, labels.size(), labels.data(), state); });
        },
        py::arg("features").noconvert(), py::arg("labels").noconvert(),
        py::arg("counts").noconvert(), py::arg("shifts").noconvert(), py::arg("sums").noconvert(),
        py::arg("squares").noconvert());

    module.def(
        "deviations",
        [](const py::array& features, const Array<int64_t>& labels, py::array& shifts,
           Array<double>& out, int num_threads) {
            require_entries(features.shape(1), "features");
            const FeatureRows rows = rows_of(features);
            const ClassShifts origin = shifts_of(shifts);
            double* target = out.mutable_data();
            compute(py::none(), [&](Watch* watch) {
                deviations(rows, labels.size(), labels.data(), origin, num_threads, watch, target);
            });
        },
        py::arg("features").noconvert(), py::arg("labels").noconvert(),
        py::arg("shifts").noconvert(), py::arg("out").noconvert(), py::arg("num_threads"));

    module.def(
        "accumulate_scatter",
        [](const Array<double>& x, Array<double>& scatter, int num_threads) {
            double* sums = scatter.mutable_data();
            compute(py::none(), [&](Watch* watch) {
                accumulate_scatter(x.data(), x.shape(0), x.shape(1), num_threads, watch, sums);
            });
        },
        py::arg("x").noconvert(), py::arg("scatter").noconvert(), py::arg("num_threads"));

    module.def(
        "projected_square_norms",
        [](const py::array& features, const Array<int64_t>& labels, const Array<double>& means,
           const Array<double>& directions, int num_threads, const py::object& progress) {
            const FeatureRows rows = rows_of(features);
            Array<double> out(labels.size());
            double* square_norms = out.mutable_data();
            compute(progress, [&](Watch* watch) {
                projected_square_norms(rows, labels.size(), labels.data(), means.data(),
                                       directions.data(), directions.shape(1), num_threads, watch,
                                       square_norms);
            });
            return out;
        },
        py::arg("features").noconvert(), py::arg("labels").noconvert(),
        py::arg("means").noconvert(), py::arg("directions").noconvert(), py::arg("num_threads"),
        py::arg("progress"));

    // (means or None, square_offsets or None)
    module.def(
        "class_means",
        [](Array<int64_t>& counts, py::array& shifts, Array<double>& sums, Array<double>& squares,
           const Array<double>& centre, bool with_means, bool with_offsets, int num_threads) {
            require_entries(centre.size(), "centre");
            const ClassState state = state_of(counts, shifts, sums, squares);
            const py::ssize_t classes = counts.size(), dim = centre.size();
            py::object means = py::none(), offsets = py::none();
            double *means_data = nullptr, *offsets_data = nullptr;
            if (with_means) {
                Array<double> array({classes, dim});
                means_data = array.mutable_data();
                means = array;
            }
            if (with_offsets) {
                Array<double> array(classes);
                offsets_data = array.mutable_data();
                offsets = array;
            }
            compute(py::none(), [&](Watch* watch) {
                class_means(state, dim, centre.data(), num_threads, watch, means_data,
                            offsets_data);
            });
            return py::make_tuple(means, offsets);
        },
        py::arg("counts").noconvert(), py::arg("shifts").noconvert(), py::arg("sums").noconvert(),
        py::arg("squares").noconvert(), py::arg("centre").noconvert(), py::arg("with_means"),
        py::arg("with_offsets"), py::arg("num_threads"));
}

}  // namespace infall
