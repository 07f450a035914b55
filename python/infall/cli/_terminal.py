"""What the commands share: options, errors in one line, results on any terminal, whole files."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from infall._arrays.calls import Progress as ProgressCallback
from infall._arrays.files import written_whole
from infall._arrays.threads import MAX_THREADS

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")

_INTERRUPTED = 130  # the exit code of a shell for a process that Ctrl-C ended
_UNLIMITED = 10**6  # columns of a file or pipe
_BAR_WIDTH = 20  # a line with all its numbers fits 80 columns

# ---------------------------------------------------------------- errors


class _PlainHelp:
    """Help in which a flag is no ``<bool>``."""

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.metavar = ""
        return option


class PlainCommand(_PlainHelp, TyperCommand):
    """A command of the program."""


class OneLineErrors(_PlainHelp, TyperGroup):
    """Report an error as one red line on stderr, without usage, box or traceback."""

    def main(self, *args: Any, **options: Any) -> Any:
        standalone_mode = options.pop("standalone_mode", True)
        if os.environ.get("COLUMNS", "").strip() == "0":  # of which rich makes lines of no length
            del os.environ["COLUMNS"]
        for stream in (sys.stdout, sys.stderr):
            _write_any_character(stream)
        try:
            if sys.stdout is None:
                raise OSError("standard output is closed; redirect it to /dev/null instead")
            result = super().main(*args, **{**options, "standalone_mode": False})
        except (KeyboardInterrupt, typer.Abort):
            result = _INTERRUPTED
        except UndeliveredError as error:
            for problem in error.problems:
                print_error(f"error: {problem}")
            result = 1
        except BrokenPipeError:
            _discard_output()
            result = 1
        except (OSError, MemoryError) as error:
            print_error(f"error: {str(error) or 'out of memory'}")
            result = 1
        except Exception as error:
            # Usage errors have a base class, but typer has no public name for it.
            format_message = getattr(error, "format_message", None)
            if format_message is None:
                raise
            message = " ".join(format_message().split())
            message = re.sub(r"^Invalid value(?: for '?([^':]+)'?)?: ", _option_prefix, message)
            print_error(f"error: {message}")
            result = 2
        if result == _INTERRUPTED:  # some versions of typer turn an interrupt into this themselves
            print_error("interrupted")
        if not standalone_mode:
            return result
        sys.exit(result if isinstance(result, int) else 0)


def _option_prefix(match: re.Match[str]) -> str:
    return "" if match[1] is None else f"{match[1]}: "


def print_error(message: str) -> None:
    """Print one red line on stderr."""
    _Wide(stderr=True).print(Text(message, style="red"), soft_wrap=True)


def print_note(message: str) -> None:
    """Print one line on stderr."""
    _Wide(stderr=True).print(Text(message), soft_wrap=True)


# ---------------------------------------------------------------- options


def bad_option(option: str, problem: object) -> typer.BadParameter:
    """Return an error that names an option."""
    return typer.BadParameter(str(problem), param_hint=option)


def with_options(message: str, options: Mapping[str, str]) -> str:
    """Return a message about parameters in which they are called as the options that gave them."""
    for parameter, option in options.items():
        message = re.sub(rf"(?<![\w-]){parameter}\b(\[\d+\])?", option, message)
    return message


def file_option(text: str, *names: str, default: str | None = None) -> Any:
    """Return an option that takes the path of a file; `default` says what holds without it."""
    return typer.Option(*names, metavar="FILE", help=text, show_default=default or True)


def flag(text: str, *names: str) -> Any:
    """Return an option without an argument."""
    return typer.Option(*names, metavar="", help=text)


def name_option(choices: Sequence[str], text: str, default: str | None = None) -> Any:
    """Return an option that takes one of some names."""

    def parse(name: str) -> str:
        if name not in choices:
            raise typer.BadParameter(f"{name!r}, expected one of {', '.join(choices)}")
        return name

    return typer.Option(parser=parse, metavar="NAME", help=text, show_default=default or True)


def integer_option(
    low: int, high: int | None, metavar: str, text: str, default: str | None = None
) -> Any:
    """Return an option that takes an integer from `low` to `high`."""
    expected = f"an integer from {low} to {high}" if high else f"an integer of at least {low}"

    def parse(digits: str) -> int:
        try:
            chosen = int(digits)
        except ValueError:
            chosen = low - 1
        if chosen < low or (high is not None and chosen > high):
            raise typer.BadParameter(f"{digits!r}, expected {expected}")
        return chosen

    return typer.Option(parser=parse, metavar=metavar, help=text, show_default=default or True)


Threads = Annotated[int | None, integer_option(1, MAX_THREADS, "INTEGER", "CPU threads.", "all")]


def parse_width(text: str) -> int:
    """Return the rows that an option --width asks for, a number or a power."""
    base, power, exponent = text.replace("**", "^").partition("^")
    try:
        if not power:
            width = int(text)
        elif int(base) < 0 or not 0 <= int(base).bit_length() * int(exponent) <= 4096:
            raise ValueError  # no layer is that wide, and the power may take forever
        else:
            width = int(base) ** int(exponent)
    except ValueError:
        raise bad_option(
            "--width", f"{text!r} is not a whole number such as 33554432 or 2^25"
        ) from None
    if width < 1:
        raise bad_option("--width", f"{text} rows, expected at least 1")
    if width >= 2**63:
        raise bad_option("--width", f"{text} rows, expected fewer than 2^63")
    return width


def parse_seed(option: str, text: str) -> int:
    """Return the seed that an option gives."""
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < 2**64:
        raise bad_option(option, f"{text!r}, expected an integer from 0 to 2^64 - 1")
    return seed


def read_images(option: str, path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """Return the images of a file, (N, k), and their labels; none of them without direction."""
    from infall.experiments.datasets import load_images

    try:
        images, labels = load_images(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise bad_option(option, reason if str(path) in reason else f"{path}: {reason}") from error
    except ValueError as error:
        raise bad_option(option, error) from error
    if images.shape[1] < 2:
        raise bad_option(option, f"{path}: images of one pixel have no angle between them")
    blank = ~images.any(axis=1)
    if blank.any():
        raise bad_option(option, f"{path}: image {blank.argmax()} is all zero and has no direction")
    return images, labels


# ---------------------------------------------------------------- files


def check_writable(option: str, path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse a path before the long run rather than after it, and say what will be replaced."""
    if path.suffix.lower() not in suffixes:
        raise bad_option(option, f"{path}: expected the suffix {' or '.join(suffixes)}")
    target = Path(os.path.realpath(path))
    try:
        exists = target.exists()
        if exists and not target.is_file():
            raise bad_option(option, f"{path} cannot be written: it is not a regular file")
        if exists and not os.access(target, os.W_OK):
            raise bad_option(option, f"{path} cannot be written: Permission denied")
        trial = target.with_name(f".{secrets.token_hex(8)}.tmp")
        with trial.open("xb"):
            pass
        trial.unlink()
    except OSError as error:
        raise bad_option(option, f"{path} cannot be written: {error.strerror}") from error
    if exists:
        print_note(f"{path} is there already and will be replaced")


def save_figure(figure: Figure, path: Path, *, dpi: int) -> None:
    """Write a figure whole or not at all, in the format that the suffix says.

    Raises OSError if it cannot be written.
    """
    with written_whole(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=dpi)


# ---------------------------------------------------------------- results


class UndeliveredError(Exception):
    """Some results could not be delivered; the others were."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Delivery:
    """Results go to several places, and one that fails takes none of the others with it.

    Leaving the context raises `UndeliveredError` with what failed, if anything did.
    """

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._unwritten: set[Path] = set()
        self._pipe_closed = False

    def __enter__(self) -> Delivery:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._problems:
            raise UndeliveredError(self._problems)
        if kind is None and self._pipe_closed:
            raise BrokenPipeError

    @contextlib.contextmanager
    def to_file(self, path: Path) -> Iterator[None]:
        """Note that a file could not be written, and go on."""
        try:
            yield
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "out of memory"
            self._problems.append(f"{path} could not be written: {reason}")
            self._unwritten.add(path)

    @contextlib.contextmanager
    def to_output(self) -> Iterator[Output]:
        """Give the standard output; note that it could not be written, and go on."""
        try:
            yield Output()
            sys.stdout.flush()
        except BrokenPipeError:  # who reads it has seen enough
            self._pipe_closed = True
            _discard_output()
        except OSError as error:
            self._problems.append(f"standard output: {error.strerror or error}")
            _discard_output()

    def print_files(self, written: Sequence[tuple[str, Path | None]]) -> None:
        """Print the paths of the files that were asked for and could be written."""
        with self.to_output() as output:
            for kind, path in written:
                if path is not None and path not in self._unwritten:
                    output.line(f"{kind}: {path}")


def _discard_output() -> None:
    # What is still in the buffer would fail again when the interpreter ends.
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def number_of(count: int, noun: str) -> str:
    """Return a count with its noun: 1 image, 2 images."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class Column(NamedTuple):
    """A column of a table; text may be broken into lines, numbers never are."""

    header: str
    cells: Sequence[str]
    style: str = ""
    is_text: bool = False


class _Wide(Console):
    """A console that cuts nothing, whatever it is told of the terminal."""

    def __init__(self, **options: Any) -> None:
        # With a height as well: otherwise rich takes dumb terminals to have 80 columns.
        super().__init__(width=_UNLIMITED, height=1, **options)

    def on_broken_pipe(self) -> None:  # where rich would end the program
        raise  # noqa: PLE0704


class Output:
    """Standard output: as wide as the terminal, of any width elsewhere, and in any encoding."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self._width = shutil.get_terminal_size().columns if self.is_terminal else _UNLIMITED
        self._console = _Wide(highlight=False, markup=False)
        self._encoding = getattr(sys.stdout, "encoding", None) or "utf-8"

    def json(self, text: str) -> None:
        """Print JSON as it is."""
        sys.stdout.write(text + "\n")

    def line(self, text: str | Text) -> None:
        """Print a line that the terminal may break, but nobody else: paths are copied from it."""
        self._console.print(self._readable(text), soft_wrap=True)

    def paragraph(self, text: str) -> None:
        """Print text, on a terminal broken between words."""
        self._console.print(self._readable(text), width=self._width)

    def table(self, columns: Sequence[Column], num_keys: int = 1) -> None:
        """Print columns side by side where they fit, else as several tables, one below the other.

        The first `num_keys` columns say what a row is, and stand in all of them. Nothing is cut:
        a column wider than the terminal goes over its edge.
        """
        columns = [
            column._replace(
                header=self._readable(column.header).plain,
                cells=[self._readable(cell).plain for cell in column.cells],
            )
            for column in columns
        ]
        if self._width_of(columns) > self._width:
            columns = [_with_narrow_header(column) for column in columns]
        keys, parts = columns[:num_keys], [list(columns[:num_keys])]
        for column in columns[num_keys:]:
            wider = [*parts[-1], column]
            if len(parts[-1]) > num_keys and self._width_of(wider) > self._width:
                parts.append([*keys, column])
            else:
                parts[-1].append(column)
        for part in parts:
            self._console.print(_rich_table(part), width=max(self._width, self._width_of(part)))

    def _width_of(self, columns: Sequence[Column]) -> int:
        options = self._console.options.update(max_width=_UNLIMITED)
        measured = Measurement.get(self._console, options, _rich_table(columns))
        # Text is broken into lines, of at least the longest word.
        return measured.minimum if any(column.is_text for column in columns) else measured.maximum

    def _readable(self, text: str | Text) -> Text:
        if isinstance(text, Text):
            return text
        return Text(
            text.encode(self._encoding, _READABLE).decode(self._encoding, "surrogateescape")
        )


def _rich_table(columns: Sequence[Column]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, row_styles=["", "dim"])
    for column in columns:
        table.add_column(
            Text(column.header),
            style=column.style,
            justify="left" if column.is_text else "right",
            no_wrap=not column.is_text,
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _with_narrow_header(column: Column) -> Column:
    """Return a column with a header of several lines, no wider than its cells if words allow it."""
    words = column.header.split()
    width = max(len(text) for text in ("", *column.cells, *words))
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return column._replace(header="\n".join(lines))


# Characters of the results in ASCII, for streams that have no others.
_IN_ASCII = {
    "±": "+-", "∓": "-+", "½": "1/2", "≥": ">=", "≤": "<=", "·": ".", "×": "x", "–": "-",
    "—": "-", "‖": "||", "√": "sqrt ", "⊗": "(x)", "²": "^2", "³": "^3", "⁺": "^+", "⁻": "^-",
    "ᵀ": "^T", "′": "'", "’": "'", "‘": "'", "“": '"', "”": '"', "…": "...", "•": "*",
    "∞": "inf", "δ": "delta", "η": "eta", "θ": "theta", "π": "pi", "τ": "tau", "χ": "chi",
    "Σ": "Sigma", "Φ": "Phi",
}  # fmt: skip
_IN_ASCII |= {chr(ord("₀") + digit): f"_{digit}" for digit in range(10)}
_READABLE = "infall-readable"


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    if 0xDC80 <= ord(error.object[error.start]) <= 0xDCFF:  # a byte of a file name, as it came
        return bytes([ord(error.object[error.start]) - 0xDC00]), error.start + 1
    characters = error.object[error.start : error.end]
    texts = [
        _IN_ASCII.get(character) or character.encode("ascii", "backslashreplace").decode()
        for character in characters
    ]
    return "".join(texts), error.end


codecs.register_error(_READABLE, _in_ascii)


def _write_any_character(stream: Any) -> None:
    # A stream that replaces characters in another way was asked to.
    if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
        stream.reconfigure(errors=_READABLE)


# ---------------------------------------------------------------- progress


class StageBars:
    """A bar for every stage of what runs, where stderr is a terminal."""

    def __init__(self, *columns: ProgressColumn) -> None:
        console = Console(stderr=True)
        self.is_terminal = console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=_BAR_WIDTH),
            TaskProgressColumn(),
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._stages: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    @property
    def progress(self) -> ProgressCallback | None:
        """What a long call is given as `progress`: None where nobody looks."""
        return self.show if self.is_terminal else None

    def show(self, done: int, total: int, stage: str, bar: str | None = None) -> None:
        """Move the bar of a stage, or one that several stages share."""
        name = bar or stage
        if name not in self._stages:
            self._stages[name] = self._bars.add_task(stage, total=total)
        self._bars.update(self._stages[name], completed=done, total=total, description=stage)

    def waiting(self, stage: str) -> None:
        """Show a stage of which nobody knows how far it is, in the place of those before."""
        self.clear()
        if self.is_terminal:
            self._stages[stage] = self._bars.add_task(stage, total=None)

    def clear(self) -> None:
        """Take away the bars of all stages."""
        for task in self._stages.values():
            self._bars.remove_task(task)
        self._stages = {}
