#include "random/gaussian.h"

#include <algorithm>

#include "runtime/isa.h"

namespace infall {

INFALL_KERNEL_TABLES(GaussianKernels, gaussian_kernels)

void gaussian_rows(const GaussianLayer& layer, const int64_t* indices, int64_t count,
                   int num_threads, Watch* watch, float* out) {
    const GaussianKernels& kernels = gaussian_kernels();
    // Some short rows, or a part of a long one.
    const int64_t rows = std::max<int64_t>(1, block_work / 4 / std::max<int64_t>(layer.dim, 1));
    const int64_t columns = std::min(layer.dim, block_work);
    const int64_t parts = (layer.dim + columns - 1) / columns;
    run_blocks(
        total_blocks((count + rows - 1) / rows, parts), num_threads,
        [&](int64_t number, int) {
            const int64_t first = number / parts * rows, here = std::min(rows, count - first);
            const int64_t column = number % parts * columns;
            kernels.gaussian_rows(layer, indices + first, here, column,
                                  std::min(columns, layer.dim - column),
                                  out + first * layer.dim + column);
            return column + columns >= layer.dim ? here : 0;
        },
        watch);
}

}  // namespace infall
