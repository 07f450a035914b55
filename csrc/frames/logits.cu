// Projections on a frame, their largest, and the way back, on a device: sums in the order of the
// CPU's, everything elementwise in binary64 and rounded once, as there.
#include <cmath>

#include "frames/device.h"
#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"
#include "runtime/workspace.h"

namespace infall::device {
namespace {

constexpr int sums_per_block = block_threads / frame_sum_lanes;

// partial (count, blocks): sums of frame_sum_block elements of norms x, a thread for each lane.
template <class T>
__global__ void __launch_bounds__(block_threads)
    sum_kernel(const T* x, int64_t stride, int64_t length, const double* norms, int64_t count,
               double* partial) {
    __shared__ double lanes[sums_per_block][frame_sum_lanes];
    const int64_t blocks = (length + frame_sum_block - 1) / frame_sum_block, units = count * blocks;
    const int row = static_cast<int>(threadIdx.x) / frame_sum_lanes;
    const int lane = static_cast<int>(threadIdx.x) % frame_sum_lanes;
    for (int64_t first = int64_t{blockIdx.x} * sums_per_block; first < units;
         first += int64_t{gridDim.x} * sums_per_block) {
        const int64_t unit = first + row, vector = unit / blocks,
                      at = unit % blocks * frame_sum_block;
        double sum = 0.0;
        if (unit < units) {
            const T* from = x + vector * stride;
            const int64_t end = length - at < frame_sum_block ? length : at + frame_sum_block;
            for (int64_t i = at + lane; i < end; i += frame_sum_lanes) {
                const double a = static_cast<double>(from[i]);
                sum += norms ? norms[i] * a : a;
            }
        }
        lanes[row][lane] = sum;
        for (int half = frame_sum_lanes / 2; half > 0; half /= 2) {
            __syncthreads();
            if (lane < half) lanes[row][lane] += lanes[row][lane + half];
        }
        if (lane == 0 && unit < units) partial[unit] = lanes[row][0];
        __syncthreads();
    }
}

__global__ void __launch_bounds__(block_threads)
    total_kernel(const double* partial, int64_t blocks, int64_t count, double* totals) {
    for (int64_t i = thread_of_grid(); i < count; i += threads_of_grid()) {
        double total = 0.0;
        for (int64_t block = 0; block < blocks; ++block) total += partial[i * blocks + block];
        totals[i] = total;
    }
}

// The logits of a vector's products g, whose sum is total.
template <class T>
struct LogitsOf {
    const T* products;
    int64_t coordinates;
    const double* norms;
    double factor, offset, last_offset;

    __device__ LogitsOf(const Frame& frame, const CentringLaw& law, const T* g, double total)
        : products(g),
          coordinates(frame.coordinates()),
          norms(frame.norms),
          factor(law.factor),
          offset(law.share * total),
          last_offset(law.last_share * total) {}

    __device__ T operator()(int64_t c) const {
        const double weight = norms ? factor * norms[c] : factor;
        if (c == coordinates) return static_cast<T>(weight * (0.0 - last_offset));
        return static_cast<T>(weight * (static_cast<double>(products[c]) - offset));
    }
};

template <class T>
struct ScoresOf {
    const T* scores;
    __device__ T operator()(int64_t c) const { return scores[c]; }
};

template <class T>
__global__ void __launch_bounds__(block_threads)
    logits_kernel(Frame frame, CentringLaw law, const T* products, const double* totals,
                  int64_t count, T* out) {
    const int64_t columns = frame.num_classes;
    for (int64_t i = thread_of_grid(); i < count * columns; i += threads_of_grid()) {
        const int64_t vector = i / columns;
        const LogitsOf<T> logits(frame, law, products + vector * frame.dim, totals[vector]);
        out[i] = logits(i % columns);
    }
}

// out (count, dim) = factor (norms y - offset), zeros past the coordinates.
template <class T>
__global__ void __launch_bounds__(block_threads)
    centre_kernel(Frame frame, CentringLaw law, const T* y, const double* totals, double factor,
                  int64_t count, T* out) {
    const int64_t coordinates = frame.coordinates();
    for (int64_t i = thread_of_grid(); i < count * frame.dim; i += threads_of_grid()) {
        const int64_t vector = i / frame.dim, at = i % frame.dim;
        const T* of_vector = y + vector * frame.num_classes;
        if (at >= coordinates) {
            out[i] = static_cast<T>(0);
            continue;
        }
        double offset = law.share * totals[vector];
        if (frame.tight()) {
            const double weight = frame.norms ? frame.norms[coordinates] : 1.0;
            offset += law.last_share * (weight * static_cast<double>(of_vector[coordinates]));
        }
        const double a = static_cast<double>(of_vector[at]);
        out[i] = static_cast<T>(factor * ((frame.norms ? frame.norms[at] * a : a) - offset));
    }
}

// The best of what ranks after (value, position), by value descending and position ascending; a
// block finds the `top` best of a vector one after the other. All its threads call it.
template <class T, class Scores>
__device__ void find_best(const Scores& scores, int64_t columns, const int64_t* labels, int64_t top,
                          int64_t* classes, T* values) {
    __shared__ T best_value[block_threads];
    __shared__ int64_t best_position[block_threads];
    T after_value = 0;
    int64_t after = -1;
    for (int64_t k = 0; k < top; ++k) {
        T value = 0;
        int64_t position = -1;
        for (int64_t c = threadIdx.x; c < columns; c += block_threads) {
            const T score = scores(c);
            const bool left = k == 0 || score < after_value || (score == after_value && c > after);
            if (left && score == score && (position < 0 || score > value)) {
                value = score;
                position = c;
            }
        }
        best_value[threadIdx.x] = value;
        best_position[threadIdx.x] = position;
        for (int half = block_threads / 2; half > 0; half /= 2) {
            __syncthreads();
            const int mine = static_cast<int>(threadIdx.x), other = mine + half;
            if (mine < half && best_position[other] >= 0 &&
                (best_position[mine] < 0 || best_value[other] > best_value[mine] ||
                 (best_value[other] == best_value[mine] &&
                  best_position[other] < best_position[mine]))) {
                best_value[mine] = best_value[other];
                best_position[mine] = best_position[other];
            }
        }
        __syncthreads();
        after_value = best_value[0];
        after = best_position[0];
        if (threadIdx.x == 0) {
            const bool any = after >= 0;
            classes[k] = any && labels ? labels[after] : after;
            values[k] = any ? after_value : static_cast<T>(NAN);
        }
        __syncthreads();
        if (after < 0) after_value = static_cast<T>(-INFINITY);  // nothing ranks after that
    }
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    top_logits_kernel(Frame frame, CentringLaw law, const T* products, const double* totals,
                      int64_t count, int64_t top, int64_t* classes, T* values) {
    for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
        const LogitsOf<T> logits(frame, law, products + i * frame.dim, totals[i]);
        find_best<T>(logits, frame.num_classes, nullptr, top, classes + i * top, values + i * top);
    }
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    top_scores_kernel(const T* scores, const int64_t* labels, int64_t count, int64_t columns,
                      int64_t top, int64_t* classes, T* values) {
    for (int64_t i = blockIdx.x; i < count; i += gridDim.x)
        find_best<T>(ScoresOf<T>{scores + i * columns}, columns,
                     labels ? labels + i * columns : nullptr, top, classes + i * top,
                     values + i * top);
}

// What a call works in: rotated vectors, and their sums.
template <class T>
struct Workspace {
    T* rotated;
    double *totals, *partial;
    int64_t blocks;

    Workspace(const Frame& frame, int64_t count, Layout& layout)
        : rotated(layout.array<T>(frame.hadamard ? count * frame.dim : 0)),
          totals(layout.array<double>(count)),
          blocks((frame.coordinates() + frame_sum_block - 1) / frame_sum_block) {
        partial = layout.array<double>(count * blocks);
    }

    void sum(const T* x, int64_t stride, const Frame& frame, const double* norms, int64_t count,
             Stream stream) const {
        launch("sums", sum_kernel<T>,
               grid_for(blocks_of(count * blocks, sums_per_block), many_blocks), block_threads,
               stream, x, stride, frame.coordinates(), norms, count, partial);
        launch("totals", total_kernel, grid_for_elements(count), block_threads, stream,
               static_cast<const double*>(partial), blocks, count, totals);
    }

    // The products of x (count, dim) with the columns of Q, and their sums.
    const T* products(const Frame& frame, const T* x, int64_t count, Stream stream) const {
        if (frame.hadamard) rotate(frame, x, count, rotated, stream);
        const T* found = frame.hadamard ? rotated : x;
        sum(found, frame.dim, frame, nullptr, count, stream);
        return found;
    }
};

}  // namespace

template <class T>
size_t frame_workspace(const Frame& frame, int64_t count) {
    Layout layout;
    Workspace<T>(frame, count, layout);
    return layout.bytes();
}

template <class T>
void project(const Frame& frame, const T* x, int64_t count, T* out, void* workspace,
             Stream stream) {
    Layout layout(workspace);
    const Workspace<T> space(frame, count, layout);
    const T* products = space.products(frame, x, count, stream);
    launch("logits", logits_kernel<T>, grid_for_elements(count * frame.num_classes), block_threads,
           stream, frame, CentringLaw(frame), products, static_cast<const double*>(space.totals),
           count, out);
}

template <class T>
void synthesise(const Frame& frame, const T* x, int64_t count, T* out, void* workspace,
                Stream stream) {
    Layout layout(workspace);
    const Workspace<T> space(frame, count, layout);
    const CentringLaw law(frame);
    space.sum(x, frame.num_classes, frame, frame.norms, count, stream);
    T* centred = frame.hadamard ? space.rotated : out;
    launch("centring", centre_kernel<T>, grid_for_elements(count * frame.dim), block_threads,
           stream, frame, law, x, static_cast<const double*>(space.totals),
           frame.hadamard ? 1.0 : law.factor, count, centred);
    if (frame.hadamard) rotate_back(frame, centred, count, law.factor, out, stream);
}

template <class T>
void top_logits(const Frame& frame, const T* x, int64_t count, int64_t top, int64_t* classes,
                T* values, void* workspace, Stream stream) {
    Layout layout(workspace);
    const Workspace<T> space(frame, count, layout);
    const T* products = space.products(frame, x, count, stream);
    launch("largest logits", top_logits_kernel<T>, grid_for(count, many_blocks), block_threads,
           stream, frame, CentringLaw(frame), products, static_cast<const double*>(space.totals),
           count, top, classes, values);
}

template <class T>
void top_scores(const T* scores, const int64_t* labels, int64_t count, int64_t columns, int64_t top,
                int64_t* classes, T* values, Stream stream) {
    launch("largest scores", top_scores_kernel<T>, grid_for(count, many_blocks), block_threads,
           stream, scores, labels, count, columns, top, classes, values);
}

#define INFALL_FRAME_TYPE(T)                                                                    \
    template size_t frame_workspace<T>(const Frame&, int64_t);                                  \
    template void project(const Frame&, const T*, int64_t, T*, void*, Stream);                  \
    template void synthesise(const Frame&, const T*, int64_t, T*, void*, Stream);               \
    template void top_logits(const Frame&, const T*, int64_t, int64_t, int64_t*, T*, void*,     \
                             Stream);                                                           \
    template void top_scores(const T*, const int64_t*, int64_t, int64_t, int64_t, int64_t*, T*, \
                             Stream);
INFALL_FRAME_TYPE(float)
INFALL_FRAME_TYPE(double)
#undef INFALL_FRAME_TYPE

}  // namespace infall::device
