// Features as they lie in memory.
#pragma once

#include <cstdint>

namespace infall {

enum class FeatureType { float16, bfloat16, float32, float64 };

// (num_samples, dim) features; columns adjacent, rows `stride` elements apart.
struct FeatureRows {
    const void* data;
    FeatureType type;
    int64_t stride, dim;
};

}  // namespace infall
