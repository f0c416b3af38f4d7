"""What of an image pair takes part in registration: the surroundings of the cord, and points."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_app.imaging._centreline import centreline, main_part
from bids_app.imaging._similarity import (
    FEWEST_POINTS,
    Similarity,
    build_similarity,
    comparable,
)
from bids_app.imaging.grids import Box, box_around, coverage, crop, resample_to
from bids_app.records import BoolArray, FloatArray, IntArray, Volume

MapOver = Callable[..., Iterable[Any]]
"""``map``, or the one of a pool of threads."""

# Vertebrae and discs, which tell one height from another, lie within this distance.
REGION_MM = 25.0
# Side of the blocks of voxels by which that distance is told.
_NEAR_MM = 3.0
# One vertebra further the image looks alike again: no start lies beyond half of one or so.
REACH_MM = 12.0
MOST_POINTS = 12000


@dataclass(frozen=True)
class Scene:
    """The two images as they are compared; `fixed` is the one with the thicker voxels.

    Attributes
    ----------
    fixed, other : Volume
        Cut to the cord's surroundings, at a common resolution, in local contrast.
    points_mm, judge_mm : ndarray of shape (3, n)
        RAS+ points of the fixed image, in random order: for the search, and for judging it.
    centre_mm : ndarray of shape (3,)
        About which poses turn.
    fixed_line, other_line : ndarray of shape (3, m) or None
        The centrelines where the cord is known.
    """

    fixed: Volume
    other: Volume
    points_mm: FloatArray
    judge_mm: FloatArray
    centre_mm: FloatArray
    fixed_line: FloatArray | None
    other_line: FloatArray | None

    def similarity(self, fwhm_mm: float, points: int) -> Similarity:
        """Build the similarity at some of the points, through some blur."""
        chosen = self.points_mm[:, :points]
        # In the order in which images lie in memory, which is sooner read.
        chosen = chosen[:, np.lexsort(chosen[::-1])]
        return build_similarity(self.fixed, self.other, chosen, self.centre_mm, fwhm_mm)

    def judge(self) -> Similarity:
        """Build the similarity at points of its own, without blur."""
        return build_similarity(self.fixed, self.other, self.judge_mm, self.centre_mm, 0.0)


def build_scene(
    fixed: Volume,
    other: Volume,
    fixed_cord: NDArray[Any] | None,
    other_cord: NDArray[Any] | None,
    seed: int,
    map_over: MapOver = map,
) -> Scene | None:
    """Cut out the surroundings of the cord and draw the points; None without an overlap."""
    cords = (_known(fixed_cord, fixed), _known(other_cord, other))
    lines = [None if cord is None else centreline(cord) for cord in cords]
    overlap = coverage(other, fixed)
    region = _region(fixed, *cords, overlap)
    shared = region & overlap
    if np.count_nonzero(shared) < 2 * FEWEST_POINTS:
        return None
    # Where the cords give the starts, parts that the headers put apart may still meet.
    usable = region if all(line is not None for line in lines) else shared
    half = min(MOST_POINTS, int(np.count_nonzero(usable)) // 2)
    voxels = _draw(usable, 2 * half, seed)
    points = _world(np.stack(np.unravel_index(voxels, usable.shape), axis=1), fixed)
    near = crop(fixed, box_around(region, fixed.spacing_mm, REGION_MM))
    around = _box_of(points, other, cords[1], REACH_MM + REGION_MM)
    seen = list(map_over(comparable, (near, crop(other, around)), (other, fixed)))
    return Scene(
        fixed=seen[0],
        other=seen[1],
        points_mm=points[:half].T,
        judge_mm=points[half:].T,
        # To the centimetre: a cord that is seen a voxel wider is to change nothing in the search.
        centre_mm=_world(np.argwhere(shared).mean(axis=0), fixed).round(-1),
        fixed_line=lines[0],
        other_line=lines[1],
    )


def _draw(usable: BoolArray, count: int, seed: int) -> IntArray:
    """Draw voxels in random order, nearly the same ones where what is usable differs a little.

    Each voxel has a number of its own, and the lowest are taken: a cord that is seen a voxel wider
    would change every point of a permutation, and the alignment by tenths of a millimetre.
    """
    voxels = np.flatnonzero(usable)
    lot = np.random.default_rng(seed).random(usable.size, np.float32)[voxels]
    lowest = np.argpartition(lot, count - 1)[:count]
    return np.asarray(voxels[lowest[np.argsort(lot[lowest], kind="stable")]])


def _known(cord: NDArray[Any] | None, image: Volume) -> Volume | None:
    """Place a cord on its image, without small pieces; an empty one is not known."""
    if cord is None or not (cord > 0.5).any():
        return None
    box = box_around(cord > 0.5, image.spacing_mm, 0.0)
    likely = np.zeros(cord.shape, np.float32)
    likely[box] = main_part(cord[box])
    return Volume(likely, image.affine)


def _world(voxels: NDArray[Any], image: Volume) -> FloatArray:
    """Give the RAS+ points of voxels of shape (n, 3) or (3,)."""
    points: FloatArray = voxels @ image.affine[:3, :3].T + image.affine[:3, 3]
    return points


def _region(
    fixed: Volume, fixed_cord: Volume | None, other_cord: Volume | None, overlap: BoolArray
) -> BoolArray:
    """Mark the surroundings of the cord on the fixed image, from whichever cord is known."""
    from scipy import ndimage
    from skimage.measure import block_reduce

    cord = fixed_cord
    if cord is None and other_cord is not None:
        label = Volume((other_cord.data > 0.5).astype(np.uint8), other_cord.affine)
        cord = resample_to(label, fixed, interpolation="nearest")
    if cord is None or not (cord.data > 0.5).any():
        return overlap
    inside = cord.data > 0.5
    box = box_around(inside, fixed.spacing_mm, REGION_MM)
    # Which points are near need not be known to the voxel.
    step = np.maximum(1, _NEAR_MM / np.array(fixed.spacing_mm)).astype(int)
    coarse = block_reduce(inside[box], tuple(step), np.max)
    far = ndimage.distance_transform_edt(~coarse, sampling=step * fixed.spacing_mm)
    near = far < REGION_MM
    for axis in range(3):
        near = near.repeat(step[axis], axis=axis)
    region = np.zeros(fixed.data.shape, dtype=bool)
    region[box] = near[tuple(slice(length) for length in inside[box].shape)]
    return region


def _box_of(points: FloatArray, image: Volume, cord: Volume | None, margin_mm: float) -> Box:
    """Give the box of an image around points in the world and around its own cord."""
    index = (points - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T
    index = np.clip(np.rint(index).astype(int), 0, np.array(image.data.shape) - 1)
    mark = np.zeros(image.data.shape, dtype=bool)
    mark[tuple(index.T)] = True
    if cord is not None:
        mark |= cord.data > 0.5
    return box_around(mark, image.spacing_mm, margin_mm)
