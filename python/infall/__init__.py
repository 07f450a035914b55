"""infall: a compiled engine for very wide Gaussian layers.

Select the rows of random Gaussian layers that maximise a projection without storing the layers,
run MaxLikelihood networks of such layers, and hash by their hyperplanes; build, apply and fit
simplex equiangular tight frames.
"""

from infall import collapse, frames, laws
from infall._arrays.threads import num_threads
from infall._core import __version__
from infall.classes.moments import ClassMoments
from infall.collapse import CollapseReport, CollapseTrajectory, collapse_report
from infall.frames.polytopes import Cube, Orthoplex, SimplexETF
from infall.maxlikelihood.network import MaxLikelihood
from infall.rows.codes import hamming_distances, hyperplane_codes
from infall.rows.gaussian import gaussian_rows
from infall.rows.merge import merge_selections
from infall.rows.selection import RowSelection, select_rows, select_rows_from

__all__ = [
    "ClassMoments",
    "CollapseReport",
    "CollapseTrajectory",
    "Cube",
    "MaxLikelihood",
    "Orthoplex",
    "RowSelection",
    "SimplexETF",
    "__version__",
    "collapse",
    "collapse_report",
    "frames",
    "gaussian_rows",
    "hamming_distances",
    "hyperplane_codes",
    "laws",
    "merge_selections",
    "num_threads",
    "select_rows",
    "select_rows_from",
]
