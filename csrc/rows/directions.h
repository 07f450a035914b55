// Norms, directions, the Householder reflections made of them, and the rotation of a row by these.
// The arithmetic and its order are those of host and device.
#pragma once

#include <cstdint>
#include <cstring>

#include "runtime/host_device.h"
#include "runtime/parallel.h"
#include "runtime/scalar.h"

namespace infall {

// ---------------------------------------------------------------------------------------------
// Norms. Squares and their sum are exact to twice the digits of binary64, and the sum is then
// rounded once; element j goes to partial sum j % norm_lanes, and these are added as a tree.

constexpr int norm_lanes = 256;

struct DoubleDouble {
    double high, low;  // a sum, and what rounding has left out of it
};

// The two-sum of Knuth, whose error is exact.
INFALL_HD void add(DoubleDouble& sum, double term, double term_low) {
    const double high = sum.high + term, back = high - sum.high;
    sum.low += ((sum.high - (high - back)) + (term - back)) + term_low;
    sum.high = high;
}

INFALL_HD void add_square(DoubleDouble& sum, double x) {
    const double square = x * x;
    add(sum, square, fused(x, x, -square));
}

INFALL_HD double length_of(const DoubleDouble& sum_of_squares) {
    return square_root(sum_of_squares.high + sum_of_squares.low);
}

// |x| as an integer, in the order of the magnitudes, infinity and NaN above all numbers.
INFALL_HD uint64_t magnitude_bits(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7FFFFFFFFFFFFFFFu;
}

// Whether a vector with this largest magnitude has a direction: it is finite and not zero.
INFALL_HD bool has_direction(uint64_t largest) {
    return largest > 0 && largest < 0x7FF0000000000000u;
}

// e with x = f 2^e, f in [1/2, 1), for positive finite x.
INFALL_HD int64_t binary_exponent(uint64_t magnitude) {
    const auto biased = static_cast<int64_t>(magnitude >> 52);
    if (biased > 0) return biased - 1022;
    // A subnormal number is an integer times 2^-1074.
    return static_cast<int64_t>(magnitude_bits(static_cast<double>(magnitude)) >> 52) - 1022 - 1074;
}

INFALL_HD double power_of_two(int64_t exponent) {  // -1074 <= exponent <= 1023
    const uint64_t bits = exponent >= -1022 ? static_cast<uint64_t>(exponent + 1023) << 52
                                            : uint64_t{1} << (exponent + 1074);
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

// x 2^-exponent, rounded once, for the exponent of a vector's largest magnitude. A power that is
// out of range is split: numbers scaled up stay exact.
INFALL_HD double scaled_down(double x, int64_t exponent) {
    if (exponent >= -1023) return x * power_of_two(-exponent);
    return x * power_of_two(1023) * power_of_two(-exponent - 1023);
}

// ---------------------------------------------------------------------------------------------
// Reflections H = I - scale v v^T, v zero before `first`.

// x <- H x; element j of x is at x[j * stride].
INFALL_HD void reflect(double* x, int64_t stride, const double* v, double scale, int64_t first,
                       int64_t dim) {
    double dot = 0.0;
    for (int64_t j = first; j < dim; ++j) dot = fused(v[j], x[j * stride], dot);
    const double step = -scale * dot;
    for (int64_t j = first; j < dim; ++j) x[j * stride] = fused(step, v[j], x[j * stride]);
}

// The reflection that takes a column, from component x on, to (norm, 0, ..., 0), norm not negative:
// v is `first` and then, if `has_rest`, the rest of the column, else zeros. Scale 0 stands for the
// identity, as for a column of NaN, which so leaves the others alone.
struct Reflection {
    double first, scale, norm;
    bool has_rest;
};

// `tail` is the sum of the squares behind x.
INFALL_HD Reflection reflection_of(double x, double tail) {
    // Below this a squared length has lost its digits; a part that short is none.
    constexpr double smallest_square = 1e-290;
    if (tail < smallest_square) tail = 0.0;
    Reflection r{0.0, 0.0, square_root(fused(x, x, tail)), tail > 0.0};
    if (tail > 0.0 || x * x >= smallest_square) {
        // The first component in the form that does not cancel.
        r.first = x > 0.0 ? -tail / (x + r.norm) : x - r.norm;
        const double square = fused(r.first, r.first, tail);
        if (square > 0.0) r.scale = 2.0 / square;
    }
    return r;
}

// Row z of the layer in binary64, its first entries from `deciding`; element j is at x[j * stride].
INFALL_HD void load_row(const float* z, int64_t dim, const double* deciding, int64_t reflections,
                        double* x, int64_t stride) {
    for (int64_t j = 0; j < dim; ++j)
        x[j * stride] = j < reflections ? deciding[j] : static_cast<double>(z[j]);
}
INFALL_HD void store_row(const double* x, int64_t stride, int64_t dim, float* z) {
    for (int64_t j = 0; j < dim; ++j) z[j] = static_cast<float>(x[j * stride]);
}

// z <- H_0 H_1 ... z with H_h = I - scale_h v_h v_h^T; v is (reflections, dim), v_h starts at h.
// x is scratch.
INFALL_HD void reflect_row(float* z, int64_t dim, const double* deciding, const double* v,
                           const double* scale, int64_t reflections, double* x, int64_t stride) {
    load_row(z, dim, deciding, reflections, x, stride);
    for (int64_t h = reflections - 1; h >= 0; --h)
        reflect(x, stride, v + h * dim, scale[h], h, dim);
    store_row(x, stride, dim, z);
}

// ---------------------------------------------------------------------------------------------
// Over vectors on the host. Rows are taken by tiles: element j of row i is at x[j * tile_rows + i].

constexpr int64_t tile_rows = 16;

// Of long rows a tile holds one: it stays below 4 MiB, and the work on it is soon done.
inline int64_t tile_width(int64_t dim) { return dim <= int64_t{1} << 15 ? tile_rows : 1; }

// The reflections H_h = I - scale_h v_h v_h^T for h = first, first + step, ..., `count` of them;
// v_h is zero before h.
struct Reflections {
    const double *v, *scale;  // (., dim), (.,)
    int64_t first, step, count;
};

struct DirectionKernels {
    // The first `rows` rows of a tile, from z, whose rows are `stride` apart, or to z (rows, dim);
    // what else a loaded tile has is zero.
    void (*load_tile)(const float* z, int64_t stride, int64_t rows, int64_t columns, double* x);
    void (*store_tile)(const double* x, int64_t rows, int64_t dim, float* z);

    // Each column of x (dim, columns) is reflected by one after the other.
    void (*reflect)(double* x, int64_t columns, const Reflections& reflections, int64_t dim);

    // sum + x_0^2 + x_1^2 ..., in order, each rounded once.
    double (*add_squares)(const double* x, int64_t count, double sum);

    // totals (tile_rows,) += the rows of a tile times w (columns,), in order: products and sums
    // are rounded one by one.
    void (*add_products)(const double* x, int64_t columns, const double* w, double* totals);
};
const DirectionKernels& direction_kernels();

// Directions (batch, dim) of w (batch, dim), and |w| = norms 2^exponents, the exponent that of the
// largest magnitude. For a vector that is zero or not finite norm and direction are NaN.
void unit_vectors(const double* w, int64_t batch, int64_t dim, double* directions, double* norms,
                  int64_t* exponents, Watch* watch);

// out (batch, count) = unit_projections norms 2^exponents, each product rounded.
// Whether all are finite.
bool scale_projections(const double* unit_projections, const double* norms,
                       const int64_t* exponents, int64_t batch, int64_t count, double* out);

// Householder reflections H_0 ... H_{span-1} with w^T = H_0 ... H_{span-1} [R; 0] and R's diagonal
// not negative. w is (batch, dim); v (span, dim), scale (span,), factors = R (span, batch) are
// results; span = min(batch, dim).
void householder(const double* w, int64_t batch, int64_t dim, double* v, double* scale,
                 double* factors, Watch* watch);

// out (count,) = rows (count, dim) times w (dim,), summed column by column in binary64.
void multiply_in_order(const float* rows, int64_t count, int64_t dim, const double* w,
                       int num_threads, Watch* watch, double* out);

}  // namespace infall
