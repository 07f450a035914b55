"""Flipped labels, reconciliation, trajectories, hashing and collapse at small sizes."""

import csv
import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import stats

import reference
from chance import ALPHA, plausible
from infall import MaxLikelihood, laws
from infall.experiments import hashing as hashing_module
from infall.experiments import repeats
from infall.experiments.datasets import load_digits
from infall.experiments.flipped_labels import flipped_labels
from infall.experiments.hashing import hashing
from infall.experiments.inputs import gaussian_input
from infall.experiments.layer_collapse import layer_collapse
from infall.experiments.reconciliation import RANGES, reconciliation
from infall.experiments.trajectories import trajectories


def agrees(values, expected, error=0.0):
    """Whether the mean over seeds is the expected one, by a t test; `error` is that of the law."""
    values = np.asarray(values)
    deviation = math.hypot(values.std(ddof=1) / math.sqrt(len(values)), error)
    return plausible(2 * stats.t.sf(abs(values.mean() - expected) / deviation, len(values) - 1))


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def flipped(digits):
    images, labels = digits
    return flipped_labels(width=2000, depth=3, digit=4, images=images, labels=labels, seeds=8)


@pytest.fixture(scope="module")
def reconciled(digits):
    return reconciliation(width=2048, depth=14, images=digits[0], num_images=24, seeds=6)


@pytest.fixture(scope="module")
def followed():
    return trajectories(width=200, depth=6, c=0.5, long_dim=24, num_test=60, seeds=12)


@pytest.fixture(scope="module")
def hashed():
    return hashing(
        dim=24, num_bits=200, num_codes=100, width=4096, num_layers=12, num_angles=9, seeds=3
    )


@pytest.fixture(scope="module")
def collapsed():
    return layer_collapse(width=2**14, depth=4, dim=32, num_test=800, seeds=6)


@pytest.fixture(scope="module", params=["flipped", "reconciled", "followed", "hashed", "collapsed"])
def result(request):
    return request.getfixturevalue(request.param)


def test_flipped_scores_are_mirrored(flipped):
    assert flipped.scores.shape == (8, 4, 180)
    np.testing.assert_allclose(flipped.flipped_scores, 1.0 - flipped.scores, atol=3e-16)
    assert (flipped.scores[:, -1] < 0.1).all()
    expected = np.abs(1.0 - 2.0 * flipped.scores.mean(axis=2)) / flipped.scores.std(axis=2)
    np.testing.assert_allclose(flipped.decidability, expected, rtol=1e-12)


def test_flipped_labels_starts_from_the_bare_input(flipped, digits):
    images, labels = digits
    fours = images[labels == 4]
    w = flipped.fitted_images[2]
    [fitted] = np.flatnonzero((fours == w).all(axis=1))
    scores = laws.angle(np.delete(fours, fitted, axis=0), w) / np.pi
    np.testing.assert_allclose(np.sort(flipped.scores[2, 0]), np.sort(scores), atol=1e-15)
    flips = laws.angle(-np.delete(fours, fitted, axis=0), w) / np.pi
    np.testing.assert_allclose(np.sort(flipped.flipped_scores[2, 0]), np.sort(flips), atol=1e-15)


def test_decidability_grows_as_the_angle_chain_and_by_tau(flipped):
    ratios = flipped.decidability / flipped.predicted_decidability
    assert_array_equal(ratios.shape, (8, 4))
    np.testing.assert_allclose(ratios[:, 0], 1.0, rtol=0.02)  # the chain repeats input angles
    for layer in (1, 2, 3):
        assert agrees(np.log(ratios[:, layer]), 0.0, error=0.01)
    # What is left of (1 - 2 mean) once the means are taken out is the fall of the deviations.
    fall = np.log(flipped.scores[:, 2].std(axis=1) / flipped.scores[:, 3].std(axis=1))
    tops = laws.folded_normal_top(2000, 64, size=4096, rng=1)
    rate = np.log(np.sqrt((tops**2).sum(axis=1))).mean() - 0.5 * np.log(2.0)
    rate -= 0.5 * float(stats.loggamma(31.5).mean())
    assert math.exp(rate) == pytest.approx(flipped.tail_gain, rel=0.02)
    assert agrees(fall, rate)


def test_flipped_labels_counts_what_there_is(digits):
    images, _ = digits
    few = flipped_labels(width=500, depth=1, images=3.0 * images[:6], num_test=50, seeds=[3])
    assert few.settings["num_test"] == 5
    assert few.fitted_images.max() <= 1.0
    more = flipped_labels(width=500, depth=1, images=images[:60], num_test=20, seeds=[3])
    assert more.scores.shape == (1, 2, 20)


def test_enlarged_digits_by_default():
    flipped = flipped_labels(width=800, depth=1, num_test=4, seeds=1)
    assert flipped.settings["dim"] == 784
    assert "28 x 28" in flipped.settings["images"]


def test_recovery_is_eta_times_the_distance_of_the_outputs(reconciled):
    acute = np.minimum(reconciled.scores, 1.0 - reconciled.scores)  # (S, L + 1, N)
    length = 2.0 * 10000.0 * np.sin(0.5 * np.pi * acute)
    for number, peak in enumerate(RANGES):
        expected = length / (peak * reconciled.image_norms[:, None])
        taken = reconciled.taken(reconciled.relative_errors)[:, number]
        np.testing.assert_allclose(taken, expected, rtol=1e-6, atol=1e-12)
        other = np.where(
            reconciled.takes_minus,
            reconciled.relative_errors[:, number, 0],
            reconciled.relative_errors[:, number, 1],
        )
        # The other branch moves away, by up to 2 eta.
        beyond = 2.0 * 10000.0 * np.cos(0.5 * np.pi * acute)
        np.testing.assert_allclose(
            other, beyond / (peak * reconciled.image_norms[:, None]), rtol=1e-9
        )
        noise = taken * peak * reconciled.image_norms[:, None] / 8.0
        np.testing.assert_allclose(
            reconciled.taken(reconciled.psnr)[:, number], 20.0 * np.log10(peak / noise), atol=1e-9
        )
    psnr_to_1, other = np.moveaxis(reconciled.psnr, 1, 0)
    # Next to an exact recovery, rounding is another for pixels to 255.
    far = psnr_to_1 < 100.0
    np.testing.assert_allclose((other - psnr_to_1)[far], 20.0 * math.log10(255.0), atol=1e-3)


def test_branches_and_first_layers(reconciled, digits):
    assert_array_equal(reconciled.takes_minus, reconciled.scores > 0.5)
    share = reconciled.takes_minus[:, -1].mean()
    count = reconciled.takes_minus[:, -1].size
    assert plausible(stats.binomtest(round(share * count), count).pvalue)
    first = reconciled.first_layers()
    psnr = reconciled.taken(reconciled.psnr)
    for (seed, number, image), layer in np.ndenumerate(first):
        track = psnr[seed, number, :, image]
        if layer < 0:
            assert (track <= 20.0).all()
        else:
            assert track[layer] > 20.0
            assert (track[:layer] <= 20.0).all()
    assert (first[:, 1] >= 0).all()
    late = first[:, 0] < 0
    assert ((first[:, 1] < first[:, 0]) | late).all()
    # A residual of length e |x| leaves at least this correlation with x, less its mean.
    images, _ = digits
    centred = images - images.mean(axis=1, keepdims=True)
    longest = (np.linalg.norm(images, axis=1) / np.linalg.norm(centred, axis=1)).max()
    errors = longest * reconciled.taken(reconciled.relative_errors)[:, 1, -1]
    correlations = reconciled.taken(reconciled.correlations)[:, 1, -1]
    assert (correlations >= np.sqrt(np.maximum(0.0, 1.0 - errors**2)) - 1e-9).all()
    assert np.median(correlations) > 0.999
    # Where the sides are opposite, the literal branch recovers nothing.
    opposite = reconciled.takes_minus[:, -1]
    assert (reconciled.psnr[:, 1, 0, -1][opposite] < 0.0).all()


def test_recovery_follows_the_angle_chain(reconciled):
    measured = np.log(reconciled.taken(reconciled.relative_errors)).mean(axis=3)
    predicted = np.log(reconciled.predicted_error())
    for number in range(2):
        for layer in (0, 3, 7, 11, 14):
            difference = measured[:, number, layer] - predicted[:, number, layer]
            assert agrees(difference, 0.0, error=0.02)


def test_pictures_are_recovered(reconciled):
    near, far = reconciled.pictures
    assert near.score < 0.5 < far.score
    for pictures, sign in ((near, 0), (far, 1)):
        np.testing.assert_allclose(
            pictures.recovered[1, sign, -1], 255.0 * pictures.label, atol=2.0
        )
        # z is the image less eta times a unit vector.
        assert np.linalg.norm(pictures.fooling[0] - pictures.label) == pytest.approx(10000.0)
        assert np.linalg.norm(pictures.recovered[1, 1 - sign, -1]) > 19000.0


def test_layer_components_are_those_of_the_model(followed):
    for paths, dim, width in zip(followed.paths, (2, 2, 24, 24), (200, 2, 200, 24), strict=True):
        assert (paths.dim, paths.width, paths.selects) == (dim, width, width > dim)
        w, _ = gaussian_input(3, dim, 60)
        model = MaxLikelihood(width, 6, seed=3, sampler="order_statistics")
        model.fit(w / np.linalg.norm(w))
        np.testing.assert_allclose(
            np.exp(paths.log_layer_components[3, 1:]), model.layer_components(0.5), rtol=1e-12
        )
        assert_array_equal(paths.log_layer_components[:, 0], -np.inf)
        np.testing.assert_allclose(paths.directions[3, 1:], model.outputs_)


def test_points_of_the_extended_space(followed):
    for paths in followed.paths:
        fitted, tests = paths.points()
        np.testing.assert_allclose(np.linalg.norm(fitted, axis=-1), 1.0)
        np.testing.assert_allclose(np.linalg.norm(tests, axis=-1), 1.0)
        # The unnormalised product of the layers, literally.
        w, drawn = gaussian_input(0, paths.dim, 60)
        test = drawn[5]
        model = MaxLikelihood(paths.width, 6, seed=0, sampler="order_statistics").fit(w)
        w, test = w / np.linalg.norm(w), test / np.linalg.norm(test)
        for layer, rows in enumerate(model.layers_.astype(np.float64), start=1):
            w, test = rows @ w, rows @ test
            for vector, point in ((w, fitted[layer]), (test, tests[layer, 5])):
                expected = np.concatenate([[0.5 * layer], vector])
                np.testing.assert_allclose(
                    point, expected / np.linalg.norm(expected), rtol=1e-9, atol=1e-12
                )


def test_norms_and_angles_follow_their_laws(followed):
    for paths in followed.paths:
        assert agrees(paths.log_norms[:, -1], paths.predicted_log_norms[-1], error=0.01)
        assert agrees(paths.log_tangents[:, -1], paths.predicted_log_tangents[-1], error=0.05)
    short, bare_short, long, bare_long = followed.paths
    # E ln chi_k - E ln chi_{k-1} is ln 2 for k = 2, 1/(2k) for long inputs.
    assert bare_short.rate == pytest.approx(2.0, rel=0.01)
    assert bare_long.rate == pytest.approx(math.exp(1.0 / 48.0), rel=0.01)
    assert short.rate > 4.0
    assert long.rate > 1.5
    # Without selection the long input loses its layer component and keeps its angles.
    assert bare_long.log_layer_components[:, -1].max() < -6.0
    assert bare_long.log_tangents[:, -1].mean() > 0.0 > long.log_tangents[:, -1].mean()


def test_code_distances_are_counted_bit_by_bit(hashed):
    w, tests = hashing_module._pairs(24, hashed.angle_scores, seed=1)
    np.testing.assert_allclose(laws.angle(tests, w) / np.pi, hashed.angle_scores)
    hyperplanes = reference.gaussian_rows(np.arange(200 * 3), 24, 1, 0, "hyperplanes")
    signs = hyperplanes @ np.concatenate([w[None], tests]).T >= 0.0  # (600, 10)
    different = (signs[:, 1:] != signs[:, :1]).reshape(3, 200, 9).sum(axis=1)
    assert_array_equal(hashed.distances[1, :, :3], different.T)


def test_all_rows_are_binomial_and_selected_rows_are_not(hashed):
    count = len(hashed.angle_scores)
    assert plausible(hashed.chi_squared_pvalues)
    assert plausible(hashed.kolmogorov_pvalues)
    assert plausible(hashed.selected_law_pvalues)
    assert plausible(hashed.other_pvalues)
    rejected = hashed.selected_binomial_pvalues < ALPHA
    assert_array_equal(rejected, np.arange(count) != 4)  # at the right angle both say 1/2
    share = hashed.selected_distances.mean(axis=(0, 2)) / 24
    np.testing.assert_allclose(share, hashed.predicted_selected, atol=0.06)


def test_likelihood_of_codes_is_h2(hashed):
    expected = laws.binary_entropy(hashed.angle_scores)
    actual = hashed.mean_log_likelihoods()
    for number in range(len(expected)):
        assert agrees(actual[:, number], expected[number], error=2e-3)
    # H2 is concave: that of the estimated angle is lower, by 1 / (2 n ln 2).
    lower = actual.mean(axis=0) - hashed.estimated_entropies().mean(axis=0)
    np.testing.assert_allclose(lower, 1.0 / (400 * math.log(2.0)), rtol=0.3)


@pytest.mark.parametrize("num_bits", [3, 1000])
def test_binomial_tests_accept_and_reject(num_bits):
    rng = np.random.default_rng(num_bits)
    for theta in (0.08, 0.5, 0.9):
        counts = rng.binomial(num_bits, theta, size=(100, 200))
        chi, kolmogorov = (
            np.array([test(count) for count in counts])
            for test in (
                lambda count, theta=theta: hashing_module._chi_squared(count, num_bits, theta),
                lambda count, theta=theta: hashing_module._discrete_kolmogorov(
                    count, stats.binom(num_bits, theta)
                ),
            )
        )
        # At a level of 5 %: the first holds it, the second is below it.
        assert plausible(stats.binomtest(int((chi < 0.05).sum()), 100, 0.05).pvalue)
        rejected = int((kolmogorov < 0.05).sum())
        assert plausible(stats.binomtest(rejected, 100, 0.05, alternative="greater").pvalue)
        wrong = rng.binomial(num_bits, 0.85 * theta, size=20000)
        assert hashing_module._chi_squared(wrong, num_bits, theta) < 1e-9
        law = stats.binom(num_bits, theta)
        assert hashing_module._discrete_kolmogorov(wrong, law) < 1e-9


def test_collapse_metrics_are_those_of_the_two_sides(collapsed):
    w, tests = gaussian_input(2, 32, 800)
    model = MaxLikelihood(2**14, 4, seed=2, sampler="order_statistics").fit(w)
    outputs = model.transform(tests, layer=None)
    sides = np.where(outputs[-1] @ model.outputs_[-1] < 0.0, -1.0, 1.0)
    assert collapsed.shares_near[2] == (sides > 0).mean()
    for layer in range(5):
        means = np.array([outputs[layer][sides == side].mean(axis=0) for side in (1, -1)])
        within = outputs[layer] - means[(sides < 0).astype(int)]
        half = 0.5 * (means[0] - means[1])
        between = half @ half
        expected = (within**2).sum(axis=1).mean() / between
        assert collapsed.metrics["pfc1"][2, layer] == pytest.approx(expected, rel=1e-9)
        along = within @ half / between
        assert collapsed.metrics["nc1"][2, layer] == pytest.approx(
            0.5 * (along**2).mean(), rel=1e-9
        )
        variances = [(within[sides == side] ** 2).sum(axis=1).mean() for side in (1, -1)]
        assert collapsed.metrics["cdnv_mean"][2, layer] == pytest.approx(
            sum(variances) / (8.0 * between), rel=1e-9
        )
        classified = np.where(outputs[layer] @ [model.input_, *model.outputs_][layer] < 0, -1, 1)
        distances = [((outputs[layer] - mean) ** 2).sum(axis=1) for mean in means]
        nearest = np.where(distances[0] <= distances[1], 1, -1)
        assert collapsed.metrics["nc4"][2, layer] == pytest.approx((classified != nearest).mean())
        assert collapsed.metrics["pfc3"][2, layer] == pytest.approx((nearest == sides).mean())


def test_collapse_follows_the_angle_chain(collapsed):
    assert np.isnan(collapsed.predicted_pfc1[0])
    for layer in (1, 2, 3, 4):
        logarithms = np.log(collapsed.metrics["pfc1"][:, layer])
        assert agrees(logarithms, math.log(collapsed.predicted_pfc1[layer]), error=0.1)
    # Two opposed means are a simplex, also those of the input.
    for name in ("nc2", "pfc2", "nc3"):
        assert collapsed.metrics[name].max() < 1e-15
    papyan = collapsed.metrics["nc3_papyan"].mean(axis=0)
    assert (np.diff(papyan) < 0.0).all()
    assert collapsed.metrics["pfc3"][:, -1].min() > 0.998
    assert collapsed.metrics["nc4"][:, -1].max() < 0.002


def test_results_say_what_they_were_made_of(result, tmp_path):
    assert result.settings["sampler"] == "order_statistics"
    assert "order statistics" in result.summary()
    assert "stream" in result.summary()
    table = result.table()
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert len(set(table.columns)) == len(table.columns)
    path = tmp_path / "table.csv"
    result.write_csv(path)
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == list(table.columns)
    assert len(rows) == len(table.rows)
    errors = [i for i, name in enumerate(header) if name.endswith("_error")]
    assert errors
    errors_given = [float(row[i]) for row in rows for i in errors if row[i]]
    assert errors_given
    assert all(math.isfinite(number) and number >= 0.0 for number in errors_given)


EXPECTED_LABELS = {
    "flipped_labels": {"layers L", "angle score θ₀ = angle / π"},
    "reconciliation": {"layers L"},
    "trajectories": {"along w", "layer"},
    "hashing": {"Hamming distance", "θ₀ = angle / π"},
    "collapse": {"along w", "layer"},
}


def test_plots_are_drawn(result, tmp_path):
    figure = result.plot()
    axes = figure.get_axes()
    assert EXPECTED_LABELS[result.name] <= {panel.get_xlabel() for panel in axes}
    assert all(panel.has_data() for panel in axes)
    count = len(result.settings["seeds"])
    assert f"order statistics sampler, {count} seeds" in figure.get_suptitle()
    path = tmp_path / "figure.png"
    figure.savefig(path, dpi=40)
    from matplotlib.image import imread

    pixels = imread(path)[..., :3]
    assert 0.02 < (pixels.min(axis=2) < 0.9).mean() < 0.9  # neither empty nor full


def test_plots_of_one_seed_and_of_images_that_are_no_squares(tmp_path):
    images = np.random.default_rng(0).uniform(size=(9, 12))
    results = [
        flipped_labels(width=60, depth=1, images=images, seeds=1),
        reconciliation(width=60, depth=2, images=images, seeds=1),
        trajectories(width=60, depth=2, long_dim=4, num_test=3, seeds=1),
        hashing(dim=4, num_bits=16, num_codes=20, width=60, num_layers=3, num_angles=3, seeds=1),
        layer_collapse(width=60, depth=2, dim=6, num_test=20, seeds=1),
    ]
    for either in results:
        either.plot().savefig(tmp_path / f"{either.name}.png", dpi=40)
        table = either.table()
        errors = [i for i, name in enumerate(table.columns) if name.endswith("_error")]
        assert all(row[i] is None for row in table.rows for i in errors)
        assert either.summary()


def test_the_same_arguments_give_the_same_numbers(digits):
    images, labels = digits
    options = {"width": 300, "depth": 2, "images": images, "labels": labels, "seeds": [5, 2]}
    first, again = flipped_labels(**options), flipped_labels(**options)
    assert first.table() == again.table()
    assert first.comparison == again.comparison
    streamed = flipped_labels(**options, sampler="stream")
    assert streamed.comparison.other_sampler == "order_statistics"
    assert first.comparison.other_sampler == "stream"


def test_progress_is_told_and_can_stop():
    stages = []

    def tell(done, total, stage):
        assert 0 <= done <= total
        stages.append((done, total, stage))

    images = np.random.default_rng(0).uniform(size=(9, 9))
    runs = [
        lambda progress: flipped_labels(
            width=90, depth=1, images=images, seeds=2, progress=progress
        ),
        lambda progress: reconciliation(
            width=90, depth=1, images=images, seeds=2, progress=progress
        ),
        lambda progress: trajectories(
            width=90, depth=1, long_dim=4, num_test=3, seeds=2, progress=progress
        ),
        lambda progress: hashing(
            dim=4, num_bits=8, num_codes=9, width=90, num_layers=2, seeds=2, progress=progress
        ),
        lambda progress: layer_collapse(
            width=90, depth=1, dim=6, num_test=20, seeds=2, progress=progress
        ),
    ]
    for run in runs:
        stages.clear()
        run(tell)
        assert stages[-1] == (stages[-1][1], stages[-1][1], "networks")
        assert stages[0][0] == 0

        def stop(done, total, stage):
            raise InterruptedError(stage)

        with pytest.raises(InterruptedError):
            run(stop)


def test_seeds():
    assert repeats.seed_numbers(3) == (0, 1, 2)
    assert repeats.seed_numbers([7, 2**64 - 1]) == (7, 2**64 - 1)
    assert repeats.seed_numbers(np.array([4, 1])) == (4, 1)
    for seeds, error, pattern in (
        (0, ValueError, "seeds is 0"),
        ([], ValueError, "empty"),
        ([1, 2, 1], ValueError, "1 more than once"),
        ([-1], ValueError, r"seeds\[0\] is -1"),
        (2.0, TypeError, "seeds"),
        ("12", TypeError, "seeds"),
        ([0, True], TypeError, r"seeds\[1\]"),
    ):
        with pytest.raises(error, match=pattern):
            repeats.seed_numbers(seeds)


def test_sampler_comparison():
    psnr = (1.0, 2.0, 3.0, 2.0)
    near = repeats.SamplerComparison("x", "order_statistics", psnr, "stream", 2.1, 0.5)
    far = repeats.SamplerComparison("x", "order_statistics", psnr, "stream", 9.0, 0.5)
    assert near.pvalue > 0.5
    assert far.pvalue < 0.02
    # By hand: the distance over the deviation of a difference, with 3 degrees of freedom.
    statistic = 7.0 / (np.std(psnr, ddof=1) * math.sqrt(1.25))
    assert far.pvalue == pytest.approx(2 * stats.t.sf(statistic, 3))
    assert "9 by stream" in far.sentence()
    assert math.isnan(repeats.SamplerComparison("x", "stream", (1.0,), "rotated", 2.0, 0.5).pvalue)


IMAGES = np.random.default_rng(1).uniform(size=(5, 9))


@pytest.mark.parametrize(
    ("run", "error", "pattern"),
    [
        (lambda: flipped_labels(labels=[0]), ValueError, "labels came without images"),
        (lambda: flipped_labels(images=IMAGES[0]), ValueError, r"images has shape \(9,\)"),
        (lambda: flipped_labels(images=IMAGES, labels=[0, 0]), ValueError, "labels has shape"),
        (lambda: flipped_labels(images=IMAGES, labels=[0, 0, 1, 1, 1]), ValueError, "has 2 of"),
        (lambda: flipped_labels(images=IMAGES * 0), ValueError, "image of zeros"),
        (lambda: flipped_labels(images=IMAGES, width=8), ValueError, "width = 8"),
        (lambda: flipped_labels(depth=0), ValueError, "depth is 0"),
        (lambda: flipped_labels(images=IMAGES, sampler="sorted"), ValueError, "sampler"),
        (lambda: reconciliation(images=IMAGES - 0.5), ValueError, "expected none below 0"),
        (lambda: reconciliation(images=np.ones((2, 9))), ValueError, r"images\[0\] is constant"),
        (lambda: reconciliation(images=IMAGES, eta=0.0), ValueError, "eta is 0.0"),
        (lambda: reconciliation(images=IMAGES, eta="1"), TypeError, "eta is '1'"),
        (lambda: reconciliation(images=IMAGES, num_images=0), ValueError, "num_images is 0"),
        (lambda: trajectories(c=-1.0), ValueError, "c is -1.0"),
        (lambda: trajectories(c=None), TypeError, "c is None"),
        (lambda: trajectories(width=256), ValueError, "width is 256"),
        (lambda: trajectories(long_dim=2), ValueError, "long_dim is 2"),
        (lambda: hashing(dim=1), ValueError, "dim is 1"),
        (lambda: hashing(num_angles=0), ValueError, "num_angles is 0"),
        (lambda: hashing(dim=4, width=3, num_bits=8, seeds=1), ValueError, "num_rows is 4"),
        (lambda: layer_collapse(num_test=1), ValueError, "num_test is 1"),
        (lambda: layer_collapse(dim=9.5), TypeError, "dim is 9.5"),
    ],
)
def test_bad_arguments_are_named(run, error, pattern):
    with pytest.raises(error, match=pattern):
        run()
