"""The quality of a session, measured where its images are: both contrasts, masks, alignment."""

from __future__ import annotations

import math

import numpy as np

from bids_app.imaging.grids import box_around, coverage, crop, resample_part
from bids_app.imaging.quality import judge_signal
from bids_app.lesions.quality import judge_masks
from bids_app.records import (
    QUALITY_MEASURES,
    Alignment,
    Findings,
    FloatArray,
    Prepared,
    Quality,
    Segmentation,
    Volume,
)

_DIGITS = 4


def judge_quality(
    prepared: Prepared, segmentation: Segmentation, findings: Findings, second: Volume | None
) -> Quality:
    """Measure the quality of a session's images, of their alignment and of its masks.

    Parameters
    ----------
    prepared : Prepared
        With the reference first.
    segmentation : Segmentation
    findings : Findings
        On the grid of `prepared`.
    second : Volume, optional
        The second contrast on its own grid, canonical: resampled, it would have less noise.

    Returns
    -------
    mapping
        A value of four digits, or None, for each of `bids_app.records.QUALITY_MEASURES`.
    """
    reference, spacing_mm = prepared.reference, prepared.reference.spacing_mm
    own = judge_signal(reference.data, findings.cord, findings.lesion, spacing_mm)
    values: dict[str, int | float | None] = {
        "voxel_mm3": reference.voxel_mm3,
        "slice_thickness_mm": max(spacing_mm),
        "cord_snr": own.snr,
        "cord_cnr": own.cnr,
        "cord_signal_range": own.signal_range,
        **_of_second(reference, findings, second, prepared.alignment),
        **judge_masks(findings, segmentation, spacing_mm),
    }
    return {measure.name: _rounded(values.get(measure.name)) for measure in QUALITY_MEASURES}


def _of_second(
    reference: Volume, findings: Findings, second: Volume | None, alignment: Alignment | None
) -> dict[str, float | None]:
    """Measure the second contrast on its own grid, to which the masks are brought."""
    if second is None or alignment is None:
        return {}
    matrix = np.asarray(alignment.matrix, dtype=np.float64)
    back = np.linalg.inv(matrix)
    # Lesions are part of the cord: one image holds both.
    both = findings.cord.astype(np.uint8) + findings.lesion
    both = resample_part(Volume(both, reference.affine), second, back, "nearest").data
    signal = judge_signal(second.data, both > 0, both > 1, second.spacing_mm)
    box = box_around(findings.cord, reference.spacing_mm, 0.0)
    seen = coverage(second, crop(reference, box), matrix)[findings.cord[box]]
    scores = (alignment.score_registered, alignment.score_headers)
    return {
        "second_cord_snr": signal.snr,
        "second_cord_cnr": signal.cnr,
        "second_coverage": float(seen.mean()) if seen.size else None,
        "registration_score": scores[0] if alignment.accepted else scores[1],
        "registration_shift_mm": _shift_mm(findings, reference, matrix),
    }


def _shift_mm(findings: Findings, reference: Volume, matrix: FloatArray) -> float | None:
    """Give the mean distance by which a transform moves the cord's voxels."""
    places = np.argwhere(findings.cord)
    if not len(places):
        return None
    points = places @ reference.affine[:3, :3].T + reference.affine[:3, 3]
    moved = points @ matrix[:3, :3].T + matrix[:3, 3]
    return float(np.linalg.norm(moved - points, axis=1).mean())


def _rounded(value: int | float | None) -> int | float | None:
    """Keep four digits; None for what is no number."""
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
