"""Reports of collapse: which metrics the arguments allow, and why one is missing."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infall._arrays.calls import Progress
from infall._arrays.checks import one_of
from infall._arrays.convert import AnyArray, Labels, to_numpy
from infall.classes.moments import ClassMoments, GlobalMean
from infall.collapse._between import Equiangularity
from infall.collapse._checks import UndefinedMetric, Weighting, float64_entries
from infall.collapse._class_sums import within_trace
from infall.collapse._measurement import Measurement
from infall.collapse._samples import ArraySamples, LineSamples
from infall.collapse.report import METRICS, CollapseReport

_CLASSIFIER = "a classifier"
_SAMPLES = "features and labels"
_TEST_SAMPLES = "test_features and test_labels"
_NEEDS = {
    "nc3": (_CLASSIFIER,),
    "nc3_papyan": (_CLASSIFIER,),
    "nc4": (_SAMPLES, _CLASSIFIER),
    "pfc3": (_SAMPLES,),
    "classifier_equinorm": (_CLASSIFIER,),
    "classifier_equiangularity": (_CLASSIFIER,),
    "strong_residuals": (_CLASSIFIER,),
    "collapse_on_test": (_TEST_SAMPLES,),
}


def collapse_report(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    classifier: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    classes: Sequence[Hashable] | None = None,
    global_mean: GlobalMean = "classes",
    weighting: Weighting = "samples",
    metrics: Iterable[str] | None = None,
    test_features: AnyArray | None = None,
    test_labels: Labels | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> CollapseReport:
    """Measure how far features have collapsed.

    Parameters
    ----------
    features : array, shape (N, d), or ClassMoments
        Real numbers in any layout: NumPy, PyTorch, CuPy, JAX; memory maps, HDF5, Zarr and Dask
        arrays are read block by block. From ClassMoments all metrics follow that need no samples;
        NC1 too if they hold the scatter.
    labels : array or sequence, shape (N,)
        Integers, text, bool or other names of the classes. None with ClassMoments.
    classifier : array, shape (num_classes, d), optional
        Weights A of the last layer.
    bias : array, shape (num_classes,), optional
        Of the last layer, zero by default.
    classes : sequence of hashables, optional
        Names of the classes, in the order of the rows of `classifier`. Without them, labels are
        the numbers of these rows; without a classifier, the classes are the distinct
        labels in ascending order.
    global_mean : {"classes", "samples"}
        Centre of the class means.
    weighting : {"samples", "classes"}
        Weights in Sigma_W: 1/N, or 1/(K n_c).
    metrics : iterable of str, optional
        Some of `METRICS`; by default all that these arguments allow.
    test_features, test_labels : arrays, shapes (T, d) and (T,), optional
        Samples that the class means were not made from.
    num_threads : int, optional
        All processors by default; does not change the result except for what NumPy's matrix
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
        For masked arrays, and dtypes that are not real numbers.
    ValueError
        For shapes that do not match, entries that are not finite, labels that are none of the
        classes, unknown `metrics`, and those that need more arguments; `UndefinedMetric` without
        samples.

    Notes
    -----
    Two passes over the features, three with `pfc3` or `nc4`; memory use: K x d values and one
    block, or a chunk of the file if that is larger. Features in CUDA memory stay there: moments,
    projections, decisions and pairs of classes are taken by its kernels, and the call waits for
    the current stream. docs/collapse.md explains each metric.

    Ctrl-C is answered within a fraction of a second, except where class means are nearly
    dependent and NC1 takes a decomposition of NumPy's.

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
    wanted = _wanted(metrics)
    measured = Measurement(
        features,
        labels,
        classes,
        num_threads,
        progress,
        classifier=classifier,
        bias=bias,
        test_features=test_features,
        test_labels=test_labels,
        global_mean=global_mean,
        weighting=weighting,
    )
    return _report(measured, wanted)


def geodesic_reports(
    first: AnyArray,
    last: AnyArray,
    labels: Labels,
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
        One for each time. The features between are made block by block, in float64 in host memory.

    Raises
    ------
    TypeError, ValueError
        As `collapse_report`; for features of different shapes.

    Notes
    -----
    Source: Wang et al., Progressive Feedforward Collapse, Eq. 10 and Section IV-A.
    """
    wanted = _wanted(metrics)
    positions = float64_entries(np.atleast_1d(to_numpy(times, "times")), "times")
    if positions.ndim != 1:
        raise ValueError(f"times has shape {positions.shape}; expected (T,)")
    for i, time in enumerate(positions.tolist()):
        if not 0.0 <= time <= 1.0:
            raise ValueError(f"times[{i}] is {time}; expected a number from 0 to 1")
    ends = ArraySamples(first, "first"), ArraySamples(last, "last")
    reports = []
    for time in positions.tolist():
        measured = Measurement(
            LineSamples(*ends, time),
            labels,
            classes,
            num_threads,
            progress,
            global_mean=global_mean,
            weighting=weighting,
        )
        reports.append(_report(measured, wanted))
    return reports


def _report(measured: Measurement, metrics: frozenset[str] | None) -> CollapseReport:
    """Take the metrics that are wanted; None stands for all that can be had."""
    moments = measured.moments
    fields: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name in METRICS:
        if metrics is not None and name not in metrics:
            continue
        absent = _absent(measured, name)
        if absent and metrics is not None:
            raise ValueError(f"metrics asks for {name}, which {absent}")
        if absent:
            missing[name] = absent
            continue
        try:
            fields |= _fields(measured, name)
        except UndefinedMetric as error:
            missing[name] = str(error)
    if len(moments.observed) > 1:
        fields["trace_between"] = measured.between.trace
        if (metrics is None or "nc1" in metrics) and not _absent(measured, "nc1"):
            fields["rank"] = measured.between.rank
    names = measured.labels.names
    return CollapseReport(
        num_samples=moments.num_samples,
        num_features=moments.num_features,
        num_classes=moments.num_classes,
        num_observed=len(moments.observed),
        classes=None if names is None else tuple(names),
        empty_classes=measured.labels.names_of(np.flatnonzero(moments.counts == 0).tolist()),
        single_sample_classes=int(np.count_nonzero(moments.counts == 1)),
        dtype=None if measured.samples is None else measured.samples.dtype,
        weighting=measured.weighting,
        global_mean=measured.global_mean,
        trace_within=within_trace(moments, measured.weighting),
        missing=missing,
        **fields,
    )


def _absent(measured: Measurement, name: str) -> str:
    given = {
        _CLASSIFIER: measured.classifier is not None,
        _SAMPLES: measured.samples is not None,
        _TEST_SAMPLES: measured.test is not None,
    }
    absent = [need for need in _NEEDS.get(name, ()) if not given[need]]
    if name == "nc1" and measured.samples is None and not measured.moments.scatter:
        absent = ["features and labels, or ClassMoments with scatter=True"]
    return f"needs {' and '.join(absent)}" if absent else ""


def _fields(measured: Measurement, name: str) -> dict[str, Any]:
    """Return the fields of the report that belong to a metric."""
    if name == "cdnv":
        cdnv_fields = ("cdnv_mean", "cdnv_max", "cdnv_max_pair", "cdnv_min")
        return dict(zip(cdnv_fields, measured.cdnv(), strict=True))
    if name == "classifier_equinorm":
        return {name: measured.classifier_vectors.equinorm()}
    if name == "equiangularity":
        return _angles(name, measured.between.equiangularity())
    if name == "classifier_equiangularity":
        return _angles(name, measured.classifier_vectors.equiangularity())
    if name == "strong_residuals":
        return measured.strong_residuals()._asdict()
    if name == "collapse_on_test":
        test_fields = ("strong_test_collapse", "weak_test_collapse", "test_ncc_error")
        return dict(zip(test_fields, measured.collapse_on_test(), strict=True))
    owner = measured.between if name in ("nc2", "pfc2") else measured
    return {name: getattr(owner, name)()}


def _angles(name: str, angles: Equiangularity) -> dict[str, float]:
    return {f"{name}_std": angles.std, f"{name}_max": angles.max}


def _wanted(metrics: Iterable[str] | None) -> frozenset[str] | None:
    if metrics is None:
        return None
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics is {metrics!r}; expected a sequence of names")
    return frozenset(one_of(name, "an entry of metrics", METRICS) for name in metrics)
