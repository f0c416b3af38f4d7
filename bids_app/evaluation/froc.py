"""FROC: sensitivity against false positives for each image, by the challenge's rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bids_app.evaluation.bootstrap import subject_interval
from bids_app.evaluation.metrics import Scored
from bids_app.records import FloatArray

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
        return _read_curve(self.false_positives, self.sensitivity, false_positives)


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
    thresholds = _thresholds(images)
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
    thresholds = _thresholds(images)
    names, owner = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    false, found = np.zeros((2, len(names), len(thresholds)))
    counted, with_lesions = np.bincount(owner).astype(float), np.zeros(len(names))
    for image, subject in zip(images, owner, strict=True):
        false[subject] += _kept(image.false_at, thresholds)
        if image.found_at.size:
            found[subject] += _kept(image.found_at, thresholds) / image.found_at.size
            with_lesions[subject] += 1

    def score(weights: FloatArray) -> FloatArray:
        falses = (weights @ false) / (weights @ counted)[:, None]
        founds = (weights @ found) / (weights @ with_lesions)[:, None]
        pairs = zip(falses, founds, strict=True)
        return np.array(
            [np.mean([_read_curve(x, y, at) for at in FROC_FALSE_POSITIVES]) for x, y in pairs]
        )

    return subject_interval(score, len(names), values_each=2 * len(thresholds))


def _thresholds(images: Sequence[Scored]) -> FloatArray:
    """List the unique probabilities, falling, behind one that keeps nothing."""
    every = [part for image in images for part in (image.found_at, image.false_at)]
    values = np.unique(np.concatenate(every))
    return np.concatenate([[np.inf], values[np.isfinite(values)][::-1]])


def _kept(values: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Count the values that reach each threshold."""
    return np.asarray(values.size - np.searchsorted(np.sort(values), thresholds), dtype=float)


def _read_curve(false: FloatArray, found: FloatArray, target: float) -> float:
    """Read the sensitivity at a number of false positives; both curves rise."""
    # The last point not beyond the target is the lowest threshold of its step.
    last = int(np.searchsorted(false, target + 1e-9, side="right")) - 1
    if last + 1 == len(false) or math.isclose(false[last], target, abs_tol=1e-9):
        return float(found[last])
    share = (target - false[last]) / (false[last + 1] - false[last])
    return float(found[last] + share * (found[last + 1] - found[last]))
