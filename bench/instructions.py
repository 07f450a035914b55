"""Instructions a process retires, as the processor counts them."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

HARDWARE, SOFTWARE = 0, 1
INSTRUCTIONS, TASK_CLOCK = 1, 1  # the first of the hardware's events, the second of the system's
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
INHERIT, EXCLUDE_KERNEL, EXCLUDE_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6


class Counter:
    """Counts from now on, in this thread and in all that it starts later.

    Raises
    ------
    OSError
        Where the processor or the system does not count: most virtual machines, other systems than
        Linux, and Linux where ``kernel.perf_event_paranoid`` is above 2.
    """

    def __init__(self, kind: int = HARDWARE, event: int = INSTRUCTIONS) -> None:
        number = PERF_EVENT_OPEN.get(platform.machine())
        if platform.system() != "Linux" or number is None:
            raise OSError("instructions are counted on Linux, x86_64 and aarch64 alone")
        flags = INHERIT | EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR
        # The first version of perf_event_attr: type, size, config, three fields unused, flags.
        attributes = struct.pack("IIQQQQQIIQ", kind, 64, event, 0, 0, 0, flags, 0, 0, 0)
        call = ctypes.CDLL(None, use_errno=True).syscall
        buffer = ctypes.create_string_buffer(attributes, len(attributes))
        self._file = call(number, buffer, 0, -1, -1, 0)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def count(self) -> int:
        """Events so far."""
        return struct.unpack("Q", os.read(self._file, 8))[0]

    def close(self) -> None:
        os.close(self._file)
