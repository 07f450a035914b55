#include "classes/moments.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/isa.h"
#include "runtime/lanes.h"
#include "runtime/scratch.h"

namespace infall {

INFALL_KERNEL_TABLES(MomentKernels, moment_kernels)
namespace {

// Entries of a task: about a tenth of a millisecond where memory is fast.
constexpr int64_t task_entries = int64_t{1} << 18;

// The samples of one class, a range of the order by class.
struct Run {
    int64_t label, first, last;
};

struct ClassOrder {
    std::vector<int64_t> samples;  // by class, and in one class as they came
    std::vector<Run> runs;
};

ClassOrder order_by_class(const int64_t* labels, int64_t num_samples, int64_t num_classes) {
    ClassOrder order;
    order.samples.resize(static_cast<size_t>(num_samples));
    if (num_classes / 8 <= num_samples) {
        std::vector<int64_t> starts(static_cast<size_t>(num_classes) + 1);
        for (int64_t i = 0; i < num_samples; ++i) ++starts[static_cast<size_t>(labels[i]) + 1];
        std::partial_sum(starts.begin(), starts.end(), starts.begin());
        for (int64_t i = 0; i < num_samples; ++i)
            order.samples[static_cast<size_t>(starts[static_cast<size_t>(labels[i])]++)] = i;
    } else {
        std::iota(order.samples.begin(), order.samples.end(), 0);
        std::stable_sort(order.samples.begin(), order.samples.end(),
                         [&](int64_t a, int64_t b) { return labels[a] < labels[b]; });
    }
    for (int64_t i = 0; i < num_samples; ++i) {
        const int64_t label = labels[order.samples[static_cast<size_t>(i)]];
        if (order.runs.empty() || order.runs.back().label != label)
            order.runs.push_back({label, i, i});
        ++order.runs.back().last;
    }
    return order;
}

// Several small runs, or some columns of a large one.
struct Task {
    int64_t first_run, last_run, first_column, columns;
};

// At most max_samples of each run, from the sample `start` of it on; empty where there are none.
std::vector<Run> part_of(const std::vector<Run>& runs, int64_t start) {
    std::vector<Run> part = runs;
    for (Run& run : part) {
        run.first = std::min(run.first + start, run.last);
        run.last = std::min(run.first + max_samples, run.last);
    }
    return part;
}

std::vector<Task> share_out(const std::vector<Run>& runs, int64_t dim, int num_threads) {
    std::vector<Task> tasks;
    const int64_t groups = (dim + square_columns - 1) / square_columns;
    const int64_t num_runs = static_cast<int64_t>(runs.size());
    // Whole rows are read fastest, as long as there are runs enough for all threads.
    const bool enough = num_runs >= 4 * static_cast<int64_t>(num_threads);
    int64_t pending = 0, first = 0;
    const auto flush = [&](int64_t end) {
        if (first < end) tasks.push_back({first, end, 0, dim});
        first = end;
        pending = 0;
    };
    for (int64_t r = 0; r < num_runs; ++r) {
        const Run& run = runs[static_cast<size_t>(r)];
        const int64_t entries = (run.last - run.first) * dim;
        const int64_t wanted = std::min(groups, entries / ((enough ? 64 : 4) * task_entries) + 1);
        if (wanted > 1) {
            flush(r);
            const int64_t step = (groups + wanted - 1) / wanted * square_columns;
            for (int64_t column = 0; column < dim; column += step)
                tasks.push_back({r, r + 1, column, std::min(step, dim - column)});
            first = r + 1;
        } else {
            pending += entries;
            if (pending >= task_entries) flush(r + 1);
        }
    }
    flush(num_runs);
    return tasks;
}

void start_class(const FeatureRows& features, int64_t sample, const ClassShifts& shifts,
                 int64_t label, int64_t first_column, int64_t columns) {
    with_elements(features.data, features.type, [&](const auto* data) {
        with_floats(shifts.data, shifts.is_float64, [&](auto* shift) {
            using Shift = std::remove_reference_t<decltype(*shift)>;
            const auto* row = data + sample * features.stride;
            for (int64_t j = first_column; j < first_column + columns; ++j)
                shift[label * features.dim + j] = static_cast<Shift>(to_double(row[j]));
        });
    });
}

// The sums go on from those of the state, or begin with a class.
void begin_sums(const FeatureRows& features, int64_t first_sample, const ClassState& state,
                int64_t label, int64_t first_column, int64_t columns, double* sums) {
    const auto bytes = static_cast<size_t>(columns) * sizeof(double);
    if (state.counts[label] > 0) {
        std::memcpy(sums + first_column, state.sums + label * features.dim + first_column, bytes);
    } else {
        std::memset(sums + first_column, 0, bytes);
        start_class(features, first_sample, state.shifts, label, first_column, columns);
    }
}

const void* shift_of(const ClassShifts& shifts, int64_t label, int64_t dim) {
    return with_floats(shifts.data, shifts.is_float64,
                       [&](auto* shift) -> const void* { return shift + label * dim; });
}

}  // namespace

// Returns where in touched_ the labels are, which ascend.
std::vector<size_t> MomentsUpdate::touch(const std::vector<int64_t>& labels) {
    std::vector<size_t> places;
    std::vector<Touched> merged;
    places.reserve(labels.size());
    merged.reserve(touched_.size() + labels.size());
    auto known = touched_.begin();
    int64_t num_copies = 0;
    for (const int64_t label : labels) {
        while (known != touched_.end() && known->label < label) merged.push_back(*known++);
        places.push_back(merged.size());
        if (known != touched_.end() && known->label == label) {
            merged.push_back(*known++);
            continue;
        }
        const int64_t count = state_.counts[label];
        num_copies += count > 0;
        merged.push_back({label, count, count > 0 ? state_.squares[label] : 0.0,
                          count > 0 ? nullptr : state_.sums + label * dim_, false});
    }
    merged.insert(merged.end(), known, touched_.end());
    copies_.emplace_back(new double[static_cast<size_t>(num_copies * dim_)]);
    double* copy = copies_.back().get();
    for (Touched& touched : merged)
        if (!touched.sums) {
            touched.sums = copy;
            copy += dim_;
        }
    touched_ = std::move(merged);
    return places;
}

void MomentsUpdate::add(const FeatureRows& features, int64_t num_samples, const int64_t* labels,
                        int num_threads, Watch* watch) {
    const MomentKernels& kernels = moment_kernels();
    const int64_t dim = dim_, groups = (dim + square_columns - 1) / square_columns;
    const ClassOrder order = order_by_class(labels, num_samples, state_.num_classes);
    const std::vector<Run>& runs = order.runs;
    std::vector<int64_t> run_labels;
    run_labels.reserve(runs.size());
    for (const Run& run : runs) run_labels.push_back(run.label);
    const std::vector<size_t> places = touch(run_labels);
    std::vector<double> squares(runs.size() * static_cast<size_t>(groups));

    int64_t longest = 0, added = 0;
    for (const Run& run : runs) longest = std::max(longest, run.last - run.first);
    for (int64_t start = 0; start < longest; start += max_samples) {
        const std::vector<Run> part = part_of(runs, start);
        const std::vector<Task> tasks = share_out(part, dim, num_threads);
        const auto add_run = [&](int64_t r, int64_t column, int64_t columns) {
            const Run& run = part[static_cast<size_t>(r)];
            const int64_t* samples = order.samples.data() + run.first;
            const Touched& touched = touched_[places[static_cast<size_t>(r)]];
            if (start == 0 && !touched.begun)
                begin_sums(features, samples[0], state_, run.label, column, columns, touched.sums);
            kernels.add_samples(features, samples, run.last - run.first, column, columns,
                                shift_of(state_.shifts, run.label, dim), state_.shifts.is_float64,
                                touched.sums,
                                squares.data() + r * groups + column / square_columns);
            return column == 0 ? run.last - run.first : 0;
        };
        PartWatch part_watch(watch, added);
        run_blocks(
            static_cast<int64_t>(tasks.size()), num_threads,
            [&](int64_t number, int) {
                const Task& task = tasks[static_cast<size_t>(number)];
                int64_t done = 0;
                for (int64_t r = task.first_run; r < task.last_run; ++r)
                    if (part[static_cast<size_t>(r)].first < part[static_cast<size_t>(r)].last)
                        done += add_run(r, task.first_column, task.columns);
                return done;
            },
            &part_watch);
        for (const Run& run : part) added += run.last - run.first;
    }

    for (size_t r = 0; r < runs.size(); ++r) {
        Touched& touched = touched_[places[r]];
        touched.begun = true;
        touched.count += runs[r].last - runs[r].first;
        for (int64_t g = 0; g < groups; ++g)
            touched.squares += squares[r * static_cast<size_t>(groups) + static_cast<size_t>(g)];
    }
}

int64_t MomentsUpdate::first_nonfinite_class() const {
    for (const Touched& touched : touched_)
        if (!std::isfinite(touched.squares)) return touched.label;
    return -1;
}

void MomentsUpdate::publish(int num_threads) {
    if (!published_) exchange(num_threads);
    published_ = true;
}

void MomentsUpdate::withdraw(int num_threads) {
    if (published_) exchange(num_threads);
    published_ = false;
}

void MomentsUpdate::exchange(int num_threads) {
    const auto num_touched = static_cast<int64_t>(touched_.size());
    const int64_t step = std::max<int64_t>(1, task_entries / dim_);
    run_ranges(
        num_touched, step, num_threads,
        [&](int64_t first, int64_t last) {
            for (int64_t t = first; t < last; ++t) {
                Touched& touched = touched_[static_cast<size_t>(t)];
                double* sums = state_.sums + touched.label * dim_;
                if (sums != touched.sums) std::swap_ranges(sums, sums + dim_, touched.sums);
                std::swap(state_.counts[touched.label], touched.count);
                std::swap(state_.squares[touched.label], touched.squares);
            }
        },
        nullptr);
}

int64_t first_nonfinite(const FeatureRows& features, int64_t num_samples, int num_threads,
                        Watch* watch) {
    const MomentKernels& kernels = moment_kernels();
    const int64_t rows = std::max<int64_t>(1, task_entries / features.dim);
    std::vector<int64_t> nonfinite(static_cast<size_t>((num_samples + rows - 1) / rows), -1);
    run_ranges(
        num_samples, rows, num_threads,
        [&](int64_t first, int64_t last) {
            if (kernels.all_finite(features, first, last)) return;
            int64_t sample = first;
            // The last, if another thread has changed the features since.
            while (sample + 1 < last && kernels.all_finite(features, sample, sample + 1)) ++sample;
            nonfinite[static_cast<size_t>(first / rows)] = sample;
        },
        watch);
    for (const int64_t sample : nonfinite)
        if (sample >= 0) return sample;
    return -1;
}

void deviations(const FeatureRows& features, int64_t num_samples, const int64_t* labels,
                const ClassShifts& shifts, int num_threads, Watch* watch, double* out) {
    const MomentKernels& kernels = moment_kernels();
    const int64_t rows = std::max<int64_t>(1, task_entries / features.dim);
    run_ranges(
        num_samples, rows, num_threads,
        [&](int64_t first, int64_t last) {
            kernels.subtract(features, first, last - first, 0, features.dim, labels, shifts.data,
                             shifts.is_float64, out + first * features.dim);
        },
        watch);
}

namespace {

// scatter = before + x^T x for x (count, dim); copy(first, last, rows) makes samples of x.
template <class Copy>
void add_products(int64_t count, int64_t dim, const Copy& copy, const double* before,
                  int num_threads, Watch* watch, double* scatter) {
    constexpr int64_t packed_entries = int64_t{1} << 19;  // at a time: 4 MiB
    constexpr int64_t copied_entries = int64_t{1} << 11;  // in the first cache
    const MomentKernels& kernels = moment_kernels();
    const int64_t panels = (dim + scatter_panel - 1) / scatter_panel,
                  width = panels * scatter_panel;
    const int64_t tiles = (dim + scatter_tile - 1) / scatter_tile;
    const int64_t most =
        std::clamp<int64_t>(count, 1, std::max<int64_t>(128, packed_entries / width));
    const int64_t rows = std::max<int64_t>(1, copied_entries / dim);
    const int threads = threads_for(most * width * panels, num_threads);
    Scratch<double> scratch;
    double* const packed = scratch.of_length(most * width);
    PerThread<std::vector<double>> copies(threads,
                                          std::vector<double>(static_cast<size_t>(rows * dim)));
    for (int64_t start = 0; start < count; start += most) {
        const int64_t samples = std::min(most, count - start);
        run_ranges(
            samples, rows, threads,
            [&](int64_t first, int64_t last, int thread) {
                double* row = copies[thread].data();
                copy(start + first, start + last, row);
                for (int64_t i = first; i < last; ++i, row += dim)
                    for (int64_t p = 0; p < panels; ++p) {
                        double* panel = packed + (p * samples + i) * scatter_panel;
                        const int64_t columns = std::min(scatter_panel, dim - p * scatter_panel);
                        std::copy_n(row + p * scatter_panel, columns, panel);
                        std::fill(panel + columns, panel + scatter_panel, 0.0);
                    }
            },
            watch);
        run_blocks(
            tiles * tiles, threads,
            [&](int64_t number, int) -> int64_t {
                const int64_t i = number / tiles * scatter_tile, j = number % tiles * scatter_tile;
                if (j < i) return 0;
                if (start == 0 && before != scatter)
                    for (int64_t k = i; k < std::min(i + scatter_tile, dim); ++k)
                        std::copy_n(before + k * dim + j, std::min(scatter_tile, dim - j),
                                    scatter + k * dim + j);
                kernels.add_outer(packed, samples, dim, i, j, scatter);
                return 0;
            },
            watch);
    }
}

}  // namespace

void accumulate_scatter(const double* x, int64_t count, int64_t dim, int num_threads, Watch* watch,
                        double* scatter) {
    add_products(
        count, dim,
        [&](int64_t first, int64_t last, double* rows) {
            std::copy(x + first * dim, x + last * dim, rows);
        },
        scatter, num_threads, watch, scatter);
}

void accumulate_deviations(const double* waiting, int64_t num_waiting, const FeatureRows& features,
                           int64_t num_samples, const int64_t* labels, const ClassShifts& shifts,
                           const double* before, int num_threads, Watch* watch, double* scatter) {
    const MomentKernels& kernels = moment_kernels();
    const int64_t dim = features.dim;
    add_products(
        num_waiting + num_samples, dim,
        [&](int64_t first, int64_t last, double* rows) {
            for (; first < std::min(last, num_waiting); ++first, rows += dim)
                std::copy_n(waiting + first * dim, dim, rows);
            if (first < last)
                kernels.subtract(features, first - num_waiting, last - first, 0, dim, labels,
                                 shifts.data, shifts.is_float64, rows);
        },
        before, num_threads, watch, scatter);
}

namespace {

// use(first, samples, projections of these) for panels of samples, in any order.
template <class Use>
void project(const FeatureRows& features, int64_t num_samples, const int64_t* labels,
             const ClassShifts& base, const double* directions, int64_t count, int num_threads,
             Watch* watch, const Use& use) {
    const MomentKernels& kernels = moment_kernels();
    std::vector<double> packed(static_cast<size_t>(kernels.packed_size(features.dim, count)));
    kernels.pack_directions(directions, features.dim, count, packed.data());
    const int64_t scratch_size = kernels.project_scratch(count);
    PerThread<std::vector<double>> scratch(num_threads);
    run_ranges(
        num_samples, projected_rows, num_threads,
        [&](int64_t first, int64_t last, int thread) {
            std::vector<double>& own = scratch[thread];
            own.resize(static_cast<size_t>(scratch_size + projected_rows * count));
            double* projections = own.data() + scratch_size;
            const int64_t samples = last - first;
            kernels.project_samples(features, first, samples, labels, base.data, base.is_float64,
                                    packed.data(), count, own.data(), projections);
            use(first, samples, projections);
        },
        watch);
}

}  // namespace

void project_rows(const double* rows, int64_t num_rows, int64_t dim, const double* directions,
                  int64_t count, int num_threads, Watch* watch, double* projections) {
    std::vector<double> zeros(static_cast<size_t>(dim));
    const std::vector<int64_t> labels(static_cast<size_t>(num_rows));
    project({rows, ElementType::float64, dim, dim}, num_rows, labels.data(), {zeros.data(), true},
            directions, count, num_threads, watch,
            [&](int64_t first, int64_t samples, const double* projected) {
                std::copy_n(projected, samples * count, projections + first * count);
            });
}

void projected_square_norms(const FeatureRows& features, int64_t num_samples, const int64_t* labels,
                            const ClassShifts& shifts, const double* offsets,
                            const double* directions, int64_t count, int num_threads, Watch* watch,
                            double* square_norms) {
    project(features, num_samples, labels, shifts, directions, count, num_threads, watch,
            [&](int64_t first, int64_t samples, const double* projected) {
                for (int64_t i = first; i < first + samples; ++i, projected += count) {
                    const double* offset = offsets + labels[i] * count;
                    double norm = 0.0;
                    for (int64_t k = 0; k < count; ++k) {
                        const double along = projected[k] - offset[k];
                        norm += along * along;
                    }
                    square_norms[i] = norm;
                }
            });
}

void class_means(const ClassState& state, int64_t dim, const double* centre, int num_threads,
                 Watch* watch, double* means, double* square_offsets) {
    const int64_t rows = std::max<int64_t>(1, task_entries / dim);
    run_ranges(
        state.num_classes, rows, num_threads,
        [&](int64_t first, int64_t last) {
            for (int64_t label = first; label < last; ++label) {
                const double* sums = state.sums + label * dim;
                const auto count = static_cast<double>(state.counts[label]);
                if (state.counts[label] == 0) {
                    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
                    if (means) std::fill_n(means + label * dim, dim, nan);
                    if (square_offsets) square_offsets[label] = nan;
                    continue;
                }
                if (means)
                    with_floats(
                        state.shifts.data, state.shifts.is_float64, [&](const auto* shifts) {
                            const auto* shift = shifts + label * dim;
                            for (int64_t j = 0; j < dim; ++j)
                                means[label * dim + j] =
                                    (static_cast<double>(shift[j]) - centre[j]) + sums[j] / count;
                        });
                if (square_offsets) {
                    double lanes[8] = {};
                    for (int64_t j = 0; j < dim; ++j)
                        lanes[j % 8] += (sums[j] / count) * (sums[j] / count);
                    square_offsets[label] = total_by_halves(lanes);
                }
            }
        },
        watch);
}

namespace {

// One class of which both have samples: the other's deviations, taken from the shifts of mine.
// Returns what they add to the sum of squares.
template <class Mine, class Theirs, class Merged>
double merge_class(const Mine* shift, const double* sums, const Theirs* other_shift,
                   const double* other_sums, int64_t other_count, int64_t dim, Merged* merged_shift,
                   double* merged_sums) {
    const auto count = static_cast<double>(other_count);
    double lanes[8] = {};
    const auto merge = [&](int64_t j, double& lane) {
        const double moved = static_cast<double>(other_shift[j]) - static_cast<double>(shift[j]);
        const double product = count * moved;
        merged_shift[j] = shift[j];
        merged_sums[j] = sums[j] + (other_sums[j] + product);
        lane += moved * (2.0 * other_sums[j] + product);
    };
    int64_t j = 0;
    for (; j + 8 <= dim; j += 8)
        for (int lane = 0; lane < 8; ++lane) merge(j + lane, lanes[lane]);
    for (int lane = 0; j + lane < dim; ++lane) merge(j + lane, lanes[lane]);
    return total_by_halves(lanes);
}

}  // namespace

int64_t merge_states(const ClassState& mine, const ClassState& theirs, int64_t dim, int num_threads,
                     Watch* watch, const ClassState& merged) {
    const int64_t rows = std::max<int64_t>(1, task_entries / dim);
    const int64_t tasks = (mine.num_classes + rows - 1) / rows;
    std::vector<int64_t> overflowed(static_cast<size_t>(tasks), -1);
    const auto merge = [&](int64_t label, const auto* shifts, const auto* other_shifts) {
        using Shift = decltype(shifts[0] + other_shifts[0]);
        const int64_t first = label * dim;
        Shift* merged_shift = static_cast<Shift*>(merged.shifts.data) + first;
        double* merged_sums = merged.sums + first;
        const int64_t count = mine.counts[label], other_count = theirs.counts[label];
        merged.counts[label] = count + other_count;
        const auto take = [&](const auto* shift, const ClassState& state) {
            std::copy_n(shift + first, dim, merged_shift);
            std::copy_n(state.sums + first, dim, merged_sums);
            merged.squares[label] = state.squares[label];
        };
        if (count + other_count == 0) {
            std::fill_n(merged_shift, dim, Shift{0});
            std::fill_n(merged_sums, dim, 0.0);
            merged.squares[label] = 0.0;
        } else if (other_count == 0) {
            take(shifts, mine);
        } else if (count == 0) {
            take(other_shifts, theirs);
        } else {
            const double added =
                merge_class(shifts + first, mine.sums + first, other_shifts + first,
                            theirs.sums + first, other_count, dim, merged_shift, merged_sums);
            const double squares = mine.squares[label] + (theirs.squares[label] + added);
            merged.squares[label] = squares < 0.0 ? 0.0 : squares;  // but by rounding; NaN stays
            return std::isfinite(squares) ||
                   !std::isfinite(mine.squares[label] + theirs.squares[label]);
        }
        return true;
    };
    run_ranges(
        mine.num_classes, rows, num_threads,
        [&](int64_t first, int64_t last) {
            with_floats(mine.shifts.data, mine.shifts.is_float64, [&](const auto* shifts) {
                with_floats(theirs.shifts.data, theirs.shifts.is_float64, [&](const auto* others) {
                    int64_t& of_task = overflowed[static_cast<size_t>(first / rows)];
                    for (int64_t label = first; label < last; ++label)
                        if (!merge(label, shifts, others) && of_task < 0) of_task = label;
                });
            });
        },
        watch);
    for (const int64_t label : overflowed)
        if (label >= 0) return label;
    return -1;
}

}  // namespace infall
