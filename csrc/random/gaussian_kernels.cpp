// Compiled once per instruction set with INFALL_ISA naming it. No STL templates here: a weak copy
// built for a newer processor could be linked for everyone.
#include <cstring>

#include "random/gaussian.h"
#include "random/vector_normal.h"

namespace infall::INFALL_ISA {
namespace {

void gaussian_rows(const GaussianLayer& layer, const int64_t* indices, int64_t count,
                   int64_t first_column, int64_t columns, float* out) {
    const PhiloxKey key = PhiloxKey::from_seed(layer.seed);
    const Broadcast broadcast(key);
    const Broadcast* b = opaque(broadcast);
    const int64_t first_block = first_column / 4, blocks = padded_dim(columns) / 4;
    alignas(64) float last[4 * lanes];
    // Lane = column block here: one row at a time, from any place in the layer.
    for (int64_t i = 0; i < count; ++i, out += layer.dim) {
        const uint64_t row = static_cast<uint64_t>(indices[i]);
        for (int64_t first = 0; first < blocks; first += lanes) {
            PhiloxState<Wide> s;
            s.c0 = widen(Word(static_cast<uint32_t>(row)));
            s.c1 = widen(Word(static_cast<uint32_t>(row >> 32) | layer.matrix.position_bits));
            s.c2 =
                widen(Word(layer.matrix.first_block + static_cast<uint32_t>(first_block + first)) +
                      lane_numbers());
            s.c3 = widen(Word(layer.layer));
            for (int round = 0; round < philox_rounds - 1; ++round) {
                s.multiply();
                s.mix(b->k0[round], b->k1[round]);
            }
            s.multiply();
            const Word w0 = xor3(pack_high(s.p1), pack_low(s.c1), b->k0[9]);
            const Word w2 = xor3(pack_high(s.p0), pack_low(s.c3), b->k1[9]);
            Float z0, z1, z2, z3;
            box_muller(w0, pack_low(s.p1), b->normal, z0, z1);
            box_muller(w2, pack_low(s.p0), b->normal, z2, z3);
            const int64_t left = columns - 4 * first;
            store_interleaved(left < 4 * lanes ? last : out + 4 * first, z0, z1, z2, z3);
            if (left < 4 * lanes) memcpy(out + 4 * first, last, sizeof(float) * left);
        }
    }
}

}  // namespace

extern const GaussianKernels gaussian_kernels{gaussian_rows};

}  // namespace infall::INFALL_ISA
