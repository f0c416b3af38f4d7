"""What a session's report shows: images and labels cut to the cord, and the ways to cut them.

Arrays are canonical here: axes run to the patient's right, front and head. A picture's rows run
from top to bottom and its columns from left to right, as it is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_app.records import BoolArray, FloatArray, IntArray

Picture = NDArray[np.uint8]
"""Colours of shape (rows, columns, 3)."""


@dataclass(frozen=True)
class SessionView:
    """A session cut to the surroundings of its cord.

    Attributes
    ----------
    reference : ndarray of shape (i, j, k)
    second : ndarray of shape (i, j, k) or None
        The second contrast on the same grid.
    cord : ndarray of bool
    instances : ndarray of int
        Lesions by number.
    uncertainty : ndarray of float
        In [0, 1].
    affine : ndarray of shape (4, 4)
    """

    reference: FloatArray
    second: FloatArray | None
    cord: BoolArray
    instances: IntArray
    uncertainty: FloatArray
    affine: FloatArray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Give the voxel size along each array axis."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)


def cord_course(cord: BoolArray) -> IntArray:
    """Find the cord's left-right index in each axial slice.

    Slices without cord get the nearest one's, linearly in between; the middle without a cord.

    Examples
    --------
    >>> cord = np.zeros((4, 1, 3), bool)
    >>> cord[1, 0, 0] = cord[3, 0, 2] = True
    >>> cord_course(cord).tolist()
    [1, 2, 3]
    """
    count = cord.sum(axis=(0, 1))
    seen = np.flatnonzero(count)
    if not seen.size:
        return np.full(cord.shape[2], cord.shape[0] // 2)
    weight = np.arange(cord.shape[0]) @ cord.sum(axis=1)
    course = np.interp(np.arange(cord.shape[2]), seen, weight[seen] / count[seen])
    return np.asarray(np.rint(course), dtype=np.intp)


def follow(data: NDArray[np.generic], course: IntArray) -> NDArray[np.generic]:
    """Cut a sagittal plane that bends with the cord; rows from head to feet, front to the left."""
    plane = data[course, :, np.arange(data.shape[2])]
    return np.asarray(plane[::-1, ::-1])


def project(labels: IntArray) -> IntArray:
    """Look through all labels from the side; of several in line the one on the right shows."""
    first = (labels > 0).argmax(axis=0)
    seen = np.take_along_axis(labels, first[None], axis=0)[0]
    return np.asarray(seen.T[::-1, ::-1])


def axial(data: NDArray[np.generic], k: int) -> NDArray[np.generic]:
    """Cut across the cord; front at the top, the patient's left on the right."""
    return np.asarray(data[:, :, k].T[::-1, ::-1])


def sagittal(data: NDArray[np.generic], i: int) -> NDArray[np.generic]:
    """Cut along the cord; head at the top, front to the left."""
    return np.asarray(data[i].T[::-1, ::-1])


def to_grey(data: FloatArray) -> Picture:
    """Window to the 1st and 99.5th percentile, 0 to 255; a constant image is black."""
    low, high = np.percentile(data, (1, 99.5)) if data.size else (0, 1)
    scaled = (np.asarray(data, np.float32) - low) / max(float(high - low), 1e-6)
    return np.asarray(np.clip(scaled, 0, 1) * 255, dtype=np.uint8)


def enlarge(
    plane: NDArray[np.generic], spacing_mm: tuple[float, float], pixels_per_mm: float, order: int
) -> NDArray[np.generic]:
    """Resample a plane to square pixels: true aspect, whatever the voxels were.

    Parameters
    ----------
    plane : ndarray of shape (rows, columns)
    spacing_mm : tuple of float
        Of rows and columns.
    pixels_per_mm : float
    order : int
        0 for labels, 1 for images.
    """
    factors = [s * pixels_per_mm for s in spacing_mm]
    shape = [max(1, round(n * f)) for n, f in zip(plane.shape, factors, strict=True)]
    # The centre of pixel p of n lies at (p + 0.5) / n of the side.
    places = [
        (np.arange(n) + 0.5) * old / n - 0.5 for n, old in zip(shape, plane.shape, strict=True)
    ]
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    return np.asarray(ndimage.map_coordinates(plane, grid, order=order, mode="nearest"))
