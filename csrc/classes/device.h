// The CUDA twins of the class kernels. Every call is asynchronous on `stream` of the current
// device, allocates nothing and reads no result; pointers are device memory. A failed launch
// throws.
#pragma once

#include <cstddef>
#include <cstdint>

#include "classes/geometry.h"
#include "classes/moments.h"
#include "classes/score.h"
#include "runtime/device.h"

namespace infall::device {

// ---------------------------------------------------------------------------------------------
// Moments

// Samples by class: order (num_samples,), in one class as they came, and where in it the samples of
// class c are, starts[c] to starts[c + 1]; starts (num_classes + 1,).
struct ClassOrder {
    int64_t num_samples;
    const int64_t *order, *starts;
};

// Elements of the scratch of accumulate_moments.
int64_t moments_scratch(int64_t num_classes, int64_t dim, int64_t num_samples);

// Adds samples, the same bits as on the host. Entries are not searched for NaN and infinity, which
// make the moments of their class NaN or infinite; a label out of range makes all of them NaN.
void accumulate_moments(const FeatureRows& features, const ClassOrder& samples,
                        const ClassState& state, double* scratch, Stream stream);

// As on the host; neither result may be null.
void class_means(const ClassState& state, int64_t dim, const double* centre, double* means,
                 double* square_offsets, Stream stream);

// out (num_samples, dim) = h - base of its class; base (num_classes, dim). NaN where the label is
// out of range.
void subtract(const FeatureRows& features, int64_t num_samples, const int64_t* labels,
              int64_t num_classes, const void* base, bool base_is_float64, double* out,
              Stream stream);

// sums (num_classes,) of values (num_samples,), in a fixed order.
void sums_by_class(const double* values, const ClassOrder& samples, int64_t num_classes,
                   double* sums, Stream stream);

// ---------------------------------------------------------------------------------------------
// Geometry

// Bytes of workspace of the two calls below, aligned to 8.
size_t geometry_workspace(int64_t classes);

// As infall::pair_geometry, bit for bit. extremes (2,): the least and the largest entry of means.
void pair_geometry(const double* means, const double* variances, const double* extremes,
                   int64_t classes, int64_t dim, void* workspace, const PairTotals& totals,
                   Stream stream);

// As infall::cdnv_block, bit for bit.
void cdnv_block(const double* means, const double* variances, const double* extremes,
                int64_t classes, int64_t dim, int64_t first_class, int64_t end_class,
                void* workspace, double* out, Stream stream);

// ---------------------------------------------------------------------------------------------
// Decisions

// The decisions of one block of samples: these three in turn, the second for each block of classes.
// `Number`, float or double, is what the products are in.

// Bounds of a row as functions of the length of its centred sample.
struct RowBounds {
    double factor, constant;                             // row_factor = factor norm + constant
    double shared_constant, shared_norm, shared_square;  // what all classes have in common
    double longest;                                      // from here on estimates say nothing
};

// out (count, dim) = scale (rows - centre); norms (count,), NaN for a row that is not finite.
template <class Number>
void centre_samples(const FeatureRows& rows, int64_t first, int64_t count, const double* centre,
                    double scale, Number* out, double* norms, Stream stream);

// products (count, classes); the bests are started with the block of class 0.
template <class Number>
void reduce_scores(const Number* products, int64_t count, int64_t classes, int64_t first_class,
                   const double* norms, const RowBounds& rows, const ScoreBounds<Number>& bounds,
                   const RowBests<Number>& bests, Stream stream);

// decisions (count,), -1 for a row that is not finite. Where the bests leave more than one class,
// exact scores of all `classes` decide.
template <class Number>
void decide_samples(int64_t first, int64_t count, int64_t classes, const double* norms,
                    const RowBounds& rows, const RowBests<Number>& bests, const ExactScores& exact,
                    int64_t* decisions, Stream stream);

}  // namespace infall::device
