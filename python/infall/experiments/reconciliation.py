"""Label reconciliation: an image drowned in one output vector, and recovered with another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall import laws
from infall._arrays.calls import Progress
from infall._arrays.checks import integer, positive_number
from infall._arrays.host import Host
from infall.experiments.axes import error_bars, open_axes
from infall.experiments.datasets import load_digits
from infall.experiments.inputs import gaussian_input, width_label
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
_COLORS = ("#2a6fbb", "#d9722e")  # pixels to 1, to 255
RANGES = (1.0, 255.0)
"""Largest pixel of the two pixel ranges."""
_CHAIN_NETWORKS = 32  # of the predicted angles, per seed
GOOD = 20.0
"""Peak signal-to-noise ratio, in dB, from which on an image counts as recovered."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """One image of the first seed on its way; layer 0 is the input."""

    score: float
    """Angle score of w'_L to w_L."""
    label: _Float
    """(k,): P, pixels in [0, 1]."""
    fooling: _Float
    """(2, k): z of the last layer, by pixel range."""
    recovered: _Float
    """(2, 2, L + 1, k): P' by pixel range and sign: z + eta w', z - eta w'."""


@dataclass(frozen=True, eq=False)
class Reconciliation(Result):
    """P' = z + eta w'_l or z - eta w'_l against P; axes (seed, range, sign, layer, image).

    Seeds S, pixel ranges [0, 1] and [0, 255], signs + and -, layers from 0 (the input) to L,
    images N.
    """

    name: ClassVar[str] = "reconciliation"
    paper: ClassVar[str] = "Fig. 11, Eq. 39-45"

    settings: Mapping[str, Any]
    scores: _Float
    """(S, L + 1, N): angle scores of w'_l to w_l."""
    relative_errors: _Float
    """(S, 2, 2, L + 1, N): ||P - P'|| / ||P||."""
    psnr: _Float
    """(S, 2, 2, L + 1, N): peak signal-to-noise ratio in dB."""
    correlations: _Float
    """(S, 2, 2, L + 1, N): of the pixels of P and P'."""
    predicted_scores: _Float
    """(S, L + 1, M): angle scores of the law, from the same input angles."""
    image_norms: _Float
    """(S, N): ||P|| for pixels in [0, 1]."""
    pictures: tuple[Pictures, ...]
    """One image whose branch is + in the end, and one whose branch is -, if there are such."""
    comparison: SamplerComparison

    @property
    def takes_minus(self) -> NDArray[np.bool_]:
        """(S, L + 1, N): where cos(w_l, w'_l) < 0 and the branch is z - eta w'_l."""
        return np.asarray(self.scores > 0.5)

    def taken(self, by_branch: _Float) -> _Float:
        """Return the part (S, 2, L + 1, N) of a quantity that belongs to the branch taken."""
        return np.where(self.takes_minus[:, None], by_branch[:, :, 1], by_branch[:, :, 0])

    def first_layers(self) -> NDArray[np.int64]:
        """Return (S, 2, N) the first layer past 20 dB on the branch taken; -1 where none is."""
        good = self.taken(self.psnr) > GOOD
        return np.where(good.any(axis=2), good.argmax(axis=2), -1)

    def predicted_error(self) -> _Float:
        """Return (S, 2, L + 1) the geometric mean of ||P - P'|| / ||P|| by the angle chain."""
        acute = np.minimum(self.predicted_scores, 1.0 - self.predicted_scores)
        length = 2.0 * self.settings["eta"] * _geometric_mean(np.sin(0.5 * np.pi * acute))
        norm = _geometric_mean(self.image_norms)  # (S,)
        return np.stack([length / (peak * norm[:, None]) for peak in RANGES], axis=1)

    def predicted_share(self) -> _Float:
        """Return (S, 2, L + 1) the share of images past 20 dB by the angle chain."""
        acute = np.minimum(self.predicted_scores, 1.0 - self.predicted_scores)
        length = 2.0 * self.settings["eta"] * np.sin(0.5 * np.pi * acute)
        root_mean_square = length / math.sqrt(self.settings["dim"])
        shares = [(root_mean_square < peak * 10 ** (-GOOD / 20)).mean(axis=2) for peak in RANGES]
        return np.stack(shares, axis=1)

    def table(self) -> Table:
        """Return one row per pixel range and layer; relative distances are geometric means.

        Their distribution over images has a tail so heavy (a Cauchy variable is in it) that the
        arithmetic mean is that of the slowest image.
        """
        measured = {
            "share_minus": np.broadcast_to(
                self.takes_minus.mean(axis=2)[:, None], self.predicted_error().shape
            ),
            "relative_distance": _geometric_mean(self.taken(self.relative_errors)),
            "law_relative_distance": self.predicted_error(),
            "psnr": self.taken(self.psnr).mean(axis=3),
            "correlation": self.taken(self.correlations).mean(axis=3),
            "share_recovered": (self.taken(self.psnr) > GOOD).mean(axis=3),
            "law_share_recovered": self.predicted_share(),
            "plus_mean_relative_distance": self.relative_errors[:, :, 0].mean(axis=3),
            "plus_share_recovered": (self.psnr[:, :, 0] > GOOD).mean(axis=3),
        }  # each (S, 2, L + 1)
        means_and_errors = [mean_and_error(quantity) for quantity in measured.values()]
        columns = ["largest_pixel", "layer"]
        for name in measured:
            columns += [name, f"{name}_error"]
        rows = []
        for r, peak in enumerate(RANGES):
            for layer in range(self.scores.shape[1]):
                cells = [cell(part[r, layer]) for pair in means_and_errors for part in pair]
                rows.append((int(peak), layer, *cells))
        return Table(columns, rows)

    def plot(self) -> Figure:
        """Draw P, z and P' over layers, and error, PSNR and recovered share over all layers."""
        from matplotlib.figure import Figure

        strips = self._strips()
        figure = Figure(figsize=(13.0, 4.4 + 1.22 * len(strips)), layout="constrained")
        settings = self.settings
        figure.suptitle(
            f"Label reconciliation: k = {settings['dim']}, n = {width_label(settings['width'])}, "
            f"η = {settings['eta']:g}, {self.scores.shape[2]} images per seed, {made_by(settings)}",
            fontsize=12,
        )
        halves: Any = figure.subfigures(2, 1, height_ratios=[0.2 + 1.22 * len(strips), 3.9])
        top, bottom = halves
        if strips:
            self._draw_strips(top, strips)
        error_axes, psnr_axes, share_axes = bottom.subplots(1, 3)
        self._draw_errors(error_axes)
        self._draw_psnr(psnr_axes)
        self._draw_shares(share_axes)
        for axes in (error_axes, psnr_axes, share_axes):
            axes.set_xlabel("layers L")
            open_axes(axes, "y")
        return figure

    def _strips(self) -> list[tuple[str, Pictures, int, int]]:
        """Return the rows of pictures: title, pictures, number of the range, of the sign."""
        side = math.isqrt(self.settings["dim"])
        if side * side != self.settings["dim"]:
            return []
        strips = []
        for pictures in self.pictures:
            if pictures.score <= 0.5:
                strips += [
                    (f"cos > 0\nz + η w'\npixels to {peak:g}", pictures, r, 0)
                    for r, peak in enumerate(RANGES)
                ]
            else:
                strips += [
                    (f"cos < 0\nz {sign} η w'\npixels to {RANGES[1]:g}", pictures, 1, branch)
                    for branch, sign in enumerate("+-")
                ]
        return strips

    def _draw_strips(self, top: Any, strips: list[tuple[str, Pictures, int, int]]) -> None:
        depth, side = self.settings["depth"], math.isqrt(self.settings["dim"])
        layers = np.unique(np.linspace(0, depth, min(depth + 1, 10)).round().astype(int))
        grid = top.subplots(len(strips), 2 + len(layers), squeeze=False)
        for (title, pictures, r, branch), row in zip(strips, grid, strict=True):
            peak = RANGES[r]
            shown = [("P", peak * pictures.label), ("z", pictures.fooling[r])]
            shown += [(f"P', L = {i}", pictures.recovered[r, branch, i]) for i in layers]
            for axes, (label, picture) in zip(row, shown, strict=True):
                # Grey is the pixel range: what lies outside is black or white. z has its own.
                low, high = (picture.min(), picture.max()) if label == "z" else (0.0, peak)
                axes.imshow(picture.reshape(side, side), cmap="gray", vmin=low, vmax=high)
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
                if axes in grid[0]:
                    axes.set_title(label, fontsize=9)
            row[0].set_ylabel(title, fontsize=9, rotation=0, ha="right", va="center")

    def _draw_errors(self, axes: Axes) -> None:
        measured, errors = mean_and_error(_geometric_mean(self.taken(self.relative_errors)))
        literal, _ = mean_and_error(self.relative_errors[:, :, 0].mean(axis=3))
        predicted, _ = mean_and_error(self.predicted_error())
        for r, (peak, color) in enumerate(zip(RANGES, _COLORS, strict=True)):
            layers, bars = np.arange(len(measured[r])), error_bars(errors[r])
            axes.plot(layers, predicted[r], color=color, linewidth=1.2)
            axes.plot(layers, literal[r], ":", color=color, linewidth=1.2)
            label = f"pixels to {peak:g}"
            axes.errorbar(
                layers, measured[r], bars, fmt="o", color=color, markersize=4, label=label
            )
        axes.plot([], [], color="0.35", linewidth=1.2, label="angle chain")
        axes.plot([], [], ":", color="0.35", linewidth=1.2, label="always z + η w'")
        axes.set_yscale("log")
        axes.set_ylabel("‖P - P'‖ / ‖P‖")
        axes.set_title("Relative error, geometric mean", fontsize=10)
        axes.legend(frameon=False, fontsize=8)

    def _draw_psnr(self, axes: Axes) -> None:
        measured, errors = mean_and_error(self.taken(self.psnr).mean(axis=3))
        for r, (peak, color) in enumerate(zip(RANGES, _COLORS, strict=True)):
            layers, bars = np.arange(len(measured[r])), error_bars(errors[r])
            label = f"pixels to {peak:g}"
            axes.errorbar(
                layers, measured[r], bars, fmt="o-", color=color, markersize=4, label=label
            )
        axes.axhline(GOOD, color="0.5", linewidth=0.8, linestyle="--")
        axes.annotate(
            f"{GOOD:g} dB", (0, GOOD), (0, 3), textcoords="offset points", fontsize=8, color="0.4"
        )
        axes.set_ylabel("PSNR in dB")
        axes.set_title("Peak signal-to-noise ratio, mean", fontsize=10)
        axes.legend(frameon=False, fontsize=8)

    def _draw_shares(self, axes: Axes) -> None:
        measured, errors = mean_and_error((self.taken(self.psnr) > GOOD).mean(axis=3))
        literal, _ = mean_and_error((self.psnr[:, :, 0] > GOOD).mean(axis=3))
        predicted, _ = mean_and_error(self.predicted_share())
        for r, color in enumerate(_COLORS):
            layers, bars = np.arange(len(measured[r])), error_bars(errors[r])
            axes.plot(layers, predicted[r], color=color, linewidth=1.2)
            axes.plot(layers, literal[r], ":", color=color, linewidth=1.2)
            axes.errorbar(layers, measured[r], bars, fmt="o", color=color, markersize=4)
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("share of images")
        axes.set_title(f"Recovered: PSNR over {GOOD:g} dB", fontsize=10)

    def summary(self) -> str:
        """Return from which layer on images are recovered, and what the literal sign does."""
        parts = []
        for r, peak in enumerate(RANGES):
            first_layers = self.first_layers()[:, r]  # (S, N)
            share_never = (first_layers < 0).mean()
            part = f"none with pixels to {peak:g}"
            if share_never < 1.0:
                recovered = [of_seed[of_seed >= 0] for of_seed in first_layers]
                means = np.array([layers.mean() for layers in recovered if len(layers)])
                law = (1.0 - self.predicted_share()[:, r]).sum(axis=1).mean()
                part = (
                    f"from layer {with_error(*mean_and_error(means))} (law {law:.3g}) on with "
                    f"pixels to {peak:g}"
                )
            if 0.0 < share_never < 1.0:
                part += f" ({share_never:.2%} of them not by layer {self.settings['depth']})"
            parts.append(part)
        minus, minus_error = mean_and_error(self.takes_minus[:, -1].mean(axis=1))
        literal = (self.psnr[:, 1, 0, -1] > GOOD).mean()
        return (
            f"Images are recovered, with a PSNR over {GOOD:g} dB, " + " and ".join(parts) + ". "
            f"For {with_error(minus, minus_error)} of the images w' ends on the far side, so that "
            "z - η w' recovers them and the literal z + η w' of the paper moves away by 2 η; with "
            f"that sign alone {literal:.0%} are recovered. {self.comparison.sentence()}."
        )


def reconciliation(
    *,
    width: int = 8000,
    depth: int = 28,
    eta: float = 10000.0,
    num_images: int = 100,
    images: ArrayLike | None = None,
    seeds: Seeds = 10,
    sampler: Sampler = "order_statistics",
    progress: Progress | None = None,
) -> Reconciliation:
    """Recover images from fooling examples by the outputs of random vectors.

    A network is fitted to a Gaussian vector w; with its output w_l of unit length,
    z = P - eta w_l is the fooling example of an image P. Another Gaussian vector w' per image
    gives P' = z + eta w'_l, or z - eta w'_l where cos(w_l, w'_l) < 0, which is measured against P.

    Parameters
    ----------
    width : int
        Rows n of every layer; the paper does not say, 8000 is that of its other experiment on
        these images.
    depth : int
        Layers L; one network shows all of them.
    eta : float
        Length of the perturbation, positive.
    num_images : int
        Images N per seed, or all there are if they are fewer.
    images : array, shape (M, k), optional
        Labels P, divided by the largest pixel; by default the bundled digits, enlarged to 28 by 28.
    seeds : int or sequence of int
        Each draws w, the network, the images and their w'. A count stands for 0, 1, ...
    sampler : {"order_statistics", "stream", "rotated"}
        See `infall.select_rows`.
    progress : callable, optional
        Called as progress(done, total, stage).

    Returns
    -------
    Reconciliation
        A pure function of the arguments.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, negative or constant images.

    Notes
    -----
    The recovery of P from P', z and both outputs (Eq. 45) is an identity; P' itself is measured.
    ||P - P'|| = eta ||w'_l -+ w_l|| in any pixel range: it is relative to 255 times larger images
    for pixels in [0, 255].

    Source: Wormhole Dynamics, Section VIII, Theorem 2, Eq. 28, 39-45, Fig. 11.
    """
    seeds = seed_numbers(seeds)
    depth = integer(depth, "depth", 1, 2**31, "2**31")
    num_images = integer(num_images, "num_images", 1, 2**31, "2**31")
    eta = positive_number(eta, "eta")
    usable, source = _labels(images)
    num_images, dim = min(num_images, len(usable)), usable.shape[1]

    def measure(seed: int, kind: Sampler) -> tuple[MaxLikelihood, _Float, _Float, _Float]:
        w, tests = gaussian_input(seed, dim, num_images)
        model = fitted(w, width, depth, seed, kind, progress)
        chosen = np.random.default_rng([seed, 1]).permutation(len(usable))[:num_images]
        outputs = model.transform(tests, layer=None)
        return model, model.angle_scores(tests, layer=None), outputs, usable[chosen]

    by_seed = []
    stage = Stage(progress, len(seeds))
    for seed in seeds:
        model, scores, outputs, labels = measure(seed, sampler)
        recovery = _recovery(model, outputs, labels, eta)
        chain = _predicted_scores(scores[0], width, dim, depth, seed)
        if seed == seeds[0]:
            pictures = _pictures(model, scores, outputs, labels, eta)
        by_seed.append((model, scores, *recovery, chain, np.linalg.norm(labels, axis=1)))
        stage.part_done()
    models, *arrays = zip(*by_seed, strict=True)
    scores, relative_errors, psnr, correlations, predicted, norms = (np.array(a) for a in arrays)

    def other(seed: int, kind: Sampler) -> tuple[MaxLikelihood, float]:
        model, scores, _, _ = measure(seed, kind)
        return model, _last_error(scores)

    comparison = compare_samplers(
        f"The mean ln of the distance of scores to their side after layer {depth}",
        models,
        [_last_error(of_seed) for of_seed in scores],
        other,
    )
    stage.end()
    settings = {
        "width": width,
        "depth": depth,
        "dim": dim,
        "eta": eta,
        "images": source,
        "num_images": num_images,
        "sampler": sampler,
        "seeds": seeds,
    }
    return Reconciliation(
        settings,
        scores,
        relative_errors,
        psnr,
        correlations,
        predicted,
        norms,
        pictures,
        comparison,
    )


def _labels(images: ArrayLike | None) -> tuple[_Float, str]:
    if images is None:
        return load_digits(28)[0], "bundled digits, enlarged to 28 x 28"
    pixels, batched = Host().vectors(images, "images")
    if not batched:
        raise ValueError(f"images has shape {np.shape(images)}; expected (M, k)")
    if pixels.min() < 0.0:
        raise ValueError(f"images has a pixel of {pixels.min()}; expected none below 0")
    constant = pixels.min(axis=1) == pixels.max(axis=1)
    if constant.any():
        raise ValueError(f"images[{constant.argmax()}] is constant; it has no correlation")
    return pixels / pixels.max(), f"{len(pixels)} given"


def _last_error(scores: _Float) -> float:
    # The same for all images and ranges, up to a factor.
    return float(np.log(np.minimum(scores[-1], 1.0 - scores[-1])).mean())


def _geometric_mean(lengths: _Float) -> _Float:
    mean: _Float = np.exp(np.log(lengths).mean(axis=-1))
    return mean


def _fooled_and_recovered(
    w: _Float, outputs: _Float, labels: _Float, eta: float, sign: float
) -> tuple[_Float, _Float]:
    # w (k,), outputs and labels (N, k) -> z, P' (N, k)
    fooling = labels - eta * w
    return fooling, fooling + sign * eta * outputs


def _recovery(
    model: MaxLikelihood, outputs: _Float, labels: _Float, eta: float
) -> tuple[_Float, _Float, _Float]:
    """Return relative errors, PSNR and correlations, (2, 2, L + 1, N) each."""
    errors, psnr, correlations = np.empty((3, 2, 2, len(outputs), len(labels)))
    for r, peak in enumerate(RANGES):
        scaled = peak * labels
        centred = scaled - scaled.mean(axis=1, keepdims=True)
        for branch, sign in enumerate((1.0, -1.0)):
            for layer, w in enumerate(fitted_outputs(model)):
                _, recovered = _fooled_and_recovered(w, outputs[layer], scaled, eta, sign)
                distances = np.linalg.norm(recovered - scaled, axis=1)
                at = r, branch, layer
                norms = np.linalg.norm(scaled, axis=1)
                # An exact recovery counts as one to half an ulp.
                errors[at] = np.maximum(distances / norms, 2.0**-54)
                noise = errors[at] * norms / math.sqrt(scaled.shape[1])
                psnr[at] = 20.0 * np.log10(peak / noise)
                recovered -= recovered.mean(axis=1, keepdims=True)
                correlations[at] = np.sum(recovered * centred, axis=1) / (
                    np.linalg.norm(recovered, axis=1) * np.linalg.norm(centred, axis=1)
                )
    return errors, psnr, correlations


def _pictures(
    model: MaxLikelihood, scores: _Float, outputs: _Float, labels: _Float, eta: float
) -> tuple[Pictures, ...]:
    pictures = []
    for side in (scores[-1] <= 0.5, scores[-1] > 0.5):
        if not side.any():
            continue
        image = int(side.argmax())
        label = labels[image : image + 1]
        fooling, recovered = np.empty((2, label.size)), np.empty((2, 2, len(outputs), label.size))
        for r, peak in enumerate(RANGES):
            for branch, sign in enumerate((1.0, -1.0)):
                for layer, w in enumerate(fitted_outputs(model)):
                    output = outputs[layer, image : image + 1]
                    z, back = _fooled_and_recovered(w, output, peak * label, eta, sign)
                    fooling[r], recovered[r, branch, layer] = z[0], back[0]
        pictures.append(Pictures(float(scores[-1, image]), label[0], fooling, recovered))
    return tuple(pictures)


def _predicted_scores(input_scores: _Float, width: int, dim: int, depth: int, seed: int) -> _Float:
    count, rng = len(input_scores), np.random.default_rng(seed)
    angles = np.tile(np.pi * input_scores, _CHAIN_NETWORKS)
    return laws.angle_chain(angles, width, dim, depth, samples_per_network=count, rng=rng) / np.pi
