"""How the outputs of random test vectors gather in two clusters, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from infall import laws
from infall._arrays.calls import Progress
from infall._arrays.checks import integer
from infall.experiments.axes import error_bars, open_axes
from infall.experiments.embedding import embed, single_threaded
from infall.experiments.inputs import (
    gaussian_input,
    layer_widths,
    random_angles,
    width_label,
    width_name,
)
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

_MEASURES = ("silhouette", "davies_bouldin", "inter_distance", "intra_distance", "side_agreement")
_TITLES = (
    "silhouette",
    "Davies-Bouldin index",
    "distance between the clusters",
    "distance to the own centre",
)
_NETWORKS_OF_THE_LAW = 64
_VECTORS_OF_THE_LAW = 1000
_COMPARED_DEPTH = 3  # of the network by another sampler: layers are independent draws
_COLORS = ("#2a6fbb", "#d9722e")


@dataclass(frozen=True, eq=False)
class Clusters(Result):
    """Two clusters of the normalised outputs, by k-means.

    Arrays of measurements have shape (S, W, L + 1): seeds, widths, layers from the input.
    """

    name: ClassVar[str] = "clusters"
    paper: ClassVar[str] = "Fig. 3"

    settings: Mapping[str, Any]
    widths: tuple[int, ...]
    silhouette: NDArray[np.float64]
    """Mean silhouette, of a random subset of the test vectors."""
    davies_bouldin: NDArray[np.float64]
    inter_distance: NDArray[np.float64]
    """Distance between the two centroids."""
    intra_distance: NDArray[np.float64]
    """Mean distance to the own centroid."""
    side_agreement: NDArray[np.float64]
    """Adjusted Rand index of the clusters against the sides, theta_0 below and above 1/2."""
    law_inter_distance: NDArray[np.float64]
    """(W, L + 1): of the two sides, by the angle chain."""
    law_intra_distance: NDArray[np.float64]
    """(W, L + 1): of the two sides, by the angle chain."""
    embedded_layers: tuple[int, ...]
    embedding: NDArray[np.float64]
    """(W, E, M, 3): t-SNE of some test vectors of the first seed, at the embedded layers."""
    embedded_labels: NDArray[np.int_]
    """(W, E, M): their clusters."""
    comparison: SamplerComparison

    def table(self) -> Table:
        """Return one row per width and layer; layer 0 is the input."""
        columns = ["width", "layer"]
        quantities: list[NDArray[np.float64]] = []  # (W, L + 1) each
        for name in _MEASURES:
            columns += [name, f"{name}_error"]
            quantities += mean_and_error(getattr(self, name))
            if name in ("inter_distance", "intra_distance"):
                columns.append(f"{name}_law")
                quantities.append(getattr(self, f"law_{name}"))
        rows = [
            [width, layer, *(cell(quantity[i, layer]) for quantity in quantities)]
            for i, width in enumerate(self.widths)
            for layer in range(self.silhouette.shape[2])
        ]
        return Table(columns, rows)

    def summary(self) -> str:
        """Say whether every metric improves at every layer, and how far."""
        wide, last = width_name(self.widths[-1]), self.silhouette.shape[2] - 1
        ends = [
            f"{name} {with_error(*mean_and_error(getattr(self, key)[:, -1, 1]), 2)} to "
            f"{with_error(*mean_and_error(getattr(self, key)[:, -1, last]), 3)}"
            for key, name in zip(_MEASURES[:4], _TITLES, strict=True)
        ]
        wrong = []
        for key, name, sign in zip(_MEASURES[:4], _TITLES, (1, -1, 1, -1), strict=True):
            steps = sign * np.diff(getattr(self, key).mean(axis=0)[:, 1:], axis=1)
            for i, step in enumerate(steps):
                if (step < 0.0).any():
                    layer = int(np.argmax(step < 0.0)) + 2
                    wrong.append(f"{name} at n = {width_name(self.widths[i])}, layer {layer}")
        text = f"From layer 1 to {last} at n = {wide}: {'; '.join(ends)}. "
        if wrong:
            text += f"All metrics improve at every layer but for {', '.join(wrong)}. "
        else:
            text += "All four metrics improve at every layer and width, as the paper says. "
        agreement = self.side_agreement.mean(axis=0)[-1]
        text += (
            "The clusters are the two sides of the angle score: adjusted Rand index "
            f"{agreement[1]:.2f} at layer 1, {agreement[last]:.3f} at layer {last}. "
        )
        return f"{text}At n = {wide}, {self.comparison.sentence()}."

    def plot(self) -> Figure:
        """Return the embeddings above and the metrics by layer below."""
        from matplotlib.figure import Figure

        # One row of embeddings stands above the measures, several stand beside them.
        alone = len(self.widths) == 1
        figure = Figure(figsize=(13.5, max(6.6, 2.5 * len(self.widths))), layout="constrained")
        settings = self.settings
        figure.suptitle(
            f"Two clusters of N = {settings['num_test']} random vectors, k = {settings['dim']}: "
            f"{made_by(settings)}",
            fontsize=12,
        )
        parts: Any = (
            figure.subfigures(2, 1, height_ratios=[1.3, 1.0])
            if alone
            else figure.subfigures(1, 2, width_ratios=[1.15, 1.0])
        )
        left, right = parts
        left.suptitle("t-SNE of some, coloured by cluster", fontsize=10)
        grid = left.subplots(
            len(self.widths),
            len(self.embedded_layers),
            squeeze=False,
            subplot_kw={"projection": "3d"},
        )
        for i, width in enumerate(self.widths):
            for e, layer in enumerate(self.embedded_layers):
                axes = grid[i, e]
                _draw_embedding(axes, self.embedding[i, e], self.embedded_labels[i, e])
                axes.set_title(f"n = {width_label(width)}, layer {layer}", fontsize=9, y=1.0)
        panels = (right.subplots(1, 4) if alone else right.subplots(2, 2)).ravel()
        for key, title, axes in zip(_MEASURES[:4], _TITLES, panels, strict=True):
            self._draw_measure(axes, key, title)
        panels[1].set_yscale("log")
        panels[3].set_yscale("log")
        panels[0].legend(frameon=False, fontsize=8, loc="lower right")
        kinds = panels[2].plot([], [], "o", color="0.3", markersize=4, label="measured")
        kinds += panels[2].plot([], [], color="0.3", linewidth=1.1, label="two sides, by law")
        panels[2].legend(handles=kinds, frameon=False, fontsize=8, loc="lower right")
        return figure

    def _draw_measure(self, axes: Axes, key: str, title: str) -> None:
        from matplotlib import colormaps
        from matplotlib.ticker import MaxNLocator

        colors = colormaps["viridis"](np.linspace(0.0, 0.8, len(self.widths)))
        mean, error = mean_and_error(getattr(self, key))
        layers = np.arange(mean.shape[1])
        law = getattr(self, f"law_{key}", None)
        for i, width in enumerate(self.widths):
            if law is not None:
                axes.plot(layers, law[i], color=colors[i], linewidth=1.1)
            axes.errorbar(
                layers,
                mean[i],
                yerr=error_bars(error[i]),
                fmt="o" if law is not None else "o-",
                color=colors[i],
                markersize=4,
                linewidth=1.0,
                label=f"n = {width_label(width)}",
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("layer (0: input)")
        open_axes(axes, "both")


def clusters(
    *,
    widths: Sequence[int] = (2**12, 2**16, 2**25),
    depth: int = 9,
    dim: int = 256,
    num_test: int = 5000,
    seeds: Seeds = 10,
    sampler: Sampler = "order_statistics",
    silhouette_samples: int = 2000,
    tsne_samples: int = 400,
    progress: Progress | None = None,
) -> Clusters:
    """Cluster the normalised outputs of random vectors in two, layer by layer.

    Every seed has its own networks, fitted vector and test vectors, all Gaussian.

    Parameters
    ----------
    widths : sequence of int
        Rows n of a layer, ascending, each at least `dim`.
    depth : int
        Number of layers L.
    dim : int
        Input length k, at least 2.
    num_test : int
        Test vectors N.
    seeds : int or sequence of int
        Number of seeds, counted from 0, or the seeds themselves.
    sampler : {"order_statistics", "rotated", "stream"}
        See `infall.select_rows`. The largest width is run once more, three layers deep, by
        `stream` and compared.
    silhouette_samples : int
        Test vectors, drawn at random, that the silhouette is computed of; all if there are fewer.
    tsne_samples : int
        Test vectors of the first seed that are embedded; all if there are fewer.
    progress : callable, optional
        Called as progress(done, total, stage).

    Returns
    -------
    Clusters
        Deterministic: the same for the same arguments, up to the rounding of matrix products.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.
    ModuleNotFoundError
        Without scikit-learn (``pip install infall[experiments]``).

    Notes
    -----
    Source: Wormhole Dynamics in Deep Neural Networks, Section V-B, Figure 3.
    """
    dim = integer(dim, "dim", 2, 2**31, "2**31")
    widths = layer_widths(widths, dim)
    depth = integer(depth, "depth", 1, 2**31, "2**31")
    num_test = integer(num_test, "num_test", 10, 2**31, "2**31")
    seeds = seed_numbers(seeds)
    silhouette_samples = integer(silhouette_samples, "silhouette_samples", 10, 2**31, "2**31")
    silhouette_samples = min(silhouette_samples, num_test)
    tsne_samples = min(integer(tsne_samples, "tsne_samples", 10, 2**31, "2**31"), num_test)
    perplexity = tsne_samples / 4.0
    embedded_layers = np.unique(np.linspace(1, depth, 3).round()).astype(int)

    measures = np.empty((len(_MEASURES), len(seeds), len(widths), depth + 1))
    points: list[NDArray[np.float64]] = []
    labels, widest = [], []
    stage = Stage(progress, len(seeds) * len(widths) * (depth + 1))
    for s, seed in enumerate(seeds):
        w, X = gaussian_input(seed, dim, num_test)
        for i, width in enumerate(widths):
            model = fitted(w, width, depth, seed, sampler, progress)
            outputs = model.transform(X, layer=None)  # (L + 1, N, k)
            measures[:, s, i], layer_labels = _clustered_layers(
                outputs, fitted_outputs(model), seed, silhouette_samples, stage
            )
            if s == 0:
                points += list(outputs[embedded_layers, :tsne_samples])
                labels.append(layer_labels[embedded_layers, :tsne_samples])
        widest.append(model)
    stage.end()

    by_name = dict(zip(_MEASURES, measures, strict=True))
    law_inter_distance, law_intra_distance = _law(widths, depth, dim)
    embedding = np.array(embed(points, 3, perplexity, seeds[0], progress))
    return Clusters(
        settings={
            "dim": dim,
            "num_test": num_test,
            "widths": widths,
            "depth": depth,
            "seeds": seeds,
            "sampler": sampler,
            "silhouette_samples": silhouette_samples,
            "tsne_samples": tsne_samples,
            "tsne_perplexity": perplexity,
        },
        widths=widths,
        **by_name,
        law_inter_distance=law_inter_distance,
        law_intra_distance=law_intra_distance,
        embedded_layers=tuple(embedded_layers.tolist()),
        embedding=embedding.reshape(len(widths), len(embedded_layers), tsne_samples, 3),
        embedded_labels=np.array(labels),
        comparison=_comparison(
            widest, by_name["intra_distance"][:, -1], num_test, silhouette_samples, progress
        ),
    )


def _comparison(
    models: Sequence[MaxLikelihood],
    intra_distance: NDArray[np.float64],
    num_test: int,
    silhouette_samples: int,
    progress: Progress | None,
) -> SamplerComparison:
    """Compare the networks of the largest width, whose distances are (S, L + 1), with another."""
    width, dim = models[0].width, len(models[0].input_)
    depth = min(models[0].depth, _COMPARED_DEPTH)

    def measure(seed: int, sampler: Sampler) -> tuple[MaxLikelihood, float]:
        w, X = gaussian_input(seed, dim, num_test)
        model = fitted(w, width, depth, seed, sampler, progress)
        outputs = model.transform(X)
        near_one = outputs @ model.outputs_[-1] < 0.0
        measured, _ = _two_clusters(outputs, near_one, seed, silhouette_samples)
        return model, math.log10(measured["intra_distance"])

    return compare_samplers(
        f"log10 of the distance to the own centre after {depth} layers",
        models,
        np.log10(intra_distance[:, depth]).tolist(),
        measure,
    )


def _clustered_layers(
    outputs: NDArray[np.float64],
    fitted_by_layer: NDArray[np.float64],
    seed: int,
    silhouette_samples: int,
    stage: Stage,
) -> tuple[NDArray[np.float64], NDArray[np.int_]]:
    """Return the measures (5, L + 1) and the clusters (L + 1, N) of outputs (L + 1, N, k)."""
    measures = np.empty((len(_MEASURES), len(outputs)))
    labels = []
    near_one = outputs @ fitted_by_layer[:, :, None] < 0.0  # (L + 1, N, 1)
    for layer, layer_outputs in enumerate(outputs):
        measured, layer_labels = _two_clusters(
            layer_outputs, near_one[layer, :, 0], seed, silhouette_samples
        )
        measures[:, layer] = [measured[name] for name in _MEASURES]
        labels.append(layer_labels)
        stage.part_done()
    return measures, np.array(labels)


def _two_clusters(
    outputs: NDArray[np.float64], near_one: NDArray[np.bool_], seed: int, silhouette_samples: int
) -> tuple[dict[str, float], NDArray[np.int_]]:
    """Return the measures of k-means with two clusters, and the cluster of every output (N,)."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, davies_bouldin_score, silhouette_score

    state = seed % 2**32  # as far as scikit-learn's random states go
    with single_threaded():
        k_means = KMeans(2, n_init=2, random_state=state).fit(outputs)
        centers, labels = k_means.cluster_centers_, k_means.labels_
        silhouette = silhouette_score(
            outputs, labels, sample_size=silhouette_samples, random_state=state
        )
    distances = np.linalg.norm(outputs - centers[labels], axis=1)
    return {
        "silhouette": silhouette,
        "davies_bouldin": davies_bouldin_score(outputs, labels),
        "inter_distance": float(np.linalg.norm(centers[0] - centers[1])),
        "intra_distance": float(distances.mean()),
        "side_agreement": adjusted_rand_score(near_one, labels),
    }, labels


def _law(
    widths: Sequence[int], depth: int, dim: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distances between and within the two sides that the angle chain predicts.

    The part of the outputs along the fitted one is cos(theta); across it they are taken to have
    no mean, which leaves out a term of order 1 / sqrt(k).
    """
    rng = np.random.default_rng(0)
    count = _NETWORKS_OF_THE_LAW * _VECTORS_OF_THE_LAW
    inter = np.empty((len(widths), depth + 1))
    intra = np.empty((len(widths), depth + 1))
    for i, width in enumerate(widths):
        start = random_angles(rng, dim, count)
        angles = laws.angle_chain(
            start, width, dim, depth, samples_per_network=_VECTORS_OF_THE_LAW, rng=rng
        )
        cosines, sines = np.abs(np.cos(angles)), np.sin(angles)  # (L + 1, count)
        center = cosines.mean(axis=1, keepdims=True)
        inter[i] = 2.0 * center[:, 0]
        intra[i] = np.hypot(cosines - center, sines).mean(axis=1)
    return inter, intra


def _draw_embedding(axes: Any, embedded: NDArray[np.float64], labels: NDArray[np.int_]) -> None:
    points = _along_first_axis(embedded, labels)
    # Without the few points that t-SNE throws far out.
    low, high = np.quantile(points, (0.01, 0.99), axis=0)
    inside = ((points >= low - 1.0) & (points <= high + 1.0)).all(axis=1)
    colors = np.take(_COLORS, labels)[inside]
    axes.scatter(*points[inside].T, c=colors, s=5, linewidths=0.0, alpha=0.75)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_ticklabels([])
        axis.set_tick_params(size=0)
    middle, half = (low + high) / 2.0, float(np.max(high - low)) * 0.55
    for set_limits, center in zip(
        (axes.set_xlim, axes.set_ylim, axes.set_zlim), middle, strict=True
    ):
        set_limits(center - half, center + half)
    axes.set_box_aspect((1, 1, 1), zoom=1.25)
    axes.view_init(elev=16.0, azim=-78.0)


def _along_first_axis(points: NDArray[np.float64], labels: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return points reflected to make the line between the two clusters the first axis.

    An embedding is defined up to rotations and reflections.
    """
    direction = points[labels == 1].mean(axis=0) - points[labels == 0].mean(axis=0)
    mirror = direction / np.linalg.norm(direction) - np.eye(points.shape[1])[0]
    length = np.linalg.norm(mirror)
    if length == 0.0:
        return points
    mirror /= length
    return points - 2.0 * np.outer(points @ mirror, mirror)
