"""Measures against shapes whose answer is known."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import permutations, product

import numpy as np
import pytest

from bids_app.lesions.centerline import cross_sections_mm2, trace_centerline
from bids_app.lesions.frame import slice_frame
from bids_app.lesions.measure import measure
from bids_app.records import Findings

Grid = tuple[np.ndarray, tuple[int, int, int]]
Inside = Callable[[np.ndarray], np.ndarray]


def grid(
    axes: str = "RAS",
    spacing: tuple[float, float, float] = (0.5, 0.5, 0.5),
    size_mm: tuple[float, float, float] = (24, 40, 60),
    turn_deg: tuple[float, float, float] = (0, 0, 0),
) -> Grid:
    """An affine centred on the world's origin whose voxel axes point as `axes` says.

    `spacing` is in the array's order, `size_mm` in the world's (R, A, S).
    """
    steps = np.zeros((3, 3))
    shape = []
    for column, letter in enumerate(axes):
        world = ("RL", "AP", "SI").index(next(p for p in ("RL", "AP", "SI") if letter in p))
        steps[world, column] = spacing[column] * (1 if letter in "RAS" else -1)
        shape.append(round(size_mm[world] / spacing[column]))
    for world, angle in enumerate(np.deg2rad(turn_deg)):
        first, second = (other for other in range(3) if other != world)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        steps = turn @ steps
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = -steps @ ((np.array(shape) - 1) / 2)
    return affine, (shape[0], shape[1], shape[2])


def spacing_of(where: Grid) -> np.ndarray:
    return np.linalg.norm(where[0][:3, :3], axis=0)


def paint(where: Grid, inside: Inside) -> np.ndarray:
    """Voxels whose world position (n, 3) satisfies `inside`."""
    affine, shape = where
    index = np.indices(shape).reshape(3, -1).T
    return inside(index @ affine[:3, :3].T + affine[:3, 3]).reshape(shape)


def found(cord: np.ndarray, *lesions: np.ndarray) -> Findings:
    instances = np.zeros(cord.shape, dtype=np.int32)
    for number, lesion in enumerate(lesions, start=1):
        instances[lesion] = number
    return Findings(cord=cord | (instances > 0), lesion=instances > 0, instances=instances)


def ellipsoid(center: tuple[float, float, float], half: tuple[float, float, float]) -> Inside:
    return lambda p: np.sum(np.square((p - center) / np.array(half)), axis=1) <= 1


def tilted_rod(radius: float, tilt_deg: float, low: float = -1e9, high: float = 1e9) -> Inside:
    """A rod through the origin, tilted forwards, cut by horizontal planes."""
    direction = np.array([0, np.sin(np.deg2rad(tilt_deg)), np.cos(np.deg2rad(tilt_deg))])

    def inside(p: np.ndarray) -> np.ndarray:
        aside = p - np.outer(p @ direction, direction)
        return (np.sum(aside**2, axis=1) <= radius**2) & (p[:, 2] >= low) & (p[:, 2] < high)

    return inside


def arc(radius: float, bend_mm: float, low_deg: float = -90, high_deg: float = 90) -> Inside:
    """A rod bent along a circle in the sagittal plane, through the origin at 0 degrees."""

    def inside(p: np.ndarray) -> np.ndarray:
        out = np.hypot(p[:, 1] + bend_mm, p[:, 2])
        angle = np.rad2deg(np.arctan2(p[:, 2], p[:, 1] + bend_mm))
        near = np.hypot(out - bend_mm, p[:, 0]) <= radius
        return near & (angle >= low_deg) & (angle < high_deg)

    return inside


SCANS = {
    "isotropic": grid(spacing=(0.4, 0.4, 0.4)),
    "flipped": grid("LPI", (0.4, 0.4, 0.4)),
    "sagittal, thick": grid("PSR", (0.4, 0.4, 1.0)),
    "axial, thick": grid("LAS", (0.35, 0.35, 2.0)),
    "oblique": grid("RAS", (0.5, 0.5, 0.5), turn_deg=(8, 6, 10)),
}


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
