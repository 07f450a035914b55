"""Feature matrices as the kernels read them: any floating dtype, in place."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays import MAX_DIM, refuse_gradient, to_numpy, widened

_DTYPES = ("float16", "float32", "float64")


def feature_rows(array: Any, name: str, *, dim: int | None = None) -> NDArray[Any]:
    """Return (N, d) features without a copy; bfloat16 comes as uint16, which is nothing else here.

    NumPy arrays, memory maps, sequences of numbers, and CPU tensors and arrays of other libraries
    are taken; bfloat16 from PyTorch and from ml_dtypes.

    Raises
    ------
    TypeError
        For another dtype or byte order, and memory of a device.
    ValueError
        For another shape than (N, d), and rows that are not in one piece.
    """
    found = _bfloat16_bits(array, name)
    if found is None:
        found = to_numpy(array, name)
        if found.dtype.name not in _DTYPES or not found.dtype.isnative:
            raise TypeError(
                f"{name} has dtype {found.dtype}; expected float16, bfloat16, float32 or float64 "
                "in the byte order of the machine"
            )
    if found.ndim != 2:
        raise ValueError(f"{name} has {found.ndim} axes; expected shape (N, d)")
    if found.shape[1] == 0 or found.shape[1] >= MAX_DIM:
        raise ValueError(f"{name} has {found.shape[1]} columns; expected 1 to 2**32 - 1")
    if dim is not None and found.shape[1] != dim:
        raise ValueError(f"{name} has {found.shape[1]} columns; expected {dim}")
    if len(found) == 0:
        return found
    in_one_piece = found.shape[1] == 1 or found.strides[1] == found.itemsize
    if not in_one_piece or found.strides[0] % found.itemsize or not found.flags.aligned:
        raise ValueError(
            f"{name} has strides {found.strides}: its rows are not in one piece; pass "
            f"np.ascontiguousarray({name}), whole or block by block"
        )
    return found


def refuse_nonfinite(rows: NDArray[Any], name: str, num_threads: int) -> None:
    """Raise ValueError that names the first position of NaN or infinity, if there is one."""
    sample = int(_core.first_nonfinite(rows, num_threads))
    if sample >= 0:
        values = float32_of(rows[sample : sample + 1])[0]
        column = int(np.argmin(np.isfinite(values)))
        raise ValueError(f"{name} is not finite: {values[column]} at position {(sample, column)}")


def float32_of(rows: NDArray[Any]) -> NDArray[Any]:
    """Return features as NumPy numbers: bfloat16 widened to float32, others as they are."""
    if rows.dtype == np.uint16:
        return widened(rows)
    return rows


def _bfloat16_bits(array: Any, name: str) -> NDArray[Any] | None:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        if array.dtype == torch.bfloat16 and array.device.type == "cpu":
            refuse_gradient(array, name)
            bits: NDArray[Any] = array.detach().view(torch.int16).numpy().view(np.uint16)
            return bits
        return None
    if isinstance(array, np.ndarray) and array.dtype.name == "bfloat16":
        return array.view(np.uint16)
    return None
