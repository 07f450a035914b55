#include "rows/screen.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>

#include "rows/screen_tables.h"
#include "runtime/isa.h"

namespace infall {

INFALL_KERNEL_TABLES(ScreenKernels, screen_kernels)

namespace {

constexpr double pi = 3.14159265358979323846;

// The words of one of `pieces` equal parts, and the angles that normal.h gives them.
struct Piece {
    double middle;  // the word halfway
    double angle;   // its angle
    double rate;    // of the angle from one word to the next

    Piece(int64_t number, int64_t pieces) {
        const uint32_t length = static_cast<uint32_t>((uint64_t{1} << 32) / pieces);
        const uint32_t word = static_cast<uint32_t>(number) * length + length / 2;
        const bool swapped = word >> 30 & 1, opposite = word >> 31;
        middle = static_cast<int32_t>(word);
        angle = static_cast<int32_t>(word << 2) * (pi * 0x1p-33);
        rate = pi * 0x1p-31;
        if (swapped) {
            angle = pi / 2 - angle;
            rate = -rate;
        }
        if (opposite) angle += pi;
    }
};

// x (radial - bend t^2) + y tangential t for t = rate (word - middle), in powers of the word.
void expand(const ArcFit& fit, const Piece& piece, double x, double y, double* coefficient,
            const ScreenShape& shape) {
    const double slope = y * fit.tangential * piece.rate;
    const double curve = -x * fit.bend * piece.rate * piece.rate;
    coefficient[0] = x * fit.radial - slope * piece.middle + curve * piece.middle * piece.middle;
    coefficient[shape.pieces] = slope - 2.0 * curve * piece.middle;
    if (shape.degree == 2) coefficient[2 * shape.pieces] = curve;
}

double length_of(const float* pair) {
    return std::hypot(static_cast<double>(pair[0]), static_cast<double>(pair[1]));
}

// Of each pair of columns, w_even a + w_odd b.
void tabulate(const ScreenShape& shape, const Weights& weights, float* table) {
    const AnglePolynomials polynomials = angle_polynomials(shape);
    const size_t size = polynomials.a.size();
    for (int64_t column = 0; column < 4 * weights.num_blocks; column += 2, table += size) {
        const double even = weights.w[column], odd = weights.w[column + 1];
        for (size_t i = 0; i < size; ++i)
            table[i] = static_cast<float>(even * polynomials.a[i] + odd * polynomials.b[i]);
    }
}

constexpr int64_t max_degree = 2;

}  // namespace

AnglePolynomials angle_polynomials(const ScreenShape& shape) {
    const size_t size = static_cast<size_t>((shape.degree + 1) * shape.pieces);
    AnglePolynomials polynomials{std::vector<double>(size), std::vector<double>(size)};
    const ArcFit& fit = shape.degree == 1 ? arcs_of_32nds : arcs_of_eighths;
    for (int64_t i = 0; i < shape.pieces; ++i) {
        const Piece piece(i, shape.pieces);
        const double cosine = std::cos(piece.angle), sine = std::sin(piece.angle);
        expand(fit, piece, cosine, -sine, polynomials.a.data() + i, shape);
        expand(fit, piece, sine, cosine, polynomials.b.data() + i, shape);
    }
    return polynomials;
}

ScreenDeviations screen_deviations(uint32_t first_word, int64_t count) {
    constexpr size_t some = 4096;   // words of one piece
    constexpr size_t together = 8;  // maxima, so that the compiler takes them in vectors
    const ScreenKernels &kernels = screen_kernels(),
                        &engine = screen_kernels(available_isas().front().level);
    const ScreenShape& shape = kernels.shape;
    const AnglePolynomials polynomials = angle_polynomials(shape);
    std::vector<float> radius(some), estimate(some), a(some), b(some);
    double angle_errors[together] = {}, pair_errors[together] = {};
    int64_t without_estimate = 0;
    for (int64_t done = 0; done < count; done += int64_t{some}) {
        const uint32_t first = first_word + static_cast<uint32_t>(done);
        kernels.radii(first, some, estimate.data());
        engine.pairs(first, some, radius.data(), a.data(), b.data());
        double of_a[max_degree + 1] = {}, of_b[max_degree + 1] = {};
        for (int64_t power = 0; power <= shape.degree; ++power) {
            const int64_t piece = int64_t{first} * shape.pieces >> 32;
            const size_t place = static_cast<size_t>(piece + power * shape.pieces);
            of_a[power] = polynomials.a[place];
            of_b[power] = polynomials.b[place];
        }
        for (size_t i = 0; i < some; i += together) {
            for (size_t j = 0; j < together; ++j) {
                const double angle = static_cast<int32_t>(first + static_cast<uint32_t>(i + j));
                const double x = a[i + j] - ((of_a[2] * angle + of_a[1]) * angle + of_a[0]);
                const double y = b[i + j] - ((of_b[2] * angle + of_b[1]) * angle + of_b[0]);
                const double squares = x * x + y * y;
                angle_errors[j] = squares > angle_errors[j] ? squares : angle_errors[j];
                const double estimated = estimate[i + j];
                const double away = std::fabs(static_cast<double>(radius[i + j]) - estimated);
                const double pair =
                    away * (1.0 + 0x1p-22) + std::fabs(estimated) * shape.angle_error;
                pair_errors[j] = pair > pair_errors[j] ? pair : pair_errors[j];  // not NaN
            }
        }
        for (const float estimated : estimate) without_estimate += std::isnan(estimated);
    }
    const double angle_error = *std::max_element(angle_errors, angle_errors + together);
    return {std::sqrt(angle_error), *std::max_element(pair_errors, pair_errors + together),
            without_estimate};
}

Screen::Screen(const Weights& weights)
    : kernels_(screen_kernels()), weights_(weights), margin_(screen_margin(weights)) {
    constexpr size_t vector = 64;  // bytes that tables are aligned to
    const ScreenShape& shape = kernels_.shape;
    const int64_t size = 2 * weights.num_blocks * (shape.degree + 1) * shape.pieces;
    memory_.resize(static_cast<size_t>(size) + vector / sizeof(float));
    void* start = memory_.data();
    size_t space = memory_.size() * sizeof(float);
    auto* tables = static_cast<float*>(std::align(vector, space - vector, start, space));
    tabulate(shape, weights, tables);
    tables_ = tables;
}

float Screen::bound(double threshold) const {
    return std::nextafter(static_cast<float>(threshold - margin_),
                          -std::numeric_limits<float>::infinity());
}

// docs/screening.md, term by term.
double screen_margin(const Weights& weights) {
    const ScreenShape& shape = screen_kernels().shape;
    constexpr double unit = 0x1p-24, largest_radius = 6.78;
    double lengths = 0.0, pairs = 0.0;
    for (int64_t column = 0; column < 4 * weights.num_blocks; column += 2) {
        const double length = length_of(weights.w + column);
        lengths += length;
        pairs += length > 0.0 ? 1.0 : 0.0;
    }
    const double products = largest_radius * unit;
    const double polynomials = largest_radius * shape.rounding * unit;
    const double sums = 6.9 * (4.0 * pairs + 8.0) * unit;
    return 1.000001 * lengths * (shape.pair_error + products + polynomials + sums) + 1e-30;
}

bool is_worth_screening(const Weights& weights, int64_t rows, double threshold, bool absolute) {
    constexpr int64_t tabulating = 256;  // rows that take as long as the tables
    if (rows < tabulating) return false;
    return share_above(threshold - screen_margin(weights), absolute) < 0.15;
}

}  // namespace infall
