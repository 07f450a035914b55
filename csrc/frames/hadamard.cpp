#include "frames/hadamard.h"

#include <algorithm>
#include <cstring>

#include "frames/signs.h"
#include "runtime/isa.h"

namespace infall {

INFALL_KERNEL_TABLES(FrameKernels, frame_kernels)

template <class T>
void transform(const Team* team, const T* x, const uint32_t* signs, int log2_length, T* out) {
    const FrameKernelsOf<T>& kernels = frame_kernels_of<T>();
    const int log2_block = std::min(log2_length, transform_block_log2);
    const int64_t block = int64_t{1} << log2_block, length = int64_t{1} << log2_length;
    Team::run(team, length / block, length, [&](int64_t i) {
        kernels.transform_block(x + i * block, signs ? signs + i * block / 32 : nullptr, log2_block,
                                out + i * block);
    });
    // What is left is read and written once for every few levels.
    int left = log2_length - log2_block;
    for (int64_t stride = block; left > 0;) {
        const int passes = (left + combined_levels - 1) / combined_levels;
        const int levels = (left + passes - 1) / passes;
        const int64_t columns = int64_t{1} << 10, pieces = stride / columns;
        Team::run(team, (length >> levels) / columns, length, [&](int64_t i) {
            const int64_t group = i / pieces, column = i % pieces * columns;
            kernels.combine(out + (group * stride << levels) + column, stride, levels, columns);
        });
        stride <<= levels;
        left -= levels;
    }
}

template <class T>
void walsh_hadamard(const T* x, int64_t count, int log2_length, double factor, int num_threads,
                    Watch* watch, T* out) {
    const int64_t length = int64_t{1} << log2_length;
    const FrameKernelsOf<T>& kernels = frame_kernels_of<T>();
    for_vectors(count, length, num_threads, watch, [&](int64_t i, int, const Team* team) {
        T* result = out + i * length;
        transform(team, x + i * length, nullptr, log2_length, result);
        if (factor != 1.0)
            for_parts(team, length, [&](int64_t first, int64_t here) {
                kernels.scale(result + first, nullptr, 0, here, factor, result + first);
            });
    });
}

HadamardRotation::HadamardRotation(const Frame& frame) : dim_(frame.dim), shape_(frame.dim) {
    for (int round = 0; round < shape_.rounds; ++round) {
        const int64_t count = round == 0 ? dim_ : shape_.window, blocks = (count + 127) / 128;
        signs_[round].resize(static_cast<size_t>(4 * blocks));
        for (int64_t block = 0; block < blocks; ++block)
            std::memcpy(
                signs_[round].data() + 4 * block,
                frame_signs(static_cast<uint64_t>(block), static_cast<uint32_t>(round), frame.seed)
                    .w,
                16);
    }
}

template <class T>
void HadamardRotation::apply(const Team* team, const T* x, T* out) const {
    transform(team, x, signs_[0].data(), shape_.log2_window, out);
    if (shape_.rounds == 1) return;
    const int64_t first = dim_ - shape_.window;  // of the last window
    scale(team, x, 0, shape_.window, dim_, shape_.left_alone(), out);
    transform(team, out + first, signs_[1].data(), shape_.log2_window, out + first);
    scale(team, out, -1, 0, first, shape_.left_alone(), out);
}

template <class T>
void HadamardRotation::apply_transposed(const Team* team, T* v, double factor, T* out) const {
    if (shape_.rounds == 2) {
        const int64_t first = dim_ - shape_.window;
        scale(team, v, -1, 0, first, shape_.left_alone(), v);
        transform(team, v + first, nullptr, shape_.log2_window, v + first);
        scale(team, v + first, 1, 0, shape_.window, 1.0, v + first);
        scale(team, v, -1, shape_.window, dim_, shape_.left_alone(), v);
    }
    transform(team, v, nullptr, shape_.log2_window, v);
    scale(team, v, 0, 0, dim_, factor, out);
}

// out[i] = factor x[i] for first <= i < end, with the signs of a round unless it is -1.
template <class T>
void HadamardRotation::scale(const Team* team, const T* x, int round, int64_t first, int64_t end,
                             double factor, T* out) const {
    const FrameKernelsOf<T>& kernels = frame_kernels_of<T>();
    const uint32_t* signs = round < 0 ? nullptr : signs_[round].data();
    for_parts(team, end - first, [&](int64_t start, int64_t here) {
        const int64_t at = first + start;
        kernels.scale(x + at, signs, at, here, factor, out + at);
    });
}

#define INFALL_FRAME_TYPE(T)                                                          \
    template void transform<T>(const Team*, const T*, const uint32_t*, int, T*);      \
    template void walsh_hadamard<T>(const T*, int64_t, int, double, int, Watch*, T*); \
    template void HadamardRotation::apply<T>(const Team*, const T*, T*) const;        \
    template void HadamardRotation::apply_transposed<T>(const Team*, T*, double, T*) const;
INFALL_FRAME_TYPE(float)
INFALL_FRAME_TYPE(double)
#undef INFALL_FRAME_TYPE

}  // namespace infall
