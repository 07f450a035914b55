#include "rows/directions.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "rows/rotation.h"

namespace infall {
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

void householder(const double* w, int64_t batch, int64_t dim, double* v, double* scale,
                 double* factors, Watch* watch) {
    const RotationKernels& kernels = rotation_kernels();
    const int64_t span = std::min(batch, dim);
    std::vector<double> work(w, w + batch * dim);  // (batch, dim): columns of w^T
    std::fill(v, v + span * dim, 0.0);
    for (int64_t h = 0; h < span; ++h) {
        double* x = work.data() + h * dim;
        double tail = 0.0;
        for (int64_t j = h + 1; j < dim; ++j) {
            tail = fused(x[j], x[j], tail);
            if (watch && j % polled_every == 0) watch->poll(0);
        }
        const Reflection reflection = reflection_of(x[h], tail);
        double* direction = v + h * dim;
        direction[h] = reflection.first;
        if (reflection.has_rest) std::copy(x + h + 1, x + dim, direction + h + 1);
        scale[h] = reflection.scale;
        for (int64_t b = h + 1; b < batch; ++b) {
            kernels.reflect(work.data() + b * dim, dim, v, scale, h, h + 1);
            if (watch) watch->poll(0);
        }
        x[h] = reflection.norm;  // H x, known exactly
    }
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t h = 0; h < span; ++h)
            factors[h * batch + b] = h <= b ? work[static_cast<size_t>(b * dim + h)] : 0.0;
}

}  // namespace infall
