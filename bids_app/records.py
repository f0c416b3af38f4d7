"""The nouns that travel between the stages: frozen dataclasses, no input or output.

Small records (`Scan`, `Session`, `Job`, `Outcome`) can be pickled and cross process
boundaries; those that hold arrays (`Volume`, `Prepared`, `Segmentation`) never do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
Status = Literal["done", "up-to-date", "failed"]
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

# The contrasts that are known by name, and what files and models may call them instead.
CONTRASTS = ("T2w", "STIR", "PSIR", "UNIT1", "T1w", "T2starw", "PDw")
OTHER_NAMES = {"T2star": "T2starw", "MP2RAGE": "UNIT1", "PD": "PDw"}


@dataclass(frozen=True)
class Scan:
    """One image file and what its name says.

    Attributes
    ----------
    path : Path
        The NIfTI file.
    entities : mapping
        BIDS entities by their short key (``sub``, ``ses``, ``acq``, ``run``, ...), without
        suffix and extension.
    suffix : str
        The last part of the name, such as ``T2w``.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str

    @property
    def contrast(self) -> str:
        """Name the contrast: ``acq-STIR_T2w`` is a STIR, whatever its suffix says."""
        acquisition = self.entities.get("acq", "").upper()
        for name in ("STIR", "PSIR"):
            if acquisition.startswith(name):
                return name
        return OTHER_NAMES.get(self.suffix, self.suffix)


@dataclass(frozen=True)
class Session:
    """All scans of one visit of one subject; labels come without ``sub-`` and ``ses-``."""

    subject: str
    session: str | None
    scans: tuple[Scan, ...] = ()

    @property
    def identifier(self) -> str:
        """Give ``sub-01_ses-M0``, or ``sub-01`` in a dataset without sessions."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")


@dataclass(frozen=True)
class GivenFile:
    """A file of other derivatives that a session uses.

    Attributes
    ----------
    path : Path
    dataset : str
        Name of the derivatives, as given with ``--derivatives NAME=DIR``.
    root : Path
        Their folder.
    """

    path: Path
    dataset: str
    root: Path


@dataclass(frozen=True)
class Job:
    """What will be done for one session: decided before anything is opened.

    Attributes
    ----------
    session : Session
    reference : Scan
        The scan that gives the grid of all results.
    second : Scan or None
        The second contrast.
    outputs : mapping
        Absolute path of each result by a short key (``lesion_mask``, ``cord_mask``, ...).
    set_aside : tuple of (Scan, str)
        Scans that are not used, each with the reason.
    cord, discs : GivenFile or None
        An existing cord mask and disc labels of the reference.
    """

    session: Session
    reference: Scan
    second: Scan | None
    outputs: Mapping[str, Path]
    set_aside: tuple[tuple[Scan, str], ...] = ()
    cord: GivenFile | None = None
    discs: GivenFile | None = None


@dataclass(frozen=True)
class Volume:
    """A three-dimensional image in the world (RAS+, millimetres).

    Attributes
    ----------
    data : ndarray of shape (i, j, k)
    affine : ndarray of shape (4, 4)
        From voxel indices to RAS+ millimetres.
    """

    data: NDArray[Any]
    affine: FloatArray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Give the voxel size along each array axis."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def voxel_mm3(self) -> float:
        """Give the volume of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def same_grid(self, other: Volume, tolerance_mm: float = 1e-3) -> bool:
        """Tell whether both have the same shape and place their voxels alike."""
        return self.data.shape == other.data.shape and bool(
            np.allclose(self.affine, other.affine, atol=tolerance_mm)
        )


@dataclass(frozen=True)
class Alignment:
    """How the second contrast was brought to the reference.

    Attributes
    ----------
    matrix : ndarray of shape (4, 4)
        Maps RAS+ points of the reference to RAS+ points of the moving image.
    accepted : bool
        False when the headers aligned at least as well and `matrix` is the identity.
    score_headers, score_registered : float
        Similarity (higher is better) before and after; ``nan`` where there was no overlap.
    metric : str
        Name of the similarity.
    """

    matrix: FloatArray
    accepted: bool
    score_headers: float
    score_registered: float
    metric: str


@dataclass(frozen=True)
class Prepared:
    """The network's channels on the reference grid; a missing channel is None.

    Attributes
    ----------
    channels : tuple of Volume or None
        The reference first.
    alignment : Alignment or None
        Of the second contrast.
    contrasts : tuple of str or None
        What each channel is (``Scan.contrast``); empty where nobody knows.
    """

    channels: tuple[Volume | None, ...]
    alignment: Alignment | None = None
    contrasts: tuple[str | None, ...] = ()

    def __post_init__(self) -> None:
        present = [channel for channel in self.channels if channel is not None]
        if not present:
            raise ValueError("Prepared needs at least one channel")
        if not all(channel.same_grid(present[0]) for channel in present):
            raise ValueError("Prepared channels must share one grid")

    @property
    def reference(self) -> Volume:
        """Give the first channel that is there."""
        return next(channel for channel in self.channels if channel is not None)


@dataclass(frozen=True)
class Combination:
    """How the folds of a model become one map.

    Attributes
    ----------
    rule : {"mean", "vote"}
        The mean of their probabilities, or the share of the folds that say lesion.
    fold_threshold : float
        Probability from which a fold says lesion; for votes.
    """

    rule: Literal["mean", "vote"] = "mean"
    fold_threshold: float = 0.5


@dataclass(frozen=True)
class Segmentation:
    """Maps on the reference grid, each float32 in [0, 1] of shape (i, j, k).

    Attributes
    ----------
    cord, lesion : ndarray
        Probabilities; with votes `lesion` is the share of the folds that say lesion.
    uncertainty : ndarray
    reach : ndarray of bool, optional
        Where lesions may lie, when that is decided already; by default near the cord.
    """

    cord: FloatArray
    lesion: FloatArray
    uncertainty: FloatArray
    reach: BoolArray | None = None


@dataclass(frozen=True)
class Findings:
    """What refining leaves of a segmentation, all on the reference grid.

    Attributes
    ----------
    cord : ndarray of bool
    lesion : ndarray of bool
    instances : ndarray of int
        0 is background; lesions count from 1 without gaps.
    """

    cord: BoolArray
    lesion: BoolArray
    instances: IntArray


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


@dataclass(frozen=True)
class Outcome:
    """The only thing that comes back from a worker."""

    identifier: str
    status: Status
    lesions: int | None = None
    seconds: float = 0.0
    error: str | None = None
    warnings: tuple[str, ...] = field(default_factory=tuple)
