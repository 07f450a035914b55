#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>

#include "bindings/cuda.h"
#include "classes/device.h"

namespace py = pybind11;

namespace infall {

template <>
struct Given<device::RowBounds>
    : GivenFields<device::RowBounds, double, double, double, double, double, double> {};

namespace {

template <class Number>
RowBests<Number> bests_of(const std::array<Pointer, 4>& bests) {
    return {as<Number>(bests[0]), as<Number>(bests[1]), as<Number>(bests[2]),
            as<int64_t>(bests[3])};
}

}  // namespace

void bind_cuda_decisions(py::module_& module) {
    def_launch(module, "centre_samples",
               +[](const std::string& precision, FeatureRows rows, int64_t first, int64_t count,
                   const double* centre, double scale, void* out, double* norms, Stream stream) {
                   in_precision("precision", precision, [&](auto zero) {
                       device::centre_samples(rows, first, count, centre, scale,
                                              static_cast<decltype(zero)*>(out), norms, stream);
                   });
               },
               {"precision", "rows", "first", "count", "centre", "scale", "out", "norms"});

    def_launch(
        module, "reduce_scores",
        +[](const std::string& precision, const void* products, int64_t count, int64_t classes,
            int64_t first_class, const double* norms, device::RowBounds row_bounds,
            std::array<Pointer, 3> bounds, std::array<Pointer, 4> bests, Stream stream) {
            in_precision("precision", precision, [&](auto zero) {
                using Number = decltype(zero);
                const ScoreBounds<Number> of_classes{as<const Number>(bounds[0]),
                                                     as<const Number>(bounds[1]),
                                                     as<const Number>(bounds[2])};
                device::reduce_scores(static_cast<const Number*>(products), count, classes,
                                      first_class, norms, row_bounds, of_classes,
                                      bests_of<Number>(bests), stream);
            });
        },
        {"precision", "products", "count", "classes", "first_class", "norms", "row_bounds",
         "bounds", "bests"});

    def_launch(module, "decide_samples",
               +[](const std::string& precision, FeatureRows rows, int64_t first, int64_t count,
                   const double* norms, device::RowBounds row_bounds, std::array<Pointer, 4> bests,
                   FeatureRows class_rows, int64_t classes, double scale, const double* bias,
                   int64_t* decisions, Stream stream) {
                   const ExactScores exact{rows, class_rows, scale, bias};
                   in_precision("precision", precision, [&](auto zero) {
                       device::decide_samples(first, count, classes, norms, row_bounds,
                                              bests_of<decltype(zero)>(bests), exact, decisions,
                                              stream);
                   });
               },
               {"precision", "rows", "first", "count", "norms", "row_bounds", "bests", "class_rows",
                "classes", "scale", "bias", "decisions"});
}

}  // namespace infall
