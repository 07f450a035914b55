"""Problems of the ``classes_gpu`` stem: class moments, decisions and pairs on a CUDA device.

Work is what a problem takes at least, whoever solves it: bytes of the features, read once, or
multiplications and additions. The lines marked *ceiling* do as much of the same and nothing else,
so **of ceiling** is the share of the counted limit that is reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from classes import NOISE, SMALL, SMALL_MEANS, Sizes
from harness import Case, Problem
from rows import Run
from rows_gpu import (
    FMA_BLOCKS,
    FMA_CHAINS,
    FMA_STEPS,
    FMA_THREADS,
    CuPyMeter,
    TorchMeter,
    copying,
    cupy_copy,
    cupy_fma,
    cupy_normals,
    device,
)

if TYPE_CHECKING:
    import cupy
    import numpy as np
    import torch

__all__ = ["CuPyMeter", "TorchMeter", "cupy_copy", "cupy_fma", "device", "problems"]


def problems(*, quick: bool, threads: int) -> list[Problem]:
    """All problems of the stem; ``threads`` of the host have no part in them."""
    if quick:
        few, many, scattered, decided = (
            Sizes(20_000, 256, 10),
            Sizes(20_000, 256, 1_000),
            Sizes(20_000, 256, 10),
            Sizes(4_000, 256, 600),
        )
        pair_sizes, rounds, log2_bytes = [(600, 256)], 2, 28
    else:
        few, many, scattered, decided = (
            Sizes(500_000, 512, 10),
            Sizes(500_000, 512, 10_000),
            Sizes(100_000, 512, 100),
            Sizes(100_000, 768, 1_000),
        )
        pair_sizes, rounds, log2_bytes = [(1_000, 768), (10_000, 768)], 5, 31
    return [
        *(moments(sizes, log2_bytes, rounds) for sizes in (few, many)),
        scatter(scattered, rounds),
        decisions(decided, rounds),
        *(pairs(num_classes, dim, rounds) for num_classes, dim in pair_sizes),
    ]


def case(name: str, function: str, work: float, sizes: Sizes, **arguments: Any) -> Case:
    """A case on samples of the device."""
    library = function.split("_", maxsplit=1)[0]
    return Case(
        name,
        library,
        function,
        {**sizes._asdict(), **arguments},
        work=work,
        small=SMALL._asdict(),
        meter="TorchMeter" if library == "torch" else "CuPyMeter",
        ceiling=library == "cupy",
    )


def shuffled_labels(num_samples: int, num_classes: int) -> np.ndarray:
    """Labels (N,) in host memory; the classes have as many samples, give or take one."""
    import numpy as np

    return np.random.default_rng(5).permutation(np.arange(num_samples) % num_classes)


def device_samples(
    num_samples: int, dim: int, num_classes: int
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """Features (N, d) about normal class means, float32, and shuffled labels (N,), int64."""
    import cupy

    draw = cupy_normals("Philox")
    labels = cupy.asarray(shuffled_labels(num_samples, num_classes))
    features = draw((num_samples, dim)) * cupy.float32(NOISE)
    features += draw((num_classes, dim))[labels]
    return features, labels


def torch_samples(
    num_samples: int, dim: int, num_classes: int, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in PyTorch."""
    import torch

    labels = torch.randperm(num_samples, device=device) % num_classes
    features = torch.randn(num_samples, dim, device=device).mul_(NOISE)
    features += torch.randn(num_classes, dim, device=device)[labels]
    return features, labels


# Moments.


def moments(sizes: Sizes, log2_bytes: int, rounds: int) -> Problem:
    """Means and variances: the features have to be read once."""
    work = sizes.gigabytes
    return Problem(
        f"gpu-moments-{sizes.name}",
        f"means and variances of samples on the device, {sizes}",
        "GB/s of one read",
        [
            case("ClassMoments", "infall_moments", work, sizes, scatter=False),
            case("PyTorch index_add, two passes", "torch_moments", work, sizes, scatter=False),
            *copying(log2_bytes),
        ],
        rounds,
    )


def scatter(sizes: Sizes, rounds: int) -> Problem:
    """Means, variances and the scatter within classes: d^2 products in binary64 for each sample."""
    work = sizes.num_samples * sizes.dim**2 * 1e-9
    return Problem(
        f"gpu-scatter-{sizes.name}",
        f"means, variances and scatter of samples on the device, {sizes}",
        "G FMA/s of N d^2",
        [
            case("ClassMoments", "infall_moments", work, sizes, scatter=True),
            case("PyTorch, two passes", "torch_moments", work, sizes, scatter=True),
            case("the product alone, CuPy", "cupy_scatter_product", work, sizes),
        ],
        rounds,
    )


def infall_moments(num_samples: int, dim: int, num_classes: int, scatter: bool) -> Run:
    """The engine's pass, and what it gives."""
    import infall

    features, labels = device_samples(num_samples, dim, num_classes)

    def run() -> tuple[Any, ...]:
        moments = infall.ClassMoments(num_classes, dim, scatter=scatter)
        moments.update(features, labels)
        results = moments.means, moments.variances
        return (*results, moments.within_scatter) if scatter else results

    return run


def torch_moments(
    num_samples: int, dim: int, num_classes: int, scatter: bool, device: str = "cuda"
) -> Run:
    """Means, then deviations from them; the scatter in float64."""
    import torch

    features, labels = torch_samples(num_samples, dim, num_classes, device)

    def run() -> tuple[torch.Tensor, ...]:
        counts = torch.bincount(labels, minlength=num_classes)
        sums = torch.zeros(num_classes, dim, device=device).index_add_(0, labels, features)
        means = sums / counts[:, None]
        deviations = features - means[labels]
        squares = torch.zeros(num_classes, device=device)
        squares.index_add_(0, labels, deviations.square().sum(1))
        results = means, squares / counts
        if not scatter:
            return results
        exact = deviations.double()
        return (*results, exact.T @ exact)

    return run


def cupy_scatter_product(num_samples: int, dim: int, num_classes: int) -> Run:
    """The product of float64 deviations with themselves."""
    import cupy

    features, _ = device_samples(num_samples, dim, num_classes)
    deviations = features.astype(cupy.float64)
    return lambda: deviations.T @ deviations


# Decisions.


def decisions(sizes: Sizes, rounds: int) -> Problem:
    """Nearest class means: d products in binary32 for each sample and class."""
    work = sizes.num_samples * sizes.dim * sizes.num_classes * 1e-9
    return Problem(
        f"gpu-nearest-{sizes.name}",
        f"share of samples on the device not nearest to the mean of their class, {sizes}",
        "G FMA/s of N d K",
        [
            case("ncc_error", "infall_nearest", work, sizes),
            case("PyTorch product, argmax", "torch_nearest", work, sizes),
            case("the product alone, CuPy", "cupy_product", work, sizes),
        ],
        rounds,
    )


def infall_nearest(num_samples: int, dim: int, num_classes: int) -> Run:
    """The engine's decisions, from moments of the samples."""
    import infall

    features, labels = device_samples(num_samples, dim, num_classes)
    moments = infall.ClassMoments(num_classes, dim)
    moments.update(features, labels)
    labels = shuffled_labels(num_samples, num_classes)  # metrics take them in host memory
    return lambda: infall.collapse.ncc_error(features, labels, moments=moments)


def torch_nearest(num_samples: int, dim: int, num_classes: int, device: str = "cuda") -> Run:
    """The largest of h . mean - |mean|^2 / 2, in float32."""
    import torch

    features, labels = torch_samples(num_samples, dim, num_classes, device)
    means = torch.zeros(num_classes, dim, device=device).index_add_(0, labels, features)
    means /= torch.bincount(labels, minlength=num_classes)[:, None]
    halves = means.square().sum(1) / 2

    def run() -> torch.Tensor:
        nearest = (features @ means.T - halves).argmax(dim=1)
        return (nearest != labels).double().mean()

    return run


def cupy_product(num_samples: int, dim: int, num_classes: int) -> Run:
    """Float32 products of all samples with all classes."""
    draw = cupy_normals("Philox")
    features, means = draw((num_samples, dim)), draw((num_classes, dim))
    return lambda: features @ means.T


# Pairs of classes.


def pairs(num_classes: int, dim: int, rounds: int) -> Problem:
    """Mean CDNV: d products in binary64 for each pair of classes."""
    work = num_classes * (num_classes - 1) / 2 * dim * 1e-9

    def of_pairs(name: str, library: str) -> Case:
        return Case(
            name,
            library,
            f"{library}_pairs",
            {"num_classes": num_classes, "dim": dim},
            work=work,
            small=SMALL_MEANS,
            meter="TorchMeter" if library == "torch" else "CuPyMeter",
        )

    ceiling = Case(
        "chains in registers",
        "cupy",
        "cupy_fma",
        {"steps": FMA_STEPS, "real": "double"},
        work=FMA_BLOCKS * FMA_THREADS * FMA_CHAINS * FMA_STEPS * 1e-9,
        small={"steps": 16},
        meter="CuPyMeter",
        ceiling=True,
    )
    return Problem(
        f"gpu-pairs-d{dim}-k{num_classes}",
        f"mean CDNV of K = {num_classes} classes, d = {dim}, from moments on the device",
        "G FMA/s of d K (K - 1) / 2",
        [
            of_pairs("cdnv", "infall"),
            of_pairs("PyTorch product float64", "torch"),
            ceiling,
        ],
        rounds,
    )


def infall_pairs(num_classes: int, dim: int) -> Run:
    """The engine's metric, from moments of a few samples of each class."""
    import infall

    moments = infall.ClassMoments(num_classes, dim)
    moments.update(*device_samples(4 * num_classes, dim, num_classes))
    return lambda: infall.collapse.cdnv(moments)


def torch_pairs(num_classes: int, dim: int, device: str = "cuda") -> Run:
    """All products of two means, twice as many as there are pairs."""
    import torch

    means = torch.randn(num_classes, dim, dtype=torch.float64, device=device)
    variances = torch.rand(num_classes, dtype=torch.float64, device=device)

    def run() -> torch.Tensor:
        gram = means @ means.T
        squares = gram.diagonal()
        distances = squares[:, None] + squares - 2 * gram
        ratios = (variances[:, None] + variances) / (2 * distances)
        return ratios.triu(1).sum() / (num_classes * (num_classes - 1) / 2)

    return run
