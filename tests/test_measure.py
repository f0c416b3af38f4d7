"""Measures against shapes whose answer is known."""

from __future__ import annotations

import time
from itertools import permutations, product

import numpy as np
import pytest
from shapes import SCANS, Grid, arc, ellipsoid, found, grid, paint, spacing_of, tilted_rod

from bids_app.lesions.centerline import cross_sections_mm2, trace_centerline
from bids_app.lesions.frame import slice_frame
from bids_app.lesions.measure import measure
from bids_app.records import Findings


@pytest.mark.parametrize("scan", SCANS)
def test_ellipsoid_in_a_straight_cord(scan: str) -> None:
    where = SCANS[scan]
    cord = paint(where, tilted_rod(6.0, 0))
    lesion = paint(where, ellipsoid((1, -2, 5), (3, 2, 8)))
    (row,), _ = measure(found(cord, lesion), np.where(lesion, 0.8, 0.1), where[0])
    assert row.volume_mm3 == pytest.approx(4 / 3 * np.pi * 3 * 2 * 8, rel=0.03)
    assert row.center_mm == pytest.approx((1, -2, 5), abs=0.1)
    # Thick slices decide how well the ends are seen: one slice in all.
    assert row.length_mm == pytest.approx(16, abs=2.0 if "thick" in scan else 0.6)
    assert row.max_axial_diameter_mm == pytest.approx(2 * np.sqrt(6), rel=0.03)
    assert row.max_axial_damage_ratio == pytest.approx(6 / 36, rel=0.06)
    assert row.ap_width_mm == pytest.approx(4, abs=0.5)
    assert (row.mean_probability, row.max_probability) == pytest.approx((0.8, 0.8))


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("tilt_deg", [0, 12, 25])
def test_tilted_cord_and_a_lesion_along_it(scan: str, tilt_deg: float) -> None:
    where = SCANS[scan]
    cos = np.cos(np.deg2rad(tilt_deg))
    cord = paint(where, tilted_rod(6.0, tilt_deg, -25, 25))
    lesion = paint(where, tilted_rod(3.0, tilt_deg, -10, 10))
    (row,), whole = measure(found(cord, lesion), lesion.astype(float), where[0])
    assert whole.volume_mm3 == pytest.approx(np.pi * 36 * 50 / cos, rel=0.03)
    # Six millimetres in voxels of one: counting voxels is no closer than 5 %.
    counted = 0.05 if "sagittal" in scan else 0.03
    assert row.volume_mm3 == pytest.approx(np.pi * 9 * 20 / cos, rel=counted)
    if scan == "oblique":  # its slices are not horizontal: the cut ends are not theirs
        return
    assert whole.length_mm == pytest.approx(50 / cos, rel=0.03)
    assert whole.mean_area_mm2 == pytest.approx(np.pi * 36, rel=0.03)
    assert row.length_mm == pytest.approx(20 / cos, rel=0.03)
    assert row.max_axial_diameter_mm == pytest.approx(6, rel=0.03)
    assert row.max_axial_damage_ratio == pytest.approx(0.25, rel=0.06)
    assert row.ap_width_mm == pytest.approx(6, abs=0.5)


@pytest.mark.parametrize("scan", ["isotropic", "oblique"])
def test_tilt_is_corrected_on_an_oblique_grid(scan: str) -> None:
    where = SCANS[scan]
    areas = cross_sections_mm2(paint(where, tilted_rod(5.0, 20)), where[0])
    assert np.nanmean(areas) == pytest.approx(np.pi * 25, rel=0.03)
    assert np.nanmin(areas[15:-15]) > np.pi * 25 * 0.95


@pytest.mark.parametrize(
    "where",
    [
        grid(size_mm=(16, 60, 90)),
        grid("PSR", (0.5, 0.5, 1.0), size_mm=(16, 60, 90)),
        grid("RAS", (0.5, 0.5, 2.0), size_mm=(16, 60, 90)),
    ],
)
def test_curved_cord(where: Grid) -> None:
    # 80 mm of a cord that bends with a radius of 90 mm: up to 25 degrees off the slices.
    half_deg = np.rad2deg(40 / 90)
    cord = paint(where, arc(5.0, 90, -half_deg, half_deg))
    lesion = paint(where, arc(2.5, 90, 5, 5 + np.rad2deg(15 / 90)))
    (row,), whole = measure(found(cord, lesion), lesion.astype(float), where[0])
    assert whole.volume_mm3 == pytest.approx(np.pi * 25 * 80, rel=0.03)
    # The slanted ends reach into slices of their own: 10 mm wide at 25 degrees, 4.3 mm.
    assert 79 < whole.length_mm < 80 + 4.3 + 2
    # Thick slices: the ends fall on one slice or the next, and 5 mm are five voxels wide.
    counted = 0.04 if max(spacing_of(where)) < 0.6 else 0.1
    assert row.volume_mm3 == pytest.approx(np.pi * 6.25 * 15, rel=counted)
    assert row.max_axial_diameter_mm == pytest.approx(5, rel=0.05)
    middle = slice_frame(where[0]).axis
    areas = cross_sections_mm2(cord, where[0])
    center = where[1][middle] // 2
    assert areas[center - 3 : center + 4] == pytest.approx(np.pi * 25, rel=0.03)


@pytest.mark.parametrize(
    "where",
    [grid(size_mm=(14, 50, 70)), grid("LPS", (0.5, 0.5, 5.0), size_mm=(14, 50, 70))],
)
def test_curved_cord_through_the_whole_field_has_the_arcs_length(where: Grid) -> None:
    whole = measure(found(paint(where, arc(5.0, 90))), np.zeros(where[1]), where[0])[1]
    assert whole.length_mm == pytest.approx(2 * 90 * np.arcsin(35 / 90), rel=0.01)
    assert whole.mean_area_mm2 == pytest.approx(np.pi * 25, rel=0.02)


@pytest.mark.parametrize("order", list(permutations("RAS")))
@pytest.mark.parametrize("sign", list(product((0, 1), repeat=3))[::3])
def test_every_orientation_gives_the_same(order: tuple[str, ...], sign: tuple[int, ...]) -> None:
    other = dict(zip("RAS", "LPI", strict=True))
    axes = "".join(other[a] if flip else a for a, flip in zip(order, sign, strict=True))
    step = {"R": 1.0, "A": 0.5, "S": 0.75}
    spacing = (step[order[0]], step[order[1]], step[order[2]])

    def rows(where: Grid) -> tuple[float, ...]:
        cord = paint(where, tilted_rod(5.0, 15))
        lesion = paint(where, ellipsoid((-2.3, 1.1, 3.2), (2.2, 2.4, 7.1)))
        (row,), whole = measure(found(cord, lesion), lesion * 0.7, where[0])
        assert row.quadrant == "left"
        values = (row.volume_mm3, row.length_mm, row.max_axial_diameter_mm, row.ap_width_mm)
        return (*values, *row.center_mm, whole.length_mm, whole.mean_area_mm2)  # type: ignore[return-value]

    size = (20, 30, 45)
    expected = rows(grid("RAS", (1.0, 0.5, 0.75), size))
    assert rows(grid(axes, spacing, size)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("center", "quadrant", "surface_mm"),
    [
        ((0, -4, 0), "dorsal", 0.5),
        ((0, 4, 0), "ventral", 0.5),
        ((-4, 0, 0), "left", 0.5),
        ((4, 0, 0), "right", 0.5),
        ((0.5, 0.5, 0), "central", 3.8),
        ((3, -3.2, 0), "dorsal", 0.1),
    ],
)
def test_place_in_the_section(
    center: tuple[float, float, float], quadrant: str, surface_mm: float
) -> None:
    for where in (grid(size_mm=(20, 20, 30)), grid("PIL", size_mm=(20, 20, 30))):
        cord = paint(where, tilted_rod(6.0, 0))
        lesion = paint(where, ellipsoid(center, (1.5, 1.5, 4)))
        (row,), _ = measure(found(cord, lesion), lesion.astype(float), where[0])
        assert row.quadrant == quadrant
        assert row.surface_distance_mm == pytest.approx(surface_mm, abs=0.5)


def test_no_cord() -> None:
    empty = np.zeros((5, 6, 7), dtype=bool)
    rows, whole = measure(found(empty), np.zeros(empty.shape), np.eye(4))
    assert rows == ()
    assert (whole.volume_mm3, whole.length_mm, whole.mean_area_mm2) == (0.0, None, None)
    assert np.isnan(cross_sections_mm2(empty, np.eye(4))).tolist() == [True] * 7
    assert len(trace_centerline(empty, np.eye(4)).slices) == 0


def test_one_voxel_lesion_at_the_fields_edge() -> None:
    cord = np.ones((3, 3, 4), dtype=bool)
    lesion = np.zeros_like(cord)
    lesion[2, 0, 3] = True
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    (row,), whole = measure(found(cord, lesion), lesion * 0.6, affine)
    assert (row.index, row.voxels, row.volume_mm3) == (1, 1, 2.0)
    assert row.center_mm == (2.0, 0.0, 6.0)
    assert row.length_mm == pytest.approx(2.0)
    assert row.max_axial_diameter_mm == pytest.approx(2 / np.sqrt(np.pi))
    assert row.max_axial_damage_ratio == pytest.approx(1 / 9)
    assert row.ap_width_mm == pytest.approx(1.0)
    assert row.surface_distance_mm == 0.0
    assert (whole.volume_mm3, whole.length_mm, whole.mean_area_mm2) == pytest.approx((72, 8, 9))


def test_one_slice_has_no_direction() -> None:
    cord = np.ones((4, 4, 1), dtype=bool)
    lesion = np.zeros_like(cord)
    lesion[1:3, 1:3, 0] = True
    (row,), whole = measure(found(cord, lesion), lesion.astype(float), np.eye(4))
    assert (row.volume_mm3, row.max_axial_damage_ratio) == (4.0, 0.25)
    assert (row.length_mm, row.max_axial_diameter_mm, row.ap_width_mm) == (None, None, None)
    assert (whole.volume_mm3, whole.length_mm, whole.mean_area_mm2) == (16.0, None, None)
    assert row.quadrant == "central"


def test_lesion_across_the_whole_section_and_outside_the_cord() -> None:
    cord = np.zeros((9, 9, 10), dtype=bool)
    cord[3:6, 3:6, :] = True
    lesion = np.zeros_like(cord)
    lesion[2:7, 2:7, 4:6] = True
    findings = Findings(cord=cord, lesion=lesion, instances=lesion.astype(np.int32))
    (row,), _ = measure(findings, lesion.astype(float), np.eye(4))
    assert row.max_axial_damage_ratio == 1.0
    assert row.quadrant == "central"
    assert row.surface_distance_mm == 0.0


def test_a_gap_adds_no_length_and_a_far_slice_does_no_harm() -> None:
    cord = np.ones((4, 4, 300), dtype=bool)
    cord[:, :, 50:299] = False
    whole = measure(found(cord), np.zeros(cord.shape), np.eye(4))[1]
    assert whole.length_mm == pytest.approx(51)
    assert whole.mean_area_mm2 == pytest.approx(16)


def test_numbers_with_gaps_are_kept() -> None:
    cord = np.ones((4, 4, 9), dtype=bool)
    instances = np.zeros(cord.shape, dtype=np.int32)
    instances[1, 1, 2], instances[2, 2, 6:8] = 2, 5
    rows, _ = measure(
        Findings(cord=cord, lesion=instances > 0, instances=instances),
        np.ones(cord.shape, dtype=np.float32),
        np.eye(4),
    )
    assert [(row.index, row.voxels) for row in rows] == [(2, 1), (5, 2)]


def test_a_large_scan_takes_well_under_a_second() -> None:
    cord = np.zeros((320, 256, 60), dtype=bool)
    cord[:, 120:135, 22:38] = True
    instances = np.zeros(cord.shape, dtype=np.int32)
    for number in range(30):
        instances[10 * number : 10 * number + 7, 122:130, 24:33] = number + 1
    findings = Findings(cord=cord, lesion=instances > 0, instances=instances)
    affine = np.array([[0, 0, 0.8, 0], [0, 0.8, 0, 0], [-0.8, 0, 0, 0], [0, 0, 0, 1.0]])
    probability = np.full(cord.shape, 0.5, dtype=np.float32)
    started = time.perf_counter()
    rows, _ = measure(findings, probability, affine)
    assert len(rows) == 30
    # Generous, because test machines are shared; about 0.2 s on an idle core.
    assert time.perf_counter() - started < 3
