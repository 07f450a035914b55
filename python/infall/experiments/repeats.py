"""Repeating an experiment: seeds, standard errors, and a network of the other sampler beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from infall._arrays.calls import Progress
from infall._arrays.checks import MAX_SEED, integer
from infall.maxlikelihood.network import MaxLikelihood
from infall.rows.settings import Sampler

Seeds = int | Sequence[int]


def seed_numbers(seeds: Seeds) -> tuple[int, ...]:
    """Return the seeds that a count (0, 1, ...) or a sequence of different ones stands for.

    Raises
    ------
    TypeError
        For anything but integers.
    ValueError
        For none, negative ones, those of 2**64 and beyond, and one given twice.
    """
    if isinstance(seeds, (str, bytes)):
        raise TypeError(f"seeds is {seeds!r}; expected a count or a sequence of integers")
    if not isinstance(seeds, (Sequence, np.ndarray)):
        return tuple(range(integer(seeds, "seeds", 1, 2**31, "2**31")))
    if len(seeds) == 0:
        raise ValueError("seeds is empty; expected at least one")
    checked = tuple(
        integer(seed, f"seeds[{i}]", 0, MAX_SEED, "2**64") for i, seed in enumerate(seeds)
    )
    if len(set(checked)) < len(checked):
        repeated = next(seed for seed in checked if checked.count(seed) > 1)
        raise ValueError(
            f"seeds has {repeated} more than once; their results would not be independent"
        )
    return checked


def other_sampler_and_seed(sampler: Sampler, seeds: Collection[int]) -> tuple[Sampler, int]:
    """Return the sampler to compare with, and a seed that is none of `seeds`."""
    other: Sampler = "order_statistics" if sampler == "stream" else "stream"
    return other, next(seed for seed in range(len(seeds) + 1) if seed not in seeds)


class Stage:
    """Tells `progress` how many parts of a stage are done, from its beginning to its end."""

    def __init__(self, progress: Progress | None, num_parts: int, name: str = "networks") -> None:
        self._progress, self._num_parts, self._name = progress, num_parts, name
        self._num_done = 0
        self._tell()

    def part_done(self) -> None:
        """Count one part more. Something may follow the last: its end is told by `end`."""
        self._num_done += 1
        if self._num_done < self._num_parts:
            self._tell()

    def end(self) -> None:
        """Tell that all parts are done."""
        self._num_done = self._num_parts
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._num_done, self._num_parts, self._name)


def made_by(settings: Mapping[str, Any]) -> str:
    """Return for titles of figures which sampler drew the rows, and how many seeds there are."""
    count = len(settings["seeds"])
    sampler = settings["sampler"].replace("_", " ")
    return f"{sampler} sampler, {count} seed{'' if count == 1 else 's'}"


def mean_and_error(by_seed: NDArray[np.float64]) -> tuple[Any, Any]:
    """Return the mean over axis 0, the seeds, and its standard error; NaN with one seed."""
    mean = by_seed.mean(axis=0)
    if len(by_seed) == 1:
        return mean, np.full_like(mean, np.nan)
    return mean, by_seed.std(axis=0, ddof=1) / math.sqrt(len(by_seed))


def cell(quantity: Any) -> float | None:
    """Return a quantity for a table: None for NaN."""
    return None if math.isnan(quantity) else float(quantity)


def with_error(mean: Any, error: Any, digits: int = 3) -> str:
    """Return a mean for prose, with its standard error if it has one."""
    text = f"{float(mean):.{digits}g}"
    return text if math.isnan(error) else f"{text} ± {float(error):.2g}"


def fitted(
    w: NDArray[np.float64],
    width: int,
    depth: int,
    seed: int,
    sampler: Sampler,
    progress: Progress | None,
) -> MaxLikelihood:
    """Return a network fitted to w; `progress` is told its rows where it draws them all."""
    model = MaxLikelihood(width, depth, seed=seed, sampler=sampler)
    if progress is None or sampler == "order_statistics":
        return model.fit(w)

    def rows(done: int, total: int, _: str) -> object:
        return progress(done, total, f"{sampler}: rows")

    return model.fit(w, progress=rows)


def fitted_outputs(model: MaxLikelihood) -> NDArray[np.float64]:
    """Return the fitted vector after every layer, (L + 1, k); layer 0 is the input."""
    return np.concatenate([model.input_[None], model.outputs_])


@dataclass(frozen=True)
class SamplerComparison:
    """One network by another sampler, at the same width and depth, beside those of the figure."""

    quantity: str
    """What is compared."""
    sampler: str
    """Sampler of the figure."""
    values: tuple[float, ...]
    """The quantity for every seed of the figure."""
    other_sampler: str
    other_value: float
    """The quantity for a seed that the figure does not have."""
    log_norm_pvalue: float
    """Two-sample Kolmogorov-Smirnov test of ln ||G_l w||, which is independent over layers."""

    @property
    def pvalue(self) -> float:
        """Two-sided t test that the other value is one of `values`; NaN with one seed."""
        count = len(self.values)
        if count == 1:
            return math.nan
        deviation = float(np.std(self.values, ddof=1)) * math.sqrt(1.0 + 1.0 / count)
        distance = abs(self.other_value - float(np.mean(self.values)))
        if deviation == 0.0:
            return 1.0 if distance == 0.0 else 0.0
        return float(2.0 * stats.t.sf(distance / deviation, count - 1))

    def sentence(self) -> str:
        """Return the comparison in words."""
        mean, error = mean_and_error(np.array(self.values))
        measured = (
            f"{self.quantity} is {with_error(mean, error)} by {self.sampler.replace('_', ' ')} "
            f"and {self.other_value:.3g} by {self.other_sampler.replace('_', ' ')}, one network"
        )
        tests = [f"norms p = {self.log_norm_pvalue:.2g}"]
        if len(self.values) > 1:
            tests.insert(0, f"p = {self.pvalue:.2g}")
        return f"{measured} ({', '.join(tests)})"


def compare_samplers(
    quantity: str,
    models: Sequence[MaxLikelihood],
    values: Sequence[float],
    measure: Callable[[int, Sampler], tuple[MaxLikelihood, float]],
) -> SamplerComparison:
    """Measure one more network by `stream`, or by `order_statistics` beside figures of `stream`.

    Parameters
    ----------
    quantity : str
        What is compared.
    models : sequence of MaxLikelihood
        Networks of the figure, one per seed.
    values : sequence of float
        Their quantity, about normal over seeds.
    measure : callable
        Called as measure(seed, sampler) with a seed that no model has; returns the network and its
        quantity.

    Returns
    -------
    SamplerComparison
    """
    sampler = models[0].sampler
    other_sampler, seed = other_sampler_and_seed(sampler, {model.seed for model in models})
    other, other_value = measure(seed, other_sampler)
    log_norms = np.concatenate([model.log_norms_ for model in models])
    return SamplerComparison(
        quantity,
        sampler,
        tuple(float(value) for value in values),
        other_sampler,
        float(other_value),
        float(stats.ks_2samp(log_norms, other.log_norms_).pvalue),
    )
