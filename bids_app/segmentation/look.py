"""Where the network has to look closely: a box round the cord, in voxels of its own grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import find_objects, label

from bids_app.records import BoolArray

Box = tuple[slice, slice, slice]

# Room round the cord in which the network is run with full overlap, in voxels of its grid.
_MARGIN = 12
# A piece of the first pass smaller than this share of the largest is not followed.
_MIN_SHARE = 0.05


def cord_box(cord: BoolArray, patch: Sequence[int]) -> Box | None:
    """Box round the large pieces of a mask, at least a patch wide, inside the array.

    Parameters
    ----------
    cord : ndarray of bool, shape (z, y, x)
    patch : sequence of three or two int
        Two for a network that sees single slices: then one slice is wide enough.

    Returns
    -------
    tuple of slice, or None for an empty mask
    """
    pieces, count = label(cord)
    if count == 0:
        return None
    sizes = np.bincount(pieces.ravel())[1:]
    large = np.flatnonzero(sizes >= _MIN_SHARE * sizes.max())
    found = find_objects(pieces)
    size = (1, *patch) if len(patch) == 2 else tuple(patch)
    box = []
    for axis in range(3):
        low = min(found[piece][axis].start for piece in large) - _MARGIN
        high = max(found[piece][axis].stop for piece in large) + _MARGIN
        short = max(0, size[axis] - (high - low))
        low, high = low - short // 2, high + short - short // 2
        shift = max(0, -low) - max(0, high - cord.shape[axis])
        low, high = low + shift, high + shift
        box.append(slice(max(0, low), min(cord.shape[axis], high)))
    return box[0], box[1], box[2]
