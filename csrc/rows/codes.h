// Hyperplane codes and their distances.
#pragma once

#include <cstdint>

#include "random/gaussian.h"
#include "runtime/parallel.h"

namespace infall {

struct CodeKernels {
    // out (ceil(count / 8),), bit i: projections[i] >= 0; zeros behind the last. Of the projections
    // whole vectors are read: their number is rounded up to a multiple of row_multiple.
    void (*pack_signs)(const float* projections, int64_t count, uint8_t* out);

    // out (a_count, b_count): differing bits of the codes a (a_count, bytes), b (b_count, bytes).
    void (*hamming_distances)(const uint8_t* a, int64_t a_count, const uint8_t* b, int64_t b_count,
                              int64_t bytes, int32_t* out);
};
const CodeKernels& code_kernels();

// out (num_inputs, ceil(num_bits / 8)), bit i of a code: row i of `planes` projects x to >= 0.
// x is (num_inputs, padded_dim).
void hyperplane_codes(const GaussianLayer& planes, const float* x, int64_t num_inputs,
                      int64_t num_bits, int num_threads, Watch* watch, uint8_t* out);

void hamming_distances(const uint8_t* a, int64_t a_count, const uint8_t* b, int64_t b_count,
                       int64_t bytes, int num_threads, Watch* watch, int32_t* out);

}  // namespace infall
