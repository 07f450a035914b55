"""The command line: run a network, measure the collapse of features, draw the paper's figures."""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import scipy
from numpy.typing import NDArray

import infall
from infall import _core
from infall.datasets import load_digits
from infall.experiments.run import Measurement, draw_collapse, measure_collapse
from infall.maxlikelihood import MaxLikelihood
from infall.rows import Sampler

_INSTALL_HINT = "infall: the command line needs {}: pip install infall[cli]"
try:
    import typer
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Table
    from rich.text import Text

    from infall import cli_collapse, cli_figure
    from infall._terminal import (
        FIGURE_SUFFIXES,
        OneLineErrors,
        bad_option,
        check_writable,
        parse_seed,
        parse_width,
        read_images,
        stdout_console,
    )
except ModuleNotFoundError as error:
    # The installed script imports this module before it can call anything in it.
    raise SystemExit(_INSTALL_HINT.format(error.name)) from None

app = typer.Typer(
    cls=OneLineErrors,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Very wide Gaussian layers: select their rows, stack them, watch the angles collapse; "
    "the metrics of neural collapse; and the figures of the paper.",
)
app.command(help=cli_collapse.HELP, epilog=cli_collapse.EPILOG)(cli_collapse.collapse)
app.command(help=cli_figure.HELP, epilog=cli_figure.EPILOG)(cli_figure.figure)


@app.callback(invoke_without_command=True)
def _infall(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(infall.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(
    help="Fit a MaxLikelihood network to one image and measure how the others collapse.\n\n"
    "Every layer keeps the k rows, of --width random ones, with the largest projection on the "
    "output so far, where k is the number of pixels. All images but the fitted one go through the "
    "kept rows; the table and the figure show their angles to the fitted output, layer by layer, "
    "next to the law that predicts them.",
    epilog="""
[bold]Examples[/bold]

[cyan]infall run[/cyan]  8 layers of 2^25 rows, fitted to a handwritten 0

[cyan]infall run --width 2^40 --sampler order_statistics[/cyan]  any width in seconds

[cyan]infall run --digit 7 --index 3 --depth 20 --save seven.npz[/cyan]

[cyan]infall run --input t10k-images-idx3-ubyte.gz --digit 4 --width 1000000[/cyan]

[cyan]infall run --json --no-figure | jq '.layers[-1].nll_measured'[/cyan]
""",
)
def run(
    width: Annotated[
        str,
        typer.Option(metavar="ROWS", help="Rows of every layer: 33554432, or a power: 2^25."),
    ] = "2^25",
    depth: Annotated[int, typer.Option(min=1, metavar="LAYERS", help="Number of layers.")] = 8,
    sampler: Annotated[
        Sampler,
        typer.Option(
            help="How the selected rows are drawn, all from the same law. stream: every entry of "
            "the layer, in O(n k). rotated: one column decides, O(n). order_statistics: only the "
            "selected rows, the same time for any width."
        ),
    ] = "stream",
    seed: Annotated[
        str, typer.Option(metavar="INTEGER", help="Seed of the layers, 0 to 2^64 - 1.")
    ] = "0",
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="INTEGER", help="CPU threads.", show_default="all"),
    ] = None,
    input_path: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="Images, one per row: .npy, .npz or IDX (the format of MNIST), plain or .gz.",
            show_default="8 by 8 handwritten digits",
        ),
    ] = None,
    digit: Annotated[
        int | None,
        typer.Option(
            metavar="LABEL",
            help="Fit to an image with this label.",
            show_default="0; any, with --input",
        ),
    ] = None,
    index: Annotated[
        int,
        typer.Option(min=0, metavar="INTEGER", help="Which of these images to fit to, from 0."),
    ] = 0,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The figure: .png, .pdf or .svg.")
    ] = Path("infall-run.png"),
    no_figure: Annotated[bool, typer.Option("--no-figure", help="Draw no figure.")] = False,
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep the fitted network in this .npz file."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Fit a MaxLikelihood network to one image and measure how the others collapse."""
    num_rows = parse_width(width)
    seed_number = parse_seed("--seed", seed)
    source = "digits" if input_path is None else str(input_path)
    images, labels = _load(input_path)
    if input_path is None and digit is None:
        digit = 0
    row = _choose_image(images, labels, digit, index, source)
    image, test_images = images[row], np.delete(images, row, axis=0)
    dim = len(image)
    if num_rows < dim:
        raise bad_option(
            "--width", f"{num_rows} rows, expected at least the {dim} that a layer keeps"
        )
    if not no_figure:
        importlib.import_module("matplotlib")  # absent, it should fail now and not after the run
        check_writable("--out", out, FIGURE_SUFFIXES)
    if save is not None:
        check_writable("--save", save, (".npz",))

    try:
        model = MaxLikelihood(
            num_rows, depth, seed=seed_number, sampler=sampler, num_threads=threads
        )
        elapsed = _fit(model, image, normals_per_row=_normals_per_row(sampler, dim))
    except (ValueError, TypeError, OverflowError) as error:
        raise typer.BadParameter(str(error)) from error
    if save is not None:
        model.save(save)
    measurement = measure_collapse(model, test_images)
    if not no_figure:
        draw_collapse(measurement, title=_title(model, dim)).savefig(out, dpi=160)

    rows_per_second = num_rows * depth / elapsed
    normals_per_row = _normals_per_row(sampler, dim)
    normals_per_second = None if normals_per_row is None else rows_per_second * normals_per_row
    if as_json:
        report = {
            "width": num_rows,
            "depth": depth,
            "dim": dim,
            "sampler": sampler,
            "seed": seed_number,
            "threads": threads,
            "isa": _core.isa(),
            "input": {
                "source": source,
                "row": row,
                "label": None if labels is None else int(labels[row]),
            },
            "num_test_samples": len(test_images),
            "elapsed_seconds": elapsed,
            "rows_per_second": rows_per_second,
            "normals_per_second": normals_per_second,
            "layers": [asdict(layer) for layer in measurement.layers],
            "figure": None if no_figure else str(out),
            "model": None if save is None else str(save),
        }
        typer.echo(json.dumps(report, indent=2, allow_nan=False))
        return

    console = stdout_console()
    label = "" if labels is None else f", label {labels[row]}"
    console.print(
        f"Fitted to row {row} of {source}{label}; measured on the other {len(test_images)} images",
        highlight=False,
        markup=False,
    )
    console.print(_layer_table(measurement))
    console.print(
        f"{depth} layers of {num_rows:,} rows in {elapsed:.3g} s: "
        + _rates(rows_per_second, normals_per_second),
        highlight=False,
    )
    for name, path in (("figure", None if no_figure else out), ("network", save)):
        if path is not None:
            console.print(f"{name}: {path}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print the version, the instruction set in use, CPU threads, and the state of CUDA."""
    facts = {
        "infall": infall.__version__,
        "isa": _core.isa(),
        "available_isas": list(_core.available_isas()),
        "cpu_threads": _num_cpu_threads(),
        "cuda": _cuda(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    names = {"isa": "ISA", "available_isas": "ISAs available", "cpu_threads": "CPU threads"}
    names |= {"cuda": "CUDA", "numpy": "NumPy", "scipy": "SciPy", "python": "Python"}
    table = Table.grid(padding=(0, 2))
    for key, value in facts.items():
        shown = ", ".join(value) if isinstance(value, list) else str(value)
        table.add_row(Text(names.get(key, key), style="bold"), Text(shown))
    stdout_console().print(table)


def _load(path: Path | None) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    if path is None:
        return load_digits()
    images, labels = read_images("--input", path)
    if len(images) < 2:
        raise bad_option(
            "--input", f"{path}: one image; the test set is the others, expected at least two"
        )
    return images, labels


def _choose_image(
    images: NDArray[np.float64],
    labels: NDArray[np.int64] | None,
    digit: int | None,
    index: int,
    source: str,
) -> int:
    candidates = np.arange(len(images))
    which = f"images in {source}"
    if digit is not None:
        if labels is None:
            raise bad_option("--digit", f"{source} has no labels, choose with --index alone")
        candidates = np.flatnonzero(labels == digit)
        which = f"images with label {digit} in {source}"
        if len(candidates) == 0:
            known = np.unique(labels)
            raise bad_option(
                "--digit",
                f"no {which}, its labels go from {known[0]} to {known[-1]}",
            )
    if index >= len(candidates):
        raise bad_option(
            "--index", f"{index}, but there are {len(candidates)} {which}, counted from 0"
        )
    return int(candidates[index])


class _SpeedColumn(ProgressColumn):
    def __init__(self, normals_per_row: int | None) -> None:
        super().__init__()
        self._normals_per_row = normals_per_row

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        normals = None if self._normals_per_row is None else speed * self._normals_per_row
        return Text(_rates(speed, normals), style="green")


def _fit(model: MaxLikelihood, image: NDArray[np.float64], *, normals_per_row: int | None) -> float:
    """Fit, under a progress bar where stderr is a terminal; return the seconds it took."""
    console = Console(stderr=True)
    start = time.perf_counter()
    if console.is_terminal:
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            _SpeedColumn(normals_per_row),
            TimeRemainingColumn(),
        ]
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("fit", total=model.width * model.depth)
            model.fit(
                image,
                progress=lambda done, _, stage: progress.update(
                    task, completed=done, description=stage
                ),
            )
    else:
        model.fit(image)
    return time.perf_counter() - start


def _normals_per_row(sampler: Sampler, dim: int) -> int | None:
    """Return the normal variables drawn for every row; None where that is no fixed number."""
    return dim if sampler == "stream" else None


def _rates(rows_per_second: float, normals_per_second: float | None) -> str:
    rates = f"{_with_prefix(rows_per_second)}rows/s"
    if normals_per_second is not None:
        rates += f", {_with_prefix(normals_per_second)}normals/s"
    return rates


def _with_prefix(value: float) -> str:
    if value >= 1e18:
        return f"{value:.3g} "
    for limit, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {prefix} "
    return f"{value:.3g} "


def _title(model: MaxLikelihood, dim: int) -> str:
    exponent = model.width.bit_length() - 1
    width = f"$2^{{{exponent}}}$" if model.width == 2**exponent else f"{model.width:,}"
    return (
        f"MaxLikelihood network: width {width}, depth {model.depth}, $k$ = {dim}, "
        f"{model.sampler.replace('_', ' ')} sampler, seed {model.seed}"
    )


def _layer_table(measurement: Measurement) -> Table:
    table = Table(
        caption=Text(
            "τ: norm growth ||G w|| / √k, ||w|| = 1.  θ₀: angle / π to the fitted output.  "
            "NLL: mean entropy of θ₀ in bits.\nd: layer component of [l; w]."
        ),
        caption_justify="left",
        row_styles=["", "dim"],
    )
    table.add_column("layer", justify="right")
    table.add_column("|score|", justify="right")
    table.add_column("τ", justify="right")
    table.add_column("τ law", justify="right")
    table.add_column("θ₀ < ½", justify="right", style="blue")
    table.add_column("mean θ₀", justify="right", style="blue")
    table.add_column("θ₀ ≥ ½", justify="right", style="yellow")
    table.add_column("mean 1-θ₀", justify="right", style="yellow")
    table.add_column("NLL", justify="right", style="green")
    table.add_column("NLL law", justify="right")
    table.add_column("d", justify="right")
    for report in measurement.layers:
        scores = "-"
        if report.score_min is not None:
            scores = f"{report.score_min:.2f}..{report.score_max:.2f}"
        table.add_row(
            "input" if report.layer == 0 else str(report.layer),
            scores,
            _cell(report.tail_gain_measured, ".3f"),
            _cell(report.tail_gain_predicted, ".3f"),
            str(report.count_near_0),
            _cell(report.distance_to_0, ".2e"),
            str(report.count_near_1),
            _cell(report.distance_to_1, ".2e"),
            _cell(report.nll_measured, ".2e"),
            _cell(report.nll_predicted, ".2e"),
            _cell(report.layer_component, ".1e"),
        )
    return table


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _num_cpu_threads() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))  # fewer than there are, in a container or under taskset
    return os.cpu_count() or 1


def _cuda() -> str:
    try:
        kernels = importlib.import_module("infall._cuda")
    except ModuleNotFoundError:
        return "not built: there is no module infall._cuda; build with INFALL_CUDA=ON"
    except ImportError as error:
        return f"built, but cannot be loaded: {error}"
    architectures = f"built for {kernels.architectures()}"
    try:
        return f"{architectures}; devices: {kernels.device_count()}"
    except RuntimeError as error:
        return f"{architectures}, but off: {error}"


def main() -> None:
    """Run the command line, or say what to install where it cannot run."""
    try:
        app(prog_name="infall")
    except ModuleNotFoundError as error:
        # matplotlib and scikit-learn are imported only by the runs that need them.
        if (error.name or "").partition(".")[0] not in ("matplotlib", "sklearn"):
            raise
        raise SystemExit(_INSTALL_HINT.format(error.name)) from None
