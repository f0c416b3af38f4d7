"""At which vertebral level a lesion lies."""

from __future__ import annotations

import numpy as np

from bids_app.records import IntArray


def levels_of(lesions: IntArray, vertebrae: IntArray) -> dict[int, int]:
    """Give each lesion the level that holds most of its voxels.

    Parameters
    ----------
    lesions, vertebrae : ndarray of int, same shape
        0 is background in both.

    Returns
    -------
    dict
        Level by lesion; the lower number of equals. Lesions outside all levels are absent.

    Examples
    --------
    >>> levels_of(np.array([1, 1, 1, 2, 3]), np.array([4, 5, 5, 0, 6]))
    {1: 5, 3: 6}
    """
    inside = (lesions != 0) & (vertebrae != 0)
    pairs, counts = np.unique(
        np.stack([lesions[inside], vertebrae[inside]]), axis=1, return_counts=True
    )
    found: dict[int, int] = {}
    for column in np.argsort(-counts, kind="stable"):
        found.setdefault(int(pairs[0, column]), int(pairs[1, column]))
    return dict(sorted(found.items()))
