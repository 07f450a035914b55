// The rotation of one row, for host and device.
#pragma once

#include <cstdint>

#include "rows/directions.h"
#include "runtime/host_device.h"

namespace infall {

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

}  // namespace infall
