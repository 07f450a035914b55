// The decision kernels over threads: a task is a few rows.
#include "classes/decisions.h"

#include <algorithm>
#include <atomic>

#include "runtime/isa.h"

namespace infall {

INFALL_KERNEL_TABLES(DecisionKernels, decision_kernels)
namespace {

constexpr int64_t task_entries = int64_t{1} << 17;  // read by a task, a fraction of a millisecond

// Runs body(first row, rows) over all rows, a task at a time.
template <class Body>
void over_rows(int64_t count, int64_t entries_per_row, int num_threads, Watch* watch,
               const Body& body) {
    const int64_t step = std::max<int64_t>(1, task_entries / std::max<int64_t>(entries_per_row, 1));
    run_blocks((count + step - 1) / step, num_threads,
               [&](int64_t block, int) {
                   const int64_t first = block * step, here = std::min(step, count - first);
                   body(first, here);
                   return here;
               },
               watch);
}

template <class Number>
RowBests<Number> from(const RowBests<Number>& bests, int64_t first) {
    return {bests.low + first, bests.high + first, bests.second + first, bests.candidate + first};
}

}  // namespace

template <class Number>
int64_t centre_rows(const FeatureRows& rows, int64_t first, int64_t count, const double* centre,
                    double scale, int num_threads, Watch* watch, Number* out,
                    double* square_norms) {
    const auto& kernels = of_type<Number>(decision_kernels());
    constexpr int64_t none = INT64_MAX;
    std::atomic<int64_t> bad{none};
    over_rows(count, rows.dim, num_threads, watch, [&](int64_t row, int64_t here) {
        int64_t position = kernels.centre(rows, first + row, here, centre, scale,
                                          out + row * rows.dim, square_norms + row);
        if (position < 0) return;
        position += row * rows.dim;
        for (int64_t lowest = bad; position < lowest;)
            if (bad.compare_exchange_weak(lowest, position)) break;
    });
    return bad == none ? -1 : bad.load();
}

template <class Number>
void reduce_scores(const Number* products, int64_t count, int64_t classes, int64_t first_class,
                   const Number* row_factors, const ScoreBounds<Number>& bounds, int num_threads,
                   Watch* watch, const RowBests<Number>& bests) {
    const auto& kernels = of_type<Number>(decision_kernels());
    over_rows(count, classes, num_threads, watch, [&](int64_t row, int64_t here) {
        kernels.reduce(products + row * classes, here, classes, first_class, row_factors + row,
                       bounds, from(bests, row));
    });
}

template <class Number>
void decide(const Number* products, int64_t count, int64_t classes, int64_t first_class,
            const Number* row_factors, const ScoreBounds<Number>& bounds, const Number* least,
            const int64_t* samples, const ExactScores& exact, int num_threads, Watch* watch,
            double* best_scores, int64_t* best_classes) {
    const auto& kernels = of_type<Number>(decision_kernels());
    over_rows(count, classes * exact.samples.dim, num_threads, watch,
              [&](int64_t row, int64_t here) {
                  kernels.decide(products + row * classes, here, classes, first_class,
                                 row_factors + row, bounds, least + row, samples + row, exact,
                                 best_scores + row, best_classes + row);
              });
}

#define INFALL_NUMBER(Number)                                                                      \
    template int64_t centre_rows(const FeatureRows&, int64_t, int64_t, const double*, double, int, \
                                 Watch*, Number*, double*);                                        \
    template void reduce_scores(const Number*, int64_t, int64_t, int64_t, const Number*,           \
                                const ScoreBounds<Number>&, int, Watch*, const RowBests<Number>&); \
    template void decide(const Number*, int64_t, int64_t, int64_t, const Number*,                  \
                         const ScoreBounds<Number>&, const Number*, const int64_t*,                \
                         const ExactScores&, int, Watch*, double*, int64_t*);
INFALL_NUMBER(float)
INFALL_NUMBER(double)
#undef INFALL_NUMBER

}  // namespace infall
