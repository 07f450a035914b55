"""The figure of `infall collapse`: the metrics, and samples in the plane of the class means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infall.collapse._samples import ArraySamples
from infall.collapse.report import NUMBERS, CollapseReport
from infall.experiments.axes import open_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_METRICS = ("nc1", "nc2", "nc3", "nc3_papyan", "nc4", "cdnv_mean", "cdnv_max", "pfc1", "pfc2")
_MAX_SAMPLES = 2000


def draw_report(
    report: CollapseReport,
    features: Any,
    labels: Any,
    *,
    title: str,
) -> Figure:
    """Draw a report: its metrics on a logarithmic axis, and the samples it was made of.

    Parameters
    ----------
    report : CollapseReport
        Of these samples.
    features, labels : arrays, shapes (N, d) and (N,)
        At most 2000 samples, evenly spaced, are read and drawn: in the plane of the two largest
        principal components of the means that they have by class.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Outside pyplot: nothing to close.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    figure.suptitle(title, fontsize=12)
    metric_axes, sample_axes = figure.subplots(1, 2)
    _draw_metrics(metric_axes, report)
    _draw_samples(sample_axes, features, np.asarray(labels))
    for axes in (metric_axes, sample_axes):
        open_axes(axes)
    return figure


def _draw_metrics(axes: Axes, report: CollapseReport) -> None:
    metrics = {NUMBERS[field][0]: getattr(report, field) for field in _METRICS}
    metrics = {symbol: metric for symbol, metric in metrics.items() if metric is not None}
    positive = [metric for metric in metrics.values() if 0.0 < metric < np.inf]
    ends = (min(positive, default=1.0) / 10.0, max(positive, default=1.0) * 10.0)
    for row, metric in enumerate(metrics.values()):
        # What has no place on a logarithmic axis points out of it.
        mark = "<" if metric == 0.0 else "o" if metric < np.inf else ">"
        shown = min(max(metric, ends[0]), ends[1])
        axes.plot(shown, -row, mark, color="#2a6fbb")
        axes.annotate(
            f"{metric:.3g}", (shown, -row), (7, 0), textcoords="offset points", va="center"
        )
    axes.set_xscale("log")
    axes.set_yticks(-np.arange(len(metrics)), list(metrics))
    axes.set_ylim(0.5 - max(len(metrics), 1), 0.5)
    axes.margins(x=0.25)
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title("Metrics: collapse is to the left", fontsize=10)


def _draw_samples(axes: Axes, features: Any, labels: NDArray[Any]) -> None:
    count = len(labels)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MAX_SAMPLES)).round().astype(int))
    samples = ArraySamples(features, "features")
    rows = np.concatenate([samples.float64_rows(slice(row, row + 1)) for row in chosen])
    names, classes = np.unique(labels[chosen], return_inverse=True)
    means = np.stack([rows[classes == c].mean(axis=0) for c in range(len(names))])
    centre = means.mean(axis=0)
    plane = np.linalg.svd(means - centre, full_matrices=False)[2][:2]  # (<= 2, d)
    points = np.zeros((len(rows), 2))
    points[:, : len(plane)] = (rows - centre) @ plane.T
    ends = np.zeros((len(means), 2))
    ends[:, : len(plane)] = (means - centre) @ plane.T
    x, y = points.T
    axes.scatter(x, y, s=6, c=classes, cmap="tab20", alpha=0.6, linewidths=0)
    x, y = ends.T
    axes.scatter(x, y, s=70, c=np.arange(len(names)), cmap="tab20", edgecolors="black")
    if len(names) <= 20:
        from matplotlib.patheffects import withStroke

        for name, end in zip(names.tolist(), ends, strict=True):
            axes.annotate(
                str(name),
                tuple(end),
                (6, 4),
                textcoords="offset points",
                fontsize=8,
                zorder=5,  # above the marks of all classes
                path_effects=[withStroke(linewidth=2.0, foreground="white")],
            )
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title("Samples in the plane of the class means", fontsize=10)
    axes.tick_params(labelleft=False, labelbottom=False, length=0)
