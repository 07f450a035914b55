"""What the commands share: errors in one line, options and files that are checked, the console."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from infall.datasets import load_images

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")

# Columns of output into a file or pipe, where there is no terminal to ask for its width.
_WIDTH_WITHOUT_TERMINAL = 120
_INTERRUPTED = 130  # the exit code of a shell for a process that Ctrl-C ended


class OneLineErrors(TyperGroup):
    """Report an error as one red line on stderr, without usage, box or traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        try:
            result = super().main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )
        except (KeyboardInterrupt, typer.Abort):
            result = _INTERRUPTED
        except (OSError, MemoryError) as error:
            print_error(f"error: {error}")
            result = 1
        except Exception as error:
            # Usage errors have a base class, but typer has no public name for it.
            format_message = getattr(error, "format_message", None)
            if format_message is None:
                raise
            print_error(f"error: {' '.join(format_message().split())}")
            result = 2
        if result == _INTERRUPTED:  # some versions of typer turn an interrupt into this themselves
            print_error("interrupted")
        if not standalone_mode:
            return result
        sys.exit(result if isinstance(result, int) else 0)


def print_error(message: str) -> None:
    """Print one red line on stderr."""
    Console(stderr=True).print(Text(message, style="red"), soft_wrap=True)


def bad_option(option: str, problem: object) -> typer.BadParameter:
    """Return an error that names an option."""
    return typer.BadParameter(str(problem), param_hint=option)


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
    return width


def parse_seed(option: str, text: str) -> int:
    """Return the seed that an option gives."""
    # The option types of typer end at 2^63 in some versions.
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < 2**64:
        raise bad_option(option, f"{text!r}, expected an integer from 0 to 2^64 - 1")
    return seed


def read_images(option: str, path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """Return the images of a file, (N, k), and their labels; none of them without direction."""
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
        raise bad_option(
            option, f"{path}: image {np.argmax(blank)} is all zero and has no direction"
        )
    return images, labels


def check_writable(option: str, path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse a path before the long run rather than after it."""
    if path.suffix.lower() not in suffixes:
        raise bad_option(option, f"{path}: expected the suffix {' or '.join(suffixes)}")
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
        if not existed:
            path.unlink()
    except OSError as error:
        raise bad_option(option, f"{path} cannot be written: {error.strerror}") from error


def stdout_console() -> Console:
    """Return the console that results are printed on."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return Console()
    return Console(width=_WIDTH_WITHOUT_TERMINAL)
