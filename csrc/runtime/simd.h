// Vectors of the instruction set that a source is compiled for.
#pragma once

#if defined(__AVX512F__)
#include "runtime/simd_avx512.h"
#elif defined(__AVX2__)
#include "runtime/simd_avx2.h"
#elif defined(__SSE4_2__)
#include "runtime/simd_sse4.h"
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include "runtime/simd_neon.h"
#else
#include "runtime/simd_scalar.h"
#endif

#define INFALL_UNROLL _Pragma("GCC unroll 16")
