// Float64 sums over the columns of two rows, in lanes: lane = column % sum_lanes, the lanes added
// in a tree. Vectors of any width, and the GPU, give the same bits.
#pragma once

#include <cstdint>

#include "runtime/elements.h"
#include "runtime/host_device.h"
#include "runtime/lanes.h"
#include "runtime/scalar.h"

namespace infall {

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
    return total_by_neighbours(lanes);
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
    return total_by_neighbours(lanes);
}

}  // namespace infall
