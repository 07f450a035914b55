// Which thread works on which classes and partners.
#include "classes/geometry.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/isa.h"

namespace infall {

INFALL_KERNEL_TABLES(GeometryKernels, geometry_kernels)
namespace {

constexpr int64_t max_class_block = 256;  // classes of a task
constexpr int64_t entry_block = int64_t{1} << 20;

int64_t blocks_of(int64_t count, int64_t block) { return (count + block - 1) / block; }

// Classes of a task.
int64_t rows_of_task(const GeometryKernels& kernels, int64_t dim) {
    const int64_t rows = kernels.block_products / (partner_block * dim);
    return std::clamp(rows / kernels.class_rows * kernels.class_rows, int64_t{kernels.class_rows},
                      max_class_block);
}

// A geometry and the arrays per class behind it.
class ClassArrays {
  public:
    ClassGeometry geometry;

    ClassArrays(const GeometryKernels& kernels, const double* means, const double* variances,
                int64_t classes, int64_t dim, int num_threads, Watch* watch)
        : variances_(padded(classes)), square_norms_(padded(classes)), inverses_(padded(classes)) {
        const double scale = scale_for(kernels, means, classes, dim, num_threads, watch);
        const int64_t step = std::max<int64_t>(kernels.class_rows, entry_block / dim);
        run_blocks(
            blocks_of(classes, step), num_threads,
            [&](int64_t block, int) {
                const int64_t first = block * step, here = std::min(step, classes - first);
                kernels.square_norms(means + first * dim, here, dim, scale,
                                     square_norms_.data() + first);
                return int64_t{0};
            },
            watch);
        double total = 0.0;
        for (size_t i = 0; i < static_cast<size_t>(classes); ++i) {
            variances_[i] = variances[i] * scale * scale;
            inverses_[i] = square_norms_[i] > 0.0 ? 1.0 / std::sqrt(square_norms_[i]) : 0.0;
            total += square_norms_[i];
        }
        const auto count = static_cast<double>(classes);
        geometry = {means,
                    classes,
                    dim,
                    scale,
                    variances_.data(),
                    square_norms_.data(),
                    inverses_.data(),
                    1.0 / (count - 1.0),
                    total / (count - 1.0) / count};
    }

  private:
    std::vector<double> variances_, square_norms_, inverses_;

    static size_t padded(int64_t classes) { return static_cast<size_t>(padded_classes(classes)); }

    static double scale_for(const GeometryKernels& kernels, const double* means, int64_t classes,
                            int64_t dim, int num_threads, Watch* watch) {
        const int64_t entries = classes * dim;
        std::vector<double> largest(static_cast<size_t>(blocks_of(entries, entry_block)));
        run_blocks(
            static_cast<int64_t>(largest.size()), num_threads,
            [&](int64_t block, int) {
                const int64_t first = block * entry_block;
                largest[static_cast<size_t>(block)] = kernels.largest_magnitude(
                    means + first, std::min(entry_block, entries - first));
                return int64_t{0};
            },
            watch);
        return unit_scale(*std::max_element(largest.begin(), largest.end()));
    }
};

}  // namespace

void pair_geometry(const double* means, const double* variances, int64_t classes, int64_t dim,
                   int num_threads, Watch* watch, const PairTotals& totals) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    for (double* zero : {totals.cdnv_sum, totals.excess_sum, totals.excess_squares, totals.gram_sum,
                         totals.gram_squares})
        std::fill_n(zero, classes, 0.0);
    std::fill_n(totals.cdnv_max, classes, -infinity);
    std::fill_n(totals.excess_max, classes, -infinity);
    std::fill_n(totals.cdnv_min, classes, infinity);
    std::fill_n(totals.cdnv_argmax, classes, int64_t{-1});
    std::fill_n(totals.excess_argmax, classes, int64_t{-1});
    if (classes < 2) return;

    const GeometryKernels& kernels = geometry_kernels();
    const ClassArrays arrays(kernels, means, variances, classes, dim, num_threads, watch);
    const ClassGeometry& geometry = arrays.geometry;
    // A pass takes the next few blocks of partners to all classes below them; within it a class
    // belongs to one task, so that its blocks are added in order.
    const int64_t rows = rows_of_task(kernels, dim);
    const int64_t wave =
        std::max<int64_t>(1, kernels.block_products / (rows * partner_block * dim));
    const int64_t blocks = blocks_of(classes, partner_block);
    PerThread<std::vector<double>> scratch(num_threads);
    int64_t done = 0;
    for (int64_t first_block = 0; first_block < blocks; first_block += wave) {
        const int64_t end_block = std::min(blocks, first_block + wave);
        const int64_t from = first_block * partner_block;
        const int64_t to = std::min(classes, end_block * partner_block);
        PartWatch pass(watch, done);
        run_blocks(
            blocks_of(to - 1, rows), num_threads,
            [&](int64_t block, int thread) {
                std::vector<double>& memory = scratch[thread];
                memory.resize(static_cast<size_t>(kernels.scratch_size(rows)));
                const int64_t first = block * rows, count = std::min(rows, to - first);
                kernels.add_partners(geometry, first, count, first_block, end_block, totals,
                                     memory.data());
                int64_t pairs = 0;
                for (int64_t i = first; i < first + count; ++i) pairs += to - std::max(from, i + 1);
                return pairs;
            },
            &pass);
        done += (to - from) * from + (to - from) * (to - from - 1) / 2;
    }

    const int exponent = -2 * std::ilogb(geometry.scale);
    for (int64_t i = 0; i < classes; ++i) {
        totals.gram_sum[i] = std::ldexp(totals.gram_sum[i], exponent);
        totals.gram_squares[i] = std::ldexp(totals.gram_squares[i], 2 * exponent);
    }
}

void cdnv_block(const double* means, const double* variances, int64_t classes, int64_t dim,
                int64_t first_class, int64_t end_class, int num_threads, Watch* watch,
                double* out) {
    if (end_class <= first_class) return;
    const GeometryKernels& kernels = geometry_kernels();
    const ClassArrays arrays(kernels, means, variances, classes, dim, num_threads, watch);
    const int64_t rows = rows_of_task(kernels, dim);
    const int64_t blocks = blocks_of(classes, partner_block);
    PerThread<std::vector<double>> scratch(num_threads);
    run_blocks(
        blocks_of(end_class - first_class, rows) * blocks, num_threads,
        [&](int64_t task, int thread) {
            std::vector<double>& memory = scratch[thread];
            memory.resize(static_cast<size_t>(kernels.scratch_size(rows)));
            const int64_t first = first_class + task / blocks * rows;
            const int64_t count = std::min(rows, end_class - first);
            const int64_t block = task % blocks;
            kernels.cdnv_partners(arrays.geometry, first, count, block,
                                  out + (first - first_class) * classes, memory.data());
            return count * (std::min(classes, (block + 1) * partner_block) - block * partner_block);
        },
        watch);
}

}  // namespace infall
