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

void project_layer(const GaussianLayer& layer, int64_t first_row, int64_t rows, int64_t first_block,
                   int64_t end_block, const float* w, int64_t batch, float* scores) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const Broadcast broadcast(key);
    const Broadcast* b = opaque(broadcast);
    const int64_t width = padded_dim(layer.dim), groups = rows / lanes;
    PhiloxColumn columns[block_tile];
    alignas(64) float tile[column_tile * group_tile * lanes];
    for (int64_t first = first_block; first < end_block; first += block_tile) {
        const int64_t here = end_block - first < block_tile ? end_block - first : block_tile;
        column_constants(layer.matrix, first_row, first, here, key, columns);
        if (batch == 1) {
            ProjectOne sink(w + 4 * first, scores, rows, first > 0);
            generate(layer, first_row, groups, columns, here, b, sink);
            continue;
        }
        for (int64_t group = 0; group < groups; group += group_tile) {
            // A short last tile is generated whole and only its valid groups are kept.
            const int64_t valid = groups - group < group_tile ? groups - group : group_tile;
            for (int64_t block = 0; block < here; block += column_tile / 4) {
                const int64_t some =
                    here - block < column_tile / 4 ? here - block : column_tile / 4;
                KeepTile sink{tile};
                generate(layer, first_row + group * lanes, group_tile, columns + block, some, b,
                         sink);
                const bool continues = first + block > 0;
                accumulate_tile(tile, valid, 4 * some, w + 4 * (first + block), width, batch,
                                scores + group * lanes, rows, continues);
            }
        }
    }
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

extern const StreamKernels stream_kernels{project_layer, scores_at_least};

}  // namespace infall::INFALL_ISA
