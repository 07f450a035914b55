// Products of a tile of entries, drawn once, with many directions: local to the source that
// includes it.
#pragma once

#include <cstdint>

#include "runtime/vectors.h"

namespace infall::INFALL_ISA {
namespace {

constexpr int64_t column_tile = 64;  // columns of normals kept for a batch of directions
constexpr int64_t group_tile = 4;    // row groups kept for a batch of directions

// scores[d, rows of the tile] += tile . w[d], columns in order, for `directions` rows of w and
// `vectors` row groups at a time: all sums stay in registers.
template <int directions, int vectors>
INFALL_HD void accumulate(const float* tile, int64_t columns, const float* w, int64_t w_stride,
                          float* scores, int64_t score_stride, bool continues) {
    Float sums[directions][vectors];
    INFALL_UNROLL
    for (int d = 0; d < directions; ++d) INFALL_UNROLL
    for (int v = 0; v < vectors; ++v)
        sums[d][v] = continues ? load(scores + d * score_stride + v * lanes) : Float(0.0f);
    for (int64_t j = 0; j < columns; ++j, tile += group_tile * lanes) {
        Float z[vectors];
        INFALL_UNROLL
        for (int v = 0; v < vectors; ++v) z[v] = load(tile + v * lanes);
        INFALL_UNROLL
        for (int d = 0; d < directions; ++d) {
            const Float weight(w[d * w_stride + j]);
            INFALL_UNROLL
            for (int v = 0; v < vectors; ++v) sums[d][v] = fused(z[v], weight, sums[d][v]);
        }
    }
    INFALL_UNROLL
    for (int d = 0; d < directions; ++d) INFALL_UNROLL
    for (int v = 0; v < vectors; ++v) store(scores + d * score_stride + v * lanes, sums[d][v]);
}

template <int vectors>
void accumulate_batch(const float* tile, int64_t columns, const float* w, int64_t w_stride,
                      int64_t batch, float* scores, int64_t score_stride, bool continues) {
    int64_t d = 0;
    for (; d + 6 <= batch; d += 6)
        accumulate<6, vectors>(tile, columns, w + d * w_stride, w_stride, scores + d * score_stride,
                               score_stride, continues);
    for (; d + 2 <= batch; d += 2)
        accumulate<2, vectors>(tile, columns, w + d * w_stride, w_stride, scores + d * score_stride,
                               score_stride, continues);
    for (; d < batch; ++d)
        accumulate<1, vectors>(tile, columns, w + d * w_stride, w_stride, scores + d * score_stride,
                               score_stride, continues);
}

// The first `valid` groups of a tile.
void accumulate_tile(const float* tile, int64_t valid, int64_t columns, const float* w,
                     int64_t w_stride, int64_t batch, float* scores, int64_t score_stride,
                     bool continues) {
    constexpr int64_t vectors = registers == 32 ? group_tile : group_tile / 2;  // 6 x vectors sums
    int64_t v = 0;
    for (; v + vectors <= valid; v += vectors)
        accumulate_batch<vectors>(tile + v * lanes, columns, w, w_stride, batch, scores + v * lanes,
                                  score_stride, continues);
    for (; v < valid; ++v)
        accumulate_batch<1>(tile + v * lanes, columns, w, w_stride, batch, scores + v * lanes,
                            score_stride, continues);
}

}  // namespace
}  // namespace infall::INFALL_ISA
