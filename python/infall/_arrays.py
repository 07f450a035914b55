"""Arrays of any library in, arrays of the same library out, and the checks all modules share."""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from infall import _core

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

# Called as progress(done, total, stage); stage says in a few words what is being done. What it
# raises stops the call.
Progress = Callable[[int, int, str], object]

MAX_ROWS = 2**63
MAX_SEED = 2**64
MAX_LAYER = 2**32
MAX_DIM = 2**32

_BLOCK_ENTRIES = 2**20  # numbers of a block of vectors: 8 MiB as float64

# DLPack device types in host memory: the CPU's, and page-locked for CUDA.
DLPACK_HOST = (1, 3)


def standard_floats(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Have NumPy round to nearest and keep subnormal numbers in `function`, as the kernels do.

    A caller's thread may be set otherwise: torch.set_flush_denormal and libraries that are linked
    with -ffast-math do so.
    """

    @functools.wraps(function)
    def standard(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        with _core.FloatEnvironment():
            return function(*args, **kwargs)

    return standard


def to_numpy(array: Any, name: str) -> NDArray[Any]:
    """Return a plain host array, without copying where the library allows it.

    NumPy arrays, sequences of numbers, data frames, PyTorch CPU tensors, JAX arrays and any array
    that speaks DLPack from host memory are taken, in any layout and byte order. bfloat16, which
    NumPy does not have, is widened to float32.

    Raises
    ------
    TypeError
        For device memory, masked arrays, tensors that require a gradient, ragged sequences and
        dtypes that are not real numbers.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill it first: masks are not looked at")
    if isinstance(array, np.ndarray):
        result = np.asarray(array)  # of a subclass, the plain array
    elif is_torch(array):
        result = _of_torch(array, name)
    elif hasattr(array, "__dlpack__") and not isinstance(array, np.generic):
        result = _from_dlpack(array, name)
    else:
        try:
            result = np.asarray(array)
        except (ValueError, TypeError, RuntimeError) as error:
            raise TypeError(f"{name} is not an array: {error}") from None
    if result.dtype.kind not in "fiub":
        if result.dtype.name == "bfloat16":
            return widened(result.view(np.uint16))
        raise TypeError(
            f"{name} has dtype {result.dtype}; expected real numbers (floating point or integer)"
        )
    return result


def widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return bfloat16 numbers, given by their bits, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def is_torch(array: Any) -> bool:
    """Whether it is a PyTorch tensor; does not import PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def refuse_gradient(array: Any, name: str) -> None:
    """Raise TypeError for a tensor whose gradient would be lost."""
    if is_torch(array) and array.requires_grad and sys.modules["torch"].is_grad_enabled():
        raise TypeError(
            f"{name} requires a gradient, which this function does not propagate; pass "
            f"{name}.detach(), or call it under torch.no_grad()"
        )


def _of_torch(tensor: Any, name: str) -> NDArray[Any]:
    refuse_gradient(tensor, name)
    if tensor.device.type != "cpu":
        raise TypeError(
            f"{name} is a {kind_of(tensor)} in device memory ({tensor.device}); copy it to the "
            "host first"
        )
    torch = sys.modules["torch"]
    try:
        plain = tensor.detach().resolve_neg()
        if tensor.dtype == torch.bfloat16:
            return widened(plain.view(torch.int16).numpy().view(np.uint16))
        array: NDArray[Any] = plain.numpy()
    except (RuntimeError, TypeError) as error:
        raise TypeError(f"{name} is a {kind_of(tensor)} that cannot be read: {error}") from None
    return array


def _from_dlpack(array: Any, name: str) -> NDArray[Any]:
    try:
        device, _ = array.__dlpack_device__()
        if int(device) in DLPACK_HOST:
            # NumPy has no bfloat16; that of other libraries is ml_dtypes'.
            is_bfloat16 = str(getattr(array, "dtype", "")) == "bfloat16"
            return np.asarray(array) if is_bfloat16 else np.from_dlpack(array)
    except (RuntimeError, BufferError, TypeError, ValueError, AttributeError) as error:
        raise TypeError(f"{name} is a {kind_of(array)} that cannot be read: {error}") from None
    raise TypeError(f"{name} is a {kind_of(array)} in device memory; copy it to the host first")


def kind_of(array: Any) -> str:
    """Return the full name of an object's class, for messages."""
    return f"{type(array).__module__}.{type(array).__name__}"


def like(result: Any, original: Any) -> Any:
    """Return `result` as an array of the library that `original` came from.

    A library that does not hold its dtype (JAX as it is set up by default, which makes int32 of
    int64, and PyTorch for longdouble) is given NumPy's array: no number is wrapped or rounded.
    """
    if isinstance(original, (np.ndarray, np.generic)) or not hasattr(original, "__dlpack__"):
        return result
    if is_torch(original):
        try:
            return sys.modules["torch"].from_numpy(np.asarray(result))
        except TypeError:
            return result
    if hasattr(original, "__array_namespace__"):
        return exchanged(np.asarray(result), original.__array_namespace__())
    return result


def exchanged(array: Any, namespace: Any) -> Any:
    """Return an array as one of another library, or itself if its dtype would not survive."""
    converted = namespace.from_dlpack(array)
    return converted if str(converted.dtype) == str(array.dtype) else array


def vectors(array: Any, name: str, *, dim: int | None = None) -> tuple[NDArray[np.float64], bool]:
    """Return finite float64 vectors of shape (B, k), and whether there was a batch axis.

    They are a copy; large sets of vectors go through `vector_blocks`.

    Raises
    ------
    TypeError
        As `to_numpy`.
    ValueError
        For another number of axes than 1 or 2, vectors of length 0, another length than `dim`, and
        NaN or infinity, with the first position. There may be no vectors: shape (0, k).
    """
    found, batched = _two_axes(array, name, dim)
    return _finite_block(found, 0, len(found), name, batched), batched


def vector_blocks(
    array: Any, name: str, *, dim: int | None = None
) -> tuple[Iterator[tuple[int, NDArray[np.float64]]], int, int, bool]:
    """Return finite float64 vectors block by block, so that no large array is copied whole.

    Returns
    -------
    blocks : iterator of (int, float64 array)
        First row of each block, and the block (b, k).
    num_vectors, dim : int
        Of all of them.
    batched : bool
        Whether there was a batch axis.

    Raises
    ------
    TypeError, ValueError
        As `vectors`; for NaN and infinity while iterating.
    """
    found, batched = _two_axes(array, name, dim)
    step = max(1, _BLOCK_ENTRIES // found.shape[1])
    blocks = (
        (first, _finite_block(found, first, first + step, name, batched))
        for first in range(0, len(found), step)
    )
    return blocks, *found.shape, batched


def _two_axes(array: Any, name: str, dim: int | None) -> tuple[NDArray[Any], bool]:
    found = to_numpy(array, name)
    batched = check_two_axes(found.shape, name, dim)
    return np.atleast_2d(found), batched


def check_two_axes(shape: tuple[int, ...], name: str, dim: int | None) -> bool:
    """Return whether vectors of shape (k,) or (B, k) have a batch axis.

    Raises
    ------
    ValueError
        As `vectors`, but for the values.
    """
    if len(shape) not in (1, 2):
        raise ValueError(f"{name} has {len(shape)} axes; expected shape (k,) or (B, k)")
    if shape[-1] == 0:
        raise ValueError(f"{name} has vectors of length 0: shape {shape}")
    if shape[-1] >= MAX_DIM:
        raise ValueError(f"{name} has {shape[-1]} columns; the limit is 2**32 - 1")
    if dim is not None and shape[-1] != dim:
        raise ValueError(f"{name} has {shape[-1]} columns; expected {dim}")
    return len(shape) == 2


def _finite_block(
    found: NDArray[Any], first: int, last: int, name: str, batched: bool
) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # of wider types: what is infinite then is refused
        values = np.array(found[first:last], dtype=np.float64, order="C")
    if batched:
        check_finite(values, name, first_row=first)
    else:
        check_finite(values[0], name)
    return values


def check_finite(values: NDArray[Any], name: str, *, first_row: int = 0) -> None:
    """Raise ValueError that names the first position of NaN or infinity, if there is one."""
    finite = np.isfinite(values)
    if not finite.all():
        position = tuple(int(i) for i in np.unravel_index(np.argmin(finite), values.shape))
        shifted = (position[0] + first_row, *position[1:])
        where = shifted[0] if len(shifted) == 1 else shifted
        raise ValueError(f"{name} is not finite: {values[position]} at position {where}")


def unit_vectors(
    values: NDArray[np.float64], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Split (B, k) vectors into directions and norms fraction * 2**exponent, each (B,).

    The sum of squares is rounded once, for all practical purposes (twice the digits of binary64,
    in an order that is the same on every machine); scaling by a power of two keeps it so for the
    largest and smallest numbers.

    Raises
    ------
    ValueError
        For a zero vector.
    """
    directions, norms, exponents = _core.unit_vectors(values)
    zero = np.isnan(norms)
    if zero.any():
        which = name if len(norms) == 1 else f"{name}[{int(np.argmax(zero))}]"
        raise ValueError(f"{which} is zero: it has no direction")
    return directions, norms, exponents


def largest_magnitudes(
    values: NDArray[np.float64], name: str, first_row: int, batched: bool
) -> NDArray[np.float64]:
    """Return the largest magnitude of each of (N, k) vectors, a block from `first_row` on.

    Raises
    ------
    ValueError
        For a zero vector.
    """
    largest: NDArray[np.float64] = np.abs(values).max(axis=1)
    if not largest.all():
        which = f"{name}[{first_row + int(np.argmin(largest))}]" if batched else name
        raise ValueError(f"{which} is zero: it has no direction")
    return largest


def normalised(
    values: NDArray[np.float64], name: str, first_row: int, batched: bool
) -> NDArray[np.float64]:
    """Return (N, k) vectors with length one, to rounding; `unit_vectors` is exact, and slower.

    Raises
    ------
    ValueError
        For a zero vector.
    """
    largest = largest_magnitudes(values, name, first_row, batched)
    scaled: NDArray[np.float64] = np.ldexp(values, -np.frexp(largest)[1][:, None])
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled


def padded_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (B, k) values as float32 with zero columns up to a multiple of four."""
    batch, dim = values.shape
    padded = np.zeros((batch, -(-dim // 4) * 4), dtype=np.float32)
    padded[:, :dim] = values
    return padded


def integer(value: Any, name: str, low: int, high: int, high_text: str | None = None) -> int:
    """Return `value` as an int in [low, high).

    Raises
    ------
    TypeError
        If it is not an integer (True and False are not, nor is 3.0).
    ValueError
        If it lies outside.
    """
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected an integer") from None
    if not low <= number < high:
        top = high_text or str(high)
        raise ValueError(f"{name} is {number}; expected {low} <= {name} < {top}")
    return number


def row_count(value: Any, name: str) -> int:
    """Return a number of rows, at least 1.

    Raises
    ------
    OverflowError
        Past 2**63 - 1, where row indices no longer fit.
    """
    number = integer(value, name, 1, 2**4096, "2**63")
    if number >= MAX_ROWS:
        raise OverflowError(f"{name} is {number}; rows are numbered below 2**63")
    return number


def seed_and_layer(seed: Any, layer: Any) -> tuple[int, int]:
    """Return the checked seed and layer number."""
    return (
        integer(seed, "seed", 0, MAX_SEED, "2**64"),
        integer(layer, "layer", 0, MAX_LAYER, "2**32"),
    )


def one_of(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    return value


def watch_of(
    progress: Progress | None, total: int, stage: str, *, done_before: int = 0
) -> Callable[[int], object] | None:
    """Return what a kernel calls with what it has done, or None.

    Raises
    ------
    TypeError
        If `progress` cannot be called.
    """
    if progress is None:
        return None
    if not callable(progress):
        raise TypeError(f"progress is {progress!r}; expected a callable")
    return lambda done: progress(done_before + done, total, stage)
