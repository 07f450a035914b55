// Class moments: per class a shift (its first sample), the sum of deviations from it and the sum of
// their squares, all deviations in float64, samples in the order in which they come. So sums are
// the same bits for any batches, threads and instruction set, and exact digits survive under a
// common offset: deviations of nearby samples have no rounding error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "classes/features.h"
#include "runtime/parallel.h"

namespace infall {

// (num_classes, dim) shifts, in float32 or, once float64 features were seen, float64.
struct ClassShifts {
    void* data;
    bool is_float64;
};

// Columns whose squares are summed together: the unit in which columns are shared among threads.
constexpr int64_t square_columns = 128;
// Samples of a class that are added in one go: Ctrl-C is answered in between.
constexpr int64_t max_samples = int64_t{1} << 16;
// Columns of samples that lie together for the scatter, a multiple of the panels of every
// instruction set, and the columns of a task.
constexpr int64_t scatter_panel = 24, scatter_tile = 4 * scatter_panel;
// Samples that are projected together.
constexpr int64_t projected_rows = 32;

// Per instruction set, the same bits in each.
struct MomentKernels {
    // Adds samples of one class, in order. first_column and, but for the last, columns are
    // multiples of square_columns; shift and sums are those of the class; to squares is added the
    // sum of squared deviations of each group of square_columns columns.
    void (*add_samples)(const FeatureRows& features, const int64_t* samples, int64_t count,
                        int64_t first_column, int64_t columns, const void* shift,
                        bool shift_is_float64, double* sums, double* squares);

    // True if all entries of the samples first <= i < last are finite.
    bool (*all_finite)(const FeatureRows& features, int64_t first, int64_t last);

    // out (count, columns): h - base of its class for `count` samples from `first` on, columns
    // first_column, ...; base (num_classes, dim).
    void (*subtract)(const FeatureRows& features, int64_t first, int64_t count,
                     int64_t first_column, int64_t columns, const int64_t* labels, const void* base,
                     bool base_is_float64, double* out);

    // scatter[i, j] += sum over the samples, in order, of x_i x_j, for the tile from (first_i,
    // first_j) on, within dim; of one on the diagonal what is right of it, and some of the rest.
    // packed holds panels (count, scatter_panel) of the columns, filled up with zeros.
    void (*add_outer)(const double* packed, int64_t count, int64_t dim, int64_t first_i,
                      int64_t first_j, double* scatter);

    // Directions (dim, count), row-major, as project_samples wants them: packed_size elements.
    int64_t (*packed_size)(int64_t dim, int64_t count);
    void (*pack_directions)(const double* directions, int64_t dim, int64_t count, double* packed);
    // projections (samples, count) = directions^T (h - base of its class) for at most
    // projected_rows samples; base (num_classes, dim), scratch has project_scratch(count) elements.
    int64_t (*project_scratch)(int64_t count);
    void (*project_samples)(const FeatureRows& features, int64_t first, int64_t samples,
                            const int64_t* labels, const void* base, bool base_is_float64,
                            const double* packed, int64_t count, double* scratch,
                            double* projections);
};

// The table of the instruction set in use.
const MomentKernels& moment_kernels();

// The state: counts (num_classes,), shifts, sums (num_classes, dim), squares (num_classes,). What
// belongs to a class without samples has no meaning yet.
struct ClassState {
    int64_t num_classes;
    int64_t* counts;
    ClassShifts shifts;
    double *sums, *squares;
};

// Samples that are about to be added to a state. Its counts, sums and squares stay as they are
// until `publish` exchanges them for the new ones, and come back with `withdraw`. Only what has no
// meaning yet is written before: the shifts and sums of classes without samples.
class MomentsUpdate {
  public:
    MomentsUpdate(const ClassState& state, int64_t dim) : state_(state), dim_(dim) {}

    // Samples whose labels (num_samples,) are in range. After an exception, which is that of the
    // watch or a lack of memory, the update is of no more use.
    void add(const FeatureRows& features, int64_t num_samples, const int64_t* labels,
             int num_threads, Watch* watch);

    // The first class with an entry or a sum that is not finite; -1 if there is none.
    int64_t first_nonfinite_class() const;

    // All classes or, after an exception, none. Again has no effect.
    void publish(int num_threads);
    void withdraw(int num_threads);

  private:
    // What the state will hold and, after `publish`, what it held.
    struct Touched {
        int64_t label, count;
        double squares;
        double* sums;  // of a class without samples, those in the state
        bool begun;
    };

    std::vector<size_t> touch(const std::vector<int64_t>& labels);
    void exchange(int num_threads);

    ClassState state_;
    int64_t dim_;
    bool published_ = false;
    std::vector<Touched> touched_;  // by label
    std::vector<std::unique_ptr<double[]>> copies_;
};

// The first sample with an entry that is not finite; -1 if there is none.
int64_t first_nonfinite(const FeatureRows& features, int64_t num_samples, int num_threads,
                        Watch* watch);

// out (num_samples, dim) = h - shift of its class.
void deviations(const FeatureRows& features, int64_t num_samples, const int64_t* labels,
                const ClassShifts& shifts, int num_threads, Watch* watch, double* out);

// scatter (dim, dim), upper triangle of tiles, += x^T x; x (count, dim).
void accumulate_scatter(const double* x, int64_t count, int64_t dim, int num_threads, Watch* watch,
                        double* scatter);

// scatter = before + x^T x, likewise, for x first `waiting` (num_waiting, dim), and then h - shift
// of its class for the samples. Both may be the same.
void accumulate_deviations(const double* waiting, int64_t num_waiting, const FeatureRows& features,
                           int64_t num_samples, const int64_t* labels, const ClassShifts& shifts,
                           const double* before, int num_threads, Watch* watch, double* scatter);

// projections (num_rows, count) = rows directions; rows (num_rows, dim), directions (dim, count).
void project_rows(const double* rows, int64_t num_rows, int64_t dim, const double* directions,
                  int64_t count, int num_threads, Watch* watch, double* projections);

// square_norms (num_samples,) = |directions^T (h - mean of its class)|^2; directions (dim, count),
// offsets (num_classes, count) the projections of the means less the shifts: of samples close
// together, h less the shift is exact, and the mean would be rounded at the offset that they share.
void projected_square_norms(const FeatureRows& features, int64_t num_samples, const int64_t* labels,
                            const ClassShifts& shifts, const double* offsets,
                            const double* directions, int64_t count, int num_threads, Watch* watch,
                            double* square_norms);

// means (num_classes, dim) = shift - centre + sums / counts, the difference first, centre (dim,);
// square_offsets (num_classes,) = |sums / counts|^2. NaN for a class without samples. Either may be
// null.
void class_means(const ClassState& state, int64_t dim, const double* centre, int num_threads,
                 Watch* watch, double* means, double* square_offsets);

// `merged` = the samples of both, which have as many classes; its shifts are those of `mine` where
// there are samples of both, in float64 if either's are. Classes without samples are zero. Returns
// the first class whose squares leave binary64 though those of both are finite; -1 if there is
// none.
int64_t merge_states(const ClassState& mine, const ClassState& theirs, int64_t dim, int num_threads,
                     Watch* watch, const ClassState& merged);

}  // namespace infall
