// The CUDA twins of the class kernels. Every call is asynchronous on `stream` of the current
// device, allocates nothing and reads no result; pointers are device memory. A failed launch
// throws.
#pragma once

#include <cstddef>
#include <cstdint>

#include "classes/geometry.h"
#include "runtime/device.h"

namespace infall {
namespace device {

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

}  // namespace device
}  // namespace infall
