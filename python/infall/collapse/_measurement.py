"""The metrics of one set of features, what they share taken once."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall._arrays.calls import Progress, watch_of
from infall._arrays.checks import one_of
from infall._arrays.locate import on_host
from infall._arrays.threads import thread_count
from infall.classes._decisions import decisions
from infall.classes._labels import ClassLabels
from infall.classes.moments import ClassMoments, GlobalMean
from infall.classes.projection import projection_of_numbered
from infall.collapse._between import CDNV, Between
from infall.collapse._checks import (
    WEIGHTS,
    UndefinedMetric,
    Weighting,
    float64_entries,
    of_observed,
)
from infall.collapse._class_sums import (
    class_average,
    class_weights,
    mean_square_distance,
    within_trace,
    within_trace_along,
)
from infall.collapse._samples import ArraySamples, Samples
from infall.frames._simplex import (
    deviation_sums,
    moment_matrix,
    power_of_two,
    row_blocks,
    row_products,
    row_sum,
)

_Float = NDArray[np.float64]
_Int64 = NDArray[np.int64]


class CollapseOnTest(NamedTuple):
    """How test samples collapse to the class means of the training samples."""

    strong: float
    weak: float
    ncc_error: float


class StrongResiduals(NamedTuple):
    """Distances of classifier, features and bias from strong neural collapse."""

    delta1: float
    delta2: float
    delta3: float | None
    """None without a bias."""


class Measurement:
    """Every metric of one set of features; the functions and the report are made of these.

    `features` are an array (N, d), ClassMoments, which stand for features and labels alike, or
    Samples; `labels` (N,) None with ClassMoments, and where `moments`, of these samples or of the
    training samples, are given and no metric needs them. Without names in `classes`, labels are
    numbers of the rows of the `classifier`. All else is as in `collapse_report`.

    Raises TypeError or ValueError for what is not as said, UndefinedMetric without samples.
    """

    def __init__(
        self,
        features: Any,
        labels: Any,
        classes: Sequence[Hashable] | None,
        num_threads: int | None,
        progress: Progress | None,
        *,
        moments: ClassMoments | None = None,
        classifier: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        test_features: Any = None,
        test_labels: Any = None,
        global_mean: GlobalMean = "classes",
        weighting: Weighting = "samples",
    ) -> None:
        self.global_mean = cast(GlobalMean, one_of(global_mean, "global_mean", WEIGHTS))
        self.weighting = cast(Weighting, one_of(weighting, "weighting", WEIGHTS))
        if progress is not None and not callable(progress):
            raise TypeError(f"progress is {progress!r}; expected a callable")
        self._num_threads, self._progress = num_threads, progress
        thread_count(num_threads)
        if classifier is None and bias is not None:
            raise ValueError("bias came without a classifier")
        self.classifier = None if classifier is None else float64_entries(classifier, "classifier")
        self.bias = None if bias is None else float64_entries(bias, "bias")
        if self.classifier is not None and self.classifier.ndim != 2:
            raise ValueError(
                f"classifier has shape {self.classifier.shape}; expected two axes: "
                "(num_classes, num_features)"
            )
        self.samples: Samples | None = None
        self.class_numbers: _Int64 | None = None
        if isinstance(features, ClassMoments):
            given = (labels, moments, classes)
            if any(argument is not None for argument in given):
                raise ValueError(
                    "labels and classes are part of the ClassMoments; expected neither, nor moments"
                )
            self._placed_moments, self.labels = features, features._labels
        else:
            self._take_samples(features, labels, moments, classes)
        self.moments = self._placed_moments.to_host()
        if self.moments.num_samples == 0:
            raise UndefinedMetric("there are no samples")
        self._check_classifier()
        if (test_features is None) != (test_labels is None):
            raise ValueError("test_features and test_labels come together; one of them is absent")
        self.test: tuple[Samples, _Int64] | None = None
        if test_features is not None:
            samples = ArraySamples(test_features, "test_features")
            self._check_columns(samples)
            class_numbers = self.labels.numbers(test_labels, samples.shape[0], "test_labels")
            self.test = samples, class_numbers

    # What is given --------------------------------------------------------------------------------

    def _take_samples(
        self,
        features: Any,
        labels: Any,
        moments: ClassMoments | None,
        classes: Sequence[Hashable] | None,
    ) -> None:
        samples = features if isinstance(features, Samples) else ArraySamples(features, "features")
        count, dim = samples.shape
        if count == 0:
            raise UndefinedMetric(f"{samples.name} has no samples")
        self.samples = samples
        if moments is not None:
            if not isinstance(moments, ClassMoments):
                raise TypeError(f"moments is a {type(moments).__name__}; expected a ClassMoments")
            if classes is not None:
                raise ValueError("classes are part of the ClassMoments; expected moments alone")
            self._placed_moments, self.labels = moments, moments._labels
            self._check_columns(samples)
            if labels is not None:
                self.class_numbers = moments.label_numbers(labels, count)
        else:
            if labels is None:
                raise ValueError("features came without labels")
            if classes is not None:
                self.labels = ClassLabels.named(classes)
                self.class_numbers = self.labels.numbers(labels, count)
            elif self.classifier is not None:
                self.labels = ClassLabels(max(1, len(self.classifier)), None)
                self.class_numbers = self.labels.numbers(labels, count)
            else:
                self.labels, self.class_numbers = ClassLabels.distinct(labels, count)
        if moments is None:
            assert self.class_numbers is not None
            self._placed_moments = self._moments_of(samples, self.class_numbers, dim)

    def _moments_of(self, samples: Samples, class_numbers: _Int64, dim: int) -> ClassMoments:
        moments = ClassMoments(self.labels.num_classes, dim, num_threads=self._num_threads)
        stage = self.stage("class means")
        for _ in samples.each(
            lambda block, rows, within: moments.update(block, class_numbers[rows], progress=within),
            stage,
        ):
            pass
        if not samples.place.is_host:
            # Devices do not search what they add; their host can, since it waits for them.
            state = moments.to_host()
            with np.errstate(invalid="ignore"):
                variances = state.variances[state.observed]
            if not np.isfinite(variances).all():
                samples.require_finite()
                raise ValueError("features overflows: squares of a class do not fit into float64")
        return moments

    def _check_columns(self, samples: Samples) -> None:
        if samples.shape[1] != self._placed_moments.num_features:
            raise ValueError(
                f"{samples.name} has {samples.shape[1]} columns; expected "
                f"{self._placed_moments.num_features}"
            )

    def _check_classifier(self) -> None:
        rows, moments = self.classifier, self.moments
        if rows is None:
            return
        shape = moments.num_classes, moments.num_features
        for name, entries, expected, text in (
            ("classifier", rows, shape, "(num_classes, num_features)"),
            ("bias", self.bias, shape[:1], "(num_classes,)"),
        ):
            if entries is not None and entries.shape != expected:
                raise ValueError(f"{name} has shape {entries.shape}; expected {text} = {expected}")

    def require_same_samples(self) -> None:
        """Raise ValueError for moments that were not made of the samples beside them."""
        if self.class_numbers is None:
            if self.samples is not None:
                raise ValueError("features came without labels")
            return
        counts = np.bincount(self.class_numbers, minlength=self.moments.num_classes)
        other = np.flatnonzero(counts != self.moments.counts)
        if len(other) > 0:
            name = self.labels.names_of([int(other[0])])[0]
            raise ValueError(
                f"moments have {self.moments.counts[other[0]]} samples of class {name!r}, labels "
                f"{counts[other[0]]}; expected the moments of these samples"
            )

    def stage(self, name: str) -> Progress | None:
        """Return the progress of one stage."""
        progress = self._progress
        return None if progress is None else lambda done, total, _: progress(done, total, name)

    # What several metrics share -------------------------------------------------------------------

    @cached_property
    def between(self) -> Between:
        """The centred class means."""
        return Between(
            self.moments,
            self.global_mean,
            self._num_threads,
            self._progress,
            self._placed_moments._state.place,
        )

    @cached_property
    def _classifier_rows(self) -> _Float:
        if self.classifier is None:
            raise TypeError("classifier is None; expected an array (num_classes, num_features)")
        return of_observed(self.moments, self.classifier)

    @cached_property
    def classifier_vectors(self) -> Between:
        """The rows of the classifier as they stand."""
        stage = self.stage("pairs of classifier rows")
        return Between.of_vectors(self._classifier_rows, self._num_threads, stage)

    def _nearest(
        self, samples: Samples, stage: str, *, classifier: bool
    ) -> Iterable[tuple[slice, tuple[_Int64, _Int64 | None]]]:
        """Yield slices, the class of the nearest mean, and of the largest output if wanted."""
        observed = self.moments.observed
        means = of_observed(self.moments, self.moments.means)
        outputs = (self.classifier, self.bias) if classifier else (None, None)

        def work(block: Any, _: slice, within: Progress | None) -> tuple[_Int64, _Int64 | None]:
            watch = watch_of(within, block.shape[0], "samples")
            nearest, predicted = decisions(
                block, means, *outputs, num_threads=self._num_threads, progress=watch
            )
            nearest = on_host(nearest, "a result")
            predicted = None if predicted is None else on_host(predicted, "a result")
            if (nearest < 0).any():
                samples.require_finite()
            return observed[nearest], predicted

        return samples.each(work, self.stage(stage))

    @cached_property
    def _disagreements(self) -> tuple[int, int]:
        """Samples not nearest to their own class mean; not to that of the classifier's choice."""
        if self.samples is None:
            raise TypeError("features are ClassMoments; expected samples, and moments= beside them")
        wrong = other = 0
        for rows, (nearest, predicted) in self._nearest(
            self.samples, "nearest class means", classifier=self.classifier is not None
        ):
            if self.class_numbers is not None:
                wrong += int(np.count_nonzero(nearest != self.class_numbers[rows]))
            if predicted is not None:
                other += int(np.count_nonzero(nearest != predicted))
        return wrong, other

    # Metrics --------------------------------------------------------------------------------------

    def nc1(self) -> float:
        """tr(Sigma_W Sigma_B^+) / K."""
        directions = self.between.directions
        if self.samples is None:
            return within_trace_along(self.moments, directions, self.weighting)
        assert self.class_numbers is not None
        class_numbers, samples = self.class_numbers, self.samples
        at_host = samples.place.is_host or self._placed_moments is self.moments
        moments = self.moments if at_host else self._placed_moments

        def work(block: Any, rows: slice, within: Progress | None) -> _Float:
            class_sums = projection_of_numbered(
                block,
                class_numbers[rows],
                moments,
                directions,
                num_threads=self._num_threads,
                progress=within,
            )
            return cast("_Float", on_host(class_sums, "a result"))

        sums = np.zeros(self.moments.num_classes)
        stage = self.stage("deviations from class means")
        for _, class_sums in samples.each(work, stage, on_host=at_host):
            sums += class_sums
        return class_average(self.moments, sums, self.weighting)

    def nc3(self) -> float:
        """Classifier times class means to a simplex ETF."""
        return self.between.nc3(self._classifier_rows)

    def nc3_papyan(self, unit_means: bool = True) -> float:
        """Classifier to class means."""
        return self.between.nc3_papyan(self._classifier_rows, unit_means)

    def nc4(self) -> float:
        """Share of samples that classifier and nearest class mean decide differently."""
        if self.classifier is None:
            raise TypeError("classifier is None; expected an array (num_classes, num_features)")
        disagreements = self._disagreements[1]
        assert self.samples is not None
        return disagreements / self.samples.shape[0]

    def ncc_error(self) -> float:
        """Share of samples not nearest to the mean of their class."""
        errors = self._disagreements[0]
        assert self.samples is not None
        if self.class_numbers is None:
            raise ValueError("features came without labels")
        return errors / self.samples.shape[0]

    def pfc3(self) -> float:
        """Share of samples nearest to the mean of their class."""
        return 1.0 - self.ncc_error()

    def cdnv(self, power: float = 2.0) -> CDNV:
        """Class-distance normalized variance, with the names of the worst pair."""
        cdnv = self.between.cdnv(power)
        return cdnv._replace(pair=self.labels.names_of(cdnv.pair))

    def pfc1(self) -> float:
        """Tr Sigma_W / tr Sigma_B."""
        self.between.require_distinct()
        return self.between.per_trace(within_trace(self.moments, self.weighting))

    def equinorm(self) -> float:
        """Deviation of the lengths of the class means over their mean."""
        self.between.require_distinct()
        return self.between.equinorm()

    def variance_explained(self) -> float:
        """Share of the variance that lies between classes."""
        moments = self.moments
        centred = moments.centred_means(self.weighting)
        scale = power_of_two(centred)
        centred = centred * scale
        weights = class_weights(moments, self.weighting)
        between = float(weights @ row_products(centred, centred))
        total = between + within_trace(moments, self.weighting) * scale * scale
        if total == 0.0:
            raise UndefinedMetric("all samples coincide")
        return between / total if math.isfinite(total) else 0.0

    def strong_residuals(self) -> StrongResiduals:
        """Distances from strong collapse."""
        rows, moments = self._classifier_rows, self.moments
        num_classes, dim = rows.shape
        counts = moments.counts[moments.observed]
        means = of_observed(moments, moments.means)
        # Of numbers below one, so that squares of squares do not overflow.
        scale = min(power_of_two(rows), power_of_two(means), 1.0)
        rows, means = rows * scale, means * scale
        size = moments.num_samples / num_classes
        root = math.sqrt(size) * scale * scale
        squares = row_products(rows, rows)
        if num_classes > dim + 1:
            gram = moment_matrix(rows)
            total = row_sum(rows)
            inner = float(squares.sum() - total @ total / num_classes)
            first = float(np.sum(gram * gram)) - 2.0 * root * inner + root**2 * (num_classes - 1)
        else:
            diagonal, _, off = deviation_sums(rows, rows, np.ones(num_classes), squares, root)
            first = diagonal + off
        second = (moments.variances[moments.observed] * scale) * scale
        for block in row_blocks(*rows.shape):
            difference = means[block] - rows[block] / math.sqrt(size)
            second[block] += np.einsum("kd,kd->k", difference, difference)
        third = None
        if self.bias is not None:
            offsets = of_observed(moments, self.bias) - 1.0 / num_classes
            smaller = power_of_two(offsets)
            third = float(np.linalg.norm(offsets * smaller)) / smaller
        residuals = StrongResiduals(
            math.sqrt(max(first, 0.0)) / scale / scale,
            math.sqrt(float(counts @ second)) / scale,
            third,
        )
        if not all(math.isfinite(value) for value in residuals if value is not None):
            raise UndefinedMetric("classifier is too large: its distance from collapse overflows")
        return residuals

    def collapse_on_test(self) -> CollapseOnTest:
        """Collapse of test samples to the class means."""
        if self.test is None:
            raise TypeError("test_features is None; expected an array (T, num_features)")
        samples, class_numbers = self.test
        if len(class_numbers) == 0:
            raise UndefinedMetric("test_features has no samples")
        self.between.require_distinct()
        unseen = self.moments.counts[class_numbers] == 0
        if unseen.any():
            where = int(np.argmax(unseen))
            name = self.labels.names_of([int(class_numbers[where])])[0]
            raise ValueError(
                f"test_labels is {name!r} at position {where}, a class without training samples"
            )
        parts = self._nearest(samples, "test samples", classifier=False)
        nearest = np.concatenate([positions for _, (positions, _) in parts])
        return CollapseOnTest(
            self.between.per_trace(mean_square_distance(self.moments, samples, class_numbers)),
            self.between.per_trace(mean_square_distance(self.moments, samples, nearest)),
            float(np.count_nonzero(nearest != class_numbers)) / len(class_numbers),
        )
