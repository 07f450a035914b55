"""Calls from several Python threads at once: the results of one after the other, and no data race.

`make tsan` runs this file under ThreadSanitizer.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import infall
from infall import ClassMoments, SimplexETF, _core
from interrupts import SANITIZED

CALLERS = 4
SCALE = 1 if SANITIZED else 4
rng = np.random.default_rng(5)
W = rng.normal(size=(3, 24))
H = rng.normal(size=(600 * SCALE, 40)).astype(np.float32)
LABELS = np.arange(len(H)) % 7
MATRIX = rng.normal(size=(4000, 24))
CODES = rng.integers(256, size=(200, 8), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _two_threads_each(monkeypatch):
    monkeypatch.setenv("INFALL_NUM_THREADS", "2")


def moments_of(features, labels):
    moments = ClassMoments(7, 40, scatter=True)
    moments.update(features, labels)
    return moments


def selection(**options):
    selected = infall.select_rows(W, 20000 * SCALE, num_rows=30, **options)
    return selected.indices, selected.projections, selected.rows


# Each gives several arrays.
CALLS = {
    "stream": selection,
    "rotated": lambda: selection(sampler="rotated"),
    "matrix": lambda: [infall.select_rows_from(W, MATRIX, num_rows=9).indices],
    "rows": lambda: [infall.gaussian_rows(np.arange(4000), 24)],
    "codes": lambda: [infall.hyperplane_codes(W, 4096)],
    "distances": lambda: [infall.hamming_distances(CODES, CODES[::-1])],
    "haar": lambda: [SimplexETF(30, 40, basis="haar").project(H)],
    "hadamard": lambda: [SimplexETF(30, 40, basis="hadamard").classify(H)],
    "moments": lambda: [moments_of(H, LABELS).means, moments_of(H, LABELS).within_scatter],
    "report": lambda: [infall.collapse_report(H, LABELS).nc1],
}


def at_once(call):
    """What the callers got, all of whom start together."""
    start = threading.Barrier(CALLERS)

    def wait_and_call(number):
        start.wait()
        return call(number)

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(wait_and_call, range(CALLERS)))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_calls_do_not_disturb_each_other(call):
    expected = call()
    for actual in at_once(lambda _: call()):
        for array, other in zip(actual, expected, strict=True):
            assert_array_equal(array, other)


def test_one_frame_serves_several_callers():
    frame = SimplexETF(30, 40, basis="haar")  # which makes its basis at the first call
    results = at_once(lambda _: frame.project(H))
    for array in results:
        assert_array_equal(array, results[0])


def test_an_instruction_set_may_be_chosen_while_others_compute():
    expected = CALLS["stream"]()
    names = _core.available_isas()

    def call(number):
        for name in names:
            if number == 0:
                _core.set_isa(name)
            actual = CALLS["stream"]()
        return actual

    for actual in at_once(call):
        for array, other in zip(actual, expected, strict=True):
            assert_array_equal(array, other)
    _core.set_isa(names[0])


def test_updates_of_one_object_lose_nothing():
    """In any order: integers, whose sums are exact."""
    whole = np.rint(64 * H)
    expected = moments_of(whole, LABELS)
    for _ in range(3):
        shared = ClassMoments(7, 40, scatter=True)
        shared.update(whole[:7], LABELS[:7])  # the shifts
        rest = np.array_split(np.arange(7, len(whole)), CALLERS)

        def update(number, shared=shared, rest=rest):
            for part in np.array_split(rest[number], 5):
                shared.update(whole[part], LABELS[part])
                assert shared.num_samples >= len(part)

        at_once(update)
        assert_array_equal(shared.counts, expected.counts)
        assert_array_equal(shared.means, expected.means)
        assert_array_equal(shared.within_scatter, expected.within_scatter)
