// Gram-Schmidt by halves: the rows of the first half become orthonormal, their components are taken
// out of the second half, then that half's turn. Nearly all work is two products of large matrices
// per step. Subtracting loses digits as the dimensions run out (a random row keeps
// sqrt(1 - i / dim) of its length past i others), so that the last rows go through it twice.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "frames/frames.h"
#include "frames/team.h"
#include "random/gaussian.h"
#include "runtime/scratch.h"

namespace infall {
namespace {

constexpr int64_t leaf_rows = 8;
constexpr int64_t depth_tile = 256;
// Multiplications that cost what an operation on a number in memory does, and those of a block,
// between which Ctrl-C is answered.
constexpr int64_t products_per_operation = 8;
constexpr int64_t product_block_work = int64_t{1} << 28;

class GramSchmidt {
  public:
    GramSchmidt(double* x, int64_t dim, int num_threads, Watch* watch)
        : kernels_(frame_kernels()),
          x_(x),
          dim_(dim),
          team_{num_threads, watch},
          packed_(num_threads) {}

    void orthonormalise(int64_t first, int64_t end) {
        if (end - first <= leaf_rows) return leaf(first, end);
        const int64_t middle = first + (end - first) / 2;
        orthonormalise(first, middle);
        subtract_components(first, middle, middle, end);
        orthonormalise(middle, end);
    }

    // Rows first ... end lose their components along the orthonormal rows before ... before_end.
    void subtract_components(int64_t before, int64_t before_end, int64_t first, int64_t end) {
        const int64_t count = before_end - before, rows = end - first;
        if (count == 0 || rows == 0) return;
        double* products = products_.of_length(rows * count);
        const int threads =
            threads_for(count * rows * dim_ / products_per_operation, team_.num_threads);
        const double* basis = row(before);
        // products (rows, count) = -x basis^T
        for_panels(count, rows, dim_, threads,
                   [&](int64_t at, int64_t here, int64_t from, int64_t to, double* packed) {
                       for (int64_t i = from; i < to; ++i)
                           std::fill_n(products + i * count + at, here, 0.0);
                       const int width = kernels_.panel_width;
                       for (int64_t depth = 0; depth < dim_; depth += depth_tile) {
                           const int64_t length = std::min(depth_tile, dim_ - depth);
                           for (int64_t k = 0; k < here; k += width)
                               pack_negative_columns(basis + (at + k) * dim_ + depth,
                                                     std::min<int64_t>(width, here - k), length,
                                                     packed + k * length);
                           multiply(row(first) + depth, dim_, from, to, packed, length,
                                    products + at, count, here);
                       }
                   });
        // x += products basis
        for_panels(dim_, rows, count, threads,
                   [&](int64_t at, int64_t here, int64_t from, int64_t to, double* packed) {
                       const int width = kernels_.panel_width;
                       for (int64_t depth = 0; depth < count; depth += depth_tile) {
                           const int64_t length = std::min(depth_tile, count - depth);
                           for (int64_t k = 0; k < here; k += width)
                               pack_rows(basis + depth * dim_ + at + k,
                                         std::min<int64_t>(width, here - k), length,
                                         packed + k * length);
                           multiply(products + depth, count, from, to, packed, length,
                                    row(first) + at, dim_, here);
                       }
                   });
    }

  private:
    double* row(int64_t i) { return x_ + i * dim_; }

    void leaf(int64_t first, int64_t end) {
        for (int64_t i = first; i < end; ++i) {
            for (int64_t j = first; j < i; ++j)
                kernels_.subtract(row(j), kernels_.dot(row(j), row(i), dim_), dim_, row(i));
            const double norm = std::sqrt(kernels_.dot(row(i), row(i), dim_));
            kernels_.multiply(row(i), 1.0 / norm, dim_);
        }
    }

    // packed (length, panel_width) = -source^T for source (columns, length), zeros behind.
    void pack_negative_columns(const double* source, int64_t columns, int64_t length,
                               double* packed) const {
        constexpr int64_t piece = 32;  // what is written at a time stays in the first cache
        const int64_t width = kernels_.panel_width;
        if (columns < width) std::fill(packed, packed + length * width, 0.0);
        for (int64_t first = 0; first < length; first += piece)
            for (int64_t j = 0; j < columns; ++j)
                for (int64_t i = first; i < std::min(length, first + piece); ++i)
                    packed[i * width + j] = -source[j * dim_ + i];
    }

    // packed (length, panel_width) = source (length, columns), zeros behind.
    void pack_rows(const double* source, int64_t columns, int64_t length, double* packed) const {
        const int64_t width = kernels_.panel_width;
        if (columns < width) std::fill(packed, packed + length * width, 0.0);
        for (int64_t i = 0; i < length; ++i)
            std::copy(source + i * dim_, source + i * dim_ + columns, packed + i * width);
    }

    // sums (to - from, here) += a b for the rows from ... to, b in packed panels.
    void multiply(const double* a, int64_t a_stride, int64_t from, int64_t to, const double* packed,
                  int64_t depth, double* sums, int64_t sums_stride, int64_t here) {
        constexpr int64_t rows = 8;  // which stay in the first cache for all panels
        const int64_t width = kernels_.panel_width;
        for (int64_t i = from; i < to; i += rows)
            for (int64_t k = 0; k < here; k += width)
                kernels_.add_products(a + i * a_stride, a_stride, std::min(rows, to - i),
                                      packed + k * depth, depth, sums + i * sums_stride + k,
                                      sums_stride, std::min(width, here - k));
    }

    // body(at, here, from, to, packed): columns at ... at + here of a product and rows from ... to,
    // with room for as many panels of depth_tile rows.
    template <class Body>
    void for_panels(int64_t columns, int64_t rows, int64_t depth, int threads, const Body& body) {
        const int64_t width = kernels_.panel_width;
        // Wide enough to use each packed panel often, narrow enough that all threads have some.
        int64_t panels = 8, row_step = rows;
        const int64_t shares = int64_t{3} * threads;
        while (panels > 1 && columns < shares * panels * width) panels /= 2;
        if (columns < shares * width) row_step = std::max<int64_t>(96, rows / shares);
        row_step = std::min(
            row_step, std::max<int64_t>(leaf_rows, product_block_work / (panels * width * depth)));
        const int64_t step = panels * width, column_blocks = (columns + step - 1) / step;
        const int64_t row_blocks = (rows + row_step - 1) / row_step;
        run_blocks(
            column_blocks * row_blocks, threads,
            [&](int64_t block, int thread) {
                std::vector<double>& packed = packed_[thread];
                packed.resize(static_cast<size_t>(step * depth_tile));
                const int64_t at = block % column_blocks * step;
                const int64_t from = block / column_blocks * row_step;
                body(at, std::min(step, columns - at), from, std::min(rows, from + row_step),
                     packed.data());
                return int64_t{0};
            },
            team_.watch);
    }

    const FrameKernels& kernels_;
    double* x_;
    int64_t dim_;
    Team team_;
    Scratch<double> products_;
    PerThread<std::vector<double>> packed_;
};

}  // namespace

void orthonormalise_rows(double* x, int64_t count, int64_t dim, int num_threads, Watch* watch) {
    VectorWatch rows(watch);
    GramSchmidt process(x, dim, num_threads, &rows);
    process.orthonormalise(0, count);
    const int64_t lossy = std::min(count, dim - dim / 32 - std::min<int64_t>(dim - dim / 32, 16));
    process.subtract_components(0, lossy, lossy, count);
    process.orthonormalise(lossy, count);
    rows.done = count;
    rows.poll(0);
}

void haar_vectors(double* x, int64_t count, int64_t dim, uint64_t seed, int num_threads,
                  Watch* watch) {
    VectorWatch quiet(watch);
    const bool tight = dim < count;
    const int64_t coordinates = tight ? dim : count;
    const int64_t step = std::max<int64_t>(1, (int64_t{1} << 20) / dim);
    std::vector<int64_t> numbers(static_cast<size_t>(std::min(step, coordinates)));
    std::vector<float> gaussian(numbers.size() * static_cast<size_t>(dim));
    for (int64_t first = 0; first < coordinates; first += step) {
        const int64_t here = std::min(step, coordinates - first);
        std::iota(numbers.begin(), numbers.end(), first);
        gaussian_rows({seed, 0, dim, haar_matrix}, numbers.data(), here, num_threads, &quiet,
                      gaussian.data());
        std::copy_n(gaussian.data(), here * dim, x + first * dim);
    }
    orthonormalise_rows(x, coordinates, dim, num_threads, watch);

    // Sums in the order of the rows, a block at a time.
    std::vector<double> total(static_cast<size_t>(dim)), part(total.size());
    for (int64_t first = 0; first < coordinates; first += step) {
        const int64_t end = std::min(coordinates, first + step);
        std::copy_n(x + first * dim, dim, part.data());
        for (int64_t i = first + 1; i < end; ++i)
            for (int64_t j = 0; j < dim; ++j) part[static_cast<size_t>(j)] += x[i * dim + j];
        for (size_t j = 0; j < total.size(); ++j) total[j] += part[j];
        quiet.poll(0);
    }
    const double classes = static_cast<double>(count), root = std::sqrt(classes);
    const double length = std::sqrt(classes / (classes - 1.0));
    for (size_t j = 0; j < total.size(); ++j)
        part[j] = total[j] / (tight ? classes + root : classes);
    run_ranges(
        coordinates, step, num_threads,
        [&](int64_t first, int64_t end) {
            for (int64_t i = first; i < end; ++i)
                for (int64_t j = 0; j < dim; ++j)
                    x[i * dim + j] = (x[i * dim + j] - part[static_cast<size_t>(j)]) * length;
        },
        &quiet);
    if (tight)
        for (int64_t j = 0; j < dim; ++j)
            x[coordinates * dim + j] = -length / root * total[static_cast<size_t>(j)];
}

}  // namespace infall
