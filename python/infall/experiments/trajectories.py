"""Paths through the layers in the extended space R^(k+1), with and without selection of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from infall import laws
from infall._arrays.calls import Progress
from infall._arrays.checks import integer, positive_number
from infall.experiments.axes import error_bars, open_axes
from infall.experiments.deep_angles import deep_angles
from infall.experiments.inputs import gaussian_input, random_angles, width_label, width_name
from infall.experiments.repeats import (
    SamplerComparison,
    Seeds,
    Stage,
    cell,
    compare_samplers,
    fitted,
    fitted_outputs,
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
_COLORS = ("#2a6fbb", "#d9722e")  # near the fitted output, near its opposite
_SCORES_DRAWN = 2**20  # for each predicted curve
_SAMPLES_PER_NETWORK = 64
_DRAWN = 12  # test vectors whose paths are drawn


@dataclass(frozen=True, eq=False)
class Paths:
    """Paths of one kind of network; layer 0 is the input."""

    dim: int
    width: int
    """Rows of a layer; where it is `dim`, nothing is selected."""
    log_norms: _Float
    """(S, L + 1): ln ||w_l||, not normalised on the way."""
    directions: _Float
    """(S, L + 1, k): w_l, of unit length."""
    log_layer_components: _Float
    """(S, L + 1): ln of l c / sqrt((l c)^2 + ||w_l||^2); -inf at the input."""
    distances: _Float
    """(S, L + 1, N): distance of the angle scores of the test vectors to the nearer of 0 and 1."""
    near_one: NDArray[np.bool_]
    """(S, L + 1, N): True where that is 1."""
    test_log_layer_components: _Float
    """(S, L + 1, N): the same as `log_layer_components` for the test vectors."""
    test_directions: _Float
    """(L + 1, min(N, 12), k): of the first seed, of unit length."""
    log_tangents: _Float
    """(S, L + 1): mean ln of the tangent of the angle to the line of w_l."""
    predicted_log_tangents: _Float
    """(L + 1,): the same by the angle chain, from random directions."""
    predicted_log_norms: _Float
    """(L + 1,): E ln ||w_l|| of a unit vector, by the law of the selected rows."""

    @property
    def selects(self) -> bool:
        """Whether rows are selected."""
        return self.width > self.dim

    @property
    def rate(self) -> float:
        """exp(E ln T - E ln chi_{k-1}), by which tangents fall per layer once they are small."""
        degrees = self.dim - 1
        log_chi = 0.5 * (math.log(2.0) + float(special.digamma(0.5 * degrees)))
        return math.exp(float(self.predicted_log_norms[1]) - log_chi)

    def points(self) -> tuple[_Float, _Float]:
        """Return [l c; w_l] of unit length: (L + 1, k + 1), and of test vectors, (L + 1, n, k + 1).

        Of the first seed.
        """
        points = []
        shown = self.test_directions.shape[1]
        for log_components, directions in (
            (self.log_layer_components[0], self.directions[0]),
            (self.test_log_layer_components[0, :, :shown], self.test_directions),
        ):
            components = np.exp(log_components)[..., None]
            across = np.sqrt((1.0 - components) * (1.0 + components))
            points.append(np.concatenate([components, across * directions], axis=-1))
        fitted_points, test_points = points
        return fitted_points, test_points


@dataclass(frozen=True, eq=False)
class Trajectories(Result):
    """Layer component and angle, each by itself, with and without selection."""

    name: ClassVar[str] = "trajectories"
    paper: ClassVar[str] = "Fig. 10, Eq. 32-38, Theorem 1"

    settings: Mapping[str, Any]
    paths: tuple[Paths, ...]
    """k = 2 with and without selection, then the longer input with and without it."""
    comparison: SamplerComparison

    def table(self) -> Table:
        """Return one row per network and layer: ln of the norm, layer component and tangent."""
        columns = (
            "dim",
            "width",
            "layer",
            "log_norm",
            "log_norm_error",
            "law_log_norm",
            "log10_layer_component",
            "log10_layer_component_error",
            "log_tangent",
            "log_tangent_error",
            "law_log_tangent",
        )
        rows = []
        for paths in self.paths:
            norms, norm_errors = mean_and_error(paths.log_norms)
            with np.errstate(invalid="ignore"):  # -inf at the input
                components, component_errors = mean_and_error(
                    paths.log_layer_components / math.log(10.0)
                )
            tangents, tangent_errors = mean_and_error(paths.log_tangents)
            for layer in range(len(norms)):
                component: tuple[float | None, ...] = (None, None)
                if layer > 0:
                    component = (cell(components[layer]), cell(component_errors[layer]))
                rows.append(
                    (
                        paths.dim,
                        paths.width,
                        layer,
                        cell(norms[layer]),
                        cell(norm_errors[layer]),
                        cell(paths.predicted_log_norms[layer]),
                        *component,
                        cell(tangents[layer]),
                        cell(tangent_errors[layer]),
                        cell(paths.predicted_log_tangents[layer]),
                    )
                )
        return Table(columns, rows)

    def plot(self) -> Figure:
        """Draw the paths for k = 2 on the unit sphere of R^3; layer component; angle."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(13.0, 8.6), layout="constrained")
        settings = self.settings
        figure.suptitle(
            f"Trajectories in the extended space: n = {width_label(settings['width'])}, "
            f"c = {settings['c']:g}, {made_by(settings)}",
            fontsize=12,
        )
        grid = figure.add_gridspec(2, 2, height_ratios=[1.25, 1.0])
        for column, paths in enumerate(self.paths[:2]):
            axes: Any = figure.add_subplot(grid[0, column], projection="3d")
            self._draw_sphere(axes, paths)
        self._draw_components(figure.add_subplot(grid[1, 0]))
        self._draw_tangents(figure.add_subplot(grid[1, 1]))
        return figure

    def _draw_sphere(self, axes: Any, paths: Paths) -> None:
        longitude = np.linspace(0.0, 2.0 * np.pi, 73)
        for height in (0.0, 0.25, 0.5, 0.75, 0.95):
            radius = math.sqrt(1.0 - height * height)
            colour = "0.55" if height == 0.0 else "0.88"
            axes.plot(
                radius * np.cos(longitude), radius * np.sin(longitude), height, color=colour, lw=0.7
            )
        for angle in longitude[:-1:12]:
            arc = np.linspace(0.0, np.pi / 2, 19)
            x, y = np.cos(arc) * np.cos(angle), np.cos(arc) * np.sin(angle)
            axes.plot(x, y, np.sin(arc), color="0.9", lw=0.7)
        fitted_points, test_points = paths.points()
        # The plane is turned in every layer: w_l points along x.
        cosines, sines = paths.directions[0].T  # (L + 1,)
        for test in range(test_points.shape[1]):
            color = _COLORS[int(paths.near_one[0, -1, test])]
            layer, along, across = test_points[:, test].T
            x, y = cosines * along + sines * across, cosines * across - sines * along
            axes.plot(x, y, layer, "-", color=color, lw=0.9, alpha=0.8)
            axes.plot(x[1:], y[1:], layer[1:], ".", color=color, markersize=3)
            axes.plot(x[:1], y[:1], layer[:1], "o", color=color, markersize=4, mfc="white")
        layer = fitted_points[:, 0]
        x = np.sqrt((1.0 - layer) * (1.0 + layer))
        axes.plot(x, 0.0 * x, layer, "-o", color="black", lw=1.6, markersize=4, label="fitted w")
        axes.plot([], [], color=_COLORS[0], label="test, ends near w")
        axes.plot([], [], color=_COLORS[1], label="test, ends near -w")
        axes.set_box_aspect((2, 2, 1), zoom=1.12)
        axes.set_zlim(0.0, 1.0)
        axes.set_xlabel("along w")
        axes.set_ylabel("across w")
        axes.set_zlabel("layer component")
        axes.view_init(elev=28, azim=-60)
        axes.xaxis.set_ticks([-1, 0, 1])
        axes.yaxis.set_ticks([-1, 0, 1])
        axes.zaxis.set_ticks([0, 0.5, 1])
        how = (
            f"the 2 of {width_label(paths.width)} rows that maximise ‖w‖"
            if paths.selects
            else "no selection"
        )
        axes.set_title(f"k = 2, {how}: [l c; w_l] / ‖·‖, layers 0 to {len(layer) - 1}", fontsize=10)
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(-0.28, 1.0))

    def _draw_components(self, axes: Axes) -> None:
        depth, scale = self.settings["depth"], self.settings["c"]
        layers = np.arange(1, depth + 1)
        for network, paths in enumerate(self.paths):
            mean, errors = mean_and_error(paths.log_layer_components[:, 1:] / math.log(10.0))
            style = self._style(network)
            axes.errorbar(layers, mean, error_bars(errors), linestyle="", **style)
            height = np.log(layers) + math.log(scale)
            log_norms = paths.log_norms[:, :1].mean() + paths.predicted_log_norms[1:]
            predicted = height - 0.5 * np.logaddexp(2.0 * height, 2.0 * log_norms)
            axes.plot(layers, predicted / math.log(10.0), color=style["color"], linewidth=1.2)
        axes.set_ylabel("log₁₀ of the layer component")
        axes.set_title("Layer component of w: falls wherever the norm grows", fontsize=10)
        self._finish(axes)

    def _draw_tangents(self, axes: Axes) -> None:
        layers = np.arange(self.settings["depth"] + 1)
        for network, paths in enumerate(self.paths):
            mean, errors = mean_and_error(paths.log_tangents / math.log(10.0))
            style = self._style(network)
            axes.errorbar(layers, mean, error_bars(errors), linestyle="", **style)
            predicted = paths.predicted_log_tangents / math.log(10.0)
            axes.plot(layers, predicted, color=style["color"], linewidth=1.2)
        axes.plot([], [], color="0.35", linewidth=1.2, label="law")
        axes.set_ylabel("mean log₁₀ |tan angle(w', w)|")
        axes.set_title("Angle of test vectors to the line of w: what collapses", fontsize=10)
        self._finish(axes)
        axes.legend(frameon=False, fontsize=8)

    def _style(self, network: int) -> dict[str, Any]:
        paths = self.paths[network]
        how = f"{paths.dim} of {width_label(paths.width)} rows" if paths.selects else "no selection"
        return {
            "color": ("#2a6fbb", "#7fb2e5", "#b5462a", "#e8a58f")[network],
            "marker": "os"[network // 2],
            "markersize": 4,
            "markerfacecolor": None if paths.selects else "white",
            "label": f"k = {paths.dim}, {how}",
        }

    def _finish(self, axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("layer")
        open_axes(axes, "y")

    def summary(self) -> str:
        """Return what the layer component does and what the angles do."""
        parts = []
        for paths in self.paths:
            how = (
                f"{paths.dim} of {width_name(paths.width)} rows"
                if paths.selects
                else "no selection"
            )
            component, error = mean_and_error(paths.log_layer_components[:, -1] / math.log(10.0))
            first, last = np.degrees(np.arctan(np.exp(paths.log_tangents.mean(axis=0)[[0, -1]])))
            parts.append(
                f"k = {paths.dim}, {how}: log10 of the layer component "
                f"{with_error(component, error)}, the typical angle to the line of w falls from "
                f"{first:.3g} to {last:.2g} degrees (in the long run by {paths.rate:.4g} per layer)"
            )
        return (
            f"After {self.settings['depth']} layers: " + "; ".join(parts) + ". Without selection a "
            "long input loses its layer component and keeps its angles, a short one the other way "
            "round, so that the one does not cause the other: selection brings down both. "
            f"{self.comparison.sentence()}."
        )


def trajectories(
    *,
    width: int = 2**10,
    depth: int = 12,
    c: float = 1.0,
    long_dim: int = 256,
    num_test: int = 200,
    seeds: Seeds = 10,
    sampler: Sampler = "order_statistics",
    progress: Progress | None = None,
) -> Trajectories:
    """Follow a fitted vector and test vectors through the layers of the extended space.

    Four networks: for k = 2 and for `long_dim`, with the selection of k of n rows and with n = k,
    where nothing is selected. All vectors start at unit length.

    Parameters
    ----------
    width : int
        Rows n of every layer where rows are selected, more than `long_dim`; the paper does not
        say.
    depth : int
        Layers L.
    c : float
        Height of a layer, positive.
    long_dim : int
        Length k of the longer input, 3 or more.
    num_test : int
        Gaussian test vectors N.
    seeds : int or sequence of int
        Each draws the networks, w and the test vectors. A count stands for 0, 1, ...
    sampler : {"order_statistics", "stream", "rotated"}
        See `infall.select_rows`.
    progress : callable, optional
        Called as progress(done, total, stage).

    Returns
    -------
    Trajectories
        A pure function of the arguments.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.

    Notes
    -----
    The layer component l c / sqrt((l c)^2 + ||w_l||^2) is computed in log space: for k = 256 it
    leaves the range of float64 after a few hundred layers.

    Source: Wormhole Dynamics, Section VII, Eq. 32-38, Theorem 1, Fig. 10.
    """
    seeds = seed_numbers(seeds)
    depth = integer(depth, "depth", 1, 2**31, "2**31")
    num_test = integer(num_test, "num_test", 1, 2**31, "2**31")
    long_dim = integer(long_dim, "long_dim", 3, 2**31, "2**31")
    width = integer(width, "width", long_dim + 1, 2**63, "2**63")
    c = positive_number(c, "c")
    paths: list[Paths] = []
    compared_models: list[MaxLikelihood] = []
    stage = Stage(progress, 4 * len(seeds))
    for dim, num_rows in ((2, width), (2, 2), (long_dim, width), (long_dim, long_dim)):
        models, paths_by_seed = [], []
        for seed in seeds:
            model, tests = _fitted_and_tests(
                dim, num_rows, depth, num_test, seed, sampler, progress
            )
            models.append(model)
            paths_by_seed.append(_followed(model, tests, c))
            stage.part_done()
        paths.append(_paths(dim, num_rows, depth, paths_by_seed))
        if (dim, num_rows) == (long_dim, width):
            compared_models = models

    def other(seed: int, kind: Sampler) -> tuple[MaxLikelihood, float]:
        model, _ = _fitted_and_tests(long_dim, width, depth, 1, seed, kind, progress)
        return model, float(model.log_norms_.sum())

    comparison = compare_samplers(
        f"The ln of the norm for k = {long_dim} after layer {depth}",
        compared_models,
        [float(model.log_norms_.sum()) for model in compared_models],
        other,
    )
    stage.end()
    settings = {
        "width": width,
        "depth": depth,
        "c": c,
        "dims": (2, long_dim),
        "num_test": num_test,
        "sampler": sampler,
        "seeds": seeds,
    }
    return Trajectories(settings, tuple(paths), comparison)


def _fitted_and_tests(
    dim: int,
    width: int,
    depth: int,
    num_test: int,
    seed: int,
    sampler: Sampler,
    progress: Progress | None,
) -> tuple[MaxLikelihood, _Float]:
    w, tests = gaussian_input(seed, dim, num_test)
    return fitted(w / np.linalg.norm(w), width, depth, seed, sampler, progress), tests


def _paths(
    dim: int, width: int, depth: int, paths_by_seed: Sequence[Mapping[str, NDArray[Any]]]
) -> Paths:
    """Join the paths of all seeds, and put the laws beside them."""
    measured: Any = {
        name: np.array([of_seed[name] for of_seed in paths_by_seed]) for name in paths_by_seed[0]
    }
    measured["test_directions"] = measured["test_directions"][0]
    tangents, norms = _law(dim, width, depth)
    return Paths(
        dim,
        width,
        log_tangents=_mean_log_tangent(np.pi * measured["distances"]),
        predicted_log_tangents=tangents,
        predicted_log_norms=norms,
        **measured,
    )


def _followed(model: MaxLikelihood, tests: _Float, scale: float) -> dict[str, NDArray[Any]]:
    """Return what `Paths` holds of one network, by name."""
    norms = np.concatenate([[0.0], np.cumsum(model.log_norms_)])  # ln ||w||: of unit length
    current = tests / np.linalg.norm(tests, axis=1, keepdims=True)
    directions = np.empty((model.depth + 1, *tests.shape))
    test_norms = np.zeros((model.depth + 1, len(tests)))
    directions[0] = current
    for layer, rows in enumerate(model.layers_.astype(np.float64), start=1):
        current = current @ rows.T
        length = np.linalg.norm(current, axis=1)
        test_norms[layer] = test_norms[layer - 1] + np.log(length)
        directions[layer] = current = current / length[:, None]
    distances, near_one = deep_angles(model, tests, range(model.depth + 1))
    return {
        "log_norms": norms,
        "directions": fitted_outputs(model),
        "log_layer_components": _log_components(norms, scale),
        "distances": distances,
        "near_one": near_one,
        "test_log_layer_components": _log_components(test_norms, scale),
        "test_directions": directions[:, :_DRAWN],
    }


def _log_components(log_norms: _Float, scale: float) -> _Float:
    # (L + 1, ...) -> ln (l c / sqrt((l c)^2 + norm^2))
    with np.errstate(divide="ignore"):
        heights = np.log(np.arange(len(log_norms)) * scale)
    heights = heights.reshape(-1, *(1,) * (log_norms.ndim - 1))
    components: _Float = heights - 0.5 * np.logaddexp(2.0 * heights, 2.0 * log_norms)
    return components


def _mean_log_tangent(acute: _Float) -> _Float:
    # (..., N) -> (...)
    tangents = np.tan(np.maximum(acute, np.finfo(np.float64).tiny))
    mean: _Float = np.log(tangents).mean(axis=-1)
    return mean


def _law(dim: int, width: int, depth: int) -> tuple[_Float, _Float]:
    """Return the mean ln tangent and ln norm (L + 1,) by the laws, from random directions."""
    rng = np.random.default_rng(0)
    networks = min(max(256, _SCORES_DRAWN // (dim * depth)), 4096)
    count = networks * _SAMPLES_PER_NETWORK
    angles = random_angles(rng, dim, count)
    chain = laws.angle_chain(
        angles, width, dim, depth, samples_per_network=_SAMPLES_PER_NETWORK, rng=rng
    )
    # Both sides have one law; angles near 0 are precise, those near pi are not.
    ends_near_0 = chain[:, chain[-1] < np.pi / 2]
    tangents = _mean_log_tangent(np.minimum(ends_near_0, np.pi - ends_near_0))
    scores = laws.folded_normal_top(width, dim, size=max(256, _SCORES_DRAWN // dim), rng=rng)
    growth = 0.5 * np.log(np.sum(np.square(scores), axis=1)).mean()
    return tangents, growth * np.arange(depth + 1)
