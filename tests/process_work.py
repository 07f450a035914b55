"""What worker processes compute, in a module that they can import."""

import hashlib

import numpy as np

import infall

FEATURES = np.random.default_rng(0).standard_normal((600, 7)).astype(np.float32)
LABELS = np.arange(600) % 3


def digest():
    """Return a digest of results of the kernels of every stem."""
    selection = infall.select_rows(FEATURES[0], 20_000, seed=5)
    moments = infall.ClassMoments(3, 7, scatter=True)
    moments.update(FEATURES, LABELS)
    frame = infall.SimplexETF(5, 7, basis="hadamard", seed=2)
    parts = (
        selection.indices,
        selection.rows,
        infall.hyperplane_codes(FEATURES, 64),
        moments.means,
        moments.within_scatter,
        frame.project(FEATURES),
    )
    return hashlib.sha256(
        b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    ).hexdigest()


def moments_of(part):
    """Return the moments of a part of the features."""
    moments = infall.ClassMoments(3, 7)
    moments.update(FEATURES[part], LABELS[part])
    return moments


def update(moments, part):
    """Return moments, which may be read-only in memory, with a part more."""
    moments.update(FEATURES[part], LABELS[part])
    return moments


class FeatureDigests:
    """A data set of PyTorch whose samples are made by the engine."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        with infall.num_threads(1):
            return digest()
