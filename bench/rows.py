"""Problems of the ``rows`` stem: the engine, NumPy and PyTorch choosing rows of a Gaussian layer.

A peer is written the way a careful user of that library writes it: float32, normals drawn into one
block that stays in cache, a matrix-vector product, and only the best rows kept.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from harness import Case, Problem

if TYPE_CHECKING:
    import numpy as np
    import torch

# 4 MiB of float32: by trial as fast as any smaller block, and faster than those that leave cache.
BLOCK_NORMALS = 2**20

Run = Callable[[], object]
Part = TypeVar("Part")


def problems(*, quick: bool, threads: int) -> list[Problem]:
    """All problems of the stem; ``quick`` has the same cases on smaller layers."""
    shapes = [(15, 20), (784, 14)] if quick else [(15, 22), (15, 25), (256, 20), (784, 18)]
    rounds = 2 if quick else 5
    return [
        *(selection(dim, log2_width, threads, rounds) for dim, log2_width in shapes),
        batch(256, 14 if quick else 20, 32, threads, rounds),
        wide(784, 18 if quick else 25, threads, rounds),
        *(by_order_statistics(dim, 18 if quick else 25, rounds) for dim in (15, 256, 784)),
        selection_from_memory(64, 18 if quick else 20, threads, rounds),
        codes(256, 784, 2**11 if quick else 2**14, threads, rounds),
        distances(256 if quick else 1024, 2**13, threads, rounds),
    ]


# Row selection from a layer that is never stored.


def layer_case(
    name: str, function: str, dim: int, log2_width: int, work: float, **arguments: Any
) -> Case:
    """A case of one of the ``*_select`` functions below; ``work`` is the normals it draws."""
    threads, library_threads = arguments["threads"], arguments.get("library_threads", 1)
    return Case(
        name,
        library=function.removesuffix("_select"),
        function=function,
        arguments={"dim": dim, "log2_width": log2_width, **arguments},
        threads=threads * library_threads,
        library_threads=library_threads,
        work=work * 1e-9,
        small={"log2_width": 12},  # more rows than are selected anywhere here
    )


def selection(dim: int, log2_width: int, threads: int, rounds: int) -> Problem:
    """One input: the three samplers, and the peers drawing the whole layer block by block."""
    width = 2**log2_width

    def case(name: str, function: str, work: int = width * dim, **arguments: Any) -> Case:
        return layer_case(name, function, dim, log2_width, work, **arguments)

    def engine(sampler: str, work: int, count: int) -> Case:
        return case(sampler, "infall_select", work, sampler=sampler, threads=count)

    cases = [
        engine("stream", width * dim, 1),
        engine("stream", width * dim, threads),
        engine("rotated", width + dim * dim, threads),
        engine("order_statistics", dim * dim, threads),
        case("NumPy SFC64", "numpy_select", threads=1),
        case("NumPy SFC64", "numpy_select", threads=threads),
        case("NumPy Philox", "numpy_select", bit_generator="Philox", threads=1),
        case("PyTorch", "torch_select", threads=threads),
        case("PyTorch, its own threads", "torch_select", threads=1, library_threads=threads),
        replace(case("JAX, one compiled loop", "jax_select", threads=1), rounds=2),
    ]
    return Problem(
        f"k{dim}-n{log2_width}",
        f"select k = {dim} of n = 2^{log2_width} rows",
        "G normals/s",
        # On one core a thread count of 1 stands twice.
        list({(case.name, case.threads): case for case in cases}.values()),
        rounds,
    )


def batch(dim: int, log2_width: int, inputs: int, threads: int, rounds: int) -> Problem:
    """Many inputs that share the rows drawn, beside one input."""
    width = 2**log2_width

    def case(name: str, function: str, work: int = width * dim, **arguments: Any) -> Case:
        return layer_case(name, function, dim, log2_width, work, threads=threads, **arguments)

    rotated_work = width * inputs + inputs * dim * dim
    return Problem(
        f"batch-k{dim}-n{log2_width}",
        f"select k = {dim} of n = 2^{log2_width} rows for one input and for {inputs} at once",
        "G normals/s",
        [
            case(f"stream, {inputs} inputs", "infall_select", inputs=inputs),
            case("stream, 1 input", "infall_select"),
            case("rotated", "infall_select", rotated_work, inputs=inputs, sampler="rotated"),
            case(f"NumPy SFC64, {inputs} inputs", "numpy_select", inputs=inputs),
        ],
        rounds,
    )


def wide(dim: int, log2_width: int, threads: int, rounds: int) -> Problem:
    """A layer too large to store, and one too large to draw."""
    width = 2**log2_width

    def case(sampler: str, log2: int, work: int) -> Case:
        name = f"{sampler}, n = 2^{log2}"
        function = "infall_select"
        return layer_case(name, function, dim, log2, work, sampler=sampler, threads=threads)

    stream = case("stream", log2_width, width * dim)
    return Problem(
        f"wide-k{dim}-n{log2_width}",
        f"select k = {dim} rows; stored, the layer of n = 2^{log2_width} rows would take "
        f"{width * dim / 2**28:.3g} GiB",
        "G normals/s",
        [
            replace(stream, rounds=2),  # some ten seconds each on two cores
            case("rotated", log2_width, width + dim * dim),
            case("order_statistics", log2_width, dim * dim),
            case("order_statistics", 60, dim * dim),
        ],
        rounds,
    )


def by_order_statistics(dim: int, log2_width: int, rounds: int) -> Problem:
    """The law of the selection alone: scores by their order statistics, the rows given them."""

    def case(name: str, function: str, **arguments: Any) -> Case:
        return layer_case(name, function, dim, log2_width, dim * dim, threads=1, **arguments)

    return Problem(
        f"order-k{dim}-n{log2_width}",
        f"k = {dim} rows as if selected of n = 2^{log2_width}, by order statistics",
        "G normals/s",
        [
            case("order_statistics", "infall_select", sampler="order_statistics"),
            replace(case("twelve lines of NumPy", "numpy_order_statistics"), library="numpy"),
        ],
        rounds,
    )


def input_vectors(dim: int, inputs: int | None = None) -> np.ndarray:
    """A vector (dim,), or several (inputs, dim), float32."""
    import numpy as np

    shape = dim if inputs is None else (inputs, dim)
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def infall_select(
    dim: int,
    log2_width: int,
    threads: int,
    sampler: Literal["stream", "rotated", "order_statistics"] = "stream",
    inputs: int | None = None,
) -> Run:
    """The engine's selection."""
    import infall

    w = input_vectors(dim, inputs)
    return lambda: infall.select_rows(w, 2**log2_width, sampler=sampler, num_threads=threads)


def numpy_select(
    dim: int,
    log2_width: int,
    threads: int,
    bit_generator: str = "SFC64",
    inputs: int = 1,
) -> Run:
    """NumPy's selection; with several threads each draws its share of the rows, from its stream."""
    import numpy as np

    make_bits = getattr(np.random, bit_generator)
    w = input_vectors(dim, inputs)

    def part(stream: int, rows: range) -> list[NumPyBest]:
        generator = np.random.Generator(make_bits([2, stream]))
        block = np.empty((block_rows(dim), dim), np.float32)
        projections = np.empty((inputs, len(block)), np.float32)
        best = [NumPyBest(dim, dim) for _ in range(inputs)]
        for first_row in range(rows.start, rows.stop, len(block)):
            indices = np.arange(first_row, min(first_row + len(block), rows.stop))
            count = len(indices)
            generator.standard_normal(dtype=np.float32, out=block[:count])
            np.matmul(w, block[:count].T, out=projections[:, :count])
            for of_input, projected in zip(best, projections, strict=True):
                of_input.update(block[:count], projected[:count], indices)
        return best

    def run() -> list[NumPyBest]:
        first, *others = in_parallel(part, 2**log2_width, threads)
        for other in others:
            for of_input, more in zip(first, other, strict=True):
                of_input.update(more.rows, more.projections, more.indices)
        return first

    return run


class NumPyBest:
    """The best rows for one input so far."""

    def __init__(self, num_rows: int, dim: int) -> None:
        import numpy as np

        self.scores = np.full(num_rows, -1, np.float32)  # less than any absolute projection
        self.projections = np.empty(num_rows, np.float32)
        self.indices = np.empty(num_rows, np.int64)
        self.rows = np.empty((num_rows, dim), np.float32)

    def update(self, rows: np.ndarray, projections: np.ndarray, indices: np.ndarray) -> None:
        """Let ``rows`` (R, dim) compete; the winners take the places of the losers."""
        import numpy as np

        num_rows = len(self.scores)
        scores = np.abs(projections)
        # After the first blocks next to no row passes, and there is little left to partition.
        candidates = np.flatnonzero(scores > self.scores.min())
        competing = np.concatenate([self.scores, scores[candidates]])
        best = np.argpartition(competing, -num_rows)[-num_rows:]
        loses = np.ones(num_rows, bool)
        loses[best[best < num_rows]] = False
        wins = candidates[best[best >= num_rows] - num_rows]
        self.scores[loses] = scores[wins]
        self.projections[loses] = projections[wins]
        self.indices[loses] = indices[wins]
        self.rows[loses] = rows[wins]


def numpy_order_statistics(dim: int, log2_width: int, threads: int) -> Run:
    """The k largest |projections| of n rows, and rows that have them, by their laws."""
    import numpy as np
    from scipy.special import ndtri

    w, width = input_vectors(dim), 2**log2_width
    generator = np.random.Generator(np.random.SFC64(2))

    def run() -> NumPyBest:
        # Of n uniforms the largest, and each next one of those below it.
        below = np.arange(width, width - dim, -1)
        tails = -np.expm1(np.cumsum(generator.standard_exponential(dim) / -below))
        best = NumPyBest(dim, dim)
        best.indices = generator.choice(width, dim, replace=False, shuffle=False)
        norm = np.sqrt(w @ w)
        best.scores = (norm * -ndtri(tails / 2)).astype(np.float32)
        best.projections = generator.choice([np.float32(-1), np.float32(1)], dim) * best.scores
        best.rows = generator.standard_normal((dim, dim), dtype=np.float32)
        best.rows += np.outer((best.projections - best.rows @ w) / norm, w / norm)
        return best

    return run


def torch_select(dim: int, log2_width: int, threads: int, library_threads: int = 1) -> Run:
    """PyTorch's selection: ``threads`` blocks at a time, ``library_threads`` within each."""
    import torch

    torch.set_num_threads(library_threads)
    w = torch.from_numpy(input_vectors(dim))

    def part(stream: int, rows: range) -> TorchBest:
        generator = torch.Generator().manual_seed(stream)
        block = torch.empty(block_rows(dim), dim)
        projections = torch.empty(len(block))
        best = TorchBest(dim, dim)
        for first_row in range(rows.start, rows.stop, len(block)):
            indices = torch.arange(first_row, min(first_row + len(block), rows.stop))
            count = len(indices)
            torch.randn(count, dim, generator=generator, out=block[:count])
            torch.mv(block[:count], w, out=projections[:count])
            best.update(block[:count], projections[:count], indices)
        return best

    def run() -> TorchBest:
        first, *others = in_parallel(part, 2**log2_width, threads)
        for other in others:
            first.update(other.rows, other.projections, other.indices)
        return first

    return run


class TorchBest:
    """The best rows so far."""

    def __init__(self, num_rows: int, dim: int) -> None:
        import torch

        self.scores = torch.full((num_rows,), -1.0)  # less than any absolute projection
        self.projections = torch.empty(num_rows)
        self.indices = torch.empty(num_rows, dtype=torch.int64)
        self.rows = torch.empty(num_rows, dim)

    def update(self, rows: torch.Tensor, projections: torch.Tensor, indices: torch.Tensor) -> None:
        """Let ``rows`` (R, dim) compete; the winners take the places of the losers."""
        import torch

        num_rows = len(self.scores)
        scores = projections.abs()
        candidates = torch.nonzero(scores > self.scores.min()).squeeze(1)
        competing = torch.cat([self.scores, scores[candidates]])
        best = torch.topk(competing, num_rows, sorted=False).indices
        loses = torch.ones(num_rows, dtype=torch.bool)
        loses[best[best < num_rows]] = False
        wins = candidates[best[best >= num_rows] - num_rows]
        self.scores[loses] = scores[wins]
        self.projections[loses] = projections[wins]
        self.indices[loses] = indices[wins]
        self.rows[loses] = rows[wins]


def jax_select(dim: int, log2_width: int, threads: int) -> Run:
    """JAX's selection: drawing, projecting and choosing compiled as one loop over blocks."""
    import os

    if hasattr(os, "sched_setaffinity"):  # its pool takes all processors there are
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import jax
    from jax import lax, random
    from jax import numpy as jnp

    w = jnp.asarray(input_vectors(dim))
    # No fewer rows than are selected; smaller blocks than the others': by trial.
    rows_of_block = min(max(2**16 // dim, dim), 2**log2_width)

    @jax.jit
    def select(w: Any) -> Any:
        key = random.key(2)

        def step(best: Any, block: Any) -> Any:
            rows = random.normal(random.fold_in(key, block), (rows_of_block, dim))
            projections = jnp.concatenate([best[1], rows @ w])
            indices = jnp.concatenate([best[0], block * rows_of_block + jnp.arange(len(rows))])
            _, kept = lax.top_k(jnp.abs(projections), dim)
            return (indices[kept], projections[kept]), None

        empty = jnp.zeros(dim, jnp.int32), jnp.zeros(dim)
        blocks = jnp.arange(2**log2_width // rows_of_block)
        (indices, projections), _ = lax.scan(step, empty, blocks)

        def row(index: Any) -> Any:
            block = random.normal(random.fold_in(key, index // rows_of_block), (rows_of_block, dim))
            return block[index % rows_of_block]

        return indices, projections, lax.map(row, indices)

    return lambda: jax.block_until_ready(select(w))


def block_rows(dim: int) -> int:
    """Rows of a block: within the cache, yet more than the ``dim`` that are selected."""
    return max(BLOCK_NORMALS // dim, 2 * dim)


def in_parallel(part: Callable[[int, range], Part], num_rows: int, threads: int) -> list[Part]:
    """The results of ``part`` on equal shares of the rows, each in a thread of its own."""
    bounds = [num_rows * index // threads for index in range(threads + 1)]
    shares = [range(first, stop) for first, stop in pairwise(bounds)]
    if threads == 1:
        return [part(0, shares[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(part, range(threads), shares))


# Row selection from a matrix in memory.


def selection_from_memory(dim: int, log2_rows: int, threads: int, rounds: int) -> Problem:
    """The best rows of a stored float32 matrix, for one input."""

    def case(name: str, library: str, count: int) -> Case:
        return Case(
            name,
            library,
            f"{library}_select_from",
            {"dim": dim, "log2_rows": log2_rows, "threads": count},
            threads=count,
            library_threads=count,
            work=2**log2_rows * dim * 4e-9,
            small={"log2_rows": 10},
        )

    cases = [
        case(name, library, count)
        for name, library in [
            ("select_rows_from", "infall"),
            ("NumPy GEMV, argpartition", "numpy"),
            ("PyTorch mv, topk", "torch"),
        ]
        for count in dict.fromkeys((1, threads))
    ]
    cases.append(replace(case("PyTorch, threads awake", "torch", threads), spins=True))
    return Problem(
        f"from-memory-k{dim}-n{log2_rows}",
        f"select k = {dim} of the n = 2^{log2_rows} rows of a float32 matrix",
        "GB/s",
        cases,
        rounds,
    )


def stored_rows(dim: int, log2_rows: int) -> np.ndarray:
    """The matrix to select from (2^log2_rows, dim)."""
    import numpy as np

    generator = np.random.Generator(np.random.SFC64(3))
    return generator.standard_normal((2**log2_rows, dim), dtype=np.float32)


def infall_select_from(dim: int, log2_rows: int, threads: int) -> Run:
    """The engine's pass over a matrix."""
    import infall

    weights, w = stored_rows(dim, log2_rows), input_vectors(dim)
    return lambda: infall.select_rows_from(w, weights, num_threads=threads)


def numpy_select_from(dim: int, log2_rows: int, threads: int) -> Run:
    """NumPy's, with the threads of its BLAS."""
    import numpy as np

    weights, w = stored_rows(dim, log2_rows), input_vectors(dim)

    def run() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        projections = weights @ w
        indices = np.sort(np.argpartition(np.abs(projections), -dim)[-dim:])
        return indices, projections[indices], weights[indices]

    return run


def torch_select_from(dim: int, log2_rows: int, threads: int) -> Run:
    """PyTorch's, with its own threads."""
    import torch

    torch.set_num_threads(threads)
    weights = torch.from_numpy(stored_rows(dim, log2_rows))
    w = torch.from_numpy(input_vectors(dim))

    def run() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        projections = torch.mv(weights, w)
        indices = torch.topk(projections.abs(), dim, sorted=False).indices.sort().values
        return indices, projections[indices], weights[indices]

    return run


# Hyperplane codes and their distances.


def codes(num_inputs: int, dim: int, num_bits: int, threads: int, rounds: int) -> Problem:
    """Sign codes of a batch; the hyperplanes are drawn, not stored."""

    def case(name: str, library: str, count: int) -> Case:
        return Case(
            name,
            library,
            f"{library}_codes",
            {"num_inputs": num_inputs, "dim": dim, "num_bits": num_bits, "threads": count},
            threads=count,
            work=num_inputs * dim * num_bits * 1e-9,
            small={"num_bits": 64},
        )

    cases = [
        case(name, library, count)
        for name, library in [("hyperplane_codes", "infall"), ("NumPy SFC64, GEMM", "numpy")]
        for count in dict.fromkeys((1, threads))
    ]
    cases += [
        replace(case("faiss, hyperplanes stored", "faiss", count), library_threads=count)
        for count in dict.fromkeys((1, threads))
    ]
    return Problem(
        f"codes-k{dim}-bits{num_bits}",
        f"{num_bits} hyperplane bits of {num_inputs} inputs of length k = {dim}",
        "G products/s",
        cases,
        rounds,
    )


def infall_codes(num_inputs: int, dim: int, num_bits: int, threads: int) -> Run:
    """The engine's codes."""
    import infall

    x = input_vectors(dim, num_inputs)
    return lambda: infall.hyperplane_codes(x, num_bits, num_threads=threads)


def numpy_codes(num_inputs: int, dim: int, num_bits: int, threads: int) -> Run:
    """NumPy's: blocks of hyperplanes drawn, multiplied, their signs packed."""
    import numpy as np

    x = input_vectors(dim, num_inputs)

    def part(stream: int, bits: range) -> np.ndarray:
        generator = np.random.Generator(np.random.SFC64([2, stream]))
        block = np.empty((block_rows(dim), dim), np.float32)
        positive = np.empty((num_inputs, len(bits)), bool)
        for first_bit in range(0, len(bits), len(block)):
            count = min(len(block), len(bits) - first_bit)
            generator.standard_normal(dtype=np.float32, out=block[:count])
            positive[:, first_bit : first_bit + count] = x @ block[:count].T >= 0
        return positive

    def run() -> np.ndarray:
        positive = np.concatenate(in_parallel(part, num_bits, threads), axis=1)
        return np.packbits(positive, axis=1, bitorder="little")

    return run


def faiss_codes(num_inputs: int, dim: int, num_bits: int, threads: int) -> Run:
    """What faiss's LSH index does, with hyperplanes that were drawn beforehand and are stored."""
    import faiss
    import numpy as np

    faiss.omp_set_num_threads(threads)
    x = input_vectors(dim, num_inputs)
    hyperplanes = np.random.default_rng(2).standard_normal((num_bits, dim), dtype=np.float32)
    projection = faiss.LinearTransform(dim, num_bits)
    faiss.copy_array_to_vector(hyperplanes.ravel(), projection.A)
    projection.is_trained = True
    del hyperplanes

    def run() -> np.ndarray:
        projected = projection.apply(x)
        codes = np.empty((num_inputs, num_bits // 8), np.uint8)
        pointers = faiss.swig_ptr(projected), faiss.swig_ptr(codes)
        faiss.fvecs2bitvecs(*pointers, num_bits, num_inputs)
        return codes

    return run


def distances(num_codes: int, num_bits: int, threads: int, rounds: int) -> Problem:
    """All Hamming distances between two sets of codes."""

    def case(name: str, library: str, function: str, count: int) -> Case:
        return Case(
            name,
            library,
            function,
            {"num_codes": num_codes, "num_bits": num_bits, "threads": count},
            threads=count,
            library_threads=count,
            work=num_codes**2 * num_bits / 8 * 1e-9,
            small={"num_codes": 16},
        )

    cases = [
        case(name, library, function, count)
        for name, library, function in [
            ("hamming_distances", "infall", "infall_distances"),
            ("NumPy bitwise_count", "numpy", "numpy_count_distances"),
            ("NumPy signs, GEMM", "numpy", "numpy_product_distances"),
            ("faiss hammings", "faiss", "faiss_distances"),
        ]
        for count in dict.fromkeys((1, threads))
        if count == 1 or function != "numpy_count_distances"  # NumPy has no threads for it
    ]
    return Problem(
        f"distances-bits{num_bits}",
        f"{num_codes} x {num_codes} Hamming distances of {num_bits}-bit codes",
        "GB/s",
        cases,
        rounds,
    )


def random_codes(num_codes: int, num_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of packed codes (num_codes, num_bits / 8)."""
    import numpy as np

    generator = np.random.default_rng(4)
    shape = (2, num_codes, num_bits // 8)
    first, second = generator.integers(0, 256, shape, dtype=np.uint8)
    return first, second


def infall_distances(num_codes: int, num_bits: int, threads: int) -> Run:
    """The engine's distances."""
    import infall

    first, second = random_codes(num_codes, num_bits)
    return lambda: infall.hamming_distances(first, second, num_threads=threads)


def numpy_count_distances(num_codes: int, num_bits: int, threads: int) -> Run:
    """Bits counted in 64-bit words, one code against all others at a time."""
    import numpy as np

    first, second = (codes.view(np.uint64) for codes in random_codes(num_codes, num_bits))

    def run() -> np.ndarray:
        result = np.empty((num_codes, num_codes), np.int64)
        for code, row in zip(first, result, strict=True):
            np.bitwise_count(code ^ second).sum(axis=1, dtype=np.int64, out=row)
        return result

    return run


def numpy_product_distances(num_codes: int, num_bits: int, threads: int) -> Run:
    """Codes as rows of signs: their products are num_bits - 2 distance, exact in float32."""
    import numpy as np

    first, second = random_codes(num_codes, num_bits)

    def run() -> np.ndarray:
        signs = [
            1 - 2 * np.unpackbits(codes, axis=1).astype(np.float32) for codes in (first, second)
        ]
        return (0.5 * (num_bits - signs[0] @ signs[1].T)).astype(np.int64)

    return run


def faiss_distances(num_codes: int, num_bits: int, threads: int) -> Run:
    """Those of faiss, as it counts them: int32."""
    import faiss
    import numpy as np

    faiss.omp_set_num_threads(threads)
    first, second = random_codes(num_codes, num_bits)

    def run() -> np.ndarray:
        result = np.empty((num_codes, num_codes), np.int32)
        pointers = (faiss.swig_ptr(array) for array in (first, second))
        faiss.hammings(*pointers, num_codes, num_codes, num_bits // 8, faiss.swig_ptr(result))
        return result

    return run
