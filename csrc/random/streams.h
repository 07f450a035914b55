// Who draws which words: the one table of the counters of Philox4x32-10, for host and device.
//
// A counter is a position (64 bits), a block (32 bits) and a layer (32 bits). A matrix of random
// rows takes its row number for the position and four columns per block; rows are numbered below
// 2^63 and blocks below 2^30, so that bit 63 of the position and the two upper bits of the block
// name what the words are for. No two purposes share a counter: docs/random-rows.md states the
// table, and the assertion below holds it.
#pragma once

#include <cstdint>

namespace infall {

constexpr uint32_t matrix_blocks = uint32_t{1} << 30;
constexpr uint32_t upper_positions = uint32_t{1} << 31;  // bit 63 of the position

// Blocks, at positions below 2^63.
constexpr uint32_t deciding_columns = 2 * matrix_blocks;     // + deciding column
constexpr uint32_t order_statistics = 3 * matrix_blocks;     // one position per order statistic
constexpr uint32_t drawn_rows = 3 * matrix_blocks + 1;       // one position per drawn row number
constexpr uint32_t frame_sign_bits = 3 * matrix_blocks + 2;  // one position per 128 signs

// A matrix of random rows: what is or-ed into the upper word of its row numbers, and its block 0.
struct RandomMatrix {
    uint32_t position_bits, first_block;
};
inline constexpr RandomMatrix layer_rows{0, 0};
inline constexpr RandomMatrix hyperplanes{upper_positions, 0};
inline constexpr RandomMatrix haar_matrix{upper_positions, matrix_blocks};
inline constexpr RandomMatrix noise_matrix{upper_positions, 2 * matrix_blocks};  // not drawn yet

struct Purpose {
    const char* name;
    uint32_t position_bits, first_block, num_blocks;
};
inline constexpr Purpose purposes[] = {
    {"rows of layers", layer_rows.position_bits, layer_rows.first_block, matrix_blocks},
    {"deciding columns", 0, deciding_columns, matrix_blocks},
    {"order statistics", 0, order_statistics, 1},
    {"drawn rows", 0, drawn_rows, 1},
    {"frame signs", 0, frame_sign_bits, 1},
    {"hyperplanes", hyperplanes.position_bits, hyperplanes.first_block, matrix_blocks},
    {"haar frames", haar_matrix.position_bits, haar_matrix.first_block, matrix_blocks},
    {"noise", noise_matrix.position_bits, noise_matrix.first_block, matrix_blocks},
};

constexpr bool no_counter_is_shared() {
    for (const Purpose& a : purposes)
        for (const Purpose& b : purposes)
            if (&a != &b && a.position_bits == b.position_bits &&
                a.first_block - b.first_block < b.num_blocks)
                return false;
    return true;
}
static_assert(no_counter_is_shared(), "two purposes draw the same words");

}  // namespace infall
