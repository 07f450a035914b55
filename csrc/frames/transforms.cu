// Walsh-Hadamard transforms on a device: the levels run in the order of the CPU's, the smallest
// stride first, so that every element goes through the same sums. All lengths are powers of two:
// the places of elements come from shifts.
#include <algorithm>

#include "frames/device.h"
#include "frames/signs.h"
#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"
#include "runtime/row_grid.h"

namespace infall::device {
namespace {

constexpr int chunk_log2 = 11;  // elements of a block in shared memory
constexpr int chunk = 1 << chunk_log2;
constexpr int chunk_levels = 4;  // of a pass over shared memory: a thread has 2^levels elements
constexpr int chunk_loads = 1 << chunk_levels;
constexpr int chunk_threads = chunk / chunk_loads;
constexpr int column_levels = 5;  // of a pass over memory

INFALL_HD bool is_negated(const uint32_t* signs, int64_t i) {
    return signs && (signs[i >> 5] >> (i & 31) & 1u);
}

// What a transform does to its results in its last pass.
struct Scaling {
    double factor;
    const uint32_t* signs;  // or null

    template <class T>
    __device__ T operator()(T value, int64_t i) const {
        const double scaled = static_cast<double>(value) * factor;
        return static_cast<T>(is_negated(signs, i) ? -scaled : scaled);
    }
    bool changes() const { return factor != 1.0 || signs; }
};

const Scaling as_they_are{1.0, nullptr};

// `levels` levels among 2^levels elements.
template <int levels, class T>
__device__ void butterflies(T* value) {
#pragma unroll
    for (int level = 0; level < levels; ++level)
#pragma unroll
        for (int i = 0; i < (1 << levels); ++i)
            if ((i >> level & 1) == 0) {
                const T low = value[i], high = value[i | 1 << level];
                value[i] = low + high;
                value[i | 1 << level] = low - high;
            }
}

// Where element i of a chunk lies in shared memory: a permutation of aligned runs of 32, under
// which no two threads of a warp meet in a bank, whether they are 1 or 16 elements apart. It is
// linear over bits: the place of i | k, for i and k without a common bit, is that of i xor that of
// k.
INFALL_HD constexpr int place(int i) { return i ^ (i >> 4 & 31); }

// Levels first_level, ..., first_level + levels - 1 of a chunk.
template <int first_level, int levels, class T>
__device__ void chunk_pass(T* elements) {
    for (int i = threadIdx.x; i < chunk >> levels; i += chunk_threads) {
        const int at =
            place((i >> first_level << (first_level + levels)) + (i & ((1 << first_level) - 1)));
        T value[1 << levels];
#pragma unroll
        for (int k = 0; k < (1 << levels); ++k) value[k] = elements[at ^ place(k << first_level)];
        butterflies<levels>(value);
#pragma unroll
        for (int k = 0; k < (1 << levels); ++k) elements[at ^ place(k << first_level)] = value[k];
    }
}

// The levels from first_level on that are below end_level.
template <int first_level, class T>
__device__ void chunk_passes(int end_level, T* elements) {
    if constexpr (first_level + chunk_levels <= chunk_log2)
        if (end_level >= first_level + chunk_levels)
            chunk_pass<first_level, chunk_levels>(elements);
    if (end_level == first_level + 3) chunk_pass<first_level, 3>(elements);
    if (end_level == first_level + 2) chunk_pass<first_level, 2>(elements);
    if (end_level == first_level + 1) chunk_pass<first_level, 1>(elements);
    __syncthreads();
    if constexpr (first_level + chunk_levels < chunk_log2)
        if (end_level > first_level + chunk_levels)
            chunk_passes<first_level + chunk_levels>(end_level, elements);
}

// The first levels of vectors of 2^log2_length elements, x_stride and out_stride apart: all levels
// below chunk_log2. A block takes a chunk of the vectors as they would be one behind the other: a
// part of a long one, or several that are short.
template <bool are_long, bool scales, class T>
__global__ void __launch_bounds__(chunk_threads)
    chunk_kernel(const T* x, int64_t x_stride, const uint32_t* signs, int64_t count,
                 int log2_length, Scaling scaling, T* out, int64_t out_stride) {
    __shared__ T elements[chunk];
    const int thread = static_cast<int>(threadIdx.x);
    const int log2_inside = are_long ? chunk_log2 : log2_length;
    const int inside = (1 << log2_inside) - 1;
    const int64_t first = int64_t{blockIdx.x} << chunk_log2;
    const int64_t vector = first >> log2_length, start = first - (vector << log2_length);
    const int64_t total = count << log2_length;
    const int left = are_long || total - first > chunk ? chunk : static_cast<int>(total - first);
    const auto offset = [&](int i, int64_t stride) {
        return are_long ? int64_t{i} : (i >> log2_inside) * stride + (i & inside);
    };
    const T* from = x + vector * x_stride + start;
    T* to = out + vector * out_stride + start;
    T entries[chunk_loads];
#pragma unroll
    for (int k = 0; k < chunk_loads; ++k) {  // none under a condition, so that all are under way
        const int i = thread + k * chunk_threads;
        entries[k] = from[offset(are_long || i < left ? i : left - 1, x_stride)];
    }
    if (signs)
#pragma unroll
        for (int k = 0; k < chunk_loads; ++k)
            if (is_negated(signs, start + ((thread + k * chunk_threads) & inside)))
                entries[k] = -entries[k];
#pragma unroll
    for (int k = 0; k < chunk_loads; ++k)
        elements[place(thread) ^ place(k * chunk_threads)] = entries[k];
    __syncthreads();
    chunk_passes<0>(log2_inside, elements);
#pragma unroll
    for (int k = 0; k < chunk_loads; ++k) {
        const int i = thread + k * chunk_threads;
        const T result = elements[place(thread) ^ place(k * chunk_threads)];
        if (are_long || i < left)
            to[offset(i, out_stride)] = scales ? scaling(result, start + (i & inside)) : result;
    }
}

// `levels` more levels in place, the first at stride 2^log2_stride: a thread is a column.
template <int levels, bool scales, class T>
__global__ void __launch_bounds__(block_threads)
    column_kernel(T* x, int64_t x_stride, int64_t count, int log2_length, int log2_stride,
                  Scaling scaling) {
    const int log2_columns = log2_length - levels;
    const int64_t stride = int64_t{1} << log2_stride;
#pragma unroll 1  // to unroll it, nvcc would divide
    for (int64_t i = thread_of_grid(); i < count << log2_columns; i += threads_of_grid()) {
        const int64_t vector = i >> log2_columns, column = i & ((int64_t{1} << log2_columns) - 1);
        const int64_t first =
            (column >> log2_stride << (log2_stride + levels)) + (column & (stride - 1));
        T *const from = x + vector * x_stride + first, *at = from;
        T value[1 << levels];
#pragma unroll
        for (int k = 0; k < (1 << levels); ++k, at += stride) value[k] = *at;
        butterflies<levels>(value);
        at = from;
#pragma unroll
        for (int k = 0; k < (1 << levels); ++k, at += stride)
            *at = scales ? scaling(value[k], first + k * stride) : value[k];
    }
}

// out[i] = factor x[i], with signs, for first <= i < end of vectors `stride` apart; out may be x.
template <class T>
__global__ void __launch_bounds__(block_threads)
    scale_kernel(const T* x, int64_t count, int64_t stride, int64_t first, int64_t end,
                 Scaling scaling, T* out) {
    for (int64_t vector = row_of_grid(); vector < count; vector += rows_of_grid()) {
        const int64_t start = vector * stride + first;
        map_row(x + start, end - first, out + start,
                [&](int64_t i, T entry) { return scaling(entry, first + i); });
    }
}

// words (4 blocks,) of the signs of a round.
__global__ void __launch_bounds__(block_threads)
    signs_kernel(uint32_t round, uint64_t seed, int64_t blocks, uint32_t* words) {
    for (int64_t i = thread_of_grid(); i < blocks; i += threads_of_grid()) {
        const PhiloxBlock block = frame_signs(static_cast<uint64_t>(i), round, seed);
        for (int k = 0; k < 4; ++k) words[4 * i + k] = block.w[k];
    }
}

int64_t sign_blocks(int64_t count) { return blocks_of(count, 128); }

template <bool scales, class T>
void columns_pass(int levels, T* x, int64_t x_stride, int64_t count, int log2_length,
                  int log2_stride, const Scaling& scaling, Stream stream) {
    const decltype(&column_kernel<1, scales, T>) kernels[column_levels] = {
        column_kernel<1, scales, T>, column_kernel<2, scales, T>, column_kernel<3, scales, T>,
        column_kernel<4, scales, T>, column_kernel<5, scales, T>};
    launch("transform of columns", kernels[levels - 1],
           grid_for_elements(count << (log2_length - levels)), block_threads, stream, x, x_stride,
           count, log2_length, log2_stride, scaling);
}

// out = the transforms of x with signs, which may be null, scaled; vectors x_stride and out_stride
// apart; out may be x.
template <class T>
void transform(const T* x, int64_t x_stride, const uint32_t* signs, int64_t count, int log2_length,
               const Scaling& scaling, T* out, int64_t out_stride, Stream stream) {
    int left = log2_length - std::min(log2_length, chunk_log2);
    const bool are_long = log2_length >= chunk_log2, scales = left == 0 && scaling.changes();
    const auto chunks = are_long && scales ? chunk_kernel<true, true, T>
                        : are_long         ? chunk_kernel<true, false, T>
                        : scales           ? chunk_kernel<false, true, T>
                                           : chunk_kernel<false, false, T>;
    launch("transform of chunks", chunks, exact_grid(count << log2_length, chunk), chunk_threads,
           stream, x, x_stride, signs, count, log2_length, scaling, out, out_stride);
    // What is left is read and written once for every few levels.
    for (int log2_stride = chunk_log2; left > 0;) {
        const int passes = (left + column_levels - 1) / column_levels;
        const int levels = (left + passes - 1) / passes;
        const auto pass =
            passes == 1 && scaling.changes() ? columns_pass<true, T> : columns_pass<false, T>;
        pass(levels, out, out_stride, count, log2_length, log2_stride, scaling, stream);
        log2_stride += levels;
        left -= levels;
    }
}

template <class T>
void scale(const T* x, int64_t count, int64_t stride, int64_t first, int64_t end,
           const Scaling& scaling, T* out, Stream stream) {
    if (end == first) return;
    const ElementShape shape = grid_of_rows(count, end - first);
    launch("scaling", scale_kernel<T>, shape.grid, shape.block, stream, x, count, stride, first,
           end, scaling, out);
}

}  // namespace

template <class T>
void walsh_hadamard(const T* x, int64_t count, int log2_length, double factor, T* out,
                    Stream stream) {
    const int64_t length = int64_t{1} << log2_length;
    transform(x, length, nullptr, count, log2_length, {factor, nullptr}, out, length, stream);
}

HadamardRotation::HadamardRotation(const Frame& frame, Layout& layout)
    : dim_(frame.dim), seed_(frame.seed), shape_(frame.dim) {
    const bool any = frame.hadamard, again = any && shape_.rounds == 2;
    signs_[0] = layout.array<uint32_t>(any ? 4 * sign_blocks(dim_) : 0);
    signs_[1] = layout.array<uint32_t>(again ? 4 * sign_blocks(shape_.window) : 0);
}

void HadamardRotation::make_signs(Stream stream) const {
    for (int round = 0; round < shape_.rounds; ++round) {
        const int64_t blocks = sign_blocks(round == 0 ? dim_ : shape_.window);
        launch("signs", signs_kernel, grid_for_elements(blocks), block_threads, stream,
               static_cast<uint32_t>(round), seed_, blocks, signs_[round]);
    }
}

template <class T>
void HadamardRotation::apply(const T* x, int64_t count, T* out, Stream stream) const {
    const int64_t window = shape_.window, first = dim_ - window;  // of the last window
    const int log2_window = shape_.log2_window;
    const double left_alone = shape_.left_alone();
    transform(x, dim_, signs_[0], count, log2_window, as_they_are, out, dim_, stream);
    if (shape_.rounds == 1) return;
    scale(x, count, dim_, window, dim_, {left_alone, signs_[0]}, out, stream);
    transform(out + first, dim_, signs_[1], count, log2_window, as_they_are, out + first, dim_,
              stream);
    scale(out, count, dim_, 0, first, {left_alone, nullptr}, out, stream);
}

template <class T>
void HadamardRotation::apply_transposed(T* v, int64_t count, double factor, T* out,
                                        Stream stream) const {
    const int64_t window = shape_.window, first = dim_ - window;
    const int log2_window = shape_.log2_window;
    const Scaling left_alone{shape_.left_alone(), nullptr}, last{factor, signs_[0]};
    if (shape_.rounds == 2) {
        scale(v, count, dim_, 0, first, left_alone, v, stream);
        transform(v + first, dim_, nullptr, count, log2_window, {1.0, signs_[1]}, v + first, dim_,
                  stream);
        scale(v, count, dim_, window, dim_, left_alone, v, stream);
        scale(v, count, dim_, window, dim_, last, out, stream);
    }
    transform(v, dim_, nullptr, count, log2_window, last, out, dim_, stream);
}

#define INFALL_TRANSFORM_TYPE(T)                                                \
    template void walsh_hadamard(const T*, int64_t, int, double, T*, Stream);   \
    template void HadamardRotation::apply(const T*, int64_t, T*, Stream) const; \
    template void HadamardRotation::apply_transposed(T*, int64_t, double, T*, Stream) const;
INFALL_TRANSFORM_TYPE(float)
INFALL_TRANSFORM_TYPE(double)
#undef INFALL_TRANSFORM_TYPE

}  // namespace infall::device
