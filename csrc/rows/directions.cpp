#include "rows/directions.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "rows/blocks.h"
#include "runtime/isa.h"
#include "runtime/scratch.h"

namespace infall {

INFALL_KERNEL_TABLES(DirectionKernels, direction_kernels)

namespace {

constexpr int64_t polled_every = 1 << 20;  // entries; a multiple of norm_lanes

}  // namespace

void unit_vectors(const double* w, int64_t batch, int64_t dim, double* directions, double* norms,
                  int64_t* exponents, Watch* watch) {
    const auto in_parts = [&](auto&& body) {
        for (int64_t first = 0; first < dim; first += polled_every) {
            body(first, std::min(first + polled_every, dim));
            if (watch && first + polled_every < dim) watch->poll(0);
        }
    };
    for (int64_t b = 0; b < batch; ++b) {
        const double* x = w + b * dim;
        double* direction = directions + b * dim;
        uint64_t largest = 0;
        in_parts([&](int64_t first, int64_t last) {
            for (int64_t j = first; j < last; ++j)
                largest = std::max(largest, magnitude_bits(x[j]));
        });
        if (!has_direction(largest)) {
            norms[b] = std::numeric_limits<double>::quiet_NaN();
            exponents[b] = 0;
            std::fill(direction, direction + dim, norms[b]);
            continue;
        }
        const int64_t exponent = exponents[b] = binary_exponent(largest);
        DoubleDouble sums[norm_lanes] = {};
        in_parts([&](int64_t first, int64_t last) {
            for (int64_t j = first; j < last; ++j) {
                direction[j] = scaled_down(x[j], exponent);
                add_square(sums[j % norm_lanes], direction[j]);
            }
        });
        for (int half = norm_lanes / 2; half > 0; half /= 2)
            for (int i = 0; i < half; ++i) add(sums[i], sums[i + half].high, sums[i + half].low);
        const double norm = norms[b] = length_of(sums[0]);
        in_parts([&](int64_t first, int64_t last) {
            for (int64_t j = first; j < last; ++j) direction[j] /= norm;
        });
        if (watch && b % 256 == 0) watch->poll(0);
    }
}

bool scale_projections(const double* unit_projections, const double* norms,
                       const int64_t* exponents, int64_t batch, int64_t count, double* out) {
    bool finite = true;
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t i = b * count; i < (b + 1) * count; ++i) {
            out[i] = std::ldexp(unit_projections[i] * norms[b], static_cast<int>(exponents[b]));
            finite &= std::isfinite(out[i]);
        }
    return finite;
}

void householder(const double* w, int64_t batch, int64_t dim, double* v, double* scale,
                 double* factors, Watch* watch) {
    const DirectionKernels& kernels = direction_kernels();
    const int64_t span = std::min(batch, dim);
    // Whole vectors of columns, some of which may not be there.
    const int64_t width = batch == 1 ? 1 : std::min(tile_width(dim), (batch + 7) / 8 * 8);
    std::fill(v, v + span * dim, 0.0);
    std::fill(factors, factors + span * batch, 0.0);
    Scratch<double> tile;
    double* x = tile.of_length(dim * width);
    const int64_t together = std::max<int64_t>(1, part_work / (width * dim));
    // Some vectors at a time are the columns of a tile x (dim, width), to which the reflections of
    // all the vectors before them are applied.
    for (int64_t first = 0; first < batch; first += width) {
        const int64_t columns = std::min(width, batch - first);
        for (int64_t j = 0; j < dim; ++j)
            for (int64_t i = 0; i < width; ++i)
                x[j * width + i] = i < columns ? w[(first + i) * dim + j] : 0.0;
        const int64_t begin = std::min(first, span), end = std::min(first + columns, span);
        for (int64_t h = 0; h < begin; h += together) {
            kernels.reflect(x, width, {v, scale, h, 1, std::min(together, begin - h)}, dim);
            if (watch) watch->poll(0);
        }
        for (int64_t h = begin; h < end; ++h) {
            double *direction = v + h * dim, *entries = x + (h - first);
            for (int64_t j = h; j < dim; ++j) direction[j] = entries[j * width];
            double tail = 0.0;
            for (int64_t part = h + 1; part < dim; part += polled_every) {
                const int64_t part_end = std::min(part + polled_every, dim);
                tail = kernels.add_squares(direction + part, part_end - part, tail);
                if (watch) watch->poll(0);
            }
            const Reflection reflection = reflection_of(direction[h], tail);
            direction[h] = reflection.first;
            if (!reflection.has_rest) std::fill(direction + h + 1, direction + dim, 0.0);
            scale[h] = reflection.scale;
            // The columns before are done: what a reflection does to theirs behind h is not read.
            if (h + 1 < first + columns) kernels.reflect(x, width, {v, scale, h, 1, 1}, dim);
            entries[h * width] = reflection.norm;  // H x, known exactly
        }
        for (int64_t h = 0; h < end; ++h)
            for (int64_t i = std::max<int64_t>(0, h - first); i < columns; ++i)
                factors[h * batch + first + i] = x[h * width + i];
    }
}

void multiply_in_order(const float* rows, int64_t count, int64_t dim, const double* w,
                       int num_threads, Watch* watch, double* out) {
    constexpr int64_t part = 1024;  // columns of a tile: in the second cache
    const DirectionKernels& kernels = direction_kernels();
    run_ranges(
        count, tile_rows, threads_for(total_blocks(count, dim), num_threads),
        [&](int64_t first, int64_t end) {
            alignas(64) double tile[part * tile_rows], totals[tile_rows] = {};
            for (int64_t column = 0; column < dim; column += part) {
                const int64_t columns = std::min(part, dim - column);
                kernels.load_tile(rows + first * dim + column, dim, end - first, columns, tile);
                kernels.add_products(tile, columns, w + column, totals);
            }
            std::copy(totals, totals + (end - first), out + first);
        },
        watch);
}

}  // namespace infall
