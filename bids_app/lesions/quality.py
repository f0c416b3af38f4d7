"""Whether the masks of a session hold together: pieces, gaps, edges, steps, and how sure."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bids_app.records import BoolArray, Findings, FloatArray, IntArray, Quality, Segmentation


def judge_masks(
    findings: Findings, segmentation: Segmentation, spacing_mm: tuple[float, float, float]
) -> Quality:
    """Measure what may be wrong with a cord mask and the lesions in it.

    Parameters
    ----------
    findings : Findings
        Arrays whose third axis runs along the cord, as canonical ones do.
    segmentation : Segmentation
        The network's maps on the same grid.
    spacing_mm : tuple of float

    Returns
    -------
    mapping
        Values of `bids_app.records.SEGMENTATION_MEASURES`; None where one is undefined, such as
        the step of the area with fewer than four slices.

    Examples
    --------
    >>> cord = np.zeros((3, 3, 9), bool)
    >>> cord[1, 1, 1:8] = True
    >>> cord[1, 1, 4] = False
    >>> nothing = np.zeros(cord.shape)
    >>> found = judge_masks(Findings(cord, cord & False, nothing.astype(int)),
    ...     Segmentation(nothing, nothing, nothing), (1.0, 1.0, 2.5))
    >>> found["cord_pieces"], found["cord_gap_mm"], found["cord_edge_mm"]
    (2, 2.5, 0.0)
    """
    cord = findings.cord
    areas = cord.sum(axis=(0, 1))
    _, pieces = ndimage.label(cord, np.ones((3, 3, 3)))
    return {
        "cord_pieces": int(pieces),
        "cord_gap_mm": _gaps(areas) * spacing_mm[2],
        "cord_edge_mm": _at_side(cord) * spacing_mm[2],
        "cord_area_step": _area_step(areas),
        "cord_probability": float(segmentation.cord[cord].mean()) if cord.any() else None,
        "lesions_at_edge": _at_edge(findings.instances),
        "uncertainty": float(segmentation.uncertainty[cord].mean()) if cord.any() else None,
    }


def _gaps(areas: IntArray) -> int:
    shown = np.flatnonzero(areas)
    return int(shown[-1] - shown[0] + 1 - len(shown)) if len(shown) else 0


def _at_side(cord: BoolArray) -> int:
    touching = cord[[0, -1]].any(axis=(0, 1)) | cord[:, [0, -1]].any(axis=(0, 1))
    return int(touching.sum())


def _area_step(areas: IntArray) -> float | None:
    """Give the largest step between slices that follow one another, the ends left out."""
    shown = np.flatnonzero(areas)
    if len(shown) < 4:
        return None
    inner: FloatArray = areas[shown[0] + 1 : shown[-1]].astype(np.float64)
    return float(np.abs(np.diff(inner)).max() / np.median(areas[shown]))


def _at_edge(instances: IntArray) -> int:
    faces = [instances.take([0, -1], axis=axis) for axis in range(3)]
    return len(set(np.unique(np.concatenate([face.ravel() for face in faces]))) - {0})
