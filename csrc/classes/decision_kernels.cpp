// Compiled once per instruction set with INFALL_ISA naming it. No STL templates here: a weak copy
// built for a newer processor could be linked for everyone.
#include "classes/decisions.h"
#include "classes/sums.h"
#include "runtime/vectors.h"

namespace infall::INFALL_ISA {
namespace {

// ---------------------------------------------------------------------------------------------

// The first column of a row that is NaN or infinite, or -1.
template <class Feature>
int64_t first_nonfinite(const Feature* row, int64_t dim) {
    for (int64_t j = 0; j < dim; ++j)
        if (!(__builtin_fabs(to_double(row[j])) <= 0x1.fffffffffffffp1023)) return j;
    return -1;
}

template <class Feature, class Number>
int64_t centre(const Feature* row, const FeatureRows& rows, int64_t count, const double* centre,
               double scale, Number* out, double* square_norms) {
    for (int64_t i = 0; i < count; ++i, row += rows.stride, out += rows.dim) {
        double lanes[sum_lanes] = {};
        double spoilt = 0.0;  // NaN once an entry is not finite
        int64_t j = 0;
        for (; j + sum_lanes <= rows.dim; j += sum_lanes)
            for (int lane = 0; lane < sum_lanes; ++lane) {
                const double entry = to_double(row[j + lane]);
                const double shifted = scale * (centre ? entry - centre[j + lane] : entry);
                out[j + lane] = static_cast<Number>(shifted);
                lanes[lane] += shifted * shifted;
                spoilt += 0.0 * entry;
            }
        for (; j < rows.dim; ++j) {
            const double entry = to_double(row[j]);
            const double shifted = scale * (centre ? entry - centre[j] : entry);
            out[j] = static_cast<Number>(shifted);
            lanes[j % sum_lanes] += shifted * shifted;
            spoilt += 0.0 * entry;
        }
        if (spoilt != 0.0) return i * rows.dim + first_nonfinite(row, rows.dim);
        square_norms[i] = total_by_neighbours(lanes);
    }
    return -1;
}

template <class Number>
int64_t centre_rows(const FeatureRows& rows, int64_t first, int64_t count, const double* shift,
                    double scale, Number* out, double* square_norms) {
    return with_elements(rows.data, rows.type, [&](const auto* data) {
        return centre(data + first * rows.stride, rows, count, shift, scale, out, square_norms);
    });
}

// ---------------------------------------------------------------------------------------------

template <class Number>
void reduce(const Number* products, int64_t count, int64_t classes, int64_t first_class,
            const Number* row_factors, const ScoreBounds<Number>& bounds,
            const RowBests<Number>& bests) {
    using Scores = Vector<Number>;
    using Classes = Vector<IntegerOf<Number>>;
    constexpr int lanes = lanes_of<Number>;
    const Scores none = Scores{} - static_cast<Number>(__builtin_inf());
    for (int64_t i = 0; i < count; ++i, products += classes) {
        const Scores factor = Scores{} + row_factors[i];
        Scores low = none, high = none, second = none;
        Classes place{}, candidate{};
        for (int lane = 0; lane < lanes; ++lane) place[lane] = static_cast<IntegerOf<Number>>(lane);
        int64_t c = 0;
        for (; c + lanes <= classes; c += lanes, place += lanes) {
            const Scores score = load_vector(products + c) + load_vector(bounds.term + c);
            const Scores error =
                factor * load_vector(bounds.norm + c) + load_vector(bounds.slack + c);
            const Scores lower = score - error, upper = score + error;
            low = lower > low ? lower : low;
            const Classes better = upper > high;
            const Scores worse = better ? high : upper;
            second = worse > second ? worse : second;
            high = better ? upper : high;
            candidate = better ? place : candidate;
        }
        Best<Number> best{bests.low[i], bests.high[i], bests.second[i], bests.candidate[i]};
        for (int lane = 0; lane < lanes; ++lane)
            best.merge({low[lane], high[lane], second[lane], first_class + candidate[lane]});
        for (; c < classes; ++c) {
            Number lower, upper;
            bounds.of(products[c], row_factors[i], c, lower, upper);
            best.take(lower, upper, first_class + c);
        }
        bests.low[i] = best.low;
        bests.high[i] = best.high;
        bests.second[i] = best.second;
        bests.candidate[i] = best.candidate;
    }
}

// ---------------------------------------------------------------------------------------------

template <class Number>
void decide(const Number* products, int64_t count, int64_t classes, int64_t first_class,
            const Number* row_factors, const ScoreBounds<Number>& bounds, const Number* least,
            const int64_t* samples, const ExactScores& exact, double* best_scores,
            int64_t* best_classes) {
    for (int64_t i = 0; i < count; ++i, products += classes)
        for (int64_t c = 0; c < classes; ++c) {
            Number lower, upper;
            bounds.of(products[c], row_factors[i], c, lower, upper);
            if (upper < least[i]) continue;  // not so for NaN
            const double score = exact_score(exact, samples[i], first_class + c);
            if (best_classes[i] < 0 || score > best_scores[i]) {
                best_scores[i] = score;
                best_classes[i] = first_class + c;
            }
        }
}

}  // namespace

extern const DecisionKernels decision_kernels{
    {centre_rows<float>, reduce<float>, decide<float>},
    {centre_rows<double>, reduce<double>, decide<double>}};

}  // namespace infall::INFALL_ISA
