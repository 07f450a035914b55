"""Neural collapse of the two sides of a MaxLikelihood network, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from infall import laws
from infall._arrays.calls import Progress
from infall._arrays.checks import integer
from infall.collapse import collapse_report
from infall.experiments.axes import error_bars, open_axes
from infall.experiments.inputs import gaussian_input, random_angles, width_label
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
_SIDE_COLORS = ("#2a6fbb", "#d9722e")  # near the fitted output, near its opposite
_COLORS = ("#2a6fbb", "#d9722e", "#3a9a5b", "#8a5fbf")
_CHAIN_NETWORKS, _SAMPLES_PER_NETWORK = 32, 2**14
_DRAWN = 1000  # samples in the scatter plots
METRICS = ("nc1", "nc2", "nc3", "nc3_papyan", "nc4", "cdnv_mean", "pfc1", "pfc2", "pfc3")
"""Fields of `infall.CollapseReport` that are measured."""
_WANTED = ("nc1", "nc2", "nc3", "nc3_papyan", "nc4", "cdnv", "pfc1", "pfc2", "pfc3")


@dataclass(frozen=True, eq=False)
class LayerCollapse(Result):
    """Metrics of neural collapse over layers; the class of a sample is its side in the last one."""

    name: ClassVar[str] = "collapse"
    paper: ClassVar[str] = "Section VI, Fig. 6"

    settings: Mapping[str, Any]
    metrics: Mapping[str, _Float]
    """(S, L + 1) for every name in `METRICS`; NaN where all samples are on one side."""
    shares_near: _Float
    """(S,): share of the samples on the side of w."""
    predicted_pfc1: _Float
    """(L + 1,): PFC1 by the angle chain; NaN for the input, where the law of the angles is not
    enough."""
    samples: _Float
    """(L + 1, n, 2): of the first seed, along w_l and along the principal direction across it."""
    sample_sides: NDArray[np.int64]
    """(n,): 0 near w, 1 near -w."""
    comparison: SamplerComparison

    def table(self) -> Table:
        """Return one row per layer: every metric with its standard error, and the law of PFC1."""
        means_and_errors = [mean_and_error(self.metrics[name]) for name in METRICS]
        columns = ["layer"]
        for name in METRICS:
            columns += [name, f"{name}_error"]
        columns.append("law_pfc1")
        rows = []
        for layer in range(len(self.predicted_pfc1)):
            cells = [cell(part[layer]) for pair in means_and_errors for part in pair]
            rows.append((layer, *cells, cell(self.predicted_pfc1[layer])))
        return Table(columns, rows)

    def plot(self) -> Figure:
        """Draw samples at some layers, and the metrics over all of them."""
        from matplotlib.figure import Figure

        settings = self.settings
        figure = Figure(figsize=(13.0, 7.4), layout="constrained")
        figure.suptitle(
            f"Neural collapse of the two sides: k = {settings['dim']}, "
            f"n = {width_label(settings['width'])}, N = {settings['num_test']}, "
            f"{made_by(settings)}",
            fontsize=12,
        )
        halves: Any = figure.subfigures(2, 1, height_ratios=[0.8, 1.0])
        top, bottom = halves
        depth = settings["depth"]
        shown = np.unique(np.linspace(0, depth, min(depth + 1, 5)).round().astype(int))
        for axes, layer in zip(
            np.atleast_1d(top.subplots(1, len(shown), sharey=True)).ravel(), shown, strict=True
        ):
            self._draw_samples(axes, int(layer))
        variability, means, errors = bottom.subplots(1, 3)
        self._draw(variability, ("nc1", "pfc1", "cdnv_mean"), ("NC1", "PFC1", "CDNV"))
        layers = np.arange(depth + 1)
        variability.plot(
            layers, self.predicted_pfc1, color=_COLORS[1], linewidth=1.2, label="PFC1, law"
        )
        self._draw(
            means,
            ("nc2", "pfc2", "nc3", "nc3_papyan"),
            ("NC2", "PFC2", "NC3", "NC3, Papyan's form"),
        )
        self._draw(errors, ("nc4", "ncc_error"), ("NC4", "1 - PFC3"))
        for axes, title in (
            (variability, "Variability within sides"),
            (means, "Means: simplex (2), duality (3)"),
            (errors, "Nearest class mean (4)"),
        ):
            axes.set_title(title, fontsize=10)
            axes.legend(frameon=False, fontsize=8)
        variability.set_yscale("log")
        means.set_yscale("log")
        means.set_ylim(bottom=1e-18)
        means.annotate(
            "0 for any two opposed means",
            (0.5, 0.16),
            xycoords="axes fraction",
            ha="center",
            fontsize=8,
            color="0.4",
        )
        errors.set_ylim(bottom=-0.005)
        return figure

    def _draw_samples(self, axes: Axes, layer: int) -> None:
        for side, color in enumerate(_SIDE_COLORS):
            x, y = self.samples[layer, self.sample_sides == side].T
            axes.plot(x, y, ".", color=color, markersize=3, alpha=0.6)
        axes.plot([1.0, -1.0], [0.0, 0.0], "k+", markersize=9)
        axes.set_xlim(-1.1, 1.1)
        axes.set_ylim(-0.45, 0.45)
        axes.set_title("input" if layer == 0 else f"layer {layer}", fontsize=10)
        axes.set_xlabel("along w")
        if layer == 0:
            axes.set_ylabel("principal direction across w")
        open_axes(axes)

    def _draw(self, axes: Axes, names: tuple[str, ...], labels: tuple[str, ...]) -> None:
        from matplotlib.ticker import MaxNLocator

        for name, label, color in zip(names, labels, _COLORS, strict=False):
            metric = 1.0 - self.metrics["pfc3"] if name == "ncc_error" else self.metrics[name]
            mean, error = mean_and_error(metric)
            if name not in ("nc4", "ncc_error"):
                # Exact zeros have no place on the axis.
                mean = np.where(mean > 0.0, mean, np.nan)
            layers, bars = np.arange(len(mean)), error_bars(error)
            axes.errorbar(layers, mean, bars, fmt="o", color=color, markersize=4, label=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("layer")
        open_axes(axes, "y")

    def summary(self) -> str:
        """Return which of the four properties the two sides have, and since which layer."""
        last = {name: mean_and_error(metric[:, -1]) for name, metric in self.metrics.items()}
        simplex = max(np.nanmax(self.metrics[name]) for name in ("nc2", "pfc2", "nc3"))
        return (
            f"After {self.settings['depth']} layers the two sides have NC1 "
            f"{with_error(*last['nc1'])}, PFC1 {with_error(*last['pfc1'])} (law "
            f"{self.predicted_pfc1[-1]:.3g}), NC3 in Papyan's form "
            f"{with_error(*last['nc3_papyan'])} and NC4 {with_error(*last['nc4'])}. NC2, PFC2 and "
            f"the ratio form of NC3 are {simplex:.1g} at most, already for the input: two means, "
            "and a classifier with opposed rows, are a simplex whatever they are. "
            f"{self.comparison.sentence()}."
        )


def layer_collapse(
    *,
    width: int = 2**25,
    depth: int = 9,
    dim: int = 256,
    num_test: int = 5000,
    seeds: Seeds = 10,
    sampler: Sampler = "order_statistics",
    progress: Progress | None = None,
) -> LayerCollapse:
    """Measure neural collapse of Gaussian test vectors, layer by layer.

    The class of a test vector is the side of w_L that its output ends on; the classifier of layer
    l has the rows w_l and -w_l.

    Parameters
    ----------
    width : int
        Rows n of every layer.
    depth : int
        Layers L; one network shows all of them.
    dim : int
        Length k of the vectors.
    num_test : int
        Test vectors N.
    seeds : int or sequence of int
        Each draws w, the network and the test vectors. A count stands for 0, 1, ...
    sampler : {"order_statistics", "stream", "rotated"}
        See `infall.select_rows`.
    progress : callable, optional
        Called as progress(done, total, stage).

    Returns
    -------
    LayerCollapse
        A pure function of the arguments.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.

    Notes
    -----
    Source: Wormhole Dynamics, Section VI; Kothapalli, Eq. 4-9 and 51; Wang et al., Progressive
    Feedforward Collapse, Section III, for the metrics.
    """
    seeds = seed_numbers(seeds)
    depth = integer(depth, "depth", 1, 2**31, "2**31")
    dim = integer(dim, "dim", 2, 2**31, "2**31")
    num_test = integer(num_test, "num_test", 2, 2**31, "2**31")

    def measure(seed: int, kind: Sampler) -> tuple[MaxLikelihood, _Float, NDArray[np.int64]]:
        w, tests = gaussian_input(seed, dim, num_test)
        model = fitted(w, width, depth, seed, kind, progress)
        outputs = model.transform(tests, layer=None)
        return model, outputs, (outputs[-1] @ model.outputs_[-1] < 0.0).astype(np.int64)

    models, shares = [], []
    metrics = np.empty((len(METRICS), len(seeds), depth + 1))
    stage = Stage(progress, len(seeds) * (depth + 1))
    for s, seed in enumerate(seeds):
        model, outputs, sides = measure(seed, sampler)
        layers = list(zip(fitted_outputs(model), outputs, strict=True))
        for layer, (w, layer_outputs) in enumerate(layers):
            metrics[:, s, layer] = _metrics(w, layer_outputs, sides)
            stage.part_done()
        if s == 0:
            samples = np.array([_in_plane(w, layer_outputs) for w, layer_outputs in layers])
            sample_sides = sides[:_DRAWN]
        models.append(model)
        shares.append(1.0 - sides.mean())
    metrics_by_name = dict(zip(METRICS, metrics, strict=True))

    def other(seed: int, kind: Sampler) -> tuple[MaxLikelihood, float]:
        model, outputs, sides = measure(seed, kind)
        metrics = _metrics(model.outputs_[-1], outputs[-1], sides)
        return model, math.log(metrics[METRICS.index("pfc1")])

    comparison = compare_samplers(
        f"The ln of PFC1 after layer {depth}",
        models,
        np.log(metrics_by_name["pfc1"][:, -1]).tolist(),
        other,
    )
    stage.end()
    settings = {
        "width": width,
        "depth": depth,
        "dim": dim,
        "num_test": num_test,
        "sampler": sampler,
        "seeds": seeds,
    }
    return LayerCollapse(
        settings,
        metrics_by_name,
        np.array(shares),
        _predicted_pfc1(width, dim, depth, num_test),
        samples[:, :_DRAWN],
        sample_sides,
        comparison,
    )


def _metrics(w: _Float, outputs: _Float, sides: NDArray[np.int64]) -> list[float]:
    report = collapse_report(
        outputs, sides, classifier=np.stack([w, -w]), metrics=_WANTED, classes=(0, 1)
    )
    metrics = [getattr(report, name) for name in METRICS]
    return [math.nan if metric is None else float(metric) for metric in metrics]


def _in_plane(w: _Float, outputs: _Float) -> _Float:
    # (N, k) -> (N, 2): along w, and where the rest varies most.
    along = outputs @ w
    across = outputs - np.outer(along, w)
    _, directions = np.linalg.eigh(across.T @ across)
    return np.stack([along, across @ directions[:, -1]], axis=1)


def _predicted_pfc1(width: int, dim: int, depth: int, num_test: int) -> _Float:
    """Return (L + 1,) tr Sigma_W / tr Sigma_B of unit vectors on either side, by the angle chain.

    The centred class means are +-mu, ||mu||^2 the square of the mean cosine to w_l, signed by the
    last side, and the variance of that mean; the rest of the unit length is within.
    """
    rng = np.random.default_rng(0)
    count = _CHAIN_NETWORKS * _SAMPLES_PER_NETWORK
    angles = random_angles(rng, dim, count)
    chain = laws.angle_chain(
        angles, width, dim, depth, samples_per_network=_SAMPLES_PER_NETWORK, rng=rng
    )
    between = (np.cos(chain) * np.where(chain[-1] > np.pi / 2, -1.0, 1.0)).mean(axis=1) ** 2
    between += (1.0 - between) / num_test
    predicted: _Float = (1.0 - between) / between
    predicted[0] = np.nan  # the last side depends on other directions of the input than w too
    return predicted
