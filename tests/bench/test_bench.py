"""The bench measures what it says, and its peers select the right rows."""

import importlib
import json
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

STEM = """
from harness import Case, Problem

def problems(*, quick, threads):
    cases = [
        Case("engine", "infall", "hold", {"mebibytes": 16}, work=1.0, small={"mebibytes": 0}),
        Case("slower", "numpy", "hold", {"mebibytes": 64, "seconds": 0.2}, small={"mebibytes": 0}),
        Case("absent", "no_such_library", "absent", {}),
        Case("wrong", "numpy", "wrong", {}),
        Case("ended", "numpy", "ended", {}),
    ]
    return [Problem("first", "a title", "things/s", cases, rounds=3), Problem("other", "", "", [])]

def hold(mebibytes, seconds=0.0):
    def run():
        import time
        print("not an answer")
        time.sleep(seconds)
        return bytearray(b"x" * (mebibytes * 2**20))[0:0]
    return run

def absent():
    import no_such_library

def wrong():
    raise ValueError("a | b")

def ended():
    import os
    os._exit(3)
"""


@pytest.fixture
def rows(harness):
    return importlib.import_module("rows")


def test_measures_time_and_memory_and_reports_failures(harness, monkeypatch, tmp_path):
    (tmp_path / "stem_of_test.py").write_text(STEM)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (problem,) = harness.run_stem("stem_of_test", quick=True, threads=1, only="first")
    engine, slower, *failed = problem["cases"]

    assert engine["status"] == slower["status"] == "ok"
    assert len(engine["seconds"]) == len(slower["seconds"]) == 3
    assert engine["role"] == "engine"
    assert engine["rate"] == 1 / engine["seconds_min"]
    assert engine["ratio"] == 1
    assert slower["ratio"] == slower["seconds_min"] / engine["seconds_min"]
    assert 0.2 <= slower["seconds_min"] <= slower["seconds_median"]
    assert slower["cpu_seconds_min"] < 0.2  # it sleeps
    assert [case["status"] for case in failed] == [
        "not installed",
        "failed: ValueError: a | b",
        "failed: the process ended with status 3",
    ]
    # b"x" * n and its copy are held at once.
    assert engine["peak_mebibytes"] == pytest.approx(32, abs=4)
    assert slower["peak_mebibytes"] == pytest.approx(128, abs=4)

    results = {"machine": harness.machine(), "quick": True, "stems": {"stem_of_test": [problem]}}
    assert json.loads(json.dumps(results)) == results
    table = harness.markdown(results)
    assert "| absent | peer | 1 | not installed |" in table
    assert "| wrong | peer | 1 | failed: ValueError: a \\| b |" in table
    assert len({line.count(" | ") for line in table.splitlines() if line.startswith("| ")}) == 1


ERRORS = """
from harness import Case, ErrorTable

def problems(*, quick, threads):
    cases = [
        Case("engine", "infall", "found", {"first": 1e-16}),
        Case("blank", "numpy", "found", {"first": None}),
        Case("absent", "no_such_library", "absent", {}),
        Case("ended", "numpy", "ended", {}),
    ]
    return [ErrorTable("table", "a title", ["one", "two"], cases)]

def found(first):
    others = {} if first is None else {"other": [0.5, 0.0]}
    return lambda: {"value": [first, 2.0], **others}

def absent():
    import no_such_library

def ended():
    import os
    return lambda: os._exit(3)
"""


@pytest.fixture
def error_stem(harness, monkeypatch, tmp_path):
    (tmp_path / "stem_of_errors.py").write_text(ERRORS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return importlib.import_module("stem_of_errors")


def test_tabulates_errors_and_reports_failures(harness, error_stem):
    (table,) = harness.run_stem("stem_of_errors", quick=True, threads=1)
    assert table["columns"] == ["one", "two"]
    assert [case["status"] for case in table["cases"]] == [
        "ok",
        "ok",
        "not installed",
        "failed: the process ended with status 3",
    ]
    assert [case["role"] for case in table["cases"]] == ["engine", "peer", "peer", "peer"]
    assert [case["errors"] for case in table["cases"]] == [
        {"value": [1e-16, 2.0], "other": [0.5, 0.0]},
        {"value": [None, 2.0]},
        {},
        {},
    ]
    results = {"machine": harness.machine(), "stems": {"stem_of_errors": [table]}}
    assert json.loads(json.dumps(results)) == results
    lines = harness.markdown(results).splitlines()
    assert lines[lines.index("### table: a title") :] == [
        "### table: a title",
        "",
        "| value | who | one | two |",
        "| --- | --- | ---: | ---: |",
        "| engine | engine | 1.0e-16 | 2.0e+00 |",
        "| blank | peer | not finite | 2.0e+00 |",
        "| absent | peer | not installed |  |",
        "| ended | peer | failed: the process ended with status 3 |  |",
        "",
        "| other | who | one | two |",
        "| --- | --- | ---: | ---: |",
        "| engine | engine | 5.0e-01 | 0.0e+00 |",
    ]


def test_a_table_of_failures_alone_shows_them(harness, error_stem):
    (table,) = error_stem.problems(quick=True, threads=1)
    failures = harness.tabulate("stem_of_errors", replace(table, cases=table.cases[2:3]))
    assert harness.error_lines(failures)[-1] == "| absent | peer | not installed |  |"


def test_quickest_problem_has_every_case(harness, rows):
    problem = rows.selection(15, 14, threads=2, rounds=1)
    assert {case.library for case in problem.cases} == {"infall", "numpy", "torch", "jax"}
    installed = [case for case in problem.cases if case.library in ("infall", "numpy")]
    installed = replace(problem, cases=installed)
    result = harness.measure("rows", installed)
    assert [case["name"] for case in result["cases"]] == [case.name for case in installed.cases]
    for case in result["cases"]:
        assert case["status"] == "ok", case["name"]
        assert case["seconds_min"] > 0
        assert case["cpu_seconds_min"] > 0
        assert case["rate"] > 0
        assert case["ratio"] > 0
        assert case["peak_mebibytes"] >= 0


def test_problem_names_are_distinct_and_cases_exist(rows):
    for quick in (True, False):
        for threads in (1, 2):
            problems = rows.problems(quick=quick, threads=threads)
            assert len({problem.name for problem in problems}) == len(problems)
            for problem in problems:
                keys = [(case.name, case.threads) for case in problem.cases]
                assert len(set(keys)) == len(keys)
                assert all(callable(getattr(rows, case.function)) for case in problem.cases)


@pytest.mark.parametrize("inputs", [1, 3])
def test_numpy_peer_selects_the_best_rows(rows, monkeypatch, inputs):
    monkeypatch.setattr(rows, "BLOCK_NORMALS", 2**10)
    dim, log2_width = 16, 10
    selected = rows.numpy_select(dim, log2_width, threads=1, inputs=inputs)()
    generator = np.random.Generator(np.random.SFC64([2, 0]))
    layer = generator.standard_normal((2**log2_width, dim), dtype=np.float32)
    for best, w in zip(selected, rows.input_vectors(dim, inputs), strict=True):
        expected = np.argsort(-np.abs(layer @ w))[:dim]
        order = np.argsort(-best.scores)
        np.testing.assert_array_equal(best.indices[order], expected)
        np.testing.assert_array_equal(best.rows[order], layer[expected])
        np.testing.assert_allclose(best.projections, best.rows @ w, rtol=1e-5)


def test_pytorch_peer_selects_the_best_rows(rows):
    torch = pytest.importorskip("torch", reason="the peer is optional")
    layer = torch.randn(500, 16, generator=torch.Generator().manual_seed(1))
    projections = layer @ torch.from_numpy(rows.input_vectors(16))
    best = rows.TorchBest(16, 16)
    for indices in torch.arange(500).split(40):
        best.update(layer[indices], projections[indices], indices)
    expected = torch.topk(projections.abs(), 16).indices
    assert sorted(best.indices.tolist()) == sorted(expected.tolist())
    assert torch.equal(best.rows, layer[best.indices])
    assert torch.equal(best.projections, projections[best.indices])


def test_jax_peer_selects_the_best_rows(rows):
    jax = pytest.importorskip("jax", reason="the peer is optional")
    dim, log2_width = 16, 13  # two blocks
    indices, projections, selected = map(np.asarray, rows.jax_select(dim, log2_width, 1)())
    key, num_rows = jax.random.key(2), 2**16 // dim
    blocks = [
        jax.random.normal(jax.random.fold_in(key, block), (num_rows, dim)) for block in range(2)
    ]
    layer = np.concatenate(blocks)
    expected = np.argsort(-np.abs(layer @ rows.input_vectors(dim)))[:dim]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(selected, layer[expected])
    np.testing.assert_allclose(projections, selected @ rows.input_vectors(dim), rtol=1e-5)


def test_numpy_order_statistics_have_their_law(rows):
    """The largest of n half-normals: its probability integral transform is uniform."""
    from scipy import stats

    dim, log2_width = 15, 12
    w = rows.input_vectors(dim)
    run = rows.numpy_order_statistics(dim, log2_width, 1)
    uniforms = []
    for _ in range(400):
        best = run()
        np.testing.assert_allclose(best.rows @ w, best.projections, rtol=1e-4)
        assert len(set(best.indices)) == dim
        assert np.all(np.diff(best.scores) <= 0)
        largest = best.scores[0] / np.linalg.norm(w)
        uniforms.append(stats.halfnorm.cdf(largest) ** (2**log2_width))
    assert stats.kstest(uniforms, "uniform").pvalue > 1e-6


def test_faiss_peers_compute_what_numpys_do(rows):
    pytest.importorskip("faiss", reason="the peer is optional")
    counted = rows.numpy_count_distances(20, 256, 1)()
    np.testing.assert_array_equal(rows.faiss_distances(20, 256, 1)(), counted)
    codes = rows.faiss_codes(3, 8, 64, 1)()
    hyperplanes = np.random.default_rng(2).standard_normal((64, 8), dtype=np.float32)
    signs = rows.input_vectors(8, 3) @ hyperplanes.T >= 0
    np.testing.assert_array_equal(codes, np.packbits(signs, axis=1, bitorder="little"))


def test_the_counter_counts_the_threads_started_after_it(harness):
    instructions = importlib.import_module("instructions")
    try:
        counter = instructions.Counter(instructions.SOFTWARE, instructions.TASK_CLOCK)
    except OSError as error:
        pytest.skip(f"the system counts no events: {error}")

    def work():
        end = time.thread_time() + 0.11  # the two clocks do not tick together
        while time.thread_time() < end:
            pass

    work()
    alone = counter.count()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with_thread = counter.count()
    counter.close()
    assert alone >= 0.1e9  # nanoseconds of processor time
    assert with_thread - alone >= 0.1e9


def test_side_by_side_names_the_strongest_peer(harness):
    side_by_side = importlib.import_module("side_by_side")

    def case(name, role, threads, seconds):
        return {"name": name, "role": role, "threads": threads, "seconds_min": seconds}

    cases = [
        case("engine", "engine", 1, 2.0),
        case("engine", "engine", 2, 1.0),
        case("less work", "engine", 2, 0.1),
        case("slow", "peer", 1, 4.0),
        case("fast", "peer", 2, 0.5),
        case("many threads", "peer", 8, 0.1),
        case("failed", "peer", 2, None),
        case("copy", "ceiling", 2, 0.01),
    ]
    problem = {"name": "p", "cases": cases}
    machine = {"processor": "A", "cores": 2, "engine": {"isa": "x86-64-v4"}, "commit": "abc"}
    result = {"machine": machine, "stems": {"rows": [problem, {"name": "e", "columns": []}]}}
    other = {"machine": {**machine, "processor": "B"}, "stems": {"rows": []}}
    lines = side_by_side.table([result, other]).splitlines()
    assert lines[:2] == [
        "1. A, 2 cores, x86-64-v4, commit abc",
        "2. B, 2 cores, x86-64-v4, commit abc",
    ]
    assert lines[-1] == "| rows: p | 1 | 0.5 | 0.5 | fast |  |  |  |  |"


def test_numpy_peer_covers_every_row_with_any_number_of_threads(rows, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_NORMALS", 2**8)
    (best,) = rows.numpy_select(8, 12, threads=3)()
    assert len(set(best.indices)) == 8
    shares = rows.in_parallel(lambda _, share: list(share), 100, 3)
    assert [row for share in shares for row in share] == list(range(100))


def test_peers_agree_on_codes_and_distances(rows):
    counted = rows.numpy_count_distances(20, 256, 1)()
    multiplied = rows.numpy_product_distances(20, 256, 1)()
    np.testing.assert_array_equal(counted, multiplied)
    assert rows.numpy_codes(3, 8, 64, 2)().shape == (3, 8)


# Enough of CuPy over NumPy for the GPU cases: the same calls, the host's clock, a pool that holds
# 2 MiB with the inputs and 6 MiB once something has run.
CUPY = """
import threading
import time
from types import SimpleNamespace

from numpy import *
import numpy

__version__ = "0"
ndarray = type("ndarray", (), {})  # arrays here are NumPy's and on the host


class Event:
    def record(self):
        self.at = time.perf_counter()

    def synchronize(self):
        pool.held = 6 * 2**20


class Pool:
    held = 2 * 2**20

    def total_bytes(self):
        return self.held

    def free_all_blocks(self):
        pass


class RandomState:
    def __init__(self, seed, method):
        self.generator = numpy.random.Generator(numpy.random.Philox(seed))

    def standard_normal(self, size, dtype):
        return self.generator.standard_normal(size, dtype=dtype)


class RawKernel:
    def __init__(self, source, name):
        assert f"__global__ void {name}(" in source

    def __call__(self, grid, block, arguments):
        time.sleep(0.001)


pool = Pool()
get_default_memory_pool = lambda: pool
properties = {
    "name": b"A device", "major": 9, "minor": 0, "multiProcessorCount": 7, "totalGlobalMem": 2**33
}
runtime = SimpleNamespace(
    CUDARuntimeError=OSError,
    getDeviceCount=lambda: 1,
    getDeviceProperties=lambda number: properties,
    driverGetVersion=lambda: 12080,
    runtimeGetVersion=lambda: 13000,
)
cuda = SimpleNamespace(
    runtime=runtime,
    Event=Event,
    get_elapsed_time=lambda begin, end: (end.at - begin.at) * 1e3,
    get_current_stream=lambda: SimpleNamespace(synchronize=lambda: None),
    curand=SimpleNamespace(CURAND_RNG_PSEUDO_PHILOX4_32_10=161),
)
random = SimpleNamespace(
    Generator=numpy.random.Generator, Philox4x3210=numpy.random.Philox, RandomState=RandomState
)
"""


GPU_STEMS = ("rows_gpu", "classes_gpu", "frames_gpu")


@pytest.fixture
def rows_gpu(harness):
    return importlib.import_module("rows_gpu")


@pytest.fixture
def classes_gpu(harness):
    return importlib.import_module("classes_gpu")


@pytest.fixture
def frames_gpu(harness):
    return importlib.import_module("frames_gpu")


@pytest.fixture(params=GPU_STEMS)
def gpu_stem(harness, request):
    return importlib.import_module(request.param)


@pytest.fixture
def cupy(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text(CUPY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    yield importlib.import_module("cupy")
    del sys.modules["cupy"]


def test_gpu_stem_says_why_it_does_not_run(harness, gpu_stem, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "cupy", None)
    files = [tmp_path / "a.json", tmp_path / "a.md"]
    name = gpu_stem.__name__
    arguments = [name, "--json", str(files[0]), "--markdown", str(files[1])]
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    assert importlib.import_module("run").main() == 0
    reason = "CuPy is not installed"
    assert capsys.readouterr().err == f"{name}: not run: {reason}\n"
    results = json.loads(files[0].read_text())
    assert results["not_run"] == {name: reason}
    assert results["stems"] == results["devices"] == {}
    assert files[1].read_text().endswith(f"\n## {name}\n\nNot run: {reason}\n")


def test_gpu_stem_describes_its_device_or_that_there_is_none(harness, cupy, monkeypatch):
    assert harness.device("rows_gpu")["device"] == "A device"
    assert harness.device("rows_gpu")["CUDA of the driver"] == "12.8"
    assert harness.device("rows") is None
    monkeypatch.setattr(cupy.runtime, "getDeviceCount", lambda: 0)
    with pytest.raises(harness.UnavailableError, match=r"^no CUDA device$"):
        harness.device("rows_gpu")

    def without_driver():
        raise OSError("cudaErrorInsufficientDriver: too old\nand more")

    monkeypatch.setattr(cupy.runtime, "getDeviceCount", without_driver)
    reason = r"^no CUDA device: cudaErrorInsufficientDriver: too old$"
    with pytest.raises(harness.UnavailableError, match=reason):
        harness.device("rows_gpu")


def test_gpu_cases_make_a_table(harness, rows_gpu, cupy):
    problem = rows_gpu.selection(15, 10, 10, rounds=2)
    names = ["stream", "CuPy Philox, blocks of 64 MiB", "gaussian_rows"]
    cases = [case for case in problem.cases if case.name in names]
    measured = harness.measure("rows_gpu", replace(problem, cases=cases))
    engine, peer, ceiling = measured["cases"]
    for case in measured["cases"]:
        assert case["status"] == "ok"
        assert len(case["seconds"]) == 2
        assert case["seconds_min"] <= case["seconds_median"]
        assert case["cpu_seconds_min"] > 0
    assert [case["role"] for case in measured["cases"]] == ["engine", "peer", "ceiling"]
    assert engine["ratio"] == 1
    assert peer["ratio"] == peer["seconds_min"] / engine["seconds_min"]
    assert engine["share"] == engine["rate"] / ceiling["rate"]
    assert peer["share"] == peer["rate"] / ceiling["rate"]
    assert ceiling["ratio"] is None is ceiling["share"]
    kept = 15 * (8 + 4 + 15 * 4) / 2**20  # what the peer returns: indices, projections, rows
    assert peer["peak_mebibytes"] == pytest.approx(4 - kept)
    assert engine["peak_mebibytes"] == pytest.approx(4 - kept - 15 * (4 + 8) / 2**20)
    assert ceiling["peak_mebibytes"] == 4

    results = {
        "machine": harness.machine(),
        "quick": True,
        "devices": {"rows_gpu": harness.device("rows_gpu")},
        "not_run": {},
        "stems": {"rows_gpu": [measured]},
    }
    assert json.loads(json.dumps(results)) == results
    table = harness.markdown(results)
    assert "\n## rows_gpu\n\ndevice A device, compute capability 9.0, multiprocessors 7" in table
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert rows[0].endswith(" | time / engine's | peak MiB | of ceiling |")
    assert rows[-1].startswith("| gaussian_rows | ceiling | 1 | ")
    assert rows[-1].endswith(" |  | 4.0 |  |")
    assert len({line.count(" | ") for line in rows}) == 1
    assert rows[2].endswith(f" | {100 * engine['share']:.3g} % |")


def test_gpu_meter_warms_up_and_counts_runs(rows_gpu, cupy):
    meter, runs = rows_gpu.CuPyMeter(), []
    meter.settle()
    seconds, _ = meter.timed(lambda: runs.append(time.sleep(0.01)), 3)
    assert len(runs) == 6
    assert 0.01 <= seconds < 0.1
    assert meter.peak_mebibytes() == 4


def test_gpu_problems_are_distinct_and_their_cases_exist(gpu_stem):
    for quick in (True, False):
        problems = gpu_stem.problems(quick=quick, threads=2)
        assert len({problem.name for problem in problems}) == len(problems)
        for problem in problems:
            assert len({case.name for case in problem.cases}) == len(problem.cases)
            assert any(case.ceiling for case in problem.cases)
            for case in problem.cases:
                assert callable(getattr(gpu_stem, case.function))
                assert callable(getattr(gpu_stem, case.meter))
                assert (case.meter == "TorchMeter") == (case.library == "torch")


def test_gpu_cases_run(rows_gpu, cupy):
    rows_gpu.cupy_fma(8)()
    rows_gpu.cupy_copy(6)()
    rows_gpu.infall_rows(5, 3)()
    selected = rows_gpu.infall_select(5, 8, "rotated")()
    assert rows_gpu.result_bytes(selected) == 5 * 3 * 8 + 25 * 4
    stored = rows_gpu.cupy_stored_rows(16, 9)
    expected = np.sort(np.argsort(-np.abs(stored @ rows_gpu.input_vectors(16)))[:16])
    np.testing.assert_array_equal(rows_gpu.infall_select_from(16, 9)().indices, expected)
    np.testing.assert_array_equal(np.sort(rows_gpu.cupy_select_from(16, 9)().indices), expected)


@pytest.mark.parametrize("name", ["classes_gpu", "frames_gpu"])
def test_gpu_cases_of_classes_and_frames_run(harness, cupy, name):
    stem = importlib.import_module(name)
    for problem in stem.problems(quick=True, threads=1):
        for case in problem.cases:
            if case.library != "torch":
                getattr(stem, case.function)(**{**case.arguments, **case.small})()


def test_work_of_gpu_cases_is_the_least_there_is(classes_gpu, frames_gpu):
    works = {}
    for stem in (classes_gpu, frames_gpu):
        for problem in stem.problems(quick=False, threads=1):
            work, *others = {case.work for case in problem.cases if not case.ceiling}
            assert not others
            works[problem.name] = work
    assert works["gpu-moments-n500000-d512-k10"] == pytest.approx(1.024)
    assert works["gpu-scatter-n100000-d512-k100"] == pytest.approx(1e5 * 512**2 / 1e9)
    assert works["gpu-nearest-n100000-d768-k1000"] == pytest.approx(76.8)
    assert works["gpu-pairs-d768-k10000"] == pytest.approx(768 * 49.995e6 / 1e9)
    assert works["gpu-project-hadamard-d8192"] == pytest.approx(2 * 4096 * 8192 * 4 / 1e9)
    assert works["gpu-largest-k1000000-n1-top100"] == pytest.approx(2**20 * 4 / 1e9)


def test_pytorch_gpu_peers_of_classes_compute_what_the_engine_does(classes_gpu, cupy, monkeypatch):
    torch = pytest.importorskip("torch", reason="the peer is optional")
    sizes = (600, 9, 4)
    features, labels = classes_gpu.device_samples(*sizes)
    same = tuple(map(torch.from_numpy, (features, labels)))
    monkeypatch.setattr(classes_gpu, "torch_samples", lambda *_: same)
    engine = classes_gpu.infall_moments(*sizes, scatter=True)()
    peer = classes_gpu.torch_moments(*sizes, scatter=True, device="cpu")()
    for mine, theirs in zip(engine, peer, strict=True):
        scale = len(features) if mine.shape == (9, 9) else 1  # the engine's is of the mean sample
        np.testing.assert_allclose(theirs / scale, mine, rtol=1e-4, atol=1e-5)
    share = classes_gpu.torch_nearest(*sizes, device="cpu")()
    assert float(share) == classes_gpu.infall_nearest(*sizes)()
    assert float(classes_gpu.torch_pairs(5, 3, device="cpu")()) > 0


def test_pytorch_gpu_peer_finds_the_largest_logits(frames_gpu, cupy, monkeypatch):
    torch = pytest.importorskip("torch", reason="the peer is optional")
    h = frames_gpu.cupy_normals("Philox")((3, 64))
    best = frames_gpu.infall_largest(40, 64, 3, 5, "identity")()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn", lambda *_, **__: torch.from_numpy(h))
        values, classes = frames_gpu.torch_largest(40, 64, 3, 5, device="cpu")()
    np.testing.assert_array_equal(classes, best.classes)
    np.testing.assert_allclose(values, best.values, rtol=1e-5)
    assert frames_gpu.torch_fft(4, 2, device="cpu")().shape == (2, 9)
    assert frames_gpu.torch_product(64, 3, device="cpu")().shape == (3, 64)


@pytest.mark.parametrize("generator", ["Philox", "cuRAND"])
def test_cupy_peer_selects_the_best_rows(rows_gpu, cupy, generator):
    dim, log2_width = 15, 10
    best = rows_gpu.cupy_select(dim, log2_width, 10, generator)()
    layer = rows_gpu.cupy_normals(generator)((2**log2_width, dim))  # 16 blocks, drawn in turn
    check_best(best, layer, rows_gpu.input_vectors(dim))


def test_pytorch_gpu_peer_selects_the_best_rows(rows_gpu):
    torch = pytest.importorskip("torch", reason="the peer is optional")
    dim, log2_width = 15, 10
    best = rows_gpu.torch_select(dim, log2_width, 10, device="cpu")()
    generator = torch.Generator().manual_seed(2)
    blocks = [torch.randn(2**6, dim, generator=generator) for _ in range(2**4)]
    layer = torch.cat(blocks).numpy()
    best = rows_gpu.Best(*(tensor.numpy() for tensor in best))
    check_best(best, layer, rows_gpu.input_vectors(dim))
    assert rows_gpu.torch_select_from(dim, 8, device="cpu")().rows.shape == (dim, dim)


def check_best(best, layer, w):
    expected = np.argsort(-np.abs(layer @ w))[: len(w)]
    order = np.argsort(-np.abs(best.projections))
    np.testing.assert_array_equal(best.indices[order], expected)
    np.testing.assert_array_equal(best.rows[order], layer[expected])
    np.testing.assert_allclose(best.projections, best.rows @ w, rtol=1e-5)


@pytest.fixture
def frames(harness):
    return importlib.import_module("frames")


def test_frame_problems_are_distinct_and_their_cases_run(frames):
    for quick in (True, False):
        for threads in (1, 2):
            problems = frames.problems(quick=quick, threads=threads)
            assert len({problem.name for problem in problems}) == len(problems)
            for problem in problems:
                keys = [(case.name, case.threads) for case in problem.cases]
                assert len(set(keys)) == len(keys)
                for case in problem.cases:
                    function = getattr(frames, case.function)
                    optional = {"torch", "numba", "faiss", "jax"}
                    if quick and threads == 1 and case.library not in optional:
                        function(**{**case.arguments, **case.small})()


def test_frame_peers_compute_what_the_engine_does(frames):
    import infall

    h = frames.vectors(3, 32, "float32")
    chosen = frames.numpy_identity_classify(20, 32, 3)()
    frame = infall.SimplexETF(20, 32, basis="identity")
    np.testing.assert_allclose(
        frames.numpy_identity_project(20, 32, 3)(), frame.project(h), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(chosen, frame.classify(h))
    np.testing.assert_array_equal(frames.infall_classify(20, 32, 3, "identity", 1)(), chosen)
    made = frames.numpy_haar(5, 7)()  # (7, 5)
    cosines = np.full((5, 5), -0.25)
    np.fill_diagonal(cosines, 1.0)
    np.testing.assert_allclose(made.T @ made, cosines, atol=1e-14)
    products = frames.numpy_dense(20, 32, 3, largest=False)()
    classes = frames.numpy_dense(20, 32, 3, largest=True)()
    np.testing.assert_array_equal(products.argmax(axis=1), classes)


@pytest.mark.parametrize("log2_length", [0, 1, 2, 5, 16, 17, 19])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numba_peer_computes_the_transform(frames, log2_length, dtype):
    import infall

    pytest.importorskip("numba", reason="the peer is optional")
    (expected,) = infall.frames.walsh_hadamard(frames.vectors(1, 2**log2_length, dtype))
    transformed = frames.numba_transform(log2_length, dtype)()
    tolerance = 30 * np.finfo(dtype).eps
    np.testing.assert_allclose(transformed, expected, rtol=0, atol=tolerance)
    assert transformed.dtype == dtype


def test_pytorch_frame_peer_computes_what_numpys_does(frames):
    pytest.importorskip("torch", reason="the peer is optional")
    expected = frames.numpy_dense(20, 32, 3, largest=False)()
    np.testing.assert_allclose(frames.torch_dense(20, 32, 3, largest=False)(), expected, atol=1e-5)
    logits = frames.torch_identity_project(20, 32, 3)()
    formula = frames.numpy_identity_project(20, 32, 3)()
    np.testing.assert_allclose(logits, formula, rtol=1e-5, atol=1e-6)
    classes = frames.torch_identity_classify(20, 32, 3)()
    np.testing.assert_array_equal(classes, frames.numpy_identity_classify(20, 32, 3)())
