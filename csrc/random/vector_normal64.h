// Normals in binary64, by the templates of normal.h, in the vectors of the instruction set that a
// source is compiled for.
#pragma once

#include "random/normal.h"
#include "runtime/vectors.h"

namespace infall::INFALL_ISA {

using LongWord = Vector<uint64_t>;

// Double as a class, for the same reason as Float.
struct Doubles {
    Double v;
    Doubles() = default;
    INFALL_HD Doubles(Double x) : v(x) {}
    INFALL_HD explicit Doubles(double x) : v(broadcast(x)) {}
    INFALL_HD explicit Doubles(LongWord w) {
#if defined(__AVX512DQ__) || defined(__aarch64__)
        v = __builtin_convertvector(w, Double);
#else
        // Both halves become digits of numbers with fixed exponents; their sum rounds once.
        const Double high = (Double)((w >> 32) | 0x4530000000000000u) - 0x1.00000001p84;
        v = high + (Double)((w & 0xFFFFFFFFu) | 0x4330000000000000u);
#endif
    }
};

INFALL_HD Doubles operator+(Doubles a, Doubles b) { return a.v + b.v; }
INFALL_HD Doubles operator-(Doubles a, Doubles b) { return a.v - b.v; }
INFALL_HD Doubles operator*(Doubles a, Doubles b) { return a.v * b.v; }
INFALL_HD Doubles operator/(Doubles a, Doubles b) { return a.v / b.v; }
INFALL_HD Long operator<=(Doubles a, Doubles b) { return a.v <= b.v; }
INFALL_HD Doubles choose(Long first, Doubles a, Doubles b) { return first ? a.v : b.v; }
INFALL_HD Doubles fused(Doubles a, Doubles b, Doubles c) { return fused(a.v, b.v, c.v); }
INFALL_HD Doubles square_root(Doubles a) { return square_root(a.v); }

INFALL_HD LongWord bits_of(Doubles x) { return (LongWord)x.v; }
INFALL_HD Doubles magnitude(Doubles x) { return (Double)(bits_of(x) & 0x7FFFFFFFFFFFFFFFu); }
INFALL_HD Doubles lower_exponent(Doubles x, LongWord n) { return (Double)(bits_of(x) - (n << 52)); }

// The word is in the lower half of each lane.
INFALL_HD Doubles flip_sign_by_bit31(Doubles x, LongWord w) {
    return (Double)(bits_of(x) ^ (w >> 31 << 63));
}
INFALL_HD void swap_by_bit30(Doubles& a, Doubles& b, LongWord w) {
    const Long swap = (w & 0x40000000u) != 0;
    const Doubles first = choose(swap, b, a);
    b = choose(swap, a, b);
    a = first;
}

// double_lanes words, each in a lane of its own.
INFALL_HD LongWord load_long_words(const uint32_t* p) {
    typedef uint32_t HalfWords
        __attribute__((vector_size(4 * double_lanes), aligned(4), may_alias));
    return __builtin_convertvector(*reinterpret_cast<const HalfWords*>(p), LongWord);
}

}  // namespace infall::INFALL_ISA
