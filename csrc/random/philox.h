// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw,
// "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
//
// The rounds are written once, over a word type `Wide` that holds a 32-bit value in the low half
// of a 64-bit lane and may carry anything in the high half: a uint64_t in scalar and device code,
// a vector of such lanes in the SIMD kernels.
#pragma once

#include <cstdint>

#include "runtime/host_device.h"

namespace infall {

constexpr uint32_t philox_m0 = 0xD2511F53u;
constexpr uint32_t philox_m1 = 0xCD9E8D57u;
constexpr uint32_t philox_w0 = 0x9E3779B9u;
constexpr uint32_t philox_w1 = 0xBB67AE85u;
constexpr int philox_rounds = 10;

// Third counter word: the top bits name the stream, the rest the block of the stream.
constexpr uint32_t deciding_stream = 0x80000000u;          // + deciding column
constexpr uint32_t order_statistics_stream = 0xC0000000u;  // one block per order statistic
constexpr uint32_t index_stream = 0xC0000001u;             // one block per drawn row index

// The scalar lane.
INFALL_HD uint64_t multiply_wide(uint64_t a, uint32_t multiplier) {
    return static_cast<uint64_t>(static_cast<uint32_t>(a)) * multiplier;
}
INFALL_HD uint64_t high_half(uint64_t a) { return a >> 32; }
INFALL_HD uint64_t xor3(uint64_t a, uint64_t b, uint32_t c) { return a ^ b ^ c; }
INFALL_HD uint64_t xor2(uint64_t a, uint32_t b) { return a ^ b; }
INFALL_HD uint64_t xor2(uint64_t a, uint64_t b) { return a ^ b; }

template <class Wide>
struct PhiloxState {
    Wide c0, c1, c2, c3;
    Wide p0, p1;  // the two products of the round under way

    INFALL_HD void multiply() {
        p0 = multiply_wide(c0, philox_m0);
        p1 = multiply_wide(c2, philox_m1);
    }
    template <class KeyWord>
    INFALL_HD void mix(KeyWord k0, KeyWord k1) {
        c0 = xor3(high_half(p1), c1, k0);
        c2 = xor3(high_half(p0), c3, k1);
        c1 = p1;
        c3 = p0;
    }
};

struct PhiloxKey {
    uint32_t k0, k1;

    INFALL_HD static PhiloxKey from_seed(uint64_t seed) {
        return {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
    }
    INFALL_HD uint32_t first(int round) const {
        return k0 + static_cast<uint32_t>(round) * philox_w0;
    }
    INFALL_HD uint32_t second(int round) const {
        return k1 + static_cast<uint32_t>(round) * philox_w1;
    }
};

struct PhiloxBlock {
    uint32_t w[4];
};

INFALL_HD PhiloxBlock philox4x32_10(uint64_t row, uint32_t block, uint32_t layer, PhiloxKey key) {
    PhiloxState<uint64_t> s{row & 0xFFFFFFFFu, row >> 32, block, layer, 0, 0};
    for (int round = 0; round < philox_rounds; ++round) {
        s.multiply();
        s.mix(key.first(round), key.second(round));
    }
    return {{static_cast<uint32_t>(s.c0), static_cast<uint32_t>(s.c1), static_cast<uint32_t>(s.c2),
             static_cast<uint32_t>(s.c3)}};
}

// In a block of rows only the low row word varies from row to row, and only the third word from
// column block to column block, so that the first two rounds split into a part per row and a part
// per column block, both of which are computed once and reused.
struct PhiloxColumn {
    uint32_t x0, x2, x3;

    PhiloxColumn() = default;
    INFALL_HD PhiloxColumn(uint32_t row_high, uint32_t block, PhiloxKey key) {
        const uint64_t p1 = multiply_wide(block, philox_m1);
        const uint32_t c0 = static_cast<uint32_t>(high_half(p1)) ^ row_high ^ key.first(0);
        const uint64_t p0 = multiply_wide(c0, philox_m0);
        x0 = static_cast<uint32_t>(p1) ^ key.first(1);
        x2 = static_cast<uint32_t>(high_half(p0)) ^ key.second(1);
        x3 = static_cast<uint32_t>(p0) ^ key.second(2);
    }
};

template <class Wide>
struct PhiloxRows {
    Wide r0, r1, r2;

    PhiloxRows() = default;
    INFALL_HD PhiloxRows(Wide row_low, uint32_t layer, PhiloxKey key) {
        const Wide p0 = multiply_wide(row_low, philox_m0);
        const Wide c2 = xor2(high_half(p0), layer ^ key.second(0));
        const Wide p1 = multiply_wide(c2, philox_m1);
        r0 = high_half(p1);
        r1 = xor2(p1, key.first(2));
        r2 = p0;
    }

    // State after the products of the third round; call `mix_third` next.
    INFALL_HD void start_third(PhiloxState<Wide>& s, const PhiloxColumn& column) const {
        s.p0 = multiply_wide(xor2(r0, column.x0), philox_m0);
        s.p1 = multiply_wide(xor2(r2, column.x2), philox_m1);
    }
    INFALL_HD void mix_third(PhiloxState<Wide>& s, const PhiloxColumn& column) const {
        s.c0 = xor2(high_half(s.p1), r1);
        s.c2 = xor2(high_half(s.p0), column.x3);
        s.c1 = s.p1;
        s.c3 = s.p0;
    }
};

}  // namespace infall
