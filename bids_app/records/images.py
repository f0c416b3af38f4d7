"""Images and what a network makes of them: these hold arrays and never cross a process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bids_app.records.arrays import BoolArray, FloatArray, IntArray


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
class Glimpse:
    """What a network sees of one contrast by itself, before the contrasts are aligned.

    Attributes
    ----------
    cord : ndarray of shape (i, j, k), float32
        Probability.
    lesion : ndarray of shape (i, j, k), float32, or None
        Probability, where it was asked for.
    """

    cord: FloatArray
    lesion: FloatArray | None = None


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
    rough_cord : ndarray of bool, optional
        About where the cord is, on the channels' grid, when that is known before segmenting.
    glimpses : tuple of Glimpse or None
        Of each channel by itself, on the channels' grid; with lesions only if seen by the model
        that is to segment. Empty where there was no such look.
    """

    channels: tuple[Volume | None, ...]
    alignment: Alignment | None = None
    contrasts: tuple[str | None, ...] = ()
    rough_cord: BoolArray | None = None
    glimpses: tuple[Glimpse | None, ...] = ()

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
