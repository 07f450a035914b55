"""Digests of the bits that must never change, and files that every later version must read.

    python tests/golden.py --write     write tests/data/golden.json anew
    python tests/golden.py --files     write the stored files of this version anew

The first is for a change of bits that the CHANGELOG states; what changed is printed. The second
is for a new format of files: those of older versions stay beside the new ones. `test_golden.py`
holds the engine against both. Only what the engine computes itself is kept here: what passes
through a product or a logarithm of NumPy is not promised to the bit.
"""

import argparse
import hashlib
import itertools
import json
import sys
from pathlib import Path

import numpy as np

import infall
from infall import _core
from infall.frames import walsh_hadamard

DATA = Path(__file__).parent / "data"
DIGESTS = DATA / "golden.json"
FILES = DATA / "files"  # one folder per version of the engine
SEEDS = (0, 1, 2**64 - 1)
SCORES_AND_ORDERS = (("absolute", "index"), ("absolute", "score"), ("signed", "index"))
# All, across a multiple of 2^32, and up to the last row there can be.
ROW_RANGES = ((0, 700), (2**32 - 301, 2**32 + 400), (2**63 - 601, 2**63 - 1))


def entries(*shape, start=0):
    """Numbers in [-1, 1) that need no generator: multiples of 2^-31 by a multiplicative hash."""
    count = np.arange(start, start + np.prod(shape, dtype=int), dtype=np.uint64) + np.uint64(1)
    words = (count * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return (words.astype(np.float64) * 2.0**-31 - 1.0).reshape(shape)


def digests(named_arrays):
    """SHA-256 by name: of the dtypes, shapes and little-endian bytes of all arrays of a name."""
    hashes = {}
    for name, array in named_arrays:
        dtype = np.asarray(array).dtype.newbyteorder("<")
        little = np.ascontiguousarray(array, dtype=dtype)
        digest = hashes.setdefault(name, hashlib.sha256())
        digest.update(f"{dtype.str} {np.shape(array)} ".encode() + little.tobytes())
    return {name: digest.hexdigest() for name, digest in hashes.items()}


# The cases ----------------------------------------------------------------------------------------


class Host:
    """Where the arrays of a case live."""

    is_device = False

    def put(self, array):
        return array

    def get(self, array):
        return array


def rows(place, seed):
    """Rows of layers, in and past a tile of columns."""
    indices = place.put(np.array([0, 1, 2, 1000, 2**32 - 1, 2**32, 2**63 - 1]))
    for layer, dim in itertools.product((0, 2**32 - 1), (37, 2100)):
        gaussian = infall.gaussian_rows(indices, dim, seed=seed, layer=layer)
        yield f"layer {layer}", gaussian


def selections(place, seed):
    """Selections of every sampler, score, order, batch and range of rows."""
    for sampler, batch in itertools.product(("stream", "rotated"), (None, 1, 7)):
        w = place.put(entries(*(() if batch is None else (batch,)), 13))
        for (score, order), row_range in itertools.product(SCORES_AND_ORDERS, ROW_RANGES):
            selection = infall.select_rows(
                w, 2**63 - 1, num_rows=11, seed=seed, layer=5, sampler=sampler, score=score,
                order=order, row_range=row_range,
            )  # fmt: skip
            yield from of_selection(selection, f"{sampler}, batch {batch}")


def order_statistics(place, seed):
    """Selections without a layer: all rows, few of many, and of the widest layer."""
    w = place.put(entries(13))
    for width, order in itertools.product((60, 10**6, 2**63 - 1), ("index", "score")):
        selection = infall.select_rows(
            w, width, num_rows=60, seed=seed, layer=5, sampler="order_statistics", order=order
        )
        yield from of_selection(selection, f"width {width}")


def of_selection(selection, name):
    for array in (
        selection.indices,
        selection.unit_projections,
        selection.projections,
        selection.rows,
    ):
        yield name, array


def matrix_selections(place, seed):
    """Selections from a matrix in memory, of both types; the seed shifts its entries."""
    w = entries(3, 21)
    for dtype in ("float32", "float64"):
        matrix = place.put(entries(2000, 21, start=seed % 1000).astype(dtype))
        for score in ("absolute", "signed"):
            selection = infall.select_rows_from(
                weights=matrix, w=place.put(w), num_rows=9, score=score, order="score"
            )
            yield from of_selection(selection, dtype)


def codes(place, seed):
    """Codes by hyperplanes of their own and by the rows of a layer, and their distances."""
    x = place.put(entries(9, 37))
    for layer in (None, 0, 3):
        packed = infall.hyperplane_codes(x, 1203, seed=seed, layer=layer)
        yield f"layer {layer}", packed
        yield f"layer {layer}, distances", infall.hamming_distances(packed, packed)


def frames(place, seed):
    """Vectors of simplexes in every basis, and what the structured ones project."""
    for (num_classes, dim), basis in itertools.product(
        ((5, 8), (9, 8), (12, 37)), ("identity", "haar", "hadamard")
    ):
        for norms in (None, entries(num_classes) + 2.0):
            frame = infall.SimplexETF(num_classes, dim, basis=basis, seed=seed, class_norms=norms)
            if not place.is_device:
                yield f"{basis}, vectors", frame.vectors()
            if basis != "haar":  # whose products are NumPy's
                for dtype in ("float32", "float64"):
                    h, y = (entries(6, length).astype(dtype) for length in (dim, num_classes))
                    yield f"{basis}, {dtype}", frame.project(place.put(h))
                    yield f"{basis}, {dtype}", frame.adjoint(place.put(y))


def transforms(place, seed):
    """Walsh-Hadamard transforms; the seed shifts their input."""
    for log2_length, dtype in itertools.product((0, 3, 12), ("float32", "float64")):
        x = entries(3, 2**log2_length, start=seed % 1000).astype(dtype)
        yield dtype, walsh_hadamard(place.put(x))


def moments(place, seed):
    """Class moments of one batch; the seed shifts the features."""
    labels = np.arange(700) * 7 % 13 % 5
    for dtype in ("float32", "float64"):
        features = entries(700, 19, start=seed % 1000).astype(dtype) + np.array(3.0, dtype)
        class_moments = infall.ClassMoments(5, 19, scatter=not place.is_device)
        class_moments.update(place.put(features), place.put(labels))
        for name in ("counts", "means", "variances"):
            yield f"{dtype}, {name}", getattr(class_moments, name)
        if not place.is_device:
            yield f"{dtype}, within_scatter", class_moments.within_scatter


def networks(place, seed):
    """MaxLikelihood fits by every sampler."""
    w = place.put(entries(12))
    for sampler in ("stream", "rotated", "order_statistics"):
        model = infall.MaxLikelihood(3000, depth=4, seed=seed, sampler=sampler).fit(w)
        for name in ("input_", "layers_", "outputs_", "indices_", "scores_"):
            yield sampler, getattr(model, name)


def words(place, seed):
    """What has no public function: deciding entries, haar rows, quantiles."""
    if place.is_device:
        return
    row_numbers = np.array([0, 1, 2, 3, 2**32 - 1, 2**32, 2**63 - 1])
    for layer in (0, 2**32 - 1):
        yield "deciding entries", _core.deciding_entries(row_numbers, 70, seed, layer, 1)
    haar = np.empty((len(row_numbers), 37), np.float32)
    _core.haar_rows(row_numbers, haar, seed, 0, 1, None)
    yield "haar rows", haar
    # The sums S_j from 2^-130 to 2^6.5, each a variable of its own.
    quantiles = np.ldexp(1.5 + 0.5 * entries(1400, 1), np.arange(1400)[:, None] // 10 - 133)
    _core.largest_folded_normals(quantiles, 1.0)
    yield "quantiles", quantiles


CASES = (
    rows, selections, order_statistics, matrix_selections, codes, frames, transforms, moments,
    networks, words,
)  # fmt: skip


def digests_of(case, place):
    """Digests of a case for all seeds, by name."""
    return digests(
        (f"{case.__name__}, seed {seed}: {name}", place.get(array))
        for seed in SEEDS
        for name, array in case(place, seed)
    )


# Stored files -------------------------------------------------------------------------------------


def objects():
    """One object of each kind that can be saved, by the name of its file."""
    w = entries(12)
    labels = np.arange(300) % 4
    features = entries(300, 7) + labels[:, None]
    moments = infall.ClassMoments(4, 7, scatter=True)
    moments.update(features, labels)
    trajectory = infall.CollapseTrajectory("epoch")
    for epoch in (1, 2, 3):
        trajectory.add(epoch, entries(300, 7) / epoch + labels[:, None], labels)
    saved = {
        "MaxLikelihood.npz": infall.MaxLikelihood(3000, depth=3, sampler="rotated").fit(w),
        "ClassMoments.npz": moments,
        "CollapseTrajectory.json": trajectory,
    }
    if hasattr(infall.RowSelection, "save"):
        saved["RowSelection.npz"] = infall.select_rows(w, 3000, num_rows=5)
    return saved


def contents(thing):
    """Names and arrays of what an object keeps."""
    names = {
        "MaxLikelihood": ("input_", "layers_", "outputs_", "indices_", "scores_", "log_norms_"),
        "ClassMoments": ("counts", "means", "variances", "within_scatter"),
        "RowSelection": ("indices", "projections", "unit_projections", "rows"),
        "CollapseTrajectory": (),
    }[type(thing).__name__]
    yield from ((name, getattr(thing, name)) for name in names)
    if isinstance(thing, infall.CollapseTrajectory):
        yield from thing.arrays().items()


def write_files():
    """Save one object of each kind, and the digests of what they keep."""
    folder = FILES / infall.__version__
    folder.mkdir(parents=True, exist_ok=True)
    kept = {}
    for name, thing in objects().items():
        thing.save(folder / name)
        kept[name] = digests(contents(thing))
    write_json(folder / "contents.json", kept)


def write_json(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the digests anew")
    parser.add_argument("--files", action="store_true", help="write the files anew")
    arguments = parser.parse_args()
    known = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    current = {}
    for case in CASES:
        current |= digests_of(case, Host())
    for name in sorted(known.keys() | current.keys()):
        if known.get(name) != current.get(name):
            how = "changed" if name in known and name in current else "new or gone"
            sys.stdout.write(f"{how}: {name}\n")
    if arguments.write:
        write_json(DIGESTS, current)
    if arguments.files:
        write_files()


if __name__ == "__main__":
    main()
