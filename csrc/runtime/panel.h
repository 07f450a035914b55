// The inner loop of everything dense: products of pairs of rows in float64, one accumulator
// per pair, columns in order, so that a product does not depend on tiles, threads or instruction
// set.
#pragma once

#include "runtime/vectors.h"

namespace infall::INFALL_ISA {

// Rows of a at a time, and rows of b (a row of b is a lane): as many sums as there are registers.
constexpr int panel_rows = registers == 32 ? 8 : 4;
constexpr int panel_vectors = registers == 32 ? 3 : 2;
constexpr int panel_width = panel_vectors * double_lanes;

// sums[i][k] += sum over j < depth of a_ij b_jk, i < rows, k < vectors * double_lanes, with a_ij at
// a[i * a_row + j * a_column] and b_jk at b[j * b_row + k]; sums with rows sums_stride apart.
template <int rows = panel_rows, int vectors = panel_vectors>
INFALL_HD void add_strided_panel(const double* a, int64_t a_row, int64_t a_column, const double* b,
                                 int64_t b_row, int64_t depth, double* sums, int64_t sums_stride) {
    Double sum[rows][vectors];
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v)
            sum[i][v] = load(sums + i * sums_stride + v * double_lanes);
    for (int64_t j = 0; j < depth; ++j, a += a_column, b += b_row) {
        Double column[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) column[v] = load(b + v * double_lanes);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
            const Double entry = broadcast(a[i * a_row]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) sum[i][v] = fused(entry, column[v], sum[i][v]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v)
            store(sums + i * sums_stride + v * double_lanes, sum[i][v]);
}

// Of rows of a, a_stride apart, and a panel b (depth, vectors * double_lanes).
template <int rows = panel_rows, int vectors = panel_vectors>
INFALL_HD void add_panel(const double* a, int64_t a_stride, const double* b, int64_t depth,
                         double* sums, int64_t sums_stride) {
    add_strided_panel<rows, vectors>(a, a_stride, 1, b, vectors * double_lanes, depth, sums,
                                     sums_stride);
}

}  // namespace infall::INFALL_ISA
