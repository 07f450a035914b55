#include "classes/moments.h"

#include <pybind11/pybind11.h>

#include <tuple>
#include <utility>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/watch.h"

namespace py = pybind11;

namespace infall {
namespace {

ClassShifts shifts_of(py::array& shifts) {
    return {shifts.mutable_data(), shifts.dtype().itemsize() == sizeof(double)};
}

// For kernels that only read: state that is mapped from a file, or shared, is read-only.
ClassShifts read_only(const py::array& shifts) {
    return {const_cast<void*>(shifts.data()), shifts.dtype().itemsize() == sizeof(double)};
}

// Counts, shifts, sums and squares.
using StateArrays = std::tuple<Array<int64_t>, py::array, Array<double>, Array<double>>;
ClassState state_of(const StateArrays& arrays) {
    const auto& [counts, shifts, sums, squares] = arrays;
    return {counts.size(), const_cast<int64_t*>(counts.data()), read_only(shifts),
            const_cast<double*>(sums.data()), const_cast<double*>(squares.data())};
}

// An update and the arrays that it writes to.
class ArraysUpdate {
  public:
    ArraysUpdate(Array<int64_t> counts, py::array shifts, Array<double> sums, Array<double> squares)
        : counts_(std::move(counts)),
          shifts_(std::move(shifts)),
          sums_(std::move(sums)),
          squares_(std::move(squares)),
          update_({counts_.size(), counts_.mutable_data(), shifts_of(shifts_), sums_.mutable_data(),
                   squares_.mutable_data()},
                  sums_.shape(1)) {}

    void add(const py::array& features, const Array<int64_t>& labels, int num_threads,
             const py::object& progress) {
        const FeatureRows rows = rows_of(features);
        compute(progress, [&](Watch* watch) {
            update_.add(rows, labels.size(), labels.data(), num_threads, watch);
        });
    }

    int64_t first_nonfinite_class() const { return update_.first_nonfinite_class(); }

    // Under the GIL: a process that is forked by another thread sees the old state or the new.
    void publish(int num_threads) { update_.publish(num_threads); }
    void withdraw(int num_threads) { update_.withdraw(num_threads); }

  private:
    Array<int64_t> counts_;
    py::array shifts_;
    Array<double> sums_, squares_;
    MomentsUpdate update_;
};

}  // namespace

void bind_moments(py::module_& module) {
    py::class_<ArraysUpdate>(module, "MomentsUpdate")
        .def(py::init<Array<int64_t>, py::array, Array<double>, Array<double>>(),
             py::arg("counts").noconvert(), py::arg("shifts").noconvert(),
             py::arg("sums").noconvert(), py::arg("squares").noconvert())
        .def("add", &ArraysUpdate::add, py::arg("features").noconvert(),
             py::arg("labels").noconvert(), py::arg("num_threads"), py::arg("progress"))
        .def("first_nonfinite_class", &ArraysUpdate::first_nonfinite_class)
        .def("publish", &ArraysUpdate::publish, py::arg("num_threads"))
        .def("withdraw", &ArraysUpdate::withdraw, py::arg("num_threads"));

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
        "deviations",
        [](const py::array& features, const Array<int64_t>& labels, const py::array& shifts,
           Array<double>& out, int num_threads) {
            require_entries(features.shape(1), "features");
            const FeatureRows rows = rows_of(features);
            const ClassShifts origin = read_only(shifts);
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
        "accumulate_deviations",
        [](const Array<double>& waiting, const py::array& features, const Array<int64_t>& labels,
           const py::array& shifts, const Array<double>& before, Array<double>& scatter,
           int num_threads) {
            require_entries(features.shape(1), "features");
            const FeatureRows rows = rows_of(features);
            const ClassShifts origin = read_only(shifts);
            double* sums = scatter.mutable_data();
            compute(py::none(), [&](Watch* watch) {
                accumulate_deviations(waiting.data(), waiting.shape(0), rows, labels.size(),
                                      labels.data(), origin, before.data(), num_threads, watch,
                                      sums);
            });
        },
        py::arg("waiting").noconvert(), py::arg("features").noconvert(),
        py::arg("labels").noconvert(), py::arg("shifts").noconvert(), py::arg("before").noconvert(),
        py::arg("scatter").noconvert(), py::arg("num_threads"));

    module.def(
        "project_rows",
        [](const Array<double>& rows, const Array<double>& directions, int num_threads) {
            const py::ssize_t num_rows = rows.shape(0), count = directions.shape(1);
            Array<double> out({num_rows, count});
            double* projections = out.mutable_data();
            compute(py::none(), [&](Watch* watch) {
                project_rows(rows.data(), num_rows, rows.shape(1), directions.data(), count,
                             num_threads, watch, projections);
            });
            return out;
        },
        py::arg("rows").noconvert(), py::arg("directions").noconvert(), py::arg("num_threads"));

    module.def(
        "projected_square_norms",
        [](const py::array& features, const Array<int64_t>& labels, const py::array& shifts,
           const Array<double>& offsets, const Array<double>& directions, int num_threads,
           const py::object& progress) {
            const FeatureRows rows = rows_of(features);
            const ClassShifts origins = read_only(shifts);
            Array<double> out(labels.size());
            double* square_norms = out.mutable_data();
            compute(progress, [&](Watch* watch) {
                projected_square_norms(rows, labels.size(), labels.data(), origins, offsets.data(),
                                       directions.data(), directions.shape(1), num_threads, watch,
                                       square_norms);
            });
            return out;
        },
        py::arg("features").noconvert(), py::arg("labels").noconvert(),
        py::arg("shifts").noconvert(), py::arg("offsets").noconvert(),
        py::arg("directions").noconvert(), py::arg("num_threads"), py::arg("progress"));

    // (means or None, square_offsets or None)
    module.def(
        "class_means",
        [](const Array<int64_t>& counts, const py::array& shifts, const Array<double>& sums,
           const Array<double>& centre, bool with_means, bool with_offsets, int num_threads) {
            require_entries(centre.size(), "centre");
            const ClassState state{counts.size(), const_cast<int64_t*>(counts.data()),
                                   read_only(shifts), const_cast<double*>(sums.data()), nullptr};
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
        py::arg("centre").noconvert(), py::arg("with_means"), py::arg("with_offsets"),
        py::arg("num_threads"));

    module.def(
        "merge_states",
        [](const StateArrays& mine, const StateArrays& theirs, const StateArrays& merged,
           int num_threads) {
            const py::ssize_t dim = std::get<2>(mine).shape(1);
            require_entries(dim, "sums");
            const ClassState first = state_of(mine), second = state_of(theirs);
            const ClassState both = state_of(merged);
            int64_t overflowed = -1;
            compute(py::none(), [&](Watch* watch) {
                overflowed = merge_states(first, second, dim, num_threads, watch, both);
            });
            return overflowed;
        },
        py::arg("mine"), py::arg("theirs"), py::arg("merged"), py::arg("num_threads"));
}

}  // namespace infall
