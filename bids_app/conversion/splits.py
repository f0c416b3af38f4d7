"""Which subjects train, which test, and in which fold: by subject, stratified, stable.

The rule
--------
All cases of a subject go together. Subjects that an earlier split places stay where they are.
The others are taken dataset by dataset in the order given, within a dataset in the order of their
contrasts and then of a hash of the seed and their name:

1. every subject of a held-out dataset, and every one whose cases are all of held-out contrasts,
   is for testing;
2. of the rest, evenly spaced ones are for testing until the dataset has its share;
3. each other one goes to the fold that has the fewest subjects of its dataset and contrasts; on a
   tie, of its dataset; then in all; then the first.

So a dataset that is added at the end moves nobody.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

TEST = "test"
TRAIN = "train"
Key = tuple[str, str]


@dataclass(frozen=True)
class Member:
    """A subject that takes part in a split.

    Attributes
    ----------
    dataset, subject : str
    contrasts : str
        What its cases are made of; subjects alike in this are spread evenly.
    held_out : bool
        It is for testing, whatever the share.
    """

    dataset: str
    subject: str
    contrasts: str
    held_out: bool = False

    @property
    def key(self) -> Key:
        """Give what tells subjects apart."""
        return self.dataset, self.subject


@dataclass(frozen=True)
class Place:
    """Where a subject goes: the fold is None for a test subject."""

    split: str
    fold: int | None = None


def assign(
    members: Sequence[Member],
    known: Mapping[Key, Place],
    folds: int,
    test_share: float,
    seed: int,
) -> dict[Key, Place]:
    """Place every subject by the rule of this module.

    Parameters
    ----------
    members : sequence of Member
        Their datasets in the order in which they were first given.
    known : mapping
        Places to keep; a fold beyond `folds` is chosen anew.
    folds : int
        At least 2; no more are used than there are subjects to train with.
    test_share : float
        In [0, 1). A dataset keeps at least one subject for training.
    seed : int

    Returns
    -------
    dict
        By dataset and subject, in the order of placing.
    """
    places = {one.key: Place(TEST) for one in members if one.held_out}
    places |= {
        one.key: known[one.key]
        for one in members
        if one.key in known and one.key not in places and _is_kept(known[one.key], folds)
    }
    training: list[Member] = []
    for dataset in dict.fromkeys(one.dataset for one in members):
        group = [one for one in members if one.dataset == dataset and not one.held_out]
        new = sorted((one for one in group if one.key not in places), key=lambda x: _order(x, seed))
        settled = [one for one in new if known.get(one.key, Place(TEST)).split == TRAIN]
        free = [one for one in new if one not in settled]
        before = sum(places[one.key].split == TEST for one in group if one.key in places)
        wanted = min(int(test_share * len(group) + 0.5), len(group) - 1) - before
        tested = _evenly_spaced(free, wanted)
        places |= {one.key: Place(TEST) for one in tested}
        training += [one for one in new if one not in tested]
    return places | _spread(training, members, places, folds)


def _spread(
    training: Sequence[Member],
    members: Sequence[Member],
    places: Mapping[Key, Place],
    folds: int,
) -> dict[Key, Place]:
    """Give each subject a fold, the emptiest of its kind."""
    kept = [one for one in members if one.key in places and places[one.key].fold is not None]
    used = max(2, min(folds, len(training) + len(kept)))
    filled: Counter[tuple[str, str, int]] = Counter()

    def count(one: Member, fold: int) -> None:
        for kind in ((one.dataset, one.contrasts), (one.dataset, "*"), ("*", "*")):
            filled[(*kind, fold)] += 1

    for one in kept:
        count(one, places[one.key].fold or 0)
    result = {}
    for one in training:
        fold = min(
            range(used),
            key=lambda fold, one=one: (  # type: ignore[misc]
                filled[(one.dataset, one.contrasts, fold)],
                filled[(one.dataset, "*", fold)],
                filled[("*", "*", fold)],
                fold,
            ),
        )
        count(one, fold)
        result[one.key] = Place(TRAIN, fold)
    return result


def cross_validation(fold_of: Mapping[str, int]) -> list[dict[str, list[str]]]:
    """Build nnU-Net's ``splits_final.json``; folds without a case are left out.

    Parameters
    ----------
    fold_of : mapping of str to int
        By case.

    Examples
    --------
    >>> cross_validation({"a": 0, "b": 2})
    [{'train': ['b'], 'val': ['a']}, {'train': ['a'], 'val': ['b']}]
    """
    return [
        {
            "train": sorted(case for case, own in fold_of.items() if own != fold),
            "val": sorted(case for case, own in fold_of.items() if own == fold),
        }
        for fold in sorted(set(fold_of.values()))
    ]


def _is_kept(place: Place, folds: int) -> bool:
    return place.split == TEST or (place.fold is not None and place.fold < folds)


def _order(member: Member, seed: int) -> tuple[str, str]:
    text = f"{seed}\n{member.dataset}\n{member.subject}"
    return member.contrasts, hashlib.sha256(text.encode()).hexdigest()


def _evenly_spaced(items: Sequence[Member], wanted: int) -> list[Member]:
    """Take items from the middle of equal stretches, so that each kind gives its share."""
    count = max(0, min(wanted, len(items)))
    return [items[int((number + 0.5) * len(items) / count)] for number in range(count)]


def contrasts_of(cases: Iterable[str]) -> str:
    """Name what a subject's cases are made of, each kind once.

    Examples
    --------
    >>> contrasts_of(["T2w+STIR", "T2w", "T2w+STIR"])
    'T2w,T2w+STIR'
    """
    return ",".join(sorted(set(cases)))
