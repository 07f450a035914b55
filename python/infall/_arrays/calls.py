"""What every call has: progress, Ctrl-C, and the floating-point environment of the kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from infall import _core

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

# Called as progress(done, total, stage); stage says in a few words what is being done. What it
# raises stops the call.
Progress = Callable[[int, int, str], object]

# What a kernel calls with what it has done so far, every 50 ms.
Watch = Callable[[int], object] | None


def standard_floats(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Have NumPy round to nearest and keep subnormal numbers in `function`, as the kernels do.

    A caller's thread may be set otherwise: torch.set_flush_denormal and libraries that are linked
    with -ffast-math do so.
    """

    @functools.wraps(function)
    def standard(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        with _core.FloatEnvironment():
            return function(*args, **kwargs)

    return standard


def watch_of(progress: Progress | None, total: int, stage: str, *, done_before: int = 0) -> Watch:
    """Return what a kernel calls with what it has done, or None.

    Raises TypeError if `progress` cannot be called.
    """
    if progress is None:
        return None
    if not callable(progress):
        raise TypeError(f"progress is {progress!r}; expected a callable")
    return lambda done: progress(done_before + done, total, stage)


def later(watch: Watch, done_before: int) -> Watch:
    """Return what a kernel calls that goes on where others have stopped."""
    return None if watch is None else lambda done: watch(done_before + done)
