"""Scores against cases that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bids_app.evaluation.froc import froc
from bids_app.evaluation.matching import match_instances
from bids_app.evaluation.metrics import (
    Detection,
    Scored,
    detect,
    detect_at,
    dice,
    score_predictions,
)


def row(text: str) -> np.ndarray:
    """``..11.2`` as a label map of one row."""
    return np.array([[[0 if c == "." else int(c) for c in text]]])


@pytest.mark.parametrize(
    ("reference", "prediction", "min_iou", "expected"),
    [
        ("......", "......", 0.0, (0, 0, 0)),
        ("111...", "......", 0.0, (0, 1, 0)),
        ("......", "111...", 0.0, (0, 0, 1)),
        ("111...", "..1...", 0.0, (1, 0, 0)),
        ("11111.", "....1.", 0.2, (1, 0, 0)),
        ("11111.", "....11", 0.2, (0, 1, 1)),
        ("11.22.", "11111.", 0.0, (2, 0, 0)),
        ("11111.", "11.22.", 0.0, (1, 0, 0)),
        ("1.2.3.", "7...9.", 0.0, (2, 1, 0)),
        ("1...2.", ".5..5.", 0.5, (1, 1, 0)),
        ("1...2.", "..5...", 0.0, (0, 2, 1)),
    ],
)
def test_detection(
    reference: str, prediction: str, min_iou: float, expected: tuple[int, int, int]
) -> None:
    overlaps = match_instances(row(reference), row(prediction))
    assert detect(overlaps, min_iou) == Detection(*expected)


@pytest.mark.parametrize(
    ("detection", "sensitivity", "precision", "f1"),
    [
        (Detection(0, 0, 0), math.nan, 1.0, 1.0),
        (Detection(0, 0, 3), math.nan, 0.0, 0.0),
        (Detection(0, 2, 0), 0.0, 1.0, 0.0),
        (Detection(0, 2, 1), 0.0, 0.0, 0.0),
        (Detection(2, 2, 0), 0.5, 1.0, 2 / 3),
        (Detection(3, 1, 1), 0.75, 0.75, 0.75),
    ],
)
def test_rates(detection: Detection, sensitivity: float, precision: float, f1: float) -> None:
    assert detection.sensitivity == pytest.approx(sensitivity, nan_ok=True)
    assert detection.precision == pytest.approx(precision)
    assert detection.f1 == pytest.approx(f1)


def test_overlaps_with_gaps_in_the_labels() -> None:
    overlaps = match_instances(row("55.8"), row(".333"))
    assert overlaps.reference_labels.tolist() == [5, 8]
    assert overlaps.predicted_labels.tolist() == [3]
    assert overlaps.shared.tolist() == [[1], [1]]
    assert overlaps.iou.tolist() == [[0.25], [1 / 3]]


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        match_instances(np.zeros((2, 2), dtype=int), np.zeros((2, 3), dtype=int))
    with pytest.raises(ValueError, match="shapes differ"):
        dice(np.zeros(2, dtype=bool), np.zeros(3, dtype=bool))
    with pytest.raises(ValueError, match="1 predictions need"):
        score_predictions(match_instances(row("1"), row("1")), np.array([0.5, 0.5]))


def test_scored_by_hand() -> None:
    overlaps = match_instances(row("11.22.33"), row("11.24..."))
    scored = score_predictions(overlaps, np.array([0.9, 0.4, 0.7]))
    assert scored.found_at.tolist() == [0.9, 0.7, -np.inf]
    assert scored.false_at.tolist() == []
    assert detect_at(scored, 0.8) == Detection(1, 2, 0)
    assert detect_at(scored, 0.7) == Detection(2, 1, 0)


def scored(found: list[float], false: list[float]) -> Scored:
    return Scored(np.array(found, dtype=float), np.array(false, dtype=float))


FROC_CASES = {
    "nothing predicted": ([scored([-np.inf], [])], [1.0], 0.0),
    "all found, nothing false": ([scored([0.8, 0.9], [])], [0.25, 3.0], 1.0),
    "no lesion anywhere": ([scored([], [0.5])], [1.0], math.nan),
    # p: 0.9 found | 0.8 false | 0.7 found | 0.6 false; curve (0, .5) (1, .5) (1, 1) (2, 1)
    "lowest threshold at a target": ([scored([0.9, 0.7], [0.8, 0.6])], [1.0], 1.0),
    "between neighbours": ([scored([0.9, 0.7], [0.8, 0.7])], [1.5], 0.75),
    "before the curve's start": ([scored([0.9], [0.9])], [0.25], 0.25),
    "beyond the curve's end": ([scored([0.9, -np.inf], [0.8])], [3.0], 0.5),
    # Two images: false positives averaged over both, sensitivity over the one with lesions.
    "an image without lesions": ([scored([0.9], []), scored([], [0.95])], [0.5], 1.0),
    "mean over targets": ([scored([0.9, 0.7], [0.8, 0.7])], [1.0, 1.5, 2.0], 0.75),
}


@pytest.mark.parametrize("case", FROC_CASES)
def test_froc(case: str) -> None:
    images, targets, expected = FROC_CASES[case]
    assert froc(images, targets) == pytest.approx(expected, nan_ok=True)


LABELS = arrays(np.int16, (4, 5, 3), elements=st.integers(0, 3))


@given(LABELS, LABELS)
def test_what_always_holds(reference: np.ndarray, prediction: np.ndarray) -> None:
    assert dice(reference > 0, prediction > 0) == dice(prediction > 0, reference > 0)
    assert dice(reference > 0, reference > 0) == 1
    overlaps = match_instances(reference, prediction)
    lesions = len(np.unique(reference[reference > 0]))
    counts = detect(overlaps)
    assert counts.true_positives + counts.false_negatives == lesions
    assert detect(overlaps, 0.2).true_positives <= counts.true_positives
    assert detect(match_instances(reference, reference), 1.0) == Detection(lesions, 0, 0)
