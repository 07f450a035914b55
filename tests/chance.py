"""How often a right engine may fail a statistical test.

Every comparison with a law says how improbable its outcome is, and fails below ALPHA, whatever the
seed. What all of them of a run may take together is BUDGET; tests/conftest.py holds them to it.
"""

import math

import numpy as np
from scipy import stats

ALPHA = 1e-6  # chance of a false alarm, of one comparison
BUDGET = 1e-3  # and of the whole suite

spent: list[float] = []


def allow(alpha=ALPHA):
    """Take `alpha` for a test without p-value: its docstring says how far off its bound is."""
    spent.append(alpha)


def plausible(*pvalues, alpha=ALPHA):
    """Whether the least p-value is one that chance can explain: a false alarm at rate `alpha`.

    Several p-values, or arrays of them, share the rate.
    """
    allow(alpha)
    flat = np.concatenate([np.ravel(pvalue) for pvalue in pvalues])
    return bool(flat.min() > alpha / flat.size)


def mean_pvalue(values, expected, *, tolerance=0.0):
    """P-value of the mean over axis 0, the seeds, being `expected` up to `tolerance`; a t test."""
    values = np.asarray(values, dtype=np.float64)
    error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    away = np.abs(values.mean(axis=0) - expected) - tolerance
    return np.minimum(1.0, 2.0 * stats.t.sf(away / error, len(values) - 1))
