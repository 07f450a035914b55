// The CUDA twins of the moment kernels. Every call is asynchronous on `stream` of the current
// device, allocates nothing and reads no result; pointers are device memory.
#pragma once

#include "classes/moments.h"
#include "runtime/device.h"

namespace infall {
namespace device {

// Samples by class: order (num_samples,), in one class as they came, and where in it the samples of
// class c are, starts[c] to starts[c + 1]; starts (num_classes + 1,).
struct ClassOrder {
    int64_t num_samples;
    const int64_t *order, *starts;
};

// Elements of the scratch of accumulate_moments.
int64_t moments_scratch(int64_t num_classes, int64_t dim);

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

}  // namespace device
}  // namespace infall
