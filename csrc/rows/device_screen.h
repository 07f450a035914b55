// Screening on a device: a row that an estimate of its projection rules out is never projected.
// docs/screening.md derives the estimates, and how far off they may be. Included by the CUDA
// sources only; everything here is local to each of them.
#pragma once

#include <cmath>
#include <cstdint>

#include "rows/device_projections.h"
#include "runtime/approximate.h"

namespace infall::device {
namespace {

constexpr float two_pi = 0x1.921fb6p+2f;

// A pair of columns with weights of length rho and angle phi adds rho r cos(theta - phi) to a
// projection: r the radius of one word, theta the angle of another.
struct EstimatedPair {
    float scale;           // -2 ln 2 rho^2
    float phase, swapped;  // of the cosine: bit 30 of the angle word swaps sine and cosine

    EstimatedPair() = default;
    __device__ EstimatedPair(float even, float odd)
        : scale(-0x1.62e430p+0f * (even * even + odd * odd)) {
        const float phi = atan2f(odd, even);
        phase = wrapped(-1.125f * two_pi - phi);
        swapped = wrapped(-1.625f * two_pi + phi);
    }

    // Between -4 pi and -2 pi, so that cosines are of angles between -2 pi and 2 pi.
    static __device__ float wrapped(float angle) {
        if (angle > -two_pi) angle -= two_pi;
        return angle <= -2.0f * two_pi ? angle + two_pi : angle;
    }

    __device__ float added_to(float sum, uint32_t radius_word, uint32_t angle_word) const {
        // Half of the U of normal.h.
        const float uniform = fused(to_float(radius_word), 0x1.fffffep-33f, 0x1p-33f);
        const float radius = approximate_root(approximate_log2(uniform) * scale);
        // The upper bits of the word as turns in [1, 2). Bit 29 has an eighth of a turn added or
        // taken off; the sign of bit 31 and the direction of bit 30 come by themselves.
        const float turns = float_of(angle_word >> 9 ^ 0x3F900000u);
        const float angle = fused(turns, two_pi, (angle_word & 0x40000000u) ? swapped : phase);
        return fused(radius, approximate_cosine(angle), sum);
    }
};

// Constants and pairs of a tile of columns. Those of a block of columns are loaded at once.
struct alignas(16) EstimatedColumns {
    PhiloxColumn column;
    EstimatedPair pairs[2];
};
struct EstimateTile {
    EstimatedColumns columns[tile_blocks];
};

// Estimates for what project_tile computes on one direction.
__device__ void estimate_tile(const GaussianLayer& layer, const PhiloxRoundKeys& keys,
                              int64_t start, const float* __restrict__ w, EstimateTile& tile,
                              int64_t& loaded, float (&estimates)[thread_rows]) {
    const RowTile rows(layer, start, keys);
#pragma unroll
    for (int r = 0; r < thread_rows; ++r) estimates[r] = 0.0f;
    const auto fill = [&](int64_t first, int count) {
        for (int i = threadIdx.x; i < 2 * count; i += block_threads) {
            const float* pair = w + 4 * first + 2 * i;
            tile.columns[i / 2].pairs[i % 2] = EstimatedPair(pair[0], pair[1]);
            if (i % 2 == 0)
                tile.columns[i / 2].column = column_of(layer, rows.row_high, first + i / 2, keys);
        }
    };
    for_each_tile(padded_dim(layer.dim) / 4, rows.row_high, loaded, fill, [&](int count) {
        for (int block = 0; block < count; ++block) {
            const EstimatedColumns columns = tile.columns[block];
#pragma unroll
            for (int r = 0; r < thread_rows; ++r) {
                const PhiloxState<ScalarWide> s = block_words(rows.rows[r], columns.column, keys);
                estimates[r] = columns.pairs[0].added_to(estimates[r], s.c0.low, s.c1.low);
                estimates[r] = columns.pairs[1].added_to(estimates[r], s.c2.low, s.c3.low);
            }
        }
    });
}

// Most that an estimate is away from the projection, for pairs of `lengths` in all.
// docs/screening.md, term by term.
INFALL_HD double screen_margin(double lengths, double pairs) {
    constexpr double unit = 0x1p-24, pair_error = 0.0013, products = 6.78 * unit;
    const double sums = 6.9 * (4.0 * pairs + 8.0) * unit;
    return 1.000001 * lengths * (pair_error + products + sums) + pairs * 0x1p-55;
}

// The margin on a direction w (width,). All threads of a block call it together.
__device__ double screen_margin(const float* __restrict__ w, int64_t width) {
    __shared__ double lengths[block_threads];
    double length = 0.0;
    for (int64_t pair = threadIdx.x; pair < width / 2; pair += block_threads) {
        const double even = w[2 * pair], odd = w[2 * pair + 1];
        length += square_root(even * even + odd * odd);
    }
    lengths[threadIdx.x] = length;
    for (unsigned half = block_threads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) lengths[threadIdx.x] += lengths[threadIdx.x + half];
    }
    __syncthreads();
    return screen_margin(lengths[0], static_cast<double>(width / 2));
}

// Rows whose estimates are below it score below the threshold. Where estimates might overflow, and
// for a margin that is not a number, it is below all of them.
__device__ float screen_bound(double threshold, double margin) {
    if (!(margin < 0x1p50)) return -INFINITY;
    return nextafterf(static_cast<float>(threshold - margin), -INFINITY);
}

}  // namespace
}  // namespace infall::device
