"""The command line, end to end at small widths, against the package itself."""

import errno
import gzip
import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import StepPatch
from typer.testing import CliRunner

import infall
from infall import MaxLikelihood, cli, laws
from infall.cli import _terminal
from infall.experiments import run
from infall.experiments.datasets import load_digits
from terminals import WIDTHS, printed_at, whole

runner = CliRunner()
WIDTH, DEPTH = 4096, 3


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")  # an error that fits one line is not wrapped


def invoke(*arguments, exit_code=0):
    result = runner.invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


def run_json(*arguments):
    result = invoke("run", "--json", "--no-figure", *arguments)
    assert result.stderr == ""
    return json.loads(result.stdout)


def refused(*arguments):
    result = invoke(*arguments, exit_code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def written():
    return [path.name for path in Path().iterdir()]


def write_idx(path, array):
    header = bytes([0, 0, 0x08, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture(scope="module")
def fitted():
    images, labels = load_digits()
    row = np.flatnonzero(labels == 3)[2]
    model = MaxLikelihood(WIDTH, DEPTH, seed=5, sampler="rotated").fit(images[row])
    return model, np.delete(images, row, axis=0), int(row)


def test_json_is_what_the_package_gives(fitted):
    model, test_images, row = fitted
    report = run_json(
        *("--width", WIDTH, "--depth", DEPTH, "--seed", 5, "--sampler", "rotated"),
        *("--digit", 3, "--index", 2, "--threads", 1),
    )
    assert report["input"] == {"source": "digits", "row": row, "label": 3}
    assert (report["width"], report["depth"], report["dim"]) == (WIDTH, DEPTH, 64)
    assert (report["sampler"], report["seed"], report["threads"]) == ("rotated", 5, 1)
    assert report["num_test_samples"] == 1796
    assert report["figure"] is None
    assert report["model"] is None
    assert report["elapsed_seconds"] > 0.0
    assert math.isclose(
        report["rows_per_second"] * report["elapsed_seconds"], WIDTH * DEPTH, rel_tol=1e-9
    )
    assert report["normals_per_second"] is None

    scores = model.angle_scores(test_images, layer=None)
    log_norms = model.log_input_norm_ + np.cumsum(model.log_norms_)
    assert [layer["layer"] for layer in report["layers"]] == list(range(DEPTH + 1))
    for layer, angle_scores in zip(report["layers"], scores, strict=True):
        near_0 = angle_scores < 0.5
        assert layer["count_near_0"] == near_0.sum()
        assert layer["count_near_1"] == (~near_0).sum()
        assert math.isclose(layer["distance_to_0"], angle_scores[near_0].mean(), rel_tol=1e-9)
        assert math.isclose(
            layer["nll_measured"], laws.binary_entropy(angle_scores).mean(), rel_tol=1e-9
        )
        # One network of k = 64: its samples share the random rows.
        assert math.isclose(layer["nll_measured"], layer["nll_predicted"], rel_tol=0.5)
    assert report["layers"][0]["score_min"] is None
    assert report["layers"][0]["layer_component"] is None
    for index, layer in enumerate(report["layers"][1:]):
        selected = np.abs(model.scores_[index])
        assert layer["score_min"] == selected.min()
        assert layer["score_max"] == selected.max()
        assert math.isclose(layer["tail_gain_measured"], np.exp(model.log_norms_[index]) / 8.0)
        assert layer["tail_gain_predicted"] == laws.tail_gain(64 / WIDTH)
        assert math.isclose(layer["tail_gain_measured"], layer["tail_gain_predicted"], rel_tol=0.1)
        norm = math.exp(log_norms[index])
        assert math.isclose(
            layer["layer_component"], (index + 1) / math.hypot(index + 1, norm), rel_tol=1e-9
        )


def test_stream_counts_its_normals():
    report = run_json("--width", "2^10", "--depth", 1)
    assert report["width"] == 1024
    assert report["sampler"] == "stream"
    assert report["input"]["label"] == 0
    assert math.isclose(report["normals_per_second"], 64 * report["rows_per_second"], rel_tol=1e-9)


@pytest.mark.parametrize("sampler", ["stream", "rotated", "order_statistics"])
def test_every_sampler_collapses(sampler):
    layers = run_json("--width", "2**14", "--depth", 6, "--sampler", sampler)["layers"]
    losses = [layer["nll_measured"] for layer in layers]
    assert sorted(losses, reverse=True) == losses
    assert losses[-1] < 0.01 < 0.5 < losses[0]


def test_table():
    result = invoke("run", "--width", WIDTH, "--depth", DEPTH, "--sampler", "rotated", "--seed", 5)
    report = run_json("--width", WIDTH, "--depth", DEPTH, "--sampler", "rotated", "--seed", 5)
    for layer in report["layers"]:
        assert f"{layer['nll_measured']:.2e}" in result.stdout
        assert f"{layer['nll_predicted']:.2e}" in result.stdout
        assert f"{layer['distance_to_0']:.2e}" in result.stdout
    for layer in report["layers"][1:]:
        assert f"{layer['score_min']:.2f}..{layer['score_max']:.2f}" in result.stdout
        assert f"{layer['tail_gain_measured']:.3f}" in result.stdout
    assert "3 layers of 4,096 rows in" in result.stdout
    assert "rows/s" in result.stdout
    assert "figure: infall-run.png" in result.stdout
    assert Path("infall-run.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "magic"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.SVG", b"<?xml")]
)
def test_figure_file(name, magic):
    Path(name).write_bytes(b"old")  # a figure that is there is replaced
    invoke("run", "--width", 256, "--depth", 1, "--out", name)
    assert Path(name).read_bytes().startswith(magic)
    assert written() == [name]


def test_no_figure():
    invoke("run", "--width", 256, "--depth", 1, "--no-figure", "--out", "nowhere/figure.png")
    assert written() == []


def test_figure(fitted):
    model, test_images, _ = fitted
    measurement = run.measure_collapse(model, test_images)
    figure = run.draw_collapse(measurement, title="one network")
    assert figure.get_suptitle() == "one network"
    score_axes, distance_axes, nll_axes = figure.axes
    names = [label.get_text() for label in score_axes.get_yticklabels()]
    assert names == ["input", "layer 1", "layer 2", "layer 3"]
    assert score_axes.get_yticks().tolist() == distance_axes.get_yticks().tolist()
    assert score_axes.get_xlim()[0] <= 0.0 < 1.0 <= score_axes.get_xlim()[1]
    # Left and right half of every layer; on the logarithmic axis also the outlines of the law.
    assert len([patch for patch in score_axes.patches if isinstance(patch, StepPatch)]) == 8
    assert len([patch for patch in distance_axes.patches if isinstance(patch, StepPatch)]) == 16
    assert nll_axes.get_yscale() == "log"
    predicted, measured = (line.get_ydata() for line in nll_axes.lines)
    assert measured.tolist() == [report.nll_measured for report in measurement.layers]
    assert predicted.tolist() == [report.nll_predicted for report in measurement.layers]


def test_figure_of_a_deep_network_down_to_rounding(fitted, tmp_path):
    images = np.random.default_rng(1).standard_normal((50, 16))  # both sides of 1/2
    model = MaxLikelihood(2**20, 40, sampler="order_statistics").fit(images[0])
    measurement = run.measure_collapse(model, images[1:])
    assert all(0 < report.count_near_1 < 49 for report in measurement.layers)
    assert measurement.layers[-1].distance_to_1 < 1e-15
    figure = run.draw_collapse(measurement, title="deep", max_rows=5)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["input", "layer 10", "layer 20", "layer 30", "layer 40"]
    figure.savefig(tmp_path / "deep.png")


def test_laws_hold_for_many_networks():
    """The mean over networks meets the law: 40 networks, fixed seeds, within 5 standard errors."""
    images = np.random.default_rng(2).standard_normal((200, 16))
    measured, predicted = [], []
    for seed in range(40):
        model = MaxLikelihood(2000, 2, seed=seed, sampler="order_statistics").fit(images[0])
        layers = run.measure_collapse(model, images[1:], law_scores=2**18).layers
        measured.append([layer.nll_measured for layer in layers])
        predicted.append([layer.nll_predicted for layer in layers])
    difference = np.mean(measured, axis=0) - np.mean(predicted, axis=0)
    standard_error = np.std(measured, axis=0) / math.sqrt(len(measured))
    assert np.all(np.abs(difference) <= 5.0 * standard_error + 1e-4)


def test_save(fitted):
    model, _, _ = fitted
    report = run_json(
        *("--width", WIDTH, "--depth", DEPTH, "--seed", 5, "--sampler", "rotated"),
        *("--digit", 3, "--index", 2, "--save", "three.npz"),
    )
    assert report["model"] == "three.npz"
    assert written() == ["three.npz"]
    saved = MaxLikelihood.load("three.npz")
    assert np.array_equal(saved.layers_, model.layers_)
    assert np.array_equal(saved.outputs_, model.outputs_)


def test_idx_input_with_labels():
    images = np.random.default_rng(0).integers(1, 256, (30, 5, 4))
    labels = np.arange(30) % 3
    write_idx(Path("train-images-idx3-ubyte.gz"), images)
    source = "train-images-idx3-ubyte.gz"
    report = run_json("--width", 500, "--depth", 2, "--input", source, "--index", 7)
    assert report["input"] == {"source": source, "row": 7, "label": None}
    assert (report["dim"], report["num_test_samples"]) == (20, 29)
    write_idx(Path("train-labels-idx1-ubyte.gz"), labels)
    report = run_json("--width", 500, "--depth", 2, "--input", source, "--digit", 2, "--index", 7)
    assert report["input"] == {"source": source, "row": 23, "label": 2}

    model = MaxLikelihood(500, 2).fit(images[23].ravel())
    scores = model.angle_scores(np.delete(images.reshape(30, 20), 23, axis=0))
    final = report["layers"][-1]
    assert math.isclose(final["nll_measured"], laws.binary_entropy(scores).mean(), rel_tol=1e-9)


def test_blank_and_missing_images_are_refused():
    images = np.ones((5, 3))
    images[3] = 0.0
    np.save("images.npy", images)
    assert "images.npy: image 3 is all zero" in refused("run", "--input", "images.npy")
    np.save("images.npy", images[:1])
    assert "--input: images.npy: one image" in refused("run", "--input", "images.npy")
    np.save("images.npy", np.ones((4, 1)))
    assert "--input: images.npy: images of one pixel" in refused("run", "--input", "images.npy")
    Path("images.npy").write_bytes(b"\x93NUMPY")
    assert "--input: images.npy: not a whole" in refused("run", "--input", "images.npy")
    assert "--input: absent.npy: no such file" in refused("run", "--input", "absent.npy")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--width", "2^"), "--width"),
        (("--width", "wide"), "--width"),
        (("--width", "0"), "--width"),
        (("--width", "-5"), "--width"),
        (("--width", "2^-3"), "--width"),
        (("--width", "9^99999999999"), "--width"),
        (("--width", "63"), "--width: 63 rows, expected at least the 64"),
        (("--depth", "0"), "--depth"),
        (("--depth", "x"), "--depth"),
        (("--sampler", "guess"), "--sampler"),
        (("--seed", "-1"), "--seed"),
        (("--seed", 2**64), "--seed"),
        (("--seed", "1.5"), "--seed"),
        (("--threads", "0"), "--threads"),
        (("--digit", "10"), "--digit: no images with label 10 in digits"),
        (("--index", "178"), "--index: 178, but digits has 178 images with label 0"),
        (("--index", "-1"), "--index"),
        (("--out", "figure.doc"), "--out: figure.doc"),
        (("--out", "nowhere/figure.png"), "--out: nowhere/figure.png cannot be written"),
        (("--save", "model.pkl"), "--save: model.pkl"),
        (("--save", "nowhere/model.npz"), "--save: nowhere/model.npz cannot be written"),
        (("--colour", "red"), "--colour"),
    ],
)
def test_bad_option_is_named_before_the_run(arguments, named, monkeypatch):
    monkeypatch.setattr(MaxLikelihood, "fit", lambda *_, **__: pytest.fail("the run began"))
    assert named in refused("run", *arguments)
    assert written() == []


def test_folder_in_the_place_of_a_file():
    Path("folder.png").mkdir()
    assert "--out: folder.png cannot be written" in refused("run", "--out", "folder.png")


def test_labels_are_needed_to_choose_one():
    np.save("images.npy", np.ones((5, 3)))
    assert "--digit: images.npy has no labels" in refused(
        "run", "--input", "images.npy", "--digit", 1
    )


def test_width_beyond_the_engine_is_one_line():
    assert "width" in refused("run", "--width", "2^100", "--no-figure")


def test_unknown_command():
    assert "'walk'" in refused("walk")


def test_interrupt(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(MaxLikelihood, "fit", interrupted)
    result = invoke("run", "--json", exit_code=130)
    assert result.stdout == ""
    assert result.stderr.strip() == "interrupted"
    assert written() == []


def test_full_disk(monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "full.npz")

    monkeypatch.setattr(MaxLikelihood, "save", full)
    result = invoke("run", "--width", 64, "--save", "full.npz", exit_code=1)
    assert result.stderr == "error: full.npz could not be written: No space left on device\n"
    assert "8 layers of 64 rows" in result.stdout
    assert "network: " not in result.stdout
    assert written() == ["infall-run.png"]


# ---------------------------------------------------------------- terminals and encodings


@pytest.mark.parametrize("width", WIDTHS)
def test_no_number_is_cut_at_any_width(width, fitted, monkeypatch):
    model, test_images, _ = fitted
    measurement = run.measure_collapse(model, test_images)
    shown = printed_at(width, monkeypatch, lambda out: cli.run._print_layers(out, measurement))
    if width is not None:
        assert max(len(line) for line in shown.splitlines()) <= width
    else:
        assert shown.count("input") == 1  # one table, of one line a row
    for layer in measurement.layers[1:]:
        for number, form in (
            (layer.tail_gain_measured, ".3f"),
            (layer.tail_gain_predicted, ".3f"),
            (layer.distance_to_0, ".2e"),
            (layer.nll_measured, ".2e"),
            (layer.nll_predicted, ".2e"),
            (layer.layer_component, ".1e"),
        ):
            assert whole(format(number, form), shown)
        assert whole(f"{layer.score_min:.2f}..{layer.score_max:.2f}", shown)
        assert whole(str(layer.count_near_0), shown)
    for word in ("layer", "|score|", "τ", "law", "θ₀<½", "mean", "θ₀≥½", "θ₀", "1-θ₀", "NLL", "d"):
        assert whole(word, shown), word


def test_a_column_wider_than_the_terminal_is_not_cut(monkeypatch):
    columns = [_terminal.Column("key", ["a"]), _terminal.Column("x", ["1" * 50])]
    shown = printed_at(20, monkeypatch, lambda output: output.table(columns))
    assert "1" * 50 in shown


def test_paths_are_not_broken(monkeypatch):
    path = "figure: " + "folder/" * 30
    assert path in printed_at(60, monkeypatch, lambda output: output.line(path))


@pytest.mark.parametrize(
    ("encoding", "header", "meaning"),
    [
        ("ascii", "theta_0>=1/2", "tau: growth of the norm, ||G w|| / sqrt k for ||w|| = 1"),
        ("cp1252", "theta_0>=½", "theta_0: angle to the fitted output, divided by pi;"),
        ("utf-8", "θ₀≥½", "τ: growth of the norm, ||G w|| / √k for ||w|| = 1"),
    ],
)
def test_encodings(encoding, header, meaning):
    arguments = ["run", "--width", "64", "--depth", "1", "--no-figure"]
    result = CliRunner(charset=encoding).invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert header in result.stdout
    assert meaning in result.stdout
    assert "?" not in result.stdout


def test_every_character_of_the_results_reads_right_in_ascii():
    """All that stand in strings of the package: none is left as an escape."""
    characters = set()
    for path in Path(infall.__file__).parent.rglob("*.py"):
        characters |= {each for each in path.read_text(encoding="utf-8") if ord(each) > 127}
    assert "θ" in characters
    for character in characters:
        assert "\\" not in character.encode("ascii", "infall-readable").decode()
    assert "‖A‖² ± ½".encode("ascii", "infall-readable") == b"||A||^2 +- 1/2"
    assert "\N{CJK UNIFIED IDEOGRAPH-4E2D}".encode("ascii", "infall-readable") == b"\\u4e2d"
    assert "a\udcffb".encode("utf-8", "infall-readable") == b"a\xffb"  # of a file name


def test_terminal_of_no_columns():
    result = runner.invoke(
        cli.app, ["run", "--width", "64", "--depth", "1", "--no-figure"], env={"COLUMNS": "0"}
    )
    assert "1 layer of 64 rows" in result.stdout
    assert "--width" in runner.invoke(cli.app, ["run", "--help"], env={"COLUMNS": "0"}).stdout


@pytest.mark.parametrize("command", [(), ("run",), ("figure",), ("collapse",), ("info",)])
def test_help_says_nothing_of_types(command):
    shown = invoke(*command, "--help").stdout
    assert "<bool>" not in shown


# ---------------------------------------------------------------- results that get through


def process(*arguments, **options):
    command = [sys.executable, "-m", "infall", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def test_a_closed_pipe_takes_no_figure_with_it():
    with process("run", "--width", "64", "--depth", "1", stdout=subprocess.PIPE) as running:
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 1
    assert written() == ["infall-run.png"]


def test_closed_output_is_said_at_once():
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "infall", "run"]
    running = subprocess.run(
        [*command, "--width", "64"], check=False, stderr=subprocess.PIPE, text=True
    )
    assert running.returncode == 1
    assert running.stderr == "error: standard output is closed; redirect it to /dev/null instead\n"
    assert written() == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_full_output():
    with (
        Path("/dev/full").open("w") as full,
        process("run", "--width", "64", "--depth", "1", stdout=full) as running,
    ):
        message = running.stderr.read()
    assert running.returncode == 1
    assert message == "error: standard output: No space left on device\n"
    assert written() == ["infall-run.png"]


def test_a_figure_that_cannot_be_written_takes_nothing_with_it(monkeypatch):
    Path("old.png").write_bytes(b"old")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_terminal.os, "fsync", full)
    result = invoke("run", "--width", 64, "--depth", 1, "--out", "old.png", exit_code=1)
    assert "1 layer of 64 rows" in result.stdout
    assert "figure: " not in result.stdout
    said = result.stderr.splitlines()
    assert said[0] == "old.png is there already and will be replaced"
    assert said[1:] == ["error: old.png could not be written: No space left on device"]
    assert Path("old.png").read_bytes() == b"old"
    assert written() == ["old.png"]
    result = invoke("run", "--width", 64, "--depth", 1, "--json", exit_code=1)
    assert json.loads(result.stdout)["layers"]


def test_paths_are_checked_without_a_trace():
    Path("dangling.png").symlink_to("absent.png")
    os.mkfifo("pipe.png")
    before = sorted(written())
    _terminal.check_writable("--out", Path("dangling.png"), (".png",))
    assert sorted(written()) == before
    assert Path("dangling.png").is_symlink()
    message = refused("run", "--out", "pipe.png")
    assert "--out: pipe.png cannot be written: it is not a regular file" in message
    Path("dangling.png").unlink()
    Path("dangling.png").symlink_to("nowhere/absent.png")
    assert "--out: dangling.png cannot be written: No such" in refused(
        "run", "--out", "dangling.png"
    )


def test_info_without_a_driver(monkeypatch):
    class Kernels:
        @staticmethod
        def architectures():
            return "all-major"

        @staticmethod
        def device_count():
            raise RuntimeError("CUDA driver version is insufficient for CUDA runtime version")

    monkeypatch.setitem(sys.modules, "infall._cuda", Kernels)
    monkeypatch.setattr(cli.info, "_has_driver", lambda: False)
    assert "off: no NVIDIA driver was found, and so no GPU" in invoke("info").stdout
    monkeypatch.setattr(cli.info, "_has_driver", lambda: True)
    assert "off: CUDA driver version is insufficient" in invoke("info").stdout


def test_info(monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")  # CUDA's text is long
    facts = json.loads(invoke("info", "--json").stdout)
    assert facts["infall"] == infall.__version__
    assert facts["isa"] in facts["available_isas"]
    assert facts["cpu_threads"] >= 1
    assert facts["cuda"].startswith(("built", "not built: "))
    assert facts["numpy"] == np.__version__
    shown = invoke("info").stdout
    for value in (infall.__version__, facts["isa"], np.__version__, facts["cuda"]):
        assert value in shown


def test_help_without_command():
    for arguments in ((), ("--help",), ("-h",)):
        assert "info" in invoke(*arguments).stdout
    assert "2^40" in invoke("run", "--help").stdout


def test_python_m_infall():
    result = subprocess.run(
        [sys.executable, "-m", "infall", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == infall.__version__


START = "import sys; sys.argv = ['infall', 'info']; from infall_command import main; main()"


def test_version_is_known_without_any_import():
    script = f"{START}; assert 'infall' not in sys.modules".replace("'info'", "'--version'")
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"{infall.__version__}\n"


def test_an_engine_that_cannot_be_loaded_is_one_line():
    result = subprocess.run(
        [sys.executable, "-c", START],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "INFALL_ISA": "foo"},
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: infall cannot be imported: ")
    assert "'foo'" in result.stderr
    assert result.stderr.count("\n") == 1


# Raises KeyboardInterrupt where a module is imported.
INTERRUPT = """
import sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
"""
IMPORTED = pytest.mark.parametrize(
    "module", ["numpy", "infall._core", "infall.cli", "typer", "rich"]
)


@IMPORTED
def test_interrupt_while_modules_are_imported(module):
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPT.format(module=module) + START],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 130
    assert result.stdout == ""
    assert result.stderr == "interrupted\n"


def interrupted_at_start(folder, module, *arguments):
    (folder / "sitecustomize.py").write_text(INTERRUPT.format(module=module), encoding="utf-8")
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )


@pytest.mark.parametrize("module", ["infall.cli", "typer", "rich"])
def test_interrupt_while_python_m_infall_imports_the_command(tmp_path, module):
    result = interrupted_at_start(tmp_path, module, "-m", "infall", "info")
    assert result.returncode == 130
    assert result.stdout == ""
    assert result.stderr == "interrupted\n"


def test_starting_imports_nothing_that_takes_long():
    script = "import infall.cli, sys; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    for module in (
        "scipy.stats",
        "scipy.ndimage",
        "matplotlib",
        "sklearn",
        "infall.experiments.datasets",
    ):
        assert module not in modules


@pytest.mark.parametrize("package", ["typer", "rich", "matplotlib", "sklearn"])
def test_missing_package(package):
    script = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['infall', 'run']\n"
        "from infall.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert package in result.stderr
    assert result.stderr.strip().endswith("pip install infall[cli]")
    assert "Traceback" not in result.stderr
