"""Cord and lesions by vertebral level: a label image, a row a level, a name a lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bids_app.lesions.centerline import trace_centerline, voxels_by_slice
from bids_app.lesions.levels import LevelAxis, level_axis
from bids_app.lesions.place import sections_of
from bids_app.records import (
    LEVEL_NAMES,
    BoolArray,
    Findings,
    FloatArray,
    IntArray,
    Lesion,
    VertebralLevel,
)

REGIONS = {"cervical": range(1, 8), "thoracic": range(8, 20), "lumbar": range(20, 25)}
"""Numbers of the vertebral levels of each region."""


@dataclass(frozen=True)
class Vertebrae:
    """The cord and its lesions by vertebral level.

    Attributes
    ----------
    axis : LevelAxis
    labels : ndarray of uint8, shape (i, j, k)
        For each voxel of the cord the number of its level (1 is C1), 0 where unknown.
    levels : tuple of VertebralLevel
        Those that the cord shows, from the top down.
    lesions : tuple of Lesion
        Those that came in, with their levels.
    """

    axis: LevelAxis
    labels: IntArray
    levels: tuple[VertebralLevel, ...]
    lesions: tuple[Lesion, ...]

    def lesion_counts(self) -> dict[str, int | None]:
        """Count the lesions by region, by their centre's level; None for a region not in view."""
        shown = {level.index for level in self.levels}
        found = [lesion.level for lesion in self.lesions]
        return {
            region: sum(found.count(LEVEL_NAMES[n - 1]) for n in numbers)
            if shown & set(numbers)
            else None
            for region, numbers in REGIONS.items()
        }


def measure_vertebrae(
    findings: Findings,
    lesions: Sequence[Lesion],
    affine: FloatArray,
    discs: Mapping[int, FloatArray],
) -> Vertebrae:
    """Assign cord and lesions to vertebral levels and measure the cord in each.

    A voxel belongs to the level of its foot on the centreline; a slice, for areas and diameters,
    to that of the cord's middle in it.

    Parameters
    ----------
    findings : Findings
    lesions : sequence of Lesion
        Of these findings.
    affine : ndarray of shape (4, 4)
        From voxel indices to RAS+ millimetres.
    discs : mapping of int to ndarray of shape (3,)
        See `level_axis`.

    Returns
    -------
    Vertebrae
        Without levels, and with the reason in ``axis.remarks``, when the discs give none.
    """
    cord = findings.cord | (findings.instances > 0)
    axis = level_axis(trace_centerline(cord, affine), discs)
    voxels = np.argwhere(cord)
    coordinate = axis.at_points(axis.line.frame.world(voxels))
    number = np.where(coordinate < len(LEVEL_NAMES) + 1, np.floor(coordinate), 0)
    labels = np.zeros(cord.shape, dtype=np.uint8)
    # Where no slice's middle has a level, a voxel at the cord's edge may still seem to.
    if axis.known:
        labels[tuple(voxels.T)] = np.nan_to_num(number)
    located = tuple(_locate(lesion, findings.instances, axis) for lesion in lesions)
    return Vertebrae(axis, labels, _levels(cord, labels, findings, located, axis), located)


def _locate(lesion: Lesion, instances: IntArray, axis: LevelAxis) -> Lesion:
    """Name the levels of a lesion's centre and of its two ends."""
    if not axis.known or axis.course is None:
        return lesion
    points = axis.line.frame.world(np.argwhere(instances == lesion.index))
    arc = axis.course.arc_at(np.vstack([points, lesion.center_mm]))
    top, bottom, center = axis.at_arc(np.array([arc[:-1].max(), arc[:-1].min(), arc[-1]]))
    return replace(
        lesion,
        level=axis.name(center),
        level_from=axis.name(top),
        level_to=axis.name(bottom),
    )


def _levels(
    cord: BoolArray,
    labels: IntArray,
    findings: Findings,
    lesions: Sequence[Lesion],
    axis: LevelAxis,
) -> tuple[VertebralLevel, ...]:
    if not axis.known:
        return ()
    line = axis.line
    frame, at = line.frame, line.slices
    voxel_mm3 = frame.pixel_mm2 * frame.thickness_mm
    cord_voxels = np.bincount(labels[cord], minlength=len(LEVEL_NAMES) + 1)
    lesion_voxels = np.bincount(labels[findings.instances > 0], minlength=len(LEVEL_NAMES) + 1)
    centers = [lesion.level for lesion in lesions]
    lengths = frame.thickness_mm / line.cos_angle
    areas = voxels_by_slice(cord, frame.axis)[at] * frame.pixel_mm2 * line.cos_angle
    right, anterior = 2 * sections_of(cord, line).half_width_mm[at].T
    slice_level = np.nan_to_num(np.floor(axis.coordinate))
    # A slice has a thickness: the cord goes on for half of it beyond the last slice's middle.
    arc = axis.arc_mm
    ends_mm = (float(arc.min() - lengths[0] / 2), float(arc.max() + lengths[-1] / 2))
    rows = []
    for number in np.flatnonzero(cord_voxels[1:]) + 1:
        own = slice_level == number
        name = LEVEL_NAMES[number - 1]
        rows.append(
            VertebralLevel(
                index=int(number),
                name=name,
                slices=int(own.sum()),
                length_mm=float(lengths[own].sum()),
                coverage=_coverage(axis, ends_mm, int(number)),
                area_mm2=_mean(areas[own]),
                ap_diameter_mm=_mean((anterior * line.cos_sagittal)[own]),
                lr_diameter_mm=_mean((right * line.cos_coronal)[own]),
                volume_mm3=float(cord_voxels[number] * voxel_mm3),
                lesion_count=centers.count(name),
                lesion_volume_mm3=float(lesion_voxels[number] * voxel_mm3),
            )
        )
    return tuple(rows)


def _coverage(axis: LevelAxis, ends_mm: tuple[float, float], number: int) -> float:
    """Give the fraction of a level, by its coordinate, that the cord between its ends shows."""
    lowest, highest = axis.reach_mm
    bottom, top = axis.at_arc(np.clip(ends_mm, lowest, highest))
    return float(np.clip(min(bottom, number + 1) - max(top, number), 0, 1))


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if values.size else None
