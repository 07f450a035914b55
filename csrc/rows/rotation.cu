#include "rows/rotation.h"

#include <cmath>

#include "rows/device_projections.h"
#include "rows/device_threshold.h"
#include "rows/directions.h"
#include "runtime/launch_shape.h"

namespace infall::device {
namespace {

// One thread is one pair of rows; `bound` is the largest radius word that can pass.
__global__ void __launch_bounds__(block_threads)
    select_deciding_kernel(GaussianLayer layer, PhiloxRoundKeys keys, DeviceSelection task,
                           Workspace space, int pass, uint32_t bound) {
    if (!needed(task, space, pass, 0, 1)) return;
    const int64_t first = task.first_row / 2, last = (task.end_row - 1) / 2;
    for (int64_t pair = first + thread_of_grid(); pair <= last; pair += threads_of_grid()) {
        const PhiloxBlock b =
            philox4x32_10(static_cast<uint64_t>(pair), deciding_columns, layer.layer, keys);
        if (b.w[0] > bound) continue;
        double even, odd;
        deciding_pair(static_cast<uint64_t>(pair), 0, layer.layer, keys, even, odd);
        offer_row(task, space, pass, 0, even, 2 * pair);
        offer_row(task, space, pass, 0, odd, 2 * pair + 1);
    }
}

// Constants and factors of a tile of deciding columns, shared by the threads of a block.
struct DecidingTile {
    PhiloxColumn columns[tile_blocks];
    alignas(16) float factors[tile_blocks][tile_directions];
};

// Whether an estimate of either row of a pair on any of the directions from `direction` on reaches
// `sieve`, or the estimates of the pair say nothing. All threads of a block call it together, with
// pairs start + threadIdx.x as in project_tile.
__device__ bool may_pass(const GaussianLayer& layer, const PhiloxRoundKeys& keys, int64_t start,
                         const DeviceSelection& task, const double* __restrict__ factors,
                         int64_t columns, int64_t direction, float sieve, DecidingTile& tile,
                         int64_t& loaded) {
    const NormalCoefficients<float> k;
    const uint64_t pair = static_cast<uint64_t>(start) + threadIdx.x;
    const uint32_t pair_high = static_cast<uint32_t>(pair >> 32);
    const PhiloxRows<ScalarWide> rows({static_cast<uint32_t>(pair), 0}, layer.layer, keys);
    float sums[2][tile_directions] = {};
    float square_radius = 0.0f;
    for (int64_t first = 0; first < columns; first += tile_blocks) {
        const int here =
            static_cast<int>(columns - first < tile_blocks ? columns - first : tile_blocks);
        const int64_t wanted = columns <= tile_blocks ? static_cast<int64_t>(pair_high) : -1;
        if (wanted < 0 || wanted != loaded) {
            __syncthreads();
            for (int i = threadIdx.x; i < here; i += blockDim.x)
                tile.columns[i] = PhiloxColumn(
                    pair_high, deciding_columns + static_cast<uint32_t>(first + i), keys);
            for (int i = threadIdx.x; i < here * tile_directions; i += blockDim.x) {
                const int64_t c = first + i / tile_directions, d = direction + i % tile_directions;
                tile.factors[i / tile_directions][i % tile_directions] =
                    c <= d && d < task.batch ? static_cast<float>(factors[c * task.batch + d])
                                             : 0.0f;
            }
            __syncthreads();
            loaded = wanted;
        }
        for (int c = 0; c < here; ++c) {
            const PhiloxState<ScalarWide> s = block_words(rows, tile.columns[c], keys);
            float even, odd;
            box_muller(s.c0.low, s.c1.low, k, even, odd);
            const float square = fused(even, even, odd * odd);
            square_radius = square > square_radius ? square : square_radius;
#pragma unroll
            for (int d = 0; d < tile_directions; ++d) {
                sums[0][d] = fused(even, tile.factors[c][d], sums[0][d]);
                sums[1][d] = fused(odd, tile.factors[c][d], sums[1][d]);
            }
        }
    }
    bool passes = square_radius >= far_square_radius;
#pragma unroll
    for (int parity = 0; parity < 2; ++parity)
#pragma unroll
        for (int d = 0; d < tile_directions; ++d)
            passes |= (task.absolute ? fabsf(sums[parity][d]) : sums[parity][d]) >= sieve;
    return passes;
}

// Several directions: pairs of rows that an estimate does not rule out are projected exactly.
// Factors vanish below the diagonal. Without a threshold above zero nothing is ruled out.
__global__ void __launch_bounds__(block_threads)
    select_span_kernel(GaussianLayer layer, PhiloxRoundKeys keys, DeviceSelection task,
                       Workspace space, int pass, const double* __restrict__ factors, int64_t span,
                       bool sieved, float sieve) {
    __shared__ DecidingTile tile;
    const int64_t direction = int64_t{blockIdx.y} * tile_directions;
    if (!needed(task, space, pass, direction, tile_directions)) return;
    const int64_t first = task.first_row / 2, last = (task.end_row - 1) / 2;
    const int64_t origin = first - first % block_threads;
    const int64_t tiles = (last - origin) / block_threads + 1;
    const int64_t end =
        direction + tile_directions < task.batch ? direction + tile_directions : task.batch;
    const int64_t columns = span < end ? span : end;
    int64_t loaded = -1;
    for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
        const int64_t start = origin + i * block_threads, pair = start + threadIdx.x;
        if (sieved &&
            !may_pass(layer, keys, start, task, factors, columns, direction, sieve, tile, loaded))
            continue;
        if (pair < first || pair > last) continue;
        double sums[2][tile_directions] = {};
        for (int64_t c = 0; c < columns; ++c) {
            double even, odd;
            deciding_pair(static_cast<uint64_t>(pair), static_cast<uint32_t>(c), layer.layer, keys,
                          even, odd);
#pragma unroll
            for (int d = 0; d < tile_directions; ++d)
                if (c <= direction + d && direction + d < end) {
                    const double factor = factors[c * task.batch + direction + d];
                    sums[0][d] = fused(even, factor, sums[0][d]);
                    sums[1][d] = fused(odd, factor, sums[1][d]);
                }
        }
#pragma unroll
        for (int d = 0; d < tile_directions; ++d)
            if (direction + d < end) {
                offer_row(task, space, pass, direction + d, sums[0][d], 2 * pair);
                offer_row(task, space, pass, direction + d, sums[1][d], 2 * pair + 1);
            }
    }
}

__global__ void __launch_bounds__(block_threads)
    deciding_entries_kernel(GaussianLayer layer, PhiloxRoundKeys keys,
                            const int64_t* __restrict__ rows, int64_t count, int64_t span,
                            double* __restrict__ out) {
    const int64_t c = thread_of_grid();
    if (c >= span) return;
    for (int64_t i = row_of_grid(); i < count; i += rows_of_grid()) {
        const int64_t row = rows[i];
        double even, odd;
        deciding_pair(static_cast<uint64_t>(row) / 2, static_cast<uint32_t>(c), layer.layer, keys,
                      even, odd);
        out[i * span + c] = row < 0 ? NAN : row % 2 ? odd : even;
    }
}

// Rows that a block rotates in shared memory, and the entries there is room for beside a step of
// each.
constexpr int most_rotated_rows = 32;
constexpr int rotated_entries = 48 * 1024 / 8 - most_rotated_rows;

// Between the rows there: odd, so that threads that go along a row each reach different banks.
INFALL_HD int64_t rotated_stride(int64_t dim) { return dim | 1; }

// reflect_row for `rows` rows of a block. The dot product of a row is one thread's, for its order;
// what is done to each entry by itself is shared by all.
__global__ void __launch_bounds__(block_threads)
    rotate_rows_kernel(float* __restrict__ z, int64_t count, int rows, int dim,
                       const double* __restrict__ deciding, const double* __restrict__ v,
                       const double* __restrict__ scale, int span) {
    __shared__ double entries[rotated_entries];
    __shared__ double steps[most_rotated_rows];
    const auto thread = static_cast<int>(threadIdx.x);
    const auto stride = static_cast<int>(rotated_stride(dim));
    const int64_t first = int64_t{blockIdx.x} * rows, left = count - first;
    const int block_rows = left < rows ? static_cast<int>(left) : rows;
    z += first * dim;
    deciding += first * span;
    for (int r = 0; r < block_rows; ++r)
        for (int j = thread; j < dim; j += block_threads)
            entries[r * stride + j] =
                j < span ? deciding[r * span + j] : static_cast<double>(z[r * dim + j]);
    for (int h = span - 1; h >= 0; --h) {
        const double* reflector = v + int64_t{h} * dim;
        __syncthreads();
        if (thread < block_rows) {
            const double* row = entries + thread * stride;
            double dot = 0.0;
#pragma unroll 8
            for (int j = h; j < dim; ++j) dot = fused(reflector[j], row[j], dot);
            steps[thread] = -scale[h] * dot;
        }
        __syncthreads();
        for (int j = h + thread; j < dim; j += block_threads)
            for (int r = 0; r < block_rows; ++r)
                entries[r * stride + j] = fused(steps[r], reflector[j], entries[r * stride + j]);
    }
    // Each thread stores what it has reflected last itself.
    for (int r = 0; r < block_rows; ++r)
        for (int j = thread; j < dim; j += block_threads)
            z[r * dim + j] = static_cast<float>(entries[r * stride + j]);
}

// One thread is one row, for rows that are longer.
__global__ void rotate_long_rows_kernel(float* __restrict__ z, int64_t count, int64_t dim,
                                        const double* __restrict__ deciding,
                                        const double* __restrict__ v,
                                        const double* __restrict__ scale, int64_t span,
                                        double* __restrict__ scratch) {
    const int64_t i = thread_of_grid();
    if (i < count)
        reflect_row(z + i * dim, dim, deciding + i * span, v, scale, span, scratch + i, count);
}

}  // namespace

void select_rotated(const GaussianLayer& layer, const DeviceSelection& task, const double* factors,
                    int64_t span, Stream stream) {
    const int64_t pairs = (task.end_row - 1) / 2 - task.first_row / 2 + 1;
    const unsigned tiles = grid_for(blocks_of(pairs, block_threads) + 1);
    const PhiloxRoundKeys keys = PhiloxRoundKeys::from_seed(layer.seed);
    select(task, stream, [&](const Workspace& space, int pass) {
        const double t = pass ? task.second_threshold : task.first_threshold;
        if (task.batch == 1) {
            // |D| >= t needs a radius of at least t, so a radius uniform of at most exp(-t^2 / 2).
            double bound = 4294967295.0;
            if (t > 0.0) bound = std::fmin(bound, std::exp(-0.5 * t * t) * 4294967296.0 + 1.0);
            launch("select_rotated", select_deciding_kernel, tiles, block_threads, stream, layer,
                   keys, task, space, pass, static_cast<uint32_t>(bound));
        } else {
            launch("select_rotated", select_span_kernel,
                   dim3(tiles, exact_grid(task.batch, tile_directions)), block_threads, stream,
                   layer, keys, task, space, pass, factors, span, t > 0.0,
                   estimate_threshold(t, span));
        }
    });
}

void deciding_entries(const GaussianLayer& layer, const int64_t* rows, int64_t count, int64_t span,
                      double* out, Stream stream) {
    const ElementShape shape = shape_for_elements(count, span);
    launch("deciding_entries", deciding_entries_kernel, shape.grid, shape.block, stream, layer,
           PhiloxRoundKeys::from_seed(layer.seed), rows, count, span, out);
}

void rotate_rows(float* z, int64_t count, int64_t dim, const double* deciding, const double* v,
                 const double* scale, int64_t span, double* scratch, Stream stream) {
    int64_t rows = rotated_entries / rotated_stride(dim);
    if (rows == 0) {
        constexpr int threads = 32;  // few rows: small blocks spread them over the card
        launch("rotate_rows", rotate_long_rows_kernel, exact_grid(count, threads), threads, stream,
               z, count, dim, deciding, v, scale, span, scratch);
        return;
    }
    if (rows > most_rotated_rows) rows = most_rotated_rows;
    // Of few rows a block takes fewer, so that they reach the whole card: it runs four such blocks
    // where it runs sixteen of others.
    const int64_t spread = blocks_of(count, resident_blocks / 4);
    if (rows > spread) rows = spread;
    launch("rotate_rows", rotate_rows_kernel, exact_grid(count, rows), block_threads, stream, z,
           count, static_cast<int>(rows), static_cast<int>(dim), deciding, v, scale,
           static_cast<int>(span));
}

}  // namespace infall::device
