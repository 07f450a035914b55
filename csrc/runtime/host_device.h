// One spelling for functions that host and device compile alike.
#pragma once

#if defined(__CUDACC__)
#define INFALL_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define INFALL_HD inline __attribute__((always_inline))
#else
#define INFALL_HD inline
#endif

// For lambdas that would else be functions of their own.
#if defined(__CUDACC__)
#define INFALL_LAMBDA_INLINE
#else
#define INFALL_LAMBDA_INLINE __attribute__((always_inline))
#endif
