// Compiled once per instruction set with INFALL_ISA naming it. No STL templates here: a weak copy
// built for a newer processor could be linked for everyone.
#include "classes/moments.h"
#include "runtime/elements.h"
#include "runtime/lanes.h"
#include "runtime/panel.h"

namespace infall::INFALL_ISA {
namespace {

constexpr int64_t column_chunk = 8 * square_columns;  // columns whose squares are kept at a time
constexpr int row_unroll = 4;                         // samples per pass over the sums
constexpr int64_t depth_tile = 256;                   // columns multiplied at a time

// Columns [0, columns) of `rows` samples; sums and squares are per column.
template <int rows, class T, class Shift>
INFALL_HD void add_rows(const T* const* row, const T* const* next, const Shift* shift,
                        int64_t columns, double* sums, double* squares) {
    int64_t j = 0;
    for (; j + double_lanes <= columns; j += double_lanes) {
        const Double base = load_doubles(shift + j);
        Double sum = load(sums + j), square = load(squares + j);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
            __builtin_prefetch(next[r] + j);
            const Double deviation = load_doubles(row[r] + j) - base;
            sum += deviation;
            square += deviation * deviation;
        }
        store(sums + j, sum);
        store(squares + j, square);
    }
    for (; j < columns; ++j)
        for (int r = 0; r < rows; ++r) {
            const double deviation = to_double(row[r][j]) - to_double(shift[j]);
            sums[j] += deviation;
            squares[j] += deviation * deviation;
        }
}

// The sum of square_columns numbers, in eight fixed lanes.
INFALL_HD double lane_sum(const double* squares) {
    constexpr int parts = 8 / double_lanes;
    Double lanes[parts];
    for (int p = 0; p < parts; ++p) lanes[p] = load(squares + p * double_lanes);
    for (int64_t j = 8; j < square_columns; j += 8)
        for (int p = 0; p < parts; ++p) lanes[p] += load(squares + j + p * double_lanes);
    double s[8];
    for (int p = 0; p < parts; ++p) store(s + p * double_lanes, lanes[p]);
    return total_by_halves(s);
}

template <class T, class Shift>
INFALL_HD void add_samples_of(const T* data, int64_t stride, const int64_t* samples, int64_t count,
                              int64_t first_column, int64_t columns, const Shift* shift,
                              double* sums, double* group_squares) {
    alignas(64) double squares[column_chunk];
    for (int64_t start = 0; start < columns; start += column_chunk) {
        const int64_t left = columns - start;
        const int64_t here = left < column_chunk ? left : column_chunk;
        const int64_t groups = (here + square_columns - 1) / square_columns;
        const int64_t column = first_column + start;
        for (int64_t j = 0; j < groups * square_columns; ++j) squares[j] = 0.0;
        const T *row[row_unroll], *next[row_unroll];
        int64_t i = 0;
        for (; i + row_unroll <= count; i += row_unroll) {
            for (int r = 0; r < row_unroll; ++r) {
                row[r] = data + samples[i + r] * stride + column;
                const int64_t ahead = i + row_unroll + r;
                next[r] = data + samples[ahead < count ? ahead : i + r] * stride + column;
            }
            add_rows<row_unroll>(row, next, shift + column, here, sums + column, squares);
        }
        for (; i < count; ++i) {
            row[0] = data + samples[i] * stride + column;
            next[0] = data + samples[i + 1 < count ? i + 1 : i] * stride + column;
            add_rows<1>(row, next, shift + column, here, sums + column, squares);
        }
        for (int64_t g = 0; g < groups; ++g)
            group_squares[start / square_columns + g] += lane_sum(squares + g * square_columns);
    }
}

void add_samples(const FeatureRows& features, const int64_t* samples, int64_t count,
                 int64_t first_column, int64_t columns, const void* shift, bool shift_is_float64,
                 double* sums, double* squares) {
    with_elements(features.data, features.type, [&](const auto* data) {
        with_floats(shift, shift_is_float64, [&](const auto* origin) {
            add_samples_of(data, features.stride, samples, count, first_column, columns, origin,
                           sums, squares);
        });
    });
}

bool all_finite(const FeatureRows& features, int64_t first, int64_t last) {
    return with_elements(features.data, features.type, [&](const auto* data) {
        // x * 0 is zero, but NaN for NaN and infinity, and so is then every sum with it.
        Double zeros{};
        double tail = 0.0;
        for (int64_t i = first; i < last; ++i) {
            const auto* row = data + i * features.stride;
            int64_t j = 0;
            for (; j + double_lanes <= features.dim; j += double_lanes)
                zeros += load_doubles(row + j) * broadcast(0.0);
            for (; j < features.dim; ++j) tail += to_double(row[j]) * 0.0;
        }
        for (int lane = 0; lane < double_lanes; ++lane) tail += zeros[lane];
        return tail == 0.0;
    });
}

// out = h - base of the class of each sample.
template <class T, class Base>
INFALL_HD void subtract_of(const T* data, int64_t stride, int64_t dim, int64_t first, int64_t count,
                           int64_t first_column, int64_t columns, const int64_t* labels,
                           const Base* base, double* out) {
    for (int64_t i = 0; i < count; ++i, out += columns) {
        const T* row = data + (first + i) * stride + first_column;
        // The columns that are wanted next, after some multiplications.
        const T* ahead = row + (first_column + 2 * columns <= dim ? columns : 0);
        const Base* origin = base + labels[first + i] * dim + first_column;
        int64_t j = 0;
        for (; j + double_lanes <= columns; j += double_lanes) {
            __builtin_prefetch(ahead + j);
            store(out + j, load_doubles(row + j) - load_doubles(origin + j));
        }
        for (; j < columns; ++j) out[j] = to_double(row[j]) - to_double(origin[j]);
    }
}

void subtract(const FeatureRows& features, int64_t first, int64_t count, int64_t first_column,
              int64_t columns, const int64_t* labels, const void* base, bool base_is_float64,
              double* out) {
    with_elements(features.data, features.type, [&](const auto* data) {
        with_floats(base, base_is_float64, [&](const auto* origin) {
            subtract_of(data, features.stride, features.dim, first, count, first_column, columns,
                        labels, origin, out);
        });
    });
}

// rows x columns of a tile of the scatter, a panel of sums or a part of one at the edge.
INFALL_HD void add_scatter_panel(const double* a, const double* b, int64_t depth, double* scatter,
                                 int64_t dim, int64_t rows, int64_t columns) {
    if (rows >= panel_rows && columns >= panel_width) {
        add_strided_panel(a, 1, scatter_panel, b, scatter_panel, depth, scatter, dim);
        return;
    }
    alignas(64) double sums[panel_rows * panel_width] = {};
    if (rows > panel_rows) rows = panel_rows;
    if (columns > panel_width) columns = panel_width;
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t k = 0; k < columns; ++k) sums[i * panel_width + k] = scatter[i * dim + k];
    add_strided_panel(a, 1, scatter_panel, b, scatter_panel, depth, sums, panel_width);
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t k = 0; k < columns; ++k) scatter[i * dim + k] = sums[i * panel_width + k];
}

void add_outer(const double* packed, int64_t count, int64_t dim, int64_t first_i, int64_t first_j,
               double* scatter) {
    static_assert(scatter_panel % panel_rows == 0 && scatter_panel % panel_width == 0,
                  "whole panels");
    constexpr int64_t depth_at_once = 128;  // a panel of b stays in the first cache
    const auto end_of = [dim](int64_t first, int64_t size) {
        return first + size < dim ? first + size : dim;
    };
    const auto entries = [&](int64_t sample, int64_t column) {
        return packed + (column / scatter_panel * count + sample) * scatter_panel +
               column % scatter_panel;
    };
    const int64_t end_i = end_of(first_i, scatter_tile), end_j = end_of(first_j, scatter_tile);
    for (int64_t s = 0; s < count; s += depth_at_once) {
        const int64_t depth = count - s < depth_at_once ? count - s : depth_at_once;
        for (int64_t j = first_j; j < end_j; j += panel_width) {
            // What is below the diagonal is not wanted.
            const int64_t diagonal = end_of(j / scatter_panel * scatter_panel, scatter_panel);
            const int64_t last_i = diagonal < end_i ? diagonal : end_i;
            for (int64_t i = first_i; i < last_i; i += panel_rows)
                add_scatter_panel(entries(s, i), entries(s, j), depth, scatter + i * dim + j, dim,
                                  end_i - i, end_j - j);
        }
    }
}

// Directions go in panels of panel_width, the last of them as narrow as it can be. One or two that
// eight lanes would leave over, as of ten classes, are multiplied one by one, column j in lane j
// % 8.
constexpr int64_t max_singles = 2;
constexpr int lane_vectors = 8 / double_lanes;

struct DirectionLayout {
    int64_t singles, padded;  // directions by themselves, and lanes of the panels of the others

    INFALL_HD explicit DirectionLayout(int64_t count) {
        singles = count % 8 <= max_singles ? count % 8 : 0;
        padded = (count - singles + double_lanes - 1) / double_lanes * double_lanes;
    }
    INFALL_HD int64_t width_of_panel(int64_t first) const {
        return padded - first < panel_width ? padded - first : panel_width;
    }
};

int64_t packed_size(int64_t dim, int64_t count) {
    const DirectionLayout layout(count);
    return (layout.padded + layout.singles) * dim;
}

// Panels (dim, width), then the single directions (singles, dim).
void pack_directions(const double* directions, int64_t dim, int64_t count, double* packed) {
    const DirectionLayout layout(count);
    const int64_t in_panels = count - layout.singles;
    for (int64_t first = 0; first < layout.padded; first += panel_width) {
        const int64_t width = layout.width_of_panel(first);
        for (int64_t j = 0; j < dim; ++j)
            for (int64_t k = 0; k < width; ++k)
                *packed++ = first + k < in_panels ? directions[j * count + first + k] : 0.0;
    }
    for (int64_t k = in_panels; k < count; ++k)
        for (int64_t j = 0; j < dim; ++j) *packed++ = directions[j * count + k];
}

int64_t project_scratch(int64_t count) {
    const DirectionLayout layout(count);
    return projected_rows * (depth_tile + layout.padded + 8 * layout.singles);
}

template <int rows, int vectors>
INFALL_HD void project_panel(const double* tile, const double* panel, int64_t depth, double* sums,
                             int64_t sums_stride) {
    static_assert(projected_rows % rows == 0, "whole panels");
    for (int64_t i = 0; i < projected_rows; i += rows)
        add_panel<rows, vectors>(tile + i * depth, depth, panel, depth, sums + i * sums_stride,
                                 sums_stride);
}

// lanes (projected_rows, 8) += products of the rows of the tile with one direction.
INFALL_HD void project_single(const double* tile, const double* direction, int64_t depth,
                              double* lanes) {
    constexpr int rows = 4;
    for (int64_t i = 0; i < projected_rows; i += rows, tile += rows * depth, lanes += rows * 8) {
        Double sum[rows][lane_vectors];
        for (int r = 0; r < rows; ++r)
            for (int v = 0; v < lane_vectors; ++v)
                sum[r][v] = load(lanes + r * 8 + v * double_lanes);
        int64_t j = 0;
        for (; j + 8 <= depth; j += 8)
#pragma GCC unroll 4
            for (int v = 0; v < lane_vectors; ++v) {
                const Double factor = load(direction + j + v * double_lanes);
#pragma GCC unroll 4
                for (int r = 0; r < rows; ++r)
                    sum[r][v] =
                        fused(load(tile + r * depth + j + v * double_lanes), factor, sum[r][v]);
            }
        for (int r = 0; r < rows; ++r) {
            for (int v = 0; v < lane_vectors; ++v)
                store(lanes + r * 8 + v * double_lanes, sum[r][v]);
            for (int64_t k = j; k < depth; ++k)
                lanes[r * 8 + k - j] =
                    __builtin_fma(tile[r * depth + k], direction[k], lanes[r * 8 + k - j]);
        }
    }
}

void project_samples(const FeatureRows& features, int64_t first, int64_t samples,
                     const int64_t* labels, const void* base, bool base_is_float64,
                     const double* packed, int64_t count, double* scratch, double* projections) {
    const DirectionLayout layout(count);
    const int64_t padded = layout.padded, dim = features.dim;
    double* tile = scratch;                                // (projected_rows, depth)
    double* sums = scratch + projected_rows * depth_tile;  // (projected_rows, padded)
    double* lanes = sums + projected_rows * padded;        // (singles, projected_rows, 8)
    for (int64_t i = 0; i < project_scratch(count); ++i) scratch[i] = 0.0;
    for (int64_t column = 0; column < dim; column += depth_tile) {
        const int64_t depth = dim - column < depth_tile ? dim - column : depth_tile;
        subtract(features, first, samples, column, depth, labels, base, base_is_float64, tile);
        for (int64_t k = 0; k < padded; k += panel_width) {
            const int64_t width = layout.width_of_panel(k);
            const double* panel = packed + k * dim + column * width;
            if (width == double_lanes)
                project_panel<2 * panel_rows, 1>(tile, panel, depth, sums + k, padded);
            else if (panel_vectors == 3 && width == 2 * double_lanes)
                project_panel<panel_rows, 2>(tile, panel, depth, sums + k, padded);
            else
                project_panel<panel_rows, panel_vectors>(tile, panel, depth, sums + k, padded);
        }
        for (int64_t k = 0; k < layout.singles; ++k)
            project_single(tile, packed + (padded + k) * dim + column, depth,
                           lanes + k * projected_rows * 8);
    }
    const int64_t in_panels = count - layout.singles;
    for (int64_t i = 0; i < samples; ++i, projections += count) {
        for (int64_t k = 0; k < in_panels; ++k) projections[k] = sums[i * padded + k];
        for (int64_t k = 0; k < layout.singles; ++k)
            projections[in_panels + k] = total_by_halves(lanes + (k * projected_rows + i) * 8);
    }
}

}  // namespace

extern const MomentKernels moment_kernels{
    add_samples, all_finite,      subtract,        add_outer,
    packed_size, pack_directions, project_scratch, project_samples,
};

}  // namespace infall::INFALL_ISA
