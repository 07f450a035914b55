"""Probability laws of very wide Gaussian layers, row selection and hyperplane codes.

Notation: `width` is the number n of rows of a layer, `dim` its input length k, and
`num_rows` the number m of rows kept (m = k unless said otherwise). All angles are in
radians. Arguments are scalars or arrays of any library in host memory and of any real dtype;
masked arrays and complex numbers are refused. All results are float64, of NumPy. The angle pi is
the float64 ``numpy.pi``; ``theta`` and ``numpy.pi - theta`` are exact mirror images. The functions
keep no state and may be called from any number of threads; a generator given as `rng` is changed.
"""

import math
import numbers

import numpy as np
import scipy  # its parts are loaded where they are used
from numpy.typing import ArrayLike, NDArray

from infall import _core
from infall._arrays.blocks import block_size
from infall._arrays.checks import integer
from infall._arrays.convert import to_numpy

__all__ = [
    "angle",
    "angle_chain",
    "binary_entropy",
    "collision_probability",
    "folded_normal_top",
    "mean_field_angle",
    "norm_growth",
    "tail_gain",
]

# Beyond this width the smallest survival probabilities would leave the normal float64 range.
_MAX_WIDTH = 1e300

# Scores drawn at a time: 8 MiB of float64.
_SCORES_PER_BLOCK = 2**20


def binary_entropy(theta: ArrayLike) -> np.float64 | NDArray[np.float64]:
    """Entropy of a bit that is set with probability `theta`.

    ``H2(theta) = -theta log2(theta) - (1 - theta) log2(1 - theta)``, the negative
    log-likelihood per hyperplane bit of two vectors at the angle ``theta * pi``.

    Parameters
    ----------
    theta : array_like
        Probability, or angle divided by pi, in [0, 1].

    Returns
    -------
    float64 or ndarray of float64, shape of `theta`
        Entropy in bits, in [0, 1]; exactly 0 at 0 and 1. The relative error is a few ulp,
        also for the smallest `theta`.

    Raises
    ------
    TypeError
        If `theta` is not real.
    ValueError
        If `theta` is NaN or outside [0, 1].

    Notes
    -----
    Source: Wormhole Dynamics in Deep Neural Networks, Eq. 9 and 17.
    """
    probability = _real_array("theta", theta)
    _require_range("theta", probability, 0.0, 1.0)
    # 1 - theta is exact where it is the smaller one, so the fold loses nothing.
    smaller = np.minimum(probability, 1.0 - probability)
    nats = -(scipy.special.xlogy(smaller, smaller) + scipy.special.xlog1py(1.0 - smaller, -smaller))
    return _unwrap(np.minimum(nats / math.log(2.0), 1.0))


def angle(x: ArrayLike, y: ArrayLike) -> np.float64 | NDArray[np.float64]:
    """Angle between vectors along the last axis.

    ``2 atan2(|a - b|, |a + b|)`` of the unit vectors a and b, which unlike the arc cosine
    keeps its accuracy near 0 and pi.

    Parameters
    ----------
    x, y : array_like, shapes (..., k)
        Vectors of any finite, nonzero length. The leading axes broadcast.

    Returns
    -------
    float64 or ndarray of float64, broadcast shape (...)
        Angle in radians, in [0, pi], within a few 2^-53 of the exact value; exactly 0 for
        equal vectors and exactly ``numpy.pi`` for opposite ones.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If an entry is not finite, a vector is zero or empty, the lengths k differ or the
        leading axes do not broadcast.

    Notes
    -----
    Source: W. Kahan, How Futile are Mindless Assessments of Roundoff in Floating-Point
    Computation?, section 12.
    """
    return _unwrap(angle_of_units(*_unit_vectors(x, y)))


def collision_probability(x: ArrayLike, y: ArrayLike) -> np.float64 | NDArray[np.float64]:
    """Probability that a random hyperplane leaves two vectors on the same side.

    ``1 - angle(x, y) / pi``: the Hamming distance of two n-bit hyperplane codes is
    Binomial(n, ``1 - collision_probability(x, y)``).

    Parameters
    ----------
    x, y : array_like, shapes (..., k)
        Vectors of any finite, nonzero length. The leading axes broadcast.

    Returns
    -------
    float64 or ndarray of float64, broadcast shape (...)
        Probability in [0, 1], accurate also for nearly opposite vectors.

    Raises
    ------
    TypeError, ValueError
        As for `angle`.

    Notes
    -----
    Source: Charikar, Similarity estimation techniques from rounding algorithms, 2002;
    Wormhole Dynamics in Deep Neural Networks, Eq. 16 to 21.
    """
    unit_x, unit_y = _unit_vectors(x, y)
    # The angle to -y, over pi: nothing is subtracted from 1.
    return _unwrap(angle_of_units(unit_x, -unit_y) / np.pi)


def tail_gain(fraction: ArrayLike) -> np.float64 | NDArray[np.float64]:
    """Root mean square of a standard normal variable, given that it is in its tails.

    ``tau(q) = sqrt(1 + x phi(x) / Q(x))`` with ``Q(x) = q / 2`` the upper normal tail: the
    root mean square of the share q of the largest ``|N(0, 1)|``, and the factor by which one
    layer divides the tangent of an angle (`mean_field_angle`).

    Parameters
    ----------
    fraction : array_like
        Selected share q = m / n of the rows, in (0, 1].

    Returns
    -------
    float64 or ndarray of float64, shape of `fraction`
        tau >= 1, to a relative error below 1e-14 for q >= 1e-300; 1 for q = 1.

    Raises
    ------
    TypeError
        If `fraction` is not real.
    ValueError
        If `fraction` is NaN or outside (0, 1].

    Notes
    -----
    The ratio phi / Q is the inverse Mills ratio ``sqrt(2 / pi) / erfcx(x / sqrt(2))``, in
    which nothing underflows or cancels.
    """
    share = _real_array("fraction", fraction)
    _require_range("fraction", share, 0.0, 1.0, open_low=True)
    # abs, not a minus sign: at q = 1 the quantile is 0 and must not become -0.
    x = np.abs(scipy.special.ndtri(0.5 * share))
    inverse_mills = math.sqrt(2.0 / math.pi) / scipy.special.erfcx(x / math.sqrt(2.0))
    return _unwrap(np.sqrt(1.0 + x * inverse_mills))


def folded_normal_top(
    width: int | float,
    num_rows: int,
    *,
    size: int | tuple[int, ...] | None = None,
    rng: np.random.Generator | int | None = None,
) -> NDArray[np.float64]:
    """Sample the largest of `width` independent ``|N(0, 1)|``, exactly in law.

    The cost is that of `num_rows` draws for any width.

    Parameters
    ----------
    width : int or float
        Number n of variables: whole, from 1 to 1e300. A float may stand for a width that
        only its order of magnitude defines.
    num_rows : int
        Number m of largest values, 1 <= m <= n.
    size : int or tuple of int, optional
        Leading shape: independent repetitions.
    rng : numpy.random.Generator or int, optional
        Generator, or the seed of a new one.

    Returns
    -------
    ndarray of float64, shape (*size, num_rows)
        The values in descending order, without sign.

    Raises
    ------
    TypeError
        If `width` is not a number, `num_rows` or `size` is not integer, or `rng` is neither
        a generator nor a seed.
    ValueError
        If an argument is NaN, negative, fractional or out of range.

    Notes
    -----
    With E_i independent exponentials, ``S_j = sum_{i <= j} E_i / (n - i + 1)`` is minus the
    logarithm of the distribution function at the j-th largest value. Keeping S rather than
    the survival probability ``-expm1(-S)`` preserves full precision at both ends of the law.

    Source: Renyi, On the theory of order statistics, 1953; Devroye, Non-Uniform Random
    Variate Generation, 1986, chapter V.
    """
    whole_width = _whole_width(width)
    count = _count("num_rows", num_rows, 1, whole_width)
    return _folded_normal_top(whole_width, count, _leading_shape(size), _generator(rng))


def angle_chain(
    theta: ArrayLike,
    width: int | float,
    dim: int,
    depth: int,
    *,
    num_rows: int | None = None,
    samples_per_network: int = 1,
    size: int | None = None,
    rng: np.random.Generator | int | None = None,
) -> NDArray[np.float64]:
    """Sample the angle of a test vector after every layer, exactly in law.

    The angle is the one between the outputs of a MaxLikelihood network for the vector it was
    built from and for a test vector. The columns of the result are independent networks, each
    with one test vector. No network is built: a sample costs O(depth * m), or that over
    `samples_per_network`.

    Parameters
    ----------
    theta : array_like, shape () or (size,)
        Angle between the two inputs in radians, in [0, pi].
    width : int or float
        Rows n of every layer: whole, up to 1e300.
    dim : int
        Input length k >= 2.
    depth : int
        Number L >= 0 of layers.
    num_rows : int, optional
        Rows m kept in every layer, 1 <= m <= n; `dim` by default.
    samples_per_network : int, default 1
        Consecutive samples that share the selected norms of one network; a divisor of their
        number. Each sample keeps its law. Those of one network are independent except for the
        norms; in a network they are also correlated through the rows, by the cosine of their angle.
    size : int, optional
        Number of samples; by default the shape of `theta`.
    rng : numpy.random.Generator or int, optional
        Generator, or the seed of a new one.

    Returns
    -------
    ndarray of float64, shape (depth + 1, size), or (depth + 1,) for scalar `theta` and no `size`
        Angles in radians, in [0, pi]; row 0 is `theta`. The state of the chain is the distance
        to the nearer of 0 and pi: it keeps its full relative precision on both sides down
        to the smallest normal float64, but a returned angle near pi is rounded to its ulp of
        4e-16. Exactly 0 and ``numpy.pi`` stay.

    Raises
    ------
    TypeError
        If `theta` or `width` is not real, an integer argument is not integer, or `rng` is
        neither a generator nor a seed.
    ValueError
        If an argument is NaN or out of range, or `theta` does not have shape () or (size,).

    Notes
    -----
    Let w be the unit input and ``x = cos(theta) w + sin(theta) u`` the test vector, with u
    a unit vector orthogonal to w. The m selected rows are chosen by their projection on w
    alone, so ``G w = p`` has the length T of the m largest of n ``|N(0, 1)|``, while
    ``G u = q`` is m independent N(0, 1), independent of p. Along p, q has a component
    g ~ N(0, 1); orthogonal to p its length is chi with m - 1 degrees of freedom. Hence

        cot(theta_l) = (T cot(theta_{l-1}) + g) / chi_{m-1}.

    The input length k does not enter: with m = k this is the equation of the square network,
    and a later layer of a network with m != k has input length m and the same law. With
    m = 1 every output is a single number, and all angles from the first layer on are 0 or pi.
    """
    start = _angles_in_half_turn("theta", theta)
    whole_width = _whole_width(width)
    num_layers = _count("depth", depth, 0)
    if num_rows is None:
        selected = _count("dim", dim, 2, whole_width)
    else:
        _count("dim", dim, 2)
        selected = _count("num_rows", num_rows, 1, whole_width)
    shape = start.shape if size is None else (_count("size", size, 0),)
    if start.ndim > 1 or start.shape not in ((), shape):
        expected = "() or (size,)" if size is None else f"() or {shape}"
        raise ValueError(f"theta has shape {start.shape}, expected {expected}")
    generator = _generator(rng)

    count = math.prod(shape)
    share = _count("samples_per_network", samples_per_network, 1)
    if count % share:
        raise ValueError(
            f"samples_per_network is {share}, expected a divisor of the {count} samples"
        )
    angles = np.empty((num_layers + 1, count))  # (L + 1, size)
    angles[0] = start
    block = share * max(1, block_size(_SCORES_PER_BLOCK) // max(selected, share))
    for first in range(0, count, block):
        chain = angles[:, first : first + block]  # (L + 1, b), a view
        samples = chain.shape[1]
        obtuse = chain[0] > np.pi / 2
        acute = np.minimum(chain[0], np.pi - chain[0])  # (b,) distance to the nearer of 0, pi
        for layer in range(1, num_layers + 1):
            networks = samples // share
            scores = _folded_normal_top(whole_width, selected, (networks,), generator)  # (.., m)
            selected_norm = np.repeat(np.sqrt(np.sum(np.square(scores), axis=-1)), share)  # (b,)
            along = selected_norm * np.cos(acute)
            along += generator.standard_normal(samples) * np.sin(acute)
            across = _chi(selected - 1, samples, generator) * np.sin(acute)
            obtuse ^= along < 0.0
            acute = np.arctan2(across, np.abs(along))
            chain[layer] = np.where(obtuse, np.pi - acute, acute)
    return angles.reshape(num_layers + 1, *shape)


def mean_field_angle(
    theta: ArrayLike, width: int | float, dim: int, depth: int
) -> NDArray[np.float64]:
    """Angle after every layer in the limit of a long input.

    ``tan(theta_l) = tan(theta_{l-1}) / tau`` with ``tau = tail_gain(dim / width)``. For finite
    `dim` the true rate, ``exp(E ln T - E ln chi_{k-1})`` (see `angle_chain`), is larger than
    tau: by 7 % at k = 15 and by less than 0.4 % from k = 256 on.

    Parameters
    ----------
    theta : array_like
        Angle between the two inputs in radians, in [0, pi].
    width : int or float
        Rows n of every layer: whole, up to 1e300.
    dim : int
        Input length k, which is also the number of rows kept, 2 <= k <= n.
    depth : int
        Number L >= 0 of layers.

    Returns
    -------
    ndarray of float64, shape (depth + 1, *theta.shape)
        Angles in radians, in [0, pi]; row 0 is `theta`. Below pi / 2 they fall to 0, above
        they rise to pi, and 0, ``numpy.pi / 2`` and ``numpy.pi`` stay.

    Raises
    ------
    TypeError
        If `theta` or `width` is not real, or `dim` or `depth` is not integer.
    ValueError
        If an argument is NaN or out of range.
    """
    start = _angles_in_half_turn("theta", theta)
    whole_width = _whole_width(width)
    input_length = _count("dim", dim, 2, whole_width)
    num_layers = _count("depth", depth, 0)

    acute = np.minimum(start, np.pi - start)
    # The cosine as the sine of the complement is exactly 0 at numpy.pi / 2, and in logarithms
    # neither tan = 0 nor tan = inf needs a separate case.
    with np.errstate(divide="ignore"):
        log_tangent = np.log(np.sin(acute)) - np.log(np.sin(np.pi / 2 - acute))
    layers = np.arange(num_layers + 1).reshape(-1, *(1,) * start.ndim)  # (L + 1, 1, ...)
    decay = layers * np.log(tail_gain(input_length / whole_width))
    with np.errstate(over="ignore"):
        acute = np.arctan(np.exp(log_tangent - decay))  # (L + 1, ...)
    angles = np.where(start > np.pi / 2, np.pi - acute, acute)
    angles[0] = start
    return angles


def norm_growth(width: int | float, dim: int) -> float:
    """Growth of the logarithm of the output norm in one layer, in the mean field.

    ``ln(sqrt(k) tau(k / n))``, the logarithm of the root mean square of T, the length of
    the k selected projections of a unit vector. It exceeds the expectation of ``ln T`` by about
    1 / (2 k) where nothing is selected, k = n, and by far less in wide layers.

    Parameters
    ----------
    width : int or float
        Rows n of the layer: whole, up to 1e300.
    dim : int
        Input length k, which is also the number of rows kept, 1 <= k <= n.

    Returns
    -------
    float
        Growth in nats per layer.

    Raises
    ------
    TypeError
        If `width` is not a number or `dim` is not integer.
    ValueError
        If an argument is NaN or out of range.
    """
    whole_width = _whole_width(width)
    input_length = _count("dim", dim, 1, whole_width)
    gain = float(tail_gain(input_length / whole_width))
    return 0.5 * math.log(input_length) + math.log(gain)


def _folded_normal_top(
    width: float, num_rows: int, shape: tuple[int, ...], generator: np.random.Generator
) -> NDArray[np.float64]:
    result = np.empty((*shape, num_rows))
    entries, samples = result.reshape(-1), result.reshape(-1, num_rows)
    block = block_size(_SCORES_PER_BLOCK)
    for first in range(0, entries.size, block):
        generator.standard_exponential(out=entries[first : first + block])
    # The sampler returns 0 once in 2^53 draws; the largest value would then be infinite.
    np.maximum(samples[:, :1], 2.0**-54, out=samples[:, :1])
    _core.largest_folded_normals(samples, width)
    return result


def _chi(degrees: int, samples: int, generator: np.random.Generator) -> NDArray[np.float64]:
    if degrees == 0:
        return np.zeros(samples)
    return np.sqrt(generator.chisquare(degrees, samples))


def angle_of_units(unit_x: NDArray[np.float64], unit_y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the angle of unit vectors (..., k); pi / 2 where one of them is zero instead."""
    return 2.0 * np.arctan2(_norm(unit_x - unit_y), _norm(unit_x + unit_y))


def _norm(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # (..., k) -> (...); scaled, because the squares of a tiny difference underflow.
    scale = np.max(np.abs(x), axis=-1, keepdims=True)
    scaled = np.divide(x, scale, out=np.zeros_like(x), where=scale > 0.0)
    norm: NDArray[np.float64] = scale[..., 0] * np.sqrt(np.sum(np.square(scaled), axis=-1))
    return norm


def _unit_vectors(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    units = []
    for name, value in (("x", x), ("y", y)):
        vectors = _real_array(name, value)
        if vectors.ndim == 0 or vectors.shape[-1] == 0:
            raise ValueError(f"{name} has shape {vectors.shape}, expected (..., k) with k >= 1")
        _require_range(name, vectors, -np.inf, np.inf, open_low=True, open_high=True)
        scale = np.max(np.abs(vectors), axis=-1, keepdims=True)
        if not np.all(scale > 0.0):
            position = _first_position(scale[..., 0] == 0.0)
            raise ValueError(f"{name}{position} is the zero vector, which has no direction")
        scaled = vectors / scale  # dividing by the largest entry first cannot overflow
        units.append(scaled / _norm(scaled)[..., np.newaxis])
    unit_x, unit_y = units
    if unit_x.shape[-1] != unit_y.shape[-1]:
        raise ValueError(
            f"x and y have vectors of length {unit_x.shape[-1]} and {unit_y.shape[-1]}, "
            "expected the same"
        )
    try:
        np.broadcast_shapes(unit_x.shape, unit_y.shape)
    except ValueError:
        raise ValueError(
            f"x and y have shapes {unit_x.shape} and {unit_y.shape}, "
            "expected leading axes that broadcast"
        ) from None
    return unit_x, unit_y


def _unwrap(entries: NDArray[np.float64]) -> np.float64 | NDArray[np.float64]:
    # A NumPy scalar for scalar input, as a ufunc returns it.
    return np.asarray(entries)[()]


def _real_array(name: str, value: ArrayLike) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # what a conversion makes infinite is out of every range
        return to_numpy(value, name).astype(np.float64, copy=False)


def _angles_in_half_turn(name: str, value: ArrayLike) -> NDArray[np.float64]:
    angles = _real_array(name, value)
    _require_range(name, angles, 0.0, np.pi)
    return angles


def _require_range(
    name: str,
    entries: NDArray[np.float64],
    low: float,
    high: float,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    above = entries > low if open_low else entries >= low
    below = entries < high if open_high else entries <= high
    inside = above & below  # False for NaN
    if not np.all(inside):
        bounds = f"{'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}"
        value, position = entries[~inside][0], _first_position(~inside)
        raise ValueError(f"{name}{position} is {value}, expected a value in {bounds}")


def _first_position(mask: NDArray[np.bool_]) -> str:
    if mask.ndim == 0:
        return ""
    index = np.unravel_index(np.argmax(mask), mask.shape)
    return f"[{', '.join(str(int(axis)) for axis in index)}]"


def _whole_width(width: int | float) -> float:
    if isinstance(width, (bool, np.bool_)) or not isinstance(width, numbers.Real):
        raise TypeError(f"width has type {type(width).__name__}, expected an int or a float")
    if not 1 <= width <= _MAX_WIDTH or width != width // 1:
        raise ValueError(f"width is {width}, expected a whole number from 1 to {_MAX_WIDTH}")
    return float(width)


def _count(name: str, value: int, low: int, width: float = math.inf) -> int:
    count = integer(value, name, low, 2**63, "2**63")
    if count > width:
        raise ValueError(f"{name} is {count}, expected at most the width {width:.17g}")
    return count


def _leading_shape(size: int | tuple[int, ...] | None) -> tuple[int, ...]:
    if size is None:
        return ()
    axes = size if isinstance(size, tuple) else (size,)
    return tuple(_count("size", axis, 0) for axis in axes)


def _generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    if isinstance(rng, (bool, np.bool_)) or not isinstance(rng, numbers.Integral):
        raise TypeError(
            f"rng has type {type(rng).__name__}, expected a numpy.random.Generator or an int seed"
        )
    if rng < 0:
        raise ValueError(f"rng is {rng}, expected a seed of at least 0")
    return np.random.default_rng(int(rng))
