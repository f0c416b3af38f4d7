"""Follow lesions over the sessions of a subject: identities that last, and what became of each.

The rules, session by session in the order of time:

- A lesion is compared with the state in which each earlier lesion was last seen. So one that a
  session could not show (outside its field of view, no cord found there) is waited for.
- Linked lesions form families. A family of one before and one now is enlarging, stable or
  shrinking; where several became one they are merged, where one became several it is split.
- A lesion keeps the number of the earlier lesion that it shares the most volume with, and a
  number is never given twice. What is left over before is merged into another and ends; what is
  left over now gets a new number and came from a split.
- A lesion without an earlier one is new, or baseline where no earlier session could have shown it.
- An earlier lesion without a present one is resolved, or not-covered where it could not have been
  shown. When a lesion is seen again where one had resolved, it is new but gets the old number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bids_app.lesions.carry import Carried, carry
from bids_app.lesions.change import change_limit, volume_class, volume_sd_mm3
from bids_app.lesions.links import Link, find_links
from bids_app.lesions.preset import Preset
from bids_app.records import Change, FloatArray, IntArray, TrackedLesion, Visit

_HALF = 0.5


@dataclass(frozen=True)
class _Seen:
    """One lesion as one visit shows it."""

    visit: int
    index: int
    volume_mm3: float
    sd_mm3: float
    place: tuple[float, ...]
    resolved: bool = False


@dataclass(frozen=True)
class _Family:
    """Lesions that are linked, directly or through others: numbers before, indices now."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def track(visits: Sequence[Visit], preset: Preset) -> tuple[TrackedLesion, ...]:
    """Follow the lesions of a subject over its sessions.

    Parameters
    ----------
    visits : sequence of Visit
        In the order of time; all with results. The first gives the space.
    preset : Preset
        Its `track_` settings decide what is linked and which change of volume counts.

    Returns
    -------
    tuple of TrackedLesion
        By visit, then by number: a row for each lesion that a visit shows, one for each that it
        cannot show, and one at the visit where a lesion is first gone (resolved, or merged
        into another). The numbering of a visit's instances does not matter.
    """
    carried = carry(visits)
    if not carried:
        return ()
    shares = _covered_shares(carried, max(int(one.instances.max(initial=0)) for one in visits))
    seen: dict[int, _Seen] = {}
    rows: list[TrackedLesion] = []
    used = 0
    for number, visit in enumerate(visits):
        now = _lesions_of(visit, number, carried[number].labels)
        links = _links(carried, number, seen, preset)
        numbers, used = _number(links, now, used)
        step = _Step(number, seen, now, links, numbers, shares, preset.track_volume_change)
        found = step.rows()
        rows += found
        seen = _after(found, seen, now, numbers)
    return tuple(sorted(rows, key=lambda row: (row.visit, row.lesion_id)))


def _covered_shares(carried: Sequence[Carried], highest: int) -> list[list[FloatArray]]:
    """Tell how much of each lesion each visit covers: ``[visit][other][index]``, 0 to 1."""

    def share(one: Carried, other: Carried) -> FloatArray:
        whole = np.bincount(one.labels.ravel(), minlength=highest + 1)
        covered = np.bincount(one.labels[other.covered], minlength=highest + 1)
        return np.asarray(covered / np.maximum(whole, 1))

    return [[share(one, other) for other in carried] for one in carried]


def _lesions_of(visit: Visit, number: int, labels: IntArray) -> dict[int, _Seen]:
    """Measure a visit's lesions on its own grid, by index; their places on the common one."""
    lengths = np.linalg.norm(visit.affine[:3, :3], axis=0)
    spacing = (float(lengths[0]), float(lengths[1]), float(lengths[2]))
    voxel = float(abs(np.linalg.det(visit.affine[:3, :3])))
    boxes = [*ndimage.find_objects(labels), *[None] * int(visit.instances.max(initial=0))]
    lesions = {}
    for index, box in enumerate(ndimage.find_objects(visit.instances), start=1):
        if box is None:
            continue
        mask = visit.instances[box] == index
        volume = np.count_nonzero(mask) * voxel
        at = boxes[index - 1]
        place = tuple(float(side.start + side.stop) for side in reversed(at)) if at else ()
        lesions[index] = _Seen(number, index, volume, volume_sd_mm3(mask, spacing), place)
    return lesions


def _links(
    carried: Sequence[Carried], visit: int, seen: Mapping[int, _Seen], preset: Preset
) -> tuple[Link, ...]:
    """Link what was last seen of each lesion with what this visit shows."""
    canvas = np.zeros(carried[visit].labels.shape, dtype=np.int32)
    for number, state in sorted(seen.items(), key=lambda item: (item[1].visit, item[0])):
        canvas[carried[state.visit].labels == state.index] = number
    links = find_links(
        canvas,
        carried[visit].labels,
        carried[visit].step_mm,
        preset.track_min_overlap,
        preset.track_max_distance_mm,
    )
    # A lesion that had resolved is seen again only where no present one explains the place.
    explained = {link.after for link in links if not seen[link.before].resolved}
    return tuple(x for x in links if not seen[x.before].resolved or x.after not in explained)


def _number(
    links: Sequence[Link], now: Mapping[int, _Seen], used: int
) -> tuple[dict[int, int], int]:
    """Give numbers to the present lesions: by strength of links, then new ones by size."""
    numbers: dict[int, int] = {}
    for link in sorted(links, key=_by_strength):
        if link.after not in numbers and link.before not in numbers.values():
            numbers[link.after] = link.before
    fresh = [lesion for index, lesion in now.items() if index not in numbers]
    for lesion in sorted(fresh, key=lambda lesion: (-lesion.volume_mm3, lesion.place)):
        used += 1
        numbers[lesion.index] = used
    return numbers, used


def _by_strength(link: Link) -> tuple[float, ...]:
    return (*(-part for part in link.strength), link.before, link.after)


def _after(
    rows: Sequence[TrackedLesion],
    seen: Mapping[int, _Seen],
    now: Mapping[int, _Seen],
    numbers: Mapping[int, int],
) -> dict[int, _Seen]:
    """Give the state of each lesion after a visit; those that ended in another are left out."""
    ended = {row.lesion_id for row in rows if row.merged_into is not None}
    resolved = {row.lesion_id for row in rows if row.change == "resolved"}
    kept = {
        number: replace(state, resolved=state.resolved or number in resolved)
        for number, state in seen.items()
        if number not in ended
    }
    return kept | {number: now[index] for index, number in numbers.items()}


@dataclass(frozen=True)
class _Step:
    """One visit against all that was seen before it.

    Attributes
    ----------
    visit : int
    seen, now : mapping
        What was last seen of each lesion, by number; what this visit shows, by index.
    links : sequence of Link
        From numbers to indices.
    numbers : mapping
        From index to number.
    shares
        See `_covered_shares`.
    least_change : float
    """

    visit: int
    seen: Mapping[int, _Seen]
    now: Mapping[int, _Seen]
    links: Sequence[Link]
    numbers: Mapping[int, int]
    shares: Sequence[Sequence[FloatArray]]
    least_change: float

    def rows(self) -> list[TrackedLesion]:
        """Say what became of each lesion."""
        rows = [row for family in self._families() for row in self._family_rows(family)]
        linked = {link.before for link in self.links}
        gone = (n for n, state in self.seen.items() if n not in linked and not state.resolved)
        return rows + [self._absent(number) for number in gone]

    def _families(self) -> list[_Family]:
        """Join linked lesions; a present one without a link is a family of its own."""
        before = sorted({link.before for link in self.links})
        after = sorted(self.now)
        rows = [before.index(link.before) for link in self.links]
        columns = [len(before) + after.index(link.after) for link in self.links]
        size = len(before) + len(after)
        graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))
        count, label = connected_components(graph, directed=False) if size else (0, ())
        names = [(True, number) for number in before] + [(False, index) for index in after]
        members = [
            [name for name, at in zip(names, label, strict=True) if at == family]
            for family in range(count)
        ]
        return [
            _Family(tuple(n for old, n in one if old), tuple(n for old, n in one if not old))
            for one in members
        ]

    def _family_rows(self, family: _Family) -> list[TrackedLesion]:
        if not family.before or all(self.seen[number].resolved for number in family.before):
            return [self._new(index) for index in family.after]
        now = [self._continued(index, family) for index in family.after]
        kept = {row.lesion_id for row in now}
        return now + [self._ended(number) for number in family.before if number not in kept]

    def _new(self, index: int) -> TrackedLesion:
        """Describe a lesion that was not there: new to the latest visit that covers its place."""
        covered = [float(by[index]) for by in self.shares[self.visit][: self.visit]]
        compared = max((v for v, share in enumerate(covered) if share >= _HALF), default=None)
        row = TrackedLesion(
            self.numbers[index],
            self.visit,
            "baseline",
            index,
            self.now[index].volume_mm3,
            came_from=tuple(link.before for link in self.links if link.after == index),
        )
        if compared is None:
            return row
        return replace(
            row,
            change="new",
            compared_with=compared,
            volume_before_mm3=0.0,
            covered_fraction=covered[compared],
        )

    def _continued(self, index: int, family: _Family) -> TrackedLesion:
        """Describe a lesion with earlier ones: its parents, and what its family's volume did."""
        links = {link.before: link for link in self.links if link.after == index}
        own = links.get(self.numbers[index])
        compared = max(self.seen[number].visit for number in family.before)
        before = self._volume([self.seen[number] for number in family.before], self.visit)
        after = self._volume([self.now[other] for other in family.after], compared)
        relative = after[0] / before[0] - 1
        limit = change_limit(*before, after[1], self.least_change)
        change: Change = volume_class(relative, limit)
        if len(links) > 1:
            change = "merged"
        elif len(family.after) > 1:
            change = "split"
        return TrackedLesion(
            self.numbers[index],
            self.visit,
            change,
            index,
            self.now[index].volume_mm3,
            compared,
            before[0],
            100 * relative,
            100 * limit,
            came_from=tuple(sorted(links)),
            overlap=own.overlap if own else None,
            distance_mm=own.distance_mm if own else None,
            covered_fraction=float(self.shares[self.visit][compared][index]),
        )

    def _volume(self, lesions: Sequence[_Seen], other: int) -> tuple[float, float]:
        """Sum the volumes that another visit covers too, and give their standard error."""
        share = [float(self.shares[one.visit][other][one.index]) for one in lesions]
        if not any(share):
            share = [1.0] * len(lesions)
        volume = sum(part * one.volume_mm3 for part, one in zip(share, lesions, strict=True))
        return volume, sum(one.sd_mm3**2 for one in lesions) ** 0.5

    def _ended(self, number: int) -> TrackedLesion:
        """Describe a lesion that is now a part of another."""
        link = min((x for x in self.links if x.before == number), key=_by_strength)
        state = self.seen[number]
        return TrackedLesion(
            number,
            self.visit,
            "merged",
            compared_with=state.visit,
            volume_before_mm3=state.volume_mm3,
            merged_into=self.numbers[link.after],
            overlap=link.overlap,
            distance_mm=link.distance_mm,
        )

    def _absent(self, number: int) -> TrackedLesion:
        """Describe a lesion that is not shown: resolved only where it could have been."""
        state = self.seen[number]
        share = float(self.shares[state.visit][self.visit][state.index])
        row = TrackedLesion(number, self.visit, "not-covered", covered_fraction=share)
        if share < _HALF:
            return row
        return replace(
            row,
            change="resolved",
            volume_mm3=0.0,
            compared_with=state.visit,
            volume_before_mm3=state.volume_mm3,
            volume_change_percent=-100.0,
        )
