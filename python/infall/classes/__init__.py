"""Class moments: counts, means, variances and scatter of labelled features, in one pass.

Each class keeps a shift (its first sample) and float64 sums of deviations from it and of their
squares. Deviations of float32 samples that lie close together are exact: moments keep their
precision however far the classes have collapsed and whatever offset they share, where the one-pass
form E[h h^T] - mu mu^T and float32 sums lose all of it.
"""

from infall.classes.moments import ClassMoments
from infall.classes.projection import within_projection

__all__ = ["ClassMoments", "within_projection"]
