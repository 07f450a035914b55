"""What every experiment returns: its settings, a table, and a figure."""

from __future__ import annotations

import csv
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Table(NamedTuple):
    """Rows of numbers and text under named columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Result(ABC):
    """An experiment that has run."""

    name: ClassVar[str]
    """As `infall figure` knows it."""
    paper: ClassVar[str]
    """Figure or equation of the paper that it reproduces."""

    settings: Mapping[str, Any]
    """What it was run with, the sampler and the seeds among it."""

    @abstractmethod
    def table(self) -> Table:
        """Return the numbers behind the figure, standard errors over seeds among them."""

    @abstractmethod
    def plot(self) -> Figure:
        """Return the figure, outside pyplot: nothing to close."""

    @abstractmethod
    def summary(self) -> str:
        """Return in a sentence or two what the numbers show beside what the paper says."""

    def csv(self) -> str:
        """Return the table as text, under one line of column names."""
        table = self.table()
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(table.columns)
        writer.writerows(table.rows)
        return text.getvalue()

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table, under one line of column names.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        Path(path).write_text(self.csv(), encoding="utf-8", newline="")
