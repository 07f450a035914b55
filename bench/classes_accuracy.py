"""Tables of the ``classes_accuracy`` stem: what collapse leaves of NC1, tr Σ_W and CDNV.

Features collapse to class means that share an offset. Every method gets the same samples, rounded
to float32, and is held against two passes in float64 over these rounded samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import class_peers
from class_peers import Moments
from classes import labelled_features
from harness import Case, ErrorTable
from rows import Run

if TYPE_CHECKING:
    import numpy as np

    import infall

NOISES = (1e-1, 1e-3, 1e-5, 1e-7)  # within a class, in each feature
OFFSETS = (0.0, 100.0)  # of all features; class means differ by about 1
COLUMNS = [f"{noise:.0e}, offset {offset:g}" for offset in OFFSETS for noise in NOISES]


class Values(NamedTuple):
    """What a method finds; None for what it does not measure."""

    nc1: float
    trace: float
    cdnv: float | None


Method = Callable[["np.ndarray", "np.ndarray", int], Values]

QUANTITIES = {"nc1": "NC1", "trace": "tr Σ_W", "cdnv": "CDNV"}


def problems(*, quick: bool, threads: int) -> list[ErrorTable]:
    """All tables of the stem."""
    return [errors(2_000, 32, 10, threads) if quick else errors(10_000, 128, 10, threads)]


def errors(num_samples: int, dim: int, num_classes: int, threads: int) -> ErrorTable:
    """The engine in memory and from streams, and the peers, over noise and offset."""

    def case(name: str, library: str, method: str, **options: Any) -> Case:
        sizes = {"num_samples": num_samples, "dim": dim, "num_classes": num_classes}
        return Case(
            name,
            library,
            "method_errors",
            {**sizes, "method": method, "options": options},
            threads=threads,
            library_threads=threads,
            small={"num_samples": 64, "dim": 8, "num_classes": 4},
        )

    streams = [
        case(f"one pass, batches of {batch}", "infall", "streamed", batch=batch)
        for batch in (1, 7, 512, num_samples)
    ]
    return ErrorTable(
        f"n{num_samples}-d{dim}-k{num_classes}",
        f"relative errors over within-class noise and offset, N = {num_samples}, d = {dim}, "
        f"K = {num_classes}",
        COLUMNS,
        [
            case("in memory", "infall", "in_memory"),
            *streams,
            case("one pass, merged from 4 parts", "infall", "merged", parts=4),
            case("NumPy float32, pinv", "scipy", "by_pinv", pinv="numpy", dtype="float32"),
            case("NumPy float64, pinv", "scipy", "by_pinv", pinv="numpy", dtype="float64"),
            case("SciPy float64, pinvh", "scipy", "by_pinv", pinv="scipy", dtype="float64"),
            case("E[h hᵀ] - μ μᵀ, float32", "scipy", "textbook", dtype="float32"),
            case("E[h hᵀ] - μ μᵀ, float64", "scipy", "textbook", dtype="float64"),
            case("scikit-learn LDA", "sklearn", "sklearn"),
            case("PyTorch float32, two passes", "torch", "torch"),
            case("neural_collapse", "neural_collapse", "neural_collapse"),
        ],
    )


def method_errors(
    method: str, num_samples: int, dim: int, num_classes: int, options: dict[str, Any]
) -> Run:
    """One method's relative errors, by quantity, in the order of the columns."""
    measure: Method = METHODS[method]
    # Made before the run: what is missing is known at once, and what fails fails there.
    inputs = [
        labelled_features(num_samples, dim, num_classes, noise, offset)
        for offset in OFFSETS
        for noise in NOISES
    ]

    def run() -> dict[str, list[float | None]]:
        errors: dict[str, list[float | None]] = {}
        for features, labels in inputs:
            expected = reference_values(features, labels, num_classes)
            values = measure(features, labels, num_classes, **options)
            for key, value in values._asdict().items():
                if value is None:
                    continue
                error = relative_error(float(value), getattr(expected, key))
                errors.setdefault(QUANTITIES[key], []).append(error)
        return errors

    return run


def relative_error(value: float, expected: float) -> float | None:
    """The error in units of what is right, None where it is not finite."""
    if value == expected:  # both zero, where rounding has left nothing within the classes
        return 0.0
    error = abs(value - expected) / expected if expected else math.inf
    return error if math.isfinite(error) else None


def reference_values(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Values:
    """Two passes in float64, class by class, and the K - 1 directions between the means; K <= d."""
    import numpy as np

    classes = [features[labels == c].astype(np.float64) for c in range(num_classes)]
    means = np.array([samples.mean(axis=0) for samples in classes])
    # A mean of float64 numbers around 100 is right to 1e-14; so is what is left, relative to it.
    means += [(samples - mean).mean(axis=0) for samples, mean in zip(classes, means, strict=True)]
    deviations = [samples - mean for samples, mean in zip(classes, means, strict=True)]
    centred = means - means.mean(axis=0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    directions = (rows[:-1] / singular[:-1, None]).T
    squares = np.array([np.square(block).sum() for block in deviations])
    along = sum(np.square(block @ directions).sum() for block in deviations)
    counts = [len(block) for block in deviations]
    return Values(
        float(along) / len(features),
        float(squares.sum()) / len(features),
        class_peers.mean_cdnv(centred, squares / counts),
    )


# The engine.


def in_memory(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Values:
    """From arrays: a pass for the moments, one for NC1."""
    import infall

    return values_of(infall.collapse_report(features, labels, metrics=["nc1", "cdnv"]))


def streamed(features: np.ndarray, labels: np.ndarray, num_classes: int, batch: int) -> Values:
    """From moments of one pass, with the scatter."""
    import infall

    moments = infall.ClassMoments(num_classes, features.shape[1], scatter=True)
    for rows in class_peers.row_blocks(len(features), batch):
        moments.update(features[rows], labels[rows])
    return values_of(infall.collapse_report(moments, metrics=["nc1", "cdnv"]))


def merged(features: np.ndarray, labels: np.ndarray, num_classes: int, parts: int) -> Values:
    """From moments of parts of the samples, merged."""
    import infall

    whole = infall.ClassMoments(num_classes, features.shape[1], scatter=True)
    for rows in class_peers.row_blocks(len(features), -(-len(features) // parts)):
        part = infall.ClassMoments(num_classes, features.shape[1], scatter=True)
        part.update(features[rows], labels[rows])
        whole.merge(part)
    return values_of(infall.collapse_report(whole, metrics=["nc1", "cdnv"]))


def values_of(report: infall.CollapseReport) -> Values:
    return Values(report.nc1, report.trace_within, report.cdnv_mean)


# The peers.


def of_moments(moments: Moments, nc1: float) -> Values:
    trace = float(moments.within.trace())
    if moments.variances is None:
        return Values(nc1, trace, None)
    return Values(nc1, trace, class_peers.mean_cdnv(moments.means, moments.variances))


def by_pinv(
    features: np.ndarray, labels: np.ndarray, num_classes: int, pinv: str, dtype: str
) -> Values:
    """Two passes and a pseudo-inverse, all in `dtype`."""
    moments = class_peers.numpy_moments(features, labels, num_classes, dtype, scatter=True)
    return of_moments(moments, class_peers.nc1_by_pinv(moments, pinv, dtype))


def textbook(features: np.ndarray, labels: np.ndarray, num_classes: int, dtype: str) -> Values:
    """One pass; NC1 by directions, which no cutoff can spoil."""
    moments = class_peers.numpy_one_pass(features, labels, num_classes, dtype)
    return of_moments(moments, class_peers.nc1_by_directions(moments))


def sklearn(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Values:
    """Its pooled covariance."""
    moments = class_peers.sklearn_scatter(features, labels, num_classes)
    return of_moments(moments, class_peers.nc1_by_directions(moments))


def torch(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Values:
    """Two passes, and NC1 by the directions between the means."""
    moments = class_peers.torch_moments(features, labels, num_classes, scatter=True)
    return of_moments(moments, class_peers.torch_between_nc1(features, labels, num_classes))


def neural_collapse(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Values:
    """Its accumulators, NC1 by its pseudo-inverse, and its CDNV."""
    moments = class_peers.neural_collapse_moments(
        features, labels, num_classes, variances=True, scatter=True
    )
    return Values(
        class_peers.neural_collapse_ratio(moments, "pinv"),
        float(moments.within.trace()),
        class_peers.neural_collapse_cdnv(moments.means, moments.variances),
    )


METHODS = {
    method.__name__: method
    for method in (
        in_memory,
        streamed,
        merged,
        by_pinv,
        textbook,
        sklearn,
        torch,
        neural_collapse,
    )
}
