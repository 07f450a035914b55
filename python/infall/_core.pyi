from collections.abc import Callable
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

_Found = list[tuple[NDArray[np.int64], NDArray[np.float64]]]
_Progress = Callable[[int], object] | None

__version__: str
without_cuda: str
"""Why the module infall._cuda was not built; empty where it was."""

def isa() -> str: ...

class FloatEnvironment:
    def __enter__(self) -> None: ...
    def __exit__(self, *args: object) -> None: ...

def set_isa(name: str) -> None: ...
def available_isas() -> list[str]: ...
def purposes() -> list[tuple[str, int, int, int]]: ...
def gaussian_rows(
    indices: NDArray[np.int64],
    out: NDArray[np.float32],
    seed: int,
    layer: int,
    num_threads: int,
    progress: _Progress,
) -> None: ...
def haar_rows(
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
    screened: bool | None = None,
) -> _Found: ...
def screen_shape() -> tuple[float, float, NDArray[np.float64], NDArray[np.float64]]: ...
def screen_pairs(
    first_word: int, count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]: ...
def screen_deviations(first_word: int, count: int) -> tuple[float, float, int]: ...
def screen_estimates(
    w: NDArray[np.float32], dim: int, seed: int, layer: int, first_row: int, rows: int
) -> tuple[NDArray[np.float32], float]: ...
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
    num_rows: int, width: int, seed: int, layer: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...
def largest_folded_normals(exponentials: NDArray[np.float64], width: float) -> None: ...
def unit_vectors(
    w: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]: ...
def scaled_projections(
    unit_projections: NDArray[np.float64],
    norms: NDArray[np.float64],
    exponents: NDArray[np.int64],
) -> NDArray[np.float64] | None: ...
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
def multiply_in_order(
    rows: NDArray[np.float32], w: NDArray[np.float64], num_threads: int
) -> NDArray[np.float64]: ...
def hyperplane_codes(
    x: NDArray[np.float32],
    dim: int,
    num_bits: int,
    seed: int,
    layer: int | None,
    num_threads: int,
    progress: _Progress,
) -> NDArray[np.uint8]: ...
def hamming_distances(
    a: NDArray[np.uint8], b: NDArray[np.uint8], num_threads: int, progress: _Progress
) -> NDArray[np.int32]: ...

class MomentsUpdate:
    def __init__(
        self,
        counts: NDArray[np.int64],
        shifts: NDArray[Any],
        sums: NDArray[np.float64],
        squares: NDArray[np.float64],
    ) -> None: ...
    def add(
        self,
        features: NDArray[Any],
        labels: NDArray[np.int64],
        num_threads: int,
        progress: _Progress,
    ) -> None: ...
    def first_nonfinite_class(self) -> int: ...
    def publish(self, num_threads: int) -> None: ...
    def withdraw(self, num_threads: int) -> None: ...

def first_nonfinite(features: NDArray[Any], num_threads: int) -> int: ...
def deviations(
    features: NDArray[Any],
    labels: NDArray[np.int64],
    shifts: NDArray[Any],
    out: NDArray[np.float64],
    num_threads: int,
) -> None: ...
def accumulate_scatter(
    x: NDArray[np.float64], scatter: NDArray[np.float64], num_threads: int
) -> None: ...
def accumulate_deviations(
    waiting: NDArray[np.float64],
    features: NDArray[Any],
    labels: NDArray[np.int64],
    shifts: NDArray[Any],
    before: NDArray[np.float64],
    scatter: NDArray[np.float64],
    num_threads: int,
) -> None: ...
def project_rows(
    rows: NDArray[np.float64], directions: NDArray[np.float64], num_threads: int
) -> NDArray[np.float64]: ...
def projected_square_norms(
    features: NDArray[Any],
    labels: NDArray[np.int64],
    shifts: NDArray[Any],
    offsets: NDArray[np.float64],
    directions: NDArray[np.float64],
    num_threads: int,
    progress: _Progress,
) -> NDArray[np.float64]: ...
def class_means(
    counts: NDArray[np.int64],
    shifts: NDArray[Any],
    sums: NDArray[np.float64],
    centre: NDArray[np.float64],
    with_means: bool,
    with_offsets: bool,
    num_threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

_State = tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float64], NDArray[np.float64]]

def merge_states(mine: _State, theirs: _State, merged: _State, num_threads: int) -> int: ...
def pair_geometry(
    means: NDArray[np.float64],
    variances: NDArray[np.float64],
    num_threads: int,
    progress: _Progress,
) -> tuple[
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.int64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.int64],
    NDArray[np.float64],
    NDArray[np.float64],
]: ...
def cdnv_block(
    means: NDArray[np.float64],
    variances: NDArray[np.float64],
    first_class: int,
    end_class: int,
    num_threads: int,
    progress: _Progress,
) -> NDArray[np.float64]: ...

_Floats = NDArray[np.float32] | NDArray[np.float64]

# Rows are float16, float32, float64, or bfloat16 as uint16.
def centre_rows(
    rows: NDArray[Any],
    first: int,
    centre: NDArray[np.float64] | None,
    scale: float,
    out: _Floats,
    square_norms: NDArray[np.float64],
    num_threads: int,
) -> int: ...
def reduce_scores(
    products: _Floats,
    first_class: int,
    row_factors: _Floats,
    term: _Floats,
    norm: _Floats,
    slack: _Floats,
    low: _Floats,
    high: _Floats,
    second: _Floats,
    candidate: NDArray[np.int64],
    num_threads: int,
) -> None: ...
def decide(
    products: _Floats,
    first_class: int,
    row_factors: _Floats,
    term: _Floats,
    norm: _Floats,
    slack: _Floats,
    least: _Floats,
    samples: NDArray[np.int64],
    features: NDArray[Any],
    classes: NDArray[Any],
    scale: float,
    bias: NDArray[np.float64] | None,
    best_scores: NDArray[np.float64],
    best_classes: NDArray[np.int64],
    num_threads: int,
) -> None: ...
@overload
def walsh_hadamard(
    x: NDArray[np.float32],
    out: NDArray[np.float32],
    factor: float,
    num_threads: int,
    progress: _Progress,
) -> None: ...
@overload
def walsh_hadamard(
    x: NDArray[np.float64],
    out: NDArray[np.float64],
    factor: float,
    num_threads: int,
    progress: _Progress,
) -> None: ...
@overload
def frame_project(
    x: NDArray[np.float32],
    out: NDArray[np.float32],
    hadamard: bool,
    seed: int,
    norms: NDArray[np.float64] | None,
    num_threads: int,
    progress: _Progress,
) -> int | None: ...
@overload
def frame_project(
    x: NDArray[np.float64],
    out: NDArray[np.float64],
    hadamard: bool,
    seed: int,
    norms: NDArray[np.float64] | None,
    num_threads: int,
    progress: _Progress,
) -> int | None: ...
@overload
def frame_synthesise(
    x: NDArray[np.float32],
    out: NDArray[np.float32],
    hadamard: bool,
    seed: int,
    norms: NDArray[np.float64] | None,
    num_threads: int,
    progress: _Progress,
) -> int | None: ...
@overload
def frame_synthesise(
    x: NDArray[np.float64],
    out: NDArray[np.float64],
    hadamard: bool,
    seed: int,
    norms: NDArray[np.float64] | None,
    num_threads: int,
    progress: _Progress,
) -> int | None: ...
@overload
def frame_top_logits(
    x: NDArray[np.float32],
    classes: NDArray[np.int64],
    values: NDArray[np.float32],
    num_classes: int,
    hadamard: bool,
    seed: int,
    norms: NDArray[np.float64] | None,
    num_threads: int,
    progress: _Progress,
) -> int | None: ...
@overload
def frame_top_logits(
    x: NDArray[np.float64],
    classes: NDArray[np.int64],
    values: NDArray[np.float64],
    num_classes: int,
    hadamard: bool,
    seed: int,
    norms: NDArray[np.float64] | None,
    num_threads: int,
    progress: _Progress,
) -> int | None: ...
@overload
def top_scores(
    scores: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    classes: NDArray[np.int64],
    values: NDArray[np.float32],
    num_threads: int,
    progress: _Progress,
) -> int | None: ...
@overload
def top_scores(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64] | None,
    classes: NDArray[np.int64],
    values: NDArray[np.float64],
    num_threads: int,
    progress: _Progress,
) -> int | None: ...
def haar_vectors(
    out: NDArray[np.float64], seed: int, num_threads: int, progress: _Progress
) -> None: ...
def orthonormalise_rows(x: NDArray[np.float64], num_threads: int, progress: _Progress) -> None: ...
