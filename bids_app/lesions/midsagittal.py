"""The lesion in the cord's midsagittal slice: its extent, and the tissue that bridges it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bids_app.lesions.frame import SliceFrame
from bids_app.lesions.place import Sections
from bids_app.records import BoolArray, FloatArray, IntArray

# How far beyond the lesion the cord's middle is sought, in slices.
_BEYOND = 2
# A middle this near to a slice (in voxels) lies on it: rounding alone adds no second slice.
_ON_SLICE = 1e-6


@dataclass(frozen=True)
class Midsagittal:
    """A lesion in the midsagittal slice; all but `x_mm` are None where it does not meet it.

    Attributes
    ----------
    x_mm : float
        World coordinate of the slice, towards the patient's right.
    length_mm, width_mm : float or None
        Extent along the cord and from back to front.
    dorsal_bridge_mm, ventral_bridge_mm : float or None
        Narrowest healthy cord behind and before the lesion.
    """

    x_mm: float
    length_mm: float | None = None
    width_mm: float | None = None
    dorsal_bridge_mm: float | None = None
    ventral_bridge_mm: float | None = None

    @property
    def total_bridge_mm(self) -> float | None:
        """Give the sum of both bridges."""
        if self.dorsal_bridge_mm is None or self.ventral_bridge_mm is None:
            return None
        return self.dorsal_bridge_mm + self.ventral_bridge_mm

    def percent_of_bridges(self, bridge_mm: float | None) -> float | None:
        """Give one bridge's share of the sum of both; None where nothing is left of either.

        Examples
        --------
        >>> Midsagittal(0.0, 5.0, 2.0, 1.0, 3.0).percent_of_bridges(1.0)
        25.0
        """
        total = self.total_bridge_mm
        return 100 * bridge_mm / total if total and bridge_mm is not None else None


def midsagittal_of(
    voxels: IntArray, healthy: BoolArray, sections: Sections, cos_sagittal: FloatArray
) -> Midsagittal:
    """Measure a lesion in the cord's midsagittal slice.

    The slice lies at the mean left-right centre of mass of the cord, over the lesion's slices
    and two more at either end. Where it falls between two sagittal planes of voxels, each
    counts by its nearness; a slice across the cord where only one of them meets the lesion
    takes its bridges from that one. As in `sct_analyze_lesion` (De Leener et al. 2017) the
    bridges are the smallest widths over the lesion's slices, so the two may come from
    different heights. Source of the concept: Huber et al. 2017, Ann Neurol 81:740-748.

    Parameters
    ----------
    voxels : ndarray of int, shape (n, 3)
        Voxels of one lesion.
    healthy : ndarray of bool, shape (i, j, k)
        Cord without any lesion: what another lesion takes is no bridge.
    sections : Sections
        Of the cord, lesions included.
    cos_sagittal : ndarray of shape (slices,)
        Cosine of the cord's angle to the slice normal as seen from the side.

    Returns
    -------
    Midsagittal
        Only with its place for a parasagittal lesion, one that neither plane meets, and for
        a cord without direction (`cos_sagittal` is NaN).
    """
    frame = sections.frame
    at = voxels[:, frame.axis]
    first, last = int(at.min()), int(at.max())
    around = sections.center_voxel[max(0, first - _BEYOND) : last + _BEYOND + 1]
    middle = np.nanmean(around, axis=0)
    x_mm = float(frame.world(middle[None])[0, 0])
    planes = _planes(float(middle[frame.lr_axis]))
    weight = np.array([[share] for _, share in planes])
    seen = np.stack([_seen(voxels, healthy, frame, side, (first, last)) for side, _ in planes])
    cos = cos_sagittal[first : last + 1]
    there = seen[:, 0] > 0
    met = there.any(axis=0)
    if not met.any() or np.isnan(cos).any():
        return Midsagittal(x_mm)
    # Each plane's share of the bridges: none where it does not meet the lesion.
    share = (there * weight)[:, met]
    share = share / share.sum(axis=0)
    step_mm = frame.ap_step_mm * cos[met]
    dorsal, ventral = (share * seen[:, row, met] for row in (1, 2))
    return Midsagittal(
        x_mm=x_mm,
        length_mm=float(np.sum(there * weight * frame.thickness_mm / cos)),
        width_mm=float(np.max(np.sum(seen[:, 0] * weight, axis=0) * frame.ap_step_mm * cos)),
        dorsal_bridge_mm=float(np.min(dorsal.sum(axis=0) * step_mm)),
        ventral_bridge_mm=float(np.min(ventral.sum(axis=0) * step_mm)),
    )


def _planes(middle: float) -> list[tuple[int, float]]:
    """Give the planes of voxels at a fractional index, each with its weight."""
    nearest = round(middle)
    if abs(middle - nearest) < _ON_SLICE:
        return [(nearest, 1.0)]
    low = int(np.floor(middle))
    return [(low, low + 1 - middle), (low + 1, middle - low)]


def _seen(
    voxels: IntArray, healthy: BoolArray, frame: SliceFrame, side: int, extent: tuple[int, int]
) -> IntArray:
    """Count, in one sagittal plane, the lesion's voxels and the healthy ones behind and before.

    Returns an array of shape (3, slices of the lesion); zeros where it is not in the plane.
    """
    first, last = extent
    here = voxels[voxels[:, frame.lr_axis] == side]
    row, along = here[:, frame.axis] - first, here[:, frame.ap_axis]
    count = np.bincount(row, minlength=last - first + 1)
    lowest = np.full(len(count), healthy.shape[frame.ap_axis])
    highest = np.full(len(count), -1)
    np.minimum.at(lowest, row, along)
    np.maximum.at(highest, row, along)
    order = (frame.lr_axis, frame.axis, frame.ap_axis)
    plane = np.moveaxis(healthy, order, (0, 1, 2))[side, first : last + 1]
    position = np.arange(plane.shape[1])
    below = np.count_nonzero(plane & (position < lowest[:, None]), axis=1)
    above = np.count_nonzero(plane & (position > highest[:, None]), axis=1)
    dorsal, ventral = (below, above) if frame.anterior_rises else (above, below)
    return np.stack([count, np.where(count, dorsal, 0), np.where(count, ventral, 0)])
