"""Sum an evaluation up: means with intervals, FROC, calibration, over all scans and by group."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bids_app.evaluation.bootstrap import Estimate, estimate_mean, subject_interval
from bids_app.evaluation.calibration import (
    BINS,
    bin_of,
    brier_score,
    expected_calibration_error,
    reliability,
)
from bids_app.evaluation.froc import FROC_FALSE_POSITIVES, froc, froc_curve, froc_interval
from bids_app.evaluation.metrics import CHALLENGE_IOU
from bids_app.evaluation.scan import THRESHOLD, LesionScore, ScanScore
from bids_app.records import BoolArray, FloatArray

SIZE_EDGES_MM3 = (25.0, 50.0, 100.0, 250.0)
"""Where the classes of lesion volume part; a volume on an edge belongs to the larger class."""

AGREEMENT = (
    "dice",
    "nsd",
    "hd95_mm",
    "volume_difference_mm3",
    "absolute_volume_difference_mm3",
    "volume_difference_percent",
)
RULES = ("iou", "overlap", "covered")
_RATES = ("sensitivity", "precision", "f1", "false_positives")
_CHALLENGE = {
    "sensitivity": "challenge_sensitivity",
    "precision": "challenge_precision",
    "f1": "challenge_f1",
    "fp_per_image": "challenge_false_positives",
}


@dataclass(frozen=True)
class Case:
    """One scored scan and what it is grouped by.

    Attributes
    ----------
    name, subject : str
    score : ScanScore
    groups : mapping of str to str
        Group by what it is a group of (``contrast``: ``STIR``); absent where not known.
    """

    name: str
    subject: str
    score: ScanScore
    groups: Mapping[str, str]


def size_class(volume_mm3: float) -> str:
    """Name a lesion's class of volume.

    Examples
    --------
    >>> size_class(24.9), size_class(25), size_class(400)
    ('< 25 mm³', '25-50 mm³', '>= 250 mm³')
    """
    at = int(np.searchsorted(SIZE_EDGES_MM3, volume_mm3, side="right"))
    return size_classes()[at]


def size_classes() -> list[str]:
    """List the classes of volume, rising."""
    edges = [f"{edge:g}" for edge in SIZE_EDGES_MM3]
    between = [f"{low}-{high} mm³" for low, high in pairwise(edges)]
    return [f"< {edges[0]} mm³", *between, f">= {edges[-1]} mm³"]


def summarise(
    cases: Sequence[Case], by: Iterable[str] = (), threshold: float = THRESHOLD
) -> dict[str, Any]:
    """Sum up all cases, and each group of them.

    Parameters
    ----------
    cases : sequence of Case
        At least one.
    by : iterable of str
        Keys of `Case.groups`; those with at least two groups are reported.
    threshold : float
        The one the cases were scored with.

    Returns
    -------
    dict
        Plain values, ready for JSON but for NaN; ``challenge`` holds the challenge's numbers.
    """
    groups: dict[str, Any] = {}
    for key in by:
        names = sorted({case.groups[key] for case in cases if key in case.groups})
        if len(names) > 1:
            groups[key] = {
                name: _group([case for case in cases if case.groups.get(key) == name], threshold)
                for name in names
            }
    groups["lesion_size"] = _by_lesion(cases, threshold, "size", size_classes())
    levels = _level_order(cases)
    if levels:
        groups["level"] = _by_lesion(cases, threshold, "level", levels)
    return {
        **_group(cases, threshold),
        "lesions": {rule: _rates(cases, rule) for rule in RULES},
        "anima": {
            name.removeprefix("anima_"): _estimate(cases, name)
            for name in cases[0].score.measures
            if name.startswith("anima_")
        },
        "volume_agreement_mm3": _bland_altman(cases),
        "calibration": _calibration(cases),
        "by": groups,
    }


def predicted(cases: Sequence[Case]) -> tuple[FloatArray, BoolArray, list[str]]:
    """Give all predicted lesions' probabilities, whether they are right, and their subjects."""
    lesions = [
        (lesion.probability or 0.0, lesion.hit, case.subject)
        for case in cases
        for lesion in case.score.lesions
        if lesion.kind == "prediction"
    ]
    return (
        np.array([one[0] for one in lesions], dtype=float),
        np.array([one[1] for one in lesions], dtype=bool),
        [one[2] for one in lesions],
    )


def found_by_size(cases: Sequence[Case], threshold: float) -> dict[str, Estimate]:
    """Give the sensitivity of each class of volume over its reference lesions."""
    return {name: estimate_mean(*_found(cases, threshold, "size", name)) for name in size_classes()}


def _group(cases: Sequence[Case], threshold: float) -> dict[str, Any]:
    lesions = Counter(lesion.kind for case in cases for lesion in case.score.lesions)
    return {
        "n": {
            "scans": len(cases),
            "subjects": len({case.subject for case in cases}),
            "reference_lesions": lesions["reference"],
            "predicted_lesions": lesions["prediction"],
        },
        "challenge": _challenge(cases, threshold),
        "agreement": {name: _estimate(cases, name) for name in AGREEMENT},
    }


def _challenge(cases: Sequence[Case], threshold: float) -> dict[str, Any]:
    images = [case.score.scored for case in cases]
    subjects = [case.subject for case in cases]
    estimates = {key: _mean(cases, column) for key, column in _CHALLENGE.items()}
    curve = froc_curve(images)
    return {
        "froc": froc(images),
        **{key: one.mean for key, one in estimates.items()},
        "ci95": {
            "froc": list(froc_interval(images, subjects)),
            **{key: [one.low, one.high] for key, one in estimates.items()},
        },
        "froc_sensitivity": {
            f"{target:g}": curve.at(target) if curve else math.nan
            for target in FROC_FALSE_POSITIVES
        },
        "probability_threshold": threshold,
        "iou_threshold": CHALLENGE_IOU,
    }


def _rates(cases: Sequence[Case], rule: str) -> dict[str, Any]:
    return {rate: _estimate(cases, f"{rule}_{rate}") for rate in _RATES}


def _mean(cases: Sequence[Case], column: str) -> Estimate:
    values = [float(case.score.measures[column]) for case in cases]
    return estimate_mean(values, [case.subject for case in cases])


def _estimate(cases: Sequence[Case], column: str) -> dict[str, Any]:
    return _plain(_mean(cases, column))


def _plain(one: Estimate) -> dict[str, Any]:
    return {
        "mean": one.mean,
        "sd": one.sd,
        "median": one.median,
        "ci95": [one.low, one.high],
        "n": one.n,
    }


def _bland_altman(cases: Sequence[Case]) -> dict[str, Any]:
    """Give bias and limits of agreement, bias -+ 1.96 SD (Bland & Altman 1986)."""
    one = _mean(cases, "volume_difference_mm3")
    return {
        "bias": one.mean,
        "ci95": [one.low, one.high],
        "limits": [one.mean - 1.96 * one.sd, one.mean + 1.96 * one.sd],
        "n": one.n,
    }


def _calibration(cases: Sequence[Case]) -> dict[str, Any]:
    """Pool all predicted lesions; one is right when it finds a reference lesion at IoU 0.2."""
    chances, right, subjects = predicted(cases)
    brier = estimate_mean((chances - right) ** 2, subjects)
    return {
        "ece": expected_calibration_error(chances, right),
        "brier": brier_score(chances, right),
        "ci95": {
            "ece": list(_ece_interval(chances, right, subjects)),
            "brier": [brier.low, brier.high],
        },
        "n": len(chances),
        "bins": [asdict(one) for one in reliability(chances, right)],
    }


def _ece_interval(
    chances: FloatArray, right: BoolArray, subjects: Sequence[str]
) -> tuple[float, float]:
    if not len(chances):
        return math.nan, math.nan
    names, owner = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    gaps = np.zeros((len(names), BINS))
    np.add.at(gaps, (owner, bin_of(chances)), chances - right)
    counts = np.bincount(owner).astype(float)

    def error(weights: FloatArray) -> FloatArray:
        return np.asarray(np.abs(weights @ gaps).sum(axis=1) / (weights @ counts))

    return subject_interval(error, len(names))


def _by_lesion(
    cases: Sequence[Case], threshold: float, what: str, names: Sequence[str]
) -> dict[str, Any]:
    """Pool the lesions of each class: what share was found, what share of predictions is right."""
    result = {}
    for name in names:
        sensitivity = estimate_mean(*_found(cases, threshold, what, name))
        kept = [
            (lesion.hit, case.subject)
            for case, lesion in _lesions(cases, "prediction")
            if _class(lesion, what) == name and lesion.outcome(threshold) != "below"
        ]
        precision = estimate_mean([float(hit) for hit, _ in kept], [s for _, s in kept])
        result[name] = {
            "sensitivity": _plain(sensitivity),
            "precision": _plain(precision),
            "reference_lesions": sensitivity.n,
            "predicted_lesions": precision.n,
        }
    return result


def _found(
    cases: Sequence[Case], threshold: float, what: str, name: str
) -> tuple[list[float], list[str]]:
    lesions = [
        (lesion.outcome(threshold) == "TP", case.subject)
        for case, lesion in _lesions(cases, "reference")
        if _class(lesion, what) == name
    ]
    return [float(found) for found, _ in lesions], [subject for _, subject in lesions]


def _lesions(cases: Sequence[Case], kind: str) -> Iterable[tuple[Case, LesionScore]]:
    return (
        (case, lesion) for case in cases for lesion in case.score.lesions if lesion.kind == kind
    )


def _class(lesion: LesionScore, what: str) -> str | None:
    return size_class(lesion.volume_mm3) if what == "size" else lesion.level


def _level_order(cases: Sequence[Case]) -> list[str]:
    """List the levels from head to tail: C before T before L before S, then by number."""
    levels = {lesion.level for case in cases for lesion in case.score.lesions if lesion.level}

    def place(level: str) -> tuple[int, int, str]:
        number = level[1:]
        letter = "CTLS".find(level[:1])
        return (letter if letter >= 0 else 4, int(number) if number.isdecimal() else 0, level)

    return sorted(levels, key=place)
