"""Parts of a problem, on any executor."""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib
import math
import pickle
import secrets
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, cast

from infall._arrays.checks import kind_of
from infall._arrays.threads import available_processors

Executor = Any
"""None, a `concurrent.futures.Executor`, or a `distributed.Client`."""

_SHARED_KEPT = 8  # what parts have in common, of so many calls, in a worker
_WORKERLESS_SECONDS = 300.0  # that a cluster may take to replace the last worker
_COUNTED_SECONDS = 5.0  # between two counts of the workers of a cluster, which come and go


class ExecutorLost(RuntimeError):  # noqa: N818
    """The executor, or a worker too often, is gone before all parts were done.

    Attributes
    ----------
    done, total : int
        Parts that were done, and parts there are.
    checkpoint : str or None
        Where they are saved: the same call goes on from there.
    parts : tuple of int
        Parts that took their workers down, where that is known.
    """

    def __init__(
        self, done: int, total: int, checkpoint: str | None, parts: tuple[int, ...], reason: str
    ) -> None:
        super().__init__(done, total, checkpoint, parts, reason)
        self.done, self.total, self.checkpoint, self.parts = done, total, checkpoint, parts
        self.reason = reason

    def __str__(self) -> str:
        saved = (
            f"saved in {self.checkpoint}; call again to go on"
            if self.checkpoint
            else "and lost: there is no checkpoint"
        )
        which = f"; part {', '.join(map(str, self.parts))} took its workers" if self.parts else ""
        return f"{self.done} of {self.total} parts done, {saved}{which}: {self.reason}"


class PartsLost(Exception):  # noqa: N818
    """The executor is gone, or these parts cannot be done on it."""

    def __init__(self, parts: tuple[int, ...], reason: str) -> None:
        super().__init__(parts, reason)
        self.parts, self.reason = parts, reason


def check_executor(executor: Executor) -> None:
    """Raise TypeError for what is no executor, before anything is done on it."""
    if executor is None or isinstance(executor, concurrent.futures.Executor):
        return
    if not _is_client(executor):
        raise TypeError(
            f"executor is a {kind_of(executor)}; expected None, a concurrent.futures.Executor or a "
            "distributed.Client"
        )
    if executor.asynchronous:
        raise TypeError("executor is an asynchronous Client; expected a synchronous one")


def _is_client(executor: Executor) -> bool:
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(executor, distributed.Client)


def results_of(
    executor: Executor,
    function: Callable[..., Any],
    shared: object,
    parts: Iterable[int],
    arguments: Callable[[int], tuple[Any, ...]],
    *,
    name: str,
    in_order: bool = False,
) -> Iterator[tuple[int, Any]]:
    """Yield parts and ``function(shared, part, *arguments(part))`` as they are done.

    `arguments` is asked when a part is sent off. No more than twice as many parts are under way as
    there are workers; what is left of them is cancelled when the iterator is closed. `in_order`
    waits for the parts in the order in which they are given: Dask's results stay with the workers
    until it is their turn.

    Raises PartsLost when the executor is gone, and when parts have taken down their workers though
    nothing else was under way: all others are done by then, `in_order` those before the first. What
    `function` raises is raised; TypeError if `shared` cannot be sent to the workers.
    """
    if executor is None:
        for part in parts:
            yield part, function(shared, part, *arguments(part))
        return
    work = _Work(_pool_of(executor, shared, name), function, arguments)
    left = deque(parts)
    deadly: list[int] = []
    while left:
        # Of the parts that a dead worker had, only one may have killed it. Which one shows when
        # each of them is tried with nothing else under way.
        for part in (yield from work.done_until_lost(left, in_order)):
            if (yield from work.done_until_lost(deque([part]), in_order)):
                deadly.append(part)
                if in_order:
                    left.clear()
    if deadly:
        raise PartsLost(tuple(sorted(deadly)), work.reason)


class _Work:
    """Parts under way in a pool."""

    def __init__(
        self, pool: _Pool, function: Callable[..., Any], arguments: Callable[[int], tuple[Any, ...]]
    ) -> None:
        self._pool, self._function, self._arguments = pool, function, arguments
        self.reason = ""  # of the last loss

    def done_until_lost(
        self, left: deque[int], in_order: bool
    ) -> Generator[tuple[int, Any], None, list[int]]:
        """Yield parts and results, and take them from those that are `left`.

        Returns the parts whose workers died too often; `in_order` the first one, at once.
        """
        pool, function, arguments = self._pool, self._function, self._arguments
        under_way = OrderedDict[int, Any]()
        lost: list[int] = []
        try:
            while left or under_way:
                while left and len(under_way) < 2 * pool.num_workers():
                    under_way[left[0]] = pool.submit(function, left[0], arguments(left[0]))
                    left.popleft()
                first = next(iter(under_way))
                for part in pool.wait({first: under_way[first]} if in_order else under_way):
                    try:
                        result = pool.result(under_way[part])
                    except Exception as error:
                        if not pool.goes_on(error):
                            raise
                        self.reason = _text(error)
                        del under_way[part]
                        lost.append(part)
                        if in_order:
                            left.extendleft(reversed(under_way))
                            return lost
                        continue
                    if isinstance(result, _Absent):
                        under_way[part] = pool.submit_with_shared(function, part, arguments(part))
                    else:
                        del under_way[part]
                        yield part, result
        except Exception as error:
            if not pool.is_lost(error):
                raise
            raise PartsLost((), _text(error)) from error
        finally:
            for future in under_way.values():
                pool.cancel(future)
        return lost


class _NoWorkersError(RuntimeError):
    """A cluster has lost all workers, and gets no others."""


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


# In a worker --------------------------------------------------------------------------------------


class _Absent(NamedTuple):
    """What a worker answers that has not yet been given what the parts share."""


_shared: OrderedDict[str, Any] = OrderedDict()
_shared_lock = threading.Lock()


def _run(
    key: str, pickled: bytes | None, function: Callable[..., Any], part: int, *arguments: Any
) -> Any:
    with _shared_lock:
        if pickled is not None and key not in _shared:
            _shared[key] = pickle.loads(pickled)
            while len(_shared) > _SHARED_KEPT:
                _shared.popitem(last=False)
        if key not in _shared:
            return _Absent()
        _shared.move_to_end(key)
        shared = _shared[key]
    return function(shared, part, *arguments)


# Executors ----------------------------------------------------------------------------------------


class _Pool(Protocol):
    """An executor, as `results_of` uses it."""

    def num_workers(self) -> int: ...
    def submit(self, function: Callable[..., Any], part: int, arguments: tuple[Any, ...]) -> Any:
        """Return a future of ``function(shared, part, *arguments)``."""

    def submit_with_shared(
        self, function: Callable[..., Any], part: int, arguments: tuple[Any, ...]
    ) -> Any:
        """Do so for a worker that has not seen what is shared."""

    def wait(self, futures: dict[int, Any]) -> list[int]:
        """Wait until one is done; return which are."""

    def result(self, future: Any) -> Any: ...
    def cancel(self, future: Any) -> None: ...

    def is_lost(self, error: Exception) -> bool:
        """Whether an error is the executor's, or that of a part which took its workers down."""

    def goes_on(self, error: Exception) -> bool:
        """Whether the executor does other parts all the same."""


def _pool_of(executor: Executor, shared: object, name: str) -> _Pool:
    if _is_client(executor):
        return _Cluster(executor, shared, name)
    if isinstance(executor, concurrent.futures.ThreadPoolExecutor):
        return _Threads(executor, shared)
    return _Processes(executor, shared)


def _pickled(shared: object, module: str) -> bytes:
    dumps: Any = importlib.import_module(module).dumps
    try:
        return cast(bytes, dumps(shared))
    except Exception as error:
        raise TypeError(
            f"the arguments cannot be sent to the workers of this executor: {error}"
        ) from error


class _Threads:
    """Workers that see what is shared."""

    def __init__(self, executor: concurrent.futures.Executor, shared: object) -> None:
        self._executor, self._shared = executor, shared

    def num_workers(self) -> int:
        # loky and MPI say it in these words, as the standard library does.
        for name in ("_max_workers", "num_workers"):
            workers = getattr(self._executor, name, None)
            if isinstance(workers, int) and workers > 0:
                return workers
        return available_processors()

    def submit(self, function: Callable[..., Any], part: int, arguments: tuple[Any, ...]) -> Any:
        return self._executor.submit(function, self._shared, part, *arguments)

    submit_with_shared = submit

    def wait(self, futures: dict[int, Any]) -> list[int]:
        done, _ = concurrent.futures.wait(
            futures.values(), return_when=concurrent.futures.FIRST_COMPLETED
        )
        return [part for part, future in futures.items() if future in done]

    def result(self, future: Any) -> Any:
        return future.result()

    def cancel(self, future: Any) -> None:
        future.cancel()

    def is_lost(self, error: Exception) -> bool:
        kinds = concurrent.futures.BrokenExecutor, concurrent.futures.CancelledError
        return isinstance(error, kinds)

    def goes_on(self, error: Exception) -> bool:
        return False


class _Processes(_Threads):
    """Workers that are sent what is shared, once each."""

    def __init__(self, executor: concurrent.futures.Executor, shared: object) -> None:
        super().__init__(executor, shared)
        # loky takes functions of the main module and lambdas, as cloudpickle writes them.
        by_value = type(executor).__module__.partition(".")[0] == "loky"
        self._key = secrets.token_hex(8)
        self._pickled = _pickled(shared, "cloudpickle" if by_value else "pickle")

    def submit(self, function: Callable[..., Any], part: int, arguments: tuple[Any, ...]) -> Any:
        return self._executor.submit(_run, self._key, None, function, part, *arguments)

    def submit_with_shared(
        self, function: Callable[..., Any], part: int, arguments: tuple[Any, ...]
    ) -> Any:
        return self._executor.submit(_run, self._key, self._pickled, function, part, *arguments)


class _Cluster:
    """Dask's scheduler, which runs the parts of a worker that is gone again."""

    def __init__(self, client: Any, shared: object, name: str) -> None:
        self._client, self._name, self._key = client, name, secrets.token_hex(8)
        self._pickled = _pickled(shared, "cloudpickle")
        self._workers, self._counted = 0, -math.inf
        self._seen = False
        self._idle_since: float | None = None

    def num_workers(self) -> int:
        now = time.monotonic()
        if now - self._counted > _COUNTED_SECONDS:
            self._workers, self._counted = sum(self._client.nthreads().values()), now
            # Those that a queue still holds back are waited for.
            if self._workers > 0:
                self._seen, self._idle_since = True, None
            elif self._seen and self._idle_since is None:
                self._idle_since = now
        return max(1, self._workers)

    def submit(self, function: Callable[..., Any], part: int, arguments: tuple[Any, ...]) -> Any:
        return self._submit(None, function, part, arguments)

    def submit_with_shared(
        self, function: Callable[..., Any], part: int, arguments: tuple[Any, ...]
    ) -> Any:
        return self._submit(self._pickled, function, part, arguments)

    def _submit(
        self,
        pickled: bytes | None,
        function: Callable[..., Any],
        part: int,
        arguments: tuple[Any, ...],
    ) -> Any:
        again = "" if pickled is None else "-with-shared"
        key = f"infall-{self._name}-part-{part}-{self._key}{again}-{secrets.token_hex(4)}"
        return self._client.submit(
            _run, self._key, pickled, function, part, *arguments, key=key, pure=False
        )

    def wait(self, futures: dict[int, Any]) -> list[int]:
        distributed = sys.modules["distributed"]
        while True:
            with contextlib.suppress(distributed.TimeoutError):
                distributed.wait(
                    list(futures.values()), timeout=_COUNTED_SECONDS, return_when="FIRST_COMPLETED"
                )
                return [part for part, future in futures.items() if future.done()]
            self.num_workers()
            if self._idle_since is not None and (
                time.monotonic() - self._idle_since > _WORKERLESS_SECONDS
            ):
                raise _NoWorkersError(f"the cluster has had no workers for {_WORKERLESS_SECONDS} s")

    def result(self, future: Any) -> Any:
        return future.result()

    def cancel(self, future: Any) -> None:
        with contextlib.suppress(Exception):  # the scheduler may be gone
            future.cancel()

    def is_lost(self, error: Exception) -> bool:
        # Of the client and of communication; their classes are not all public.
        names = ("KilledWorker", "CommClosedError", "ClosedClientError")
        kinds = concurrent.futures.CancelledError, _NoWorkersError
        return isinstance(error, kinds) or any(
            kind.__name__ in names for kind in type(error).__mro__
        )

    def goes_on(self, error: Exception) -> bool:
        return type(error).__name__ == "KilledWorker"
