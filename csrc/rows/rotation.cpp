#include "rows/rotation.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "random/normal.h"
#include "random/philox.h"
#include "random/streams.h"
#include "rows/blocks.h"
#include "rows/directions.h"
#include "rows/stream.h"
#include "runtime/isa.h"
#include "runtime/scratch.h"

namespace infall {

INFALL_KERNEL_TABLES(RotationKernels, rotation_kernels)

namespace {

constexpr int64_t polled_every = 1 << 16;  // draws

}  // namespace

std::vector<Selection> select_rotated(const GaussianLayer& layer, const SelectionTask& task,
                                      const double* factors, int64_t span, int64_t batch,
                                      double threshold) {
    const RotationKernels& kernels = rotation_kernels();
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const bool filtered = threshold > 0.0;
    const bool by_radius = filtered && span == 1;
    // Blocks of row pairs; `kernels` sift them, and what is left is projected exactly.
    const int64_t last_pair = (task.end_row - 1) / 2;
    const AlignedBlocks blocks(task.first_row / 2, last_pair + 1,
                               by_radius ? int64_t{1} << 15 : block_rows_for(4 * span, batch));
    Collectors collectors(task, batch, threshold);
    PerThread<std::vector<int32_t>> positions(task.num_threads, std::vector<int32_t>(blocks.rows));
    // |D| >= t needs a radius of at least t, so a radius uniform of at most exp(-t^2 / 2).
    const double bound = std::exp(-0.5 * threshold * threshold) * 4294967296.0 + 1.0;
    const float sieve = estimate_threshold(threshold, span);
    std::vector<float> factors32(static_cast<size_t>(by_radius ? 0 : batch * span));
    for (size_t i = 0; i < factors32.size(); ++i) {
        const auto d = static_cast<int64_t>(i) / span, c = static_cast<int64_t>(i) % span;
        factors32[i] = static_cast<float>(factors[c * batch + d]);
    }
    PerThread<std::vector<float>> estimates(task.num_threads);

    // Adds the projections of one row on directions [from, to); factors above the diagonal only.
    const auto add_exactly = [&](int64_t row, int64_t from, int64_t to, int thread) {
        if (row < task.first_row || row >= task.end_row) return;
        std::vector<double> entries(static_cast<size_t>(std::min(to, span)));
        for (size_t c = 0; c < entries.size(); ++c) {
            double even, odd;
            deciding_pair(static_cast<uint64_t>(row / 2), static_cast<uint32_t>(c), layer.layer,
                          key, even, odd);
            entries[c] = row % 2 ? odd : even;
        }
        for (int64_t d = from; d < to; ++d) {
            double sum = 0.0;
            for (int64_t c = 0; c < std::min(d + 1, span); ++c)
                sum = fused(entries[static_cast<size_t>(c)], factors[c * batch + d], sum);
            collectors.at(thread, d).add(sum, row);
        }
    };

    run_blocks(
        blocks.count(), task.num_threads,
        [&](int64_t block, int thread) {
            const auto [start, pairs] = blocks.padded(block, row_multiple);
            int32_t* passing = positions[thread].data();
            if (by_radius) {
                const int64_t hits = kernels.deciding_candidates(
                    layer, 0, start, pairs, static_cast<uint32_t>(std::min(bound, 4294967295.0)),
                    passing);
                for (int64_t i = 0; i < hits; ++i)
                    for (int64_t parity = 0; parity < 2; ++parity)
                        if (start + passing[i] <= last_pair)
                            add_exactly(2 * (start + passing[i]) + parity, 0, batch, thread);
            } else if (filtered) {
                std::vector<float>& scores = estimates[thread];
                scores.resize(static_cast<size_t>((2 * batch + 1) * pairs));
                float* const by_parity[2] = {scores.data(), scores.data() + batch * pairs};
                float* square_radii = scores.data() + 2 * batch * pairs;
                kernels.estimate_deciding(layer, start, pairs, span, factors32.data(), batch,
                                          by_parity[0], by_parity[1], square_radii);
                const int64_t count = blocks.valid_to(block) - start;
                for (int64_t parity = 0; parity < 2; ++parity)
                    for (int64_t d = 0; d < batch; ++d) {
                        const float* estimate = by_parity[parity] + d * pairs;
                        const int64_t hits = stream_kernels().at_least(estimate, count, sieve,
                                                                       task.absolute, passing);
                        for (int64_t i = 0; i < hits; ++i)
                            if (square_radii[passing[i]] < far_square_radius)
                                add_exactly(2 * (start + passing[i]) + parity, d, d + 1, thread);
                    }
                const int64_t far = stream_kernels().at_least(square_radii, count,
                                                              far_square_radius, false, passing);
                for (int64_t i = 0; i < far; ++i)
                    for (int64_t parity = 0; parity < 2; ++parity)
                        add_exactly(2 * (start + passing[i]) + parity, 0, batch, thread);
            } else {
                for (int64_t pair = blocks.valid_from(block); pair < blocks.valid_to(block); ++pair)
                    for (int64_t parity = 0; parity < 2; ++parity)
                        add_exactly(2 * pair + parity, 0, batch, thread);
            }
            const int64_t to = blocks.valid_to(block);
            return (to > last_pair ? task.end_row : 2 * to) -
                   std::max(2 * blocks.valid_from(block), task.first_row);
        },
        task.watch);
    return collectors.merged();
}

void draw_order_statistics(const GaussianLayer& layer, int64_t width, int64_t num_rows,
                           int64_t* rows, double* projections, Watch* watch) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    // Uniform rows without replacement: repeats are drawn again.
    std::unordered_set<uint64_t> seen;
    seen.reserve(static_cast<size_t>(num_rows) * 2);
    uint64_t draw = 0;
    for (int64_t j = 0; j < num_rows; ++draw) {
        const PhiloxBlock b = philox4x32_10(draw, drawn_rows, layer.layer, key);
        // floor(width * word / 2^128): the bias is below 2^-64.
        const uint64_t high = (static_cast<uint64_t>(b.w[0]) << 32) | b.w[1];
        const uint64_t low = (static_cast<uint64_t>(b.w[2]) << 32) | b.w[3];
        using Wide = unsigned __int128;
        const Wide carry = (static_cast<Wide>(width) * low) >> 64;
        const auto row = static_cast<uint64_t>((static_cast<Wide>(width) * high + carry) >> 64);
        if (seen.insert(row).second) rows[j++] = static_cast<int64_t>(row);
        if (watch && draw % polled_every == 0) watch->poll(0);
    }
    std::vector<bool> negative(static_cast<size_t>(num_rows));
    for (int64_t j = 0; j < num_rows; ++j) {
        const PhiloxBlock b =
            philox4x32_10(static_cast<uint64_t>(j), order_statistics, layer.layer, key);
        negative[static_cast<size_t>(j)] = b.w[2] & 1u;
        projections[j] = exponential64<double>((static_cast<uint64_t>(b.w[0]) << 32) | b.w[1]);
        if (watch && j % polled_every == 0) watch->poll(0);
    }
    largest_folded_normals(projections, num_rows, static_cast<double>(width), watch);
    // Ties go to the lower row.
    for (int64_t j = 1; j < num_rows; ++j)
        for (int64_t i = j; i > 0 && !(projections[i] < projections[i - 1]); --i)
            if (rows[i] < rows[i - 1]) std::swap(rows[i], rows[i - 1]);
    for (int64_t j = 0; j < num_rows; ++j)
        if (negative[static_cast<size_t>(j)]) projections[j] = -projections[j];
}

void largest_folded_normals(double* exponentials, int64_t count, double width, Watch* watch) {
    LargestFoldedNormals largest(width);
    for (int64_t first = 0; first < count; first += polled_every) {
        const int64_t last = std::min(first + polled_every, count);
        rotation_kernels().largest_folded_normals(largest, exponentials + first, last - first);
        if (watch) watch->poll(0);
    }
}

void rotate_rows(float* z, int64_t count, int64_t dim, const double* deciding, const double* v,
                 const double* scale, int64_t span, int num_threads, Watch* watch) {
    const DirectionKernels& kernels = direction_kernels();
    const int64_t width = tile_width(dim);
    const int64_t reflections = std::max<int64_t>(1, part_work / (width * dim));
    PerThread<Scratch<double>> tiles(num_threads);
    run_blocks((count + width - 1) / width, num_threads,
               [&](int64_t block, int thread, Pulse& pulse) {
                   const int64_t first = block * width, rows = std::min(width, count - first);
                   float* target = z + first * dim;
                   double* x = tiles[thread].of_length(width * dim);
                   if (width == 1)
                       std::copy(target, target + dim, x);
                   else
                       kernels.load_tile(target, dim, rows, dim, x);
                   for (int64_t i = 0; i < rows; ++i)
                       for (int64_t c = 0; c < span; ++c)
                           x[c * width + i] = deciding[(first + i) * span + c];
                   for (int64_t left = span; left > 0; left -= reflections) {
                       if (left < span) pulse();
                       kernels.reflect(x, width,
                                       {v, scale, left - 1, -1, std::min(left, reflections)}, dim);
                   }
                   if (width == 1)
                       store_row(x, 1, dim, target);
                   else
                       kernels.store_tile(x, rows, dim, target);
                   return rows;
               },
               watch);
}

void deciding_entries(const GaussianLayer& layer, const int64_t* rows, int64_t count, int64_t span,
                      int num_threads, Watch* watch, double* out) {
    const RotationKernels& kernels = rotation_kernels();
    const int64_t block = std::max<int64_t>(1, (1 << 14) / span);
    run_ranges(
        count, block, threads_for(100 * total_blocks(count, span), num_threads),
        [&](int64_t first, int64_t end) {
            kernels.deciding_entries(layer, rows + first, end - first, span, out + first * span);
        },
        watch);
}

}  // namespace infall
