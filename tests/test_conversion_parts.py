"""What of a conversion needs no disk: names, splits, label maps."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_app.conversion.identifiers import case_identifier
from bids_app.conversion.merge import count_lesions, merge_labels
from bids_app.conversion.splits import TEST, TRAIN, Member, Place, assign, cross_validation


def people(dataset: str, count: int, kinds: tuple[str, ...] = ("T2w+STIR",)) -> list[Member]:
    return [
        Member(dataset, f"sub-{number:03d}", kinds[number % len(kinds)]) for number in range(count)
    ]


def test_identifiers_differ_where_a_disk_would_take_them_for_one() -> None:
    pairs = [("ds_1", "sub-a"), ("ds-1", "sub-a"), ("ds_1", "sub-A"), ("ds_1", "sub-a_ses-1")]
    names = {case_identifier(*pair).lower() for pair in pairs}
    assert len(names) == len(pairs)
    assert all(name.replace("_", "").replace("-", "").isalnum() for name in names)


@given(
    st.integers(2, 60), st.integers(2, 7), st.floats(0, 0.9), st.integers(0, 99), st.integers(0, 30)
)
@settings(max_examples=60, deadline=None)
def test_a_split_is_complete_even_and_unmoved_by_more_datasets(
    count: int, folds: int, share: float, seed: int, more: int
) -> None:
    first = people("a", count, ("T2w", "T2w+STIR", "T2w+PSIR"))
    alone = assign(first, {}, folds, share, seed)
    assert alone.keys() == {one.key for one in first}
    tests = sum(place.split == TEST for place in alone.values())
    assert tests == min(int(share * count + 0.5), count - 1)
    sizes = Counter(place.fold for place in alone.values() if place.split == TRAIN)
    training = count - tests
    assert set(sizes) == set(range(min(max(2, min(folds, training)), training)))
    both = assign([*first, *people("b", more)], alone, folds, share, seed)
    assert {key: both[key] for key in alone} == alone
    if training >= folds:
        fresh = assign([*first, *people("b", more)], {}, folds, share, seed)
        assert {key: fresh[key] for key in alone} == alone


def test_each_kind_is_spread_over_folds_and_test() -> None:
    members = people("a", 60, ("T2w", "T2w+STIR", "T2w+PSIR"))
    places = assign(members, {}, 4, 0.2, 42)
    found = Counter((one.contrasts, places[one.key].fold) for one in members)
    assert {found[(kind, None)] for kind in ("T2w", "T2w+STIR", "T2w+PSIR")} == {4}
    assert {found[(kind, fold)] for kind in ("T2w", "T2w+STIR") for fold in range(4)} == {4}


def test_seeds_differ_and_repeat() -> None:
    members = people("a", 40)
    one, again, other = (assign(members, {}, 5, 0.2, seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_known_places_stay_and_held_out_subjects_test() -> None:
    known = {("a", "sub-000"): Place(TRAIN, 1), ("a", "sub-001"): Place(TEST)}
    members = [*people("a", 10), Member("b", "sub-000", "T2w", held_out=True)]
    places = assign(members, known, 3, 0.2, 0)
    assert {key: places[key] for key in known} == known
    assert places[("b", "sub-000")] == Place(TEST)
    assert sum(places[one.key].split == TEST for one in members) == 3


def test_a_fold_that_is_no_more_is_chosen_anew_but_training_stays_training() -> None:
    known = {("a", f"sub-{number:03d}"): Place(TRAIN, 4) for number in range(6)}
    places = assign(people("a", 6), known, 2, 0.5, 0)
    assert Counter(places.values()) == {Place(TRAIN, 0): 3, Place(TRAIN, 1): 3}


def test_cross_validation_shows_each_case_once() -> None:
    folds = cross_validation({f"c{number}": number % 3 for number in range(10)})
    assert sorted(case for fold in folds for case in fold["val"]) == [f"c{n}" for n in range(10)]
    assert all(not set(fold["train"]) & set(fold["val"]) for fold in folds)


def test_lesions_go_over_the_cord_and_stay_outside_it() -> None:
    cord = np.array([[[True, True, False, False]]])
    lesion = np.array([[[False, True, True, False]]])
    assert merge_labels(cord, lesion).tolist() == [[[1, 2, 2, 0]]]
    with pytest.raises(ValueError, match="shape"):
        merge_labels(cord, lesion[..., :2])


@pytest.mark.parametrize(
    ("labels", "numbered", "count"),
    [
        (np.zeros((2, 2, 2), int), False, 0),
        (np.eye(3, dtype=int)[:, :, None], False, 1),
        (np.eye(3, dtype=int)[:, :, None] * [[[1], [2], [2]]], True, 2),
    ],
)
def test_lesions_are_counted(labels: np.ndarray, numbered: bool, count: int) -> None:
    assert count_lesions(labels, numbered) == count
