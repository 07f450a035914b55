"""Work in parts on any executor: selections, class moments and fits, to the bits of one call.

An executor is None (this process), any `concurrent.futures.Executor` (threads, processes, loky,
MPI) or a `distributed.Client` of Dask. Parts are cut by the problem and joined in an order of their
own: workers, their number, their order and their deaths change no bit.
"""

from infall.distributed.executors import ExecutorLost
from infall.distributed.fits import FitSpec, fit_many
from infall.distributed.moments import class_moments
from infall.distributed.part_files import merge_parts, select_part
from infall.distributed.selection import select_rows

__all__ = [
    "ExecutorLost",
    "FitSpec",
    "class_moments",
    "fit_many",
    "merge_parts",
    "select_part",
    "select_rows",
]
