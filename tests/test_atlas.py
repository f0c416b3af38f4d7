"""Cord coordinates and the way to a template, on cords whose deformation is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cords
import nibabel as nib
import numpy as np
import pytest
from cords import Bend, dice, in_cord, world

from bids_app.lesions.atlas import (
    Passage,
    Template,
    TemplateCord,
    carry_mask,
    passage,
    template_cord,
    tissue_of,
)
from bids_app.lesions.centerline import trace_centerline
from bids_app.lesions.cord_coordinates import cord_coordinates
from bids_app.lesions.levels import level_axis

Inside = Callable[[np.ndarray], np.ndarray]
HALF_MM = np.array([1.8, 1.5, 5.0])
# Templates' world: left before, right behind, near the surface, in the middle.
CENTERS = ([-3.0, 1.0, 5.0], [3.0, -1.5, 0.0], [0.0, 2.0, -12.0], [0.5, 0.0, 18.0])
GRIDS = {
    "isotropic": (0.6, 0.6, 0.6),
    "1 mm": (1.0, 1.0, 1.0),
    "sagittal, thick": (2.5, 0.7, 0.7),
    "axial, thick": (0.5, 0.5, 4.0),
}


@pytest.fixture(scope="module")
def target() -> TemplateCord:
    return template_cord(cords.template())


def lesion_at(center: list[float]) -> Inside:
    return lambda p: (np.sum(np.square((p - center) / HALF_MM), axis=1) <= 1) & in_cord(p)


class Subject:
    """A bent copy of the template, cut out of it between two heights."""

    def __init__(
        self,
        bend: Bend,
        spacing: tuple[float, float, float],
        low: float = -45,
        high: float = 45,
        inside: Inside = in_cord,
    ) -> None:
        self.bend, self.spacing = bend, np.array(spacing)
        ends = np.array(np.meshgrid([-8, 8], [-7, 7], np.linspace(low, high, 31)))
        corners = bend.to_subject(ends.reshape(3, -1).T)
        self.affine = np.diag([*spacing, 1.0])
        self.affine[:3, 3] = corners.min(axis=0)
        self.shape = tuple(np.ceil(np.ptp(corners, axis=0) / spacing).astype(int))
        self.back = bend.to_template(world(self.shape, self.affine))
        cut = (self.back[:, 2] >= low) & (self.back[:, 2] <= high)
        self.cord = (inside(self.back) & cut).reshape(self.shape)

    def paint(self, inside: Inside) -> np.ndarray:
        return inside(self.back).reshape(self.shape) & self.cord

    def way(self, target: TemplateCord, numbers: tuple[int, ...] = ()) -> Passage | None:
        discs = {
            number: self.bend.to_subject(point[None])[0]
            for number, point in target.template.discs_mm.items()
            if not numbers or number in numbers
        }
        return passage(
            self.cord, level_axis(trace_centerline(self.cord, self.affine), discs), target
        )


@pytest.mark.parametrize("spacing", GRIDS.values(), ids=GRIDS)
def test_coordinates_and_back(spacing: tuple[float, float, float]) -> None:
    subject = Subject(Bend(), spacing)
    line = trace_centerline(subject.cord, subject.affine)
    coordinates = cord_coordinates(subject.cord, line)
    points = world(subject.shape, subject.affine)[subject.cord.ravel()]
    places = coordinates.locate(points)
    error = np.linalg.norm(coordinates.points(places) - points, axis=1)
    # At ends that are cut obliquely the centreline bends most.
    assert np.quantile(error, 0.98) < 0.05
    assert error.max() < 0.5
    # A disc's mean radius is two thirds of its own.
    assert places.radius.mean() == pytest.approx(2 / 3, abs=0.02)
    assert np.quantile(places.radius, 0.99) < 1.05


@pytest.mark.parametrize("roll", [-20.0, 0.0, 15.0])
def test_the_roll_of_the_cord_is_found(roll: float) -> None:
    subject = Subject(Bend(roll_deg=roll), (0.6, 0.6, 0.6))
    line = trace_centerline(subject.cord, subject.affine)
    right = cord_coordinates(subject.cord, line).right
    found = np.rad2deg(np.arctan2(right @ line.frame.anterior, right @ line.frame.right))
    assert np.abs(found - roll).max() < 4


def test_a_round_cord_has_the_patients_axes() -> None:
    round_cord = lambda p: np.hypot(p[:, 0], p[:, 1]) <= 5  # noqa: E731
    subject = Subject(Bend((1, 1, 1), 0, 200, 5), (0.5, 0.5, 0.5), inside=round_cord)
    line = trace_centerline(subject.cord, subject.affine)
    right = cord_coordinates(subject.cord, line).right
    assert np.rad2deg(np.abs(np.arcsin(right @ line.frame.anterior))).max() < 5


def test_the_template_maps_onto_itself(target: TemplateCord) -> None:
    template = target.template
    axis = level_axis(target.line, template.discs_mm)
    way = passage(template.cord, axis, target)
    assert way is not None
    lesion = np.zeros(template.cord.shape, dtype=bool)
    for center in CENTERS:
        lesion |= lesion_at(center)(world(cords.SHAPE, cords.AFFINE)).reshape(cords.SHAPE)
    carried, covered = carry_mask(lesion, template.affine, way)
    np.testing.assert_array_equal(carried, lesion)
    np.testing.assert_array_equal(covered, template.cord)


@pytest.mark.parametrize("spacing", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("center", CENTERS, ids=str)
def test_a_lesion_of_a_bent_cord_comes_home(
    target: TemplateCord, spacing: tuple[float, float, float], center: list[float]
) -> None:
    subject = Subject(Bend(), spacing)
    way = subject.way(target)
    assert way is not None
    carried, covered = carry_mask(subject.paint(lesion_at(center)), subject.affine, way)
    expected = lesion_at(center)(world(cords.SHAPE, cords.AFFINE)).reshape(cords.SHAPE)
    assert dice(carried, expected) > (0.65 if min(spacing) == max(spacing) else 0.5)
    points = world(cords.SHAPE, cords.AFFINE)
    off = points[carried.ravel()].mean(axis=0) - points[expected.ravel()].mean(axis=0)
    assert np.linalg.norm(off) < (0.7 if min(spacing) == max(spacing) else 1.4)
    assert not (carried & ~covered).any()


def test_points_come_home_within_half_a_millimetre(target: TemplateCord) -> None:
    subject = Subject(Bend(), (0.6, 0.6, 0.6))
    way = subject.way(target)
    assert way is not None
    points = target.voxels @ cords.AFFINE[:3, :3].T + cords.AFFINE[:3, 3]
    points = points[np.abs(points[:, 2]) < 42]
    error = np.linalg.norm(way.to_template(subject.bend.to_subject(points)) - points, axis=1)
    assert error.mean() < 0.4
    assert np.quantile(error, 0.95) < 0.8


def test_what_the_subject_does_not_show_is_not_covered(target: TemplateCord) -> None:
    subject = Subject(Bend(), (0.8, 0.8, 0.8), low=-20, high=25)
    way = subject.way(target)
    assert way is not None
    _, covered = carry_mask(np.zeros(subject.shape, dtype=bool), subject.affine, way)
    heights = world(cords.SHAPE, cords.AFFINE)[covered.ravel(), 2]
    assert heights.min() == pytest.approx(-20, abs=2.1)
    assert heights.max() == pytest.approx(25, abs=2.1)


@pytest.mark.parametrize("end", ["right", "left"])
def test_half_a_field_of_view_covers_half_the_cord(target: TemplateCord, end: str) -> None:
    """Indices below zero are as far outside as those beyond the last voxel."""
    subject = Subject(Bend(), (0.8, 0.8, 0.8))
    way = subject.way(target)
    assert way is not None
    middle = subject.shape[0] // 2
    affine = subject.affine.copy()
    shape = (middle, *subject.shape[1:])
    if end == "left":
        affine[:3, 3] += middle * affine[:3, 0]
        shape = (subject.shape[0] - middle, *subject.shape[1:])
    whole = carry_mask(np.ones(subject.shape, dtype=bool), subject.affine, way)[1]
    lesion, covered = carry_mask(np.ones(shape, dtype=bool), affine, way)
    assert np.array_equal(lesion, covered)
    assert not (covered & ~whole).any()
    assert np.count_nonzero(covered) == pytest.approx(np.count_nonzero(whole) / 2, rel=0.25)


def test_two_discs_reach_a_level_beyond(target: TemplateCord) -> None:
    subject = Subject(Bend(), (0.8, 0.8, 0.8))
    way = subject.way(target, numbers=(4, 5))
    assert way is not None
    _, covered = carry_mask(np.zeros(subject.shape, dtype=bool), subject.affine, way)
    heights = world(cords.SHAPE, cords.AFFINE)[covered.ravel(), 2]
    # Discs 4 and 5 lie at 10 and -10 mm; a level is 20 mm.
    assert (heights.min(), heights.max()) == pytest.approx((-30, 30), abs=2.1)


@pytest.mark.parametrize("numbers", [(3,), (15, 16)], ids=["one disc", "none in the template"])
def test_too_few_common_discs_give_no_way(target: TemplateCord, numbers: tuple[int, ...]) -> None:
    subject = Subject(Bend(), (1.0, 1.0, 1.0))
    places = zip(numbers, cords.DISCS.values(), strict=False)
    discs = {number: subject.bend.to_subject(point[None])[0] for number, point in places}
    axis = level_axis(trace_centerline(subject.cord, subject.affine), discs)
    assert passage(subject.cord, axis, target) is None


def test_tissue_and_sides(target: TemplateCord) -> None:
    subject = Subject(Bend(), (0.6, 0.6, 0.6))
    way = subject.way(target)
    assert way is not None

    def tissue(inside: Inside) -> tuple[float, float, str | None, float]:
        found = tissue_of(np.argwhere(subject.paint(inside)), subject.affine, way)
        assert found.white is not None and found.grey is not None
        assert found.white + found.grey == pytest.approx(1)
        assert sum(found.regions.values()) == pytest.approx(1)
        return found.white, found.grey, found.tract, found.tract_fraction or 0

    white, _, tract, share = tissue(lambda p: in_cord(p) & (p[:, 0] < -4) & (np.abs(p[:, 2]) < 9))
    assert (white > 0.97, tract, share > 0.97) == (True, "left tract", True)
    _, _, tract, share = tissue(lambda p: in_cord(p) & (p[:, 0] > 4) & (np.abs(p[:, 2]) < 9))
    assert (tract, share > 0.97) == ("right tract, all", True)
    _, grey, _, _ = tissue(lambda p: np.sum((p / [2, 1.2, 6]) ** 2, axis=1) <= 1)
    assert grey > 0.95
    # Across the whole section: as in the template, whose voxels are large for a quarter.
    masks = cords.tissues()
    expected = masks["gm"].sum() / (masks["gm"].sum() + masks["wm"].sum())
    _, grey, _, share = tissue(lambda p: in_cord(p) & (np.abs(p[:, 2]) < 10))
    assert grey == pytest.approx(expected, abs=0.03)
    assert share == pytest.approx((1 - expected) / 2, abs=0.05)


def test_a_lesion_beyond_known_levels_has_no_tissue(target: TemplateCord) -> None:
    subject = Subject(Bend(), (0.8, 0.8, 0.8))
    way = subject.way(target, numbers=(2, 3))
    assert way is not None
    voxels = np.argwhere(subject.paint(lesion_at([0.0, 0.0, -20.0])))
    found = tissue_of(voxels, subject.affine, way)
    assert (found.white, found.grey, found.tract, dict(found.regions)) == (None, None, None, {})


def test_a_template_without_maps_tells_no_tissue() -> None:
    full = cords.template()
    bare = template_cord(Template(full.cord, full.affine, full.discs_mm))
    subject = Subject(Bend(), (1.0, 1.0, 1.0))
    way = subject.way(bare)
    assert way is not None
    found = tissue_of(np.argwhere(subject.cord), subject.affine, way)
    assert (found.white, found.grey, found.tract) == (None, None, None)


@pytest.mark.parametrize("axes", ["LPI", "PSR", "ASL"])
def test_storage_changes_nothing(target: TemplateCord, axes: str) -> None:
    subject = Subject(Bend(), (1.0, 1.0, 1.0))
    lesion = subject.paint(lesion_at(CENTERS[0]))
    way = subject.way(target)
    assert way is not None
    expected, _ = carry_mask(lesion, subject.affine, way)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(subject.affine), nib.orientations.axcodes2ornt(axes)
    )
    affine = subject.affine @ nib.orientations.inv_ornt_aff(turn, subject.shape)
    subject.cord = nib.orientations.apply_orientation(subject.cord, turn)
    subject.affine = affine
    way = subject.way(target)
    assert way is not None
    stored = nib.orientations.apply_orientation(lesion, turn)
    carried, _ = carry_mask(stored, affine, way)
    # Ties of the nearest neighbour may fall to the other side.
    assert dice(carried, expected) > 0.97


def _small(real: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    path = real / "template" / f"PAM50_small_{name}.nii.gz"
    if not path.is_file():
        pytest.skip("the small PAM50 is not here")
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def test_pam50_maps_onto_itself(real: Path) -> None:
    cord, affine = _small(real, "cord")
    labels, _ = _small(real, "label_disc")
    discs = {
        int(labels[tuple(voxel)]): voxel @ affine[:3, :3].T + affine[:3, 3]
        for voxel in np.argwhere(labels)
    }
    target = template_cord(Template(cord >= 0.5, affine, discs))
    way = passage(cord >= 0.5, level_axis(target.line, discs), target)
    assert way is not None
    points = target.voxels @ affine[:3, :3].T + affine[:3, 3]
    moved = way.to_template(points)
    placed = np.isfinite(moved).all(axis=1)
    assert placed.mean() > 0.95
    assert np.linalg.norm(moved - points, axis=1)[placed].mean() < 0.01
    lesion = np.zeros(cord.shape, dtype=bool)
    lesion[tuple(target.voxels[np.linalg.norm(points - [2, -1, 100], axis=1) < 3].T)] = True
    carried, _ = carry_mask(lesion, affine, way)
    np.testing.assert_array_equal(carried, lesion)
