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


def plausible(*pvalues, alpha=ALPHA):
    """Whether the least p-value is one that chance can explain: a false alarm at rate `alpha`.

    Several p-values, or arrays of them, share the rate.
    """
    spent.append(alpha)
    flat = np.concatenate([np.ravel(pvalue) for pvalue in pvalues])
    return bool(flat.min() > alpha / flat.size)


def mean_pvalue(values, expected, *, tolerance=0.0, side=0):
    """P-value of `expected` being the mean over axis 0, the seeds, up to `tolerance`; a t test.

    With side = 1, of the mean being no less than expected, with -1 of its being no more.
    """
    values = np.asarray(values, dtype=np.float64)
    error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    away = values.mean(axis=0) - expected
    away = -side * away if side else np.abs(away)
    return (1 if side else 2) * stats.t.sf((away - tolerance) / error, len(values) - 1)
