"""Neural collapse: its metrics one by one, and all of them in a `CollapseReport`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infall._arrays import Progress, one_of, to_numpy
from infall.classes import ClassMoments, GlobalMean
from infall.collapse._between import CDNV, Equiangularity, UndefinedMetric
from infall.collapse._inputs import (
    Weighting,
    decision_rows,
    number_between,
)
from infall.collapse._measurement import Conventions, Labelled, Measurement
from infall.collapse._metrics import (
    between_rank,
    cdnv,
    cdnv_matrix,
    equiangularity,
    equinorm,
    nc1,
    nc2,
    nc3,
    nc3_papyan,
    pfc1,
    pfc2,
    variance_explained,
)
from infall.collapse._report import METRICS, CollapseReport
from infall.collapse._sample_metrics import (
    CollapseOnTest,
    StrongResiduals,
    collapse_on_test,
    effective_depth,
    layer_coordinates,
    nc4,
    ncc_error,
    pfc3,
    strong_residuals,
)
from infall.collapse._samples import ArraySamples, LineSamples, Samples

__all__ = [
    "CDNV",
    "METRICS",
    "CollapseOnTest",
    "CollapseReport",
    "Equiangularity",
    "StrongResiduals",
    "UndefinedMetric",
    "between_rank",
    "cdnv",
    "cdnv_matrix",
    "collapse_on_test",
    "collapse_report",
    "effective_depth",
    "equiangularity",
    "equinorm",
    "geodesic_reports",
    "layer_coordinates",
    "nc1",
    "nc2",
    "nc3",
    "nc3_papyan",
    "nc4",
    "ncc_error",
    "pfc1",
    "pfc2",
    "pfc3",
    "strong_residuals",
    "variance_explained",
]


def collapse_report(
    features: Any,
    labels: Any = None,
    *,
    classifier: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    classes: Sequence[Hashable] | None = None,
    global_mean: GlobalMean = "classes",
    weighting: Weighting = "samples",
    metrics: Iterable[str] | None = None,
    test_features: Any = None,
    test_labels: Any = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> CollapseReport:
    """Measure how far features have collapsed.

    Parameters
    ----------
    features : array, shape (N, d), or ClassMoments
        float16, bfloat16, float32 or float64: NumPy, PyTorch on the CPU, or memory-mapped, which
        are read block by block. From ClassMoments all metrics follow that need no samples; NC1
        too if they hold the scatter.
    labels : array or sequence, shape (N,)
        Class numbers, or names in `classes`. None with ClassMoments.
    classifier : array, shape (num_classes, d), optional
        Weights A of the last layer.
    bias : array, shape (num_classes,), optional
        Of the last layer, zero by default.
    classes : sequence of hashables, optional
        Names of the classes. Without them there are as many as `classifier` has rows, or else up
        to the largest label.
    global_mean : {"classes", "samples"}
        Centre of the class means.
    weighting : {"samples", "classes"}
        Weights in Sigma_W: 1/N, or 1/(K n_c).
    metrics : iterable of str, optional
        Some of `METRICS`; by default all that can be had from what is given.
    test_features, test_labels : arrays, shapes (T, d) and (T,), optional
        Samples that the class means were not made from.
    num_threads : int, optional
        All processors by default; does not change the result but for what NumPy's own matrix
        products round.
    progress : callable, optional
        Called as progress(done, total, stage), stage a few words; what it raises stops the call.

    Returns
    -------
    CollapseReport
        The numbers, and by which conventions they were taken.

    Raises
    ------
    TypeError
        For arrays in device memory, and dtypes that are not taken; as `ClassMoments.update`.
    ValueError
        For shapes that do not match, entries that are not finite, labels out of range, unknown
        `metrics`, and such as need what is not given.

    Notes
    -----
    Two passes over the features, three with `pfc3` or `nc4`; memory is that of K d numbers and a
    block. docs/collapse.md explains each metric.

    Examples
    --------
    >>> import numpy as np
    >>> import infall
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(300) % 3
    >>> features = np.eye(3, 8)[labels] + 1e-3 * rng.standard_normal((300, 8))
    >>> report = infall.collapse_report(features, labels)
    >>> report.rank, report.nc2 < 1e-3, report.pfc3
    (2, True, 1.0)
    """
    conventions = Conventions(global_mean, weighting, num_threads, _wanted(metrics), progress)
    if isinstance(features, ClassMoments):
        if labels is not None or classes is not None:
            raise ValueError("labels and classes are part of the ClassMoments; expected neither")
        moments = features.to_host()
        labelled = Labelled(moments, moments, None, None)
    else:
        if labels is None:
            raise ValueError("features came without labels")
        samples = ArraySamples(features, "features")
        labelled = _moments_of(samples, labels, classifier, classes, conventions)
    if classifier is None and bias is not None:
        raise ValueError("bias came without a classifier")
    decision = None if classifier is None else decision_rows(labelled.moments, classifier, bias)
    test = None
    if (test_features is None) != (test_labels is None):
        raise ValueError("test_features and test_labels come together; one of them is absent")
    if test_features is not None:
        test_samples = ArraySamples(test_features, "test_features")
        try:
            test = test_samples, labelled.names.label_numbers(test_labels, test_samples.shape[0])
        except (TypeError, ValueError) as error:
            raise type(error)(f"test_{error}") from None
    return Measurement(labelled, decision, test, conventions).report()


def geodesic_reports(
    first: Any,
    last: Any,
    labels: Any,
    times: ArrayLike,
    *,
    classes: Sequence[Hashable] | None = None,
    global_mean: GlobalMean = "classes",
    weighting: Weighting = "samples",
    metrics: Iterable[str] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> list[CollapseReport]:
    """Measure the features (1 - t) first + t last: what straight paths through the layers predict.

    Parameters
    ----------
    first, last : arrays, shape (N, d)
        Features of the same samples in the first and the last layer.
    labels : array or sequence, shape (N,)
        As in `collapse_report`.
    times : array, shape (T,)
        Each from 0 to 1.
    classes, global_mean, weighting, metrics, num_threads, progress
        As in `collapse_report`.

    Returns
    -------
    list of CollapseReport
        One for each time. The features between are made block by block, in float64.

    Raises
    ------
    TypeError, ValueError
        As `collapse_report`; for features of different shapes.

    Notes
    -----
    Source: Wang et al., Progressive Feedforward Collapse, Eq. 10 and Section IV-A.
    """
    conventions = Conventions(global_mean, weighting, num_threads, _wanted(metrics), progress)
    reports = []
    for i, time in enumerate(np.atleast_1d(np.asarray(times)).tolist()):
        line = LineSamples(first, last, number_between(time, f"times[{i}]", 0.0, 1.0))
        labelled = _moments_of(line, labels, None, classes, conventions)
        reports.append(Measurement(labelled, None, None, conventions).report())
    return reports


def _moments_of(
    samples: Samples,
    labels: Any,
    classifier: Any,
    classes: Sequence[Hashable] | None,
    conventions: Conventions,
) -> Labelled:
    num_classes = _class_count(labels, classifier, classes)
    names = ClassMoments(num_classes, 1, classes=classes)
    numbers = names.label_numbers(labels, samples.shape[0])
    moments = ClassMoments(num_classes, samples.shape[1], num_threads=conventions.num_threads)
    samples.add_to(moments, numbers, conventions.stage("class means"))
    return Labelled(moments, names, samples, numbers)


def _class_count(labels: Any, classifier: Any, classes: Sequence[Hashable] | None) -> int:
    if classes is not None:
        return len(classes)
    if classifier is not None:
        return len(classifier)
    found = to_numpy(labels, "labels")
    if found.size == 0:
        raise ValueError("labels is empty; expected one per sample")
    # Labels of a wrong kind are left to ClassMoments, which names them.
    return max(1, int(found.max()) + 1) if found.dtype.kind in "iu" else 1


def _wanted(metrics: Iterable[str] | None) -> frozenset[str] | None:
    if metrics is None:
        return None
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics is {metrics!r}; expected a sequence of names")
    return frozenset(one_of(name, "an entry of metrics", METRICS) for name in metrics)
