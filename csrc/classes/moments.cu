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

constexpr int ahead = 8;  // samples whose entries are on their way together

// Where there are few classes, sums are taken by tiles of samples and columns: all threads of a
// block load entries ahead, some add them, and others their squares, so that what is under way
// covers the latency of memory though the sums have one order.
constexpr int tile_columns = 32;
constexpr int tile_samples = 128;
constexpr int tile_rows = block_threads / tile_columns;  // that are loaded at a time
constexpr int tile_loads = tile_samples / tile_rows;     // of a thread
static_assert(max_samples % tile_samples == 0, "a tile is of one part of a class");

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

// What a thread needs of a column of a class: its shift, which is that of the first sample where
// there was none before, and where its sum begins.
template <class T, class Shift>
struct Column {
    double shift, sum;

    __device__ Column(const T& first_entry, bool known, Shift* shifts, const double* sums,
                      bool writes) {
        const Shift base = known ? *shifts : static_cast<Shift>(to_double(first_entry));
        if (writes && !known) *shifts = base;
        shift = to_double(base);
        sum = known ? *sums : 0.0;
    }
};

// Adds the deviations of samples to the sums of their classes, a thread for each column.
// group_squares (part rows, groups): for each part of a class and each group of columns the sum of
// their squares.
template <class T, class Shift>
__global__ void __launch_bounds__(threads)
    sums_kernel(const T* __restrict__ data, int64_t stride, int64_t dim, ClassOrder samples,
                int64_t num_classes, const int64_t* __restrict__ counts, Shift* __restrict__ shifts,
                double* __restrict__ sums, double* __restrict__ group_squares) {
    __shared__ double squares[threads];
    const int64_t column = int64_t{blockIdx.x} * threads + threadIdx.x;
    const bool active = column < dim;
    const int64_t* order = samples.order;
    const double poison = label_out_of_range(samples, num_classes) ? NAN : 0.0;
    for (int64_t label = blockIdx.y; label < num_classes; label += gridDim.y) {
        const int64_t first = samples.starts[label], last = samples.starts[label + 1];
        if (first >= last) continue;
        const int64_t place = label * dim + (active ? column : 0);
        const T* entries_of = data + (active ? column : 0);
        const Column<T, Shift> before(entries_of[order[first] * stride], counts[label] > 0,
                                      shifts + place, sums + place, active);
        const double shift = before.shift;
        double sum = before.sum + poison;
        for (int64_t start = first; start < last; start += max_samples) {
            const int64_t end = last - start < max_samples ? last : start + max_samples;
            double square = 0.0;
            const auto add = [&](T entry) {
                const double deviation = to_double(entry) - shift;
                sum += deviation;
                square += deviation * deviation;
            };
            for (int64_t i = start; active && i < end; i += ahead) {
                T entries[ahead];
#pragma unroll
                for (int k = 0; k < ahead; ++k)  // none under a condition: all are under way
                    entries[k] = entries_of[order[i + k < end ? i + k : end - 1] * stride];
                if (i + ahead <= end) {
#pragma unroll
                    for (int k = 0; k < ahead; ++k) add(entries[k]);
                } else {
#pragma unroll
                    for (int k = 0; k < ahead; ++k)
                        if (i + k < end) add(entries[k]);
                }
            }
            squares[threadIdx.x] = square;
            const double total = lane_sum(squares);
            if (threadIdx.x == 0)
                group_squares[part_row(label, first, start) * gridDim.x + blockIdx.x] = total;
            __syncthreads();
        }
        if (active) sums[place] = sum;
    }
}

// The same by tiles. column_squares (part rows, dim): those of each column.
template <class T, class Shift>
__global__ void __launch_bounds__(block_threads)
    tiled_sums_kernel(const T* __restrict__ data, int64_t stride, int64_t dim, ClassOrder samples,
                      int64_t num_classes, const int64_t* __restrict__ counts,
                      Shift* __restrict__ shifts, double* __restrict__ sums,
                      double* __restrict__ column_squares) {
    __shared__ double deviations[tile_samples][tile_columns];
    const int lane = static_cast<int>(threadIdx.x) % tile_columns;
    const int first_row = static_cast<int>(threadIdx.x) / tile_columns;  // then every tile_rows
    const int64_t column = int64_t{blockIdx.x} * tile_columns + lane;
    const bool active = column < dim, adds = active && first_row == 0;
    const bool squares_them = active && first_row == 1;
    const int64_t* order = samples.order;
    const T* entries_of = data + (active ? column : 0);
    const double poison = label_out_of_range(samples, num_classes) ? NAN : 0.0;
    for (int64_t label = blockIdx.y; label < num_classes; label += gridDim.y) {
        const int64_t first = samples.starts[label], last = samples.starts[label + 1];
        if (first >= last) continue;
        T entries[tile_loads];
        const auto load = [&](int64_t start) {
#pragma unroll
            for (int k = 0; k < tile_loads; ++k) {
                const int64_t i = start + first_row + k * tile_rows;
                entries[k] = entries_of[order[i < last ? i : last - 1] * stride];
            }
        };
        load(first);
        const int64_t place = label * dim + (active ? column : 0);
        const Column<T, Shift> before(entries_of[order[first] * stride], counts[label] > 0,
                                      shifts + place, sums + place, adds);
        const double shift = before.shift;
        double sum = before.sum + poison, square = 0.0;
        for (int64_t start = first; start < last; start += tile_samples) {
            const int64_t next = start + tile_samples;
            const int count = last < next ? static_cast<int>(last - start) : tile_samples;
            __syncthreads();
#pragma unroll
            for (int k = 0; k < tile_loads; ++k) {
                const int row = first_row + k * tile_rows;
                if (row < count) deviations[row][lane] = to_double(entries[k]) - shift;
            }
            __syncthreads();
            if (next < last) load(next);
            if (adds)
#pragma unroll 8
                for (int row = 0; row < count; ++row) sum += deviations[row][lane];
            if (!squares_them) continue;
#pragma unroll 8
            for (int row = 0; row < count; ++row)
                square += deviations[row][lane] * deviations[row][lane];
            if (next >= last || (next - first) % max_samples == 0) {
                column_squares[part_row(label, first, start) * dim + column] = square;
                square = 0.0;
            }
        }
        if (adds) sums[place] = sum;
    }
}

// From the squares of columns to those of groups of columns.
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
    bool tiled;                                     // too few blocks otherwise
    int64_t groups, group_squares, column_squares;  // elements

    Scratch(int64_t num_classes, int64_t dim, int64_t num_samples)
        : groups(blocks_of(dim, square_columns)) {
        const int64_t parts = num_classes + num_samples / max_samples;
        tiled = num_classes * groups < resident_blocks;
        group_squares = parts * groups;
        column_squares = tiled ? parts * dim : 0;
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
    const unsigned groups = static_cast<unsigned>(shape.groups);
    const unsigned classes_at_once = grid_for(classes, max_grid_y);
    with_elements(features.data, features.type, [&](const auto* data) {
        with_floats(state.shifts.data, state.shifts.is_float64, [&](auto* shifts) {
            using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
            using Shift = std::remove_pointer_t<decltype(shifts)>;
            if (shape.tiled)
                launch("class sums", tiled_sums_kernel<T, Shift>,
                       dim3(exact_grid(dim, tile_columns), classes_at_once), block_threads, stream,
                       data, features.stride, dim, samples, classes, state.counts, shifts,
                       state.sums, column_squares);
            else
                launch("class sums", sums_kernel<T, Shift>, dim3(groups, classes_at_once), threads,
                       stream, data, features.stride, dim, samples, classes, state.counts, shifts,
                       state.sums, group_squares);
        });
    });
    if (shape.tiled)
        launch("squares of groups", groups_kernel, dim3(groups, classes_at_once), threads, stream,
               samples, classes, dim, column_squares, group_squares);
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
            const ElementShape shape = grid_of_rows(num_samples, features.dim);
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
