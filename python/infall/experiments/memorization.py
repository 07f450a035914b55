"""Two clusters from every layer: how test vectors of all layers gather in 2L clusters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from infall import laws
from infall._arrays.calls import Progress
from infall._arrays.checks import integer, row_count
from infall.experiments.axes import error_bars, open_axes
from infall.experiments.deep_angles import deep_angles
from infall.experiments.embedding import embed, single_threaded
from infall.experiments.inputs import random_angles, width_label, width_name
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

_NETWORKS_OF_THE_LAW = 64
_VECTORS_OF_THE_LAW = 1000
_SILHOUETTE_SAMPLES = 2000
_STARTS = 10  # of k-means
_PERPLEXITY = 30.0
_SIDES = ("+", "-")


@dataclass(frozen=True, eq=False)
class Memorization(Result):
    """Clusters of the union of the outputs of all layers.

    Arrays of measurements have shape (S, L): seeds, layers from the first; or (S,).
    """

    name: ClassVar[str] = "memorization"
    paper: ClassVar[str] = "Fig. 7 and 8"

    settings: Mapping[str, Any]
    silhouette: NDArray[np.float64]
    """Mean silhouette of the outputs of a layer, their cluster being (layer, side)."""
    found_alone: NDArray[np.float64]
    """Share of the outputs of a layer in a cluster that is mostly of their layer and side."""
    log10_distance: NDArray[np.float64]
    """Mean log10 of the distance of theta_0 to the nearer of 0 and 1."""
    law_log10_distance: NDArray[np.float64]
    """(C, L): the same by the angle chain, of C networks."""
    rand_index: NDArray[np.float64]
    """(S,): adjusted Rand index of k-means with 2L clusters against (layer, side)."""
    rand_index_from: NDArray[np.float64]
    """Adjusted Rand index of k-means on the layers from this one on, two clusters for each."""
    counts: tuple[int, ...]
    """Numbers of clusters that were tried."""
    silhouette_by_count: NDArray[np.float64]
    """(S, counts): silhouette of k-means with each of them, of a random subset."""
    embedding: NDArray[np.float64]
    """(L N, 2): t-SNE of the first seed."""
    layers: NDArray[np.int_]
    """(L N,): layer of each, from 1."""
    near_one: NDArray[np.bool_]
    """(L N,): side of each."""
    labels: NDArray[np.int_]
    """(L N,): its cluster of 2L."""
    comparison: SamplerComparison

    def table(self) -> Table:
        """Return one row per layer, and one for all layers together."""
        columns = ["layer"]
        quantities: list[NDArray[np.float64]] = []  # (L,) each
        for name in ("silhouette", "found_alone", "log10_distance", "rand_index_from"):
            columns += [name, f"{name}_error"]
            quantities += mean_and_error(getattr(self, name))
            if name == "log10_distance":
                columns += ["log10_distance_law", "log10_distance_law_error"]
                quantities += mean_and_error(self.law_log10_distance)
        rows = [
            [layer + 1, *(cell(quantity[layer]) for quantity in quantities)]
            for layer in range(self.silhouette.shape[1])
        ]
        return Table(columns, rows)

    def summary(self) -> str:
        """Say how far k-means finds the 2L clusters, and whether their number stands out."""
        depth = self.silhouette.shape[1]
        by_count = self.silhouette_by_count.mean(axis=0)
        right, best = by_count[self.counts.index(2 * depth)], int(np.argmax(by_count))
        index = with_error(*mean_and_error(self.rand_index))
        silhouettes = self.silhouette.mean(axis=0)
        text = (
            f"k-means with 2L = {2 * depth} clusters finds (layer, side) with an adjusted Rand "
            f"index of {index}, where the paper sees them by eye. The silhouette of a layer goes "
            f"from {silhouettes[0]:.2f} at layer 1 to {silhouettes[-1]:.5f} at layer {depth}"
        )
        if depth > 2:
            later = with_error(*mean_and_error(self.rand_index_from[:, 2]))
            text += f"; from layer 3 on the index is {later}"
        text += (
            f". The silhouette of k-means has risen to {right:.3f} at 2L clusters, of at most "
            f"{by_count[best]:.3f} at {self.counts[best]}. "
        )
        wide = width_name(self.settings["width"])
        return f"{text}At n = {wide}, {self.comparison.sentence()}."

    def plot(self) -> Figure:
        """Return the embedding by layer and side and by cluster, and the measures by layer."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        settings = self.settings
        figure = Figure(figsize=(13.5, 7.4), layout="constrained")
        figure.suptitle(
            f"Clusters of {settings['depth']} layers, N = {settings['num_test']} random vectors "
            f"each: k = {settings['dim']}, n = {width_label(settings['width'])}, "
            f"{made_by(settings)}",
            fontsize=12,
        )
        parts: Any = figure.subfigures(2, 1, height_ratios=[1.55, 1.0])
        top, bottom = parts
        truth_axes, cluster_axes = top.subplots(1, 2)
        self._draw_truth(truth_axes)
        self._draw_clusters(cluster_axes)
        tightness, silhouettes, counts = bottom.subplots(1, 3)
        self._draw_tightness(tightness)
        self._draw_silhouettes(silhouettes)
        self._draw_counts(counts)
        for axes in (truth_axes, cluster_axes):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.margins(0.03)
        for axes in (tightness, silhouettes, counts):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            open_axes(axes, "both")
        return figure

    def _draw_truth(self, axes: Axes) -> None:
        from matplotlib import colormaps
        from matplotlib.patheffects import withStroke

        depth = self.silhouette.shape[1]
        colors = colormaps["turbo"](np.linspace(0.05, 0.95, depth))
        for layer in range(1, depth + 1):
            for side, marker in ((False, "o"), (True, "^")):
                chosen = (self.layers == layer) & (self.near_one == side)
                points = self.embedding[chosen]
                x, y = points.T
                axes.scatter(x, y, color=colors[layer - 1], marker=marker, s=6, linewidths=0.0)
                if len(points):
                    axes.text(
                        np.median(x),
                        np.median(y),
                        f"{layer}{_SIDES[int(side)]}",
                        ha="center",
                        va="center",
                        fontsize=9,
                        fontweight="bold",
                        path_effects=[withStroke(linewidth=2.5, foreground="white")],
                    )
        axes.set_title("t-SNE, coloured by layer; + and - are the sides", fontsize=10)

    def _draw_clusters(self, axes: Axes) -> None:
        from matplotlib import colormaps

        palette = np.concatenate([colormaps[name](np.arange(20)) for name in ("tab20", "tab20b")])
        x, y = self.embedding.T
        axes.scatter(x, y, c=palette[self.labels % len(palette)], s=6, linewidths=0.0)
        index = self.rand_index[0]
        axes.set_title(
            f"the same, coloured by k-means({self.labels.max() + 1}): "
            f"adjusted Rand index {index:.3f}",
            fontsize=10,
        )

    def _draw_tightness(self, axes: Axes) -> None:
        layers = np.arange(1, self.silhouette.shape[1] + 1)
        law, _ = mean_and_error(self.law_log10_distance)
        axes.plot(layers, 10.0**law, color="0.35", linewidth=1.2, label="angle chain")
        mean, error = mean_and_error(self.log10_distance)
        low, high = 10.0 ** (mean - error), 10.0 ** (mean + error)
        axes.errorbar(
            layers,
            10.0**mean,
            yerr=None if np.isnan(error).all() else [10.0**mean - low, high - 10.0**mean],
            fmt="o",
            color="#3a9a5b",
            markersize=4,
            label="measured",
        )
        axes.set_yscale("log")
        axes.set_xlabel("layer")
        axes.set_title("typical distance of θ₀ to 0 or 1", fontsize=10)
        axes.legend(frameon=False, fontsize=8)

    def _draw_silhouettes(self, axes: Axes) -> None:
        layers = np.arange(1, self.silhouette.shape[1] + 1)
        for shares, label, color in (
            (self.silhouette, "silhouette of (layer, side)", "#2a6fbb"),
            (self.found_alone, "share in a cluster of their own", "#d9722e"),
        ):
            mean, error = mean_and_error(shares)
            axes.errorbar(
                layers,
                mean,
                yerr=error_bars(error),
                fmt="o-",
                color=color,
                markersize=4,
                linewidth=1.0,
                label=label,
            )
        axes.set_xlabel("layer")
        axes.set_title("by layer", fontsize=10)
        axes.legend(frameon=False, fontsize=8, loc="lower right")

    def _draw_counts(self, axes: Axes) -> None:
        mean, error = mean_and_error(self.silhouette_by_count)
        axes.errorbar(
            self.counts,
            mean,
            yerr=error_bars(error),
            fmt="o-",
            color="#2a6fbb",
            markersize=4,
            linewidth=1.0,
        )
        depth = self.silhouette.shape[1]
        axes.axvline(2 * depth, color="0.5", linestyle=":", linewidth=1.0)
        axes.text(2 * depth, axes.get_ylim()[0], " 2L", color="0.4", va="bottom", fontsize=9)
        axes.set_xlabel("clusters")
        axes.set_title("silhouette of k-means", fontsize=10)


def memorization(
    *,
    width: int = 2**25,
    depth: int = 8,
    dim: int = 15,
    num_test: int = 500,
    seeds: Seeds = 10,
    sampler: Sampler = "order_statistics",
    progress: Progress | None = None,
) -> Memorization:
    """Cluster the outputs that fresh random vectors have after each layer of one network.

    Every seed has its own network, fitted vector and test vectors, all Gaussian.

    Parameters
    ----------
    width : int
        Rows n of a layer, at least `dim`.
    depth : int
        Number of layers L, at least 2.
    dim : int
        Input length k, at least 2.
    num_test : int
        Test vectors N of each layer.
    seeds : int or sequence of int
        Number of seeds, counted from 0, or the seeds themselves.
    sampler : {"order_statistics", "rotated", "stream"}
        See `infall.select_rows`. One more network is fitted by `stream` and compared.
    progress : callable, optional
        Called as progress(done, total, stage).

    Returns
    -------
    Memorization
        Deterministic: the same for the same arguments, up to the rounding of matrix products.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.
    ModuleNotFoundError
        Without scikit-learn (``pip install infall[experiments]``).

    Notes
    -----
    Source: Wormhole Dynamics in Deep Neural Networks, Section VI-A, Figures 7 and 8.
    """
    dim = integer(dim, "dim", 2, 2**31, "2**31")
    width = row_count(width, "width")
    if width < dim:
        raise ValueError(f"width is {width}; expected at least dim = {dim}")
    depth = integer(depth, "depth", 2, 2**31, "2**31")
    num_test = integer(num_test, "num_test", 10, 2**31, "2**31")
    seeds = seed_numbers(seeds)
    counts = tuple(range(2, 2 * depth + 9, 2))

    models, measured_by_seed, unions = [], [], []
    stage = Stage(progress, len(seeds))
    for seed in seeds:
        w, X = _inputs(seed, dim, num_test, depth)
        models.append(fitted(w, width, depth, seed, sampler, progress))
        unions.append(_union(models[-1], X))
        measured_by_seed.append(_measured(unions[-1], depth, counts, seed))
        measured_by_seed[-1]["log10_distance"] = _log10_distances(models[-1], X)
        stage.part_done()
    stage.end()
    points, layers, near_one = unions[0]

    def other(seed: int, kind: Sampler) -> tuple[MaxLikelihood, float]:
        w, X = _inputs(seed, dim, num_test, depth)
        model = fitted(w, width, depth, seed, kind, progress)
        return model, float(_log10_distances(model, X)[-1])

    labels = [of_seed.pop("labels") for of_seed in measured_by_seed]
    measured = {
        name: np.array([of_seed[name] for of_seed in measured_by_seed])
        for name in measured_by_seed[0]
    }
    return Memorization(
        settings={
            "width": width,
            "depth": depth,
            "dim": dim,
            "num_test": num_test,
            "seeds": seeds,
            "sampler": sampler,
        },
        **measured,
        law_log10_distance=_law(width, depth, dim),
        counts=counts,
        embedding=embed([points], 2, _PERPLEXITY, seeds[0], progress)[0],
        layers=layers,
        near_one=near_one,
        labels=labels[0],
        comparison=compare_samplers(
            f"the mean log10 distance of θ₀ to 0 or 1 after {depth} layers",
            models,
            measured["log10_distance"][:, -1].tolist(),
            other,
        ),
    )


def _inputs(
    seed: int, dim: int, num_test: int, depth: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a vector to fit (k,) and fresh test vectors for each layer (L, N, k)."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(dim), rng.standard_normal((depth, num_test, dim))


def _union(
    model: MaxLikelihood, X: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int_], NDArray[np.bool_]]:
    """Return the outputs of the vectors of each layer (L N, k), their layers and their sides."""
    depth, num_test, _ = X.shape
    outputs = np.stack([model.transform(X[layer], layer=layer + 1) for layer in range(depth)])
    near_one = np.einsum("lnk,lk->ln", outputs, model.outputs_) < 0.0
    layers = np.repeat(np.arange(1, depth + 1), num_test)
    return outputs.reshape(depth * num_test, -1), layers, near_one.ravel()


def _log10_distances(model: MaxLikelihood, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean log10 distance to 0 or 1 of the vectors of each layer (L,)."""
    distances = [deep_angles(model, X[layer], [layer + 1])[0][0] for layer in range(len(X))]
    means: NDArray[np.float64] = np.log10(distances).mean(axis=1)
    return means


def _measured(
    union: tuple[NDArray[np.float64], NDArray[np.int_], NDArray[np.bool_]],
    depth: int,
    counts: Sequence[int],
    seed: int,
) -> dict[str, Any]:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, silhouette_samples, silhouette_score

    points, layers, near_one = union
    truth = 2 * (layers - 1) + near_one  # (L N,)
    state = seed % 2**32  # as far as scikit-learn's random states go

    def clusters(points: NDArray[np.float64], count: int) -> NDArray[np.int_]:
        k_means = KMeans(count, n_init=_STARTS, random_state=state).fit(points)
        labels: NDArray[np.int_] = k_means.labels_
        return labels

    with single_threaded():
        by_count, labels = [], np.zeros(len(points), dtype=int)
        for count in counts:
            count_labels = clusters(points, count)
            by_count.append(
                silhouette_score(
                    points,
                    count_labels,
                    sample_size=min(_SILHOUETTE_SAMPLES, len(points)),
                    random_state=state,
                )
            )
            if count == 2 * depth:
                labels = count_labels
        silhouettes = silhouette_samples(points, truth)
        from_layer = [adjusted_rand_score(truth, labels)]
        for layer in range(2, depth + 1):
            later = layers >= layer
            from_layer.append(
                adjusted_rand_score(truth[later], clusters(points[later], 2 * (depth + 1 - layer)))
            )
    table = np.zeros((2 * depth, 2 * depth), dtype=int)  # truth by cluster
    np.add.at(table, (truth, labels), 1)
    own = np.argmax(table, axis=0)[labels] == truth
    return {
        "silhouette": [silhouettes[layers == layer].mean() for layer in range(1, depth + 1)],
        "found_alone": [own[layers == layer].mean() for layer in range(1, depth + 1)],
        "rand_index": from_layer[0],
        "rand_index_from": from_layer,
        "silhouette_by_count": by_count,
        "labels": labels,
    }


def _law(width: int, depth: int, dim: int) -> NDArray[np.float64]:
    """Return `log10_distance` by the angle chain (C, L), of the angles that end below pi / 2."""
    rng = np.random.default_rng(0)
    shape = (_NETWORKS_OF_THE_LAW, _VECTORS_OF_THE_LAW)
    angles = laws.angle_chain(
        random_angles(rng, dim, shape).ravel(),
        width,
        dim,
        depth,
        samples_per_network=shape[1],
        rng=rng,
    )[1:].reshape(depth, *shape)
    acute = angles < math.pi / 2
    decades = np.log10(np.where(acute, angles / math.pi, 1.0))
    means: NDArray[np.float64] = (np.sum(decades, axis=-1) / np.sum(acute, axis=-1)).T
    return means
