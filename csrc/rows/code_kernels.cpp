// Compiled once per instruction set with INFALL_ISA naming it. No STL templates here: a weak copy
// built for a newer processor could be linked for everyone.
#include <cstring>

#include "rows/codes.h"
#include "runtime/vectors.h"

namespace infall::INFALL_ISA {
namespace {

void pack_signs(const float* projections, int64_t count, uint8_t* out) {
    for (int64_t first = 0; first < count; first += 16, out += 2) {
        uint32_t bits = 0;
        INFALL_UNROLL
        for (int i = 0; i < 16; i += lanes)
            bits |= at_least(load(projections + first + i), Float(0.0f), false) << i;
        const int64_t left = count - first;
        if (left < 16) bits &= (1u << left) - 1;
        out[0] = static_cast<uint8_t>(bits);
        if (left > 8) out[1] = static_cast<uint8_t>(bits >> 8);
    }
}

INFALL_HD Long load_bits(const uint8_t* p) {
    Long bits;
    memcpy(&bits, p, sizeof bits);
    return bits;
}

template <bool by_vectors>
INFALL_HD int64_t differing_bits(const uint8_t* a, const uint8_t* b, int64_t bytes) {
    int64_t count = 0, i = 0;
    if (by_vectors) {
        Long counts{};
        for (; i + vector_bytes <= bytes; i += vector_bytes)
            counts = add_bits(counts, load_bits(a + i) ^ load_bits(b + i));
        for (int lane = 0; lane < double_lanes; ++lane) count += counts[lane];
    }
    for (; i + 8 <= bytes; i += 8) {
        uint64_t x, y;
        memcpy(&x, a + i, 8);
        memcpy(&y, b + i, 8);
        count += __builtin_popcountll(x ^ y);
    }
    for (; i < bytes; ++i) count += __builtin_popcount(static_cast<unsigned>(a[i] ^ b[i]));
    return count;
}

// A function of its own for either way: together they would run out of registers.
template <bool by_vectors>
[[gnu::noinline]] void distances(const uint8_t* a, int64_t a_count, const uint8_t* b,
                                 int64_t b_count, int64_t bytes, int32_t* out) {
    constexpr int64_t tile = 64;  // codes of b that stay in the cache while those of a pass
    for (int64_t first = 0; first < b_count; first += tile) {
        const int64_t last = first + tile < b_count ? first + tile : b_count;
        for (int64_t i = 0; i < a_count; ++i)
            for (int64_t j = first; j < last; ++j)
                out[i * b_count + j] = static_cast<int32_t>(
                    differing_bits<by_vectors>(a + i * bytes, b + j * bytes, bytes));
    }
}

void hamming_distances(const uint8_t* a, int64_t a_count, const uint8_t* b, int64_t b_count,
                       int64_t bytes, int32_t* out) {
    constexpr int64_t shortest = 128;  // below, adding up the lanes takes longer
    if (has_bit_counts && bytes >= shortest)
        distances<true>(a, a_count, b, b_count, bytes, out);
    else
        distances<false>(a, a_count, b, b_count, bytes, out);
}

}  // namespace

extern const CodeKernels code_kernels{pack_signs, hamming_distances};

}  // namespace infall::INFALL_ISA
