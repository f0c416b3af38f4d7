"""The challenge's metrics against a second implementation, written from their description alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bids_app.evaluation.froc import FROC_FALSE_POSITIVES, froc, froc_curve, froc_interval
from bids_app.evaluation.scan import ScanScore, score_scan

Image = tuple[np.ndarray, np.ndarray, dict[int, float]]


# Plain loops over sets of voxels; nothing of the package is used.


def lesions_of(labels: np.ndarray) -> dict[int, set[tuple[int, ...]]]:
    found: dict[int, set[tuple[int, ...]]] = {}
    for place in np.ndindex(labels.shape):
        if labels[place]:
            found.setdefault(int(labels[place]), set()).add(place)
    return found


def plain_counts(image: Image, threshold: float) -> tuple[int, int, int]:
    """Reference lesions, true positives and false positives at a threshold."""
    references, predictions = lesions_of(image[0]), lesions_of(image[1])
    kept = [voxels for label, voxels in predictions.items() if image[2][label] >= threshold]
    true = 0
    for known in references.values():
        if any(len(known & one) / len(known | one) >= 0.2 for one in kept):
            true += 1
    false = 0
    for one in kept:
        if not any(len(known & one) / len(known | one) >= 0.2 for known in references.values()):
            false += 1
    return len(references), true, false


def plain_rates(image: Image, threshold: float) -> tuple[float, float, float, int]:
    known, true, false = plain_counts(image, threshold)
    sensitivity = true / known if known else math.nan
    precision = true / (true + false) if true + false else 1.0
    if known == 0:
        f1 = precision
    elif precision == 0 and sensitivity == 0:
        f1 = 0.0
    else:
        f1 = 2 * precision * sensitivity / (precision + sensitivity)
    return sensitivity, precision, f1, false


def plain_froc(images: list[Image]) -> float:
    if not any(image[0].any() for image in images):
        return math.nan
    points = [(0.0, 0.0, math.inf)]
    for threshold in sorted({p for image in images for p in image[2].values()}, reverse=True):
        rates = [plain_rates(image, threshold) for image in images]
        false = sum(rate[3] for rate in rates) / len(rates)
        defined = [rate[0] for rate in rates if not math.isnan(rate[0])]
        points.append((false, sum(defined) / len(defined), threshold))
    read = []
    for target in (0.25, 0.5, 1, 2, 3):
        exact = [point for point in points if abs(point[0] - target) < 1e-9]
        if exact:
            read.append(min(exact, key=lambda point: point[2])[1])
            continue
        before = [point for point in points if point[0] < target]
        beyond = [point for point in points if point[0] > target]
        low = min(before, key=lambda point: point[2])
        if not beyond:
            read.append(low[1])
            continue
        high = max(beyond, key=lambda point: point[2])
        read.append(low[1] + (target - low[0]) / (high[0] - low[0]) * (high[1] - low[1]))
    return sum(read) / len(read)


def random_image(rng: np.random.Generator) -> Image:
    """Blocks as lesions, predictions moved, merged, invented; either side may be empty."""
    shape = (12, 10, 6)
    reference, prediction = np.zeros(shape, int), np.zeros(shape, int)
    for label in range(1, int(rng.integers(0, 5)) + 1):
        corner, size = rng.integers(0, 8, 3) % (9, 8, 4), rng.integers(1, 4, 3)
        reference[tuple(slice(a, a + s) for a, s in zip(corner, size, strict=True))] = label
        if rng.random() < 0.7:
            moved = np.maximum(corner + rng.integers(-1, 2, 3), 0)
            inside = tuple(slice(a, a + s) for a, s in zip(moved, size, strict=True))
            prediction[inside] = rng.integers(1, 7)
    for _ in range(int(rng.integers(0, 3))):
        corner = rng.integers(0, 8, 3) % (10, 8, 5)
        prediction[tuple(slice(a, a + 2) for a in corner)] = rng.integers(7, 12)
    if rng.random() < 0.1:
        reference[:] = 0
    if rng.random() < 0.1:
        prediction[:] = 0
    chances = {
        # Rounded, so that thresholds tie within and between images.
        int(label): float(rng.integers(0, 11) / 10 if rng.random() < 0.6 else rng.random())
        for label in np.unique(prediction[prediction > 0])
    }
    return reference, prediction, chances


def score(image: Image) -> ScanScore:
    return score_scan(*image, (1.0, 1.0, 1.0))


@pytest.mark.parametrize("seed", range(200))
def test_official_metrics_equal_a_plain_calculation(seed: int) -> None:
    rng = np.random.default_rng((5, seed))
    images = [random_image(rng) for _ in range(int(rng.integers(1, 6)))]
    scores = [score(image) for image in images]
    for image, one in zip(images, scores, strict=True):
        expected = plain_rates(image, 0.5)
        for name, value in zip(
            ("sensitivity", "precision", "f1", "false_positives"), expected, strict=True
        ):
            got = one.measures[f"challenge_{name}"]
            assert got == pytest.approx(value, abs=1e-9, nan_ok=True), name
    got = froc([one.scored for one in scores])
    assert got == pytest.approx(plain_froc(images), abs=1e-9, nan_ok=True)


def test_the_random_cases_hold_what_they_should() -> None:
    """Empty references, empty predictions, both, and thresholds that tie."""
    images = []
    for seed in range(200):
        rng = np.random.default_rng((5, seed))
        images += [random_image(rng) for _ in range(int(rng.integers(1, 6)))]
    empty = [(not image[0].any(), not image[1].any()) for image in images]
    assert all(case in empty for case in ((True, False), (False, True), (True, True)))
    values = [p for image in images for p in image[2].values()]
    assert len(set(values)) < len(values)


def test_the_curve_rises_and_starts_with_nothing_kept() -> None:
    rng = np.random.default_rng(3)
    curve = froc_curve([score(random_image(rng)).scored for _ in range(12)])
    assert curve is not None
    assert (curve.false_positives[0], curve.sensitivity[0]) == (0, 0)
    assert (np.diff(curve.false_positives) >= 0).all()
    assert (np.diff(curve.sensitivity) >= 0).all()
    assert (np.diff(curve.thresholds) < 0).all()


def test_froc_interval_resamples_subjects() -> None:
    rng = np.random.default_rng(4)
    scored = [score(random_image(rng)).scored for _ in range(15)]
    names = [f"s{n}" for n in range(15)]
    low, high = froc_interval(scored, names)
    assert 0 <= low < froc(scored) < high <= 1
    assert froc_interval(scored, names) == (low, high)
    # Three scans of each of five subjects say less than those of fifteen subjects.
    few = froc_interval(scored, [f"s{n // 3}" for n in range(15)])
    assert few != (low, high)
    # Reference: draw subjects by hand.
    picks = [rng.integers(0, 15, 15) for _ in range(400)]
    drawn = [froc([scored[i] for i in pick], FROC_FALSE_POSITIVES) for pick in picks]
    by_hand = np.nanquantile(drawn, (0.025, 0.975))
    assert (low, high) == pytest.approx(tuple(by_hand), abs=0.1)
