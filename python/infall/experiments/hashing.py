"""Hamming distances of hyperplane codes: binomial, except among rows that were selected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from infall import laws
from infall._arrays.calls import Progress
from infall._arrays.checks import integer
from infall.experiments.axes import error_bars, open_axes
from infall.experiments.inputs import width_label, width_name
from infall.experiments.repeats import (
    Seeds,
    Stage,
    cell,
    made_by,
    mean_and_error,
    other_sampler_and_seed,
    seed_numbers,
    with_error,
)
from infall.experiments.result import Result, Table
from infall.rows.codes import hyperplane_codes
from infall.rows.selection import select_rows
from infall.rows.settings import Sampler

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Float = NDArray[np.float64]
_Int = NDArray[np.int64]
_COLORS = ("#2a6fbb", "#d9722e", "#3a9a5b")  # all rows, selected rows, law of the selected
FALSE_ALARM_RATE = 1e-3
"""Of all tests of one kind together; each is made at this rate over their number."""
_SCORES_DRAWN = 2**20  # by the law of the selected rows
_LEAST_EXPECTED = 5.0  # codes in a cell of the chi-squared test


@dataclass(frozen=True, eq=False)
class Hashing(Result):
    """Hamming distances of codes of the pairs (w, x_a), x_a at the angle score theta_a to w."""

    name: ClassVar[str] = "hashing"
    paper: ClassVar[str] = "Propositions 1 and 2, Eq. 9-21"

    settings: Mapping[str, Any]
    angle_scores: _Float
    """(A,): theta_0 of the pairs."""
    distances: _Int
    """(S, A, R): Hamming distances of R pairs of codes of n bits."""
    selected_distances: _Int
    """(S, A, Q): bits that differ among the m selected rows, Q layers."""
    selected_probabilities: _Float
    """(S, A, Q, 2): mean and variance that the scores of the selected rows predict for them."""
    predicted_selected: _Float
    """(A,): share of differing bits among selected rows by the law of their scores."""
    other_distances: _Int
    """(A,): among the rows that the other sampler selects in one layer."""
    other_probabilities: _Float
    """(A, 2): mean and variance that the scores of those rows predict."""

    @property
    def chi_squared_pvalues(self) -> _Float:
        """(A,): chi-squared tests of all distances of an angle against Binomial(n, theta_0)."""
        return np.array(
            [
                _chi_squared(counts.ravel(), self.settings["num_bits"], theta)
                for counts, theta in zip(
                    self.distances.swapaxes(0, 1), self.angle_scores, strict=True
                )
            ]
        )

    @property
    def kolmogorov_pvalues(self) -> _Float:
        """(A,): Kolmogorov-Smirnov tests of the same; conservative, as the law is discrete."""
        return np.array(
            [
                _discrete_kolmogorov(counts.ravel(), stats.binom(self.settings["num_bits"], theta))
                for counts, theta in zip(
                    self.distances.swapaxes(0, 1), self.angle_scores, strict=True
                )
            ]
        )

    @property
    def selected_binomial_pvalues(self) -> _Float:
        """(A,): chi-squared tests of the selected rows' distances against Binomial(m, theta_0)."""
        return np.array(
            [
                _chi_squared(counts.ravel(), self.settings["dim"], theta)
                for counts, theta in zip(
                    self.selected_distances.swapaxes(0, 1), self.angle_scores, strict=True
                )
            ]
        )

    @property
    def selected_law_pvalues(self) -> _Float:
        """(A,): normal tests of the sum of the selected rows' distances given their scores."""
        total = self.selected_distances.sum(axis=(0, 2))
        mean, variance = np.moveaxis(self.selected_probabilities.sum(axis=(0, 2)), -1, 0)
        return _normal_pvalues(total, mean, variance)

    @property
    def other_pvalues(self) -> _Float:
        """(A,): the same for the layer of the other sampler."""
        mean, variance = np.moveaxis(self.other_probabilities, -1, 0)
        return _normal_pvalues(self.other_distances, mean, variance)

    def mean_log_likelihoods(self) -> _Float:
        """Return (S, A): -(1/n) log2 of theta_0^x (1 - theta_0)^(n - x), mean over codes."""
        share: _Float = self.distances.mean(axis=2) / self.settings["num_bits"]
        theta = self.angle_scores
        return -(share * np.log2(theta) + (1.0 - share) * np.log2(1.0 - theta))

    def estimated_entropies(self) -> _Float:
        """Return (S, A): H2(x / n), mean over codes."""
        shares = self.distances / self.settings["num_bits"]
        return np.asarray(np.mean(laws.binary_entropy(shares), axis=2))

    def table(self) -> Table:
        """Return one row per angle: distances, H2 and tests, and the same for selected rows."""
        num_bits, dim = self.settings["num_bits"], self.settings["dim"]
        measured = {
            "share": self.distances.mean(axis=2) / num_bits,
            "variance_over_binomial": self.distances.var(axis=2)
            / (num_bits * self.angle_scores * (1.0 - self.angle_scores)),
            "nll": self.mean_log_likelihoods(),
            "estimated_h2": self.estimated_entropies(),
            "selected_share": self.selected_distances.mean(axis=2) / dim,
        }
        means_and_errors = [mean_and_error(quantity) for quantity in measured.values()]
        columns = ["theta_0", "h2"]
        for name in measured:
            columns += [name, f"{name}_error"]
        laws_and_tests = {
            "law_selected_share": self.predicted_selected,
            "chi_squared_p": self.chi_squared_pvalues,
            "kolmogorov_p": self.kolmogorov_pvalues,
            "selected_binomial_p": self.selected_binomial_pvalues,
            "selected_law_p": self.selected_law_pvalues,
            "other_sampler_share": self.other_distances / dim,
            "other_sampler_law_p": self.other_pvalues,
        }
        columns += laws_and_tests
        entropies = np.asarray(laws.binary_entropy(self.angle_scores))
        rows = []
        for a, theta in enumerate(self.angle_scores):
            cells = [cell(part[a]) for pair in means_and_errors for part in pair]
            cells += [cell(quantity[a]) for quantity in laws_and_tests.values()]
            rows.append((float(theta), float(entropies[a]), *cells))
        return Table(columns, rows)

    def plot(self) -> Figure:
        """Draw distances against the binomial law, H2 over angles, and selected rows."""
        from matplotlib.figure import Figure

        settings = self.settings
        figure = Figure(figsize=(13.0, 7.6), layout="constrained")
        figure.suptitle(
            f"Hyperplane codes: k = {settings['dim']}, {settings['num_bits']} bits, "
            f"{self.distances.shape[2]} codes per angle and seed, {made_by(settings)}",
            fontsize=12,
        )
        halves: Any = figure.subfigures(2, 1)
        top, bottom = halves
        shown = np.unique(np.linspace(0, len(self.angle_scores) - 1, 4).round().astype(int))
        panels = top.subplots(1, len(shown), squeeze=False)[0]
        for axes, a in zip(panels, shown, strict=True):
            self._draw_distances(axes, int(a))
        entropy_axes, share_axes, selected_axes = bottom.subplots(1, 3)
        self._draw_entropies(entropy_axes)
        self._draw_shares(share_axes)
        self._draw_selected(selected_axes)
        for axes in figure.get_axes():
            open_axes(axes)
        return figure

    def _draw_distances(self, axes: Axes, a: int) -> None:
        num_bits, theta = self.settings["num_bits"], self.angle_scores[a]
        counts = self.distances[:, a].ravel()
        law = stats.binom(num_bits, theta)
        first, last = int(law.ppf(1e-5)), int(law.ppf(1.0 - 1e-5)) + 1
        width = max(1, (last - first) // 28)
        edges = np.arange(first, last + width, width)
        expected = np.diff(law.cdf(edges - 1))
        shares = np.histogram(counts, edges)[0] / counts.size
        axes.stairs(shares, edges - 0.5, fill=True, color=_COLORS[0], alpha=0.55, label="codes")
        axes.stairs(expected, edges - 0.5, color="black", linewidth=1.2, label="binomial law")
        axes.set_ylim(top=1.35 * max(expected.max(), shares.max()))
        axes.set_title(f"θ₀ = {theta:.3g}, χ² p = {self.chi_squared_pvalues[a]:.2g}", fontsize=10)
        axes.set_xlabel("Hamming distance")
        axes.tick_params(axis="y", labelsize=8)
        if a == 0:
            axes.set_ylabel("share of codes")
            axes.legend(frameon=False, fontsize=8, loc="upper right")

    def _draw_entropies(self, axes: Axes) -> None:
        theta = np.linspace(0.0, 1.0, 201)
        curve = np.asarray(laws.binary_entropy(theta))
        axes.plot(theta, curve, color="black", linewidth=1.2, label="H₂(θ₀)")
        nll, errors = mean_and_error(self.mean_log_likelihoods())
        bars = error_bars(errors)
        axes.errorbar(
            self.angle_scores, nll, bars, fmt="o", color=_COLORS[0], markersize=4, label="codes"
        )
        axes.set_xlabel("θ₀ = angle / π")
        axes.set_ylabel("bits per hyperplane")
        axes.set_title("Negative log-likelihood per bit", fontsize=10)
        axes.legend(frameon=False, fontsize=8, loc="lower center")

    def _draw_shares(self, axes: Axes) -> None:
        dim, width = self.settings["dim"], self.settings["width"]
        axes.plot([0.0, 1.0], [0.0, 1.0], color="black", linewidth=1.2, label="θ₀: all rows")
        share, errors = mean_and_error(self.distances.mean(axis=2) / self.settings["num_bits"])
        bars = error_bars(errors)
        axes.errorbar(
            self.angle_scores, share, bars, fmt="o", color=_COLORS[0], markersize=4, label="codes"
        )
        axes.plot(
            self.angle_scores,
            self.predicted_selected,
            color=_COLORS[2],
            linewidth=1.2,
            label="E Φ(-t cot θ): selected rows",
        )
        selected, errors = mean_and_error(self.selected_distances.mean(axis=2) / dim)
        axes.errorbar(
            self.angle_scores,
            selected,
            error_bars(errors),
            fmt="s",
            color=_COLORS[1],
            markersize=4,
            label=f"{dim} of {width_label(width)} rows",
        )
        axes.set_xlabel("θ₀ = angle / π")
        axes.set_ylabel("share of bits that differ")
        axes.set_title("Among selected rows the law does not hold", fontsize=10)
        axes.legend(frameon=False, fontsize=8, loc="upper left")

    def _draw_selected(self, axes: Axes) -> None:
        a = self._shown_angle()
        theta, dim = self.angle_scores[a], self.settings["dim"]
        counts = self.selected_distances[:, a].ravel()
        edges = np.arange(0, dim + 2)
        distances = edges[:-1]
        axes.stairs(
            np.histogram(counts, edges)[0] / counts.size,
            edges - 0.5,
            fill=True,
            color=_COLORS[1],
            alpha=0.55,
            label="selected rows",
        )
        law = stats.binom.pmf(distances, dim, theta)
        axes.plot(distances, law, color="black", linewidth=1.2, label="binomial law")
        share = self.predicted_selected[a]
        # The selected rows differ so little in their score that their sum is nearly binomial.
        law = stats.binom.pmf(distances, dim, share)
        axes.plot(distances, law, color=_COLORS[2], linewidth=1.2, label="law of their scores")
        last = stats.binom.ppf(1.0 - 1e-5, dim, theta)
        axes.set_xlim(-0.5, max(float(last), float(counts.max())) + 1.5)
        axes.set_xlabel(f"bits that differ among the {dim} selected rows")
        axes.set_ylabel("share of layers")
        axes.set_title(f"Selected rows at θ₀ = {theta:.3g}", fontsize=10)
        axes.legend(frameon=False, fontsize=8, loc="upper right")

    def _shown_angle(self) -> int:
        """Return which angle is nearest to 0.4 pi, where both laws have some spread."""
        return int(np.abs(self.angle_scores - 0.4).argmin())

    def summary(self) -> str:
        """Return which tests reject which law."""
        count = len(self.angle_scores)
        rate = FALSE_ALARM_RATE / count
        chi = (self.chi_squared_pvalues < rate).sum()
        kolmogorov = (self.kolmogorov_pvalues < rate).sum()
        binomial = (self.selected_binomial_pvalues < rate).sum()
        law = (self.selected_law_pvalues < rate).sum()
        other = (self.other_pvalues < rate).sum()
        a = self._shown_angle()
        share, error = mean_and_error(
            self.selected_distances[:, a].mean(axis=1) / self.settings["dim"]
        )
        settings = self.settings
        return (
            f"Over all hyperplanes the binomial law of Proposition 2 is rejected for {chi} of "
            f"{count} angles by chi-squared and for {kolmogorov} by Kolmogorov-Smirnov tests "
            f"(false alarms: {FALSE_ALARM_RATE:g} for all angles together). Among the "
            f"{settings['dim']} of {width_name(settings['width'])} rows that MaxLikelihood selects "
            f"it is rejected for {binomial}; at θ₀ = {self.angle_scores[a]:.2g} the share of "
            f"differing bits is {with_error(share, error)}. There it is E Φ(-t cot θ), t the "
            f"selected scores: rejected for {law} angles by "
            f"{settings['sampler'].replace('_', ' ')}, for {other} by "
            f"{settings['other_sampler'].replace('_', ' ')}, one layer."
        )


def hashing(
    *,
    dim: int = 256,
    num_bits: int = 1024,
    num_codes: int = 256,
    width: int = 2**25,
    num_layers: int = 20,
    num_angles: int = 19,
    seeds: Seeds = 10,
    sampler: Sampler = "order_statistics",
    progress: Progress | None = None,
) -> Hashing:
    """Compare Hamming distances of codes with the binomial law, for all rows and selected ones.

    Parameters
    ----------
    dim : int
        Length k of the vectors, and number of rows selected; 2 or more.
    num_bits : int
        Bits n of a code; rounded up to whole bytes.
    num_codes : int
        Codes per angle and seed; no two share a hyperplane.
    width : int
        Rows of the layers that rows are selected from.
    num_layers : int
        Layers that rows are selected from, per angle and seed.
    num_angles : int
        Angle scores, evenly spaced between 0 and 1.
    seeds : int or sequence of int
        Each draws vectors, hyperplanes and layers. A count stands for 0, 1, ...
    sampler : {"order_statistics", "stream", "rotated"}
        Of the selected rows; see `infall.select_rows`. One layer is selected by another.
    progress : callable, optional
        Called as progress(done, total, stage).

    Returns
    -------
    Hashing
        A pure function of the arguments.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.

    Notes
    -----
    A row with score t = row . w has a normal projection on x of mean t cos(theta) and deviation
    sin(theta), so the signs differ with probability Phi(-|t| cot(theta)): theta / pi on
    average over all rows, far less over rows with large |t| where theta < pi / 2.

    Source: Wormhole Dynamics, Propositions 1 and 2, Eq. 9-21; Charikar (2002).
    """
    seeds = seed_numbers(seeds)
    dim = integer(dim, "dim", 2, 2**31, "2**31")
    num_bits = 8 * math.ceil(integer(num_bits, "num_bits", 1, 2**31, "2**31") / 8)
    num_codes = integer(num_codes, "num_codes", 1, 2**31, "2**31")
    num_layers = integer(num_layers, "num_layers", 1, 2**31, "2**31")
    num_angles = integer(num_angles, "num_angles", 1, 2**20, "2**20")
    angle_scores = np.arange(1, num_angles + 1) / (num_angles + 1.0)
    distances, selected, probabilities = [], [], []
    stage = Stage(progress, num_layers * len(seeds))
    for seed in seeds:
        w, tests = _pairs(dim, angle_scores, seed)
        distances.append(_code_distances(w, tests, num_bits, num_codes, seed))
        by_layer = []
        for layer in range(num_layers):
            by_layer.append(
                _selected_distances(w, tests, angle_scores, width, seed, layer, sampler)
            )
            stage.part_done()
        counts, expected = zip(*by_layer, strict=True)
        selected.append(np.stack(counts, axis=1))
        probabilities.append(np.stack(expected, axis=1))
    other_sampler, other_seed = other_sampler_and_seed(sampler, seeds)
    w, tests = _pairs(dim, angle_scores, other_seed)
    other = _selected_distances(w, tests, angle_scores, width, other_seed, 0, other_sampler)
    stage.end()
    settings = {
        "dim": dim,
        "num_bits": num_bits,
        "num_codes": num_codes,
        "width": width,
        "num_layers": num_layers,
        "sampler": sampler,
        "other_sampler": other_sampler,
        "seeds": seeds,
    }
    return Hashing(
        settings,
        angle_scores,
        np.array(distances),
        np.array(selected),
        np.array(probabilities),
        _predicted_selected(angle_scores, width, dim),
        *other,
    )


def _pairs(dim: int, angle_scores: _Float, seed: int) -> tuple[_Float, _Float]:
    """Return a unit vector w (k,) and vectors (A, k) at these angles to it, in random planes."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=dim)
    w /= np.linalg.norm(w)
    across = rng.normal(size=(len(angle_scores), dim))
    across -= np.outer(across @ w, w)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    angles = np.pi * angle_scores[:, None]
    return w, np.cos(angles) * w + np.sin(angles) * across


def _code_distances(w: _Float, tests: _Float, num_bits: int, num_codes: int, seed: int) -> _Int:
    # One long code, cut into codes that share no row.
    codes = hyperplane_codes(np.concatenate([w[None], tests]), num_bits * num_codes, seed=seed)
    different = np.bitwise_count(codes[1:] ^ codes[0]).reshape(len(tests), num_codes, -1)
    return np.asarray(different.sum(axis=2, dtype=np.int64))


def _selected_distances(
    w: _Float,
    tests: _Float,
    angle_scores: _Float,
    width: int,
    seed: int,
    layer: int,
    sampler: Sampler,
) -> tuple[_Int, _Float]:
    """Return differing bits (A,) among selected rows; their mean and variance (A, 2) by the law."""
    selection = select_rows(w, width, seed=seed, layer=layer, sampler=sampler)
    negative = selection.projections < 0.0
    projections = tests @ selection.rows.T.astype(np.float64)  # (A, m)
    different = ((projections < 0.0) != negative).sum(axis=1)
    cotangents = 1.0 / np.tan(np.pi * angle_scores)
    odds = special.ndtr(-np.abs(selection.projections) * cotangents[:, None])  # (A, m)
    return different, np.stack([odds.sum(axis=1), (odds * (1.0 - odds)).sum(axis=1)], axis=1)


def _predicted_selected(angle_scores: _Float, width: int, dim: int) -> _Float:
    scores = laws.folded_normal_top(width, dim, size=max(1, _SCORES_DRAWN // dim), rng=0).ravel()
    cotangents = 1.0 / np.tan(np.pi * angle_scores)
    return np.array([special.ndtr(-scores * cotangent).mean() for cotangent in cotangents])


def _normal_pvalues(total: Any, mean: _Float, variance: _Float) -> _Float:
    # Two-sided, with a correction for whole numbers; 1 where the law leaves no spread to test.
    beyond = np.maximum(np.abs(total - mean) - 0.5, 0.0)
    deviation = np.sqrt(variance)
    testable = variance > 1.0
    pvalues: _Float = 2.0 * stats.norm.sf(beyond / np.where(testable, deviation, 1.0))
    return np.where(testable | (beyond > 1.0), pvalues, 1.0)


def _chi_squared(counts: _Int, num_bits: int, theta: float) -> float:
    """Return the p-value of distances against Binomial(num_bits, theta), cells of 5 and more."""
    law = stats.binom(num_bits, theta)
    cumulative = law.cdf(np.arange(num_bits))
    # Cells of about equal probability, as many as have 5 expected codes, at most 50.
    cells = int(min(50, counts.size // _LEAST_EXPECTED))
    if cells < 2:
        return math.nan
    ends = np.unique(np.searchsorted(cumulative, np.arange(1, cells) / cells))
    expected = counts.size * np.diff(np.concatenate([[0.0], law.cdf(ends), [1.0]]))
    observed = np.bincount(np.searchsorted(ends, counts, side="left"), minlength=len(expected))
    enough = expected >= _LEAST_EXPECTED
    if enough.sum() < 2:
        return math.nan
    # What a steep law leaves in nearly empty cells goes to the neighbour before.
    groups = np.maximum(np.cumsum(enough) - 1, 0)
    expected, observed = np.bincount(groups, expected), np.bincount(groups, observed)
    return float(stats.chisquare(observed, expected).pvalue)


def _discrete_kolmogorov(counts: _Int, law: Any) -> float:
    distances, repeats = np.unique(counts, return_counts=True)
    empirical = np.cumsum(repeats) / counts.size
    before = np.concatenate([[0.0], empirical[:-1]])
    # The supremum over whole numbers is at a value that occurs, or just before one.
    supremum = max(
        np.abs(empirical - law.cdf(distances)).max(), np.abs(before - law.cdf(distances - 1)).max()
    )
    return float(stats.kstwo.sf(supremum, counts.size))
