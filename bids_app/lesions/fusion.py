"""Late fusion: merge what a network says from each contrast by coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bids_app.lesions.cord import Spacing, box_around, dilate
from bids_app.lesions.preset import Preset
from bids_app.lesions.refine import label_with_peaks, without_holes
from bids_app.records import BoolArray, FloatArray, Segmentation


def fuse(readings: Sequence[Segmentation], spacing_mm: Spacing, preset: Preset) -> Segmentation:
    """Merge the readings of single contrasts into one segmentation.

    In each contrast by itself, values of the lesion map below `preset.zero_below` become 0;
    so does what lies outside that contrast's cord dilated by `preset.cord_dilation_mm`, and
    so do components (`preset.connectivity`) that do not reach `preset.min_contrast_peak`. The
    merged map is their sum, divided by the coverage: the number of dilated cords that cover
    the voxel, at least 1. The cord is the highest probability of any contrast: a mean would
    tear it where the field of view of one ends. The uncertainty is the mean over the contrasts
    that cover a voxel, and over all where none does.

    Parameters
    ----------
    readings : sequence of Segmentation
        One a contrast, on one grid; NaN counts as 0.
    spacing_mm : tuple of float
        Voxel size along each array axis.
    preset : Preset
        With one set of values, see `Preset.for_contrast`.

    Returns
    -------
    Segmentation
        A single reading has nothing to be merged with: it is left whole, not cut at its cord,
        unless the preset has a rule for single contrasts (`min_contrast_peak`). Else `reach`
        is the union of the dilated cords.

    Raises
    ------
    ValueError
        No reading, or readings of different shapes.
    """
    if len({reading.lesion.shape for reading in readings}) != 1:
        raise ValueError("fusion needs readings, and all on one grid")
    cleared = [_without_low_values(reading, preset) for reading in readings]
    if len(cleared) == 1 and not preset.min_contrast_peak:
        return cleared[0]
    reaches = [_reach(reading.cord, spacing_mm, preset) for reading in cleared]
    lesions = [
        _settle(reading.lesion, reach, preset)
        for reading, reach in zip(cleared, reaches, strict=True)
    ]
    coverage = np.maximum(np.sum(reaches, axis=0, dtype=np.uint8), 1)
    return Segmentation(
        cord=np.nan_to_num(np.fmax.reduce([reading.cord for reading in cleared])),
        lesion=np.asarray(np.sum(lesions, axis=0) / coverage, dtype=np.float32),
        uncertainty=_covered_mean([reading.uncertainty for reading in cleared], reaches),
        reach=np.any(reaches, axis=0),
    )


def _without_low_values(reading: Segmentation, preset: Preset) -> Segmentation:
    if not preset.zero_below:
        return reading
    high = reading.lesion >= preset.zero_below
    return replace(reading, lesion=np.where(high, reading.lesion, 0).astype(np.float32))


def _reach(cord: FloatArray, spacing_mm: Spacing, preset: Preset) -> BoolArray:
    """Give the dilated cord of one contrast; empty where it shows no cord."""
    seed = cord >= preset.cord_threshold
    reach = np.zeros(seed.shape, dtype=bool)
    box = box_around(seed, preset.cord_dilation_mm, spacing_mm)
    if box is not None:
        whole = without_holes(seed[box], preset)
        reach[box] = dilate(whole, preset.cord_dilation_mm, spacing_mm)
    return reach


def _settle(lesion: FloatArray, reach: BoolArray, preset: Preset) -> FloatArray:
    """Cut one contrast's map at its reach, and clear components whose peak is too low."""
    kept = reach & (lesion > 0)
    if preset.min_contrast_peak:
        labels, _, peaks = label_with_peaks(kept, lesion, preset)
        kept = np.concatenate(([False], peaks >= preset.min_contrast_peak))[labels]
    return np.where(kept, lesion, 0).astype(np.float32)


def _covered_mean(maps: Sequence[FloatArray], reaches: Sequence[BoolArray]) -> FloatArray:
    """Average over the contrasts that cover a voxel, and over all where none does."""
    nowhere = ~np.any(reaches, axis=0)
    weights = np.array([reach | nowhere for reach in reaches])
    return np.average(np.nan_to_num(maps), axis=0, weights=weights).astype(np.float32)
