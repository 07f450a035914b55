// Vectors of 4 lanes for x86-64-v2: SSE4.2, without a fused multiply-add.
#pragma once

#include <immintrin.h>

namespace infall::INFALL_ISA {

struct Word {
    __m128i v;
    Word() = default;
    INFALL_HD Word(__m128i x) : v(x) {}
    INFALL_HD explicit Word(uint32_t x) : v(_mm_set1_epi32(static_cast<int>(x))) {}
};
// 32-bit values in the low halves of 64-bit lanes: lanes 0 1 and 2 3, which one shuffle puts back
// in order.
struct Wide {
    __m128i first, second;
};

// The exact product + addend rounded to odd, given its rounding to nearest, `sum` (Boldo and
// Melquiond 2008): truncated, the last bit set where it is inexact.
INFALL_HD __m128d round_to_odd(__m128d product, __m128d addend, __m128d sum) {
    const __m128d back = _mm_sub_pd(sum, product);
    const __m128d error =
        _mm_add_pd(_mm_sub_pd(product, _mm_sub_pd(sum, back)), _mm_sub_pd(addend, back));
    // Not cmpneq, which holds for NaN, the error of infinite sums.
    const __m128i inexact =
        _mm_castpd_si128(_mm_cmplt_pd(_mm_setzero_pd(), _mm_andnot_pd(_mm_set1_pd(-0.0), error)));
    const __m128i opposed = _mm_castpd_si128(_mm_xor_pd(error, sum));
    const __m128i away = _mm_srli_epi64(_mm_and_si128(opposed, inexact), 63);
    const __m128i truncated = _mm_sub_epi64(_mm_castpd_si128(sum), away);
    return _mm_castsi128_pd(_mm_or_si128(truncated, _mm_srli_epi64(inexact, 63)));
}

// a b + c, rounded once. In binary64 the product is exact, and rounding the sum there first does
// harm only where it falls on a midpoint of two binary32 numbers: on half a unit of 24 bits, or
// anywhere among the subnormal numbers (those that round to zero are right: a binary64 sum that
// small is exact). Few sums do, so that a branch is cheaper than rounding all of them to odd.
INFALL_HD Float fused(Float a, Float b, Float c) {
    const __m128d low_product = _mm_mul_pd(_mm_cvtps_pd(a.v), _mm_cvtps_pd(b.v));
    const __m128d high_product =
        _mm_mul_pd(_mm_cvtps_pd(_mm_movehl_ps(a.v, a.v)), _mm_cvtps_pd(_mm_movehl_ps(b.v, b.v)));
    const __m128d low_addend = _mm_cvtps_pd(c.v);
    const __m128d high_addend = _mm_cvtps_pd(_mm_movehl_ps(c.v, c.v));
    const __m128d low = _mm_add_pd(low_product, low_addend);
    const __m128d high = _mm_add_pd(high_product, high_addend);
    const __m128 rounded = _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));

    const __m128i last_words =
        _mm_castps_si128(_mm_shuffle_ps(_mm_castpd_ps(low), _mm_castpd_ps(high), 0x88));
    const __m128i midpoint =
        _mm_cmpeq_epi32(_mm_slli_epi32(last_words, 3), _mm_set1_epi32(INT32_MIN));
    // Bits of |rounded| from 1 to 0x00800000: twice that, moved to where the signed order begins.
    const __m128i bits = _mm_castps_si128(rounded);
    const __m128i moved = _mm_add_epi32(_mm_add_epi32(bits, bits), _mm_set1_epi32(INT32_MAX));
    const __m128i subnormal = _mm_cmplt_epi32(moved, _mm_set1_epi32(INT32_MIN + 0x01000000));
    const __m128 doubtful = _mm_castsi128_ps(_mm_or_si128(midpoint, subnormal));
    if (__builtin_expect(_mm_movemask_ps(doubtful) == 0, 1)) return rounded;
    return _mm_movelh_ps(_mm_cvtpd_ps(round_to_odd(low_product, low_addend, low)),
                         _mm_cvtpd_ps(round_to_odd(high_product, high_addend, high)));
}
INFALL_HD __m128 negative(__m128 a) { return _mm_xor_ps(a, _mm_set1_ps(-0.0f)); }
INFALL_HD Float fused_minus(Float a, Float b, Float c) { return fused(a, b, negative(c.v)); }
INFALL_HD Float minus_fused(Float c, Float a, Float b) { return fused(negative(a.v), b, c); }

INFALL_HD Float square_root(Float a) { return _mm_sqrt_ps(a.v); }
INFALL_HD Float larger(Float a, Float b) { return _mm_max_ps(a.v, b.v); }

// out[j] = column j of the 4 x 4 block whose rows start `stride` elements apart.
INFALL_HD void load_transposed(const float* p, int64_t stride, Float* out) {
    const __m128 a0 = _mm_loadu_ps(p), a1 = _mm_loadu_ps(p + stride);
    const __m128 a2 = _mm_loadu_ps(p + 2 * stride), a3 = _mm_loadu_ps(p + 3 * stride);
    const __m128 first_low = _mm_unpacklo_ps(a0, a1), last_low = _mm_unpackhi_ps(a0, a1);
    const __m128 first_high = _mm_unpacklo_ps(a2, a3), last_high = _mm_unpackhi_ps(a2, a3);
    out[0].v = _mm_movelh_ps(first_low, first_high);
    out[1].v = _mm_movehl_ps(first_high, first_low);
    out[2].v = _mm_movelh_ps(last_low, last_high);
    out[3].v = _mm_movehl_ps(last_high, last_low);
}

// out[4 i + c] = lane i of z_c.
INFALL_HD void store_interleaved(float* out, Float z0, Float z1, Float z2, Float z3) {
    _MM_TRANSPOSE4_PS(z0.v, z1.v, z2.v, z3.v);
    _mm_storeu_ps(out, z0.v);
    _mm_storeu_ps(out + 4, z1.v);
    _mm_storeu_ps(out + 8, z2.v);
    _mm_storeu_ps(out + 12, z3.v);
}

INFALL_HD Float to_float(Word w) {
    // Both halves convert exactly and so does the product; the sum rounds once.
    const __m128 high = _mm_cvtepi32_ps(_mm_srli_epi32(w.v, 16));
    const __m128 low = _mm_cvtepi32_ps(_mm_and_si128(w.v, _mm_set1_epi32(0xFFFF)));
    return _mm_add_ps(_mm_mul_ps(high, _mm_set1_ps(65536.0f)), low);
}
INFALL_HD Float to_signed_float(Word w) { return _mm_cvtepi32_ps(w.v); }
INFALL_HD Word shift_left_2(Word w) { return _mm_slli_epi32(w.v, 2); }
INFALL_HD Float exponent(Float x) {
    const __m128i biased = _mm_srli_epi32(_mm_castps_si128(x.v), 23);
    return _mm_cvtepi32_ps(_mm_sub_epi32(biased, _mm_set1_epi32(127)));
}
INFALL_HD Float significand(Float x) {
    const __m128 mask = _mm_castsi128_ps(_mm_set1_epi32(0x007FFFFF));
    return _mm_or_ps(_mm_and_ps(x.v, mask), _mm_set1_ps(1.0f));
}
INFALL_HD Float flip_sign_by_bit31(Float x, Word w) {
    return _mm_xor_ps(x.v, _mm_and_ps(_mm_castsi128_ps(w.v), _mm_set1_ps(-0.0f)));
}
INFALL_HD void swap_by_bit30(Float& a, Float& b, Word w) {
    const __m128 swap = _mm_castsi128_ps(_mm_slli_epi32(w.v, 1));
    const __m128 first = _mm_blendv_ps(a.v, b.v, swap);
    b.v = _mm_blendv_ps(b.v, a.v, swap);
    a.v = first;
}

// Bit i: lane i of |x| (or of x) is at least the threshold. False for NaN.
INFALL_HD uint32_t at_least(Float x, Float threshold, bool absolute) {
    const __m128 value = absolute ? _mm_andnot_ps(_mm_set1_ps(-0.0f), x.v) : x.v;
    return static_cast<uint32_t>(_mm_movemask_ps(_mm_cmpge_ps(value, threshold.v)));
}
INFALL_HD uint32_t at_most(Word x, Word bound) {
    const __m128i least = _mm_min_epu32(x.v, bound.v);
    return static_cast<uint32_t>(_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(least, x.v))));
}

INFALL_HD Word lane_numbers() { return _mm_setr_epi32(0, 1, 2, 3); }
INFALL_HD Word operator+(Word a, Word b) { return _mm_add_epi32(a.v, b.v); }
INFALL_HD Wide widen(Word w) {
    return {_mm_unpacklo_epi32(w.v, w.v), _mm_unpackhi_epi32(w.v, w.v)};
}

INFALL_HD Wide multiply_wide(Wide a, uint32_t multiplier) {
    const __m128i m = _mm_set1_epi64x(multiplier);
    return {_mm_mul_epu32(a.first, m), _mm_mul_epu32(a.second, m)};
}
INFALL_HD Wide high_half(Wide a) {
    return {_mm_srli_epi64(a.first, 32), _mm_srli_epi64(a.second, 32)};
}
INFALL_HD Wide xor2(Wide a, Wide b) {
    return {_mm_xor_si128(a.first, b.first), _mm_xor_si128(a.second, b.second)};
}
INFALL_HD Wide xor2(Wide a, uint32_t b) {
    const __m128i word = _mm_set1_epi32(static_cast<int>(b));
    return {_mm_xor_si128(a.first, word), _mm_xor_si128(a.second, word)};
}
INFALL_HD Wide xor3(Wide a, Wide b, Word c) {
    return {_mm_xor_si128(_mm_xor_si128(a.first, c.v), b.first),
            _mm_xor_si128(_mm_xor_si128(a.second, c.v), b.second)};
}
INFALL_HD Word pack_high(Wide a) {
    return _mm_castps_si128(
        _mm_shuffle_ps(_mm_castsi128_ps(a.first), _mm_castsi128_ps(a.second), 0xDD));
}
INFALL_HD Word pack_low(Wide a) {
    return _mm_castps_si128(
        _mm_shuffle_ps(_mm_castsi128_ps(a.first), _mm_castsi128_ps(a.second), 0x88));
}
INFALL_HD Word xor3(Word a, Word b, Word c) { return _mm_xor_si128(_mm_xor_si128(a.v, b.v), c.v); }

INFALL_HD Double fused(Double a, Double b, Double c) {
    return Double{__builtin_fma(a[0], b[0], c[0]), __builtin_fma(a[1], b[1], c[1])};
}
INFALL_HD Double square_root(Double a) { return _mm_sqrt_pd(a); }
INFALL_HD Double load_doubles(const Float16* p) { return Double{to_float(p[0]), to_float(p[1])}; }
INFALL_HD bool any_bit(Long a) { return !_mm_testz_si128((__m128i)a, (__m128i)a); }

// counts + the bits that are set in each lane of a.
INFALL_HD Long add_bits(Long counts, Long a) {
    return counts + Long{_mm_popcnt_u64(static_cast<uint64_t>(a[0])),
                         _mm_popcnt_u64(static_cast<uint64_t>(a[1]))};
}

INFALL_HD Word load_words(const uint32_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
INFALL_HD Word operator-(Word a, Word b) { return _mm_sub_epi32(a.v, b.v); }
template <int bits>
INFALL_HD Word shift_right(Word w) {
    return _mm_srli_epi32(w.v, bits);
}
template <int bits>
INFALL_HD Word shift_left(Word w) {
    return _mm_slli_epi32(w.v, bits);
}
INFALL_HD Word bits_of(Float x) { return _mm_castps_si128(x.v); }

// Bit i: lane i of |x| (or of x) is not below the bound. True for NaN.
INFALL_HD uint32_t not_below(Float x, Float bound, bool absolute) {
    const __m128 value = absolute ? _mm_andnot_ps(_mm_set1_ps(-0.0f), x.v) : x.v;
    return static_cast<uint32_t>(_mm_movemask_ps(_mm_cmpnlt_ps(value, bound.v)));
}

// a b + c, for estimates: rounded as is fastest.
INFALL_HD Float multiply_add(Float a, Float b, Float c) {
    return _mm_add_ps(_mm_mul_ps(a.v, b.v), c.v);
}

// Entry number i < table_entries, lane by lane.
constexpr int table_entries = 32;
INFALL_HD Float look_up(const float* table, Word i) {
    const uint64_t low = static_cast<uint64_t>(_mm_cvtsi128_si64(i.v));
    const uint64_t high = static_cast<uint64_t>(_mm_extract_epi64(i.v, 1));
    return _mm_setr_ps(table[low & 0xFFFFFFFFu], table[low >> 32], table[high & 0xFFFFFFFFu],
                       table[high >> 32]);
}

}  // namespace infall::INFALL_ISA
