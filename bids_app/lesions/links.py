"""Which lesions of two sessions are the same: links by shared tissue, else by a small gap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bids_app.records import IntArray

GROWTH_MM = 1.0
"""How far beside a lesion another still counts as overlapping: about a voxel of most scans."""


@dataclass(frozen=True)
class Link:
    """Two lesions of two sessions that are the same, or parts of the same.

    Attributes
    ----------
    before, after : int
        Their labels.
    shared_mm3 : float
        Volume that both take.
    overlap : float
        The larger of two shares: of the one lesion within `GROWTH_MM` of the other, and the
        other way round. 1 when one lies in the other.
    distance_mm : float
        Gap from surface to surface; 0 where they touch.
    """

    before: int
    after: int
    shared_mm3: float
    overlap: float
    distance_mm: float

    @property
    def strength(self) -> tuple[float, float, float]:
        """Order links: more shared volume, then the smaller gap, then more overlap."""
        return self.shared_mm3, -self.distance_mm, self.overlap


def find_links(
    before: IntArray,
    after: IntArray,
    step_mm: float,
    min_overlap: float,
    max_distance_mm: float,
) -> tuple[Link, ...]:
    """Link the lesions of two sessions, many to many.

    Two lesions are linked when their overlap reaches `min_overlap`: any number of links a
    lesion. Of the lesions that are left without, pairs are linked one to one, the nearest
    first, while the gap between them is at most `max_distance_mm`.

    Parameters
    ----------
    before, after : ndarray of int, shape (i, j, k)
        Labels on one isotropic grid; 0 is background. A thick slice fills its thickness, so a
        gap is measured between the voxels' own surfaces.
    step_mm : float
        Voxel size.
    min_overlap : float
    max_distance_mm : float

    Returns
    -------
    tuple of Link
        Sorted by their labels. Empty when a side has no lesion.

    Examples
    --------
    >>> before, after = np.zeros((2, 9, 1, 1), dtype=int)
    >>> before[1:5], after[2:4], after[5:8] = 1, 1, 2
    >>> [(x.before, x.after, x.overlap) for x in find_links(before, after, 1.0, 0.25, 0.0)]
    [(1, 1, 1.0), (1, 2, 0.3333333333333333)]
    """
    reach = max(max_distance_mm, GROWTH_MM)
    forth = _neighbours(before, after, step_mm, reach)
    back = _neighbours(after, before, step_mm, reach)
    sizes = np.bincount(before.ravel()), np.bincount(after.ravel())
    pairs = []
    for (one, other), (shared, grown, gap) in forth.items():
        grown_back = back.get((other, one), (0, 0, gap))[1]
        overlap = max(grown / sizes[1][other], grown_back / sizes[0][one])
        pairs.append(Link(one, other, shared * step_mm**3, float(overlap), gap))
    links = [pair for pair in pairs if pair.overlap >= min_overlap]
    taken = {link.before for link in links}, {link.after for link in links}
    left = (pair for pair in pairs if pair.overlap < min_overlap)
    for pair in sorted(left, key=lambda pair: (pair.distance_mm, -pair.overlap)):
        free = pair.before not in taken[0] and pair.after not in taken[1]
        if free and pair.distance_mm <= max_distance_mm + 1e-6:
            links.append(pair)
            taken[0].add(pair.before)
            taken[1].add(pair.after)
    return tuple(sorted(links, key=lambda link: (link.before, link.after)))


def _neighbours(
    labels: IntArray, others: IntArray, step_mm: float, reach_mm: float
) -> dict[tuple[int, int], tuple[int, int, float]]:
    """Find the others within reach of each label: voxels shared, voxels near, gap in mm."""
    margin = int(np.ceil(reach_mm / step_mm)) + 2
    found = {}
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        room = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in box)
        beside = others[room]
        if not beside.any():
            continue
        mine = labels[room] == label
        # From centre to centre; a step less is from surface to surface.
        gap = np.maximum(ndimage.distance_transform_edt(~mine, sampling=step_mm) - step_mm, 0)
        for other in np.unique(beside[beside > 0]):
            theirs = beside == other
            nearest = float(gap[theirs].min())
            if nearest <= reach_mm + 1e-6:
                shared = int(np.count_nonzero(mine & theirs))
                near = int(np.count_nonzero(gap[theirs] < GROWTH_MM - 1e-6))
                found[label, int(other)] = (shared, near, nearest)
    return found
