"""Two array libraries and a compiled module that take host memory for a CUDA device's.

What is held against the package here is its own part: whose array it is, pointers, strides, dtypes,
streams, devices and errors. The kernels are the CUDA kernels run by the host, whose results are the
CPU's bit for bit.
"""

import ctypes
import importlib
import itertools
import types

import numpy as np

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

    names = ("abs", "amax", "isfinite", "frexp", "arctan2", "minimum", "log", "log1p")
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


def make_cuda():
    """Return the CUDA kernels as the host runs them, as infall._cuda with two devices."""
    kernels = importlib.import_module("infall._cuda_emulated")
    module = types.ModuleType("infall._cuda")

    def launched(kernel):
        def call(*arguments):
            *_, device, stream = arguments
            assert device == current_device[-1], "the device of the call is the current one"
            calls.append((kernel.__name__, device, stream))
            kernel(*arguments)

        return call

    for name in ("selection_workspace", "matrix_workspace"):
        setattr(module, name, getattr(kernels, name))
    for name in (
        "gaussian_rows", "select_stream", "select_rotated", "deciding_entries", "rotate_rows",
        "hyperplane_codes", "hamming_distances", "select_matrix",
    ):  # fmt: skip
        setattr(module, name, launched(getattr(kernels, name)))
    module.device_count = lambda: 2
    module.architectures = lambda: "90"
    return module
