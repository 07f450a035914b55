// One thread is one column block of one row.
#include "random/gaussian.h"

#include <cmath>

#include "random/normal.h"
#include "random/philox.h"
#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"

namespace infall::device {
namespace {

__global__ void gaussian_rows_kernel(GaussianLayer layer, const int64_t* indices, int64_t count,
                                     float* out) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const NormalCoefficients<float> k;
    const int64_t blocks = padded_dim(layer.dim) / 4;
    for (int64_t i = thread_of_grid(); i < count * blocks; i += threads_of_grid()) {
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

}  // namespace

void gaussian_rows(const GaussianLayer& layer, const int64_t* indices, int64_t count, float* out,
                   Stream stream) {
    if (count == 0) return;
    const int64_t threads = count * (padded_dim(layer.dim) / 4);
    launch("gaussian_rows", gaussian_rows_kernel, grid_for(blocks_of(threads, block_threads)),
           block_threads, stream, layer, indices, count, out);
}

}  // namespace infall::device
