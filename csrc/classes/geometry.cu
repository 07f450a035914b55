// A thread has a few partners, the columns of their means in order; sums over partners are taken in
// the lanes and blocks of the CPU's, so that both give the same bits.
#include <cmath>

#include "classes/device.h"
#include "classes/pairs.h"
#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"
#include "runtime/workspace.h"

namespace infall::device {
namespace {

// Per column a thread reads 8 classes, two at a time, which it shares with its warp, and 2 partners
// for 16 fused multiply-adds: with one partner, shared memory would be what limits it.
constexpr int class_rows = 8;       // classes of a block of threads
constexpr int thread_partners = 2;  // of a thread, pair_threads apart
constexpr int pair_threads = static_cast<int>(partner_block) / thread_partners;
constexpr int column_tile = 16;  // columns at hand
constexpr int quantities = 8;    // that are reduced over the partners of a class

// The lengths in the unit of `scale`, as in ClassGeometry; what one number says of all classes
// stays on the device.
struct Unit {
    double scale, offset;
};

struct Workspace {
    Unit* unit;
    double *variances, *square_norms, *inverse_norms;  // (classes,)
};

struct Means {
    const double* means;  // (classes, dim)
    int64_t classes, dim;
    Workspace space;
    double excess;
};

__global__ void find_scale_kernel(const double* extremes, Workspace space) {
    space.unit->scale = unit_scale(fmax(fabs(extremes[0]), fabs(extremes[1])));
}

__global__ void square_norms_kernel(Means m) {
    const double scale = m.space.unit->scale;
    for (int64_t c = thread_of_grid(); c < m.classes; c += threads_of_grid()) {
        double sum = 0.0;
#pragma unroll 8
        for (int64_t j = 0; j < m.dim; ++j) {
            const double entry = scale * m.means[c * m.dim + j];
            sum = fused(entry, entry, sum);
        }
        m.space.square_norms[c] = sum;
    }
}

__global__ void per_class_kernel(Means m, const double* __restrict__ variances) {
    const double scale = m.space.unit->scale;
    for (int64_t c = thread_of_grid(); c < m.classes; c += threads_of_grid()) {
        const double square = m.space.square_norms[c];
        m.space.variances[c] = variances[c] * scale * scale;
        m.space.inverse_norms[c] = square > 0.0 ? 1.0 / square_root(square) : 0.0;
    }
}

// One block, whose first thread adds in order what the others fetch.
__global__ void __launch_bounds__(block_threads) offset_kernel(Means m) {
    __shared__ double squares[block_threads];
    double total = 0.0;
    for (int64_t first = 0; first < m.classes; first += block_threads) {
        const int64_t left = m.classes - first;
        if (threadIdx.x < left) squares[threadIdx.x] = m.space.square_norms[first + threadIdx.x];
        __syncthreads();
        if (threadIdx.x == 0)
#pragma unroll 8
            for (int i = 0; i < block_threads && i < left; ++i) total += squares[i];
        __syncthreads();
    }
    if (threadIdx.x != 0) return;
    const auto count = static_cast<double>(m.classes);
    m.space.unit->offset = total / (count - 1.0) / count;
}

// Entries of neighbouring classes, for one load.
struct alignas(16) TwoClasses {
    double entries[2];
};

struct Tile {
    TwoClasses classes[column_tile][class_rows / 2];
    double partners[column_tile][partner_block + 1];
};

// Scaled inner products of class_rows classes from `first` on with the partners of this thread; all
// threads of a block call it together.
__device__ void multiply(const Means& m, int64_t first, int64_t first_partner, Tile& tile,
                         double (&products)[thread_partners][class_rows]) {
    const double scale = m.space.unit->scale;
    for (int p = 0; p < thread_partners; ++p)
        for (int i = 0; i < class_rows; ++i) products[p][i] = 0.0;
    for (int64_t column = 0; column < m.dim; column += column_tile) {
        const int columns =
            static_cast<int>(m.dim - column < column_tile ? m.dim - column : column_tile);
        __syncthreads();
        for (int i = threadIdx.x; i < class_rows * column_tile; i += pair_threads) {
            const int row = i / column_tile, j = i % column_tile;
            tile.classes[j][row / 2].entries[row % 2] =
                j < columns && first + row < m.classes ? m.means[(first + row) * m.dim + column + j]
                                                       : 0.0;
        }
#pragma unroll 8
        for (int i = threadIdx.x; i < static_cast<int>(partner_block) * column_tile;
             i += pair_threads) {
            const int row = i / column_tile, j = i % column_tile;
            tile.partners[j][row] =
                j < columns && first_partner + row < m.classes
                    ? m.means[(first_partner + row) * m.dim + column + j] * scale * scale
                    : 0.0;
        }
        __syncthreads();
        for (int j = 0; j < columns; ++j) {
            double partners[thread_partners];
#pragma unroll
            for (int p = 0; p < thread_partners; ++p)
                partners[p] = tile.partners[j][threadIdx.x + p * pair_threads];
#pragma unroll
            for (int i = 0; i < class_rows; i += 2) {
                const TwoClasses classes = tile.classes[j][i / 2];
#pragma unroll
                for (int p = 0; p < thread_partners; ++p) {
                    products[p][i] = fused(classes.entries[0], partners[p], products[p][i]);
                    products[p][i + 1] = fused(classes.entries[1], partners[p], products[p][i + 1]);
                }
            }
        }
    }
}

// Rare, and not to be there once for each class and partner of a thread.
__attribute__((noinline)) __device__ double summed_distance(const double* a, const double* b,
                                                            int64_t dim, double scale) {
    return distance_between(a, b, dim, scale);
}

__device__ double distance_of(const Means& m, int64_t row, int64_t partner, double product) {
    const double a_square = m.space.square_norms[row], b_square = m.space.square_norms[partner];
    const double distance = square_distance(product, a_square, b_square);
    if (distance > close_share * (a_square + b_square)) return distance;
    return summed_distance(m.means + row * m.dim, m.means + partner * m.dim, m.dim,
                           m.space.unit->scale);
}

__device__ double cdnv_of(const Means& m, int64_t row, int64_t partner, double product) {
    const double distance = distance_of(m, row, partner, product);
    return distance > 0.0 ? distance_normalised_variance(m.space.variances[row],
                                                         m.space.variances[partner], distance)
                          : static_cast<double>(INFINITY);
}

// The values of one class for a block of partners, and what the lanes make of them.
struct Values {
    double cdnv[partner_block], excess[partner_block], gram[partner_block];
    double lanes[quantities][sum_lanes];
    int64_t partners[quantities][sum_lanes];
};

// Lane `lane` of quantity `which` over partners [lowest, end) of a block.
__device__ void reduce_lane(Values& values, int which, int lane, int64_t first_partner,
                            int64_t lowest, int64_t end) {
    const double* from = which == 0 || which == 5 || which == 6   ? values.cdnv
                         : which == 1 || which == 2 || which == 7 ? values.excess
                                                                  : values.gram;
    const bool squares = which == 2 || which == 4, summed = which < 5, least = which == 6;
    double found = summed ? 0.0 : static_cast<double>(least ? INFINITY : -INFINITY);
    int64_t partner = -1;
#pragma unroll 4
    for (int k = lane; k < partner_block; k += sum_lanes) {
        if (first_partner + k < lowest || first_partner + k >= end) continue;
        const double value = from[k];
        if (summed) {
            found += squares ? value * value : value;
        } else if (least ? value < found : value > found) {
            found = value;
            partner = first_partner + k;
        }
    }
    values.lanes[which][lane] = found;
    values.partners[which][lane] = partner;
}

// Totals of one class while its blocks are added.
struct Totals {
    double values[quantities];
    int64_t partners[quantities];
};

__device__ void add_lanes(const Values& values, int which, Totals& totals) {
    if (which < 5) {
        totals.values[which] += total_by_neighbours(values.lanes[which]);
        return;
    }
    for (int lane = 0; lane < sum_lanes; ++lane) {
        const double value = values.lanes[which][lane];
        const int64_t partner = values.partners[which][lane];
        if (which == 6 ? value < totals.values[which]
                       : partner >= 0 && (totals.partners[which] < 0 ||
                                          beats(value, partner, totals.values[which],
                                                totals.partners[which]))) {
            totals.values[which] = value;
            totals.partners[which] = partner;
        }
    }
}

__global__ void __launch_bounds__(pair_threads) pair_geometry_kernel(Means m, PairTotals out) {
    __shared__ Tile tile;
    __shared__ Values values;
    __shared__ Totals totals[class_rows];
    const int64_t first = int64_t{blockIdx.x} * class_rows;
    for (int i = threadIdx.x; i < class_rows * quantities; i += pair_threads) {
        const int which = i % quantities;
        totals[i / quantities].values[which] =
            which < 5 ? 0.0 : static_cast<double>(which == 6 ? INFINITY : -INFINITY);
        totals[i / quantities].partners[which] = -1;
    }
    for (int64_t first_partner = (first + 1) / partner_block * partner_block;
         first_partner < m.classes; first_partner += partner_block) {
        double products[thread_partners][class_rows];
        multiply(m, first, first_partner, tile, products);
#pragma unroll
        for (int i = 0; i < class_rows; ++i) {
            const int64_t row = first + i;
#pragma unroll
            for (int p = 0; p < thread_partners; ++p) {
                const int at = static_cast<int>(threadIdx.x) + p * pair_threads;
                const int64_t partner = first_partner + at;
                if (partner >= m.classes || partner <= row) continue;
                values.cdnv[at] = cdnv_of(m, row, partner, products[p][i]);
                values.excess[at] = cosine_excess(products[p][i], m.space.inverse_norms[row],
                                                  m.space.inverse_norms[partner], m.excess);
                values.gram[at] = products[p][i] + m.space.unit->offset;
            }
            __syncthreads();
            if (threadIdx.x < quantities * sum_lanes)
                reduce_lane(values, threadIdx.x / sum_lanes, threadIdx.x % sum_lanes, first_partner,
                            row + 1, m.classes);
            __syncthreads();
            if (threadIdx.x < quantities) add_lanes(values, threadIdx.x, totals[i]);
        }
    }
    __syncthreads();
    if (threadIdx.x >= class_rows || first + threadIdx.x >= m.classes) return;
    const int64_t row = first + threadIdx.x;
    const Totals& total = totals[threadIdx.x];
    const int exponent = -2 * ilogb(m.space.unit->scale);
    out.cdnv_sum[row] = total.values[0];
    out.excess_sum[row] = total.values[1];
    out.excess_squares[row] = total.values[2];
    out.gram_sum[row] = ldexp(total.values[3], exponent);
    out.gram_squares[row] = ldexp(total.values[4], 2 * exponent);
    out.cdnv_max[row] = total.values[5];
    out.cdnv_argmax[row] = total.partners[5];
    out.cdnv_min[row] = total.values[6];
    out.excess_max[row] = total.values[7];
    out.excess_argmax[row] = total.partners[7];
}

__global__ void __launch_bounds__(pair_threads)
    cdnv_block_kernel(Means m, int64_t first_class, int64_t end_class, double* __restrict__ out) {
    __shared__ Tile tile;
    const int64_t first = first_class + int64_t{blockIdx.x} * class_rows;
    const int64_t first_partner = int64_t{blockIdx.y} * partner_block;
    double products[thread_partners][class_rows];
    multiply(m, first, first_partner, tile, products);
#pragma unroll
    for (int p = 0; p < thread_partners; ++p) {
        const int64_t partner = first_partner + threadIdx.x + p * pair_threads;
        if (partner >= m.classes) continue;
#pragma unroll
        for (int i = 0; i < class_rows; ++i)
            if (first + i < end_class)
                out[(first + i - first_class) * m.classes + partner] =
                    first + i == partner ? 0.0 : cdnv_of(m, first + i, partner, products[p][i]);
    }
}

Workspace workspace_of(int64_t classes, Layout& layout) {
    return {layout.array<Unit>(1), layout.array<double>(classes), layout.array<double>(classes),
            layout.array<double>(classes)};
}

Means prepared(const double* means, const double* variances, const double* extremes,
               int64_t classes, int64_t dim, void* workspace, Stream stream) {
    Layout layout(workspace);
    const Workspace space = workspace_of(classes, layout);
    const Means m{means, classes, dim, space, 1.0 / (static_cast<double>(classes) - 1.0)};
    const unsigned grid = grid_for_elements(classes);
    launch("find_scale", find_scale_kernel, 1, 1, stream, extremes, space);
    launch("square_norms", square_norms_kernel, grid, block_threads, stream, m);
    launch("per_class", per_class_kernel, grid, block_threads, stream, m, variances);
    launch("offset", offset_kernel, 1, block_threads, stream, m);
    return m;
}

}  // namespace

size_t geometry_workspace(int64_t classes) {
    Layout layout;
    workspace_of(classes, layout);
    return layout.bytes();
}

void pair_geometry(const double* means, const double* variances, const double* extremes,
                   int64_t classes, int64_t dim, void* workspace, const PairTotals& totals,
                   Stream stream) {
    const Means m = prepared(means, variances, extremes, classes, dim, workspace, stream);
    launch("pair_geometry", pair_geometry_kernel, exact_grid(classes, class_rows), pair_threads,
           stream, m, totals);
}

void cdnv_block(const double* means, const double* variances, const double* extremes,
                int64_t classes, int64_t dim, int64_t first_class, int64_t end_class,
                void* workspace, double* out, Stream stream) {
    if (end_class <= first_class) return;
    const Means m = prepared(means, variances, extremes, classes, dim, workspace, stream);
    launch(
        "cdnv_block", cdnv_block_kernel,
        dim3(exact_grid(end_class - first_class, class_rows), exact_grid(classes, partner_block)),
        pair_threads, stream, m, first_class, end_class, out);
}

}  // namespace infall::device
