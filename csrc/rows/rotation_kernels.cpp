// Compiled once per instruction set with INFALL_ISA naming it. No STL templates here: a weak copy
// built for a newer processor could be linked for everyone.
#include <cstring>

#include "random/vector_normal.h"
#include "random/vector_normal64.h"
#include "rows/accumulate.h"
#include "rows/rotation.h"

namespace infall::INFALL_ISA {
namespace {

int64_t deciding_candidates(const GaussianLayer& layer, uint32_t column, int64_t first_pair,
                            int64_t pairs, uint32_t bound, int32_t* offsets) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const Broadcast broadcast(key);
    const Broadcast* b = opaque(broadcast);
    const PhiloxColumn constants = column_constants({0, deciding_columns}, first_pair, column, key);
    int64_t found = 0;
    for (int64_t i = 0; i < pairs; i += lanes) {
        const PhiloxRows<Wide> rows = row_constants(RowsInOrder(first_pair + i)(0), layer, key);
        const Words words = block_words(rows, constants, b, Nothing{});
        for (uint32_t hits = at_most(words.w0, Word(bound)); hits; hits &= hits - 1)
            offsets[found++] = static_cast<int32_t>(i) + __builtin_ctz(hits);
    }
    return found;
}

struct KeepDeciding {
    float *even, *odd;    // (columns, group_tile, lanes)
    float* square_radii;  // (group_tile, lanes)
    bool continues;
    int64_t group = 0;
    Float largest = Float(0.0f);

    INFALL_HD void operator()(int64_t block, Float z0, Float z1, Float, Float) {
        store(even + (block * group_tile + group) * lanes, z0);
        store(odd + (block * group_tile + group) * lanes, z1);
        largest = larger(largest, fused(z0, z0, z1 * z1));
    }
    INFALL_HD void end_group() {
        float* target = square_radii + group * lanes;
        store(target, continues ? larger(load(target), largest) : largest);
        largest = Float(0.0f);
        ++group;
    }
};

void estimate_deciding(const GaussianLayer& layer, int64_t first_pair, int64_t pairs, int64_t span,
                       const float* factors, int64_t batch, float* even, float* odd,
                       float* square_radii) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const Broadcast broadcast(key);
    const Broadcast* b = opaque(broadcast);
    const int64_t groups = pairs / lanes;
    PhiloxColumn columns[column_tile];
    alignas(64) float even_tile[column_tile * group_tile * lanes];
    alignas(64) float odd_tile[column_tile * group_tile * lanes];
    alignas(64) float radii[group_tile * lanes] = {};  // a short last tile leaves some out
    for (int64_t first = 0; first < span; first += column_tile) {
        const int64_t some = span - first < column_tile ? span - first : column_tile;
        column_constants({0, deciding_columns}, first_pair, first, some, key, columns);
        for (int64_t group = 0; group < groups; group += group_tile) {
            const int64_t valid = groups - group < group_tile ? groups - group : group_tile;
            float* found = square_radii + group * lanes;
            if (first > 0) memcpy(radii, found, sizeof(float) * valid * lanes);
            KeepDeciding sink{even_tile, odd_tile, radii, first > 0};
            generate(layer, RowsInOrder(first_pair + group * lanes), group_tile, columns, some, b,
                     sink);
            memcpy(found, radii, sizeof(float) * valid * lanes);
            accumulate_tile(even_tile, valid, some, factors + first, span, batch,
                            even + group * lanes, pairs, first > 0);
            accumulate_tile(odd_tile, valid, some, factors + first, span, batch,
                            odd + group * lanes, pairs, first > 0);
        }
    }
}

void deciding_entries(const GaussianLayer& layer, const int64_t* rows, int64_t count, int64_t span,
                      double* out) {
    const Broadcast broadcast(PhiloxKey::from_seed(layer.seed));
    const Broadcast* b = opaque(broadcast);
    BlocksOfRows entries(rows, count, deciding_columns, span);  // a block for each
    for (int64_t left = count * span; left > 0; left -= lanes, out += lanes) {
        Word low, high, block;
        entries.next(low, high, block);
        const Word low_pair = shift_right<1>(low) + shift_left<31>(high);
        const Words words =
            counter_words(low_pair, shift_right<1>(high), block, layer.layer, b, Nothing{});
        alignas(64) uint32_t radius_high[lanes], radius_low[lanes], angle[lanes], row[lanes];
        store(radius_high, words.w0);
        store(radius_low, words.w2);
        store(angle, words.w1);
        store(row, low);
        alignas(64) double of_vector[lanes];
        INFALL_UNROLL
        for (int i = 0; i < lanes; i += double_lanes) {
            const LongWord radius =
                load_long_words(radius_high + i) << 32 | load_long_words(radius_low + i);
            Doubles even, odd;
            box_muller64(radius, load_long_words(angle + i), even, odd);
            const Long is_odd = (load_long_words(row + i) & 1u) != 0;
            store((left < lanes ? of_vector : out) + i, choose(is_odd, odd, even).v);
        }
        if (left < lanes) memcpy(out, of_vector, sizeof(double) * left);
    }
}

void largest_folded_normals(LargestFoldedNormals& largest, double* exponentials, int64_t count) {
    for (int64_t j = 0; j < count; ++j) exponentials[j] = largest.next(exponentials[j]);
}

}  // namespace

extern const RotationKernels rotation_kernels{deciding_candidates, estimate_deciding,
                                              deciding_entries, largest_folded_normals};

}  // namespace infall::INFALL_ISA
