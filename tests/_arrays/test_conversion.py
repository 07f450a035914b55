"""Arrays of any library, layout and dtype come in, and no result is wrapped on the way out."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import infall

W = np.array([1.0, -2.0, 3.0, 0.5, 4.0])
EXPECTED = infall.select_rows(W, 1000)
BATCH = np.arange(1.0, 13.0).reshape(4, 3)


def layouts(array):
    """The same numbers in other layouts, byte orders and classes."""
    spread = np.zeros((2 * array.shape[0], 3 * array.shape[1]), array.dtype)
    spread[::2, ::3] = array
    read_only = array.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:].view(array.dtype)
    return {
        "fortran": np.asfortranarray(array),
        "reversed": array[::-1, ::-1].copy()[::-1, ::-1],
        "strided": spread[::2, ::3],
        "big endian": array.astype(array.dtype.newbyteorder(">")),
        "read-only": read_only,
        "unaligned": unaligned.reshape(array.shape),
        "matrix": array.view(np.matrix),
        "list": array.tolist(),
    }


@pytest.mark.parametrize("layout", layouts(BATCH))
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_layout_does_not_matter(layout):
    array = layouts(BATCH)[layout]
    whole = infall.select_rows(BATCH, 200)
    assert_array_equal(infall.select_rows(array, 200).rows, whole.rows)
    assert_array_equal(infall.hyperplane_codes(array, 40), infall.hyperplane_codes(BATCH, 40))
    model = infall.MaxLikelihood(50, 2).fit(BATCH[0])
    assert_array_equal(model.transform(array), model.transform(BATCH))


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "longdouble", "int8", "uint16", "int64", "uint64", "bool"]
)
def test_dtype_does_not_matter(dtype):
    w = np.array([1, 0, 1, 1, 0]).astype(dtype)
    expected = infall.select_rows(w.astype(np.float64), 100)
    assert_array_equal(infall.select_rows(w, 100).rows, expected.rows)


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [
        (np.ma.array([1.0, 2.0], mask=[0, 1]), TypeError, "w is a masked array"),
        (np.ma.array([[1.0], [2.0]]).T, TypeError, "w is a masked array"),
        (np.ones(2) + 1j, TypeError, "w has dtype complex128"),
        (np.array(["2020-01-01"], "M8[D]"), TypeError, r"w has dtype datetime64\[D\]"),
        (np.array([1, None]), TypeError, "w has dtype object"),
        ({1: 2}, TypeError, "w has dtype object"),
        (None, TypeError, "w has dtype object"),
    ],
)
def test_what_is_not_an_array_of_real_numbers_is_refused(bad, error, text):
    with pytest.raises(error, match=text):
        infall.select_rows(bad, 100)


def test_wider_numbers_past_float64_are_not_finite():
    if np.finfo(np.longdouble).maxexp == np.finfo(np.float64).maxexp:
        pytest.skip("this machine has no wider floating point than float64")
    w = np.array([1.0, np.longdouble("1e4000")])
    with pytest.raises(ValueError, match="w is not finite: inf at position 1"):
        infall.select_rows(w, 100)


# JAX ----------------------------------------------------------------------------------------------


@pytest.fixture
def jnp():
    return pytest.importorskip("jax.numpy", reason="JAX is not installed")


def test_jax_gets_numpy_where_it_would_wrap_or_round(jnp):
    """With its default of 32 bits JAX makes int32 of int64 and float32 of float64."""
    w = jnp.asarray(W, dtype=jnp.float32)
    selection = infall.select_rows(w, 2**45, sampler="order_statistics")
    expected = infall.select_rows(W, 2**45, sampler="order_statistics")
    assert expected.indices.max() > 2**32
    for name in ("indices", "projections"):
        assert isinstance(getattr(selection, name), np.ndarray)
        assert_array_equal(getattr(selection, name), getattr(expected, name))
    assert isinstance(selection.rows, type(w))
    assert_array_equal(np.asarray(selection.rows), expected.rows)


def test_jax_with_64_bits_gets_its_own_arrays(jnp):
    import jax

    with jax.enable_x64(True):
        selection = infall.select_rows(jnp.asarray(W), 1000)
        assert all(
            isinstance(array, jnp.ndarray)
            for array in (selection.indices, selection.projections, selection.rows)
        )
        assert_array_equal(np.asarray(selection.indices), EXPECTED.indices)
        assert str(selection.indices.dtype) == "int64"


def test_jax_bfloat16_is_read(jnp):
    assert_array_equal(
        infall.select_rows(jnp.asarray(W, dtype=jnp.bfloat16), 1000).rows, EXPECTED.rows
    )


def test_what_jax_traces_is_refused_by_name(jnp):
    import jax

    with pytest.raises(TypeError, match=r"w is a jax.*Tracer that cannot be read"):
        jax.jit(lambda w: infall.select_rows(w, 100).rows)(jnp.ones(3))


# PyTorch and others -------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def test_torch_bfloat16_and_views(torch):
    w = torch.tensor(W, dtype=torch.bfloat16)
    for same in (w, w.repeat_interleave(2)[::2], torch._neg_view(-w)):
        selection = infall.select_rows(same, 1000)
        assert isinstance(selection.indices, torch.Tensor)
        assert_array_equal(selection.rows.numpy(), EXPECTED.rows)


def test_a_gradient_is_refused_and_not_cut(torch):
    w = torch.tensor(W, requires_grad=True)
    for needs_one in (w, w * 2.0, w.bfloat16()):
        with pytest.raises(TypeError, match=r"w requires a gradient, .* pass w.detach\(\)"):
            infall.select_rows(needs_one, 1000)
    with pytest.raises(TypeError, match=r"w is not an array: .*requires grad"):
        infall.select_rows([w[0], w[1]], 1000)
    with torch.no_grad():
        assert_array_equal(infall.select_rows(w, 1000).rows.numpy(), EXPECTED.rows)
    assert_array_equal(infall.select_rows(w.detach(), 1000).rows.numpy(), EXPECTED.rows)


def test_tensors_without_numbers_at_hand_are_refused(torch):
    for bad, text in (
        (torch.ones(3, device="meta"), r"w is a torch.Tensor in device memory \(meta\)"),
        (torch.ones(3).to_sparse(), "w is a torch.Tensor that cannot be read"),
        (torch.ones(3, dtype=torch.complex64), "w has dtype complex64"),
    ):
        with pytest.raises(TypeError, match=text):
            infall.select_rows(bad, 100)


def test_bfloat16_of_ml_dtypes_is_read():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    assert_array_equal(infall.select_rows(W.astype(ml_dtypes.bfloat16), 1000).rows, EXPECTED.rows)


def test_data_frames_are_read():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    assert_array_equal(infall.select_rows(pandas.Series(W), 1000).rows, EXPECTED.rows)
    frame = pandas.DataFrame(BATCH)
    assert_array_equal(
        infall.select_rows(frame, 200).indices, infall.select_rows(BATCH, 200).indices
    )
    with pytest.raises(ValueError, match="w is not finite: nan at position 1"):
        infall.select_rows(pandas.Series([1, None, 3], dtype="Int64"), 100)
