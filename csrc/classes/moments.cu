// One thread is one column of one class, its samples in order: what a CPU lane does, bit for bit.
#include <cmath>
#include <type_traits>

#include "classes/device.h"
#include "runtime/cuda_launch.h"
#include "runtime/elements.h"
#include "runtime/lanes.h"
#include "runtime/launch_shape.h"

namespace infall::device {
namespace {

constexpr int threads = static_cast<int>(square_columns);
constexpr int ahead = 8;  // samples whose entries are on their way while others are added

// The sum of the numbers of a block's threads in fixed lanes, as on the host; for thread 0.
__device__ double lane_sum(double* shared, double number) {
    __syncthreads();
    shared[threadIdx.x] = number;
    __syncthreads();
    if (threadIdx.x < sum_lanes) {
        double lane = shared[threadIdx.x];
        for (int j = sum_lanes; j < threads; j += sum_lanes) lane += shared[threadIdx.x + j];
        number = lane;
    }
    __syncthreads();
    if (threadIdx.x < sum_lanes) shared[threadIdx.x] = number;
    __syncthreads();
    return total_by_halves(shared);
}

__device__ bool label_out_of_range(const ClassOrder& samples, int64_t num_classes) {
    return samples.starts[0] != 0 || samples.starts[num_classes] != samples.num_samples;
}

template <class T, class Shift>
__global__ void sums_kernel(const T* data, int64_t stride, int64_t dim, ClassOrder samples,
                            int64_t num_classes, const int64_t* counts, Shift* shifts, double* sums,
                            double* squares, int64_t groups) {
    __shared__ double shared[threads];
    const double poison = label_out_of_range(samples, num_classes) ? NAN : 0.0;
    for (int64_t block = blockIdx.x; block < num_classes * groups; block += gridDim.x) {
        const int64_t label = block / groups, column = block % groups * threads + threadIdx.x;
        const int64_t first = samples.starts[label], last = samples.starts[label + 1];
        double total = 0.0;
        const bool active = column < dim && first < last;
        const int64_t place = label * dim + column;
        double shift = 0.0, sum = 0.0;
        if (active) {
            const bool known = counts[label] > 0;
            if (!known)
                shifts[place] =
                    static_cast<Shift>(to_double(data[samples.order[first] * stride + column]));
            shift = to_double(shifts[place]);
            sum = (known ? sums[place] : 0.0) + poison;
        }
        for (int64_t start = first; start < last; start += max_samples) {
            const int64_t end = last - start < max_samples ? last : start + max_samples;
            double square = 0.0;
            int64_t i = start;
            for (; active && i + ahead <= end; i += ahead) {
                T entries[ahead];
#pragma unroll
                for (int s = 0; s < ahead; ++s)
                    entries[s] = data[samples.order[i + s] * stride + column];
#pragma unroll
                for (int s = 0; s < ahead; ++s) {
                    const double deviation = to_double(entries[s]) - shift;
                    sum += deviation;
                    square += deviation * deviation;
                }
            }
            for (; active && i < end; ++i) {
                const double deviation =
                    to_double(data[samples.order[i] * stride + column]) - shift;
                sum += deviation;
                square += deviation * deviation;
            }
            total += lane_sum(shared, square);
        }
        if (active) sums[place] = sum;
        if (threadIdx.x == 0) squares[block] = total;
    }
}

__global__ void totals_kernel(ClassOrder samples, int64_t num_classes, int64_t* counts,
                              const double* group_squares, int64_t groups, double* squares) {
    const double poison = label_out_of_range(samples, num_classes) ? NAN : 0.0;
    for (int64_t label = thread_of_grid(); label < num_classes; label += threads_of_grid()) {
        double total = (counts[label] > 0 ? squares[label] : 0.0) + poison;
        for (int64_t g = 0; g < groups; ++g) total += group_squares[label * groups + g];
        squares[label] = total;
        counts[label] += samples.starts[label + 1] - samples.starts[label];
    }
}

template <class Shift>
__global__ void means_kernel(int64_t num_classes, int64_t dim, const int64_t* counts,
                             const Shift* shifts, const double* sums, const double* centre,
                             double* means, double* square_offsets) {
    __shared__ double lanes[sum_lanes];
    for (int64_t label = blockIdx.x; label < num_classes; label += gridDim.x) {
        const auto count = static_cast<double>(counts[label]);
        const bool known = counts[label] > 0;
        for (int64_t j = threadIdx.x; j < dim; j += blockDim.x) {
            const int64_t place = label * dim + j;
            means[place] =
                known ? (to_double(shifts[place]) - centre[j]) + sums[place] / count : NAN;
        }
        __syncthreads();
        if (threadIdx.x < sum_lanes) {
            double lane = 0.0;
            for (int64_t j = threadIdx.x; known && j < dim; j += sum_lanes) {
                const double offset = sums[label * dim + j] / count;
                lane += offset * offset;
            }
            lanes[threadIdx.x] = lane;
        }
        __syncthreads();
        if (threadIdx.x == 0) square_offsets[label] = known ? total_by_halves(lanes) : NAN;
    }
}

template <class T, class Base>
__global__ void subtract_kernel(const T* data, int64_t stride, int64_t dim, int64_t num_samples,
                                const int64_t* labels, int64_t num_classes, const Base* base,
                                double* out) {
    for (int64_t i = thread_of_grid(); i < num_samples * dim; i += threads_of_grid()) {
        const int64_t sample = i / dim, column = i % dim, label = labels[sample];
        out[i] = label >= 0 && label < num_classes ? to_double(data[sample * stride + column]) -
                                                         to_double(base[label * dim + column])
                                                   : NAN;
    }
}

__global__ void class_sums_kernel(const double* values, ClassOrder samples, int64_t num_classes,
                                  double* sums) {
    __shared__ double shared[threads];
    for (int64_t label = blockIdx.x; label < num_classes; label += gridDim.x) {
        double sum = 0.0;
        for (int64_t i = samples.starts[label] + threadIdx.x; i < samples.starts[label + 1];
             i += threads)
            sum += values[samples.order[i]];
        const double total = lane_sum(shared, sum);
        if (threadIdx.x == 0) sums[label] = total;
    }
}

}  // namespace

int64_t moments_scratch(int64_t num_classes, int64_t dim) {
    return num_classes * blocks_of(dim, square_columns);
}

void accumulate_moments(const FeatureRows& features, const ClassOrder& samples,
                        const ClassState& state, double* scratch, Stream stream) {
    const int64_t groups = blocks_of(features.dim, square_columns), classes = state.num_classes;
    with_elements(features.data, features.type, [&](const auto* data) {
        with_floats(state.shifts.data, state.shifts.is_float64, [&](auto* shifts) {
            using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
            using Shift = std::remove_pointer_t<decltype(shifts)>;
            launch("class sums", sums_kernel<T, Shift>, grid_for(classes * groups, many_blocks),
                   threads, stream, data, features.stride, features.dim, samples, classes,
                   state.counts, shifts, state.sums, scratch, groups);
        });
    });
    launch("class squares", totals_kernel, grid_for(blocks_of(classes, threads), many_blocks),
           threads, stream, samples, classes, state.counts, scratch, groups, state.squares);
}

void class_means(const ClassState& state, int64_t dim, const double* centre, double* means,
                 double* square_offsets, Stream stream) {
    with_floats(state.shifts.data, state.shifts.is_float64, [&](auto* shifts) {
        using Shift = std::remove_pointer_t<decltype(shifts)>;
        launch("class means", means_kernel<Shift>, grid_for(state.num_classes, many_blocks),
               threads, stream, state.num_classes, dim, state.counts, shifts, state.sums, centre,
               means, square_offsets);
    });
}

void subtract(const FeatureRows& features, int64_t num_samples, const int64_t* labels,
              int64_t num_classes, const void* base, bool base_is_float64, double* out,
              Stream stream) {
    with_elements(features.data, features.type, [&](const auto* data) {
        with_floats(base, base_is_float64, [&](auto* origin) {
            using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
            using Base = std::remove_const_t<std::remove_pointer_t<decltype(origin)>>;
            const int64_t blocks = blocks_of(num_samples * features.dim, threads);
            launch("deviations", subtract_kernel<T, Base>, grid_for(blocks, many_blocks), threads,
                   stream, data, features.stride, features.dim, num_samples, labels, num_classes,
                   origin, out);
        });
    });
}

void sums_by_class(const double* values, const ClassOrder& samples, int64_t num_classes,
                   double* sums, Stream stream) {
    launch("sums by class", class_sums_kernel, grid_for(num_classes, many_blocks), threads, stream,
           values, samples, num_classes, sums);
}

}  // namespace infall::device
