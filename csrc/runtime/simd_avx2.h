// Vectors of 8 lanes for x86-64-v3: AVX2 and FMA.
#pragma once

#include <immintrin.h>

namespace infall::INFALL_ISA {

struct Word {
    __m256i v;
    Word() = default;
    INFALL_HD Word(__m256i x) : v(x) {}
    INFALL_HD explicit Word(uint32_t x) : v(_mm256_set1_epi32(static_cast<int>(x))) {}
};
// 32-bit values in the low halves of 64-bit lanes: lanes 0 1 4 5 and 2 3 6 7, which one shuffle
// puts back in order.
struct Wide {
    __m256i first, second;
};

INFALL_HD Float fused(Float a, Float b, Float c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
INFALL_HD Float fused_minus(Float a, Float b, Float c) { return _mm256_fmsub_ps(a.v, b.v, c.v); }
INFALL_HD Float minus_fused(Float c, Float a, Float b) { return _mm256_fnmadd_ps(a.v, b.v, c.v); }
INFALL_HD Float square_root(Float a) { return _mm256_sqrt_ps(a.v); }
INFALL_HD Float larger(Float a, Float b) { return _mm256_max_ps(a.v, b.v); }

// out[j] = column j of the 8 x 8 block whose rows start `stride` elements apart.
INFALL_HD void load_transposed(const float* p, int64_t stride, Float* out) {
    __m256 a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(p + i * stride);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
        for (int k = 0; k < 2; ++k) {
            a[i + 2 * k] = _mm256_shuffle_ps(b[i + k], b[i + k + 2], 0x44);
            a[i + 2 * k + 1] = _mm256_shuffle_ps(b[i + k], b[i + k + 2], 0xEE);
        }
    // a[4 g + c]: rows 4 g .. 4 g + 3 of the columns c and c + 4.
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        out[c].v = _mm256_permute2f128_ps(a[c], a[4 + c], 0x20);
        out[4 + c].v = _mm256_permute2f128_ps(a[c], a[4 + c], 0x31);
    }
}

// out[4 i + c] = lane i of z_c.
INFALL_HD void store_interleaved(float* out, Float z0, Float z1, Float z2, Float z3) {
    const __m256d low01 = _mm256_castps_pd(_mm256_unpacklo_ps(z0.v, z1.v));
    const __m256d high01 = _mm256_castps_pd(_mm256_unpackhi_ps(z0.v, z1.v));
    const __m256d low23 = _mm256_castps_pd(_mm256_unpacklo_ps(z2.v, z3.v));
    const __m256d high23 = _mm256_castps_pd(_mm256_unpackhi_ps(z2.v, z3.v));
    // Half h of each: lane 4 h + 0, 1, 2, 3 of all four.
    const __m256d lane0 = _mm256_unpacklo_pd(low01, low23);
    const __m256d lane1 = _mm256_unpackhi_pd(low01, low23);
    const __m256d lane2 = _mm256_unpacklo_pd(high01, high23);
    const __m256d lane3 = _mm256_unpackhi_pd(high01, high23);
    const auto put = [out](int quarter, __m256d a) {
        _mm256_storeu_ps(out + 8 * quarter, _mm256_castpd_ps(a));
    };
    put(0, _mm256_permute2f128_pd(lane0, lane1, 0x20));
    put(1, _mm256_permute2f128_pd(lane2, lane3, 0x20));
    put(2, _mm256_permute2f128_pd(lane0, lane1, 0x31));
    put(3, _mm256_permute2f128_pd(lane2, lane3, 0x31));
}

INFALL_HD Float to_float(Word w) {
    // Both halves convert exactly; the fused sum rounds once, as an unsigned conversion does.
    const __m256 high = _mm256_cvtepi32_ps(_mm256_srli_epi32(w.v, 16));
    const __m256 low = _mm256_cvtepi32_ps(_mm256_and_si256(w.v, _mm256_set1_epi32(0xFFFF)));
    return _mm256_fmadd_ps(high, _mm256_set1_ps(65536.0f), low);
}
INFALL_HD Float to_signed_float(Word w) { return _mm256_cvtepi32_ps(w.v); }
INFALL_HD Word shift_left_2(Word w) { return _mm256_slli_epi32(w.v, 2); }
INFALL_HD Float exponent(Float x) {
    const __m256i biased = _mm256_srli_epi32(_mm256_castps_si256(x.v), 23);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127)));
}
INFALL_HD Float significand(Float x) {
    const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x007FFFFF));
    return _mm256_or_ps(_mm256_and_ps(x.v, mask), _mm256_set1_ps(1.0f));
}
INFALL_HD Float flip_sign_by_bit31(Float x, Word w) {
    return _mm256_xor_ps(x.v, _mm256_and_ps(_mm256_castsi256_ps(w.v), _mm256_set1_ps(-0.0f)));
}
INFALL_HD void swap_by_bit30(Float& a, Float& b, Word w) {
    const __m256 swap = _mm256_castsi256_ps(_mm256_slli_epi32(w.v, 1));
    const __m256 first = _mm256_blendv_ps(a.v, b.v, swap);
    b.v = _mm256_blendv_ps(b.v, a.v, swap);
    a.v = first;
}

// Bit i: lane i of |x| (or of x) is at least the threshold. False for NaN.
INFALL_HD uint32_t at_least(Float x, Float threshold, bool absolute) {
    const __m256 value = absolute ? _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x.v) : x.v;
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(value, threshold.v, _CMP_GE_OQ)));
}
INFALL_HD uint32_t at_most(Word x, Word bound) {
    const __m256i least = _mm256_min_epu32(x.v, bound.v);
    return static_cast<uint32_t>(
        _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(least, x.v))));
}

INFALL_HD Word lane_numbers() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
INFALL_HD Word operator+(Word a, Word b) { return _mm256_add_epi32(a.v, b.v); }
INFALL_HD Wide widen(Word w) {
    return {_mm256_unpacklo_epi32(w.v, w.v), _mm256_unpackhi_epi32(w.v, w.v)};
}

INFALL_HD Wide multiply_wide(Wide a, uint32_t multiplier) {
    const __m256i m = _mm256_set1_epi64x(multiplier);
    return {_mm256_mul_epu32(a.first, m), _mm256_mul_epu32(a.second, m)};
}
INFALL_HD Wide high_half(Wide a) {
    return {_mm256_srli_epi64(a.first, 32), _mm256_srli_epi64(a.second, 32)};
}
INFALL_HD Wide xor2(Wide a, Wide b) {
    return {_mm256_xor_si256(a.first, b.first), _mm256_xor_si256(a.second, b.second)};
}
INFALL_HD Wide xor2(Wide a, uint32_t b) {
    const __m256i word = _mm256_set1_epi32(static_cast<int>(b));
    return {_mm256_xor_si256(a.first, word), _mm256_xor_si256(a.second, word)};
}
INFALL_HD Wide xor3(Wide a, Wide b, Word c) {
    return {_mm256_xor_si256(_mm256_xor_si256(a.first, c.v), b.first),
            _mm256_xor_si256(_mm256_xor_si256(a.second, c.v), b.second)};
}
INFALL_HD Word pack_high(Wide a) {
    return _mm256_castps_si256(
        _mm256_shuffle_ps(_mm256_castsi256_ps(a.first), _mm256_castsi256_ps(a.second), 0xDD));
}
INFALL_HD Word pack_low(Wide a) {
    return _mm256_castps_si256(
        _mm256_shuffle_ps(_mm256_castsi256_ps(a.first), _mm256_castsi256_ps(a.second), 0x88));
}
INFALL_HD Word xor3(Word a, Word b, Word c) {
    return _mm256_xor_si256(_mm256_xor_si256(a.v, b.v), c.v);
}

INFALL_HD Double fused(Double a, Double b, Double c) { return _mm256_fmadd_pd(a, b, c); }
INFALL_HD Double square_root(Double a) { return _mm256_sqrt_pd(a); }
INFALL_HD Double load_doubles(const Float16* p) {
    return _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
INFALL_HD bool any_bit(Long a) { return !_mm256_testz_si256((__m256i)a, (__m256i)a); }

// counts + the bits that are set in each lane of a.
INFALL_HD Long add_bits(Long counts, Long a) {
    const __m256i of_four =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m256i four = _mm256_set1_epi8(15), bits = (__m256i)a;
    const __m256i low = _mm256_and_si256(bits, four);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bits, 4), four);
    const __m256i in_bytes =
        _mm256_add_epi8(_mm256_shuffle_epi8(of_four, low), _mm256_shuffle_epi8(of_four, high));
    return counts + (Long)_mm256_sad_epu8(in_bytes, _mm256_setzero_si256());
}

INFALL_HD Word load_words(const uint32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
INFALL_HD Word operator-(Word a, Word b) { return _mm256_sub_epi32(a.v, b.v); }
template <int bits>
INFALL_HD Word shift_right(Word w) {
    return _mm256_srli_epi32(w.v, bits);
}
template <int bits>
INFALL_HD Word shift_left(Word w) {
    return _mm256_slli_epi32(w.v, bits);
}
INFALL_HD Word bits_of(Float x) { return _mm256_castps_si256(x.v); }

// Bit i: lane i of |x| (or of x) is not below the bound. True for NaN.
INFALL_HD uint32_t not_below(Float x, Float bound, bool absolute) {
    const __m256 value = absolute ? _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x.v) : x.v;
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(value, bound.v, _CMP_NLT_UQ)));
}

// a b + c, for estimates: rounded as is fastest.
INFALL_HD Float multiply_add(Float a, Float b, Float c) { return fused(a, b, c); }

// Entry number i mod table_entries, lane by lane; tables are aligned to a vector.
constexpr int table_entries = 8;
INFALL_HD Float look_up(const float* table, Word i) {
    return _mm256_permutevar8x32_ps(_mm256_load_ps(table), i.v);
}

}  // namespace infall::INFALL_ISA
