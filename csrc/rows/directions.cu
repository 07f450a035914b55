// Vectors that never leave the device: their norms and directions, the reflections made of them,
// and the products a network of layers is fitted by.
#include "rows/directions.h"

#include <cmath>

#include "rows/device.h"
#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"

namespace infall::device {
namespace {

constexpr unsigned whole_warp = 0xFFFFFFFFu;
constexpr int warp_threads = 32;

// What the thread `half` lanes on has.
__device__ uint64_t from_above(uint64_t x, int half) {
    return __shfl_down_sync(whole_warp, x, half);
}
__device__ DoubleDouble from_above(const DoubleDouble& x, int half) {
    return {__shfl_down_sync(whole_warp, x.high, half), __shfl_down_sync(whole_warp, x.low, half)};
}

// The tree over a block: thread i takes in what thread i + half has, half = 128, 64, ... 1. One
// warp does it. All threads of the block call it together; the total is theirs all.
template <class Term, class TakeIn>
__device__ Term tree_total(const Term& mine, Term (&terms)[norm_lanes], TakeIn take_in) {
    constexpr int parts = norm_lanes / warp_threads;
    terms[threadIdx.x] = mine;
    __syncthreads();
    if (threadIdx.x < warp_threads) {
        Term part[parts];
#pragma unroll
        for (int i = 0; i < parts; ++i) part[i] = terms[i * warp_threads + threadIdx.x];
#pragma unroll
        for (int half = parts / 2; half > 0; half /= 2)
#pragma unroll
            for (int i = 0; i < half; ++i) take_in(part[i], part[i + half]);
#pragma unroll
        for (int half = warp_threads / 2; half > 0; half /= 2)
            take_in(part[0], from_above(part[0], half));
        if (threadIdx.x == 0) terms[0] = part[0];
    }
    __syncthreads();
    return terms[0];
}

// One block is one vector, one thread one partial sum.
__global__ void __launch_bounds__(norm_lanes)
    unit_vectors_kernel(const double* __restrict__ w, int64_t dim, double* __restrict__ directions,
                        double* __restrict__ norms, int64_t* __restrict__ exponents) {
    __shared__ uint64_t magnitudes[norm_lanes];
    __shared__ DoubleDouble sums[norm_lanes];
    const int64_t vector = blockIdx.x, lane = threadIdx.x;
    const double* x = w + vector * dim;
    double* direction = directions + vector * dim;
    uint64_t magnitude = 0;
    const auto keep_larger = [](uint64_t& largest, uint64_t other) {
        largest = largest < other ? other : largest;
    };
    for (int64_t j = lane; j < dim; j += norm_lanes) keep_larger(magnitude, magnitude_bits(x[j]));
    const uint64_t largest = tree_total(magnitude, magnitudes, keep_larger);
    const bool directed = has_direction(largest);
    const int64_t exponent = directed ? binary_exponent(largest) : 0;
    DoubleDouble sum{0.0, 0.0};
    if (directed)
        for (int64_t j = lane; j < dim; j += norm_lanes)
            add_square(sum, scaled_down(x[j], exponent));
    const DoubleDouble total = tree_total(
        sum, sums,
        [](DoubleDouble& whole, const DoubleDouble& part) { add(whole, part.high, part.low); });
    const double norm = directed ? length_of(total) : NAN;
    for (int64_t j = lane; j < dim; j += norm_lanes)
        direction[j] = directed ? scaled_down(x[j], exponent) / norm : NAN;
    if (lane == 0) {
        norms[vector] = norm;
        exponents[vector] = exponent;
    }
}

// By square tiles, so that rows are read and columns written as they lie.
constexpr int square_side = 32;

__global__ void transpose_kernel(const double* __restrict__ from, int64_t rows, int64_t columns,
                                 double* __restrict__ to) {
    __shared__ double tile[square_side][square_side + 1];
    const auto across = static_cast<int>(threadIdx.x);
    const int64_t first_column = int64_t{blockIdx.x} * square_side;
    for (int64_t first_row = int64_t{blockIdx.y} * square_side; first_row < rows;
         first_row += int64_t{gridDim.y} * square_side) {
        __syncthreads();
        for (auto i = static_cast<int>(threadIdx.y); i < square_side; i += blockDim.y)
            if (first_row + i < rows && first_column + across < columns)
                tile[i][across] = from[(first_row + i) * columns + first_column + across];
        __syncthreads();
        for (auto i = static_cast<int>(threadIdx.y); i < square_side; i += blockDim.y)
            if (first_column + i < columns && first_row + across < rows)
                to[(first_column + i) * rows + first_row + across] = tile[across][i];
    }
}

// v_h and scale_h of column h. The sum is one thread's, for its order; the others fetch for it.
__global__ void __launch_bounds__(block_threads)
    reflection_kernel(double* __restrict__ columns, int64_t batch, int64_t dim, int64_t h,
                      double* __restrict__ v, double* __restrict__ scale) {
    __shared__ double tile[block_threads];
    __shared__ Reflection shared;
    const int64_t thread = threadIdx.x;
    double tail = 0.0;
    for (int64_t first = h + 1; first < dim; first += block_threads) {
        __syncthreads();
        if (first + thread < dim) tile[thread] = columns[(first + thread) * batch + h];
        __syncthreads();
        const int64_t here = dim - first < block_threads ? dim - first : block_threads;
        if (thread == 0)
            for (int64_t i = 0; i < here; ++i) tail = fused(tile[i], tile[i], tail);
    }
    if (thread == 0) {
        shared = reflection_of(columns[h * batch + h], tail);
        columns[h * batch + h] = shared.norm;
        scale[h] = shared.scale;
    }
    __syncthreads();
    const Reflection reflection = shared;
    for (int64_t j = thread; j < dim; j += block_threads)
        v[h * dim + j] = j == h                         ? reflection.first
                         : j > h && reflection.has_rest ? columns[j * batch + h]
                                                        : 0.0;
}

// Columns of a block, and the rows of them it has in shared memory at a time.
constexpr int reflected_columns = 32;
constexpr int reflected_rows = 128;

// reflect() for the columns behind h. The dot product of a column is one thread's, for its order;
// the others fetch for it, and what is done to each entry by itself is shared by all.
__global__ void __launch_bounds__(block_threads)
    reflect_columns_kernel(double* __restrict__ columns, int64_t batch, int64_t dim, int64_t h,
                           const double* __restrict__ v, const double* __restrict__ scale) {
    __shared__ double tile[reflected_rows][reflected_columns];
    __shared__ double reflector[reflected_rows];
    __shared__ double steps[reflected_columns];
    const auto x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
    constexpr int across = block_threads / reflected_columns;
    const int64_t b = h + 1 + thread_of_grid();
    const bool inside = b < batch;
    v += h * dim;
    double dot = 0.0;
    for (int64_t first = h; first < dim; first += reflected_rows) {
        const int64_t left = dim - first;
        const int fetched_rows = left < reflected_rows ? static_cast<int>(left) : reflected_rows;
        __syncthreads();
        for (int i = y; i < fetched_rows; i += across) {
            tile[i][x] = inside ? columns[(first + i) * batch + b] : 0.0;
            if (x == 0) reflector[i] = v[first + i];
        }
        __syncthreads();
        if (y == 0)
            for (int i = 0; i < fetched_rows; ++i) dot = fused(reflector[i], tile[i][x], dot);
    }
    if (y == 0) steps[x] = -scale[h] * dot;
    __syncthreads();
    if (!inside) return;
    for (int64_t j = h + y; j < dim; j += across)
        columns[j * batch + b] = fused(steps[x], v[j], columns[j * batch + b]);
}

__global__ void discard_undirected_kernel(const double* __restrict__ norms, int64_t batch,
                                          int64_t num_rows, int64_t* __restrict__ indices,
                                          double* __restrict__ projections) {
    const int64_t i = thread_of_grid();
#pragma unroll 1  // to unroll it, one would divide
    for (int64_t vector = row_of_grid(); vector < batch; vector += rows_of_grid()) {
        const double norm = norms[vector];
        if (norm == norm || i >= num_rows) continue;
        indices[vector * num_rows + i] = -1;
        projections[vector * num_rows + i] = NAN;
    }
}

constexpr int multiplied_rows = 8;  // of a block, which fetches them for the threads that sum

// Products and sums are rounded one by one, as the host's are; the sum of a row is one thread's,
// for its order.
__global__ void __launch_bounds__(block_threads)
    multiply_in_order_kernel(const float* __restrict__ rows, int64_t count, int64_t dim,
                             const double* __restrict__ w, double* __restrict__ out) {
    __shared__ double products[multiplied_rows][block_threads + 1];
    const auto thread = static_cast<int>(threadIdx.x);
    const int64_t first_row = int64_t{blockIdx.x} * multiplied_rows, left = count - first_row;
    const int block_rows = static_cast<int>(left < multiplied_rows ? left : multiplied_rows);
    double sum = 0.0;
    for (int64_t first = 0; first < dim; first += block_threads) {
        const int64_t column = first + thread;
        __syncthreads();
        if (column < dim) {
            const double weight = w[column];
            for (int r = 0; r < block_rows; ++r)
                products[r][thread] =
                    static_cast<double>(rows[(first_row + r) * dim + column]) * weight;
        }
        __syncthreads();
        const int columns =
            static_cast<int>(dim - first < block_threads ? dim - first : block_threads);
        if (thread < block_rows)
            for (int j = 0; j < columns; ++j) sum = sum + products[thread][j];
    }
    if (thread < block_rows) out[first_row + thread] = sum;
}

}  // namespace

// ---------------------------------------------------------------------------------------------

void unit_vectors(const double* w, int64_t batch, int64_t dim, double* directions, double* norms,
                  int64_t* exponents, Stream stream) {
    launch("unit_vectors", unit_vectors_kernel, exact_grid(batch, 1), norm_lanes, stream, w, dim,
           directions, norms, exponents);
}

void householder(const double* w, int64_t batch, int64_t dim, double* v, double* scale,
                 double* columns, Stream stream) {
    launch("householder", transpose_kernel,
           dim3(exact_grid(dim, square_side), grid_for(blocks_of(batch, square_side), max_grid_y)),
           dim3(square_side, block_threads / square_side), stream, w, batch, dim, columns);
    for (int64_t h = 0; h < batch && h < dim; ++h) {
        launch("householder", reflection_kernel, 1, block_threads, stream, columns, batch, dim, h,
               v, scale);
        if (h + 1 < batch)
            launch("householder", reflect_columns_kernel,
                   exact_grid(batch - h - 1, reflected_columns),
                   dim3(reflected_columns, block_threads / reflected_columns), stream, columns,
                   batch, dim, h, v, scale);
    }
}

void discard_undirected(const double* norms, int64_t batch, int64_t num_rows, int64_t* indices,
                        double* projections, Stream stream) {
    const ElementShape shape = shape_for_elements(batch, num_rows);
    launch("discarding", discard_undirected_kernel, shape.grid, shape.block, stream, norms, batch,
           num_rows, indices, projections);
}

void multiply_in_order(const float* rows, int64_t count, int64_t dim, const double* w, double* out,
                       Stream stream) {
    launch("multiplying", multiply_in_order_kernel, exact_grid(count, multiplied_rows),
           block_threads, stream, rows, count, dim, w, out);
}

}  // namespace infall::device
