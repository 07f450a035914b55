// Matrices of independent standard normals, any rows of which can be had at any time.
#pragma once

#include <cstdint>

#include "random/streams.h"
#include "runtime/device.h"
#include "runtime/host_device.h"
#include "runtime/parallel.h"

namespace infall {

// One layer G* of independent standard normals: a pure function of (seed, layer, row, column). So
// are the matrices that have words of their own.
struct GaussianLayer {
    uint64_t seed;
    uint32_t layer;
    int64_t dim;  // columns
    RandomMatrix matrix = layer_rows;
};

// Columns padded to whole Philox blocks.
INFALL_HD constexpr int64_t padded_dim(int64_t dim) { return (dim + 3) / 4 * 4; }

struct GaussianKernels {
    // out (count, columns) = entries (indices[i], first_column + j) of the layer; first_column is a
    // multiple of 4.
    void (*gaussian_rows)(const GaussianLayer& layer, const int64_t* indices, int64_t count,
                          int64_t first_column, int64_t columns, float* out);
};
const GaussianKernels& gaussian_kernels();

// out (count, dim): the rows `indices` of the layer.
void gaussian_rows(const GaussianLayer& layer, const int64_t* indices, int64_t count,
                   int num_threads, Watch* watch, float* out);

namespace device {

// The twin; rows of negative indices are NaN.
void gaussian_rows(const GaussianLayer& layer, const int64_t* indices, int64_t count, float* out,
                   Stream stream);

}  // namespace device
}  // namespace infall
