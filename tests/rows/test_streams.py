"""Random words: no two purposes share one, and each purpose draws those the page promises."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import stats

import infall
import reference
from chance import plausible
from infall import _core
from reference import PURPOSES

pytestmark = pytest.mark.sanitize
ISAS = _core.available_isas()
PAGE = Path(__file__).parents[2] / "docs" / "random-rows.md"


# The table ----------------------------------------------------------------------------------------


def test_the_engine_has_the_table_of_the_reference():
    table = {name: tuple(numbers) for name, *numbers in _core.purposes()}
    assert table == PURPOSES


def test_the_page_has_the_table_of_the_reference():
    purposes = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in PURPOSES:
            first, *last = (eval_power(part) for part in cells[2].split("…"))
            blocks = last[0] - first + 1 if last else 1
            purposes[cells[0]] = (int(cells[1]) << 31, first, blocks)
    assert purposes == PURPOSES


def eval_power(text):
    """Value of text such as '3 · 2^30 + 1'."""
    assert re.fullmatch(r"[\d ·^+-]+", text), text
    return eval(text.replace("·", "*").replace("^", "**"))


def test_no_two_purposes_share_a_counter():
    # Positions stay below 2^63, so that bit 63 is the purpose's: ranges are boxes.
    boxes = {
        name: (bits >> 31, range(first, first + blocks))
        for name, (bits, first, blocks) in PURPOSES.items()
    }
    for half, blocks in boxes.values():
        assert half in (0, 1)
        assert 0 <= blocks.start < blocks.stop <= 2**32
    for (half, blocks), (other_half, other_blocks) in itertools.combinations(boxes.values(), 2):
        apart = blocks.stop <= other_blocks.start or other_blocks.stop <= blocks.start
        assert half != other_half or apart


def purposes_of(counter):
    """Names of the purposes that a counter (4,) belongs to."""
    _, high, third, _ = counter.tolist()
    return [
        name
        for name, (bits, first, blocks) in PURPOSES.items()
        if high & 2**31 == bits and first <= third < first + blocks
    ]


@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_counter_has_one_purpose(purpose):
    rng = np.random.default_rng(list(PURPOSES).index(purpose))
    blocks = PURPOSES[purpose][2]
    sampled = np.stack(
        [rng.integers(0, bound, 200, dtype=np.uint64) for bound in (2**63, blocks, 2**32)], axis=1
    ).tolist()
    edges = itertools.product((0, 2**32 - 1, 2**32, 2**63 - 1), (0, blocks - 1), (0, 2**32 - 1))
    for position, block, layer in [*sampled, *edges]:
        counter = reference.counters(purpose, position, block, layer)
        assert purposes_of(counter) == [purpose]


# What the engine draws ----------------------------------------------------------------------------


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dim", [1, 5, 64, 2100])
def test_haar_frames_draw_their_own_rows(isa, dim, restore_isa):
    _core.set_isa(isa)
    indices = np.array([0, 1, 7, 2**32 - 1, 2**32 + 5, 2**63 - 1])
    rows = np.empty((len(indices), dim), np.float32)
    _core.haar_rows(indices, rows, 2**64 - 3, 0, 1, None)
    expected = reference.gaussian_rows(indices, dim, 2**64 - 3, 0, "haar frames")
    np.testing.assert_array_max_ulp(rows, expected, maxulp=2)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("layer", "purpose"), [(None, "hyperplanes"), (9, "rows of layers")])
@pytest.mark.parametrize(("dim", "num_bits"), [(1, 4099), (70, 203), (2100, 16)])
def test_codes_are_signs_of_their_own_rows_or_of_a_layer(
    isa, layer, purpose, dim, num_bits, restore_isa
):
    _core.set_isa(isa)
    codes = infall.hyperplane_codes(np.eye(dim), num_bits, seed=5, layer=layer)  # (k, bytes)
    planes = reference.gaussian_rows(np.arange(num_bits), dim, 5, layer or 0, purpose)
    bits = np.unpackbits(codes, axis=1, count=num_bits, bitorder="little")
    assert_array_equal(bits.T, planes >= 0.0)


def test_codes_take_the_layers_that_rows_take():
    with pytest.raises(TypeError, match="layer"):
        infall.hyperplane_codes([1.0], 8, layer=1.5)
    with pytest.raises(ValueError, match="layer"):
        infall.hyperplane_codes([1.0], 8, layer=2**32)


# What shared words would show ---------------------------------------------------------------------


def test_codes_of_a_haar_frame_are_fair():
    # Were class c's vector made of row c, and bit c of a code as well, bit c would always be set.
    num_classes, seeds = 64, 200
    own = 0
    for seed in range(seeds):
        vectors = infall.SimplexETF(num_classes, 256, basis="haar", seed=seed).vectors()
        codes = infall.hyperplane_codes(vectors, num_classes, seed=seed)
        bits = np.unpackbits(codes, axis=1, bitorder="little")
        own += int(np.trace(bits))
    # Hyperplane c is independent of the frame and of the other hyperplanes.
    assert plausible(stats.binomtest(own, num_classes * seeds).pvalue)


def test_codes_do_not_repeat_the_signs_of_a_selection():
    agreeing = rows = 0
    for seed in range(100):
        w = np.random.default_rng(seed).normal(size=16)
        selection = infall.select_rows(w, 2048, seed=seed)
        signs = selection.unit_projections >= 0.0

        def bits_of_rows(w, seed, indices, layer):
            code = infall.hyperplane_codes(w, 2048, seed=seed, layer=layer)
            return np.unpackbits(code, bitorder="little")[indices] == 1

        agreeing += int((bits_of_rows(w, seed, selection.indices, None) == signs).sum())
        rows += len(signs)
        # By the rows of the layer itself they are the same, as documented.
        assert_array_equal(bits_of_rows(w, seed, selection.indices, 0), signs)
    assert plausible(stats.binomtest(agreeing, rows).pvalue)
