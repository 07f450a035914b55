"""Rows of very wide Gaussian layers: regenerated, selected and used as hyperplanes.

A layer is a matrix of independent standard normals whose entry (i, j) is a pure function of
(seed, layer, i, j); see docs/random-rows.md. None of its width is ever stored.

Arrays in CUDA memory (CuPy, PyTorch, and others through CuPy) stay there: the work is queued on the
current stream of their library and the results are arrays of that library on that device, the same
bits as on the host. Calls return before the work is done, and none waits for the device. Arrays are
therefore checked for shape and dtype, and their values taken as they are: for a vector w that is
zero or not finite, the rows selected have index -1 and are NaN, and so are their projections, while
the other vectors of the batch are not touched by it. To see whether that is so, look at the result,
``bool((selection.indices < 0).any())``, which waits as any look at an array does. On a device
`num_threads` has no effect, and `progress` is called once, when everything is queued. All arrays of
one call live in one place.

The functions keep no state: any number of threads may call them. A vector that rows are selected
for is called w, vectors that are only hashed x.
"""

from infall.rows.codes import hamming_distances, hyperplane_codes
from infall.rows.gaussian import gaussian_rows
from infall.rows.merge import merge_selections
from infall.rows.selection import RowSelection, select_rows, select_rows_from

__all__ = [
    "RowSelection",
    "gaussian_rows",
    "hamming_distances",
    "hyperplane_codes",
    "merge_selections",
    "select_rows",
    "select_rows_from",
]
