"""Experiments on random vectors at small sizes: against the angle chain and exact identities.

Bounds without a p-value hold for any seeds: how many standard errors of the fixture's mean they
are away is said beside them, as measured over 384 (convergence), 144 (clusters) and 48
(memorization) other seeds.
"""

import csv
import inspect
import math
import sys

import numpy as np
import pytest
from scipy import stats

from chance import allow, mean_pvalue, plausible
from infall import MaxLikelihood, laws
from infall.experiments import EXPERIMENTS
from infall.experiments.clusters import clusters
from infall.experiments.convergence import convergence
from infall.experiments.deep_angles import deep_angles
from infall.experiments.inputs import gaussian_input, layer_widths, width_label, width_name
from infall.experiments.memorization import memorization
from infall.experiments.result import Result


@pytest.fixture(scope="module")
def converged():
    return convergence(widths=(32, 1024, 2**14), depth=10, dim=32, num_test=400, seeds=40)


@pytest.fixture(scope="module")
def clustered():
    return clusters(widths=(256, 2**16), depth=5, dim=16, num_test=300, seeds=6, tsne_samples=40)


@pytest.fixture(scope="module")
def memorized():
    return memorization(width=2**20, depth=4, dim=15, num_test=60, seeds=8)


def rows_of(result):
    table = result.table()
    assert all(len(row) == len(table.columns) for row in table.rows)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


# ---------------------------------------------------------------- angles to any depth


def test_deep_angles_are_those_of_the_network_above_rounding():
    rng = np.random.default_rng(0)
    model = MaxLikelihood(2**16, 9, sampler="order_statistics").fit(rng.normal(size=20))
    X = rng.normal(size=(200, 20))
    to_zero, to_one = model.pole_distances(X, layer=None)
    distances, near_one = deep_angles(model, X, range(10))
    np.testing.assert_allclose(distances, np.minimum(to_zero, to_one), rtol=1e-8, atol=1e-15)
    np.testing.assert_array_equal(near_one, to_one < to_zero)
    distances_of_some, sides = deep_angles(model, X, [0, 3, 9])
    np.testing.assert_allclose(distances_of_some, distances[[0, 3, 9]], rtol=1e-11)
    np.testing.assert_array_equal(sides, near_one[[0, 3, 9]])


def test_deep_angles_keep_their_digits_below_rounding():
    """Against the same products in integers of 400 bits, at distances of 1e-24 and below."""
    rng = np.random.default_rng(1)
    dim, depth = 6, 30
    model = MaxLikelihood(2**30, depth, sampler="order_statistics").fit(rng.normal(size=dim))
    x = rng.normal(size=dim)

    def exact(vector):
        return np.array([int(math.ldexp(entry, 400)) for entry in vector], dtype=object)

    # Without normalisation, so that nothing is rounded but at the start; the reference direction
    # is the exact image of the input.
    w, moved = exact(model.input_), exact(x)
    for rows in model.layers_:
        scaled = np.vectorize(lambda entry: int(math.ldexp(float(entry), 40)), otypes=[object])(
            rows
        )
        w, moved = scaled.dot(w), scaled.dot(moved)
    dot = abs(int(w.dot(moved)))
    squared = int(w.dot(w)) * int(moved.dot(moved)) - dot * dot  # |w|^2 |x|^2 sin^2
    tangent = math.exp(0.5 * _log(squared) - _log(dot))
    distances, _ = deep_angles(model, x[None], [depth])
    assert distances[0, 0] < 1e-20
    assert math.isclose(distances[0, 0], tangent / math.pi, rel_tol=1e-10)


def _log(number):
    return math.log(number >> max(0, number.bit_length() - 60)) + math.log(2.0) * max(
        0, number.bit_length() - 60
    )


# ---------------------------------------------------------------- convergence


def test_convergence_agrees_with_the_angle_chain(converged):
    """From n = 2^10 on. The cells share a rate that leaves the test its power."""
    assert converged.depths == (1, 3, 5, 7, 9, 10)
    pairs = (
        (converged.nll, converged.law_nll),
        (converged.log10_distance, converged.law_log10_distance),
    )
    pvalues = [
        stats.ttest_ind(measured[:, 1:], law[:, 1:], equal_var=False).pvalue
        for measured, law in pairs
    ]
    assert plausible(*pvalues, alpha=2e-5)


def test_scores_of_agreement_are_in_standard_errors(converged):
    nll, distance = converged.scores_of_agreement()
    for scores, measured, law in (
        (nll, converged.nll, converged.law_nll),
        (distance, converged.log10_distance, converged.law_log10_distance),
    ):
        expected = stats.ttest_ind(measured, law, equal_var=False).statistic
        np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_convergence_measures_what_the_network_gives():
    result = convergence(widths=(64, 512), depth=4, dim=16, num_test=50, seeds=[7])
    w, X = gaussian_input(7, 16, 50)
    model = MaxLikelihood(512, 4, seed=7, sampler="order_statistics").fit(w)
    for row, layer in zip(rows_of(result)[3:], (1, 3, 4), strict=True):
        assert (row["width"], row["depth"]) == (512, layer)
        losses = model.loss(X, layer=layer)
        assert math.isclose(row["nll"], laws.binary_entropy(losses).mean(), rel_tol=1e-9)
        assert math.isclose(row["loss_below"], losses[losses < 0.5].mean(), rel_tol=1e-9)
        assert math.isclose(row["loss_above"], 1.0 - losses[losses >= 0.5].mean(), rel_tol=1e-9)
        assert row["share_below"] == np.mean(losses < 0.5)
        assert row["nll_error"] is None  # one seed has no standard error
    np.testing.assert_allclose(result.losses[1, -1], model.loss(X), rtol=1e-9)


def test_nothing_converges_without_selection(converged):
    """With n = k the norm is chi and no side gains: T and chi have the same law but for one.

    Bounds are 6 standard errors away and more.
    """
    allow()
    assert converged.nll.mean(axis=0)[0].min() > 0.8
    assert converged.nll.mean(axis=0)[-1, -1] < 1e-3
    assert np.all(np.diff(np.log(converged.nll.mean(axis=0)[1:]), axis=1) < 0.0)  # over depth
    assert np.all(np.diff(np.log(converged.nll.mean(axis=0)), axis=0) < 0.0)  # over width


def test_either_side_takes_half(converged):
    below = (converged.share_below[:, -1, -1] * 400).round().astype(int)
    assert plausible(stats.binomtest(int(below.sum()), 400 * len(below)).pvalue)


def test_one_layer_divides_the_tangent_by_tau(converged):
    """The typical distance falls by ln tau a layer, once small: two layers apart, 10 %.

    Its mean is 2.5 % off, a standard error 0.6 %.
    """
    allow()
    decades = converged.log10_distance.mean(axis=0)[-1]  # depths 1, 3, 5, 7, 9, 10
    gain = math.log10(laws.tail_gain(32 / 2**14))
    assert math.isclose(decades[-3] - decades[-2], 2.0 * gain, rel_tol=0.1)


def test_convergence_plot(converged):
    figure = converged.plot()
    titles = [axes.get_title() for axes in figure.get_axes()]
    assert [title[:3] for title in titles if title] == ["(a)", "(b)", "(c)", "(e)", "(f)", "(g)"]
    by_title = {axes.get_title()[:3]: axes for axes in figure.get_axes()}
    assert by_title["(a)"].get_ylim() == (0.0, 1.0)
    assert by_title["(e)"].get_yscale() == by_title["(f)"].get_yscale() == "log"
    # Each width: the chain, the mean field and the measured points; two entries of the legend.
    assert len(by_title["(f)"].lines) == 3 * 3 + 2
    assert _ink(figure) > 0.02


# ---------------------------------------------------------------- clusters


def test_cluster_identities(clustered):
    """Outputs have unit length, so that mean squares within and between add up to one."""
    w, X = gaussian_input(0, 16, 300)
    model = MaxLikelihood(2**16, 5, sampler="order_statistics").fit(w)
    near_one = model.angle_scores(X) > 0.5
    outputs = model.transform(X)
    centers = [outputs[~near_one].mean(axis=0), outputs[near_one].mean(axis=0)]
    row = rows_of(
        clusters(widths=(2**16,), depth=5, dim=16, num_test=300, seeds=[0], tsne_samples=20)
    )[-1]
    assert row["side_agreement"] > 0.95
    assert math.isclose(
        row["inter_distance"], np.linalg.norm(centers[0] - centers[1]), rel_tol=0.02
    )
    assert row["intra_distance"] ** 2 <= 1.0 - (row["inter_distance"] / 2.0) ** 2 + 1e-12
    assert row["inter_distance"] <= 2.0


def test_clusters_follow_the_law_of_the_two_sides(clustered):
    """The law leaves out a term of order 1 / sqrt(k) = 1/4."""
    inter, intra = clustered.law_inter_distance[-1, -1], clustered.law_intra_distance[-1, -1]
    assert plausible(mean_pvalue(clustered.inter_distance[:, -1, -1], inter, tolerance=0.02))
    logs = np.log(clustered.intra_distance[:, -1, -1])
    assert plausible(mean_pvalue(logs, math.log(intra), tolerance=math.log(1.25)))


def test_all_metrics_improve(clustered):
    """The least step is 7 standard errors above 0; of 144 networks none goes back anywhere."""
    allow()
    for name, sign in (
        ("silhouette", 1),
        ("davies_bouldin", -1),
        ("inter_distance", 1),
        ("intra_distance", -1),
    ):
        steps = sign * np.diff(getattr(clustered, name).mean(axis=0)[:, 1:], axis=1)
        assert np.all(steps > 0.0), name
    assert "as the paper says" in clustered.summary()
    assert len(rows_of(clustered)) == 2 * 6
    assert rows_of(clustered)[0]["layer"] == 0


def test_clusters_plot(clustered):
    figure = clustered.plot()
    assert clustered.embedding.shape == (2, 3, 40, 3)
    assert clustered.embedded_layers == (1, 3, 5)
    titles = [axes.get_title() for axes in figure.get_axes()]
    assert sum("layer" in title for title in titles) == 6
    assert titles[-4:] == [
        "silhouette",
        "Davies-Bouldin index",
        "distance between the clusters",
        "distance to the own centre",
    ]
    assert figure.get_axes()[-1].get_yscale() == "log"
    assert _ink(figure) > 0.02


# ---------------------------------------------------------------- memorization


def test_there_are_two_clusters_for_each_layer(memorized):
    """One vector in 200 of the later layers goes astray, and the least rise is 6 standard errors.

    The bounds allow for a fourth of the vectors, in any cluster of one network.
    """
    allow()
    assert len(np.unique(memorized.labels)) == 8
    truth = list(zip(memorized.layers.tolist(), memorized.near_one.tolist(), strict=True))
    assert len(set(truth)) == 8
    later = memorized.layers >= 3
    assert memorized.rand_index_from[:, 2].mean() > 0.95
    # Each of the clusters of the later layers is one of those k-means has found.
    for which in {true_label for true_label, chosen in zip(truth, later, strict=True) if chosen}:
        labels = [
            label
            for label, true_label in zip(memorized.labels, truth, strict=True)
            if true_label == which
        ]
        assert np.bincount(labels).max() > 0.75 * len(labels)
    assert np.all(np.diff(memorized.silhouette.mean(axis=0)) > 0.0)
    rows = rows_of(memorized)
    assert [row["layer"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["rand_index_from"] == memorized.rand_index.mean()


def test_memorization_follows_the_angle_chain(memorized):
    """Eight networks of k = 15 with 60 vectors each: within 0.3 decades, 8 standard errors."""
    allow()
    difference = memorized.log10_distance.mean(axis=0) - memorized.law_log10_distance.mean(axis=0)
    assert np.abs(difference).max() < 0.3


def test_memorization_plot(memorized):
    figure = memorized.plot()
    assert memorized.embedding.shape == (4 * 60, 2)
    truth, clusters, tightness, *_ = figure.get_axes()
    names = {text.get_text() for text in truth.texts}
    assert names == {f"{layer}{side}" for layer in range(1, 5) for side in "+-"}
    assert clusters.get_title().startswith("the same, coloured by k-means(8)")
    assert tightness.get_yscale() == "log"
    assert _ink(figure) > 0.02


# ---------------------------------------------------------------- what they share


@pytest.mark.parametrize("name", ["converged", "clustered", "memorized"])
def test_result(name, request, tmp_path):
    result = request.getfixturevalue(name)
    assert isinstance(result, Result)
    assert result.settings["sampler"] == "order_statistics"
    assert "stream" in result.comparison.sentence()
    assert plausible(result.comparison.pvalue)
    assert plausible(result.comparison.log_norm_pvalue)
    assert result.comparison.sentence() in result.summary()
    result.write_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        written = list(csv.reader(file))
    table = result.table()
    assert written[0] == list(table.columns)
    assert len(written) == 1 + len(table.rows)
    assert float(written[-1][2]) == table.rows[-1][2]


def test_the_same_seed_gives_the_same_result():
    first, second = (
        clusters(widths=(64,), depth=2, dim=8, num_test=40, seeds=1, tsne_samples=20)
        for _ in range(2)
    )
    assert first.table() == second.table()
    np.testing.assert_array_equal(first.embedding, second.embedding)


@pytest.mark.parametrize(
    ("function", "size"),
    [
        (convergence, {"widths": (64,), "depth": 2, "dim": 8, "num_test": 20}),
        (clusters, {"widths": (64,), "depth": 2, "dim": 8, "num_test": 20}),
        (memorization, {"width": 64, "depth": 2, "dim": 8, "num_test": 10}),
    ],
)
def test_progress_and_its_interrupt(function, size):
    calls = []
    function(seeds=2, progress=lambda *call: calls.append(call), **size)
    first, last = {}, {}
    for done, total, stage in calls:
        first.setdefault(stage, done)
        last[stage] = done, total
    assert calls[0][0] == 0
    assert calls[0][2] == "networks"
    assert all(done == total for done, total in last.values())
    # Stages are told when they begin; the rows of the other network when some are drawn.
    assert all(done == 0 for stage, done in first.items() if not stage.endswith(": rows"))

    def stop(done, total, stage):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        function(seeds=2, progress=stop, **size)


@pytest.mark.parametrize("function", [convergence, clusters])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"widths": ()}, "widths is empty"),
        ({"widths": "2^9"}, "widths is '2\\^9'; expected a sequence"),
        ({"widths": (512, 128)}, r"widths\[1\] is 128; expected at least dim = 256"),
        ({"widths": (512, 512)}, r"widths\[1\] is 512 after 512; they must ascend"),
        ({"widths": (512.5,)}, r"widths\[0\] is 512.5"),
        ({"depth": 0}, "depth is 0"),
        ({"dim": 1}, "dim is 1"),
        ({"num_test": 0}, "num_test is 0"),
        ({"seeds": 0}, "seeds is 0"),
        ({"seeds": (1, 1)}, "seeds has 1 more than once"),
        ({"sampler": "sorted"}, "sampler is 'sorted'"),
    ],
)
def test_wrong_arguments(function, wrong, message):
    with pytest.raises((TypeError, ValueError), match=message):
        function(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 14}, "width is 14; expected at least dim = 15"),
        ({"depth": 1}, "depth is 1"),
        ({"num_test": 9}, "num_test is 9"),
    ],
)
def test_wrong_arguments_of_memorization(wrong, message):
    with pytest.raises(ValueError, match=message):
        memorization(**wrong)


def test_names_of_widths():
    assert width_name(2**25) == "2^25"
    assert width_name(1000000) == "1,000,000"
    assert width_label(2**25) == "$2^{25}$"
    assert width_label(8000) == "8,000"
    assert layer_widths(np.array([4, 8]), 4) == (4, 8)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_there(name):
    experiment = EXPERIMENTS[name]
    function = experiment.load()
    assert function.__doc__
    assert experiment.shows
    module = sys.modules[function.__module__]
    results = [entry for entry in vars(module).values() if _is_result(entry)]
    assert [(entry.name, entry.paper) for entry in results] == [(name, experiment.paper)]
    assert {"seeds", "sampler", "progress"} <= set(inspect.signature(function).parameters)


def _is_result(entry):
    return isinstance(entry, type) and issubclass(entry, Result) and entry is not Result


def _ink(figure):
    """Return the share of pixels that are not white."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(50)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return float(np.mean(np.any(pixels < 250, axis=-1)))
