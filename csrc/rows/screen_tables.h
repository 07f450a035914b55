// Fitted constants of the screen's estimates. docs/screening.md says what each is the best of its
// kind for; tests/rows/test_screen.py fits them again.
#pragma once

#include <cstdint>

namespace infall {

// The unit circle near (1, 0), at an angle |t| of at most half a piece:
// (radial - bend t^2, tangential t).
struct ArcFit {
    double radial, bend, tangential;
};
constexpr ArcFit arcs_of_32nds{0.9975923633360985, 0.0, 0.9987957464127999};
constexpr ArcFit arcs_of_eighths{0.9998770897233328, 0.4936074153833292, 0.9808592131152556};

// The radius as a line in D, which counts a piecewise linear -log2 of the uniform, plus 2^-8, in
// units of 2^-23: one line for each half octave of D, addressed by the last five of the upper ten
// bits of D as a binary32 number. Entries that no word reaches are zero.
alignas(64) constexpr float radius_value[] = {0x1.750f1p-5f,
                                              0x1.018282p-4f,
                                              0x1.4df9eap-4f,
                                              0x1.a370e4p-4f,
                                              0x1.01f3bap-3f,
                                              0x1.391f04p-3f,
                                              0x1.7804c6p-3f,
                                              0x1.bf90cap-3f,
                                              0x1.07572cp-2f,
                                              0x1.3138b2p-2f,
                                              0x1.55814cp-2f,
                                              0x1.5ed304p-2f,
                                              0x1.74b86ap-1f,
                                              0x1.34a602p-1f,
                                              0x1.cf4892p-1f,
                                              0x1.151112p+0f,
                                              0x1.4bc916p+0f,
                                              0x1.8aa3cp+0f,
                                              0x1.d6a2bp+0f,
                                              0x1.17d5eap+1f,
                                              0x1.4d483cp+1f,
                                              0x1.9691ccp+1f,
                                              0x1.a65a98p+2f,
                                              0.0f,
                                              0.0f,
                                              0.0f,
                                              0x1.b0e08ep+2f,
                                              0.0f,
                                              -0x1.5380a2p-4f,
                                              -0x1.541e54p-7f,
                                              0x1.6edec4p-7f,
                                              0x1.d9b3fap-6f};
alignas(64) constexpr float radius_slope[] = {0x1.039046p-21f,
                                              0x1.a739a2p-22f,
                                              0x1.5c0d0cp-22f,
                                              0x1.2262dp-22f,
                                              0x1.e601eap-23f,
                                              0x1.9b965cp-23f,
                                              0x1.5dccb2p-23f,
                                              0x1.2d876ap-23f,
                                              0x1.06a0aap-23f,
                                              0x1.d49bep-24f,
                                              0x1.b096c8p-24f,
                                              0x1.a9877cp-24f,
                                              0x1.c8d736p-25f,
                                              0x1.0e5e72p-24f,
                                              0x1.7ebe22p-25f,
                                              0x1.429f3ep-25f,
                                              0x1.0ed2aap-25f,
                                              0x1.c8fe22p-26f,
                                              0x1.7f0e46p-26f,
                                              0x1.43121ep-26f,
                                              0x1.0ed5f8p-26f,
                                              0x1.bbd7ccp-27f,
                                              0.0f,
                                              0.0f,
                                              0.0f,
                                              0.0f,
                                              0.0f,
                                              0.0f,
                                              0x1.6a208ap-19f,
                                              0x1.2c3f0ep-20f,
                                              0x1.a91246p-21f,
                                              0x1.46a78cp-21f};
constexpr uint32_t radius_line_offset = (159u << 23) + (1u << 15);  // the bits of 2^32, and 2^-8

// The radius as root_scale sqrt(D) + root_shift, for D in units of 2^-27, which fit 31 bits for
// uniforms above 2^-16; D is negative below.
constexpr float root_scale = 0x1.b11b56p-14f;
constexpr float root_shift = -0.0544465673f;
constexpr uint32_t root_offset = (158u << 23) + 7341u;  // the bits of 2^31, and 7341 2^-23

}  // namespace infall
