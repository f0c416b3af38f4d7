"""Tissue bridges and extents in the midsagittal slice, against known shapes."""

from __future__ import annotations

import numpy as np
import pytest
from shapes import Grid, arc, ellipsoid, found, grid, paint, tilted_rod

from bids_app.lesions.measure import measure
from bids_app.records import Lesion

# Fine from back to front, because that is where the bridges are measured.
FIELD = (14.0, 26.0, 40.0)
FINE = {
    "axes along the body": grid("RAS", (0.5, 0.1, 1.0), FIELD),
    "sagittal, stored from behind": grid("PSR", (0.1, 0.5, 0.8), FIELD),
    "stored LIA": grid("LIA", (0.5, 1.0, 0.1), FIELD),
    "odd number of sagittal planes": grid("RAS", (0.56, 0.1, 1.0), FIELD),
}


def rows_of(where: Grid, cord: np.ndarray, *lesions: np.ndarray) -> tuple[Lesion, ...]:
    return measure(found(cord, *lesions), np.ones(cord.shape, np.float32), where[0])[0]


def bridges(row: Lesion) -> tuple[float | None, ...]:
    return (row.dorsal_bridge_mm, row.ventral_bridge_mm, row.total_bridge_mm)


@pytest.mark.parametrize("scan", FINE)
def test_ellipsoid_in_a_straight_cord(scan: str) -> None:
    where = FINE[scan]
    (row,) = rows_of(
        where, paint(where, tilted_rod(6, 0)), paint(where, ellipsoid((0, -1, 2), (2, 2, 6)))
    )
    assert bridges(row) == pytest.approx((3, 5, 8), rel=0.03)
    assert row.dorsal_bridge_percent == pytest.approx(37.5, rel=0.03)
    assert row.ventral_bridge_percent == pytest.approx(62.5, rel=0.03)
    assert row.midsagittal_x_mm == pytest.approx(0, abs=1e-9)
    assert row.midsagittal_width_mm == pytest.approx(4, rel=0.03)
    assert row.midsagittal_length_mm == pytest.approx(12, abs=1.01)


@pytest.mark.parametrize("scan", FINE)
@pytest.mark.parametrize("tilt_deg", [12, 25])
def test_tilted_cord_and_a_lesion_along_it(scan: str, tilt_deg: float) -> None:
    where = FINE[scan]
    cord = paint(where, tilted_rod(5, tilt_deg))
    (row,) = rows_of(where, cord, paint(where, tilted_rod(2, tilt_deg, -8, 8)))
    assert bridges(row) == pytest.approx((3, 3, 6), rel=0.03)
    assert row.midsagittal_width_mm == pytest.approx(4, rel=0.03)
    assert row.midsagittal_length_mm == pytest.approx(16 / np.cos(np.deg2rad(tilt_deg)), rel=0.03)


def test_curved_cord() -> None:
    where = grid("RAS", (0.5, 0.1, 1.0), (12.0, 40.0, 70.0))
    lesion = paint(where, arc(2.0, 90, 3, 13))
    (row,) = rows_of(where, paint(where, arc(5.0, 90)), lesion)
    # The slanted ends of the lesion thin out over 2 slices; the bridges there are wider.
    assert bridges(row) == pytest.approx((3, 3, 6), rel=0.03)
    assert row.midsagittal_width_mm == pytest.approx(4, rel=0.03)


def test_a_parasagittal_lesion_has_no_bridges() -> None:
    where = FINE["axes along the body"]
    (row,) = rows_of(
        where, paint(where, tilted_rod(6, 0)), paint(where, ellipsoid((-3.5, 0, 0), (2, 2, 6)))
    )
    assert bridges(row) == (None, None, None)
    assert (row.dorsal_bridge_percent, row.ventral_bridge_percent) == (None, None)
    assert (row.midsagittal_length_mm, row.midsagittal_width_mm) == (None, None)
    assert row.midsagittal_x_mm == pytest.approx(0, abs=1e-9)


CORD = np.zeros((9, 14, 12), dtype=bool)
CORD[2:7, 2:12, :] = True  # sagittal plane 4 is the middle; 10 mm from back to front
UNIT: Grid = (np.eye(4), (9, 14, 12))


def block(*sides: slice) -> np.ndarray:
    mask = np.zeros_like(CORD)
    mask[sides] = True
    return mask


def test_the_narrowest_place_counts_for_each_side_by_itself() -> None:
    lesion = block(slice(4, 5), slice(4, 7), slice(3, 6)) | block(
        slice(4, 5), slice(6, 10), slice(6, 8)
    )
    (row,) = rows_of(UNIT, CORD, lesion)
    assert bridges(row) == pytest.approx((2, 2, 4))
    assert row.midsagittal_length_mm == pytest.approx(5)
    assert row.midsagittal_width_mm == pytest.approx(4)


def test_tissue_of_another_lesion_is_no_bridge() -> None:
    lesion, other = (block(slice(3, 6), slice(a, b), slice(4, 8)) for a, b in ((6, 8), (2, 5)))
    first, second = rows_of(UNIT, CORD, lesion, other)
    assert bridges(first) == pytest.approx((1, 4, 5))
    assert bridges(second) == pytest.approx((0, 5, 5))


def test_a_lesion_at_the_surface_and_one_across_the_section() -> None:
    across, surface = (
        block(slice(2, 7), slice(2, 12), slice(1, 3)),
        block(slice(3, 6), slice(2, 5), slice(6, 9)),
    )
    first, second = rows_of(UNIT, CORD, across, surface)
    assert bridges(first) == (0, 0, 0)
    assert (first.dorsal_bridge_percent, first.ventral_bridge_percent) == (None, None)
    assert first.max_axial_damage_ratio == 1.0
    assert bridges(second) == pytest.approx((0, 7, 7))
    assert (second.dorsal_bridge_percent, second.ventral_bridge_percent) == (0, 100)


def test_between_two_planes_each_counts_by_its_nearness() -> None:
    cord = CORD.copy()
    cord[7, 2:7] = True  # half a plane more: 55 columns, the middle at 4 + 3/11
    both = block(slice(4, 5), slice(6, 8), slice(4, 8)) | block(
        slice(5, 6), slice(5, 8), slice(4, 6)
    )
    (row,) = rows_of(UNIT, cord, both)
    assert row.midsagittal_x_mm == pytest.approx(4 + 3 / 11)
    # Behind: 4 in plane 4, 3 in plane 5, which the lesion meets in two of four slices.
    assert bridges(row) == pytest.approx((4 - 3 / 11, 4, 8 - 3 / 11))
    assert row.midsagittal_length_mm == pytest.approx(4 * 8 / 11 + 2 * 3 / 11)
    assert row.midsagittal_width_mm == pytest.approx(2 * 8 / 11 + 3 * 3 / 11)
    (only,) = rows_of(UNIT, cord, block(slice(5, 6), slice(5, 8), slice(4, 6)))
    assert bridges(only) == pytest.approx((3, 4, 7))


def test_each_lesion_has_the_middle_of_its_own_part_of_the_cord() -> None:
    cord = np.zeros((12, 8, 40), dtype=bool)
    cord[1:6, 1:7, :20], cord[6:11, 1:7, 20:] = True, True
    low, high = np.zeros_like(cord), np.zeros_like(cord)
    low[3, 3:5, 5:9], high[8, 3:5, 30:34] = True, True
    where = (np.diag([1.0, 1.0, 20.0, 1.0]), (12, 8, 40))
    rows = rows_of(where, cord, low, high)
    assert [row.midsagittal_x_mm for row in rows] == pytest.approx([3, 8])
    assert all(row.total_bridge_mm is not None for row in rows)


def test_one_slice_has_no_direction_and_no_bridges() -> None:
    cord = np.ones((5, 8, 1), dtype=bool)
    lesion = np.zeros_like(cord)
    lesion[2, 3:5] = True
    (row,) = rows_of((np.eye(4), (5, 8, 1)), cord, lesion)
    assert bridges(row) == (None, None, None)
    assert row.midsagittal_x_mm == pytest.approx(2)
