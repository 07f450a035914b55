"""PyTorch's gradients of what the engine computes, for the tensors that ask for them.

The functions are made when they are first needed, from the PyTorch that the caller has loaded.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Product = Callable[[Any], Any]


def is_tracked(array: Any) -> bool:
    """Whether PyTorch is to differentiate what is computed from `array`.

    Tensors with a tangent count, in forward mode: PyTorch then says that it has no rule for them.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(array, torch.Tensor):
        return False
    if array.requires_grad and torch.is_grad_enabled():
        return True
    return torch.autograd.forward_ad.unpack_dual(array).tangent is not None


def product(x: Any, multiply: Product, multiply_transposed: Product) -> Any:
    """Return multiply(x) for a tracked tensor x and two maps, each the transpose of the other."""
    return _functions()["product"].apply(x, multiply, multiply_transposed)


def normalised_layers(x: Any, transform: Product, layers: NDArray[np.float32], every: bool) -> Any:
    """Return transform(x) for a tracked tensor x (k,) or (N, k).

    Output 0 is x at unit length; each of `layers` (L, k, k) multiplies the output before it, and
    the product is brought to unit length. The transform gives the last output, or `every` one:
    (L + 1, k) or (L + 1, N, k).
    """
    return _functions()["normalised_layers"].apply(x, transform, layers, every)


@functools.cache
def _functions() -> dict[str, Any]:
    torch: Any = sys.modules["torch"]

    class ProductFunction(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(x: Any, multiply: Product, multiply_transposed: Product) -> Any:
            return multiply(x.detach())

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            x, _, ctx.multiply_transposed = inputs
            ctx.dtype = x.dtype

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            # Linear in the gradient, which is tracked in turn where it asks for it.
            return ctx.multiply_transposed(gradient).to(ctx.dtype), None, None

    class NormalisedLayers(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(x: Any, transform: Product, layers: Any, every: bool) -> Any:
            return transform(x.detach())

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            x, _, ctx.layers, ctx.every = inputs
            ctx.save_for_backward(x)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            # All in PyTorch's operations on x, so that it can be differentiated once more. Unit
            # vectors do not depend on the number, a constant here, that keeps squares in range.
            (x,) = ctx.saved_tensors
            matrices = [torch.tensor(rows, device=x.device).double() for rows in ctx.layers]
            last, largest = len(matrices), x.detach().abs().amax(dim=-1, keepdim=True).double()
            product = x.double() / largest
            outputs: list[Any] = []
            norms: list[Any] = []
            for number in range(last + 1):
                if number > 0:
                    product = outputs[-1] @ matrices[number - 1].T
                norms.append(torch.linalg.vector_norm(product, dim=-1, keepdim=True))
                outputs.append(product / norms[-1])
            back = torch.zeros_like(outputs[0]) if ctx.every else gradient.double()
            for number in range(last, -1, -1):
                if ctx.every:
                    back = back + gradient[number]
                along = (back * outputs[number]).sum(dim=-1, keepdim=True)
                back = (back - along * outputs[number]) / norms[number]
                if number > 0:
                    back = back @ matrices[number - 1]
            return (back / largest).to(x.dtype), None, None, None

    return {"product": ProductFunction, "normalised_layers": NormalisedLayers}
