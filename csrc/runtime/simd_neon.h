// Vectors of 4 lanes for arm64: NEON.
#pragma once

#include <arm_neon.h>

namespace infall::INFALL_ISA {

struct Word {
    uint32x4_t v;
    Word() = default;
    INFALL_HD Word(uint32x4_t x) : v(x) {}
    INFALL_HD explicit Word(uint32_t x) : v(vdupq_n_u32(x)) {}
};
// The low and the high halves of 64-bit lanes, kept apart: all that happens between two products
// is then 32-bit, and high halves cost nothing.
struct Wide {
    uint32x4_t low, high;
};

INFALL_HD Float fused(Float a, Float b, Float c) { return vfmaq_f32(c.v, a.v, b.v); }
INFALL_HD Float fused_minus(Float a, Float b, Float c) {
    return vfmaq_f32(vnegq_f32(c.v), a.v, b.v);
}
INFALL_HD Float minus_fused(Float c, Float a, Float b) { return vfmsq_f32(c.v, a.v, b.v); }
INFALL_HD Float square_root(Float a) { return vsqrtq_f32(a.v); }

// Not vmaxq_f32, which differs from the other instruction sets in NaN.
INFALL_HD Float larger(Float a, Float b) { return vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v); }

// out[j] = column j of the 4 x 4 block whose rows start `stride` elements apart.
INFALL_HD void load_transposed(const float* p, int64_t stride, Float* out) {
    const float32x4_t a0 = vld1q_f32(p), a1 = vld1q_f32(p + stride);
    const float32x4_t a2 = vld1q_f32(p + 2 * stride), a3 = vld1q_f32(p + 3 * stride);
    // Columns 0 and 2, then 1 and 3, of two rows each.
    const float64x2_t even_low = vreinterpretq_f64_f32(vtrn1q_f32(a0, a1));
    const float64x2_t odd_low = vreinterpretq_f64_f32(vtrn2q_f32(a0, a1));
    const float64x2_t even_high = vreinterpretq_f64_f32(vtrn1q_f32(a2, a3));
    const float64x2_t odd_high = vreinterpretq_f64_f32(vtrn2q_f32(a2, a3));
    out[0].v = vreinterpretq_f32_f64(vtrn1q_f64(even_low, even_high));
    out[1].v = vreinterpretq_f32_f64(vtrn1q_f64(odd_low, odd_high));
    out[2].v = vreinterpretq_f32_f64(vtrn2q_f64(even_low, even_high));
    out[3].v = vreinterpretq_f32_f64(vtrn2q_f64(odd_low, odd_high));
}

// out[4 i + c] = lane i of z_c.
INFALL_HD void store_interleaved(float* out, Float z0, Float z1, Float z2, Float z3) {
    vst4q_f32(out, float32x4x4_t{{z0.v, z1.v, z2.v, z3.v}});
}

INFALL_HD Float to_float(Word w) { return vcvtq_f32_u32(w.v); }
INFALL_HD Float to_signed_float(Word w) { return vcvtq_f32_s32(vreinterpretq_s32_u32(w.v)); }
INFALL_HD Word shift_left_2(Word w) { return vshlq_n_u32(w.v, 2); }
INFALL_HD Float exponent(Float x) {
    const int32x4_t biased = vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_f32(x.v), 23));
    return vcvtq_f32_s32(vsubq_s32(biased, vdupq_n_s32(127)));
}
INFALL_HD Float significand(Float x) {
    const uint32x4_t digits = vandq_u32(vreinterpretq_u32_f32(x.v), vdupq_n_u32(0x007FFFFF));
    return vreinterpretq_f32_u32(vorrq_u32(digits, vdupq_n_u32(0x3F800000)));
}
INFALL_HD Float flip_sign_by_bit31(Float x, Word w) {
    const uint32x4_t sign = vandq_u32(w.v, vdupq_n_u32(0x80000000u));
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x.v), sign));
}
INFALL_HD void swap_by_bit30(Float& a, Float& b, Word w) {
    const uint32x4_t swap = vtstq_u32(w.v, vdupq_n_u32(0x40000000));
    const float32x4_t first = vbslq_f32(swap, b.v, a.v);
    b.v = vbslq_f32(swap, a.v, b.v);
    a.v = first;
}

// Bit i: lane i of the mask is set.
INFALL_HD uint32_t lane_bits(uint32x4_t mask) {
    static const uint32_t bits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(mask, vld1q_u32(bits)));
}
// Bit i: lane i of |x| (or of x) is at least the threshold. False for NaN.
INFALL_HD uint32_t at_least(Float x, Float threshold, bool absolute) {
    const Float value = absolute ? Float(vabsq_f32(x.v)) : x;
    return lane_bits(vcgeq_f32(value.v, threshold.v));
}
INFALL_HD uint32_t at_most(Word x, Word bound) { return lane_bits(vcleq_u32(x.v, bound.v)); }

INFALL_HD Word lane_numbers() {
    static const uint32_t numbers[4] = {0, 1, 2, 3};
    return vld1q_u32(numbers);
}
INFALL_HD Word operator+(Word a, Word b) { return vaddq_u32(a.v, b.v); }
INFALL_HD Wide widen(Word w) { return {w.v, w.v}; }

INFALL_HD Wide multiply_wide(Wide a, uint32_t multiplier) {
    const uint32x4_t m = vdupq_n_u32(multiplier);
    const uint32x4_t first = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(a.low), vget_low_u32(m)));
    const uint32x4_t last = vreinterpretq_u32_u64(vmull_high_u32(a.low, m));
    return {vuzp1q_u32(first, last), vuzp2q_u32(first, last)};
}
INFALL_HD Wide high_half(Wide a) { return {a.high, a.high}; }
INFALL_HD Wide xor2(Wide a, Wide b) { return {veorq_u32(a.low, b.low), a.high}; }
INFALL_HD Wide xor2(Wide a, uint32_t b) { return {veorq_u32(a.low, vdupq_n_u32(b)), a.high}; }
INFALL_HD Wide xor3(Wide a, Wide b, Word c) {
    return {veorq_u32(veorq_u32(b.low, c.v), a.low), a.high};
}
INFALL_HD Word pack_high(Wide a) { return a.high; }
INFALL_HD Word pack_low(Wide a) { return a.low; }
INFALL_HD Word xor3(Word a, Word b, Word c) { return veorq_u32(veorq_u32(a.v, b.v), c.v); }

INFALL_HD Double fused(Double a, Double b, Double c) { return vfmaq_f64(c, a, b); }
INFALL_HD Double square_root(Double a) { return vsqrtq_f64(a); }
INFALL_HD Double load_doubles(const Float16* p) { return Double{to_float(p[0]), to_float(p[1])}; }
INFALL_HD bool any_bit(Long a) { return vmaxvq_u32((uint32x4_t)a) != 0; }

// counts + the bits that are set in each lane of a.
INFALL_HD Long add_bits(Long counts, Long a) {
    const uint8x16_t in_bytes = vcntq_u8((uint8x16_t)a);
    return counts + (Long)vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(in_bytes)));
}

INFALL_HD Word load_words(const uint32_t* p) { return vld1q_u32(p); }
INFALL_HD Word operator-(Word a, Word b) { return vsubq_u32(a.v, b.v); }
template <int bits>
INFALL_HD Word shift_right(Word w) {
    return vshrq_n_u32(w.v, bits);
}
template <int bits>
INFALL_HD Word shift_left(Word w) {
    return vshlq_n_u32(w.v, bits);
}
INFALL_HD Word bits_of(Float x) { return vreinterpretq_u32_f32(x.v); }

// Bit i: lane i of |x| (or of x) is not below the bound. True for NaN.
INFALL_HD uint32_t not_below(Float x, Float bound, bool absolute) {
    const float32x4_t value = absolute ? vabsq_f32(x.v) : float32x4_t(x.v);
    return lane_bits(vmvnq_u32(vcltq_f32(value, bound.v)));
}

// a b + c, for estimates: rounded as is fastest.
INFALL_HD Float multiply_add(Float a, Float b, Float c) { return fused(a, b, c); }

// Entry number i < table_entries, lane by lane.
constexpr int table_entries = 32;
INFALL_HD Float look_up(const float* table, Word i) {
    float32x4_t entries = vld1q_dup_f32(table + vgetq_lane_u32(i.v, 0));
    entries = vld1q_lane_f32(table + vgetq_lane_u32(i.v, 1), entries, 1);
    entries = vld1q_lane_f32(table + vgetq_lane_u32(i.v, 2), entries, 2);
    return vld1q_lane_f32(table + vgetq_lane_u32(i.v, 3), entries, 3);
}

}  // namespace infall::INFALL_ISA
