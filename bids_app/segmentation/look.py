"""Where the network has to look closely: at the large pieces of what a quick pass took for cord."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label

from bids_app.records import BoolArray

# A piece of the first pass smaller than this share of the largest is not followed.
_MIN_SHARE = 0.05


def large_pieces(cord: BoolArray) -> BoolArray | None:
    """Keep the pieces of a mask that are worth looking at.

    Parameters
    ----------
    cord : ndarray of bool, shape (z, y, x)

    Returns
    -------
    ndarray of bool, or None for an empty mask

    Examples
    --------
    >>> cord = np.zeros((1, 1, 100), bool)
    >>> cord[..., :60] = cord[..., 70:73] = cord[..., 80:82] = True
    >>> np.flatnonzero(np.diff(large_pieces(cord)[0, 0]))
    array([59, 69, 72])
    """
    pieces, count = label(cord)
    if count == 0:
        return None
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= _MIN_SHARE * sizes.max())[pieces] & cord)
