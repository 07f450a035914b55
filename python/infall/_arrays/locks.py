"""Locks of objects that several threads may use."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def object_lock() -> threading.RLock:
    """Return a lock that a process forked from this one finds free, whoever held it here."""
    # Of the C type itself: an __exit__ in Python could be interrupted before it releases the lock.
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def _free_all() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_all)
