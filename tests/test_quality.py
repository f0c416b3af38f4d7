"""Quality of images and masks: phantoms whose noise, contrast and faults are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_app.imaging.quality import judge_signal, noise_sd
from bids_app.lesions.quality import judge_masks
from bids_app.quality import judge_quality
from bids_app.records import (
    QUALITY_MEASURES,
    SEGMENTATION_MEASURES,
    Alignment,
    Findings,
    Prepared,
    Segmentation,
    Volume,
)

SHAPE = (30, 40, 60)
SPACING = (1.0, 0.5, 0.5)


def cord_mask(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    cord = np.zeros(shape, bool)
    cord[10:20, 12:28, :] = True
    return cord


def phantom(noise: float, cord: float = 100.0, around: float = 300.0) -> np.ndarray:
    mask = cord_mask()
    clean = np.where(mask, cord, around)
    return (clean + np.random.default_rng(0).normal(0, noise, SHAPE)).astype(np.float32)


@pytest.mark.parametrize(("noise", "snr", "cnr"), [(5.0, 20.0, 40.0), (20.0, 5.0, 10.0)])
def test_signal_and_contrast_over_known_noise(noise: float, snr: float, cnr: float) -> None:
    found = judge_signal(phantom(noise), cord_mask(), np.zeros(SHAPE, bool), SPACING)
    assert found.snr == pytest.approx(snr, rel=0.05)
    assert found.cnr == pytest.approx(cnr, rel=0.05)
    assert found.signal_range == pytest.approx(0.0, abs=0.1)


def test_lesions_and_slow_changes_are_no_noise() -> None:
    plain = judge_signal(phantom(5.0), cord_mask(), np.zeros(SHAPE, bool), SPACING)
    image, lesion = phantom(5.0), np.zeros(SHAPE, bool)
    lesion[12:16, 14:20, 20:34] = True
    image[lesion] += 150.0
    marked = judge_signal(image, cord_mask(), lesion, SPACING)
    assert marked.snr == pytest.approx(plain.snr, rel=0.05)
    faded = judge_signal(
        phantom(5.0) * np.linspace(0.6, 1.4, SHAPE[2], dtype=np.float32),
        *(cord_mask(), np.zeros(SHAPE, bool), SPACING),
    )
    assert faded.snr == pytest.approx(plain.snr, rel=0.15)
    assert faded.signal_range == pytest.approx(0.72, abs=0.05)


def test_the_noise_is_that_of_the_slices_plane() -> None:
    # Thick slices differ from one another; their plane does not show it.
    steps = np.arange(30.0)[:, None, None] % 2 * 50.0
    image = (phantom(5.0, 100.0, 100.0) + steps).astype(np.float32)
    inside = np.ones(SHAPE, bool)
    assert noise_sd(image, inside, (3.0, 0.5, 0.5)) == pytest.approx(5.0, rel=0.05)


def test_where_signal_is_undefined() -> None:
    nothing = np.zeros(SHAPE, bool)
    constant = np.full(SHAPE, 100.0, np.float32)
    found = judge_signal(constant, cord_mask(), nothing, SPACING)
    assert (found.snr, found.cnr, found.signal_range) == (None, None, 0.0)
    found = judge_signal(constant, nothing, nothing, SPACING)
    assert (found.snr, found.cnr, found.signal_range) == (None, None, None)


def masks(cord: np.ndarray, instances: np.ndarray | None = None) -> tuple[Findings, Segmentation]:
    instances = np.zeros(cord.shape, int) if instances is None else instances
    probability = np.where(cord, 0.9, 0.0).astype(np.float32)
    doubt = np.where(cord, 0.25, 0.0).astype(np.float32)
    return Findings(cord, instances > 0, instances), Segmentation(probability, doubt, doubt)


def test_a_whole_cord_has_no_fault() -> None:
    found = judge_masks(*masks(cord_mask()), SPACING)
    assert list(found) == [measure.name for measure in SEGMENTATION_MEASURES]
    assert found["cord_probability"] == pytest.approx(0.9)
    assert found["uncertainty"] == pytest.approx(0.25)
    rest = {k: v for k, v in found.items() if k not in ("cord_probability", "uncertainty")}
    assert rest == {
        "cord_pieces": 1,
        "cord_gap_mm": 0.0,
        "cord_edge_mm": 0.0,
        "cord_area_step": 0.0,
        "lesions_at_edge": 0,
    }


def test_faults_of_masks() -> None:
    cord = cord_mask()
    cord[:, :, 20:24] = False  # a gap of 2 mm
    cord[10:12, :, 40] = False  # a fifth of a section
    cord[15, 0:12, 50:56] = True  # over to the back side, 3 mm high
    instances = np.zeros(SHAPE, int)
    instances[12:14, 14:16, 0:3] = 1  # cut off at the feet
    instances[12:14, 14:16, 30:33] = 2
    found = judge_masks(*masks(cord, instances), SPACING)
    assert (found["cord_pieces"], found["cord_gap_mm"], found["cord_edge_mm"]) == (2, 2.0, 3.0)
    assert found["cord_area_step"] == pytest.approx(1.0)
    assert found["lesions_at_edge"] == 1
    beyond = {m.name for m in SEGMENTATION_MEASURES if m.beyond(found[m.name])}
    assert beyond == {"cord_pieces", "cord_gap_mm", "cord_edge_mm", "lesions_at_edge"}


def test_an_empty_cord_is_undefined_and_no_error() -> None:
    found = judge_masks(*masks(np.zeros(SHAPE, bool)), SPACING)
    assert (found["cord_probability"], found["cord_area_step"]) == (None, None)


def test_the_second_contrast_is_judged_where_it_was_acquired() -> None:
    affine = np.diag([*SPACING, 1.0])
    reference = Volume(phantom(5.0), affine)
    findings, segmentation = masks(cord_mask())
    # Shifted by 4 mm to the patient's right, and 10 mm too short at the feet.
    matrix = np.eye(4)
    matrix[0, 3] = 4.0
    moved = affine.copy()
    moved[0, 3] = 4.0
    moved[2, 3] = 10.0
    second = Volume(phantom(20.0)[:, :, 20:], moved)
    alignment = Alignment(matrix, True, 0.1, 0.3, "x")
    prepared = Prepared((reference, None), alignment)
    found = judge_quality(prepared, segmentation, findings, second)
    assert list(found) == [measure.name for measure in QUALITY_MEASURES]
    assert found["cord_snr"] == pytest.approx(20.0, rel=0.05)
    assert found["second_cord_snr"] == pytest.approx(5.0, rel=0.05)
    assert found["second_coverage"] == pytest.approx(40 / 60, abs=0.01)
    assert (found["registration_shift_mm"], found["registration_score"]) == (4.0, 0.3)
    assert (found["voxel_mm3"], found["slice_thickness_mm"]) == (0.25, 1.0)
    rejected = replace(alignment, matrix=np.eye(4), accepted=False)
    found = judge_quality(Prepared((reference, None), rejected), segmentation, findings, second)
    assert (found["registration_shift_mm"], found["registration_score"]) == (0.0, 0.1)
    alone = judge_quality(Prepared((reference, None)), segmentation, findings, None)
    assert alone["second_cord_snr"] is None
    assert alone["cord_snr"] == pytest.approx(20.0, rel=0.05)


def test_scores_that_are_no_number_are_none() -> None:
    volume = Volume(phantom(5.0), np.diag([*SPACING, 1.0]))
    findings, segmentation = masks(cord_mask())
    alignment = Alignment(np.eye(4), False, float("nan"), float("nan"), "x")
    found = judge_quality(Prepared((volume, None), alignment), segmentation, findings, volume)
    assert found["registration_score"] is None
