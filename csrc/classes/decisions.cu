// One block of threads is one sample.
#include <cmath>
#include <type_traits>

#include "classes/device.h"
#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"

namespace infall::device {
namespace {

constexpr int sample_threads = 128;
constexpr int64_t most_samples = int64_t{1} << 30;  // of a launch

template <class Feature, class Number>
__global__ void __launch_bounds__(sample_threads)
    centre_kernel(const Feature* __restrict__ rows, int64_t stride, int64_t dim,
                  const double* __restrict__ centre, double scale, Number* __restrict__ out,
                  double* __restrict__ norms) {
    __shared__ double squares[sample_threads];
    const int64_t i = blockIdx.x;
    const Feature* row = rows + i * stride;
    double sum = 0.0;
#pragma unroll 4
    for (int64_t j = threadIdx.x; j < dim; j += sample_threads) {
        const double entry = to_double(row[j]);
        const double shifted = scale * (entry - centre[j]);
        out[i * dim + j] = static_cast<Number>(shifted);
        sum += shifted * shifted + 0.0 * entry;  // NaN where the entry is not finite
    }
    squares[threadIdx.x] = sum;
    for (unsigned half = sample_threads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) squares[threadIdx.x] += squares[threadIdx.x + half];
    }
    if (threadIdx.x == 0) norms[i] = square_root(squares[0]);
}

template <class Number>
__global__ void __launch_bounds__(sample_threads)
    reduce_kernel(const Number* __restrict__ products, int64_t classes, int64_t first_class,
                  const double* __restrict__ norms, RowBounds rows, ScoreBounds<Number> bounds,
                  RowBests<Number> bests) {
    __shared__ Best<Number> found[sample_threads];
    const int64_t i = blockIdx.x;
    const Number factor = static_cast<Number>(rows.factor * norms[i] + rows.constant);
    const Number none = -static_cast<Number>(INFINITY);
    Best<Number> best{none, none, none, 0};
#pragma unroll 4
    for (int64_t c = threadIdx.x; c < classes; c += sample_threads) {
        Number low, high;
        bounds.of(products[i * classes + c], factor, c, low, high);
        best.take(low, high, first_class + c);
    }
    found[threadIdx.x] = best;
    for (unsigned half = sample_threads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) found[threadIdx.x].merge(found[threadIdx.x + half]);
    }
    if (threadIdx.x != 0) return;
    if (first_class > 0)
        found[0].merge({bests.low[i], bests.high[i], bests.second[i], bests.candidate[i]});
    bests.low[i] = found[0].low;
    bests.high[i] = found[0].high;
    bests.second[i] = found[0].second;
    bests.candidate[i] = found[0].candidate;
}

template <class Number>
__global__ void __launch_bounds__(sample_threads)
    decide_kernel(int64_t first, int64_t classes, const double* __restrict__ norms, RowBounds rows,
                  RowBests<Number> bests, ExactScores exact, int64_t* __restrict__ decisions) {
    __shared__ double scores[sample_threads];
    __shared__ int64_t found[sample_threads];
    const int64_t i = blockIdx.x;
    const double norm = norms[i];
    const double shared =
        rows.shared_constant + rows.shared_norm * norm + rows.shared_square * norm * norm;
    // All threads of the block go the same way.
    if (norm != norm) {
        if (threadIdx.x == 0) decisions[i] = -1;
        return;
    }
    if (norm < rows.longest &&
        static_cast<double>(bests.second[i]) < static_cast<double>(bests.low[i]) - shared) {
        if (threadIdx.x == 0) decisions[i] = bests.candidate[i];
        return;
    }
    double best = 0.0;
    int64_t best_class = -1;
    for (int64_t c = threadIdx.x; c < classes; c += sample_threads) {
        const double score = exact_score(exact, first + i, c);
        if (best_class < 0 || score > best) {
            best = score;
            best_class = c;
        }
    }
    scores[threadIdx.x] = best;
    found[threadIdx.x] = best_class;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int other = 1; other < sample_threads; ++other)
        if (found[other] >= 0 && beats(scores[other], found[other], best, best_class)) {
            best = scores[other];
            best_class = found[other];
        }
    decisions[i] = best_class;
}

void check_count(int64_t count) {
    if (count > most_samples)
        throw std::runtime_error("CUDA: too many samples for a launch; take them in blocks");
}

}  // namespace

template <class Number>
void centre_samples(const FeatureRows& rows, int64_t first, int64_t count, const double* centre,
                    double scale, Number* out, double* norms, Stream stream) {
    check_count(count);
    if (count == 0) return;
    with_elements(rows.data, rows.type, [&](const auto* data) {
        using Feature = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
        launch("centre_samples", centre_kernel<Feature, Number>, exact_grid(count, 1),
               sample_threads, stream, data + first * rows.stride, rows.stride, rows.dim, centre,
               scale, out, norms);
    });
}

template <class Number>
void reduce_scores(const Number* products, int64_t count, int64_t classes, int64_t first_class,
                   const double* norms, const RowBounds& rows, const ScoreBounds<Number>& bounds,
                   const RowBests<Number>& bests, Stream stream) {
    check_count(count);
    if (count == 0) return;
    launch("reduce_scores", reduce_kernel<Number>, exact_grid(count, 1), sample_threads, stream,
           products, classes, first_class, norms, rows, bounds, bests);
}

template <class Number>
void decide_samples(int64_t first, int64_t count, int64_t classes, const double* norms,
                    const RowBounds& rows, const RowBests<Number>& bests, const ExactScores& exact,
                    int64_t* decisions, Stream stream) {
    check_count(count);
    if (count == 0) return;
    launch("decide_samples", decide_kernel<Number>, exact_grid(count, 1), sample_threads, stream,
           first, classes, norms, rows, bests, exact, decisions);
}

#define INFALL_INSTANTIATE(Number)                                                               \
    template void centre_samples<Number>(const FeatureRows&, int64_t, int64_t, const double*,    \
                                         double, Number*, double*, Stream);                      \
    template void reduce_scores<Number>(const Number*, int64_t, int64_t, int64_t, const double*, \
                                        const RowBounds&, const ScoreBounds<Number>&,            \
                                        const RowBests<Number>&, Stream);                        \
    template void decide_samples<Number>(int64_t, int64_t, int64_t, const double*,               \
                                         const RowBounds&, const RowBests<Number>&,              \
                                         const ExactScores&, int64_t*, Stream);
INFALL_INSTANTIATE(float)
INFALL_INSTANTIATE(double)
#undef INFALL_INSTANTIATE

}  // namespace infall::device
