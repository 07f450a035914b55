"""All metrics of one set of features, what they share taken once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall._arrays import Progress, one_of
from infall.classes import ClassMoments, GlobalMean, within_projection
from infall.collapse._between import WEIGHTS, Between, UndefinedMetric
from infall.collapse._class_sums import (
    class_average,
    nearest_classes,
    within_trace,
    within_trace_along,
)
from infall.collapse._inputs import DecisionRows, Weighting, check_weighting, of_observed
from infall.collapse._metrics import variance_explained
from infall.collapse._report import METRICS, CollapseReport
from infall.collapse._sample_metrics import distances_of_test, strong_residuals
from infall.collapse._samples import Samples

_CLASSIFIER = "a classifier"
_SAMPLES = "features and labels"
_TEST_SAMPLES = "test_features and test_labels"
_NEEDS = {
    "nc3": (_CLASSIFIER,),
    "nc3_papyan": (_CLASSIFIER,),
    "nc4": (_SAMPLES, _CLASSIFIER),
    "pfc3": (_SAMPLES,),
    "classifier_equinorm": (_CLASSIFIER,),
    "classifier_equiangularity": (_CLASSIFIER,),
    "strong_residuals": (_CLASSIFIER,),
    "collapse_on_test": (_TEST_SAMPLES,),
}


@dataclass(frozen=True)
class Conventions:
    """How to measure, and what."""

    global_mean: GlobalMean
    weighting: Weighting
    num_threads: int | None
    metrics: frozenset[str] | None
    progress: Progress | None

    def __post_init__(self) -> None:
        one_of(self.global_mean, "global_mean", WEIGHTS)
        check_weighting(self.weighting)
        if self.progress is not None and not callable(self.progress):
            raise TypeError(f"progress is {self.progress!r}; expected a callable")

    def wants(self, name: str) -> bool:
        """Whether a metric was asked for."""
        return self.metrics is None or name in self.metrics

    def stage(self, name: str) -> Progress | None:
        """Return the progress of one stage."""
        progress = self.progress
        return None if progress is None else lambda done, total, _: progress(done, total, name)


class Labelled(NamedTuple):
    """Samples, their classes, and the moments of both."""

    moments: ClassMoments
    names: ClassMoments  # that knows the names of the classes
    samples: Samples | None
    numbers: NDArray[np.int64] | None


class Measurement:
    """The metrics of one set of features, with what they share taken once."""

    def __init__(
        self,
        labelled: Labelled,
        decision: DecisionRows | None,
        test: tuple[Samples, NDArray[np.int64]] | None,
        conventions: Conventions,
    ) -> None:
        self.moments, self.names, self.samples, self.numbers = labelled
        if self.moments.num_samples == 0:
            raise ValueError("features has no samples")
        self.decision, self.test = decision, test
        self.conventions = conventions
        self.values: dict[str, Any] = {}
        self.missing: dict[str, str] = {}
        self.given = {
            _CLASSIFIER: decision is not None,
            _SAMPLES: self.samples is not None,
            _TEST_SAMPLES: test is not None,
        }

    def report(self) -> CollapseReport:
        """Measure what is wanted."""
        moments, conventions = self.moments, self.conventions
        for name in METRICS:
            if conventions.wants(name):
                self._attempt(name)
        self.values["trace_within"] = within_trace(moments, conventions.weighting)
        if len(moments.observed) > 1:
            self.values["trace_between"] = self._between.trace
        return CollapseReport(
            num_samples=moments.num_samples,
            num_features=moments.num_features,
            num_classes=moments.num_classes,
            num_observed=len(moments.observed),
            empty_classes=self._named(np.flatnonzero(moments.counts == 0).tolist()),
            single_sample_classes=int(np.count_nonzero(moments.counts == 1)),
            dtype=None if self.samples is None else self.samples.dtype,
            weighting=conventions.weighting,
            global_mean=conventions.global_mean,
            missing=self.missing,
            **self.values,
        )

    def _attempt(self, name: str) -> None:
        absent = [need for need in _NEEDS.get(name, ()) if not self.given[need]]
        if name == "nc1" and self.samples is None and not self.moments.scatter:
            absent = ["features and labels, or ClassMoments with scatter=True"]
        if absent:
            needs = f"needs {' and '.join(absent)}"
            if self.conventions.metrics is not None:
                raise ValueError(f"metrics asks for {name}, which {needs}")
            self.missing[name] = needs
            return
        try:
            getattr(self, f"_{name}")()
        except UndefinedMetric as error:
            self.missing[name] = str(error)

    def _named(self, numbers: Iterable[int]) -> tuple[Any, ...]:
        names = self.names.classes
        return tuple(numbers if names is None else (names[number] for number in numbers))

    @cached_property
    def _between(self) -> Between:
        return Between(
            self.moments,
            self.conventions.global_mean,
            self.conventions.num_threads,
            self.conventions.stage("pairs of classes"),
        )

    @cached_property
    def _classifier(self) -> NDArray[np.float64]:
        assert self.decision is not None
        return of_observed(self.moments, self.decision[0])

    @cached_property
    def _classifier_vectors(self) -> Between:
        stage = self.conventions.stage("pairs of classifier rows")
        return Between.of_vectors(self._classifier, self.conventions.num_threads, stage)

    @cached_property
    def _disagreements(self) -> tuple[int, int]:
        """Samples not nearest to their own class mean; not to that of the classifier's choice."""
        assert self.samples is not None
        assert self.numbers is not None
        stage = self.conventions.stage("nearest class means")
        wrong = other = 0
        for rows, block, progress in self.samples.blocks(stage):
            nearest, predicted = nearest_classes(
                self.moments, block, self.decision, self.conventions.num_threads, progress
            )
            wrong += int(np.count_nonzero(nearest != self.numbers[rows]))
            if predicted is not None:
                other += int(np.count_nonzero(nearest != predicted))
        return wrong, other

    def _nc1(self) -> None:
        between, weighting = self._between, self.conventions.weighting
        self.values["rank"] = between.all_directions.shape[1]
        if self.samples is None or self.numbers is None:
            if weighting == "classes":
                raise UndefinedMetric("the scatter of ClassMoments is pooled, not by classes")
            along = within_trace_along(self.moments, between.directions, weighting)
            self.values["nc1"] = along
            return
        sums = np.zeros(self.moments.num_classes)
        stage = self.conventions.stage("deviations from class means")
        for rows, block, progress in self.samples.blocks(stage):
            sums += within_projection(
                block,
                self.numbers[rows],
                self.moments,
                between.directions,
                num_threads=self.conventions.num_threads,
                progress=progress,
            )
        self.values["nc1"] = class_average(self.moments, sums, weighting)

    def _nc2(self) -> None:
        self.values["nc2"] = self._between.nc2()

    def _nc3(self) -> None:
        self.values["nc3"] = self._between.nc3(self._classifier)

    def _nc3_papyan(self) -> None:
        self.values["nc3_papyan"] = self._between.nc3_papyan(self._classifier, unit_means=True)

    def _nc4(self) -> None:
        self.values["nc4"] = self._disagreements[1] / self.moments.num_samples

    def _cdnv(self) -> None:
        found = self._between.cdnv(2.0)
        self.values["cdnv_mean"], self.values["cdnv_max"] = found.mean, found.max
        self.values["cdnv_max_pair"] = self._named(found.pair)
        self.values["cdnv_min"] = found.min

    def _pfc1(self) -> None:
        self._between.require_distinct()
        within = within_trace(self.moments, self.conventions.weighting)
        self.values["pfc1"] = within / self._between.trace

    def _pfc2(self) -> None:
        self.values["pfc2"] = self._between.pfc2()

    def _pfc3(self) -> None:
        self.values["pfc3"] = 1.0 - self._disagreements[0] / self.moments.num_samples

    def _equinorm(self) -> None:
        self._between.require_distinct()
        self.values["equinorm"] = self._between.equinorm()

    def _equiangularity(self) -> None:
        std, largest = self._between.equiangularity()
        self.values["equiangularity_std"], self.values["equiangularity_max"] = std, largest

    def _classifier_equinorm(self) -> None:
        self.values["classifier_equinorm"] = self._classifier_vectors.equinorm()

    def _classifier_equiangularity(self) -> None:
        std, largest = self._classifier_vectors.equiangularity()
        self.values["classifier_equiangularity_std"] = std
        self.values["classifier_equiangularity_max"] = largest

    def _variance_explained(self) -> None:
        self.values["variance_explained"] = variance_explained(
            self.moments, weighting=self.conventions.weighting
        )

    def _strong_residuals(self) -> None:
        assert self.decision is not None
        found = strong_residuals(self.moments, *self.decision)
        self.values["delta1"], self.values["delta2"], self.values["delta3"] = found

    def _collapse_on_test(self) -> None:
        assert self.test is not None
        stage = self.conventions.stage("test samples")
        found = distances_of_test(
            self.moments, self._between, *self.test, self.conventions.num_threads, stage
        )
        self.values["strong_test_collapse"], self.values["weak_test_collapse"] = found[:2]
        self.values["test_ncc_error"] = found.ncc_error
