"""The square root of a device (csrc/runtime/scalar.h) is the correctly rounded one.

The hardware estimates r = 1 / sqrt(x) with a relative error of at most 2^-22.9, says NVIDIA's PTX
manual, and no more than that is known of it. One step takes g = x r and h = r / 2 to sqrt(x) and
1 / (2 sqrt(x)), both with a relative error of at most 2^-23.9, nearly all of it from their own
rounding. The root is then g + h (x - g^2), both sums fused. Without its last rounding it has a
relative error of at most e^2 / 2 + e d + 2^-24 e < 2^-45, e that of g and d that of h. So the last
rounding can go wrong only where the root lies that close to the middle of two binary32 numbers.
All those arguments are gone through here, with every estimate the hardware may give. It takes both
parts of the step: where one is left out, the roots of 1.96... and of 4 - 2^-22 may be wrong.
"""

import numpy as np

ESTIMATE_ERROR = 2.0**-22.9
NEAR = 2.0**-19  # units in the last place around the middle, more than 2^-45 of any root


def arguments_near_a_middle():
    """Numbers of [1, 4) whose root is near the middle of two neighbours: powers of 4 scale all."""
    found = []
    for exponent in (-23, -22):
        x = np.ldexp(np.arange(2.0**23, 2.0**24), exponent)
        ulps = np.sqrt(x) * 2.0**23
        found.append(x[np.abs(ulps - np.floor(ulps) - 0.5) < NEAR])
    return np.concatenate(found)


def fused(a, b, c):
    """Return a b + c for binary32 numbers, rounded once."""
    product = a.astype(np.float64) * b.astype(np.float64)  # exact
    total = product + c.astype(np.float64)
    part = total - product
    error = (product - (total - part)) + (c - part)
    # Rounded to odd, the sum in binary64 is rounded to the right number in binary32.
    bits = total.view(np.int64).copy()
    even = (error != 0.0) & (bits % 2 == 0)
    bits[even] += np.where((error > 0.0) == (total > 0.0), 1, -1)[even]
    return bits.view(np.float64).astype(np.float32)


def test_every_estimate_leads_to_the_rounded_root():
    x = arguments_near_a_middle()
    assert len(x) > 10
    root = np.sqrt(x)
    nearest = (1.0 / root).astype(np.float32)
    tried = 0
    for step in range(-4, 5):  # units in the last place: an error of 2^-22.9 is less than 3
        estimate = (nearest.view(np.int32) + step).view(np.float32)
        possible = np.abs(estimate * root - 1.0) <= ESTIMATE_ERROR
        assert not possible.any() or abs(step) < 4
        argument, r = x[possible].astype(np.float32), estimate[possible]
        g, h = argument * r, np.float32(0.5) * r
        error = fused(-g, h, np.full_like(g, 0.5))
        g, h = fused(g, error, g), fused(h, error, h)
        root_of_device = fused(h, fused(-g, g, argument), g)
        np.testing.assert_array_equal(root_of_device, np.sqrt(argument))
        tried += possible.sum()
    assert tried > 2 * len(x)
