// What is computed of one sample and one class: one source for host and device.
#pragma once

#include <cstdint>

#include "classes/pairs.h"
#include "random/scalar.h"
#include "runtime/half.h"
#include "runtime/host_device.h"

namespace infall {

INFALL_HD double to_double(Float16 x) { return static_cast<double>(to_float(x)); }
INFALL_HD double to_double(BFloat16 x) { return static_cast<double>(to_float(x)); }
INFALL_HD double to_double(float x) { return static_cast<double>(x); }
INFALL_HD double to_double(double x) { return x; }

enum class FloatType { float16, bfloat16, float32, float64 };

// Rows of a matrix, each in one piece.
struct FloatRows {
    const void* data;
    FloatType type;
    int64_t stride;  // elements from one row to the next
    int64_t dim;
};

// What decides between classes, times a power of two; larger is better. Sums run over the columns
// in lanes, lane = column % pair_lanes.
template <class Feature, class Class>
INFALL_HD double minus_square_distance(const Feature* sample, const Class* mean, int64_t dim,
                                       double scale) {
    double lanes[pair_lanes] = {};
    const auto add = [&](int64_t j, int lane) {
        const double difference = scale * (to_double(sample[j]) - to_double(mean[j]));
        lanes[lane] = fused(difference, difference, lanes[lane]);
    };
    const int64_t whole = dim / pair_lanes * pair_lanes;
    for (int64_t j = 0; j < whole; j += pair_lanes)
        for (int lane = 0; lane < pair_lanes; ++lane) add(j + lane, lane);
    for (int64_t j = whole; j < dim; ++j) add(j, static_cast<int>(j - whole));
    return -lane_total(lanes);
}

template <class Feature, class Class>
INFALL_HD double inner_product(const Feature* sample, const Class* weights, int64_t dim) {
    double lanes[pair_lanes] = {};
    const auto add = [&](int64_t j, int lane) {
        lanes[lane] = fused(to_double(sample[j]), to_double(weights[j]), lanes[lane]);
    };
    const int64_t whole = dim / pair_lanes * pair_lanes;
    for (int64_t j = 0; j < whole; j += pair_lanes)
        for (int lane = 0; lane < pair_lanes; ++lane) add(j + lane, lane);
    for (int64_t j = whole; j < dim; ++j) add(j, static_cast<int>(j - whole));
    return lane_total(lanes);
}

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

}  // namespace infall
