"""Train a network on handwritten digits under a classifier that is fixed: a simplex ETF.

Only the features are learnt. The logits are `frame.project`, the gradient goes back through
`frame.adjoint`, and test digits are classified by `frame.topk`, which makes no array of logits.
"""

import numpy as np

import infall
from infall import frames
from infall.experiments.datasets import load_digits

NUM_CLASSES, WIDTH, DIM = 10, 128, 32
EPOCHS, BATCH, RATE, MOMENTUM, TEMPERATURE = 40, 64, 0.05, 0.9, 8.0

images, labels = load_digits()
images = images - images.mean(axis=0)
is_test = np.arange(len(labels)) % 5 == 0
x, y = images[~is_test], labels[~is_test]

frame = infall.SimplexETF(NUM_CLASSES, DIM, basis="hadamard", seed=0)
rng = np.random.default_rng(0)
weights = [rng.normal(size=s) * np.sqrt(2 / s[0]) for s in ((x.shape[1], WIDTH), (WIDTH, DIM))]
velocities = [np.zeros_like(w) for w in weights]


def features(inputs):
    """Hidden layer (N, WIDTH) and features of unit length (N, DIM), with their lengths."""
    hidden = np.maximum(inputs @ weights[0], 0.0)
    found = hidden @ weights[1]
    lengths = np.linalg.norm(found, axis=1, keepdims=True) + 1e-9
    return hidden, found / lengths, lengths


for _ in range(EPOCHS):
    order = rng.permutation(len(x))
    for first in range(0, len(x), BATCH):
        batch = order[first : first + BATCH]
        hidden, h, lengths = features(x[batch])
        logits = TEMPERATURE * frame.project(h)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        shares[np.arange(len(batch)), y[batch]] -= 1.0  # gradient of the cross-entropy
        back = TEMPERATURE / len(batch) * frame.adjoint(shares)
        back = (back - h * np.sum(back * h, axis=1, keepdims=True)) / lengths
        steps = [x[batch].T @ ((back @ weights[1].T) * (hidden > 0)), hidden.T @ back]
        for layer, step in enumerate(steps):
            velocities[layer] = MOMENTUM * velocities[layer] - RATE * step
            weights[layer] += velocities[layer]

_, h, _ = features(images[is_test])
found = frame.topk(h, 3)
accuracy = np.mean(found.classes[:, 0] == labels[is_test])
print(f"test accuracy: {accuracy:.3f}")
print("a digit:", labels[is_test][0], "its three largest logits:", np.round(found.values[0], 2))
assert accuracy > 0.9

_, h, _ = features(x)
means = np.stack([h[y == c].mean(axis=0) for c in range(NUM_CLASSES)])
fit = frame.nearest(means)
print(f"class means to the nearest ETF: {fit.relative_residual:.3f} of their length")
print(f"angles up to {np.degrees(fit.angles.max()):.1f} degrees")
print(f"NC2: {frames.etf_distance(means):.3f}")
