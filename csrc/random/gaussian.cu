#include "random/gaussian.h"

#include <cmath>

#include "random/normal.h"
#include "random/philox.h"
#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"

namespace infall::device {
namespace {

// One thread is one column block of one row: four normals. `aligned`: rows are whole column blocks
// in aligned memory. Else they pass through shared memory, in the order they have in `out`, where
// the normals of a block of threads are neighbours: of several rows it takes every column.
template <bool aligned>
__global__ void __launch_bounds__(block_threads)
    gaussian_rows_kernel(GaussianLayer layer, PhiloxRoundKeys keys,
                         const int64_t* __restrict__ indices, int64_t count,
                         float* __restrict__ out) {
    const NormalCoefficients<float> k;
    const uint64_t position_bits = uint64_t{layer.matrix.position_bits} << 32;
    const int64_t block = thread_of_grid(), column = 4 * block;
    for (int64_t first_row = int64_t{blockIdx.y} * blockDim.y; first_row < count;
         first_row += rows_of_grid()) {
        const int64_t row = first_row + threadIdx.y;
        const bool inside = row < count && column < layer.dim;
        float4 z{NAN, NAN, NAN, NAN};
        if (inside && indices[row] >= 0) {
            const PhiloxBlock words = philox4x32_10(
                static_cast<uint64_t>(indices[row]) | position_bits,
                layer.matrix.first_block + static_cast<uint32_t>(block), layer.layer, keys);
            box_muller(words.w[0], words.w[1], k, z.x, z.y);
            box_muller(words.w[2], words.w[3], k, z.z, z.w);
        }
        if constexpr (aligned) {
            if (inside) *reinterpret_cast<float4*>(out + row * layer.dim + column) = z;
        } else {
            __shared__ float normals[4 * block_threads];
            const int64_t first_column = 4 * int64_t{blockIdx.x} * blockDim.x;
            const int64_t rows = count - first_row < blockDim.y ? count - first_row : blockDim.y;
            const int64_t columns = layer.dim - first_column < 4 * block_threads
                                        ? layer.dim - first_column
                                        : 4 * block_threads;
            __syncthreads();
            if (inside) {
                float* target = normals + threadIdx.y * columns + 4 * threadIdx.x;
                const float of_thread[4] = {z.x, z.y, z.z, z.w};
                for (int c = 0; c < 4; ++c)
                    if (column + c < layer.dim) target[c] = of_thread[c];
            }
            __syncthreads();
            float* target = out + first_row * layer.dim + first_column;
            for (int64_t i = threadIdx.y * blockDim.x + threadIdx.x; i < rows * columns;
                 i += block_threads)
                target[i] = normals[i];
        }
    }
}

}  // namespace

void gaussian_rows(const GaussianLayer& layer, const int64_t* indices, int64_t count, float* out,
                   Stream stream) {
    if (count == 0) return;
    const bool aligned = layer.dim % 4 == 0 && reinterpret_cast<uintptr_t>(out) % 16 == 0;
    const ElementShape shape = shape_for_elements(count, padded_dim(layer.dim) / 4);
    launch("gaussian_rows", aligned ? gaussian_rows_kernel<true> : gaussian_rows_kernel<false>,
           shape.grid, shape.block, stream, layer, PhiloxRoundKeys::from_seed(layer.seed), indices,
           count, out);
}

}  // namespace infall::device
