"""Directions that rows are screened on, from dense ones to those of a single column."""

import numpy as np


def padded(w):
    """Return w (k,) as the engine takes it: float32 (1, k rounded up to fours)."""
    out = np.zeros((1, -(-len(w) // 4) * 4), np.float32)
    out[0, : len(w)] = w
    return out


DIRECTIONS = {
    "dense": lambda rng, dim: rng.standard_normal(dim),
    "sparse": lambda rng, dim: rng.standard_normal(dim) * (rng.random(dim) < 0.1),
    "dominant": lambda rng, dim: np.where(np.arange(dim) == dim // 3, 1, 0.01 * rng.random(dim)),
    "single": lambda rng, dim: -1.0 * (np.arange(dim) == dim // 3),
    "equal": lambda rng, dim: np.ones(dim),
    "geometric": lambda rng, dim: 0.7 ** np.arange(dim),
    "subnormal": lambda rng, dim: np.where(
        np.arange(dim) % 7, 1e-38 * rng.standard_normal(dim), 1.0
    ),
    "image": lambda rng, dim: np.maximum(0, np.sin(np.arange(dim) / dim * 12.0)),
}


def direction(kind, dim, seed=0):
    w = DIRECTIONS[kind](np.random.default_rng([seed, dim]), dim)
    if not w.any():
        w[0] = 1.0
    return padded(w / np.linalg.norm(w))
