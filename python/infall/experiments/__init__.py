"""Experiments on MaxLikelihood networks: measurements and figures, one file each."""
