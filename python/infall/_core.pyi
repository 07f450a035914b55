from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_Found = list[tuple[NDArray[np.int64], NDArray[np.float64]]]
_Progress = Callable[[int], object] | None

def isa() -> str: ...
def set_isa(name: str) -> None: ...
def available_isas() -> list[str]: ...
def compiler() -> str: ...
def gaussian_rows(
    indices: NDArray[np.int64],
    out: NDArray[np.float32],
    seed: int,
    layer: int,
    num_threads: int,
    progress: _Progress,
) -> None: ...
def select_stream(
    w: NDArray[np.float32],
    dim: int,
    seed: int,
    layer: int,
    first_row: int,
    end_row: int,
    num_rows: int,
    absolute: bool,
    threshold: float,
    num_threads: int,
    progress: _Progress,
) -> _Found: ...
def select_rotated(
    factors: NDArray[np.float64],
    seed: int,
    layer: int,
    first_row: int,
    end_row: int,
    num_rows: int,
    absolute: bool,
    threshold: float,
    num_threads: int,
    progress: _Progress,
) -> _Found: ...
def select_matrix(
    weights: NDArray[np.float32] | NDArray[np.float64],
    w: NDArray[np.float32] | NDArray[np.float64],
    num_rows: int,
    absolute: bool,
    num_threads: int,
    progress: _Progress,
) -> _Found | int: ...
def draw_order_statistics(
    num_rows: int, first_row: int, end_row: int, seed: int, layer: int
) -> tuple[NDArray[np.float64], NDArray[np.uint8], NDArray[np.int64]]: ...
def unit_vectors(
    w: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]: ...
def householder(
    w: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
def deciding_entries(
    rows: NDArray[np.int64], span: int, seed: int, layer: int, num_threads: int
) -> NDArray[np.float64]: ...
def rotate_rows(
    z: NDArray[np.float32],
    deciding: NDArray[np.float64],
    v: NDArray[np.float64],
    scale: NDArray[np.float64],
    num_threads: int,
    progress: _Progress,
) -> None: ...
def hyperplane_codes(
    x: NDArray[np.float32],
    dim: int,
    num_bits: int,
    seed: int,
    layer: int,
    num_threads: int,
    progress: _Progress,
) -> NDArray[np.uint8]: ...
def hamming_distances(
    a: NDArray[np.uint8], b: NDArray[np.uint8], num_threads: int, progress: _Progress
) -> NDArray[np.int32]: ...
