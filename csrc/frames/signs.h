// The random signs of a Hadamard frame, for host and device: bit i % 128 of the Philox block with
// the counter (i / 128, round) says whether coordinate i is negated.
#pragma once

#include <cstdint>

#include "random/philox.h"
#include "random/streams.h"

namespace infall {

// Words 4 block ... 4 block + 3 of the signs of a round; bit b of word w belongs to 32 w + b.
INFALL_HD PhiloxBlock frame_signs(uint64_t block, uint32_t round, uint64_t seed) {
    return philox4x32_10(block, frame_sign_bits, round, PhiloxKey::from_seed(seed));
}

}  // namespace infall
