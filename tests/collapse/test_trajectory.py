"""Trajectories of collapse: reports kept, arrays, table, plot, files."""

import copy
import json
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rich.console import Console

from collapse_samples import moments_of, sample, simplex
from infall import CollapseTrajectory, collapse, collapse_report
from infall.collapse import METRICS

SCALES = (1.0, 0.6, 0.15, 0.1, 0.01)


@pytest.fixture(scope="module")
def layers():
    labels = np.arange(150) % 5
    noise = np.random.default_rng(0).standard_normal((150, 8))
    return [simplex(5, 8)[labels] + scale * noise for scale in SCALES], labels


@pytest.fixture
def trajectory(layers):
    features, labels = layers
    measured = CollapseTrajectory("layer")
    for number, layer in enumerate(features):
        measured.add(number, layer, labels)
    return measured


def test_reports_are_those_of_the_layers(trajectory, layers):
    features, labels = layers
    assert len(trajectory) == 5
    assert trajectory.names == [0, 1, 2, 3, 4]
    assert trajectory.reports == [collapse_report(layer, labels) for layer in features]
    assert repr(trajectory) == "CollapseTrajectory('layer': 5 reports: 0, 1, 2, 3, 4)"
    added = CollapseTrajectory("epoch").add(
        "a", moments_of(features[0], labels), classifier=np.ones((5, 8)), metrics=["pfc1", "nc3"]
    )
    assert added.pfc1 == trajectory.reports[0].pfc1
    assert added.nc3 is not None


def test_arrays(trajectory, layers):
    features, labels = layers
    arrays = trajectory.arrays()
    for name in ("nc1", "pfc1", "cdnv_mean"):
        assert arrays[name].tolist() == [getattr(report, name) for report in trajectory.reports]
        assert (np.diff(arrays[name]) < 0.0).all()
    assert {"nc3", "nc4", "delta1"}.isdisjoint(arrays)
    trajectory.add("with", features[-1], labels, classifier=np.eye(5, 8))
    nc4 = trajectory.arrays()["nc4"]
    assert np.isnan(nc4[:-1]).all()
    assert nc4[-1] == trajectory.reports[-1].nc4


def test_effective_depth(layers):
    features, labels = layers
    trajectory = CollapseTrajectory()
    for number, layer in enumerate(features):
        trajectory.add(number, layer, labels, metrics=["pfc3"])
    errors = 1.0 - trajectory.arrays()["pfc3"]
    assert errors[0] > errors[1] > errors[2] == errors[3] == 0.0
    assert trajectory.effective_depth() == 2
    assert trajectory.effective_depth(errors[1]) == 1
    assert trajectory.effective_depth(1.0) == 1  # never the input, which is no layer
    named = CollapseTrajectory()
    for name, layer in zip(("stem", "block"), features[:2], strict=True):
        named.add(name, layer, labels)
    assert named.effective_depth(errors[0]) == "stem"
    assert named.effective_depth(0.0) == "block"  # the last, where none is good enough
    named.add("head", features[2], labels, metrics=["nc1"])
    with pytest.raises(ValueError, match="layer 'head' was measured without pfc3"):
        named.effective_depth()
    with pytest.raises(ValueError, match="no layers yet"):
        CollapseTrajectory().effective_depth()
    with pytest.raises(ValueError, match="epsilon is 2"):
        trajectory.effective_depth(2)


def test_a_failed_addition_changes_nothing(trajectory, layers):
    features, labels = layers
    trajectory.set_coordinates(np.arange(5.0))
    for name, error, message in (
        (3, ValueError, "name is 3, which is there already"),
        (2.5, TypeError, "name is 2.5; expected a str or an int"),
        (True, TypeError, "name is True"),
    ):
        with pytest.raises(error, match=message):
            trajectory.add(name, features[0], labels)
    with pytest.raises(ValueError, match="labels has shape"):
        trajectory.add(5, features[0], labels[1:])
    with pytest.raises(ValueError, match="times is"):
        trajectory.predict(features[0], features[-1], labels, times=[0.5, 0.5])
    with pytest.raises(ValueError, match="last has shape"):
        trajectory.predict(features[0], features[-1][:3], labels)
    assert trajectory.names == [0, 1, 2, 3, 4]
    assert len(trajectory.reports) == 5
    assert trajectory.coordinates.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert trajectory.predicted == []
    trajectory.add(5, features[0], labels)
    assert trajectory.coordinates is None
    with pytest.raises(ValueError, match=r"coordinates has shape \(5,\); expected \(6,\)"):
        trajectory.set_coordinates(np.arange(5.0))
    with pytest.raises(ValueError, match="coordinates is not finite"):
        trajectory.set_coordinates([0, 1, 2, 3, 4, math.inf])
    with pytest.raises(ValueError, match="axis is 'depth'"):
        CollapseTrajectory("depth")


def test_table(trajectory):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(trajectory.table())
    shown = captured.get()
    assert "layer" in shown
    assert "NC3" not in shown
    for report in trajectory.reports:
        assert f"{report.nc1:.3g}" in shown
        assert f"{report.cdnv_mean:.3g}" in shown
    assert [column.header for column in trajectory.table(("pfc1", "nc3", "nc1")).columns] == [
        "layer",
        "PFC1",
        "NC1",
    ]
    with pytest.raises(ValueError, match="an entry of fields is 'nc7'"):
        trajectory.table(("nc7",))


def test_plot(trajectory, layers):
    features, labels = layers
    trajectory.set_coordinates(collapse.layer_coordinates(features))
    trajectory.predict(features[0], features[-1], labels, times=np.linspace(0.0, 1.0, 7))
    axes = trajectory.plot()
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "layer coordinate"
    lines = axes.lines
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["NC1", "NC2", "CDNV mean", "PFC1", "NCC error"]
    assert len(lines) == 10  # measured and predicted
    arrays = trajectory.arrays()
    assert lines[0].get_ydata().tolist() == arrays["nc1"].tolist()
    assert lines[0].get_xdata().tolist() == trajectory.coordinates.tolist()
    assert lines[1].get_ydata().tolist() == [report.nc1 for report in trajectory.predicted]
    assert lines[1].get_xdata()[[0, -1]].tolist() == [0.0, 1.0]
    assert lines[1].get_color() == lines[0].get_color()
    error = lines[-2].get_ydata()
    assert np.isnan(error[2:]).all()  # zeros have no place on a logarithmic axis
    np.testing.assert_array_equal(error[:2], 1.0 - arrays["pfc3"][:2])

    from matplotlib.figure import Figure

    own = Figure().subplots()
    named = CollapseTrajectory("epoch")
    named.add("first", features[0], labels)
    named.add("last", features[1], labels)
    assert named.plot(own, fields=("nc1",)) is own
    assert [tick.get_text() for tick in own.get_xticklabels()] == ["first", "last"]
    assert own.get_xlabel() == "epoch"
    with pytest.raises(ValueError, match="no reports yet"):
        CollapseTrajectory().plot()
    with pytest.raises(ValueError, match="an entry of fields is 'x'"):
        named.plot(fields=("x",))


def test_prediction_ends_in_the_layers(trajectory, layers):
    features, labels = layers
    trajectory.predict(features[0], features[-1], labels)
    assert len(trajectory.predicted) == len(trajectory.predicted_times) == 21
    for end, number in ((0, 0), (-1, 4)):
        assert math.isclose(
            trajectory.predicted[end].pfc1, trajectory.reports[number].pfc1, rel_tol=1e-12
        )


def test_save_and_load(trajectory, layers, tmp_path):
    features, labels = layers
    coincident = np.array([[0.0], [1.0], [1.0], [0.0]])
    trajectory.add("infinite", coincident, [0, 0, 1, 1], metrics=["cdnv"])
    assert trajectory.reports[-1].cdnv_mean == math.inf
    trajectory.set_coordinates(np.arange(6.0) / 3.0)
    trajectory.predict(features[0], features[-1], labels, times=[0.0, 0.1, 1.0])
    path = tmp_path / "layers.json"
    trajectory.save(path)
    json.loads(path.read_text(), parse_constant=pytest.fail)
    loaded = CollapseTrajectory.load(path)
    assert loaded.axis == "layer"
    assert loaded.names == trajectory.names
    assert loaded.reports == trajectory.reports
    assert loaded.predicted == trajectory.predicted
    assert loaded.coordinates.tolist() == trajectory.coordinates.tolist()
    assert loaded.predicted_times.tolist() == [0.0, 0.1, 1.0]
    empty = CollapseTrajectory("epoch")
    empty.save(path)
    assert (CollapseTrajectory.load(path).axis, CollapseTrajectory.load(path).names) == (
        "epoch",
        [],
    )


def test_damaged_files(trajectory, tmp_path):
    path = tmp_path / "layers.json"
    trajectory.save(path)
    content = path.read_text()
    for damage in (
        content[: len(content) // 2],
        "[]",
        "{}",
        content.replace("infall.CollapseTrajectory", "other"),
        content.replace('"version": 1', '"version": 2'),
        content.replace('"num_samples"', '"number"'),
        content.replace('"axis": "layer"', '"axis": "depth"'),
    ):
        assert damage != content
        path.write_text(damage)
        with pytest.raises(ValueError, match="is not a saved CollapseTrajectory, or a damaged one"):
            CollapseTrajectory.load(path)
    with pytest.raises(FileNotFoundError):
        CollapseTrajectory.load(tmp_path / "absent.json")
    with pytest.raises(FileNotFoundError):
        trajectory.save(tmp_path / "absent" / "layers.json")
    unusual = CollapseTrajectory()
    unusual.add(1, np.eye(3), [1j, 2j, 2j], classes=[1j, 2j, 3j])
    path.write_text("old")
    with pytest.raises(TypeError, match="complex"):
        unusual.save(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["layers.json"]


def test_metrics_reach_every_array():
    features, labels, classifier, bias = sample(4, 5)
    trajectory = CollapseTrajectory("epoch")
    trajectory.add(
        *(1, features, labels),
        classifier=classifier,
        bias=bias,
        test_features=features,
        test_labels=labels,
    )
    arrays = trajectory.arrays()
    assert len(arrays) == 26
    assert not any(np.isnan(metric).any() for metric in arrays.values())
    assert set(METRICS[:5]) < set(arrays)


def test_a_metric_has_the_same_colour_in_every_panel(trajectory):
    def colors(*fields):
        axes = trajectory.plot(fields=fields)
        return {line.get_label(): line.get_color() for line in axes.lines}

    default = {line.get_label(): line.get_color() for line in trajectory.plot().lines}
    assert len(set(default.values())) == len(default)
    for label, color in (colors("pfc1", "cdnv_mean") | colors("nc2")).items():
        assert default[label] == color


def test_state_goes_through_json(trajectory, layers):
    features, labels = layers
    trajectory.set_coordinates(np.linspace(0.0, 1.0, len(trajectory)))
    trajectory.predict(features[0], features[-1], labels, times=[0.0, 0.5])
    for state in (trajectory.state_dict(), json.loads(json.dumps(trajectory.state_dict()))):
        restored = CollapseTrajectory.from_state_dict(state)
        assert restored.state_dict() == trajectory.state_dict()
        assert restored.reports == trajectory.reports
    for restored in (pickle.loads(pickle.dumps(trajectory)), copy.deepcopy(trajectory)):
        assert restored.state_dict() == trajectory.state_dict()
        restored.add("more", features[0], labels)  # with a lock of its own
        assert len(restored) == len(trajectory) + 1


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("axis", "time", "axis is 'time'"),
        ("names", [None, 1, 2, 3], "name is None"),
        ("names", [{}, 1, 2, 3], "name is {}"),
        ("names", "abcd", "names is 'abcd'; expected a list"),
        ("reports", 5, "reports is 5; expected a list"),
        ("reports", [5, 5, 5, 5], "values is a int"),
        ("coordinates", [0.0], "coordinates has shape"),
        ("coordinates", "abc", "coordinates has dtype"),
        ("predicted_times", [0.5], "one predicted report per time"),
        ("predicted_times", [[0.1, 0.2]], r"predicted_times has shape \(1, 2\)"),
        ("predicted_times", [0.5, 0.1], "expected ascending numbers from 0 to 1"),
        ("predicted_times", [-1.0], "expected ascending numbers from 0 to 1"),
        ("more", 1, "state has the parts"),
    ],
)
def test_states_that_cannot_be_are_refused(trajectory, part, value, message):
    state = {**trajectory.state_dict(), part: value}
    with pytest.raises((TypeError, ValueError), match=message):
        CollapseTrajectory.from_state_dict(state)
    repeated = {**trajectory.state_dict()}
    repeated["names"] = [repeated["names"][0]] * len(trajectory)
    with pytest.raises(ValueError, match="which is there already"):
        CollapseTrajectory.from_state_dict(repeated)
    broken = trajectory.state_dict()
    broken["reports"][0]["nc1"] = "hello"
    with pytest.raises(TypeError, match="nc1 is 'hello'; expected a number or None"):
        CollapseTrajectory.from_state_dict(broken)


def test_files_of_nothing_but_brackets(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text("[" * 100000)
    with pytest.raises(ValueError, match="is not a saved CollapseTrajectory"):
        CollapseTrajectory.load(path)


def test_threads_may_add_layers(layers):
    features, labels = layers
    trajectory = CollapseTrajectory()
    with ThreadPoolExecutor(8) as pool:
        names = [name for name in range(24) for _ in range(2)]
        added = [pool.submit(trajectory.add, name, features[name % 2], labels) for name in names]
        errors = [task.exception() for task in added]
    assert sum(error is None for error in errors) == 24
    assert all("there already" in str(error) for error in errors if error is not None)
    assert sorted(trajectory.names) == list(range(24))
    for name, report in zip(trajectory.names, trajectory.reports, strict=True):
        assert report == collapse_report(features[name % 2], labels)


def test_coordinates_are_numbers(trajectory):
    for bad, message in (
        ("abc", "coordinates has dtype <U3"),
        ([1j] * len(trajectory), "coordinates has dtype complex128"),
        (np.ma.masked_array(np.zeros(len(trajectory))), "coordinates is a masked array"),
    ):
        with pytest.raises(TypeError, match=message):
            trajectory.set_coordinates(bad)
