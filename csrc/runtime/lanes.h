// Sums that run in a fixed number of lanes, and the trees in which the lanes are added: vectors of
// any width, and the GPU, give the same bits.
#pragma once

#include "runtime/host_device.h"

namespace infall {

constexpr int sum_lanes = 8;

// Lanes 2k and 2k + 1 first.
INFALL_HD double total_by_neighbours(const double* lane) {
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
           ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

// Lanes k and k + lanes / 2 first.
template <int lanes = sum_lanes>
INFALL_HD double total_by_halves(const double* lane) {
    if constexpr (lanes == 1) {
        return lane[0];
    } else {
        double folded[lanes / 2];
        for (int k = 0; k < lanes / 2; ++k) folded[k] = lane[k] + lane[k + lanes / 2];
        return total_by_halves<lanes / 2>(folded);
    }
}

}  // namespace infall
