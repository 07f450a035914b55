// What is computed of one pair of classes: one source for a vector of pairs on the host and for a
// thread of the GPU. Number is double, or a vector of doubles.
#pragma once

#include <cmath>
#include <cstdint>

#include "classes/sums.h"
#include "runtime/host_device.h"

namespace infall {

// Partners c' of a class are taken in blocks that start at multiples of this. Sums over a block run
// in lanes, lane = c' % sum_lanes, and blocks are added in order: a sum depends on neither threads
// nor instruction set nor device.
constexpr int64_t partner_block = 192;

// Below this share of |a|^2 + |b|^2 a distance is not taken from |a|^2 + |b|^2 - 2 a.b, of whose
// digits too few are left, but summed again over the columns (distance_between).
constexpr double close_share = 0x1p-6;

template <class Number>
INFALL_HD Number square_distance(Number product, Number a_square, Number b_square) {
    return (a_square + b_square) - (product + product);
}

// For a square distance above zero.
template <class Number>
INFALL_HD Number distance_normalised_variance(Number a_variance, Number b_variance,
                                              Number square_distance) {
    return (a_variance + b_variance) / (square_distance + square_distance);
}

template <class Number>
INFALL_HD Number cosine_excess(Number product, Number a_inverse_norm, Number b_inverse_norm,
                               Number excess) {
    return product * a_inverse_norm * b_inverse_norm + excess;
}

// The power of two that brings `largest` into [1/2, 1), 1 for 0; kept among the normal numbers.
INFALL_HD double unit_scale(double largest) {
    if (largest == 0.0) return 1.0;
    const int exponent = ilogb(largest) + 1;
    return ldexp(1.0, -(exponent < -1022 ? -1022 : exponent > 1022 ? 1022 : exponent));
}

// Whether (value, partner) comes before (other, other_partner): larger, then lower.
INFALL_HD bool beats(double value, int64_t partner, double other, int64_t other_partner) {
    return value > other || (value == other && partner < other_partner);
}

}  // namespace infall
