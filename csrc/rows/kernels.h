// The row kernels: one source (kernels.cpp), compiled once per instruction set, reached through a
// table of function pointers. Every instruction set gives the same bits.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "random/folded_normal.h"
#include "random/streams.h"
#include "runtime/host_device.h"

namespace infall {

// One layer G* of independent standard normals: a pure function of (seed, layer, row, column). So
// are the matrices that have words of their own.
struct GaussianLayer {
    uint64_t seed;
    uint32_t layer;
    int64_t dim;  // columns
    RandomMatrix matrix = layer_rows;
};

// Rows of a matrix in memory; strides in elements.
struct MatrixRows {
    const void* data;
    int64_t row_stride, column_stride;
    int64_t dim;
};

// What the binary32 estimates of the deciding columns are sieved by: how far an estimate of a
// projection on a vector f of unit length may be off, and the squared radius of a pair of rows from
// which on it says nothing, for 32 bits no longer tell the radius. Entries D up to that radius are
// right to 3.5e-4, so that their errors add up to 3.5e-4 sqrt(span); rounding adds at most
// span 2^-24 |D| |f|, and |D| <= sqrt(22 span).
constexpr float far_square_radius = 22.0f;
INFALL_HD double estimate_error(int64_t span) {
    const double columns = static_cast<double>(span);
    return (5e-4 + 3e-7 * columns) * sqrt(columns);
}
INFALL_HD float estimate_threshold(double threshold, int64_t span) {
    return static_cast<float>(threshold - estimate_error(span));
}

struct RowKernels {
    // Row ranges start at a multiple of `lanes` and are `groups * lanes` long.
    int lanes;

    // out[i * dim + j] = entry (indices[i], first_column + j) of the layer, j < columns;
    // first_column is a multiple of 4.
    void (*gaussian_rows)(const GaussianLayer& layer, const int64_t* indices, int64_t count,
                          int64_t first_column, int64_t columns, float* out);

    // scores is (batch, groups * lanes): the projections of the rows first_row, ... on each of the
    // directions w, (batch, padded_dim) with zeros behind dim; every sum runs over the columns in
    // order, one fused multiply-add each. A call takes the columns of the Philox blocks
    // first_block ... end_block, and goes on from what the call for those before has left in
    // scores.
    void (*project_layer)(const GaussianLayer& layer, int64_t first_row, int64_t groups,
                          int64_t first_block, int64_t end_block, const float* w, int64_t batch,
                          float* scores);

    // The same for `count` rows of a matrix in memory. scores is (batch, score_stride).
    void (*project_float32)(const MatrixRows& rows, int64_t count, const float* w, int64_t batch,
                            int64_t score_stride, float* scores);
    void (*project_float64)(const MatrixRows& rows, int64_t count, const double* w, int64_t batch,
                            int64_t score_stride, double* scores);

    // Positions i < count with scores[i] (or |scores[i]|) >= threshold, ascending; returns how
    // many.
    int64_t (*at_least)(const float* scores, int64_t count, float threshold, bool absolute,
                        int32_t* positions);

    // Row pairs p of the deciding stream, first_pair <= p < first_pair + groups * lanes, whose
    // radius word (upper half) is at most `bound`: offsets from first_pair, ascending.
    int64_t (*deciding_candidates)(const GaussianLayer& layer, uint32_t column, int64_t first_pair,
                                   int64_t groups, uint32_t bound, int32_t* offsets);

    // Binary32 estimates of sum_c D[row, c] factors[b, c], D the deciding columns c < span, for
    // the even and the odd rows of row pairs: even, odd (batch, groups * lanes), factors
    // (batch, span). Right to estimate_error(span) |factors[b]|, but for pairs whose largest
    // squared radius, in square_radii (groups * lanes,), reaches far_square_radius.
    void (*estimate_deciding)(const GaussianLayer& layer, int64_t first_pair, int64_t groups,
                              int64_t span, const float* factors, int64_t batch, float* even,
                              float* odd, float* square_radii);

    // x (dim,) <- H_first ... H_{end-1} x with H_h = I - scale_h v_h v_h^T; v is (.., dim).
    void (*reflect)(double* x, int64_t dim, const double* v, const double* scale, int64_t first,
                    int64_t end);

    // exponentials (count,) become the next `count` of the largest, descending.
    void (*largest_folded_normals)(LargestFoldedNormals& largest, double* exponentials,
                                   int64_t count);

    // out (a_count, b_count): differing bits of the codes a (a_count, bytes), b (b_count, bytes).
    void (*hamming_distances)(const uint8_t* a, int64_t a_count, const uint8_t* b, int64_t b_count,
                              int64_t bytes, int32_t* out);
};

// Columns padded to whole Philox blocks.
INFALL_HD constexpr int64_t padded_dim(int64_t dim) { return (dim + 3) / 4 * 4; }

// The table of the instruction set in use.
const RowKernels& row_kernels();

}  // namespace infall
