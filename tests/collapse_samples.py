"""Small problems for the tests of neural collapse."""

import math

import numpy as np

import reference
from infall import ClassMoments

SHAPES = [(7, 12), (12, 7), (9, 8), (2, 5), (3, 1), (10, 9)]  # K, d: on both sides of K = d + 1
ALL_FIELDS = [
    *("nc1", "nc2", "nc3", "nc3_papyan", "nc4", "cdnv_mean", "cdnv_max", "cdnv_min", "pfc1"),
    *("pfc2", "pfc3", "equinorm", "equiangularity_std", "equiangularity_max"),
    *("classifier_equinorm", "classifier_equiangularity_std", "classifier_equiangularity_max"),
    *("variance_explained", "strong_test_collapse", "weak_test_collapse", "test_ncc_error"),
]


def sample(num_classes, dim, seed=0, noise=0.7, size=9):
    """Features of classes of different sizes, in no order, and a classifier and bias."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, size, num_classes)
    labels = rng.permutation(np.repeat(np.arange(num_classes), sizes))
    means = rng.standard_normal((num_classes, dim)) + 3.0
    features = means[labels] + noise * rng.standard_normal((len(labels), dim))
    return (
        features,
        labels,
        rng.standard_normal((num_classes, dim)),
        rng.standard_normal(num_classes),
    )


def moments_of(features, labels, num_classes=None, **options):
    features = np.asarray(features)
    count = int(np.max(labels)) + 1 if num_classes is None else num_classes
    moments = ClassMoments(count, features.shape[1], **options)
    moments.update(features, labels)
    return moments


def simplex(num_classes, dim, seed=0):
    """A simplex ETF (K, d) of unit vectors, d >= K - 1, turned at random."""
    frame = np.eye(num_classes) - 1.0 / num_classes
    basis = np.linalg.svd(frame)[2][: num_classes - 1]  # (K - 1, K)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]
    return reference.unit_rows(frame @ basis.T @ turn[: num_classes - 1])


def close(value, expected, tolerance=1e-11):
    assert math.isclose(value, expected, rel_tol=tolerance, abs_tol=tolerance), (value, expected)
