"""Collapse along the layers of a network, or along the epochs of its training."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall._arrays import files as _saved
from infall._arrays.checks import one_of
from infall._arrays.locks import object_lock
from infall._core import __version__
from infall.collapse._checks import float64_entries, number_between, real_vector
from infall.collapse.layers import effective_depth
from infall.collapse.report import NUMBERS, CollapseReport
from infall.collapse.reporting import collapse_report, geodesic_reports

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

_FORMAT = "infall.CollapseTrajectory"
_FORMAT_VERSION = 1
_AXES = ("layer", "epoch")
_PARTS = ("axis", "names", "reports", "coordinates", "predicted_times", "predicted")
_COLUMNS = ("nc1", "nc2", "nc3", "nc4", "cdnv_mean", "pfc1", "pfc2", "pfc3")
_COLORS = ("#2a6fbb", "#d9722e", "#3a9a5b", "#8a5fa8", "#b23a48", "#5b6770", "#c9a227", "#1b998b")
_LEADING = ("nc1", "nc2", "cdnv_mean", "pfc1", "ncc_error", "nc3", "nc4", "pfc2")
# The same in every panel, whatever else is drawn there; fields beyond the eighth share colours.
_COLOR_OF = {
    field: _COLORS[number % len(_COLORS)]
    for number, field in enumerate(dict.fromkeys((*_LEADING, *NUMBERS)))
}


class CollapseTrajectory:
    """Reports of collapse, one per layer or per epoch, in the order in which they are added.

    Parameters
    ----------
    axis : {"layer", "epoch"}
        What the reports run over.

    Attributes
    ----------
    axis : str
        As given.
    names : list of str or int
        Of the layers or epochs.
    reports : list of CollapseReport
        One for each.
    coordinates : float64 array or None
        Horizontal positions, one for each, where they were set.
    predicted_times : float64 array or None
        Where `predict` was called, the times t in [0, 1] of `predicted`.
    predicted : list of CollapseReport
        The geodesic prediction.

    Examples
    --------
    >>> import numpy as np
    >>> from infall.collapse import CollapseTrajectory
    >>> labels = np.arange(60) % 3
    >>> noise = np.random.default_rng(0).standard_normal((60, 4))
    >>> layers = [np.eye(3, 4)[labels] + scale * noise for scale in (1.0, 0.3, 0.1)]
    >>> trajectory = CollapseTrajectory("layer")
    >>> for number, features in enumerate(layers):
    ...     _ = trajectory.add(number, features, labels)
    >>> bool((np.diff(trajectory.arrays()["nc1"]) < 0).all())
    True
    >>> trajectory.effective_depth(epsilon=0.01)
    1
    """

    def __init__(self, axis: Literal["layer", "epoch"] = "layer") -> None:
        self.axis = one_of(axis, "axis", _AXES)
        self.names: list[str | int] = []
        self.reports: list[CollapseReport] = []
        self.coordinates: NDArray[np.float64] | None = None
        self.predicted_times: NDArray[np.float64] | None = None
        self.predicted: list[CollapseReport] = []
        self._lock = object_lock()  # of the lists, which belong together

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = object_lock()

    def __len__(self) -> int:
        return len(self.reports)

    def __repr__(self) -> str:
        shown = ", ".join(str(name) for name in self.names[:8])
        more = "" if len(self) <= 8 else ", ..."
        return f"CollapseTrajectory({self.axis!r}: {len(self)} reports: {shown}{more})"

    def add(
        self, name: str | int, features: Any, labels: Any = None, **options: Any
    ) -> CollapseReport:
        """Measure one more layer or epoch and keep its report.

        Parameters
        ----------
        name : str or int
            Of the layer or epoch, not there yet. Number 0 is that of the input, which is no layer
            for `effective_depth`.
        features, labels, **options
            As `infall.collapse_report` takes them. Only the report is kept.

        Returns
        -------
        CollapseReport
            The one added.

        Raises
        ------
        TypeError, ValueError
            As `infall.collapse_report`; for a name of another kind, or that is there already. The
            trajectory stays as it was.
        """
        name = _checked_name(name, self.names)
        report = collapse_report(features, labels, **options)
        with self._lock:
            _checked_name(name, self.names)  # another thread may have added it
            self.names.append(name)
            self.reports.append(report)
            self.coordinates = None  # they were of fewer layers
        return report

    def set_coordinates(self, coordinates: ArrayLike) -> None:
        """Place the reports on the horizontal axis, for example at `layer_coordinates`.

        Parameters
        ----------
        coordinates : array, shape (number of reports,)
            Finite, in any unit; from 0 to 1 where the geodesic prediction is drawn.

        Raises
        ------
        TypeError, ValueError
            For anything but real numbers, another shape, and numbers that are not finite.

        See Also
        --------
        infall.collapse.layer_coordinates
        """
        positions = float64_entries(coordinates, "coordinates")
        if positions.shape != (len(self),):
            raise ValueError(f"coordinates has shape {positions.shape}; expected ({len(self)},)")
        self.coordinates = positions

    def predict(
        self,
        first: Any,
        last: Any,
        labels: Any,
        *,
        times: ArrayLike | None = None,
        classes: Sequence[Hashable] | None = None,
        **options: Any,
    ) -> None:
        """Keep the geodesic prediction: the metrics of (1 - t) first + t last.

        Parameters
        ----------
        first, last : arrays, shape (N, d)
            Features of the same samples in the first and last layer.
        labels, classes, **options
            As `infall.collapse.geodesic_reports` takes them.
        times : array, optional
            Ascending, in [0, 1]; 21 evenly spaced ones by default.

        Raises
        ------
        TypeError, ValueError
            As `infall.collapse.geodesic_reports`, and for times that do not ascend. The trajectory
            stays as it was.
        """
        checked_times = (
            np.linspace(0.0, 1.0, 21) if times is None else _checked_times(times, "times")
        )
        predicted = geodesic_reports(first, last, labels, checked_times, classes=classes, **options)
        with self._lock:
            self.predicted_times, self.predicted = checked_times, predicted

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return every numeric field of the reports as a float64 array (number of reports,).

        Returns
        -------
        dict of str to float64 array
            NaN where a report has no value; fields without any are left out.
        """
        return _arrays(self.reports)

    def effective_depth(self, epsilon: float = 0.0) -> str | int:
        """Return the first layer whose nearest class means err at most epsilon, else the last.

        Parameters
        ----------
        epsilon : float
            From 0 to 1.

        Returns
        -------
        str or int
            Its name. The layer numbered 0 is the input, and does not count.

        Raises
        ------
        TypeError, ValueError
            For another epsilon; without layers, or if one was measured without `pfc3`.

        Notes
        -----
        Source: Kothapalli, Section 4.2.
        """
        number_between(epsilon, "epsilon", 0.0, 1.0)
        layers = [(n, r) for n, r in zip(self.names, self.reports, strict=True) if n != 0]
        if not layers:
            raise ValueError("the trajectory has no layers yet; add them first")
        errors = []
        for name, report in layers:
            if report.pfc3 is None:
                raise ValueError(f"{self.axis} {name!r} was measured without pfc3")
            errors.append(1.0 - report.pfc3)
        return layers[effective_depth(errors, epsilon) - 1][0]

    def table(self, fields: Sequence[str] = _COLUMNS) -> Table:
        """Return a table for the terminal, one line per report (needs rich).

        Parameters
        ----------
        fields : sequence of str
            Numeric fields of `infall.CollapseReport`; those without any value are left out.

        Returns
        -------
        rich.table.Table
            To be printed with rich.

        Raises
        ------
        ValueError
            For an unknown field.
        """
        from rich.table import Table

        arrays = self.arrays()
        shown = [field for field in _checked(fields) if field in arrays]
        table = Table()
        table.add_column(self.axis, justify="right")
        for field in shown:
            table.add_column(NUMBERS[field][0], justify="right")
        for row, name in enumerate(self.names):
            metrics = [arrays[field][row] for field in shown]
            table.add_row(str(name), *("-" if math.isnan(m) else f"{m:.3g}" for m in metrics))
        return table

    def plot(
        self,
        ax: Axes | None = None,
        *,
        fields: Sequence[str] = ("nc1", "nc2", "cdnv_mean", "pfc1", "ncc_error"),
    ) -> Axes:
        """Draw metrics over the layers or epochs, on a logarithmic axis (needs matplotlib).

        The geodesic prediction, where there is one, is a line of the same colour without marks,
        drawn over the coordinates if they were set.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw; a new figure outside pyplot by default.
        fields : sequence of str
            Numeric fields of `infall.CollapseReport`, or "ncc_error" for 1 - PFC3; those without
            any value are left out. Zeros cannot be drawn and leave gaps.

        Returns
        -------
        matplotlib.axes.Axes
            Its figure is ``ax.figure``.

        Raises
        ------
        ValueError
            For an unknown field, and without reports.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        if not self.reports:
            raise ValueError("the trajectory has no reports yet; add some first")
        if ax is None:
            ax = Figure(figsize=(6.4, 4.2), layout="constrained").subplots()
        positions = self._positions()
        measured = _with_error(self.arrays())
        predicted = _with_error(_arrays(self.predicted))
        for field in _checked(fields, extra=("ncc_error",)):
            if field not in measured:
                continue
            color = _COLOR_OF[field]
            label = "NCC error" if field == "ncc_error" else NUMBERS[field][0]
            metric = _positive(measured[field])
            ax.plot(positions, metric, "o-", color=color, markersize=4, linewidth=0.9, label=label)
            if field in predicted and self.predicted_times is not None:
                span = positions[-1] - positions[0]
                times = positions[0] + self.predicted_times * span
                ax.plot(times, _positive(predicted[field]), color=color, linewidth=2, alpha=0.4)
        ax.set_yscale("log")
        if self.coordinates is not None:
            ax.set_xlabel(f"{self.axis} coordinate")
        else:
            ax.set_xlabel(self.axis)
            if all(isinstance(name, int) for name in self.names):
                ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            else:
                ax.set_xticks(positions, [str(name) for name in self.names])
        ax.grid(axis="y", color="0.9", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize="small")
        return ax

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trajectory to one JSON file, whole or not at all.

        Parameters
        ----------
        path : path
            File to write, under exactly this name.

        Raises
        ------
        OSError
            If it cannot be written; a file of that name is then still the old one.
        TypeError
            For names of classes that JSON cannot hold.
        """
        content = {
            "format": _FORMAT,
            "version": _FORMAT_VERSION,
            "engine": __version__,
            **self.state_dict(),
        }
        text = json.dumps(content, allow_nan=False, indent=1)
        with _saved.written_whole(path) as file:
            file.write(text.encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CollapseTrajectory:
        """Read a trajectory that `save` has written.

        Parameters
        ----------
        path : path
            The file.

        Returns
        -------
        CollapseTrajectory
            Equal in all its parts.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is truncated, foreign, or of another format version.
        """
        content = Path(path).read_bytes()
        try:
            state = json.loads(content)
            if not isinstance(state, dict) or state.pop("format", None) != _FORMAT:
                raise ValueError("of another format")
            if state["version"] != _FORMAT_VERSION:
                raise ValueError(
                    f"of format version {state['version']}; this infall reads {_FORMAT_VERSION}"
                )
            del state["version"]
            state.pop("engine", None)
            return cls.from_state_dict(state)
        except (KeyError, TypeError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(
                f"{path} is not a saved CollapseTrajectory, or a damaged one: {error}"
            ) from None

    def state_dict(self) -> dict[str, Any]:
        """Return all of the trajectory as lists, text and numbers, which JSON can hold.

        Returns
        -------
        dict
            Axis, names, reports, coordinates and the prediction.
        """
        with self._lock:
            return {
                "axis": self.axis,
                "names": list(self.names),
                "reports": [report.to_dict() for report in self.reports],
                "coordinates": _listed(self.coordinates),
                "predicted_times": _listed(self.predicted_times),
                "predicted": [report.to_dict() for report in self.predicted],
            }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> CollapseTrajectory:
        """Return the trajectory that `state_dict` has described.

        Parameters
        ----------
        state : mapping
            As `state_dict` returns it, also by way of JSON.

        Returns
        -------
        CollapseTrajectory
            Equal in all its parts.

        Raises
        ------
        TypeError, ValueError
            For anything but such a state.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state is a {type(state).__name__}; expected a mapping")
        if set(state) != set(_PARTS):
            raise ValueError(f"state has the parts {sorted(map(str, state))}; expected {_PARTS}")
        for part in ("names", "reports", "predicted"):
            if not isinstance(state[part], list):
                raise TypeError(f"{part} is {state[part]!r}; expected a list")
        trajectory = cls(state["axis"])
        for name in state["names"]:
            trajectory.names.append(_checked_name(name, trajectory.names))
        trajectory.reports = [CollapseReport.from_dict(report) for report in state["reports"]]
        if len(trajectory.names) != len(trajectory.reports):
            raise ValueError("there is not one name per report")
        if state["coordinates"] is not None:
            trajectory.set_coordinates(state["coordinates"])
        trajectory.predicted = [CollapseReport.from_dict(report) for report in state["predicted"]]
        if state["predicted_times"] is not None:
            times = _checked_times(state["predicted_times"], "predicted_times")
            trajectory.predicted_times = times
        count = 0 if trajectory.predicted_times is None else len(trajectory.predicted_times)
        if count != len(trajectory.predicted):
            raise ValueError("there is not one predicted report per time")
        return trajectory

    def _positions(self) -> NDArray[np.float64]:
        if self.coordinates is not None:
            return self.coordinates
        if all(isinstance(name, int) for name in self.names):
            return np.array(self.names, dtype=np.float64)
        return np.arange(len(self), dtype=np.float64)


def _checked_name(name: Any, others: Sequence[str | int]) -> str | int:
    if isinstance(name, (bool, np.bool_)) or not isinstance(name, (str, int, np.integer)):
        raise TypeError(f"name is {name!r}; expected a str or an int")
    checked = name if isinstance(name, str) else int(name)
    if checked in others:
        raise ValueError(f"name is {checked!r}, which is there already")
    return checked


def _checked_times(times: ArrayLike, name: str) -> NDArray[np.float64]:
    checked = real_vector(times, name)
    if not ((checked >= 0.0) & (checked <= 1.0)).all() or not (np.diff(checked) > 0.0).all():
        raise ValueError(f"{name} is {checked.tolist()}; expected ascending numbers from 0 to 1")
    return checked


def _arrays(reports: list[CollapseReport]) -> dict[str, NDArray[np.float64]]:
    arrays = {}
    for field in NUMBERS:
        metrics = [getattr(report, field) for report in reports]
        if any(metric is not None for metric in metrics):
            arrays[field] = np.array([math.nan if m is None else m for m in metrics], dtype=float)
    return arrays


def _with_error(arrays: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    if "pfc3" in arrays:
        arrays["ncc_error"] = 1.0 - arrays["pfc3"]
    return arrays


def _checked(fields: Sequence[str], extra: tuple[str, ...] = ()) -> list[str]:
    return [one_of(field, "an entry of fields", (*NUMBERS, *extra)) for field in fields]


def _positive(metric: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(metric) & (metric > 0.0), metric, np.nan)


def _listed(positions: NDArray[np.float64] | None) -> list[float] | None:
    return None if positions is None else positions.tolist()
