"""Selections of parts of a layer, merged into that of the whole."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infall
from infall._arrays.blocks import blocks_of
from interrupts import LIMIT, seconds_after_interrupt
from selection_cases import few, same, vector

pytestmark = pytest.mark.sanitize


@few
@given(
    st.sampled_from(["stream", "rotated"]),
    st.sampled_from(["absolute", "signed"]),
    st.sampled_from(["index", "score"]),
    st.lists(st.integers(5, 3000), min_size=1, max_size=4),
    st.integers(0, 2**62),
    st.randoms(use_true_random=False),
)
def test_row_ranges_merge_to_the_whole(sampler, score, order, lengths, first, random):
    ends = list(itertools.accumulate(lengths, initial=first))
    w = vector(5, seed=first)
    settings_ = {"num_rows": 5, "seed": first, "score": score, "order": order, "sampler": sampler}
    parts = [
        infall.select_rows(w, 2**63 - 1, row_range=pair, **settings_)
        for pair in itertools.pairwise(ends)
    ]
    whole = infall.select_rows(w, 2**63 - 1, row_range=(ends[0], ends[-1]), **settings_)
    shuffled = random.sample(parts, len(parts))
    merged = infall.merge_selections(shuffled)
    same(merged, whole)
    assert merged.row_range == whole.row_range
    # Merging is associative.
    left = (
        infall.merge_selections([infall.merge_selections(parts[:-1] or parts), parts[-1]])
        if len(parts) > 1
        else merged
    )
    same(left, whole)


def test_merging_ranks_what_the_selections_ranked():
    # At the ends of float64 different unit projections round to equal or infinite projections.
    for scale in (5e-324, 1e300):
        w = np.array([3.0, -4.0, 12.0]) * scale
        whole = infall.select_rows(w, 5000)
        parts = [infall.select_rows(w, 5000, row_range=r) for r in ((0, 2500), (2500, 5000))]
        same(infall.merge_selections(parts), whole)
    with pytest.raises(ValueError, match="w is too long: its projections overflow float64"):
        infall.select_rows(np.full(3, 1.7e308), 1000)


def test_merging_takes_short_parts_that_are_whole():
    w = vector(4)
    whole = infall.select_rows(w, 1000, num_rows=30)
    parts = [
        infall.select_rows(w, 1000, num_rows=30, row_range=(0, 990)),
        infall.select_rows(w, 1000, num_rows=10, row_range=(990, 1000)),
    ]
    same(infall.merge_selections(parts), whole)
    same(infall.merge_selections(parts, num_rows=8), infall.select_rows(w, 1000, num_rows=8))
    with pytest.raises(ValueError, match=r"the part with row_range \(0, 990\) has 30 rows; 31"):
        infall.merge_selections(parts, num_rows=31)


@few
@given(
    st.sampled_from(["absolute", "signed"]),
    st.sampled_from(["index", "score"]),
    st.lists(st.integers(1, 60), min_size=1, max_size=6),
    st.integers(1, 90),
    st.sampled_from([None, 1, 3]),
)
def test_merging_a_few_candidates_at_a_time(score, order, lengths, num_rows, batch):
    # Short rows, so that many scores tie: the lower row wins, whichever part it came in.
    ends = list(itertools.accumulate(lengths, initial=0))
    num_rows, width = min(num_rows, ends[-1]), ends[-1]
    w = vector(1, batch=batch)
    settings_ = {"score": score, "order": order}
    parts = [
        infall.select_rows(w, width, row_range=(a, b), num_rows=min(num_rows, b - a), **settings_)
        for a, b in itertools.pairwise(ends)
    ]
    whole = infall.select_rows(w, width, num_rows=num_rows, **settings_)
    with blocks_of(20):
        assert infall.merge_selections(iter(parts), num_rows=num_rows) == whole


@pytest.mark.slow
def test_a_long_merge_is_interrupted():
    # The parts of a selection of 80 000 of 6 400 000 rows: a second or more in one piece.
    ends = [(i * 100_000, (i + 1) * 100_000) for i in range(64)]
    parts = [infall.select_rows(vector(2), 6_400_000, num_rows=80_000, row_range=r) for r in ends]

    def merge():
        while True:
            infall.merge_selections(parts)

    for after in (0.3, 0.4, 0.5):
        assert seconds_after_interrupt(merge, after=after) < LIMIT
