"""Which place an array lives in, and devices by their names."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from infall._arrays.checks import kind_of
from infall._arrays.convert import refuse_gradient
from infall._arrays.device import CuPyDevice, Device, TorchDevice, cuda_kernels
from infall._arrays.host import Host
from infall._arrays.place import Place

_DLPACK_CUDA = 2


def place_of(array: Any, name: str) -> tuple[Place, Any]:
    """Return the place that an array lives in, and the array as one of the place's library.

    CuPy arrays and PyTorch tensors are taken as they are. Others (Numba, JAX, any array with
    `__cuda_array_interface__` version 2 or 3, or DLPack in CUDA memory) are viewed through CuPy,
    which is then imported. An array that names the stream it is written on
    (`__cuda_array_interface__` version 3) makes the caller's current stream wait for it, on the
    device; one that names none needs no waiting. What is not in CUDA memory is returned as it was
    given, with `Host`.

    Raises TypeError if the array cannot be read, or is a tensor that requires a gradient;
    RuntimeError if this build has no CUDA kernels.
    """
    if isinstance(array, (np.ndarray, np.generic, list, tuple)):
        return Host(array), array
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and isinstance(array, torch.Tensor):
        if not array.is_cuda:
            return Host(array), array
        cuda_kernels(name, array)
        refuse_gradient(array, name)
        return TorchDevice(int(array.device.index)), array.detach()
    if cupy is not None and isinstance(array, cupy.ndarray):
        cuda_kernels(name, array)
        return CuPyDevice(int(array.device.id)), array
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        exchanged = hasattr(array, "__dlpack_device__")
        if not exchanged or int(array.__dlpack_device__()[0]) != _DLPACK_CUDA:
            return Host(array), array
    cuda_kernels(name, array)
    return _through_cupy(array, interface, name)


def _through_cupy(array: Any, interface: dict[str, Any] | None, name: str) -> tuple[Device, Any]:
    try:
        cupy: Any = importlib.import_module("cupy")
    except ImportError as error:
        raise TypeError(
            f"{name} is a {kind_of(array)} in CUDA memory; expected a CuPy array or a PyTorch "
            f"tensor, for CuPy, through which others are read, cannot be imported: {error}"
        ) from None
    try:
        if interface is None:
            number = int(array.__dlpack_device__()[1])
            with cupy.cuda.Device(number):
                viewed = cupy.from_dlpack(array)  # the protocol hands over the current stream
        else:
            if interface["version"] not in (2, 3):
                raise ValueError(f"__cuda_array_interface__ version {interface['version']}")
            # Without its stream: CuPy would have the host wait for it.
            viewed = cupy.asarray(_Interface(array, {**interface, "stream": None}))
    except (RuntimeError, BufferError, KeyError, TypeError, ValueError) as error:
        raise TypeError(f"{name} is a {kind_of(array)} that cannot be read: {error}") from None
    namespace = None
    if hasattr(array, "__array_namespace__"):
        namespace = array.__array_namespace__()
    device = CuPyDevice(int(viewed.device.id), namespace)
    stream = None if interface is None else interface.get("stream")
    if stream is not None:
        device.wait_for_stream(int(stream))
    return device, viewed


class _Interface:
    """What CuPy is shown of a foreign array, which it keeps alive."""

    def __init__(self, owner: Any, interface: dict[str, Any]) -> None:
        self.owner = owner
        self.__cuda_array_interface__ = interface


def in_place(place: Place, array: Any, name: str, first_name: str) -> Any:
    """Return an array of the place and library that the first argument lives in.

    Raises TypeError if it lives elsewhere, and as `place_of`.
    """
    there, located = place_of(array, name)
    if there.description != place.description:
        raise TypeError(
            f"{name} is in {there.description}, {first_name} in {place.description}; expected both "
            "in one place"
        )
    return located


def on_host(array: Any, name: str) -> Any:
    """Return what is in host memory as it was given, and anything else as a copy there."""
    place, located = place_of(array, name)
    with place:
        return place.download(located)


def named_place(name: str, like: Any) -> Place:
    """Return the place called "cpu", "cuda" or "cuda:1".

    The library is PyTorch if `like` is a tensor, otherwise CuPy, which is imported. "cuda" is the
    library's current device.

    Raises TypeError if there is no CuPy; ValueError if there is no such device; RuntimeError if
    this build has no CUDA kernels, or, with CUDA's text, if there is no device at all.
    """
    number = device_number(name)
    if name == "cpu":
        return Host(like)
    kernels = cuda_kernels("device", None)
    count = int(kernels.device_count())
    if number is not None and number >= count:
        raise ValueError(f"device is {name!r}; there are {count} CUDA devices, from cuda:0 on")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(like, torch.Tensor):
        return TorchDevice(int(torch.cuda.current_device()) if number is None else number)
    try:
        cupy: Any = importlib.import_module("cupy")
    except ImportError as error:
        raise TypeError(
            f"device is {name!r}, but CuPy, which holds its arrays, cannot be imported: {error}"
        ) from None
    return CuPyDevice(int(cupy.cuda.Device().id) if number is None else number)


def device_number(name: Any) -> int | None:
    """Return the number in "cuda:1"; None for "cpu" and "cuda".

    Raises TypeError or ValueError for what is not the name of a device.
    """
    if not isinstance(name, str):
        raise TypeError(f"device is {name!r}; expected 'cpu', 'cuda' or a name such as 'cuda:1'")
    if name in ("cpu", "cuda"):
        return None
    prefix, _, digits = name.partition(":")
    if prefix != "cuda" or not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"device is {name!r}; expected 'cpu', 'cuda' or a name such as 'cuda:1'")
    return int(digits)
