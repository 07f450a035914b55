// The CUDA twins of the row kernels. Every call is asynchronous on `stream` of the current device,
// allocates nothing and reads no result; pointers are device memory. A failed launch throws.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "random/gaussian.h"
#include "runtime/device.h"
#include "runtime/elements.h"

namespace infall::device {

// The twin of infall::unit_vectors.
void unit_vectors(const double* w, int64_t batch, int64_t dim, double* directions, double* norms,
                  int64_t* exponents, Stream stream);

// The twin of infall::householder: w (batch, dim), v (span, dim), scale (span,). The first span
// rows of columns (dim, batch), on and above their diagonal, are the factors; the rest is scratch.
void householder(const double* w, int64_t batch, int64_t dim, double* v, double* scale,
                 double* columns, Stream stream);

// What is selected for a vector without a direction, whose norm is NaN: indices -1, projections
// NaN; both (batch, num_rows).
void discard_undirected(const double* norms, int64_t batch, int64_t num_rows, int64_t* indices,
                        double* projections, Stream stream);

// out (count,) = rows (count, dim) times w (dim,), summed column by column in binary64.
void multiply_in_order(const float* rows, int64_t count, int64_t dim, const double* w, double* out,
                       Stream stream);

// The selections run twice: once with the first threshold, and once more, on the device's own
// decision, with the second where the first let too few or too many candidates pass.
struct DeviceSelection {
    int64_t first_row, end_row;
    int64_t num_rows, batch;
    bool absolute, by_index;
    double first_threshold, second_threshold;
    void* workspace;      // selection_workspace() bytes, aligned to 16
    int64_t* indices;     // (batch, num_rows)
    double* projections;  // (batch, num_rows)
};

size_t selection_workspace(int64_t num_rows, int64_t available_rows, int64_t batch);

// w (batch, padded_dim) with zeros behind dim. Rows are screened where that pays on a unit vector,
// or as `screened` says; several directions are never screened. The selection is the same.
void select_stream(const GaussianLayer& layer, const DeviceSelection& task, const float* w,
                   std::optional<bool> screened, Stream stream);

// For the tests of the screen: estimates (count,) of the projections of the rows first_row, ... on
// w (padded_dim,), and the most that they may be off, margin (1,).
void screen_estimates(const GaussianLayer& layer, int64_t first_row, int64_t count, const float* w,
                      float* estimates, double* margin, Stream stream);

// factors (span, batch): projections are sum_c D[row, c] factors[c, b].
void select_rotated(const GaussianLayer& layer, const DeviceSelection& task, const double* factors,
                    int64_t span, Stream stream);

// A matrix in device memory; strides in elements.
struct DeviceMatrix {
    const void* data;
    ElementType type;
    int64_t rows, dim, row_stride, column_stride;
};

size_t matrix_workspace(int64_t rows, int64_t num_rows, int64_t batch);

// Reads the matrix once, or a second time where the threshold taken from a sample of its rows was
// off. w is (batch, dim), float64 for a float64 matrix and float32 for the others; sums are in the
// type of w. Rows whose projection is NaN are never selected: where no others are left the index is
// -1 and the projection NaN. The task's thresholds are not used.
void select_matrix(const DeviceMatrix& matrix, const DeviceSelection& task, const void* w,
                   Stream stream);

// out (count, dim), in the type of the matrix and C order: its rows; NaN for negative indices.
void gather_rows(const DeviceMatrix& matrix, const int64_t* indices, int64_t count, void* out,
                 Stream stream);

// out (count, span); NaN for negative rows.
void deciding_entries(const GaussianLayer& layer, const int64_t* rows, int64_t count, int64_t span,
                      double* out, Stream stream);

// z (count, dim) in place; scratch (dim, count).
void rotate_rows(float* z, int64_t count, int64_t dim, const double* deciding, const double* v,
                 const double* scale, int64_t span, double* scratch, Stream stream);

// x (num_inputs, padded_dim), out (num_inputs, ceil(num_bits / 8)).
void hyperplane_codes(const GaussianLayer& planes, const float* x, int64_t num_inputs,
                      int64_t num_bits, uint8_t* out, Stream stream);

void hamming_distances(const uint8_t* a, int64_t a_count, const uint8_t* b, int64_t b_count,
                       int64_t bytes, int32_t* out, Stream stream);

}  // namespace infall::device
