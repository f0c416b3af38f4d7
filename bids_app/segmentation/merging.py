"""Merge what a network says of each contrast by itself: the higher probability counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from bids_app.records import BoolArray, FloatArray
from bids_app.segmentation.inputs import cut_round

Spacing = tuple[float, float, float]
Reading = tuple[FloatArray, FloatArray]
"""Probability of cord and of lesion, each of shape (i, j, k)."""

# Below this another contrast shows nothing. Of 107 true lesions that the reference showed on
# development sessions 18 had no more within 5 mm, of 15 false ones 12 (docs/accuracy.md).
_SILENT = 0.2
_NEAR_MM = 5.0
# So far from a cord that another contrast shows, it would show a lesion as well.
_CORD_MM = 2.0
# What is likely by itself stays so: what is lowered keeps its extent.
_LIKELY = 0.5


def highest(
    readings: Sequence[Reading],
    spacing_mm: Spacing,
    second_penalty: float,
    reference_penalty: float,
) -> Reading:
    """Merge the readings of single contrasts on one grid.

    Parameters
    ----------
    readings : sequence of tuple of ndarray
        Cord and lesion as each contrast shows them; the reference first.
    spacing_mm : tuple of float
    second_penalty : float
        Logits taken off what any contrast but the reference says of lesions.
    reference_penalty : float
        Logits taken off what the reference says where another shows the cord but no lesion within
        5 mm; what is above one half stays there, so that a lesion keeps its extent and has to be
        surer.

    Returns
    -------
    cord, lesion : ndarray of shape (i, j, k), float32
        The cord is the reference's.
    """
    (cord, lesion), *others = readings
    if reference_penalty:
        lesion = _doubted(lesion, others, spacing_mm, reference_penalty)
    for _, other in others:
        lesion = np.maximum(lesion, lowered(other, second_penalty))
    return cord, lesion


def lowered(probability: FloatArray, logits: float) -> FloatArray:
    """Lower a probability by so many logits.

    Examples
    --------
    >>> [round(float(each), 3) for each in lowered(np.float32([0, 0.5, 1]), 1.0)]
    [0.0, 0.269, 1.0]
    """
    result = np.zeros_like(probability)
    # Most of an image is background, and stays it.
    likely = probability > 0
    some = probability[likely]
    result[likely] = some / (some + (1 - some) * np.float32(np.exp(logits)))
    return result


def _doubted(
    lesion: FloatArray, others: Sequence[Reading], spacing_mm: Spacing, penalty: float
) -> FloatArray:
    """Lower what is likely where another contrast shows the cord and nothing else."""
    likely = lesion > _LIKELY
    if not likely.any():
        return lesion
    # With room for what lies near, and nothing more: images are large.
    box = cut_round(lesion, np.diag([*spacing_mm, 1.0]), (_NEAR_MM, _NEAR_MM, _NEAR_MM))
    silent = np.zeros(likely[box].shape, bool)
    for cord, other in others:
        silent |= _within(cord[box] >= _LIKELY, spacing_mm, _CORD_MM) & ~_within(
            other[box] >= _SILENT, spacing_mm, _NEAR_MM
        )
    doubted = lesion.copy()
    below = np.maximum(lowered(lesion[box], penalty), np.float32(_LIKELY))
    doubted[box] = np.where(silent & likely[box], below, lesion[box])
    return doubted


def _within(mask: BoolArray, spacing_mm: Spacing, mm: float) -> BoolArray:
    """Tell which voxels lie within a block of so many millimetres to each side of a mask.

    Examples
    --------
    >>> mask = np.arange(9).reshape(9, 1, 1) == 4
    >>> np.flatnonzero(_within(mask, (2.0, 1.0, 1.0), 5.0)).tolist()
    [2, 3, 4, 5, 6]
    """
    size = tuple(2 * round(mm / spacing) + 1 for spacing in spacing_mm)
    return np.asarray(ndimage.maximum_filter(mask, size))
