"""Agreement of masks (Dice) and of lesions (sensitivity, precision, F1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bids_app.evaluation.matching import Overlaps
from bids_app.records import BoolArray, FloatArray

CHALLENGE_IOU = 0.2
"""Overlap from which the MS-Multi-Spine challenge counts a lesion as found."""
MIN_COVERED = 0.1
"""Share of a lesion that must be covered where coverage decides."""


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
    hits = find_hits(overlaps, min_iou)
    found = int(np.count_nonzero(hits.any(axis=1)))
    return Detection(
        true_positives=found,
        false_negatives=len(hits) - found,
        false_positives=int(np.count_nonzero(~hits.any(axis=0))),
    )


def detect_covered(overlaps: Overlaps, min_covered: float = MIN_COVERED) -> Detection:
    """Count lesions by how much of them is covered.

    A reference lesion is found when predicted lesions together cover at least `min_covered` of
    its voxels; a predicted lesion is false when it touches no reference lesion.

    Parameters
    ----------
    overlaps : Overlaps
        From `match_instances`.
    min_covered : float
        Above 0, at most 1.

    Returns
    -------
    Detection

    Examples
    --------
    >>> from bids_app.evaluation.matching import match_instances
    >>> pair = match_instances(np.array([1] * 20 + [0, 0]), np.array([1] + [0] * 19 + [0, 2]))
    >>> detect_covered(pair)
    Detection(true_positives=0, false_negatives=1, false_positives=1)
    """
    covered = overlaps.shared.sum(axis=1)
    enough = (covered > 0) & (covered >= min_covered * overlaps.reference_voxels)
    found = int(np.count_nonzero(enough))
    return Detection(
        true_positives=found,
        false_negatives=len(covered) - found,
        false_positives=int(np.count_nonzero(~(overlaps.shared > 0).any(axis=0))),
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
    hits = find_hits(overlaps, min_iou)
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


def find_hits(overlaps: Overlaps, min_iou: float = CHALLENGE_IOU) -> BoolArray:
    """Tell which prediction finds which reference lesion, shape (references, predictions)."""
    return np.asarray((overlaps.shared > 0) & (overlaps.iou >= min_iou))
