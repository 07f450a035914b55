// Compiled once per instruction set with INFALL_ISA naming it. No STL templates here: a weak copy
// built for a newer processor could be linked for everyone.
#include "rows/screen.h"

#include "random/vector_normal.h"
#include "rows/screen_tables.h"

namespace infall::INFALL_ISA {

// Row groups that go through the rounds of Philox side by side: what lies between two products is
// so short here that one group would wait for its products.
constexpr int groups = lanes > 4 ? 2 : 1;
constexpr int64_t rows_at_once = groups * lanes;
static_assert(screened_rows % rows_at_once == 0);

template <class Vector>
struct Groups {
    Vector of[groups];
};

template <class Operation>
INFALL_HD auto for_each_group(const Operation& operation) -> Groups<decltype(operation(0))> {
    Groups<decltype(operation(0))> results;
    INFALL_UNROLL
    for (int g = 0; g < groups; ++g) results.of[g] = operation(g);
    return results;
}
#define INFALL_GROUPS(expression) \
    for_each_group([&](int g) INFALL_LAMBDA_INLINE { return expression; })

// The operations of philox.h; beside those of one vector, which they would hide elsewhere.
INFALL_HD Groups<Wide> multiply_wide(const Groups<Wide>& a, uint32_t multiplier) {
    return INFALL_GROUPS(multiply_wide(a.of[g], multiplier));
}
INFALL_HD Groups<Wide> high_half(const Groups<Wide>& a) {
    return INFALL_GROUPS(high_half(a.of[g]));
}
INFALL_HD Groups<Wide> xor2(const Groups<Wide>& a, const Groups<Wide>& b) {
    return INFALL_GROUPS(xor2(a.of[g], b.of[g]));
}
INFALL_HD Groups<Wide> xor2(const Groups<Wide>& a, uint32_t b) {
    return INFALL_GROUPS(xor2(a.of[g], b));
}
INFALL_HD Groups<Wide> xor3(const Groups<Wide>& a, const Groups<Wide>& b, Word c) {
    return INFALL_GROUPS(xor3(a.of[g], b.of[g], c));
}
INFALL_HD Groups<Word> xor3(const Groups<Word>& a, const Groups<Word>& b, Word c) {
    return INFALL_GROUPS(xor3(a.of[g], b.of[g], c));
}
INFALL_HD Groups<Word> pack_high(const Groups<Wide>& a) {
    return INFALL_GROUPS(pack_high(a.of[g]));
}
INFALL_HD Groups<Word> pack_low(const Groups<Wide>& a) { return INFALL_GROUPS(pack_low(a.of[g])); }

namespace {

constexpr int64_t block_tile = 512;  // Philox blocks (4 columns each) whose constants are at hand

// What the level does best: a table of 32 entries in two registers, or one of 8; the radius by a
// table of its own where that is two instructions, else by a root.
constexpr int degree = table_entries == 32 ? 1 : 2;
constexpr bool radius_by_table = lanes == 16;
constexpr int64_t pair_size = (degree + 1) * table_entries;
constexpr int piece_bits = table_entries == 32 ? 27 : 29;
constexpr ScreenShape shape{table_entries, degree, degree == 1 ? 0.002409 : 0.002504,
                            radius_by_table ? 0.03025 : (degree == 1 ? 0.0444 : 0.0448),
                            degree == 1 ? 14.5 : 49.0};

// See Broadcast: memory operands rather than registers.
struct ScreenConstants {
    Word k0[philox_rounds], k1[philox_rounds];
    Word log_offset{radius_by_table ? radius_line_offset : root_offset};
    Float scale{root_scale}, shift{root_shift};
    alignas(64) float value[32], slope[32];

    explicit ScreenConstants(PhiloxKey key) {
        for (int round = 0; round < philox_rounds; ++round) {
            k0[round] = Word(key.first(round));
            k1[round] = Word(key.second(round));
        }
        for (int i = 0; i < 32; ++i) {
            value[i] = radius_value[i];
            slope[i] = radius_slope[i];
        }
    }
};

// D of the radius word, a piecewise linear -log2 of its uniform: the bits of a binary32 number
// count its octaves, and its place in one.
INFALL_HD Float piecewise_log(Word radius_word, const ScreenConstants* k) {
    if constexpr (radius_by_table)
        return to_signed_float(k->log_offset - bits_of(to_float(radius_word)));
    else
        return to_signed_float(
            shift_left<4>(k->log_offset - bits_of(to_signed_float(shift_right<1>(radius_word)))));
}

INFALL_HD Float estimated_radius(Float log, const ScreenConstants* k) {
    if constexpr (radius_by_table) {
        const Word half_octave = shift_right<22>(bits_of(log));
        return multiply_add(look_up(k->slope, half_octave), log, look_up(k->value, half_octave));
    } else {
        return multiply_add(square_root(log), k->scale, k->shift);  // NaN where log is negative
    }
}

// w_even a + w_odd b of a pair of columns, by its table (degree + 1, table_entries).
INFALL_HD Float polynomial(const float* table, Word piece, Float angle) {
    Float sum = look_up(table + degree * table_entries, piece);
    INFALL_UNROLL
    for (int power = degree - 1; power >= 0; --power)
        sum = multiply_add(sum, angle, look_up(table + power * table_entries, piece));
    return sum;
}

// One pair of columns of one row group, in two parts that run in different rounds: as one piece its
// chain of latencies would fill the scheduler.
struct EstimatedPair {
    Float log, angle;
    Word piece;

    INFALL_HD void begin(Word radius_word, Word angle_word, const ScreenConstants* k) {
        log = piecewise_log(radius_word, k);
        angle = to_signed_float(angle_word);
        piece = shift_right<piece_bits>(angle_word);
    }
    INFALL_HD Float added_to(Float sum, const float* table, const ScreenConstants* k) const {
        return multiply_add(estimated_radius(log, k), polynomial(table, piece, angle), sum);
    }
};

// The pairs of a column block in each group, one after the other while the rounds of the block that
// follows go on.
struct EstimatedPairs {
    static constexpr int pairs = 2 * groups, stages_each = 8 / pairs;
    EstimatedPair pair[pairs];

    template <int n>
    INFALL_HD void stage(const WordsOf<Groups<Word>>& words, const float* tables,
                         const ScreenConstants* k, Groups<Float>& sums) {
        constexpr int index = n / stages_each, part = n % stages_each, g = index / 2;
        if constexpr (part == 0 && index % 2 == 0)
            pair[index].begin(words.w0.of[g], words.w1.of[g], k);
        if constexpr (part == 0 && index % 2 == 1)
            pair[index].begin(words.w2.of[g], words.w3.of[g], k);
        if constexpr (part == 1)
            sums.of[g] = pair[index].added_to(sums.of[g], tables + index % 2 * pair_size, k);
    }
};

// Keeps the compiler from moving loads of constants and words to where registers are short.
INFALL_HD void fence() { asm volatile("" : : : "memory"); }

// Rows and words of the groups, in memory for the same reason.
struct InMemory {
    PhiloxRows<Groups<Wide>> rows;
    WordsOf<Groups<Word>> words;
};

INFALL_HD PhiloxRows<Groups<Wide>> row_constants(const RowsInOrder& low_rows, int64_t first_group,
                                                 const GaussianLayer& layer, PhiloxKey key) {
    return PhiloxRows<Groups<Wide>>(INFALL_GROUPS(widen(low_rows(first_group + g))), layer.layer,
                                    key);
}

// The sums of a tile of columns, on top of those that are in scores where it `continues`.
void estimate_tile(const GaussianLayer& layer, int64_t first_row, int64_t rows,
                   const PhiloxColumn* columns, int64_t blocks, const float* tables, bool continues,
                   const ScreenConstants* k, float* scores) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const RowsInOrder low_rows(first_row);
    InMemory memory;
    InMemory* m = &memory;
    asm volatile("" : "+r"(m) : : "memory");
    m->rows = row_constants(low_rows, 0, layer, key);
    m->words = block_words(m->rows, columns[0], k, Nothing{});
    for (int64_t step = 0; step < rows / rows_at_once; ++step, scores += rows_at_once) {
        Groups<Float> sums = INFALL_GROUPS(continues ? load(scores + g * lanes) : Float(0.0f));
        for (int64_t block = 0; block < blocks; ++block) {
            int64_t next = block + 1;
            if (next == blocks) {
                next = 0;
                m->rows = row_constants(low_rows, (step + 1) * groups, layer, key);
            }
            EstimatedPairs pairs;
            m->words =
                block_words(m->rows, columns[next], k, [&](auto number) INFALL_LAMBDA_INLINE {
                    fence();
                    pairs.stage<decltype(number)::number>(m->words, tables + 2 * block * pair_size,
                                                          k, sums);
                    fence();
                });
        }
        INFALL_UNROLL
        for (int g = 0; g < groups; ++g) store(scores + g * lanes, sums.of[g]);
    }
}

void estimate(const GaussianLayer& layer, int64_t first_row, int64_t rows, const Weights& weights,
              const float* tables, float* scores) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const ScreenConstants constants(key);
    const ScreenConstants* k = opaque(constants);
    PhiloxColumn columns[block_tile];
    for (int64_t first = 0; first < weights.num_blocks; first += block_tile) {
        const int64_t left = weights.num_blocks - first;
        const int64_t blocks = left < block_tile ? left : block_tile;
        column_constants(layer.matrix, first_row, weights.blocks + first, blocks, key, columns);
        estimate_tile(layer, first_row, rows, columns, blocks, tables + 2 * first * pair_size,
                      first > 0, k, scores);
    }
}

int64_t scores_not_below(const float* scores, int64_t count, float bound, bool absolute,
                         int32_t* positions) {
    int64_t passing = 0, i = 0;
    for (; i + lanes <= count; i += lanes)
        for (uint32_t lane = not_below(load(scores + i), Float(bound), absolute); lane;
             lane &= lane - 1)
            positions[passing++] = static_cast<int32_t>(i) + __builtin_ctz(lane);
    for (; i < count; ++i)
        if (!((absolute ? __builtin_fabsf(scores[i]) : scores[i]) < bound))
            positions[passing++] = static_cast<int32_t>(i);
    return passing;
}

void estimated_radii(uint32_t first_word, int64_t count, float* radius) {
    const ScreenConstants constants(PhiloxKey::from_seed(0));
    for (int64_t i = 0; i < count; i += lanes) {
        const Word word = RowsInOrder(first_word + i)(0);
        store(radius + i, estimated_radius(piecewise_log(word, &constants), &constants));
    }
}

void word_pairs(uint32_t first_word, int64_t count, float* radius, float* a, float* b) {
    const NormalCoefficients<Float> coefficients;
    for (int64_t i = 0; i < count; i += lanes) {
        const Word word = RowsInOrder(first_word + i)(0);
        BoxMuller<Float, Word> pair;
        pair.stage0(word, word, coefficients);
        pair.middle_stage<1>(coefficients);
        pair.middle_stage<2>(coefficients);
        pair.middle_stage<3>(coefficients);
        pair.middle_stage<4>(coefficients);
        pair.middle_stage<5>(coefficients);
        pair.middle_stage<6>(coefficients);
        store(radius + i, pair.radius);
        pair.radius = Float(1.0f);  // leaves (a, b)
        Float point_a, point_b;
        pair.stage7(point_a, point_b);
        store(a + i, point_a);
        store(b + i, point_b);
    }
}

}  // namespace

extern const ScreenKernels screen_kernels{shape, estimate, scores_not_below, estimated_radii,
                                          word_pairs};

}  // namespace infall::INFALL_ISA
