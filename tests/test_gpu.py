"""The CUDA twins on a real device: the same bits as the CPU."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import infall

pytestmark = pytest.mark.gpu

DIMS = (1, 2, 3, 4, 5, 7, 8, 15, 31, 64, 65, 127, 256, 257, 784, 999, 1000)
NAMES = ("indices", "projections", "unit_projections", "rows")


class CuPy:
    def __init__(self):
        self.module = pytest.importorskip("cupy", reason="CuPy is not installed")
        self.array_type = self.module.ndarray

    def put(self, values, number=0):
        with self.module.cuda.Device(number):
            return self.module.asarray(values)

    def get(self, array):
        return self.module.asnumpy(array)

    def number(self, array):
        return array.device.id

    def stream(self):
        return self.module.cuda.Stream(non_blocking=True)

    def keep_busy(self, cycles):
        spin = """extern "C" __global__ void spin(long long cycles) {
            const long long begin = clock64();
            while (clock64() - begin < cycles) {}
        }"""
        self.module.RawKernel(spin, "spin")((1,), (1,), (self.module.int64(cycles),))
        event = self.module.cuda.Event(disable_timing=True)
        event.record()
        return lambda: not event.done


class Torch:
    def __init__(self):
        self.module = pytest.importorskip("torch", reason="PyTorch is not installed")
        self.array_type = self.module.Tensor
        if not self.module.cuda.is_available():
            pytest.skip("PyTorch has no CUDA device")

    def put(self, values, number=0):
        return self.module.from_numpy(np.array(values)).to(f"cuda:{number}")

    def get(self, array):
        return array.cpu().numpy()

    def number(self, array):
        return array.device.index

    def stream(self):
        return self.module.cuda.stream(self.module.cuda.Stream())

    def keep_busy(self, cycles):
        self.module.cuda._sleep(cycles)
        event = self.module.cuda.Event()
        event.record()
        return lambda: not event.query()


@pytest.fixture(params=[CuPy, Torch])
def library(request):
    return request.param()


def vector(dim, batch=None, seed=0):
    return np.random.default_rng(seed).normal(size=dim if batch is None else (batch, dim))


def same(actual, expected, library, number=0):
    for name in NAMES:
        array = getattr(actual, name)
        assert isinstance(array, library.array_type)
        assert library.number(array) == number
        assert_array_equal(library.get(array), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("dim", DIMS)
def test_rows(library, dim):
    indices = np.random.default_rng(dim).integers(0, 2**63 - 1, 500)
    indices[:9] = (0, 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**63 - 1, 7, 7)
    for seed, layer in ((0, 0), (2**64 - 1, 2**32 - 1)):
        rows = infall.gaussian_rows(library.put(indices), dim, seed=seed, layer=layer)
        expected = infall.gaussian_rows(indices, dim, seed=seed, layer=layer)
        assert_array_equal(library.get(rows), expected)


def test_many_normals(library):
    indices = np.arange(2**14)
    rows = infall.gaussian_rows(library.put(indices), 1024, seed=3)
    assert_array_equal(library.get(rows), infall.gaussian_rows(indices, 1024, seed=3))


@pytest.mark.parametrize("sampler", ["stream", "rotated", "order_statistics"])
@pytest.mark.parametrize("dim", DIMS)
def test_selections_of_all_dims(library, sampler, dim):
    w = vector(dim, seed=dim)
    for order in ("index", "score"):
        settings = {"sampler": sampler, "seed": dim, "layer": 3, "order": order}
        expected = infall.select_rows(w, 20011, **settings)
        same(infall.select_rows(library.put(w), 20011, **settings), expected, library)


@pytest.mark.parametrize("score", ["absolute", "signed"])
@pytest.mark.parametrize("dim", [1, 2, 4, 15, 64, 257, 784])
def test_screened_selections(library, dim, score):
    # From 2^17 rows on, those of one vector are estimated first.
    w = vector(dim, seed=dim)
    for first, num_rows in ((0, 1), (2**32 - 70001, 300), (2**62 + 3, 20000)):
        settings = {"row_range": (first, first + 2**18 + 77), "num_rows": num_rows, "score": score}
        expected = infall.select_rows(w, 2**63 - 1, **settings)
        same(infall.select_rows(library.put(w), 2**63 - 1, **settings), expected, library)


# What estimates are made of: the value, what its error is counted in, the largest error that NVIDIA
# states, and the arguments that occur (docs/screening.md).
APPROXIMATIONS = {
    "lg2": ("log2(double(x))", "fmax(1.0, fabs(exact))", 2.0**-22, (2.0**-33, 1.0)),
    "sqrt": ("sqrt(double(x))", "exact", 2.0**-23, (2.0**-126, 2.0**127)),
    "cos": ("cos(double(x))", "1.0", 2.0**-20.5, (0.0, 2 * np.pi)),
}


@pytest.mark.slow
@pytest.mark.parametrize("function", APPROXIMATIONS)
def test_approximations_keep_to_the_manual(function):
    cupy = CuPy().module
    exact, unit, most, ends = APPROXIMATIONS[function]
    kernel = cupy.RawKernel(
        r"""extern "C" __global__ void errors(unsigned first, unsigned count, double* largest) {
            const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
            if (i >= count) return;
            const float x = __uint_as_float(first + i);
            float y;
            asm("FUNCTION.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
            const double exact = EXACT, error = fabs(y - exact) / (UNIT);
            // Doubles that are not negative are in the order of their bits; NaN is the largest.
            atomicMax((unsigned long long*)largest, __double_as_longlong(error));
        }""".replace("FUNCTION", function)
        .replace("EXACT", exact)
        .replace("UNIT", unit),
        "errors",
    )
    first, last = (int(np.float32(end).view(np.uint32)) for end in ends)
    largest = cupy.zeros(1)
    for start in range(first, last, 2**26):
        count = min(2**26, last - start)
        blocks = -(-count // 256)
        kernel((blocks,), (256,), (np.uint32(start), np.uint32(count), largest))
    assert float(largest[0]) <= most


@pytest.mark.parametrize("sampler", ["stream", "rotated"])
@pytest.mark.parametrize("score", ["absolute", "signed"])
@pytest.mark.parametrize("batch", [1, 2, 3, 8, 9, 33])
def test_selections_of_batches(library, sampler, score, batch):
    for dim, num_rows in ((1, 1), (7, 7), (30, 300), (65, 10)):
        w = vector(dim, batch)
        settings = {"sampler": sampler, "score": score, "num_rows": num_rows}
        expected = infall.select_rows(w, 9001, **settings)
        same(infall.select_rows(library.put(w), 9001, **settings), expected, library)


@pytest.mark.parametrize("sampler", ["stream", "rotated"])
@pytest.mark.parametrize(
    "width",
    [1, 2, 3, *(2**p + d for p, d in itertools.product((5, 7, 8, 10, 12, 16), (-1, 0, 1)))],
)
def test_widths_around_blocks(library, sampler, width):
    w = vector(5)
    for num_rows in {1, min(width, 5), min(width, 700), width if width < 5000 else 1}:
        settings = {"sampler": sampler, "num_rows": num_rows, "order": "score"}
        expected = infall.select_rows(w, width, **settings)
        same(infall.select_rows(library.put(w), width, **settings), expected, library)


@pytest.mark.parametrize("num_rows", [1000, 5000, 70001, 10**6])
@pytest.mark.parametrize("order", ["index", "score"])
def test_many_rows(library, num_rows, order):
    for sampler, width in itertools.product(("stream", "rotated"), (num_rows, 5 * num_rows)):
        settings = {"sampler": sampler, "num_rows": num_rows, "order": order}
        w = vector(2)
        expected = infall.select_rows(w, width, **settings)
        same(infall.select_rows(library.put(w), width, **settings), expected, library)
    matrix = np.random.default_rng(0).integers(-9, 10, (2 * num_rows, 1)).astype(np.float32)
    expected = infall.select_rows_from([1.0], matrix, num_rows=num_rows, order=order)
    selection = infall.select_rows_from(
        library.put([1.0]), library.put(matrix), num_rows=num_rows, order=order
    )
    same(selection, expected, library)


@pytest.mark.parametrize("sampler", ["stream", "rotated"])
@pytest.mark.parametrize("border", [2**31, 2**32, 2**33, 2**62, 2**63 - 4096])
def test_row_ranges_around_borders(library, sampler, border):
    w = vector(6, 2)
    for pair in ((border - 3001, border + 2999), (border - 1, border + 1), (border, border + 4095)):
        settings = {"sampler": sampler, "row_range": pair, "num_rows": 2}
        expected = infall.select_rows(w, 2**63 - 1, **settings)
        same(infall.select_rows(library.put(w), 2**63 - 1, **settings), expected, library)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["stream", "rotated"])
def test_a_wide_layer(library, sampler):
    w = vector(15)
    expected = infall.select_rows(w, 2**25, sampler=sampler)
    same(infall.select_rows(library.put(w), 2**25, sampler=sampler), expected, library)


def test_ends_of_float64(library):
    for scale in (5e-324, 1e-310, 1e306):
        w = np.array([3.0, -4.0, 2.0]) * scale
        same(infall.select_rows(library.put(w), 999), infall.select_rows(w, 999), library)
        x = np.array([[3.0, -4.0, 2.0], [1.0, 0.0, -1.0]]) * scale
        codes = infall.hyperplane_codes(library.put(x), 100)
        assert_array_equal(library.get(codes), infall.hyperplane_codes(x, 100))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 3, 64, 65, 257])
def test_matrices(library, dtype, dim):
    matrix = np.random.default_rng(1).normal(size=(5003, dim)).astype(dtype)
    matrix[100:200] = matrix[300:400]  # ties
    wide = matrix.astype(np.float32) if dtype == np.float16 else matrix
    on_device = library.put(matrix)
    spread = library.put(np.repeat(np.repeat(matrix, 2, 0), 2, 1))[::2, ::2]
    for batch, score in itertools.product((None, 3), ("absolute", "signed")):
        w = vector(dim, batch)
        expected = infall.select_rows_from(w, wide, num_rows=150, score=score, order="score")
        for variant in (on_device, spread, library.put(np.ascontiguousarray(matrix.T)).T):
            selection = infall.select_rows_from(
                library.put(w), variant, num_rows=150, score=score, order="score"
            )
            same(selection, expected, library)


def test_bfloat16_matrices():
    library = Torch()
    torch = library.module
    matrix = library.put(np.random.default_rng(1).normal(size=(5003, 65))).to(torch.bfloat16)
    w = vector(65)
    selection = infall.select_rows_from(library.put(w), matrix, num_rows=20)
    same_rows = infall.select_rows_from(w, matrix.float().cpu().numpy(), num_rows=20)
    assert_array_equal(library.get(selection.indices), same_rows.indices)
    assert_array_equal(library.get(selection.projections), same_rows.projections)
    assert_array_equal(library.get(selection.rows.float()), same_rows.rows)


@pytest.mark.parametrize("num_bits", [1, 7, 8, 9, 64, 1000, 4097])
def test_codes_and_distances(library, num_bits):
    for dim, count in ((1, 1), (3, 17), (64, 100), (257, 33)):
        x = np.random.default_rng(dim).normal(size=(count, dim))
        codes = infall.hyperplane_codes(x, num_bits, seed=3, layer=1)
        packed = infall.hyperplane_codes(library.put(x), num_bits, seed=3, layer=1)
        assert_array_equal(library.get(packed), codes)
        distances = infall.hamming_distances(packed, packed[:5])
        assert_array_equal(library.get(distances), infall.hamming_distances(codes, codes[:5]))


def test_streams(library):
    w, expected = vector(33), infall.select_rows(vector(33), 200001)
    on_device = library.put(w)
    library.get(on_device)  # the copy is done before other streams read it
    for _ in range(5):
        with library.stream():
            doubled = on_device * 2.0
            selection = infall.select_rows(doubled * 0.5, 200001)
            same(selection, expected, library)


def test_streams_of_foreign_arrays():
    cupy = CuPy().module

    class Foreign:
        def __init__(self, array, stream):
            self.array = array
            interface = {**array.__cuda_array_interface__, "stream": stream.ptr, "version": 3}
            self.__cuda_array_interface__ = interface

    producer = cupy.cuda.Stream(non_blocking=True)
    expected = infall.gaussian_rows(np.full(10**6, 5), 1)
    for _ in range(10):
        indices = cupy.zeros(10**6, dtype=cupy.int64)
        cupy.cuda.get_current_stream().synchronize()
        with producer:
            for _ in range(100):
                indices += 1
            indices -= 95
        rows = infall.gaussian_rows(Foreign(indices, producer), 1)
        assert_array_equal(cupy.asnumpy(rows), expected)


def test_nothing_waits(library):
    w, x = library.put(vector(20)), library.put(vector(20, 50))
    matrix = library.put(np.random.default_rng(2).normal(size=(5000, 20)))

    def run():
        kept = []
        for sampler in ("stream", "rotated", "order_statistics"):
            kept.append(infall.select_rows(w, 30000, sampler=sampler))
            model = infall.MaxLikelihood(30000, 3, sampler=sampler).fit(w)
            kept.extend(
                (model, model.transform(x), model.angle_scores(x, layer=None), model.nll(x))
            )
        kept.append(infall.select_rows(x[:9], 30000, sampler="rotated"))
        kept.append(infall.select_rows_from(w, matrix))
        codes = infall.hyperplane_codes(x, 100)
        kept.append(infall.hamming_distances(codes, codes))
        kept.append(infall.gaussian_rows(kept[0].indices, 20))
        return kept

    library.keep_busy(1)
    for _ in range(2):  # the libraries make memory and kernels when they first need them
        run()
    library.get(w)
    is_busy = library.keep_busy(10**10)  # some seconds
    kept = run()
    assert is_busy()
    assert kept[1].indices_.shape == (3, 20)


def test_vectors_without_a_direction(library):
    w = vector(6, 5)
    w[1, 2], w[3] = np.nan, 0.0
    for sampler in ("stream", "rotated"):
        selection = infall.select_rows(library.put(w), 9001, sampler=sampler)
        missing = library.get(selection.indices) == -1
        assert_array_equal(missing.any(axis=1), [False, True, False, True, False])
        assert_array_equal(missing.all(axis=1), missing.any(axis=1))
        assert_array_equal(np.isnan(library.get(selection.rows)).all(axis=(1, 2)), missing[:, 0])
        assert_array_equal(np.isnan(library.get(selection.projections)), missing)
    model = infall.MaxLikelihood(9001, 2).fit(library.put(w[1]))
    with pytest.raises(ValueError, match="w, which the model was fitted to, is zero or not finite"):
        _ = model.layers_


@pytest.mark.parametrize("dim", [1, 2, 15, 257, 784, 5000, 10**6])
def test_norms(library, dim):
    for batch in (1, 2) if dim > 5000 else (1, 40):
        w = vector(dim, batch) * 2.0 ** np.random.default_rng(1).integers(-300, 300, (batch, 1))
        expected = infall.select_rows(w, 64, num_rows=1, sampler="rotated")
        selection = infall.select_rows(library.put(w), 64, num_rows=1, sampler="rotated")
        same(selection, expected, library)


def test_max_likelihood(library):
    w, x = vector(20), np.random.default_rng(3).normal(size=(50, 20))
    for sampler in ("stream", "rotated", "order_statistics"):
        expected = infall.MaxLikelihood(30000, 4, sampler=sampler).fit(w)
        model = infall.MaxLikelihood(30000, 4, sampler=sampler).fit(library.put(w))
        assert model == expected
        assert infall.MaxLikelihood(30000, 4, sampler=sampler, device="cuda:0").fit(w) == expected
        for measure in (model.transform, model.angle_scores, model.nll):
            measured = measure(library.put(x), layer=None)
            np.testing.assert_allclose(
                library.get(measured), measure(x, layer=None), rtol=1e-10, atol=1e-13
            )


@pytest.mark.parametrize("basis", ["identity", "hadamard"])
@pytest.mark.parametrize(
    ("num_classes", "dim", "count"),
    [(2, 2, 70000), (40, 39, 300), (1000, 4096, 9), (3000, 3001, 9), (100_000, 2**17, 2)],
)
def test_frames(library, basis, num_classes, dim, count):
    frame = infall.SimplexETF(num_classes, dim, basis=basis, seed=5)
    for dtype in (np.float32, np.float64):
        h, y = (vector(n, count).astype(dtype) for n in (dim, num_classes))
        assert_array_equal(library.get(frame.project(library.put(h))), frame.project(h))
        assert_array_equal(library.get(frame.adjoint(library.put(y))), frame.adjoint(y))
        for top in (1, min(num_classes, 300)):
            largest, expected = frame.topk(library.put(h), top), frame.topk(h, top)
            assert_array_equal(library.get(largest.values), expected.values)
            assert_array_equal(library.get(largest.classes), expected.classes)


@pytest.mark.parametrize("log2_length", [0, 1, 5, 10, 11, 12, 16, 17, 21, 22])
def test_transforms(library, log2_length):
    for dtype in (np.float32, np.float64):
        x = vector(2**log2_length, 3).astype(dtype)
        transformed = infall.frames.walsh_hadamard(library.put(x))
        assert_array_equal(library.get(transformed), infall.frames.walsh_hadamard(x))


@pytest.mark.parametrize(
    ("num_samples", "dim", "num_classes"),
    [(300_000, 5, 2), (5000, 513, 10), (9000, 130, 3000), (70_000, 1, 66_000)],
)
def test_class_moments(library, num_samples, dim, num_classes):
    rng = np.random.default_rng(dim)
    labels = rng.integers(0, num_classes, num_samples)
    features = (rng.normal(size=(num_samples, dim)) + 5.0).astype(np.float32)
    moments, expected = (infall.ClassMoments(num_classes, dim) for _ in range(2))
    for part in (slice(0, 1000), slice(1000, None)):
        moments.update(library.put(features[part]), library.put(labels[part]))
        expected.update(features[part], labels[part])
    assert_array_equal(library.get(moments.counts), expected.counts)
    assert_array_equal(library.get(moments.means), expected.means)
    np.testing.assert_allclose(library.get(moments.variances), expected.variances, rtol=1e-14)
    if num_classes <= 10:
        assert infall.collapse.cdnv(moments) == infall.collapse.cdnv(expected)
        errors = [
            infall.collapse.ncc_error(samples, labels, moments=of_samples)
            for samples, of_samples in ((library.put(features), moments), (features, expected))
        ]
        assert errors[0] == errors[1]
