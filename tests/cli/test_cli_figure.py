"""The command `infall figure`, end to end at small sizes, and the page that it writes."""

import csv
import errno
import functools
import json
import math
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from infall import cli
from infall.cli import figure as cli_figure
from infall.experiments import EXPERIMENTS
from infall.experiments.convergence import convergence
from infall.experiments.page import printed, setting_text
from infall.experiments.result import Table
from terminals import WIDTHS, printed_at, whole

runner = CliRunner()
SMALL = {
    "clusters": {"widths": (256,), "depth": 1, "dim": 8, "num_test": 40, "tsne_samples": 20},
    "convergence": {"widths": (64, 256), "depth": 30, "dim": 8, "num_test": 40},
    "flipped_labels": {"width": 800, "depth": 2, "num_test": 20},
}


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def small_figures(monkeypatch):
    """Three experiments, at small sizes by default."""

    class Small:
        def __init__(self, name):
            self.name = name
            self.paper, self.shows = EXPERIMENTS[name].paper, EXPERIMENTS[name].shows
            self.seconds = EXPERIMENTS[name].seconds

        def load(self):
            return functools.partial(EXPERIMENTS[self.name].load(), **SMALL[self.name])

    monkeypatch.setattr(cli_figure, "EXPERIMENTS", {name: Small(name) for name in SMALL})


def invoke(*arguments, exit_code=0):
    result = runner.invoke(cli.app, ["figure", *(str(argument) for argument in arguments)])
    assert result.exit_code == exit_code, result.output
    return result


def refused(*arguments):
    result = invoke(*arguments, exit_code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def written():
    return sorted(path.name for path in Path().iterdir())


# ---------------------------------------------------------------- one figure


def test_json_is_what_the_experiment_gives():
    result = invoke(
        *("convergence", "--width", "2^4,100", "--depth", 4, "--dim", 8, "--samples", 30),
        *("--seeds", "3,5", "--sampler", "rotated", "--csv", "table.csv", "--json"),
    )
    report = json.loads(result.stdout)
    expected = convergence(
        widths=(16, 100), depth=4, dim=8, num_test=30, seeds=(3, 5), sampler="rotated"
    )
    table = expected.table()
    assert (report["name"], report["paper"]) == ("convergence", "Fig. 4 and 5")
    assert report["columns"] == list(table.columns)
    assert report["rows"] == table.rows
    assert report["summary"] == expected.summary()
    assert report["settings"]["seeds"] == [3, 5]
    assert report["settings"]["sampler"] == "rotated"
    assert report["command"] == (
        "infall figure convergence --width '2^4,100' --depth 4 --dim 8 --samples 30 --seeds 3,5 "
        "--sampler rotated"
    )
    assert (report["figure"], report["csv"]) == ("infall-convergence.png", "table.csv")
    assert report["elapsed_seconds"] > 0.0
    assert written() == ["infall-convergence.png", "table.csv"]
    assert Path("infall-convergence.png").read_bytes().startswith(b"\x89PNG")
    with Path("table.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == report["columns"]
    assert [float(line[2]) for line in lines[1:]] == [row[2] for row in report["rows"]]


def test_table_and_summary():
    arguments = ("convergence", "--width", 64, "--depth", 3, "--dim", 8, "--samples", 20)
    result = invoke(*arguments, "--seeds", "7,", "--out", "figure.SVG")
    expected = convergence(widths=(64,), depth=3, dim=8, num_test=20, seeds=(7,))
    assert "convergence: Fig. 4 and 5" in result.stdout
    for row in expected.table().rows:
        assert f"{row[2]:.4g}" in result.stdout
    shown = " ".join(result.stdout.split())
    assert expected.summary() in shown
    assert "figure: figure.SVG" in shown
    assert Path("figure.SVG").read_bytes().startswith(b"<?xml")
    assert written() == ["figure.SVG"]


def test_long_tables_are_cut_on_the_terminal_only(small_figures, monkeypatch):
    result = invoke("convergence", "--depth", 60, "--seeds", 1, "--csv", "table.csv", "--json")
    report = json.loads(result.stdout)
    assert len(Path("table.csv").read_text().splitlines()) == 63
    shown = printed_at(80, monkeypatch, lambda output: cli_figure._print(output, report))
    assert "22 rows of 62 not shown; --csv writes them all" in shown
    assert " ... " in shown
    shown = printed_at(None, monkeypatch, lambda output: cli_figure._print(output, report))
    assert "--csv" not in shown
    rows = printed(Table(report["columns"], report["rows"]))[1]
    assert all(whole(cell, shown) for row in rows for cell in row)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_number_is_cut_at_any_width(width, small_figures, monkeypatch):
    """Of a table of 20 columns; lines break between words and columns only."""
    result = invoke("convergence", "--depth", 9, "--seeds", 2, "--json")
    report = json.loads(result.stdout)
    columns, rows = printed(Table(report["columns"], report["rows"]))
    shown = printed_at(width, monkeypatch, lambda output: cli_figure._print(output, report))
    if width is not None:
        assert max(len(line) for line in shown.splitlines()) <= width
    for text in (*(cell for row in rows for cell in row), *"_".join(columns).split("_")):
        assert whole(text, shown), text
    assert report["summary"] in " ".join(shown.split())


def test_images_of_a_file(small_figures):
    images = np.random.default_rng(0).integers(0, 200, (12, 5, 5)) + 1
    labels = np.arange(12) % 3
    np.savez("images.npz", images=images, labels=labels)
    report = json.loads(
        invoke(
            *("flipped_labels", "--images", "images.npz", "--digit", 2, "--seeds", 1, "--json"),
        ).stdout
    )
    assert report["settings"]["dim"] == 25
    assert report["settings"]["digit"] == 2
    assert report["settings"]["num_test"] == 3  # four have the label, one is fitted
    np.savez("images.npz", images=images * 0, labels=labels)
    message = refused("flipped_labels", "--images", "images.npz")
    assert "--images: images.npz: image 0 is all zero" in message
    assert "--images: absent.npy: no such file" in refused(
        "flipped_labels", "--images", "absent.npy"
    )


def test_list_and_help():
    listed = invoke().stdout
    for name, experiment in EXPERIMENTS.items():
        assert name in listed
        assert experiment.paper in listed
    shown = " ".join(invoke("--help").stdout.split())
    assert all(name in shown for name in EXPERIMENTS)
    assert "infall figure all --out figures" in shown
    for option in cli_figure._PARAMETERS:
        assert option in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("heatmap",), "'heatmap', expected all or one of clusters, convergence"),
        (("hashing", "--digit", 3), "--digit: hashing has none; its options are --width"),
        (("clusters", "--images", "x.npy"), "--images: clusters has none"),
        (("memorization", "--width", "2^9,2^10"), "--width: 2^9,2^10, but memorization has a"),
        (("clusters", "--width", "wide"), "--width: 'wide' is not a whole number"),
        (("clusters", "--width", "2^6"), "clusters: --width is 64; expected at least --dim = 256"),
        (("clusters", "--depth", 0), "--depth: '0', expected an integer from 1"),
        (("clusters", "--seeds", "many"), "--seeds: 'many', expected an integer"),
        (("clusters", "--seeds", "1,1"), "--seeds has 1 more than once"),
        (("clusters", "--seeds", ","), "--seeds is empty"),
        (("clusters", "--samples", 3), "clusters: --samples is 3; expected 10 <= --samples"),
        (("clusters", "--sampler", "none"), "--sampler"),
        (("clusters", "--out", "figure.gif"), "--out: figure.gif: expected the suffix .png"),
        (("clusters", "--out", "nowhere/a.png"), "--out: nowhere/a.png cannot be written"),
        (("clusters", "--csv", "table.txt"), "--csv: table.txt: expected the suffix .csv"),
        (("all", "--width", "2^9"), "--width: not with all"),
        (("all", "--csv", "table.csv"), "--csv: not with all"),
    ],
)
def test_refused_in_one_line(arguments, message):
    assert message in " ".join(refused(*arguments).split())
    assert written() == []


def test_the_folder_is_checked_before_the_run():
    Path("figures").write_text("a file")
    assert "--out: figures cannot be made: File exists" in refused("all", "--out", "figures")


def test_interrupt_leaves_no_figure(monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("infall.experiments.convergence.convergence", stop)
    monkeypatch.setattr(cli_figure, "_arguments", lambda *arguments: {})
    result = invoke("convergence", exit_code=130)
    assert result.stderr == "interrupted\n"
    assert written() == []


def test_bars_on_a_terminal(small_figures, monkeypatch):
    shown = []

    class Bars(cli_figure.StageBars):
        @property
        def progress(self):
            return lambda *call: shown.append(call)

    monkeypatch.setattr(cli_figure, "StageBars", Bars)
    invoke("convergence", "--seeds", 1)
    assert shown[0] == (0, 2, "networks")
    assert (2, 2, "networks") in shown
    assert (0, 2, "law") in shown
    assert (2, 2, "law") in shown


def test_stages_take_the_place_of_the_last_figures(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take the captured stderr for a terminal
    times = [EXPERIMENTS[name].seconds for name in ("clusters", "convergence")]
    with cli_figure._FigureBars(["clusters", "convergence"]) as bars:
        figures, *_ = bars._bars.tasks
        assert bars.progress is not None
        bars.start("clusters")
        bars.progress(1, 2, "networks")
        assert figures.completed == times[0] / 2  # so that there is an estimate from now on
        bars.progress(2, 2, "networks")
        bars.start("convergence")
        bars.progress(1, 4, "rows")
        names = [task.description for task in bars._bars.tasks]
        assert names == ["figures: convergence", "loading", "rows"]
        assert figures.completed == times[0]
        assert figures.total == sum(times)


# ---------------------------------------------------------------- all of them


class Page(HTMLParser):
    """Tags that are open, ids, references and the text of a page."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, path):
        super().__init__()
        self.open, self.ids, self.references, self.words, self.tags = [], [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self.tags.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.references += [attributes[key] for key in ("href", "src") if key in attributes]
        assert tag != "img" or attributes["alt"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data.split()


def test_all_figures_and_their_page(small_figures):
    report = json.loads(invoke("all", "--seeds", 2, "--out", "figures", "--json").stdout)
    names = list(SMALL)
    assert [figure["name"] for figure in report["figures"]] == names
    assert report["index"] == "figures/index.html"
    files = {path.name for path in Path("figures").iterdir()}
    expected = {f"{name}.{suffix}" for name in names for suffix in ("png", "csv", "json")}
    assert files == expected | {"index.html"}
    for name in names:
        assert Path(f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")

    page = Page(Path("figures/index.html"))
    assert page.ids == names
    for reference in page.references:
        assert reference.removeprefix("#") in names or reference in expected
    assert {f"{name}.png" for name in names} <= set(page.references)
    text = " ".join(page.words)
    for figure in report["figures"]:
        assert " ".join(figure["summary"].split()) in text
        assert f"infall figure {figure['name']} --seeds 2" in text
        cells = printed(Table(figure["columns"], figure["rows"]))[1]
        assert " ".join(cells[-1]) in text
    assert page.tags.count("table") == len(names)
    assert "color-scheme: light dark" in text
    assert "@media (prefers-color-scheme: dark)" in text
    # Nothing is loaded from elsewhere.
    assert "http" not in Path("figures/index.html").read_text()


def counted_runs(monkeypatch):
    """Return the names of the figures that are measured from now on."""
    runs = []
    real = cli_figure._run

    def run(name, *arguments):
        runs.append(name)
        return real(name, *arguments)

    monkeypatch.setattr(cli_figure, "_run", run)
    return runs


def test_what_is_drawn_already_is_kept(small_figures, monkeypatch):
    """The page is written after each figure, and a second run begins where the first ended."""
    runs = counted_runs(monkeypatch)
    real = cli_figure.EXPERIMENTS["convergence"].load
    pages = []

    def killed():
        def experiment(*, seeds=10, sampler="stream", progress=None):
            pages.append(Page(Path("figures/index.html")).ids)
            raise KeyboardInterrupt

        return experiment

    monkeypatch.setattr(cli_figure.EXPERIMENTS["convergence"], "load", killed)
    result = invoke("all", "--seeds", 1, "--out", "figures", exit_code=130)
    assert pages == [["clusters"]]
    assert "1 of 3: clusters, " in result.stderr
    assert {"clusters.png", "clusters.csv", "clusters.json"} < {
        path.name for path in Path("figures").iterdir()
    }

    monkeypatch.setattr(cli_figure.EXPERIMENTS["convergence"], "load", real)
    runs.clear()
    result = invoke("all", "--seeds", 1, "--out", "figures", "--json")
    assert runs == ["convergence", "flipped_labels"]
    assert "1 of 3: clusters, kept: figures/clusters.json has the same settings" in result.stderr
    assert Page(Path("figures/index.html")).ids == list(SMALL)
    fresh = json.loads(invoke("all", "--seeds", 1, "--out", "fresh", "--json").stdout)
    for kept, drawn in zip(json.loads(result.stdout)["figures"], fresh["figures"], strict=True):
        for part in ("name", "rows", "columns", "summary", "settings", "command"):
            assert kept[part] == drawn[part]

    runs.clear()
    invoke("all", "--seeds", "1,2", "--out", "figures")
    assert runs == list(SMALL)
    Path("figures/clusters.json").write_text("[")
    Path("figures/convergence.png").unlink()
    runs.clear()
    invoke("all", "--seeds", "1,2", "--out", "figures")
    assert runs == ["clusters", "convergence"]


def test_other_images_are_other_settings(small_figures, monkeypatch):
    monkeypatch.setattr(
        cli_figure,
        "EXPERIMENTS",
        {"flipped_labels": cli_figure.EXPERIMENTS["flipped_labels"]},
    )
    runs = counted_runs(monkeypatch)
    images = np.random.default_rng(0).uniform(0.1, 1.0, (12, 25))
    for content in (images, images, images[::-1]):
        np.save("images.npy", content)
        invoke("all", "--seeds", 1, "--images", "images.npy", "--out", "figures")
    assert runs == ["flipped_labels"] * 2


@pytest.mark.parametrize("name", ["infall-convergence.png", "figures/convergence.png"])
def test_a_figure_that_cannot_be_drawn_takes_no_numbers_with_it(name, small_figures, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    only = {"convergence": cli_figure.EXPERIMENTS["convergence"]}
    monkeypatch.setattr(cli_figure, "EXPERIMENTS", only)
    monkeypatch.setattr(cli_figure, "save_figure", full)
    alone = name.startswith("infall")
    which = ("convergence", "--csv", "table.csv") if alone else ("all", "--out", "figures")
    result = invoke(*which, "--seeds", 1, exit_code=1)
    assert f"error: {name} could not be written: No space left on device" in result.stderr
    assert "figure: " not in result.stdout
    assert "the NLL is" in " ".join(result.stdout.split())
    table = Path("table.csv") if alone else Path("figures/convergence.csv")
    assert len(table.read_text().splitlines()) > 10


@pytest.mark.browser
def test_page_in_a_browser(small_figures, browser):
    invoke("all", "--seeds", 1, "--out", "figures")
    address = Path("figures/index.html").resolve().as_uri()
    options = ["--headless", "--screenshot=page.png", "--window-size=1200,2000"]
    if "firefox" in browser:
        options = ["--headless", "--screenshot", "page.png", "--window-size=1200,2000"]
    else:
        options += ["--no-sandbox", "--disable-gpu", "--user-data-dir=profile"]
    subprocess.run([browser, *options, address], check=True, capture_output=True, timeout=120)
    from matplotlib.image import imread

    pixels = imread("page.png")[..., :3]
    assert pixels.shape[1] == 1200
    colored = np.ptp(pixels, axis=-1) > 0.2  # the figures; the page itself is grey but for links
    assert colored.mean() > 0.001


def test_all_in_words(small_figures, monkeypatch):
    only = {"convergence": cli_figure.EXPERIMENTS["convergence"]}
    monkeypatch.setattr(cli_figure, "EXPERIMENTS", only)
    result = invoke("all", "--seeds", 1)
    assert "convergence" in result.stdout
    assert "are within 3 standard errors" not in result.stdout  # a single seed has none
    assert "page: infall-figures/index.html" in result.stdout
    assert Page(Path("infall-figures/index.html")).ids == ["convergence"]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("widths", (2**12, 1000), "2^12, 1,000"),
        ("seeds", tuple(range(10)), "0, 1, 2, ..., 9 (10 in all)"),
        ("eta", 10000.0, "10000"),
        ("flag", True, "yes"),
        ("images", None, "none"),
        ("parts", {"width": 256}, "width: 2^8"),
    ],
)
def test_settings_in_words(name, value, text):
    assert setting_text(name, value) == text


def test_a_value_and_its_error_share_a_cell():
    table = Table(
        ["width", "nll", "nll_error", "no_error", "note"],
        [[2**12, 0.123456, 0.00123, None, "a < b"], [3000, 2e-30, None, 1.0, "c"]],
    )
    assert printed(table) == (
        ["width", "nll", "no_error", "note"],
        [["2^12", "0.1235 ± 0.0012", "–", "a < b"], ["3,000", "2e-30", "1", "c"]],
    )


def test_json_has_no_infinities():
    assert cli_figure._plain({"a": (math.inf, np.float64(2.5), np.int64(3), None, "x")}) == {
        "a": [None, 2.5, 3, None, "x"]
    }
