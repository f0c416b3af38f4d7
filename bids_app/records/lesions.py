"""What is measured of lesions and cord, in a session and over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bids_app.records.arrays import BoolArray, FloatArray, IntArray

Change = Literal[
    "baseline",
    "new",
    "enlarging",
    "stable",
    "shrinking",
    "merged",
    "split",
    "resolved",
    "not-covered",
]

LEVEL_NAMES = (
    *(f"C{n}" for n in range(1, 8)),
    *(f"T{n}" for n in range(1, 13)),
    *(f"L{n}" for n in range(1, 6)),
    "S1",
)
"""Names of the vertebral levels; level n is ``LEVEL_NAMES[n - 1]``."""


@dataclass(frozen=True)
class Lesion:
    """One lesion's measures; None where a measure is undefined (written as ``n/a``)."""

    index: int
    voxels: int
    volume_mm3: float
    length_mm: float | None
    center_mm: tuple[float, float, float]
    max_axial_diameter_mm: float | None
    max_axial_damage_ratio: float | None
    mean_probability: float
    max_probability: float
    ap_width_mm: float | None = None
    surface_distance_mm: float | None = None
    quadrant: str | None = None
    midsagittal_x_mm: float | None = None
    midsagittal_length_mm: float | None = None
    midsagittal_width_mm: float | None = None
    dorsal_bridge_mm: float | None = None
    ventral_bridge_mm: float | None = None
    total_bridge_mm: float | None = None
    dorsal_bridge_percent: float | None = None
    ventral_bridge_percent: float | None = None
    orientation_deg: float | None = None
    confluence: int | None = None
    level: str | None = None
    level_from: str | None = None
    level_to: str | None = None
    probability: float | None = None
    white_matter_fraction: float | None = None
    grey_matter_fraction: float | None = None
    tract: str | None = None
    tract_fraction: float | None = None


@dataclass(frozen=True)
class Cord:
    """The cord's own measures over the field of view; None where undefined."""

    volume_mm3: float
    length_mm: float | None
    mean_area_mm2: float | None
    ap_diameter_mm: float | None = None
    lr_diameter_mm: float | None = None


@dataclass(frozen=True)
class VertebralLevel:
    """The cord at one vertebral level; None where a measure is undefined.

    Attributes
    ----------
    index : int
        1 is C1, 8 is T1, 20 is L1.
    name : str
    slices : int
        Slices whose middle of the cord is at this level.
    coverage : float
        Fraction of the level that is in view, 0 to 1.
    """

    index: int
    name: str
    slices: int
    length_mm: float
    coverage: float
    area_mm2: float | None
    ap_diameter_mm: float | None
    lr_diameter_mm: float | None
    volume_mm3: float
    lesion_count: int
    lesion_volume_mm3: float


@dataclass(frozen=True)
class Visit:
    """One session of a subject as tracking sees it, on the session's own grid.

    Attributes
    ----------
    instances : ndarray of int, shape (i, j, k)
        0 is background.
    cord : ndarray of bool, shape (i, j, k)
    affine : ndarray of shape (4, 4)
        From voxel indices to RAS+ millimetres.
    from_first : ndarray of shape (4, 4)
        Maps RAS+ points of the first session to RAS+ points of this one.
    """

    instances: IntArray
    cord: BoolArray
    affine: FloatArray
    from_first: FloatArray


@dataclass(frozen=True)
class TrackedLesion:
    """What became of one lesion at one visit; None where something is undefined.

    Attributes
    ----------
    lesion_id : int
        The lesion's number in its subject, the same at all visits.
    visit : int
        Index of the visit.
    change : Change
    index : int or None
        Its number among the instances of the visit; None when it is not there.
    volume_mm3 : float or None
        0 when it resolved.
    compared_with : int or None
        Index of the earlier visit.
    volume_before_mm3, volume_change_percent, change_limit_percent : float or None
        Over what both visits cover; of a merger or a split, of all its lesions together.
    came_from : tuple of int
        Lesions of the earlier visit that are linked to this one.
    merged_into : int or None
        The lesion that this one is now a part of.
    overlap, distance_mm : float or None
        Of the link to its own earlier place.
    covered_fraction : float or None
        How much of its place the visit it is compared with (that does not show it: this
        visit) covers.
    """

    lesion_id: int
    visit: int
    change: Change
    index: int | None = None
    volume_mm3: float | None = None
    compared_with: int | None = None
    volume_before_mm3: float | None = None
    volume_change_percent: float | None = None
    change_limit_percent: float | None = None
    came_from: tuple[int, ...] = ()
    merged_into: int | None = None
    overlap: float | None = None
    distance_mm: float | None = None
    covered_fraction: float | None = None


@dataclass(frozen=True)
class Interval:
    """An expected value and the interval round it: low <= expected <= high."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class Expected:
    """How many lesions a session is expected to have, and of what volume in all."""

    count: Interval
    volume_mm3: Interval


@dataclass(frozen=True)
class Calibration:
    """How often a model is right and what it misses, fitted on sessions with known lesions.

    Attributes
    ----------
    intercept, mean_logit_weight, peak_logit_weight, log_volume_weight : float
        Log-odds that a candidate is a lesion: the intercept plus the weighted mean and peak of
        its voxels' log-odds and the natural logarithm of its volume in mm³.
    candidate_threshold : float
        Probability from which voxels make a candidate.
    missed_per_mm : tuple of float
        Expected number of lesions without a candidate in each mm of cord: with one contrast,
        with two.
    missed_dispersion : float
        Their number's variance is mean + dispersion mean² (negative binomial); 0 is Poisson.
    volume_log_intercept, volume_log_slope, volume_log_sd : float
        ln(true volume) of a right candidate = intercept + slope ln(its volume), +- sd; mm³.
    missed_volume_log_mean, missed_volume_log_sd : float
        Of ln(volume in mm³) of lesions without a candidate.
    preset : mapping
        The post-processing for which all this holds, setting by setting.
    source : str
        What it was fitted on.
    """

    intercept: float
    mean_logit_weight: float
    peak_logit_weight: float
    log_volume_weight: float
    candidate_threshold: float
    missed_per_mm: tuple[float, float]
    missed_dispersion: float
    volume_log_intercept: float
    volume_log_slope: float
    volume_log_sd: float
    missed_volume_log_mean: float
    missed_volume_log_sd: float
    preset: Mapping[str, Any]
    source: str = ""

    def missed_mean(self, cord_length_mm: float, contrasts: int) -> float:
        """Give the expected number of lesions without a candidate."""
        return self.missed_per_mm[min(contrasts, 2) - 1] * cord_length_mm
