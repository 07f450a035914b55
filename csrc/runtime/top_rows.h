// The best rows seen so far, in memory that does not grow with the rows seen.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "runtime/candidate.h"

namespace infall {

// The best candidates in their total order: score descending, row ascending.
using Selection = std::vector<Candidate>;

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

}  // namespace infall
