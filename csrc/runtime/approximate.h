// What the special function units of a device approximate, and how far off they are taken to be:
// four times what NVIDIA's PTX manual states for lg2.approx, sqrt.approx and cos.approx. Only what
// bounds its errors may use them. The emulation errs by as much.
#pragma once

#include <cmath>

#include "runtime/cuda_launch.h"

namespace infall::device {

constexpr double log2_error = 0x1p-20;         // absolute in [1/2, 2], relative elsewhere
constexpr double root_error = 0x1p-21;         // relative
constexpr double cosine_error = 0x1.6a0ap-19;  // absolute in [-2 pi, 2 pi]

// Of a positive normal number.
inline __device__ float approximate_log2(float x) {
#if defined(__CUDACC__)
    float log;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(log) : "f"(x));
    return log;
#else
    const double log = std::log2(static_cast<double>(x));
    return emulation::approximation(x, log, log2_error * std::fmax(1.0, std::fabs(log)));
#endif
}

// Subnormal numbers count as zero; NaN of negative ones.
inline __device__ float approximate_root(float x) {
#if defined(__CUDACC__)
    float root;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
    return root;
#else
    const double root = std::fabs(x) < 0x1p-126f ? 0.0 : std::sqrt(static_cast<double>(x));
    return emulation::approximation(x, root, root_error * root);
#endif
}

inline __device__ float approximate_cosine(float x) {
#if defined(__CUDACC__)
    float cosine;
    asm("cos.approx.ftz.f32 %0, %1;" : "=f"(cosine) : "f"(x));
    return cosine;
#else
    const bool in_range = std::fabs(static_cast<double>(x)) <= 6.283185307179586;
    return emulation::approximation(x, std::cos(static_cast<double>(x)),
                                    in_range ? cosine_error : 1.0);
#endif
}

}  // namespace infall::device
