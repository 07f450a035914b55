// The best rows seen so far, in memory that does not grow with the rows seen.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "rows/selection.h"

namespace infall {

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

}  // namespace infall
