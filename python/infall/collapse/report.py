"""The report of a measurement of neural collapse."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infall._arrays.checks import one_of

METRICS = (
    "nc1",
    "nc2",
    "nc3",
    "nc3_papyan",
    "nc4",
    "cdnv",
    "pfc1",
    "pfc2",
    "pfc3",
    "equinorm",
    "equiangularity",
    "classifier_equinorm",
    "classifier_equiangularity",
    "variance_explained",
    "strong_residuals",
    "collapse_on_test",
)
"""What `collapse_report` can be asked for."""


NUMBERS = {
    "nc1": ("NC1", "tr(Σ_W Σ_B⁺)/K, variability collapse"),
    "nc2": ("NC2", "class means to a simplex ETF"),
    "nc3": ("NC3", "classifier times class means to a simplex ETF"),
    "nc3_papyan": ("NC3 (Papyan)", "‖A/‖A‖ - M/‖M‖‖², self-duality"),
    "nc4": ("NC4", "share where classifier and nearest class mean differ"),
    "cdnv_mean": ("CDNV mean", "class-distance normalized variance"),
    "cdnv_max": ("CDNV max", "of the worst pair"),
    "cdnv_min": ("CDNV min", "of the best pair"),
    "pfc1": ("PFC1", "tr Σ_W / tr Σ_B"),
    "pfc2": ("PFC2", "class means, lengths kept, to a simplex ETF"),
    "pfc3": ("PFC3", "accuracy of the nearest class mean"),
    "equinorm": ("equinorm", "lengths of class means: deviation / mean"),
    "equiangularity_std": ("equiangularity", "angles of class means: deviation of cosines"),
    "equiangularity_max": ("max angle", "class means: largest cos + 1/(K-1)"),
    "classifier_equinorm": ("equinorm A", "lengths of classifier rows: deviation / mean"),
    "classifier_equiangularity_std": ("equiangularity A", "deviation of cosines of the classifier"),
    "classifier_equiangularity_max": ("max angle A", "classifier: largest cos + 1/(K-1)"),
    "variance_explained": ("η²", "share of the variance between classes"),
    "delta1": ("δ1", "‖A Aᵀ - √n (I - 11ᵀ/K)‖, strong collapse"),
    "delta2": ("δ2", "‖F - (A ⊗ 1)ᵀ/√n‖, strong collapse"),
    "delta3": ("δ3", "‖b - 1/K‖, strong collapse"),
    "strong_test_collapse": ("strong test", "test samples to the mean of their class / tr Σ_B"),
    "weak_test_collapse": ("weak test", "test samples to the nearest class mean / tr Σ_B"),
    "test_ncc_error": ("test NCC error", "error of the nearest class mean on test samples"),
    "trace_within": ("tr Σ_W", "variance within classes"),
    "trace_between": ("tr Σ_B", "variance between class means"),
}
"""The numeric fields of a report: symbol and meaning."""


@dataclass(frozen=True, repr=False)
class CollapseReport:
    """The metrics of neural collapse of one set of features.

    A metric is None where it was not asked for, where what it needs was not given, and where it
    has no value for these data; `missing` says which and why. No value is NaN; CDNV is infinite
    where class means coincide.
    """

    num_samples: int
    """N."""
    num_features: int
    """d."""
    num_classes: int
    """Classes that there are, with or without samples."""
    num_observed: int
    """K of the formulas: classes with samples."""
    classes: tuple[Any, ...] | None
    """Their names, in order; None where they are 0, 1, ..., K - 1."""
    empty_classes: tuple[Any, ...]
    """Names, or numbers, of the classes without samples, which are left out."""
    single_sample_classes: int
    """Classes with one sample; their variance is zero, whatever the network does."""
    dtype: str | None
    """Of the features; None for class moments."""
    weighting: str
    """Of the samples in Sigma_W: "samples" or "classes"."""
    global_mean: str
    """Centre of the class means: the mean of the "classes" or of the "samples"."""
    rank: int | None = None
    """Directions of Sigma_B that count in NC1; see `between_rank`."""
    trace_within: float | None = None
    """tr Sigma_W."""
    trace_between: float | None = None
    """tr Sigma_B."""
    nc1: float | None = None
    """See the function `nc1`; the same for what follows."""
    nc2: float | None = None
    nc3: float | None = None
    nc3_papyan: float | None = None
    nc4: float | None = None
    cdnv_mean: float | None = None
    cdnv_max: float | None = None
    cdnv_max_pair: tuple[Any, Any] | None = None
    """Names, or numbers, of the classes that attain the maximum."""
    cdnv_min: float | None = None
    pfc1: float | None = None
    pfc2: float | None = None
    pfc3: float | None = None
    equinorm: float | None = None
    equiangularity_std: float | None = None
    equiangularity_max: float | None = None
    classifier_equinorm: float | None = None
    classifier_equiangularity_std: float | None = None
    classifier_equiangularity_max: float | None = None
    variance_explained: float | None = None
    delta1: float | None = None
    """See `strong_residuals`."""
    delta2: float | None = None
    delta3: float | None = None
    strong_test_collapse: float | None = None
    """See `collapse_on_test`."""
    weak_test_collapse: float | None = None
    test_ncc_error: float | None = None
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    """Why a metric is None: name in `METRICS` to reason."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold; infinity becomes ``"inf"``."""
        fields = dataclasses.fields(self)
        return {field.name: _to_json(getattr(self, field.name)) for field in fields}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CollapseReport:
        """Return the report that `to_dict` has written.

        Parameters
        ----------
        values : mapping
            As `to_dict` returns it, also by way of JSON.

        Returns
        -------
        CollapseReport
            Equal to the one written.

        Raises
        ------
        TypeError, ValueError
            For anything but a report: fields that are absent, unknown, or of another kind, numbers
            that are not finite, and reasons for no metric.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"values is a {type(values).__name__}; expected a mapping")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = [name for name in values if name not in fields]
        absent = [
            name
            for name, field in fields.items()
            if name not in values and field.default is dataclasses.MISSING and name not in _OPTIONAL
        ]
        if unknown or absent:
            raise ValueError(
                f"values is not a CollapseReport: unknown fields {unknown}, absent {absent}"
            )
        content = {"classes": None, **{name: _from_json(entry) for name, entry in values.items()}}
        for name, entry in content.items():
            _check_field(name, entry)
        return cls(**content)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (symbol, value, meaning) of every metric that has a value, as text."""
        rows = []
        for field, (symbol, meaning) in NUMBERS.items():
            metric = getattr(self, field)
            if metric is not None:
                pair = ""
                if field == "cdnv_max" and self.cdnv_max_pair is not None:
                    pair = ": classes {}, {}".format(*self.cdnv_max_pair)
                rows.append((symbol, f"{metric:.4g}", meaning + pair))
        return rows

    def conditions(self) -> list[str]:
        """Return lines on what was measured, by which conventions, and what was left out."""
        classes = _counted(self.num_observed, "class", "classes")
        if self.num_observed < self.num_classes:
            classes = f"{self.num_observed} of {_counted(self.num_classes, 'class', 'classes')}"
        kind = "" if self.dtype is None else f", {self.dtype}"
        lines = [
            f"{_counted(self.num_samples, 'sample')} of {classes}, "
            f"{_counted(self.num_features, 'feature')}{kind}",
            f"weights by {self.weighting}, global mean of {self.global_mean}"
            + ("" if self.rank is None else f", rank of Sigma_B {self.rank}"),
        ]
        if self.empty_classes:
            lines.append(f"classes without samples: {_listed(self.empty_classes)}")
        if self.single_sample_classes:
            lines.append(f"classes with one sample: {self.single_sample_classes}")
        reasons: dict[str, list[str]] = {}
        for name, reason in self.missing.items():
            reasons.setdefault(reason, []).append(name)
        lines += [f"without {', '.join(names)}: {reason}" for reason, names in reasons.items()]
        return lines

    def __repr__(self) -> str:
        rows = self.rows()
        width = max((len(symbol) for symbol, _, _ in rows), default=0)
        lines = ["CollapseReport", *(f"  {line}" for line in self.conditions())]
        lines += [f"  {symbol:<{width}}  {value:>10}  {text}" for symbol, value, text in rows]
        return "\n".join(lines)


def _counted(count: int, singular: str, plural: str | None = None) -> str:
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def _listed(names: Sequence[Any]) -> str:
    shown = ", ".join(str(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown}, ... ({len(names)} in all)"


_OPTIONAL = ("classes", "missing")  # in what `from_dict` takes
_COUNTS = ("num_samples", "num_features", "num_classes", "num_observed", "single_sample_classes")


def _check_field(name: str, value: Any) -> None:
    """Raise TypeError or ValueError for what a report cannot hold in a field."""
    if name in ("empty_classes", "classes", "cdnv_max_pair"):
        expected, right = "a sequence of names", isinstance(value, tuple)
        right = right or (value is None and name != "empty_classes")
        if right and name == "cdnv_max_pair" and value is not None and len(value) != 2:
            raise ValueError(f"{name} is {value!r}; expected two names")
    elif name == "missing":
        expected, right = "a mapping of metrics to reasons", isinstance(value, Mapping)
        for metric, reason in value.items() if right else ():
            one_of(metric, "an entry of missing", METRICS)
            right = right and isinstance(reason, str)
    elif name in ("weighting", "global_mean"):
        one_of(value, name, ("classes", "samples"))
        return
    elif name == "dtype":
        expected, right = "text or None", value is None or isinstance(value, str)
    elif name in _COUNTS or name == "rank":
        expected = "a whole number, not negative"
        right = isinstance(value, int) and not isinstance(value, bool)
        right = right or (name == "rank" and value is None)
        if right and value is not None and value < 0:
            raise ValueError(f"{name} is {value!r}; expected {expected}")
    else:
        expected = "a number or None"
        right = value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
        if right and value is not None and math.isnan(value):
            raise ValueError(f"{name} is nan; expected {expected}")
    if not right:
        raise TypeError(f"{name} is {value!r}; expected {expected}")


def _to_json(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    if isinstance(value, tuple):
        return [entry.item() if isinstance(entry, np.generic) else entry for entry in value]
    return dict(value) if isinstance(value, Mapping) else value


def _from_json(value: Any) -> Any:
    if value == "inf":
        return math.inf
    return tuple(value) if isinstance(value, list) else value
