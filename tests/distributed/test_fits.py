"""Many fits: each the bits of its own, in a file that is taken the next time."""

import numpy as np
import pytest

from infall import MaxLikelihood
from infall.distributed import FitSpec, fit_many
from infall.distributed.fits import path_of_fit
from selection_cases import vector

POOLS = ["none", "threads", "processes", "loky", "dask"]


def specs_of(count):
    samplers = ("stream", "rotated", "order_statistics")
    return [
        FitSpec(vector(5 + i % 2, seed=i), 2**10 + i, 1 + i % 3, seed=i, sampler=samplers[i % 3])
        for i in range(count)
    ]


def fitted(spec):
    return MaxLikelihood(spec.width, spec.depth, seed=spec.seed, sampler=spec.sampler).fit(spec.w)


@pytest.mark.parametrize("pool", POOLS)
def test_any_executor_gives_the_fits(pool, pools, tmp_path):
    specs, told = specs_of(9), []
    specs.append(specs[4])  # is fitted once
    fits = list(
        fit_many(
            specs,
            executor=pools(pool),
            folder=tmp_path / "fits",
            progress=lambda *done: told.append(done),
        )
    )
    assert told == [(done, 10, "fits") for done in range(1, 11)]
    assert len(fits) == 10
    assert len(list((tmp_path / "fits").iterdir())) == 9
    for spec, model in fits:
        assert model == fitted(spec)


def test_intact_files_are_kept_and_damaged_ones_replaced(tmp_path):
    specs = specs_of(4)
    expected = dict(
        enumerate(model for _, model in fit_many(specs, executor=None, folder=tmp_path))
    )
    paths = [path_of_fit(tmp_path, spec._replace(w=np.asarray(spec.w))) for spec in specs]
    before = [path.stat().st_mtime_ns for path in paths]
    whole = paths[2].read_bytes()
    paths[2].write_bytes(whole[:300])
    paths[3].unlink()
    order = [spec.seed for spec, _ in fit_many(specs, executor=None, folder=tmp_path)]
    assert order == [0, 1, 2, 3]
    after = [path.stat().st_mtime_ns for path in paths]
    assert after[:2] == before[:2]
    assert after[2] != before[2]
    assert paths[2].read_bytes() == whole
    assert MaxLikelihood.load(paths[3]) == expected[3]


def test_what_a_fit_depends_on_has_a_file_of_its_own(tmp_path):
    spec = FitSpec(vector(4), 2**10, 2)
    others = [
        spec,
        spec._replace(w=-np.asarray(spec.w)),
        spec._replace(width=2**11),
        spec._replace(depth=3),
        spec._replace(seed=1),
        spec._replace(sampler="rotated"),
    ]
    assert len({path_of_fit(tmp_path, other) for other in others}) == len(others)


@pytest.mark.parametrize(
    ("error", "text", "change"),
    [
        (ValueError, r"specs\[1\].w has 2 axes", {"w": np.ones((2, 2))}),
        (ValueError, r"specs\[1\].w is not finite: nan at position 1", {"w": [1.0, np.nan]}),
        (ValueError, "width is 0", {"width": 0}),
        (ValueError, "sampler is 'x'", {"sampler": "x"}),
        (TypeError, "depth is 1.5", {"depth": 1.5}),
    ],
)
def test_bad_specs_are_refused_before_anything_is_fitted(error, text, change, tmp_path):
    good = FitSpec(np.ones(3), 100, 1)
    with pytest.raises(error, match=text):
        fit_many([good, good._replace(**change)], executor=None, folder=tmp_path)
    with pytest.raises(TypeError, match=r"specs\[0\] is a tuple; expected a FitSpec"):
        fit_many([tuple(good)], executor=None, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_fit_raises_names_it(tmp_path):
    specs = [FitSpec(np.ones(3), 100, 1), FitSpec(np.zeros(3), 100, 1)]
    with pytest.raises(ValueError, match="w is zero") as caught:
        list(fit_many(specs, executor=None, folder=tmp_path))
    assert "while infall fitted specs[1]" in caught.value.__notes__
    assert len(list(tmp_path.iterdir())) == 1
