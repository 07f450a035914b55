"""MaxLikelihood networks: layers of the rows that a very wide Gaussian layer gives a vector."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall import _core
from infall._arrays import files as _saved
from infall._arrays.calls import Progress, standard_floats
from infall._arrays.checks import (
    check_finite,
    integer,
    one_of,
    positive_number,
    row_count,
    seed_and_layer,
)
from infall._arrays.gradients import is_tracked, normalised_layers
from infall._arrays.host import Host
from infall._arrays.locate import device_number, named_place, place_of
from infall._arrays.place import Place
from infall._arrays.threads import thread_count
from infall.maxlikelihood._host import Fit
from infall.rows.selection import RowSelection, select_rows
from infall.rows.settings import SAMPLERS, Sampler

if TYPE_CHECKING:
    from infall.maxlikelihood._device import QueuedFit

_FORMAT = "infall.MaxLikelihood"
_FORMAT_VERSION = 1
# How far the numbers of a saved fit may be from what its layers give: by rounding in another order,
# and for scores by the binary32 sums of the stream sampler.
_CONSISTENT = 1e-9
_CONSISTENT_SCORES = 1e-4
_PARAMETERS = ("width", "depth", "seed", "sampler", "num_threads", "device")


class MaxLikelihood:
    """A network whose every layer keeps the rows that project most on the fitted vector.

    Layer l selects from a Gaussian layer of `width` rows the k rows with the largest |row . w|,
    w the output of layer l - 1, and maps x to G_l x / ||G_l x||.

    Parameters
    ----------
    width : int
        Rows n of each Gaussian layer, below 2**63.
    depth : int
        Number of layers L, at least 1.
    seed : int
        0 <= seed < 2**64; layer l uses layer number l - 1 of the seed.
    sampler : {"stream", "rotated", "order_statistics"}
        See `infall.select_rows`.
    num_threads : int, optional
        Threads; all processors by default. Does not change the result.
    device : {"cpu", "cuda", "cuda:1", ...}, optional
        Where `fit` selects rows; where its vector lives by default. A device's arrays are
        PyTorch's if the vector is a tensor, otherwise CuPy's. Does not change the result.

    Attributes
    ----------
    width, depth, seed, sampler, num_threads, device
        The parameters. These and the following cannot be set; make a new model, or call `fit`.
    layers_ : float32 array, shape (L, k, k)
        The selected rows G_l, by ascending row index.
    outputs_ : float64 array, shape (L, k)
        The fitted vector after each layer, of unit length.
    log_norms_ : float64 array, shape (L,)
        ln ||G_l w_{l-1}|| for the unit vector w_{l-1}; their sum and `log_input_norm_` make up the
        norm of the unnormalised output, which overflows float64 otherwise.
    indices_ : int64 array, shape (L, k)
        Row numbers of the selected rows.
    scores_ : float64 array, shape (L, k)
        Signed projections that were selected.
    input_ : float64 array, shape (k,)
        The fitted vector, of unit length.
    log_input_norm_ : float
        ln of the length it came with.

    Notes
    -----
    The names are those of scikit-learn, but the model is not one of its estimators: it is fitted to
    one vector, has no `get_params` and cannot be cloned. Before `fit` its methods raise
    RuntimeError, and it has none of the attributes that end in an underscore.

    Any number of threads may use one model: a fit replaces the one before as a whole, and every
    other call sees one fit from beginning to end. A fit that fails or is interrupted, wherever that
    may be, leaves the model as it was.

    Models are equal if their width, depth, seed, sampler and all numbers of their fits are.

    The attributes are NumPy arrays, bit for bit the same wherever the model was fitted. After a fit
    on a device the first look at one of them, and `save`, wait for it and fetch them all; then they
    raise ValueError if the vector, whose values such a fit does not see, was zero or not finite.

    Vectors go through the layers where they live: those in CUDA memory on their device, by the
    binary64 matrix products of their library, which round in another order than the host's. Nothing
    waits for the device then, and values are not checked: NaN comes out of NaN, infinity and zero
    vectors, and of a model fitted to one. On the stream of a fit that has not been fetched the
    layers are used as they lie there; otherwise they are copied in every call.

    Source: Wormhole Dynamics in Deep Neural Networks, Section IV, Algorithm 1 and Eq. 4, 27-31.

    Examples
    --------
    >>> import numpy as np
    >>> from infall import MaxLikelihood
    >>> model = MaxLikelihood(2**20, depth=6, sampler="order_statistics").fit(np.ones(16))
    >>> model.layers_.shape
    (6, 16, 16)
    >>> x = np.arange(16.0)
    >>> bool(model.angles(x) < model.angles(x, layer=0))
    True
    """

    width: int
    depth: int
    seed: int
    sampler: Sampler
    num_threads: int | None
    device: str | None
    layers_: NDArray[np.float32]
    outputs_: NDArray[np.float64]
    log_norms_: NDArray[np.float64]
    indices_: NDArray[np.int64]
    scores_: NDArray[np.float64]
    input_: NDArray[np.float64]
    log_input_norm_: float

    def __init__(
        self,
        width: int,
        depth: int,
        *,
        seed: int = 0,
        sampler: Sampler = "stream",
        num_threads: int | None = None,
        device: str | None = None,
    ) -> None:
        if num_threads is not None:
            thread_count(num_threads)
        if device is not None:
            device_number(device)
        self.__dict__.update(
            width=row_count(width, "width"),
            depth=integer(depth, "depth", 1, 2**31, "2**31"),
            seed=seed_and_layer(seed, 0)[0],
            sampler=one_of(sampler, "sampler", SAMPLERS),
            num_threads=num_threads,
            device=device,
        )
        self._fit: Fit | QueuedFit | None = None

    @standard_floats
    def fit(self, w: ArrayLike, *, progress: Progress | None = None) -> MaxLikelihood:
        """Select the layers for one vector.

        Parameters
        ----------
        w : array, shape (k,)
            The vector, k <= width; any length but zero. On a device it is not looked at, and all
            layers are queued on the current stream without waiting: for a vector that is zero or
            not finite the layers are NaN, and the attributes raise. A vector that lives on another
            device than `device` goes through the host, which waits for it.
        progress : callable, optional
            Called as progress(rows_done, rows_total, stage) over the rows of all layers; stage is
            "layer 1 of 8". What it raises stops the fit and leaves the model as it was.

        Returns
        -------
        MaxLikelihood
            The model itself.

        Raises
        ------
        TypeError, ValueError
            As `infall.select_rows`.
        """
        place, located = place_of(w, "w")
        target = place if self.device is None else named_place(self.device, w)
        if str(place) != str(target):
            with place:
                located = place.download(located)
            place = Host()
        with place:
            vector, batched = place.vectors(located, "w")
        if batched:
            raise ValueError(f"w has 2 axes, shape {tuple(vector.shape)}; expected shape (k,)")
        dim = int(vector.shape[1])
        if dim > self.width:
            raise ValueError(f"w has length {dim}; expected at most width = {self.width}")

        def select(number: int, current: Any) -> RowSelection:
            return select_rows(
                current,
                self.width,
                seed=self.seed,
                layer=number,
                sampler=self.sampler,
                num_threads=self.num_threads,
                progress=None if progress is None else self._layer_progress(progress, number),
            )

        fit = target.kernels("maxlikelihood").fit
        self._fit = fit(target, vector, self.depth, thread_count(self.num_threads), select)
        return self

    def __getattr__(self, name: str) -> Any:
        if name in Fit._fields and self.__dict__.get("_fit") is not None:
            return getattr(self._fetched(), name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        if name in _PARAMETERS or name in Fit._fields:
            raise AttributeError(f"{name} cannot be set: make a new model, or call fit(w)")
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        # Plain values: a pickle names no class but the public one, and nothing of a device.
        fit = None if self._fit is None else self._fetched()._asdict()
        return {**{name: getattr(self, name) for name in _PARAMETERS}, "fit": fit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        fit = state["fit"]
        self.__dict__.update({name: state[name] for name in _PARAMETERS})
        self._fit = None if fit is None else Fit(**fit)

    def __sizeof__(self) -> int:
        fit = self._fit
        arrays = [a for a in fit if isinstance(a, np.ndarray)] if isinstance(fit, Fit) else []
        return object.__sizeof__(self) + sum(array.nbytes for array in arrays)

    @standard_floats
    def transform(self, X: ArrayLike, layer: int | None = -1) -> Any:
        """Map vectors through the fitted layers.

        Parameters
        ----------
        X : array, shape (k,) or (N, k)
            Vectors; none may be zero.
        layer : int or None
            Output of which layer: 0 is the normalised input, 1..L the layers, -1 the last. None:
            all layers.

        Returns
        -------
        float64 array, shape (k,) or (N, k); with ``layer=None`` (L + 1, k) or (L + 1, N, k)
            Vectors of unit length, in the library of X; float64 for any X, since what tells
            collapsed vectors apart is below the rounding of float32.

        Raises
        ------
        RuntimeError
            Before `fit`.
        TypeError, ValueError
            For X as `infall.select_rows`; for a layer there is not.

        Notes
        -----
        PyTorch differentiates it, any number of times, with respect to a tensor X that requires a
        gradient. The backward pass repeats the layers in PyTorch, in float64.
        """
        if is_tracked(X):
            self._require_fit()
            model = copy.copy(self)  # one fit for both passes
            needed = model.layers_[: self._layer_numbers(layer)[-1]]
            forward = partial(model.transform, layer=layer)
            return normalised_layers(X, forward, needed, layer is None)
        place, located = place_of(X, "X")
        with place:
            wanted = self._layer_numbers(layer)
            layers, directions = self._fitted_at(place, wanted)
            dim = int(directions.shape[1])
            blocks, num_samples, batched = _outputs(place, located, layers, wanted, dim)
            result = place.empty((len(wanted), num_samples, dim), "float64")
            for first, outputs in blocks:
                result[:, first : first + outputs.shape[1]] = outputs
            shaped = result if batched else result[..., 0, :]
            return place.returned(shaped if layer is None else shaped[0])

    @standard_floats
    def angles(self, X: ArrayLike, layer: int | None = -1) -> Any:
        """Return the angles of vectors to the fitted vector, in radians.

        Parameters
        ----------
        X : array, shape (k,) or (N, k)
            Vectors.
        layer : int or None
            As in `transform`.

        Returns
        -------
        float64 array, shape () or (N,); with ``layer=None`` (L + 1,) or (L + 1, N)
            In [0, pi]; accurate to 4e-15 also next to 0 and pi.

        See Also
        --------
        angle_scores : The same over pi.
        infall.laws.angle_chain : Their law.

        Notes
        -----
        Source: Wormhole Dynamics, Eq. 30; 2 atan2(||a - b||, ||a + b||) in place of arccos.
        """
        place, located = place_of(X, "X")
        with place:
            angles, _ = self._angles(place, located, layer)
            return place.returned(angles)

    @standard_floats
    def angle_scores(self, X: ArrayLike, layer: int | None = -1) -> Any:
        """Return the angle scores theta_0 of vectors: their angle to the fitted vector over pi.

        Parameters
        ----------
        X : array, shape (k,) or (N, k)
            Vectors.
        layer : int or None
            As in `transform`.

        Returns
        -------
        float64 array, shape () or (N,); with ``layer=None`` (L + 1,) or (L + 1, N)
            In [0, 1]; accurate to 1e-15 also next to 0 and 1.

        See Also
        --------
        angles : The same in radians.
        pole_distances : The scores and what they lack of 1.

        Notes
        -----
        Source: Wormhole Dynamics, Eq. 30.
        """
        return self.pole_distances(X, layer)[0]

    @standard_floats
    def pole_distances(self, X: ArrayLike, layer: int | None = -1) -> tuple[Any, Any]:
        """Return the distances of the angle scores to 0 and to 1, each without cancellation.

        Parameters
        ----------
        X : array, shape (k,) or (N, k)
            Vectors.
        layer : int or None
            As in `transform`.

        Returns
        -------
        to_zero, to_one : float64 arrays, shaped as `angles` gives them
            theta_0 and 1 - theta_0. Half of all samples go to either side; the smaller of the two
            is what collapses.
        """
        place, located = place_of(X, "X")
        with place:
            near, far = self._angles(place, located, layer)
            return place.returned(near / math.pi), place.returned(far / math.pi)

    @standard_floats
    def loss(self, X: ArrayLike, layer: int | None = -1, *, correlated: bool = False) -> Any:
        """Return the loss 1 - theta_0 of each sample, or the correlated loss theta_0.

        Parameters
        ----------
        X : array, shape (k,) or (N, k)
            Vectors.
        layer : int or None
            As in `transform`.
        correlated : bool
            Return theta_0, Eq. 29, rather than 1 - theta_0, Eq. 27.

        Returns
        -------
        float64 array, shaped as `angles` gives it
            The mean over samples stays at one half for every width and depth; see
            `pole_distances` for what goes to zero.

        Notes
        -----
        Source: Wormhole Dynamics, Eq. 27 and 29.
        """
        if not isinstance(correlated, (bool, np.bool_)):
            raise TypeError(f"correlated is {correlated!r}; expected True or False")
        return self.pole_distances(X, layer)[0 if correlated else 1]

    @standard_floats
    def nll(self, X: ArrayLike, layer: int | None = -1) -> Any:
        """Return the negative log-likelihood H2(theta_0) of each sample, in bits.

        Parameters
        ----------
        X : array, shape (k,) or (N, k)
            Vectors.
        layer : int or None
            As in `transform`.

        Returns
        -------
        float64 array, shaped as `angles` gives it
            Average it over samples; it is not the entropy of the mean.

        Notes
        -----
        Source: Wormhole Dynamics, Eq. 9 and 17.
        """
        place, located = place_of(X, "X")
        with place:
            near, far = self._angles(place, located, layer)
            entropy = place.kernels("maxlikelihood").entropy
            return place.returned(entropy(place, place.xp.minimum(near, far) / math.pi))

    def layer_components(self, c: float = 1.0) -> NDArray[np.float64]:
        """Return the layer component of the fitted vector in the extended space R^(k+1).

        Parameters
        ----------
        c : float
            Height of a layer, positive and finite.

        Returns
        -------
        float64 array, shape (L,)
            l c / sqrt((l c)^2 + ||w_l||^2), w_l unnormalised, for l = 1..L; computed in log space,
            and so right down to 1e-308.

        Notes
        -----
        Source: Wormhole Dynamics, Eq. 32-38. It vanishes whenever the norm grows, also without
        selection; collapse comes from the selection.
        """
        fit = self._fetched()
        c = positive_number(c, "c")
        log_height = np.log(np.arange(1, self.depth + 1)) + math.log(c)
        log_norm = fit.log_input_norm_ + np.cumsum(fit.log_norms_)
        components: NDArray[np.float64] = np.exp(
            log_height - 0.5 * np.logaddexp(2.0 * log_height, 2.0 * log_norm)
        )
        return components

    def state_dict(self) -> dict[str, NDArray[Any] | int | str]:
        """Return what the fitted model is made of: NumPy arrays, integers and text.

        Returns
        -------
        dict
            width, seed and sampler, the attributes that end in an underscore, by name, and format
            and version. The arrays are the model's own, not copies. `num_threads` and `device` are
            left out: they belong to a machine.

        Raises
        ------
        RuntimeError
            Before `fit`.
        """
        fit = self._fetched()._asdict()
        fit["log_input_norm_"] = np.array(fit["log_input_norm_"])
        return {
            "format": _FORMAT,
            "version": _FORMAT_VERSION,
            "width": self.width,
            "seed": self.seed,
            "sampler": self.sampler,
            **fit,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> MaxLikelihood:
        """Make a model of what `state_dict` has returned.

        Parameters
        ----------
        state : mapping
            As `state_dict` returns it; other keys are ignored. Arrays are not copied, and may be
            read-only.

        Returns
        -------
        MaxLikelihood
            Equal to the one that the state was taken from.

        Raises
        ------
        TypeError
            If `state` is not a mapping.
        ValueError
            If something is missing, of another version, shape or dtype, or cannot be: row numbers
            out of range, repeated or out of order, numbers that are not finite, outputs that are
            not those of the layers, or, for the stream sampler, rows that are not the layer's (the
            first, the middle and the last row of each are regenerated).
        """
        return _saved.of_state(state, _FORMAT, _FORMAT_VERSION, cls._from_arrays)

    @classmethod
    def _from_arrays(cls, state: dict[str, NDArray[Any]]) -> MaxLikelihood:
        layers = state["layers_"]
        if layers.ndim != 3 or 0 in layers.shape:
            raise ValueError(f"layers_ has shape {layers.shape}; expected (L, k, k)")
        depth, dim = layers.shape[0], layers.shape[2]
        expected: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "layers_": ((depth, dim, dim), np.float32),
            "outputs_": ((depth, dim), np.float64),
            "log_norms_": ((depth,), np.float64),
            "indices_": ((depth, dim), np.int64),
            "scores_": ((depth, dim), np.float64),
            "input_": ((dim,), np.float64),
            "log_input_norm_": ((), np.float64),
        }
        for name, (shape, dtype) in expected.items():
            check_finite(np.atleast_1d(_saved.saved_array(state, name, shape, dtype)), name)
        model = cls(
            _saved.saved_integer(state, "width"),
            depth,
            seed=_saved.saved_integer(state, "seed"),
            sampler=cast(Sampler, str(state["sampler"])),
        )
        if dim > model.width:
            raise ValueError(f"width is {model.width}, less than the {dim} rows of a layer")
        arrays = {name: state[name] for name in Fit._fields if name != "log_input_norm_"}
        fit = Fit(**arrays, log_input_norm_=float(state["log_input_norm_"]))
        model._require_consistent(fit)
        model._fit = fit
        return model

    def _require_consistent(self, fit: Fit) -> None:
        dim = len(fit.input_)
        if (fit.indices_ < 0).any() or (fit.indices_ >= self.width).any():
            raise ValueError(f"indices_ has rows outside of 0 <= row < width = {self.width}")
        if not (np.diff(fit.indices_) > 0).all():
            raise ValueError("indices_ has rows repeated or out of order")
        if abs(np.linalg.norm(fit.input_) - 1.0) > _CONSISTENT:
            raise ValueError("input_ is not of unit length")
        few = np.unique([0, dim // 2, dim - 1])
        current = fit.input_
        for number, layer in enumerate(fit.layers_):
            output = layer @ current
            norm = np.linalg.norm(output)
            # The products themselves are the scores, which stream sums in binary32.
            if not np.abs(output - fit.scores_[number]).max() <= _CONSISTENT_SCORES * norm:
                raise ValueError(f"scores_[{number}] is not what the layer makes of its input")
            if not np.abs(output - norm * fit.outputs_[number]).max() <= _CONSISTENT * norm:
                raise ValueError(f"outputs_[{number}] is not what the layer makes of its input")
            if not (norm > 0.0 and abs(math.log(norm) - fit.log_norms_[number]) <= _CONSISTENT):
                raise ValueError(f"log_norms_[{number}] is not what the layer makes of its input")
            if self.sampler == "stream":
                rows = np.empty((len(few), dim), dtype=np.float32)
                _core.gaussian_rows(fit.indices_[number, few], rows, self.seed, number, 1, None)
                if not np.array_equal(rows, layer[few]):
                    raise ValueError(f"layers_[{number}] has rows that are not those of its layer")
            current = fit.outputs_[number]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one .npz file, whole or not at all.

        Parameters
        ----------
        path : path
            File to write, under exactly this name.

        Raises
        ------
        OSError
            If it cannot be written; a file of that name is then still the old one.
        RuntimeError
            Before `fit`.
        """
        _saved.save(path, _FORMAT, _FORMAT_VERSION, self.state_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MaxLikelihood:
        """Read a model that `save` has written.

        Parameters
        ----------
        path : path
            The file.

        Returns
        -------
        MaxLikelihood
            Equal to the model saved.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is truncated, damaged, foreign, of another format version or of another mapping
            of random words to rows, and as `from_state_dict`.
        """
        return _saved.load_object(path, _FORMAT, _FORMAT_VERSION, cls._from_arrays)

    def __repr__(self) -> str:
        fit = self._fit
        fitted = "not fitted" if fit is None else f"fitted to k={fit.dim}"
        return (
            f"MaxLikelihood(width={self.width}, depth={self.depth}, seed={self.seed}, "
            f"sampler={self.sampler!r}, {fitted})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MaxLikelihood):
            return NotImplemented
        if any(getattr(self, name) != getattr(other, name) for name in _PARAMETERS[:4]):
            return False  # threads and device belong to a machine
        mine, theirs = (None if model._fit is None else model._fetched() for model in (self, other))
        if mine is None or theirs is None:
            return mine is theirs
        return all(
            np.array_equal(getattr(mine, name), getattr(theirs, name)) for name in Fit._fields
        )

    __hash__ = None  # type: ignore[assignment]  # mutable

    def _layer_progress(self, progress: Progress, number: int) -> Progress:
        stage = f"layer {number + 1} of {self.depth}"
        return lambda done, total, _: progress(number * total + done, self.depth * total, stage)

    def _require_fit(self) -> Fit | QueuedFit:
        fit = self._fit
        if fit is None:
            raise RuntimeError("the model is not fitted yet: call fit(w) first")
        return fit

    def _fetched(self) -> Fit:
        return self._require_fit().fetched()

    def _fitted_at(self, place: Place, wanted: list[int]) -> tuple[list[Any], Any]:
        """Return the layers up to the last one wanted, and the fitted vector after each wanted."""
        layers, directions = self._require_fit().at(place, wanted[-1])
        return layers, directions[wanted[0] : wanted[-1] + 1]

    def _layer_numbers(self, layer: int | None) -> list[int]:
        if layer is None:
            return list(range(self.depth + 1))
        number = integer(layer, "layer", -self.depth - 1, self.depth + 1)
        return [number % (self.depth + 1)]

    def _angles(self, place: Place, X: Any, layer: int | None) -> tuple[Any, Any]:
        """Return the angles to the fitted vector and to its opposite."""
        wanted = self._layer_numbers(layer)
        layers, directions = self._fitted_at(place, wanted)
        dim = int(directions.shape[1])
        blocks, num_samples, batched = _outputs(place, X, layers, wanted, dim)
        xp = place.xp
        result = place.empty((2, len(wanted), num_samples), "float64")
        for first, outputs in blocks:
            difference = xp.linalg.norm(outputs - directions[:, None], axis=-1)
            total = xp.linalg.norm(outputs + directions[:, None], axis=-1)
            last = first + outputs.shape[1]
            result[0, :, first:last] = 2.0 * xp.arctan2(difference, total)
            result[1, :, first:last] = 2.0 * xp.arctan2(total, difference)
        shaped = result if batched else result[..., 0]
        near, far = shaped if layer is None else shaped[:, 0]
        return near, far


def _outputs(
    place: Place, X: Any, layers: list[Any], wanted: list[int], dim: int
) -> tuple[Iterator[tuple[int, Any]], int, bool]:
    """Return blocks (first sample, outputs (layers wanted, b, k)), their number, and batched."""
    blocks, num_samples, batched = place.kernels("maxlikelihood").unit_blocks(place, X, dim)

    def outputs() -> Iterator[tuple[int, Any]]:
        for first, block in blocks:
            current = block
            kept = place.empty((len(wanted), *current.shape), "float64")
            for number in range(wanted[-1] + 1):
                if number > 0:
                    current = current @ place.cast(layers[number - 1], "float64").T
                    current /= place.xp.linalg.norm(current, axis=1, keepdims=True)
                if number in wanted:
                    kept[wanted.index(number)] = current
            yield first, kept

    return outputs(), num_samples, batched
