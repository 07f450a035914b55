"""How the loss and the negative log-likelihood of random test vectors go with width and depth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from infall import laws
from infall._arrays.calls import Progress
from infall._arrays.checks import integer
from infall.experiments.axes import error_bars, open_axes
from infall.experiments.deep_angles import deep_angles
from infall.experiments.inputs import gaussian_input, layer_widths, width_label, width_name
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
)
from infall.experiments.result import Result, Table
from infall.maxlikelihood.network import MaxLikelihood
from infall.rows.settings import Sampler

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTHS = tuple(2**exponent for exponent in range(8, 26))
# Networks whose angles the law is sampled for, and twice their test vectors near 0.
_NETWORKS_OF_THE_LAW = 16
# Depth of the one network by another sampler: layers are independent draws from the same law.
_COMPARED_DEPTH = 3
_MEASURES = ("nll", "log10_distance", "loss_below", "loss_above", "share_below")


@dataclass(frozen=True, eq=False)
class Convergence(Result):
    """Loss and negative log-likelihood over widths and depths.

    Arrays of measurements have shape (S, W, D): seeds, widths, depths.
    """

    name: ClassVar[str] = "convergence"
    paper: ClassVar[str] = "Fig. 4 and 5"

    settings: Mapping[str, Any]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    nll: NDArray[np.float64]
    """Mean over the test vectors of H2(theta_0), in bits."""
    log10_distance: NDArray[np.float64]
    """Mean over the test vectors of log10 of the distance of theta_0 to the nearer of 0 and 1."""
    loss_below: NDArray[np.float64]
    """Mean loss 1 - theta_0 of the test vectors that have less than 1/2."""
    loss_above: NDArray[np.float64]
    """One minus the mean loss of the others."""
    share_below: NDArray[np.float64]
    """Share of test vectors with a loss below 1/2."""
    law_nll: NDArray[np.float64]
    """(C, W, D): `nll` by the angle chain, of C networks."""
    law_log10_distance: NDArray[np.float64]
    """(C, W, D): `log10_distance` by the angle chain."""
    mean_field_nll: NDArray[np.float64]
    """(W, D): `nll` by the mean field."""
    losses: NDArray[np.float64]
    """(W, D, N): the losses of the first seed."""
    comparison: SamplerComparison

    def scores_of_agreement(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return measured minus law in standard errors, for `nll` and `log10_distance`.

        Returns
        -------
        nll, log10_distance : ndarrays of float64, shape (W, D)
            NaN with one seed.
        """
        pairs = ((self.nll, self.law_nll), (self.log10_distance, self.law_log10_distance))
        scores = []
        for measured, law in pairs:
            mean, error = mean_and_error(measured)
            law_mean, law_error = mean_and_error(law)
            scores.append((mean - law_mean) / np.hypot(error, law_error))
        return scores[0], scores[1]

    def table(self) -> Table:
        """Return one row per width and depth."""
        columns = ["width", "depth"]
        quantities: list[NDArray[Any]] = []  # (W, D) each
        for name in _MEASURES:
            columns += [name, f"{name}_error"]
            quantities += mean_and_error(getattr(self, name))
            if name in ("nll", "log10_distance"):
                columns += [f"{name}_law", f"{name}_law_error"]
                quantities += mean_and_error(getattr(self, f"law_{name}"))
            if name == "nll":
                columns.append("nll_mean_field")
                quantities.append(self.mean_field_nll)
        rows = [
            [width, depth, *(cell(quantity[i, j]) for quantity in quantities)]
            for i, width in enumerate(self.widths)
            for j, depth in enumerate(self.depths)
        ]
        return Table(columns, rows)

    def summary(self) -> str:
        """Say how far it converges, whether the law holds, and how the samplers compare."""
        wide, deep = width_name(self.widths[-1]), self.depths[-1]
        nll = self.nll.mean(axis=0)
        mean_loss = self.share_below * self.loss_below
        mean_loss += (1.0 - self.share_below) * (1.0 - self.loss_above)
        deviation = float(np.abs(mean_loss.mean(axis=0) - 0.5).max())
        text = (
            f"At n = {wide} and L = {deep} the NLL is {nll[-1, -1]:.2g} bits and the losses are "
            f"{self.loss_below[:, -1, -1].mean():.2g} from 0 or "
            f"{self.loss_above[:, -1, -1].mean():.2g} from 1; the paper has all of them go to "
            f"0. The mean loss stays within {deviation:.2g} of 1/2 for every n and L: either side "
            "takes half of the vectors. "
        )
        if self.widths[0] == self.settings["dim"]:
            text += (
                f"Where n = k nothing is selected and nothing converges: {nll[0, -1]:.2g} bits. "
            )
        selected = [i for i, width in enumerate(self.widths) if width >= 2**10]
        if len(self.nll) > 1 and selected:
            for name, scores in zip(
                ("NLL", "log distance"), self.scores_of_agreement(), strict=True
            ):
                off = np.abs(scores[selected])
                text += (
                    f"{name}: {np.mean(off <= 3.0):.1%} of {off.size} cells from n = 2^10 on "
                    "are within 3 standard errors of the angle chain. "
                )
        return f"{text}At n = {wide}, {self.comparison.sentence()}."

    def plot(self) -> Figure:
        """Return the distributions of the loss above, its convergence and the NLL below."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(13.5, 8.2), layout="constrained")
        figure.suptitle(_title(self.settings), fontsize=12)
        parts: Any = figure.subfigures(2, 1, height_ratios=[1.0, 1.25])
        top, bottom = parts
        shown = np.unique(np.linspace(0, len(self.widths) - 1, 4).round().astype(int))
        panels = top.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for letter, axes, i in zip("abcd", panels, shown, strict=False):
            image = _draw_losses(axes, self.depths, self.losses[i])
            axes.set_title(f"({letter}) loss, n = {width_label(self.widths[i])}", fontsize=10)
        panels[0].set_ylabel("loss 1 - θ₀")
        top.colorbar(image, ax=panels, label="share of test vectors", pad=0.01)
        sides, lines, grid = bottom.subplots(1, 3, width_ratios=[1.0, 1.15, 1.0])
        self._draw_sides(sides, shown)
        self._draw_nll(lines)
        self._draw_grid(bottom, grid)
        return figure

    def _draw_sides(self, axes: Axes, shown: NDArray[np.int_]) -> None:
        colors = _width_colors(len(self.widths))
        for i in shown:
            for losses, marker, face in (
                (self.loss_below, "o", colors[i]),
                (self.loss_above, "s", "none"),
            ):
                mean, error = mean_and_error(losses[:, i])
                axes.errorbar(
                    self.depths,
                    mean,
                    yerr=error_bars(error),
                    fmt=marker,
                    color=colors[i],
                    markerfacecolor=face,
                    markersize=3.5,
                    linewidth=0.9,
                )
        below = self.loss_below[:, shown, -1].mean(axis=0)
        for i, height in zip(shown, below, strict=True):
            label = f" {width_label(self.widths[i])}"
            axes.text(self.depths[-1], height, label, color=colors[i], fontsize=8, va="center")
        axes.plot([], [], "o", color="0.3", markersize=4, label="loss below ½: to 0")
        axes.plot([], [], "s", color="0.3", mfc="none", markersize=4, label="loss above ½: to 1")
        axes.set_yscale("log")
        _finish(axes, "(e) mean distance of the loss to 0 or 1", "layers L", "distance")
        axes.legend(frameon=False, fontsize=8, loc="lower left")

    def _draw_nll(self, axes: Axes) -> None:
        colors = _width_colors(len(self.widths))
        mean, error = mean_and_error(self.nll)
        law, _ = mean_and_error(self.law_nll)
        step = max(1, len(self.widths) // 6)
        shown = [i for i in range(len(self.widths)) if (len(self.widths) - 1 - i) % step == 0]
        for i in shown:
            axes.plot(self.depths, law[i], color=colors[i], linewidth=1.1)
            axes.plot(
                self.depths, self.mean_field_nll[i], color=colors[i], linewidth=0.9, linestyle=":"
            )
            axes.errorbar(
                self.depths,
                mean[i],
                yerr=error_bars(error[i]),
                fmt="o",
                color=colors[i],
                markersize=3,
                linewidth=0.9,
                label=width_label(self.widths[i]),
            )
        handles, names = axes.get_legend_handles_labels()
        for style, name in (("-", "angle chain"), (":", "mean field")):
            handles += axes.plot([], [], style, color="0.3", linewidth=1.1)
            names.append(name)
        axes.set_yscale("log")
        _finish(axes, "(f) negative log-likelihood", "layers L", "bits per hyperplane")
        axes.legend(handles, names, frameon=False, fontsize=8, ncols=2, loc="lower left")

    def _draw_grid(self, figure: Any, axes: Axes) -> None:
        decades = np.log10(np.maximum(self.nll.mean(axis=0), 1e-300))  # (W, D)
        image = axes.pcolormesh(
            self.depths,
            np.arange(len(self.widths)),
            decades,
            cmap="viridis",
            shading="nearest",
            rasterized=True,
        )
        step = max(1, len(self.widths) // 6)
        ticks = np.arange(len(self.widths) - 1, -1, -step)
        axes.set_yticks(ticks, [width_label(self.widths[i]) for i in ticks])
        axes.set_title("(g) NLL over width and depth", fontsize=10)
        axes.set_xlabel("layers L")
        axes.set_ylabel("width n")
        figure.colorbar(image, ax=axes, label="log₁₀ bits", pad=0.02)


def convergence(
    *,
    widths: Sequence[int] = WIDTHS,
    depth: int = 49,
    dim: int = 256,
    num_test: int = 5000,
    seeds: Seeds = 10,
    sampler: Sampler = "order_statistics",
    progress: Progress | None = None,
) -> Convergence:
    """Measure the losses and the negative log-likelihood of random vectors over width and depth.

    Every seed has its own networks, fitted vector and test vectors, all Gaussian; the networks of
    one seed and width are nested, the shallower ones the first layers of the deepest.

    Parameters
    ----------
    widths : sequence of int
        Rows n of a layer, ascending, each at least `dim`.
    depth : int
        The largest L; measured are 1, 3, 5, ... and `depth` itself.
    dim : int
        Input length k, at least 2.
    num_test : int
        Test vectors N.
    seeds : int or sequence of int
        Number of seeds, counted from 0, or the seeds themselves.
    sampler : {"order_statistics", "rotated", "stream"}
        See `infall.select_rows`. The largest width is run once more, three layers deep, by
        `stream` and compared.
    progress : callable, optional
        Called as progress(done, total, stage).

    Returns
    -------
    Convergence
        Deterministic: the same for the same arguments, up to the rounding of matrix products.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    Notes
    -----
    Source: Wormhole Dynamics in Deep Neural Networks, Section V, Figures 4 and 5, Eq. 17 and 27.
    """
    dim = integer(dim, "dim", 2, 2**31, "2**31")
    widths = layer_widths(widths, dim)
    depth = integer(depth, "depth", 1, 2**31, "2**31")
    num_test = integer(num_test, "num_test", 2, 2**31, "2**31")
    seeds = seed_numbers(seeds)
    depths = (*range(1, depth, 2), depth)
    measured = {name: np.empty((len(seeds), len(widths), len(depths))) for name in _MEASURES}
    losses = np.empty((len(widths), len(depths), num_test))
    widest = []
    stage = Stage(progress, len(seeds) * len(widths))
    for s, seed in enumerate(seeds):
        w, X = gaussian_input(seed, dim, num_test)
        for i, width in enumerate(widths):
            model = fitted(w, width, depth, seed, sampler, progress)
            distances, near_one = deep_angles(model, X, depths)
            for name, means in _means(distances, near_one).items():
                measured[name][s, i] = means
            if s == 0:
                losses[i] = np.where(near_one, distances, 1.0 - distances)
            stage.part_done()
        widest.append(model)
    stage.end()

    law = _law(widths, depths, dim, num_test, progress)
    compared_depth = min(depth, _COMPARED_DEPTH)

    def measure(seed: int, other: Sampler) -> tuple[MaxLikelihood, float]:
        w, X = gaussian_input(seed, dim, num_test)
        model = fitted(w, widths[-1], compared_depth, seed, other, progress)
        distances, _ = deep_angles(model, X, [compared_depth])
        return model, float(np.log10(distances).mean())

    settings = {
        "dim": dim,
        "num_test": num_test,
        "widths": widths,
        "depths": depths,
        "seeds": seeds,
        "sampler": sampler,
    }
    return Convergence(
        settings=settings,
        widths=widths,
        depths=depths,
        **measured,
        **law,
        losses=losses,
        comparison=compare_samplers(
            f"the mean log10 distance of θ₀ to 0 or 1 after {compared_depth} layers",
            widest,
            measured["log10_distance"][:, -1, depths.index(compared_depth)].tolist(),
            measure,
        ),
    )


def _means(
    distances: NDArray[np.float64], near_one: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Return the means over test vectors, by the last axis; the loss is 1 - theta_0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "nll": np.mean(laws.binary_entropy(distances), axis=-1),
            "log10_distance": np.mean(np.log10(distances), axis=-1),
            "loss_below": np.sum(distances * near_one, axis=-1) / np.sum(near_one, axis=-1),
            "loss_above": np.sum(distances * ~near_one, axis=-1) / np.sum(~near_one, axis=-1),
            "share_below": np.mean(near_one, axis=-1),
        }


def _law(
    widths: Sequence[int],
    depths: Sequence[int],
    dim: int,
    num_test: int,
    progress: Progress | None,
) -> dict[str, NDArray[np.float64]]:
    """Return what the angle chain and the mean field give for Gaussian vectors.

    The cotangent of their angle to a fixed vector is Student's t over the root of its degrees of
    freedom. Only angles that end below pi / 2 are averaged, which have all their digits; by
    symmetry the others have the same law.
    """
    rng = np.random.default_rng(0)
    networks = _NETWORKS_OF_THE_LAW
    shape = (networks, 2 * num_test)
    layers = list(depths)
    nll = np.empty((networks, len(widths), len(depths)))
    log10_distance = np.empty_like(nll)
    mean_field = np.empty((len(widths), len(depths)))
    evenly = (np.arange(num_test) + 0.5) / (2 * num_test)
    typical = np.arctan2(math.sqrt(dim - 1), stats.t.isf(evenly, dim - 1))  # acute
    stage = Stage(progress, len(widths), "law")
    for i, width in enumerate(widths):
        cosines = rng.standard_normal(shape)
        start = np.arctan2(np.sqrt(rng.chisquare(dim - 1, shape)), cosines)
        angles = laws.angle_chain(
            start.ravel(), width, dim, depths[-1], samples_per_network=shape[1], rng=rng
        )[layers].reshape(len(layers), *shape)
        acute = angles < math.pi / 2
        distances = np.where(acute, angles, 1.0) / math.pi  # (D, C, 2 N)
        counts = np.sum(acute, axis=-1)
        entropies = np.sum(laws.binary_entropy(distances) * acute, axis=-1)
        decades = np.sum(np.log10(distances) * acute, axis=-1)
        nll[:, i], log10_distance[:, i] = (entropies / counts).T, (decades / counts).T
        field = laws.mean_field_angle(typical, width, dim, depths[-1])[layers] / math.pi
        mean_field[i] = np.mean(laws.binary_entropy(field), axis=-1)
        stage.part_done()
    stage.end()
    return {
        "law_nll": nll,
        "law_log10_distance": log10_distance,
        "mean_field_nll": mean_field,
    }


def _title(settings: Mapping[str, Any]) -> str:
    return (
        f"Convergence of k = {settings['dim']} networks on N = {settings['num_test']} random "
        f"vectors: {made_by(settings)}"
    )


def _draw_losses(axes: Axes, depths: Sequence[int], losses: NDArray[np.float64]) -> Any:
    """Draw the distribution of the loss at each depth as a column of an image."""
    from matplotlib.colors import LogNorm

    edges = np.linspace(0.0, 1.0, 61)
    shares = np.stack([np.histogram(row, edges)[0] for row in losses]) / losses.shape[1]
    image = axes.pcolormesh(
        depths,
        0.5 * (edges[1:] + edges[:-1]),
        np.where(shares > 0.0, shares, np.nan).T,
        norm=LogNorm(1.0 / losses.shape[1], 1.0),
        cmap="magma_r",
        shading="nearest",
        rasterized=True,
    )
    axes.axhline(0.5, color="0.5", linewidth=0.8, linestyle=":")
    axes.set_ylim(0.0, 1.0)
    axes.set_xlabel("layers L")
    return image


def _width_colors(count: int) -> NDArray[np.float64]:
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0.0, 0.88, count))


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    open_axes(axes, "both")
