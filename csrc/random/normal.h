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

// One pair of normals, by the formulas of docs/random-rows.md for U, r, d and (a, b):
//
//     U = 2^e (2 + g)         r = sqrt(-2 ln(1 + g/2) - 2 e ln 2)         (a, b) = (cos d, sin d)
//
// in eight stages of about equal length. A kernel runs them between the rounds of the Philox block
// that follows, because one is bound by multiplications and the other by shifts and logic; GCC
// keeps that order under -fno-schedule-insns2. The three series are summed from their last terms.
template <class F, class W>
struct BoxMuller {
    W angle_word;
    F e, g, g_squared;     // g in [-1, 0)
    F log_series;          // q0 + q1 g + ... + q8 g^8
    F log_of_significand;  // -2 ln(1 + g/2), in [0, 2 ln 2]
    F squared_radius, radius;
    F d, d_squared, d_cubed;
    F sine_series, sine;      // s0 + s1 d^2 + s2 d^4
    F cosine_series, cosine;  // c0 + c1 d^2 + c2 d^4 + c3 d^6

    // The words: U as its exponent and significand, and the angle.
    INFALL_HD void stage0(W radius_word, W angle_word_, const NormalCoefficients<F>& k) {
        const F u = fused(to_float(radius_word), k.radius_scale, k.radius_offset);
        angle_word = angle_word_;
        d = to_signed_float(shift_left_2(angle_word)) * k.angle_scale;
        e = exponent(u);
        g = significand(u) - k.two;
    }

    template <int stage>
    INFALL_HD void middle_stage(const NormalCoefficients<F>& k) {
        if constexpr (stage == 1) {  // the series of the logarithm begins
            log_series = fused(k.q8, g, k.q7);
            d_squared = d * d;
            log_series = fused(log_series, g, k.q6);
        } else if constexpr (stage == 2) {  // that of the sine begins
            log_series = fused(log_series, g, k.q5);
            sine_series = fused(k.s2, d_squared, k.s1);
            log_series = fused(log_series, g, k.q4);
        } else if constexpr (stage == 3) {  // that of the cosine begins, that of the sine ends
            log_series = fused(log_series, g, k.q3);
            cosine_series = fused(k.c3, d_squared, k.c2);
            log_series = fused(log_series, g, k.q2);
            sine_series = fused(sine_series, d_squared, k.s0);
        } else if constexpr (stage == 4) {  // the series of the logarithm ends
            log_series = fused(log_series, g, k.q1);
            g_squared = g * g;
            cosine_series = fused(cosine_series, d_squared, k.c1);
            log_series = fused(log_series, g, k.q0);
        } else if constexpr (stage == 5) {  // the logarithm, and what is left of the series
            log_of_significand = fused_minus(g_squared, log_series, g);
            d_cubed = d * d_squared;
            cosine_series = fused(cosine_series, d_squared, k.c0);
            squared_radius = minus_fused(log_of_significand, e, k.two_ln2);
        } else if constexpr (stage == 6) {  // the radius, the sine and the cosine
            radius = square_root(squared_radius);
            sine = fused(d_cubed, sine_series, d);
            cosine = fused(cosine_series, d_squared, k.one);
        }
    }

    // The quarter turn of bit 30 and the half turn of bit 31, and the normals.
    INFALL_HD void stage7(F& z_even, F& z_odd) {
        const F signed_radius = flip_sign_by_bit31(radius, angle_word);
        F a = cosine, b = sine;
        swap_by_bit30(a, b, angle_word);
        z_even = signed_radius * a;
        z_odd = signed_radius * b;
    }
};

template <class F, class W>
INFALL_HD void box_muller(W radius_word, W angle_word, const NormalCoefficients<F>& k, F& z_even,
                          F& z_odd) {
    BoxMuller<F, W> pair;
    pair.stage0(radius_word, angle_word, k);
    pair.template middle_stage<1>(k);
    pair.template middle_stage<2>(k);
    pair.template middle_stage<3>(k);
    pair.template middle_stage<4>(k);
    pair.template middle_stage<5>(k);
    pair.template middle_stage<6>(k);
    pair.stage7(z_even, z_odd);
}

// ---------------------------------------------------------------------------------------------
// binary64, for the streams in which a single normal decides: a 64-bit radius has no tail to miss
// up to 2^64 rows. Plain series are good enough: few numbers are made. D is double and W uint64_t,
// or vectors of them.

// 2 artanh x = 2 x + x^3 artanh_series(x^2) for |x| < 0.1716; eleven terms reach 2^-56.
template <class D>
INFALL_HD D artanh_series(D x_squared) {
    D series(2.0 / 23);
    series = fused(series, x_squared, D(2.0 / 21));
    series = fused(series, x_squared, D(2.0 / 19));
    series = fused(series, x_squared, D(2.0 / 17));
    series = fused(series, x_squared, D(2.0 / 15));
    series = fused(series, x_squared, D(2.0 / 13));
    series = fused(series, x_squared, D(2.0 / 11));
    series = fused(series, x_squared, D(2.0 / 9));
    series = fused(series, x_squared, D(2.0 / 7));
    series = fused(series, x_squared, D(2.0 / 5));
    return fused(series, x_squared, D(2.0 / 3));
}

// y = 2^e m, m in [sqrt 1/2, sqrt 2), for positive normal y.
template <class D>
INFALL_HD void split(D y, D& e, D& m) {
    const uint64_t sqrt_half = 0x3FE6A09E667F3BCDu, bias = 1024;  // e + bias is not negative
    const auto biased = (bits_of(y) - sqrt_half + (bias << 52)) >> 52;
    e = D(biased) - D(1024.0);
    m = lower_exponent(y, biased - bias);
}

// e ln 2 + 2 artanh x.
template <class D>
INFALL_HD D log_of_parts(D e, D x) {
    const D x_squared = x * x;
    const D e_ln2_low = e * D(0x1.abc9e3b39803fp-56);
    const D tail = fused(x * x_squared, artanh_series(x_squared), e_ln2_low);
    return fused(e, D(0x1.62e42fefa39efp-1), fused(D(2.0), x, tail));
}

// ln y = e ln 2 + ln m, ln m = 2 artanh((m - 1) / (m + 1)).
INFALL_HD double natural_log(double y) {
    double e, m;
    split(y, e, m);
    return log_of_parts(e, (m - 1.0) / (m + 1.0));
}

template <class D, class W>
INFALL_HD D uniform64(W word) {
    return fused(D(word), D(0x1p-64), D(0x1p-65));
}

// E = -ln((word + 1/2) 2^-64), from 2^-65 to 45, small ones by the distance to 1, which keeps their
// digits: -ln(1 - rest) = 2 artanh(rest / (2 - rest)).
template <class D, class W>
INFALL_HD D exponential64(W word) {
    D e, m;
    split(uniform64<D>(word), e, m);
    const D rest = uniform64<D>(~word), one(1.0), two(2.0);
    const auto is_small = rest <= D(0.29);
    const D x = choose(is_small, rest, m - one) / choose(is_small, two - rest, m + one);
    return magnitude(log_of_parts(choose(is_small, D(0.0), e), x));
}

template <class D, class W, class AngleWord>
INFALL_HD void box_muller64(W radius_word, AngleWord angle_word, D& z_even, D& z_odd) {
    const D radius = square_root(D(2.0) * exponential64<D>(radius_word));
    // int32(angle_word << 2), in words of any length.
    const AngleWord shifted = ((angle_word << 2) + 0x80000000u) & 0xFFFFFFFFu;
    const D d = (D(shifted) - D(0x1p31)) * D(0x1.921fb54442d18p-32);
    const D d_squared = d * d;
    D sine_series(1.0 / 355687428096000);  // 1/17!
    sine_series = fused(sine_series, d_squared, D(-1.0 / 1307674368000));
    sine_series = fused(sine_series, d_squared, D(1.0 / 6227020800));
    sine_series = fused(sine_series, d_squared, D(-1.0 / 39916800));
    sine_series = fused(sine_series, d_squared, D(1.0 / 362880));
    sine_series = fused(sine_series, d_squared, D(-1.0 / 5040));
    sine_series = fused(sine_series, d_squared, D(1.0 / 120));
    sine_series = fused(sine_series, d_squared, D(-1.0 / 6));
    D sine = fused(d * d_squared, sine_series, d);
    D cosine(1.0 / 20922789888000);  // 1/16!
    cosine = fused(cosine, d_squared, D(-1.0 / 87178291200));
    cosine = fused(cosine, d_squared, D(1.0 / 479001600));
    cosine = fused(cosine, d_squared, D(-1.0 / 3628800));
    cosine = fused(cosine, d_squared, D(1.0 / 40320));
    cosine = fused(cosine, d_squared, D(-1.0 / 720));
    cosine = fused(cosine, d_squared, D(1.0 / 24));
    cosine = fused(cosine, d_squared, D(-0.5));
    cosine = fused(cosine, d_squared, D(1.0));
    const D signed_radius = flip_sign_by_bit31(radius, angle_word);
    swap_by_bit30(cosine, sine, angle_word);
    z_even = signed_radius * cosine;
    z_odd = signed_radius * sine;
}

// The pair of normals of deciding column `column` for rows 2 pair and 2 pair + 1.
template <class Key>
INFALL_HD void deciding_pair(uint64_t pair, uint32_t column, uint32_t layer, const Key& key,
                             double& z_even, double& z_odd) {
    const PhiloxBlock b = philox4x32_10(pair, deciding_columns + column, layer, key);
    box_muller64<double>((static_cast<uint64_t>(b.w[0]) << 32) | b.w[2], b.w[1], z_even, z_odd);
}

}  // namespace infall
