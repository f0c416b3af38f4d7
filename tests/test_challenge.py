"""The shipped challenge presets: each rule on a volume made by hand, on both sides of its limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bids_app.lesions.fusion import fuse
from bids_app.lesions.measure import measure
from bids_app.lesions.preset import load_preset, preset_names
from bids_app.lesions.refine import refine
from bids_app.records import Findings, FloatArray, Segmentation

SHAPE = (24, 24, 60)
UNIT = (1.0, 1.0, 1.0)
Place = tuple[slice, slice, slice]
Lesion = Callable[[FloatArray], None]


def cord(where: slice = np.s_[:]) -> FloatArray:
    """A cord of 6 x 6 voxels along the last axis, at 9 to 14."""
    mask = np.zeros(SHAPE, np.float32)
    mask[9:15, 9:15, where] = 1
    return mask


def soft(*blocks: tuple[Place, float]) -> FloatArray:
    """Blocks one over the other."""
    lesion = np.zeros(SHAPE, np.float32)
    for place, value in blocks:
        lesion[place] = value
    return lesion


def reading(lesion: FloatArray, where: slice = np.s_[:]) -> Segmentation:
    return Segmentation(cord(where), lesion, np.zeros(SHAPE, np.float32))


def run(
    name: str, second: str | None, *readings: Segmentation
) -> tuple[Findings, Segmentation, int]:
    """Go through the chain as the pipeline does; the number of lesions comes last."""
    rules = load_preset(name).for_contrast(second)
    fused = fuse(readings, UNIT, rules)
    found = refine(fused.cord, fused.lesion, UNIT, rules, fused.reach)
    return found, fused, int(found.instances.max())


# Multimodal: a map of votes / folds.

LARGE = np.s_[10:13, 10:13, 20:24]  # 36 voxels


@pytest.mark.parametrize("second", ["PSIR", "UNIT1", "T1w", None])
@pytest.mark.parametrize(("votes", "kept"), [(1, 0), (2, 0), (3, 36), (4, 36), (5, 36)])
def test_three_votes_of_five(second: str | None, votes: int, kept: int) -> None:
    found, _, _ = run("challenge-multimodal", second, reading(soft((LARGE, votes / 5))))
    assert found.lesion.sum() == kept


@pytest.mark.parametrize(("votes", "kept"), [(0, 1), (1, 36)])
def test_stir_needs_one_vote_of_five(votes: int, kept: int) -> None:
    lesion = soft((LARGE, votes / 5), (np.s_[11:12, 11:12, 21:22], 1))
    rules = load_preset("challenge-multimodal").for_contrast("STIR")
    # One voxel alone would be too small; what counts here is which voxels are lesion.
    assert (lesion >= np.float32(rules.lesion_limit)).sum() == kept
    found, _, count = run("challenge-multimodal", "STIR", reading(lesion))
    assert (found.lesion.sum(), count) == ((36, 1) if kept == 36 else (0, 0))


@pytest.mark.parametrize(
    ("folds", "votes", "psir", "stir"),
    [
        (1, 1, True, True),
        (2, 1, False, True),
        (2, 2, True, True),
        (3, 1, False, True),
        (3, 2, True, True),
        (4, 2, False, True),
        (4, 3, True, True),
        (10, 5, False, True),
        (10, 6, True, True),
        (10, 2, False, False),
    ],
)
def test_other_numbers_of_folds_need_the_same_share(
    folds: int, votes: int, psir: bool, stir: bool
) -> None:
    # Two of ten are the share that STIR needs, but no peak of 0.3.
    lesion = soft((LARGE, np.float32(votes) / np.float32(folds)))
    for second, kept in (("PSIR", psir), ("STIR", stir)):
        _, _, count = run("challenge-multimodal", second, reading(lesion))
        assert count == kept


@pytest.mark.parametrize(("peak", "count"), [(0.2, 0), (0.4, 1)])
def test_multimodal_peak(peak: float, count: int) -> None:
    lesion = soft((LARGE, 0.2), (np.s_[11:12, 11:12, 21:22], peak))
    found, _, lesions = run("challenge-multimodal", "STIR", reading(lesion))
    assert lesions == count
    assert found.lesion.sum() == 36 * count


@pytest.mark.parametrize(("voxels", "count"), [(17, 0), (18, 1)])
def test_multimodal_size(voxels: int, count: int) -> None:
    lesion = soft((np.s_[10:11, 10:11, 20 : 20 + voxels], 1))
    assert run("challenge-multimodal", "PSIR", reading(lesion))[2] == count


@pytest.mark.parametrize("name", ["challenge-multimodal", "challenge-monomodal"])
def test_lesions_are_cut_at_two_millimetres_from_the_cord(name: str) -> None:
    lesion = soft((np.s_[12:22, 11:12, 5:55], 1))  # from inside the cord far out
    found, _, _ = run(name, "PSIR", reading(lesion))
    reached = np.flatnonzero(found.lesion[:, 11, 30])
    assert reached.tolist() == [12, 13, 14, 15, 16]  # the cord ends at 14


def test_multimodal_is_cut_before_sizes_count() -> None:
    lesion = soft((np.s_[16:18, 11:12, 20:37], 1))  # 34 voxels, 17 of them within reach
    assert run("challenge-multimodal", "PSIR", reading(lesion))[2] == 0
    lesion = soft((np.s_[16:18, 11:12, 20:38], 1))
    found, _, count = run("challenge-multimodal", "PSIR", reading(lesion))
    assert (count, found.lesion.sum()) == (1, 18)


def test_multimodal_is_cut_before_peaks_count() -> None:
    lesion = soft((np.s_[15:17, 11:13, 20:30], 0.2), (np.s_[17:18, 11:12, 20:30], 1))
    assert run("challenge-multimodal", "STIR", reading(lesion))[2] == 0


EDGE = (np.s_[10:12, 10:12, 20:26], np.s_[12:14, 12:14, 20:26])  # 24 voxels each, one edge


def test_multimodal_neighbours() -> None:
    lesion = soft((EDGE[0], 1), (EDGE[1], 1))
    assert run("challenge-multimodal", "PSIR", reading(lesion))[2] == 2
    # Joined they would have 24 voxels; by faces they are two of 12, too small.
    small = [np.s_[10:12, 10:12, 20:23], np.s_[12:14, 12:14, 20:23]]
    assert run("challenge-multimodal", "PSIR", reading(soft(*((b, 1) for b in small))))[2] == 0


def test_the_probability_of_a_lesion_is_its_mean_value() -> None:
    halves = (np.s_[10:13, 10:13, 20:23], np.s_[10:13, 10:13, 23:26])
    found, fused, _ = run(
        "challenge-multimodal", "PSIR", reading(soft((halves[0], 0.6), (halves[1], 1)))
    )
    (lesion,), _ = measure(found, fused.lesion, np.eye(4))
    assert lesion.mean_probability == pytest.approx(0.8)
    assert lesion.max_probability == 1

    pair = soft((halves[0], 0.8), (halves[1], 0.8)), soft((halves[0], 1), (halves[1], 0.8))
    found, fused, _ = run("challenge-monomodal", "PSIR", *map(reading, pair))
    (lesion,), _ = measure(found, fused.lesion, np.eye(4))
    assert lesion.mean_probability == pytest.approx(0.85)


# Monomodal: a map of votes / folds for each contrast.

BIG = np.s_[10:14, 10:14, 20:24]  # 64 voxels
NOTHING = soft()


@pytest.mark.parametrize(("bridge", "voxels"), [(0.09, 64), (0.1, 128)])
def test_monomodal_low_values_are_set_to_zero_before_components(bridge: float, voxels: int) -> None:
    # A second block that never reaches 0.8 lives by its bridge to one that does.
    other = np.s_[10:14, 10:14, 30:34]
    lesion = soft((np.s_[11:12, 11:12, 24:30], bridge), (BIG, 1), (other, 0.6))
    found, _, _ = run("challenge-monomodal", None, reading(lesion))
    assert found.lesion.sum() == voxels


def test_monomodal_zeros_are_written() -> None:
    lesion = soft((BIG, 1), (np.s_[10:14, 10:14, 24:25], 0.09), (np.s_[10:14, 10:14, 19:20], 0.1))
    _, fused, _ = run("challenge-monomodal", None, reading(lesion))
    assert fused.lesion[11, 11, 24] == 0
    assert fused.lesion[11, 11, 19] == np.float32(0.1)


@pytest.mark.parametrize(("peak", "count"), [(0.79, 0), (0.8, 1)])
def test_monomodal_peak_in_a_single_contrast(peak: float, count: int) -> None:
    lesion = soft((BIG, 0.6), (np.s_[11:12, 11:12, 21:22], peak))
    assert run("challenge-monomodal", None, reading(lesion))[2] == count


@pytest.mark.parametrize(
    ("first", "second", "voxels"),
    [
        (1.0, 0.6, 64),  # 0.6 is dropped in its contrast: (1 + 0) / 2 is just enough
        (0.8, 0.6, 0),  # the same: 0.4, where merging first would give 0.7
        (0.6, 0.8, 0),
        (0.6, 0.6, 0),
        (0.8, 0.8, 64),
        (0.8, 0.0, 0),
        (1.0, 0.0, 64),
    ],
)
def test_monomodal_peaks_count_before_the_contrasts_are_merged(
    first: float, second: float, voxels: int
) -> None:
    pair = (reading(soft((BIG, value))) for value in (first, second))
    found, _, _ = run("challenge-monomodal", "PSIR", *pair)
    assert found.lesion.sum() == voxels


@pytest.mark.parametrize(("low", "kept"), [(0.2, 64), (0.15, 16)])
def test_monomodal_merged_map_counts_from_one_half(low: float, kept: int) -> None:
    # 0.8 and 0.2 make 0.5; the component of 0.2 lives by a peak elsewhere in its contrast.
    end = np.s_[10:14, 10:14, 23:24]
    first, second = soft((BIG, low), (end, 1)), soft((BIG, 0.8))
    found, fused, _ = run("challenge-monomodal", "PSIR", reading(first), reading(second))
    assert fused.lesion[11, 11, 21] == pytest.approx((low + 0.8) / 2)
    # What is left with 0.15 is too small to be a lesion: 16 of the 64 voxels.
    assert (fused.lesion >= 0.5).sum() == kept
    assert found.lesion.sum() == (64 if kept == 64 else 0)


def test_monomodal_is_cut_before_peaks_count() -> None:
    # The peak lies 3 mm outside the cord.
    lesion = soft((np.s_[13:17, 10:14, 20:24], 0.6), (np.s_[17:18, 10:14, 20:24], 1))
    assert run("challenge-monomodal", None, reading(lesion))[2] == 0
    lesion[16, 11, 21] = 0.8
    assert run("challenge-monomodal", None, reading(lesion))[2] == 1


def test_monomodal_each_contrast_is_cut_at_its_own_cord() -> None:
    lesion = soft((np.s_[10:14, 10:14, 30:50], 1))
    here, gone = reading(NOTHING), reading(lesion, np.s_[:30])
    found, fused, _ = run("challenge-monomodal", "PSIR", here, gone)
    # The second shows cord to 29 and so reaches to 31, where both cover: 1 / 2.
    assert np.flatnonzero(fused.lesion[11, 11]).tolist() == [30, 31]
    assert fused.lesion[11, 11, 30] == 0.5
    assert found.lesion.sum() == 0  # 32 voxels


def test_monomodal_coverage_by_one_contrast_does_not_dilute() -> None:
    lesion = soft((BIG, 0.8), (np.s_[10:14, 10:14, 40:44], 0.8))
    found, fused, _ = run(
        "challenge-monomodal", "PSIR", reading(lesion), reading(NOTHING, np.s_[30:])
    )
    assert fused.lesion[11, 11, 21] == np.float32(0.8)
    assert fused.lesion[11, 11, 41] == np.float32(0.4)
    assert (fused.cord[11, 11] == 1).all()
    assert found.lesion[BIG].all()
    assert found.lesion.sum() == 64


def test_monomodal_disjoint_coverage() -> None:
    low, high = BIG, np.s_[10:14, 10:14, 40:44]
    pair = (reading(soft((low, 0.8)), np.s_[:30]), reading(soft((high, 1)), np.s_[34:]))
    found, fused, count = run("challenge-monomodal", "PSIR", *pair)
    assert count == 2
    assert found.lesion[low].all()
    assert found.lesion[high].all()
    assert fused.lesion[11, 11, 21] == np.float32(0.8)
    # The cord is that of both; the gap of four slices is within reach, but no cord.
    assert found.cord[11, 11].sum() == 56
    assert fused.reach is not None
    assert fused.reach[11, 11].all()


@pytest.mark.parametrize(("voxels", "count"), [(49, 0), (50, 1)])
def test_monomodal_size(voxels: int, count: int) -> None:
    lesion = soft((np.s_[10:11, 10:11, 5 : 5 + voxels], 1))
    assert run("challenge-monomodal", None, reading(lesion))[2] == count
    assert run("challenge-monomodal", "PSIR", reading(lesion), reading(lesion))[2] == count


def test_monomodal_sizes_count_after_the_contrasts_are_merged() -> None:
    # 35 voxels in each contrast, 50 in all: 20 in both, and 15 of each alone at 1 / 2.
    pair = (soft((np.s_[10:11, 10:11, start : start + 35], 1)) for start in (5, 20))
    found, _, count = run("challenge-monomodal", "PSIR", *map(reading, pair))
    assert (count, found.lesion.sum()) == (1, 50)


def test_monomodal_neighbours() -> None:
    blocks = (np.s_[10:12, 10:12, 20:34], np.s_[12:14, 12:14, 20:34])  # 56 voxels each
    assert run("challenge-monomodal", None, reading(soft(*((b, 1) for b in blocks))))[2] == 2
    # By an edge alone a peak in one block does not save the other.
    lesion = soft((blocks[0], 1), (blocks[1], 0.6))
    assert run("challenge-monomodal", None, reading(lesion))[2] == 1


LEVELS = st.sampled_from([0.0, 0.09, 0.2, 0.4, 0.6, 0.8, 1.0])


@st.composite
def anything(draw: st.DrawFn) -> Sequence[Segmentation]:
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    maps = arrays(np.float32, shape, elements=LEVELS.map(np.float32))
    return [
        Segmentation(draw(maps), draw(maps), draw(maps)) for _ in range(draw(st.integers(1, 3)))
    ]


@settings(max_examples=100, deadline=None)
@given(
    anything(),
    st.sampled_from(preset_names()),
    st.sampled_from(["STIR", "UNIT1", None]),
    st.sampled_from([UNIT, (0.5, 0.7, 3.0)]),
)
def test_what_always_holds(
    readings: Sequence[Segmentation],
    name: str,
    second: str | None,
    spacing_mm: tuple[float, float, float],
) -> None:
    rules = load_preset(name).for_contrast(second)
    fused = fuse(readings, spacing_mm, rules)
    for image in (fused.cord, fused.lesion, fused.uncertainty):
        assert image.dtype == np.float32
        assert ((image >= 0) & (image <= 1)).all()
    if fused.reach is not None:
        assert not fused.lesion[~fused.reach].any()
    backwards = fuse(readings[::-1], spacing_mm, rules)
    np.testing.assert_allclose(backwards.lesion, fused.lesion, atol=1e-6)
    found = refine(fused.cord, fused.lesion, spacing_mm, rules, fused.reach)
    assert not (found.lesion & ~found.cord).any()
    assert not (found.lesion & (fused.lesion < np.float32(rules.lesion_limit))).any()
    again = refine(found.cord.astype(float), found.lesion.astype(float), spacing_mm, rules)
    assert (again.cord == found.cord).all()
    assert (again.instances == found.instances).all()


def test_one_reading_is_left_as_it_is_where_no_rule_asks_for_more() -> None:
    alone = reading(soft((np.s_[2:22, 2:22, 20:24], 0.05)))
    assert fuse([alone], UNIT, load_preset("default")) is alone


def test_readings_of_different_grids_are_refused() -> None:
    small = Segmentation(*(np.zeros((2, 2, 2), np.float32) for _ in range(3)))
    for readings in ([], [small, reading(NOTHING)]):
        with pytest.raises(ValueError, match="all on one grid"):
            fuse(readings, UNIT, load_preset("default"))
