"""Find near neighbours by the Hamming distance of hyperplane codes."""

import numpy as np

import infall
from infall import laws

rng = np.random.default_rng(0)
points = rng.normal(size=(2000, 64))
query = points[:5] + 0.2 * rng.normal(size=(5, 64))

codes = infall.hyperplane_codes(points, 1024, seed=3)
distances = infall.hamming_distances(infall.hyperplane_codes(query, 1024, seed=3), codes)
assert (distances.argmin(axis=1) == np.arange(5)).all()

estimated = distances[:, 0] / 1024
exact = laws.angle(query, points[0]) / np.pi
print("angle / pi by the codes:", np.round(estimated, 3))
print("exactly:                ", np.round(exact, 3))
