#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "bindings/arrays.h"
#include "bindings/watch.h"
#include "classes/decisions.h"

namespace py = pybind11;

namespace infall {
namespace {

template <class Number>
void bind_number(py::module_& module) {
    module.def(
        "centre_rows",
        [](const py::array& rows, int64_t first, const std::optional<Array<double>>& centre,
           double scale, Array<Number>& out, Array<double>& square_norms, int num_threads) {
            const FeatureRows from = rows_of(rows);
            const double* shift = centre ? centre->data() : nullptr;
            Number* target = out.mutable_data();
            double* squares = square_norms.mutable_data();
            int64_t nonfinite;
            compute(py::none(), [&](Watch* watch) {
                nonfinite = centre_rows(from, first, out.shape(0), shift, scale, num_threads, watch,
                                        target, squares);
            });
            return nonfinite;
        },
        py::arg("rows"), py::arg("first"), py::arg("centre").noconvert(), py::arg("scale"),
        py::arg("out").noconvert(), py::arg("square_norms").noconvert(), py::arg("num_threads"));

    module.def(
        "reduce_scores",
        [](const Array<Number>& products, int64_t first_class, const Array<Number>& row_factors,
           const Array<Number>& term, const Array<Number>& norm, const Array<Number>& slack,
           Array<Number>& low, Array<Number>& high, Array<Number>& second,
           Array<int64_t>& candidate, int num_threads) {
            const ScoreBounds<Number> bounds{term.data(), norm.data(), slack.data()};
            const RowBests<Number> bests{low.mutable_data(), high.mutable_data(),
                                         second.mutable_data(), candidate.mutable_data()};
            compute(py::none(), [&](Watch* watch) {
                reduce_scores(products.data(), products.shape(0), products.shape(1), first_class,
                              row_factors.data(), bounds, num_threads, watch, bests);
            });
        },
        py::arg("products").noconvert(), py::arg("first_class"), py::arg("row_factors").noconvert(),
        py::arg("term").noconvert(), py::arg("norm").noconvert(), py::arg("slack").noconvert(),
        py::arg("low").noconvert(), py::arg("high").noconvert(), py::arg("second").noconvert(),
        py::arg("candidate").noconvert(), py::arg("num_threads"));

    module.def(
        "decide",
        [](const Array<Number>& products, int64_t first_class, const Array<Number>& row_factors,
           const Array<Number>& term, const Array<Number>& norm, const Array<Number>& slack,
           const Array<Number>& least, const Array<int64_t>& samples, const py::array& features,
           const py::array& classes, double scale, const std::optional<Array<double>>& bias,
           Array<double>& best_scores, Array<int64_t>& best_classes, int num_threads) {
            const ScoreBounds<Number> bounds{term.data(), norm.data(), slack.data()};
            const ExactScores exact{rows_of(features), rows_of(classes), scale,
                                    bias ? bias->data() : nullptr};
            double* scores = best_scores.mutable_data();
            int64_t* found = best_classes.mutable_data();
            compute(py::none(), [&](Watch* watch) {
                decide(products.data(), products.shape(0), products.shape(1), first_class,
                       row_factors.data(), bounds, least.data(), samples.data(), exact, num_threads,
                       watch, scores, found);
            });
        },
        py::arg("products").noconvert(), py::arg("first_class"), py::arg("row_factors").noconvert(),
        py::arg("term").noconvert(), py::arg("norm").noconvert(), py::arg("slack").noconvert(),
        py::arg("least").noconvert(), py::arg("samples").noconvert(), py::arg("features"),
        py::arg("classes"), py::arg("scale"), py::arg("bias").noconvert(),
        py::arg("best_scores").noconvert(), py::arg("best_classes").noconvert(),
        py::arg("num_threads"));
}

}  // namespace

void bind_decisions(py::module_& module) {
    bind_number<float>(module);
    bind_number<double>(module);
}

}  // namespace infall
