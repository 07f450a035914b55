"""Problems of the ``frames_gpu`` stem: transforms, logits and the largest of them on a CUDA device.

Work is the bytes that a problem takes at least, whoever solves it: its vectors read once and its
results written once. The copy within the device's memory is the *ceiling*, so **of ceiling** is the
share of the counted limit that is reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import Case, Problem
from rows import Run
from rows_gpu import CuPyMeter, TorchMeter, copying, cupy_copy, cupy_normals, device

if TYPE_CHECKING:
    import torch

__all__ = ["CuPyMeter", "TorchMeter", "cupy_copy", "device", "problems"]

BASES = ("hadamard", "identity")


def problems(*, quick: bool, threads: int) -> list[Problem]:
    """All problems of the stem; ``threads`` of the host have no part in them."""
    if quick:
        transforms, log2_dim, count, log2_bytes, rounds = [(10, 64), (14, 4)], 9, 64, 28, 2
        many, features, tops = (12, 4_000), (1, 8), (1, 20)
    else:
        transforms, log2_dim, count, log2_bytes, rounds = [(10, 2**16), (20, 64)], 13, 4096, 31, 5
        many, features, tops = (20, 10**6), (1, 64), (1, 100)
    return [
        *(transform(*sizes, log2_bytes, rounds) for sizes in transforms),
        *(
            product(direction, basis, 2**log2_dim, count, log2_bytes, rounds)
            for direction in ("project", "adjoint")
            for basis in BASES
        ),
        *(
            largest(*many, of_features, top, log2_bytes, rounds)
            for of_features in features
            for top in tops
        ),
    ]


def case(name: str, function: str, work: float, small: dict[str, Any], **arguments: Any) -> Case:
    """A case on vectors of the device."""
    library = function.split("_", maxsplit=1)[0]
    return Case(
        name,
        library,
        function,
        arguments,
        work=work,
        small=small,
        meter="TorchMeter" if library == "torch" else "CuPyMeter",
    )


# The Walsh-Hadamard transform.


def transform(log2_length: int, count: int, log2_bytes: int, rounds: int) -> Problem:
    """Vectors transformed: read and written once, if they stayed on the chip in between."""
    work = 2 * count * 2**log2_length * 4e-9
    arguments = {"log2_length": log2_length, "count": count}
    small = {"log2_length": 8, "count": 2}
    return Problem(
        f"gpu-transform-n{log2_length}",
        f"transforms of {count} vectors of 2^{log2_length} float32 numbers on the device",
        "GB/s of one read and one write",
        [
            case("Walsh-Hadamard", "infall_transform", work, small, **arguments),
            case("real FFT, PyTorch", "torch_fft", work, small, **arguments),
            *copying(log2_bytes),
        ],
        rounds,
    )


def infall_transform(log2_length: int, count: int) -> Run:
    """The engine's transform."""
    from infall import frames

    x = cupy_normals("Philox")((count, 2**log2_length))
    return lambda: frames.walsh_hadamard(x)


def torch_fft(log2_length: int, count: int, device: str = "cuda") -> Run:
    """A transform of as many numbers, by cuFFT."""
    import torch

    x = torch.randn(count, 2**log2_length, device=device)
    return lambda: torch.fft.rfft(x)


# All logits, and the way back.


def product(
    direction: str, basis: str, dim: int, count: int, log2_bytes: int, rounds: int
) -> Problem:
    """As many classes as dimensions: the structured product beside the dense one."""
    work = 2 * count * dim * 4e-9
    arguments, small = {"dim": dim, "count": count}, {"dim": 64, "count": 2}
    return Problem(
        f"gpu-{direction}-{basis}-d{dim}",
        f"{direction} of {count} vectors on the device, d = K = {dim}, {basis} frame, float32",
        "GB/s of one read and one write",
        [
            case(
                f"{direction}, {basis}",
                "infall_product",
                work,
                small,
                direction=direction,
                basis=basis,
                **arguments,
            ),
            case("dense product, PyTorch", "torch_product", work, small, **arguments),
            *copying(log2_bytes),
        ],
        rounds,
    )


def infall_product(direction: str, basis: str, dim: int, count: int) -> Run:
    """Logits of vectors, or vectors of logits, from the structure of the frame."""
    import infall

    x = cupy_normals("Philox")((count, dim))
    multiply = getattr(infall.SimplexETF(dim, dim, basis=basis), direction)
    return lambda: multiply(x)


def torch_product(dim: int, count: int, device: str = "cuda") -> Run:
    """The product with a matrix in memory, whose numbers do not matter."""
    import torch

    x = torch.randn(count, dim, device=device)
    vectors = torch.randn(dim, dim, device=device)
    return lambda: x @ vectors


# The largest of very many logits.


def largest(
    log2_dim: int, num_classes: int, count: int, top: int, log2_bytes: int, rounds: int
) -> Problem:
    """Of so many classes that the frame could not be stored: features have to be read once."""
    dim = 2**log2_dim
    work = count * dim * 4e-9
    arguments = {"num_classes": num_classes, "dim": dim, "count": count, "top": top}
    small = {"num_classes": 40, "dim": 64, "count": 1, "top": 1}
    return Problem(
        f"gpu-largest-k{num_classes}-n{count}-top{top}",
        f"the {top} largest logits of {count} features on the device, d = 2^{log2_dim}, "
        f"K = {num_classes}, float32",
        "GB/s of one read",
        [
            *(
                case(f"topk, {basis}", "infall_largest", work, small, basis=basis, **arguments)
                for basis in BASES
            ),
            case("identity formula, PyTorch topk", "torch_largest", work, small, **arguments),
            *copying(log2_bytes),
        ],
        rounds,
    )


def infall_largest(num_classes: int, dim: int, count: int, top: int, basis: str) -> Run:
    """The engine's largest logits."""
    import infall

    h = cupy_normals("Philox")((count, dim))
    frame = infall.SimplexETF(num_classes, dim, basis=basis)
    return lambda: frame.topk(h, top)


def torch_largest(num_classes: int, dim: int, count: int, top: int, device: str = "cuda") -> Run:
    """Of an identity frame, whose logits ascend with the coordinates of a feature."""
    import torch

    h = torch.randn(count, dim, device=device)
    scale = (num_classes / (num_classes - 1)) ** 0.5

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        heads = h[:, :num_classes]
        best = heads.topk(top, dim=1)
        return (best.values - heads.mean(dim=1, keepdim=True)) * scale, best.indices

    return run
