// Words and projections of the rows of a Gaussian layer on a device: one thread is one row, its
// columns in order, which is what a CPU lane does, bit for bit. Included by the CUDA sources only;
// everything here is local to each of them.
#pragma once

#include "random/gaussian.h"
#include "random/normal.h"
#include "random/philox.h"
#include "runtime/cuda_launch.h"

namespace infall::device {
namespace {

constexpr int tile_blocks = 64;     // Philox blocks (4 columns each) whose constants are at hand
constexpr int tile_directions = 8;  // directions that share the normals of a thread

__device__ PhiloxState<ScalarWide> block_words(const PhiloxRows<ScalarWide>& rows,
                                               const PhiloxColumn& column, PhiloxKey key) {
    PhiloxState<ScalarWide> s;
    rows.start_third(s, column);
    rows.mix_third(s, column);
#pragma unroll
    for (int round = 3; round < philox_rounds; ++round) {
        s.multiply();
        s.mix(key.first(round), key.second(round));
    }
    return s;
}

// Constants and weights of a tile of columns, shared by the threads of a block.
template <int directions>
struct ColumnTile {
    PhiloxColumn columns[tile_blocks];
    float weights[4 * tile_blocks][directions];
};

// Projections of row start + threadIdx.x on `directions` vectors of w, from the one at `direction`
// on, zeros past `batch`. All threads of a block call it together; start is a multiple of the
// block's threads, so that no tile of rows crosses a multiple of 2^32. `loaded` remembers what the
// tile holds from one call to the next.
template <int directions>
__device__ void project_rows(const GaussianLayer& layer, PhiloxKey key, int64_t start,
                             const float* w, int64_t direction, int64_t batch,
                             ColumnTile<directions>& tile, int64_t& loaded, float* sums) {
    const NormalCoefficients<float> k;
    const int64_t width = padded_dim(layer.dim), blocks = width / 4;
    const uint64_t row = static_cast<uint64_t>(start) + threadIdx.x;
    const uint32_t row_high = static_cast<uint32_t>(row >> 32);
    const PhiloxRows<ScalarWide> rows({static_cast<uint32_t>(row), 0}, layer.layer, key);
    for (int d = 0; d < directions; ++d) sums[d] = 0.0f;
    for (int64_t first = 0; first < blocks; first += tile_blocks) {
        const int here =
            static_cast<int>(blocks - first < tile_blocks ? blocks - first : tile_blocks);
        const int64_t wanted = blocks <= tile_blocks ? static_cast<int64_t>(row_high) : -1;
        if (wanted < 0 || wanted != loaded) {
            __syncthreads();
            for (int i = threadIdx.x; i < here; i += blockDim.x)
                tile.columns[i] =
                    PhiloxColumn(row_high | layer.matrix.position_bits,
                                 layer.matrix.first_block + static_cast<uint32_t>(first + i), key);
            for (int i = threadIdx.x; i < 4 * here * directions; i += blockDim.x) {
                const int d = i / (4 * here), column = i % (4 * here);
                tile.weights[column][d] =
                    direction + d < batch ? w[(direction + d) * width + 4 * first + column] : 0.0f;
            }
            __syncthreads();
            loaded = wanted;
        }
        for (int block = 0; block < here; ++block) {
            const PhiloxState<ScalarWide> s = block_words(rows, tile.columns[block], key);
            float z[4];
            box_muller(s.c0.low, s.c1.low, k, z[0], z[1]);
            box_muller(s.c2.low, s.c3.low, k, z[2], z[3]);
#pragma unroll
            for (int c = 0; c < 4; ++c)
#pragma unroll
                for (int d = 0; d < directions; ++d)
                    sums[d] = fused(z[c], tile.weights[4 * block + c][d], sums[d]);
        }
    }
}

}  // namespace
}  // namespace infall::device
