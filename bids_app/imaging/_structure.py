"""How alike the structures in two images are, whatever their contrast.

Each voxel is described by how it differs from its neighbours (the modality independent
neighbourhood descriptor: Heinrich et al., Medical Image Analysis 16(7):1423-1435, 2012). Unlike
a joint histogram it notices where edges lie, which tells one vertebra from the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bids_app.imaging._similarity import merge_voxels, pose_matrix
from bids_app.imaging.grids import coverage, resample_to
from bids_app.records import BoolArray, FloatArray, Volume

# Along a thicker axis the neighbour is another anatomy.
_THICK_MM = 4.0
_NEIGHBOUR_MM = 2.0
_PATCH_MM = 1.2
_ENOUGH_MM = 1.6
# Share of the mean variance below which a voxel's surroundings count as flat.
_FLAT = 0.02


@dataclass(frozen=True)
class Structure:
    """Compare poses by the descriptors of both images on the fixed image's grid.

    Attributes
    ----------
    grid : Volume
        The fixed image, around the cord.
    other : Volume
    inside : ndarray of bool, of the grid's shape
        The voxels that count.
    descriptor : ndarray of shape (d, n)
        That of the fixed image at those n voxels.
    centre_mm : ndarray of shape (3,)
    """

    grid: Volume
    other: Volume
    inside: BoolArray
    descriptor: FloatArray
    centre_mm: FloatArray

    def difference(self, pose: FloatArray) -> FloatArray:
        """Give each voxel's squared difference of descriptors, NaN outside the other image."""
        matrix = pose_matrix(pose, self.centre_mm)
        moved = resample_to(self.other, self.grid, matrix)
        result: FloatArray = ((_describe(moved, self.inside) - self.descriptor) ** 2).mean(axis=0)
        result[~coverage(self.other, self.grid, matrix)[self.inside]] = np.nan
        return result


def build_structure(
    fixed: Volume, other: Volume, inside: BoolArray, centre_mm: FloatArray
) -> Structure:
    """Describe the fixed image.

    Parameters
    ----------
    fixed, other : Volume
        At a common resolution, around the cord.
    inside : ndarray of bool, of the fixed image's shape
    centre_mm : ndarray of shape (3,)
        About which poses turn.
    """
    if max(fixed.spacing_mm) < _THICK_MM:  # every axis has its neighbours: so many say enough
        merged = merge_voxels(fixed, _ENOUGH_MM)
        label = Volume(inside, fixed.affine)
        inside = resample_to(label, merged, interpolation="nearest").data > 0
        fixed = merged
    return Structure(fixed, other, inside, _describe(fixed, inside), centre_mm)


def _describe(volume: Volume, inside: BoolArray) -> FloatArray:
    """Give the descriptor at each voxel inside, shape (d, n), the largest entry of each 1."""
    from scipy import ndimage

    spacing = np.array(volume.spacing_mm)
    thin = np.where(spacing < _THICK_MM, 1.0, 0.0)
    data = ndimage.gaussian_filter(volume.data, 0.8 * thin / spacing)
    far = []
    for axis in np.flatnonzero(thin):
        step = max(1, round(_NEIGHBOUR_MM / float(spacing[axis])))
        for way in (step, -step):
            square = (np.roll(data, way, axis) - data) ** 2
            patch = ndimage.gaussian_filter(square, _PATCH_MM * thin / spacing, truncate=2.5)
            far.append(patch[inside])
    distance = np.stack(far)
    spread = distance.mean(axis=0)
    floor = _FLAT * float(spread.mean()) + float(np.finfo(np.float32).tiny)
    alike = np.exp(-distance / np.maximum(spread, floor))
    result: FloatArray = alike / alike.max(axis=0)
    return result
