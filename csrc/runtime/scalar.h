// One lane: float, uint32_t and what holds a product of words, on the host and on the device. The
// vectors of simd_*.h have the same functions.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "runtime/host_device.h"

namespace infall {

// a b + c, rounded once.
INFALL_HD double fused(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
    return __fma_rn(a, b, c);
#else
    return std::fma(a, b, c);
#endif
}

INFALL_HD float fused(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
    return __fmaf_rn(a, b, c);
#elif defined(__FMA__) || !defined(__x86_64__)
    return __builtin_fmaf(a, b, c);
#else
    // Without the instruction: the product is exact in binary64; the sum is rounded to odd there
    // (Boldo and Melquiond 2008), after which rounding to binary32 gives the fused result.
    const double product = static_cast<double>(a) * static_cast<double>(b);
    const double addend = static_cast<double>(c);
    double sum = product + addend;
    const double back = sum - product;
    const double error = (product - (sum - back)) + (addend - back);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if ((error < 0.0 || error > 0.0) && (bits & 1u) == 0) {  // not for the NaN of an infinite sum
        bits += ((error > 0.0) == (sum > 0.0)) ? 1u : ~uint64_t{0};
        memcpy(&sum, &bits, sizeof sum);
    }
    return static_cast<float>(sum);
#endif
}

// a b - c and c - a b, rounded once.
INFALL_HD float fused_minus(float a, float b, float c) { return fused(a, b, -c); }
INFALL_HD float minus_fused(float c, float a, float b) { return fused(-a, b, c); }

INFALL_HD double square_root(double x) {
#if defined(__CUDA_ARCH__)
    return __dsqrt_rn(x);
#else
    return std::sqrt(x);
#endif
}

// Of a positive normal number.
INFALL_HD float square_root(float x) {
#if defined(__CUDA_ARCH__)
    // __fsqrt_rn branches to treat all other numbers, which parts the instructions around it. The
    // estimate is right to 2^-22.9, and whichever such number the hardware gives, what follows
    // rounds to the right root: tests/runtime/test_square_root.py goes through them.
    float estimate;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(estimate) : "f"(x));
    float root = __fmul_rn(x, estimate), half = __fmul_rn(0.5f, estimate);
    const float error = __fmaf_rn(-root, half, 0.5f);
    root = __fmaf_rn(root, error, root);
    half = __fmaf_rn(half, error, half);
    return __fmaf_rn(__fmaf_rn(-root, root, x), half, root);
#else
    return std::sqrt(x);
#endif
}

INFALL_HD float to_float(uint32_t word) { return static_cast<float>(word); }
INFALL_HD float to_signed_float(uint32_t word) {
    return static_cast<float>(static_cast<int32_t>(word));
}
INFALL_HD uint32_t shift_left_2(uint32_t word) { return word << 2; }

INFALL_HD uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
INFALL_HD float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
INFALL_HD uint64_t bits_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
// x 2^-n, of a normal number that stays one.
INFALL_HD double lower_exponent(double x, uint64_t n) {
    const uint64_t bits = bits_of(x) - (n << 52);
    memcpy(&x, &bits, sizeof x);
    return x;
}
INFALL_HD double magnitude(double x) { return std::fabs(x); }
INFALL_HD double choose(bool first, double a, double b) { return first ? a : b; }

// x = significand(x) 2^exponent(x), significand in [1, 2), for positive normal x.
INFALL_HD float exponent(float x) {
    return static_cast<float>(static_cast<int32_t>(bits_of(x) >> 23) - 127);
}
INFALL_HD float significand(float x) { return float_of((bits_of(x) & 0x007FFFFFu) | 0x3F800000u); }

INFALL_HD float flip_sign_by_bit31(float x, uint32_t word) {
    return float_of(bits_of(x) ^ (word & 0x80000000u));
}
INFALL_HD double flip_sign_by_bit31(double x, uint32_t word) { return word >> 31 ? -x : x; }
template <class Number>
INFALL_HD void swap_by_bit30(Number& a, Number& b, uint32_t word) {
    const bool swap = (word & 0x40000000u) != 0;
    const Number first = swap ? b : a;
    b = swap ? a : b;
    a = first;
}

// A word beside which there is room for the upper half of a product.
struct ScalarWide {
    uint32_t low, high;
};
INFALL_HD ScalarWide multiply_wide(ScalarWide a, uint32_t multiplier) {
#if defined(__CUDA_ARCH__)
    // One wide product; left to itself, nvcc computes on in 64 bits.
    ScalarWide product;
    asm("{\n\t.reg .u64 p;\n\tmul.wide.u32 p, %2, %3;\n\tmov.b64 {%0, %1}, p;\n\t}"
        : "=r"(product.low), "=r"(product.high)
        : "r"(a.low), "r"(multiplier));
    return product;
#else
    const uint64_t product = static_cast<uint64_t>(a.low) * multiplier;
    return {static_cast<uint32_t>(product), static_cast<uint32_t>(product >> 32)};
#endif
}
INFALL_HD ScalarWide high_half(ScalarWide a) { return {a.high, 0}; }
INFALL_HD ScalarWide xor3(ScalarWide a, ScalarWide b, uint32_t c) { return {a.low ^ b.low ^ c, 0}; }
INFALL_HD ScalarWide xor2(ScalarWide a, ScalarWide b) { return {a.low ^ b.low, 0}; }
INFALL_HD ScalarWide xor2(ScalarWide a, uint32_t b) { return {a.low ^ b, 0}; }

}  // namespace infall
