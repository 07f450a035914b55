"""The command `infall run`: fit a network to one image and measure how the others collapse."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
from rich.progress import ProgressColumn, Task
from rich.text import Text

from infall import _core
from infall._arrays.calls import Progress
from infall.cli._terminal import (
    FIGURE_SUFFIXES,
    Column,
    Delivery,
    Output,
    StageBars,
    Threads,
    bad_option,
    check_writable,
    file_option,
    flag,
    integer_option,
    name_option,
    number_of,
    parse_seed,
    parse_width,
    read_images,
    save_figure,
    with_options,
)
from infall.rows.settings import Sampler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from infall.experiments.run import LayerReport, Measurement
    from infall.maxlikelihood.network import MaxLikelihood

HELP = (
    "Fit a MaxLikelihood network to one image and measure how the others collapse.\n\n"
    "Every layer keeps k of --width random rows: those with the largest projection on the output "
    "so far, k being the number of pixels. All images but the fitted one go through the kept "
    "rows. The table and the figure show their angles to the fitted output, layer by layer, "
    "next to the law that predicts them."
)
EPILOG = """
[bold]Examples[/bold]

[cyan]infall run[/cyan]  8 layers of 2^25 rows, fitted to a handwritten 0

[cyan]infall run --width 2^40 --sampler order_statistics[/cyan]  any width in seconds

[cyan]infall run --digit 7 --index 3 --depth 20 --save seven.npz[/cyan]

[cyan]infall run --input t10k-images-idx3-ubyte.gz --digit 4 --width 1000000[/cyan]

[cyan]infall run --json --no-figure | jq '.layers[-1].nll_measured'[/cyan]
"""


def run(
    width: Annotated[
        str, typer.Option(metavar="ROWS", help="Rows of every layer: 33554432, or a power: 2^25.")
    ] = "2^25",
    depth: Annotated[int, integer_option(1, 2**31 - 1, "LAYERS", "Number of layers.")] = 8,
    sampler: Annotated[
        str,
        name_option(
            get_args(Sampler),
            "How the selected rows are drawn, all from the same law. stream: every entry of "
            "the layer, in O(n k). rotated: one column decides, O(n). order_statistics: only the "
            "selected rows, the same time for any width.",
        ),
    ] = "stream",
    seed: Annotated[
        str, typer.Option(metavar="INTEGER", help="Seed of the layers, 0 to 2^64 - 1.")
    ] = "0",
    threads: Threads = None,
    input_path: Annotated[
        Path | None,
        file_option(
            "Images, one per row: .npy, .npz or IDX (the format of MNIST), plain or .gz.",
            "--input",
            default="8 by 8 handwritten digits",
        ),
    ] = None,
    digit: Annotated[
        int | None,
        integer_option(
            *(-(2**63), 2**63 - 1, "LABEL", "Fit to an image with this label."),
            "0; any, with --input",
        ),
    ] = None,
    index: Annotated[
        int, integer_option(0, None, "INTEGER", "Which of these images to fit to, from 0.")
    ] = 0,
    out: Annotated[Path, file_option("The figure: .png, .pdf or .svg.")] = Path("infall-run.png"),
    no_figure: Annotated[bool, flag("Draw no figure.", "--no-figure")] = False,
    save: Annotated[Path | None, file_option("Keep the fitted network in this .npz file.")] = None,
    as_json: Annotated[bool, flag("Print one JSON object instead of the table.", "--json")] = False,
) -> None:
    """Fit a MaxLikelihood network to one image and measure how the others collapse."""
    import numpy as np

    from infall.experiments.run import draw_collapse, measure_collapse

    num_rows = parse_width(width)
    seed_number = parse_seed("--seed", seed)
    source = "digits" if input_path is None else str(input_path)
    images, labels = _load(input_path)
    if input_path is None and digit is None:
        digit = 0
    row = _choose_image(images, labels, digit, index, source)
    image, test_images = images[row], np.delete(images, row, axis=0)
    label = None if labels is None else int(labels[row])
    dim = len(image)
    if num_rows < dim:
        raise bad_option(
            "--width", f"{num_rows} rows, expected at least the {dim} that a layer keeps"
        )
    if not no_figure:
        importlib.import_module("matplotlib")  # absent, it should fail now and not after the run
        check_writable("--out", out, FIGURE_SUFFIXES)
    if save is not None:
        check_writable("--save", save, (".npz",))

    with Delivery() as delivery:
        with StageBars(_SpeedColumn()) as bars:
            model, seconds = _fitted(
                image, num_rows, depth, seed_number, cast(Sampler, sampler), threads, bars
            )
            if save is not None:
                with delivery.to_file(save):
                    model.save(save)
            bars.waiting("other images")
            measurement = measure_collapse(model, test_images)

        report = {
            "width": num_rows,
            "depth": depth,
            "dim": dim,
            "sampler": sampler,
            "seed": seed_number,
            "threads": threads,
            "isa": _core.isa(),
            "input": {"source": source, "row": row, "label": label},
            "num_test_samples": len(test_images),
            "elapsed_seconds": seconds,
            **_rates(model, dim, seconds),
            "layers": [asdict(layer) for layer in measurement.layers],
            "figure": None if no_figure else str(out),
            "model": None if save is None else str(save),
        }
        with delivery.to_output() as output:
            if as_json:
                output.json(json.dumps(report, indent=2, allow_nan=False))
            else:
                _print(output, report, measurement)
        if not no_figure:
            with delivery.to_file(out), StageBars() as bars:
                bars.waiting("figure")
                save_figure(draw_collapse(measurement, title=_title(model, dim)), out, dpi=160)
        if not as_json:
            written = (("figure", None if no_figure else out), ("network", save))
            delivery.print_files(written)


def _fitted(
    image: NDArray[np.float64],
    num_rows: int,
    depth: int,
    seed: int,
    sampler: Sampler,
    threads: int | None,
    bars: StageBars,
) -> tuple[MaxLikelihood, float]:
    """Return a network fitted to an image, and the seconds it took."""
    from infall.maxlikelihood.network import MaxLikelihood

    start = time.perf_counter()
    try:
        model = MaxLikelihood(num_rows, depth, seed=seed, sampler=sampler, num_threads=threads)
        model.fit(image, progress=_on_one_bar(bars))
    except (ValueError, TypeError, OverflowError) as error:
        raise typer.BadParameter(
            with_options(str(error), {"width": "--width", "num_threads": "--threads"})
        ) from error
    return model, time.perf_counter() - start


def _on_one_bar(bars: StageBars) -> Progress | None:
    if bars.progress is None:
        return None
    return lambda done, total, stage: bars.show(done, total, stage, "fit")


def _load(path: Path | None) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    if path is None:
        from infall.experiments.datasets import load_digits

        return load_digits()
    images, labels = read_images("--input", path)
    if len(images) < 2:
        raise bad_option(
            "--input", f"{path}: one image; the test set is the others, expected at least two"
        )
    return images, labels


def _choose_image(
    images: NDArray[np.float64],
    labels: NDArray[np.int64] | None,
    digit: int | None,
    index: int,
    source: str,
) -> int:
    import numpy as np

    candidates = np.arange(len(images))
    chosen = ""
    if digit is not None:
        if labels is None:
            raise bad_option("--digit", f"{source} has no labels, choose with --index alone")
        candidates = np.flatnonzero(labels == digit)
        chosen = f" with label {digit}"
        if len(candidates) == 0:
            raise bad_option(
                "--digit",
                f"no images{chosen} in {source}, its labels go from {labels.min()} to "
                f"{labels.max()}",
            )
    if index >= len(candidates):
        raise bad_option(
            "--index",
            f"{index}, but {source} has {number_of(len(candidates), 'image')}{chosen}, counted "
            "from 0",
        )
    return int(candidates[index])


class _SpeedColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{_with_prefix(speed)}rows/s", style="green")


def _rates(model: MaxLikelihood, dim: int, seconds: float) -> dict[str, float | None]:
    rows_per_second = model.width * model.depth / seconds
    # The other samplers draw no fixed number of normals per row.
    normals_per_second = rows_per_second * dim if model.sampler == "stream" else None
    return {"rows_per_second": rows_per_second, "normals_per_second": normals_per_second}


def _with_prefix(rate: float) -> str:
    if rate >= 1e18:
        return f"{rate:.3g} "
    for unit, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= unit:
            return f"{rate / unit:.3g} {prefix} "
    return f"{rate:.3g} "


def _title(model: MaxLikelihood, dim: int) -> str:
    exponent = model.width.bit_length() - 1
    width = f"$2^{{{exponent}}}$" if model.width == 2**exponent else f"{model.width:,}"
    return (
        f"MaxLikelihood network: width {width}, depth {model.depth}, $k$ = {dim}, "
        f"{model.sampler.replace('_', ' ')} sampler, seed {model.seed}"
    )


def _print(output: Output, report: Mapping[str, Any], measurement: Measurement) -> None:
    source, row, label = report["input"].values()
    output.line(
        f"Fitted to row {row} of {source}"
        + ("" if label is None else f", label {label}")
        + f"; measured on the other {number_of(report['num_test_samples'], 'image')}"
    )
    _print_layers(output, measurement)
    rates = f"{_with_prefix(report['rows_per_second'])}rows/s"
    if report["normals_per_second"] is not None:
        rates += f", {_with_prefix(report['normals_per_second'])}normals/s"
    output.line(
        f"{number_of(report['depth'], 'layer')} of {report['width']:,} rows in "
        f"{report['elapsed_seconds']:.3g} s: {rates}"
    )


def _print_layers(output: Output, measurement: Measurement) -> None:
    layers = measurement.layers
    output.table(
        [
            Column("layer", ["input", *(str(report.layer) for report in layers[1:])]),
            Column("NLL", [_cell(report.nll_measured, ".2e") for report in layers], "green"),
            Column("NLL law", [_cell(report.nll_predicted, ".2e") for report in layers]),
            Column("θ₀<½", [str(report.count_near_0) for report in layers], "blue"),
            Column("mean θ₀", [_cell(report.distance_to_0, ".2e") for report in layers], "blue"),
            Column("θ₀≥½", [str(report.count_near_1) for report in layers], "yellow"),
            Column(
                "mean 1-θ₀", [_cell(report.distance_to_1, ".2e") for report in layers], "yellow"
            ),
            Column("d", [_cell(report.layer_component, ".1e") for report in layers]),
            Column("|score|", ["-", *map(_score_range, layers[1:])]),
            Column("τ", [_cell(report.tail_gain_measured, ".3f") for report in layers]),
            Column("τ law", [_cell(report.tail_gain_predicted, ".3f") for report in layers]),
        ]
    )
    for meaning in (
        "NLL: mean entropy of θ₀ in bits",
        "θ₀: angle to the fitted output, divided by π; how many are near 0 and near 1",
        "d: layer component of [l; w]",
        "|score|: of the rows kept, smallest and largest",
        "τ: growth of the norm, ||G w|| / √k for ||w|| = 1",
    ):
        output.paragraph(meaning)


def _score_range(report: LayerReport) -> str:
    return f"{report.score_min:.2f}..{report.score_max:.2f}"


def _cell(quantity: float | None, form: str) -> str:
    return "-" if quantity is None else format(quantity, form)
