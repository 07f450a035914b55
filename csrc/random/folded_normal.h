// Quantiles of |N(0, 1)| in binary64, for the order statistics: IEEE operations in a fixed order,
// so that every instruction set and the device give the same bits. docs/random-rows.md states the
// mapping.
#pragma once

#include <cstdint>
#include <cstring>

#include "random/normal.h"
#include "runtime/host_device.h"
#include "runtime/scalar.h"

namespace infall {

// (exp(-x) - 1 + x) / x^2 for |x| <= 0.35.
INFALL_HD double exponential_remainder(double x) {
    double p = 1.0 / 87178291200;  // 1/14!
    p = fused(p, x, -1.0 / 6227020800);
    p = fused(p, x, 1.0 / 479001600);
    p = fused(p, x, -1.0 / 39916800);
    p = fused(p, x, 1.0 / 3628800);
    p = fused(p, x, -1.0 / 362880);
    p = fused(p, x, 1.0 / 40320);
    p = fused(p, x, -1.0 / 5040);
    p = fused(p, x, 1.0 / 720);
    p = fused(p, x, -1.0 / 120);
    p = fused(p, x, 1.0 / 24);
    p = fused(p, x, -1.0 / 6);
    return fused(p, x, 0.5);
}

// exp(-x) for 0 <= x <= 700.
INFALL_HD double negative_exponential(double x) {
    const int64_t k = static_cast<int64_t>(fused(x, 0x1.71547652b82fep+0, 0.5));
    const double whole = static_cast<double>(k);
    double g = fused(-whole, 0x1.62e42fefa39efp-1, x);
    g = fused(-whole, 0x1.abc9e3b39803fp-56, g);
    const uint64_t bits = static_cast<uint64_t>(1023 - k) << 52;
    double scale;  // 2^-k
    memcpy(&scale, &bits, sizeof scale);
    return scale * (1.0 + fused(g * g, exponential_remainder(g), -g));
}

// The ratio of two polynomials of degree 8, the second one starting with 1. x is positive and so
// are the coefficients, but for a few that matter little: nothing cancels.
INFALL_HD double ratio(double x, const double (&p)[9], const double (&q)[8]) {
    double above = p[8], below = q[7];
    for (int i = 7; i >= 0; --i) {
        above = fused(above, x, p[i]);
        below = fused(below, x, i > 0 ? q[i - 1] : 1.0);
    }
    return above / below;
}

// t with P(|N(0, 1)| < t) = exp(-s), for any s > 0: t = sqrt(2) erfc^-1(1 - exp(-s)). As a function
// of s both ends of the law keep their digits. Within 3 ulp in the tests, the ratios to 2^-55.
INFALL_HD double folded_normal_quantile(double s) {
    if (s > 21.0 / 128) {
        // t / y - 1 as a function of 0.7225 - y^2, y = exp(-s) = erf(t / sqrt 2) <= 0.849.
        const double p[9] = {0x1.631b23d3ddeebp-1,  0x1.bec625fce6c9cp+2,  0x1.a26b3e3d6c2edp+4,
                             0x1.6018b16d463a8p+5,  0x1.d3ab34b88894ap+4,  -0x1.b8eea584e3fc7p+0,
                             -0x1.1da5e1c008eb0p+3, -0x1.40defd4b9f708p+1, -0x1.1c4db43740b8dp-3};
        const double q[8] = {0x1.7cca7c7c08d8ep+3, 0x1.c15c145731b4ap+5, 0x1.0cc9c8edaad7ep+7,
                             0x1.5a30b61e1e5cdp+7, 0x1.d7c645b94c32bp+6, 0x1.389fe9f683121p+5,
                             0x1.4dbaff25a448dp+2, 0x1.68a433ecb6036p-3};
        const double y = negative_exponential(s < 700.0 ? s : 700.0);
        return fused(y, ratio(fused(-y, y, 0.7225), p, q), y);
    }
    // r = sqrt(-2 ln P(|N| >= t)) is larger than t by 0.51 at most, and by ever less.
    const double tail = fused(-(s * s), exponential_remainder(s), s);
    const double log_tail = tail < 0x1p-1000
                                ? natural_log(tail * 0x1p100) - 0x1.1542457337d43p+6  // 100 ln 2
                                : natural_log(tail);
    const double r = square_root(-2.0 * log_tail);
    if (r < 7.0) {
        const double p[9] = {0x1.047198b4430e8p-1,  0x1.01a73ff2232cap+0,  0x1.a40c09afc10d9p-1,
                             0x1.6736652f4fb63p-2,  0x1.4fe0197b52672p-4,  0x1.4210e0afc33cbp-7,
                             0x1.07a2ca2f0c374p-11, 0x1.fb1e4a429f571p-18, 0x1.8ca47f9153589p-28};
        const double q[8] = {0x1.052e25db14093p+1,  0x1.cad30f107b0b9p+0, 0x1.bc4077df949b5p-1,
                             0x1.f864b43d928f2p-3,  0x1.49a1c4b25bdebp-5, 0x1.c38ff4cfbbdabp-9,
                             0x1.0a66e72a37ceep-13, 0x1.62cb147a9515dp-20};
        return r - ratio(r - 1.9375, p, q);
    }
    const double p[9] = {0x1.4149a5410c5c0p-2,  0x1.2de396037e75ep-3,  0x1.b71b894bb0229p-6,
                         0x1.37a61ba7dd270p-9,  0x1.c164ff4767ba6p-14, 0x1.39801aed4608ap-19,
                         0x1.6eba5e4d233b4p-26, 0x1.fb82648b763abp-35, 0x1.ef28bc9a4b769p-48};
    const double q[8] = {0x1.19381a9820941p-1,  0x1.f445d0ad4c569p-4,  0x1.cc9d1259bc415p-7,
                         0x1.d2ab7860e01abp-11, 0x1.003a1187dc634p-15, 0x1.1a0d24c86df6fp-21,
                         0x1.0698666505176p-28, 0x1.14c4de8c2b7d7p-37};
    return r - ratio(r - 7.0, p, q);
}

// The largest of `width` independent |N(0, 1)|, then the next largest, and so on (Renyi 1953):
// minus the logarithms of their distribution functions have independent exponential spacings.
class LargestFoldedNormals {
  public:
    INFALL_HD explicit LargestFoldedNormals(double width) : width_(width) {}

    INFALL_HD double next(double exponential) {
        const double spacing = exponential / (width_ - drawn_);
        drawn_ += 1.0;
        const double sum = sum_ + spacing;  // with its rounding error, after Knuth
        const double added = sum - sum_;
        lost_ += (sum_ - (sum - added)) + (spacing - added);
        sum_ = sum;
        const double t = folded_normal_quantile(sum_ + lost_);
        if (t < last_) last_ = t;  // rounding may swap neighbours that agree to the last place
        return last_;
    }

  private:
    double width_, drawn_ = 0.0, sum_ = 0.0, lost_ = 0.0;
    double last_ = 64.0;  // more than any
};

}  // namespace infall
