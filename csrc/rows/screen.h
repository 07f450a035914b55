// Screening: rows that an estimate of their projection, from the same random words, rules out are
// never projected exactly. docs/screening.md derives the estimates, and how far off they may be.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "random/gaussian.h"
#include "rows/weights.h"

namespace infall {

// A pair of columns with weights (w_even, w_odd) adds r (w_even a + w_odd b) to a projection: r the
// radius of one word, (a, b) the point of the unit circle of another. The estimate takes another
// radius, and in the place of (a, b) polynomials of the angle word on each of `pieces` parts of the
// circle.
struct ScreenShape {
    int64_t pieces, degree;
    double angle_error;  // most that the polynomials, in real numbers, are away from (a, b)
    double pair_error;   // most that r (a, b) is from the estimate's radius times them
    double rounding;     // of the polynomial for a unit (w_even, w_odd), in units of 2^-24
};

constexpr int64_t screened_rows = 32;  // a multiple of what any level takes at a time

struct ScreenKernels {
    ScreenShape shape;

    // scores (rows): estimated projections of the rows first_row, ... on one direction; `rows` is a
    // multiple of screened_rows. tables are a Screen's.
    void (*estimate)(const GaussianLayer& layer, int64_t first_row, int64_t rows,
                     const Weights& weights, const float* tables, float* scores);

    // Positions i < count with scores[i] (or |scores[i]|) not below the bound, NaN among them,
    // ascending; returns how many.
    int64_t (*not_below)(const float* scores, int64_t count, float bound, bool absolute,
                         int32_t* positions);

    // Of the words first_word, ... (count a multiple of row_multiple): the radius of the estimate.
    void (*radii)(uint32_t first_word, int64_t count, float* estimated_radius);

    // The engine's radius, and (a, b): the same numbers on all levels.
    void (*pairs)(uint32_t first_word, int64_t count, float* radius, float* a, float* b);
};
const ScreenKernels& screen_kernels();
const ScreenKernels& screen_kernels(int level);

// a and b as polynomials of the angle word, read as a signed integer: (degree + 1, pieces), the
// constant terms first.
struct AnglePolynomials {
    std::vector<double> a, b;
};
AnglePolynomials angle_polynomials(const ScreenShape& shape);

// What the bounds of a ScreenShape are bounds of, for the words of a range.
struct ScreenDeviations {
    double angle_error, pair_error;
    int64_t without_estimate;  // radius words that are never ruled out
};
ScreenDeviations screen_deviations(uint32_t first_word, int64_t count);

// Most that an estimate is away from the projection that the engine computes, on one direction.
double screen_margin(const Weights& weights);

// Share of the projections on a unit vector that score above a threshold.
inline double share_above(double threshold, bool absolute) {
    return (absolute ? 1.0 : 0.5) * std::erfc(threshold / std::sqrt(2.0));
}

// Whether a screen pays for `rows` rows on one direction. A screened row takes 0.65 of the time of
// an exact one, or less, and that of the exact one as well where it is not ruled out.
bool is_worth_screening(const Weights& weights, int64_t rows, double threshold, bool absolute);

// The screen of one direction.
class Screen {
  public:
    // The tables of more blocks would leave the caches; directions of so many weights are hardly
    // ever worth screening.
    static constexpr int64_t most_blocks = int64_t{1} << 13;

    // The weights of one direction, at most `most_blocks` blocks of them, have to outlive this.
    explicit Screen(const Weights& weights);
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;

    // Rows whose estimates are below it score below the threshold.
    float bound(double threshold) const;

    // As ScreenKernels::estimate.
    void estimate(const GaussianLayer& layer, int64_t first_row, int64_t rows,
                  float* scores) const {
        kernels_.estimate(layer, first_row, rows, weights_, tables_, scores);
    }

  private:
    const ScreenKernels& kernels_;
    Weights weights_;
    double margin_;
    std::vector<float> memory_;
    const float* tables_;  // (num_blocks, 2, degree + 1, pieces)
};

}  // namespace infall
