"""FROC: sensitivity against false positives for each image, by the challenge's rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bids_app.evaluation.bootstrap import subject_interval
from bids_app.evaluation.metrics import Scored
from bids_app.records import FloatArray, IntArray

FROC_FALSE_POSITIVES = (0.25, 0.5, 1.0, 2.0, 3.0)
"""False positives for each image at which the challenge reads the sensitivity."""


@dataclass(frozen=True)
class Curve:
    """False positives for each image and mean sensitivity as the threshold falls; both rise.

    Attributes
    ----------
    thresholds : ndarray of shape (n,)
        Infinity first, which keeps nothing; then the unique probabilities, falling.
    false_positives, sensitivity : ndarray of shape (n,)
    """

    thresholds: FloatArray
    false_positives: FloatArray
    sensitivity: FloatArray

    def at(self, false_positives: float) -> float:
        """Read the sensitivity at a number of false positives."""
        return float(
            _read_curves(self.false_positives[None], self.sensitivity[None], false_positives)[0]
        )


def froc(images: Sequence[Scored], targets: Sequence[float] = FROC_FALSE_POSITIVES) -> float:
    """Average the sensitivity over fixed numbers of false positives for each image.

    The challenge's rule: the thresholds are the unique probabilities; at each, false
    positives are averaged over all images and sensitivity over those with reference lesions.
    At a target the sensitivity is that of the lowest threshold with exactly this many false
    positives, otherwise it is interpolated linearly between the two neighbours. Where the
    rule is silent: below the curve's start the neighbour is "nothing kept" (0 false
    positives, sensitivity 0), beyond its end the sensitivity stays.

    Parameters
    ----------
    images : sequence of Scored
    targets : sequence of float
        False positives for each image.

    Returns
    -------
    float
        In [0, 1]; 0 without any prediction; NaN when no image has a reference lesion.

    Examples
    --------
    >>> one = Scored(found_at=np.array([0.9, 0.3]), false_at=np.array([0.6]))
    >>> froc([one], targets=[0.5])  # half-way between (0 FP, 0.5) and (1 FP, 0.5)
    0.5
    >>> froc([one], targets=[1.0])  # 0.6 and 0.3 both give one FP: the lower counts
    1.0
    >>> froc([])
    nan
    """
    curve = froc_curve(images)
    if curve is None:
        return math.nan
    return float(np.mean([curve.at(target) for target in targets]))


def froc_curve(images: Sequence[Scored]) -> Curve | None:
    """Compute the whole curve; None when no image has a reference lesion."""
    with_lesions = [image for image in images if image.found_at.size]
    if not with_lesions:
        return None
    thresholds = froc_thresholds(images)
    false = np.mean([_kept(image.false_at, thresholds) for image in images], axis=0)
    found = np.mean(
        [_kept(image.found_at, thresholds) / image.found_at.size for image in with_lesions], axis=0
    )
    return Curve(thresholds, false, found)


def froc_interval(images: Sequence[Scored], subjects: Sequence[str]) -> tuple[float, float]:
    """Give the 95 % bootstrap interval of `froc`, whole subjects resampled.

    Parameters
    ----------
    images : sequence of Scored
    subjects : sequence of str
        Whose image it is.
    """
    if not any(image.found_at.size for image in images):
        return math.nan, math.nan
    names, owner = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    rows = froc_sums(images, owner, len(names), froc_thresholds(images))

    def score(weights: FloatArray) -> FloatArray:
        return froc_of_sums(weights @ rows)

    return subject_interval(score, len(names), values_each=rows.shape[1])


def froc_sums(
    images: Sequence[Scored], owner: IntArray, subjects: int, thresholds: FloatArray
) -> FloatArray:
    """Sum up for each subject what FROC is made of; such rows may be added up and weighted.

    Parameters
    ----------
    images : sequence of Scored
    owner : ndarray of int, shape (images,)
        The row of each image's subject.
    subjects : int
    thresholds : ndarray of shape (t,)
        From `froc_thresholds`; those of several models together to compare them.

    Returns
    -------
    ndarray of shape (subjects, 2 t + 2)
        For `froc_of_sums`.
    """
    false, found = np.zeros((2, subjects, len(thresholds)))
    counted, with_lesions = np.zeros((2, subjects, 1))
    for image, subject in zip(images, owner, strict=True):
        false[subject] += _kept(image.false_at, thresholds)
        counted[subject] += 1
        if image.found_at.size:
            found[subject] += _kept(image.found_at, thresholds) / image.found_at.size
            with_lesions[subject] += 1
    return np.hstack([false, found, counted, with_lesions])


def froc_of_sums(sums: FloatArray) -> FloatArray:
    """Compute `froc` from summed rows of `froc_sums`, one score a row.

    Parameters
    ----------
    sums : ndarray of shape (n, 2 t + 2)

    Returns
    -------
    ndarray of shape (n,)
        NaN where no image has a reference lesion.
    """
    size = (sums.shape[1] - 2) // 2
    with np.errstate(invalid="ignore", divide="ignore"):
        false = sums[:, :size] / sums[:, -2, None]
        found = sums[:, size:-2] / sums[:, -1, None]
    read = [_read_curves(false, found, target) for target in FROC_FALSE_POSITIVES]
    return np.asarray(np.mean(read, axis=0))


def froc_thresholds(images: Sequence[Scored]) -> FloatArray:
    """List the unique probabilities, falling, behind one that keeps nothing."""
    every = [part for image in images for part in (image.found_at, image.false_at)]
    values = np.unique(np.concatenate(every))
    return np.concatenate([[np.inf], values[np.isfinite(values)][::-1]])


def _kept(values: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Count the values that reach each threshold."""
    return np.asarray(values.size - np.searchsorted(np.sort(values), thresholds), dtype=float)


def _read_curves(false: FloatArray, found: FloatArray, target: float) -> FloatArray:
    """Read the sensitivity at a number of false positives, in each row; both rise along it."""
    # The last point not beyond the target is the lowest threshold of its step.
    last = (false <= target + 1e-9).sum(axis=1) - 1
    rows, following = np.arange(len(false)), np.minimum(last + 1, false.shape[1] - 1)
    low, high = false[rows, last], false[rows, following]
    step = np.where(high > low, high - low, 1.0)
    share = np.where(np.abs(low - target) <= 1e-9, 0.0, (target - low) / step)
    # Beyond the curve's end both neighbours are its last point.
    return np.asarray(found[rows, last] + share * (found[rows, following] - found[rows, last]))
