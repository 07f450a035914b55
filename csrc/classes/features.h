// Features as they lie in memory.
#pragma once

#include <cstdint>

#include "runtime/elements.h"

namespace infall {

// (num_samples, dim) features; columns adjacent, rows `stride` elements apart.
struct FeatureRows {
    const void* data;
    ElementType type;
    int64_t stride, dim;
};

}  // namespace infall
