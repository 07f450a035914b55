"""Arrays of any library as NumPy arrays, and results back as arrays of that library."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall._arrays.checks import kind_of


class ExchangedArray(Protocol):
    """An array of another library, in host or device memory."""

    def __dlpack__(self, **options: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, Any]: ...


AnyArray = ArrayLike | ExchangedArray
Labels = AnyArray | Sequence[Hashable]

# DLPack device types in host memory: the CPU's, and page-locked for CUDA.
DLPACK_HOST = (1, 3)


def to_numpy(array: Any, name: str) -> NDArray[Any]:
    """Return a plain host array, without copying where the library allows it.

    NumPy arrays, sequences of numbers, data frames, PyTorch CPU tensors, JAX arrays and any array
    that speaks DLPack from host memory are taken, in any layout and byte order. bfloat16, which
    NumPy does not have, is widened to float32.

    Raises TypeError for device memory, masked arrays, tensors that require a gradient, ragged
    sequences and dtypes that are not real numbers.
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
