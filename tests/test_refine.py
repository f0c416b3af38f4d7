"""Refining: each rule on a volume made by hand, and what holds for any input."""

from __future__ import annotations

from functools import partial
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from bids_app.lesions.cord import dilate, keep_course
from bids_app.lesions.preset import Preset
from bids_app.lesions.refine import refine
from bids_app.records import BoolArray, Findings, FloatArray

UNIT = (1.0, 1.0, 1.0)
# Half-way thresholds make the cases below easy to check by hand.
halfway = partial(Preset, lesion_threshold=0.5, min_peak_probability=0.5)
ANY = halfway(min_lesion_volume_mm3=0)


def column(shape: tuple[int, int, int] = (20, 20, 60)) -> FloatArray:
    """A cord of 6 x 6 voxels along the last axis."""
    cord = np.zeros(shape)
    cord[7:13, 7:13, :] = 1
    return cord


def spots(*values: tuple[tuple[slice | int, ...], float], shape=(20, 20, 60)) -> FloatArray:
    lesion = np.zeros(shape)
    for where, value in values:
        lesion[where] = value
    return lesion


def test_lesions_are_numbered_from_the_largest() -> None:
    lesion = spots((np.s_[8, 8, 2:4], 0.9), (np.s_[8, 8, 10:15], 0.8), (np.s_[10, 10, 20:22], 0.7))
    found = refine(column(), lesion, UNIT, ANY)
    assert found.instances[8, 8, 10] == 1
    assert found.instances[8, 8, 2] == 2
    assert found.instances[10, 10, 20] == 3
    assert found.instances.max() == 3


@pytest.mark.parametrize(
    ("preset", "kept"),
    [
        (ANY, 4),
        (halfway(min_lesion_volume_mm3=1.5), 3),
        (halfway(min_lesion_volume_mm3=1.2), 3),
        (halfway(min_lesion_volume_mm3=0, min_lesion_voxels=5), 3),
        (halfway(min_lesion_volume_mm3=0, min_peak_probability=0.75), 2),
        (halfway(min_lesion_volume_mm3=0, lesion_threshold=0.7), 3),
        (halfway(min_lesion_volume_mm3=2.4, min_peak_probability=0.75), 1),
    ],
)
def test_each_limit_on_its_own(preset: Preset, kept: int) -> None:
    # Voxels of 0.3 mm3: lesions of 2, 5, 8 and 5 voxels (with 0.6, 1.5, 2.4 and 1.5 mm3).
    lesion = spots(
        (np.s_[8, 8, 2:4], 0.9),
        (np.s_[8, 8, 10:15], 0.6),
        (np.s_[8, 8, 20:28], 0.8),
        (np.s_[8, 8, 40:45], 0.7),
    )
    found = refine(column(), lesion, (0.5, 0.6, 1.0), preset)
    assert found.instances.max() == kept


def test_a_limit_is_reached_not_passed() -> None:
    lesion = spots((np.s_[8, 8, 2:4], 0.5))
    assert refine(column(), lesion, UNIT, halfway(min_lesion_volume_mm3=2)).instances.max() == 1
    assert refine(column(), lesion, UNIT, halfway(min_lesion_volume_mm3=2.1)).instances.max() == 0


@pytest.mark.parametrize(("connectivity", "count"), [(6, 3), (18, 2), (26, 1)])
def test_connectivity(connectivity: int, count: int) -> None:
    lesion = spots((np.s_[8, 8, 8], 1), (np.s_[9, 9, 8], 1), (np.s_[10, 10, 9], 1))
    preset = halfway(min_lesion_volume_mm3=0, connectivity=connectivity)
    assert refine(column(), lesion, UNIT, preset).instances.max() == count


@pytest.mark.parametrize(
    ("dilation_mm", "spacing_mm", "voxels"),
    [(0, UNIT, 2), (1, UNIT, 3), (2, UNIT, 4), (2, (0.5, 1.0, 1.0), 6), (1.9, UNIT, 3)],
)
def test_lesions_are_cut_at_the_dilated_cord(
    dilation_mm: float, spacing_mm: tuple[float, float, float], voxels: int
) -> None:
    lesion = spots((np.s_[11:20, 9, 30], 1))  # two voxels in the cord, the rest outside
    preset = halfway(min_lesion_volume_mm3=0, cord_dilation_mm=dilation_mm)
    found = refine(column(), lesion, spacing_mm, preset)
    assert found.lesion.sum() == voxels
    assert (found.cord | ~found.lesion).all()


def test_a_lesion_near_the_cord_joins_it() -> None:
    lesion = spots((np.s_[14, 9, 30:33], 1))  # one voxel of background between
    found = refine(column(), lesion, UNIT, halfway(min_lesion_volume_mm3=0, cord_dilation_mm=2))
    assert found.lesion.sum() == 3
    assert found.cord[14, 9, 31]


def test_holes_are_filled_when_the_preset_says_so() -> None:
    cord = column()
    cord[9:11, 9:11, 30:32] = 0
    filled = refine(cord, np.zeros_like(cord), UNIT, ANY)
    assert filled.cord.sum() == 36 * 60
    left = refine(cord, np.zeros_like(cord), UNIT, halfway(fill_holes=False))
    assert left.cord.sum() == 36 * 60 - 8


def test_no_cord_means_no_lesion() -> None:
    found = refine(np.full((4, 4, 4), 0.4), np.ones((4, 4, 4)), UNIT, ANY)
    assert not found.cord.any()
    assert not found.lesion.any()
    assert found.instances.max() == 0


def test_not_a_number_counts_as_nothing() -> None:
    cord = column()
    cord[0] = np.nan
    found = refine(cord, np.full_like(cord, np.nan), UNIT, ANY)
    assert found.cord.sum() == 36 * 60
    assert not found.lesion.any()


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="of one shape"):
        refine(np.zeros((3, 3, 3)), np.zeros((3, 3, 4)), UNIT, ANY)


def course(*boxes: tuple[slice, slice, slice], shape=(60, 60, 100)) -> BoolArray:
    mask = np.zeros(shape, dtype=bool)
    for box in boxes:
        mask[box] = True
    return mask


MAIN = np.s_[20:30, 20:30, 10:60]
COURSES = {
    "a break of two slices": (np.s_[20:30, 20:30, 62:80], True),
    "a long gap, bent a little": (np.s_[26:36, 20:30, 85:100], True),
    "a stray in a vertebra": (np.s_[20:30, 34:40, 30:40], False),
    "a stray beyond the end, far aside": (np.s_[50:60, 50:60, 70:90], False),
    "a stray as long as half the cord": (np.s_[45:55, 20:30, 15:45], False),
    "a speck on the course": (np.s_[24:26, 24:26, 70:72], False),
    "a slab of 6 mm, 2 cm beyond the end": (np.s_[20:30, 20:30, 80:86], False),
    "a stretch of 12 mm, 2 cm beyond the end": (np.s_[20:30, 20:30, 80:92], True),
    "touching by a corner": (np.s_[30:34, 30:34, 60:70], True),
}


@pytest.mark.parametrize("case", COURSES)
def test_pieces_that_continue_the_cord(case: str) -> None:
    box, kept = COURSES[case]
    mask = keep_course(course(MAIN, box), UNIT)
    assert mask[MAIN].all()
    assert mask[box].all() == kept
    assert mask[box].any() == kept


def test_a_cord_in_many_pieces_is_linked_piece_by_piece() -> None:
    pieces = [np.s_[20:26, 20:26, z : z + 25] for z in (0, 40, 80, 120)]
    mask = course(*pieces, shape=(40, 40, 150))
    assert keep_course(mask, UNIT).sum() == mask.sum()


def test_thick_slices_without_a_course() -> None:
    # Two slices of 5 mm, one lost, two more; a stray 24 mm aside.
    mask = np.zeros((60, 60, 5), dtype=bool)
    mask[10:22, 10:20, [0, 1, 3, 4]] = True
    stray = mask.copy()
    stray[46:50, 10:20, 1] = True
    assert (keep_course(stray, (1.0, 1.0, 5.0)) == mask).all()


def test_a_stray_piece_takes_its_lesion_with_it() -> None:
    cord = course(MAIN, COURSES["a stray in a vertebra"][0]).astype(float)
    lesion = np.zeros_like(cord)
    lesion[22:26, 35:38, 32:36] = 1
    assert not refine(cord, lesion, UNIT, ANY).lesion.any()
    everything = halfway(min_lesion_volume_mm3=0, keep_largest_cord=False)
    assert refine(cord, lesion, UNIT, everything).lesion.sum() == 48


PRESETS = st.builds(
    Preset,
    lesion_threshold=st.sampled_from([0.3, 0.5]),
    min_peak_probability=st.sampled_from([0.5, 0.8]),
    cord_dilation_mm=st.sampled_from([0.0, 1.0, 2.3]),
    min_lesion_volume_mm3=st.sampled_from([0.0, 2.0]),
    connectivity=st.sampled_from([6, 18, 26]),
    fill_holes=st.booleans(),
    keep_largest_cord=st.booleans(),
)
SPACINGS = st.tuples(*[st.sampled_from([0.7, 1.0, 3.0])] * 3)
LEVELS = st.sampled_from([0.0, 0.0, 0.3, 0.6, 1.0])


@st.composite
def images(draw: st.DrawFn) -> tuple[FloatArray, FloatArray]:
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    return draw(arrays(float, shape, elements=LEVELS)), draw(arrays(float, shape, elements=LEVELS))


@settings(max_examples=150, deadline=None)
@given(images(), SPACINGS, PRESETS)
def test_what_always_holds(
    pair: tuple[FloatArray, FloatArray], spacing: tuple[float, float, float], preset: Preset
) -> None:
    cord, lesion = pair
    found = refine(cord, lesion, spacing, preset)
    fill = ndimage.binary_fill_holes if preset.fill_holes else np.asarray
    allowed = fill(dilate(fill(cord >= 0.5), preset.cord_dilation_mm, spacing))
    assert not (found.cord & ~allowed).any()
    assert not (found.lesion & ~(lesion >= preset.lesion_threshold)).any()
    assert not (found.lesion & ~found.cord).any()
    assert ((found.instances > 0) == found.lesion).all()
    numbers = np.unique(found.instances[found.lesion])
    assert numbers.tolist() == list(range(1, len(numbers) + 1))
    again = refine(found.cord.astype(float), found.lesion.astype(float), spacing, preset)
    assert (again.cord == found.cord).all()
    assert (again.instances == found.instances).all()


@settings(max_examples=60, deadline=None)
@given(
    images(),
    SPACINGS,
    PRESETS,
    st.sampled_from(list(permutations(range(3)))),
    st.sets(st.integers(0, 2)),
)
def test_axes_do_not_matter(
    pair: tuple[FloatArray, FloatArray],
    spacing: tuple[float, float, float],
    preset: Preset,
    order: tuple[int, int, int],
    flips: set[int],
) -> None:
    def turn(image: np.ndarray) -> np.ndarray:
        return np.flip(image.transpose(order), tuple(flips))

    straight = refine(*pair, spacing, preset)
    turned = refine(
        turn(pair[0]),
        turn(pair[1]),
        (spacing[order[0]], spacing[order[1]], spacing[order[2]]),
        preset,
    )
    assert (turned.cord == turn(straight.cord)).all()
    assert (turned.lesion == turn(straight.lesion)).all()
    assert _partition(turned.instances) == _partition(turn(straight.instances))


def _partition(instances: np.ndarray) -> set[frozenset[int]]:
    flat = instances.ravel()
    return {frozenset(np.flatnonzero(flat == i).tolist()) for i in np.unique(flat) if i}


@pytest.mark.parametrize("shape", [(1, 1, 1), (0, 3, 3)])
def test_smallest_images(shape: tuple[int, int, int]) -> None:
    found: Findings = refine(np.ones(shape), np.ones(shape), UNIT, ANY)
    assert found.lesion.sum() == np.prod(shape)
