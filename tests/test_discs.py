"""From a label image to one point a disc."""

from __future__ import annotations

import numpy as np
import pytest

from bids_app.lesions.discs import find_discs

SHAPE = (40, 60, 80)
# Left-posterior-superior storage, so that posterior is where the second index is large.
AFFINE = np.array([[-1.0, 0, 0, 20], [0, -1.0, 0, 30], [0, 0, 1.0, -40], [0, 0, 0, 1]])


def labelled(*boxes: tuple[int, tuple[slice, slice, slice]]) -> np.ndarray:
    data = np.zeros(SHAPE, np.int32)
    for value, box in boxes:
        data[box] = value
    return data


def at(*voxel: int, size: int = 1) -> tuple[slice, slice, slice]:
    return tuple(slice(start, start + size) for start in voxel)  # type: ignore[return-value]


def test_points() -> None:
    found = find_discs(labelled((3, at(20, 30, 70)), (5, at(18, 30, 40, size=3))), AFFINE)
    assert found.remarks == ()
    assert {n: p.tolist() for n, p in found.positions_mm.items()} == {
        3: [0.0, 0.0, 30.0],
        5: [1.0, -1.0, 1.0],
    }


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        ([3, 4, 8, 20, 26], [3, 4, 8, 20, 26]),
        ([1, 2, 3, 49, 50, 60], [1, 2, 3]),
        # TotalSpineSeg: its vertebrae 11 to 50 are not discs 11 to 50.
        ([1, 2, 11, 12, 50, 63, 67, 71, 82, 91, 95, 100], [3, 7, 8, 19, 20, 24, 25]),
        ([18, 41, 200, 201, 224, 219, 207, 202], [3, 8, 20, 25]),
    ],
)
def test_conventions(labels: list[int], numbers: list[int]) -> None:
    data = labelled(*((value, at(20, 20, 4 * k)) for k, value in enumerate(labels)))
    found = find_discs(data, AFFINE)
    assert sorted(found.positions_mm) == numbers
    assert found.remarks == ()


def test_a_whole_disc_counts_at_its_posterior_tip() -> None:
    disc = (slice(10, 31), slice(10, 40), slice(38, 43))
    found = find_discs(labelled((63, disc)), AFFINE)
    x, y, z = found.positions_mm[3]
    assert (x, z) == (0.0, 0.0)
    assert -9.0 <= y <= -7.0, "the posterior tenth of 30 mm that end at -9"


@pytest.mark.parametrize(
    ("boxes", "kept", "words"),
    [
        ([(3, at(20, 30, 70)), (3, at(20, 30, 20)), (4, at(20, 30, 50))], [4], "label 3 is there"),
        # A speck beside a disc is no second disc.
        ([(64, at(10, 20, 50, size=8)), (64, at(10, 20, 5))], [4], None),
        ([(30, at(1, 1, 1)), (3, at(20, 30, 70))], [3], "Labels 30 are no discs'"),
        ([], [], None),
    ],
)
def test_odd_labels(boxes, kept: list[int], words: str | None) -> None:
    found = find_discs(labelled(*boxes), AFFINE)
    assert sorted(found.positions_mm) == kept
    assert (words is None) == (found.remarks == ())
    assert words is None or words in found.remarks[0]


def test_what_is_longer_than_a_disc_is_none() -> None:
    data = np.zeros((4, 4, 100), np.int32)
    data[1:3, 1:3] = 1
    data[0, 0, 50] = 3
    found = find_discs(data, np.eye(4))
    assert sorted(found.positions_mm) == [3]
    assert "Disc label 1 is too large for a disc (99 mm)" in found.remarks[0]
