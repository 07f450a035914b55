#include "rows/codes.h"

#include <algorithm>
#include <vector>

#include "rows/blocks.h"
#include "rows/stream.h"
#include "runtime/isa.h"

namespace infall {

INFALL_KERNEL_TABLES(CodeKernels, code_kernels)

void hyperplane_codes(const GaussianLayer& planes, const float* x, int64_t num_inputs,
                      int64_t num_bits, int num_threads, Watch* watch, uint8_t* out) {
    const CodeKernels& kernels = code_kernels();
    const int64_t bytes = num_bits / 8 + (num_bits % 8 != 0);
    const WeightedBlocks weights(x, num_inputs, planes.dim);
    const AlignedBlocks blocks(0, num_bits, stream_block_rows(weights.width(), num_inputs));
    PerThread<std::vector<float>> scores(num_threads);
    for_passes(blocks, num_inputs, num_threads, watch,
               [&](int64_t block, int64_t first, int64_t last, int thread, Pulse& pulse) {
                   std::vector<float>& projections = scores[thread];
                   const auto [start, rows] = blocks.padded(block, row_multiple);
                   const int64_t end = blocks.valid_to(block);
                   projections.resize(static_cast<size_t>((last - first) * rows));
                   project_block(planes, start, rows, weights.of(first, last), projections.data(),
                                 pulse);
                   for (int64_t i = first; i < last; ++i)
                       kernels.pack_signs(projections.data() + (i - first) * rows, end - start,
                                          out + i * bytes + start / 8);
                   return (end - start) * (last - first);
               });
}

void hamming_distances(const uint8_t* a, int64_t a_count, const uint8_t* b, int64_t b_count,
                       int64_t bytes, int num_threads, Watch* watch, int32_t* out) {
    const CodeKernels& kernels = code_kernels();
    const int64_t rows =
        std::max<int64_t>(1, block_work / std::max<int64_t>(b_count * (bytes / 8 + 1), 1));
    run_ranges(
        a_count, rows, num_threads,
        [&](int64_t first, int64_t last) {
            kernels.hamming_distances(a + first * bytes, last - first, b, b_count, bytes,
                                      out + first * b_count);
        },
        watch);
}

}  // namespace infall
