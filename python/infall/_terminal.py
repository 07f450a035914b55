"""What the commands share: errors in one line, paths that are checked first, the console."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

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
