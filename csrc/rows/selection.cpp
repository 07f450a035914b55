#include "rows/selection.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_set>

#include "random/normal.h"
#include "random/philox.h"
#include "runtime/isa.h"

namespace infall {
namespace {

constexpr int64_t max_batch = 256;  // directions that share one pass over the layer
constexpr int64_t block_work = int64_t{1}
                               << 20;  // multiply-adds of a block, about half a millisecond
constexpr int64_t min_block_rows = 64, max_block_rows = 4096;

double score_of(const Candidate& c, bool absolute) {
    return absolute ? std::fabs(c.projection) : c.projection;
}

// Total order of a selection.
struct RanksBefore {
    bool absolute;
    bool operator()(const Candidate& a, const Candidate& b) const {
        const double left = score_of(a, absolute), right = score_of(b, absolute);
        return left != right ? left > right : a.row < b.row;
    }
};

// Keeps the best `num_rows` of the candidates it is shown, in any order, in O(num_rows) memory.
class TopRows {
  public:
    TopRows(int64_t num_rows, bool absolute, double threshold)
        : num_rows_(static_cast<size_t>(num_rows)), before_{absolute}, threshold_(threshold) {}

    double threshold() const { return threshold_; }

    void add(double projection, int64_t row) {
        const Candidate candidate{projection, row};
        if (score_of(candidate, before_.absolute) < threshold_) return;
        kept_.push_back(candidate);
        if (kept_.size() >= 2 * num_rows_ + 4096) cut();
    }

    void add_all(const TopRows& other) {
        for (const Candidate& c : other.kept_) add(c.projection, c.row);
    }

    Selection sorted() {
        cut();
        std::sort(kept_.begin(), kept_.end(), before_);
        return std::move(kept_);
    }

  private:
    void cut() {
        if (kept_.size() <= num_rows_) return;
        const auto last = kept_.begin() + static_cast<std::ptrdiff_t>(num_rows_) - 1;
        std::nth_element(kept_.begin(), last, kept_.end(), before_);
        kept_.resize(num_rows_);
        threshold_ = score_of(kept_.back(), before_.absolute);
    }

    size_t num_rows_;
    RanksBefore before_;
    double threshold_;
    Selection kept_;
};

// One collector per thread and direction.
class Collectors {
  public:
    Collectors(const SelectionTask& task, int64_t batch, double threshold)
        : batch_(static_cast<size_t>(batch)),
          tops_(static_cast<size_t>(std::max(task.num_threads, 1)) * batch_,
                TopRows(task.num_rows, task.absolute, threshold)) {}

    TopRows& at(int thread, int64_t direction) {
        return tops_[static_cast<size_t>(thread) * batch_ + static_cast<size_t>(direction)];
    }

    std::vector<Selection> merged() {
        std::vector<Selection> result;
        for (size_t direction = 0; direction < batch_; ++direction) {
            for (size_t i = batch_ + direction; i < tops_.size(); i += batch_)
                tops_[direction].add_all(tops_[i]);
            result.push_back(tops_[direction].sorted());
        }
        return result;
    }

  private:
    size_t batch_;
    std::vector<TopRows> tops_;
};

// Blocks of [first, end) that start at multiples of `rows`, a power of two: none crosses a multiple
// of 2^32, and every block but the outer ones is whole.
struct AlignedBlocks {
    int64_t first, end, rows, origin;

    AlignedBlocks(int64_t first_, int64_t end_, int64_t rows_)
        : first(first_), end(end_), rows(rows_), origin(first_ - first_ % rows_) {}

    int64_t count() const { return (end - 1 - origin) / rows + 1; }
    int64_t start(int64_t block) const { return origin + block * rows; }
    int64_t valid_from(int64_t block) const { return std::max(first, start(block)); }
    int64_t valid_to(int64_t block) const {
        return end - start(block) < rows ? end : start(block) + rows;
    }
};

int64_t block_rows_for(int64_t work_per_row) {
    int64_t rows = max_block_rows;
    while (rows > min_block_rows && rows * work_per_row > block_work) rows /= 2;
    return rows;
}

// Projections of rows [start, start + rows) of the layer on `batch` directions, (batch, rows).
void project_block(const GaussianLayer& layer, int64_t start, int64_t rows, const float* w,
                   int64_t batch, std::vector<float>& scores) {
    const RowKernels& kernels = *current_isa().rows;
    scores.resize(static_cast<size_t>(batch * rows));
    kernels.project_layer(layer, start, rows / kernels.lanes, w, batch, scores.data());
}

}  // namespace

std::vector<Selection> select_stream(const GaussianLayer& layer, const SelectionTask& task,
                                     const float* w, int64_t batch, float threshold) {
    const RowKernels& kernels = *current_isa().rows;
    const int64_t width = padded_dim(layer.dim), group = std::min(batch, max_batch);
    const AlignedBlocks blocks(task.first_row, task.end_row,
                               block_rows_for(width * (1 + group / 8)));
    const int64_t passes = (batch + max_batch - 1) / max_batch;
    Collectors collectors(task, batch, threshold);
    const auto threads = static_cast<size_t>(std::max(task.num_threads, 1));
    std::vector<std::vector<float>> scores(threads);
    std::vector<std::vector<int32_t>> positions(threads, std::vector<int32_t>(blocks.rows));

    run_blocks(
        blocks.count() * passes, task.num_threads,
        [&](int64_t number, int thread) {
            const int64_t block = number / passes, first_direction = number % passes * max_batch;
            const int64_t directions = std::min(max_batch, batch - first_direction);
            std::vector<float>& projections = scores[static_cast<size_t>(thread)];
            int32_t* found = positions[static_cast<size_t>(thread)].data();
            project_block(layer, blocks.start(block), blocks.rows, w + first_direction * width,
                          directions, projections);
            const int64_t from = blocks.valid_from(block), to = blocks.valid_to(block);
            for (int64_t d = 0; d < directions; ++d) {
                TopRows& top = collectors.at(thread, first_direction + d);
                const float* valid =
                    projections.data() + d * blocks.rows + (from - blocks.start(block));
                const int64_t hits = kernels.at_least(
                    valid, to - from, static_cast<float>(top.threshold()), task.absolute, found);
                for (int64_t i = 0; i < hits; ++i)
                    top.add(static_cast<double>(valid[found[i]]), from + found[i]);
            }
            return first_direction + directions == batch ? to - from : 0;
        },
        task.watch);
    return collectors.merged();
}

std::vector<Selection> select_rotated(const GaussianLayer& layer, const SelectionTask& task,
                                      const double* factors, int64_t span, int64_t batch,
                                      double threshold) {
    const RowKernels& kernels = *current_isa().rows;
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const bool filtered = threshold > 0.0;
    const bool by_radius = filtered && span == 1;
    // Blocks of row pairs; `kernels` sift them, and what is left is projected exactly.
    const int64_t last_pair = (task.end_row - 1) / 2;
    const AlignedBlocks blocks(
        task.first_row / 2, last_pair + 1,
        by_radius ? int64_t{1} << 15 : block_rows_for(4 * span * (1 + batch / 8)));
    const auto threads = static_cast<size_t>(std::max(task.num_threads, 1));
    const auto pairs = static_cast<size_t>(blocks.rows);
    Collectors collectors(task, batch, threshold);
    std::vector<std::vector<int32_t>> positions(threads, std::vector<int32_t>(pairs));
    // |D| >= t needs a radius of at least t, so a radius uniform of at most exp(-t^2 / 2).
    const double bound = std::exp(-0.5 * threshold * threshold) * 4294967296.0 + 1.0;
    // What the estimates may be off by, and the squared radius above which they say nothing.
    const float estimate_threshold =
        static_cast<float>(threshold - 1e-3 * std::sqrt(static_cast<double>(span)));
    constexpr float far_square_radius = 22.0f;
    std::vector<float> factors32(static_cast<size_t>(by_radius ? 0 : batch * span));
    for (size_t i = 0; i < factors32.size(); ++i) {
        const auto d = static_cast<int64_t>(i) / span, c = static_cast<int64_t>(i) % span;
        factors32[i] = static_cast<float>(factors[c * batch + d]);
    }
    std::vector<std::vector<float>> estimates(threads);

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
            const int64_t start = blocks.start(block), groups = blocks.rows / kernels.lanes;
            int32_t* found = positions[static_cast<size_t>(thread)].data();
            if (by_radius) {
                const int64_t hits = kernels.deciding_candidates(
                    layer, 0, start, groups, static_cast<uint32_t>(std::min(bound, 4294967295.0)),
                    found);
                for (int64_t i = 0; i < hits; ++i)
                    for (int64_t parity = 0; parity < 2; ++parity)
                        if (start + found[i] <= last_pair)
                            add_exactly(2 * (start + found[i]) + parity, 0, batch, thread);
            } else if (filtered) {
                std::vector<float>& scores = estimates[static_cast<size_t>(thread)];
                scores.resize((2 * static_cast<size_t>(batch) + 1) * pairs);
                float* by_parity[2] = {scores.data(), scores.data() + batch * blocks.rows};
                float* square_radii = scores.data() + 2 * batch * blocks.rows;
                kernels.estimate_deciding(layer, start, groups, span, factors32.data(), batch,
                                          by_parity[0], by_parity[1], square_radii);
                const int64_t count = blocks.valid_to(block) - start;
                for (int64_t parity = 0; parity < 2; ++parity)
                    for (int64_t d = 0; d < batch; ++d) {
                        const float* estimate = by_parity[parity] + d * blocks.rows;
                        const int64_t hits = kernels.at_least(estimate, count, estimate_threshold,
                                                              task.absolute, found);
                        for (int64_t i = 0; i < hits; ++i)
                            if (square_radii[found[i]] < far_square_radius)
                                add_exactly(2 * (start + found[i]) + parity, d, d + 1, thread);
                    }
                const int64_t far =
                    kernels.at_least(square_radii, count, far_square_radius, false, found);
                for (int64_t i = 0; i < far; ++i)
                    for (int64_t parity = 0; parity < 2; ++parity)
                        add_exactly(2 * (start + found[i]) + parity, 0, batch, thread);
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

std::vector<Selection> select_matrix(const MatrixRows& rows, bool is_float64,
                                     const SelectionTask& task, const void* w, int64_t batch) {
    const RowKernels& kernels = *current_isa().rows;
    const AlignedBlocks blocks(task.first_row, task.end_row,
                               block_rows_for(rows.dim * (1 + std::min(batch, max_batch) / 8)));
    Collectors collectors(task, batch, -std::numeric_limits<double>::infinity());
    const auto threads = static_cast<size_t>(std::max(task.num_threads, 1));
    const auto size = static_cast<size_t>(blocks.rows);
    std::vector<std::vector<float>> scores32(threads, std::vector<float>(is_float64 ? 0 : size));
    std::vector<std::vector<double>> scores64(threads, std::vector<double>(size));

    run_blocks(
        blocks.count(), task.num_threads,
        [&](int64_t block, int thread) {
            const int64_t from = blocks.valid_from(block), count = blocks.valid_to(block) - from;
            MatrixRows here = rows;
            const int64_t bytes = is_float64 ? sizeof(double) : sizeof(float);
            here.data = static_cast<const char*>(rows.data) + from * rows.row_stride * bytes;
            double* projections = scores64[static_cast<size_t>(thread)].data();
            float* single = scores32[static_cast<size_t>(thread)].data();
            for (int64_t d = 0; d < batch; ++d) {
                if (is_float64) {
                    kernels.project_float64(here, count,
                                            static_cast<const double*>(w) + d * rows.dim, 1, count,
                                            projections);
                } else {
                    kernels.project_float32(
                        here, count, static_cast<const float*>(w) + d * rows.dim, 1, count, single);
                    std::copy(single, single + count, projections);
                }
                TopRows& top = collectors.at(thread, d);
                for (int64_t i = 0; i < count; ++i) {
                    if (!std::isfinite(projections[i])) throw NonFinite{from + i, d};
                    const double score = task.absolute ? std::fabs(projections[i]) : projections[i];
                    if (score >= top.threshold()) top.add(projections[i], from + i);
                }
            }
            return count;
        },
        task.watch);
    return collectors.merged();
}

void draw_order_statistics(const GaussianLayer& layer, int64_t first_row, int64_t end_row,
                           int64_t num_rows, double* exponentials, uint8_t* signs, int64_t* rows) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    for (int64_t j = 0; j < num_rows; ++j) {
        const PhiloxBlock b =
            philox4x32_10(static_cast<uint64_t>(j), order_statistics_stream, layer.layer, key);
        exponentials[j] = exponential64((static_cast<uint64_t>(b.w[0]) << 32) | b.w[1]);
        signs[j] = b.w[2] & 1u;
    }
    // Uniform rows without replacement: repeats are drawn again.
    const auto width = static_cast<uint64_t>(end_row - first_row);
    std::unordered_set<uint64_t> seen;
    seen.reserve(static_cast<size_t>(num_rows) * 2);
    uint64_t draw = 0;
    for (int64_t j = 0; j < num_rows; ++draw) {
        const PhiloxBlock b = philox4x32_10(draw, index_stream, layer.layer, key);
        // floor(width * word / 2^128): the bias is below 2^-64.
        const uint64_t high = (static_cast<uint64_t>(b.w[0]) << 32) | b.w[1];
        const uint64_t low = (static_cast<uint64_t>(b.w[2]) << 32) | b.w[3];
        using Wide = unsigned __int128;
        const Wide carry = (static_cast<Wide>(width) * low) >> 64;
        const auto row = static_cast<uint64_t>((static_cast<Wide>(width) * high + carry) >> 64);
        if (seen.insert(row).second) rows[j++] = first_row + static_cast<int64_t>(row);
    }
}

void householder(const double* w, int64_t batch, int64_t dim, double* v, double* scale,
                 double* factors) {
    const int64_t span = std::min(batch, dim);
    std::vector<double> work(w, w + batch * dim);  // (batch, dim): columns of w^T
    std::fill(v, v + span * dim, 0.0);
    std::fill(factors, factors + span * batch, 0.0);
    for (int64_t h = 0; h < span; ++h) {
        const double* x = work.data() + h * dim;
        double tail = 0.0;
        for (int64_t j = h + 1; j < dim; ++j) tail = fused(x[j], x[j], tail);
        const double norm = std::sqrt(fused(x[h], x[h], tail));
        double* direction = v + h * dim;
        scale[h] = 0.0;
        if (tail > 0.0 || x[h] < 0.0) {
            // H x = +norm e_h; the first component in the form that does not cancel.
            direction[h] = x[h] > 0.0 ? -tail / (x[h] + norm) : x[h] - norm;
            for (int64_t j = h + 1; j < dim; ++j) direction[j] = x[j];
            scale[h] = 2.0 / fused(direction[h], direction[h], tail);
        }
        for (int64_t b = h; b < batch; ++b) {
            double* column = work.data() + b * dim;
            double dot = 0.0;
            for (int64_t j = h; j < dim; ++j) dot = fused(direction[j], column[j], dot);
            const double step = -scale[h] * dot;
            if (b == h) {  // known exactly
                std::fill(column + h, column + dim, 0.0);
                column[h] = norm;
                continue;
            }
            for (int64_t j = h; j < dim; ++j) column[j] = fused(step, direction[j], column[j]);
        }
    }
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t h = 0; h < span; ++h)
            factors[h * batch + b] = h <= b ? work[static_cast<size_t>(b * dim + h)] : 0.0;
}

void hyperplane_codes(const GaussianLayer& layer, const float* x, int64_t num_inputs,
                      int64_t num_bits, int num_threads, Watch* watch, uint8_t* out) {
    const int64_t width = padded_dim(layer.dim), bytes = (num_bits + 7) / 8;
    const AlignedBlocks blocks(0, num_bits,
                               block_rows_for(width * (1 + std::min(num_inputs, max_batch) / 8)));
    const int64_t passes = (num_inputs + max_batch - 1) / max_batch;
    std::vector<std::vector<float>> scores(static_cast<size_t>(std::max(num_threads, 1)));
    run_blocks(
        blocks.count() * passes, num_threads,
        [&](int64_t number, int thread) {
            const int64_t block = number / passes, first = number % passes * max_batch;
            const int64_t inputs = std::min(max_batch, num_inputs - first);
            std::vector<float>& projections = scores[static_cast<size_t>(thread)];
            project_block(layer, blocks.start(block), blocks.rows, x + first * width, inputs,
                          projections);
            const int64_t start = blocks.start(block), end = blocks.valid_to(block);
            for (int64_t i = 0; i < inputs; ++i) {
                const float* row = projections.data() + i * blocks.rows;
                for (int64_t bit = start; bit < end; bit += 8) {
                    unsigned byte = 0;
                    for (int64_t k = 0; k < std::min<int64_t>(8, end - bit); ++k)
                        byte |= static_cast<unsigned>(row[bit - start + k] >= 0.0f) << k;
                    out[(first + i) * bytes + bit / 8] = static_cast<uint8_t>(byte);
                }
            }
            return (end - start) * inputs;
        },
        watch);
}

void gaussian_rows(const GaussianLayer& layer, const int64_t* indices, int64_t count,
                   int num_threads, Watch* watch, float* out) {
    const RowKernels& kernels = *current_isa().rows;
    const int64_t rows = std::max<int64_t>(1, block_work / 4 / std::max<int64_t>(layer.dim, 1));
    run_blocks((count + rows - 1) / rows, num_threads,
               [&](int64_t block, int) {
                   const int64_t first = block * rows, here = std::min(rows, count - first);
                   kernels.gaussian_rows(layer, indices + first, here, out + first * layer.dim);
                   return here;
               },
               watch);
}

void rotate_rows(float* z, int64_t count, int64_t dim, const double* deciding, const double* v,
                 const double* scale, int64_t span, int num_threads, Watch* watch) {
    const RowKernels& kernels = *current_isa().rows;
    const int64_t rows = std::max<int64_t>(1, block_work / 4 / (dim * span));
    run_blocks((count + rows - 1) / rows, num_threads,
               [&](int64_t block, int) {
                   const int64_t first = block * rows, here = std::min(rows, count - first);
                   std::vector<double> scratch(static_cast<size_t>(dim));
                   kernels.reflect_rows(z + first * dim, here, dim, deciding + first * span, v,
                                        scale, span, scratch.data());
                   return here;
               },
               watch);
}

void deciding_entries(const GaussianLayer& layer, const int64_t* rows, int64_t count, int64_t span,
                      double* out) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    for (int64_t i = 0; i < count; ++i)
        for (int64_t c = 0; c < span; ++c) {
            double even, odd;
            deciding_pair(static_cast<uint64_t>(rows[i]) / 2, static_cast<uint32_t>(c), layer.layer,
                          key, even, odd);
            out[i * span + c] = rows[i] % 2 ? odd : even;
        }
}

void hamming_distances(const uint8_t* a, int64_t a_count, const uint8_t* b, int64_t b_count,
                       int64_t bytes, int num_threads, Watch* watch, int32_t* out) {
    const RowKernels& kernels = *current_isa().rows;
    const int64_t rows =
        std::max<int64_t>(1, block_work / std::max<int64_t>(b_count * (bytes / 8 + 1), 1));
    run_blocks((a_count + rows - 1) / rows, num_threads,
               [&](int64_t block, int) {
                   const int64_t first = block * rows, here = std::min(rows, a_count - first);
                   kernels.hamming_distances(a + first * bytes, here, b, b_count, bytes,
                                             out + first * b_count);
                   return here;
               },
               watch);
}

}  // namespace infall
