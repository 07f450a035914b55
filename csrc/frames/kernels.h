// The frame kernels: one source (kernels.cpp), compiled once per instruction set, reached through a
// table of function pointers. Every instruction set gives the same bits.
#pragma once

#include <cstdint>

namespace infall {

// T is float or double. Butterflies (a, b) -> (a + b, a - b) run level by level, the smallest
// stride first; everything else is computed in binary64 and rounded to T once.
template <class T>
struct FrameKernelsOf {
    // out = the unnormalised Walsh-Hadamard transform of x, both of length 2^log2_length; out may
    // be x. With sign words, x[i] is negated first where bit i of them is set.
    void (*transform_block)(const T* x, const uint32_t* signs, int log2_length, T* out);

    // `levels` <= 6 further levels: x[column + row * stride] for 2^levels rows, in place.
    void (*combine)(T* x, int64_t stride, int levels, int64_t columns);

    // out[i] = factor x[i], negated where bit first + i of the sign words, if any, is set. out may
    // be x.
    void (*scale)(const T* x, const uint32_t* signs, int64_t first, int64_t count, double factor,
                  T* out);

    // Sum of norms[i] x[i], or of x[i] without norms, over at most frame_sum_block elements.
    double (*sum)(const T* x, const double* norms, int64_t count);

    // out[i] = factor (norms[i] x[i] - offset).
    void (*centre)(const T* x, const double* norms, int64_t count, double offset, double factor,
                   T* out);

    // out[i] = factor norms[i] (x[i] - offset): logits of the products x.
    void (*logits)(const T* x, const double* norms, int64_t count, double offset, double factor,
                   T* out);

    bool (*all_finite)(const T* x, int64_t count);

    // The largest of these logits, count >= 1, of finite x (a NaN would hide what comes after it),
    // and the positions of those that are at least `threshold`, ascending: returns how many.
    T (*largest)(const T* x, const double* norms, int64_t count, double offset, double factor);
    int64_t (*at_least)(const T* x, const double* norms, int64_t count, double offset,
                        double factor, T threshold, int32_t* positions);
};

struct FrameKernels {
    FrameKernelsOf<float> float32;
    FrameKernelsOf<double> float64;

    // sums[i][k] += sum over j < depth of a[i][j] b[j][k], one fused multiply-add each, in order;
    // a (rows, depth), sums (rows, columns), columns <= panel_width, b (depth, panel_width).
    int panel_width;
    void (*add_products)(const double* a, int64_t a_stride, int64_t rows, const double* b,
                         int64_t depth, double* sums, int64_t sums_stride, int64_t columns);
    double (*dot)(const double* a, const double* b, int64_t count);
    void (*subtract)(const double* x, double factor, int64_t count, double* y);  // y -= factor x
    void (*multiply)(double* x, double factor, int64_t count);
};

// Longest block of `transform_block`: two of them stay in the cache of a core.
constexpr int transform_block_log2 = 15;
constexpr int combined_levels = 6;
// Elements of a partial sum, which is made of frame_sum_lanes interleaved sums and a tree over
// them.
constexpr int64_t frame_sum_block = 4096;
constexpr int frame_sum_lanes = 32;

// The table of the instruction set in use.
const FrameKernels& frame_kernels();

}  // namespace infall
