"""One policy for the arrays of every public function: docs/arrays.md, walked through.

`CASES` names every array argument of the public interface, with a call that takes it and an array
that it takes; the tests vary the array. A public function that is not named there fails a test.
"""

import re
from functools import partial

import numpy as np
import pytest

import infall
from array_kinds import layouts, masked, parts
from infall import collapse, frames, laws

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])
CLASSIFIER = RNG.standard_normal((3, 4)).astype(np.float32)
WEIGHTS = RNG.standard_normal((9, 4)).astype(np.float32)
CODES = RNG.integers(0, 256, (6, 3), dtype=np.uint8)
MODEL = infall.MaxLikelihood(50, 2).fit(X[0])
MOMENTS = infall.ClassMoments(3, 4)
MOMENTS.update(X, LABELS)
SELECTION = infall.select_rows(X[0], 50)
FRAMES = {
    "identity": infall.SimplexETF(3, 4),
    "haar": infall.SimplexETF(3, 4, basis="haar"),
    "hadamard": infall.SimplexETF(3, 4, basis="hadamard"),
    "orthoplex": infall.Orthoplex(3, 4),
    "cube": infall.Cube(3, 4),
}


class Case:
    """An array argument of a public function: its call, an array for it, what its entries are.

    `rows` says what a batch of none gives: the axis of each part of the result that is then 0, or
    None where a result without samples is an error.
    """

    def __init__(self, function, argument, call, array, *, kind="real", rows=0, gradient=False):
        self.function, self.argument, self.call = function, argument, call
        self.array, self.kind = np.asarray(array), kind
        self.rows, self.gradient = rows, gradient

    def __repr__(self):
        return f"{self.function}-{self.argument}"


def updated(features, labels):
    moments = infall.ClassMoments(3, 4, scatter=True)
    moments.update(features, labels)
    return moments.counts, moments.means, moments.variances, moments.within_scatter


def trajectory_coordinates(coordinates):
    trajectory = infall.CollapseTrajectory()
    for name in ("first", "second"):
        trajectory.add(name, X, LABELS)
    trajectory.set_coordinates(coordinates)
    return trajectory.arrays()


def metrics():
    """A case for the features and one for the labels of every metric of samples."""
    calls = {
        "nc1": {},
        "between_rank": {},
        "pfc1": {},
        "variance_explained": {},
        "nc2": {},
        "pfc2": {},
        "nc3": {"classifier": CLASSIFIER},
        "nc3_papyan": {"classifier": CLASSIFIER},
        "cdnv": {},
        "cdnv_matrix": {},
        "ncc_error": {},
        "pfc3": {},
        "nc4": {"classifier": CLASSIFIER},
        "strong_residuals": {"classifier": CLASSIFIER},
    }
    for name, options in calls.items():
        function = getattr(collapse, name)

        def call(features, labels, function=function, options=options):
            return function(features, labels, **options)

        yield Case(name, "features", lambda a, call=call: call(a, LABELS), X, rows=None)
        yield Case(
            name, "labels", lambda a, call=call: call(X, a), LABELS, kind="labels", rows=None
        )
        if options:
            yield Case(
                name,
                "classifier",
                lambda a, function=function: function(X, LABELS, classifier=a),
                CLASSIFIER,
                rows=None,
            )


def _of_frame(frame, method, rest, features):
    return getattr(frame, method)(features, *rest)


def frame_cases():
    for name, frame in FRAMES.items():
        for method, options in (
            ("project", {"gradient": True}),
            ("topk", {}),
            ("classify", {}),
        ):
            arguments = (2,) if method == "topk" else ()
            yield Case(
                f"{name}.{method}",
                "H",
                partial(_of_frame, frame, method, arguments),
                X,
                **options,
            )
        yield Case(f"{name}.adjoint", "Y", frame.adjoint, X[:, :3], gradient=True)
        yield Case(f"{name}.nearest", "means", frame.nearest, X[:3], rows=None)
        yield Case(
            f"{name}.project_means",
            "means",
            lambda a, f=frame: f.project_means(a, 0.5),
            X[:3],
            rows=None,
        )
        yield Case(f"{name}.vectors", "classes", frame.vectors, [2, 0], kind="integer")


CASES = [
    Case("select_rows", "w", lambda a: infall.select_rows(a, 50), X),
    Case("select_rows", "w", lambda a: infall.select_rows(a, 50), X[0], rows=None),
    Case("select_rows_from", "w", lambda a: infall.select_rows_from(a, WEIGHTS), X),
    Case(
        "select_rows_from",
        "weights",
        lambda a: infall.select_rows_from(X[0], a),
        WEIGHTS,
        rows=None,
    ),
    Case("RowSelection.regenerate", "w", SELECTION.regenerate, X[0], rows=None),
    Case(
        "gaussian_rows", "indices", lambda a: infall.gaussian_rows(a, 3), [4, 0, 9], kind="integer"
    ),
    Case("hyperplane_codes", "x", lambda a: infall.hyperplane_codes(a, 24), X),
    Case(
        "hamming_distances", "a", lambda a: infall.hamming_distances(a, CODES), CODES, kind="codes"
    ),
    Case(
        "hamming_distances", "b", lambda b: infall.hamming_distances(CODES, b), CODES, kind="codes"
    ),
    Case(
        "MaxLikelihood.fit",
        "w",
        lambda a: infall.MaxLikelihood(50, 2).fit(a).outputs_,
        X[0],
        rows=None,
    ),
    Case("MaxLikelihood.transform", "X", MODEL.transform, X, gradient=True),
    *(
        Case(f"MaxLikelihood.{name}", "X", getattr(MODEL, name), X)
        for name in ("angles", "angle_scores", "pole_distances", "loss", "nll")
    ),
    Case("ClassMoments.update", "features", lambda a: updated(a, LABELS), X, rows=None),
    Case(
        "ClassMoments.update", "labels", lambda a: updated(X, a), LABELS, kind="labels", rows=None
    ),
    Case("collapse_report", "features", lambda a: infall.collapse_report(a, LABELS), X, rows=None),
    Case(
        "collapse_report",
        "labels",
        lambda a: infall.collapse_report(X, a),
        LABELS,
        kind="labels",
        rows=None,
    ),
    Case(
        "collapse_report",
        "classifier",
        lambda a: infall.collapse_report(X, LABELS, classifier=a),
        CLASSIFIER,
        rows=None,
    ),
    Case(
        "collapse_report",
        "bias",
        lambda a: infall.collapse_report(X, LABELS, classifier=CLASSIFIER, bias=a),
        CLASSIFIER[:, 0],
        rows=None,
    ),
    Case(
        "collapse_report",
        "test_features",
        lambda a: infall.collapse_report(X, LABELS, test_features=a, test_labels=LABELS),
        X[::-1].copy(),
        rows=None,
    ),
    Case(
        "collapse_report",
        "test_labels",
        lambda a: infall.collapse_report(X, LABELS, test_features=X, test_labels=a),
        LABELS,
        kind="labels",
        rows=None,
    ),
    *metrics(),
    Case("equinorm", "features", collapse.equinorm, CLASSIFIER, rows=None),
    Case("equiangularity", "features", collapse.equiangularity, CLASSIFIER, rows=None),
    Case(
        "collapse_on_test",
        "test_features",
        lambda a: collapse.collapse_on_test(MOMENTS, test_features=a, test_labels=LABELS),
        X,
        rows=None,
    ),
    Case(
        "layer_coordinates",
        "layers",
        lambda a: collapse.layer_coordinates([X, 2 * X, a]),
        3 * X * X,
        rows=None,
    ),
    Case(
        "geodesic_reports",
        "first",
        lambda a: collapse.geodesic_reports(a, X, LABELS, [0.5]),
        2 * X,
        rows=None,
    ),
    Case(
        "geodesic_reports",
        "last",
        lambda a: collapse.geodesic_reports(X, a, LABELS, [0.5]),
        2 * X,
        rows=None,
    ),
    Case(
        "geodesic_reports",
        "times",
        lambda a: collapse.geodesic_reports(X, 2 * X, LABELS, a),
        [0.0, 0.5],
        rows=None,
    ),
    Case(
        "effective_depth",
        "ncc_errors",
        lambda a: collapse.effective_depth(a, 0.1),
        [0.5, 0.25, 0.0],
        rows=None,
    ),
    Case(
        "CollapseTrajectory.set_coordinates",
        "coordinates",
        trajectory_coordinates,
        [0.0, 1.0],
        rows=None,
    ),
    *frame_cases(),
    Case(
        "SimplexETF",
        "class_norms",
        lambda a: infall.SimplexETF(3, 4, class_norms=a).vectors(),
        [1.0, 2.0, 3.0],
        rows=None,
    ),
    Case("etf_distance", "means", frames.etf_distance, X[:3], rows=None),
    Case("coherence", "vectors", frames.coherence, X[:3], rows=None),
    Case("maximum_margin", "vectors", frames.maximum_margin, X[:3], rows=None),
    Case("seli_norms", "class_counts", frames.seli_norms, [10.0, 20.0, 40.0], rows=None),
    Case("walsh_hadamard", "x", frames.walsh_hadamard, X),
    Case("angle", "x", lambda a: laws.angle(a, X), 2 * X[::-1], kind="paired"),
    Case("angle", "y", lambda a: laws.angle(X, a), 2 * X[::-1], kind="paired"),
    Case(
        "collision_probability",
        "x",
        lambda a: laws.collision_probability(a, X),
        2 * X[::-1],
        kind="paired",
    ),
    Case(
        "collision_probability",
        "y",
        lambda a: laws.collision_probability(X, a),
        2 * X[::-1],
        kind="paired",
    ),
    Case("binary_entropy", "theta", laws.binary_entropy, [0.0, 0.25, 1.0], kind="elementwise"),
    Case("tail_gain", "fraction", laws.tail_gain, [0.125, 0.5, 1.0], kind="elementwise"),
    Case(
        "angle_chain", "theta", lambda a: laws.angle_chain(a, 1000, 8, 3, rng=0), [0.25, 1.5, 3.0]
    ),
    Case(
        "mean_field_angle",
        "theta",
        lambda a: laws.mean_field_angle(a, 1000, 8, 3),
        [0.25, 1.5, 3.0],
        kind="elementwise",
    ),
]

# Public, and without an argument that is an array.
WITHOUT_ARRAYS = {
    *("ClassMoments", "CollapseReport", "CollapseTrajectory", "MaxLikelihood", "RowSelection"),
    *("Frame", "FrameFit", "TopK", "CDNV", "CollapseOnTest", "Equiangularity", "StrongResiduals"),
    *("Orthoplex", "Cube", "METRICS", "UndefinedMetric", "__version__"),
    *("merge_selections", "num_threads", "welch_bound", "folded_normal_top", "norm_growth"),
    *("collapse", "frames", "laws"),
}

all_cases = pytest.mark.parametrize("case", CASES, ids=repr)
real_cases = pytest.mark.parametrize(
    "case", [case for case in CASES if case.array.dtype.kind == "f"], ids=repr
)


def test_every_public_function_is_walked_through():
    walked = {case.function.split(".")[0] for case in CASES}
    public = {*infall.__all__, *collapse.__all__, *frames.__all__, *laws.__all__}
    assert public - WITHOUT_ARRAYS - walked == set()


def refused(case, array, error):
    """Assert that the call refuses the array with an error that names the argument."""
    with pytest.raises(error) as caught:
        case.call(array)
    assert re.search(rf"\b{case.argument}\b", str(caught.value)), str(caught.value)


def same(result, expected, **tolerance):
    result, expected = parts(result), parts(expected)
    assert len(result) == len(expected)
    for entry, other in zip(result, expected, strict=True):
        assert entry.shape == other.shape
        if entry.dtype.kind == "f":
            np.testing.assert_allclose(
                entry, other, **(tolerance or {"rtol": 1e-12, "atol": 1e-15})
            )
        else:
            np.testing.assert_array_equal(entry, other)


@all_cases
def test_layout_and_byte_order_do_not_matter(case):
    expected = case.call(case.array)
    # A list has no dtype: its numbers are those of float64.
    wide = case.call(case.array.astype(np.float64)) if case.array.dtype.kind == "f" else expected
    for name, array in layouts(case.array).items():
        if name == "list" and case.kind == "codes":
            continue  # numbers of a list are not bytes
        same(case.call(array), wide if name == "list" else expected)


@all_cases
def test_masks_are_refused_in_every_layout(case):
    for array in masked(case.array):
        refused(case, array, TypeError)


@all_cases
def test_what_is_no_number_is_refused(case):
    for dtype in ("complex128", "complex64", "M8[s]", object):
        if case.kind == "labels" and dtype is object:
            continue  # names of classes
        array = np.ones(case.array.shape, dtype)
        refused(case, array, TypeError)
    if case.kind != "labels":
        refused(case, np.full(case.array.shape, "one"), TypeError)
    refused(case, object(), (TypeError, ValueError))


@all_cases
def test_other_numbers_of_axes_are_refused(case):
    if case.kind != "elementwise":
        refused(case, np.zeros((2, 1, 2, 1, 2), case.array.dtype), ValueError)


@real_cases
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_position(case, bad):
    array = case.array.copy()
    array.flat[-1] = bad
    refused(case, array, ValueError)
    refused(case, np.asfortranarray(array), ValueError)


@all_cases
def test_an_empty_batch(case):
    empty = case.array[:0]
    if case.argument == "times":
        assert case.call(empty) == []
        return
    if case.rows is None:
        with pytest.raises(ValueError, match=r".+"):
            case.call(empty)
        return
    if case.kind == "paired":  # with another argument, of another length
        with pytest.raises(ValueError, match=r"shape|broadcast"):
            case.call(empty)
        return
    results, full = parts(case.call(empty)), parts(case.call(case.array))
    assert any(part.size == 0 for part in results)
    for part, other in zip(results, full, strict=True):
        if part.shape != other.shape:
            assert part.size == 0
            assert part.dtype == other.dtype


@real_cases
def test_gradients_are_propagated_or_refused(case):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    tensor = torch.tensor(case.array, requires_grad=True)
    if case.gradient:
        assert case.call(tensor).requires_grad
        assert not case.call(tensor.detach()).requires_grad
    else:
        refused(case, tensor, TypeError)
    with torch.no_grad():
        same(case.call(tensor), case.call(case.array))


@real_cases
@pytest.mark.parametrize("exponent", [-1060, -900, -300, 300, 900])
def test_huge_and_tiny_numbers_give_numbers_or_a_named_error(case, exponent):
    """No NaN, no infinity, no warning and no other error at any magnitude."""
    array = np.ldexp(case.array.astype(np.float64), exponent)
    try:
        result = case.call(array)
    except ValueError as error:
        assert re.search(rf"\b{case.argument}\b|overflow|zero|coincide", str(error)), error  # noqa: PT017
        return
    for part in parts(result):
        assert part.dtype.kind != "f" or np.isfinite(part).all()
