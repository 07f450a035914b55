// Nearest class mean and largest output of a classifier: what goes before and after the products of
// samples and classes, which a BLAS makes. Products are estimates with a bound; where the bound
// leaves more than one class, float64 sums in a fixed order decide.
#pragma once

#include <cstdint>

#include "classes/score.h"
#include "runtime/parallel.h"

namespace infall {

// Number, float or double, is what the products are in.
template <class Number>
struct DecisionKernelsOf {
    // out (count, rows.dim) = scale (rows - centre), rounded once more if to float; centre (dim,)
    // may be null. square_norms (count,) are those of out. Returns the position i dim + j of the
    // first entry that is not finite, or -1.
    int64_t (*centre)(const FeatureRows& rows, int64_t first, int64_t count, const double* centre,
                      double scale, Number* out, double* square_norms);

    // Takes in a block of classes, `first_class` and those behind it: products (count, classes),
    // row_factors (count,).
    void (*reduce)(const Number* products, int64_t count, int64_t classes, int64_t first_class,
                   const Number* row_factors, const ScoreBounds<Number>& bounds,
                   const RowBests<Number>& bests);

    // Of the classes of a block whose upper bound reaches least[i], the best by the exact scores of
    // sample samples[i]: updates best_scores and best_classes (count,), -1 where there is none yet.
    void (*decide)(const Number* products, int64_t count, int64_t classes, int64_t first_class,
                   const Number* row_factors, const ScoreBounds<Number>& bounds,
                   const Number* least, const int64_t* samples, const ExactScores& exact,
                   double* best_scores, int64_t* best_classes);
};

struct DecisionKernels {
    DecisionKernelsOf<float> float32;
    DecisionKernelsOf<double> float64;
};

// The table of the instruction set in use.
const DecisionKernels& decision_kernels();

// The kernels over threads; `Number` is float or double.

template <class Number>
int64_t centre_rows(const FeatureRows& rows, int64_t first, int64_t count, const double* centre,
                    double scale, int num_threads, Watch* watch, Number* out, double* square_norms);

template <class Number>
void reduce_scores(const Number* products, int64_t count, int64_t classes, int64_t first_class,
                   const Number* row_factors, const ScoreBounds<Number>& bounds, int num_threads,
                   Watch* watch, const RowBests<Number>& bests);

template <class Number>
void decide(const Number* products, int64_t count, int64_t classes, int64_t first_class,
            const Number* row_factors, const ScoreBounds<Number>& bounds, const Number* least,
            const int64_t* samples, const ExactScores& exact, int num_threads, Watch* watch,
            double* best_scores, int64_t* best_classes);

}  // namespace infall
