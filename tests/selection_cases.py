"""Vectors that rows are selected for, and selections compared bit by bit."""

import numpy as np
from hypothesis import settings
from numpy.testing import assert_array_equal

few = settings(max_examples=25, deadline=None, derandomize=True)


def same(a, b):
    """Assert that two selections are equal bit for bit."""
    assert_array_equal(a.indices, b.indices)
    assert_array_equal(a.projections, b.projections)
    assert_array_equal(a.rows, b.rows)


def vector(dim, seed=0, batch=None):
    """Return a vector (dim,), or (batch, dim)."""
    return np.random.default_rng(seed).normal(size=dim if batch is None else (batch, dim))
