// Vectors of T in the compiler's vector extensions, and the Walsh-Hadamard butterflies on them.
// The order of the levels is fixed, the smallest stride first: every element then goes through the
// same sums, however wide the vectors are and however the passes are cut.
#pragma once

#include <cstdint>

#include "runtime/host_device.h"

namespace infall {
namespace INFALL_ISA {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int radix_levels = 4;  // levels of a pass: its 2^levels vectors stay in registers
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
constexpr int radix_levels = 3;
#else
constexpr int vector_bytes = 16;
constexpr int radix_levels = 3;
#endif

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
    static constexpr int lanes = vector_bytes / 4;
    typedef float Vector __attribute__((vector_size(vector_bytes)));
    typedef float Unaligned __attribute__((vector_size(vector_bytes), aligned(4), may_alias));
    typedef uint32_t Word;
    typedef uint32_t Words __attribute__((vector_size(vector_bytes)));
    typedef int32_t Mask __attribute__((vector_size(vector_bytes)));
};
template <>
struct VectorOf<double> {
    static constexpr int lanes = vector_bytes / 8;
    typedef double Vector __attribute__((vector_size(vector_bytes)));
    typedef double Unaligned __attribute__((vector_size(vector_bytes), aligned(8), may_alias));
    typedef uint64_t Word;
    typedef uint64_t Words __attribute__((vector_size(vector_bytes)));
    typedef int64_t Mask __attribute__((vector_size(vector_bytes)));
};

template <class T>
using Vector = typename VectorOf<T>::Vector;
template <class T>
constexpr int lanes_of = VectorOf<T>::lanes;

template <class T>
INFALL_HD Vector<T> load_vector(const T* p) {
    return *reinterpret_cast<const typename VectorOf<T>::Unaligned*>(p);
}
template <class T>
INFALL_HD void store_vector(T* p, Vector<T> a) {
    *reinterpret_cast<typename VectorOf<T>::Unaligned*>(p) = a;
}

// Lane i of the result: lane i ^ stride of a.
template <int stride, class V, class W, int... lane>
INFALL_HD V partner_of(V a, W) {
#if defined(__clang__)
    return __builtin_shufflevector(a, a, (lane ^ stride)...);
#else
    return __builtin_shuffle(a, W{(lane ^ stride)...});
#endif
}
template <int stride, class T>
INFALL_HD Vector<T> partner(Vector<T> a) {
    using Mask = typename VectorOf<T>::Mask;
    constexpr int lanes = lanes_of<T>;
    if constexpr (lanes == 2)
        return partner_of<stride, Vector<T>, Mask, 0, 1>(a, Mask{});
    else if constexpr (lanes == 4)
        return partner_of<stride, Vector<T>, Mask, 0, 1, 2, 3>(a, Mask{});
    else if constexpr (lanes == 8)
        return partner_of<stride, Vector<T>, Mask, 0, 1, 2, 3, 4, 5, 6, 7>(a, Mask{});
    else
        return partner_of<stride, Vector<T>, Mask, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
                          15>(a, Mask{});
}

// All-ones in the lanes whose bit of `bits` is set.
template <class T>
INFALL_HD typename VectorOf<T>::Mask lanes_set(uint32_t bits) {
    using Words = typename VectorOf<T>::Words;
    using Word = typename VectorOf<T>::Word;
    Words bit{};
#pragma GCC unroll 16
    for (int i = 0; i < lanes_of<T>; ++i) bit[i] = Word{1} << i;
    return ((Words{} + bits) & bit) != Words{};
}

template <class T>
INFALL_HD Vector<T> negate_where(Vector<T> a, typename VectorOf<T>::Mask mask) {
    using Words = typename VectorOf<T>::Words;
    using Word = typename VectorOf<T>::Word;
    constexpr Word sign = Word{1} << (8 * sizeof(T) - 1);
    return (Vector<T>)((Words)a ^ ((Words)mask & sign));
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
        for (int i = 0; i < rows; ++i) store_vector(to + i * to_stride + column, a[i]);
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

}  // namespace INFALL_ISA
}  // namespace infall
