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

// Goes through the column blocks of rows that share their upper word, by tiles that the threads of
// a block share: fill(first, count) puts `count` blocks into shared memory, body(count) uses them.
// All threads call it together; `loaded` remembers from one call to the next what is there.
template <class Fill, class Body>
__device__ void for_each_tile(int64_t blocks, uint32_t row_high, int64_t& loaded, const Fill& fill,
                              const Body& body) {
    for (int64_t first = 0; first < blocks; first += tile_blocks) {
        const int count =
            static_cast<int>(blocks - first < tile_blocks ? blocks - first : tile_blocks);
        const int64_t wanted = blocks <= tile_blocks ? static_cast<int64_t>(row_high) : -1;
        if (wanted < 0 || wanted != loaded) {
            __syncthreads();
            fill(first, count);
            __syncthreads();
            loaded = wanted;
        }
        body(count);
    }
}

inline __device__ PhiloxColumn column_of(const GaussianLayer& layer, uint32_t row_high,
                                         int64_t block, const PhiloxRoundKeys& keys) {
    return PhiloxColumn(row_high | layer.matrix.position_bits,
                        layer.matrix.first_block + static_cast<uint32_t>(block), keys);
}

// Constants and weights of a tile of columns, shared by the threads of a block.
template <int directions>
struct ColumnTile {
    PhiloxColumn columns[tile_blocks];
    alignas(16) float weights[4 * tile_blocks][directions];
};

// The projections of rows on `directions` vectors of w, from the one at `direction` on, zeros past
// `batch`. All threads of a block call it together; where none of its rows is `wanted`, a thread
// only helps to load the tiles.
template <int directions, int num_rows>
__device__ void project_rows(const GaussianLayer& layer, const PhiloxRoundKeys& keys,
                             uint32_t row_high, const PhiloxRows<ScalarWide> (&rows)[num_rows],
                             bool wanted, const float* __restrict__ w, int64_t direction,
                             int64_t batch, ColumnTile<directions>& tile, int64_t& loaded,
                             float (&sums)[num_rows][directions]) {
    const NormalCoefficients<float> k;
    const int64_t width = padded_dim(layer.dim);
#pragma unroll
    for (int r = 0; r < num_rows; ++r)
#pragma unroll
        for (int d = 0; d < directions; ++d) sums[r][d] = 0.0f;
    const auto fill = [&](int64_t first, int count) {
        for (int i = threadIdx.x; i < count; i += block_threads)
            tile.columns[i] = column_of(layer, row_high, first + i, keys);
        for (int d = 0; d < directions; ++d)
            for (int column = threadIdx.x; column < 4 * count; column += block_threads)
                tile.weights[column][d] =
                    direction + d < batch ? w[(direction + d) * width + 4 * first + column] : 0.0f;
    };
    for_each_tile(width / 4, row_high, loaded, fill, [&](int count) {
        for (int block = 0; block < (wanted ? count : 0); ++block) {
            float z[num_rows][4];
#pragma unroll
            for (int r = 0; r < num_rows; ++r) {
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
                    for (int r = 0; r < num_rows; ++r)
                        sums[r][d] = fused(z[r][c], weight, sums[r][d]);
                }
        }
    });
}

// A thread's rows of a tile: start + r block_threads + threadIdx.x. start is a multiple of
// projected_rows, so that no tile of rows crosses a multiple of 2^32.
struct RowTile {
    uint32_t row_high;
    PhiloxRows<ScalarWide> rows[thread_rows];

    __device__ RowTile(const GaussianLayer& layer, int64_t start, const PhiloxRoundKeys& keys)
        : row_high(static_cast<uint32_t>(static_cast<uint64_t>(start) >> 32)) {
        const auto first_low = static_cast<uint32_t>(start) + threadIdx.x;
#pragma unroll
        for (int r = 0; r < thread_rows; ++r)
            rows[r] = PhiloxRows<ScalarWide>({first_low + r * block_threads, 0}, layer.layer, keys);
    }
};

// Projections of the tile of rows at `start`.
template <int directions>
__device__ void project_tile(const GaussianLayer& layer, const PhiloxRoundKeys& keys, int64_t start,
                             const float* __restrict__ w, int64_t direction, int64_t batch,
                             ColumnTile<directions>& tile, int64_t& loaded,
                             float (&sums)[thread_rows][directions]) {
    const RowTile rows(layer, start, keys);
    project_rows(layer, keys, rows.row_high, rows.rows, true, w, direction, batch, tile, loaded,
                 sums);
}

}  // namespace
}  // namespace infall::device
