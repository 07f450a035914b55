// The samplers in which a rotation lets a few columns decide: rotated and order_statistics.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "random/folded_normal.h"
#include "random/gaussian.h"
#include "rows/selection.h"
#include "runtime/host_device.h"
#include "runtime/parallel.h"

namespace infall {

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

// Ranges of pairs are as long as in stream.h.
struct RotationKernels {
    // Row pairs p of the deciding stream, first_pair <= p < first_pair + pairs, whose radius word
    // (upper half) is at most `bound`: offsets from first_pair, ascending.
    int64_t (*deciding_candidates)(const GaussianLayer& layer, uint32_t column, int64_t first_pair,
                                   int64_t pairs, uint32_t bound, int32_t* offsets);

    // Binary32 estimates of sum_c D[row, c] factors[b, c], D the deciding columns c < span, for
    // the even and the odd rows of row pairs: even, odd (batch, pairs), factors (batch, span).
    // Right to estimate_error(span) |factors[b]|, but for pairs whose largest squared radius, in
    // square_radii (pairs,), reaches far_square_radius.
    void (*estimate_deciding)(const GaussianLayer& layer, int64_t first_pair, int64_t pairs,
                              int64_t span, const float* factors, int64_t batch, float* even,
                              float* odd, float* square_radii);

    // out (count, span): deciding columns of some rows.
    void (*deciding_entries)(const GaussianLayer& layer, const int64_t* rows, int64_t count,
                             int64_t span, double* out);

    // exponentials (count,) become the next `count` of the largest, descending.
    void (*largest_folded_normals)(LargestFoldedNormals& largest, double* exponentials,
                                   int64_t count);
};
const RotationKernels& rotation_kernels();

// Projections are sum_c D[row, c] factors[c, b], D the deciding columns; factors is (span, batch).
// One selection per direction, of candidates that score at least `threshold`.
std::vector<Selection> select_rotated(const GaussianLayer& layer, const SelectionTask& task,
                                      const double* factors, int64_t span, int64_t batch,
                                      double threshold);

// The order_statistics sampler's draws: distinct rows of [0, width) and their projections on a unit
// vector, the num_rows largest in magnitude, in their total order.
void draw_order_statistics(const GaussianLayer& layer, int64_t width, int64_t num_rows,
                           int64_t* rows, double* projections, Watch* watch);

// exponentials (count,) become the `count` largest of `width` iid |N(0, 1)|, descending.
void largest_folded_normals(double* exponentials, int64_t count, double width, Watch* watch);

// z (count, dim) float32: rows of the layer, rotated in place; see reflect_row.
// deciding (count, span) are the entries of the deciding columns.
void rotate_rows(float* z, int64_t count, int64_t dim, const double* deciding, const double* v,
                 const double* scale, int64_t span, int num_threads, Watch* watch);

// out (count, span): deciding columns of some rows.
void deciding_entries(const GaussianLayer& layer, const int64_t* rows, int64_t count, int64_t span,
                      int num_threads, Watch* watch, double* out);

}  // namespace infall
