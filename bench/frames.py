"""Problems of the ``frames`` stem: transforms, logits and frames beside SciPy, NumPy and PyTorch.

The dense formula is the peer wherever it fits into memory: the product with the stored frame, and
the QR decomposition followed by the dense projector for a frame at random. Where it does not fit,
the peer is the next best thing a careful user has: a fast cosine transform, or the formula written
out for the structure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness import Case, Problem

if TYPE_CHECKING:
    import numpy as np
    import torch

Run = Callable[[], object]


def problems(*, quick: bool, threads: int) -> list[Problem]:
    """All problems of the stem; ``quick`` has the same cases on smaller frames."""
    rounds = 2 if quick else 5
    lengths = [10, 14] if quick else [14, 18, 20, 22]
    return [
        *(transform(log2, dtype, threads, rounds) for log2 in lengths for dtype in DTYPES),
        *(
            product(9 if quick else 13, 16 if quick else 64, basis, threads, rounds)
            for basis in BASES
        ),
        largest(12 if quick else 20, 4000 if quick else 10**6, threads, rounds),
        *(
            classifier(256 if quick else 4096, 1024, 1000, basis, threads, rounds)
            for basis in BASES
        ),
        haar(*((256, 250) if quick else (4096, 4000)), threads, rounds),
    ]


DTYPES = ("float32", "float64")
BASES = ("hadamard", "identity")
SHORT = {"log2_length": 8}


def counts(threads: int) -> list[int]:
    """Thread counts to measure: one, and all."""
    return list(dict.fromkeys((1, threads)))


def vectors(count: int, dim: int, dtype: str) -> np.ndarray:
    """Normal vectors (count, dim)."""
    import numpy as np

    generator = np.random.default_rng(1)
    return generator.standard_normal((count, dim), dtype=np.dtype(dtype).type)


# The Walsh-Hadamard transform.


def transform(log2_length: int, dtype: str, threads: int, rounds: int) -> Problem:
    """One long vector: the engine beside a compiled loop and SciPy's cosine transform."""
    arguments = {"log2_length": log2_length, "dtype": dtype}
    work = 2**log2_length * 1e-9
    cases = [
        Case(
            "Walsh-Hadamard",
            "infall",
            "infall_transform",
            {**arguments, "threads": count},
            threads=count,
            work=work,
            small=SHORT,
        )
        for count in counts(threads)
    ]
    cases += [
        Case("radix 4, Numba", "numba", "numba_transform", arguments, work=work, small=SHORT),
        Case("DCT-II, SciPy", "scipy", "scipy_dct", arguments, work=work, small=SHORT),
        Case("copy", "numpy", "numpy_copy", arguments, work=work, ceiling=True),
    ]
    title = f"transform of 2^{log2_length} {dtype} numbers"
    return Problem(f"transform-n{log2_length}-{dtype}", title, "G numbers/s", cases, rounds)


def infall_transform(log2_length: int, dtype: str, threads: int) -> Run:
    """The engine's transform."""
    from infall import frames

    x = vectors(1, 2**log2_length, dtype)
    return lambda: frames.walsh_hadamard(x, num_threads=threads)


def scipy_dct(log2_length: int, dtype: str) -> Run:
    """SciPy's orthonormal cosine transform."""
    from scipy import fft

    x = vectors(1, 2**log2_length, dtype)
    return lambda: fft.dct(x, norm="ortho")


def numba_transform(log2_length: int, dtype: str) -> Run:
    """The same transform as a loop in radix 4, compiled by Numba."""
    import numpy as np

    from numba_peers import walsh_hadamard

    (x,) = vectors(1, 2**log2_length, dtype)
    return lambda: walsh_hadamard(x, np.empty_like(x))


def numpy_copy(log2_length: int, dtype: str) -> Run:
    """A copy to memory that is there: what reading and writing each number once takes."""
    import numpy as np

    x = vectors(1, 2**log2_length, dtype)
    out = np.empty_like(x)
    return lambda: np.copyto(out, x)


# All logits.


def product(log2_dim: int, count: int, basis: str, threads: int, rounds: int) -> Problem:
    """As many classes as dimensions: the structured product beside the dense one."""
    dim = 2**log2_dim
    return Problem(
        f"product-{basis}-d{log2_dim}",
        f"logits of {count} features in all of d = K = {dim} classes, {basis} frame, float32",
        "logits/ns",
        logits_cases("project", count, dim, dim, basis, threads),
        rounds,
    )


def classifier(
    count: int, dim: int, num_classes: int, basis: str, threads: int, rounds: int
) -> Problem:
    """A classifier of ordinary size: the class of each feature."""
    return Problem(
        f"classify-{basis}-d{dim}-k{num_classes}",
        f"classes of {count} features, d = {dim}, K = {num_classes}, {basis} frame, float32",
        "logits/ns",
        logits_cases("classify", count, dim, num_classes, basis, threads),
        rounds,
    )


def logits_cases(
    what: str, count: int, dim: int, num_classes: int, basis: str, threads: int
) -> list[Case]:
    """The engine, the product with the stored vectors, the formula where the basis has one."""
    largest = {"largest": what == "classify"}
    peers = [
        ("dense product, NumPy", "numpy", "numpy_dense", largest),
        ("dense product, PyTorch", "torch", "torch_dense", largest),
    ]
    if basis == "identity":
        peers.append(("its formula, NumPy", "numpy", f"numpy_identity_{what}", {}))
        peers.append(("its formula, PyTorch", "torch", f"torch_identity_{what}", {}))

    def case(
        name: str, library: str, function: str, options: Mapping[str, Any], of_threads: int
    ) -> Case:
        sizes = {"num_classes": num_classes, "dim": dim, "count": count}
        return Case(
            name,
            library,
            function,
            {**sizes, **options},
            threads=of_threads,
            library_threads=of_threads,
            work=count * num_classes * 1e-9,
            small={"count": 1},
        )

    cases = []
    for of_threads in counts(threads):
        options = {"basis": basis, "threads": of_threads}
        cases.append(case(f"{what}, {basis}", "infall", f"infall_{what}", options, of_threads))
        for name, library, function, options in peers:
            # NumPy's own loops have one thread.
            if of_threads == 1 or not function.startswith("numpy_identity"):
                cases.append(case(name, library, function, options, of_threads))
    awake = [other for other in cases if other.library == "torch" and other.threads == threads]
    return cases + [replace(other, name=f"{other.name}, awake", spins=True) for other in awake]


def infall_project(num_classes: int, dim: int, count: int, basis: str, threads: int) -> Run:
    """All logits, from the structure of the frame."""
    import infall

    h = vectors(count, dim, "float32")
    frame = infall.SimplexETF(num_classes, dim, basis=basis)
    return lambda: frame.project(h, num_threads=threads)


def infall_classify(num_classes: int, dim: int, count: int, basis: str, threads: int) -> Run:
    """The largest logit of each feature."""
    import infall

    h = vectors(count, dim, "float32")
    frame = infall.SimplexETF(num_classes, dim, basis=basis)
    return lambda: frame.classify(h, num_threads=threads)


def numpy_identity_project(num_classes: int, dim: int, count: int) -> Run:
    """All logits of an identity frame by its formula, in place where that is possible."""
    import numpy as np

    h = vectors(count, dim, "float32")
    scale = np.float32(np.sqrt(num_classes / (num_classes - 1)))

    def run() -> np.ndarray:
        heads = h[:, :num_classes]
        logits = np.subtract(heads, heads.mean(axis=1, keepdims=True))
        return np.multiply(logits, scale, out=logits)

    return run


def numpy_identity_classify(num_classes: int, dim: int, count: int) -> Run:
    """The class of each feature in an identity frame, whose logits ascend with its coordinates."""
    h = vectors(count, dim, "float32")
    return lambda: h[:, :num_classes].argmax(axis=1)


def torch_identity_project(num_classes: int, dim: int, count: int) -> Run:
    """All logits of an identity frame in PyTorch."""
    import torch

    h = torch.from_numpy(vectors(count, dim, "float32"))
    scale = (num_classes / (num_classes - 1)) ** 0.5

    def run() -> torch.Tensor:
        heads = h[:, :num_classes]
        return (heads - heads.mean(dim=1, keepdim=True)).mul_(scale)

    return run


def torch_identity_classify(num_classes: int, dim: int, count: int) -> Run:
    """The same in PyTorch."""
    import torch

    h = torch.from_numpy(vectors(count, dim, "float32"))
    return lambda: h[:, :num_classes].argmax(dim=1)


def stored(num_classes: int, dim: int) -> np.ndarray:
    """A frame (num_classes, dim) in memory: of random signs, whose products cost as much."""
    import numpy as np

    signs = np.random.default_rng(2).integers(0, 2, (num_classes, dim), dtype=np.int8)
    return (2.0 * signs - 1.0).astype(np.float32) / np.float32(np.sqrt(dim))


def numpy_dense(num_classes: int, dim: int, count: int, largest: bool) -> Run:
    """The dense product in NumPy, and its largest entries."""
    h, frame = vectors(count, dim, "float32"), stored(num_classes, dim)
    if largest:
        return lambda: (h @ frame.T).argmax(axis=1)
    return lambda: h @ frame.T


def torch_dense(num_classes: int, dim: int, count: int, largest: bool) -> Run:
    """The dense product in PyTorch, and its largest entries."""
    import torch

    h = torch.from_numpy(vectors(count, dim, "float32"))
    frame = torch.from_numpy(stored(num_classes, dim))
    if largest:
        return lambda: (h @ frame.T).argmax(dim=1)
    return lambda: h @ frame.T


# The largest of very many logits.


def largest(log2_dim: int, num_classes: int, threads: int, rounds: int) -> Problem:
    """Stored, the frame would not fit anywhere: the peers use a structure too."""
    dim = 2**log2_dim
    arguments = {"num_classes": num_classes, "dim": dim, "count": 8}
    work = 8 * num_classes * 1e-9
    small = {"dim": 64, "num_classes": 40}
    cases = []
    for count in counts(threads):
        cases += [
            Case(
                basis,
                "infall",
                "infall_classify",
                {**arguments, "basis": basis, "threads": count},
                threads=count,
                work=work,
                small=small,
            )
            for basis in ("identity", "hadamard")
        ]
    cases += [
        Case(
            "identity formula, NumPy",
            "numpy",
            "numpy_identity_classify",
            arguments,
            work=work,
            small=small,
        ),
        Case("cosines, SciPy", "scipy", "scipy_cosines", arguments, work=work, small=small),
    ]
    return Problem(
        f"largest-d{log2_dim}-k{num_classes}",
        f"the class of 8 features, d = 2^{log2_dim}, K = {num_classes}, float32; stored, the frame "
        f"would take {num_classes * dim / 2**38:.3g} TiB",
        "logits/ns",
        cases,
        rounds,
    )


def scipy_cosines(num_classes: int, dim: int, count: int) -> Run:
    """The same with random signs and a cosine transform for U: another frame of SciPy's speed."""
    import numpy as np
    from scipy import fft

    h = vectors(count, dim, "float32")
    signs = np.random.default_rng(2).integers(0, 2, dim).astype(np.float32) * 2 - 1
    scale = np.float32(np.sqrt(num_classes / (num_classes - 1)))

    def run() -> list[int]:
        heads = (fft.dct(row * signs, norm="ortho")[:num_classes] for row in h)
        return [int(np.argmax(scale * (head - head.mean(dtype=np.float64)))) for head in heads]

    return run


# A frame in uniformly random position.


def haar(dim: int, num_classes: int, threads: int, rounds: int) -> Problem:
    """Made, in float64: Gram-Schmidt by halves beside QR and the dense projector."""
    arguments = {"num_classes": num_classes, "dim": dim}
    work = 2e-9 * dim * num_classes**2
    small = {"num_classes": 8, "dim": 9}
    cases = []
    for count in counts(threads):
        cases += [
            Case(
                "SimplexETF, haar",
                "infall",
                "infall_haar",
                {**arguments, "threads": count},
                threads=count,
                library_threads=count,
                work=work,
                small=small,
            ),
            Case(
                "QR and dense projector, NumPy",
                "numpy",
                "numpy_haar",
                arguments,
                threads=count,
                library_threads=count,
                work=work,
                small=small,
                rounds=2,
            ),
        ]
    return Problem(
        f"haar-d{dim}-k{num_classes}",
        f"a Haar frame of d = {dim}, K = {num_classes}, float64",
        "Gflop/s of 2 d K^2",
        cases,
        rounds,
        seconds=90.0,
    )


def infall_haar(num_classes: int, dim: int, threads: int) -> Run:
    """The engine's frame, made when its first vector is asked for."""
    import os

    import infall

    if hasattr(os, "sched_setaffinity"):  # it takes all processors there are
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    return lambda: infall.SimplexETF(num_classes, dim).vectors([0])


def numpy_haar(num_classes: int, dim: int) -> Run:
    """The formula as it is printed."""
    import numpy as np

    generator = np.random.default_rng(1)

    def run() -> np.ndarray:
        q, r = np.linalg.qr(generator.standard_normal((dim, num_classes)))
        q *= np.sign(np.diag(r))
        projector = np.eye(num_classes) - 1.0 / num_classes
        return np.sqrt(num_classes / (num_classes - 1)) * (q @ projector)

    return run
