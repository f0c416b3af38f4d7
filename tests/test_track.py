"""Lesions over sessions: each class on hand-made volumes, identities, coverage, invariants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bids_app.lesions.carry import course_gap_mm
from bids_app.lesions.change import change_limit, volume_class, volume_sd_mm3
from bids_app.lesions.links import find_links
from bids_app.lesions.preset import Preset
from bids_app.lesions.track import track
from bids_app.lesions.track_columns import CHANGES, track_column_names, track_rows
from bids_app.records import TrackedLesion, Visit

PRESET = Preset()
# A lesion as (x, y, z, half-width, half-length) in mm; the cord is 12 mm wide along z.
Box = tuple[float, float, float, float, float]
A: Box = (-2, 0, 30, 2, 5)
B: Box = (2, 0, 60, 2, 5)


def visit(
    *boxes: Box,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    low_mm: float = 0.0,
    high_mm: float = 90.0,
    cord_to_mm: float = 1e9,
    from_first: np.ndarray | None = None,
) -> Visit:
    """Paint a straight cord and boxes in it; `from_first` moves everything but the numbers."""
    size = np.array([30.0, 30.0, high_mm - low_mm])
    shape = np.round(size / spacing).astype(int)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array([-15.0, -15.0, low_mm]) + np.array(spacing) / 2
    index = np.indices(shape).reshape(3, -1).T
    at = index @ affine[:3, :3].T + affine[:3, 3]
    if from_first is not None:
        at = at @ np.linalg.inv(from_first)[:3, :3].T + np.linalg.inv(from_first)[:3, 3]
    cord = (np.hypot(at[:, 0], at[:, 1]) <= 6) & (at[:, 2] < cord_to_mm)
    instances = np.zeros(len(at), dtype=np.int32)
    for number, (x, y, z, half, length) in enumerate(boxes, start=1):
        near = np.abs(at - (x, y, z)) <= (half, half, length)
        instances[near.all(axis=1)] = number
    matrix = np.eye(4) if from_first is None else from_first
    return Visit(instances.reshape(shape), cord.reshape(shape), affine, matrix)


def moved(shift: tuple[float, float, float], turn_deg: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def told(rows: tuple[TrackedLesion, ...]) -> list[tuple[int, int, int | None, str]]:
    return [(row.visit, row.lesion_id, row.index, row.change) for row in rows]


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ((A, B), [(1, 1, 1, "stable"), (1, 2, 2, "stable")]),
        ((A,), [(1, 1, 1, "stable"), (1, 2, None, "resolved")]),
        ((), [(1, 1, None, "resolved"), (1, 2, None, "resolved")]),
        ((A, (2, 0, 60, 3, 9)), [(1, 1, 1, "stable"), (1, 2, 2, "enlarging")]),
        ((A, (2, 0, 60, 1, 4)), [(1, 1, 1, "stable"), (1, 2, 2, "shrinking")]),
        ((A, B, (0, 0, 80, 2, 4)), [(1, 1, 1, "stable"), (1, 2, 2, "stable"), (1, 3, 3, "new")]),
        # Numbers in the label image do not matter.
        ((B, A), [(1, 1, 2, "stable"), (1, 2, 1, "stable")]),
        # One lesion over both places; the earlier ones share 160 mm3 each, the first is first.
        (((0, 0, 45, 4, 21),), [(1, 1, 1, "merged"), (1, 2, None, "merged")]),
        # The lower part is the larger one and keeps the number.
        (
            ((-2, 0, 28, 2, 3), (-2, 0, 34, 2, 1), B),
            [(1, 1, 1, "split"), (1, 2, 3, "stable"), (1, 3, 2, "split")],
        ),
    ],
)
def test_what_becomes_of_two_lesions(later: tuple[Box, ...], expected: object) -> None:
    rows = told(track([visit(A, B), visit(*later)], PRESET))
    assert rows[:2] == [(0, 1, 1, "baseline"), (0, 2, 2, "baseline")]
    assert rows[2:] == expected


def test_links_and_volumes_are_told() -> None:
    rows = track(
        [visit(A, B), visit((-2, 0, 28, 2, 3), (-2, 0, 34, 2, 1), (2, 0, 60, 3, 9))], PRESET
    )
    by = {(row.visit, row.lesion_id): row for row in rows}
    assert by[1, 1].came_from == by[1, 3].came_from == (1,)
    # 4 x 4 x 10 mm before, 4 x 4 x (6 + 2) mm now: the family's volume fell by a fifth.
    assert by[1, 1].volume_before_mm3 == 160
    assert by[1, 1].volume_mm3 == 96
    assert by[1, 1].volume_change_percent == pytest.approx(-20)
    assert by[1, 2].volume_before_mm3 == 160
    assert by[1, 2].volume_mm3 == 6 * 6 * 18
    assert by[1, 2].overlap == 1
    assert by[1, 2].distance_mm == 0
    assert by[1, 2].change_limit_percent is not None
    merged = track([visit(A, B), visit((0, 0, 45, 4, 21))], PRESET)
    assert merged[2].came_from == (1, 2)
    assert (merged[3].merged_into, merged[3].volume_mm3) == (1, None)
    assert merged[3].compared_with == 0


def test_no_lesions_one_session_no_sessions() -> None:
    assert track([visit(), visit()], PRESET) == ()
    assert track([], PRESET) == ()
    assert told(track([visit(A)], PRESET)) == [(0, 1, 1, "baseline")]
    assert told(track([visit(), visit(A)], PRESET)) == [(1, 1, 1, "new")]


def test_outside_the_field_of_view_is_not_resolved_and_what_was_there_before_is_not_new() -> None:
    rows = track([visit(A, B), visit(A, high_mm=45), visit(A, B)], PRESET)
    assert told(rows)[2:] == [
        (1, 1, 1, "stable"),
        (1, 2, None, "not-covered"),
        (2, 1, 1, "stable"),
        (2, 2, 2, "stable"),
    ]
    assert rows[3].covered_fraction == 0
    assert rows[3].volume_mm3 is None
    assert rows[5].compared_with == 0
    first_seen = track([visit(A, high_mm=45), visit(A, B)], PRESET)
    assert told(first_seen)[2] == (1, 2, 2, "baseline")
    # The middle session covered the place and showed nothing.
    new = track([visit(A, high_mm=45), visit(A), visit(A, B, low_mm=20)], PRESET)
    assert told(new)[3] == (2, 2, 2, "new")
    assert new[3].compared_with == 1


def test_where_no_cord_was_found_nothing_is_resolved() -> None:
    rows = told(track([visit(A, B), visit(A, cord_to_mm=45)], PRESET))
    assert rows[3] == (1, 2, None, "not-covered")


def test_a_lesion_cut_by_the_edge_of_the_image_does_not_shrink() -> None:
    long = (0.0, 0.0, 40.0, 3.0, 20.0)
    rows = track([visit(long), visit(long, high_mm=45)], PRESET)
    assert rows[1].change == "stable"
    assert rows[1].volume_mm3 == 6 * 6 * 25
    assert rows[1].volume_before_mm3 == pytest.approx(6 * 6 * 25, rel=0.15)


def test_a_lesion_that_comes_back_is_new_and_keeps_its_number() -> None:
    rows = track([visit(A, B), visit(A), visit(A), visit(A, B)], PRESET)
    assert told(rows)[2:] == [
        (1, 1, 1, "stable"),
        (1, 2, None, "resolved"),
        (2, 1, 1, "stable"),
        (3, 1, 1, "stable"),
        (3, 2, 2, "new"),
    ]
    assert rows[-1].compared_with == 2
    assert rows[-1].came_from == (2,)


def test_a_number_is_never_given_twice() -> None:
    both = (0.0, 0.0, 45.0, 4.0, 21.0)
    rows = told(track([visit(A, B), visit(both), visit(A, B)], PRESET))
    assert rows[2:] == [
        (1, 1, 1, "merged"),
        (1, 2, None, "merged"),
        (2, 1, 1, "split"),
        (2, 3, 2, "split"),
    ]


def test_later_sessions_change_nothing_about_earlier_ones() -> None:
    visits = [visit(A, B), visit(A), visit((-2, 0, 28, 2, 3), (-2, 0, 34, 2, 1), B), visit(B)]
    whole = track(visits, PRESET)
    for count in (1, 2, 3):
        assert track(visits[:count], PRESET) == tuple(x for x in whole if x.visit < count)


def test_the_numbering_of_the_label_images_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    visits = [
        visit(A, B, (0, 2, 75, 2, 3)),
        visit(B, A),
        visit((0, 0, 45, 4, 21), (0, 2, 76, 2, 3)),
    ]
    expected = [replace(row, index=None) for row in track(visits, PRESET)]
    for _ in range(5):
        shuffled = []
        for one in visits:
            names = np.concatenate([[0], rng.permutation(np.arange(1, 6))]).astype(np.int32)
            shuffled.append(replace(one, instances=names[one.instances]))
        assert [replace(row, index=None) for row in track(shuffled, PRESET)] == expected


@pytest.mark.parametrize(
    "spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 4.0), (3.0, 0.8, 0.8)], ids=["iso", "axial", "sagittal"]
)
def test_another_grid_and_another_position(spacing: tuple[float, float, float]) -> None:
    place = moved((3, -2, 4), (4, -3, 5))
    later = visit(A, B, spacing=spacing, from_first=place)
    rows = told(track([visit(A, B), later], PRESET))
    assert rows[2:] == [(1, 1, 1, "stable"), (1, 2, 2, "stable")]


def test_a_cord_that_bends_differently_is_followed_along_its_centreline() -> None:
    later = visit(A, B)
    bent = replace(
        later,
        instances=np.roll(later.instances, 4, axis=0),
        cord=np.roll(later.cord, 4, axis=0),
    )
    assert [row.change for row in track([visit(A, B), bent], PRESET)][2:] == ["stable"] * 2
    assert course_gap_mm(visit(A), bent) == pytest.approx(4, abs=0.1)
    assert course_gap_mm(visit(A, high_mm=40), visit(A, low_mm=35)) == float("inf")


def test_distance_links_only_what_is_left_and_one_to_one() -> None:
    before, after = np.zeros((2, 40, 4, 4), dtype=np.int32)
    before[0:4], before[20:24] = 1, 2
    after[6:8], after[9:11], after[20:30] = 1, 2, 3
    found = find_links(before, after, 0.5, 0.25, 3.0)
    assert [(x.before, x.after) for x in found] == [(1, 1), (2, 3)]
    assert found[0].distance_mm == 1.0
    assert found[0].shared_mm3 == 0
    assert [(x.before, x.after) for x in find_links(before, after, 0.5, 0.25, 0.5)] == [(2, 3)]


def test_lesions_side_by_side_are_not_one() -> None:
    rows = track([visit((-3, 0, 30, 2, 5)), visit((-3, 0, 30, 2, 5), (3, 0, 30, 2, 5))], PRESET)
    assert told(rows)[1:] == [(1, 1, 1, "stable"), (1, 2, 2, "new")]


@pytest.mark.parametrize(
    ("change", "limit", "expected"),
    [(0.3, 0.3, "enlarging"), (-0.3, 0.3, "shrinking"), (0.29, 0.3, "stable"), (0, 0.3, "stable")],
)
def test_the_limit_itself_counts(change: float, limit: float, expected: str) -> None:
    assert volume_class(change, limit) == expected


def test_uncertainty_of_a_volume() -> None:
    # 10 x 10 x 10 voxels: 200 faces an axis, so sqrt(3 * 200^2 / 24) voxels.
    cube = np.ones((10, 10, 10), dtype=bool)
    assert volume_sd_mm3(cube, (1, 1, 1)) == pytest.approx(np.sqrt(3 * 200**2 / 24))
    assert volume_sd_mm3(cube, (2, 1, 1)) == pytest.approx(2 * np.sqrt(3 * 200**2 / 24))
    assert volume_sd_mm3(np.zeros((3, 3, 3), dtype=bool), (1, 1, 1)) == 0
    assert change_limit(1000, 10, 10, 0.3) == 0.3
    assert change_limit(10, 3, 4, 0.3) == pytest.approx(0.98)


def test_a_small_change_of_a_small_lesion_is_within_its_uncertainty() -> None:
    rows = track([visit((0, 0, 30, 1, 1)), visit((0, 0, 30, 1, 1.5))], PRESET)
    assert rows[1].volume_change_percent == pytest.approx(100)
    assert rows[1].change == "stable"


def test_rows_of_the_table() -> None:
    rows = track_rows(track([visit(A, B), visit(A)], PRESET), ["ses-M0", "ses-M6"])
    assert all(list(row) == track_column_names() for row in rows)
    assert rows[3] == {
        "lesion_id": 2,
        "session_id": "ses-M6",
        "index": None,
        "change": "resolved",
        "volume_mm3": 0.0,
        "compared_with": "ses-M0",
        "volume_before_mm3": 160.0,
        "volume_change_percent": -100.0,
        "change_limit_percent": None,
        "came_from": None,
        "merged_into": None,
        "overlap": None,
        "distance_mm": None,
        "covered_fraction": 1.0,
    }
    assert rows[2]["came_from"] == "1"
    assert {row["change"] for row in rows} <= set(CHANGES)
