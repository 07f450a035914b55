"""infall: a compiled engine for very wide Gaussian layers.

Select the rows of random Gaussian layers that maximise a projection without storing the layers,
run MaxLikelihood networks of such layers, and hash by their hyperplanes.
"""

from importlib.metadata import version as _version

from infall import collapse, laws
from infall.classes import ClassMoments
from infall.collapse import CollapseReport, collapse_report
from infall.maxlikelihood import MaxLikelihood
from infall.rows import (
    RowSelection,
    gaussian_rows,
    hamming_distances,
    hyperplane_codes,
    merge_selections,
    select_rows,
    select_rows_from,
)
from infall.trajectory import CollapseTrajectory

__version__ = _version("infall")

__all__ = [
    "ClassMoments",
    "CollapseReport",
    "CollapseTrajectory",
    "MaxLikelihood",
    "RowSelection",
    "__version__",
    "collapse",
    "collapse_report",
    "gaussian_rows",
    "hamming_distances",
    "hyperplane_codes",
    "laws",
    "merge_selections",
    "select_rows",
    "select_rows_from",
]
