"""The main job of the command line: how a test set collapses, layer by layer, beside the law."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from infall import laws
from infall._arrays.blocks import block_size
from infall.experiments.axes import open_axes
from infall.maxlikelihood.network import MaxLikelihood

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Random numbers spent on the predicted angles: half a second.
_SCORES_OF_ANGLE_CHAIN = 2**23
# Entries of the test outputs of all layers together that are in memory at a time.
_BLOCK_ENTRIES = 2**24


@dataclass(frozen=True)
class LayerReport:
    """Measurements after one layer; layer 0 is the input, before any layer."""

    layer: int
    score_min: float | None
    """Smallest selected ``|G* w|``, of the unit input of the layer."""
    score_max: float | None
    tail_gain_measured: float | None
    """``||G w|| / sqrt(k)``, of the unit input of the layer."""
    tail_gain_predicted: float | None
    count_near_0: int
    """Test samples with an angle score below 1/2; `count_near_1` has the rest."""
    count_near_1: int
    distance_to_0: float | None
    """Mean angle score of the samples near 0; None without any."""
    distance_to_1: float | None
    nll_measured: float
    """Mean binary entropy of the angle scores, in bits."""
    nll_predicted: float
    layer_component: float | None
    """Layer component ``l / sqrt(l^2 + ||w_l||^2)`` of the point ``[l; w_l]``."""


@dataclass(frozen=True)
class Measurement:
    """Angle scores of a test set after every layer, and what the laws predict."""

    layers: list[LayerReport]
    """L + 1 reports, from the input to the last layer."""
    angle_scores: NDArray[np.float64]
    """(L + 1, N): angle to the fitted output of the same layer, divided by pi."""
    pole_distances: NDArray[np.float64]
    """(L + 1, N): distance of the angle score to the nearer of 0 and 1."""
    predicted_scores: NDArray[np.float64]
    """(L + 1, S): samples of the exact law, from the input angles of the same test set."""


def measure_collapse(
    model: MaxLikelihood,
    test_images: NDArray[np.float64],
    *,
    law_scores: int = _SCORES_OF_ANGLE_CHAIN,
) -> Measurement:
    """Measure a fitted network on a test set, layer by layer, next to the laws.

    Parameters
    ----------
    model : MaxLikelihood
        A fitted network.
    test_images : ndarray of float64, shape (N, k)
        The test set, no row zero.
    law_scores : int
        Random scores from which the angles are predicted.

    Returns
    -------
    Measurement
        Deterministic: the predictions draw from a generator with the seed of the network.
    """
    depth, dim = model.depth, test_images.shape[1]
    # In blocks: the outputs of all layers together take (L + 1) times the memory of the images.
    block = max(1, block_size(_BLOCK_ENTRIES) // ((depth + 1) * dim))
    blocks = [
        model.pole_distances(test_images[first : first + block], layer=None)
        for first in range(0, len(test_images), block)
    ]
    scores, complements = (np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True))
    distances = np.minimum(scores, complements)  # (L + 1, N), without the rounding of 1 - score
    predicted = _predicted_scores(scores[0], model, law_scores)  # (L + 1, S)
    predicted_gain = float(laws.tail_gain(dim / model.width))
    components = model.layer_components()  # (L,)

    layers = []
    for layer in range(depth + 1):
        near_0 = scores[layer] < 0.5
        from_layer: dict[str, float | None] = dict.fromkeys(
            ("score_min", "score_max", "tail_gain_measured", "tail_gain_predicted")
        )
        from_layer["layer_component"] = None
        if layer > 0:
            selected = np.abs(model.scores_[layer - 1])
            from_layer = {
                "score_min": float(selected.min()),
                "score_max": float(selected.max()),
                "tail_gain_measured": math.exp(model.log_norms_[layer - 1]) / math.sqrt(dim),
                "tail_gain_predicted": predicted_gain,
                "layer_component": float(components[layer - 1]),
            }
        layers.append(
            LayerReport(
                layer=layer,
                count_near_0=int(near_0.sum()),
                count_near_1=int((~near_0).sum()),
                distance_to_0=_mean(distances[layer][near_0]),
                distance_to_1=_mean(distances[layer][~near_0]),
                nll_measured=float(np.mean(laws.binary_entropy(distances[layer]))),
                nll_predicted=float(np.mean(laws.binary_entropy(predicted[layer]))),
                **from_layer,
            )
        )
    return Measurement(layers, scores, distances, predicted)


def _predicted_scores(
    input_scores: NDArray[np.float64], model: MaxLikelihood, law_scores: int
) -> NDArray[np.float64]:
    dim, depth = len(model.input_), model.depth
    num_samples = max(1024, law_scores // (dim * depth))
    # Every input angle about equally often, or evenly spaced ones where they are too many.
    ranks = np.arange(num_samples) * len(input_scores) // num_samples
    angles = np.pi * np.sort(input_scores)[ranks]
    rng = np.random.default_rng(model.seed)
    return laws.angle_chain(angles, model.width, dim, depth, size=num_samples, rng=rng) / np.pi


def _mean(distances: NDArray[np.float64]) -> float | None:
    return float(distances.mean()) if distances.size else None


def draw_collapse(measurement: Measurement, *, title: str, max_rows: int = 11) -> Figure:
    """Draw the angle scores of a test set layer by layer.

    Three panels: the distributions of the angle score on [0, 1]; of its distance to the nearer
    of 0 and 1, on a logarithmic axis, with the law as an outline; the negative log-likelihood,
    measured and predicted.

    Parameters
    ----------
    measurement : Measurement
        From `measure_collapse`.
    title : str
        Title of the figure.
    max_rows : int, default 11
        Layers whose distribution is shown, evenly spaced from the input to the last.

    Returns
    -------
    matplotlib.figure.Figure
        Outside pyplot: nothing to close.
    """
    from matplotlib.figure import Figure

    depth = len(measurement.layers) - 1
    shown = np.unique(np.linspace(0, depth, min(depth + 1, max_rows)).round().astype(int))
    figure = Figure(figsize=(13.0, 1.9 + 0.46 * max(len(shown), 7)), layout="constrained")
    figure.suptitle(title, fontsize=12)
    score_axes, distance_axes, nll_axes = figure.subplots(1, 3, width_ratios=[0.9, 1.3, 0.9])
    _draw_scores(score_axes, measurement, shown)
    _draw_distances(distance_axes, measurement, shown)
    _draw_nll(nll_axes, measurement)
    for axes in (score_axes, distance_axes, nll_axes):
        open_axes(axes)
    return figure


_SIDE_COLORS = ("#2a6fbb", "#d9722e")  # near 0, near 1: apart also for colour-blind readers
_ROW_HEIGHT = 0.86
_ROUNDING = 1e-15  # the accuracy of the measured angle scores


def _draw_scores(axes: Axes, measurement: Measurement, shown: NDArray[np.int_]) -> None:
    edges = np.linspace(0.0, 1.0, 101)
    for row, layer in enumerate(shown):
        counts, _ = np.histogram(measurement.angle_scores[layer], edges)
        heights = counts * (_ROW_HEIGHT / max(counts.max(), 1))
        axes.axhline(-row, color="0.88", linewidth=0.8, zorder=1)
        for side, half in enumerate((slice(0, 50), slice(50, 100))):
            axes.stairs(
                heights[half] - row,
                edges[half.start : half.stop + 1],
                baseline=-row,
                fill=True,
                color=_SIDE_COLORS[side],
                zorder=2,
            )
    for color, name in zip(_SIDE_COLORS, ("θ₀ < ½", "θ₀ ≥ ½"), strict=True):
        axes.fill_between([], [], color=color, label=name)
    axes.legend(frameon=False, fontsize=8, loc="lower center", ncols=2, bbox_to_anchor=(0.5, -0.02))
    axes.axvline(0.5, color="0.6", linewidth=0.8, linestyle=":", zorder=1)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("angle score θ₀ = angle / π")
    axes.set_title("Angle to the fitted output", fontsize=10)
    _label_layers(axes, shown)


def _draw_distances(axes: Axes, measurement: Measurement, shown: NDArray[np.int_]) -> None:
    predicted = measurement.predicted_scores
    predicted_distances = np.minimum(predicted, 1.0 - predicted)
    lowest = max(_ROUNDING / 10, float(np.quantile(predicted_distances[-1], 0.001)))
    edges = np.linspace(math.floor(math.log10(lowest)) - 0.2, math.log10(0.5), 121)
    # Split violins where both sides occur: near 0 above the line, near 1 below.
    near_0 = measurement.angle_scores[shown] < 0.5
    two_sided = bool(near_0.any() and not near_0.all())
    height = _ROW_HEIGHT / 2 if two_sided else _ROW_HEIGHT
    for row, layer in enumerate(shown):
        axes.axhline(-row, color="0.88", linewidth=0.8, zorder=1)
        histograms = []
        # What is measured as 0 is drawn at the end of the axis; the law goes on beyond it.
        for scores, distances, end in (
            (measurement.angle_scores[layer], measurement.pole_distances[layer], edges[0]),
            (predicted[layer], predicted_distances[layer], edges[0] - 1.0),
        ):
            decades = np.log10(np.maximum(distances, 10.0**end))
            for near in (scores < 0.5, scores >= 0.5):
                counts, _ = np.histogram(decades[near], edges)
                histograms.append(counts / len(scores))
        scale = height / np.max(histograms)
        for side, color in enumerate(_SIDE_COLORS):
            sign = -scale if two_sided and side == 1 else scale
            filled, outline = (sign * heights for heights in histograms[side::2])
            axes.stairs(
                filled - row, edges, baseline=-row, fill=True, color=color, alpha=0.55, zorder=2
            )
            outline = np.where(outline == 0.0, np.nan, outline - row)
            axes.stairs(outline, edges, baseline=None, color=_darker(color), zorder=3)
    if 10.0 ** edges[0] < _ROUNDING:
        axes.axvspan(edges[0], math.log10(_ROUNDING), color="0.94", zorder=0)
    axes.set_xlim(edges[0], edges[-1] + 0.1)
    ticks = np.arange(math.ceil(edges[0]), 1)
    ticks = ticks[:: max(1, len(ticks) // 6)]
    axes.set_xticks(ticks, [f"$10^{{{tick}}}$" for tick in ticks])
    axes.set_xlabel("distance of θ₀ to the nearer of 0 and 1")
    axes.set_title("Collapse: measured (filled), law (outline)", fontsize=10)
    _label_layers(axes, shown)
    axes.tick_params(labelleft=False)


def _draw_nll(axes: Axes, measurement: Measurement) -> None:
    from matplotlib.ticker import MaxNLocator

    layers = [report.layer for report in measurement.layers]
    predicted = [report.nll_predicted for report in measurement.layers]
    measured = [report.nll_measured for report in measurement.layers]
    axes.plot(layers, predicted, color="0.35", linewidth=1.4, label="law")
    axes.plot(layers, measured, "o", color="#3a9a5b", markersize=5, label="measured")
    axes.set_yscale("log")
    rounding = float(laws.binary_entropy(_ROUNDING))
    bottom = axes.get_ylim()[0]
    if bottom < rounding:
        axes.axhspan(bottom, rounding, color="0.94", zorder=0)
        axes.text(0, rounding, " below: rounding of float64", color="0.4", fontsize=8, va="top")
        axes.set_ylim(bottom=bottom)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("layer")
    axes.set_ylabel("bits per hyperplane")
    axes.set_title("Negative log-likelihood", fontsize=10)
    axes.legend(frameon=False)


def _label_layers(axes: Axes, shown: NDArray[np.int_]) -> None:
    axes.set_ylim(-len(shown) + 0.5, 1.0)
    names = ["input" if layer == 0 else f"layer {layer}" for layer in shown]
    axes.set_yticks(-np.arange(len(shown)), names, va="bottom")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _darker(color: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(color)
    return 0.6 * red, 0.6 * green, 0.6 * blue
