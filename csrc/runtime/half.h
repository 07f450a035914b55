// 16-bit floats as they lie in memory, for host and device.
#pragma once

#include <cstdint>

#include "runtime/host_device.h"
#include "runtime/scalar.h"

namespace infall {

struct Float16 {
    uint16_t bits;
};
struct BFloat16 {
    uint16_t bits;
};

INFALL_HD float to_float(BFloat16 x) { return float_of(static_cast<uint32_t>(x.bits) << 16); }

INFALL_HD float to_float(Float16 x) {
    const uint32_t sign = (x.bits & 0x8000u) << 16, rest = x.bits & 0x7FFFu;
    if (rest >= 0x7C00u) return float_of(sign | 0x7F800000u | (rest << 13 & 0x007FFFFFu));
    // A power of two moves the exponent, and makes subnormal numbers normal; both are exact.
    return float_of(sign | bits_of(float_of(rest << 13) * 0x1p112f));
}

}  // namespace infall
