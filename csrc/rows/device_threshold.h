// Selections from a layer, whose law sets the thresholds that its rows have to pass. Included by
// the CUDA sources only; everything here is local to each of them.
#pragma once

#include <cmath>

#include "rows/device_cut.h"
#include "runtime/workspace.h"

namespace infall::device {
namespace {

INFALL_HD double threshold_of(const DeviceSelection& task, int pass) {
    return pass ? task.second_threshold : task.first_threshold;
}

// Offers the rows of the task that reach the threshold of the pass.
__device__ void offer_row(const DeviceSelection& task, const Workspace& space, int pass,
                          int64_t direction, double projection, int64_t row) {
    const Candidate candidate{projection, row};
    if (row >= task.first_row && row < task.end_row &&
        score_of(candidate, task.absolute) >= threshold_of(task, pass))
        offer(task, space, pass, direction, candidate);
}

// Room for what passes either threshold; for small layers all rows fit and all may pass.
int64_t capacity_for(int64_t num_rows, int64_t available) {
    const double root = std::sqrt(static_cast<double>(num_rows));
    const int64_t room = num_rows + static_cast<int64_t>(24.0 * root) + 160;
    return available <= 4 * room ? available : room;
}

Workspace workspace_of(int64_t num_rows, int64_t available, int64_t batch, Layout& layout) {
    const int64_t capacity = capacity_for(num_rows, available);
    return {layout.array<Found>(batch), layout.array<Candidate>(batch * capacity),
            layout.array<Candidate>(batch * capacity), capacity};
}

template <class Pass>
void select(const DeviceSelection& task, Stream stream, Pass pass) {
    Layout layout(task.workspace);
    const Workspace space =
        workspace_of(task.num_rows, task.end_row - task.first_row, task.batch, layout);
    clear(space, task.batch, stream);
    pass(space, 0);
    pass(space, 1);
    cut(task, space, stream);
}

}  // namespace
}  // namespace infall::device
