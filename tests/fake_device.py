"""Two array libraries and a compiled module that take host memory for a CUDA device's.

What is held against the package here is its own part: whose array it is, pointers, strides, dtypes,
streams, devices and errors. The kernels are the CUDA kernels run by the host, whose results are the
CPU's bit for bit.
"""

import contextlib
import ctypes
import importlib
import itertools
import sys
import threading
import types

import numpy as np
from numpy.testing import assert_array_equal

import infall


class _Current(threading.local):
    """The devices that a thread has made current, the last of them the current one."""

    def __init__(self):
        self.numbers = [0]

    def __getitem__(self, index):
        return self.numbers[index]

    def __eq__(self, numbers):
        return self.numbers == numbers

    def append(self, number):
        self.numbers.append(number)

    def pop(self):
        self.numbers.pop()


current_device = _Current()
current_streams = {0: 0x1000, 1: 0x1001}
waits = []  # (stream that waits, stream waited for)
calls = []  # (kernel, device, stream)
synchronisations = []  # what made the host wait for a device
copied = []  # bytes of each copy to the host
failures = []  # [arrays to be made before the next one fails, error]


class _DeviceContext:
    def __init__(self, number=None):
        self.number = self.id = current_device[-1] if number is None else number

    def __enter__(self):
        current_device.append(self.number)
        self._depth = len(current_device.numbers)

    def __exit__(self, *_):
        assert self._depth == len(current_device.numbers), "contexts are left as they were entered"
        current_device.pop()


class Array(np.lib.mixins.NDArrayOperatorsMixin):
    """What CuPy arrays and PyTorch tensors have in common, over host memory."""

    def __init__(self, values, number=None):
        if failures:
            failures[0] -= 1
            if failures[0] < 0:
                error = failures[1]
                failures.clear()
                raise error
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
            outputs = ufunc(*values, **options)
        return (
            tuple(map(self._like, outputs)) if isinstance(outputs, tuple) else self._like(outputs)
        )

    def __getitem__(self, index):
        if isinstance(index, Array):
            index = index._values
            if index.dtype == bool:
                synchronisations.append("a mask is counted")
        else:
            assert not isinstance(index, (list, np.ndarray)), "indices would have to be copied"
        return self._like(self._values[index])

    def __setitem__(self, index, value):
        self._values[index] = value._values if isinstance(value, Array) else value

    def _host_value(self, kind):
        synchronisations.append(f"{kind.__name__} of an array")
        return kind(self._values)

    def __int__(self):
        return self._host_value(int)

    def __float__(self):
        return self._host_value(float)

    def tolist(self):
        return self._host_value(np.ndarray.tolist)

    def item(self):
        return self._host_value(np.ndarray.item)

    def __len__(self):
        return len(self._values)

    def __bool__(self):
        return self._host_value(bool)

    def all(self):
        return self._like(self._values.all())

    def any(self):
        return self._like(self._values.any())

    def sum(self, axis):
        return self._like(self._values.sum(axis))

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
    requires_grad = False
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

    def to(self, dtype):
        return self._like(self._values.astype(dtype))

    def cpu(self):
        synchronisations.append("cpu")
        copied.append(self._values.nbytes)
        return types.SimpleNamespace(numpy=self._values.copy)


class HostTensor:
    """What torch.from_numpy gives."""

    def __init__(self, values, pinned=False):
        self._values, self._pinned = values, pinned

    def pin_memory(self):
        return HostTensor(self._values.copy(), pinned=True)

    def to(self, device, non_blocking=False):
        if not (self._pinned and non_blocking):
            synchronisations.append("an upload from pageable memory")
        return Tensor(self._values.copy(), int(device.removeprefix("cuda:")))


class Event:
    """An event of either library, recorded on the current stream."""

    def record(self):
        self.stream = current_streams[current_device[-1]]

    def synchronize(self):
        synchronisations.append("an event")


class _Stream:
    def __init__(self, number):
        self.ptr = self.cuda_stream = current_streams[number]

    def wait_event(self, event):
        waits.append((self.ptr, event.stream))


def _functions(array_type):
    def wrapped(function):
        def call(*arguments, **options):
            values = [a._values if isinstance(a, Array) else a for a in arguments]
            outputs = function(*values, **options)
            return (
                tuple(map(array_type, outputs))
                if isinstance(outputs, tuple)
                else array_type(outputs)
            )

        return call

    names = (
        "abs", "amax", "isfinite", "frexp", "arctan2", "minimum", "log", "log1p", "argsort",
        "searchsorted", "clip", "matmul",
    )  # fmt: skip
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

    def event(disable_timing=False):
        assert disable_timing
        made = Event()
        made.ptr = next(numbers)
        events[made.ptr] = made
        return made

    def record(number, stream):
        events[number].stream = stream

    def asnumpy(array):
        synchronisations.append("asnumpy")
        copied.append(array._values.nbytes)
        return array._values.copy()

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

    cupy.cuda = types.SimpleNamespace(
        Device=_DeviceContext,
        Event=event,
        runtime=types.SimpleNamespace(eventRecord=record),
        get_current_stream=lambda: _Stream(current_device[-1]),
    )
    cupy.__dict__.update(_functions(CuPyArray))
    cupy.ndarray = CuPyArray
    cupy.asarray, cupy.from_dlpack = asarray, from_dlpack
    cupy.asnumpy = asnumpy
    cupy.ascontiguousarray = lambda array: array._like(np.ascontiguousarray(array._values))
    cupy.arange = lambda count, dtype: CuPyArray(np.arange(count, dtype=dtype))
    cupy.empty = lambda shape, dtype: CuPyArray(_empty(shape, dtype))
    return cupy


def make_torch():
    """Return a module that stands in for PyTorch."""
    torch = types.ModuleType("torch")
    torch.__dict__.update(_functions(Tensor))
    torch.Tensor = Tensor
    no_tangent = types.SimpleNamespace(unpack_dual=lambda _: types.SimpleNamespace(tangent=None))
    torch.autograd = types.SimpleNamespace(forward_ad=no_tangent)
    torch.from_numpy = HostTensor
    torch.is_grad_enabled = lambda: True
    torch.get_float32_matmul_precision = lambda: "highest"
    torch.empty = lambda shape, dtype, device: Tensor(
        _empty(shape, dtype), int(device.removeprefix("cuda:"))
    )
    torch.arange = lambda count, dtype, device: Tensor(
        np.arange(count, dtype=dtype), int(device.removeprefix("cuda:"))
    )
    torch.cuda = types.SimpleNamespace(
        device=_DeviceContext,
        current_device=lambda: current_device[-1],
        current_stream=_Stream,
        Event=Event,
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

    for name in dir(kernels):
        if name.startswith("_"):
            continue
        function = getattr(kernels, name)
        asks = name.endswith(("_workspace", "_scratch"))  # and launches nothing
        setattr(module, name, function if asks else launched(function))
    module.device_count = lambda: 2
    module.architectures = lambda: "90"
    return module


# For tests ----------------------------------------------------------------------------------------


def installed(monkeypatch):
    """Put the stand-ins in the places of CuPy, PyTorch and infall._cuda: a fixture's generator."""
    for log in (calls, waits, synchronisations, copied):
        log.clear()
    cuda = make_cuda()
    monkeypatch.setitem(sys.modules, "infall._cuda", cuda)
    monkeypatch.setattr(infall, "_cuda", cuda, raising=False)
    monkeypatch.setitem(sys.modules, "cupy", make_cupy())
    monkeypatch.setitem(sys.modules, "torch", make_torch())
    yield
    assert current_device == [0], "every device that was made current was left again"


@contextlib.contextmanager
def failing_after(count, error):
    """Raise `error` where the next array but `count` is made on a device."""
    failures[:] = [count, error]
    reached = []
    try:
        yield reached
        if not failures:
            reached.append(True)
    finally:
        failures.clear()


class Library:
    """One of the stand-ins: how to put arrays on its device, and to see what they hold."""

    def __init__(self, array_type):
        self.array_type = array_type

    def put(self, values, number=0):
        return self.array_type(np.asarray(values), number)

    def values(self, array, number=0):
        assert type(array) is self.array_type
        assert array._number == number
        return array._values


CUPY, TORCH = Library(CuPyArray), Library(Tensor)


def vector(dim, batch=None, seed=0):
    """Normal entries, of shape (dim,) or (batch, dim)."""
    return np.random.default_rng(seed).normal(size=dim if batch is None else (batch, dim))


def same(actual, expected, library, number=0):
    """Assert that a selection on a device is one on the host, bit for bit."""
    for name in ("indices", "projections", "unit_projections", "rows"):
        mine, theirs = library.values(getattr(actual, name), number), getattr(expected, name)
        assert mine.dtype == theirs.dtype, name
        assert_array_equal(mine, theirs, err_msg=name)
    for name in ("width", "seed", "layer", "sampler", "score", "order", "row_range"):
        assert getattr(actual, name) == getattr(expected, name)
