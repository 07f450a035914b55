// Compiled once per instruction set with INFALL_ISA naming it. No STL templates here: a weak copy
// built for a newer processor could be linked for everyone.
#include "rows/directions.h"
#include "runtime/vectors.h"

namespace infall::INFALL_ISA {
namespace {

// Lane = row: the sums of each are those of one row at a time, and 16 rows hide their latency.
constexpr int tile_vectors = tile_rows / double_lanes;

// Columns of a tile that are transposed together.
constexpr int64_t tile_columns = 16;
static_assert(tile_rows % lanes == 0 && tile_columns % lanes == 0);

// tile[c * tile_rows + i] = z[i * stride + c], c < tile_columns.
INFALL_HD void load_square(const float* z, int64_t stride, float* tile) {
    for (int64_t row = 0; row < tile_rows; row += lanes)
        for (int64_t column = 0; column < tile_columns; column += lanes) {
            Float columns[lanes];
            load_transposed(z + row * stride + column, stride, columns);
            for (int c = 0; c < lanes; ++c)
                store(tile + (column + c) * tile_rows + row, columns[c]);
        }
}

INFALL_HD void store_square(const float* tile, float* z, int64_t dim) {
    for (int64_t row = 0; row < tile_rows; row += lanes)
        for (int64_t column = 0; column < tile_columns; column += lanes) {
            Float rows[lanes];
            load_transposed(tile + column * tile_rows + row, tile_rows, rows);
            for (int r = 0; r < lanes; ++r) store(z + (row + r) * dim + column, rows[r]);
        }
}

void load_tile(const float* z, int64_t stride, int64_t rows, int64_t columns, double* x) {
    int64_t j = 0;
    if (rows == tile_rows)
        for (; j + tile_columns <= columns; j += tile_columns) {
            alignas(64) float tile[tile_columns * tile_rows];
            load_square(z + j, stride, tile);
            for (int64_t k = 0; k < tile_columns * tile_rows; k += double_lanes)
                store(x + j * tile_rows + k, load_doubles(tile + k));
        }
    for (; j < columns; ++j)
        for (int64_t i = 0; i < tile_rows; ++i)
            x[j * tile_rows + i] = i < rows ? static_cast<double>(z[i * stride + j]) : 0.0;
}

void store_tile(const double* x, int64_t rows, int64_t dim, float* z) {
    int64_t j = 0;
    if (rows == tile_rows)
        for (; j + tile_columns <= dim; j += tile_columns) {
            alignas(64) float tile[tile_columns * tile_rows];
            for (int64_t k = 0; k < tile_columns * tile_rows; k += double_lanes)
                store_rounded(tile + k, load_doubles(x + j * tile_rows + k));
            store_square(tile, z + j, dim);
        }
    for (; j < dim; ++j)
        for (int64_t i = 0; i < rows; ++i)
            z[i * dim + j] = static_cast<float>(x[j * tile_rows + i]);
}

// The pass that subtracts one reflection takes the dot products with the next: a tile is read and
// written once for each.
template <int vectors>
INFALL_HD void reflect_vectors(double* x, int64_t stride, const Reflections& reflections,
                               int64_t dim) {
    Double dots[vectors] = {};
    const auto add_dots = [&](const double* v, int64_t j) {
        const Double entry = broadcast(v[j]);
        INFALL_UNROLL
        for (int n = 0; n < vectors; ++n)
            dots[n] = fused(entry, load(x + j * stride + n * double_lanes), dots[n]);
    };
    int64_t h = reflections.first;
    for (int64_t j = h; j < dim; ++j) add_dots(reflections.v + h * dim, j);
    for (int64_t left = reflections.count; left > 0; --left, h += reflections.step) {
        const double* v = reflections.v + h * dim;
        Double steps[vectors];
        INFALL_UNROLL
        for (int n = 0; n < vectors; ++n) {
            steps[n] = broadcast(-reflections.scale[h]) * dots[n];
            dots[n] = Double{};
        }
        const auto subtract = [&](int64_t j) {
            const Double entry = broadcast(v[j]);
            INFALL_UNROLL
            for (int n = 0; n < vectors; ++n) {
                double* target = x + j * stride + n * double_lanes;
                store(target, fused(steps[n], entry, load(target)));
            }
        };
        int64_t j = h;
        if (left > 1) {
            const int64_t next = h + reflections.step;
            const double* next_v = reflections.v + next * dim;
            for (; j < next; ++j) subtract(j);
            for (int64_t i = next; i < h; ++i) add_dots(next_v, i);
            for (; j < dim; ++j) {
                const Double entry = broadcast(v[j]), next_entry = broadcast(next_v[j]);
                INFALL_UNROLL
                for (int n = 0; n < vectors; ++n) {
                    double* target = x + j * stride + n * double_lanes;
                    const Double reflected = fused(steps[n], entry, load(target));
                    store(target, reflected);
                    dots[n] = fused(next_entry, reflected, dots[n]);
                }
            }
        }
        for (; j < dim; ++j) subtract(j);
    }
}

void reflect(double* x, int64_t columns, const Reflections& reflections, int64_t dim) {
    int64_t i = 0;
    for (; i + tile_rows <= columns; i += tile_rows)
        reflect_vectors<tile_vectors>(x + i, columns, reflections, dim);
    for (; i + double_lanes <= columns; i += double_lanes)
        reflect_vectors<1>(x + i, columns, reflections, dim);
    for (; i < columns; ++i)
        for (int64_t n = 0, h = reflections.first; n < reflections.count;
             ++n, h += reflections.step)
            infall::reflect(x + i, columns, reflections.v + h * dim, reflections.scale[h], h, dim);
}

double add_squares(const double* x, int64_t count, double sum) {
    for (int64_t j = 0; j < count; ++j) sum = infall::fused(x[j], x[j], sum);
    return sum;
}

void add_products(const double* x, int64_t columns, const double* w, double* totals) {
    Double sums[tile_vectors];
    INFALL_UNROLL
    for (int n = 0; n < tile_vectors; ++n) sums[n] = load_doubles(totals + n * double_lanes);
    for (int64_t j = 0; j < columns; ++j) {
        const Double weight = broadcast(w[j]);
        INFALL_UNROLL
        for (int n = 0; n < tile_vectors; ++n)
            sums[n] = sums[n] + load_doubles(x + j * tile_rows + n * double_lanes) * weight;
    }
    INFALL_UNROLL
    for (int n = 0; n < tile_vectors; ++n) store(totals + n * double_lanes, sums[n]);
}

}  // namespace

extern const DirectionKernels direction_kernels{load_tile, store_tile, reflect, add_squares,
                                                add_products};

}  // namespace infall::INFALL_ISA
