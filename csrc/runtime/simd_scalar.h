// Vectors of 4 lanes for processors without a header of their own: lane by lane where the
// compiler's vector extensions end.
#pragma once

namespace infall::INFALL_ISA {

struct Word {
    Vector<uint32_t> v;
    Word() = default;
    INFALL_HD Word(Vector<uint32_t> x) : v(x) {}
    INFALL_HD explicit Word(uint32_t x) : v(x - Vector<uint32_t>{}) {}
};
// The low and the high halves of 64-bit lanes.
struct Wide {
    Vector<uint32_t> low, high;
};

// f of each lane of all the arguments.
template <class Function, class V, class... More>
INFALL_HD V by_lane(const Function& f, V a, More... more) {
    for (size_t lane = 0; lane < sizeof a / sizeof a[0]; ++lane)
        a[lane] = f(a[lane], more[lane]...);
    return a;
}
INFALL_HD Float fused(Float a, Float b, Float c) {
    return by_lane([](float x, float y, float z) { return infall::fused(x, y, z); }, a.v, b.v, c.v);
}
INFALL_HD Float fused_minus(Float a, Float b, Float c) { return fused(a, b, -c.v); }
INFALL_HD Float minus_fused(Float c, Float a, Float b) { return fused(-a.v, b, c); }
INFALL_HD Float square_root(Float a) {
    return by_lane([](float x) { return infall::square_root(x); }, a.v);
}
INFALL_HD Float larger(Float a, Float b) { return a.v > b.v ? a.v : b.v; }
INFALL_HD void load_transposed(const float* p, int64_t stride, Float* out) {
    for (int i = 0; i < lanes; ++i)
        for (int j = 0; j < lanes; ++j) out[j].v[i] = p[i * stride + j];
}

// out[4 i + c] = lane i of z_c.
INFALL_HD void store_interleaved(float* out, Float z0, Float z1, Float z2, Float z3) {
    for (int lane = 0; lane < lanes; ++lane) {
        out[4 * lane] = z0.v[lane];
        out[4 * lane + 1] = z1.v[lane];
        out[4 * lane + 2] = z2.v[lane];
        out[4 * lane + 3] = z3.v[lane];
    }
}

INFALL_HD Float to_float(Word w) { return __builtin_convertvector(w.v, Vector<float>); }
INFALL_HD Float to_signed_float(Word w) {
    return __builtin_convertvector((Vector<int32_t>)w.v, Vector<float>);
}
INFALL_HD Word shift_left_2(Word w) { return w.v << 2; }
INFALL_HD Float exponent(Float x) {
    return by_lane([](float lane) { return infall::exponent(lane); }, x.v);
}
INFALL_HD Float significand(Float x) {
    return by_lane([](float lane) { return infall::significand(lane); }, x.v);
}
INFALL_HD Float flip_sign_by_bit31(Float x, Word w) {
    return (Vector<float>)((Vector<uint32_t>)x.v ^ (w.v & 0x80000000u));
}
INFALL_HD void swap_by_bit30(Float& a, Float& b, Word w) {
    const Vector<int32_t> swap = (w.v & 0x40000000u) != 0;
    const Float first = swap ? b.v : a.v;
    b = swap ? a.v : b.v;
    a = first;
}

INFALL_HD uint32_t lane_bits(Vector<int32_t> mask) {
    uint32_t bits = 0;
    for (int lane = 0; lane < lanes; ++lane) bits |= (mask[lane] ? 1u : 0u) << lane;
    return bits;
}
// Bit i: lane i of |x| (or of x) is at least the threshold. False for NaN.
INFALL_HD uint32_t at_least(Float x, Float threshold, bool absolute) {
    const auto magnitude = (Vector<float>)((Vector<uint32_t>)x.v & 0x7FFFFFFFu);
    return lane_bits((absolute ? magnitude : x.v) >= threshold.v);
}
INFALL_HD uint32_t at_most(Word x, Word bound) { return lane_bits(x.v <= bound.v); }

INFALL_HD Word lane_numbers() { return Vector<uint32_t>{0, 1, 2, 3}; }
INFALL_HD Word operator+(Word a, Word b) { return a.v + b.v; }
INFALL_HD Wide widen(Word w) { return {w.v, w.v}; }
INFALL_HD Wide multiply_wide(Wide a, uint32_t multiplier) {
    for (int lane = 0; lane < lanes; ++lane) {
        const ScalarWide product = infall::multiply_wide(ScalarWide{a.low[lane], 0}, multiplier);
        a.low[lane] = product.low;
        a.high[lane] = product.high;
    }
    return a;
}
INFALL_HD Wide high_half(Wide a) { return {a.high, a.high}; }
INFALL_HD Wide xor2(Wide a, Wide b) { return {a.low ^ b.low, a.high}; }
INFALL_HD Wide xor2(Wide a, uint32_t b) { return {a.low ^ b, a.high}; }
INFALL_HD Wide xor3(Wide a, Wide b, Word c) { return {a.low ^ b.low ^ c.v, a.high}; }
INFALL_HD Word pack_high(Wide a) { return a.high; }
INFALL_HD Word pack_low(Wide a) { return a.low; }
INFALL_HD Word xor3(Word a, Word b, Word c) { return a.v ^ b.v ^ c.v; }

INFALL_HD Double fused(Double a, Double b, Double c) {
    return by_lane([](double x, double y, double z) { return infall::fused(x, y, z); }, a, b, c);
}
INFALL_HD Double square_root(Double a) {
    return by_lane([](double x) { return infall::square_root(x); }, a);
}
INFALL_HD Double load_doubles(const Float16* p) { return Double{to_float(p[0]), to_float(p[1])}; }
INFALL_HD bool any_bit(Long a) { return (a[0] | a[1]) != 0; }

// counts + the bits that are set in each lane of a.
INFALL_HD Long add_bits(Long counts, Long a) {
    return counts + by_lane([](int64_t x) -> int64_t { return __builtin_popcountll(x); }, a);
}

INFALL_HD Word load_words(const uint32_t* p) { return load_vector(p); }
INFALL_HD Word operator-(Word a, Word b) { return a.v - b.v; }
template <int bits>
INFALL_HD Word shift_right(Word w) {
    return w.v >> bits;
}
template <int bits>
INFALL_HD Word shift_left(Word w) {
    return w.v << bits;
}
INFALL_HD Word bits_of(Float x) { return (Vector<uint32_t>)x.v; }

// Bit i: lane i of |x| (or of x) is not below the bound. True for NaN.
INFALL_HD uint32_t not_below(Float x, Float bound, bool absolute) {
    const auto magnitude = (Vector<float>)((Vector<uint32_t>)x.v & 0x7FFFFFFFu);
    return lane_bits(~((absolute ? magnitude : x.v) < bound.v));
}

// a b + c, for estimates: rounded as is fastest.
INFALL_HD Float multiply_add(Float a, Float b, Float c) { return a.v * b.v + c.v; }

// Entry number i < table_entries, lane by lane.
constexpr int table_entries = 32;
INFALL_HD Float look_up(const float* table, Word i) {
    return Vector<float>{table[i.v[0]], table[i.v[1]], table[i.v[2]], table[i.v[3]]};
}

}  // namespace infall::INFALL_ISA
