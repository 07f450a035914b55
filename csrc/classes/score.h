// What is computed of one sample and one class: one source for host and device.
#pragma once

#include <cstdint>

#include "classes/features.h"
#include "classes/sums.h"
#include "runtime/host_device.h"

namespace infall {

// Scores of a block of classes: score = product + term[c], right to
// row_factor norm[c] + slack[c] and what is the same for all classes of a row.
template <class Number>
struct ScoreBounds {
    const Number *term, *norm, *slack;  // (classes,)

    INFALL_HD void of(Number product, Number row_factor, int64_t c, Number& low,
                      Number& high) const {
        const Number score = product + term[c], error = row_factor * norm[c] + slack[c];
        low = score - error;
        high = score + error;
    }
};

// Per row, over the classes seen so far: the largest lower bound, the two largest upper bounds, and
// the class of the largest. If second < low there is one candidate only.
template <class Number>
struct RowBests {
    Number *low, *high, *second;  // (rows,)
    int64_t* candidate;           // (rows,)
};

// One row's bests; further lower and upper bounds are taken in one by one.
template <class Number>
struct Best {
    Number low, high, second;
    int64_t candidate;

    INFALL_HD void take(Number other_low, Number other_high, int64_t other) {
        if (other_low > low) low = other_low;
        if (other_high > high) {
            second = high;
            high = other_high;
            candidate = other;
        } else if (other_high > second) {
            second = other_high;
        }
    }
    INFALL_HD void merge(const Best& other) {
        take(other.low, other.high, other.candidate);
        take(other.low, other.second, other.candidate);  // not above the one before
    }
};

// The float64 sums that decide: -|scale (h - m)|^2, or h . a + bias.
struct ExactScores {
    FeatureRows samples, classes;
    double scale;
    const double* bias;  // (classes,), or null for distances
};

INFALL_HD double exact_score(const ExactScores& exact, int64_t sample, int64_t c) {
    const FeatureRows &rows = exact.samples, &class_rows = exact.classes;
    return with_elements(rows.data, rows.type, [&](const auto* samples) INFALL_LAMBDA_INLINE {
        return with_elements(
            class_rows.data, class_rows.type, [&](const auto* classes) INFALL_LAMBDA_INLINE {
                const auto* h = samples + sample * rows.stride;
                const auto* row = classes + c * class_rows.stride;
                return exact.bias ? inner_product(h, row, rows.dim) + exact.bias[c]
                                  : -distance_between(h, row, rows.dim, exact.scale);
            });
    });
}

}  // namespace infall
