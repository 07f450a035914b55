// One thread is one column of one class, its samples in order: what a CPU lane does, bit for bit.
#include "classes/moments_device.h"

#include <cmath>
#include <type_traits>

#include "runtime/cuda_launch.h"
#include "runtime/half.h"

namespace infall {
namespace device {
namespace {

constexpr int threads = static_cast<int>(square_columns);
constexpr int ahead = 8;  // samples whose entries are on their way while others are added
constexpr unsigned max_blocks = 1u << 20;

__device__ double value(double x) { return x; }
__device__ double value(float x) { return x; }
__device__ double value(Float16 x) { return to_float(x); }
__device__ double value(BFloat16 x) { return to_float(x); }

int64_t column_groups(int64_t dim) { return (dim + square_columns - 1) / square_columns; }

dim3 blocks_for(int64_t wanted) {
    return dim3(wanted < max_blocks ? static_cast<unsigned>(wanted) : max_blocks);
}

// The sum of the numbers of a block's threads in eight fixed lanes, as on the host; for thread 0.
__device__ double lane_sum(double* shared, double number) {
    __syncthreads();
    shared[threadIdx.x] = number;
    __syncthreads();
    if (threadIdx.x < 8) {
        double lane = shared[threadIdx.x];
        for (int j = 8; j < threads; j += 8) lane += shared[threadIdx.x + j];
        number = lane;
    }
    __syncthreads();
    if (threadIdx.x < 8) shared[threadIdx.x] = number;
    __syncthreads();
    const double* s = shared;
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
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
                    static_cast<Shift>(value(data[samples.order[first] * stride + column]));
            shift = value(shifts[place]);
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
                    const double deviation = value(entries[s]) - shift;
                    sum += deviation;
                    square += deviation * deviation;
                }
            }
            for (; active && i < end; ++i) {
                const double deviation = value(data[samples.order[i] * stride + column]) - shift;
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
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t label = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; label < num_classes;
         label += step) {
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
    __shared__ double lanes[8];
    for (int64_t label = blockIdx.x; label < num_classes; label += gridDim.x) {
        const auto count = static_cast<double>(counts[label]);
        const bool known = counts[label] > 0;
        for (int64_t j = threadIdx.x; j < dim; j += blockDim.x) {
            const int64_t place = label * dim + j;
            means[place] = known ? (value(shifts[place]) - centre[j]) + sums[place] / count : NAN;
        }
        __syncthreads();
        if (threadIdx.x < 8) {
            double lane = 0.0;
            for (int64_t j = threadIdx.x; known && j < dim; j += 8) {
                const double offset = sums[label * dim + j] / count;
                lane += offset * offset;
            }
            lanes[threadIdx.x] = lane;
        }
        __syncthreads();
        if (threadIdx.x == 0)
            square_offsets[label] = known ? ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
                                                ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
                                          : NAN;
    }
}

template <class T, class Base>
__global__ void subtract_kernel(const T* data, int64_t stride, int64_t dim, int64_t num_samples,
                                const int64_t* labels, int64_t num_classes, const Base* base,
                                double* out) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < num_samples * dim;
         i += step) {
        const int64_t sample = i / dim, column = i % dim, label = labels[sample];
        out[i] = label >= 0 && label < num_classes
                     ? value(data[sample * stride + column]) - value(base[label * dim + column])
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

template <class Work>
void with_type(const FeatureRows& features, Work&& work) {
    switch (features.type) {
        case FeatureType::float16:
            return work(static_cast<const Float16*>(features.data));
        case FeatureType::bfloat16:
            return work(static_cast<const BFloat16*>(features.data));
        case FeatureType::float32:
            return work(static_cast<const float*>(features.data));
        default:
            return work(static_cast<const double*>(features.data));
    }
}

template <class Work>
void with_float(void* data, bool is_float64, Work&& work) {
    if (is_float64)
        work(static_cast<double*>(data));
    else
        work(static_cast<float*>(data));
}

}  // namespace

int64_t moments_scratch(int64_t num_classes, int64_t dim) {
    return num_classes * column_groups(dim);
}

void accumulate_moments(const FeatureRows& features, const ClassOrder& samples,
                        const ClassState& state, double* scratch, Stream stream) {
    const int64_t groups = column_groups(features.dim), classes = state.num_classes;
    with_type(features, [&](const auto* data) {
        with_float(state.shifts.data, state.shifts.is_float64, [&](auto* shifts) {
            using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
            using Shift = std::remove_pointer_t<decltype(shifts)>;
            launch("class sums", sums_kernel<T, Shift>, blocks_for(classes * groups), dim3(threads),
                   stream, data, features.stride, features.dim, samples, classes,
                   static_cast<const int64_t*>(state.counts), shifts, state.sums, scratch, groups);
        });
    });
    launch("class squares", totals_kernel, blocks_for((classes + threads - 1) / threads),
           dim3(threads), stream, samples, classes, state.counts,
           static_cast<const double*>(scratch), groups, state.squares);
}

void class_means(const ClassState& state, int64_t dim, const double* centre, double* means,
                 double* square_offsets, Stream stream) {
    with_float(state.shifts.data, state.shifts.is_float64, [&](auto* shifts) {
        using Shift = std::remove_pointer_t<decltype(shifts)>;
        launch("class means", means_kernel<Shift>, blocks_for(state.num_classes), dim3(threads),
               stream, state.num_classes, dim, static_cast<const int64_t*>(state.counts),
               static_cast<const Shift*>(shifts), static_cast<const double*>(state.sums), centre,
               means, square_offsets);
    });
}

void subtract(const FeatureRows& features, int64_t num_samples, const int64_t* labels,
              int64_t num_classes, const void* base, bool base_is_float64, double* out,
              Stream stream) {
    with_type(features, [&](const auto* data) {
        with_float(const_cast<void*>(base), base_is_float64, [&](auto* origin) {
            using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
            using Base = std::remove_pointer_t<decltype(origin)>;
            const int64_t blocks = (num_samples * features.dim + threads - 1) / threads;
            launch("deviations", subtract_kernel<T, Base>, blocks_for(blocks), dim3(threads),
                   stream, data, features.stride, features.dim, num_samples, labels, num_classes,
                   static_cast<const Base*>(origin), out);
        });
    });
}

void sums_by_class(const double* values, const ClassOrder& samples, int64_t num_classes,
                   double* sums, Stream stream) {
    launch("sums by class", class_sums_kernel, blocks_for(num_classes), dim3(threads), stream,
           values, samples, num_classes, sums);
}

}  // namespace device
}  // namespace infall
