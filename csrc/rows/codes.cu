#include "rows/device.h"
#include "rows/device_projections.h"
#include "runtime/launch_shape.h"

namespace infall::device {
namespace {

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

}  // namespace infall::device
