"""Within-class sums of squares along given directions."""

from __future__ import annotations

from typing import Any

from infall._arrays.calls import Progress
from infall._arrays.convert import AnyArray, Labels
from infall._arrays.locate import in_place, place_of
from infall._arrays.threads import thread_count
from infall.classes.moments import ClassMoments


def within_projection(
    features: AnyArray,
    labels: Labels,
    moments: ClassMoments,
    directions: AnyArray,
    *,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Any:
    """Return the within-class sums of squares along some directions, class by class.

    Parameters
    ----------
    features, labels : arrays, shapes (N, d) and (N,)
        As `ClassMoments.update` takes them; read once, in order, and may be memory-mapped.
    moments : ClassMoments
        Holds the class means mu_c.
    directions : array, shape (d, r)
        The directions V.
    num_threads, progress : optional
        As in `ClassMoments.update`.

    Returns
    -------
    float64 array, shape (K,)
        Sum over the samples of each class of ||V^T (h - mu_c)||^2, in float64; bit-identical for
        any number of threads and instruction set.

    Raises
    ------
    TypeError, ValueError
        As `ClassMoments.update`; for a label of a class without a mean.
    """
    place, located = place_of(features, "features")
    with place:
        class_numbers = place.kernels("classes").class_numbers(place, labels, len(located), moments)
    return projection_of_numbered(
        features, class_numbers, moments, directions, num_threads=num_threads, progress=progress
    )


def projection_of_numbered(
    features: Any,
    class_numbers: Any,
    moments: ClassMoments,
    directions: Any,
    *,
    num_threads: int | None,
    progress: Progress | None,
) -> Any:
    """Return what `within_projection` does, of checked class numbers int64 (N,)."""
    place, features = place_of(features, "features")
    there, columns = place_of(directions, "directions")
    columns = there.array(columns, "directions")
    if columns.ndim != 2 or len(columns) != moments.num_features:
        raise ValueError(
            f"directions has shape {tuple(columns.shape)}; expected ({moments.num_features}, r)"
        )
    if not there.is_host:
        in_place(place, directions, "directions", "features")
    kernels, threads = place.kernels("classes"), thread_count(num_threads)
    with place:
        rows = kernels.feature_rows(place, features, moments.num_features)
        return kernels.within_projection(
            place, rows, class_numbers, moments, columns, threads, progress
        )
