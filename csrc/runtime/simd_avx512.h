// Vectors of 16 lanes for x86-64-v4: AVX-512 F, BW, CD, DQ and VL.
#pragma once

#include <immintrin.h>

namespace infall::INFALL_ISA {

struct Word {
    __m512i v;
    Word() = default;
    INFALL_HD Word(__m512i x) : v(x) {}
    INFALL_HD explicit Word(uint32_t x) : v(_mm512_set1_epi32(static_cast<int>(x))) {}
};
// 32-bit values in the low halves of 64-bit lanes: lanes 0, 2, ... and lanes 1, 3, ...
struct Wide {
    __m512i even, odd;
};

INFALL_HD Float fused(Float a, Float b, Float c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
INFALL_HD Float fused_minus(Float a, Float b, Float c) { return _mm512_fmsub_ps(a.v, b.v, c.v); }
INFALL_HD Float minus_fused(Float c, Float a, Float b) { return _mm512_fnmadd_ps(a.v, b.v, c.v); }
INFALL_HD Float square_root(Float a) { return _mm512_sqrt_ps(a.v); }
INFALL_HD Float larger(Float a, Float b) { return _mm512_max_ps(a.v, b.v); }

// out[j] = column j of the 16 x 16 block whose rows start `stride` elements apart.
INFALL_HD void load_transposed(const float* p, int64_t stride, Float* out) {
    __m512 a[16], b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_ps(p + i * stride);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
        for (int k = 0; k < 2; ++k) {
            const __m512d low = _mm512_castps_pd(b[i + k]), high = _mm512_castps_pd(b[i + k + 2]);
            a[i + 2 * k] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            a[i + 2 * k + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    // a[4 g + c]: rows 4 g .. 4 g + 3 of the columns c, c + 4, c + 8, c + 12.
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        const __m512 even_low = _mm512_shuffle_f32x4(a[c], a[4 + c], 0x88);
        const __m512 odd_low = _mm512_shuffle_f32x4(a[c], a[4 + c], 0xDD);
        const __m512 even_high = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0x88);
        const __m512 odd_high = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0xDD);
        out[c].v = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
        out[8 + c].v = _mm512_shuffle_f32x4(even_low, even_high, 0xDD);
        out[4 + c].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
        out[12 + c].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0xDD);
    }
}

// out[4 i + c] = lane i of z_c.
INFALL_HD void store_interleaved(float* out, Float z0, Float z1, Float z2, Float z3) {
    const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(z0.v, z1.v));
    const __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(z0.v, z1.v));
    const __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(z2.v, z3.v));
    const __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(z2.v, z3.v));
    // Quarter q of each: lane 4 q + 0, 1, 2, 3 of all four.
    const __m512d lane0 = _mm512_unpacklo_pd(low01, low23);
    const __m512d lane1 = _mm512_unpackhi_pd(low01, low23);
    const __m512d lane2 = _mm512_unpacklo_pd(high01, high23);
    const __m512d lane3 = _mm512_unpackhi_pd(high01, high23);
    const __m512d first_low = _mm512_shuffle_f64x2(lane0, lane1, 0x44);
    const __m512d first_high = _mm512_shuffle_f64x2(lane0, lane1, 0xEE);
    const __m512d second_low = _mm512_shuffle_f64x2(lane2, lane3, 0x44);
    const __m512d second_high = _mm512_shuffle_f64x2(lane2, lane3, 0xEE);
    const auto put = [out](int quarter, __m512d a) {
        _mm512_storeu_ps(out + 16 * quarter, _mm512_castpd_ps(a));
    };
    put(0, _mm512_shuffle_f64x2(first_low, second_low, 0x88));
    put(1, _mm512_shuffle_f64x2(first_low, second_low, 0xDD));
    put(2, _mm512_shuffle_f64x2(first_high, second_high, 0x88));
    put(3, _mm512_shuffle_f64x2(first_high, second_high, 0xDD));
}

INFALL_HD Float to_float(Word w) { return _mm512_cvtepu32_ps(w.v); }
INFALL_HD Float to_signed_float(Word w) { return _mm512_cvtepi32_ps(w.v); }
INFALL_HD Word shift_left_2(Word w) { return _mm512_slli_epi32(w.v, 2); }
INFALL_HD Float exponent(Float x) { return _mm512_getexp_ps(x.v); }
INFALL_HD Float significand(Float x) {
    return _mm512_getmant_ps(x.v, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero);
}
INFALL_HD Float flip_sign_by_bit31(Float x, Word w) {
    // x ^ (w & 2^31)
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(x.v), w.v,
                                                         _mm512_set1_epi32(INT32_MIN), 0x78));
}
INFALL_HD void swap_by_bit30(Float& a, Float& b, Word w) {
    const __mmask16 swap = _mm512_test_epi32_mask(w.v, _mm512_set1_epi32(0x40000000));
    const __m512 first = _mm512_mask_blend_ps(swap, a.v, b.v);
    b.v = _mm512_mask_blend_ps(swap, b.v, a.v);
    a.v = first;
}

// Bit i: lane i of |x| (or of x) is at least the threshold. False for NaN.
INFALL_HD uint32_t at_least(Float x, Float threshold, bool absolute) {
    const __m512 value = absolute ? _mm512_abs_ps(x.v) : x.v;
    return _mm512_cmp_ps_mask(value, threshold.v, _CMP_GE_OQ);
}
INFALL_HD uint32_t at_most(Word x, Word bound) { return _mm512_cmple_epu32_mask(x.v, bound.v); }

INFALL_HD Word lane_numbers() {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
INFALL_HD Word operator+(Word a, Word b) { return _mm512_add_epi32(a.v, b.v); }
INFALL_HD Wide widen(Word w) { return {w.v, _mm512_srli_epi64(w.v, 32)}; }

INFALL_HD Wide multiply_wide(Wide a, uint32_t multiplier) {
    const __m512i m = _mm512_set1_epi64(multiplier);
    return {_mm512_mul_epu32(a.even, m), _mm512_mul_epu32(a.odd, m)};
}
INFALL_HD Wide high_half(Wide a) {
    return {_mm512_srli_epi64(a.even, 32), _mm512_srli_epi64(a.odd, 32)};
}
INFALL_HD Wide xor2(Wide a, Wide b) {
    return {_mm512_xor_si512(a.even, b.even), _mm512_xor_si512(a.odd, b.odd)};
}
INFALL_HD Wide xor2(Wide a, uint32_t b) {
    const __m512i word = _mm512_set1_epi32(static_cast<int>(b));
    return {_mm512_xor_si512(a.even, word), _mm512_xor_si512(a.odd, word)};
}
INFALL_HD Wide xor3(Wide a, Wide b, Word c) {
    return {_mm512_ternarylogic_epi64(a.even, b.even, c.v, 0x96),
            _mm512_ternarylogic_epi64(a.odd, b.odd, c.v, 0x96)};
}
INFALL_HD Word pack_high(Wide a) {
    return _mm512_castps_si512(
        _mm512_mask_movehdup_ps(_mm512_castsi512_ps(a.odd), 0x5555, _mm512_castsi512_ps(a.even)));
}
INFALL_HD Word pack_low(Wide a) {
    return _mm512_castps_si512(
        _mm512_mask_moveldup_ps(_mm512_castsi512_ps(a.even), 0xAAAA, _mm512_castsi512_ps(a.odd)));
}
INFALL_HD Word xor3(Word a, Word b, Word c) {
    return _mm512_ternarylogic_epi32(a.v, b.v, c.v, 0x96);
}

INFALL_HD Double fused(Double a, Double b, Double c) { return _mm512_fmadd_pd(a, b, c); }
INFALL_HD Double square_root(Double a) { return _mm512_sqrt_pd(a); }
INFALL_HD Double load_doubles(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
INFALL_HD void store_rounded(float* p, Double a) { _mm256_storeu_ps(p, _mm512_cvtpd_ps(a)); }
INFALL_HD Double load_doubles(const Float16* p) {
    return _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
INFALL_HD bool any_bit(Long a) { return _mm512_test_epi64_mask((__m512i)a, (__m512i)a) != 0; }

// counts + the bits that are set in each lane of a.
INFALL_HD Long add_bits(Long counts, Long a) {
    const __m512i of_four =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i four = _mm512_set1_epi8(15), bits = (__m512i)a;
    const __m512i low = _mm512_and_si512(bits, four);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(bits, 4), four);
    const __m512i in_bytes =
        _mm512_add_epi8(_mm512_shuffle_epi8(of_four, low), _mm512_shuffle_epi8(of_four, high));
    return counts + (Long)_mm512_sad_epu8(in_bytes, _mm512_setzero_si512());
}

INFALL_HD Word load_words(const uint32_t* p) { return _mm512_loadu_si512(p); }
INFALL_HD Word operator-(Word a, Word b) { return _mm512_sub_epi32(a.v, b.v); }
template <int bits>
INFALL_HD Word shift_right(Word w) {
    return _mm512_srli_epi32(w.v, bits);
}
template <int bits>
INFALL_HD Word shift_left(Word w) {
    return _mm512_slli_epi32(w.v, bits);
}
INFALL_HD Word bits_of(Float x) { return _mm512_castps_si512(x.v); }

// Bit i: lane i of |x| (or of x) is not below the bound. True for NaN.
INFALL_HD uint32_t not_below(Float x, Float bound, bool absolute) {
    const __m512 value = absolute ? _mm512_abs_ps(x.v) : x.v;
    return _mm512_cmp_ps_mask(value, bound.v, _CMP_NLT_UQ);
}

// a b + c, for estimates: rounded as is fastest.
INFALL_HD Float multiply_add(Float a, Float b, Float c) { return fused(a, b, c); }

// Entry number i mod table_entries, lane by lane; tables are aligned to a vector.
constexpr int table_entries = 32;
INFALL_HD Float look_up(const float* table, Word i) {
    return _mm512_permutex2var_ps(_mm512_load_ps(table), i.v, _mm512_load_ps(table + 16));
}

}  // namespace infall::INFALL_ISA
