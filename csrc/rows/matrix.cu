// Selection from a matrix in device memory, in one pass: the law of its rows is not known, so a
// sample of them sets the threshold that candidates have to pass.
#include <cmath>
#include <type_traits>

#include "rows/device.h"
#include "rows/device_cut.h"
#include "runtime/candidate.h"
#include "runtime/cuda_launch.h"
#include "runtime/elements.h"
#include "runtime/workspace.h"

namespace infall::device {
namespace {

constexpr int64_t sample_rows = 1 << 14;
constexpr int tile_directions = 4;

// What the passes over the matrix share: `limit` is the candidate a row has to rank before, or be.
struct MatrixSpace {
    Workspace cut;
    Candidate* sample;  // (batch, samples)
    Candidate* limit;   // (batch,)
    int64_t samples, sample_rank;
};

// Rank in the sample below which, but once in a million, more than num_rows rows of the matrix lie.
int64_t sample_rank_for(int64_t rows, int64_t num_rows, int64_t samples) {
    const double expected =
        static_cast<double>(num_rows) * static_cast<double>(samples) / static_cast<double>(rows);
    return static_cast<int64_t>(expected + 6.0 * std::sqrt(expected)) + 5;
}

MatrixSpace workspace_of(int64_t rows, int64_t num_rows, int64_t batch, Layout& layout) {
    MatrixSpace space{};
    space.samples = rows < sample_rows ? rows : sample_rows;
    space.sample_rank = sample_rank_for(rows, num_rows, space.samples);
    const double per_sample = static_cast<double>(rows) / static_cast<double>(space.samples);
    int64_t capacity =
        2 * num_rows + 8 * block_threads +
        static_cast<int64_t>(4.0 * static_cast<double>(space.sample_rank) * per_sample);
    space.cut.capacity = capacity < rows ? capacity : rows;
    // A block has to fit behind the rows kept so far: see select_slowly_kernel.
    if (space.cut.capacity < num_rows + block_threads)
        space.cut.capacity = num_rows + block_threads;
    space.cut.found = layout.array<Found>(batch);
    space.limit = layout.array<Candidate>(batch);
    space.sample = layout.array<Candidate>(batch * space.samples);
    space.cut.candidates = layout.array<Candidate>(batch * space.cut.capacity);
    space.cut.spare = layout.array<Candidate>(batch * space.cut.capacity);
    return space;
}

// Projections of row `row` (none where it is past the end) on `directions` vectors from `direction`
// on. All threads of a block call it together. The weights go through shared memory, and so do rows
// in C order, so that a warp reads along a row while a thread sums it, column by column.
template <class T, int directions>
__device__ void project_row(const DeviceMatrix& matrix, int64_t row, const void* w,
                            int64_t direction, int64_t batch, double* projections) {
    using S = decltype(widened(T{}));
    constexpr int tile_columns = 128 / sizeof(S);  // a line of memory
    __shared__ S tile[block_threads][tile_columns + 1];
    __shared__ int64_t row_starts[block_threads];
    alignas(16) __shared__ S tile_weights[tile_columns][directions];
    const T* data = static_cast<const T*>(matrix.data);
    const S* weights = static_cast<const S*>(w);
    const bool by_rows = matrix.column_stride == 1;
    S sums[directions] = {};
    const bool inside = row < matrix.rows;
    __syncthreads();
    row_starts[threadIdx.x] = inside ? row * matrix.row_stride : 0;  // there is a row to read
    for (int64_t first = 0; first < matrix.dim; first += tile_columns) {
        const int here =
            static_cast<int>(matrix.dim - first < tile_columns ? matrix.dim - first : tile_columns);
        __syncthreads();
        const auto column = static_cast<int>(threadIdx.x % tile_columns);
        static_assert(tile_columns * directions <= block_threads);
        if (threadIdx.x < tile_columns * directions) {
            const auto d = static_cast<int>(threadIdx.x / tile_columns);
            tile_weights[column][d] = direction + d < batch && column < here
                                          ? weights[(direction + d) * matrix.dim + first + column]
                                          : S{0};
        }
        if (by_rows && column < here)
            for (auto r = static_cast<int>(threadIdx.x / tile_columns); r < block_threads;
                 r += block_threads / tile_columns)
                tile[r][column] = widened(data[row_starts[r] + first + column]);
        __syncthreads();
        if (!inside) continue;
        for (int j = 0; j < here; ++j) {
            const S entry =
                by_rows
                    ? tile[threadIdx.x][j]
                    : widened(data[row * matrix.row_stride + (first + j) * matrix.column_stride]);
#pragma unroll
            for (int d = 0; d < directions; ++d)
                sums[d] = fused(entry, tile_weights[j][d], sums[d]);
        }
    }
    for (int d = 0; d < directions; ++d) projections[d] = static_cast<double>(sums[d]);
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    sample_kernel(DeviceMatrix matrix, DeviceSelection task, MatrixSpace space, const void* w) {
    const int64_t i = thread_of_grid(), direction = blockIdx.y;
    const bool inside = i < space.samples;
    // Spread over the whole matrix: its rows may be sorted. A short one is sampled whole.
    const int64_t spread = space.samples < sample_rows ? i : i * matrix.rows / sample_rows;
    const int64_t row = inside ? spread : matrix.rows;
    double projection;
    project_row<T, 1>(matrix, row, w, direction, task.batch, &projection);
    if (!inside) return;
    // What is not a number ranks behind all rows, no two alike.
    Candidate mine{projection, row};
    if (!(projection == projection))
        mine = Candidate{no_limit(task.absolute).projection, INT64_MAX - i};
    space.sample[direction * space.samples + i] = mine;
}

// limit = the candidate of rank `rank` among `count`; all rows pass where there are too few.
__global__ void __launch_bounds__(block_threads)
    sample_limit_kernel(DeviceSelection task, MatrixSpace space) {
    const int64_t direction = blockIdx.y, i = thread_of_grid();
    const Candidate* sample = space.sample + direction * space.samples;
    const bool all_pass = space.sample_rank >= space.samples;
    if (all_pass) {
        if (i == 0) space.limit[direction] = no_limit(task.absolute);
        return;
    }
    Candidate mine{0.0, 0};
    if (i < space.samples) mine = sample[i];
    const int64_t rank = rank_among(sample, space.samples, mine, RanksBefore{task.absolute});
    // Ties pass: the row of the limit is not looked at in the first pass.
    if (i < space.samples && rank == space.sample_rank)
        space.limit[direction] = Candidate{mine.projection, INT64_MAX};
}

template <class T, int directions>
__global__ void __launch_bounds__(block_threads)
    select_matrix_kernel(DeviceMatrix matrix, DeviceSelection task, MatrixSpace space, int pass,
                         const void* w) {
    const int64_t direction = int64_t{blockIdx.y} * directions;
    if (!needed(task, space.cut, pass, direction, directions)) return;
    const int64_t tiles = (matrix.rows + block_threads - 1) / block_threads;
    const RanksBefore before{task.absolute};
    for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
        const int64_t row = i * block_threads + threadIdx.x;
        double projections[directions];
        project_row<T, directions>(matrix, row, w, direction, task.batch, projections);
        for (int d = 0; d < directions; ++d)
            if (direction + d < task.batch && row < matrix.rows) {
                const Candidate candidate{projections[d], row};
                const Candidate limit = space.limit[direction + d];
                if (projections[d] == projections[d] && !before(limit, candidate))
                    offer(task, space.cut, pass, direction + d, candidate);
            }
    }
}

// Candidates of the directions that need a second pass, because more than found room passed.
struct Overflowing {
    DeviceSelection task;
    Workspace space;
    __device__ int64_t operator()(int64_t direction) const {
        const auto capacity = static_cast<unsigned long long>(space.capacity);
        return space.found[direction].count[0] > capacity ? space.capacity : 0;
    }
};

// For the second pass: the num_rows-th best of the candidates that found room, or no limit where
// there were too few. Any row that ranks behind it is none of the best.
__global__ void __launch_bounds__(block_threads)
    refine_limit_kernel(DeviceSelection task, MatrixSpace space, const Candidate* sorted) {
    const int64_t direction = blockIdx.y, i = thread_of_grid();
    const Found& found = space.cut.found[direction];
    if (settled(found, task.num_rows, space.cut.capacity)) return;
    const int64_t count = Overflowing{task, space.cut}(direction);
    if (count == 0) {
        if (i == 0) space.limit[direction] = no_limit(task.absolute);
        return;
    }
    const Candidate* candidates = space.cut.candidates + direction * space.cut.capacity;
    if (sorted) {
        if (i == 0)
            space.limit[direction] = sorted[direction * space.cut.capacity + task.num_rows - 1];
        return;
    }
    Candidate mine{0.0, 0};
    if (i < count) mine = candidates[i];
    const int64_t rank = rank_among(candidates, count, mine, RanksBefore{task.absolute});
    if (i < count && rank == task.num_rows - 1) space.limit[direction] = mine;
}

void refine_limit(const DeviceSelection& task, const MatrixSpace& space, Stream stream) {
    const auto batch = static_cast<unsigned>(task.batch);
    const bool few = space.cut.capacity <= most_compared;
    const Candidate* sorted = nullptr;
    if (!few)
        sorted = sort(space.cut.candidates, space.cut.spare, space.cut.capacity, task.batch,
                      space.cut.capacity, Overflowing{task, space.cut}, RanksBefore{task.absolute},
                      stream);
    launch("threshold", refine_limit_kernel,
           dim3(few ? exact_grid(space.cut.capacity, block_threads) : 1, batch), block_threads,
           stream, task, space, sorted);
}

// What is left where the second pass found too many as well, as for rows made to defeat a sample:
// one block goes through the matrix and keeps the best rows so far. Slow, and never wrong. Where
// that pass found too few, for its limit let all pass, there are no more: projections are NaN.
template <class T>
__global__ void __launch_bounds__(block_threads)
    select_slowly_kernel(DeviceMatrix matrix, DeviceSelection task, MatrixSpace space,
                         const void* w) {
    __shared__ unsigned long long kept;
    const int64_t direction = blockIdx.y;
    Found& found = space.cut.found[direction];
    const auto capacity = static_cast<unsigned long long>(space.cut.capacity);
    if (settled(found, task.num_rows, space.cut.capacity) || found.count[1] <= capacity) return;
    Candidate* candidates = space.cut.candidates + direction * space.cut.capacity;
    Candidate* spare = space.cut.spare + direction * space.cut.capacity;
    const RanksBefore before{task.absolute};
    __syncthreads();
    if (threadIdx.x == 0) kept = 0;
    Candidate limit = no_limit(task.absolute);
    for (int64_t start = 0; start < matrix.rows; start += block_threads) {
        double projection;
        project_row<T, 1>(matrix, start + threadIdx.x, w, direction, task.batch, &projection);
        const Candidate mine{projection, start + threadIdx.x};
        if (mine.row < matrix.rows && projection == projection && !before(limit, mine))
            candidates[atomicAdd(&kept, 1ull)] = mine;
        __syncthreads();
        const auto count = static_cast<int64_t>(kept);
        const bool last = start + block_threads >= matrix.rows;
        if (count + block_threads <= space.cut.capacity && !last) continue;
        // Cut to the best, which the others then have to rank before.
        const Candidate* sorted = sort_in_block(candidates, spare, count, before);
        const int64_t left = count < task.num_rows ? count : task.num_rows;
        if (left == task.num_rows) limit = sorted[left - 1];
        for (int64_t i = threadIdx.x; sorted != candidates && i < left; i += block_threads)
            candidates[i] = sorted[i];
        if (threadIdx.x == 0) kept = static_cast<unsigned long long>(left);
        __syncthreads();
    }
    if (threadIdx.x == 0) found.count[1] = kept;
}

inline __device__ void make_nan(float* p) { *p = NAN; }
inline __device__ void make_nan(double* p) { *p = NAN; }
inline __device__ void make_nan(Float16* p) { p->bits = 0x7E00u; }
inline __device__ void make_nan(BFloat16* p) { p->bits = 0x7FC0u; }

template <class T>
__global__ void __launch_bounds__(block_threads)
    gather_rows_kernel(DeviceMatrix matrix, const int64_t* __restrict__ indices, int64_t count,
                       T* __restrict__ out) {
    const T* data = static_cast<const T*>(matrix.data);
    const int64_t column = thread_of_grid();
    if (column >= matrix.dim) return;
#pragma unroll 1  // to unroll it, one would divide
    for (int64_t i = row_of_grid(); i < count; i += rows_of_grid()) {
        const int64_t row = indices[i];
        T* target = out + i * matrix.dim + column;
        if (row < 0)
            make_nan(target);
        else
            *target = data[row * matrix.row_stride + column * matrix.column_stride];
    }
}

template <class T>
void select_of(const DeviceMatrix& matrix, const DeviceSelection& task, const MatrixSpace& space,
               const void* w, Stream stream) {
    const auto batch = static_cast<unsigned>(task.batch);
    clear(space.cut, task.batch, stream);
    const dim3 sampling(exact_grid(space.samples, block_threads), batch);
    launch("sampling", sample_kernel<T>, sampling, block_threads, stream, matrix, task, space, w);
    launch("threshold", sample_limit_kernel, sampling, block_threads, stream, task, space);
    const unsigned tiles = grid_for(blocks_of(matrix.rows, block_threads));
    for (int pass = 0; pass < 2; ++pass) {
        if (task.batch == 1)
            launch("select_matrix", select_matrix_kernel<T, 1>, tiles, block_threads, stream,
                   matrix, task, space, pass, w);
        else
            launch("select_matrix", select_matrix_kernel<T, tile_directions>,
                   dim3(tiles, exact_grid(task.batch, tile_directions)), block_threads, stream,
                   matrix, task, space, pass, w);
        if (pass == 0) refine_limit(task, space, stream);
    }
    launch("select_matrix", select_slowly_kernel<T>, dim3(1, batch), block_threads, stream, matrix,
           task, space, w);
    cut(task, space.cut, stream);
}

}  // namespace

size_t matrix_workspace(int64_t rows, int64_t num_rows, int64_t batch) {
    Layout layout;
    workspace_of(rows, num_rows, batch, layout);
    return layout.bytes();
}

void select_matrix(const DeviceMatrix& matrix, const DeviceSelection& task, const void* w,
                   Stream stream) {
    Layout layout(task.workspace);
    const MatrixSpace space = workspace_of(matrix.rows, task.num_rows, task.batch, layout);
    with_elements(matrix.data, matrix.type, [&](const auto* data) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
        select_of<T>(matrix, task, space, w, stream);
    });
}

void gather_rows(const DeviceMatrix& matrix, const int64_t* indices, int64_t count, void* out,
                 Stream stream) {
    with_elements(matrix.data, matrix.type, [&](const auto* data) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
        const ElementShape shape = shape_for_elements(count, matrix.dim);
        launch("gather_rows", gather_rows_kernel<T>, shape.grid, shape.block, stream, matrix,
               indices, count, static_cast<T*>(out));
    });
}

}  // namespace infall::device
