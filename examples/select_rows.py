"""Select the rows of a wide layer, at once and in parts that are merged."""

import numpy as np

import infall

digits = np.random.default_rng(0).random(64)  # stands for an image of 64 pixels
width = 2**20

whole = infall.select_rows(digits, width, seed=1)
print(whole)
print("largest score:", np.abs(whole.projections).max() / np.linalg.norm(digits))

# The same in two parts, as two machines would do it.
parts = [
    infall.select_rows(digits, width, seed=1, row_range=(0, width // 3)),
    infall.select_rows(digits, width, seed=1, row_range=(width // 3, width)),
]
merged = infall.merge_selections(parts)
assert np.array_equal(merged.rows, whole.rows)

# Any row can be had again from its number.
again = infall.gaussian_rows(whole.indices, 64, seed=1)
assert np.array_equal(again, whole.rows)

# One column decides after a rotation; only the selected rows are drawn from order statistics.
for sampler in ("rotated", "order_statistics"):
    print(infall.select_rows(digits, 2**25, sampler=sampler))
