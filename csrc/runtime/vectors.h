// Vectors of the instruction set that a source is compiled for: all that kernels know of it.
//
// What is the same everywhere is written here in the compiler's vector extensions; the header of
// the level, at the end, adds what they cannot say. A result must not depend on the width: lane =
// one independent result, or sums of a fixed number of lanes that several vectors make up together.
#pragma once

#include <cstdint>
#include <type_traits>

#include "runtime/half.h"
#include "runtime/host_device.h"
#include "runtime/scalar.h"

#define INFALL_UNROLL _Pragma("GCC unroll 16")

namespace infall::INFALL_ISA {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64, registers = 32;
constexpr bool has_fused = true;       // fused multiply-adds are instructions
constexpr bool has_bit_counts = true;  // add_bits is faster than one word at a time
#define INFALL_LEVEL "runtime/simd_avx512.h"
#elif defined(__AVX2__)
constexpr int vector_bytes = 32, registers = 16;
constexpr bool has_fused = true;
constexpr bool has_bit_counts = true;
#define INFALL_LEVEL "runtime/simd_avx2.h"
#elif defined(__SSE4_2__)
constexpr int vector_bytes = 16, registers = 16;
constexpr bool has_fused = false;
constexpr bool has_bit_counts = false;
#define INFALL_LEVEL "runtime/simd_sse4.h"
#elif defined(__ARM_NEON) && defined(__aarch64__)
constexpr int vector_bytes = 16, registers = 32;
constexpr bool has_fused = true;
constexpr bool has_bit_counts = true;
#define INFALL_LEVEL "runtime/simd_neon.h"
#else
constexpr int vector_bytes = 16, registers = 16;
constexpr bool has_fused = false;
constexpr bool has_bit_counts = false;
#define INFALL_LEVEL "runtime/simd_scalar.h"
#endif

// Vectors of T, with the compiler's operators.
template <class T>
struct Extension {
    typedef T Type __attribute__((vector_size(sizeof(T) * (vector_bytes / sizeof(T)))));
    typedef T Unaligned __attribute__((vector_size(vector_bytes), aligned(sizeof(T)), may_alias));
};
template <class T>
using Vector = typename Extension<T>::Type;
template <class T>
constexpr int lanes_of = vector_bytes / static_cast<int>(sizeof(T));

// The integers as wide as T: lanes of masks (0 or -1) and of indices.
template <class T>
using IntegerOf = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

template <class T>
INFALL_HD Vector<T> load_vector(const T* p) {
    return *reinterpret_cast<const typename Extension<T>::Unaligned*>(p);
}
template <class T>
INFALL_HD void store(T* p, Vector<T> a) {
    *reinterpret_cast<typename Extension<T>::Unaligned*>(p) = a;
}

using Double = Vector<double>;
using Long = Vector<int64_t>;
constexpr int double_lanes = lanes_of<double>;
INFALL_HD Double broadcast(double x) { return x - Double{}; }  // -0 stays -0
INFALL_HD Double load(const double* p) { return load_vector(p); }

// A class, so that the templates of random/ find the functions of its vectors.
struct Float {
    Vector<float> v;
    Float() = default;
    INFALL_HD Float(Vector<float> x) : v(x) {}
    INFALL_HD explicit Float(float x) : v(x - Vector<float>{}) {}
    INFALL_HD operator Vector<float>() const { return v; }
};
constexpr int lanes = lanes_of<float>;

INFALL_HD Float load(const float* p) { return load_vector(p); }
INFALL_HD Float operator*(Float a, Float b) { return a.v * b.v; }
INFALL_HD Float operator-(Float a, Float b) { return a.v - b.v; }

// double_lanes numbers of any type, widened to binary64; and rounded from it.
typedef float HalfFloats __attribute__((vector_size(4 * double_lanes), aligned(4), may_alias));

INFALL_HD Double load_doubles(const double* p) { return load(p); }
INFALL_HD Double load_doubles(const float* p);
INFALL_HD Double load_doubles(const BFloat16* p) {
    alignas(64) float widened[double_lanes];
    INFALL_UNROLL
    for (int lane = 0; lane < double_lanes; ++lane) widened[lane] = to_float(p[lane]);
    return load_doubles(widened);
}
INFALL_HD void store_rounded(double* p, Double a) { store(p, a); }
#if !defined(__AVX512F__)  // there GCC 12 would convert halves and put them together
INFALL_HD Double load_doubles(const float* p) {
    return __builtin_convertvector(*reinterpret_cast<const HalfFloats*>(p), Double);
}
INFALL_HD void store_rounded(float* p, Double a) {
    *reinterpret_cast<HalfFloats*>(p) = __builtin_convertvector(a, HalfFloats);
}
#endif

}  // namespace infall::INFALL_ISA

// Word, 32 bits a lane, and Wide, products of words; the arithmetic of Float beyond these
// operators; of Double, fused, and load_doubles of Float16.
#include INFALL_LEVEL

namespace infall::INFALL_ISA {

INFALL_HD void store(uint32_t* p, Word a) { store<uint32_t>(p, (Vector<uint32_t>)a.v); }

// Whether a comparison holds in any lane.
template <class Mask>
INFALL_HD bool any(Mask mask) {
    return any_bit((Long)mask);
}

}  // namespace infall::INFALL_ISA
