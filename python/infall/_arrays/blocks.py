"""How large the blocks are in which arrays are worked on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_most: ContextVar[int | None] = ContextVar("infall.block_size", default=None)


def block_size(usual: int) -> int:
    """Return the usual size of a block, in bytes or entries, or less within `blocks_of`."""
    most = _most.get()
    return usual if most is None else min(usual, most)


@contextmanager
def blocks_of(most: int) -> Iterator[None]:
    """Work in blocks of at most this size: small inputs then take several, which no result shows.

    It holds for the thread that enters the ``with`` block.
    """
    token = _most.set(most)
    try:
        yield
    finally:
        _most.reset(token)
