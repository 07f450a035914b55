#include <cstring>

#include "rows/device.h"
#include "rows/device_projections.h"
#include "runtime/launch_shape.h"

namespace infall::device {
namespace {

__global__ void __launch_bounds__(block_threads)
    hyperplane_codes_kernel(GaussianLayer layer, PhiloxRoundKeys keys, const float* __restrict__ x,
                            int64_t num_inputs, int64_t num_bits, uint8_t* __restrict__ out) {
    __shared__ ColumnTile<tile_directions> tile;
    const int64_t input = int64_t{blockIdx.y} * tile_directions;
    const int64_t bytes = num_bits / 8 + (num_bits % 8 != 0);
    const int64_t tiles = (num_bits + projected_rows - 1) / projected_rows;
    int64_t loaded = -1;
    for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
        const int64_t start = i * projected_rows;
        float sums[thread_rows][tile_directions];
        project_tile<tile_directions>(layer, keys, start, x, input, num_inputs, tile, loaded, sums);
#pragma unroll
        for (int r = 0; r < thread_rows; ++r) {
            const int64_t bit = start + r * block_threads + threadIdx.x, byte = bit / 8;
#pragma unroll
            for (int d = 0; d < tile_directions; ++d) {
                // Bit l of the ballot is the row of lane l of the warp.
                const unsigned bits =
                    __ballot_sync(0xFFFFFFFFu, bit < num_bits && sums[r][d] >= 0.0f);
                if (bit % 8 == 0 && byte < bytes && input + d < num_inputs)
                    out[(input + d) * bytes + byte] =
                        static_cast<uint8_t>(bits >> (threadIdx.x % 32 / 8 * 8));
            }
        }
    }
}

// A block compares 64 codes with 64, by tiles of 16 words in shared memory; a thread, of 16 x 16,
// every 16th of either with every 16th of the others.
constexpr int distance_threads = 16;
constexpr int thread_codes = 4;
constexpr int tile_codes = thread_codes * distance_threads;
constexpr int tile_words = 16;

// Four words of a code are loaded at once. One more such load between codes: eight codes side by
// side then are in different banks.
using CodeTile = uint4[tile_codes][tile_words / 4 + 1];

// Loads the words that start at byte `first_byte` of the codes from `first_code` on, zeros where
// there are none. `by_words`: codes are whole words in aligned memory.
template <bool by_words>
__device__ void load_codes(const uint8_t* __restrict__ codes, int64_t first_code, int64_t count,
                           int64_t bytes, int64_t first_byte, CodeTile& tile) {
    const auto word = static_cast<int>(threadIdx.x);
    const auto first_of_thread = static_cast<int>(threadIdx.y);
    const int64_t at = first_byte + 4 * word, left = count - first_code;
    const uint8_t* source = codes + (first_code + first_of_thread) * bytes + at;
#pragma unroll
    for (int i = first_of_thread; i < first_of_thread + tile_codes; i += distance_threads) {
        uint32_t bits = 0;
        if (i < left) {
            if (by_words) {
                if (at < bytes) memcpy(&bits, __builtin_assume_aligned(source, 4), 4);
            } else {
                for (int byte = 0; byte < 4; ++byte)
                    if (at + byte < bytes) bits |= uint32_t{source[byte]} << (8 * byte);
            }
        }
        reinterpret_cast<uint32_t*>(tile[i])[word] = bits;
        source += distance_threads * bytes;
    }
}

__device__ int differing_bits(const uint4& a, const uint4& b) {
    return __popc(a.x ^ b.x) + __popc(a.y ^ b.y) + __popc(a.z ^ b.z) + __popc(a.w ^ b.w);
}

template <bool by_words>
__global__ void __launch_bounds__(block_threads)
    hamming_distances_kernel(const uint8_t* __restrict__ a, int64_t a_count,
                             const uint8_t* __restrict__ b, int64_t b_count, int64_t bytes,
                             int32_t* __restrict__ out) {
    static_assert(distance_threads == tile_words &&
                  distance_threads * distance_threads == block_threads);
    __shared__ CodeTile a_tile, b_tile;
    const int64_t first_a = int64_t{blockIdx.y} * tile_codes;
    const int64_t first_b = int64_t{blockIdx.x} * tile_codes;
    const auto x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
    int32_t distances[thread_codes][thread_codes] = {};
    for (int64_t first_byte = 0; first_byte < bytes; first_byte += 4 * tile_words) {
        __syncthreads();
        load_codes<by_words>(a, first_a, a_count, bytes, first_byte, a_tile);
        load_codes<by_words>(b, first_b, b_count, bytes, first_byte, b_tile);
        __syncthreads();
#pragma unroll
        for (int word = 0; word < tile_words / 4; ++word) {
            uint4 others[thread_codes];
#pragma unroll
            for (int j = 0; j < thread_codes; ++j)
                others[j] = b_tile[x + j * distance_threads][word];
#pragma unroll
            for (int i = 0; i < thread_codes; ++i) {
                const int code = y + i * distance_threads;
                if (first_a + code >= a_count) break;  // where there are few, as for one query
                const uint4 mine = a_tile[code][word];
#pragma unroll
                for (int j = 0; j < thread_codes; ++j)
                    distances[i][j] += differing_bits(mine, others[j]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < thread_codes; ++i)
#pragma unroll
        for (int j = 0; j < thread_codes; ++j) {
            const int64_t row = first_a + y + i * distance_threads;
            const int64_t column = first_b + x + j * distance_threads;
            if (row < a_count && column < b_count) out[row * b_count + column] = distances[i][j];
        }
}

bool starts_a_word(const uint8_t* codes) { return reinterpret_cast<uintptr_t>(codes) % 4 == 0; }

}  // namespace

void hyperplane_codes(const GaussianLayer& layer, const float* x, int64_t num_inputs,
                      int64_t num_bits, uint8_t* out, Stream stream) {
    const int64_t bytes = num_bits / 8 + (num_bits % 8 != 0), width = padded_dim(layer.dim);
    constexpr int64_t at_once = int64_t{max_grid_y} * tile_directions;
    for (int64_t first = 0; first < num_inputs; first += at_once) {
        const int64_t here = num_inputs - first < at_once ? num_inputs - first : at_once;
        launch(
            "hyperplane_codes", hyperplane_codes_kernel,
            dim3(grid_for(blocks_of(num_bits, projected_rows)), exact_grid(here, tile_directions)),
            block_threads, stream, layer, PhiloxRoundKeys::from_seed(layer.seed), x + first * width,
            here, num_bits, out + first * bytes);
    }
}

void hamming_distances(const uint8_t* a, int64_t a_count, const uint8_t* b, int64_t b_count,
                       int64_t bytes, int32_t* out, Stream stream) {
    if (b_count == 0) return;
    const bool by_words = bytes % 4 == 0 && starts_a_word(a) && starts_a_word(b);
    constexpr int64_t at_once = int64_t{max_grid_y} * tile_codes;
    for (int64_t first = 0; first < a_count; first += at_once) {
        const int64_t here = a_count - first < at_once ? a_count - first : at_once;
        launch("hamming_distances",
               by_words ? hamming_distances_kernel<true> : hamming_distances_kernel<false>,
               dim3(exact_grid(b_count, tile_codes), exact_grid(here, tile_codes)),
               dim3(distance_threads, distance_threads), stream, a + first * bytes, here, b,
               b_count, bytes, out + first * b_count);
    }
}

}  // namespace infall::device
