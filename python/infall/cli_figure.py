"""The command `infall figure`: reproduce figures of the paper, with tables and a page."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from infall._arrays import Progress as ProgressCallback
from infall._terminal import (
    FIGURE_SUFFIXES,
    bad_option,
    check_writable,
    parse_seed,
    parse_width,
    read_images,
    stdout_console,
)
from infall.experiments import EXPERIMENTS
from infall.experiments.page import Shown, printed, setting_text, write_page
from infall.experiments.result import Result
from infall.rows import Sampler

HELP = (
    "Reproduce a figure of the paper: measure, draw, and print the numbers behind it.\n\n"
    "NAME is one of these, or [cyan]all[/cyan] for a folder with all of them and a page:\n\n"
    + "\n\n".join(
        f"[cyan]{name}[/cyan]  {one.shows} ({one.paper})" for name, one in EXPERIMENTS.items()
    )
)
EPILOG = """
[bold]Examples[/bold]

[cyan]infall figure convergence --seeds 1[/cyan]  the paper's widths and depths, half a minute

[cyan]infall figure clusters --width 2^12,2^20 --depth 6 --csv clusters.csv[/cyan]

[cyan]infall figure flipped_labels --images train-images-idx3-ubyte.gz --digit 3[/cyan]

[cyan]infall figure memorization --sampler stream --seeds 3,5,8 --json | jq .summary[/cyan]

[cyan]infall figure all --out figures[/cyan]  every figure with 10 seeds, and figures/index.html
"""
_ALL = "all"
_DPI = 130
_SHOWN_ROWS = 40  # of a table on the terminal
# What an option is called by experiments, the first of these that one has.
_PARAMETERS = {
    "--width": ("widths", "width"),
    "--depth": ("depth",),
    "--dim": ("dim",),
    "--samples": ("num_test", "num_images", "num_codes"),
    "--seeds": ("seeds",),
    "--sampler": ("sampler",),
    "--images": ("images",),
    "--digit": ("digit",),
}


def figure(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Which figure, or all.", show_default="list them"),
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS",
            help="Rows of every layer: 33554432 or 2^25; several with commas where the figure has "
            "several.",
            show_default="the paper's",
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(metavar="LAYERS", help="Number of layers.", show_default="the paper's"),
    ] = None,
    dim: Annotated[
        int | None,
        typer.Option(metavar="K", help="Length of the vectors.", show_default="the paper's"),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(metavar="N", help="Test vectors or images.", show_default="the paper's"),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="SEEDS",
            help="How many seeds, counted from 0; or which, with commas: 3,5,8 (one alone: 7,).",
            show_default="10",
        ),
    ] = None,
    sampler: Annotated[
        Sampler | None,
        typer.Option(
            help="How the selected rows are drawn, all from the same law.",
            show_default="order_statistics",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Images, one per row: .npy, .npz or IDX (the format of MNIST), plain or .gz.",
            show_default="handwritten digits",
        ),
    ] = None,
    digit: Annotated[
        int | None,
        typer.Option(metavar="LABEL", help="Label of the images used.", show_default="0"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The figure: .png, .pdf or .svg. For all: the folder.",
            show_default="infall-NAME.png; infall-figures",
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="The table as .csv.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of the table.")
    ] = False,
) -> None:
    """Reproduce a figure of the paper."""
    given = {
        "--width": width,
        "--depth": depth,
        "--dim": dim,
        "--samples": samples,
        "--seeds": seeds,
        "--sampler": sampler,
        "--images": images,
        "--digit": digit,
    }
    options = {option: value for option, value in given.items() if value is not None}
    if name is None:
        stdout_console().print(_list())
        return
    if name != _ALL and name not in EXPERIMENTS:
        raise bad_option("NAME", f"{name!r}, expected {_ALL} or one of {', '.join(EXPERIMENTS)}")
    importlib.import_module("matplotlib")  # absent, it should fail now and not after the run
    if name == _ALL:
        _draw_all(options, out or Path("infall-figures"), csv, as_json=as_json)
        return
    path = out or Path(f"infall-{name}.png")
    function = EXPERIMENTS[name].load()
    arguments = _arguments(name, function, options)
    check_writable("--out", path, FIGURE_SUFFIXES)
    if csv is not None:
        check_writable("--csv", csv, (".csv",))
    with _Stages() as stages:
        result, seconds = _run(name, function, arguments, stages.progress)
        result.plot().savefig(path, dpi=_DPI)
    if csv is not None:
        result.write_csv(csv)
    if as_json:
        report = _report(result, _command(name, options), seconds, path, csv)
        typer.echo(json.dumps(report, indent=2, allow_nan=False))
        return
    console = stdout_console()
    _print(console, result, seconds)
    for kind, written in (("figure", path), ("table", csv)):
        if written is not None:
            console.print(f"{kind}: {written}", highlight=False, markup=False, soft_wrap=True)


def _draw_all(options: Mapping[str, Any], folder: Path, csv: Path | None, *, as_json: bool) -> None:
    for option in (*options, *(("--csv",) if csv is not None else ())):
        if option not in ("--seeds", "--sampler", "--images"):
            raise bad_option(
                option, f"not with {_ALL}, which draws every figure at the size of the paper"
            )
    functions = {name: one.load() for name, one in EXPERIMENTS.items()}
    chosen, arguments = {}, {}
    for name, function in functions.items():
        has = inspect.signature(function).parameters
        chosen[name] = {
            option: value for option, value in options.items() if _parameter(option, has)
        }
        arguments[name] = _arguments(name, function, chosen[name])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise bad_option("--out", f"{folder} cannot be made: {error.strerror}") from error
    index = folder / "index.html"
    check_writable("--out", index, (".html",))
    shown = []
    with _Stages(len(functions)) as stages:
        for name, function in functions.items():
            stages.start(name)
            result, seconds = _run(name, function, arguments[name], stages.progress)
            result.plot().savefig(folder / f"{name}.png", dpi=_DPI)
            result.write_csv(folder / f"{name}.csv")
            shown.append(
                Shown(
                    result,
                    EXPERIMENTS[name].shows,
                    _command(name, chosen[name]),
                    f"{name}.png",
                    f"{name}.csv",
                    seconds,
                )
            )
    write_page(
        index,
        shown,
        title="Figures of Wormhole Dynamics in Deep Neural Networks",
        command=_command(_ALL, options),
    )
    if as_json:
        reports = [
            _report(one.result, one.command, one.seconds, folder / one.figure, folder / one.csv)
            for one in shown
        ]
        typer.echo(json.dumps({"index": str(index), "figures": reports}, indent=2, allow_nan=False))
        return
    console = stdout_console()
    for one in shown:
        console.print(Text.assemble((one.result.name, "bold"), f"  {one.seconds:.1f} s"))
        console.print(one.result.summary(), highlight=False, markup=False)
    console.print(f"page: {index}", highlight=False, markup=False, soft_wrap=True)


def _parameter(option: str, has: Mapping[str, Any]) -> str | None:
    """Return what an experiment calls an option; None if it has none."""
    return next((name for name in _PARAMETERS[option] if name in has), None)


def _arguments(
    name: str, function: Callable[..., Result], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keywords of an experiment, from the options given."""
    has = inspect.signature(function).parameters
    arguments: dict[str, Any] = {}
    for option, value in options.items():
        parameter = _parameter(option, has)
        if parameter is None:
            usable = [each for each in _PARAMETERS if _parameter(each, has)]
            raise bad_option(option, f"{name} has none; its options are {', '.join(usable)}")
        if option == "--width":
            arguments[parameter] = _widths(name, value, several=parameter == "widths")
        elif option == "--seeds":
            arguments[parameter] = _seeds(value)
        elif option == "--images":
            arguments[parameter], labels = read_images(option, value)
            if "labels" in has:
                arguments["labels"] = labels
        else:
            arguments[parameter] = value
    return arguments


def _widths(name: str, text: str, *, several: bool) -> int | tuple[int, ...]:
    widths = tuple(parse_width(part.strip()) for part in text.split(","))
    if several:
        return widths
    if len(widths) > 1:
        raise bad_option("--width", f"{text}, but {name} has a single width")
    return widths[0]


def _seeds(text: str) -> int | tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1:
        return parse_seed("--seeds", parts[0])
    return tuple(parse_seed("--seeds", part) for part in parts if part)


def _run(
    name: str,
    function: Callable[..., Result],
    arguments: Mapping[str, Any],
    progress: ProgressCallback | None,
) -> tuple[Result, float]:
    """Return what an experiment gives, and the seconds it took."""
    start = time.perf_counter()
    try:
        result = function(**arguments, progress=progress)
    except (ValueError, TypeError, OverflowError) as error:
        raise typer.BadParameter(f"{name}: {error}") from error
    return result, time.perf_counter() - start


def _command(name: str, options: Mapping[str, Any]) -> str:
    words = ["infall", "figure", name]
    for option, value in options.items():
        words += [option, str(value)]
    return shlex.join(words)


def _report(
    result: Result, command: str, seconds: float, figure: Path, csv: Path | None
) -> dict[str, Any]:
    table = result.table()
    return {
        "name": result.name,
        "paper": result.paper,
        "command": command,
        "settings": _plain(result.settings),
        "summary": result.summary(),
        "columns": list(table.columns),
        "rows": _plain(table.rows),
        "elapsed_seconds": seconds,
        "figure": str(figure),
        "csv": None if csv is None else str(csv),
    }


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: None for what is no finite number."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _print(console: Console, result: Result, seconds: float) -> None:
    columns, rows = printed(result.table())
    table = Table(
        title=Text(f"{result.name}: {result.paper}"),
        title_justify="left",
        caption=Text(
            "  ".join(f"{name} {setting_text(name, one)}" for name, one in result.settings.items())
        ),
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    left_out = len(rows) - _SHOWN_ROWS
    for number, row in enumerate(rows):
        if left_out > 0 and number == _SHOWN_ROWS // 2:
            table.add_row(*["..."] * len(columns))
        if left_out <= 0 or number < _SHOWN_ROWS // 2 or number >= left_out + _SHOWN_ROWS // 2:
            table.add_row(*row)
    console.print(table)
    if left_out > 0:
        console.print(f"{left_out} rows of {len(rows)} are left out; --csv writes them all")
    console.print(result.summary(), highlight=False, markup=False)
    console.print(f"{seconds:.3g} s", highlight=False)


def _list() -> Table:
    table = Table.grid(padding=(0, 2))
    for name, one in EXPERIMENTS.items():
        table.add_row(Text(name, style="bold"), Text(one.paper), Text(one.shows))
    return table


class _Stages:
    """Bars for the stages of experiments, where stderr is a terminal."""

    def __init__(self, num_figures: int = 1) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._num_figures = num_figures
        self._figures: TaskID | None = None
        self._started = 0
        self._stages: dict[str, TaskID] = {}

    @property
    def progress(self) -> ProgressCallback | None:
        return self._show if self._console.is_terminal else None

    def __enter__(self) -> _Stages:
        if self._console.is_terminal:
            self._bars.start()
            if self._num_figures > 1:
                self._figures = self._bars.add_task("figures", total=self._num_figures)
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def start(self, name: str) -> None:
        """Begin with the next figure: its stages take the place of the last one's."""
        for task in self._stages.values():
            self._bars.remove_task(task)
        self._stages = {}
        if self._figures is not None:
            self._bars.update(
                self._figures, description=f"figures: {name}", completed=self._started
            )
        self._started += 1

    def _show(self, done: int, total: int, stage: str) -> None:
        if stage not in self._stages:
            self._stages[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._stages[stage], completed=done, total=total)
