// Vectors of doubles as wide as the instruction set has them, in the compiler's vector extensions.
// A result must not depend on the width: lane = one independent result, or sums of a fixed number
// of lanes that several vectors make up together.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include "runtime/half.h"
#include "runtime/host_device.h"

namespace infall {
namespace INFALL_ISA {

#if defined(__AVX512F__)
constexpr int double_lanes = 8, vector_registers = 32;
#elif defined(__AVX2__)
constexpr int double_lanes = 4, vector_registers = 16;
#else
constexpr int double_lanes = 2, vector_registers = 16;
#endif

typedef double Doubles __attribute__((vector_size(8 * double_lanes)));
typedef double UnalignedDoubles
    __attribute__((vector_size(8 * double_lanes), aligned(8), may_alias));
typedef float HalfFloats __attribute__((vector_size(4 * double_lanes), aligned(4), may_alias));

INFALL_HD Doubles load_doubles(const double* p) {
    return *reinterpret_cast<const UnalignedDoubles*>(p);
}
INFALL_HD Doubles load_doubles(const float* p) {
#if defined(__AVX512F__)  // GCC 12 converts halves and puts them together
    return _mm512_cvtps_pd(_mm256_loadu_ps(p));
#else
    return __builtin_convertvector(*reinterpret_cast<const HalfFloats*>(p), Doubles);
#endif
}
INFALL_HD Doubles load_doubles(const Float16* p) {
#if defined(__AVX512F__)
    return _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__F16C__)
    return _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
    return Doubles{to_float(p[0]), to_float(p[1])};
#endif
}
INFALL_HD Doubles load_doubles(const BFloat16* p) {
    alignas(64) float values[double_lanes];
#pragma GCC unroll 8
    for (int lane = 0; lane < double_lanes; ++lane) values[lane] = to_float(p[lane]);
    return load_doubles(values);
}
INFALL_HD void store_doubles(double* p, Doubles a) { *reinterpret_cast<UnalignedDoubles*>(p) = a; }
INFALL_HD Doubles broadcast(double a) { return a - Doubles{}; }

// a b + c, rounded once.
INFALL_HD Doubles fused(Doubles a, Doubles b, Doubles c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_pd(a, b, c);
#elif defined(__FMA__)
    return _mm256_fmadd_pd(a, b, c);
#elif defined(__ARM_NEON)
    return vfmaq_f64(c, a, b);
#else
    return Doubles{__builtin_fma(a[0], b[0], c[0]), __builtin_fma(a[1], b[1], c[1])};
#endif
}

}  // namespace INFALL_ISA
}  // namespace infall
