// Vectors that never leave the device: their norms and directions, the reflections made of them,
// and the products a network of layers is fitted by.
#include "rows/directions.h"

#include <cmath>

#include "rows/device.h"
#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"

namespace infall::device {
namespace {

// One block is one vector, one thread one partial sum.
__global__ void __launch_bounds__(norm_lanes)
    unit_vectors_kernel(const double* w, int64_t dim, double* directions, double* norms,
                        int64_t* exponents) {
    __shared__ uint64_t largest[norm_lanes];
    __shared__ DoubleDouble sums[norm_lanes];
    const int64_t vector = blockIdx.x, lane = threadIdx.x;
    const double* x = w + vector * dim;
    double* direction = directions + vector * dim;
    uint64_t most = 0;
    for (int64_t j = lane; j < dim; j += norm_lanes) {
        const uint64_t magnitude = magnitude_bits(x[j]);
        most = most < magnitude ? magnitude : most;
    }
    largest[lane] = most;
    for (int half = norm_lanes / 2; half > 0; half /= 2) {
        __syncthreads();
        if (lane < half && largest[lane] < largest[lane + half])
            largest[lane] = largest[lane + half];
    }
    __syncthreads();
    const bool directed = has_direction(largest[0]);
    const int64_t exponent = directed ? binary_exponent(largest[0]) : 0;
    DoubleDouble sum{0.0, 0.0};
    if (directed)
        for (int64_t j = lane; j < dim; j += norm_lanes)
            add_square(sum, scaled_down(x[j], exponent));
    sums[lane] = sum;
    for (int half = norm_lanes / 2; half > 0; half /= 2) {
        __syncthreads();
        if (lane < half) add(sums[lane], sums[lane + half].high, sums[lane + half].low);
    }
    __syncthreads();
    const double norm = directed ? length_of(sums[0]) : NAN;
    for (int64_t j = lane; j < dim; j += norm_lanes)
        direction[j] = directed ? scaled_down(x[j], exponent) / norm : NAN;
    if (lane == 0) {
        norms[vector] = norm;
        exponents[vector] = exponent;
    }
}

__global__ void transpose_kernel(const double* from, int64_t rows, int64_t columns, double* to) {
    for (int64_t i = thread_of_grid(); i < rows * columns; i += threads_of_grid())
        to[i] = from[i % rows * columns + i / rows];
}

// v_h and scale_h of column h. The sum is one thread's, for its order; the others fetch for it.
__global__ void __launch_bounds__(block_threads)
    reflection_kernel(double* columns, int64_t batch, int64_t dim, int64_t h, double* v,
                      double* scale) {
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

// One thread is one of the columns behind h.
__global__ void reflect_columns_kernel(double* columns, int64_t batch, int64_t dim, int64_t h,
                                       const double* v, const double* scale) {
    const int64_t b = h + 1 + thread_of_grid();
    if (b < batch) reflect(columns + b, batch, v + h * dim, scale[h], h, dim);
}

__global__ void discard_undirected_kernel(const double* norms, int64_t batch, int64_t num_rows,
                                          int64_t* indices, double* projections) {
    for (int64_t i = thread_of_grid(); i < batch * num_rows; i += threads_of_grid()) {
        const double norm = norms[i / num_rows];
        if (norm == norm) continue;
        indices[i] = -1;
        projections[i] = NAN;
    }
}

// Products and sums are rounded one by one, as the host's are.
__global__ void multiply_in_order_kernel(const float* rows, int64_t count, int64_t dim,
                                         const double* w, double* out) {
    const int64_t i = thread_of_grid();
    if (i >= count) return;
    double sum = 0.0;
    for (int64_t j = 0; j < dim; ++j) sum = sum + static_cast<double>(rows[i * dim + j]) * w[j];
    out[i] = sum;
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
    launch("householder", transpose_kernel, grid_for(blocks_of(batch * dim, block_threads)),
           block_threads, stream, w, batch, dim, columns);
    // Few columns, each the work of one thread: small blocks spread them over the card.
    constexpr int threads = 32;
    for (int64_t h = 0; h < batch && h < dim; ++h) {
        launch("householder", reflection_kernel, 1, block_threads, stream, columns, batch, dim, h,
               v, scale);
        if (h + 1 < batch)
            launch("householder", reflect_columns_kernel, exact_grid(batch - h - 1, threads),
                   threads, stream, columns, batch, dim, h, v, scale);
    }
}

void discard_undirected(const double* norms, int64_t batch, int64_t num_rows, int64_t* indices,
                        double* projections, Stream stream) {
    launch("discarding", discard_undirected_kernel,
           grid_for(blocks_of(batch * num_rows, block_threads)), block_threads, stream, norms,
           batch, num_rows, indices, projections);
}

void multiply_in_order(const float* rows, int64_t count, int64_t dim, const double* w, double* out,
                       Stream stream) {
    constexpr int threads = 32;
    launch("multiplying", multiply_in_order_kernel, exact_grid(count, threads), threads, stream,
           rows, count, dim, w, out);
}

}  // namespace infall::device
