// Projections on a frame, their largest, and the way back, on a device: sums in the order of the
// CPU's, everything elementwise in binary64 and rounded once, as there.
#include <cmath>

#include "frames/device.h"
#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"
#include "runtime/row_grid.h"
#include "runtime/workspace.h"

namespace infall::device {
namespace {

constexpr int sums_per_block = block_threads / frame_sum_lanes;

// partial (count, blocks): sums of frame_sum_block elements of norms x, a thread for each lane.
template <class T>
__global__ void __launch_bounds__(block_threads)
    sum_kernel(const T* __restrict__ x, int64_t stride, int64_t length,
               const double* __restrict__ norms, int64_t count, double* __restrict__ partial) {
    __shared__ double lanes[sums_per_block][frame_sum_lanes];
    const int64_t blocks = (length + frame_sum_block - 1) / frame_sum_block, units = count * blocks;
    const int row = static_cast<int>(threadIdx.x) / frame_sum_lanes;
    const int lane = static_cast<int>(threadIdx.x) % frame_sum_lanes;
    for (int64_t first = int64_t{blockIdx.x} * sums_per_block; first < units;
         first += int64_t{gridDim.x} * sums_per_block) {
        const int64_t unit = first + row, vector = unit / blocks;
        const int64_t at = (unit - vector * blocks) * frame_sum_block;
        double sum = 0.0;
        if (unit < units) {
            const T* from = x + vector * stride;
            const int64_t end = length - at < frame_sum_block ? length : at + frame_sum_block;
#pragma unroll 8
            for (int64_t i = at + lane; i < end; i += frame_sum_lanes) {
                const double a = static_cast<double>(from[i]);
                sum += norms ? norms[i] * a : a;
            }
        }
        lanes[row][lane] = sum;
        for (int half = frame_sum_lanes / 2; half > 0; half /= 2) {
            __syncthreads();
            if (lane < half) lanes[row][lane] += lanes[row][lane + half];
        }
        if (lane == 0 && unit < units) partial[unit] = lanes[row][0];
        __syncthreads();
    }
}

__global__ void __launch_bounds__(block_threads)
    total_kernel(const double* __restrict__ partial, int64_t blocks, int64_t count,
                 double* __restrict__ totals) {
    for (int64_t i = thread_of_grid(); i < count; i += threads_of_grid()) {
        double total = 0.0;
#pragma unroll 8
        for (int64_t block = 0; block < blocks; ++block) total += partial[i * blocks + block];
        totals[i] = total;
    }
}

// The logits of a vector's products g, whose sum is total.
template <class T>
struct LogitsOf {
    const T* products;
    int64_t coordinates;
    const double* norms;
    double factor, offset, last_offset;

    __device__ LogitsOf(const Frame& frame, const CentringLaw& law, const T* g, double total)
        : products(g),
          coordinates(frame.coordinates()),
          norms(frame.norms),
          factor(law.factor),
          offset(law.share * total),
          last_offset(law.last_share * total) {}

    // Of class c < coordinates, which has this product, and of the last class of a tight frame.
    __device__ T of(int64_t c, T product) const {
        return static_cast<T>(weight(c) * (static_cast<double>(product) - offset));
    }
    __device__ T last() const { return static_cast<T>(weight(coordinates) * (0.0 - last_offset)); }
    __device__ T operator[](int64_t c) const {
        return c == coordinates ? last() : of(c, products[c]);
    }

  private:
    __device__ double weight(int64_t c) const { return norms ? factor * norms[c] : factor; }
};

template <class T>
__global__ void __launch_bounds__(block_threads)
    logits_kernel(Frame frame, CentringLaw law, const T* __restrict__ products,
                  const double* __restrict__ totals, int64_t count, T* __restrict__ out) {
    const int64_t coordinates = frame.coordinates();
    for (int64_t vector = row_of_grid(); vector < count; vector += rows_of_grid()) {
        const LogitsOf<T> logits(frame, law, products + vector * frame.dim, totals[vector]);
        T* to = out + vector * frame.num_classes;
        map_row(logits.products, coordinates, to,
                [&](int64_t c, T product) { return logits.of(c, product); });
        if (frame.tight() && thread_of_grid() == 0) to[coordinates] = logits.last();
    }
}

// out (count, dim) = factor (norms y - offset), zeros past the coordinates.
template <class T>
__global__ void __launch_bounds__(block_threads)
    centre_kernel(Frame frame, CentringLaw law, const T* __restrict__ y,
                  const double* __restrict__ totals, double factor, int64_t count,
                  T* __restrict__ out) {
    const int64_t coordinates = frame.coordinates();
    const double* norms = frame.norms;
    for (int64_t vector = row_of_grid(); vector < count; vector += rows_of_grid()) {
        const T* from = y + vector * frame.num_classes;
        T* to = out + vector * frame.dim;
        double offset = law.share * totals[vector];
        if (frame.tight()) {
            const double weight = norms ? norms[coordinates] : 1.0;
            offset += law.last_share * (weight * static_cast<double>(from[coordinates]));
        }
        map_row(from, coordinates, to, [&](int64_t c, T entry) {
            const double a = static_cast<double>(entry);
            return static_cast<T>(factor * ((norms ? norms[c] * a : a) - offset));
        });
#pragma unroll 1
        for (int64_t c = coordinates + thread_of_grid(); c < frame.dim; c += threads_of_grid())
            to[c] = static_cast<T>(0);
    }
}

// The largest entries of rows are found part by part: a block has a part of a row in registers and
// gives on its best, among which the same is done again until a row is one part.
constexpr int part_entries = 8;                               // of a thread
constexpr int most_ranks = block_threads * part_entries / 8;  // that a part gives on at a time

// Threads of a block for rows of `columns` entries.
int part_threads(int64_t columns) {
    int threads = 32;
    while (threads < block_threads && threads * part_entries < columns) threads *= 2;
    return threads;
}
int64_t parts_of(int64_t columns) {
    return blocks_of(columns, int64_t{part_threads(columns)} * part_entries);
}

template <class T>
struct LogitRows {
    Frame frame;
    CentringLaw law;
    const T* products;
    const double* totals;
    __device__ LogitsOf<T> row(int64_t i) const {
        return {frame, law, products + i * frame.dim, totals[i]};
    }
};

template <class T>
struct ScoreRows {
    const T* scores;
    int64_t columns;
    __device__ const T* row(int64_t i) const { return scores + i * columns; }
};

// Ranks of rows that lie `stride` apart.
template <class T>
struct Ranks {
    T* values;
    int64_t *positions, stride;
};

// best (count, parts, ranks): the best of each part of each row, by value descending and position
// ascending. NaN is passed over: where nothing is left the position is -1 and the value NaN.
// positions (count, columns) are those of the entries, their columns where it is null. With `after`
// only those count that rank after its first of their row.
template <class T, class Rows>
__global__ void __launch_bounds__(block_threads)
    best_kernel(Rows rows, const int64_t* __restrict__ positions, int64_t count, int64_t columns,
                int ranks, Ranks<const T> after, Ranks<T> best) {
    __shared__ T best_value[block_threads];
    __shared__ int best_entry[block_threads];  // of the part, or -1
    const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
    const int64_t first = int64_t{blockIdx.x} * threads * part_entries;
    const T none = static_cast<T>(NAN);
    for (int64_t i = blockIdx.y; i < count; i += gridDim.y) {
        const auto row = rows.row(i);
        T entries[part_entries];
#pragma unroll
        for (int k = 0; k < part_entries; ++k) {
            const int64_t column = first + k * threads + thread;
            entries[k] = column < columns ? row[column] : none;
        }
        if (after.values) {
            const T value = after.values[i * after.stride];
            const int64_t position = after.positions[i * after.stride];
#pragma unroll
            for (int k = 0; k < part_entries; ++k)
                if (!(entries[k] < value ||
                      (entries[k] == value && first + k * threads + thread > position)))
                    entries[k] = none;
        }
        T value = none;
        int entry = -1;
        const auto choose = [&] {
            value = none;
            entry = -1;
#pragma unroll
            for (int k = 0; k < part_entries; ++k)
                if (entries[k] > value || (entry < 0 && entries[k] == entries[k])) {
                    value = entries[k];
                    entry = k * threads + thread;
                }
        };
        choose();
        const int64_t out = i * best.stride + int64_t{blockIdx.x} * ranks;
        for (int rank = 0; rank < ranks; ++rank) {
            best_value[thread] = value;
            best_entry[thread] = entry;
            for (int half = threads / 2; half > 0; half /= 2) {
                __syncthreads();
                const int other = thread + half;
                if (thread < half && best_entry[other] >= 0 &&
                    (best_entry[thread] < 0 || best_value[other] > best_value[thread] ||
                     (best_value[other] == best_value[thread] &&
                      best_entry[other] < best_entry[thread]))) {
                    best_value[thread] = best_value[other];
                    best_entry[thread] = best_entry[other];
                }
            }
            __syncthreads();
            const int winner = best_entry[0];
            const T winning = best_value[0];
            __syncthreads();
            if (thread == 0) {
                best.values[out + rank] = winner < 0 ? none : winning;
                best.positions[out + rank] = winner < 0  ? -1
                                             : positions ? positions[i * columns + first + winner]
                                                         : first + winner;
            }
            if (winner >= 0 && winner == entry) {
#pragma unroll
                for (int k = 0; k < part_entries; ++k)
                    if (k * threads + thread == winner) entries[k] = none;
                choose();
            }
        }
    }
}

// classes (count, top): labels (count, columns) at these positions; -1 stays.
__global__ void __launch_bounds__(block_threads)
    label_kernel(const int64_t* __restrict__ labels, int64_t count, int64_t columns, int64_t top,
                 int64_t* classes) {
    for (int64_t i = row_of_grid(); i < count; i += rows_of_grid())
        map_row(classes + i * top, top, classes + i * top, [&](int64_t, int64_t position) {
            return position < 0 ? position : labels[i * columns + position];
        });
}

// What parts of rows give on, in two buffers by turns.
template <class T>
struct Tournament {
    Ranks<T> given_on[2];

    Tournament(int64_t count, int64_t columns, int64_t top, Layout& layout) {
        const int64_t ranks = top < most_ranks ? top : most_ranks;
        for (Ranks<T>& buffer : given_on) {
            columns = parts_of(columns) > 1 ? parts_of(columns) * ranks : 0;
            buffer = {layout.array<T>(count * columns), layout.array<int64_t>(count * columns), 0};
        }
    }

    // The `ranks` best of rows: of all entries, or with `after` of those that rank after it.
    template <class Rows>
    void find(const Rows& rows, const int64_t* positions, int64_t count, int64_t columns, int ranks,
              const Ranks<const T>& after, const Ranks<T>& best, Stream stream,
              int turn = 0) const {
        const int64_t parts = parts_of(columns), given = parts * ranks;
        Ranks<T> to = parts == 1 ? best : given_on[turn];
        if (parts > 1) to.stride = given;
        launch("largest", best_kernel<T, Rows>,
               dim3(static_cast<unsigned>(parts), grid_for(count, max_grid_y)),
               static_cast<unsigned>(part_threads(columns)), stream, rows, positions, count,
               columns, ranks, after, to);
        if (parts > 1)
            find(ScoreRows<T>{to.values, given}, to.positions, count, given, ranks, {}, best,
                 stream, 1 - turn);
    }
};

// The `top` best of rows (count, columns).
template <class T, class Rows>
void find_best(const Rows& rows, int64_t count, int64_t columns, int64_t top,
               const Tournament<T>& tournament, int64_t* classes, T* values, Stream stream) {
    for (int64_t rank = 0; rank < top; rank += most_ranks) {
        const int64_t ranks = top - rank < most_ranks ? top - rank : most_ranks;
        Ranks<const T> after{};
        if (rank > 0) after = {values + rank - 1, classes + rank - 1, top};
        tournament.find(rows, nullptr, count, columns, static_cast<int>(ranks), after,
                        {values + rank, classes + rank, top}, stream);
    }
}

// What a call works in: signs, rotated vectors, and their sums.
template <class T>
struct Workspace {
    HadamardRotation rotation;
    T* rotated;
    double *totals, *partial;
    int64_t blocks;

    Workspace(const Frame& frame, int64_t count, Layout& layout)
        : rotation(frame, layout),
          rotated(layout.array<T>(frame.hadamard ? count * frame.dim : 0)),
          totals(layout.array<double>(count)),
          blocks(blocks_of(frame.coordinates(), frame_sum_block)) {
        partial = layout.array<double>(count * blocks);
    }

    void sum(const T* x, int64_t stride, const Frame& frame, const double* norms, int64_t count,
             Stream stream) const {
        launch("sums", sum_kernel<T>,
               grid_for(blocks_of(count * blocks, sums_per_block), many_blocks), block_threads,
               stream, x, stride, frame.coordinates(), norms, count, partial);
        launch("totals", total_kernel, grid_for_elements(count), block_threads, stream, partial,
               blocks, count, totals);
    }

    // The products of x (count, dim) with the columns of Q, and their sums.
    const T* products(const Frame& frame, const T* x, int64_t count, Stream stream) const {
        if (frame.hadamard) {
            rotation.make_signs(stream);
            rotation.apply(x, count, rotated, stream);
        }
        const T* products = frame.hadamard ? rotated : x;
        sum(products, frame.dim, frame, nullptr, count, stream);
        return products;
    }
};

}  // namespace

template <class T>
size_t frame_workspace(const Frame& frame, int64_t count, int64_t top) {
    Layout layout;
    Workspace<T>(frame, count, layout);
    Tournament<T>(count, frame.num_classes, top, layout);
    return layout.bytes();
}

template <class T>
size_t scores_workspace(int64_t count, int64_t columns, int64_t top) {
    Layout layout;
    Tournament<T>(count, columns, top, layout);
    return layout.bytes();
}

template <class T>
void project(const Frame& frame, const T* x, int64_t count, T* out, void* workspace,
             Stream stream) {
    Layout layout(workspace);
    const Workspace<T> space(frame, count, layout);
    const T* products = space.products(frame, x, count, stream);
    const ElementShape shape = grid_of_rows(count, frame.num_classes);
    launch("logits", logits_kernel<T>, shape.grid, shape.block, stream, frame, CentringLaw(frame),
           products, space.totals, count, out);
}

template <class T>
void synthesise(const Frame& frame, const T* x, int64_t count, T* out, void* workspace,
                Stream stream) {
    Layout layout(workspace);
    const Workspace<T> space(frame, count, layout);
    const CentringLaw law(frame);
    space.sum(x, frame.num_classes, frame, frame.norms, count, stream);
    T* centred = frame.hadamard ? space.rotated : out;
    const ElementShape shape = grid_of_rows(count, frame.dim);
    launch("centring", centre_kernel<T>, shape.grid, shape.block, stream, frame, law, x,
           space.totals, frame.hadamard ? 1.0 : law.factor, count, centred);
    if (!frame.hadamard) return;
    space.rotation.make_signs(stream);
    space.rotation.apply_transposed(centred, count, law.factor, out, stream);
}

template <class T>
void top_logits(const Frame& frame, const T* x, int64_t count, int64_t top, int64_t* classes,
                T* values, void* workspace, Stream stream) {
    Layout layout(workspace);
    const Workspace<T> space(frame, count, layout);
    const Tournament<T> tournament(count, frame.num_classes, top, layout);
    const T* products = space.products(frame, x, count, stream);
    find_best(LogitRows<T>{frame, CentringLaw(frame), products, space.totals}, count,
              frame.num_classes, top, tournament, classes, values, stream);
}

template <class T>
void top_scores(const T* scores, const int64_t* labels, int64_t count, int64_t columns, int64_t top,
                int64_t* classes, T* values, void* workspace, Stream stream) {
    Layout layout(workspace);
    const Tournament<T> tournament(count, columns, top, layout);
    find_best(ScoreRows<T>{scores, columns}, count, columns, top, tournament, classes, values,
              stream);
    if (!labels) return;
    const ElementShape shape = grid_of_rows(count, top);
    launch("labels of the largest", label_kernel, shape.grid, shape.block, stream, labels, count,
           columns, top, classes);
}

#define INFALL_FRAME_TYPE(T)                                                                    \
    template size_t frame_workspace<T>(const Frame&, int64_t, int64_t);                         \
    template size_t scores_workspace<T>(int64_t, int64_t, int64_t);                             \
    template void project(const Frame&, const T*, int64_t, T*, void*, Stream);                  \
    template void synthesise(const Frame&, const T*, int64_t, T*, void*, Stream);               \
    template void top_logits(const Frame&, const T*, int64_t, int64_t, int64_t*, T*, void*,     \
                             Stream);                                                           \
    template void top_scores(const T*, const int64_t*, int64_t, int64_t, int64_t, int64_t*, T*, \
                             void*, Stream);
INFALL_FRAME_TYPE(float)
INFALL_FRAME_TYPE(double)
#undef INFALL_FRAME_TYPE

}  // namespace infall::device
