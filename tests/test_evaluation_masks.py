"""Measures of masks against other people's implementations, and shapes with known answers."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist, directed_hausdorff
from skimage.measure import marching_cubes, mesh_surface_area
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from bids_app.evaluation.anima import anima_scores
from bids_app.evaluation.bootstrap import estimate_mean, subject_interval
from bids_app.evaluation.calibration import (
    brier_score,
    expected_calibration_error,
    reliability,
)
from bids_app.evaluation.matching import match_instances
from bids_app.evaluation.metrics import Detection, detect_covered, dice
from bids_app.evaluation.scan import score_scan
from bids_app.evaluation.surface import (
    hausdorff_percentile_mm,
    normalised_surface_dice,
    surface_distances,
)

SPACINGS = [(1.0, 1.0, 1.0), (0.5, 0.5, 3.0), (3.0, 0.4, 0.7)]


def blobs(seed: int, shape: tuple[int, int, int] = (11, 9, 7)) -> tuple[np.ndarray, np.ndarray]:
    """Two masks that overlap in part."""
    rng = np.random.default_rng(seed)
    masks = []
    for shift in (0, 1):
        mask = np.zeros(shape, bool)
        for _ in range(3):
            corner = rng.integers(0, 5, 3)
            mask[tuple(slice(a + shift, a + 3) for a in corner)] = True
        masks.append(mask | (rng.random(shape) < 0.02))
    return masks[0], masks[1]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(4))
def test_surface_elements_add_up_to_the_mesh(seed: int, spacing: tuple[float, ...]) -> None:
    mask, other = blobs(seed)
    areas = surface_distances(mask, other, spacing).first_areas
    vertices, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(float), 0.5, spacing=spacing)
    # Blocks with ambiguous corners may be cut either way.
    assert areas.sum() == pytest.approx(mesh_surface_area(vertices, faces), rel=0.02)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(4))
def test_surface_measures_by_brute_force(seed: int, spacing: tuple[float, ...]) -> None:
    first, second = blobs(seed)
    found = surface_distances(first, second, spacing)
    points = []
    for mask in (first, second):
        padded = np.pad(mask, 1)
        places = [
            place
            for place in np.ndindex(*(n - 1 for n in padded.shape))
            if 0 < padded[tuple(slice(a, a + 2) for a in place)].sum() < 8
        ]
        points.append(np.array(places) * np.array(spacing))
    apart = cdist(points[0], points[1])
    assert np.allclose(found.first_mm, apart.min(axis=1))
    assert np.allclose(found.second_mm, apart.min(axis=0))
    near = sum(
        area
        for areas, mm in (
            (found.first_areas, apart.min(axis=1)),
            (found.second_areas, apart.min(axis=0)),
        )
        for area, distance in zip(areas, mm, strict=True)
        if distance <= 1.0
    )
    total = found.first_areas.sum() + found.second_areas.sum()
    assert normalised_surface_dice(found) == pytest.approx(near / total)
    assert hausdorff_percentile_mm(found, 100) == pytest.approx(
        max(apart.min(axis=1).max(), apart.min(axis=0).max())
    )
    assert hausdorff_percentile_mm(found, 95) <= hausdorff_percentile_mm(found, 100)


def test_surface_measures_as_published() -> None:
    """Values of the tests that come with the surface-distance program (its two cubes)."""
    first, second = np.zeros((100, 100, 100), bool), np.zeros((100, 100, 100), bool)
    first[:50], second[:51] = True, True
    found = surface_distances(first, second, (2, 1, 1))
    assert normalised_surface_dice(found, 1.0) == pytest.approx(0.836, abs=5e-4)
    assert hausdorff_percentile_mm(found, 95) == 2.0
    assert dice(first, second) == pytest.approx(0.990, abs=5e-4)
    one, other = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    one[4, 4, 4], other[4, 4, 6] = True, True
    found = surface_distances(one, other, (3, 2, 1))
    assert normalised_surface_dice(found, 1.0) == pytest.approx(0.5)
    assert hausdorff_percentile_mm(found, 95) == 2.0


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(6))
def test_anima_set_against_scikit_learn_and_scipy(seed: int, spacing: tuple[float, ...]) -> None:
    reference, prediction = blobs(seed)
    got = anima_scores(reference, prediction, spacing)
    known, found = reference.ravel(), prediction.ravel()
    assert got.dice == pytest.approx(sk.f1_score(known, found))
    assert got.jaccard == pytest.approx(sk.jaccard_score(known, found))
    assert got.sens == pytest.approx(sk.recall_score(known, found))
    assert got.ppv == pytest.approx(sk.precision_score(known, found))
    assert got.spec == pytest.approx(sk.recall_score(~known, ~found))
    assert got.npv == pytest.approx(sk.precision_score(~known, ~found))
    points = [np.argwhere(mask) * np.array(spacing) for mask in (reference, prediction)]
    expected = max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0])
    assert got.hausdorff_mm == pytest.approx(expected)
    contours = [contour_by_hand(mask) * np.array(spacing) for mask in (reference, prediction)]
    apart = cdist(*contours)
    both = apart.min(axis=1), apart.min(axis=0)
    assert got.contour_mean_distance_mm == pytest.approx(max(part.mean() for part in both))
    assert got.surface_distance_mm == pytest.approx(np.concatenate(both).mean())


def contour_by_hand(mask: np.ndarray) -> np.ndarray:
    places = []
    for place in np.argwhere(mask):
        for axis in range(3):
            for step in (-1, 1):
                beside = place.copy()
                beside[axis] += step
                outside = (beside < 0).any() or (beside >= mask.shape).any()
                if outside or not mask[tuple(beside)]:
                    places.append(tuple(place))
    return np.array(sorted(set(places)))


def line(text: str) -> np.ndarray:
    return np.array([[[c == "#" for c in text]]])


@pytest.mark.parametrize(
    ("reference", "prediction", "ppvl", "sensl"),
    [
        ("####......", "####......", 1.0, 1.0),
        ("####......", ".....####.", 0.0, 0.0),
        # A tenth of the lesion is not more than a tenth of it; two tenths are. The prediction lies
        # inside, but nine or eight tenths of what covers it lie outside: more than 70 %.
        ("##########", "#.........", 0.0, 0.0),
        ("##########", "##........", 0.0, 1.0),
        # The same with the roles exchanged.
        ("#.........", "##########", 0.0, 0.0),
        # Two of eight voxels inside: 75 % outside. Two of six: 67 %.
        ("##........", "########..", 1.0, 0.0),
        ("##........", "######....", 1.0, 1.0),
    ],
)
def test_anima_lesion_rule_by_hand(
    reference: str, prediction: str, ppvl: float, sensl: float
) -> None:
    got = anima_scores(line(reference), line(prediction), (1, 1, 1))
    assert (got.ppvl, got.sensl) == (ppvl, sensl)


def test_anima_specificity_counts_the_whole_image() -> None:
    mask = line("##")
    assert anima_scores(mask, line(".#"), (1, 1, 1), voxels=100).spec == 1
    assert anima_scores(line(".#"), mask, (1, 1, 1), voxels=100).spec == pytest.approx(98 / 99)


@pytest.mark.parametrize("seed", range(3))
def test_nnunet_evaluator_agrees(seed: int, tmp_path: Path) -> None:
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics
    from nnunetv2.imageio.nibabel_reader_writer import NibabelIO

    masks = blobs(seed)
    paths = [tmp_path / "known.nii.gz", tmp_path / "found.nii.gz"]
    for path, mask in zip(paths, masks, strict=True):
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), np.diag([0.5, 0.5, 3, 1])), path)
    theirs = compute_metrics(str(paths[0]), str(paths[1]), NibabelIO(), [1])["metrics"][1]
    ours = score_scan(
        masks[0].astype(int), masks[1].astype(int), {1: 1.0}, (0.5, 0.5, 3.0)
    ).measures
    assert ours["dice"] == pytest.approx(theirs["Dice"], abs=1e-12)
    assert ours["anima_jaccard"] == pytest.approx(theirs["IoU"], abs=1e-12)
    assert ours["reference_volume_mm3"] == pytest.approx(theirs["n_ref"] * 0.75)
    assert ours["predicted_volume_mm3"] == pytest.approx(theirs["n_pred"] * 0.75)
    assert ours["anima_spec"] == pytest.approx(theirs["TN"] / (theirs["TN"] + theirs["FP"]))


@pytest.mark.parametrize("seed", range(3))
def test_calibration_against_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chances = np.concatenate([rng.random(200), [0.0, 0.1, 0.5, 1.0]])
    right = rng.random(204) < chances
    assert brier_score(chances, right) == pytest.approx(sk.brier_score_loss(right, chances))
    shares, means = calibration_curve(right, chances, n_bins=10)
    filled = [one for one in reliability(chances, right) if one.count]
    assert [one.share_right for one in filled] == pytest.approx(list(shares))
    assert [one.mean_probability for one in filled] == pytest.approx(list(means))
    weights = np.array([one.count for one in filled]) / len(chances)
    assert expected_calibration_error(chances, right) == pytest.approx(
        float(np.sum(weights * np.abs(shares - means)))
    )


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        ([1] * 10, [2] + [0] * 9, (1, 0, 0)),
        ([1] * 11, [2] + [0] * 10, (0, 1, 0)),
        # Two predictions cover it only together.
        ([1] * 20, [2] + [3] + [0] * 18, (1, 0, 0)),
        ([0] * 4, [0, 2, 0, 3], (0, 0, 2)),
        ([1, 1, 0], [0, 0, 0], (0, 1, 0)),
    ],
)
def test_coverage_rule(
    reference: list[int], prediction: list[int], expected: tuple[int, int, int]
) -> None:
    overlaps = match_instances(np.array(reference), np.array(prediction))
    assert detect_covered(overlaps) == Detection(*expected)


NAN = math.nan
# The table of docs/evaluation.md: both empty, reference empty, prediction empty.
EMPTY = {
    "dice": (1, 0, 0), "anima_jaccard": (1, 0, 0), "nsd": (1, 0, 0),
    "hd95_mm": (0, NAN, NAN), "anima_hausdorff_mm": (0, NAN, NAN),
    "anima_contour_mean_distance_mm": (0, NAN, NAN), "anima_surface_distance_mm": (0, NAN, NAN),
    "volume_difference_mm3": (0, 2, -2), "volume_difference_percent": (NAN, NAN, -100),
    "anima_rve": (NAN, NAN, -1), "anima_sens": (NAN, NAN, 0), "anima_sensl": (NAN, NAN, 0),
    "anima_ppv": (NAN, 0, NAN), "anima_ppvl": (NAN, 0, NAN), "anima_spec": (1, 0.5, 1),
    "anima_npv": (1, 1, 0.5), "anima_f1": (NAN, NAN, NAN),
    **{f"{rule}_sensitivity": (NAN, NAN, 0) for rule in ("challenge", "iou", "overlap", "covered")},
    **{f"{rule}_precision": (1, 0, 1) for rule in ("challenge", "iou", "overlap", "covered")},
    **{f"{rule}_f1": (1, 0, 0) for rule in ("challenge", "iou", "overlap", "covered")},
}  # fmt: skip


@pytest.mark.parametrize("measure", EMPTY)
def test_empty_masks(measure: str) -> None:
    some, empty = line("##..").astype(int), line("....").astype(int)
    got = [
        score_scan(reference, prediction, {1: 1.0}, (1, 1, 1)).measures[measure]
        for reference, prediction in ((empty, empty), (empty, some), (some, empty))
    ]
    assert got == pytest.approx(list(EMPTY[measure]), nan_ok=True)


def test_lesion_records_by_hand() -> None:
    reference = np.array([[[1, 1, 1, 1, 0, 2, 2, 0, 0, 3]]])
    prediction = np.array([[[4, 4, 0, 0, 0, 0, 5, 5, 6, 0]]])
    score = score_scan(reference, prediction, {4: 0.9, 5: 0.3, 6: 0.8}, (1, 1, 2))
    rows = [
        (x.kind[0], x.label, x.outcome(), x.match, x.iou, x.coverage, x.probability, x.volume_mm3)
        for x in score.lesions
    ]
    assert rows == [
        ("r", 1, "TP", 4, 0.5, 0.5, 0.9, 8),
        ("r", 2, "FN", 5, 1 / 3, 0.5, 0.3, 4),
        ("r", 3, "FN", None, 0, 0, None, 2),
        ("p", 4, "TP", 1, 0.5, 1, 0.9, 4),
        ("p", 5, "below", 2, 1 / 3, 0.5, 0.3, 4),
        ("p", 6, "FP", None, 0, 0, 0.8, 2),
    ]


def test_cropping_changes_nothing() -> None:
    first, second = blobs(1)
    far = [np.pad(mask.astype(int), ((7, 3), (0, 5), (2, 2))) for mask in (first, second)]
    here = [np.pad(mask.astype(int), ((1, 9), (4, 1), (3, 1))) for mask in (first, second)]
    scores = [score_scan(*pair, {1: 0.7}, (0.5, 0.5, 3)).measures for pair in (far, here)]
    assert scores[0] == pytest.approx(scores[1], nan_ok=True)


def test_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(10, 2, 120)
    one = estimate_mean(values, [f"s{n}" for n in range(120)])
    half = 1.96 * values.std(ddof=1) / math.sqrt(120)
    assert one.mean == pytest.approx(values.mean())
    assert (one.low, one.high) == pytest.approx((one.mean - half, one.mean + half), abs=0.08)
    doubled = estimate_mean(np.tile(values, 2), [f"s{n}" for n in range(120)] * 2)
    assert (doubled.low, doubled.high) == pytest.approx((one.low, one.high), abs=1e-6)


def test_bootstrap_of_a_skewed_mean_is_bias_corrected_and_accelerated() -> None:
    values = np.random.default_rng(4).exponential(1, 12) ** 2
    one = estimate_mean(values, [f"s{n}" for n in range(12)])
    given = {"n_resamples": 20_000, "rng": np.random.default_rng(9), "vectorized": True}
    bca, percentile = (
        stats.bootstrap((values,), np.mean, method=method, **given).confidence_interval
        for method in ("BCa", "percentile")
    )
    assert bca.high - percentile.high > 0.1 * (bca.high - bca.low)
    assert one.high == pytest.approx(bca.high, rel=0.06)
    assert one.low == pytest.approx(bca.low, rel=0.06)


def test_intervals_where_there_is_little() -> None:
    assert math.isnan(subject_interval(lambda w: w.sum(axis=1), 2)[0])
    same = estimate_mean([0.3, 0.3, 0.3, 0.3], list("abcd"))
    assert (same.low, same.high) == pytest.approx((0.3, 0.3))
    nothing = estimate_mean([math.nan, math.inf], ["a", "b"])
    assert nothing.n == 0 and math.isnan(nothing.mean)
