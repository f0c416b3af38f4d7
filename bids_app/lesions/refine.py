"""Refine probabilities: to one cord, and to lesions that belong to it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import ndimage

from bids_app.lesions.cord import Spacing, box_around, dilate, keep_course
from bids_app.lesions.preset import Preset
from bids_app.records import BoolArray, Findings, FloatArray, IntArray

_ORDERS = {6: 1, 18: 2, 26: 3}


def refine(
    cord_probability: FloatArray,
    lesion_probability: FloatArray,
    spacing_mm: Spacing,
    preset: Preset,
    reach: BoolArray | None = None,
) -> Findings:
    """Turn probabilities into a cord, a lesion mask and numbered lesions.

    The steps: threshold the cord and fill its holes; threshold the lesions and cut them at
    the cord dilated by `preset.cord_dilation_mm`, or at `reach`; count them as cord; drop
    stray pieces (`keep_course`) with the lesions in them; drop lesions that are too small or
    whose peak is too low; number the rest from the largest to the smallest, equal ones by
    their first voxel in array order.

    Parameters
    ----------
    cord_probability, lesion_probability : ndarray of float, shape (i, j, k)
        In [0, 1]; NaN counts as 0.
    spacing_mm : tuple of float
        Voxel size along each array axis.
    preset : Preset
        With one set of values, see `Preset.for_contrast`.
    reach : ndarray of bool, shape (i, j, k), optional
        Where lesions may lie, as `fuse` leaves it; by default in the cord dilated.

    Returns
    -------
    Findings
        Lesion voxels are cord voxels too. All are empty when no voxel reaches the cord's
        threshold, whatever the lesions' probability. Refining the masks again gives the same.

    Raises
    ------
    ValueError
        The probabilities are not three-dimensional or of different shapes.
    """
    shape = cord_probability.shape
    if len(shape) != 3 or lesion_probability.shape != shape:
        raise ValueError(
            f"cord and lesion probability must be 3-D and of one shape, not {shape} "
            f"and {lesion_probability.shape}"
        )
    cord = np.zeros(shape, dtype=bool)
    instances = np.zeros(shape, dtype=np.int32)
    seed = cord_probability >= preset.cord_threshold
    # All that follows happens near the cord, a few percent of the image.
    within = seed if reach is None else seed | reach
    box = box_around(within, preset.cord_dilation_mm, spacing_mm) if seed.any() else None
    if box is not None:
        lesion = lesion_probability[box] >= preset.lesion_limit
        lesion = lesion if reach is None else lesion & reach[box]
        cord[box] = _settle_cord(seed[box], lesion, reach is not None, spacing_mm, preset)
        instances[box] = _number_lesions(
            lesion & cord[box], lesion_probability[box], math.prod(spacing_mm), preset
        )
    return Findings(cord=cord, lesion=instances > 0, instances=instances)


def _settle_cord(
    seed: BoolArray, lesion: BoolArray, is_cut: bool, spacing_mm: Spacing, preset: Preset
) -> BoolArray:
    """Decide on the cord, lesion voxels within reach included; all are if they are cut already.

    Lesions join before stray pieces are dropped, not after: only so is a lesion on a stray
    piece dropped with it, and refining twice is the same as refining once.
    """
    cord = without_holes(seed, preset)
    if not is_cut:
        lesion = lesion & dilate(cord, preset.cord_dilation_mm, spacing_mm)
    cord = without_holes(cord | lesion, preset)
    if preset.keep_largest_cord:
        return keep_course(cord, spacing_mm, link_mm=preset.cord_dilation_mm)
    return cord


def without_holes(mask: BoolArray, preset: Preset) -> BoolArray:
    """Fill what a mask encloses on all sides, where the preset says so."""
    return np.asarray(ndimage.binary_fill_holes(mask)) if preset.fill_holes else mask


def neighbourhood(preset: Preset) -> BoolArray:
    """Give the 3x3x3 mask of a voxel and its neighbours."""
    return np.asarray(ndimage.generate_binary_structure(3, _ORDERS[preset.connectivity]))


def _number_lesions(
    lesion: BoolArray, probability: FloatArray, voxel_mm3: float, preset: Preset
) -> IntArray:
    """Label the lesions that are large and sure enough, the largest first."""
    labels, count, peaks = label_with_peaks(lesion, probability, preset)
    if count == 0:
        return labels
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    # A product of spacings may fall short of a round limit by rounding alone.
    large = sizes * voxel_mm3 >= preset.min_lesion_volume_mm3 * (1 - 1e-6)
    kept = large & (sizes >= preset.min_lesion_voxels) & (peaks >= preset.min_peak_probability)
    order = np.argsort(-sizes, kind="stable")
    order = order[kept[order]]
    new_number = np.zeros(count + 1, dtype=np.int32)
    new_number[order + 1] = np.arange(1, len(order) + 1)
    return np.asarray(new_number[labels])


def label_with_peaks(
    mask: BoolArray, probability: FloatArray, preset: Preset
) -> tuple[IntArray, int, FloatArray]:
    """Label the components of a mask and find the highest probability in each.

    Parameters
    ----------
    mask, probability : ndarray of shape (i, j, k)
    preset : Preset
        Says which voxels are neighbours.

    Returns
    -------
    labels : ndarray of int32, shape (i, j, k)
    count : int
    peaks : ndarray of shape (count,)
    """
    labels, count = ndimage.label(mask, structure=neighbourhood(preset))
    found: Any = ndimage.maximum(probability, labels, index=np.arange(1, count + 1))
    return np.asarray(labels, dtype=np.int32), int(count), np.asarray(found)
