"""The level axis: straight, tilted and curved cords whose discs are known, and odd discs."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import SCANS, Grid, arc, grid, paint, tilted_rod

from bids_app.lesions.centerline import trace_centerline
from bids_app.lesions.levels import LevelAxis, level_axis

TILTS = (0.0, 12.0, 25.0)
HEIGHTS_MM = {3: 20.0, 4: 6.0, 5: -6.0, 6: -20.0}


def straight(where: Grid, tilt_deg: float = 0.0, numbers=tuple(HEIGHTS_MM), front_mm=9.0):
    """A cord through the origin, discs in front of it at `HEIGHTS_MM` along it."""
    angle = np.deg2rad(tilt_deg)
    along = np.array([0, np.sin(angle), np.cos(angle)])
    front = np.array([0, np.cos(angle), -np.sin(angle)])
    discs = {n: HEIGHTS_MM[n] * along + front_mm * front for n in numbers}
    line = trace_centerline(paint(where, tilted_rod(5.0, tilt_deg)), where[0])
    return level_axis(line, discs), along, front


def places_mm(axis: LevelAxis) -> dict[int, float]:
    """Where the discs lie, as lengths from the lowest of them."""
    lowest = min(axis.discs_mm.values())
    return {number: place - lowest for number, place in axis.discs_mm.items()}


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("name", SCANS)
def test_discs_lie_where_they_were_put(name: str, tilt: float) -> None:
    axis, along, front = straight(SCANS[name], tilt)
    assert axis.remarks == ()
    expected = {3: 40.0, 4: 26.0, 5: 14.0, 6: 0.0}
    for number, place in places_mm(axis).items():
        assert place == pytest.approx(expected[number], abs=0.3), number
    # All points of a plane across the cord share a coordinate, half-way between discs too.
    for aside in (-4.0, 0.0, 4.0):
        points = np.array([z * along + aside * front for z in (20, 13, 6, 0, -13, -20)])
        np.testing.assert_allclose(axis.at_points(points), [3, 3.5, 4, 4.5, 5.5, 6], atol=0.03)


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 0.5), (0.5, 0.5, 4.0), (3.0, 0.7, 0.7)])
def test_a_curved_cord_is_measured_along_its_arc(spacing: tuple[float, float, float]) -> None:
    bend, front = 90.0, 10.0
    where = grid(spacing=spacing, size_mm=(24, 60, 100))
    line = trace_centerline(paint(where, arc(5.0, bend)), where[0])
    angles = {2: 25.0, 3: 12.0, 5: -3.0, 6: -22.0}

    def point(angle_deg: float, out: float) -> np.ndarray:
        angle = np.deg2rad(angle_deg)
        return np.array([0, (bend + out) * np.cos(angle) - bend, (bend + out) * np.sin(angle)])

    axis = level_axis(line, {n: point(angle, front) for n, angle in angles.items()})
    found = places_mm(axis)
    for number, angle in angles.items():
        assert found[number] == pytest.approx(np.deg2rad(angle + 22) * bend, abs=0.3), number
    # Discs 3 and 5 are 15 degrees apart; disc 4, not labelled, is taken as half-way.
    middle = axis.at_points(np.array([point(4.5, 0.0), point(4.5, 4.0)]))
    np.testing.assert_allclose(middle, 4.0, atol=0.05)
    np.testing.assert_allclose(axis.points_at(np.array([4.0])), [point(4.5, 0.0)], atol=0.6)


def test_beyond_the_discs_one_level_is_told_and_no_more() -> None:
    axis, along, _ = straight(grid(), numbers=(4, 5))
    heights = np.array([6 + 11.9, 6 + 12.1, -6 - 11.9, -6 - 12.1])
    found = axis.at_points(heights[:, None] * along)
    assert np.isnan(found).tolist() == [False, True, False, True]
    assert [axis.name(value) for value in found[[0, 2]]] == ["C3", "C5"]
    assert np.isnan(axis.coordinate).any()
    assert axis.known


def test_nothing_lies_above_the_first_vertebra() -> None:
    where = grid()
    line = trace_centerline(paint(where, tilted_rod(5.0, 0.0)), where[0])
    discs = {1: np.array([0, 0, 10.0]), 2: np.array([0, 0, -4.0])}
    found = level_axis(line, discs).at_points(np.array([[0, 0, 10.5], [0, 0, 9.5], [0, 0, -5]]))
    assert np.isnan(found[0])
    assert [LevelAxis.name(value) for value in found[1:]] == ["C1", "C2"]


def test_a_long_interval_is_extrapolated_by_25_mm_at_most() -> None:
    where = grid(size_mm=(24, 40, 140))
    line = trace_centerline(paint(where, tilted_rod(5.0, 0.0)), where[0])
    axis = level_axis(line, {20: np.array([0, 0, 20.0]), 21: np.array([0, 0, -15.0])})
    found = axis.at_points(np.array([[0, 0, 44.5], [0, 0, 45.5], [0, 0, -39.5], [0, 0, -40.5]]))
    assert np.isnan(found).tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("discs", "words"),
    [
        ({}, "No usable disc label lies beside the cord"),
        ({49: (0, 0, 0.0), 60: (0, 0, 9.0)}, "No usable disc label"),
        ({3: (0, 9, 10.0)}, "Only one disc (3) is labelled"),
        ({3: (0, 9, 0.0), 4: (0, 9, 12.0)}, "out of order (4 does not lie below 3)"),
        ({3: (0, 9, 5.0), 4: (0, 9, 5.0)}, "out of order"),
        ({3: (0, 9, 20.0), 4: (0, 9, -12.0), 5: (0, 9, 3.0)}, "(5 does not lie below 4)"),
        # The rest of the spine's discs, below the field of view.
        ({3: (0, 9, 10.0), 9: (0, 9, -90.0), 10: (0, 9, -120.0)}, "Only one disc (3)"),
    ],
)
def test_discs_that_give_no_levels(discs, words: str) -> None:
    where = grid()
    line = trace_centerline(paint(where, tilted_rod(5.0, 0.0)), where[0])
    axis = level_axis(line, {n: np.array(point, float) for n, point in discs.items()})
    assert not axis.known
    assert len(axis.remarks) == 1
    assert words in axis.remarks[0]
    assert axis.remarks[0].endswith("vertebral levels are n/a.")
    assert np.isnan(axis.at_points(np.zeros((2, 3)))).all()
    assert np.isnan(axis.points_at(np.array([3.5]))).all()
    assert len(axis.coordinate) == len(line.slices)


def test_discs_outside_the_field_of_view_do_no_harm() -> None:
    near, _, _ = straight(grid())
    where = grid()
    line = trace_centerline(paint(where, tilted_rod(5.0, 0.0)), where[0])
    discs = {n: np.array([0, 9.0, z]) for n, z in HEIGHTS_MM.items()}
    discs |= {12: np.array([0, 9.0, -150.0]), 25: np.array([0, 30.0, -400.0])}
    axis = level_axis(line, discs)
    assert axis.discs_mm == near.discs_mm
    assert axis.remarks == ()


def test_labels_of_another_place_and_odd_distances_are_remarked_on() -> None:
    where = grid()
    line = trace_centerline(paint(where, tilted_rod(5.0, 0.0)), where[0])
    discs = {3: np.array([0, 9.0, 12.0]), 4: np.array([0, 90.0, 0]), 5: np.array([0, 9.0, 8.0])}
    axis = level_axis(line, discs)
    assert sorted(axis.discs_mm) == [3, 5]
    assert "Disc labels 4 lie more than 60 mm" in axis.remarks[0]
    assert "unusual distance (2 mm a level from 3 to 5)" in axis.remarks[1]


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 4, 1)])
def test_no_cord_or_one_slice_of_it(shape: tuple[int, int, int]) -> None:
    cord = np.ones(shape, bool) if shape[2] == 1 else np.zeros(shape, bool)
    discs = {3: np.zeros(3), 4: np.array([0, 0, -12.0])}
    axis = level_axis(trace_centerline(cord, np.eye(4)), discs)
    assert not axis.known
    assert "fewer than two slices" in axis.remarks[0]
    assert len(axis.coordinate) == shape[2] % 4


@settings(max_examples=25, deadline=None)
@given(
    axes=st.sampled_from(["RAS", "LPI", "PSR", "SRA", "ILP", "AIR"]),
    tilt=st.floats(-25, 25),
    shift=st.floats(-5, 5),
)
def test_storage_changes_nothing(axes: str, tilt: float, shift: float) -> None:
    found = []
    for letters in ("RAS", axes):
        axis, along, front = straight(grid(letters, (1.0, 1.0, 1.0)), tilt)
        found.append(axis.at_points(np.array([shift * along + 2 * front])))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


@pytest.fixture(scope="module")
def template(real):
    """The toolbox's own template: its cord, levels and affine, and its discs' points."""
    images = {
        name: nib.load(real / "template" / f"PAM50_small_{name}.nii.gz")
        for name in ("cord", "levels", "label_disc")
    }
    affine = images["cord"].affine
    cord, levels, discs = (
        np.asarray(image.dataobj).round().astype(int) for image in images.values()
    )
    points = {int(n): affine[:3] @ [*np.argwhere(discs == n)[0], 1] for n in np.unique(discs) if n}
    return cord > 0, levels, affine, points


def test_levels_of_the_template_agree(template) -> None:
    """Level n reaches from disc n to disc n + 1."""
    cord, levels, affine, points = template
    axis = level_axis(trace_centerline(cord, affine), points)
    voxels = np.argwhere(cord & (levels > 0))
    coordinate = axis.at_points(axis.line.frame.world(voxels))
    agree = np.floor(coordinate) == levels[tuple(voxels.T)]
    assert agree.mean() > 0.94
    # The slices that hold a disc belong to either side in the template; all others agree.
    between = np.abs(coordinate - np.round(coordinate)) > 0.01
    assert agree[between].all()


@pytest.mark.parametrize(
    ("kept", "worst_mm"),
    [(tuple(range(3, 20, 2)), 2.1), ((3, 8, 14, 19), 4.0), ((2, 19), 36.0)],
)
def test_missing_discs_of_the_template(template, kept: tuple[int, ...], worst_mm: float) -> None:
    cord, _, affine, points = template
    axis = level_axis(trace_centerline(cord, affine), {n: points[n] for n in kept})
    missing = [n for n in points if kept[0] < n < kept[-1] and n not in kept]
    told = axis.points_at(np.array(missing, float))
    error = np.linalg.norm(told - [points[n] for n in missing], axis=1)
    assert error.max() < worst_mm
