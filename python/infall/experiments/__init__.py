"""Experiments on MaxLikelihood networks: measurements and figures, one file each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from infall.experiments.result import Result


class Experiment(NamedTuple):
    """Where an experiment is, and what it shows."""

    function: str
    """Module of this package and function in it: ``module:function``."""
    paper: str
    """What of the paper it reproduces."""
    shows: str
    """What is measured, in a few words."""
    seconds: float
    """About how long it takes with ten seeds, to estimate the time that is left of several."""

    def load(self) -> Callable[..., Result]:
        """Import the module and return the function.

        Raises
        ------
        ModuleNotFoundError
            Without a package that the module needs.
        """
        module_name, _, function_name = self.function.partition(":")
        module = importlib.import_module(f"infall.experiments.{module_name}")
        function: Callable[..., Result] = getattr(module, function_name)
        return function


EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        "clusters": Experiment(
            "clusters:clusters",
            "Fig. 3",
            "two clusters of random vectors, layer by layer",
            121.0,
        ),
        "convergence": Experiment(
            "convergence:convergence",
            "Fig. 4 and 5",
            "loss and NLL over width and depth",
            189.0,
        ),
        "collapse": Experiment(
            "layer_collapse:layer_collapse",
            "Section VI, Fig. 6",
            "neural collapse of the two sides",
            47.0,
        ),
        "memorization": Experiment(
            "memorization:memorization",
            "Fig. 7 and 8",
            "2L clusters from L layers",
            28.0,
        ),
        "flipped_labels": Experiment(
            "flipped_labels:flipped_labels",
            "Fig. 9, Eq. 30-31",
            "images told from their negatives",
            3.0,
        ),
        "trajectories": Experiment(
            "trajectories:trajectories",
            "Fig. 10, Eq. 32-38, Theorem 1",
            "paths of vectors in the extended space",
            8.0,
        ),
        "reconciliation": Experiment(
            "reconciliation:reconciliation",
            "Fig. 11, Eq. 39-45",
            "a random label turned into an image",
            17.0,
        ),
        "hashing": Experiment(
            "hashing:hashing",
            "Propositions 1 and 2, Eq. 9-21",
            "Hamming distances and their law",
            7.0,
        ),
    }
)
"""All experiments by name, in the order of the paper; nothing is imported before `load`."""
