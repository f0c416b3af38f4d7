"""Measure the lesions and the cord, in millimetres along and across the cord."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from bids_app.lesions.centerline import Centerline, trace_centerline, voxels_by_slice
from bids_app.lesions.frame import SliceFrame
from bids_app.lesions.midsagittal import midsagittal_of
from bids_app.lesions.place import Sections, place_lesion, sections_of
from bids_app.lesions.shape import confluence, orientation_deg
from bids_app.records import BoolArray, Cord, Findings, FloatArray, IntArray, Lesion


@dataclass(frozen=True)
class _Slices:
    """What a lesion is measured against: the cord, one value for each slice across it."""

    frame: SliceFrame
    line: Centerline
    sections: Sections
    healthy: BoolArray
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
    - maximum axial damage ratio: largest lesion area / cord area of one slice;
    - midsagittal extents and tissue bridges: see `midsagittal_of`.

    Not from there: `orientation_deg`, `confluence`, and `place_lesion` with the quadrant and
    the distance to the surface.

    The cord's length is the sum over its slices of thickness / cos(theta) (a slice without
    cord adds none), its mean area the mean over its slices of area times cos(theta). Its
    diameters are the means over its slices of those of the ellipse with the section's second
    moments, times the cosine of theta as seen from the side (AP) and from the front (LR).

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
    lesion = findings.lesion | (findings.instances > 0)
    cord = findings.cord | lesion
    line = trace_centerline(cord, affine)
    count = cord.shape[line.frame.axis]
    slices = _Slices(
        frame=line.frame,
        line=line,
        sections=sections_of(cord, line),
        healthy=cord & ~lesion,
        cord_voxels=voxels_by_slice(cord, line.frame.axis),
        cos_angle=line.spread(line.cos_angle, count),
        cos_sagittal=line.spread(line.cos_sagittal, count),
    )
    boxes = ndimage.find_objects(findings.instances)
    lesions = tuple(
        _measure_lesion(index, box, findings.instances, lesion_probability, slices)
        for index, box in enumerate(boxes, start=1)
        if box is not None
    )
    return lesions, _measure_cord(cord, slices)


def _voxels_of(instances: IntArray, index: int, box: tuple[slice, ...]) -> IntArray:
    corner = np.array([side.start for side in box])
    return np.asarray(np.argwhere(instances[box] == index) + corner)


def _measure_lesion(
    index: int,
    box: tuple[slice, ...],
    instances: IntArray,
    probability: FloatArray,
    slices: _Slices,
) -> Lesion:
    frame = slices.frame
    voxels = _voxels_of(instances, index, box)
    values = probability[tuple(voxels.T)]
    center = frame.world(voxels.mean(axis=0, keepdims=True))[0]
    place = place_lesion(voxels, slices.sections)
    side = midsagittal_of(voxels, slices.healthy, slices.sections, slices.cos_sagittal)
    return Lesion(
        index=index,
        voxels=len(voxels),
        volume_mm3=len(voxels) * frame.pixel_mm2 * frame.thickness_mm,
        center_mm=(float(center[0]), float(center[1]), float(center[2])),
        **_across(voxels[:, frame.axis], slices),
        mean_probability=float(values.mean(dtype=float)),
        max_probability=float(values.max()),
        ap_width_mm=_ap_width(voxels, slices),
        surface_distance_mm=place.surface_distance_mm,
        quadrant=place.quadrant,
        midsagittal_x_mm=side.x_mm,
        midsagittal_length_mm=side.length_mm,
        midsagittal_width_mm=side.width_mm,
        dorsal_bridge_mm=side.dorsal_bridge_mm,
        ventral_bridge_mm=side.ventral_bridge_mm,
        total_bridge_mm=side.total_bridge_mm,
        dorsal_bridge_percent=side.percent_of_bridges(side.dorsal_bridge_mm),
        ventral_bridge_percent=side.percent_of_bridges(side.ventral_bridge_mm),
        orientation_deg=orientation_deg(voxels, slices.line),
        confluence=confluence(instances, index, box, frame.spacing_mm),
    )


def _across(at: IntArray, slices: _Slices) -> dict[str, Any]:
    """Measure what follows from the number of the lesion's voxels in each slice."""
    used, areas = np.unique(at, return_counts=True)
    cos_angle = slices.cos_angle[used]
    across_mm2 = areas * slices.frame.pixel_mm2 * cos_angle
    return {
        "length_mm": _defined(np.sum(slices.frame.thickness_mm / cos_angle)),
        "max_axial_diameter_mm": _defined(2 * np.sqrt(across_mm2.max() / np.pi)),
        "max_axial_damage_ratio": float(np.max(areas / slices.cord_voxels[used])),
    }


def _ap_width(voxels: IntArray, slices: _Slices) -> float | None:
    at, along = voxels[:, slices.frame.axis], voxels[:, slices.frame.ap_axis]
    used, owner = np.unique(at, return_inverse=True)
    first = np.full(len(used), np.iinfo(along.dtype).max)
    last = np.full(len(used), -1)
    np.minimum.at(first, owner, along)
    np.maximum.at(last, owner, along)
    widths = (last - first + 1) * slices.frame.ap_step_mm * slices.cos_sagittal[used]
    return _defined(widths.max())


def _measure_cord(cord: BoolArray, slices: _Slices) -> Cord:
    frame, line = slices.frame, slices.line
    voxels = int(np.count_nonzero(cord))
    volume = voxels * frame.pixel_mm2 * frame.thickness_mm
    if len(line.slices) < 2:
        return Cord(volume_mm3=volume, length_mm=None, mean_area_mm2=None)
    areas = slices.cord_voxels[line.slices] * frame.pixel_mm2 * line.cos_angle
    right, anterior = 2 * slices.sections.half_width_mm[line.slices].T
    return Cord(
        volume_mm3=volume,
        length_mm=float(np.sum(frame.thickness_mm / line.cos_angle)),
        mean_area_mm2=float(areas.mean()),
        ap_diameter_mm=float(np.mean(anterior * line.cos_sagittal)),
        lr_diameter_mm=float(np.mean(right * line.cos_coronal)),
    )


def _defined(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
