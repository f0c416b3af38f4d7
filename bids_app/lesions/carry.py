"""Carry the lesions of all sessions onto one fine grid in the first session's space.

A rigid movement cannot follow a neck that bends a little more than the last time. So, after it,
each section is moved within its plane until the two centrelines meet: lesions are compared in
cord coordinates (height along the cord, place in the section).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bids_app.lesions.centerline import trace_centerline
from bids_app.lesions.cord import dilate
from bids_app.records import BoolArray, FloatArray, IntArray, Visit

STEP_MM = 0.5
"""Voxel size of the common grid, unless the lesions lie so far apart that it would not fit."""

NEAR_CORD_MM = 3.0
"""How far from a session's cord mask that session could still have shown a lesion."""

_MOST_VOXELS = 12_000_000
_MARGIN_MM = 8.0
# A shorter common stretch, or centrelines further apart, are not two views of one cord.
_SHORTEST_COURSE_MM = 10.0


@dataclass(frozen=True)
class Carried:
    """One session on the common grid.

    Attributes
    ----------
    labels : ndarray of int32, shape (i, j, k)
        The session's own instance numbers.
    covered : ndarray of bool, shape (i, j, k)
        Where the session could have shown a lesion: in its field of view, near its cord.
    step_mm : float
        Voxel size of the common grid.
    """

    labels: IntArray
    covered: BoolArray
    step_mm: float


def carry(visits: Sequence[Visit]) -> tuple[Carried, ...]:
    """Bring all sessions to one isotropic grid around all their lesions.

    Each voxel of the common grid looks up the nearest voxel of the session (nothing is
    interpolated), so that a thick slice is carried at its full thickness.

    Parameters
    ----------
    visits : sequence of Visit

    Returns
    -------
    tuple of Carried
        In the order of the visits; empty when no visit has a lesion.
    """
    corners = [_lesion_corners(visit) for visit in visits]
    found = [corner for corner in corners if corner is not None]
    if not found:
        return ()
    low = np.min([corner[0] for corner in found], axis=0) - _MARGIN_MM
    extent = np.max([corner[1] for corner in found], axis=0) + _MARGIN_MM - low
    step = max(STEP_MM, float(np.prod(extent) / _MOST_VOXELS) ** (1 / 3))
    axes = [start + step * np.arange(int(size / step) + 1)
            for start, size in zip(low, extent, strict=True)]  # fmt: skip
    first = _course(visits[0])
    return tuple(_sample(visit, axes, _aside(first, _course(visit), axes[2]), step)
                 for visit in visits)  # fmt: skip


def course_gap_mm(first: Visit, other: Visit) -> float:
    """Measure how far the other session's cord lies from the first's after alignment.

    Returns
    -------
    float
        Median distance of the centrelines across the cord; infinite when they share less
        than 10 mm of height.
    """
    lines = _course(first), _course(other)
    shared = _shared_range(*lines)
    if shared is None or shared[1] - shared[0] < _SHORTEST_COURSE_MM:
        return float("inf")
    return float(np.median(np.hypot(*_aside(*lines, np.arange(*shared)).T)))


def _lesion_corners(visit: Visit) -> tuple[FloatArray, FloatArray] | None:
    """Give the extreme coordinates of a session's lesions in the first session's space."""
    voxels = np.argwhere(visit.instances > 0)
    if not len(voxels):
        return None
    to_first = np.linalg.inv(visit.from_first) @ visit.affine
    points = voxels @ to_first[:3, :3].T + to_first[:3, 3]
    half = np.abs(to_first[:3, :3]).sum(axis=1) / 2
    return points.min(axis=0) - half, points.max(axis=0) + half


def _course(visit: Visit) -> FloatArray:
    """Trace the centreline in the first session's space, (n, 3), from the lowest point up."""
    points = trace_centerline(visit.cord | (visit.instances > 0), visit.affine).points_mm
    to_first = np.linalg.inv(visit.from_first)
    moved = points @ to_first[:3, :3].T + to_first[:3, 3]
    return np.asarray(moved[np.argsort(moved[:, 2], kind="stable")])


def _shared_range(first: FloatArray, other: FloatArray) -> tuple[float, float] | None:
    if not len(first) or not len(other):
        return None
    low, high = max(first[0, 2], other[0, 2]), min(first[-1, 2], other[-1, 2])
    return (float(low), float(high)) if high > low else None


def _aside(first: FloatArray, other: FloatArray, heights_mm: FloatArray) -> FloatArray:
    """Give the way (x, y) from the first centreline to the other at each height.

    Beyond the stretch that both show, the way at its end holds; without one it is zero.
    """
    shared = _shared_range(first, other)
    if shared is None:
        return np.zeros((len(heights_mm), 2))
    at = np.clip(heights_mm, *shared)
    return np.stack(
        [np.interp(at, other[:, 2], other[:, axis]) - np.interp(at, first[:, 2], first[:, axis])
         for axis in (0, 1)], axis=1)  # fmt: skip


def _sample(visit: Visit, axes: Sequence[FloatArray], aside: FloatArray, step: float) -> Carried:
    """Look up the nearest voxel of a session for each point of the common grid."""
    x = axes[0][:, None, None] + aside[None, None, :, 0]
    y = axes[1][None, :, None] + aside[None, None, :, 1]
    z = axes[2][None, None, :]
    rows = (np.linalg.inv(visit.affine) @ visit.from_first)[:3]
    index = [np.rint(a * x + b * y + c * z + d).astype(np.int32) for a, b, c, d in rows]
    shape = visit.instances.shape
    inside = np.ones(index[0].shape, dtype=bool)
    for part, length in zip(index, shape, strict=True):
        inside &= (part >= 0) & (part < length)
    place = tuple(np.clip(part, 0, n - 1) for part, n in zip(index, shape, strict=True))
    spacing = tuple(float(mm) for mm in np.linalg.norm(visit.affine[:3, :3], axis=0))
    cord = visit.cord | (visit.instances > 0)
    near = dilate(cord, NEAR_CORD_MM, (spacing[0], spacing[1], spacing[2]))
    labels = np.where(inside, visit.instances[place], 0).astype(np.int32)
    return Carried(labels, inside & near[place], step)
