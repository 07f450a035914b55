"""The command `infall figure`: reproduce figures of the paper, with tables and a page."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

import infall
from infall._arrays.files import written_whole
from infall.cli._terminal import (
    FIGURE_SUFFIXES,
    Column,
    Delivery,
    Output,
    StageBars,
    bad_option,
    check_writable,
    file_option,
    flag,
    integer_option,
    name_option,
    number_of,
    parse_seed,
    parse_width,
    print_note,
    read_images,
    save_figure,
    with_options,
)
from infall.experiments import EXPERIMENTS
from infall.experiments.result import Result
from infall.rows.settings import Sampler

HELP = (
    "Reproduce a figure of the paper: measure, draw, and print the numbers behind it.\n\n"
    "NAME is one of these, or [cyan]all[/cyan] for a folder with all of them and a page:\n\n"
    + "\n\n".join(
        f"[cyan]{name}[/cyan]  {experiment.shows} ({experiment.paper})"
        for name, experiment in EXPERIMENTS.items()
    )
)
EPILOG = """
[bold]Examples[/bold]

[cyan]infall figure convergence --seeds 1[/cyan]  one seed at the paper's sizes, a minute

[cyan]infall figure clusters --width 2^12,2^20 --depth 6 --csv clusters.csv[/cyan]

[cyan]infall figure flipped_labels --images train-images-idx3-ubyte.gz --digit 3[/cyan]

[cyan]infall figure memorization --sampler stream --seeds 3,5,8 --json | jq .summary[/cyan]

[cyan]infall figure all --out figures[/cyan]  every figure with 10 seeds, and figures/index.html
"""
_ALL = "all"
_PAPER = "the paper's"  # size of a figure, by default
_DPI = 130
_SHOWN_ROWS = 40  # of a table on the terminal
_KEYS = ("dim", "width", "largest_pixel", "layer", "depth", "theta_0")  # columns that name a row
# What experiments call an option: the first of these that one has. In the order of `figure`.
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
            show_default=_PAPER,
        ),
    ] = None,
    depth: Annotated[
        int | None, integer_option(1, 2**31 - 1, "LAYERS", "Number of layers.", _PAPER)
    ] = None,
    dim: Annotated[
        int | None, integer_option(2, 2**31 - 1, "K", "Length of the vectors.", _PAPER)
    ] = None,
    samples: Annotated[
        int | None, integer_option(1, 2**31 - 1, "N", "Test vectors or images.", _PAPER)
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
        str | None,
        name_option(
            get_args(Sampler),
            f"How the selected rows are drawn: {', '.join(get_args(Sampler))}; all have the "
            "same law.",
            "order_statistics",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        file_option(
            "Images, one per row: .npy, .npz or IDX (the format of MNIST), plain or .gz.",
            default="handwritten digits",
        ),
    ] = None,
    digit: Annotated[
        int | None, integer_option(-(2**31), 2**31 - 1, "LABEL", "Label of the images used.", "0")
    ] = None,
    out: Annotated[
        Path | None,
        file_option(
            "The figure: .png, .pdf or .svg. For all: the folder.",
            default="infall-NAME.png; infall-figures",
        ),
    ] = None,
    csv: Annotated[Path | None, file_option("The table as .csv.")] = None,
    as_json: Annotated[bool, flag("Print JSON instead of the table.", "--json")] = False,
) -> None:
    """Reproduce a figure of the paper."""
    settings = (width, depth, dim, samples, seeds, sampler, images, digit)
    given = dict(zip(_PARAMETERS, settings, strict=True))
    options = {option: setting for option, setting in given.items() if setting is not None}
    if name is None:
        _print_list()
        return
    if name != _ALL and name not in EXPERIMENTS:
        raise bad_option("NAME", f"{name!r}, expected {_ALL} or one of {', '.join(EXPERIMENTS)}")
    importlib.import_module("matplotlib")  # absent, it should fail now and not after the run
    if name == _ALL:
        _draw_all(options, out or Path("infall-figures"), csv, as_json=as_json)
        return
    _draw(name, options, out or Path(f"infall-{name}.png"), csv, as_json=as_json)


def _print_list() -> None:
    longest = max(map(len, EXPERIMENTS))
    with Delivery() as delivery, delivery.to_output() as output:
        for name, experiment in EXPERIMENTS.items():
            output.line(f"{name:<{longest}}  {experiment.shows} ({experiment.paper})")


def _draw(
    name: str, options: Mapping[str, Any], path: Path, csv: Path | None, *, as_json: bool
) -> None:
    function = EXPERIMENTS[name].load()
    arguments = _arguments(name, function, options)
    check_writable("--out", path, FIGURE_SUFFIXES)
    if csv is not None:
        check_writable("--csv", csv, (".csv",))
    with StageBars() as bars:
        bars.waiting("loading")
        result, seconds = _run(name, function, arguments, bars)
    report = _report(result, _command(name, options), seconds, path, csv)
    with Delivery() as delivery:
        if csv is not None:
            _write(delivery, csv, result.csv())
        with delivery.to_output() as output:
            if as_json:
                output.json(json.dumps(report, indent=2, allow_nan=False))
            else:
                _print(output, report)
        with delivery.to_file(path), StageBars() as bars:
            bars.waiting("figure")
            save_figure(result.plot(), path, dpi=_DPI)
        if not as_json:
            delivery.print_files([("figure", path), ("table", csv)])


def _write(delivery: Delivery, path: Path, text: str) -> None:
    with delivery.to_file(path), written_whole(path) as file:
        file.write(text.encode())


def _draw_all(options: Mapping[str, Any], folder: Path, csv: Path | None, *, as_json: bool) -> None:
    for option in (*options, *(("--csv",) if csv is not None else ())):
        if option not in ("--seeds", "--sampler", "--images"):
            raise bad_option(
                option, f"not with {_ALL}, which draws every figure at the size of the paper"
            )
    functions = {name: experiment.load() for name, experiment in EXPERIMENTS.items()}
    chosen, arguments = {}, {}
    for name, function in functions.items():
        parameters = inspect.signature(function).parameters
        chosen[name] = {
            option: setting for option, setting in options.items() if _parameter(option, parameters)
        }
        arguments[name] = _arguments(name, function, chosen[name])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise bad_option("--out", f"{folder} cannot be made: {error.strerror}") from error
    index = folder / "index.html"
    check_writable("--out", index, (".html",))
    reports: list[dict[str, Any]] = []
    with Delivery() as delivery:
        with _FigureBars(list(functions)) as bars:
            for position, (name, function) in enumerate(functions.items(), start=1):
                bars.start(name)
                conditions = _conditions(name, chosen[name])
                report = _drawn_before(folder, name, conditions)
                if report is None:
                    report = _draw_one(
                        delivery, folder, name, function, arguments[name], conditions, bars
                    )
                    done = f"{report['elapsed_seconds']:.1f} s"
                else:
                    done = f"kept: {folder / name}.json has the same settings"
                reports.append(report)
                if not bars.is_terminal:
                    print_note(f"{position} of {len(functions)}: {name}, {done}")
                _write_page(delivery, index, reports, _command(_ALL, options))
        with delivery.to_output() as output:
            if as_json:
                facts = {"index": str(index), "figures": reports}
                output.json(json.dumps(facts, indent=2, allow_nan=False))
            else:
                for report in reports:
                    output.line(f"{report['name']}  {report['elapsed_seconds']:.1f} s")
                    output.paragraph(report["summary"])
        if not as_json:
            delivery.print_files([("page", index)])


def _draw_one(
    delivery: Delivery,
    folder: Path,
    name: str,
    function: Callable[..., Result],
    arguments: Mapping[str, Any],
    conditions: Mapping[str, Any],
    bars: StageBars,
) -> dict[str, Any]:
    """Write a figure of the folder, its table, and last of all its report."""
    figure, table, done = (folder / f"{name}.{suffix}" for suffix in ("png", "csv", "json"))
    with delivery.to_file(done):
        done.unlink(missing_ok=True)
    result, seconds = _run(name, function, arguments, bars)
    report = _report(result, conditions["command"], seconds, figure, table)
    _write(delivery, table, result.csv())
    bars.waiting("figure")
    with delivery.to_file(figure):
        save_figure(result.plot(), figure, dpi=_DPI)
        text = json.dumps({**report, "conditions": conditions}, indent=1, allow_nan=False)
        _write(delivery, done, text)
    return report


def _conditions(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the result of an experiment depends on."""
    digests = {}
    if "--images" in options:
        with options["--images"].open("rb") as file:
            digests["images"] = hashlib.file_digest(file, "sha256").hexdigest()
    return {"command": _command(name, options), "infall": infall.__version__, **digests}


def _drawn_before(folder: Path, name: str, conditions: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the report of a figure that an earlier run has finished under the same conditions."""
    figure, table = (folder / f"{name}.{suffix}" for suffix in ("png", "csv"))
    if not figure.is_file() or not table.is_file():
        return None
    try:
        report = json.loads((folder / f"{name}.json").read_bytes())
        if report.pop("conditions") != conditions:
            return None
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return {**report, "figure": str(figure), "csv": str(table)}


def _write_page(
    delivery: Delivery, index: Path, reports: Sequence[Mapping[str, Any]], command: str
) -> None:
    from infall.experiments.page import page

    title = "Figures of Wormhole Dynamics in Deep Neural Networks"
    _write(delivery, index, page(reports, title=title, command=command))


def _parameter(option: str, parameters: Mapping[str, Any]) -> str | None:
    """Return what an experiment with these parameters calls an option; None if it has none."""
    return next((name for name in _PARAMETERS[option] if name in parameters), None)


def _arguments(
    name: str, function: Callable[..., Result], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keywords of an experiment, from the options given."""
    parameters = inspect.signature(function).parameters
    arguments: dict[str, Any] = {}
    for option, setting in options.items():
        parameter = _parameter(option, parameters)
        if parameter is None:
            usable = [other for other in _PARAMETERS if _parameter(other, parameters)]
            raise bad_option(option, f"{name} has none; its options are {', '.join(usable)}")
        if option == "--width":
            arguments[parameter] = _widths(name, setting, several=parameter == "widths")
        elif option == "--seeds":
            arguments[parameter] = _seeds(setting)
        elif option == "--images":
            arguments[parameter], labels = read_images(option, setting)
            if "labels" in parameters:
                arguments["labels"] = labels
        else:
            arguments[parameter] = setting
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
    name: str, function: Callable[..., Result], arguments: Mapping[str, Any], bars: StageBars
) -> tuple[Result, float]:
    """Return what an experiment gives, and the seconds it took."""
    start = time.perf_counter()
    try:
        result = function(**arguments, progress=bars.progress)
    except (ValueError, TypeError, OverflowError) as error:
        parameters = inspect.signature(function).parameters
        options = {_parameter(option, parameters): option for option in _PARAMETERS}
        named = {parameter: option for parameter, option in options.items() if parameter}
        raise typer.BadParameter(f"{name}: {with_options(str(error), named)}") from error
    return result, time.perf_counter() - start


def _command(name: str, options: Mapping[str, Any]) -> str:
    words = ["infall", "figure", name]
    for option, setting in options.items():
        words += [option, str(setting)]
    return shlex.join(words)


def _report(
    result: Result, command: str, seconds: float, figure: Path, csv: Path | None
) -> dict[str, Any]:
    table = result.table()
    return {
        "name": result.name,
        "paper": result.paper,
        "shows": EXPERIMENTS[result.name].shows,
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
    """Return a value as JSON has it: None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):  # of NumPy
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _print(output: Output, report: Mapping[str, Any]) -> None:
    from infall.experiments.page import printed, setting_text
    from infall.experiments.result import Table

    columns, rows = printed(Table(report["columns"], report["rows"]))
    left_out = len(rows) - _SHOWN_ROWS if output.is_terminal else 0
    if left_out > 0:
        half = _SHOWN_ROWS // 2
        rows = [*rows[:half], ["..."] * len(columns), *rows[-half:]]
    output.line(f"{report['name']}: {report['paper']}")
    output.table(
        [
            Column(name.replace("_", " "), cells)
            for name, cells in zip(columns, zip(*rows, strict=True), strict=True)
        ],
        num_keys=next(i for i, name in enumerate(columns) if name not in _KEYS),
    )
    settings = report["settings"].items()
    output.paragraph("  ".join(f"{name} {setting_text(name, value)}" for name, value in settings))
    if left_out > 0:
        hidden = number_of(left_out, "row")
        output.line(f"{hidden} of {len(rows) - 1 + left_out} not shown; --csv writes them all")
    output.paragraph(report["summary"])
    output.line(f"{report['elapsed_seconds']:.3g} s")


class _FigureBars(StageBars):
    """The stages of one figure after the other, below a bar for all of them."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        # Figures take different times: the rest is known once the first network is done.
        self._seconds = {name: EXPERIMENTS[name].seconds for name in names}
        self._name = names[0]
        self._before = 0.0
        self._figures = self._bars.add_task("figures", total=sum(self._seconds.values()))

    def start(self, name: str) -> None:
        """Begin with the next figure: its stages take the place of the last one's."""
        names = list(self._seconds)
        self._name = name
        self._before = sum(self._seconds[earlier] for earlier in names[: names.index(name)])
        self._bars.update(self._figures, description=f"figures: {name}", completed=self._before)
        self.waiting("loading")

    def show(self, done: int, total: int, stage: str, bar: str | None = None) -> None:
        """Move the bar of a stage, and with the main one that of all figures."""
        super().show(done, total, stage, bar)
        if stage == "networks":
            share = self._seconds[self._name] * done / total
            self._bars.update(self._figures, completed=self._before + share)
