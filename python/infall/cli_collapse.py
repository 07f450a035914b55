"""The command `infall collapse`: measure the neural collapse of features in files."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from infall import _core
from infall._array_files import read_npy, read_npz
from infall._terminal import FIGURE_SUFFIXES, bad_option, check_writable, stdout_console
from infall.classes import GlobalMean
from infall.collapse import METRICS, CollapseReport, collapse_report
from infall.collapse._inputs import Weighting
from infall.experiments.collapse import draw_report

HELP = (
    "Measure the neural collapse of features: NC1 to NC4, CDNV, PFC1 to PFC3 and more.\n\n"
    "FEATURES is a .npy file of shape (N, d), in any floating point, with LABELS a .npy file of N "
    "integers or texts; or FEATURES is a .npz file with arrays named features, labels and, if "
    "there are any, classifier, bias, test_features and test_labels. Files are mapped into memory "
    "and read block by block."
)
EPILOG = """
[bold]Examples[/bold]

[cyan]infall collapse features.npy labels.npy[/cyan]  all that follows from samples alone

[cyan]infall collapse features.npy labels.npy --classifier W.npy --bias b.npy[/cyan]  and NC3, NC4

[cyan]infall collapse layer.npz --plot layer.png[/cyan]

[cyan]infall collapse layer.npz --metrics nc1,cdnv --json | jq .nc1[/cyan]
"""
_PARTS = ("features", "labels", "classifier", "bias", "test_features", "test_labels")


def collapse(
    features: Annotated[
        Path, typer.Argument(metavar="FEATURES", help="Features .npy, or a .npz with all arrays.")
    ],
    labels: Annotated[
        Path | None,
        typer.Argument(metavar="LABELS", help="Labels .npy; not with a .npz.", show_default=False),
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights of the last layer, .npy (K, d)."),
    ] = None,
    bias: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Bias of the last layer, .npy (K,).")
    ] = None,
    test_features: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Features of test samples, .npy.")
    ] = None,
    test_labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labels of test samples, .npy.")
    ] = None,
    weighting: Annotated[
        Weighting, typer.Option(help="What weighs the same in the variance within classes.")
    ] = "samples",
    global_mean: Annotated[
        GlobalMean, typer.Option(help="Centre of the class means: their mean, or the samples'.")
    ] = "classes",
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help=f"Some of {', '.join(METRICS)}.", show_default="all there can be"
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="INTEGER", help="CPU threads.", show_default="all"),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a figure: .png, .pdf or .svg.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Measure the neural collapse of features in files."""
    if plot is not None:
        importlib.import_module("matplotlib")  # absent, it should fail now and not after the run
        check_writable("--plot", plot, FIGURE_SUFFIXES)
    wanted = None if metrics is None else [name.strip() for name in metrics.split(",")]
    given = dict(zip(_PARTS[2:], (classifier, bias, test_features, test_labels), strict=True))
    arrays = _arrays(features, labels, given)
    names = _class_names(arrays)
    start = time.perf_counter()
    try:
        report = _measure(
            **arrays,
            classes=names,
            weighting=weighting,
            global_mean=global_mean,
            metrics=wanted,
            num_threads=threads,
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise typer.BadParameter(str(error)) from error
    elapsed = time.perf_counter() - start
    if plot is not None:
        figure = draw_report(report, arrays["features"], arrays["labels"], title=features.name)
        figure.savefig(plot, dpi=160)
    if as_json:
        facts = {
            "source": str(features),
            **report.to_dict(),
            "elapsed_seconds": elapsed,
            "isa": _core.isa(),
            "figure": None if plot is None else str(plot),
        }
        typer.echo(json.dumps(facts, indent=2, allow_nan=False))
        return
    console = stdout_console()
    for line in report.conditions():
        console.print(line, highlight=False, markup=False)
    console.print(_table(report))
    size = arrays["features"].nbytes
    console.print(f"{size / 1e6:,.1f} MB of features in {elapsed:.3g} s", highlight=False)
    if plot is not None:
        console.print(f"figure: {plot}", highlight=False, markup=False, soft_wrap=True)


def _arrays(
    features: Path, labels: Path | None, given: dict[str, Path | None]
) -> dict[str, NDArray[Any]]:
    """Return the arrays of the files by name, those given on the command line first."""
    arrays: dict[str, NDArray[Any]] = {}
    if features.suffix.lower() == ".npz":
        found = _read("FEATURES", features, read_npz)
        arrays = {name: found[name] for name in _PARTS if name in found}
        absent = [name for name in ("features", "labels") if name not in arrays and labels is None]
        if "features" not in arrays or absent:
            held = ", ".join(found) or "nothing"
            raise bad_option(
                "FEATURES",
                f"{features} holds {held}; expected arrays named features and labels",
            )
    else:
        arrays["features"] = _read("FEATURES", features, read_npy)
        if labels is None:
            raise bad_option("LABELS", f"{features} needs a file of labels beside it")
    if labels is not None:
        arrays["labels"] = _read("LABELS", labels, read_npy)
    for name, path in given.items():
        if path is not None:
            arrays[name] = _read("--" + name.replace("_", "-"), path, read_npy)
    return arrays


def _read(option: str, path: Path, reader: Any) -> Any:
    try:
        return reader(path)
    except (OSError, ValueError) as error:
        raise bad_option(option, error) from error


def _class_names(arrays: dict[str, NDArray[Any]]) -> list[Any] | None:
    """Return the texts that name the classes, in order; None for labels that are numbers."""
    labels = arrays["labels"]
    return np.unique(labels).tolist() if labels.dtype.kind in "SU" else None


def _measure(**options: Any) -> CollapseReport:
    """Measure, under a progress bar where stderr is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return collapse_report(**options)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True) as progress:

        def show(done: int, total: int, stage: str) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        return collapse_report(progress=show, **options)


def _table(report: CollapseReport) -> Table:
    table = Table(row_styles=["", "dim"])
    table.add_column("metric", style="bold")
    table.add_column("value", justify="right", style="green")
    table.add_column("what it is")
    for row in report.rows():
        table.add_row(*row)
    return table
