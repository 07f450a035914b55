"""Train a small network on handwritten digits past zero training error, and watch it collapse.

Writes to the folder digits-collapse, or the one named on the command line:

    last_layer.npz   features, labels, classifier, bias and the test set, for `infall collapse`
    figure.png       the metrics over the epochs, and over the layers at the end
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from infall import CollapseTrajectory
from infall.collapse import layer_coordinates
from infall.experiments.datasets import load_digits

NUM_LAYERS, WIDTH, NUM_CLASSES = 4, 64, 10  # as wide as the digits have pixels
EPOCHS, BATCH = 150, 64
RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 5e-4

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "digits-collapse")
images, labels = load_digits()
images = (images - images.mean(axis=0)).astype(np.float32)
is_test = np.arange(len(labels)) % 5 == 0
x, y = images[~is_test], labels[~is_test]
targets = np.eye(NUM_CLASSES, dtype=np.float32)[y]

rng = np.random.default_rng(0)
sizes = [x.shape[1], *[WIDTH] * NUM_LAYERS, NUM_CLASSES]
weights = [
    (rng.standard_normal((rows, columns)) * np.sqrt(2.0 / rows)).astype(np.float32)
    for rows, columns in pairwise(sizes)
]
biases = [np.zeros(columns, dtype=np.float32) for columns in sizes[1:]]
velocities = dict.fromkeys(range(-len(weights), len(weights)), np.float32(0.0))


def features(inputs):
    """The inputs and the outputs of every ReLU layer."""
    layers = [inputs]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        layers.append(np.maximum(layers[-1] @ weight + bias, 0.0))
    return layers


def train_one_epoch(rate):
    """Squared error to one-hot targets, stochastic gradient descent with momentum."""
    order = rng.permutation(len(x))
    for first in range(0, len(x), BATCH):
        batch = order[first : first + BATCH]
        layers = features(x[batch])
        gradient = (layers[-1] @ weights[-1] + biases[-1] - targets[batch]) / len(batch)
        for number in reversed(range(len(weights))):
            steps = {number: layers[number].T @ gradient, -1 - number: gradient.sum(axis=0)}
            steps[number] += np.float32(WEIGHT_DECAY) * weights[number]
            if number > 0:
                gradient = (gradient @ weights[number].T) * (layers[number] > 0.0)
            for key, step in steps.items():
                velocities[key] = MOMENTUM * velocities[key] + step
                parameters = weights if key >= 0 else biases
                parameters[number] = parameters[number] - np.float32(rate) * velocities[key]


def training_error():
    outputs = features(x)[-1] @ weights[-1] + biases[-1]
    return float(np.mean(outputs.argmax(axis=1) != y))


shown = np.unique(np.geomspace(1, EPOCHS, 16).round().astype(int)).tolist()
over_epochs = CollapseTrajectory("epoch")
fitted = None
for epoch in range(1, EPOCHS + 1):
    train_one_epoch(RATE if epoch <= 0.6 * EPOCHS else RATE / 10)
    if fitted is None and training_error() == 0.0:
        fitted = epoch
    if epoch in shown:
        last = features(x)[-1]
        over_epochs.add(epoch, last, y, classifier=weights[-1].T, bias=biases[-1])

layers = features(x)
over_layers = CollapseTrajectory("layer")
for number, layer in enumerate(layers):
    over_layers.add(number, layer, y)
over_layers.set_coordinates(layer_coordinates(layers))
over_layers.predict(layers[0], layers[-1], y)

console = Console(width=100)
console.print(f"Training error 0 from epoch {fitted} on. Last layer, epoch by epoch:")
console.print(over_epochs.table())
console.print(f"Epoch {EPOCHS}, layer by layer:")
console.print(over_layers.table())
console.print("Effective depth at an error of 1 %:", over_layers.effective_depth(0.01))

folder.mkdir(parents=True, exist_ok=True)
np.savez(
    folder / "last_layer.npz",
    features=layers[-1],
    labels=y,
    classifier=weights[-1].T,
    bias=biases[-1],
    test_features=features(images[is_test])[-1],
    test_labels=labels[is_test],
)
figure = Figure(figsize=(10.0, 4.0), layout="constrained")
left, right = figure.subplots(1, 2)
over_epochs.plot(left, fields=("nc1", "nc2", "nc3", "nc4", "cdnv_mean"))
left.set_xscale("log")
left.axvline(fitted, color="0.6", linewidth=0.8, linestyle=":")
left.set_title("Last layer, over the training (dotted: training error 0)", fontsize=10)
over_layers.plot(right, fields=("nc1", "nc2", "cdnv_mean", "pfc1", "ncc_error"))
right.set_title("Over the layers; pale: geodesic prediction", fontsize=10)
figure.savefig(folder / "figure.png", dpi=110)
console.print(f"Written to {folder}: last_layer.npz, figure.png")

# What the figure shows, as numbers: collapse goes on after the last training error.
nc1 = dict(zip(over_epochs.names, over_epochs.arrays()["nc1"], strict=True))
assert fitted is not None
assert nc1[EPOCHS] < 0.5 * nc1[min(epoch for epoch in shown if epoch >= fitted)]
assert (np.diff(over_layers.arrays()["pfc1"]) < 0.0).all()
