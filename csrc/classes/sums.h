// Float64 sums over the columns of two rows, in lanes: lane = column % sum_lanes, the lanes added
// in a tree. Vectors of any width, and the GPU, give the same bits.
#pragma once

#include <cstdint>

#include "runtime/half.h"
#include "runtime/host_device.h"
#include "runtime/scalar.h"

namespace infall {

constexpr int sum_lanes = 8;

INFALL_HD double lane_total(const double* lanes) {
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
           ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

INFALL_HD double to_double(Float16 x) { return static_cast<double>(to_float(x)); }
INFALL_HD double to_double(BFloat16 x) { return static_cast<double>(to_float(x)); }
INFALL_HD double to_double(float x) { return static_cast<double>(x); }
INFALL_HD double to_double(double x) { return x; }

INFALL_HD void add_square(double difference, double& lane) {
    lane = fused(difference, difference, lane);
}

// |scale (a - b)|^2.
template <class A, class B>
INFALL_HD double distance_between(const A* a, const B* b, int64_t dim, double scale) {
    double lanes[sum_lanes] = {};
    const int64_t whole = dim / sum_lanes * sum_lanes;
    for (int64_t j = 0; j < whole; j += sum_lanes)
        for (int lane = 0; lane < sum_lanes; ++lane)
            add_square(scale * to_double(a[j + lane]) - scale * to_double(b[j + lane]),
                       lanes[lane]);
    for (int64_t j = whole; j < dim; ++j)
        add_square(scale * to_double(a[j]) - scale * to_double(b[j]), lanes[j - whole]);
    return lane_total(lanes);
}

template <class A, class B>
INFALL_HD double inner_product(const A* a, const B* b, int64_t dim) {
    double lanes[sum_lanes] = {};
    const int64_t whole = dim / sum_lanes * sum_lanes;
    for (int64_t j = 0; j < whole; j += sum_lanes)
        for (int lane = 0; lane < sum_lanes; ++lane)
            lanes[lane] = fused(to_double(a[j + lane]), to_double(b[j + lane]), lanes[lane]);
    for (int64_t j = whole; j < dim; ++j)
        lanes[j - whole] = fused(to_double(a[j]), to_double(b[j]), lanes[j - whole]);
    return lane_total(lanes);
}

}  // namespace infall
