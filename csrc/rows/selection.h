// What every selection of the rows with the largest projections is asked for, and what it keeps.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/parallel.h"
#include "runtime/top_rows.h"

namespace infall {

struct SelectionTask {
    int64_t first_row, end_row;
    int64_t num_rows;
    bool absolute;  // rank by |projection|, else by projection
    int num_threads;
    Watch* watch;
};

// The best rows of each direction that each thread has seen.
class Collectors {
  public:
    Collectors(const SelectionTask& task, int64_t batch, double threshold)
        : tops_(task.num_threads,
                std::vector<TopRows>(static_cast<size_t>(batch),
                                     TopRows(task.num_rows, task.absolute, threshold))) {}

    TopRows& at(int thread, int64_t direction) {
        return tops_[thread][static_cast<size_t>(direction)];
    }

    // One selection per direction.
    std::vector<Selection> merged() {
        std::vector<Selection> selections;
        for (size_t direction = 0; direction < tops_[0].size(); ++direction) {
            for (int thread = 1; thread < tops_.size(); ++thread)
                tops_[0][direction].add_all(tops_[thread][direction]);
            selections.push_back(tops_[0][direction].sorted());
        }
        return selections;
    }

  private:
    PerThread<std::vector<TopRows>> tops_;
};

}  // namespace infall
