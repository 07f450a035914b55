// One lane, for processors without a vector header of their own.
#pragma once

#include <cmath>
#include <cstdint>

#include "runtime/scalar.h"

namespace infall {
namespace INFALL_ISA {

constexpr int lanes = 1;
constexpr int registers = 16;

using Float = float;
using Word = uint32_t;
using Wide = ScalarWide;

INFALL_HD Float load(const float* p) { return *p; }
INFALL_HD void store(float* p, Float a) { *p = a; }
INFALL_HD Float larger(Float a, Float b) { return a > b ? a : b; }
INFALL_HD void load_transposed(const float* p, int64_t, Float* out) { *out = *p; }
INFALL_HD uint32_t at_least(Float x, Float threshold, bool absolute) {
    return (absolute ? std::fabs(x) : x) >= threshold ? 1u : 0u;
}
INFALL_HD uint32_t at_most(Word x, Word bound) { return x <= bound ? 1u : 0u; }
INFALL_HD Word lane_numbers() { return 0; }
INFALL_HD Wide widen(Word w) { return {w, 0}; }
INFALL_HD Word pack_high(Wide a) { return a.high; }
INFALL_HD Word pack_low(Wide a) { return a.low; }
INFALL_HD Word xor3(Word a, Word b, Word c) { return a ^ b ^ c; }

INFALL_HD Word load_words(const uint32_t* p) { return *p; }
template <int bits>
INFALL_HD Word shift_right(Word w) {
    return w >> bits;
}
template <int bits>
INFALL_HD Word shift_left(Word w) {
    return w << bits;
}

// |x| (or x) is not below the bound. True for NaN.
INFALL_HD uint32_t not_below(Float x, Float bound, bool absolute) {
    return (absolute ? std::fabs(x) : x) < bound ? 0u : 1u;
}

// a b + c, for estimates: rounded as is fastest.
INFALL_HD Float multiply_add(Float a, Float b, Float c) { return a * b + c; }

constexpr int table_entries = 32;
INFALL_HD Float look_up(const float* table, Word i) { return table[i]; }

}  // namespace INFALL_ISA
}  // namespace infall
