// Sums of a column of a class take its samples in order: what a CPU lane does, bit for bit.
#include <cmath>
#include <type_traits>

#include "classes/device.h"
#include "runtime/cuda_launch.h"
#include "runtime/elements.h"
#include "runtime/lanes.h"
#include "runtime/launch_shape.h"
#include "runtime/row_grid.h"

namespace infall::device {
namespace {

constexpr int threads = static_cast<int>(square_columns);

// Sums are taken by tiles of samples and columns: all threads load entries ahead, some add them,
// and others their squares, so that what is under way covers the latency of memory though the sums
// have one order. Tiles are as wide as the groups of columns whose squares are summed together, and
// narrow where there would be too few blocks of these.
constexpr int wide_columns = threads;
constexpr int narrow_columns = 32;
constexpr int tile_entries = 4096;
constexpr int tile_loads = tile_entries / block_threads;  // of a thread

__device__ bool label_out_of_range(const ClassOrder& samples, int64_t num_classes) {
    return samples.starts[0] != 0 || samples.starts[num_classes] != samples.num_samples;
}

// Squares are summed over parts of a class, of max_samples samples each. This numbers the part with
// sample `i` of a class that begins with sample `first`: no two parts share a number.
INFALL_HD int64_t part_row(int64_t label, int64_t first, int64_t i) {
    return label + first / max_samples + (i - first) / max_samples;
}

// The sum over columns of what each has in `shared` (square_columns,), in fixed lanes, as on the
// host; for thread 0. All threads of a block call it.
__device__ double lane_sum(double* shared) {
    __syncthreads();
    if (threadIdx.x < sum_lanes) {
        double lane = shared[threadIdx.x];
        for (int j = sum_lanes; j < square_columns; j += sum_lanes) lane += shared[threadIdx.x + j];
        shared[threadIdx.x] = lane;
    }
    __syncthreads();
    return total_by_halves(shared);
}

// Adds the deviations of samples to the sums of their classes. squares: for each part of a class
// the sum of their squares, of each group of columns (part rows, groups) or, where tiles are
// narrow, of each column (part rows, dim).
template <int tile_columns, class T, class Shift>
__global__ void __launch_bounds__(block_threads)
    sums_kernel(const T* __restrict__ data, int64_t stride, int64_t dim, ClassOrder samples,
                int64_t num_classes, const int64_t* __restrict__ counts, Shift* __restrict__ shifts,
                double* __restrict__ sums, double* __restrict__ squares) {
    constexpr int tile_samples = tile_entries / tile_columns;
    constexpr int sample_step = block_threads / tile_columns;
    static_assert(max_samples % tile_samples == 0, "a tile is of one part of a class");
    static_assert(sample_step >= 2, "some threads add, others square");
    __shared__ double deviations[tile_samples][tile_columns];
    const int lane = static_cast<int>(threadIdx.x) % tile_columns;
    const int first_row = static_cast<int>(threadIdx.x) / tile_columns;  // then every sample_step
    const int64_t column = int64_t{blockIdx.x} * tile_columns + lane;
    const bool active = column < dim, adds = active && first_row == 0;
    const int64_t* order = samples.order;
    const double poison = label_out_of_range(samples, num_classes) ? NAN : 0.0;
    for (int64_t label = blockIdx.y; label < num_classes; label += gridDim.y) {
        const int64_t first = samples.starts[label], last = samples.starts[label + 1];
        if (first >= last) continue;
        T entries[tile_loads] = {};
        const auto load = [&](int64_t start) {
#pragma unroll
            for (int k = 0; k < tile_loads; ++k) {
                const int64_t i = start + first_row + k * sample_step;
                if (active && i < last) entries[k] = data[order[i] * stride + column];
            }
        };
        load(first);
        const int64_t place = label * dim + column;
        double shift = 0.0, sum = 0.0, square = 0.0;
        if (active) {
            const bool known = counts[label] > 0;
            const Shift base =
                known ? shifts[place]
                      : static_cast<Shift>(to_double(data[order[first] * stride + column]));
            shift = to_double(base);
            if (adds && !known) shifts[place] = base;
            if (adds) sum = (known ? sums[place] : 0.0) + poison;
        }
        for (int64_t start = first; start < last; start += tile_samples) {
            const int64_t next = start + tile_samples;
            const int count = last < next ? static_cast<int>(last - start) : tile_samples;
            __syncthreads();
#pragma unroll
            for (int k = 0; k < tile_loads; ++k) {
                const int row = first_row + k * sample_step;
                if (row < count) deviations[row][lane] = to_double(entries[k]) - shift;
            }
            __syncthreads();
            load(next);
            if (adds) {
#pragma unroll 8
                for (int row = 0; row < count; ++row) sum += deviations[row][lane];
            } else if (active && first_row == 1) {
#pragma unroll 8
                for (int row = 0; row < count; ++row)
                    square += deviations[row][lane] * deviations[row][lane];
            }
            if (next < last && (next - first) % max_samples != 0) continue;
            // A part of the class ends here.
            const int64_t part = part_row(label, first, start);
            if constexpr (tile_columns == wide_columns) {
                __syncthreads();
                if (first_row == 1) deviations[0][lane] = square;
                const double total = lane_sum(deviations[0]);
                if (threadIdx.x == 0) squares[part * gridDim.x + blockIdx.x] = total;
            } else if (active && first_row == 1) {
                squares[part * dim + column] = square;
            }
            square = 0.0;
        }
        if (adds) sums[place] = sum;
    }
}

// Where tiles are narrow: from squares of columns (part rows, dim) to those of groups of columns
// (part rows, groups).
__global__ void __launch_bounds__(threads)
    groups_kernel(ClassOrder samples, int64_t num_classes, int64_t dim,
                  const double* __restrict__ column_squares, double* __restrict__ group_squares) {
    __shared__ double shared[threads];
    const int64_t column = int64_t{blockIdx.x} * square_columns + threadIdx.x;
    for (int64_t label = blockIdx.y; label < num_classes; label += gridDim.y) {
        const int64_t first = samples.starts[label], last = samples.starts[label + 1];
        for (int64_t start = first; start < last; start += max_samples) {
            const int64_t part = part_row(label, first, start);
            shared[threadIdx.x] = column < dim ? column_squares[part * dim + column] : 0.0;
            const double total = lane_sum(shared);
            if (threadIdx.x == 0) group_squares[part * gridDim.x + blockIdx.x] = total;
            __syncthreads();
        }
    }
}

// Adds the squares of groups of columns to those of their classes, and counts the samples.
__global__ void __launch_bounds__(threads)
    totals_kernel(ClassOrder samples, int64_t num_classes, int64_t* __restrict__ counts,
                  const double* __restrict__ group_squares, int64_t groups,
                  double* __restrict__ squares) {
    const double poison = label_out_of_range(samples, num_classes) ? NAN : 0.0;
    for (int64_t label = thread_of_grid(); label < num_classes; label += threads_of_grid()) {
        const int64_t first = samples.starts[label], last = samples.starts[label + 1];
        double total = (counts[label] > 0 ? squares[label] : 0.0) + poison;
        for (int64_t group = 0; group < groups; ++group) {
            double of_group = 0.0;
            for (int64_t start = first; start < last; start += max_samples)
                of_group += group_squares[part_row(label, first, start) * groups + group];
            total += of_group;
        }
        squares[label] = total;
        counts[label] += last - first;
    }
}

// All threads divide, the first ones add squares of what they find, in lanes over all columns.
template <class Shift>
__global__ void __launch_bounds__(threads)
    means_kernel(int64_t num_classes, int64_t dim, const int64_t* __restrict__ counts,
                 const Shift* __restrict__ shifts, const double* __restrict__ sums,
                 const double* __restrict__ centre, double* __restrict__ means,
                 double* __restrict__ square_offsets) {
    __shared__ double offsets[threads];
    __shared__ double lanes[sum_lanes];
    for (int64_t label = blockIdx.x; label < num_classes; label += gridDim.x) {
        const bool known = counts[label] > 0;
        const auto count = static_cast<double>(counts[label]);
        double lane = 0.0;
        for (int64_t first = 0; first < dim; first += threads) {
            const int64_t column = first + threadIdx.x, place = label * dim + column;
            const int columns = static_cast<int>(dim - first < threads ? dim - first : threads);
            if (column < dim) {
                const double offset = known ? sums[place] / count : 0.0;
                offsets[threadIdx.x] = offset;
                means[place] = known ? (to_double(shifts[place]) - centre[column]) + offset : NAN;
            }
            __syncthreads();
            if (threadIdx.x < sum_lanes)
                for (int j = threadIdx.x; j < columns; j += sum_lanes)
                    lane += offsets[j] * offsets[j];
            __syncthreads();
        }
        if (threadIdx.x < sum_lanes) lanes[threadIdx.x] = lane;
        __syncthreads();
        if (threadIdx.x == 0) square_offsets[label] = known ? total_by_halves(lanes) : NAN;
        __syncthreads();
    }
}

template <class T, class Base>
__global__ void __launch_bounds__(block_threads)
    subtract_kernel(const T* __restrict__ data, int64_t stride, int64_t dim, int64_t num_samples,
                    const int64_t* __restrict__ labels, int64_t num_classes,
                    const Base* __restrict__ base, double* __restrict__ out) {
    for (int64_t i = row_of_grid(); i < num_samples; i += rows_of_grid()) {
        const int64_t label = labels[i];
        const bool known = label >= 0 && label < num_classes;
        const Base* of_class = base + (known ? label : 0) * dim;
        map_row(data + i * stride, dim, out + i * dim, [&](int64_t j, T entry) {
            return known ? to_double(entry) - to_double(of_class[j]) : NAN;
        });
    }
}

__global__ void __launch_bounds__(threads)
    class_sums_kernel(const double* __restrict__ values, ClassOrder samples, int64_t num_classes,
                      double* __restrict__ sums) {
    __shared__ double lanes[threads];
    for (int64_t label = blockIdx.x; label < num_classes; label += gridDim.x) {
        double sum = 0.0;
#pragma unroll 4
        for (int64_t i = samples.starts[label] + threadIdx.x; i < samples.starts[label + 1];
             i += threads)
            sum += values[samples.order[i]];
        lanes[threadIdx.x] = sum;
        const double total = lane_sum(lanes);
        if (threadIdx.x == 0) sums[label] = total;
        __syncthreads();
    }
}

// What a pass over samples works in.
struct Scratch {
    bool narrow;
    int64_t groups, group_squares, column_squares;  // elements

    Scratch(int64_t num_classes, int64_t dim, int64_t num_samples)
        : groups(blocks_of(dim, square_columns)) {
        const int64_t parts = num_classes + num_samples / max_samples;
        narrow = num_classes * groups < resident_blocks;
        group_squares = parts * groups;
        column_squares = narrow ? parts * dim : 0;
    }
};

}  // namespace

int64_t moments_scratch(int64_t num_classes, int64_t dim, int64_t num_samples) {
    const Scratch scratch(num_classes, dim, num_samples);
    return scratch.group_squares + scratch.column_squares;
}

void accumulate_moments(const FeatureRows& features, const ClassOrder& samples,
                        const ClassState& state, double* scratch, Stream stream) {
    const int64_t classes = state.num_classes, dim = features.dim;
    const Scratch shape(classes, dim, samples.num_samples);
    double *group_squares = scratch, *column_squares = scratch + shape.group_squares;
    const unsigned classes_at_once = grid_for(classes, max_grid_y);
    with_elements(features.data, features.type, [&](const auto* data) {
        with_floats(state.shifts.data, state.shifts.is_float64, [&](auto* shifts) {
            using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
            using Shift = std::remove_pointer_t<decltype(shifts)>;
            const auto kernel = shape.narrow ? sums_kernel<narrow_columns, T, Shift>
                                             : sums_kernel<wide_columns, T, Shift>;
            const int columns = shape.narrow ? narrow_columns : wide_columns;
            launch("class sums", kernel, dim3(exact_grid(dim, columns), classes_at_once),
                   block_threads, stream, data, features.stride, dim, samples, classes,
                   state.counts, shifts, state.sums, shape.narrow ? column_squares : group_squares);
        });
    });
    if (shape.narrow)
        launch("squares of groups", groups_kernel,
               dim3(static_cast<unsigned>(shape.groups), classes_at_once), threads, stream, samples,
               classes, dim, column_squares, group_squares);
    launch("class squares", totals_kernel, grid_for(blocks_of(classes, threads), many_blocks),
           threads, stream, samples, classes, state.counts, group_squares, shape.groups,
           state.squares);
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
            const RowGrid shape = grid_of_rows(num_samples, features.dim);
            launch("deviations", subtract_kernel<T, Base>, shape.grid, shape.block, stream, data,
                   features.stride, features.dim, num_samples, labels, num_classes, origin, out);
        });
    });
}

void sums_by_class(const double* values, const ClassOrder& samples, int64_t num_classes,
                   double* sums, Stream stream) {
    launch("sums by class", class_sums_kernel, grid_for(num_classes, many_blocks), threads, stream,
           values, samples, num_classes, sums);
}

}  // namespace infall::device
