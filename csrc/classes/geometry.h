// Pairwise geometry of class means: one source (geometry_kernels.cpp), compiled once per
// instruction set. Every instruction set, thread count and device gives the same bits.
#pragma once

#include <cstdint>

#include "classes/pairs.h"
#include "runtime/parallel.h"

namespace infall {

// Centred class means and within-class variances. All lengths are taken times `scale`, a power of
// two that brings the largest entry below 1, so that squares neither overflow nor vanish; whatever
// has no unit comes out the same for any scale.
struct ClassGeometry {
    const double* means;  // (classes, dim)
    int64_t classes, dim;
    double scale;
    // (padded_classes,), zeros behind `classes`, in the scaled unit; the inverse norm of a zero
    // mean is 0.
    const double *variances, *square_norms, *inverse_norms;
    double excess;  // 1 / (classes - 1)
    double offset;  // sum of square norms / (classes (classes - 1))
};

constexpr int64_t padded_classes(int64_t classes) {
    return (classes + partner_block - 1) / partner_block * partner_block;
}

// Per class c, over its partners c' > c, with
//   cdnv    V = (variance_c + variance_c') / (2 |m_c - m_c'|^2), infinite where the means coincide,
//   excess  x = cos(m_c, m_c') + 1 / (classes - 1), the unit vector of a zero mean being zero,
//   gram    y = m_c . m_c' + sum |m|^2 / (classes (classes - 1)).
// Without partners sums are 0, a maximum is -inf at class -1, a minimum inf.
struct PairTotals {
    double *cdnv_sum, *cdnv_max, *cdnv_min;
    double *excess_sum, *excess_squares, *excess_max;
    double *gram_sum, *gram_squares;
    int64_t *cdnv_argmax, *excess_argmax;  // the lowest partner that has the maximum
};

struct GeometryKernels {
    // Classes at a time; blocks of classes are best a multiple of it.
    int class_rows;
    // Products this level does in a few milliseconds.
    int64_t block_products;

    // Doubles of scratch for a block of `count` classes.
    int64_t (*scratch_size)(int64_t count);

    double (*largest_magnitude)(const double* values, int64_t count);

    // out[i] = |scale means[i]|^2, columns in order; means (count, dim).
    void (*square_norms)(const double* means, int64_t count, int64_t dim, double scale,
                         double* out);

    // Adds to the totals of classes first_class, ... their partners in blocks [first_block,
    // end_block), which must come in ascending order from one call to the next.
    void (*add_partners)(const ClassGeometry& geometry, int64_t first_class, int64_t count,
                         int64_t first_block, int64_t end_block, const PairTotals& totals,
                         double* scratch);

    // out (count, classes), columns of the partners in one block: the matrix of V, 0 on its
    // diagonal.
    void (*cdnv_partners)(const ClassGeometry& geometry, int64_t first_class, int64_t count,
                          int64_t block, double* out, double* scratch);
};

// The table of the instruction set in use.
const GeometryKernels& geometry_kernels();

// means (classes, dim) with the global mean subtracted, variances (classes,). Progress is counted
// in pairs. Where products of entries leave the range of float64, so do gram sums.
void pair_geometry(const double* means, const double* variances, int64_t classes, int64_t dim,
                   int num_threads, Watch* watch, const PairTotals& totals);

// out (end_class - first_class, classes): rows of the matrix of V, 0 on its diagonal.
void cdnv_block(const double* means, const double* variances, int64_t classes, int64_t dim,
                int64_t first_class, int64_t end_class, int num_threads, Watch* watch, double* out);

}  // namespace infall
