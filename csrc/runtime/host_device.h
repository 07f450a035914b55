// One spelling for functions that host and device compile alike.
#pragma once

#if defined(__CUDACC__)
#define INFALL_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define INFALL_HD inline __attribute__((always_inline))
#else
#define INFALL_HD inline
#endif
