"""Where in the cord's section a lesion lies: quadrant and distance to the surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from bids_app.lesions.centerline import Centerline
from bids_app.lesions.frame import SliceFrame
from bids_app.records import BoolArray, FloatArray, IntArray

# The inner third of the radius, a ninth of the area, counts as the centre.
_CENTRAL_RADIUS = 1 / 3


@dataclass(frozen=True)
class Place:
    """A lesion's place in the cord's section."""

    quadrant: str
    surface_distance_mm: float


@dataclass(frozen=True)
class Sections:
    """The cord's section in each slice, as an ellipse and as depth below the surface.

    Attributes
    ----------
    frame : SliceFrame
    center_voxel : ndarray of shape (slices, 3)
        Centre of mass as voxel indices; NaN where there is no cord.
    center_mm : ndarray of shape (slices, 2)
        Towards right and anterior; NaN where there is no cord.
    half_width_mm : ndarray of shape (slices, 2)
        Half-axes, right-left and antero-posterior, of the ellipse with the section's second
        moments.
    depth_mm : ndarray
        In-plane distance of each voxel of the cord's box to the nearest voxel of the surface.
    corner : ndarray of int, shape (3,)
        First voxel of that box.
    """

    frame: SliceFrame
    center_voxel: FloatArray
    center_mm: FloatArray
    half_width_mm: FloatArray
    depth_mm: FloatArray
    corner: IntArray


def sections_of(cord: BoolArray, line: Centerline) -> Sections:
    """Describe the cord's section in each slice.

    Parameters
    ----------
    cord : ndarray of bool, shape (i, j, k)
    line : Centerline
        Gives the slices across the cord.

    Returns
    -------
    Sections
    """
    frame = line.frame
    voxels = np.argwhere(cord)
    count = cord.shape[frame.axis]
    at = voxels[:, frame.axis]
    points = frame.in_plane(frame.world(voxels))
    number = np.bincount(at, minlength=count)[:, None]
    with np.errstate(invalid="ignore"):
        center_voxel = _sums(at, voxels, count) / number
        center = _sums(at, points, count) / number
        variance = _sums(at, np.square(points - center[at]), count) / number
    # A voxel is not a point: its own extent adds to the variance.
    pixel = np.delete(frame.affine[:3, :3], frame.axis, axis=1)
    own = np.sum(np.square(frame.in_plane(pixel.T)), axis=0) / 12
    corner = voxels.min(axis=0) if len(voxels) else np.zeros(3, dtype=int)
    beyond = voxels.max(axis=0) + 1 if len(voxels) else corner
    box = tuple(slice(low, high) for low, high in zip(corner, beyond, strict=True))
    depth = _depth(cord[box], frame)
    half_width = 2 * np.sqrt(variance + own)
    return Sections(frame, center_voxel, center, half_width, depth, corner)


def place_lesion(voxels: IntArray, sections: Sections) -> Place:
    """Say where in the cord's section a lesion lies.

    Each voxel is placed in the ellipse of its own slice (its offset from the centre divided
    by the half-axes), and these places are averaged, so a curved cord does no harm.

    Parameters
    ----------
    voxels : ndarray of int, shape (n, 3)
        Voxels of one lesion, all within the cord.
    sections : Sections

    Returns
    -------
    Place
        ``quadrant`` is ``central`` within a third of the radius, otherwise ``dorsal``,
        ``ventral``, ``left`` or ``right`` (the patient's), whichever direction is nearest;
        a lesion across the whole section is central. On a diagonal dorsal and ventral win.
        ``surface_distance_mm`` is the smallest in-plane distance between a voxel of the
        lesion and one of the cord's surface: 0 when the lesion reaches it.
    """
    at = voxels[:, sections.frame.axis]
    points = sections.frame.in_plane(sections.frame.world(voxels))
    offset = (points - sections.center_mm[at]) / sections.half_width_mm[at]
    depth = sections.depth_mm[tuple((voxels - sections.corner).T)]
    return Place(_quadrant(*offset.mean(axis=0)), float(depth.min()))


def _quadrant(right: float, anterior: float) -> str:
    if np.hypot(right, anterior) < _CENTRAL_RADIUS:
        return "central"
    if abs(anterior) >= abs(right) - 1e-9:
        return "ventral" if anterior > 0 else "dorsal"
    return "right" if right > 0 else "left"


def _sums(at: IntArray, values: FloatArray | IntArray, count: int) -> FloatArray:
    columns = [np.bincount(at, values[:, column], count) for column in range(values.shape[1])]
    return np.stack(columns, axis=1)


def _depth(cord: BoolArray, frame: SliceFrame) -> FloatArray:
    """Measure how far in its slice each cord voxel lies from the surface's voxels."""
    if not cord.size:
        return np.zeros(cord.shape)
    across = np.ones(3, dtype=int)
    across[frame.axis] = 0
    room = np.pad(cord, [(int(width), int(width)) for width in across])
    neighbours = ndimage.generate_binary_structure(3, 1)
    # Only neighbours in the slice: the cord's cut ends are not its surface.
    neighbours &= np.indices((3, 3, 3))[frame.axis] == 1
    surface = room & ~ndimage.binary_erosion(room, structure=neighbours)
    spacing: Any = np.linalg.norm(frame.affine[:3, :3], axis=0)
    # Other slices are put out of reach; each slice with cord has a surface of its own.
    spacing[frame.axis] = 1e6
    depth = ndimage.distance_transform_edt(~surface, sampling=spacing)
    inner = tuple(slice(width, width + n) for width, n in zip(across, cord.shape, strict=True))
    return np.asarray(depth[inner])
