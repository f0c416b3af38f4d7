"""Score one scan: two instance label maps in, measures and one record a lesion out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from bids_app.evaluation.anima import anima_scores
from bids_app.evaluation.matching import Overlaps, match_instances
from bids_app.evaluation.metrics import (
    CHALLENGE_IOU,
    Detection,
    Scored,
    detect,
    detect_at,
    detect_covered,
    dice,
    find_hits,
    score_predictions,
)
from bids_app.evaluation.surface import (
    hausdorff_percentile_mm,
    normalised_surface_dice,
    surface_distances,
)
from bids_app.records import BoolArray, FloatArray, IntArray

THRESHOLD = 0.5
"""Probability from which the challenge's counts keep a predicted lesion."""


@dataclass(frozen=True)
class LesionScore:
    """What became of one lesion.

    Attributes
    ----------
    kind : str
        ``reference`` or ``prediction``.
    label, voxels : int
    volume_mm3 : float
    hit : bool
        A pair of it and a lesion of the other kind reaches IoU 0.2, whatever the probability.
    match : int or None
        The lesion of the other kind with the largest IoU; None when none touches it.
    iou : float
        That IoU; 0 without.
    coverage : float
        Share of its voxels that lesions of the other kind cover together.
    probability : float or None
        Of a prediction, its own; of a reference lesion, the highest of those that hit it, None
        when none does.
    level : str or None
        Vertebral level, where known.
    """

    kind: str
    label: int
    voxels: int
    volume_mm3: float
    hit: bool
    match: int | None
    iou: float
    coverage: float
    probability: float | None
    level: str | None = None

    def outcome(self, threshold: float = THRESHOLD) -> str:
        """Name what the lesion counts as: TP, FN, FP, or ``below`` for a dropped prediction.

        Examples
        --------
        >>> LesionScore("reference", 1, 9, 9.0, True, 4, 0.6, 0.8, 0.3).outcome()
        'FN'
        """
        kept = self.probability is not None and self.probability >= threshold
        if self.kind == "reference":
            return "TP" if self.hit and kept else "FN"
        if not kept:
            return "below"
        return "TP" if self.hit else "FP"


@dataclass(frozen=True)
class ScanScore:
    """All scores of one scan; NaN where a measure is undefined.

    Attributes
    ----------
    measures : mapping of str to float
        By column of the scans' table.
    lesions : tuple of LesionScore
        Reference lesions, then predicted ones.
    """

    measures: Mapping[str, float]
    lesions: tuple[LesionScore, ...]

    @property
    def scored(self) -> Scored:
        """Give what FROC needs."""
        found = [
            -math.inf if lesion.probability is None else lesion.probability
            for lesion in self.lesions
            if lesion.kind == "reference"
        ]
        false = [
            lesion.probability
            for lesion in self.lesions
            if lesion.kind == "prediction" and not lesion.hit
        ]
        return Scored(np.array(found, dtype=float), np.array(false, dtype=float))


def score_scan(
    reference: IntArray,
    prediction: IntArray,
    probabilities: Mapping[int, float],
    spacing_mm: Sequence[float],
    threshold: float = THRESHOLD,
) -> ScanScore:
    """Score a prediction against its reference.

    Parameters
    ----------
    reference, prediction : ndarray of int, shape (i, j, k), the same
        0 is background; any other number is a lesion.
    probabilities : mapping of int to float
        Of each predicted lesion, by its label.
    spacing_mm : sequence of float
    threshold : float
        Probability from which the challenge's counts keep a predicted lesion. All other
        measures are those of all predicted lesions.

    Returns
    -------
    ScanScore

    Raises
    ------
    ValueError
        The shapes differ.
    KeyError
        A predicted lesion has no probability.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"shapes differ: {reference.shape} and {prediction.shape}")
    voxels, voxel_mm3 = reference.size, math.prod(spacing_mm)
    reference, prediction = cut_to_both(reference, prediction)
    overlaps = match_instances(reference, prediction)
    chances = np.array([probabilities[int(n)] for n in overlaps.predicted_labels], dtype=float)
    scored = score_predictions(overlaps, chances)
    masks = reference != 0, prediction != 0
    return ScanScore(
        measures={
            **_volumes(overlaps, voxel_mm3),
            **_agreement(*masks, spacing_mm),
            **_rates("challenge", detect_at(scored, threshold)),
            **_rates("iou", detect(overlaps, CHALLENGE_IOU)),
            **_rates("overlap", detect(overlaps)),
            **_rates("covered", detect_covered(overlaps)),
            **{
                f"anima_{name}": value
                for name, value in asdict(anima_scores(*masks, spacing_mm, voxels)).items()
            },
        },
        lesions=_lesions(overlaps, scored, chances, voxel_mm3),
    )


def cut_to_both(reference: IntArray, prediction: IntArray) -> tuple[IntArray, IntArray]:
    """Cut both label maps to the box that holds every lesion; one voxel when there is none.

    Examples
    --------
    >>> cut_to_both(np.array([0, 3, 0, 0, 0]), np.array([0, 0, 0, 1, 0]))
    (array([3, 0, 0]), array([0, 0, 1]))
    """
    either = (reference != 0) | (prediction != 0)
    box = []
    for axis in range(either.ndim):
        others = tuple(other for other in range(either.ndim) if other != axis)
        inside = np.nonzero(either.any(axis=others))[0]
        box.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 1))
    return reference[tuple(box)], prediction[tuple(box)]


def _volumes(overlaps: Overlaps, voxel_mm3: float) -> dict[str, float]:
    known = float(overlaps.reference_voxels.sum() * voxel_mm3)
    found = float(overlaps.predicted_voxels.sum() * voxel_mm3)
    return {
        "reference_lesions": len(overlaps.reference_labels),
        "predicted_lesions": len(overlaps.predicted_labels),
        "reference_volume_mm3": known,
        "predicted_volume_mm3": found,
        "volume_difference_mm3": found - known,
        "absolute_volume_difference_mm3": abs(found - known),
        "volume_difference_percent": 100 * (found - known) / known if known else math.nan,
    }


def _agreement(
    reference: BoolArray, prediction: BoolArray, spacing_mm: Sequence[float]
) -> dict[str, float]:
    distances = surface_distances(reference, prediction, spacing_mm)
    return {
        "dice": dice(reference, prediction),
        "nsd": normalised_surface_dice(distances),
        "hd95_mm": hausdorff_percentile_mm(distances),
    }


def _rates(rule: str, detection: Detection) -> dict[str, float]:
    return {
        f"{rule}_true_positives": detection.true_positives,
        f"{rule}_false_negatives": detection.false_negatives,
        f"{rule}_false_positives": detection.false_positives,
        f"{rule}_sensitivity": detection.sensitivity,
        f"{rule}_precision": detection.precision,
        f"{rule}_f1": detection.f1,
    }


def _lesions(
    overlaps: Overlaps, scored: Scored, chances: FloatArray, voxel_mm3: float
) -> tuple[LesionScore, ...]:
    hits, iou = find_hits(overlaps), overlaps.iou
    found_at = [float(p) if math.isfinite(p) else None for p in scored.found_at]
    sides = (
        ("reference", overlaps.reference_labels, overlaps.reference_voxels,
         overlaps.predicted_labels, overlaps.shared, hits, iou, found_at),
        ("prediction", overlaps.predicted_labels, overlaps.predicted_voxels,
         overlaps.reference_labels, overlaps.shared.T, hits.T, iou.T, chances.tolist()),
    )  # fmt: skip
    records = []
    for kind, labels, voxels, others, shared, hit, ious, probability in sides:
        for row, label in enumerate(labels):
            touched = bool(shared[row].any())
            best = int(np.argmax(ious[row])) if touched else -1
            records.append(
                LesionScore(
                    kind=kind,
                    label=int(label),
                    voxels=int(voxels[row]),
                    volume_mm3=float(voxels[row] * voxel_mm3),
                    hit=bool(hit[row].any()),
                    match=int(others[best]) if touched else None,
                    iou=float(ious[row, best]) if touched else 0.0,
                    coverage=float(shared[row].sum() / voxels[row]),
                    probability=probability[row],
                )
            )
    return tuple(records)
