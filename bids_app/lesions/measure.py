"""Measure the lesions and the cord, in millimetres along and across the cord."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from bids_app.lesions.centerline import Centerline, trace_centerline, voxels_by_slice
from bids_app.lesions.frame import SliceFrame
from bids_app.lesions.place import Place, place_lesion, sections_of
from bids_app.records import BoolArray, Cord, Findings, FloatArray, IntArray, Lesion


@dataclass(frozen=True)
class _Slices:
    """What a lesion is measured against, one value for each slice across the cord."""

    frame: SliceFrame
    cord_voxels: IntArray
    cos_angle: FloatArray
    cos_sagittal: FloatArray


def measure(
    findings: Findings, lesion_probability: FloatArray, affine: FloatArray
) -> tuple[tuple[Lesion, ...], Cord]:
    """Measure each lesion and the cord.

    Definitions follow `sct_analyze_lesion` of the Spinal Cord Toolbox (De Leener et al. 2017).
    With theta the angle between centreline and slice normal:

    - volume: voxels times voxel volume;
    - length: sum over the lesion's slices of thickness / cos(theta);
    - maximum axial diameter: of the circle of the largest area, 2 sqrt(area cos(theta) / pi);
    - AP width: largest antero-posterior extent in a slice, times the cosine of theta as seen
      from the side;
    - maximum axial damage ratio: largest lesion area / cord area of one slice.

    The cord's length is the sum over its slices of thickness / cos(theta) (a slice without
    cord adds none), its mean area the mean over its slices of area times cos(theta).

    Parameters
    ----------
    findings : Findings
        Lesion voxels count as cord even where the cord mask leaves them out.
    lesion_probability : ndarray of float, shape (i, j, k)
    affine : ndarray of shape (4, 4)
        From voxel indices to RAS+ millimetres; any orientation, oblique too.

    Returns
    -------
    lesions : tuple of Lesion
        In the order of the instances' numbers.
    cord : Cord
        Lengths, diameters, widths and areas need theta and are None when fewer than two
        slices show cord.
    """
    cord = findings.cord | findings.lesion
    line = trace_centerline(cord, affine)
    count = cord.shape[line.frame.axis]
    slices = _Slices(
        frame=line.frame,
        cord_voxels=voxels_by_slice(cord, line.frame.axis),
        cos_angle=line.spread(line.cos_angle, count),
        cos_sagittal=line.spread(line.cos_sagittal, count),
    )
    sections = sections_of(cord, line)
    boxes = ndimage.find_objects(findings.instances)
    lesions = []
    for index, box in enumerate(boxes, start=1):
        if box is not None:
            voxels = _voxels_of(findings.instances, index, box)
            place = place_lesion(voxels, sections)
            lesions.append(_measure_lesion(index, voxels, lesion_probability, slices, place))
    return tuple(lesions), _measure_cord(cord, line, slices)


def _voxels_of(instances: IntArray, index: int, box: tuple[slice, ...]) -> IntArray:
    corner = np.array([side.start for side in box])
    return np.asarray(np.argwhere(instances[box] == index) + corner)


def _measure_lesion(
    index: int, voxels: IntArray, probability: FloatArray, slices: _Slices, place: Place
) -> Lesion:
    frame = slices.frame
    at = voxels[:, frame.axis]
    used, areas = np.unique(at, return_counts=True)
    cos_angle = slices.cos_angle[used]
    across_mm2 = areas * frame.pixel_mm2 * cos_angle
    values = probability[tuple(voxels.T)]
    center = frame.world(voxels.mean(axis=0, keepdims=True))[0]
    return Lesion(
        index=index,
        voxels=len(voxels),
        volume_mm3=len(voxels) * frame.pixel_mm2 * frame.thickness_mm,
        length_mm=_defined(np.sum(frame.thickness_mm / cos_angle)),
        center_mm=(float(center[0]), float(center[1]), float(center[2])),
        max_axial_diameter_mm=_defined(2 * np.sqrt(across_mm2.max() / np.pi)),
        max_axial_damage_ratio=float(np.max(areas / slices.cord_voxels[used])),
        mean_probability=float(values.mean(dtype=float)),
        max_probability=float(values.max()),
        ap_width_mm=_ap_width(voxels, slices),
        surface_distance_mm=place.surface_distance_mm,
        quadrant=place.quadrant,
    )


def _ap_width(voxels: IntArray, slices: _Slices) -> float | None:
    at, along = voxels[:, slices.frame.axis], voxels[:, slices.frame.ap_axis]
    used, owner = np.unique(at, return_inverse=True)
    first = np.full(len(used), np.iinfo(along.dtype).max)
    last = np.full(len(used), -1)
    np.minimum.at(first, owner, along)
    np.maximum.at(last, owner, along)
    widths = (last - first + 1) * slices.frame.ap_step_mm * slices.cos_sagittal[used]
    return _defined(widths.max())


def _measure_cord(cord: BoolArray, line: Centerline, slices: _Slices) -> Cord:
    frame = slices.frame
    voxels = int(np.count_nonzero(cord))
    volume = voxels * frame.pixel_mm2 * frame.thickness_mm
    if len(line.slices) < 2:
        return Cord(volume_mm3=volume, length_mm=None, mean_area_mm2=None)
    areas = slices.cord_voxels[line.slices] * frame.pixel_mm2 * line.cos_angle
    return Cord(
        volume_mm3=volume,
        length_mm=float(np.sum(frame.thickness_mm / line.cos_angle)),
        mean_area_mm2=float(areas.mean()),
    )


def _defined(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
