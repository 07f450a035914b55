"""Fit a MaxLikelihood network to one handwritten digit and watch the others collapse."""

import numpy as np

from infall import MaxLikelihood, laws
from infall.experiments.datasets import load_digits

images, labels = load_digits()
zero = np.flatnonzero(labels == 0)[0]
others = np.delete(images, zero, axis=0)

model = MaxLikelihood(2**25, depth=8, sampler="order_statistics").fit(images[zero])
print(model)

# Distance of every angle score to the nearer pole, layer by layer, and the law it follows.
to_zero, to_one = model.pole_distances(others, layer=None)
measured = np.minimum(to_zero, to_one).mean(axis=1)
angles = laws.angle_chain(
    np.pi * to_zero[0], 2**25, 64, 8, size=len(others), rng=np.random.default_rng(0)
)
expected = np.minimum(angles, np.pi - angles).mean(axis=1) / np.pi
for layer, (found, law) in enumerate(zip(measured, expected, strict=True)):
    print(f"layer {layer}: distance to the pole {found:.2e}, by the law {law:.2e}")

print("tau per layer:", np.round(np.exp(model.log_norms_) / np.sqrt(64), 3))
print("predicted:    ", round(float(laws.tail_gain(64 / 2**25)), 3))
