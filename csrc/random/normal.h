// Standard normals from random words by Box and Muller (1958).
//
// `BoxMuller` turns a radius word and an angle word into two binary32 normals. It is written once,
// over a float type F and a word type W: float and uint32_t in scalar and device code, vectors of
// them in the SIMD kernels. Every operation is an IEEE operation rounded to nearest, in a fixed
// order, so that all of them give the same bits. docs/random-rows.md states the mapping.
//
// Error against the exact value for the same rounded radius and angle: below 2 ulp.
#pragma once

#include <cstdint>
#include <cstring>

#include "random/philox.h"
#include "random/streams.h"
#include "runtime/host_device.h"
#include "runtime/scalar.h"

namespace infall {

// F is constructible from float (a vector type broadcasts).
template <class F>
struct NormalCoefficients {
    // Twice the uniform, U = fma(word, radius_scale, radius_offset): all 32 bits of small words
    // are kept, and U stays in [2^-32, 2).
    F radius_scale{0x1.fffffep-32f};
    F radius_offset{0x1p-32f};
    F two{2.0f};
    F two_ln2{0x1.62e430p+0f};
    // -2 ln(1 + g/2) = -g + g^2 (q0 + q1 g + ... + q8 g^8) on [-1, 0), minimax, 0.06 * 2^-24.
    F q0{0x1.00001ep-2f}, q1{-0x1.5542f6p-4f}, q2{0x1.01e9dap-5f}, q3{-0x1.6830e8p-7f};
    F q4{0x1.5c3ae6p-7f}, q5{0x1.2f3e04p-7f}, q6{0x1.f88f2ep-7f}, q7{0x1.3cfc78p-7f};
    F q8{0x1.be5254p-9f};
    F angle_scale{0x1.921fb6p-32f};  // pi 2^-33
    // sin d = d + d^3 (s0 + s1 d^2 + s2 d^4), cos d = 1 + d^2 (c0 + ... + c3 d^6), |d| <= pi/4.
    F s0{-0x1.555546p-3f}, s1{0x1.110778p-7f}, s2{-0x1.995408p-13f};
    F c0{-0.5f}, c1{0x1.55554ap-5f}, c2{-0x1.6c0c28p-10f}, c3{0x1.99e80cp-16f};
    F one{1.0f};
};

// Eight stages of about equal length: a kernel runs them between the rounds of the Philox block
// that follows, because one is bound by multiplications and the other by shifts and logic.
template <class F, class W>
struct BoxMuller {
    F g, e, q, d, y, s, c, t;
    W angle;

    INFALL_HD void stage0(W radius_word, W angle_word, const NormalCoefficients<F>& k) {
        const F u = fused(to_float(radius_word), k.radius_scale, k.radius_offset);
        angle = angle_word;
        d = to_signed_float(shift_left_2(angle)) * k.angle_scale;
        e = exponent(u);
        g = significand(u) - k.two;
    }
    INFALL_HD void stage1(const NormalCoefficients<F>& k) {
        q = fused(k.q8, g, k.q7);
        y = d * d;
        q = fused(q, g, k.q6);
    }
    INFALL_HD void stage2(const NormalCoefficients<F>& k) {
        q = fused(q, g, k.q5);
        s = fused(k.s2, y, k.s1);
        q = fused(q, g, k.q4);
    }
    INFALL_HD void stage3(const NormalCoefficients<F>& k) {
        q = fused(q, g, k.q3);
        c = fused(k.c3, y, k.c2);
        q = fused(q, g, k.q2);
        s = fused(s, y, k.s0);
    }
    INFALL_HD void stage4(const NormalCoefficients<F>& k) {
        q = fused(q, g, k.q1);
        t = g * g;
        c = fused(c, y, k.c1);
        q = fused(q, g, k.q0);
    }
    INFALL_HD void stage5(const NormalCoefficients<F>& k) {
        g = fused_minus(t, q, g);  // -2 ln of the significand, in [0, 2 ln 2]
        t = d * y;
        c = fused(c, y, k.c0);
        g = minus_fused(g, e, k.two_ln2);
    }
    INFALL_HD void stage6(const NormalCoefficients<F>& k) {
        g = square_root(g);
        s = fused(t, s, d);
        c = fused(c, y, k.one);
    }
    INFALL_HD void stage7(F& z_even, F& z_odd) {
        const F r = flip_sign_by_bit31(g, angle);
        swap_by_bit30(c, s, angle);
        z_even = r * c;
        z_odd = r * s;
    }

    template <int Stage>
    INFALL_HD void middle_stage(const NormalCoefficients<F>& k) {
        if constexpr (Stage == 1) stage1(k);
        if constexpr (Stage == 2) stage2(k);
        if constexpr (Stage == 3) stage3(k);
        if constexpr (Stage == 4) stage4(k);
        if constexpr (Stage == 5) stage5(k);
        if constexpr (Stage == 6) stage6(k);
    }
};

template <class F, class W>
INFALL_HD void box_muller(W radius_word, W angle_word, const NormalCoefficients<F>& k, F& z_even,
                          F& z_odd) {
    BoxMuller<F, W> b;
    b.stage0(radius_word, angle_word, k);
    b.stage1(k);
    b.stage2(k);
    b.stage3(k);
    b.stage4(k);
    b.stage5(k);
    b.stage6(k);
    b.stage7(z_even, z_odd);
}

// ---------------------------------------------------------------------------------------------
// binary64, for the streams in which a single normal decides: a 64-bit radius has no tail to miss
// up to 2^64 rows. Evaluated for the few candidates only, so that plain series are good enough.

// 2 artanh s = 2 s + s^3 artanh_series(s^2) for |s| < 0.1716; eleven terms reach 2^-56.
INFALL_HD double artanh_series(double z) {
    double p = 2.0 / 23;
    p = fused(p, z, 2.0 / 21);
    p = fused(p, z, 2.0 / 19);
    p = fused(p, z, 2.0 / 17);
    p = fused(p, z, 2.0 / 15);
    p = fused(p, z, 2.0 / 13);
    p = fused(p, z, 2.0 / 11);
    p = fused(p, z, 2.0 / 9);
    p = fused(p, z, 2.0 / 7);
    p = fused(p, z, 2.0 / 5);
    return fused(p, z, 2.0 / 3);
}

INFALL_HD double natural_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint64_t sqrt_half = 0x3FE6A09E667F3BCDu;
    const int64_t exponent_bits = static_cast<int64_t>(bits - sqrt_half) >> 52;
    bits -= static_cast<uint64_t>(exponent_bits) << 52;
    double m;  // in [sqrt 1/2, sqrt 2)
    memcpy(&m, &bits, sizeof m);
    const double s = (m - 1.0) / (m + 1.0);  // ln m = 2 artanh s
    const double z = s * s;
    const double k = static_cast<double>(exponent_bits);
    const double low = k * 0x1.abc9e3b39803fp-56;  // of k ln 2
    const double tail = fused(s * z, artanh_series(z), low);
    return fused(k, 0x1.62e42fefa39efp-1, fused(2.0, s, tail));
}

INFALL_HD double uniform64(uint64_t word) {
    return fused(static_cast<double>(word), 0x1p-64, 0x1p-65);
}

// -ln((word + 1/2) 2^-64), from 2^-65 to 45, small ones by the distance to 1, which keeps their
// digits.
INFALL_HD double exponential64(uint64_t word) {
    const double rest = uniform64(~word);
    if (rest > 0.29) return -natural_log(uniform64(word));
    const double s = rest / (2.0 - rest);  // -ln(1 - rest) = 2 artanh s
    const double z = s * s;
    return fused(2.0, s, s * z * artanh_series(z));
}

INFALL_HD void box_muller64(uint64_t radius_word, uint32_t angle_word, double& z_even,
                            double& z_odd) {
    const double r = square_root(2.0 * exponential64(radius_word));
    const double d =
        static_cast<double>(static_cast<int32_t>(angle_word << 2)) * 0x1.921fb54442d18p-32;
    const double y = d * d;
    double s = 1.0 / 355687428096000;  // 1/17!
    s = fused(s, y, -1.0 / 1307674368000);
    s = fused(s, y, 1.0 / 6227020800);
    s = fused(s, y, -1.0 / 39916800);
    s = fused(s, y, 1.0 / 362880);
    s = fused(s, y, -1.0 / 5040);
    s = fused(s, y, 1.0 / 120);
    s = fused(s, y, -1.0 / 6);
    s = fused(d * y, s, d);
    double c = 1.0 / 20922789888000;  // 1/16!
    c = fused(c, y, -1.0 / 87178291200);
    c = fused(c, y, 1.0 / 479001600);
    c = fused(c, y, -1.0 / 3628800);
    c = fused(c, y, 1.0 / 40320);
    c = fused(c, y, -1.0 / 720);
    c = fused(c, y, 1.0 / 24);
    c = fused(c, y, -0.5);
    c = fused(c, y, 1.0);
    const bool swap = (angle_word >> 30) & 1u;
    const double sign = (angle_word >> 31) ? -r : r;
    z_even = sign * (swap ? s : c);
    z_odd = sign * (swap ? c : s);
}

// The pair of normals of deciding column `column` for rows 2 pair and 2 pair + 1.
INFALL_HD void deciding_pair(uint64_t pair, uint32_t column, uint32_t layer, PhiloxKey key,
                             double& z_even, double& z_odd) {
    const PhiloxBlock b = philox4x32_10(pair, deciding_columns + column, layer, key);
    box_muller64((static_cast<uint64_t>(b.w[0]) << 32) | b.w[2], b.w[1], z_even, z_odd);
}

}  // namespace infall
