// Compiled once per instruction set with INFALL_ISA naming it. No STL templates here: a weak copy
// built for a newer processor could be linked for everyone.
#include <cstring>

#include "rows/accumulate.h"
#include "rows/matrix.h"
#include "runtime/scalar.h"
#include "runtime/vectors.h"

namespace infall::INFALL_ISA {
namespace {

// Sums of `vectors * lanes` rows of a matrix in Fortran order: columns are read contiguously.
template <int vectors>
void project_columns(const float* from, int64_t column_stride, int64_t dim, const float* w,
                     float* sums) {
    Float sum[vectors];
    INFALL_UNROLL
    for (int v = 0; v < vectors; ++v) sum[v] = Float(0.0f);
    for (int64_t j = 0; j < dim; ++j, from += column_stride) {
        const Float weight(w[j]);
        INFALL_UNROLL
        for (int v = 0; v < vectors; ++v) sum[v] = fused(load(from + v * lanes), weight, sum[v]);
    }
    INFALL_UNROLL
    for (int v = 0; v < vectors; ++v) store(sums + v * lanes, sum[v]);
}

// Sums of `lanes` rows in C order: blocks of lanes x lanes are transposed in registers. What is
// needed soon, `lead` elements on, is asked for early: reads across rows are not foreseen.
void project_rows(const float* first, int64_t row_stride, int64_t dim, const float* w, int64_t lead,
                  float* sums) {
    alignas(64) float column[lanes];
    Float columns[lanes];
    Float sum(0.0f);
    int64_t j = 0;
    for (; j + lanes <= dim; j += lanes) {
        INFALL_UNROLL
        for (int r = 0; r < lanes; ++r) __builtin_prefetch(first + r * row_stride + j + lead);
        load_transposed(first + j, row_stride, columns);
        INFALL_UNROLL
        for (int c = 0; c < lanes; ++c) sum = fused(columns[c], Float(w[j + c]), sum);
    }
    for (; j < dim; ++j) {
        for (int r = 0; r < lanes; ++r) column[r] = first[r * row_stride + j];
        sum = fused(load(column), Float(w[j]), sum);
    }
    store(sums, sum);
}

// One row, whatever its strides.
template <class T>
T project_row(const MatrixRows& rows, int64_t row, const T* w) {
    const T* entry = static_cast<const T*>(rows.data) + row * rows.row_stride;
    T sum = 0;
    for (int64_t j = 0; j < rows.dim; ++j, entry += rows.column_stride)
        sum = infall::fused(*entry, w[j], sum);
    return sum;
}

// Groups of `lanes` rows on many directions: entries are transposed once, by tiles.
void project_groups(const MatrixRows& rows, const float* from, int64_t groups, const float* w,
                    int64_t batch, float* scores, int64_t score_stride) {
    alignas(64) float tile[column_tile * group_tile * lanes];
    for (int64_t column = 0; column < rows.dim; column += column_tile) {
        const int64_t columns = rows.dim - column < column_tile ? rows.dim - column : column_tile;
        for (int64_t group = 0; group < groups; ++group) {
            const float* entries =
                from + group * lanes * rows.row_stride + column * rows.column_stride;
            const auto put = [&](int64_t j, Float entries_of_column) {
                store(tile + (j * group_tile + group) * lanes, entries_of_column);
            };
            int64_t j = 0;
            if (rows.row_stride == 1) {
                for (; j < columns; ++j) put(j, load(entries + j * rows.column_stride));
            } else {
                for (; j + lanes <= columns; j += lanes) {
                    Float transposed[lanes];
                    load_transposed(entries + j, rows.row_stride, transposed);
                    INFALL_UNROLL
                    for (int c = 0; c < lanes; ++c) put(j + c, transposed[c]);
                }
                for (; j < columns; ++j) {
                    alignas(64) float entry[lanes];
                    for (int r = 0; r < lanes; ++r) entry[r] = entries[r * rows.row_stride + j];
                    put(j, load(entry));
                }
            }
        }
        accumulate_tile(tile, groups, columns, w + column, rows.dim, batch, scores, score_stride,
                        column > 0);
    }
}

void project_float32(const MatrixRows& rows, int64_t count, const float* w, int64_t batch,
                     float* scores) {
    constexpr int groups_at_once = 8;
    const float* data = static_cast<const float*>(rows.data);
    int64_t row = 0;
    if (batch > 1 && (rows.row_stride == 1 || rows.column_stride == 1)) {
        for (; row + lanes <= count; row += group_tile * lanes) {
            const int64_t groups = (count - row) / lanes;
            project_groups(rows, data + row * rows.row_stride,
                           groups < group_tile ? groups : group_tile, w, batch, scores + row,
                           count);
        }
        row = count / lanes * lanes;
    } else if (rows.row_stride == 1) {
        for (; row + groups_at_once * lanes <= count; row += groups_at_once * lanes)
            project_columns<groups_at_once>(data + row, rows.column_stride, rows.dim, w,
                                            scores + row);
    } else if (rows.column_stride == 1) {
        constexpr int64_t short_row = 1024;
        for (; row + lanes <= count; row += lanes) {
            const bool is_last = row + 2 * lanes > count;
            const int64_t lead = is_last ? 0 : rows.dim <= short_row ? lanes * rows.row_stride : 64;
            project_rows(data + row * rows.row_stride, rows.row_stride, rows.dim, w, lead,
                         scores + row);
        }
    }
    for (; row < count; ++row)
        for (int64_t d = 0; d < batch; ++d)
            scores[d * count + row] = project_row(rows, row, w + d * rows.dim);
}

constexpr int rows_together = 8;  // rows side by side, left to the compiler to vectorise

// Short rows in C order are copied together first: memory is then read line after line.
struct RowBlock {
    static constexpr int64_t short_row = 256;
    alignas(64) double copy[rows_together * short_row];
    const double* from;
    int64_t stride;

    INFALL_HD RowBlock(const double* first, int64_t row_stride, int64_t dim)
        : from(first), stride(row_stride) {
        if (dim > short_row) return;
        for (int r = 0; r < rows_together; ++r)
            memcpy(copy + r * dim, first + r * row_stride,
                   static_cast<size_t>(dim) * sizeof(double));
        from = copy;
        stride = dim;
    }
};

void project_on(const MatrixRows& rows, int64_t count, const double* w, double* scores) {
    const double* data = static_cast<const double*>(rows.data);
    int64_t row = 0;
    for (; row + rows_together <= count; row += rows_together) {
        const double* from = data + row * rows.row_stride;
        double sums[rows_together] = {};
        if (rows.row_stride == 1) {
            for (int64_t j = 0; j < rows.dim; ++j, from += rows.column_stride)
                for (int r = 0; r < rows_together; ++r)
                    sums[r] = infall::fused(from[r], w[j], sums[r]);
        } else if (rows.column_stride == 1) {
            const RowBlock block(from, rows.row_stride, rows.dim);
            for (int64_t j = 0; j < rows.dim; ++j)
                for (int r = 0; r < rows_together; ++r)
                    sums[r] = infall::fused(block.from[r * block.stride + j], w[j], sums[r]);
        } else {
            for (int64_t j = 0; j < rows.dim; ++j, from += rows.column_stride)
                for (int r = 0; r < rows_together; ++r)
                    sums[r] = infall::fused(from[r * rows.row_stride], w[j], sums[r]);
        }
        for (int r = 0; r < rows_together; ++r) scores[row + r] = sums[r];
    }
    for (; row < count; ++row) scores[row] = project_row(rows, row, w);
}

void project_float64(const MatrixRows& rows, int64_t count, const double* w, int64_t batch,
                     double* scores) {
    for (int64_t d = 0; d < batch; ++d)
        project_on(rows, count, w + d * rows.dim, scores + d * count);
}

template <class T>
int64_t passing(const T* scores, int64_t count, double threshold, bool absolute,
                int32_t* positions) {
    constexpr int width = lanes_of<T>;
    const T least = static_cast<T>(threshold);
    // x * 0 is zero, but NaN for NaN and infinity, and so is then every sum with it.
    Vector<T> zeros{};
    T zero = 0;
    int64_t hits = 0, i = 0;
    const auto look_at = [&](int64_t at, T score) {
        positions[hits] = static_cast<int32_t>(at);
        hits += score >= least;
    };
    for (; i + width <= count; i += width) {
        const Vector<T> projections = load_vector(scores + i);
        const Vector<T> ranked =
            absolute ? (projections < T{0} ? -projections : projections) : projections;
        zeros += projections * T{0};
        if (any(ranked >= Vector<T>{} + least))
            for (int lane = 0; lane < width; ++lane) look_at(i + lane, ranked[lane]);
    }
    for (; i < count; ++i) {
        zero += scores[i] * T{0};
        look_at(i, absolute && scores[i] < T{0} ? -scores[i] : scores[i]);
    }
    for (int lane = 0; lane < width; ++lane) zero += zeros[lane];
    return zero == T{0} ? hits : -1;
}

}  // namespace

extern const MatrixKernels matrix_kernels{project_float32, project_float64, passing<float>,
                                          passing<double>};

}  // namespace infall::INFALL_ISA
