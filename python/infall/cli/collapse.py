"""The command `infall collapse`: measure the neural collapse of features in files."""

from __future__ import annotations

import importlib
import json
import math
import time
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import numpy as np
import typer
from numpy.typing import NDArray

from infall import _core
from infall._arrays.mapped import npz_names, read_npy, read_npz
from infall.classes.moments import GlobalMean
from infall.cli._terminal import (
    FIGURE_SUFFIXES,
    Column,
    Delivery,
    Output,
    StageBars,
    Threads,
    bad_option,
    check_writable,
    file_option,
    flag,
    name_option,
    save_figure,
    with_options,
)
from infall.collapse import METRICS, CollapseReport, collapse_report
from infall.collapse._checks import Weighting

HELP = (
    "Measure the neural collapse of features: NC1 to NC4, CDNV, PFC1 to PFC3 and more.\n\n"
    "FEATURES is a .npy file of shape (N, d) and any floating-point type; LABELS is a .npy file of "
    "N integers or strings. Or FEATURES is a .npz file with arrays named features and labels, and "
    "optionally classifier, bias, test_features and test_labels. Files are memory-mapped and read "
    "block by block."
)
EPILOG = """
[bold]Examples[/bold]

[cyan]infall collapse features.npy labels.npy[/cyan]  every metric that needs only samples

[cyan]infall collapse features.npy labels.npy --classifier W.npy --bias b.npy[/cyan]  with NC3, NC4

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
        Path | None, file_option("Weights of the last layer, .npy (K, d).")
    ] = None,
    bias: Annotated[Path | None, file_option("Bias of the last layer, .npy (K,).")] = None,
    test_features: Annotated[Path | None, file_option("Features of test samples, .npy.")] = None,
    test_labels: Annotated[Path | None, file_option("Labels of test samples, .npy.")] = None,
    weighting: Annotated[
        str,
        name_option(
            get_args(Weighting),
            "What weighs the same in the variance within classes: samples or classes.",
        ),
    ] = "samples",
    global_mean: Annotated[
        str,
        name_option(
            get_args(GlobalMean),
            "The centre of the class means: the mean of classes, or of samples.",
        ),
    ] = "classes",
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help=f"Some of {', '.join(METRICS)}.", show_default="all there can be"
        ),
    ] = None,
    threads: Threads = None,
    plot: Annotated[Path | None, file_option("Draw a figure: .png, .pdf or .svg.")] = None,
    as_json: Annotated[bool, flag("Print one JSON object instead of the table.", "--json")] = False,
) -> None:
    """Measure the neural collapse of features in files."""
    if plot is not None:
        importlib.import_module("matplotlib")  # absent, it should fail now and not after the run
        check_writable("--plot", plot, FIGURE_SUFFIXES)
    wanted = None if metrics is None else [name.strip() for name in metrics.split(",")]
    given = dict(zip(_PARTS[2:], (classifier, bias, test_features, test_labels), strict=True))
    arrays = _arrays(features, labels, given)
    start = time.perf_counter()
    try:
        with StageBars() as bars:
            report = collapse_report(
                **arrays,
                classes=_class_names(arrays),
                weighting=cast(Weighting, weighting),
                global_mean=cast(GlobalMean, global_mean),
                metrics=wanted,
                num_threads=threads,
                progress=bars.progress,
            )
    except (ValueError, TypeError, OverflowError) as error:
        raise typer.BadParameter(
            with_options(str(error), _option_names(features, labels, given))
        ) from error
    elapsed = time.perf_counter() - start
    with Delivery() as delivery:
        with delivery.to_output() as output:
            if as_json:
                facts = {
                    "source": str(features),
                    **_without_nan(report.to_dict()),
                    "elapsed_seconds": elapsed,
                    "isa": _core.isa(),
                    "figure": None if plot is None else str(plot),
                }
                output.json(json.dumps(facts, indent=2, allow_nan=False))
            else:
                _print_report(output, report)
                size = arrays["features"].nbytes
                output.line(f"{size / 1e6:,.3g} MB of features in {elapsed:.3g} s")
        if plot is not None:
            from infall.experiments.collapse import draw_report

            with delivery.to_file(plot), StageBars() as bars:
                bars.waiting("figure")
                title = features.name
                figure = draw_report(report, arrays["features"], arrays["labels"], title=title)
                save_figure(figure, plot, dpi=160)
        if not as_json:
            delivery.print_files([("figure", plot)])


def _option_names(
    features: Path, labels: Path | None, given: dict[str, Path | None]
) -> dict[str, str]:
    """Return how the command line calls the parameters of `collapse_report` that it gave.

    Those that came from a .npz file keep their names, which are those of its arrays.
    """
    from_archive = features.suffix.lower() == ".npz"
    names = {"num_threads": "--threads", "metrics": "--metrics"}
    names |= {
        name: "--" + name.replace("_", "-")
        for name, path in given.items()
        if path is not None or not from_archive
    }
    names |= {} if from_archive else {"features": "FEATURES"}
    names |= {} if labels is None else {"labels": "LABELS"}
    return names


def _arrays(
    features: Path, labels: Path | None, given: dict[str, Path | None]
) -> dict[str, NDArray[Any]]:
    """Return the arrays of the files by name, those given on the command line first."""
    arrays: dict[str, NDArray[Any]] = {}
    if features.suffix.lower() == ".npz":
        # Only what is needed is read.
        needed = {"features", "labels"} if labels is None else {"features"}
        optional = {name for name, path in given.items() if path is None}
        arrays = _read("FEATURES", features, lambda path: read_npz(path, needed | optional))
        if not needed <= arrays.keys():
            held = _read("FEATURES", features, npz_names)
            raise bad_option(
                "FEATURES",
                f"{features} holds {', '.join(held) or 'nothing'}; expected arrays named "
                + " and ".join(sorted(needed)),
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


def _without_nan(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields with None for NaN, which JSON does not know."""
    return {
        name: None if isinstance(field, float) and math.isnan(field) else field
        for name, field in fields.items()
    }


def _print_report(output: Output, report: CollapseReport) -> None:
    for line in report.conditions():
        output.paragraph(line)
    symbols, shown, meanings = zip(*report.rows(), strict=True)
    output.table(
        [
            Column("metric", symbols, "bold", is_text=True),
            Column("value", shown, "green"),
            Column("what it is", meanings, is_text=True),
        ]
    )
