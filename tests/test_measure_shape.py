"""Orientation, confluence, the cord's diameters, and random masks."""

from __future__ import annotations

from dataclasses import asdict
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from shapes import SCANS, Inside, arc, ellipsoid, found, grid, paint, tilted_rod

from bids_app.lesions.measure import measure
from bids_app.records import Cord, Findings, Lesion

Rows = tuple[tuple[Lesion, ...], Cord]


def measured(affine: np.ndarray, cord: np.ndarray, *lesions: np.ndarray) -> Rows:
    return measure(found(cord, *lesions), np.ones(cord.shape, np.float32), affine)


def leaning(half: tuple[float, float, float], towards: str, angle_deg: float) -> Inside:
    """An ellipsoid whose third axis leans from upright towards right or anterior."""
    first = "RA".index(towards)
    turn = np.eye(3)
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    turn[first, first] = turn[2, 2] = cos
    turn[first, 2], turn[2, first] = -sin, sin
    return lambda p: ellipsoid((0, 0, 0), half)(p @ turn.T)


FIELD = (14.0, 14.0, 24.0)
SMALL = {
    "isotropic": grid("RAS", (0.4, 0.4, 0.4), FIELD),
    "sagittal, thick": grid("PSR", (0.4, 0.4, 1.0), FIELD),
    "oblique": grid("RAS", (0.5, 0.5, 0.5), FIELD, turn_deg=(8, 6, 10)),
}


@pytest.mark.parametrize("scan", SMALL)
@pytest.mark.parametrize("towards", "RA")
@pytest.mark.parametrize("angle_deg", [0, 30, 60, 90])
def test_orientation_in_a_straight_cord(scan: str, towards: str, angle_deg: float) -> None:
    affine, _ = where = SMALL[scan]
    lesion = paint(where, leaning((1.2, 1.2, 5), towards, angle_deg))
    (row,), _ = measured(affine, paint(where, tilted_rod(6, 0)), lesion)
    assert row.orientation_deg == pytest.approx(angle_deg, abs=2)


@pytest.mark.parametrize("tilt_deg", [12, 25])
def test_orientation_is_against_the_cord_not_the_slices(tilt_deg: float) -> None:
    affine, _ = where = grid("RAS", (0.4, 0.4, 0.4), (14, 26, 24))
    cord = paint(where, tilted_rod(6, tilt_deg))
    for lean, expected in ((tilt_deg, 0), (0, tilt_deg), (tilt_deg + 90, 90)):
        lesion = paint(where, leaning((1.2, 1.2, 5), "A", lean))
        (row,), _ = measured(affine, cord, lesion)
        assert row.orientation_deg == pytest.approx(expected, abs=2)


def test_orientation_in_a_curved_cord() -> None:
    affine, _ = where = grid(size_mm=(14, 50, 70))
    (row,), _ = measured(affine, paint(where, arc(5.0, 90)), paint(where, arc(2.0, 90, 8, 18)))
    assert row.orientation_deg == pytest.approx(0, abs=2)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1, 1), None),
        ((3, 3, 3), None),
        ((3, 3, 2), None),  # flat: longest and second are alike
        ((4, 4, 5), 0.0),  # just elongated enough
        ((5, 5, 6), None),
        ((1, 1, 2), 0.0),
        ((2, 1, 1), 90.0),
    ],
)
def test_when_orientation_is_defined(size: tuple[int, int, int], expected: float | None) -> None:
    cord = np.ones((9, 9, 12), dtype=bool)
    lesion = np.zeros_like(cord)
    lesion[1 : 1 + size[0], 1 : 1 + size[1], 2 : 2 + size[2]] = True
    (row,), _ = measured(np.eye(4), cord, lesion)
    assert row.orientation_deg == (None if expected is None else pytest.approx(expected, abs=1e-6))


def test_a_voxels_own_shape_is_no_direction() -> None:
    cord = np.ones((9, 9, 12), dtype=bool)
    lesion = np.zeros_like(cord)
    lesion[3:5, 3:5, 4] = True  # 1 x 1 x 5 mm, but only because its slice is thick
    (row,), _ = measured(np.diag([0.5, 0.5, 5.0, 1.0]), cord, lesion)
    assert row.orientation_deg is None


@pytest.mark.parametrize(
    ("starts", "step_mm", "expected"),
    [
        ([0], 1.0, [0]),
        ([0, 3], 1.0, [1, 1]),  # one voxel between: a gap of 1 mm
        ([0, 4], 1.0, [1, 1]),  # 2 mm: the limit itself
        ([0, 5], 1.0, [0, 0]),
        ([0, 3, 6], 1.0, [1, 2, 1]),
        ([0, 2], 6.0, [1, 1]),  # touching voxels, however thick the slices
        ([0, 3], 2.1, [0, 0]),
    ],
)
def test_confluence(starts: list[int], step_mm: float, expected: list[int]) -> None:
    cord = np.ones((4, 4, 12), dtype=bool)
    lesions = [np.zeros_like(cord) for _ in starts]
    for lesion, start in zip(lesions, starts, strict=True):
        lesion[1:3, 1:3, start : start + 2] = True
    rows, _ = measured(np.diag([1.0, 1.0, step_mm, 1.0]), cord, *lesions)
    assert [row.confluence for row in rows] == expected


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("tilt_deg", [0, 12, 25])
def test_diameters_of_an_elliptical_cord(scan: str, tilt_deg: float) -> None:
    affine, _ = where = SCANS[scan]
    # Wider than deep, as the cervical cord is: 13 mm by 8 mm across the cord.
    round_rod = tilted_rod(4.0, tilt_deg)
    cord = paint(where, lambda p: round_rod(p * (8 / 13, 1, 1)))
    whole = measured(affine, cord)[1]
    # Thirteen millimetres in voxels of one: their edges are half a voxel off at either side.
    counted = 0.05 if "sagittal" in scan else 0.03
    assert whole.ap_diameter_mm == pytest.approx(8, rel=0.03)
    assert whole.lr_diameter_mm == pytest.approx(13, rel=counted)
    assert whole.mean_area_mm2 == pytest.approx(np.pi / 4 * 8 * 13, rel=counted)


def test_diameters_of_a_curved_cord() -> None:
    affine, _ = where = grid("LPS", (0.5, 0.5, 4.0), size_mm=(14, 50, 70))
    whole = measured(affine, paint(where, arc(5.0, 90)))[1]
    assert whole.ap_diameter_mm == pytest.approx(10, rel=0.03)
    assert whole.lr_diameter_mm == pytest.approx(10, rel=0.03)


def test_no_direction_no_diameters() -> None:
    for cord in (np.zeros((3, 4, 5), dtype=bool), np.ones((3, 4, 1), dtype=bool)):
        whole = measured(np.eye(4), cord)[1]
        assert (whole.ap_diameter_mm, whole.lr_diameter_mm) == (None, None)


def stored(
    findings: Findings, affine: np.ndarray, order: tuple[int, ...], flips: tuple[int, ...]
) -> tuple[Findings, np.ndarray]:
    """The same voxels with the array's axes in another order and direction."""
    shape = findings.cord.shape
    into = np.eye(4)[:, [*order, 3]]
    for new, old in enumerate(order):
        if flips[new]:
            into[old, new], into[old, 3] = -1, shape[old] - 1
    axes = [new for new in range(3) if flips[new]]
    cord, lesion, instances = (
        np.flip(np.transpose(array, order), axes)
        for array in (findings.cord, findings.lesion, findings.instances)
    )
    return Findings(cord=cord, lesion=lesion, instances=instances), affine @ into


@st.composite
def scans(draw: st.DrawFn) -> tuple[Findings, np.ndarray]:
    shape = tuple(draw(st.integers(1, 7)) for _ in range(3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cord = random.random(shape) < draw(st.sampled_from([0, 0.1, 0.6, 1]))
    lesion = random.random(shape) < draw(st.sampled_from([0, 0.05, 0.3, 1]))
    instances = ndimage.label(lesion)[0]
    step = st.sampled_from([0.3, 0.5, 1.0, 3.3])
    spacing = tuple(draw(step) for _ in range(3))
    turn = tuple(draw(st.sampled_from([0.0, 4.0, -15.0])) for _ in range(3))
    affine = grid("RAS", spacing, turn_deg=turn)[0]
    return Findings(cord=cord, lesion=lesion, instances=instances), affine


@settings(max_examples=60, deadline=None)
@given(
    scan=scans(),
    order=st.sampled_from(list(permutations(range(3)))),
    flips=st.sampled_from(list(product((0, 1), repeat=3))),
)
def test_random_masks_never_fail_and_storage_changes_nothing(
    scan: tuple[Findings, np.ndarray], order: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    rows, whole = in_order(*scan)
    other_rows, other_whole = in_order(*stored(*scan, order, flips))
    assert len(rows) == int(scan[0].instances.max(initial=0))
    for one, other in zip([whole, *rows], [other_whole, *other_rows], strict=True):
        assert same(asdict(one), asdict(other))
    for row in rows:
        in_range = (row.max_axial_damage_ratio, (row.orientation_deg or 0) / 90)
        assert all(0 <= value <= 1 for value in in_range)
        assert (row.total_bridge_mm is None) == (row.midsagittal_width_mm is None)
        numbers = [value for value in asdict(row).values() if isinstance(value, float)]
        assert np.isfinite(numbers).all()


def in_order(findings: Findings, affine: np.ndarray) -> Rows:
    probability = findings.lesion.astype(np.float32)
    return measure(findings, probability, affine)


def same(one: dict[str, object], other: dict[str, object]) -> bool:
    """Compare rows: labels and None exactly, numbers up to rounding."""
    return all(
        other[name] == (pytest.approx(value, rel=1e-6, abs=1e-4) if is_number(value) else value)
        for name, value in one.items()
    )


def is_number(value: object) -> bool:
    return isinstance(value, float | tuple)
