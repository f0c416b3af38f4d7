"""Pictures of lesion frequency in template space: seen from the side, the front and above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from bids_app.records import FloatArray
from bids_app.reports.pictures import data_address
from bids_app.reports.view import Picture, enlarge

_ALONG_PIXELS_PER_MM = 2.0
_ACROSS_PIXELS_PER_MM = 14.0
_MARGIN_MM = 2.0
_COLORS = "viridis"
_UNSEEN = (225, 228, 232)


@dataclass(frozen=True)
class FrequencyView:
    """How often there is a lesion, at each place of the template.

    Attributes
    ----------
    group : str
    participants : int
        How many count.
    frequency : ndarray of shape (i, j, k)
        Canonical; 0 to 1, NaN where nobody was looked at.
    spacing_mm : tuple of float
    discs : sequence of (str, float)
        Name of each disc and its place along the third axis, as an index.
    """

    group: str
    participants: int
    frequency: FloatArray
    spacing_mm: tuple[float, float, float]
    discs: Sequence[tuple[str, float]] = ()


def map_pictures(view: FrequencyView) -> dict[str, Any]:
    """Show a map along the cord, from two sides, and across it.

    Returns
    -------
    dict
        ``side``, ``front`` (highest frequency in the line of sight) and ``across`` (mean over the
        cord's length) as data addresses, ``bar`` (the colour scale, from 0 to ``highest`` or
        ``highest_mean``), ``discs`` (name and percent of the height from the top), ``height`` of
        the pictures along the cord in pixels, ``group`` and ``participants``.
    """
    box = _box(view)
    seen = view.frequency[box]
    x, y, z = view.spacing_mm
    planes = (_largest(seen, 0), _largest(seen, 1), _mean(seen))
    side, front, across = (_ceiling(plane) for plane in planes)
    top = box[2].stop
    height = top - box[2].start
    discs = [
        (name, 100 * (top - place) / height)
        for name, place in view.discs
        if box[2].start <= place < top
    ]
    # Rows from head to feet or front to back, columns to the patient's left, as reports show it.
    pictures = [
        _colored(plane.T[::-1, ::-1], spacing, pixels, ceiling)
        for plane, spacing, pixels, ceiling in (
            (planes[0], (z, y), _ALONG_PIXELS_PER_MM, max(side, front)),
            (planes[1], (z, x), _ALONG_PIXELS_PER_MM, max(side, front)),
            (planes[2], (y, x), _ACROSS_PIXELS_PER_MM, across),
        )
    ]
    bar = np.repeat(np.linspace(0, 1, 160)[None], 12, axis=0)
    return {
        "group": view.group,
        "participants": view.participants,
        "highest": max(side, front),
        "highest_mean": across,
        "side": data_address(pictures[0]),
        "front": data_address(pictures[1]),
        "across": data_address(pictures[2]),
        "bar": data_address(np.asarray(colormaps[_COLORS](bar)[..., :3] * 255, np.uint8)),
        "discs": discs,
        "height": pictures[0].shape[0],
    }


def _box(view: FrequencyView) -> tuple[slice, slice, slice]:
    """Cut to what was looked at, with a margin."""
    known = np.isfinite(view.frequency)
    if not known.any():
        i, j, k = (slice(0, n) for n in known.shape)
        return i, j, k
    parts = []
    for axis, spacing in enumerate(view.spacing_mm):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(known.any(axis=others))
        margin = round(_MARGIN_MM / spacing)
        stop = min(known.shape[axis], int(inside[-1]) + 1 + margin)
        parts.append(slice(max(0, int(inside[0]) - margin), stop))
    return parts[0], parts[1], parts[2]


def _ceiling(plane: FloatArray) -> float:
    """Give the highest value that is known; just above 0 where there is none."""
    return max(float(np.nanmax(plane, initial=0.0)), 1e-6)


def _largest(seen: FloatArray, axis: int) -> FloatArray:
    """Give the highest value in the line of sight; NaN where nothing was looked at."""
    filled = np.where(np.isfinite(seen), seen, -1.0).max(axis=axis)
    return np.asarray(np.where(filled < 0, np.nan, filled))


def _mean(seen: FloatArray) -> FloatArray:
    known = np.isfinite(seen).sum(axis=2)
    total = np.nansum(seen, axis=2)
    return np.asarray(np.divide(total, known, out=np.full(total.shape, np.nan), where=known > 0))


def _colored(
    plane: NDArray[Any], spacing_mm: tuple[float, float], pixels_per_mm: float, highest: float
) -> Picture:
    large = np.asarray(enlarge(plane, spacing_mm, pixels_per_mm, 0), np.float64)
    picture = np.asarray(colormaps[_COLORS](np.nan_to_num(large) / highest)[..., :3] * 255)
    picture[~np.isfinite(large)] = _UNSEEN
    return np.asarray(picture, np.uint8)
