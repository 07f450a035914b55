// Directions without the columns in which none of them has a weight.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "random/gaussian.h"

namespace infall {

// Directions in the columns of the Philox blocks `blocks` (num_blocks), four each and ascending; w
// is (batch, 4 num_blocks).
struct Weights {
    const uint32_t* blocks;
    int64_t num_blocks;
    const float* w;
    int64_t batch;
};

// A projection that leaves out the blocks of four zero weights keeps its bits: fma(z, +-0, s) is s
// for every sum s but -0. Sums start at +0 and become -0 only where the exact sum is not zero and
// rounds to it, which weights of at least 2^-60 rule out: normals are 0 or above 2^-42, so that
// all products are multiples of the smallest binary32 number.
class WeightedBlocks {
  public:
    // w is (batch, padded_dim(dim)), zeros behind dim, and outlives this.
    WeightedBlocks(const float* w, int64_t batch, int64_t dim) : given_(w) {
        const int64_t width = padded_dim(dim);
        const bool can_leave_out = std::all_of(w, w + batch * width, [](float weight) {
            return weight == 0.0f || std::fabs(weight) >= 0x1p-60f;
        });
        for (int64_t block = 0; block < width / 4; ++block)
            if (!can_leave_out || has_weight(w + 4 * block, batch, width))
                blocks_.push_back(static_cast<uint32_t>(block));
        if (blocks_.empty()) blocks_.push_back(0);  // of zeros: a sum has a column
        if (this->width() == width) return;
        for (int64_t direction = 0; direction < batch; ++direction)
            for (const uint32_t block : blocks_) {
                const float* weights = w + direction * width + int64_t{4} * block;
                kept_.insert(kept_.end(), weights, weights + 4);
            }
    }

    int64_t width() const { return 4 * static_cast<int64_t>(blocks_.size()); }
    Weights of(int64_t first_direction, int64_t end_direction) const {
        const float* w = kept_.empty() ? given_ : kept_.data();
        return {blocks_.data(), width() / 4, w + first_direction * width(),
                end_direction - first_direction};
    }

  private:
    static bool has_weight(const float* w, int64_t batch, int64_t stride) {
        for (int64_t direction = 0; direction < batch; ++direction, w += stride)
            if (w[0] != 0.0f || w[1] != 0.0f || w[2] != 0.0f || w[3] != 0.0f) return true;
        return false;
    }

    const float* given_;
    std::vector<uint32_t> blocks_;
    std::vector<float> kept_;  // (batch, width), where blocks are left out
};

}  // namespace infall
