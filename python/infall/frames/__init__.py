"""Frames as fixed classifiers: simplex ETFs, orthoplexes and cubes, to millions of classes.

A frame gives each of K classes a vector of R^d; the logits of a feature are its products with
them. A simplex equiangular tight frame is M = sqrt(K/(K-1)) U (I - 11^T/K), U (d, K) with
orthonormal columns. docs/frames.md has the exact definition of every basis.

Arrays in CUDA memory (CuPy, PyTorch, and others through CuPy) stay there, as in `infall.rows`: the
work is queued on the current stream of their library, values are taken as they are, `num_threads`
has no effect, and `progress` is called once, when everything is queued.
"""

from infall.frames.base import Frame, TopK
from infall.frames.fit import FrameFit
from infall.frames.hadamard import walsh_hadamard
from infall.frames.measures import coherence, etf_distance, maximum_margin, seli_norms, welch_bound
from infall.frames.polytopes import Cube, Orthoplex, SimplexETF

__all__ = [
    "Cube",
    "Frame",
    "FrameFit",
    "Orthoplex",
    "SimplexETF",
    "TopK",
    "coherence",
    "etf_distance",
    "maximum_margin",
    "seli_norms",
    "walsh_hadamard",
    "welch_bound",
]
