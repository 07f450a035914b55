// The Walsh-Hadamard butterflies on vectors of T. The order of the levels is fixed, the smallest
// stride first: every element then goes through the same sums, however wide the vectors are and
// however the passes are cut.
#pragma once

#include <cstdint>

#include "runtime/vectors.h"

namespace infall::INFALL_ISA {

// Levels of a pass: its 2^levels vectors stay in registers.
constexpr int radix_levels = registers == 32 ? 4 : 3;

// Lane i of the result: lane i ^ stride of a.
template <int stride, class T, int... lane>
INFALL_HD Vector<T> partner_of(Vector<T> a) {
#if defined(__clang__)
    return __builtin_shufflevector(a, a, (lane ^ stride)...);
#else
    return __builtin_shuffle(a, Vector<IntegerOf<T>>{(lane ^ stride)...});
#endif
}
template <int stride, class T>
INFALL_HD Vector<T> partner(Vector<T> a) {
    constexpr int lanes = lanes_of<T>;
    if constexpr (lanes == 2)
        return partner_of<stride, T, 0, 1>(a);
    else if constexpr (lanes == 4)
        return partner_of<stride, T, 0, 1, 2, 3>(a);
    else if constexpr (lanes == 8)
        return partner_of<stride, T, 0, 1, 2, 3, 4, 5, 6, 7>(a);
    else
        return partner_of<stride, T, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15>(a);
}

// All-ones in the lanes whose bit of `bits` is set.
template <class T>
INFALL_HD Vector<IntegerOf<T>> lanes_set(uint32_t bits) {
    using Unsigned = std::make_unsigned_t<IntegerOf<T>>;
    Vector<Unsigned> bit{};
#pragma GCC unroll 16
    for (int i = 0; i < lanes_of<T>; ++i) bit[i] = Unsigned{1} << i;
    return ((Vector<Unsigned>{} + bits) & bit) != Vector<Unsigned>{};
}

template <class T>
INFALL_HD Vector<T> negate_where(Vector<T> a, Vector<IntegerOf<T>> mask) {
    using Unsigned = std::make_unsigned_t<IntegerOf<T>>;
    constexpr Unsigned sign = Unsigned{1} << (8 * sizeof(T) - 1);
    return (Vector<T>)((Vector<Unsigned>)a ^ ((Vector<Unsigned>)mask & sign));
}

// Lanes i and i ^ stride become their sum and their difference. Adding the negation of a number is
// subtracting it, bit for bit.
template <int stride, class T>
INFALL_HD Vector<T> level_inside(Vector<T> a) {
    uint32_t upper = 0;
#pragma GCC unroll 16
    for (int i = 0; i < lanes_of<T>; ++i) upper |= ((i & stride) ? 1u : 0u) << i;
    return partner<stride, T>(a) + negate_where<T>(a, lanes_set<T>(upper));
}

template <class T>
INFALL_HD Vector<T> levels_inside(Vector<T> a) {
    a = level_inside<1, T>(a);
    if constexpr (lanes_of<T> > 2) a = level_inside<2, T>(a);
    if constexpr (lanes_of<T> > 4) a = level_inside<4, T>(a);
    if constexpr (lanes_of<T> > 8) a = level_inside<8, T>(a);
    return a;
}

// `levels` levels among 2^levels vectors.
template <int levels, class V>
INFALL_HD void levels_across(V* a) {
#pragma GCC unroll 6
    for (int level = 0; level < levels; ++level)
#pragma GCC unroll 16
        for (int i = 0; i < (1 << levels); ++i)
            if ((i >> level & 1) == 0) {
                const V low = a[i], high = a[i | 1 << level];
                a[i] = low + high;
                a[i | 1 << level] = low - high;
            }
}

// `levels` levels among 2^levels rows, `columns` wide, a multiple of the lanes.
template <int levels, class T>
INFALL_HD void pass(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t columns) {
    constexpr int rows = 1 << levels;
    for (int64_t column = 0; column < columns; column += lanes_of<T>) {
        Vector<T> a[rows];
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) a[i] = load_vector(from + i * from_stride + column);
        levels_across<levels>(a);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) store(to + i * to_stride + column, a[i]);
    }
}

template <class T>
void any_pass(int levels, const T* from, int64_t from_stride, T* to, int64_t to_stride,
              int64_t columns) {
    switch (levels) {
        case 1:
            return pass<1>(from, from_stride, to, to_stride, columns);
        case 2:
            return pass<2>(from, from_stride, to, to_stride, columns);
        case 3:
            return pass<3>(from, from_stride, to, to_stride, columns);
        default:
            return pass<4>(from, from_stride, to, to_stride, columns);
    }
}

}  // namespace infall::INFALL_ISA
