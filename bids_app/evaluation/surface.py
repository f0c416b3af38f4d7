"""Distances between the surfaces of two masks, in millimetres, weighted by area.

The definitions are those of Nikolov et al. (2021, J Med Internet Res 23:e26151) and of the
program published with it: a surface element lies wherever a block of 2 x 2 x 2 voxels holds both
mask and background; its area is that of the marching cubes' triangles in the block; its distance
to another surface is that to the nearest element of it, block centre to block centre.
"""

# scikit-image has no types.
# mypy: allow-untyped-calls

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from scipy.spatial import KDTree
from skimage.measure import marching_cubes, mesh_surface_area

from bids_app.records import BoolArray, FloatArray

NSD_TOLERANCE_MM = 1.0
"""Distance up to which surfaces agree."""

_CORNERS = tuple(product((0, 1), repeat=3))


@dataclass(frozen=True)
class SurfaceDistances:
    """How far each surface element of two masks lies from the other mask's surface.

    Attributes
    ----------
    first_mm, second_mm : ndarray of shape (elements,)
        Distances of the first mask's elements, and of the second's; infinite where the other
        mask is empty.
    first_areas, second_areas : ndarray of shape (elements,)
        Areas in square millimetres.
    """

    first_mm: FloatArray
    second_mm: FloatArray
    first_areas: FloatArray
    second_areas: FloatArray


def surface_distances(
    first: BoolArray, second: BoolArray, spacing_mm: Sequence[float]
) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks.

    Parameters
    ----------
    first, second : ndarray of bool, shape (i, j, k), the same
        What lies beyond the array is background.
    spacing_mm : sequence of float
        Voxel size along each axis.

    Returns
    -------
    SurfaceDistances
    """
    one_mm, one_areas = _surface(first, spacing_mm)
    other_mm, other_areas = _surface(second, spacing_mm)
    return SurfaceDistances(
        nearest_mm(one_mm, other_mm), nearest_mm(other_mm, one_mm), one_areas, other_areas
    )


def normalised_surface_dice(
    distances: SurfaceDistances, tolerance_mm: float = NSD_TOLERANCE_MM
) -> float:
    """Give the share of both surfaces' area that lies within a distance of the other surface.

    Returns
    -------
    float
        In [0, 1]. Two empty masks agree: 1. One empty mask: 0.

    Examples
    --------
    >>> cube, empty = np.ones((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    >>> [normalised_surface_dice(surface_distances(a, b, (1, 1, 1)))
    ...  for a, b in ((cube, cube), (cube, empty), (empty, empty))]
    [1.0, 0.0, 1.0]
    """
    total = distances.first_areas.sum() + distances.second_areas.sum()
    if not total:
        return 1.0
    near = sum(
        areas[apart <= tolerance_mm].sum()
        for areas, apart in (
            (distances.first_areas, distances.first_mm),
            (distances.second_areas, distances.second_mm),
        )
    )
    return float(near / total)


def hausdorff_percentile_mm(distances: SurfaceDistances, percent: float = 95.0) -> float:
    """Give the distance that holds for this share of either surface's area (HD95).

    For each mask, the smallest distance up to which `percent` of its surface's area lies; of the
    two the larger.

    Returns
    -------
    float
        Millimetres. Two empty masks: 0. One empty mask: NaN, because no distance is defined.

    Examples
    --------
    >>> voxel, empty = np.zeros((4, 1, 1), bool), np.zeros((4, 1, 1), bool)
    >>> voxel[0] = True
    >>> hausdorff_percentile_mm(surface_distances(voxel, np.roll(voxel, 3), (2, 1, 1)))
    6.0
    >>> hausdorff_percentile_mm(surface_distances(voxel, empty, (1, 1, 1)))
    nan
    >>> hausdorff_percentile_mm(surface_distances(empty, empty, (1, 1, 1)))
    0.0
    """
    sizes = (distances.first_areas.size, distances.second_areas.size)
    if not any(sizes):
        return 0.0
    if not all(sizes):
        return math.nan
    return max(
        _weighted_percentile(distances.first_mm, distances.first_areas, percent),
        _weighted_percentile(distances.second_mm, distances.second_areas, percent),
    )


def nearest_mm(points: FloatArray, others: FloatArray) -> FloatArray:
    """Give each point's distance to the nearest of the others; infinite without any.

    Parameters
    ----------
    points, others : ndarray of shape (n, 3) and (m, 3)
        In millimetres.
    """
    if not len(points) or not len(others):
        return np.full(len(points), np.inf)
    return np.asarray(KDTree(others).query(points)[0], dtype=float)


def _surface(mask: BoolArray, spacing_mm: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """Give the centres (mm) and the areas (mm²) of the blocks that a mask's surface crosses."""
    padded = np.pad(mask, 1).astype(np.uint8)
    codes = np.zeros(np.array(padded.shape) - 1, dtype=np.uint8)
    for bit, corner in enumerate(_CORNERS):
        window = tuple(slice(at, at + size) for at, size in zip(corner, codes.shape, strict=True))
        codes |= padded[window] << bit
    crossed = np.nonzero((codes != 0) & (codes != 255))
    spacing = tuple(float(step) for step in spacing_mm)
    areas = np.asarray(_block_areas(spacing))[codes[crossed]]
    return np.stack(crossed, axis=1) * np.array(spacing), areas


@lru_cache(maxsize=16)
def _block_areas(spacing_mm: tuple[float, ...]) -> tuple[float, ...]:
    """Give the area of the marching cubes' triangles in each of the 256 kinds of block."""
    areas = [0.0]
    for code in range(1, 255):
        block = np.zeros((2, 2, 2), dtype=np.float32)
        for bit, corner in enumerate(_CORNERS):
            block[corner] = code >> bit & 1
        vertices, faces, _, _ = marching_cubes(block, 0.5, spacing=spacing_mm)
        areas.append(float(mesh_surface_area(vertices, faces)))
    return (*areas, 0.0)


def _weighted_percentile(values: FloatArray, weights: FloatArray, percent: float) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    at = int(np.searchsorted(share, percent / 100))
    return float(values[order][min(at, len(values) - 1)])
