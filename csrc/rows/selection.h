// Selection of the rows of a layer or matrix with the largest projections.
#pragma once

#include <cstdint>
#include <vector>

#include "rows/candidate.h"
#include "rows/kernels.h"
#include "runtime/parallel.h"

namespace infall {

struct SelectionTask {
    int64_t first_row, end_row;
    int64_t num_rows;
    bool absolute;  // rank by |projection|, else by projection
    int num_threads;
    Watch* watch;
};

// The best num_rows candidates in their total order: score descending, row ascending.
using Selection = std::vector<Candidate>;

// One selection per direction. Only candidates that score at least `threshold` are seen: a result
// shorter than num_rows means that the threshold was too high. w is (batch, padded_dim), zeros
// behind dim.
std::vector<Selection> select_stream(const GaussianLayer& layer, const SelectionTask& task,
                                     const float* w, int64_t batch, float threshold);

// Projections are sum_c D[row, c] factors[c, b], D the deciding columns; factors is (span, batch).
std::vector<Selection> select_rotated(const GaussianLayer& layer, const SelectionTask& task,
                                      const double* factors, int64_t span, int64_t batch,
                                      double threshold);

// The rows of a matrix in memory; w is (batch, dim) of the matrix's own type. Throws NonFinite
// where a projection is not a finite number.
struct NonFinite {
    int64_t row, direction;
};
std::vector<Selection> select_matrix(const MatrixRows& rows, bool is_float64,
                                     const SelectionTask& task, const void* w, int64_t batch);

// The order_statistics sampler's draws: distinct rows of [0, width) and their projections on a unit
// vector, the num_rows largest in magnitude, in their total order.
void draw_order_statistics(const GaussianLayer& layer, int64_t width, int64_t num_rows,
                           int64_t* rows, double* projections, Watch* watch);

// exponentials (count,) become the `count` largest of `width` iid |N(0, 1)|, descending.
void largest_folded_normals(double* exponentials, int64_t count, double width, Watch* watch);

// Directions (batch, dim) of w (batch, dim), and |w| = norms 2^exponents, the exponent that of the
// largest magnitude. For a vector that is zero or not finite norm and direction are NaN.
void unit_vectors(const double* w, int64_t batch, int64_t dim, double* directions, double* norms,
                  int64_t* exponents, Watch* watch);

// Householder reflections H_0 ... H_{span-1} with w^T = H_0 ... H_{span-1} [R; 0] and R's diagonal
// not negative. w is (batch, dim); v (span, dim), scale (span,), factors = R (span, batch) are
// results; span = min(batch, dim).
void householder(const double* w, int64_t batch, int64_t dim, double* v, double* scale,
                 double* factors, Watch* watch);

// out (num_inputs, ceil(num_bits / 8)), bit i of a code: row i of `planes` projects x to >= 0.
// x is (num_inputs, padded_dim).
void hyperplane_codes(const GaussianLayer& planes, const float* x, int64_t num_inputs,
                      int64_t num_bits, int num_threads, Watch* watch, uint8_t* out);

void gaussian_rows(const GaussianLayer& layer, const int64_t* indices, int64_t count,
                   int num_threads, Watch* watch, float* out);

// z (count, dim) float32: rows of the layer, rotated in place; see reflect_row.
// deciding (count, span) are the entries of the deciding columns.
void rotate_rows(float* z, int64_t count, int64_t dim, const double* deciding, const double* v,
                 const double* scale, int64_t span, int num_threads, Watch* watch);

// out (count, span): deciding columns of some rows.
void deciding_entries(const GaussianLayer& layer, const int64_t* rows, int64_t count, int64_t span,
                      int num_threads, Watch* watch, double* out);

void hamming_distances(const uint8_t* a, int64_t a_count, const uint8_t* b, int64_t b_count,
                       int64_t bytes, int num_threads, Watch* watch, int32_t* out);

}  // namespace infall
