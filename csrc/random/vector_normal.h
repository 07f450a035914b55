// Normals of many rows at a time: lane = row, in the vectors of the instruction set that a source
// is compiled for.
#pragma once

#include "random/gaussian.h"
#include "random/normal.h"
#include "random/philox.h"
#include "runtime/vectors.h"

namespace infall::INFALL_ISA {
namespace {

// Broadcast coefficients and round keys. The kernels reach them through a pointer the compiler
// cannot see through, so that they are memory operands of the instructions that use them and the
// registers are free for what varies.
struct Broadcast {
    NormalCoefficients<Float> normal;
    Word k0[philox_rounds], k1[philox_rounds];

    explicit Broadcast(PhiloxKey key) {
        for (int round = 0; round < philox_rounds; ++round) {
            k0[round] = Word(key.first(round));
            k1[round] = Word(key.second(round));
        }
    }
};

template <class T>
INFALL_HD const T* opaque(const T& constants) {
    const T* p = &constants;
    asm volatile("" : "+r"(p) : : "memory");
    return p;
}

template <int N>
struct Stage {
    static constexpr int number = N;
};
struct Nothing {
    template <int N>
    INFALL_HD void operator()(Stage<N>) const {}
};

template <class W>
struct WordsOf {
    W w0, w1, w2, w3;
};
using Words = WordsOf<Word>;

// From the state that round 3 has left; `between(Stage<1..7>)` runs after the products of rounds 4
// to 10. `b` has the round keys k0, k1. A type of words may hold those of several vectors.
template <class WideWords, class RoundKeys, class Between>
INFALL_HD auto last_rounds(PhiloxState<WideWords>& s, const RoundKeys* b, Between&& between)
    -> WordsOf<decltype(pack_low(s.c0))> {
    const auto round = [&](auto stage) INFALL_LAMBDA_INLINE {
        constexpr int index = decltype(stage)::number + 2;
        s.multiply();
        between(stage);
        s.mix(b->k0[index], b->k1[index]);
    };
    round(Stage<1>{});
    round(Stage<2>{});
    round(Stage<3>{});
    round(Stage<4>{});
    round(Stage<5>{});
    round(Stage<6>{});
    s.multiply();
    between(Stage<7>{});
    return {xor3(pack_high(s.p1), pack_low(s.c1), b->k0[9]), pack_low(s.p1),
            xor3(pack_high(s.p0), pack_low(s.c3), b->k1[9]), pack_low(s.p0)};
}

// One Philox block per row; `between(Stage<0..7>)` runs after the products of rounds 3 to 10.
template <class WideWords, class RoundKeys, class Between>
INFALL_HD auto block_words(const PhiloxRows<WideWords>& rows, const PhiloxColumn& column,
                           const RoundKeys* b, Between&& between)
    -> WordsOf<decltype(pack_low(rows.r0))> {
    PhiloxState<WideWords> s;
    rows.start_third(s, column);
    between(Stage<0>{});
    rows.mix_third(s, column);
    return last_rounds(s, b, between);
}

// As block_words; lane = any counter.
template <class Between>
INFALL_HD Words counter_words(Word low_position, Word high_position, Word block, uint32_t layer,
                              const Broadcast* b, Between&& between) {
    PhiloxState<Wide> s;
    s.c0 = widen(low_position);
    s.c1 = widen(high_position);
    s.c2 = widen(block);
    s.c3 = widen(Word(layer));
    INFALL_UNROLL
    for (int round = 0; round < 2; ++round) {
        s.multiply();
        s.mix(b->k0[round], b->k1[round]);
    }
    s.multiply();
    between(Stage<0>{});
    s.mix(b->k0[2], b->k1[2]);
    return last_rounds(s, b, between);
}

INFALL_HD PhiloxRows<Wide> row_constants(Word low_rows, const GaussianLayer& layer, PhiloxKey key) {
    return PhiloxRows<Wide>(widen(low_rows), layer.layer, key);
}

// The lower words of the rows of each group: first_row, first_row + 1, ... Unsigned, as the group
// that is looked ahead at may lie past the last row there can be.
struct RowsInOrder {
    uint32_t first_row;

    explicit RowsInOrder(int64_t first_row_) : first_row(static_cast<uint32_t>(first_row_)) {}
    INFALL_HD Word operator()(int64_t group) const {
        return Word(first_row + static_cast<uint32_t>(group * lanes)) + lane_numbers();
    }
};

INFALL_HD PhiloxColumn column_constants(RandomMatrix matrix, int64_t first_row, uint32_t block,
                                        PhiloxKey key) {
    const uint32_t row_high = static_cast<uint32_t>(static_cast<uint64_t>(first_row) >> 32);
    return PhiloxColumn(row_high | matrix.position_bits, matrix.first_block + block, key);
}
// Of the blocks `blocks` (count) of `matrix`, at rows that share the upper word of first_row.
inline void column_constants(RandomMatrix matrix, int64_t first_row, const uint32_t* blocks,
                             int64_t count, PhiloxKey key, PhiloxColumn* columns) {
    for (int64_t i = 0; i < count; ++i)
        columns[i] = column_constants(matrix, first_row, blocks[i], key);
}
// Of the blocks first_block, ...
inline void column_constants(RandomMatrix matrix, int64_t first_row, int64_t first_block,
                             int64_t count, PhiloxKey key, PhiloxColumn* columns) {
    for (int64_t i = 0; i < count; ++i)
        columns[i] =
            column_constants(matrix, first_row, static_cast<uint32_t>(first_block + i), key);
}

// The normals of the words of a block, in stages that run between the rounds of the next one.
struct BlockNormals {
    Float z0, z1, z2, z3;

    template <int n>
    INFALL_HD void stage(const Words& words, const NormalCoefficients<Float>& k) {
        if constexpr (n == 0) {
            even_.stage0(words.w0, words.w1, k);
            odd_.stage0(words.w2, words.w3, k);
        } else if constexpr (n == 7) {
            even_.stage7(z0, z1);
            odd_.stage7(z2, z3);
        } else {
            even_.template middle_stage<n>(k);
            odd_.template middle_stage<n>(k);
        }
    }

  private:
    BoxMuller<Float, Word> even_, odd_;
};

// Normals of `groups` row groups, whose rows low_rows(group) tells, in the column blocks of
// `columns`: sink(block, z0, z1, z2, z3) per block in order, sink.end_group() after the last of a
// group. The words of a block are drawn while the block before it is turned into normals.
template <class LowRows, class Sink>
INFALL_HD void generate(const GaussianLayer& layer, const LowRows& low_rows, int64_t groups,
                        const PhiloxColumn* columns, int64_t blocks, const Broadcast* b,
                        Sink& sink) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    PhiloxRows<Wide> rows = row_constants(low_rows(0), layer, key);
    Words words = block_words(rows, columns[0], b, Nothing{});
    int64_t group = 0, block = 0;
    for (int64_t left = groups * blocks; left > 0; --left) {
        int64_t next = block + 1;
        if (next == blocks) {
            next = 0;
            rows = row_constants(low_rows(++group), layer, key);
        }
        BlockNormals z;
        const auto stage = [&](auto number) INFALL_LAMBDA_INLINE {
            z.stage<decltype(number)::number>(words, b->normal);
        };
        words = block_words(rows, columns[next], b, stage);
        sink(block, z.z0, z.z1, z.z2, z.z3);
        if (next == 0) sink.end_group();
        block = next;
    }
}

// Some blocks of given rows, row after row, a vector of blocks at a time.
class BlocksOfRows {
  public:
    BlocksOfRows(const int64_t* rows, int64_t count, int64_t first_block, int64_t blocks)
        : rows_(rows), count_(count), first_block_(first_block), blocks_(blocks) {}

    // Row and block of the next vector's lanes; past the last block they may be any.
    INFALL_HD void next(Word& low_row, Word& high_row, Word& block) {
        // Each row is written over the lanes behind it, too, which the next one then takes.
        alignas(64) uint32_t low[2 * lanes], high[2 * lanes], numbers[2 * lanes];
        int64_t lane = 0;
        do {
            const auto row = static_cast<uint64_t>(rows_[row_]);
            store(low + lane, Word(static_cast<uint32_t>(row)));
            store(high + lane, Word(static_cast<uint32_t>(row >> 32)));
            store(numbers + lane,
                  Word(static_cast<uint32_t>(first_block_ + block_)) + lane_numbers());
            lane += blocks_ - block_;
            block_ = 0;
            ++row_;
        } while (lane < lanes && row_ < count_);
        if (lane > lanes) {
            --row_;
            block_ = blocks_ - (lane - lanes);
        }
        if (row_ == count_) row_ = 0;  // a vector may be asked for that is not needed
        low_row = load_words(low);
        high_row = load_words(high);
        block = load_words(numbers);
    }

  private:
    const int64_t* rows_;
    int64_t count_, first_block_, blocks_;
    int64_t row_ = 0, block_ = 0;  // of the next lane
};

}  // namespace
}  // namespace infall::INFALL_ISA
