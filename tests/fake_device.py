"""Two array libraries and a compiled module that take host memory for a CUDA device's.

What is held against the package here is its own part: whose array it is, pointers, strides, dtypes,
streams, devices and errors. The kernels are the CPU's, over the bytes the pointers name, so that
results must be the CPU's bit for bit.
"""

import ctypes
import itertools
import types

import numpy as np

from infall import _core

current_device = [0]
current_streams = {0: 0x1000, 1: 0x1001}
waits = []  # (stream that waits, stream waited for)
calls = []  # (kernel, device, stream)


class _DeviceContext:
    def __init__(self, number=None):
        self.number = self.id = current_device[-1] if number is None else number

    def __enter__(self):
        current_device.append(self.number)

    def __exit__(self, *_):
        current_device.pop()


class Array(np.lib.mixins.NDArrayOperatorsMixin):
    """What CuPy arrays and PyTorch tensors have in common, over host memory."""

    def __init__(self, values, number=None):
        self._values = values
        self._number = current_device[-1] if number is None else number

    def _like(self, values):
        return type(self)(values, self._number)

    def __array__(self, *_, **__):
        raise TypeError("implicit conversion to a host array is not allowed")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        assert method == "__call__"
        for operand in inputs:
            # Scalars aside, a device computes with its own arrays only, where it is current.
            assert np.isscalar(operand) or operand._number == self._number == current_device[-1]
        values = [i._values if isinstance(i, Array) else i for i in inputs]
        if out is not None:
            options["out"] = tuple(o._values for o in out)
        with np.errstate(all="ignore"):  # devices do not warn
            found = ufunc(*values, **options)
        return tuple(map(self._like, found)) if isinstance(found, tuple) else self._like(found)

    def __getitem__(self, index):
        if isinstance(index, Array):
            index = index._values
        return self._like(self._values[index])

    def __setitem__(self, index, value):
        self._values[index] = value._values if isinstance(value, Array) else value

    def __len__(self):
        return len(self._values)

    def __bool__(self):
        return bool(self._values)

    def all(self):
        return self._like(self._values.all())

    def any(self):
        return self._like(self._values.any())

    def reshape(self, *shape):
        return self._like(self._values.reshape(*shape))

    def view(self, dtype):
        return self._like(self._values.view(np.dtype(dtype)))

    shape = property(lambda self: self._values.shape)
    ndim = property(lambda self: self._values.ndim)
    T = property(lambda self: self._like(self._values.T))


class CuPyArray(Array):
    dtype = property(lambda self: self._values.dtype)
    strides = property(lambda self: self._values.strides)
    itemsize = property(lambda self: self._values.itemsize)
    flags = property(lambda self: self._values.flags)
    device = property(lambda self: types.SimpleNamespace(id=self._number))
    data = property(lambda self: types.SimpleNamespace(ptr=self._values.ctypes.data))

    def astype(self, dtype, copy=True):
        return self._like(self._values.astype(dtype, copy=copy))


class Tensor(Array):
    is_cuda = True
    device = property(lambda self: types.SimpleNamespace(index=self._number, type="cuda"))
    dtype = property(lambda self: f"torch.{self._values.dtype.name}")

    def detach(self):
        return self

    def data_ptr(self):
        return self._values.ctypes.data

    def stride(self):
        return tuple(step // self._values.itemsize for step in self._values.strides)

    def contiguous(self):
        return self._like(np.ascontiguousarray(self._values))

    def is_contiguous(self):
        return self._values.flags.c_contiguous

    def to(self, target, non_blocking=False):
        if isinstance(target, str):
            number = int(target.removeprefix("cuda:"))
            return Tensor(self._values.copy(), number)
        return self._like(self._values.astype(target))

    def cpu(self):
        return types.SimpleNamespace(numpy=self._values.copy)


def _functions(array_type):
    def wrapped(function):
        def call(*arguments, **options):
            values = [a._values if isinstance(a, Array) else a for a in arguments]
            found = function(*values, **options)
            return tuple(map(array_type, found)) if isinstance(found, tuple) else array_type(found)

        return call

    names = ("abs", "amax", "isfinite", "frexp", "arctan2", "minimum")
    functions = {name: wrapped(getattr(np, name)) for name in names}
    return functions | {
        "linalg": types.SimpleNamespace(norm=wrapped(np.linalg.norm)),
        **{name: np.dtype(name) for name in ("float16", "float32", "float64", "int32", "int64")},
        "uint8": np.dtype(np.uint8),
    }


def _empty(shape, dtype):
    values = np.empty(shape, dtype)
    values.view(np.uint8).fill(0xA5)  # nobody may count on zeros
    return values


def make_cupy():
    """Return a module that stands in for CuPy."""
    cupy = types.ModuleType("cupy")
    events = {}
    numbers = itertools.count(1)

    class Event:
        def __init__(self, disable_timing=False):
            assert disable_timing
            self.ptr = next(numbers)

    def asarray(source):
        if isinstance(source, np.ndarray):
            return CuPyArray(source.copy())
        interface = source.__cuda_array_interface__
        if interface["stream"] is not None:
            raise AssertionError("CuPy would let the host wait")
        if interface.get("mask") is not None:
            raise ValueError("CuPy currently does not support masked arrays.")
        values = np.ndarray(
            interface["shape"],
            interface["typestr"],
            (ctypes.c_byte * source.owner.num_bytes).from_address(interface["data"][0]),
            strides=interface.get("strides"),
        )
        return CuPyArray(values, source.owner.number)

    def from_dlpack(source):
        return CuPyArray(np.from_dlpack(source.host), source.__dlpack_device__()[1])

    runtime = types.SimpleNamespace(
        eventRecord=events.__setitem__,
        streamWaitEvent=lambda stream, event: waits.append((stream, events[event])),
    )
    cupy.cuda = types.SimpleNamespace(
        Device=_DeviceContext,
        Event=Event,
        runtime=runtime,
        get_current_stream=lambda: types.SimpleNamespace(ptr=current_streams[current_device[-1]]),
    )
    cupy.__dict__.update(_functions(CuPyArray))
    cupy.ndarray = CuPyArray
    cupy.asarray, cupy.from_dlpack = asarray, from_dlpack
    cupy.asnumpy = lambda array: array._values.copy()
    cupy.ascontiguousarray = lambda array: array._like(np.ascontiguousarray(array._values))
    cupy.empty = lambda shape, dtype: CuPyArray(_empty(shape, dtype))
    return cupy


def make_torch():
    """Return a module that stands in for PyTorch."""
    torch = types.ModuleType("torch")
    torch.__dict__.update(_functions(Tensor))
    torch.Tensor = Tensor
    torch.from_numpy = Tensor
    torch.empty = lambda shape, dtype, device: Tensor(
        _empty(shape, dtype), int(device.removeprefix("cuda:"))
    )
    torch.cuda = types.SimpleNamespace(
        device=_DeviceContext,
        current_device=lambda: current_device[-1],
        current_stream=lambda number: types.SimpleNamespace(cuda_stream=current_streams[number]),
    )
    return torch


# The compiled module ------------------------------------------------------------------------------


def _at(pointer, shape, dtype):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_byte * size).from_address(pointer), dtype).reshape(shape)


def make_cuda():
    """Return a module with the functions of infall._cuda, computed by infall._core."""
    module = types.ModuleType("infall._cuda")

    def launched(name, device, stream):
        assert device == current_device[-1], "the device of the call is the current one"
        calls.append((name, device, stream))

    def order(found, by_index, absolute, indices, projections):
        for i, (rows, values) in enumerate(found):
            score = np.abs(values) if absolute else values
            best = np.lexsort((rows, -score))[: indices.shape[1]]
            if by_index:
                best = best[np.argsort(rows[best])]
            indices[i], projections[i] = rows[best], values[best]

    def outputs(indices, projections, batch, num_rows):
        shape = (batch, num_rows)
        return _at(indices, shape, np.int64), _at(projections, shape, np.float64)

    def gaussian_rows(indices, count, dim, seed, layer, out, device, stream):
        launched("gaussian_rows", device, stream)
        target = _at(out, (count, dim), np.float32)
        _core.gaussian_rows(_at(indices, (count,), np.int64), target, seed, layer, 1, None)

    def selection_workspace(num_rows, available_rows, batch):
        assert 0 < num_rows <= available_rows
        return 1000 + 64 * num_rows * batch

    def select_stream(
        w, dim, seed, layer, first_row, end_row, num_rows, batch, absolute, by_index, thresholds,
        workspace, indices, projections, device, stream,
    ):  # fmt: skip
        launched("select_stream", device, stream)
        size = selection_workspace(num_rows, end_row - first_row, batch)
        _at(workspace, (size,), np.uint8).fill(0x5A)
        first, second = thresholds
        assert isinstance(first, float)
        assert second <= first
        w = _at(w, (batch, -(-dim // 4) * 4), np.float32)
        assert not w[:, dim:].any()
        found = _core.select_stream(
            w, dim, seed, layer, first_row, end_row, num_rows, absolute, second, 1, None
        )
        order(found, by_index, absolute, *outputs(indices, projections, batch, num_rows))

    def select_rotated(
        factors, span, seed, layer, first_row, end_row, num_rows, batch, absolute, by_index,
        thresholds, workspace, indices, projections, device, stream,
    ):  # fmt: skip
        launched("select_rotated", device, stream)
        size = selection_workspace(num_rows, end_row - first_row, batch)
        _at(workspace, (size,), np.uint8).fill(0x5A)
        found = _core.select_rotated(
            _at(factors, (span, batch), np.float64), seed, layer, first_row, end_row, num_rows,
            absolute, thresholds[1], 1, None,
        )  # fmt: skip
        order(found, by_index, absolute, *outputs(indices, projections, batch, num_rows))

    def deciding_entries(rows, count, span, seed, layer, out, device, stream):
        launched("deciding_entries", device, stream)
        _at(out, (count, span), np.float64)[:] = _core.deciding_entries(
            _at(rows, (count,), np.int64), span, seed, layer, 1
        )

    def rotate_rows(z, count, dim, deciding, v, scale, span, scratch, device, stream):
        launched("rotate_rows", device, stream)
        _at(scratch, (count, dim), np.float64).fill(np.nan)
        _core.rotate_rows(
            _at(z, (count, dim), np.float32),
            _at(deciding, (count, span), np.float64),
            _at(v, (span, dim), np.float64),
            _at(scale, (span,), np.float64),
            1,
            None,
        )

    def hyperplane_codes(x, dim, num_inputs, num_bits, seed, layer, out, device, stream):
        launched("hyperplane_codes", device, stream)
        x = _at(x, (num_inputs, -(-dim // 4) * 4), np.float32)
        assert not x[:, dim:].any()
        _at(out, (num_inputs, -(-num_bits // 8)), np.uint8)[:] = _core.hyperplane_codes(
            x, dim, num_bits, seed, layer, 1, None
        )

    def hamming_distances(a, a_count, b, b_count, bytes_, out, device, stream):
        launched("hamming_distances", device, stream)
        a, b = _at(a, (a_count, bytes_), np.uint8), _at(b, (b_count, bytes_), np.uint8)
        _at(out, (a_count, b_count), np.int32)[:] = _core.hamming_distances(a, b, 1, None)

    def matrix_workspace(rows, num_rows, batch):
        return 64 * num_rows * batch

    def select_matrix(
        weights, dtype, rows, dim, row_stride, column_stride, w, num_rows, batch, absolute,
        by_index, workspace, indices, projections, device, stream,
    ):  # fmt: skip
        launched("select_matrix", device, stream)
        _at(workspace, (matrix_workspace(rows, num_rows, batch),), np.uint8).fill(0x5A)
        size = np.dtype(dtype).itemsize
        low = sum(min(0, (n - 1) * s) for n, s in ((rows, row_stride), (dim, column_stride)))
        high = sum(max(0, (n - 1) * s) for n, s in ((rows, row_stride), (dim, column_stride)))
        buffer = _at(weights + low * size, (high - low + 1,), dtype)
        strides = (row_stride * size, column_stride * size)
        matrix = np.lib.stride_tricks.as_strided(buffer[-low:], (rows, dim), strides)
        w_dtype = np.float64 if dtype == "float64" else np.float32
        if dtype == "float16":
            matrix = matrix.astype(np.float32)
        found = _core.select_matrix(
            matrix, _at(w, (batch, dim), w_dtype), num_rows, absolute, 1, None
        )
        order(found, by_index, absolute, *outputs(indices, projections, batch, num_rows))

    kernels = (
        gaussian_rows, selection_workspace, select_stream, select_rotated, deciding_entries,
        rotate_rows, hyperplane_codes, hamming_distances, matrix_workspace, select_matrix,
    )  # fmt: skip
    for kernel in kernels:
        setattr(module, kernel.__name__, kernel)
    module.device_count = lambda: 2
    module.architectures = lambda: "90"
    return module
