// The decision kernels over threads: a task is a few rows.
#include "classes/decisions.h"

#include <algorithm>
#include <atomic>

#include "runtime/isa.h"

namespace infall {

INFALL_KERNEL_TABLES(DecisionKernels, decision_kernels)
namespace {

constexpr int64_t task_entries = int64_t{1} << 17;  // read by a task, a fraction of a millisecond

int64_t rows_of_task(int64_t entries_per_row) {
    return std::max<int64_t>(1, task_entries / std::max<int64_t>(entries_per_row, 1));
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
    run_ranges(
        count, rows_of_task(rows.dim), num_threads,
        [&](int64_t row, int64_t last) {
            int64_t position = kernels.centre(rows, first + row, last - row, centre, scale,
                                              out + row * rows.dim, square_norms + row);
            if (position < 0) return;
            position += row * rows.dim;
            for (int64_t lowest = bad; position < lowest;)
                if (bad.compare_exchange_weak(lowest, position)) break;
        },
        watch);
    return bad == none ? -1 : bad.load();
}

template <class Number>
void reduce_scores(const Number* products, int64_t count, int64_t classes, int64_t first_class,
                   const Number* row_factors, const ScoreBounds<Number>& bounds, int num_threads,
                   Watch* watch, const RowBests<Number>& bests) {
    const auto& kernels = of_type<Number>(decision_kernels());
    run_ranges(
        count, rows_of_task(classes), num_threads,
        [&](int64_t row, int64_t last) {
            kernels.reduce(products + row * classes, last - row, classes, first_class,
                           row_factors + row, bounds, from(bests, row));
        },
        watch);
}

template <class Number>
void decide(const Number* products, int64_t count, int64_t classes, int64_t first_class,
            const Number* row_factors, const ScoreBounds<Number>& bounds, const Number* least,
            const int64_t* samples, const ExactScores& exact, int num_threads, Watch* watch,
            double* best_scores, int64_t* best_classes) {
    const auto& kernels = of_type<Number>(decision_kernels());
    run_ranges(
        count, rows_of_task(classes * exact.samples.dim), num_threads,
        [&](int64_t row, int64_t last) {
            kernels.decide(products + row * classes, last - row, classes, first_class,
                           row_factors + row, bounds, least + row, samples + row, exact,
                           best_scores + row, best_classes + row);
        },
        watch);
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
