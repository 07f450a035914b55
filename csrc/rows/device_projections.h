// Words and projections of the rows of a Gaussian layer on a device: a thread sums rows, the
// columns of each in order, which is what a CPU lane does, bit for bit. Included by the CUDA
// sources only; everything here is local to each of them.
#pragma once

#include "random/gaussian.h"
#include "random/normal.h"
#include "random/philox.h"
#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"

namespace infall::device {
namespace {

constexpr int tile_blocks = 64;     // Philox blocks (4 columns each) whose constants are at hand
constexpr int tile_directions = 8;  // directions that share the normals of a thread

// Rows of a thread, side by side: one load of a column's constants and weights serves them all.
constexpr int thread_rows = 2;
constexpr int projected_rows = thread_rows * block_threads;  // by a block at a time

__device__ PhiloxState<ScalarWide> block_words(const PhiloxRows<ScalarWide>& rows,
                                               const PhiloxColumn& column,
                                               const PhiloxRoundKeys& keys) {
    PhiloxState<ScalarWide> s;
    rows.start_third(s, column);
    rows.mix_third(s, column);
#pragma unroll
    for (int round = 3; round < philox_rounds; ++round) {
        s.multiply();
        s.mix(keys.first(round), keys.second(round));
    }
    return s;
}

// Constants and weights of a tile of columns, shared by the threads of a block.
template <int directions>
struct ColumnTile {
    PhiloxColumn columns[tile_blocks];
    alignas(16) float weights[4 * tile_blocks][directions];
};

// Projections of the rows start + r block_threads + threadIdx.x on `directions` vectors of w, from
// the one at `direction` on, zeros past `batch`. All threads of a block call it together; start is
// a multiple of projected_rows, so that no tile of rows crosses a multiple of 2^32. `loaded`
// remembers what the tile holds from one call to the next.
template <int directions>
__device__ void project_rows(const GaussianLayer& layer, const PhiloxRoundKeys& keys, int64_t start,
                             const float* __restrict__ w, int64_t direction, int64_t batch,
                             ColumnTile<directions>& tile, int64_t& loaded,
                             float (&sums)[thread_rows][directions]) {
    const NormalCoefficients<float> k;
    const int64_t width = padded_dim(layer.dim), blocks = width / 4;
    const auto first_low = static_cast<uint32_t>(start) + threadIdx.x;
    const auto row_high = static_cast<uint32_t>(static_cast<uint64_t>(start) >> 32);
    PhiloxRows<ScalarWide> rows[thread_rows];
#pragma unroll
    for (int r = 0; r < thread_rows; ++r) {
        rows[r] = PhiloxRows<ScalarWide>({first_low + r * block_threads, 0}, layer.layer, keys);
#pragma unroll
        for (int d = 0; d < directions; ++d) sums[r][d] = 0.0f;
    }
    for (int64_t first = 0; first < blocks; first += tile_blocks) {
        const int here =
            static_cast<int>(blocks - first < tile_blocks ? blocks - first : tile_blocks);
        const int64_t wanted = blocks <= tile_blocks ? static_cast<int64_t>(row_high) : -1;
        if (wanted < 0 || wanted != loaded) {
            __syncthreads();
            for (int i = threadIdx.x; i < here; i += block_threads)
                tile.columns[i] =
                    PhiloxColumn(row_high | layer.matrix.position_bits,
                                 layer.matrix.first_block + static_cast<uint32_t>(first + i), keys);
            for (int d = 0; d < directions; ++d)
                for (int column = threadIdx.x; column < 4 * here; column += block_threads)
                    tile.weights[column][d] = direction + d < batch
                                                  ? w[(direction + d) * width + 4 * first + column]
                                                  : 0.0f;
            __syncthreads();
            loaded = wanted;
        }
        for (int block = 0; block < here; ++block) {
            float z[thread_rows][4];
#pragma unroll
            for (int r = 0; r < thread_rows; ++r) {
                const PhiloxState<ScalarWide> s = block_words(rows[r], tile.columns[block], keys);
                box_muller(s.c0.low, s.c1.low, k, z[r][0], z[r][1]);
                box_muller(s.c2.low, s.c3.low, k, z[r][2], z[r][3]);
            }
#pragma unroll
            for (int c = 0; c < 4; ++c)
#pragma unroll
                for (int d = 0; d < directions; ++d) {
                    const float weight = tile.weights[4 * block + c][d];
#pragma unroll
                    for (int r = 0; r < thread_rows; ++r)
                        sums[r][d] = fused(z[r][c], weight, sums[r][d]);
                }
        }
    }
}

}  // namespace
}  // namespace infall::device
