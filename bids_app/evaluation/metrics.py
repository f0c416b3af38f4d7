"""Agreement of masks (Dice) and of lesions (sensitivity, precision, F1, FROC)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bids_app.evaluation.matching import Overlaps
from bids_app.records import BoolArray, FloatArray

CHALLENGE_IOU = 0.2
"""Overlap from which the MS-Multi-Spine challenge counts a lesion as found."""

FROC_FALSE_POSITIVES = (0.25, 0.5, 1.0, 2.0, 3.0)
"""False positives for each image at which the challenge reads the sensitivity."""


@dataclass(frozen=True)
class Detection:
    """How many lesions of one image were found.

    Attributes
    ----------
    true_positives : int
        Reference lesions that were found.
    false_negatives : int
        Reference lesions that were not.
    false_positives : int
        Predicted lesions that find no reference lesion.
    """

    true_positives: int
    false_negatives: int
    false_positives: int

    @property
    def sensitivity(self) -> float:
        """Give found / reference lesions; NaN without reference lesions.

        Examples
        --------
        >>> Detection(3, 1, 0).sensitivity, Detection(0, 0, 2).sensitivity
        (0.75, nan)
        """
        references = self.true_positives + self.false_negatives
        return self.true_positives / references if references else math.nan

    @property
    def precision(self) -> float:
        """Give TP / (TP + FP); 1 when there is neither, because nothing was wrong.

        Examples
        --------
        >>> Detection(3, 0, 1).precision, Detection(0, 5, 0).precision
        (0.75, 1.0)
        """
        counted = self.true_positives + self.false_positives
        return self.true_positives / counted if counted else 1.0

    @property
    def f1(self) -> float:
        """Give 2PS / (P + S); the precision without reference lesions; 0 when both are 0.

        Examples
        --------
        >>> Detection(1, 1, 1).f1, Detection(0, 2, 3).f1
        (0.5, 0.0)
        >>> Detection(0, 0, 0).f1, Detection(0, 0, 2).f1
        (1.0, 0.0)
        """
        precision, sensitivity = self.precision, self.sensitivity
        if math.isnan(sensitivity):
            return precision
        total = precision + sensitivity
        return 2 * precision * sensitivity / total if total else 0.0


@dataclass(frozen=True)
class Scored:
    """What the probabilities of one image's predicted lesions decide.

    Attributes
    ----------
    found_at : ndarray of shape (references,)
        Highest probability among the predictions that find each reference lesion; -inf where
        none does. The lesion is found at thresholds up to it.
    false_at : ndarray of shape (false predictions,)
        Probability of each prediction that finds no reference lesion.
    """

    found_at: FloatArray
    false_at: FloatArray


def dice(first: BoolArray, second: BoolArray) -> float:
    """Measure the overlap of two masks: twice the shared voxels over the sum of both.

    Parameters
    ----------
    first, second : ndarray of bool, same shape

    Returns
    -------
    float
        In [0, 1]. Two empty masks agree: 1. One empty mask: 0.

    Raises
    ------
    ValueError
        The shapes differ.

    Examples
    --------
    >>> mask, empty = np.array([True, True, False]), np.zeros(3, dtype=bool)
    >>> dice(mask, np.array([False, True, True])), dice(mask, empty), dice(empty, empty)
    (0.5, 0.0, 1.0)
    """
    if first.shape != second.shape:
        raise ValueError(f"shapes differ: {first.shape} and {second.shape}")
    total = int(np.count_nonzero(first) + np.count_nonzero(second))
    return 2 * int(np.count_nonzero(first & second)) / total if total else 1.0


def detect(overlaps: Overlaps, min_iou: float = 0.0) -> Detection:
    """Count found, missed and false lesions; one prediction may find several references.

    Parameters
    ----------
    overlaps : Overlaps
        From `match_instances`.
    min_iou : float
        Intersection over union that a pair must reach. With 0, one shared voxel is enough.

    Returns
    -------
    Detection

    Examples
    --------
    >>> from bids_app.evaluation.matching import match_instances
    >>> pair = match_instances(np.array([1, 1, 1, 1, 1, 2]), np.array([1, 0, 0, 0, 0, 0]))
    >>> detect(pair)
    Detection(true_positives=1, false_negatives=1, false_positives=0)
    >>> detect(pair, min_iou=0.3)
    Detection(true_positives=0, false_negatives=2, false_positives=1)
    """
    hits = _hits(overlaps, min_iou)
    found = int(np.count_nonzero(hits.any(axis=1)))
    return Detection(
        true_positives=found,
        false_negatives=len(hits) - found,
        false_positives=int(np.count_nonzero(~hits.any(axis=0))),
    )


def score_predictions(
    overlaps: Overlaps, probabilities: FloatArray, min_iou: float = CHALLENGE_IOU
) -> Scored:
    """Keep of one image what lesion metrics at any probability threshold need.

    Parameters
    ----------
    overlaps : Overlaps
    probabilities : ndarray of shape (predictions,)
        One for each of `overlaps.predicted_labels`.
    min_iou : float

    Returns
    -------
    Scored
    """
    hits = _hits(overlaps, min_iou)
    chances = np.asarray(probabilities, dtype=float)
    if chances.shape != (hits.shape[1],):
        raise ValueError(f"{hits.shape[1]} predictions need as many probabilities")
    found_at = np.where(hits, chances[None, :], -np.inf).max(axis=1, initial=-np.inf)
    return Scored(found_at=found_at, false_at=chances[~hits.any(axis=0)])


def detect_at(scored: Scored, threshold: float = 0.5) -> Detection:
    """Count lesions when predictions with at least this probability are kept.

    Examples
    --------
    >>> detect_at(Scored(np.array([0.9, 0.4]), np.array([0.5, 0.1])), 0.5)
    Detection(true_positives=1, false_negatives=1, false_positives=1)
    """
    found = int(np.count_nonzero(scored.found_at >= threshold))
    return Detection(
        true_positives=found,
        false_negatives=len(scored.found_at) - found,
        false_positives=int(np.count_nonzero(scored.false_at >= threshold)),
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
    with_lesions = [image for image in images if image.found_at.size]
    if not with_lesions:
        return math.nan
    thresholds = _thresholds(images)
    false = np.mean([_kept(image.false_at, thresholds) for image in images], axis=0)
    found = np.mean(
        [_kept(image.found_at, thresholds) / image.found_at.size for image in with_lesions], axis=0
    )
    return float(np.mean([_read_curve(false, found, target) for target in targets]))


def _hits(overlaps: Overlaps, min_iou: float) -> BoolArray:
    return np.asarray((overlaps.shared > 0) & (overlaps.iou >= min_iou))


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
