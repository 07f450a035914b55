"""The commands `infall select` and `infall merge`: select rows, whole or by the parts of jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from infall._arrays.mapped import read_npy
from infall.cli._terminal import (
    Delivery,
    StageBars,
    Threads,
    bad_option,
    check_writable,
    file_option,
    integer_option,
    name_option,
    parse_seed,
    parse_width,
    with_options,
)
from infall.distributed import merge_parts, select_part, select_rows
from infall.rows.settings import Order, Score

if TYPE_CHECKING:
    from infall.rows.selection import RowSelection

_SAMPLERS = ("stream", "rotated")
_OPTIONS = {
    "w": "W",
    "width": "--width",
    "num_rows": "--num-rows",
    "num_threads": "--threads",
    "num_parts": "--part",
    "part": "--part",
}

HELP = (
    "Select the rows of a random Gaussian layer with the largest projection on a vector.\n\n"
    "W is a .npy file of shape (k,), or (B, k) for B vectors that share the layer. The selection "
    "is written to --out, for infall.RowSelection.load. With --part, one of many jobs looks at one "
    "part of the layer, and infall merge puts the parts together: the same bits."
)
EPILOG = """
[bold]Examples[/bold]

[cyan]infall select w.npy --width 2^30 --out selection.npz[/cyan]

[cyan]infall select w.npy --width 2^34 --checkpoint run.npz[/cyan]  goes on where it was stopped

[cyan]infall select w.npy --width 2^40 --part 17/4096 --out parts[/cyan]  job 17, from 0

[cyan]infall merge parts --out selection.npz[/cyan]  says which parts are missing
"""
MERGE_HELP = (
    "Put the parts of a selection together that `infall select --part` has written.\n\n"
    "FOLDER is the folder of all parts; those that are missing are named."
)


def select(
    w: Annotated[Path, typer.Argument(metavar="W", help="The vector or vectors, .npy.")],
    width: Annotated[
        str, typer.Option(metavar="ROWS", help="Rows of the layer: 33554432, or a power: 2^40.")
    ],
    num_rows: Annotated[
        int | None, integer_option(1, 2**63 - 1, "ROWS", "Rows to select.", "the length of W")
    ] = None,
    seed: Annotated[
        str, typer.Option(metavar="INTEGER", help="Seed of the layer, 0 to 2^64 - 1.")
    ] = "0",
    layer: Annotated[int, integer_option(0, 2**32 - 1, "INTEGER", "Number of the layer.")] = 0,
    sampler: Annotated[
        str, name_option(_SAMPLERS, "How the layer is sampled: stream or rotated.")
    ] = "stream",
    score: Annotated[
        str, name_option(get_args(Score), "Rank rows by absolute or signed projections.")
    ] = "absolute",
    order: Annotated[
        str, name_option(get_args(Order), "Order of the rows: by index or by score.")
    ] = "index",
    part: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Look at part I of N, from 0 to N - 1, and write it into the folder --out.",
            show_default="the whole layer",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, file_option("Keep what is done in this file, and go on from it.")
    ] = None,
    threads: Threads = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The selection, .npz; with --part a folder.",
            show_default="selection.npz; parts, with --part",
        ),
    ] = None,
) -> None:
    """Select the rows of a random Gaussian layer, or look at one part of it."""
    how: dict[str, Any] = {
        "num_rows": num_rows,
        "seed": parse_seed("--seed", seed),
        "layer": layer,
        "sampler": sampler,
        "score": score,
        "order": order,
        "num_threads": threads,
    }
    vectors, rows = _vectors(w), parse_width(width)
    if part is not None:
        if checkpoint is not None:
            raise bad_option("--checkpoint", "a part has no checkpoint; make the parts smaller")
        _select_part(vectors, rows, *_numbers_of(part), out or Path("parts"), how)
        return
    target = out or Path("selection.npz")
    check_writable("--out", target, (".npz",))
    with _errors_of_options(), StageBars() as bars:
        selection = select_rows(
            vectors, rows, executor=None, checkpoint=checkpoint, progress=bars.progress, **how
        )
    _deliver(selection, target)


def merge(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of all parts.")],
    out: Annotated[Path, file_option("The selection, .npz.")] = Path("selection.npz"),
) -> None:
    """Put the parts of a selection together."""
    if not folder.is_dir():
        raise bad_option("FOLDER", f"{folder} is not a folder")
    paths = sorted(folder.glob("part-*.npz"))
    if not paths:
        raise bad_option("FOLDER", f"{folder} has no files part-*.npz")
    check_writable("--out", out, (".npz",))
    with _errors_of_options():
        selection = merge_parts(paths)
    _deliver(selection, out)


def _vectors(path: Path) -> Any:
    try:
        return read_npy(path)
    except OSError as error:
        told = error.strerror or str(error)
        raise bad_option("W", told if str(path) in told else f"{path}: {told}") from error
    except ValueError as error:
        raise bad_option("W", error) from error


def _numbers_of(part: str) -> tuple[int, int]:
    number, slash, count = part.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise bad_option("--part", f"{part!r}, expected a part and their number, such as 17/4096")
    return int(number), int(count)


def _select_part(
    vectors: Any, rows: int, part: int, num_parts: int, folder: Path, how: dict[str, Any]
) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise bad_option("--out", f"{folder} is there, and no folder") from None
    digits = len(str(num_parts - 1))
    path = folder / f"part-{part:0{digits}}-of-{num_parts}.npz"
    with _errors_of_options(), StageBars() as bars:
        computed = select_part(
            vectors,
            rows,
            part=part,
            num_parts=num_parts,
            path=path,
            progress=bars.progress,
            **how,
        )
    with Delivery() as delivery, delivery.to_output() as output:
        output.line(f"part: {path}" + ("" if computed else " (was there)"))


@contextlib.contextmanager
def _errors_of_options() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise typer.BadParameter(with_options(str(error), _OPTIONS)) from error


def _deliver(selection: RowSelection, path: Path) -> None:
    with Delivery() as delivery:
        with delivery.to_file(path):
            selection.save(path)
        delivery.print_files([("selection", path)])
