// Walsh-Hadamard transforms on a device: the levels run in the order of the CPU's, the smallest
// stride first, so that every element goes through the same sums.
#include <algorithm>

#include "frames/device.h"
#include "frames/signs.h"
#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"

namespace infall::device {
namespace {

constexpr int chunk_log2 = 11;  // of a transform in shared memory
constexpr int chunk = 1 << chunk_log2;
constexpr int column_levels = 4;  // of a pass over memory: a thread has 2^levels elements

// Which signs go before a transform: none, or those of a round of a frame.
struct Signs {
    bool any;
    uint32_t round;
    uint64_t seed;
};

INFALL_HD bool is_negated(const Signs& signs, int64_t i) {
    if (!signs.any) return false;
    const PhiloxBlock words = frame_signs(static_cast<uint64_t>(i) / 128, signs.round, signs.seed);
    return words.w[i / 32 % 4] >> (i % 32) & 1u;
}

// `levels` levels among the elements of a, stride apart.
template <int levels, class T>
__device__ void butterflies(T* a, int64_t stride) {
    T value[1 << levels];
#pragma unroll
    for (int i = 0; i < (1 << levels); ++i) value[i] = a[i * stride];
#pragma unroll
    for (int level = 0; level < levels; ++level)
#pragma unroll
        for (int i = 0; i < (1 << levels); ++i)
            if ((i >> level & 1) == 0) {
                const T low = value[i], high = value[i | 1 << level];
                value[i] = low + high;
                value[i | 1 << level] = low - high;
            }
#pragma unroll
    for (int i = 0; i < (1 << levels); ++i) a[i * stride] = value[i];
}

template <class T>
__device__ void some_butterflies(int levels, T* a, int64_t stride) {
    if (levels == 1) butterflies<1>(a, stride);
    if (levels == 2) butterflies<2>(a, stride);
    if (levels == 3) butterflies<3>(a, stride);
    if (levels == 4) butterflies<4>(a, stride);
}

// All levels inside chunks of `length` <= chunk elements. Vectors start x_stride and out_stride
// apart and are `chunks` chunks long; a block takes one chunk at a time.
template <class T>
__global__ void __launch_bounds__(block_threads)
    chunk_kernel(const T* x, int64_t x_stride, Signs signs, int64_t count, int64_t chunks,
                 int length, T* out, int64_t out_stride) {
    __shared__ T values[chunk];
    __shared__ uint32_t words[chunk / 32];
    for (int64_t unit = blockIdx.x; unit < count * chunks; unit += gridDim.x) {
        const int64_t vector = unit / chunks, first = unit % chunks * length;
        const T* from = x + vector * x_stride + first;
        T* to = out + vector * out_stride + first;
        if (signs.any) {
            const int blocks = (length + 127) / 128;
            for (int i = threadIdx.x; i < blocks; i += block_threads) {
                const PhiloxBlock b =
                    frame_signs(static_cast<uint64_t>(first / 128 + i), signs.round, signs.seed);
                for (int k = 0; k < 4; ++k) words[4 * i + k] = b.w[k];
            }
            __syncthreads();
        }
        for (int i = threadIdx.x; i < length; i += block_threads)
            values[i] = signs.any && (words[i / 32] >> (i % 32) & 1u) ? -from[i] : from[i];
        for (int stride = 1; stride < length;) {
            int levels = 3;
            while (stride << levels > length) --levels;
            __syncthreads();
            for (int i = threadIdx.x; i < length >> levels; i += block_threads)
                some_butterflies(levels, values + (i / stride * stride << levels) + i % stride,
                                 stride);
            stride <<= levels;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < length; i += block_threads) to[i] = values[i];
        __syncthreads();
    }
}

// `levels` more levels, the first at `stride`, of vectors out_stride apart: a thread is a column.
template <class T>
__global__ void __launch_bounds__(block_threads)
    column_kernel(T* out, int64_t out_stride, int64_t count, int64_t length, int64_t stride,
                  int levels) {
    const int64_t columns = length >> levels;
    for (int64_t i = thread_of_grid(); i < count * columns; i += threads_of_grid()) {
        const int64_t vector = i / columns, column = i % columns;
        some_butterflies(
            levels,
            out + vector * out_stride + (column / stride * stride << levels) + column % stride,
            stride);
    }
}

// out[i] = factor x[i], with signs, for first <= i < end of vectors x_stride and out_stride apart.
template <class T>
__global__ void __launch_bounds__(block_threads)
    scale_kernel(const T* x, int64_t x_stride, Signs signs, int64_t count, int64_t first,
                 int64_t end, double factor, T* out, int64_t out_stride) {
    const int64_t length = end - first;
    for (int64_t i = thread_of_grid(); i < count * length; i += threads_of_grid()) {
        const int64_t vector = i / length, at = first + i % length;
        const double a = static_cast<double>(x[vector * x_stride + at]) * factor;
        out[vector * out_stride + at] = static_cast<T>(is_negated(signs, at) ? -a : a);
    }
}

template <class T>
void transform(const T* x, int64_t x_stride, const Signs& signs, int64_t count, int log2_length,
               T* out, int64_t out_stride, Stream stream) {
    const int64_t length = int64_t{1} << log2_length, inside = std::min<int64_t>(length, chunk);
    const int64_t chunks = length / inside;
    launch("transform of chunks", chunk_kernel<T>, grid_for(count * chunks, many_blocks),
           block_threads, stream, x, x_stride, signs, count, chunks, static_cast<int>(inside), out,
           out_stride);
    int left = log2_length - std::min(log2_length, chunk_log2);
    for (int64_t stride = inside; left > 0;) {
        const int levels = std::min(left, column_levels);
        const int64_t units = count * (length >> levels);
        launch("transform of columns", column_kernel<T>, grid_for_elements(units), block_threads,
               stream, out, out_stride, count, length, stride, levels);
        stride <<= levels;
        left -= levels;
    }
}

template <class T>
void scale(const T* x, const Signs& signs, int64_t count, int64_t stride, int64_t first,
           int64_t end, double factor, T* out, Stream stream) {
    if (end == first) return;
    const int64_t units = count * (end - first);
    launch("scaling", scale_kernel<T>, grid_for_elements(units), block_threads, stream, x, stride,
           signs, count, first, end, factor, out, stride);
}

const Signs no_signs{false, 0, 0};

}  // namespace

template <class T>
void walsh_hadamard(const T* x, int64_t count, int log2_length, double factor, T* out,
                    Stream stream) {
    const int64_t length = int64_t{1} << log2_length;
    transform(x, length, no_signs, count, log2_length, out, length, stream);
    if (factor != 1.0) scale(out, no_signs, count, length, 0, length, factor, out, stream);
}

template <class T>
void rotate(const Frame& frame, const T* x, int64_t count, T* out, Stream stream) {
    const HadamardShape shape(frame.dim);
    const int64_t dim = frame.dim, first = dim - shape.window;  // of the last window
    const Signs signs[2] = {{true, 0, frame.seed}, {true, 1, frame.seed}};
    transform(x, dim, signs[0], count, shape.log2_window, out, dim, stream);
    if (shape.rounds == 1) return;
    scale(x, signs[0], count, dim, shape.window, dim, shape.left_alone(), out, stream);
    transform(out + first, dim, signs[1], count, shape.log2_window, out + first, dim, stream);
    scale(out, no_signs, count, dim, 0, first, shape.left_alone(), out, stream);
}

template <class T>
void rotate_back(const Frame& frame, T* v, int64_t count, double factor, T* out, Stream stream) {
    const HadamardShape shape(frame.dim);
    const int64_t dim = frame.dim, first = dim - shape.window;
    const Signs signs[2] = {{true, 0, frame.seed}, {true, 1, frame.seed}};
    if (shape.rounds == 2) {
        scale(v, no_signs, count, dim, 0, first, shape.left_alone(), v, stream);
        transform(v + first, dim, no_signs, count, shape.log2_window, v + first, dim, stream);
        scale(v + first, signs[1], count, dim, 0, shape.window, 1.0, v + first, stream);
        scale(v, no_signs, count, dim, shape.window, dim, shape.left_alone(), v, stream);
    }
    transform(v, dim, no_signs, count, shape.log2_window, v, dim, stream);
    scale(v, signs[0], count, dim, 0, dim, factor, out, stream);
}

template void walsh_hadamard(const float*, int64_t, int, double, float*, Stream);
template void walsh_hadamard(const double*, int64_t, int, double, double*, Stream);
template void rotate(const Frame&, const float*, int64_t, float*, Stream);
template void rotate(const Frame&, const double*, int64_t, double*, Stream);
template void rotate_back(const Frame&, float*, int64_t, double, float*, Stream);
template void rotate_back(const Frame&, double*, int64_t, double, double*, Stream);

}  // namespace infall::device
