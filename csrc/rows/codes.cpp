// Hyperplane codes and their distances.
#include "rows/selection.h"

#include <algorithm>

#include "rows/blocks.h"

namespace infall {

void hyperplane_codes(const GaussianLayer& planes, const float* x, int64_t num_inputs,
                      int64_t num_bits, int num_threads, Watch* watch, uint8_t* out) {
    const RowKernels& kernels = row_kernels();
    const int64_t width = padded_dim(planes.dim), bytes = num_bits / 8 + (num_bits % 8 != 0);
    const AlignedBlocks blocks(0, num_bits,
                               block_rows_for(width * (1 + std::min(num_inputs, max_batch) / 8)));
    const int64_t passes = (num_inputs + max_batch - 1) / max_batch;
    std::vector<std::vector<float>> scores(static_cast<size_t>(std::max(num_threads, 1)));
    run_blocks(
        total_blocks(blocks.count(), passes), num_threads,
        [&](int64_t number, int thread, Pulse& pulse) {
            const int64_t block = number / passes, first = number % passes * max_batch;
            const int64_t inputs = std::min(max_batch, num_inputs - first);
            std::vector<float>& projections = scores[static_cast<size_t>(thread)];
            projections.resize(static_cast<size_t>(inputs * blocks.rows));
            project_block(kernels, planes, blocks.start(block), blocks.rows, x + first * width,
                          inputs, projections.data(), pulse);
            const int64_t start = blocks.start(block), end = blocks.valid_to(block);
            for (int64_t i = 0; i < inputs; ++i) {
                const float* row = projections.data() + i * blocks.rows;
                for (int64_t bit = start; bit < end; bit += 8) {
                    unsigned byte = 0;
                    for (int64_t k = 0; k < std::min<int64_t>(8, end - bit); ++k)
                        byte |= static_cast<unsigned>(row[bit - start + k] >= 0.0f) << k;
                    out[(first + i) * bytes + bit / 8] = static_cast<uint8_t>(byte);
                }
            }
            return (end - start) * inputs;
        },
        watch);
}

void hamming_distances(const uint8_t* a, int64_t a_count, const uint8_t* b, int64_t b_count,
                       int64_t bytes, int num_threads, Watch* watch, int32_t* out) {
    const RowKernels& kernels = row_kernels();
    const int64_t rows =
        std::max<int64_t>(1, block_work / std::max<int64_t>(b_count * (bytes / 8 + 1), 1));
    run_blocks((a_count + rows - 1) / rows, num_threads,
               [&](int64_t block, int) {
                   const int64_t first = block * rows, here = std::min(rows, a_count - first);
                   kernels.hamming_distances(a + first * bytes, here, b, b_count, bytes,
                                             out + first * b_count);
                   return here;
               },
               watch);
}

}  // namespace infall
