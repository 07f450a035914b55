from collections.abc import Sequence

# Addresses and streams are integers; everything is queued on `stream` of device number `device`.

# seed, number of the layer, dim
_Layer = tuple[int, int, int]
# first and end row, num_rows, batch, absolute, by_index, both thresholds; workspace, indices,
# projections
_Selection = tuple[int, int, int, int, bool, bool, float, float, int, int, int]
# entries, dtype, shape, strides
_Matrix = tuple[int, str, int, int, int, int]
# entries, dtype, stride of the rows, dim
_Features = tuple[int, str, int, int]
# num_samples, order, starts
_ClassOrder = tuple[int, int, int]
# num_classes, counts, shifts and whether they are float64, sums, squares
_ClassState = tuple[int, int, tuple[int, bool], int, int]
# num_classes, dim, hadamard, seed, norms
_Frame = tuple[int, int, bool, int, int]
# factor, constant, what all classes have in common (3), longest
_RowBounds = tuple[float, float, float, float, float, float]

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
    layer: _Layer, indices: int, count: int, out: int, device: int, stream: int
) -> None: ...

# `screened` is None for what is faster.
def select_stream(
    layer: _Layer, task: _Selection, w: int, screened: bool | None, device: int, stream: int
) -> None: ...
def screen_estimates(
    layer: _Layer,
    first_row: int,
    count: int,
    w: int,
    estimates: int,
    margin: int,
    device: int,
    stream: int,
) -> None: ...
def select_rotated(
    layer: _Layer, task: _Selection, factors: int, span: int, device: int, stream: int
) -> None: ...
def select_matrix(matrix: _Matrix, task: _Selection, w: int, device: int, stream: int) -> None: ...
def gather_rows(
    matrix: _Matrix, indices: int, count: int, out: int, device: int, stream: int
) -> None: ...
def deciding_entries(
    layer: _Layer, rows: int, count: int, span: int, out: int, device: int, stream: int
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
def moments_scratch(num_classes: int, dim: int, num_samples: int) -> int: ...
def accumulate_moments(
    features: _Features,
    samples: _ClassOrder,
    state: _ClassState,
    scratch: int,
    device: int,
    stream: int,
) -> None: ...
def class_means(
    state: _ClassState,
    dim: int,
    centre: int,
    means: int,
    square_offsets: int,
    device: int,
    stream: int,
) -> None: ...
def subtract(
    features: _Features,
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
    values: int, samples: _ClassOrder, num_classes: int, sums: int, device: int, stream: int
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
    rows: _Features,
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
    row_bounds: _RowBounds,
    bounds: Sequence[int],
    bests: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def decide_samples(
    precision: str,
    rows: _Features,
    first: int,
    count: int,
    norms: int,
    row_bounds: _RowBounds,
    bests: Sequence[int],
    class_rows: _Features,
    classes: int,
    scale: float,
    bias: int,
    decisions: int,
    device: int,
    stream: int,
) -> None: ...
def frame_workspace(dtype: str, frame: _Frame, count: int, top: int) -> int: ...
def scores_workspace(dtype: str, count: int, columns: int, top: int) -> int: ...
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
    frame: _Frame,
    x: int,
    count: int,
    out: int,
    workspace: int,
    device: int,
    stream: int,
) -> None: ...
def frame_synthesise(
    dtype: str,
    frame: _Frame,
    x: int,
    count: int,
    out: int,
    workspace: int,
    device: int,
    stream: int,
) -> None: ...
def frame_top_logits(
    dtype: str,
    frame: _Frame,
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
    workspace: int,
    device: int,
    stream: int,
) -> None: ...
