#include "rows/rotation.h"

#include <cmath>

#include "rows/device_projections.h"
#include "rows/device_threshold.h"
#include "rows/directions.h"

namespace infall::device {
namespace {

// One thread is one pair of rows; `bound` is the largest radius word that can pass.
__global__ void __launch_bounds__(block_threads)
    select_deciding_kernel(GaussianLayer layer, DeviceSelection task, Workspace space, int pass,
                           uint32_t bound) {
    if (!needed(task, space, pass, 0, 1)) return;
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const int64_t first = task.first_row / 2, last = (task.end_row - 1) / 2;
    for (int64_t pair = first + thread_of_grid(); pair <= last; pair += threads_of_grid()) {
        const PhiloxBlock b =
            philox4x32_10(static_cast<uint64_t>(pair), deciding_columns, layer.layer, key);
        if (b.w[0] > bound) continue;
        double even, odd;
        deciding_pair(static_cast<uint64_t>(pair), 0, layer.layer, key, even, odd);
        offer_row(task, space, pass, 0, even, 2 * pair);
        offer_row(task, space, pass, 0, odd, 2 * pair + 1);
    }
}

// Constants and factors of a tile of deciding columns, shared by the threads of a block.
struct DecidingTile {
    PhiloxColumn columns[tile_blocks];
    float factors[tile_blocks][tile_directions];
};

// Whether an estimate of either row of a pair on any of the directions from `direction` on reaches
// `sieve`, or the estimates of the pair say nothing. All threads of a block call it together, with
// pairs start + threadIdx.x as in project_rows.
__device__ bool may_pass(const GaussianLayer& layer, PhiloxKey key, int64_t start,
                         const DeviceSelection& task, const double* factors, int64_t columns,
                         int64_t direction, float sieve, DecidingTile& tile, int64_t& loaded) {
    const NormalCoefficients<float> k;
    const uint64_t pair = static_cast<uint64_t>(start) + threadIdx.x;
    const uint32_t pair_high = static_cast<uint32_t>(pair >> 32);
    const PhiloxRows<ScalarWide> rows({static_cast<uint32_t>(pair), 0}, layer.layer, key);
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
                    pair_high, deciding_columns + static_cast<uint32_t>(first + i), key);
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
            const PhiloxState<ScalarWide> s = block_words(rows, tile.columns[c], key);
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
    select_span_kernel(GaussianLayer layer, DeviceSelection task, Workspace space, int pass,
                       const double* factors, int64_t span, bool sieved, float sieve) {
    __shared__ DecidingTile tile;
    const int64_t direction = int64_t{blockIdx.y} * tile_directions;
    if (!needed(task, space, pass, direction, tile_directions)) return;
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
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
            !may_pass(layer, key, start, task, factors, columns, direction, sieve, tile, loaded))
            continue;
        if (pair < first || pair > last) continue;
        double sums[2][tile_directions] = {};
        for (int64_t c = 0; c < columns; ++c) {
            double even, odd;
            deciding_pair(static_cast<uint64_t>(pair), static_cast<uint32_t>(c), layer.layer, key,
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

__global__ void deciding_entries_kernel(GaussianLayer layer, const int64_t* rows, int64_t count,
                                        int64_t span, double* out) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    for (int64_t i = thread_of_grid(); i < count * span; i += threads_of_grid()) {
        const int64_t row = rows[i / span];
        double even, odd;
        deciding_pair(static_cast<uint64_t>(row) / 2, static_cast<uint32_t>(i % span), layer.layer,
                      key, even, odd);
        out[i] = row < 0 ? NAN : row % 2 ? odd : even;
    }
}

__global__ void rotate_rows_kernel(float* z, int64_t count, int64_t dim, const double* deciding,
                                   const double* v, const double* scale, int64_t span,
                                   double* scratch) {
    const int64_t i = thread_of_grid();
    if (i < count)
        reflect_row(z + i * dim, dim, deciding + i * span, v, scale, span, scratch + i, count);
}

}  // namespace

void select_rotated(const GaussianLayer& layer, const DeviceSelection& task, const double* factors,
                    int64_t span, Stream stream) {
    const int64_t pairs = (task.end_row - 1) / 2 - task.first_row / 2 + 1;
    const unsigned tiles = grid_for(blocks_of(pairs, block_threads) + 1);
    select(task, stream, [&](const Workspace& space, int pass) {
        const double t = pass ? task.second_threshold : task.first_threshold;
        if (task.batch == 1) {
            // |D| >= t needs a radius of at least t, so a radius uniform of at most exp(-t^2 / 2).
            double bound = 4294967295.0;
            if (t > 0.0) bound = std::fmin(bound, std::exp(-0.5 * t * t) * 4294967296.0 + 1.0);
            launch("select_rotated", select_deciding_kernel, tiles, block_threads, stream, layer,
                   task, space, pass, static_cast<uint32_t>(bound));
        } else {
            launch("select_rotated", select_span_kernel,
                   dim3(tiles, exact_grid(task.batch, tile_directions)), block_threads, stream,
                   layer, task, space, pass, factors, span, t > 0.0, estimate_threshold(t, span));
        }
    });
}

void deciding_entries(const GaussianLayer& layer, const int64_t* rows, int64_t count, int64_t span,
                      double* out, Stream stream) {
    launch("deciding_entries", deciding_entries_kernel,
           grid_for(blocks_of(count * span, block_threads)), block_threads, stream, layer, rows,
           count, span, out);
}

void rotate_rows(float* z, int64_t count, int64_t dim, const double* deciding, const double* v,
                 const double* scale, int64_t span, double* scratch, Stream stream) {
    // Few rows, each the work of one thread: small blocks spread them over the card.
    constexpr int threads = 32;
    launch("rotate_rows", rotate_rows_kernel, exact_grid(count, threads), threads, stream, z, count,
           dim, deciding, v, scale, span, scratch);
}

}  // namespace infall::device
