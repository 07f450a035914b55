"""What all calls of the compiled part share: threads, the GIL, Ctrl-C, floating point, exit."""

import contextlib
import ctypes
import ctypes.util
import platform
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import infall
from infall import SimplexETF, _core
from infall.classes import ClassMoments
from interrupts import LIMIT, seconds_after_interrupt

ARM = platform.machine() in ("aarch64", "arm64")


def normals(*shape):
    return np.random.default_rng(0).normal(size=shape)


# The floating-point environment -------------------------------------------------------------------

LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
# Bits of MXCSR, and of the arm64's FPCR, which flushes what goes in and what comes out alike.
ENVIRONMENTS = {
    "flush-to-zero": 1 << 24 if ARM else 0x8000,
    "denormals-are-zero": 1 << 24 if ARM else 0x0040,
    "downward": 2 << 22 if ARM else 0x2000,
    "upward": 1 << 22 if ARM else 0x4000,
    "towards-zero": 3 << 22 if ARM else 0x6000,
}


def control(new=None):
    """Return the control word of this thread's floating-point unit; set another."""
    state = (ctypes.c_uint32 * 16)()  # fenv_t: the word is its first on arm64, its last on x86-64
    LIBM.fegetenv(state)
    at = 0 if ARM else 7
    before = state[at]
    if new is not None:
        state[at] = new
        LIBM.fesetenv(state)
    return before & (0x01C00000 if ARM else 0xFFC0)


@contextlib.contextmanager
def environment(name):
    before = control()
    control(before | ENVIRONMENTS[name])
    try:
        yield
        assert control() == before | ENVIRONMENTS[name], "the environment was not restored"
    finally:
        control(before)


# Made here, and not in another environment.
W, BATCH, TINY_W = normals(50), normals(3, 50), np.array([1e-310, 2e-310])
MATRIX, MATRIX_W = normals(3000, 5) * 1e-300, normals(5) * 1e-9
TINY, FEATURES = normals(16, 64) * 1e-310, normals(60, 6)
TINY_FEATURES = (normals(60, 6) * 1e-40).astype(np.float32)
H = normals(7, 9).astype(np.float32)
TINY_H, TINY_Y = H * np.float32(1e-42), H[:, :5] * np.float32(1e-40)


def moments(features):
    class_moments = ClassMoments(3, features.shape[1], scatter=True, num_threads=2)
    for part in np.array_split(np.arange(len(features)), 3):
        class_moments.update(features[part], part % 3)
    return [
        class_moments.counts,
        class_moments.means,
        class_moments.variances,
        class_moments.within_scatter,
    ]


def frame_results(basis):
    frame = SimplexETF(5, 9, basis=basis, class_norms=[1, 2, 3, 4, 5], seed=3)
    results = [frame.vectors()]
    if basis != "haar":  # products of stored vectors are NumPy's
        results += [frame.project(H), frame.adjoint(TINY_Y), *frame.topk(TINY_H, 2)]
    return results


def selection(w, sampler):
    selected = infall.select_rows(w, 2**14, num_rows=5, sampler=sampler, num_threads=2)
    return [selected.indices, selected.projections, selected.unit_projections, selected.rows]


SAMPLERS, BASES = ("stream", "rotated", "order_statistics"), ("haar", "identity", "hadamard")
COMPUTED = {
    **{f"select_rows, {name}": lambda name=name: selection(W, name) for name in SAMPLERS},
    **{f"tiny w, {name}": lambda name=name: selection(TINY_W, name) for name in SAMPLERS},
    "select_rows of a batch": lambda: selection(BATCH, "rotated"),
    "select_rows_from": lambda: [infall.select_rows_from(MATRIX_W, MATRIX, num_rows=4).projections],
    "gaussian_rows": lambda: [infall.gaussian_rows(np.arange(100), 37, num_threads=2)],
    "hyperplane_codes": lambda: [infall.hyperplane_codes(TINY, 500)],
    "moments": lambda: moments(FEATURES),
    "moments of tiny features": lambda: moments(TINY_FEATURES),
    **{f"frames, {name}": lambda name=name: frame_results(name) for name in BASES},
    "walsh_hadamard": lambda: [infall.frames.walsh_hadamard(TINY)],
}


@pytest.mark.sanitize
@pytest.mark.parametrize("call", COMPUTED.values(), ids=COMPUTED.keys())
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_floating_point_environment_changes_no_bit(name, call):
    expected = [array.tobytes() for array in call()]
    with environment(name):
        actual = call()
    assert [array.tobytes() for array in actual] == expected


def test_a_callback_has_the_environment_of_the_caller():
    seen = set()
    x = normals(600, 600)
    with environment("upward"):
        for _ in range(3):
            _core.orthonormalise_rows(x, 1, lambda done: seen.add(control()))
    assert seen == {control() | ENVIRONMENTS["upward"]}


def test_the_environment_is_restored_after_an_exception():
    with environment("flush-to-zero"), pytest.raises(ValueError, match="stop"):
        infall.select_rows(np.ones(64), 2**33, progress=stop)


def stop(*_):
    raise ValueError("stop")


# The GIL ------------------------------------------------------------------------------------------


def haar():
    SimplexETF(500, 600, basis="haar", seed=int(time.perf_counter_ns())).vectors([0])


def test_a_busy_thread_does_not_hold_up_many_short_regions():
    def seconds():
        start = time.perf_counter()
        haar()
        return time.perf_counter() - start

    haar()
    alone = min(seconds() for _ in range(5))
    busy = True

    def spin():
        while busy:
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        beside = min(seconds() for _ in range(5))
    finally:
        busy = False
        thread.join()
    # A few hand-overs of the GIL, 5 ms each, and half a processor where there is but one.
    assert beside < 4 * alone + 0.1


def test_the_clock_of_progress_runs_on_from_region_to_region():
    x = normals(500, 600)
    calls = []
    start = time.perf_counter()
    _core.orthonormalise_rows(x, 2, calls.append)
    assert calls[-1] == 500
    assert len(calls) <= 1 + (time.perf_counter() - start) / 0.05


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("call", ["select_rows", "hyperplane_codes"])
def test_interrupt_of_rows_too_long_for_a_block(call, isa):
    w, before = np.ones(2**22), _core.isa()
    calls = {
        "select_rows": lambda: infall.select_rows(w, 2**20, num_rows=3),
        "hyperplane_codes": lambda: infall.hyperplane_codes(w, 2**20),
    }
    _core.set_isa(isa)
    try:
        assert seconds_after_interrupt(calls[call], after=0.5) < LIMIT
    finally:
        _core.set_isa(before)


# Threads ------------------------------------------------------------------------------------------


@pytest.mark.sanitize
def test_threads_serve_several_callers_at_once():
    expected = infall.gaussian_rows(np.arange(2**13), 64, num_threads=1)
    wrong = []

    def check():
        for threads in (2, 5, 3):
            rows = infall.gaussian_rows(np.arange(2**13), 64, num_threads=threads)
            if not (rows == expected).all():
                wrong.append(threads)

    callers = [threading.Thread(target=check) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


def test_a_fork_may_come_while_threads_are_at_work():
    # The child has neither the threads nor the moment in which their lock was free.
    run = run_program("""
import os, threading, numpy as np, infall

rows = np.arange(2**12)
expected = infall.gaussian_rows(rows, 64, num_threads=4)

def work():
    while True:
        infall.gaussian_rows(rows, 64, num_threads=4)

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        again = infall.gaussian_rows(rows, 64, num_threads=4)
        os._exit(0 if (again == expected).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
""")
    assert (run.returncode, run.stderr) == (0, "")


# Exceptions ---------------------------------------------------------------------------------------


@pytest.mark.sanitize
def test_the_row_an_error_names_does_not_depend_on_the_threads():
    matrix = np.full((2**16, 4), 3e38, dtype=np.float32)
    matrix[:4095] = 0.0
    for _ in range(100):
        with pytest.raises(ValueError, match="the projection of row 4095 is not finite"):
            infall.select_rows_from(np.ones(4), matrix, num_rows=1, num_threads=8)


@pytest.mark.sanitize
def test_an_axis_of_length_zero_is_no_crash():
    empty, none = np.empty((2, 0)), np.zeros(2, np.int64)
    for call in (
        lambda: _core.gaussian_rows(none, empty.astype(np.float32), 0, 0, 1, None),
        lambda: _core.deciding_entries(none, 0, 0, 0, 1),
        lambda: _core.rotate_rows(empty.astype(np.float32), empty, empty, none * 1.0, 1, None),
        lambda: _core.rotate_rows(
            np.empty((2, 3), np.float32), empty, empty.T, none[:0] * 1.0, 1, None
        ),
        lambda: _core.first_nonfinite(empty, 1),
        lambda: _core.deviations(empty, none, empty, empty, 1),
        lambda: _core.class_means(none, empty, empty, np.empty(0), True, True, 1),
        lambda: _core.pair_geometry(empty, none * 1.0, 1, None),
        lambda: _core.cdnv_block(empty, none * 1.0, 0, 2, 1, None),
        lambda: _core.walsh_hadamard(empty, empty, 1.0, 1, None),
        lambda: _core.orthonormalise_rows(empty, 1, None),
    ):
        with pytest.raises(ValueError, match="has an axis of length 0"):
            call()


# Exit ---------------------------------------------------------------------------------------------

LONG_CALLS = {
    **{
        f"select_rows, {sampler}": f"infall.select_rows(w, 2**33, sampler={sampler!r})"
        for sampler in ("stream", "rotated")
    },
    "order_statistics": "infall.select_rows(w, 2**50, num_rows=2**21, sampler='order_statistics')",
    "select_rows_from": "infall.select_rows_from(w, matrix)",
    "hyperplane_codes": "infall.hyperplane_codes(matrix, 2**20)",
    "hamming_distances": "infall.hamming_distances(codes, codes)",
    "gaussian_rows": "infall.gaussian_rows(np.arange(2**22), 64)",
    "fit": "infall.MaxLikelihood(2**25, 3).fit(w)",
    "update": "infall.ClassMoments(9, 64, scatter=True).update(matrix, labels)",
    "collapse_report": "infall.collapse_report(matrix, labels)",
    "haar": "infall.SimplexETF(2000, 2000, basis='haar').vectors()",
    "hadamard": "infall.SimplexETF(60000, 2**16, basis='hadamard').classify(np.ones((64, 2**16)))",
    "progress": "infall.select_rows(w, 2**33, progress=lambda *_: sum(range(10000)))",
}

# SciPy's parts are imported first: they call eval, at the end of which CPython forgets that an
# interrupt has ended the main thread.
PROGRAM = """
import os, signal, sys, threading, time
import numpy as np
import scipy.linalg, scipy.special
import infall

w = np.random.default_rng(0).normal(size=64)
matrix = np.random.default_rng(1).normal(size=(2**17, 64))
labels = np.arange(2**17) % 9
codes = infall.hyperplane_codes(matrix[:2**14], 512)

def work():
    begun.set()
    while True:
        {call}

begun = threading.Event()
threading.Thread(target=work, daemon=True).start()
begun.wait()
time.sleep(0.3)
"""


def run_program(text):
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("call", LONG_CALLS.values(), ids=LONG_CALLS.keys())
def test_the_interpreter_may_end_while_a_daemon_thread_computes(call):
    run = run_program(PROGRAM.format(call=call))
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("call", ["select_rows, stream", "haar", "update"])
def test_the_main_thread_may_leave_on_interrupt_while_another_computes(call):
    program = PROGRAM + "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += "os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    run = run_program(program.format(call=LONG_CALLS[call]))
    assert run.returncode == -signal.SIGINT
    assert run.stderr.rstrip().endswith("KeyboardInterrupt")


def test_the_thread_that_ends_the_interpreter_may_still_compute():
    run = run_program("""
import sys
import infall, numpy as np

class Last:
    select, one = staticmethod(infall.select_rows), np.ones(8)

    def __del__(self):
        print(sys.is_finalizing(), self.select(self.one, 2**22).indices.shape)

sys.last = Last()
sys.last.itself = sys.last
""")
    assert run.returncode == 0
