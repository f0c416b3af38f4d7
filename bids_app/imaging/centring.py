"""What is left between two masks of one cord after aligning: an offset across it."""

from __future__ import annotations

import numpy as np

from bids_app.imaging.grids import box_around
from bids_app.records import FloatArray, Volume

# Less than half the area of the thinnest cord: a slice that only grazes one says little.
_LEAST_AREA_MM2 = 15.0
_FEWEST_SLICES = 3
# Less is a background that no network leaves at zero.
_LEAST_CHANCE = 0.1
# Half of a wide cord: two that lie further apart are not one that was moved a little.
_FURTHEST_MM = 6.0


def offset_across(cord: FloatArray, other: FloatArray, grid: Volume) -> FloatArray:
    """Give how far one cord lies beside another, in the planes across the body.

    Parameters
    ----------
    cord, other : ndarray of shape (i, j, k)
        Probability, or a mask; NaN-free, on one canonical grid.
    grid : Volume
        Gives the affine.

    Returns
    -------
    ndarray of shape (3,)
        From `cord` to `other`, RAS+ mm: the median over the slices along the third axis that show
        both of the difference of their centres of mass. Zero where too few do, or where it is more
        than 6 mm. Along the cord nothing is said.

    Examples
    --------
    >>> one, other = np.zeros((2, 20, 20, 9))
    >>> one[4:12, 5:12], other[5:13, 7:14] = 1, 1
    >>> offset_across(one, other, Volume(one, np.diag([0.5, 0.8, 1, 1]))).tolist()
    [0.5, 1.6, 0.0]
    """
    nothing = np.zeros(3)
    either = (cord >= _LEAST_CHANCE) | (other >= _LEAST_CHANCE)
    box = box_around(either, (1.0, 1.0, 1.0), 0.0)
    area_mm2 = float(np.linalg.norm(np.cross(grid.affine[:3, 0], grid.affine[:3, 1])))
    centres, enough = [], np.ones(either[box].shape[2], bool)
    for each in (cord[box], other[box]):
        weight = np.where(each >= _LEAST_CHANCE, each, 0).astype(np.float64)
        enough &= weight.sum(axis=(0, 1)) * area_mm2 >= _LEAST_AREA_MM2
        total = np.maximum(weight.sum(axis=(0, 1)), np.finfo(float).tiny)
        along_i = np.arange(weight.shape[0]) @ weight.sum(axis=1) / total
        along_j = np.arange(weight.shape[1]) @ weight.sum(axis=0) / total
        centres.append(np.stack([along_i, along_j]))
    if np.count_nonzero(enough) < _FEWEST_SLICES:
        return nothing
    offset = np.median((centres[1] - centres[0])[:, enough], axis=1)
    offset_mm = np.asarray(grid.affine[:3, :2] @ offset, float)
    return offset_mm if np.linalg.norm(offset_mm) <= _FURTHEST_MM else nothing
