"""PyTorch differentiates frames and the transform of a model, in any layout, dtype and place."""

import contextlib
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fake_device
import infall
from infall import Cube, MaxLikelihood, Orthoplex, SimplexETF
from infall._arrays.convert import refuse_gradient
from infall._arrays.device import TorchDevice
from infall._arrays.host import Host

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
gradcheck, gradgradcheck = torch.autograd.gradcheck, torch.autograd.gradgradcheck

FRAMES = [
    frame
    for norms in (None, np.linspace(0.5, 2.0, 7))
    for frame in (
        *(SimplexETF(7, d, basis=b, seed=1, class_norms=norms)
          for b in ("haar", "identity", "hadamard") for d in (6, 11)),
        Orthoplex(7, 5, class_norms=norms),
        Cube(7, 4, class_norms=norms),
    )
]  # fmt: skip
every_frame = pytest.mark.parametrize("frame", FRAMES, ids=repr)


def tensor(*shape, seed=0, dtype=None, tracked=True):
    """Standard normals that require a gradient."""
    entries = np.random.default_rng(seed).normal(size=shape)
    return torch.tensor(entries, dtype=dtype or torch.float64, requires_grad=tracked)


@pytest.fixture(scope="module")
def model():
    """Return a small fitted model."""
    return MaxLikelihood(500, 3, seed=2).fit(np.arange(1.0, 6.0))


# Frames -------------------------------------------------------------------------------------------


@every_frame
def test_gradients_of_products_are_right_to_any_order(frame):
    for operator, length in ((frame.project, frame.dim), (frame.adjoint, frame.num_classes)):
        for shape in ((length,), (3, length)):
            assert gradcheck(operator, tensor(*shape))
            assert gradgradcheck(operator, tensor(*shape))
        # A third derivative: of the sum of cubes, 6 M M^T M^T in turn.
        x, direction = tensor(length), tensor(length, seed=1, tracked=False)
        derivative = (operator(x) ** 3).sum()
        for _ in range(3):
            (gradient,) = torch.autograd.grad(derivative, x, create_graph=True)
            derivative = gradient @ direction
        assert_allclose(
            derivative.item(), 6.0 * (operator(direction) ** 3).sum().item(), rtol=1e-12
        )


@every_frame
def test_the_gradient_is_the_adjoint_whatever_the_layout(frame):
    h = tensor(6, frame.dim, tracked=False)
    weights = tensor(6, frame.num_classes, seed=1, tracked=False)
    expected = frame.adjoint(weights)
    wide = torch.zeros(12, 2 * frame.dim, dtype=torch.float64)
    wide[::2, ::2] = h
    leaves = [h.clone(), h.T.contiguous().T, wide[::2, ::2].detach()]
    for leaf in leaves:
        leaf.requires_grad_()
        logits = frame.project(leaf)
        assert_array_equal(logits.detach(), frame.project(h))
        logits.backward(weights.T.contiguous().T)
        assert_allclose(leaf.grad, expected, rtol=1e-14, atol=1e-14)
    feature = h[0].clone().requires_grad_()
    frame.project(feature.expand(6, -1)).sum().backward()  # features and gradient without strides
    ones = torch.ones(6, frame.num_classes, dtype=torch.float64)
    assert_allclose(feature.grad, frame.adjoint(ones).sum(dim=0), atol=1e-13)
    none = torch.empty(0, frame.dim, requires_grad=True)
    frame.project(none).sum().backward()
    assert none.grad.shape == (0, frame.dim)


@every_frame
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradients_have_the_dtype_of_the_features(frame, dtype):
    h = tensor(4, frame.dim, dtype=dtype)
    logits = frame.project(h)
    assert logits.dtype == torch.float32
    weights = tensor(4, frame.num_classes, seed=1, dtype=torch.float32, tracked=False)
    (logits * weights).sum().backward()
    assert h.grad.dtype == dtype
    expected = frame.adjoint(weights.double())
    assert_allclose(h.grad.double(), expected, atol=4 * float(torch.finfo(dtype).eps) * 4)


def test_no_graph_without_gradients():
    frame, h = SimplexETF(4, 6), tensor(3, 6)
    with torch.no_grad():
        assert not frame.project(h).requires_grad
    with torch.inference_mode():
        assert not frame.project(h).requires_grad
    assert not frame.project(h.detach()).requires_grad
    assert frame.project(h).requires_grad
    assert_array_equal(frame.project(h).detach(), frame.project(h.detach()))


def test_what_is_not_differentiated_says_so():
    frame, h = SimplexETF(4, 6), tensor(3, 6)
    for call in (frame.topk, frame.classify, lambda h: frame.nearest(h[[0, 1, 2, 2]])):
        with pytest.raises(TypeError, match=r"(H|means) requires a gradient"):
            call(h)
    with pytest.raises(TypeError, match="x requires a gradient"):
        infall.frames.walsh_hadamard(tensor(4))
    with torch.no_grad():
        assert frame.classify(h).shape == (3,)


def test_errors_are_those_without_a_gradient():
    frame = SimplexETF(4, 6)
    with pytest.raises(ValueError, match="H has 5 columns; expected 6"):
        frame.project(tensor(5))
    with pytest.raises(TypeError, match="H has dtype complex"):
        frame.project(torch.zeros(6, dtype=torch.complex64, requires_grad=True))
    logits, gradient = frame.project(tensor(2, 6)), torch.zeros(2, 4, dtype=torch.float64)
    gradient[1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"Y is not finite: nan at position \(1, 2\)"):
        logits.backward(gradient)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # PyTorch's own
def test_other_ways_to_differentiate_are_right_or_refused(model):
    frame, h = SimplexETF(4, 6), tensor(3, 6, tracked=False)
    gradient = torch.func.grad(lambda h: (frame.project(h) ** 2).sum())(h)
    assert_allclose(gradient, 2.0 * frame.adjoint(frame.project(h)), rtol=1e-13)
    refusal = pytest.raises((RuntimeError, NotImplementedError, TypeError))
    for operator, x in ((frame.project, h), (frame.adjoint, h[:, :4]), (model.transform, h[:, :5])):
        with refusal:
            torch.func.jvp(operator, (x,), (x,))
        with refusal:
            torch.func.vmap(operator)(x)
        with torch.autograd.forward_ad.dual_level(), refusal:
            operator(torch.autograd.forward_ad.make_dual(x, x))


def test_a_step_of_gradient_descent_is_that_of_the_dense_product():
    frame = SimplexETF(10, 16, basis="hadamard")
    vectors, labels = torch.from_numpy(frame.vectors()), torch.arange(30) % 10
    steps = []
    for head in (frame.project, lambda h: h @ vectors.T):
        h = tensor(30, 16)
        torch.nn.functional.cross_entropy(head(h), labels).backward()
        steps.append(h.grad)
    assert_allclose(*steps, atol=1e-15)


# Models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, 1, -1, None])
def test_gradients_of_the_transform(model, layer):
    for shape in ((5,), (3, 5)):
        x = tensor(*shape)
        assert_array_equal(model.transform(x, layer).detach(), model.transform(x.detach(), layer))
        assert gradcheck(lambda x: model.transform(x, layer), x)
        assert gradgradcheck(lambda x: model.transform(x, layer), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_the_transform_have_the_dtype_of_the_vectors(model, dtype):
    x = tensor(4, 5, dtype=dtype)
    precise = x.detach().double().requires_grad_()
    for vectors in (x, precise):
        model.transform(vectors).sum().backward()
    assert x.grad.dtype == dtype
    assert torch.equal(x.grad, precise.grad.to(dtype))


@pytest.mark.parametrize("power", [-1060, -600, 600, 1020])
def test_gradients_of_the_transform_at_any_magnitude(model, power):
    x = tensor(2, 5)
    far = torch.from_numpy(np.ldexp(x.detach().numpy(), power)).requires_grad_()
    for vectors in (x, far):
        model.transform(vectors).sum().backward()
    expected = np.ldexp(x.grad.numpy(), -power) if power > -1020 else np.full((2, 5), np.inf)
    if power > -1020:
        assert_allclose(far.grad, expected, rtol=1e-12)
    else:  # past float64
        assert not torch.isfinite(far.grad).any()


def test_a_model_fitted_again_leaves_the_graphs_of_before():
    model, x = MaxLikelihood(100, 2).fit(np.ones(5)), tensor(5)
    expected = torch.autograd.grad(model.transform(x).sum(), x)[0]
    outputs = model.transform(x)
    model.fit(np.arange(5.0))
    outputs.sum().backward()
    assert_array_equal(x.grad, expected)


def test_a_model_that_is_not_fitted_says_so():
    with pytest.raises(RuntimeError, match="not fitted"):
        MaxLikelihood(100, 2).transform(tensor(5))


# On a device --------------------------------------------------------------------------------------


class HostAsDevice(TorchDevice):
    """PyTorch's tensors in host memory, and the CUDA kernels as the host runs them."""

    stream = 0
    __str__ = lambda self: "cpu"  # noqa: E731
    _current = lambda self: contextlib.nullcontext()  # noqa: E731

    def upload(self, values):
        return torch.tensor(values)

    def recorded(self):
        return None

    def wait_for(self, event):
        pass


@pytest.fixture
def host_as_device(monkeypatch):
    kernels = pytest.importorskip("infall._cuda_emulated")
    monkeypatch.setitem(sys.modules, "infall._cuda", kernels)
    monkeypatch.setattr(infall, "_cuda", kernels, raising=False)
    devices = []

    def place_of(array, name):
        if not isinstance(array, torch.Tensor):
            return Host(array), array
        refuse_gradient(array, name)
        devices.append(HostAsDevice(0))
        return devices[-1], array.detach()

    for module in ("frames.base", "frames.hadamard", "maxlikelihood.network"):
        monkeypatch.setattr(f"infall.{module}.place_of", place_of)
    yield
    assert devices
    assert fake_device.current_device == [0]


@every_frame
def test_gradients_of_tensors_on_a_device(frame, host_as_device):
    assert gradcheck(frame.project, tensor(2, frame.dim))
    assert gradgradcheck(frame.adjoint, tensor(frame.num_classes))


def test_gradients_of_the_transform_on_a_device(model, host_as_device):
    assert gradcheck(lambda x: model.transform(x, None), tensor(2, 5))
    assert gradgradcheck(model.transform, tensor(2, 5))
