#include "rows/stream.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "rows/blocks.h"
#include "rows/screen.h"
#include "runtime/isa.h"

namespace infall {

INFALL_KERNEL_TABLES(StreamKernels, stream_kernels)

void project_block(const GaussianLayer& layer, int64_t first_row, int64_t rows,
                   const Weights& weights, float* scores, Pulse& pulse) {
    const StreamKernels& kernels = stream_kernels();
    const int64_t step = std::max<int64_t>(1, part_work / 4 / (rows * (1 + weights.batch / 8)));
    for (int64_t first = 0; first < weights.num_blocks; first += step) {
        if (first > 0) pulse();
        kernels.project_layer(layer, first_row, rows, weights, first,
                              std::min(weights.num_blocks, first + step), scores);
    }
}

namespace {

std::vector<Selection> select_exactly(const GaussianLayer& layer, const SelectionTask& task,
                                      const WeightedBlocks& weights, int64_t batch,
                                      float threshold) {
    const StreamKernels& kernels = stream_kernels();
    const AlignedBlocks blocks(task.first_row, task.end_row,
                               stream_block_rows(weights.width(), batch));
    Collectors collectors(task, batch, threshold);
    PerThread<std::vector<float>> scores(task.num_threads);
    PerThread<std::vector<int32_t>> positions(task.num_threads, std::vector<int32_t>(blocks.rows));
    for_passes(blocks, batch, task.num_threads, task.watch,
               [&](int64_t block, int64_t first_direction, int64_t end_direction, int thread,
                   Pulse& pulse) {
                   const auto [start, rows] = blocks.padded(block, row_multiple);
                   const int64_t directions = end_direction - first_direction;
                   std::vector<float>& projections = scores[thread];
                   int32_t* passing = positions[thread].data();
                   projections.resize(static_cast<size_t>(directions * rows));
                   project_block(layer, start, rows, weights.of(first_direction, end_direction),
                                 projections.data(), pulse);
                   const int64_t from = blocks.valid_from(block), to = blocks.valid_to(block);
                   for (int64_t d = 0; d < directions; ++d) {
                       TopRows& top = collectors.at(thread, first_direction + d);
                       const float* valid = projections.data() + d * rows + (from - start);
                       const int64_t num_passing =
                           kernels.at_least(valid, to - from, static_cast<float>(top.threshold()),
                                            task.absolute, passing);
                       for (int64_t i = 0; i < num_passing; ++i)
                           top.add(static_cast<double>(valid[passing[i]]), from + passing[i]);
                   }
                   return end_direction == batch ? to - from : 0;
               });
    return collectors.merged();
}

// Rows of one thread that estimates have not ruled out. They wait until they fill whole vectors of
// rows that share the upper word, and are projected then.
class Candidates {
  public:
    Candidates(const GaussianLayer& layer, const Weights& weights)
        : layer_(layer), weights_(weights) {}

    // The rows first_row + positions[i], i < count.
    void add(int64_t first_row, const int32_t* positions, int64_t count, TopRows& top) {
        if (!rows_.empty() && (rows_[0] ^ first_row) >> 32 != 0) project(size(), top);
        for (int64_t i = 0; i < count; ++i) rows_.push_back(first_row + positions[i]);
        project(size() - size() % row_multiple, top);
    }
    void finish(TopRows& top) { project(size(), top); }

  private:
    int64_t size() const { return static_cast<int64_t>(rows_.size()); }

    // The first `count` of those that wait.
    void project(int64_t count, TopRows& top) {
        if (count == 0) return;
        const int64_t padded = (count + row_multiple - 1) / row_multiple * row_multiple;
        low_rows_.assign(static_cast<size_t>(padded), 0);
        for (int64_t i = 0; i < count; ++i)
            low_rows_[static_cast<size_t>(i)] =
                static_cast<uint32_t>(rows_[static_cast<size_t>(i)]);
        projections_.resize(static_cast<size_t>(padded));
        stream_kernels().project_rows(layer_, rows_[0], low_rows_.data(), padded, weights_,
                                      projections_.data());
        for (int64_t i = 0; i < count; ++i)
            top.add(static_cast<double>(projections_[static_cast<size_t>(i)]),
                    rows_[static_cast<size_t>(i)]);
        rows_.erase(rows_.begin(), rows_.begin() + count);
    }

    GaussianLayer layer_;
    Weights weights_;
    std::vector<int64_t> rows_;
    std::vector<uint32_t> low_rows_;
    std::vector<float> projections_;
};

std::vector<Selection> select_screened(const GaussianLayer& layer, const SelectionTask& task,
                                       const Weights& weights, float threshold) {
    const ScreenKernels& kernels = screen_kernels();
    const Screen screen(weights);
    const AlignedBlocks blocks(
        task.first_row, task.end_row,
        std::max(screened_rows, stream_block_rows(4 * weights.num_blocks, 1)));
    Collectors collectors(task, 1, threshold);
    PerThread<Candidates> candidates(task.num_threads, Candidates(layer, weights));
    PerThread<std::vector<float>> scores(task.num_threads, std::vector<float>(blocks.rows));
    PerThread<std::vector<int32_t>> positions(task.num_threads, std::vector<int32_t>(blocks.rows));
    run_blocks(
        blocks.count(), task.num_threads,
        [&](int64_t block, int thread) {
            const auto [start, rows] = blocks.padded(block, screened_rows);
            const int64_t from = blocks.valid_from(block), to = blocks.valid_to(block);
            float* estimates = scores[thread].data();
            int32_t* passing = positions[thread].data();
            TopRows& top = collectors.at(thread, 0);
            screen.estimate(layer, start, rows, estimates);
            // The threshold rises as better rows come in, and the bound with it.
            const int64_t num_passing =
                kernels.not_below(estimates + (from - start), to - from,
                                  screen.bound(top.threshold()), task.absolute, passing);
            candidates[thread].add(from, passing, num_passing, top);
            return to - from;
        },
        task.watch);
    const int64_t waiting = row_multiple * candidates.size();
    run_blocks(
        candidates.size(), threads_for(waiting * 4 * weights.num_blocks, task.num_threads),
        [&](int64_t owner, int) {
            const int thread = static_cast<int>(owner);
            candidates[thread].finish(collectors.at(thread, 0));
            return int64_t{0};
        },
        nullptr);
    return collectors.merged();
}

bool is_screened(const SelectionTask& task, const Weights& weights, float threshold,
                 std::optional<bool> screened) {
    const bool possible =
        weights.batch == 1 && weights.num_blocks <= Screen::most_blocks && std::isfinite(threshold);
    if (screened.value_or(false) && !possible)
        throw std::invalid_argument("only one direction with a threshold can be screened");
    if (!possible) return false;
    const int64_t rows = task.end_row - task.first_row;
    return screened ? *screened : is_worth_screening(weights, rows, threshold, task.absolute);
}

}  // namespace

std::vector<Selection> select_stream(const GaussianLayer& layer, const SelectionTask& task,
                                     const float* w, int64_t batch, float threshold,
                                     std::optional<bool> screened) {
    const WeightedBlocks weights(w, batch, layer.dim);
    if (is_screened(task, weights.of(0, batch), threshold, screened))
        return select_screened(layer, task, weights.of(0, 1), threshold);
    return select_exactly(layer, task, weights, batch, threshold);
}

}  // namespace infall
