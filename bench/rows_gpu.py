"""Problems of the ``rows_gpu`` stem: the engine, CuPy and PyTorch choosing rows on a CUDA device.

As in ``rows``, the peers draw a block of rows, multiply it with the vector and keep the best. A
block is either small enough for the device's cache or large enough to hide the cost of launches.
Everything stays on the device; what is timed is the time between two events on its stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harness import Case, Problem, UnavailableError
from rows import Run, input_vectors

if TYPE_CHECKING:
    import cupy
    import torch

# Normals of a peer's block: 64 MiB, about what a large cache holds, and 1 GiB.
LOG2_BLOCKS = (24, 28)
# CuPy partitions by sorting: that many first rows are sorted, all others only if better than those.
FIRST_ROWS = 2**16
FMA_BLOCKS, FMA_THREADS, FMA_CHAINS, FMA_STEPS = 2**16, 2**8, 2**3, 2**10


def device() -> dict[str, Any]:
    """Name, size and versions of the device all cases run on.

    Raises
    ------
    UnavailableError
        Without CuPy or without a CUDA device.
    """
    try:
        import cupy
    except ModuleNotFoundError as error:
        missing = "CuPy" if error.name == "cupy" else f"CuPy's module {error.name}"
        raise UnavailableError(f"{missing} is not installed") from None
    except ImportError as error:
        raise UnavailableError(f"CuPy cannot be imported: {one_line(error)}") from None
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise UnavailableError(f"no CUDA device: {one_line(error)}") from None
    if count == 0:
        raise UnavailableError("no CUDA device")
    properties = runtime.getDeviceProperties(0)
    return {
        "device": properties["name"].decode(),
        "compute capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "GiB": round(properties["totalGlobalMem"] / 2**30, 1),
        "CUDA of the driver": cuda_version(runtime.driverGetVersion()),
        "CUDA of CuPy": cuda_version(runtime.runtimeGetVersion()),
        "CuPy": cupy.__version__,
    }


def cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def one_line(error: Exception) -> str:
    """What an error says, without what the loader of libraries tells line by line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def problems(*, quick: bool, threads: int) -> list[Problem]:
    """All problems of the stem; ``threads`` of the host have no part in them."""
    if quick:
        shapes, stored = [(15, 20), (256, 20)], [(64, 18)]
        rounds, log2_bytes, log2_normals = 2, 28, 26
    else:
        shapes = [(dim, 25) for dim in (15, 64, 256, 784)]
        shapes += [(dim, log2_width) for dim in (15, 256) for log2_width in (20, 28)]
        stored = [(dim, log2_rows) for dim in (64, 256) for log2_rows in (20, 24)]
        rounds, log2_bytes, log2_normals = 5, 31, 30
    return [
        fma_throughput(rounds),
        *(selection(dim, log2_width, log2_normals, rounds) for dim, log2_width in shapes),
        *(selection_from_device(dim, log2_rows, log2_bytes, rounds) for dim, log2_rows in stored),
    ]


# Time and memory of the device.


class DeviceMeter:
    """Seconds between two events on the current stream, and the memory of the library's pool."""

    results = 0  # bytes that one run returns

    def timed(self, run: Run, number: int) -> tuple[float, float]:
        """Mean seconds and the host's processor seconds of ``number`` runs, after as many.

        The runs before the first event wake the device and fill the pool; no call waits for the
        one before it unless the library does.
        """
        self.results = result_bytes(run())
        for _ in range(number - 1):
            run()
        begin, end = self.event(), self.event()
        cpu_begin = time.process_time()
        begin.record()
        for _ in range(number):
            run()
        end.record()
        end.synchronize()
        cpu_seconds = time.process_time() - cpu_begin
        return self.milliseconds(begin, end) * 1e-3 / number, cpu_seconds / number

    def peak_mebibytes(self) -> float:
        """The most held beyond inputs and results."""
        return (self.peak() - self.inputs - self.results) / 2**20


class CuPyMeter(DeviceMeter):
    """Of cases whose arrays are CuPy's, the engine's among them.

    The pool returns nothing by itself: what it holds in the end is the most it ever held.
    """

    def __init__(self) -> None:
        import cupy

        self.event = cupy.cuda.Event
        self.milliseconds = cupy.cuda.get_elapsed_time
        self.pool = cupy.get_default_memory_pool()
        self.peak = self.pool.total_bytes
        self.stream = cupy.cuda.get_current_stream()

    def settle(self) -> None:
        self.stream.synchronize()
        self.pool.free_all_blocks()
        self.inputs = self.pool.total_bytes()


class TorchMeter(DeviceMeter):
    """Of cases whose arrays are PyTorch's."""

    def __init__(self) -> None:
        import torch

        self.cuda = torch.cuda
        self.peak = torch.cuda.max_memory_allocated

    def event(self) -> torch.cuda.Event:
        return self.cuda.Event(enable_timing=True)

    def milliseconds(self, begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return begin.elapsed_time(end)

    def settle(self) -> None:
        self.cuda.synchronize()
        self.cuda.empty_cache()
        self.cuda.reset_peak_memory_stats()
        self.inputs = self.cuda.memory_allocated()


def result_bytes(value: object) -> int:
    """Bytes of all arrays in a result."""
    if is_dataclass(value):
        return sum(result_bytes(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, (tuple, list)):
        return sum(result_bytes(item) for item in value)
    return getattr(value, "nbytes", 0)


# Ceilings: what the device does at most of the things a selection is made of.


def fma_throughput(rounds: int) -> Problem:
    """Multiplications and additions of the device; how many a normal costs is the kernel's."""
    work = FMA_BLOCKS * FMA_THREADS * FMA_CHAINS * FMA_STEPS * 1e-9
    case = Case(
        "chains in registers",
        "cupy",
        "cupy_fma",
        {"steps": FMA_STEPS},
        work=work,
        small={"steps": 16},
        meter="CuPyMeter",
        ceiling=True,
    )
    title = "fused multiply-adds in binary32, no memory touched"
    return Problem("ceiling-fma", title, "G FMA/s", [case], rounds)


def cupy_fma(steps: int, real: Literal["float", "double"] = "float") -> Run:
    """Independent chains, enough in every thread to hide the latency of one."""
    import cupy

    kernel = cupy.RawKernel(
        f"""
        extern "C" __global__ void fma_chains({real}* out, {real} a, {real} b, int steps) {{
            {real} x[{FMA_CHAINS}];
            #pragma unroll
            for (int i = 0; i < {FMA_CHAINS}; ++i) x[i] = threadIdx.x + i;
            #pragma unroll 16
            for (int step = 0; step < steps; ++step) {{
                #pragma unroll
                for (int i = 0; i < {FMA_CHAINS}; ++i) x[i] = fma(x[i], a, b);
            }}
            {real} sum = 0;
            #pragma unroll
            for (int i = 0; i < {FMA_CHAINS}; ++i) sum += x[i];
            if (sum < 0) out[0] = sum;  // never, but only the caller knows
        }}
        """,
        "fma_chains",
    )
    number = cupy.float32 if real == "float" else cupy.float64
    arguments = (cupy.zeros(1, number), number(0.999), number(0.5), cupy.int32(steps))
    return lambda: kernel((FMA_BLOCKS,), (FMA_THREADS,), arguments)


def drawing(dim: int, log2_normals: int) -> Case:
    """Normals drawn and written, with nothing selected."""
    log2_rows = max(log2_normals - log2_columns(dim), 0)
    return Case(
        "gaussian_rows",
        "infall",
        "infall_rows",
        {"dim": dim, "log2_rows": log2_rows},
        work=2**log2_rows * dim * 1e-9,
        small={"log2_rows": 4},
        meter="CuPyMeter",
        ceiling=True,
    )


def infall_rows(dim: int, log2_rows: int) -> Run:
    """The engine's rows, into one array again and again."""
    import cupy

    import infall

    indices = cupy.arange(2**log2_rows)
    out = cupy.empty((2**log2_rows, dim), cupy.float32)

    def run() -> None:  # what it writes to is no result: it is there before
        infall.gaussian_rows(indices, dim, out=out)

    return run


def copying(log2_bytes: int) -> list[Case]:
    """A copy within the device's memory, by the bytes it reads and by all it moves."""
    return [
        Case(
            name,
            "cupy",
            "cupy_copy",
            {"log2_bytes": log2_bytes},
            work=moved * 2**log2_bytes * 1e-9,
            small={"log2_bytes": 10},
            meter="CuPyMeter",
            ceiling=True,
        )
        for name, moved in [("copy, bytes read", 1), ("copy, bytes read and written", 2)]
    ]


def cupy_copy(log2_bytes: int) -> Run:
    """CuPy's copy of one array to another."""
    import cupy

    source = cupy.zeros(2**log2_bytes // 4, cupy.float32)
    target = cupy.zeros_like(source)
    return lambda: cupy.copyto(target, source)


# Row selection from a layer that is never stored.


def selection(dim: int, log2_width: int, log2_normals: int, rounds: int) -> Problem:
    """One input: two samplers, and the peers drawing the whole layer block by block."""
    width = 2**log2_width

    def case(name: str, function: str, work: int = width * dim, **arguments: Any) -> Case:
        library = function.removesuffix("_select")
        return Case(
            name,
            library,
            function,
            {"dim": dim, "log2_width": log2_width, **arguments},
            work=work * 1e-9,
            small={"log2_width": 12},  # more rows than are selected anywhere here
            meter="TorchMeter" if library == "torch" else "CuPyMeter",
        )

    # A layer within the smaller block is one block either way.
    whole = log2_width + log2_columns(dim) <= LOG2_BLOCKS[0]
    cases = [
        case("stream", "infall_select", sampler="stream"),
        case("rotated", "infall_select", width + dim * dim, sampler="rotated"),
    ]
    for log2_block in LOG2_BLOCKS[:1] if whole else LOG2_BLOCKS:
        text = f"blocks of {2 ** (log2_block - 18)} MiB"
        cases += [
            case(f"CuPy Philox, {text}", "cupy_select", log2_block=log2_block),
            case(f"CuPy cuRAND, {text}", "cupy_select", log2_block=log2_block, generator="cuRAND"),
            case(f"PyTorch, {text}", "torch_select", log2_block=log2_block),
        ]
    return Problem(
        f"gpu-k{dim}-n{log2_width}",
        f"select k = {dim} of n = 2^{log2_width} rows on the device",
        "G normals/s",
        [*cases, drawing(dim, log2_normals)],
        rounds if log2_width <= 25 else min(rounds, 3),
    )


def log2_columns(dim: int) -> int:
    """Of the least power of two that is not below ``dim``."""
    return (dim - 1).bit_length()


def block_rows(dim: int, log2_width: int, log2_block: int) -> int:
    """Rows of a block: a power of two, so that blocks fill the layer evenly."""
    return 2 ** min(log2_width, log2_block - log2_columns(dim))


def infall_select(dim: int, log2_width: int, sampler: Literal["stream", "rotated"]) -> Run:
    """The engine's selection."""
    import cupy

    import infall

    w = cupy.asarray(input_vectors(dim))
    return lambda: infall.select_rows(w, 2**log2_width, sampler=sampler)


def cupy_normals(generator: str) -> Callable[[tuple[int, int]], cupy.ndarray]:
    """A source of float32 normals: CuPy's own Philox kernel, or that of the cuRAND library."""
    import cupy

    if generator == "cuRAND":
        method = cupy.cuda.curand.CURAND_RNG_PSEUDO_PHILOX4_32_10
        state = cupy.random.RandomState(2, method)
    else:
        state = cupy.random.Generator(cupy.random.Philox4x3210(2))
    return lambda shape: state.standard_normal(shape, dtype=cupy.float32)


class Best(NamedTuple):
    """The best rows so far."""

    indices: Any
    projections: Any
    rows: Any


def cupy_select(dim: int, log2_width: int, log2_block: int, generator: str = "Philox") -> Run:
    """CuPy's selection."""
    import cupy

    w = cupy.asarray(input_vectors(dim))
    draw = cupy_normals(generator)
    count = block_rows(dim, log2_width, log2_block)

    def run() -> Best | None:
        best = None
        for first_row in range(0, 2**log2_width, count):
            block = draw((count, dim))
            best = cupy_best(best, block, block @ w, first_row)
            del block  # before the next is drawn
        return best

    return run


def cupy_best(
    best: Best | None, rows: cupy.ndarray, projections: cupy.ndarray, first_row: int
) -> Best:
    """The best of those kept so far and ``rows`` (R, k), of which few are better than the worst."""
    import cupy

    num_rows = rows.shape[1]
    scores = cupy.abs(projections)
    seen = 0
    if best is None:
        seen = min(len(rows) // 2, FIRST_ROWS)
        chosen = cupy.argpartition(scores[:seen], -num_rows)[-num_rows:]
        best = Best(chosen + first_row, projections[chosen], rows[chosen])
    worst = cupy.abs(best.projections).min()
    candidates = cupy.flatnonzero(scores[seen:] > worst) + seen
    of_block = (candidates + first_row, projections[candidates], rows[candidates])
    competing = Best(*(cupy.concatenate(pair) for pair in zip(best, of_block, strict=True)))
    chosen = cupy.argpartition(cupy.abs(competing.projections), -num_rows)[-num_rows:]
    return Best(*(values[chosen] for values in competing))


def torch_select(dim: int, log2_width: int, log2_block: int, device: str = "cuda") -> Run:
    """PyTorch's selection; nothing in it waits for the device."""
    import torch

    w = torch.from_numpy(input_vectors(dim)).to(device)
    generator = torch.Generator(device).manual_seed(2)
    count = block_rows(dim, log2_width, log2_block)

    def run() -> Best | None:
        block = torch.empty(count, dim, device=device)
        best = None
        for first_row in range(0, 2**log2_width, count):
            torch.randn(count, dim, generator=generator, out=block)
            best = torch_best(best, block, torch.mv(block, w), first_row)
        return best

    return run


def torch_best(
    best: Best | None, rows: torch.Tensor, projections: torch.Tensor, first_row: int
) -> Best:
    """The best of those kept so far and of ``rows`` (R, k)."""
    import torch

    num_rows = rows.shape[1]
    chosen = torch.topk(projections.abs(), num_rows, sorted=False).indices
    of_block = Best(chosen + first_row, projections[chosen], rows[chosen])
    if best is None:
        return of_block
    competing = Best(*(torch.cat(pair) for pair in zip(best, of_block, strict=True)))
    chosen = torch.topk(competing.projections.abs(), num_rows, sorted=False).indices
    return Best(*(values[chosen] for values in competing))


# Row selection from a matrix in the device's memory.


def selection_from_device(dim: int, log2_rows: int, log2_bytes: int, rounds: int) -> Problem:
    """The best rows of a stored float32 matrix, for one input."""

    def case(name: str, library: str) -> Case:
        return Case(
            name,
            library,
            f"{library}_select_from",
            {"dim": dim, "log2_rows": log2_rows},
            work=2**log2_rows * dim * 4e-9,
            small={"log2_rows": 12},
            meter="TorchMeter" if library == "torch" else "CuPyMeter",
        )

    return Problem(
        f"gpu-from-memory-k{dim}-n{log2_rows}",
        f"select k = {dim} of the n = 2^{log2_rows} rows of a float32 matrix on the device, "
        f"{2**log2_rows * dim / 2**28:.3g} GiB",
        "GB/s",
        [
            case("select_rows_from", "infall"),
            case("CuPy GEMV, argpartition", "cupy"),
            case("PyTorch mv, topk", "torch"),
            *copying(log2_bytes),
        ],
        rounds,
    )


def cupy_stored_rows(dim: int, log2_rows: int) -> cupy.ndarray:
    """The matrix to select from (2^log2_rows, dim)."""
    return cupy_normals("Philox")((2**log2_rows, dim))


def infall_select_from(dim: int, log2_rows: int) -> Run:
    """The engine's pass over a matrix."""
    import cupy

    import infall

    weights, w = cupy_stored_rows(dim, log2_rows), cupy.asarray(input_vectors(dim))
    return lambda: infall.select_rows_from(w, weights)


def cupy_select_from(dim: int, log2_rows: int) -> Run:
    """CuPy's product, of which only what can be among the best is partitioned."""
    import cupy

    weights, w = cupy_stored_rows(dim, log2_rows), cupy.asarray(input_vectors(dim))
    return lambda: cupy_best(None, weights, weights @ w, 0)


def torch_select_from(dim: int, log2_rows: int, device: str = "cuda") -> Run:
    """PyTorch's product and topk."""
    import torch

    weights = torch.randn(2**log2_rows, dim, device=device)
    w = torch.from_numpy(input_vectors(dim)).to(device)
    return lambda: torch_best(None, weights, torch.mv(weights, w), 0)
