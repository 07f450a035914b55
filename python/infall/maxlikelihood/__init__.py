"""MaxLikelihood networks: layers of the rows that a very wide Gaussian layer gives a vector."""

from infall.maxlikelihood.network import MaxLikelihood

__all__ = ["MaxLikelihood"]
