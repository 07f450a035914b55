// One thread is one row of the layer, its columns in order: what a CPU lane does, bit for bit.
#include <cmath>

#include "random/normal.h"
#include "random/philox.h"
#include "rows/candidate.h"
#include "rows/device.h"
#include "rows/device_cut.h"
#include "rows/reflect.h"
#include "runtime/cuda_launch.h"

namespace infall {
namespace device {
namespace {

constexpr int tile_blocks = 64;     // Philox blocks (4 columns each) whose constants are at hand
constexpr int tile_directions = 8;  // directions that share the normals of a thread

// ---------------------------------------------------------------------------------------------
// Rows

__global__ void gaussian_rows_kernel(GaussianLayer layer, const int64_t* indices, int64_t count,
                                     float* out) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const NormalCoefficients<float> k;
    const int64_t blocks = padded_dim(layer.dim) / 4, step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count * blocks;
         i += step) {
        const int64_t row = i / blocks, block = i % blocks;
        const uint64_t position_bits = uint64_t{layer.matrix.position_bits} << 32;
        const PhiloxBlock b = philox4x32_10(static_cast<uint64_t>(indices[row]) | position_bits,
                                            layer.matrix.first_block + static_cast<uint32_t>(block),
                                            layer.layer, key);
        float z[4];
        box_muller(b.w[0], b.w[1], k, z[0], z[1]);
        box_muller(b.w[2], b.w[3], k, z[2], z[3]);
        const bool exists = indices[row] >= 0;
        float* target = out + row * layer.dim + 4 * block;
        for (int c = 0; c < 4; ++c)
            if (4 * block + c < layer.dim) target[c] = exists ? z[c] : NAN;
    }
}

// ---------------------------------------------------------------------------------------------
// Projections

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

// ---------------------------------------------------------------------------------------------
// Selection

// Offers the rows of the task that reach the threshold of the pass.
__device__ void offer_row(const DeviceSelection& task, const Workspace& space, int pass,
                          int64_t direction, double projection, int64_t row) {
    const Candidate candidate{projection, row};
    if (row >= task.first_row && row < task.end_row &&
        score_of(candidate, task.absolute) >= (pass ? task.thresholds[1] : task.thresholds[0]))
        offer(task, space, pass, direction, candidate);
}

// Room for what passes either threshold; for small layers all rows fit and all may pass.
int64_t capacity_for(int64_t num_rows, int64_t available) {
    const double root = std::sqrt(static_cast<double>(num_rows));
    const int64_t room = num_rows + static_cast<int64_t>(24.0 * root) + 160;
    return available <= 4 * room ? available : room;
}

Workspace workspace_of(const DeviceSelection& task) {
    Workspace space;
    space.capacity = capacity_for(task.num_rows, task.end_row - task.first_row);
    char* at = static_cast<char*>(task.workspace);
    space.found = reinterpret_cast<Found*>(at);
    space.candidates = reinterpret_cast<Candidate*>(at + found_bytes(task.batch));
    space.spare = space.candidates + task.batch * space.capacity;
    return space;
}

template <int directions>
__global__ void __launch_bounds__(block_threads)
    select_stream_kernel(GaussianLayer layer, DeviceSelection task, Workspace space, int pass,
                         const float* w) {
    __shared__ ColumnTile<directions> tile;
    const int64_t direction = int64_t{blockIdx.y} * directions;
    if (!needed(task, space, pass, direction, directions)) return;
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const int64_t origin = task.first_row - task.first_row % block_threads;
    const int64_t tiles = (task.end_row - 1 - origin) / block_threads + 1;
    int64_t loaded = -1;
    for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
        const int64_t start = origin + i * block_threads;
        float sums[directions];
        project_rows<directions>(layer, key, start, w, direction, task.batch, tile, loaded, sums);
        for (int d = 0; d < directions; ++d)
            if (direction + d < task.batch)
                offer_row(task, space, pass, direction + d, static_cast<double>(sums[d]),
                          start + threadIdx.x);
    }
}

// One thread is one pair of rows; `bound` is the largest radius word that can pass.
__global__ void __launch_bounds__(block_threads)
    select_deciding_kernel(GaussianLayer layer, DeviceSelection task, Workspace space, int pass,
                           uint32_t bound) {
    if (!needed(task, space, pass, 0, 1)) return;
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const int64_t first = task.first_row / 2, last = (task.end_row - 1) / 2;
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t pair = first + int64_t{blockIdx.x} * blockDim.x + threadIdx.x; pair <= last;
         pair += step) {
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

template <class Pass>
void select(const DeviceSelection& task, Stream stream, Pass pass) {
    const Workspace space = workspace_of(task);
    clear(space, task.batch, stream);
    pass(space, 0);
    pass(space, 1);
    cut(task, space, stream);
}

// ---------------------------------------------------------------------------------------------
// Rotation, codes, distances

__global__ void deciding_entries_kernel(GaussianLayer layer, const int64_t* rows, int64_t count,
                                        int64_t span, double* out) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count * span; i += step) {
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
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i < count)
        reflect_row(z + i * dim, dim, deciding + i * span, v, scale, span, scratch + i, count);
}

__global__ void __launch_bounds__(block_threads)
    hyperplane_codes_kernel(GaussianLayer layer, const float* x, int64_t num_inputs,
                            int64_t num_bits, uint8_t* out) {
    __shared__ ColumnTile<tile_directions> tile;
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const int64_t input = int64_t{blockIdx.y} * tile_directions;
    const int64_t bytes = num_bits / 8 + (num_bits % 8 != 0);
    const int64_t tiles = (num_bits + block_threads - 1) / block_threads;
    int64_t loaded = -1;
    for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
        const int64_t start = i * block_threads, bit = start + threadIdx.x;
        float sums[tile_directions];
        project_rows<tile_directions>(layer, key, start, x, input, num_inputs, tile, loaded, sums);
        for (int d = 0; d < tile_directions; ++d) {
            // Bit l of the ballot is the row of lane l of the warp.
            const unsigned bits = __ballot_sync(0xFFFFFFFFu, bit < num_bits && sums[d] >= 0.0f);
            const int64_t byte = bit / 8;
            if (bit % 8 == 0 && byte < bytes && input + d < num_inputs)
                out[(input + d) * bytes + byte] =
                    static_cast<uint8_t>(bits >> (threadIdx.x % 32 / 8 * 8));
        }
    }
}

constexpr int distance_tile = 16;
constexpr int distance_bytes = 64;

__global__ void hamming_distances_kernel(const uint8_t* a, int64_t a_count, const uint8_t* b,
                                         int64_t b_count, int64_t bytes, int32_t* out) {
    // One word more per row keeps the rows of a warp in different banks.
    __shared__ uint32_t codes[2][distance_tile][distance_bytes / 4 + 1];
    const int64_t first_a = int64_t{blockIdx.y} * distance_tile;
    const int64_t first_b = int64_t{blockIdx.x} * distance_tile;
    const int thread = static_cast<int>(threadIdx.y * distance_tile + threadIdx.x);
    int32_t distance = 0;
    for (int64_t first = 0; first < bytes; first += distance_bytes) {
        __syncthreads();
        for (int i = thread; i < 2 * distance_tile * distance_bytes;
             i += distance_tile * distance_tile) {
            const int side = i / (distance_tile * distance_bytes);
            const int code = i / distance_bytes % distance_tile, byte = i % distance_bytes;
            const int64_t row = (side ? first_b : first_a) + code;
            const bool inside = row < (side ? b_count : a_count) && first + byte < bytes;
            reinterpret_cast<uint8_t*>(codes[side][code])[byte] =
                inside ? (side ? b : a)[row * bytes + first + byte] : uint8_t{0};
        }
        __syncthreads();
        for (int i = 0; i < distance_bytes / 4; ++i)
            distance += __popc(codes[0][threadIdx.y][i] ^ codes[1][threadIdx.x][i]);
    }
    const int64_t i = first_a + threadIdx.y, j = first_b + threadIdx.x;
    if (i < a_count && j < b_count) out[i * b_count + j] = distance;
}

}  // namespace

// ---------------------------------------------------------------------------------------------

void gaussian_rows(const GaussianLayer& layer, const int64_t* indices, int64_t count, float* out,
                   Stream stream) {
    if (count == 0) return;
    const int64_t threads = count * (padded_dim(layer.dim) / 4);
    launch("gaussian_rows", gaussian_rows_kernel, grid_for(blocks_of(threads, block_threads)),
           block_threads, stream, layer, indices, count, out);
}

size_t selection_workspace(int64_t num_rows, int64_t available_rows, int64_t batch) {
    const int64_t candidates = 2 * capacity_for(num_rows, available_rows);
    return found_bytes(batch) + static_cast<size_t>(batch * candidates) * sizeof(Candidate);
}

void select_stream(const GaussianLayer& layer, const DeviceSelection& task, const float* w,
                   Stream stream) {
    const unsigned tiles = grid_for(blocks_of(task.end_row - task.first_row, block_threads) + 1);
    select(task, stream, [&](const Workspace& space, int pass) {
        if (task.batch == 1)
            launch("select_stream", select_stream_kernel<1>, tiles, block_threads, stream, layer,
                   task, space, pass, w);
        else
            launch("select_stream", select_stream_kernel<tile_directions>,
                   dim3(tiles, exact_grid(task.batch, tile_directions)), block_threads, stream,
                   layer, task, space, pass, w);
    });
}

void select_rotated(const GaussianLayer& layer, const DeviceSelection& task, const double* factors,
                    int64_t span, Stream stream) {
    const int64_t pairs = (task.end_row - 1) / 2 - task.first_row / 2 + 1;
    const unsigned tiles = grid_for(blocks_of(pairs, block_threads) + 1);
    select(task, stream, [&](const Workspace& space, int pass) {
        const double t = task.thresholds[pass];
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

void hyperplane_codes(const GaussianLayer& layer, const float* x, int64_t num_inputs,
                      int64_t num_bits, uint8_t* out, Stream stream) {
    const int64_t bytes = num_bits / 8 + (num_bits % 8 != 0), width = padded_dim(layer.dim);
    constexpr int64_t at_once = int64_t{max_grid_y} * tile_directions;
    for (int64_t first = 0; first < num_inputs; first += at_once) {
        const int64_t here = num_inputs - first < at_once ? num_inputs - first : at_once;
        launch(
            "hyperplane_codes", hyperplane_codes_kernel,
            dim3(grid_for(blocks_of(num_bits, block_threads)), exact_grid(here, tile_directions)),
            block_threads, stream, layer, x + first * width, here, num_bits, out + first * bytes);
    }
}

void hamming_distances(const uint8_t* a, int64_t a_count, const uint8_t* b, int64_t b_count,
                       int64_t bytes, int32_t* out, Stream stream) {
    if (b_count == 0) return;
    constexpr int64_t at_once = int64_t{max_grid_y} * distance_tile;
    for (int64_t first = 0; first < a_count; first += at_once) {
        const int64_t here = a_count - first < at_once ? a_count - first : at_once;
        launch("hamming_distances", hamming_distances_kernel,
               dim3(exact_grid(b_count, distance_tile), exact_grid(here, distance_tile)),
               dim3(distance_tile, distance_tile), stream, a + first * bytes, here, b, b_count,
               bytes, out + first * b_count);
    }
}

}  // namespace device
}  // namespace infall
