// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw,
// "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
//
// The rounds are written once, over a word type `Wide`: a 32-bit value beside which there is room
// for the upper half of a product. It is a pair of words in scalar and device code, and vectors in
// the SIMD kernels.
#pragma once

#include <cstdint>

#include "runtime/host_device.h"
#include "runtime/scalar.h"

namespace infall {

constexpr uint32_t philox_m0 = 0xD2511F53u;
constexpr uint32_t philox_m1 = 0xCD9E8D57u;
constexpr uint32_t philox_w0 = 0x9E3779B9u;
constexpr uint32_t philox_w1 = 0xBB67AE85u;
constexpr int philox_rounds = 10;

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

// The same words, added up beforehand: as an argument of a CUDA kernel they are constants of its
// instructions, which else would add them up for every block.
struct PhiloxRoundKeys {
    uint32_t k0[philox_rounds], k1[philox_rounds];

    static PhiloxRoundKeys from_seed(uint64_t seed) {
        const PhiloxKey key = PhiloxKey::from_seed(seed);
        PhiloxRoundKeys keys;
        for (int round = 0; round < philox_rounds; ++round) {
            keys.k0[round] = key.first(round);
            keys.k1[round] = key.second(round);
        }
        return keys;
    }
    INFALL_HD uint32_t first(int round) const { return k0[round]; }
    INFALL_HD uint32_t second(int round) const { return k1[round]; }
};

struct PhiloxBlock {
    uint32_t w[4];
};

template <class Key>
INFALL_HD PhiloxBlock philox4x32_10(uint64_t position, uint32_t block, uint32_t layer,
                                    const Key& key) {
    PhiloxState<ScalarWide> s{{static_cast<uint32_t>(position), 0},
                              {static_cast<uint32_t>(position >> 32), 0},
                              {block, 0},
                              {layer, 0},
                              {},
                              {}};
    for (int round = 0; round < philox_rounds; ++round) {
        s.multiply();
        s.mix(key.first(round), key.second(round));
    }
    return {{s.c0.low, s.c1.low, s.c2.low, s.c3.low}};
}

// In a block of rows only the low row word varies from row to row, and only the third word from
// column block to column block, so that the first two rounds split into a part per row and a part
// per column block, both of which are computed once and reused.
struct PhiloxColumn {
    uint32_t x0, x2, x3;

    PhiloxColumn() = default;
    template <class Key>
    INFALL_HD PhiloxColumn(uint32_t row_high, uint32_t block, const Key& key) {
        const ScalarWide p1 = multiply_wide(ScalarWide{block, 0}, philox_m1);
        const ScalarWide p0 =
            multiply_wide(ScalarWide{p1.high ^ row_high ^ key.first(0), 0}, philox_m0);
        x0 = p1.low ^ key.first(1);
        x2 = p0.high ^ key.second(1);
        x3 = p0.low ^ key.second(2);
    }
};

template <class Wide>
struct PhiloxRows {
    Wide r0, r1, r2;

    PhiloxRows() = default;
    template <class Key>
    INFALL_HD PhiloxRows(Wide row_low, uint32_t layer, const Key& key) {
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
