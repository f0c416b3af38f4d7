"""The cord as one structure: which pieces of a mask belong to it, and dilation in mm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from bids_app.records import BoolArray, FloatArray

# Smaller pieces (relative to the largest) are specks: they carry no volume worth a doubt.
_SMALLEST_FRACTION = 0.01
# A piece this much longer than wide (ratio of standard deviations) shows the cord's course;
# a cord 12 mm wide shows it from 2 cm on.
_ELONGATED = 2.0
# The cord bends by 30 degrees at most against its own main axis, so beyond a gap it may lie
# aside by half the gap, and a little more because broken ends are ragged.
_ASIDE_MM, _ASIDE_PER_GAP = 5.0, 0.5
_LONGEST_GAP_MM = 40.0
# Far from the cord's end a speck continues nothing: a piece has to be half as long as its gap.
_GAP_PER_LENGTH = 2.0
# Without a course (a slab of few slices) only near pieces are trusted.
_NEAR_MM = 10.0
_END_MM = 10.0

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class _Piece:
    """One piece of cord, its voxels placed along the cord's main axis."""

    along_mm: FloatArray
    aside_mm: FloatArray
    voxel_mm: float

    @property
    def size(self) -> int:
        return len(self.along_mm)

    @property
    def start(self) -> float:
        return float(self.along_mm.min())

    @property
    def stop(self) -> float:
        return float(self.along_mm.max())

    @property
    def longest_gap_mm(self) -> float:
        """Give how far off, from voxel to voxel, it may lie."""
        length = self.stop - self.start + self.voxel_mm
        least = _NEAR_MM + self.voxel_mm
        return min(_LONGEST_GAP_MM, max(least, _GAP_PER_LENGTH * length))

    def end(self, *, last: bool) -> FloatArray:
        """Give the mean position aside of the axis within 1 cm of one end."""
        near = (
            self.along_mm >= self.stop - _END_MM if last else self.along_mm <= self.start + _END_MM
        )
        return np.asarray(self.aside_mm[near].mean(axis=0))


def dilate(mask: BoolArray, radius_mm: float, spacing_mm: Spacing) -> BoolArray:
    """Add all voxels whose centre lies within a distance of a voxel of the mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (i, j, k)
    radius_mm : float
        0 gives the mask itself; the limit itself counts as within.
    spacing_mm : tuple of float
        Voxel size along each array axis.

    Returns
    -------
    ndarray of bool, shape (i, j, k)

    Examples
    --------
    >>> dilate(np.array([[[False, False, True]]]), 1.0, (1.0, 1.0, 1.0)).tolist()
    [[[False, True, True]]]
    """
    if radius_mm <= 0 or not mask.any():
        return mask.copy()
    distance = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    return np.asarray(distance <= radius_mm + 1e-6)


def box_around(
    mask: BoolArray, margin_mm: float, spacing_mm: Spacing
) -> tuple[slice, slice, slice] | None:
    """Find the smallest box that holds a mask and a margin; None for an empty mask.

    Examples
    --------
    >>> box_around(np.array([[[False, False, True]]]), 1.0, (1.0, 1.0, 1.0))
    (slice(0, 2, None), slice(0, 2, None), slice(1, 4, None))
    """
    sides = []
    for axis, step in enumerate(spacing_mm):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        if not filled.size:
            return None
        margin = math.ceil(margin_mm / step)
        sides.append(slice(max(0, int(filled[0]) - margin), int(filled[-1]) + margin + 1))
    return sides[0], sides[1], sides[2]


def keep_course(mask: BoolArray, spacing_mm: Spacing, link_mm: float = 0.0) -> BoolArray:
    """Keep the largest piece of the cord and the pieces that continue it.

    A healthy cord is one piece, but noise, an artefact or thick slices may break it, and
    stray pieces appear elsewhere: in vertebrae, muscle or the brain. Pieces of one cord follow
    one another; they never lie side by side. So, when the largest piece is elongated enough
    to show the cord's course, a further piece is kept if

    - it has at least 1 % of the largest piece's volume,
    - at most half of it lies abreast of larger kept pieces, and
    - beyond an end of a kept piece it is at most 40 mm off, and at most twice its own length or
      10 mm, and lies within 5 mm plus half the gap of that end, measured across the course.

    When the largest piece is too short for a course, pieces that can be reached by gaps of
    up to 10 mm are kept. Ties for the largest are all kept.

    Parameters
    ----------
    mask : ndarray of bool, shape (i, j, k)
    spacing_mm : tuple of float
        Voxel size along each array axis.
    link_mm : float
        Parts no farther apart than twice this count as one piece; touching parts (by face,
        edge or corner) always do.

    Returns
    -------
    ndarray of bool, shape (i, j, k)
        A union of whole pieces of `mask`; empty for an empty mask. Doing it again changes
        nothing, and the axes' order and direction do not matter.
    """
    labels, count = _linked(mask, link_mm, spacing_mm)
    if count <= 1:
        return mask.copy()
    sizes = np.bincount(labels[mask], minlength=count + 1)
    largest = np.flatnonzero(sizes == sizes[1:].max())
    points = np.argwhere(mask) * np.asarray(spacing_mm)
    owner = labels[mask]
    axis = _main_axis(points[np.isin(owner, largest)], spacing_mm)
    if axis is None:
        near, _ = _linked(mask, _NEAR_MM / 2, spacing_mm)
        kept = np.unique(near[mask][np.isin(owner, largest)])
        return np.asarray(np.isin(near, kept) & mask)
    candidates = np.flatnonzero(sizes >= _SMALLEST_FRACTION * sizes[1:].max())
    voxel_mm = float(np.abs(axis) @ np.asarray(spacing_mm))
    pieces = {int(i): _place(points[owner == i], axis, voxel_mm) for i in candidates if i > 0}
    return np.asarray(np.isin(labels, _follow(pieces)) & mask)


def _linked(mask: BoolArray, link_mm: float, spacing_mm: Spacing) -> tuple[Any, int]:
    """Label the pieces of a mask; parts whose surroundings touch share a label."""
    corners = np.ones((3, 3, 3), dtype=bool)
    labels, count = ndimage.label(mask, structure=corners)
    if count <= 1 or link_mm <= 0:
        return labels, int(count)
    # Room for the surroundings, so that the array's edge decides nothing.
    margins = [int(np.ceil(link_mm / step)) for step in spacing_mm]
    room = np.pad(mask, [(margin, margin) for margin in margins])
    labels, count = ndimage.label(dilate(room, link_mm, spacing_mm), structure=corners)
    inner = tuple(slice(m, m + n) for m, n in zip(margins, mask.shape, strict=True))
    return labels[inner] * mask, int(count)


def _main_axis(points_mm: FloatArray, spacing_mm: Spacing) -> FloatArray | None:
    """Find the direction of an elongated cloud of voxels; None when it has none."""
    if len(points_mm) < 2:
        return None
    covariance = np.cov(points_mm.T, bias=True) + np.diag(np.square(spacing_mm) / 12)
    variances, directions = np.linalg.eigh(covariance)
    if variances[2] < _ELONGATED**2 * variances[1]:
        return None
    return np.asarray(directions[:, 2])


def _place(points_mm: FloatArray, axis: FloatArray, voxel_mm: float) -> _Piece:
    along = points_mm @ axis
    return _Piece(along, points_mm - np.outer(along, axis), voxel_mm)


def _follow(pieces: dict[int, _Piece]) -> list[int]:
    """Choose the labels of the largest pieces and of all that continue what is chosen."""
    by_size = sorted({piece.size for piece in pieces.values()}, reverse=True)
    chosen = {label for label, piece in pieces.items() if piece.size == by_size[0]}
    grew = True
    while grew:
        before = set(chosen)
        # Equal sizes are judged together, so that the order of the labels decides nothing.
        for size in by_size[1:]:
            larger = [pieces[label] for label in chosen if pieces[label].size > size]
            everyone = [pieces[label] for label in chosen]
            chosen |= {
                label
                for label, piece in pieces.items()
                if piece.size == size
                and not _abreast(piece, larger)
                and any(_continues(piece, other) for other in everyone)
            }
        grew = chosen != before
    return sorted(chosen)


def _abreast(piece: _Piece, others: list[_Piece]) -> bool:
    beside = np.zeros(piece.size, dtype=bool)
    for other in others:
        beside |= (piece.along_mm >= other.start) & (piece.along_mm <= other.stop)
    return bool(2 * beside.sum() > piece.size)


def _continues(piece: _Piece, other: _Piece) -> bool:
    ahead = piece.start + piece.stop > other.start + other.stop
    gap = max(0.0, piece.start - other.stop if ahead else other.start - piece.stop)
    aside = np.linalg.norm(piece.end(last=not ahead) - other.end(last=ahead))
    return bool(gap <= piece.longest_gap_mm and aside <= _ASIDE_MM + _ASIDE_PER_GAP * gap)
