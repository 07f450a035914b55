"""The layer between CUDA arrays and CUDA kernels, on a device made of host memory."""

import itertools
import subprocess
import sys
import types

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fake_device
import infall
from fake_device import CUPY, TORCH, same, vector
from infall import _core
from infall._arrays.blocks import blocks_of

pytest.importorskip(
    "infall._cuda_emulated", reason="built with -DINFALL_EMULATE_CUDA=ON only (make test)"
)


@pytest.fixture(autouse=True)
def _fake_cuda(monkeypatch):
    yield from fake_device.installed(monkeypatch)


both_libraries = pytest.mark.parametrize("library", [CUPY, TORCH], ids=["cupy", "torch"])


class Foreign:
    """An array of some library with __cuda_array_interface__ over host memory."""

    def __init__(self, values, number=0, **interface):
        self.host, self.number = values, number
        low, high = np.lib.array_utils.byte_bounds(values)
        self.num_bytes = high - low
        self.__cuda_array_interface__ = {
            "shape": values.shape,
            "typestr": values.dtype.str,
            "data": (values.ctypes.data, False),
            "strides": values.strides,
            "version": 3,
            **interface,
        }


class DLPackOnly:
    def __init__(self, values, number=0, device_type=2):
        self.host, self.number, self.device_type = values, number, device_type

    def __dlpack__(self, **options):
        raise AssertionError("read by CuPy")

    def __dlpack_device__(self):
        return (self.device_type, self.number)


# Results are the CPU's, on the caller's device, in the caller's library and stream ---------------


@both_libraries
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("sampler", "batch"),
    [
        *itertools.product(("stream", "rotated"), (None, 1, 3, 9)),
        *itertools.product(("order_statistics",), (None, 1)),  # of one w
    ],
)
@pytest.mark.parametrize("order", ["index", "score"])
def test_selections_are_those_of_the_cpu(library, number, sampler, batch, order):
    for dim in (1, 6, 13):
        w = vector(dim, batch)
        settings = {"seed": 2**64 - 1, "layer": 7, "sampler": sampler, "order": order}
        for score in ("absolute", "signed"):
            if score == "signed" and sampler == "order_statistics":
                continue
            expected = infall.select_rows(w, 5000, score=score, num_rows=17, **settings)
            selection = infall.select_rows(
                library.put(w, number), 5000, score=score, num_rows=17, **settings
            )
            same(selection, expected, library, number)
    stream = fake_device.current_streams[number]
    assert {call[1:] for call in fake_device.calls} == {(number, stream)}
    assert fake_device.synchronisations == []


@both_libraries
@blocks_of(64)
def test_large_batches_are_rotated_in_blocks(library):
    w = vector(9, 4)
    expected = infall.select_rows(w, 3000, sampler="rotated")
    same(infall.select_rows(library.put(w), 3000, sampler="rotated"), expected, library)
    assert sum(name == "rotate_rows" for name, *_ in fake_device.calls) == 6


@both_libraries
@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-30, 3e18, 1e300, 1e306])
def test_lengths_at_the_ends_of_float64(library, scale):
    w = np.array([3.0, -4.0, 2.0]) * scale
    same(infall.select_rows(library.put(w), 999), infall.select_rows(w, 999), library)


@both_libraries
def test_projections_beyond_float64_are_infinite(library):
    w = np.full(3, 1.7e308)
    with pytest.raises(ValueError, match="w is too long: its projections overflow float64"):
        infall.select_rows(w, 1000)
    selection = infall.select_rows(library.put(w), 1000)
    expected = infall.select_rows(w / 1024.0, 1000)
    assert_array_equal(library.values(selection.indices), expected.indices)
    assert_array_equal(
        library.values(selection.projections), np.copysign(np.inf, expected.projections)
    )


@both_libraries
def test_row_ranges_on_two_devices_merge_to_the_whole(library):
    w = vector(5)
    parts = [
        infall.select_rows(library.put(w, number), 10**10, row_range=pair)
        for number, pair in enumerate([(2**32 - 999, 2**32), (2**32, 2**32 + 1001)])
    ]
    whole = infall.select_rows(w, 10**10, row_range=(2**32 - 999, 2**32 + 1001))
    same(infall.merge_selections(parts), whole, library)
    same(parts[0].regenerate(library.put(w)), parts[0].regenerate(w), library)


@both_libraries
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint64, np.uint8])
def test_rows_are_those_of_the_cpu(library, dtype):
    indices = np.array([0, 1, 99, 3, 3], dtype)
    if dtype == np.uint64:
        indices[0] = 2**63 - 1
    expected = infall.gaussian_rows(indices, 7, seed=5, layer=2)
    for given in (indices, np.repeat(indices, 2)[::2]):
        rows = infall.gaussian_rows(library.put(given, 1), 7, seed=5, layer=2)
        assert_array_equal(library.values(rows, 1), expected)
    out = library.put(np.empty((5, 7), np.float32))
    assert infall.gaussian_rows(library.put(indices), 7, seed=5, layer=2, out=out) is out
    assert_array_equal(library.values(out), expected)
    assert library.values(infall.gaussian_rows(library.put(indices[:0]), 3)).shape == (0, 3)


@both_libraries
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int32])
@blocks_of(30)
def test_codes_and_distances_are_those_of_the_cpu(library, dtype):
    for dim in (1, 4, 7, 13):
        x = (vector(dim, 11) * 50).astype(dtype)
        x[:, 0] = 1
        for given in (x, np.asfortranarray(x), x[::2], x[3]):
            expected = infall.hyperplane_codes(given, 37, seed=3)
            codes = infall.hyperplane_codes(library.put(given), 37, seed=3)
            assert_array_equal(library.values(codes), expected)
        a, b = infall.hyperplane_codes(x, 37), infall.hyperplane_codes(x[:4], 37)
        distances = infall.hamming_distances(library.put(a), library.put(b.repeat(2, 0)[::2]))
        assert_array_equal(library.values(distances), infall.hamming_distances(a, b))


@both_libraries
def test_codes_at_the_ends_of_float64(library):
    x = vector(6, 5) * np.array([5e-324, 1e-310, 1.0, 1e300, 1e308])[:, None]
    x[0, 2] = 5e-324
    codes = infall.hyperplane_codes(library.put(x), 64)
    assert_array_equal(library.values(codes), infall.hyperplane_codes(x, 64))


@both_libraries
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_matrices_of_any_strides(library, dtype):
    matrix = vector(7, 300).astype(dtype)
    wide = matrix.astype(np.float32) if dtype == np.float16 else matrix
    variants = [matrix, np.asfortranarray(matrix), np.repeat(matrix, 2, 1)[:, ::2]]
    w = vector(7, 3)
    for score in ("absolute", "signed"):
        expected = infall.select_rows_from(w, wide, num_rows=11, score=score, order="score")
        for variant in (*variants, matrix[::-1][::-1]):
            selection = infall.select_rows_from(
                library.put(w), library.put(variant), num_rows=11, score=score, order="score"
            )
            assert_array_equal(library.values(selection.indices), expected.indices)
            assert_array_equal(library.values(selection.projections), expected.projections)
            assert_array_equal(library.values(selection.rows), matrix[expected.indices])
    alone = infall.select_rows_from(library.put(w[0]), library.put(matrix))
    assert alone.indices.shape == (7,)


def test_progress_is_reported_once_on_a_device():
    seen = []

    def progress(done, total, _):
        seen.append((done, total))

    x = CUPY.put(vector(4, 3))
    infall.select_rows(x, 1000, progress=progress)
    infall.select_rows_from(x, x, num_rows=2, progress=progress)
    infall.gaussian_rows(CUPY.put([1, 2]), 3, progress=progress)
    codes = infall.hyperplane_codes(x, 8, progress=progress)
    infall.hamming_distances(codes, codes, progress=progress)
    assert seen == [(1000, 1000), (3, 3), (2, 2), (24, 24), (3, 3)]


@both_libraries
def test_integer_matrices_are_converted(library):
    matrix, w = np.arange(-60, 60).reshape(20, 6), vector(6)
    selection = infall.select_rows_from(library.put(w), library.put(matrix))
    expected = infall.select_rows_from(w, matrix.astype(float))
    same(selection, expected, library)


@both_libraries
def test_no_vectors_give_no_results(library):
    nothing = library.put(np.empty((0, 5)))
    for sampler in ("stream", "rotated", "order_statistics"):
        selection = infall.select_rows(nothing, 100, num_rows=7, sampler=sampler)
        same(
            selection,
            infall.select_rows(np.empty((0, 5)), 100, num_rows=7, sampler=sampler),
            library,
        )
    selection = infall.select_rows_from(nothing, library.put(np.ones((20, 5), np.float32)))
    same(
        selection, infall.select_rows_from(np.empty((0, 5)), np.ones((20, 5), np.float32)), library
    )
    codes = infall.hyperplane_codes(nothing, 20)
    assert library.values(codes).shape == (0, 3)
    assert library.values(infall.hamming_distances(codes)).shape == (0, 0)
    assert library.values(infall.gaussian_rows(library.put(np.empty(0, int)), 5)).shape == (0, 5)
    model = infall.MaxLikelihood(100, 2).fit(vector(5))
    assert library.values(model.transform(nothing)).shape == (0, 5)
    assert library.values(model.angles(nothing, layer=None)).shape == (3, 0)


@both_libraries
def test_a_single_code_has_no_axis_in_the_distances(library):
    codes = infall.hyperplane_codes(vector(4, 3), 20)
    expected = infall.hamming_distances(codes)
    there = library.put(codes)
    assert_array_equal(library.values(infall.hamming_distances(there)), expected)
    distances = infall.hamming_distances(library.put(codes[1]), there)
    assert_array_equal(library.values(distances), expected[1])
    distances = infall.hamming_distances(there, library.put(codes[1]))
    assert_array_equal(library.values(distances), expected[:, 1])


@both_libraries
def test_selections_on_a_device_are_saved_and_compared(library, tmp_path):
    w = vector(5, 3)
    w[1] = 0.0  # without a direction: rows -1
    selection = infall.select_rows(library.put(w), 900, num_rows=4)
    selection.save(tmp_path / "selection")
    loaded = infall.RowSelection.load(tmp_path / "selection")
    assert isinstance(loaded.rows, np.ndarray)
    assert loaded == selection
    assert_array_equal(loaded.indices[1], -1)
    direct = infall.select_rows(vector(5), 900)
    assert infall.select_rows(library.put(vector(5)), 900) == direct
    assert infall.select_rows(library.put(-vector(5)), 900) != direct


# Arrays of other libraries ------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("stream", [None, 1, 2, 0x77, 0x1001])
def test_a_foreign_array_makes_the_current_stream_wait_for_its_own(version, stream):
    w = vector(6)
    interface = {"version": version} | ({"stream": stream} if version == 3 else {})
    selection = infall.select_rows(Foreign(w, 1, **interface), 2000)
    same(selection, infall.select_rows(w, 2000), CUPY, 1)
    current = fake_device.current_streams[1]
    waits = [] if version == 2 or stream in (None, current) else [(current, stream)]
    assert fake_device.waits == waits


def test_the_default_stream_does_not_wait_for_itself(monkeypatch):
    monkeypatch.setitem(fake_device.current_streams, 0, 0)
    infall.gaussian_rows(Foreign(np.arange(5), stream=1), 3)
    assert fake_device.waits == []
    infall.gaussian_rows(Foreign(np.arange(5), stream=2), 3)
    assert fake_device.waits == [(0, 2)]
    assert fake_device.calls == [("gaussian_rows", 0, 0)] * 2


def test_foreign_strides_and_dlpack():
    indices = np.arange(40)[::-3]
    expected = infall.gaussian_rows(indices, 5)
    assert_array_equal(CUPY.values(infall.gaussian_rows(DLPackOnly(indices), 5)), expected)
    indices = np.arange(40)[::3]
    expected = infall.gaussian_rows(indices, 5)
    assert_array_equal(CUPY.values(infall.gaussian_rows(Foreign(indices), 5)), expected)


def test_results_go_back_to_a_library_of_the_array_standard():
    class Exchanged:
        def __init__(self, array, narrow):
            self.array, self.dtype = array, "float16" if narrow else array.dtype

    class Standard(DLPackOnly):
        narrow = False

        def __array_namespace__(self):
            return types.SimpleNamespace(from_dlpack=lambda a: Exchanged(a, self.narrow))

    indices = Standard(np.arange(3), 1)
    rows = infall.gaussian_rows(indices, 5)
    assert_array_equal(CUPY.values(rows.array, 1), infall.gaussian_rows(np.arange(3), 5))
    indices.narrow = True  # a library that would round: CuPy's array instead
    rows = infall.gaussian_rows(indices, 5)
    assert_array_equal(CUPY.values(rows, 1), infall.gaussian_rows(np.arange(3), 5))


def test_tensors_that_require_a_gradient_are_refused(monkeypatch):
    w = TORCH.put(vector(3))
    w.requires_grad = True
    with pytest.raises(TypeError, match="w requires a gradient"):
        infall.select_rows(w, 100)
    monkeypatch.setattr(sys.modules["torch"], "is_grad_enabled", lambda: False)
    infall.select_rows(w, 100)


def test_unreadable_arrays_are_refused_by_name(monkeypatch):
    for bad, why in (({"version": 1}, "version 1"), ({"mask": object()}, "masked arrays")):
        with pytest.raises(TypeError, match=f"w is a .*Foreign that cannot be read: .*{why}"):
            infall.select_rows(Foreign(vector(3), **bad), 100)
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(TypeError, match=r"w is a .*Foreign in CUDA memory; expected a CuPy array"):
        infall.select_rows(Foreign(vector(3)), 100)


# Errors -------------------------------------------------------------------------------------------


@both_libraries
def test_errors_are_those_of_the_cpu(library):
    cases = [
        (infall.select_rows, (vector(5, 300)[:, :0], 100)),
        (infall.select_rows_from, (vector(3), np.ones((3, 3), complex))),
        (infall.select_rows, (vector(5), 4)),
        (infall.select_rows, (np.zeros((2, 2, 2)), 100)),
        (infall.select_rows, (np.ones(3, complex), 100)),
        (infall.select_rows_from, (vector(3), np.ones(3, np.float32))),
        (infall.select_rows_from, (vector(3), np.ones((3, 0), np.float32))),
        (infall.select_rows_from, (vector(3), np.ones((3, 2), np.float32))),
        (infall.hyperplane_codes, (np.ones(3, complex), 8)),
        (infall.hyperplane_codes, (np.ones((3, 0)), 8)),
        *((infall.gaussian_rows, (np.array(i), 3)) for i in ([1.5], [[1]], [True])),
        (infall.hamming_distances, (np.ones((2, 2)), np.ones((2, 2), np.uint8))),
        (infall.hamming_distances, (np.ones((2, 2), np.uint8), np.ones((2, 3), np.uint8))),
        (infall.hamming_distances, (np.ones(2, np.uint8), np.ones((2, 3), np.uint8))),
    ]
    for function, arguments in cases:
        with pytest.raises((TypeError, ValueError)) as host:
            function(*arguments)
        moved = [library.put(a) if isinstance(a, np.ndarray) else a for a in arguments]
        with pytest.raises(host.type) as raised:
            function(*moved)
        assert str(raised.value) == str(host.value)
    assert fake_device.calls == []
    with pytest.raises(TypeError, match="weights has dtype complex128; expected real numbers"):
        infall.select_rows_from(library.put(vector(2)), library.put(np.ones((3, 2), complex)))


def test_arguments_in_different_places_are_refused():
    matrix, w = vector(3, 9), vector(3)
    message = r"weights is in {}, w in {}; expected both in one place"
    memory = "memory of cuda:{} held by {}"
    for weights, given_w, first_place, second_place in (
        (CUPY.put(matrix), w, "host memory", memory.format(0, "cupy")),
        (matrix, CUPY.put(w), memory.format(0, "cupy"), "host memory"),
        (CUPY.put(matrix), CUPY.put(w, 1), memory.format(1, "cupy"), memory.format(0, "cupy")),
        (CUPY.put(matrix), TORCH.put(w), memory.format(0, "torch"), memory.format(0, "cupy")),
    ):
        with pytest.raises(TypeError, match=message.format(second_place, first_place)):
            infall.select_rows_from(given_w, weights)
    codes = np.ones((2, 2), np.uint8)
    with pytest.raises(TypeError, match="b is in host memory, a in memory of cuda:1"):
        infall.hamming_distances(CUPY.put(codes, 1), codes)


@both_libraries
def test_out_is_checked(library):
    indices = library.put([1, 2])
    for out, message in (
        (np.empty((2, 3), np.float32), "out is in host memory, indices in memory of cuda:0"),
        (library.put(np.empty((2, 3), np.float32), 1), "out is in memory of cuda:1"),
        (library.put(np.empty((2, 3))), "out is of dtype float64; expected a float32 array"),
    ):
        with pytest.raises(TypeError, match=message):
            infall.gaussian_rows(indices, 3, out=out)
    for shape, order, message in (
        ((3, 2), "C", r"out has shape \(3, 2\); expected \(2, 3\)"),
        ((2, 3), "F", "out is not C-contiguous"),
    ):
        out = library.put(np.empty(shape, np.float32, order=order))
        with pytest.raises(ValueError, match=message):
            infall.gaussian_rows(indices, 3, out=out)


@pytest.mark.parametrize("make", [CUPY.put, TORCH.put, Foreign, DLPackOnly])
def test_a_build_without_kernels_says_how_to_build_them(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "infall._cuda", None)
    for call in (
        lambda: infall.select_rows(make(vector(3)), 100),
        lambda: infall.MaxLikelihood(100, 1).fit(make(vector(3))),
        lambda: infall.hyperplane_codes(make(vector(3)), 8),
    ):
        with pytest.raises(
            RuntimeError, match=r"is a .* in device memory, .*no CUDA kernels .*INFALL_CUDA=ON pip"
        ):
            call()
    with pytest.raises(RuntimeError, match="device names a CUDA device, but this build"):
        infall.MaxLikelihood(100, 1, device="cuda").fit(vector(3))


def test_importing_and_host_arrays_import_no_array_library():
    program = (
        "import sys, numpy, infall; infall.select_rows(numpy.ones(3), 100); "
        "infall.MaxLikelihood(100, 1).fit(numpy.ones(3)).angles(numpy.ones(3)); "
        "print(*(name in sys.modules for name in ('cupy', 'torch', 'infall._cuda')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False"] * 3


# MaxLikelihood ------------------------------------------------------------------------------------


@both_libraries
def test_models_fitted_on_a_device_are_those_of_the_cpu(library):
    w = vector(6)
    expected = infall.MaxLikelihood(3000, 3, seed=4).fit(w)
    for device, given, number in (
        (None, library.put(w, 1), 1),
        ("cuda", library.put(w), 0),
        ("cuda:1", library.put(w), 1),
        ("cpu", library.put(w, 1), None),
    ):
        fake_device.calls.clear()
        model = infall.MaxLikelihood(3000, 3, seed=4, device=device).fit(given)
        assert model == expected
        assert {call[1] for call in fake_device.calls} == ({number} - {None})
        assert isinstance(model.layers_, np.ndarray)
    infall.MaxLikelihood(3000, 3, device="cuda:1").fit(w)
    assert fake_device.calls


@both_libraries
@pytest.mark.parametrize("shape", [(6,), (1, 6), (25, 6)])
@pytest.mark.parametrize("layer", [None, 0, 2, -1])
@blocks_of(48)
def test_vectors_go_through_the_layers_where_they_live(library, shape, layer):
    model = infall.MaxLikelihood(3000, 3, seed=4).fit(vector(6))
    x = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    for measure in (model.transform, model.angle_scores, model.loss, model.nll):
        actual = library.values(measure(library.put(x, 1), layer), 1)
        expected = measure(x, layer)
        assert np.shape(actual) == np.shape(expected)
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)
    for actual, expected in zip(
        model.pole_distances(library.put(x), layer), model.pole_distances(x, layer), strict=True
    ):
        np.testing.assert_allclose(library.values(actual), expected, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="X has 5 columns; expected 6"):
        model.angle_scores(library.put(np.ones(5)))


def test_names_of_devices_are_checked(monkeypatch):
    for bad in ("gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "CUDA"):
        with pytest.raises(ValueError, match=r"device is .*; expected 'cpu', 'cuda' or a name"):
            infall.MaxLikelihood(10, 1, device=bad)
    with pytest.raises(TypeError, match="device is 1; expected"):
        infall.MaxLikelihood(10, 1, device=1)
    with pytest.raises(ValueError, match="device is 'cuda:2'; there are 2 CUDA devices"):
        infall.MaxLikelihood(10, 1, device="cuda:2").fit(vector(3))
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(TypeError, match="device is 'cuda', but CuPy, which holds its arrays"):
        infall.MaxLikelihood(10, 1, device="cuda").fit(vector(3))


def test_info_says_why_cuda_is_off(monkeypatch):
    from infall import cli

    assert cli.info._cuda() == "built for 90; devices: 2"

    def no_driver():
        raise RuntimeError("CUDA: CUDA driver version is insufficient for CUDA runtime version")

    monkeypatch.setattr(sys.modules["infall._cuda"], "device_count", no_driver)
    assert cli.info._cuda() == "built for 90, but off: no NVIDIA driver was found, and so no GPU"
    monkeypatch.delitem(sys.modules, "infall._cuda")
    monkeypatch.delattr(infall, "_cuda")
    if _core.without_cuda:
        assert cli.info._cuda() == f"not built: {_core.without_cuda}; build with INFALL_CUDA=ON"
    else:
        assert cli.info._cuda().startswith("built for ")
    assert _core.isa()
