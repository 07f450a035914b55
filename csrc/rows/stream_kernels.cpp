// Compiled once per instruction set with INFALL_ISA naming it. No STL templates here: a weak copy
// built for a newer processor could be linked for everyone.
#include "random/vector_normal.h"
#include "rows/accumulate.h"
#include "rows/stream.h"

namespace infall::INFALL_ISA {
namespace {

constexpr int64_t block_tile = 512;  // Philox blocks (4 columns each) whose constants are at hand

struct ProjectOne {
    const float* w;
    float *scores, *end;
    bool continues;  // an earlier tile of columns has left its sums in `scores`
    Float sum;

    INFALL_HD ProjectOne(const float* w_, float* scores_, int64_t rows, bool continues_)
        : w(w_), scores(scores_), end(scores_ + rows), continues(continues_) {
        begin_group();
    }
    INFALL_HD void operator()(int64_t block, Float z0, Float z1, Float z2, Float z3) {
        const float* column = w + 4 * block;
        sum = fused(z0, Float(column[0]), sum);
        sum = fused(z1, Float(column[1]), sum);
        sum = fused(z2, Float(column[2]), sum);
        sum = fused(z3, Float(column[3]), sum);
    }
    INFALL_HD void end_group() {
        store(scores, sum);
        scores += lanes;
        begin_group();
    }
    INFALL_HD void begin_group() { sum = continues && scores < end ? load(scores) : Float(0.0f); }
};

struct KeepTile {
    float* tile;  // (columns, group_tile, lanes)
    int64_t group = 0;

    INFALL_HD void operator()(int64_t block, Float z0, Float z1, Float z2, Float z3) {
        float* column = tile + (4 * block * group_tile + group) * lanes;
        store(column, z0);
        store(column + group_tile * lanes, z1);
        store(column + 2 * group_tile * lanes, z2);
        store(column + 3 * group_tile * lanes, z3);
    }
    INFALL_HD void end_group() { ++group; }
};

struct RowsGiven {
    const uint32_t* low_rows;
    int64_t groups;

    INFALL_HD Word operator()(int64_t group) const {
        const int64_t last = groups - 1;  // the group that is looked ahead at is not there
        return load_words(low_rows + (group < last ? group : last) * lanes);
    }
};

// The rows low_rows of the 2^32 that first_row is among, on one direction.
template <class LowRows>
INFALL_HD void project_one(const GaussianLayer& layer, int64_t first_row, const LowRows& low_rows,
                           int64_t rows, const Weights& weights, int64_t first_block,
                           int64_t end_block, float* scores) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const Broadcast broadcast(key);
    const Broadcast* b = opaque(broadcast);
    PhiloxColumn columns[block_tile];
    for (int64_t first = first_block; first < end_block; first += block_tile) {
        const int64_t some = end_block - first < block_tile ? end_block - first : block_tile;
        column_constants(layer.matrix, first_row, weights.blocks + first, some, key, columns);
        ProjectOne sink(weights.w + 4 * first, scores, rows, first > 0);
        generate(layer, low_rows, rows / lanes, columns, some, b, sink);
    }
}

void project_batch(const GaussianLayer& layer, int64_t first_row, int64_t rows,
                   const Weights& weights, int64_t first_block, int64_t end_block, float* scores) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const Broadcast broadcast(key);
    const Broadcast* b = opaque(broadcast);
    const int64_t width = 4 * weights.num_blocks, groups = rows / lanes;
    PhiloxColumn columns[block_tile];
    alignas(64) float tile[column_tile * group_tile * lanes];
    for (int64_t first = first_block; first < end_block; first += block_tile) {
        const int64_t here = end_block - first < block_tile ? end_block - first : block_tile;
        column_constants(layer.matrix, first_row, weights.blocks + first, here, key, columns);
        for (int64_t group = 0; group < groups; group += group_tile) {
            // A short last tile is generated whole and only its valid groups are kept.
            const int64_t valid = groups - group < group_tile ? groups - group : group_tile;
            for (int64_t block = 0; block < here; block += column_tile / 4) {
                const int64_t some =
                    here - block < column_tile / 4 ? here - block : column_tile / 4;
                KeepTile sink{tile};
                generate(layer, RowsInOrder(first_row + group * lanes), group_tile, columns + block,
                         some, b, sink);
                const bool continues = first + block > 0;
                accumulate_tile(tile, valid, 4 * some, weights.w + 4 * (first + block), width,
                                weights.batch, scores + group * lanes, rows, continues);
            }
        }
    }
}

void project_layer(const GaussianLayer& layer, int64_t first_row, int64_t rows,
                   const Weights& weights, int64_t first_block, int64_t end_block, float* scores) {
    if (weights.batch == 1)
        project_one(layer, first_row, RowsInOrder(first_row), rows, weights, first_block, end_block,
                    scores);
    else
        project_batch(layer, first_row, rows, weights, first_block, end_block, scores);
}

void project_rows(const GaussianLayer& layer, int64_t first_row, const uint32_t* low_rows,
                  int64_t rows, const Weights& weights, float* scores) {
    project_one(layer, first_row, RowsGiven{low_rows, rows / lanes}, rows, weights, 0,
                weights.num_blocks, scores);
}

int64_t scores_at_least(const float* scores, int64_t count, float threshold, bool absolute,
                        int32_t* positions) {
    const Float bound(threshold);
    int64_t found = 0, i = 0;
    for (; i + lanes <= count; i += lanes)
        for (uint32_t hits = at_least(load(scores + i), bound, absolute); hits; hits &= hits - 1)
            positions[found++] = static_cast<int32_t>(i) + __builtin_ctz(hits);
    for (; i < count; ++i)
        if ((absolute ? __builtin_fabsf(scores[i]) : scores[i]) >= threshold)
            positions[found++] = static_cast<int32_t>(i);
    return found;
}

}  // namespace

extern const StreamKernels stream_kernels{project_layer, project_rows, scores_at_least};

}  // namespace infall::INFALL_ISA
