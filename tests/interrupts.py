"""How long a call goes on after Ctrl-C, and how much of that is allowed."""

import gc
import os
import signal
import subprocess
import sys
import time

import pytest

SANITIZED = any(name in os.environ.get("LD_PRELOAD", "") for name in ("libasan", "libtsan"))
# What is promised holds on a machine at rest; a shared one may take the processor away at any time.
SLACK = 25 if SANITIZED else 1 if os.environ.get("INFALL_STRICT_TIMING") == "1" else 10
LIMIT = 0.2 * SLACK  # seconds


def seconds_after_interrupt(call, *, after=0.3):
    """Interrupt a call `after` so many seconds: seconds until its KeyboardInterrupt came."""
    # The signal comes from another process: a thread of this one could wait for the GIL.
    program = (
        "import os, signal, sys, time; print(flush=True); time.sleep(float(sys.argv[2]));"
        "print(time.time(), flush=True); os.kill(int(sys.argv[1]), signal.SIGINT)"
    )
    # Where SIGINT is ignored, as in background jobs, Python has no handler of its own.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    # An interrupt that is raised while garbage is collected is lost: in the weak references to what
    # earlier tests have left, and in JAX, which is called after every collection.
    gc.collect()
    callbacks, gc.callbacks[:] = gc.callbacks[:], []
    try:
        with subprocess.Popen(
            [sys.executable, "-c", program, str(os.getpid()), str(after)],
            stdout=subprocess.PIPE,
            text=True,
        ) as sender:
            sender.stdout.readline()  # it may take longer to start than the call to end
            with pytest.raises(KeyboardInterrupt):
                call()
            return time.time() - float(sender.stdout.read())
    finally:
        gc.callbacks[:] = callbacks
        signal.signal(signal.SIGINT, before)
