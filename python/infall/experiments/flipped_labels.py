"""Images and their negatives, told apart by the angle to one fitted image, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall import laws
from infall._arrays.calls import Progress
from infall._arrays.checks import integer
from infall._arrays.host import Host
from infall.experiments.axes import error_bars, open_axes
from infall.experiments.datasets import load_digits
from infall.experiments.inputs import width_label
from infall.experiments.repeats import (
    SamplerComparison,
    Seeds,
    Stage,
    cell,
    compare_samplers,
    fitted,
    made_by,
    mean_and_error,
    seed_numbers,
    with_error,
)
from infall.experiments.result import Result, Table
from infall.maxlikelihood.network import MaxLikelihood
from infall.rows.settings import Sampler

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Float = NDArray[np.float64]
_COLORS = ("#2a6fbb", "#d9722e")  # as they are, flipped
_CHAIN_NETWORKS = 16  # whose d' make the predicted one, per seed


@dataclass(frozen=True, eq=False)
class FlippedLabels(Result):
    """Angle scores of images and of their negatives over layers; layer 0 is the input."""

    name: ClassVar[str] = "flipped_labels"
    paper: ClassVar[str] = "Fig. 9, Eq. 30-31"

    settings: Mapping[str, Any]
    fitted_images: _Float
    """(S, k): the image that the network of each seed was fitted to."""
    scores: _Float
    """(S, L + 1, N): angle scores of the test images x."""
    flipped_scores: _Float
    """(S, L + 1, N): angle scores of -x."""
    decidability: _Float
    """(S, L + 1): d'."""
    predicted_decidability: _Float
    """(S, L + 1): d' of the angle chain, from the same input angles."""
    comparison: SamplerComparison

    @property
    def tail_gain(self) -> float:
        """tau, by which a layer divides the tangents of angles in the mean field."""
        return float(laws.tail_gain(self.fitted_images.shape[1] / self.settings["width"]))

    def table(self) -> Table:
        """Return one row per layer: both mean scores, their deviations, d' and its growth."""
        scores, errors = mean_and_error(self.scores.mean(axis=2))
        deviations, _ = mean_and_error(self.scores.std(axis=2))
        flipped, flipped_errors = mean_and_error(self.flipped_scores.mean(axis=2))
        flipped_deviations, _ = mean_and_error(self.flipped_scores.std(axis=2))
        decidability, decidability_errors = mean_and_error(self.decidability)
        predicted, predicted_errors = mean_and_error(self.predicted_decidability)
        growth, growth_errors = mean_and_error(self.decidability[:, 1:] / self.decidability[:, :-1])
        rows = []
        for layer in range(self.scores.shape[1]):
            grown: tuple[float | None, ...] = (None, None, None)
            if layer > 0:
                grown = (cell(growth[layer - 1]), cell(growth_errors[layer - 1]), self.tail_gain)
            rows.append(
                (
                    layer,
                    cell(scores[layer]),
                    cell(errors[layer]),
                    cell(deviations[layer]),
                    cell(flipped[layer]),
                    cell(flipped_errors[layer]),
                    cell(flipped_deviations[layer]),
                    cell(decidability[layer]),
                    cell(decidability_errors[layer]),
                    cell(predicted[layer]),
                    cell(predicted_errors[layer]),
                    *grown,
                )
            )
        columns = (
            "layer",
            "score",
            "score_error",
            "score_deviation",
            "flipped_score",
            "flipped_score_error",
            "flipped_score_deviation",
            "decidability",
            "decidability_error",
            "law_decidability",
            "law_decidability_error",
            "growth",
            "growth_error",
            "tail_gain",
        )
        return Table(columns, rows)

    def plot(self) -> Figure:
        """Draw a fitted image and its negative, the distributions of the scores, and d'."""
        from matplotlib.figure import Figure

        num_layers = self.scores.shape[1]
        figure = Figure(figsize=(12.0, 1.6 + 0.75 * max(num_layers, 5)), layout="constrained")
        width, digit = self.settings["width"], self.settings["digit"]
        figure.suptitle(
            f"Flipped labels: digit {digit}, k = {self.fitted_images.shape[1]}, "
            f"n = {width_label(width)}, {made_by(self.settings)}",
            fontsize=12,
        )
        grid = figure.add_gridspec(2, 3, width_ratios=[0.42, 1.3, 1.0])
        side = round(self.fitted_images.shape[1] ** 0.5)
        for row, (sign, label) in enumerate(((1.0, "w: fitted"), (-1.0, "-w: flipped"))):
            axes = figure.add_subplot(grid[row, 0])
            image = sign * self.fitted_images[0]
            if side * side == len(image):
                axes.imshow(image.reshape(side, side), cmap="gray")
            else:
                axes.plot(image, color=_COLORS[row])
            axes.set_title(label, fontsize=10, color=_COLORS[row])
            axes.set_xticks([])
            axes.set_yticks([])
        self._draw_scores(figure.add_subplot(grid[:, 1]))
        self._draw_decidability(figure.add_subplot(grid[:, 2]))
        return figure

    def _draw_scores(self, axes: Axes) -> None:
        edges = np.linspace(0.0, 1.0, 201)
        num_layers = self.scores.shape[1]
        for layer in range(num_layers):
            axes.axhline(-layer, color="0.88", linewidth=0.8, zorder=1)
            for kind, scores in enumerate((self.scores[:, layer], self.flipped_scores[:, layer])):
                counts, _ = np.histogram(scores, edges)
                axes.stairs(
                    counts * (0.82 / counts.max()) - layer,
                    edges,
                    baseline=-layer,
                    fill=True,
                    color=_COLORS[kind],
                    label=("x", "-x")[kind] if layer == 0 else None,
                )
        axes.axvline(0.5, color="0.6", linewidth=0.8, linestyle=":", zorder=1)
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(0.85 - num_layers, 1.0)
        names = ["input" if layer == 0 else f"layer {layer}" for layer in range(num_layers)]
        axes.set_yticks(-np.arange(num_layers), names, va="bottom")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("angle score θ₀ = angle / π")
        axes.set_title("Distributions of the scores", fontsize=10)
        axes.legend(frameon=False, loc="upper center", ncols=2)
        axes.spines[["top", "right", "left"]].set_visible(False)

    def _draw_decidability(self, axes: Axes) -> None:
        from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

        measured, errors = mean_and_error(self.decidability)
        predicted, _ = mean_and_error(self.predicted_decidability)
        layers = np.arange(len(measured))
        growth = measured[0] * self.tail_gain**layers
        label = f"grown by τ = {self.tail_gain:.3g}"
        axes.plot(layers, growth, ":", color="0.6", linewidth=1.2, label=label)
        axes.plot(layers, predicted, color="0.35", linewidth=1.4, label="angle chain")
        axes.errorbar(
            layers,
            measured,
            yerr=error_bars(errors),
            fmt="o",
            color="#3a9a5b",
            markersize=5,
            capsize=3,
            label="network",
        )
        for layer in layers:
            axes.annotate(
                f"{measured[layer]:.3g}",
                (layer, measured[layer]),
                (6, -9),
                textcoords="offset points",
                fontsize=8,
            )
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.12)
        axes.set_xlabel("layers L")
        axes.set_ylabel("decidability d'")
        axes.set_title("Decidability", fontsize=10)
        axes.legend(frameon=False, fontsize=9)
        open_axes(axes, "y")

    def summary(self) -> str:
        """Return how d' grows, and what of it the input has already."""
        decidability, errors = mean_and_error(self.decidability)
        last = len(decidability) - 1
        growth, growth_error = mean_and_error(self.decidability[:, -1] / self.decidability[:, -2])
        return (
            "As in the paper, d' grows with every layer: from "
            f"{with_error(decidability[0], errors[0])} for the bare input, which the paper does "
            f"not show, to {with_error(decidability[last], errors[last])} after {last} layers. The "
            f"last multiplies it by {with_error(growth, growth_error)}; the law of wide layers has "
            f"τ = {self.tail_gain:.3g}. {self.comparison.sentence()}."
        )


def flipped_labels(
    *,
    width: int = 8000,
    depth: int = 4,
    digit: int = 0,
    num_test: int = 3000,
    images: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    seeds: Seeds = 10,
    sampler: Sampler = "order_statistics",
    progress: Progress | None = None,
) -> FlippedLabels:
    """Tell images of a digit from their negatives by one fitted image.

    Parameters
    ----------
    width : int
        Rows n of every layer.
    depth : int
        Layers L; the scores of all of them come from one network.
    digit : int
        Label of the images used.
    num_test : int
        Test images N, or all there are if they are fewer.
    images : array, shape (M, k), optional
        At least two with that label. By default the bundled digits, enlarged to 28 by 28 pixels.
    labels : array of int, shape (M,), optional
        Of `images`; without them all images count as the digit.
    seeds : int or sequence of int
        Each draws a network, the image it is fitted to and the test images. A count stands for
        0, 1, ...
    sampler : {"order_statistics", "stream", "rotated"}
        See `infall.select_rows`.
    progress : callable, optional
        Called as progress(done, total, stage).

    Returns
    -------
    FlippedLabels
        A pure function of the arguments.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range; labels without images or of another shape; too few images.

    Notes
    -----
    Images are divided by the largest pixel and flipped by their sign; 1 - x is no flip, as the
    network is linear and not affine. The scores of x and -x sum to 1 exactly, so
    d' = |1 - 2 mean| / deviation.

    Source: Wormhole Dynamics, Section VI-A, Fig. 9, Eq. 30 and 31.
    """
    seeds = seed_numbers(seeds)
    depth = integer(depth, "depth", 1, 2**31, "2**31")
    num_test = integer(num_test, "num_test", 2, 2**31, "2**31")
    usable, source = _images_of_digit(images, labels, digit)
    dim = usable.shape[1]
    num_test = min(num_test, len(usable) - 1)

    def measure(seed: int, kind: Sampler) -> tuple[MaxLikelihood, _Float, _Float, _Float]:
        rng = np.random.default_rng(seed)
        drawn = usable[rng.permutation(len(usable))[: num_test + 1]]
        image, tests = drawn[0], drawn[1:]
        model = fitted(image, width, depth, seed, kind, progress)
        scores = model.angle_scores(tests, layer=None)
        return model, scores, model.angle_scores(-tests, layer=None), image

    measured, predicted = [], []
    stage = Stage(progress, len(seeds))
    for seed in seeds:
        measured.append(measure(seed, sampler))
        input_scores = measured[-1][1][0]
        predicted.append(_predicted_decidability(input_scores, width, dim, depth, seed))
        stage.part_done()
    models, scores, flipped, fitted_images = zip(*measured, strict=True)
    decidability = np.array([_decidability(*pair) for pair in zip(scores, flipped, strict=True)])

    def other(seed: int, kind: Sampler) -> tuple[MaxLikelihood, float]:
        model, scores, flipped, _ = measure(seed, kind)
        return model, float(np.log(_decidability(scores, flipped)[-1]))

    comparison = compare_samplers(
        f"ln d' after layer {depth}", models, np.log(decidability[:, -1]).tolist(), other
    )
    stage.end()
    settings = {
        "width": width,
        "depth": depth,
        "dim": dim,
        "digit": digit,
        "images": source,
        "num_test": num_test,
        "sampler": sampler,
        "seeds": seeds,
    }
    return FlippedLabels(
        settings,
        np.array(fitted_images),
        np.array(scores),
        np.array(flipped),
        decidability,
        np.array(predicted),
        comparison,
    )


def _images_of_digit(
    images: ArrayLike | None, labels: ArrayLike | None, digit: int
) -> tuple[_Float, str]:
    digit = integer(digit, "digit", -(2**31), 2**31)
    if images is None:
        if labels is not None:
            raise ValueError("labels came without images; expected both or neither")
        pixels, image_labels = load_digits(28)
        source = "bundled digits, enlarged to 28 x 28"
    else:
        pixels, batched = Host().vectors(images, "images")
        if not batched:
            raise ValueError(f"images has shape {np.shape(images)}; expected (M, k)")
        source = f"{len(pixels)} given"
        image_labels = np.full(len(pixels), digit) if labels is None else np.asarray(labels)
        if image_labels.shape != (len(pixels),):
            raise ValueError(f"labels has shape {image_labels.shape}; expected ({len(pixels)},)")
    usable = pixels[image_labels == digit]
    if len(usable) < 3:
        raise ValueError(f"images has {len(usable)} of label {digit}; expected at least 3")
    largest = np.abs(usable).max(axis=1)
    if not largest.all():
        raise ValueError(f"images has an image of zeros among those of label {digit}")
    return usable / largest.max(), source


def _decidability(scores: _Float, flipped: _Float) -> _Float:
    # (L + 1, N) each -> (L + 1,), Eq. 31
    spread = np.sqrt(0.5 * (scores.var(axis=1) + flipped.var(axis=1)))
    decidability: _Float = np.abs(scores.mean(axis=1) - flipped.mean(axis=1)) / spread
    return decidability


def _predicted_decidability(
    input_scores: _Float, width: int, dim: int, depth: int, seed: int
) -> _Float:
    # The mean over networks, each with all input angles.
    count = len(input_scores)
    angles = np.tile(np.pi * input_scores, _CHAIN_NETWORKS)
    chain = laws.angle_chain(
        angles, width, dim, depth, samples_per_network=count, rng=np.random.default_rng(seed)
    )
    scores = chain.reshape(depth + 1, _CHAIN_NETWORKS, count).swapaxes(0, 1) / np.pi
    by_network = [_decidability(of_network, 1.0 - of_network) for of_network in scores]
    return np.asarray(np.mean(by_network, axis=0))
