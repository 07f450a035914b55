"""How long a call goes on after Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import pytest

SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
LIMIT = 5.0 if SANITIZED else 0.2  # seconds


def seconds_after_interrupt(call, *, after=0.3):
    """Interrupt a call `after` so many seconds: seconds until its KeyboardInterrupt came."""
    # The signal comes from another process: a thread of this one could wait for the GIL.
    program = (
        "import os, signal, sys, time; time.sleep(float(sys.argv[2]));"
        "print(time.time(), flush=True); os.kill(int(sys.argv[1]), signal.SIGINT)"
    )
    # Where SIGINT is ignored, as in background jobs, Python has no handler of its own.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with subprocess.Popen(
            [sys.executable, "-c", program, str(os.getpid()), str(after)],
            stdout=subprocess.PIPE,
            text=True,
        ) as sender:
            with pytest.raises(KeyboardInterrupt):
                call()
            return time.time() - float(sender.stdout.read())
    finally:
        signal.signal(signal.SIGINT, before)
