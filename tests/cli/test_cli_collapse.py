"""`infall collapse`, end to end on files, against the package itself."""

import dataclasses
import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from collapse_samples import sample
from infall import CollapseReport, cli, collapse_report
from infall._arrays.mapped import read_npz
from infall.cli import collapse as cli_collapse
from infall.experiments.collapse import draw_report
from terminals import WIDTHS, printed_at, whole

runner = CliRunner()
FEATURES, LABELS, CLASSIFIER, BIAS = sample(5, 8, size=40)
FEATURES = FEATURES.astype(np.float32)


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    np.save("h.npy", FEATURES)
    np.save("y.npy", LABELS)
    np.save("W.npy", CLASSIFIER)
    np.save("b.npy", BIAS)


def invoke(*arguments, exit_code=0):
    result = runner.invoke(cli.app, ["collapse", *(str(argument) for argument in arguments)])
    assert result.exit_code == exit_code, result.output
    return result


def measured(*arguments):
    result = invoke(*arguments, "--json")
    assert result.stderr == ""
    facts = json.loads(result.stdout)
    names = [name for name in facts if name in CollapseReport.__dataclass_fields__]
    return CollapseReport.from_dict({name: facts[name] for name in names}), facts


def refused(*arguments):
    result = invoke(*arguments, exit_code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def assert_equal_but_rounding(actual, expected):
    assert actual.missing == expected.missing
    for name, value in expected.to_dict().items():
        other = actual.to_dict()[name]
        if isinstance(value, float):
            assert math.isclose(other, value, rel_tol=1e-13, abs_tol=1e-15), name
        else:
            assert other == value, name


def test_json_is_what_the_package_gives():
    actual, facts = measured("h.npy", "y.npy", "--classifier", "W.npy", "--bias", "b.npy")
    expected = collapse_report(FEATURES, LABELS, classifier=CLASSIFIER, bias=BIAS)
    assert_equal_but_rounding(actual, expected)
    assert facts["source"] == "h.npy"
    assert facts["figure"] is None
    assert facts["elapsed_seconds"] > 0.0
    actual, _ = measured("h.npy", "y.npy")
    assert actual.missing["nc3"] == "needs a classifier"
    options = ("--weighting", "classes", "--global-mean", "samples", "--threads", 1)
    actual, _ = measured("h.npy", "y.npy", *options, "--metrics", "nc1,pfc1")
    expected = collapse_report(
        *(FEATURES, LABELS),
        weighting="classes",
        global_mean="samples",
        metrics=["nc1", "pfc1"],
    )
    assert_equal_but_rounding(actual, expected)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_archives(write, monkeypatch):
    arrays = {
        "features": FEATURES,
        "labels": LABELS,
        "classifier": np.asfortranarray(CLASSIFIER),
        "bias": BIAS,
        "test_features": FEATURES[::3],
        "test_labels": LABELS[::3],
    }
    write("layer.npz", **arrays)
    actual, _ = measured("layer.npz")
    expected = collapse_report(**arrays)
    assert not expected.missing
    assert_equal_but_rounding(actual, expected)
    np.save("other.npy", 2.0 * BIAS)
    actual, _ = measured("layer.npz", "--bias", "other.npy")
    assert actual.delta3 == collapse_report(**{**arrays, "bias": 2.0 * BIAS}).delta3


def test_arrays_in_archives_are_mapped():
    """Also where they begin at any byte."""
    names = ["a", "ab", "abc", "a" * 64, "empty", "columns", "text", "scalar"]
    arrays = dict.fromkeys(names[:4], FEATURES)
    arrays |= {"empty": np.empty((0, 3)), "columns": np.asfortranarray(FEATURES)}
    arrays |= {"text": np.array(["x", "yz"]), "scalar": np.array(3)}
    np.savez("some.npz", **arrays)
    mapped = read_npz(Path("some.npz"), arrays)
    assert set(mapped) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(mapped[name], array)
        assert mapped[name].dtype == array.dtype
        assert isinstance(mapped[name], np.memmap) or array.size == 0
    assert not all(mapped[name].flags.aligned for name in names[:4])


def test_labels_that_are_names():
    names = np.array([f"digit {label}" for label in LABELS])
    np.save("names.npy", names)
    actual, _ = measured("h.npy", "names.npy")
    expected = collapse_report(FEATURES, LABELS)
    assert actual.cdnv_max_pair == tuple(f"digit {label}" for label in expected.cdnv_max_pair)
    assert math.isclose(actual.nc1, expected.nc1, rel_tol=1e-13)


def test_table():
    shown = invoke("h.npy", "y.npy", "--classifier", "W.npy").stdout
    report = collapse_report(FEATURES, LABELS, classifier=CLASSIFIER)
    assert f"{len(LABELS)} samples of 5 classes, 8 features, float32" in shown
    assert "without collapse_on_test: needs test_features and test_labels" in shown
    for symbol, value, meaning in report.rows():
        assert symbol in shown
        assert value in shown
        assert meaning in shown
    assert "MB of features in" in shown


@pytest.mark.parametrize(
    ("name", "magic"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.SVG", b"<?xml")]
)
def test_figure_file(name, magic):
    result = invoke("h.npy", "y.npy", "--plot", name, "--json")
    assert json.loads(result.stdout)["figure"] == name
    assert Path(name).read_bytes().startswith(magic)


def test_figure():
    report = collapse_report(FEATURES, LABELS, classifier=CLASSIFIER)
    figure = draw_report(report, FEATURES, LABELS, title="five classes")
    metric_axes, sample_axes = figure.axes
    assert figure.get_suptitle() == "five classes"
    assert [text.get_text() for text in metric_axes.get_yticklabels()][:2] == ["NC1", "NC2"]
    assert metric_axes.get_xscale() == "log"
    assert metric_axes.lines[0].get_xdata()[0] == report.nc1
    samples, means = sample_axes.collections
    assert len(samples.get_offsets()) == len(LABELS)
    centred = FEATURES - FEATURES.astype(float).mean(axis=0)
    lengths = np.linalg.norm(samples.get_offsets() - samples.get_offsets().mean(axis=0), axis=1)
    assert (lengths <= np.linalg.norm(centred, axis=1) + 1e-6).all()  # a projection
    assert len(means.get_offsets()) == 5


def test_figure_of_extreme_reports(tmp_path):
    """Zeros, infinity, one dimension and one class have their place too."""
    one_dimension = np.array([[0.0], [2.0], [0.0], [2.0], [5.0]])
    labels = np.array([0, 0, 1, 1, 2])
    report = collapse_report(one_dimension, labels)
    assert report.cdnv_mean == math.inf
    draw_report(report, one_dimension, labels, title="inf").savefig(tmp_path / "a.png")
    alone = collapse_report(FEATURES, np.zeros(len(FEATURES), dtype=int))
    draw_report(alone, FEATURES, np.zeros(len(FEATURES)), title="one").savefig(tmp_path / "b.png")


def test_progress_bar(monkeypatch):
    """On a terminal every stage has a bar; without one nothing is drawn."""
    stages = []
    real = cli_collapse.collapse_report

    def watched(*arrays, progress=None, **options):
        assert progress is not None

        def both(done, total, stage):
            stages.append(stage)
            progress(done, total, stage)

        both(1, 2, "class means")
        return real(*arrays, progress=both, **options)

    monkeypatch.setattr(cli_collapse, "collapse_report", watched)
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take the captured stderr for a terminal
    result = invoke("h.npy", "y.npy")
    assert "class means" in stages
    assert "class means" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("h.npy",), "LABELS: h.npy needs a file of labels"),
        (("absent.npy", "y.npy"), "FEATURES: absent.npy: no such file"),
        (("h.npy", "absent.npy"), "LABELS: absent.npy: no such file"),
        (("h.npy", "y.npy", "--classifier", "absent.npy"), "--classifier: absent.npy: no such"),
        (("h.npy", "y.npy", "--bias", "b.npy"), "--bias came without a --classifier"),
        (("h.npy", "y.npy", "--test-features", "h.npy"), "--test-features and --test-labels come"),
        (("h.npy", "h.npy"), "LABELS has shape"),
        (("y.npy", "y.npy"), "FEATURES has shape"),
        (("h.npy", "y.npy", "--classifier", "b.npy"), "classifier has shape (5,)"),
        (("h.npy", "y.npy", "--metrics", "nc9"), "an entry of --metrics is 'nc9'"),
        (("h.npy", "y.npy", "--metrics", "nc1,nc3"), "nc3, which needs a --classifier"),
        (("h.npy", "y.npy", "--weighting", "x"), "--weighting"),
        (("h.npy", "y.npy", "--threads", "0"), "--threads"),
        (("h.npy", "y.npy", "--plot", "a.doc"), "--plot: a.doc: expected the suffix"),
        (("h.npy", "y.npy", "--plot", "no/a.png"), "--plot: no/a.png cannot be written"),
        (("text.npy", "y.npy"), "FEATURES: text.npy: not a whole .npy file"),
        (("text.npz",), "FEATURES: text.npz: not a readable .npz file"),
        (("objects.npz",), "FEATURES: objects.npz: not a readable .npz file: labels.npy: it holds"),
        (("other.npz",), "FEATURES: other.npz holds x; expected arrays named features"),
        (
            ("cut.npz",),
            "FEATURES: cut.npz: not a readable .npz file: features.npy: it is truncated",
        ),
        (("folder.npy", "y.npy"), "FEATURES: folder.npy: not a file"),
    ],
)
def test_bad_input_is_one_line(arguments, named):
    Path("text.npy").write_text("text")
    Path("text.npz").write_text("text")
    np.savez("objects.npz", features=FEATURES, labels=np.array([{}], dtype=object))
    np.savez("other.npz", x=FEATURES)
    with zipfile.ZipFile("cut.npz", "w") as archive:
        archive.writestr("features.npy", Path("h.npy").read_bytes()[:-8])
    Path("folder.npy").mkdir()
    before = {path.name for path in Path().iterdir()}
    assert named in refused(*arguments)
    assert {path.name for path in Path().iterdir()} == before


def test_json_has_no_nan(monkeypatch):
    real = collapse_report

    def some(*arrays, **options):
        return dataclasses.replace(real(*arrays, **options), pfc2=math.nan)

    monkeypatch.setattr(cli_collapse, "collapse_report", some)
    assert json.loads(invoke("h.npy", "y.npy", "--json").stdout)["pfc2"] is None


def test_arrays_of_an_archive_keep_their_names():
    np.savez("layer.npz", features=FEATURES, labels=FEATURES)
    assert "error: labels has shape" in refused("layer.npz")
    assert "--bias came without" in refused("layer.npz", "y.npy", "--bias", "b.npy")


def test_one_of_a_kind():
    np.save("zeros.npy", np.zeros(len(LABELS), dtype=int))
    shown = invoke("h.npy", "zeros.npy").stdout
    assert f"{len(LABELS)} samples of 1 class, 8 features" in shown
    assert "there is 1 class with samples" in shown


@pytest.mark.parametrize("width", WIDTHS)
def test_no_number_is_cut_at_any_width(width, monkeypatch):
    report = collapse_report(FEATURES, LABELS, classifier=CLASSIFIER)
    shown = printed_at(width, monkeypatch, lambda out: cli_collapse._print_report(out, report))
    if width is not None:
        assert max(len(line) for line in shown.splitlines()) <= width
    for _, value, meaning in report.rows():
        assert whole(value, shown)
        assert all(word in shown for word in meaning.split())


def test_encodings():
    invoke_in = CliRunner(charset="ascii").invoke
    result = invoke_in(cli.app, ["collapse", "h.npy", "y.npy", "--classifier", "W.npy"])
    assert result.exit_code == 0, result.output
    assert "tr Sigma_W / tr Sigma_B" in result.stdout
    np.save("names.npy", np.array([f"\N{CJK UNIFIED IDEOGRAPH-4E2D}{label}" for label in LABELS]))
    result = invoke_in(cli.app, ["collapse", "h.npy", "names.npy"])
    assert "classes \\u4e2d" in result.stdout


def test_interrupt(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_collapse, "collapse_report", interrupted)
    result = invoke("h.npy", "y.npy", "--json", exit_code=130)
    assert result.stdout == ""
    assert result.stderr.strip() == "interrupted"


def test_help():
    shown = invoke("--help").stdout
    for text in ("FEATURES", "--classifier", "nc3_papyan", "infall collapse layer.npz"):
        assert text in shown
