// The shape of a launch of the frame kernels: as many blocks as there is work, up to a number that
// fills any device; the kernels take several units each beyond that.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/cuda_launch.h"

namespace infall {
namespace device {

constexpr int threads = 256;

inline dim3 grid_for_blocks(int64_t blocks) {
    return dim3(static_cast<unsigned>(std::min<int64_t>(std::max<int64_t>(blocks, 1), 1 << 20)));
}
inline dim3 grid_for(int64_t elements) {
    return grid_for_blocks((elements + threads - 1) / threads);
}

}  // namespace device
}  // namespace infall
