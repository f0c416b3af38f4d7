"""Cord and lesions as one label map, as nnU-Net's region training wants them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_app.records import BoolArray, IntArray

CORD, LESION = 1, 2


def merge_labels(cord: BoolArray, lesion: BoolArray) -> NDArray[np.uint8]:
    """Merge two masks: 0 background, 1 cord, 2 lesion; a lesion outside the cord stays a lesion.

    Raises
    ------
    ValueError
        The masks differ in shape.

    Examples
    --------
    >>> merge_labels(np.array([False, True, True]), np.array([False, False, True])).tolist()
    [0, 1, 2]
    """
    if cord.shape != lesion.shape:
        raise ValueError(f"A cord of shape {cord.shape} is not of {lesion.shape}.")
    merged = np.zeros(cord.shape, np.uint8)
    merged[cord] = CORD
    merged[lesion] = LESION
    return merged


def count_lesions(labels: IntArray, numbered: bool) -> int:
    """Count lesions: the numbers of an instance map, or the 18-connected parts of a mask.

    Examples
    --------
    >>> row = np.array([[[1, 2, 0, 7]]])
    >>> count_lesions(row, numbered=True), count_lesions(row, numbered=False)
    (3, 2)
    """
    if numbered:
        return int(np.count_nonzero(np.unique(labels)))
    structure = ndimage.generate_binary_structure(3, 2)
    return int(ndimage.label(labels != 0, structure)[1])
