"""Neural collapse: its metrics one by one, and all of them in a `CollapseReport`."""

from infall.collapse._between import CDNV, Equiangularity
from infall.collapse._checks import UndefinedMetric
from infall.collapse._measurement import CollapseOnTest, StrongResiduals
from infall.collapse.layers import effective_depth, layer_coordinates
from infall.collapse.metrics import (
    between_rank,
    cdnv,
    cdnv_matrix,
    collapse_on_test,
    equiangularity,
    equinorm,
    nc1,
    nc2,
    nc3,
    nc3_papyan,
    nc4,
    ncc_error,
    pfc1,
    pfc2,
    pfc3,
    strong_residuals,
    variance_explained,
)
from infall.collapse.report import METRICS, CollapseReport
from infall.collapse.reporting import collapse_report, geodesic_reports
from infall.collapse.trajectory import CollapseTrajectory
from infall.frames import etf_distance

__all__ = [
    "CDNV",
    "METRICS",
    "CollapseOnTest",
    "CollapseReport",
    "CollapseTrajectory",
    "Equiangularity",
    "StrongResiduals",
    "UndefinedMetric",
    "between_rank",
    "cdnv",
    "cdnv_matrix",
    "collapse_on_test",
    "collapse_report",
    "effective_depth",
    "equiangularity",
    "equinorm",
    "etf_distance",
    "geodesic_reports",
    "layer_coordinates",
    "nc1",
    "nc2",
    "nc3",
    "nc3_papyan",
    "nc4",
    "ncc_error",
    "pfc1",
    "pfc2",
    "pfc3",
    "strong_residuals",
    "variance_explained",
]
