"""Slices across the cord in an array of any orientation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bids_app.records import FloatArray, IntArray

_ANTERIOR = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class SliceFrame:
    """The planes that cut the cord, whatever plane the scan was acquired in.

    A slice is a plane of the array perpendicular to the voxel axis nearest to the patient's
    superior-inferior axis; in a sagittal scan that axis is in the plane of acquisition.

    Attributes
    ----------
    axis : int
        Array axis across which slices are counted.
    ap_axis : int
        Array axis in the slice that is nearest to antero-posterior.
    normal, anterior, right : ndarray of shape (3,)
        Unit vectors in the world (RAS+): across the slices towards superior, and in the
        slice towards anterior and towards the patient's right.
    thickness_mm : float
        Distance between slices along `normal`.
    pixel_mm2 : float
        Area of a voxel in the slice.
    ap_step_mm : float
        Voxel size along `ap_axis`.
    affine : ndarray of shape (4, 4)
    """

    axis: int
    ap_axis: int
    normal: FloatArray
    anterior: FloatArray
    right: FloatArray
    thickness_mm: float
    pixel_mm2: float
    ap_step_mm: float
    affine: FloatArray

    @property
    def lr_axis(self) -> int:
        """Give the array axis in the slice that is nearest to left-right."""
        return 3 - self.axis - self.ap_axis

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Give the voxel size along each array axis."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def anterior_rises(self) -> bool:
        """Tell whether indices along `ap_axis` rise towards anterior."""
        return bool(self.anterior @ self.affine[:3, self.ap_axis] > 0)

    def world(self, voxels: IntArray | FloatArray) -> FloatArray:
        """Give the RAS+ positions in mm of voxel indices of shape (n, 3)."""
        return np.asarray(voxels @ self.affine[:3, :3].T + self.affine[:3, 3])

    def in_plane(self, points_mm: FloatArray) -> FloatArray:
        """Give the (right, anterior) coordinates in mm of world points, shape (n, 2)."""
        return np.asarray(points_mm @ np.stack([self.right, self.anterior], axis=1))


def slice_frame(affine: FloatArray) -> SliceFrame:
    """Find the slices across the cord from the affine.

    Parameters
    ----------
    affine : ndarray of shape (4, 4)
        From voxel indices to RAS+ millimetres; oblique and sheared ones too.

    Returns
    -------
    SliceFrame
        Of two voxel axes equally near to superior-inferior, the first is taken.

    Examples
    --------
    >>> frame = slice_frame(np.diag([0.5, 0.5, 4.0, 1.0]))
    >>> frame.axis, frame.thickness_mm, frame.pixel_mm2
    (2, 4.0, 0.25)
    """
    steps = np.asarray(affine, dtype=float)[:3, :3]
    lengths = np.linalg.norm(steps, axis=0)
    axis = int(np.argmax(np.abs(steps[2]) / lengths))
    first, second = (other for other in range(3) if other != axis)
    across = np.cross(steps[:, first], steps[:, second])
    pixel_mm2 = float(np.linalg.norm(across))
    normal = across / pixel_mm2
    if normal[2] < 0:
        normal = -normal
    anterior = _ANTERIOR - (_ANTERIOR @ normal) * normal
    anterior /= np.linalg.norm(anterior)
    nearness = np.abs(anterior @ steps) / lengths
    ap_axis = first if nearness[first] >= nearness[second] else second
    return SliceFrame(
        axis=axis,
        ap_axis=ap_axis,
        normal=normal,
        anterior=anterior,
        right=np.cross(anterior, normal),
        thickness_mm=float(abs(steps[:, axis] @ normal)),
        pixel_mm2=pixel_mm2,
        ap_step_mm=float(lengths[ap_axis]),
        affine=np.asarray(affine, dtype=float),
    )
