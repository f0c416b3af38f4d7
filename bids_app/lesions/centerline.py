"""The cord's centreline, its angle to the slices, and its cross-sections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bids_app.lesions.frame import SliceFrame, slice_frame
from bids_app.records import BoolArray, FloatArray, IntArray

SMOOTHING_MM = 6.0
"""Default width (standard deviation) of the smoothing along the cord."""

# Every slice counts a trace everywhere, so that a slice far from all others has an angle too.
_TRACE = 1e-8


@dataclass(frozen=True)
class Centerline:
    """The line through the middle of the cord, one point for each slice that shows cord.

    Attributes
    ----------
    frame : SliceFrame
        The slices that it was traced through.
    slices : ndarray of int, shape (n,)
        Indices along `frame.axis`, rising.
    points_mm : ndarray of shape (n, 3)
        Smoothed positions, RAS+.
    slopes : ndarray of shape (n, 3)
        Change of position for each mm along the slice normal: ``slopes @ normal`` is 1.
        NaN with fewer than two slices, because then no direction can be seen.
    """

    frame: SliceFrame
    slices: IntArray
    points_mm: FloatArray
    slopes: FloatArray

    @property
    def cos_angle(self) -> FloatArray:
        """Give the cosine of the angle between cord and slice normal, shape (n,)."""
        return np.asarray(1 / np.linalg.norm(self.slopes, axis=1))

    @property
    def cos_sagittal(self) -> FloatArray:
        """Give the cosine of that angle as seen from the side, shape (n,)."""
        return np.asarray(1 / np.hypot(1, self.slopes @ self.frame.anterior))

    @property
    def cos_coronal(self) -> FloatArray:
        """Give the cosine of that angle as seen from the front, shape (n,)."""
        return np.asarray(1 / np.hypot(1, self.slopes @ self.frame.right))

    def tangent(self, slices: IntArray) -> FloatArray:
        """Give the cord's mean direction over slices that show cord, shape (3,), unit length.

        Slices count as often as they are given; NaN when the cord has no direction.
        """
        mean = self.slopes[np.searchsorted(self.slices, slices)].mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))

    def spread(self, values: FloatArray, count: int) -> FloatArray:
        """Give values of the cord's slices to all `count` slices, linearly between them.

        Beyond the ends the nearest value holds; without a cord all are NaN.
        """
        if not self.slices.size:
            return np.full(count, np.nan)
        return np.asarray(np.interp(np.arange(count), self.slices, values))


def trace_centerline(
    cord: BoolArray, affine: FloatArray, smoothing_mm: float = SMOOTHING_MM
) -> Centerline:
    """Trace the line through the middle of the cord.

    The centre of mass of each slice is smoothed by local linear regression along the slice
    normal with Gaussian weights times the slice's area (Cleveland & Devlin 1988; unlike a
    Gaussian filter it keeps straight lines straight up to their ends). The regression's slope
    is the direction of the cord.

    Parameters
    ----------
    cord : ndarray of bool, shape (i, j, k)
    affine : ndarray of shape (4, 4)
        From voxel indices to RAS+ millimetres.
    smoothing_mm : float
        Standard deviation of the Gaussian.

    Returns
    -------
    Centerline
        Without points for an empty mask; slices without cord are left out.

    Examples
    --------
    >>> line = trace_centerline(np.ones((3, 3, 4), dtype=bool), np.eye(4))
    >>> line.points_mm[:2].round(6).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    >>> line.cos_angle.round(6).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    frame = slice_frame(affine)
    voxels = np.argwhere(cord)
    position = voxels[:, frame.axis]
    area = np.bincount(position, minlength=1)
    slices = np.flatnonzero(area)
    sums = np.stack([np.bincount(position, voxels[:, axis], len(area)) for axis in range(3)], 1)
    centers = frame.world(sums[slices] / area[slices, None])
    if len(slices) < 2:
        return Centerline(frame, slices, centers, np.full_like(centers, np.nan))
    points, slopes = _local_lines(centers, centers @ frame.normal, area[slices], smoothing_mm)
    return Centerline(frame, slices, points, slopes)


def _local_lines(
    points: FloatArray, at_mm: FloatArray, areas: IntArray, smoothing_mm: float
) -> tuple[FloatArray, FloatArray]:
    """Fit a weighted line round each position; give its value and its slope there."""
    offset = at_mm[None, :] - at_mm[:, None]
    weight = areas * (np.exp(-0.5 * np.square(offset / smoothing_mm)) + _TRACE)
    weight /= weight.sum(axis=1, keepdims=True)
    # About the weighted mean, because the plain normal equations cancel catastrophically.
    mean_offset = np.sum(weight * offset, axis=1, keepdims=True)
    mean_point = weight @ points
    lever = weight * (offset - mean_offset)
    variance = np.sum(lever * (offset - mean_offset), axis=1, keepdims=True)
    slope = (lever @ points) / variance
    return mean_point - mean_offset * slope, slope


def cross_sections_mm2(cord: BoolArray, affine: FloatArray) -> FloatArray:
    """Measure the cord's cross-sectional area in each slice, corrected for its angle.

    The area cut by a slice that meets the cord at an angle theta is 1/cos(theta) too large;
    the area across the cord is ``voxels * pixel area * cos(theta)``.

    Parameters
    ----------
    cord : ndarray of bool, shape (i, j, k)
    affine : ndarray of shape (4, 4)

    Returns
    -------
    ndarray of shape (slices,)
        One value for each plane across the cord (see `SliceFrame.axis`) in mm²; NaN where
        there is no cord, and everywhere when only one slice has any.

    Examples
    --------
    >>> cross_sections_mm2(np.ones((3, 3, 2), dtype=bool), np.diag([0.5, 0.5, 2, 1])).tolist()
    [2.25, 2.25]
    """
    line = trace_centerline(cord, affine)
    count = cord.shape[line.frame.axis]
    voxels = voxels_by_slice(cord, line.frame.axis)
    areas = voxels * line.frame.pixel_mm2 * line.spread(line.cos_angle, count)
    return np.asarray(np.where(voxels > 0, areas, np.nan))


def voxels_by_slice(mask: BoolArray, axis: int) -> IntArray:
    """Count the voxels of a mask in each slice across an array axis."""
    others = tuple(other for other in range(3) if other != axis)
    return np.asarray(np.count_nonzero(mask, axis=others))
