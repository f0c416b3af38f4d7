"""Cord and lesions by vertebral level, on shapes whose measures are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shapes import SCANS, ellipsoid, found, grid, paint, tilted_rod

from bids_app.lesions.level_columns import level_column_names, level_dictionary, level_rows
from bids_app.lesions.measure import measure
from bids_app.lesions.vertebrae import Vertebrae, measure_vertebrae
from bids_app.records import Findings

# Discs 7 to 10, C6/C7 to T2/T3, in a cord of 60 mm from 30 down to -30.
DISCS = {7: 24.0, 8: 6.0, 9: -6.0, 10: -21.0}


def discs(tilt_deg: float = 0.0, heights: dict[int, float] = DISCS) -> dict[int, np.ndarray]:
    angle = np.deg2rad(tilt_deg)
    along = np.array([0, np.sin(angle), np.cos(angle)])
    front = np.array([0, np.cos(angle), -np.sin(angle)])
    return {number: height * along + 9 * front for number, height in heights.items()}


def located(findings: Findings, affine: np.ndarray, where: dict[int, np.ndarray]) -> Vertebrae:
    lesions, _ = measure(findings, findings.lesion.astype(np.float32), affine)
    return measure_vertebrae(findings, lesions, affine, where)


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("tilt", [0.0, 20.0])
def test_area_and_length_of_each_level(name: str, tilt: float) -> None:
    where = SCANS[name]
    cord = paint(where, tilted_rod(5.0, tilt))
    result = located(found(cord), where[0], discs(tilt))
    levels = {level.name: level for level in result.levels}
    assert [level.index for level in result.levels] == sorted(x.index for x in result.levels)
    # In voxels of up to 2 mm a level's ends lie anywhere within a slice.
    step = max(np.linalg.norm(where[0][:3, :3], axis=0))
    for level, length in {"C7": 12.0, "T1": 15.0}.items():
        index = {"C7": "T1", "T1": "T2"}[level]
        row = levels[index]
        assert row.coverage == 1.0
        assert row.length_mm == pytest.approx(length, abs=step + 0.2)
        assert row.area_mm2 == pytest.approx(np.pi * 25, rel=0.02)
        assert row.volume_mm3 == pytest.approx(length * np.pi * 25, rel=0.1)
        assert row.ap_diameter_mm == pytest.approx(10, rel=0.025)
        assert row.lr_diameter_mm == pytest.approx(10, rel=0.025)


def test_the_label_image_covers_the_cord_with_known_levels_only() -> None:
    where = grid(spacing=(0.5, 0.5, 1.0))
    cord = paint(where, tilted_rod(5.0, 0.0))
    result = located(found(cord), where[0], discs())
    assert result.labels.dtype == np.uint8
    assert not result.labels[~cord].any()
    heights = where[0][2, 2] * np.arange(cord.shape[2]) + where[0][2, 3]
    middle = result.labels[cord.shape[0] // 2, cord.shape[1] // 2]
    expected = np.select(
        [heights > 24, heights > 6, heights > -6, heights > -21], [6, 7, 8, 9], default=10
    )
    np.testing.assert_array_equal(middle, expected)
    # 6 mm of the 18 that C6 is taken to have, 9 of 15 for T3.
    coverage = {level.name: level.coverage for level in result.levels}
    assert coverage == pytest.approx({"C6": 1 / 3, "C7": 1, "T1": 1, "T2": 1, "T3": 0.6}, abs=0.01)


def test_lesions_get_their_levels_and_are_counted() -> None:
    where = grid(spacing=(0.5, 0.5, 1.0))
    cord = paint(where, tilted_rod(5.0, 0.0))
    upper = paint(where, ellipsoid((2, 0, 9), (1.6, 1.6, 9)))
    lower = paint(where, ellipsoid((-2, 0, -12), (1.6, 1.6, 3)))
    result = located(found(cord, upper, lower), where[0], discs())
    assert [(x.level, x.level_from, x.level_to) for x in result.lesions] == [
        ("C7", "C7", "T1"),
        ("T2", "T2", "T2"),
    ]
    counts = {level.name: level.lesion_count for level in result.levels}
    assert counts == {"C6": 0, "C7": 1, "T1": 0, "T2": 1, "T3": 0}
    volumes = {level.name: level.lesion_volume_mm3 for level in result.levels}
    assert sum(volumes.values()) == pytest.approx((upper.sum() + lower.sum()) * 0.25)
    assert volumes["T1"] > 0
    assert result.lesion_counts() == {"cervical": 1, "thoracic": 1, "lumbar": None}


def test_a_lesion_that_leaves_the_known_levels_has_no_end_there() -> None:
    where = grid(spacing=(0.5, 0.5, 1.0))
    cord = paint(where, tilted_rod(5.0, 0.0))
    lesion = paint(where, ellipsoid((0, 0, 14), (1.6, 1.6, 10)))
    result = located(found(cord, lesion), where[0], discs(heights={8: 6.0, 9: -6.0}))
    (one,) = result.lesions
    assert (one.level, one.level_from, one.level_to) == ("C7", None, "T1")


@pytest.mark.parametrize("where", [{}, {3: np.zeros(3)}, {3: np.zeros(3), 4: np.ones(3) * 9}])
def test_discs_of_no_use_leave_lesions_without_levels(where: dict[int, np.ndarray]) -> None:
    affine, shape = scan = grid(spacing=(1.0, 1.0, 1.0))
    cord = paint(scan, tilted_rod(5.0, 0.0))
    lesion = paint(scan, ellipsoid((0, 0, 0), (2, 2, 4)))
    result = located(found(cord, lesion), affine, where)
    assert result.levels == ()
    assert not result.labels.any()
    assert result.labels.shape == shape
    assert (result.lesions[0].level, result.lesions[0].level_from) == (None, None)
    assert result.lesion_counts() == {"cervical": None, "thoracic": None, "lumbar": None}
    assert level_rows(result.levels) == []


@pytest.mark.parametrize("cord", [np.zeros((3, 4, 5), bool), np.ones((3, 4, 1), bool)])
def test_no_cord_and_one_slice(cord: np.ndarray) -> None:
    result = located(found(cord), np.eye(4), discs())
    assert result.levels == ()
    assert len(result.axis.remarks) == 1


def test_the_table_says_what_its_columns_are() -> None:
    where = grid(spacing=(1.0, 1.0, 1.0))
    cord = paint(where, tilted_rod(5.0, 0.0))
    rows = level_rows(located(found(cord), where[0], discs()).levels)
    assert [row["name"] for row in rows] == ["C6", "C7", "T1", "T2", "T3"]
    assert list(rows[0]) == level_column_names()
    assert level_column_names()[:3] == ["index", "name", "color"]
    assert set(level_dictionary()) == set(level_column_names()) - {"index"}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    density=st.sampled_from([0.01, 0.1, 0.6]),
    spacing=st.tuples(*[st.sampled_from([0.3, 1.0, 5.0])] * 3),
    numbers=st.lists(st.integers(1, 26), max_size=4, unique=True),
)
@example(seed=117, density=0.1, spacing=(0.3, 1.0, 5.0), numbers=[6, 2])
def test_random_masks_and_discs_never_fail(seed, density, spacing, numbers) -> None:
    rng = np.random.default_rng(seed)
    cord = rng.random((5, 6, 7)) < density
    affine = np.diag([*spacing, 1.0])
    size = np.array(spacing) * cord.shape
    where = {number: rng.uniform(-0.5, 1.5, 3) * size for number in numbers}
    result = located(found(cord, cord & (rng.random(cord.shape) < 0.1)), affine, where)
    assert not result.labels[~cord].any()
    assert {level.index for level in result.levels} == set(np.unique(result.labels)) - {0}
    assert all(0 <= level.coverage <= 1 for level in result.levels)
    assert bool(result.levels) <= (len(numbers) >= 2)
