from collections.abc import Sequence

# Addresses and streams are integers; everything is queued on `stream` of device number `device`.

def device_count() -> int: ...
def architectures() -> str: ...
def selection_workspace(num_rows: int, available_rows: int, batch: int) -> int: ...
def matrix_workspace(rows: int, num_rows: int, batch: int) -> int: ...
def unit_vectors(
    w: int,
    batch: int,
    dim: int,
    directions: int,
    norms: int,
    exponents: int,
    device: int,
    stream: int,
) -> None: ...
def householder(
    w: int, batch: int, dim: int, v: int, scale: int, columns: int, device: int, stream: int
) -> None: ...
def discard_undirected(
    norms: int,
    batch: int,
    num_rows: int,
    indices: int,
    projections: int,
    device: int,
    stream: int,
) -> None: ...
def multiply_in_order(
    rows: int, count: int, dim: int, w: int, out: int, device: int, stream: int
) -> None: ...
def gaussian_rows(
    indices: int, count: int, dim: int, seed: int, layer: int, out: int, device: int, stream: int
) -> None: ...
def select_stream(
    w: int,
    dim: int,
    seed: int,
    layer: int,
    first_row: int,
    end_row: int,
    num_rows: int,
    batch: int,
    absolute: bool,
    by_index: bool,
    thresholds: tuple[float, float],
    workspace: int,
    indices: int,
    projections: int,
    device: int,
    stream: int,
) -> None: ...
def select_rotated(
    factors: int,
    span: int,
    seed: int,
    layer: int,
    first_row: int,
    end_row: int,
    num_rows: int,
    batch: int,
    absolute: bool,
    by_index: bool,
    thresholds: tuple[float, float],
    workspace: int,
    indices: int,
    projections: int,
    device: int,
    stream: int,
) -> None: ...
def select_matrix(
    weights: int,
    dtype: str,
    rows: int,
    dim: int,
    row_stride: int,
    column_stride: int,
    w: int,
    num_rows: int,
    batch: int,
    absolute: bool,
    by_index: bool,
    workspace: int,
    indices: int,
    projections: int,
    device: int,
    stream: int,
) -> None: ...
def gather_rows(
    matrix: int,
    dtype: str,
    rows: int,
    dim: int,
    row_stride: int,
    column_stride: int,
    indices: int,
    count: int,
    out: int,
    device: int,
    stream: int,
) -> None: ...
def deciding_entries(
    rows: int, count: int, span: int, seed: int, layer: int, out: int, device: int, stream: int
) -> None: ...
def rotate_rows(
    z: int,
    count: int,
    dim: int,
    deciding: int,
    v: int,
    scale: int,
    span: int,
    scratch: int,
    device: int,
    stream: int,
) -> None: ...
def hyperplane_codes(
    x: int,
    dim: int,
    num_inputs: int,
    num_bits: int,
    seed: int,
    layer: int | None,
    out: int,
    device: int,
    stream: int,
) -> None: ...
def hamming_distances(
    a: int, a_count: int, b: int, b_count: int, bytes: int, out: int, device: int, stream: int
) -> None: ...
def moments_scratch(num_classes: int, dim: int) -> int: ...
def accumulate_moments(
    features: int,
    dtype: str,
    stride: int,
    dim: int,
    num_samples: int,
    order: int,
    starts: int,
    num_classes: int,
    counts: int,
    shifts: int,
    shifts_are_float64: bool,
    sums: int,
    squares: int,
    scratch: int,
    device: int,
    stream: int,
) -> None: ...
def class_means(
    num_classes: int,
    dim: int,
    counts: int,
    shifts: int,
    shifts_are_float64: bool,
    sums: int,
    squares: int,
    centre: int,
    means: int,
    square_offsets: int,
    device: int,
    stream: int,
) -> None: ...
def subtract(
    features: int,
    dtype: str,
    stride: int,
    dim: int,
    num_samples: int,
    labels: int,
    num_classes: int,
    base: int,
    base_is_float64: bool,
    out: int,
    device: int,
    stream: int,
) -> None: ...
def sums_by_class(
    values: int,
    num_samples: int,
    order: int,
    starts: int,
    num_classes: int,
    sums: int,
    device: int,
    stream: int,
) -> None: ...
def geometry_workspace(classes: int) -> int: ...

# Totals are addresses in the order in which _core.pair_geometry returns them.
def pair_geometry(
    means: int,
    variances: int,
    extremes: int,
    classes: int,
    dim: int,
    workspace: int,
    totals: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def cdnv_block(
    means: int,
    variances: int,
    extremes: int,
    classes: int,
    dim: int,
    first_class: int,
    end_class: int,
    workspace: int,
    out: int,
    device: int,
    stream: int,
) -> None: ...

# A bias at address 0 stands for distances.
def centre_samples(
    precision: str,
    rows: int,
    dtype: str,
    stride: int,
    dim: int,
    first: int,
    count: int,
    centre: int,
    scale: float,
    out: int,
    norms: int,
    device: int,
    stream: int,
) -> None: ...
def reduce_scores(
    precision: str,
    products: int,
    count: int,
    classes: int,
    first_class: int,
    norms: int,
    row_bounds: Sequence[float],
    bounds: Sequence[int],
    bests: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def decide_samples(
    precision: str,
    rows: int,
    dtype: str,
    stride: int,
    dim: int,
    first: int,
    count: int,
    norms: int,
    row_bounds: Sequence[float],
    bests: Sequence[int],
    class_rows: int,
    class_dtype: str,
    classes: int,
    scale: float,
    bias: int,
    decisions: int,
    device: int,
    stream: int,
) -> None: ...
def frame_workspace(dtype: str, num_classes: int, dim: int, hadamard: bool, count: int) -> int: ...
def walsh_hadamard(
    dtype: str,
    x: int,
    count: int,
    log2_length: int,
    factor: float,
    out: int,
    device: int,
    stream: int,
) -> None: ...
def frame_project(
    dtype: str,
    num_classes: int,
    dim: int,
    hadamard: bool,
    seed: int,
    norms: int,
    x: int,
    count: int,
    out: int,
    workspace: int,
    device: int,
    stream: int,
) -> None: ...
def frame_synthesise(
    dtype: str,
    num_classes: int,
    dim: int,
    hadamard: bool,
    seed: int,
    norms: int,
    x: int,
    count: int,
    out: int,
    workspace: int,
    device: int,
    stream: int,
) -> None: ...
def frame_top_logits(
    dtype: str,
    num_classes: int,
    dim: int,
    hadamard: bool,
    seed: int,
    norms: int,
    x: int,
    count: int,
    top: int,
    classes: int,
    values: int,
    workspace: int,
    device: int,
    stream: int,
) -> None: ...
def top_scores(
    dtype: str,
    scores: int,
    labels: int,
    count: int,
    columns: int,
    top: int,
    classes: int,
    values: int,
    device: int,
    stream: int,
) -> None: ...
