// Projections on a frame, their largest, and the way back.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "frames/hadamard.h"
#include "runtime/scratch.h"
#include "runtime/top_rows.h"

namespace infall {
namespace {

// Classes whose largest logit is looked at before their others are.
constexpr int64_t look_length = 1024;

// What a thread works with.
template <class T>
struct Workspace {
    Scratch<T> coordinates;
    std::vector<double> partial_sums;
};

// One vector's logits: the products g, what is subtracted from them and what they are multiplied
// by; and the last class of a tight frame, which has no product of its own.
template <class T>
struct Logits {
    const FrameKernelsOf<T>& kernels;
    const double* norms;
    const T* products;
    int64_t count;
    double offset, factor;
    bool has_last;
    T last;

    void write(const Team* team, T* out) const {
        for_parts(team, count, [&](int64_t first, int64_t here) {
            kernels.logits(products + first, norms_from(first), here, offset, factor, out + first);
        });
        if (has_last) out[count] = last;
    }

    const double* norms_from(int64_t first) const { return norms ? norms + first : nullptr; }

    void largest(const Team* team, int64_t* best_class, T* best_value) const {
        struct Best {
            T value;
            int64_t at;
        };
        std::vector<Best> of_part(static_cast<size_t>((count + part_length - 1) / part_length));
        for_parts(team, count, [&](int64_t first, int64_t here) {
            Best best{kernels.largest(products + first, norms_from(first),
                                      std::min(look_length, here), offset, factor),
                      first};
            for (int64_t at = first + look_length; at < first + here; at += look_length) {
                const T value =
                    kernels.largest(products + at, norms_from(at),
                                    std::min(look_length, first + here - at), offset, factor);
                if (value > best.value) best = {value, at};
            }
            of_part[static_cast<size_t>(first / part_length)] = best;
        });
        Best best = of_part[0];
        for (const Best& other : of_part)
            if (other.value > best.value) best = other;
        int32_t positions[look_length];
        kernels.at_least(products + best.at, norms_from(best.at),
                         std::min(look_length, count - best.at), offset, factor, best.value,
                         positions);
        *best_class = best.at + positions[0];
        *best_value = best.value;
        if (has_last && last > best.value) {
            *best_class = count;
            *best_value = last;
        }
    }

    void top(const Team* team, int64_t num_top, int64_t* classes, T* values) const {
        const size_t parts = static_cast<size_t>((count + part_length - 1) / part_length);
        std::vector<TopRows> found(team ? parts : 1, TopRows(num_top, false, -HUGE_VAL));
        for_parts(team, count, [&](int64_t first, int64_t here) {
            TopRows& best = found[team ? static_cast<size_t>(first / part_length) : 0];
            int32_t positions[look_length];
            for (int64_t at = first; at < first + here; at += look_length) {
                const int64_t length = std::min(look_length, first + here - at);
                const T threshold = static_cast<T>(best.threshold());
                const double* weights = norms_from(at);
                if (kernels.largest(products + at, weights, length, offset, factor) < threshold)
                    continue;
                const int64_t hits = kernels.at_least(products + at, weights, length, offset,
                                                      factor, threshold, positions);
                for (int64_t i = 0; i < hits; ++i) {
                    T value;
                    kernels.logits(products + at + positions[i], norms_from(at + positions[i]), 1,
                                   offset, factor, &value);
                    best.add(static_cast<double>(value), at + positions[i]);
                }
            }
        });
        TopRows& best = found[0];
        for (size_t part = 1; part < found.size(); ++part) best.add_all(found[part]);
        if (has_last) best.add(static_cast<double>(last), count);
        const Selection sorted = best.sorted();
        for (size_t k = 0; k < static_cast<size_t>(num_top); ++k) {
            const bool any = k < sorted.size();  // NaN is passed over
            classes[k] = any ? sorted[k].row : -1;
            values[k] = any ? static_cast<T>(sorted[k].projection) : static_cast<T>(NAN);
        }
    }

    // False where one of the best is out of the range of T.
    bool best(const Team* team, int64_t num_top, int64_t* classes, T* values) const {
        if (num_top == 1)
            largest(team, classes, values);
        else
            top(team, num_top, classes, values);
        return std::isfinite(values[0]) && std::isfinite(values[num_top - 1]);
    }
};

template <class T>
double sum_of(const Team* team, const T* x, const double* norms, int64_t count,
              std::vector<double>& partial) {
    const FrameKernelsOf<T>& kernels = frame_kernels_of<T>();
    partial.resize(static_cast<size_t>((count + frame_sum_block - 1) / frame_sum_block));
    static_assert(part_length % frame_sum_block == 0);
    for_parts(team, count, [&](int64_t first, int64_t here) {
        for (int64_t at = first; at < first + here; at += frame_sum_block)
            partial[static_cast<size_t>(at / frame_sum_block)] = kernels.sum(
                x + at, norms ? norms + at : nullptr, std::min(frame_sum_block, first + here - at));
    });
    double total = 0.0;
    for (const double part : partial) total += part;
    return total;
}

// body(sample, logits, team) for every vector of x (count, dim).
template <class T, class Body>
void for_logits(const Frame& frame, const T* x, int64_t count, int num_threads, Watch* watch,
                const Body& body) {
    const CentringLaw law(frame);
    std::optional<HadamardRotation> rotation;
    if (frame.hadamard) rotation.emplace(frame);
    PerThread<Workspace<T>> workspaces(num_threads);
    const int64_t coordinates = frame.coordinates();
    for_vectors(count, frame.dim, num_threads, watch, [&](int64_t i, int thread, const Team* team) {
        Workspace<T>& space = workspaces[thread];
        const T* products = x + i * frame.dim;
        if (rotation) {
            T* rotated = space.coordinates.of_length(frame.dim);
            rotation->apply(team, products, rotated);
            products = rotated;
        }
        const double total = sum_of<T>(team, products, nullptr, coordinates, space.partial_sums);
        if (!std::isfinite(total)) throw Overflow{i};
        Logits<T> logits{frame_kernels_of<T>(), frame.norms, products,      coordinates,
                         law.share * total,     law.factor,  frame.tight(), T{0}};
        if (frame.tight()) {
            const T none = 0;
            const double* norm = frame.norms ? frame.norms + coordinates : nullptr;
            logits.kernels.logits(&none, norm, 1, law.last_share * total, law.factor, &logits.last);
        }
        body(i, logits, team);
    });
}

}  // namespace

template <class T>
void project(const Frame& frame, const T* x, int64_t count, int num_threads, Watch* watch, T* out) {
    for_logits(frame, x, count, num_threads, watch,
               [&](int64_t i, const Logits<T>& logits, const Team* team) {
                   logits.write(team, out + i * frame.num_classes);
               });
}

template <class T>
void top_logits(const Frame& frame, const T* x, int64_t count, int64_t top, int num_threads,
                Watch* watch, int64_t* classes, T* values) {
    for_logits(frame, x, count, num_threads, watch,
               [&](int64_t i, const Logits<T>& logits, const Team* team) {
                   if (!logits.best(team, top, classes + i * top, values + i * top))
                       throw Overflow{i};
               });
}

template <class T>
void top_scores(const T* scores, const int64_t* labels, int64_t count, int64_t columns, int64_t top,
                int num_threads, Watch* watch, int64_t* classes, T* values) {
    const FrameKernelsOf<T>& kernels = frame_kernels_of<T>();
    for_vectors(count, columns, num_threads, watch, [&](int64_t i, int, const Team* team) {
        const Logits<T> logits{kernels, nullptr, scores + i * columns, columns, 0.0, 1.0,
                               false,   T{0}};
        int64_t* found = classes + i * top;
        if (!kernels.all_finite(logits.products, columns) ||
            !logits.best(team, top, found, values + i * top))
            throw Overflow{i};
        if (labels)
            for (int64_t k = 0; k < top; ++k) found[k] = labels[i * columns + found[k]];
    });
}

template <class T>
void synthesise(const Frame& frame, const T* x, int64_t count, int num_threads, Watch* watch,
                T* out) {
    const FrameKernelsOf<T>& kernels = frame_kernels_of<T>();
    const CentringLaw law(frame);
    std::optional<HadamardRotation> rotation;
    if (frame.hadamard) rotation.emplace(frame);
    PerThread<Workspace<T>> workspaces(num_threads);
    const int64_t coordinates = frame.coordinates();
    for_vectors(count, frame.dim, num_threads, watch, [&](int64_t i, int thread, const Team* team) {
        Workspace<T>& space = workspaces[thread];
        const T* y = x + i * frame.num_classes;
        T* result = out + i * frame.dim;
        double offset =
            law.share * sum_of<T>(team, y, frame.norms, coordinates, space.partial_sums);
        if (frame.tight()) {
            const double weight = frame.norms ? frame.norms[coordinates] : 1.0;
            offset += law.last_share * (weight * static_cast<double>(y[coordinates]));
        }
        if (!std::isfinite(offset)) throw Overflow{i};
        T* centred = rotation ? space.coordinates.of_length(frame.dim) : result;
        const double factor = rotation ? 1.0 : law.factor;
        for_parts(team, coordinates, [&](int64_t first, int64_t here) {
            kernels.centre(y + first, frame.norms ? frame.norms + first : nullptr, here, offset,
                           factor, centred + first);
        });
        std::fill(centred + coordinates, centred + frame.dim, T{0});
        if (rotation) rotation->apply_transposed(team, centred, law.factor, result);
    });
}

#define INFALL_FRAME_TYPE(T)                                                                      \
    template void project<T>(const Frame&, const T*, int64_t, int, Watch*, T*);                   \
    template void top_logits<T>(const Frame&, const T*, int64_t, int64_t, int, Watch*, int64_t*,  \
                                T*);                                                              \
    template void top_scores<T>(const T*, const int64_t*, int64_t, int64_t, int64_t, int, Watch*, \
                                int64_t*, T*);                                                    \
    template void synthesise<T>(const Frame&, const T*, int64_t, int, Watch*, T*);
INFALL_FRAME_TYPE(float)
INFALL_FRAME_TYPE(double)
#undef INFALL_FRAME_TYPE

}  // namespace infall
