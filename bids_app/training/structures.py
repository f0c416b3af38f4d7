"""Turn a spine into tissues at given points: soft-edged layers, painted back to front.

All shapes are written in cord coordinates: `u` to the right and `v` to the front of the cord's
centre in the plane perpendicular to its course, `h` the height along it, in millimetres. A
layer covers what lies beneath it by its membership in [0, 1], which falls from 1 to 0 over
about a voxel: partial volume without supersampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bids_app.records import FloatArray
from bids_app.training import painters
from bids_app.training.anatomy import BOTTOM_MM, Spine
from bids_app.training.canvas import Canvas, Frame, Layer

Array = FloatArray

# The table is looked up without interpolation, at this resolution.
_STEPS_PER_MM = 8


@dataclass(frozen=True)
class Anatomy:
    """A spine seen at the points of a grid.

    Attributes
    ----------
    shape : tuple of int
    layers : tuple of Layer
        Back to front; the first covers everything.
    cord : ndarray of shape `shape`, float32
        Membership of the cord, lesions included.
    lesions : ndarray of shape (2, *shape), float32
        Lesion membership times strength for each channel, largest lesion winning.
    lesion_sizes : tuple of ndarray
        Membership of each lesion that meets the grid: (flat indices, membership, strengths).
    texture : ndarray of shape (3, *shape), float32
        Smooth noise, unit variance, of coarse to fine scale.
    """

    shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    cord: Array
    lesions: tuple[tuple[NDArray[np.int64], Array, tuple[float, float]], ...]
    texture: Array


def _frame(spine: Spine, points: Array) -> Frame:
    """Cord coordinates to first order: planes perpendicular to the cord at each height."""
    row = spine.rows()
    last = (spine.table.shape[1] - 1) * _STEPS_PER_MM
    places = np.arange(last + 1) / _STEPS_PER_MM
    line = {
        name: np.interp(places, np.arange(spine.table.shape[1]), spine.table[index]).astype(
            np.float32
        )
        for name, index in row.items()
    }
    x, y, z = points

    def place(height: Array) -> NDArray[np.int32]:
        return ((height - BOTTOM_MM) * _STEPS_PER_MM + 0.5).clip(0, last).astype(np.int32)

    step = place(z)
    slope_x = np.gradient(line["center_x"], 1 / _STEPS_PER_MM).astype(np.float32).take(step)
    slope_y = np.gradient(line["center_y"], 1 / _STEPS_PER_MM).astype(np.float32).take(step)
    shift = (x - line["center_x"].take(step)) * slope_x + (
        y - line["center_y"].take(step)
    ) * slope_y
    shift /= 1 + slope_x**2 + slope_y**2
    h = z + np.clip(shift, -25, 25)
    step = place(h)
    value = {name: values.take(step) for name, values in line.items()}
    u, v = x - value.pop("center_x"), y - value.pop("center_y")
    return Frame(u, v * np.sqrt(1 + slope_y**2), h, value)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], step: tuple[float, ...]
) -> Array:
    """Draw smooth noise of unit variance: a coarse grid, interpolated linearly.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : tuple of int
    step : tuple of float
        Distance of the coarse grid's nodes along each axis, in voxels.
    """
    coarse = [max(2, round(n / s) + 1) for n, s in zip(shape, step, strict=True)]
    nodes = torch.from_numpy(rng.standard_normal(coarse).astype(np.float32))
    full = torch.nn.functional.interpolate(
        nodes[None, None], shape, mode="trilinear", align_corners=True
    )
    field = full[0, 0].numpy()
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), np.float32)


def paint(spine: Spine, points: Array, spacing_mm: float) -> Anatomy:
    """Evaluate a spine at the points of a grid.

    Parameters
    ----------
    spine : Spine
    points : ndarray of shape (3, i, j, k), float32
        World coordinates (RAS+, mm) in the spine's own frame.
    spacing_mm : float
        Distance of neighbouring points: the width of the soft edges.

    Returns
    -------
    Anatomy
    """
    shape = (points.shape[1], points.shape[2], points.shape[3])
    rng = np.random.default_rng(spine.seed)
    local = np.random.default_rng((spine.seed, int(abs(points[:, 0, 0, 0]).sum() * 8)))
    steps = (22.0, 7.0, 2.2) if spacing_mm <= 1 else (14.0, 5.0, 2.0)
    texture = np.stack([smooth_noise(local, shape, (step,) * 3) for step in steps])
    frame = _frame(spine, points.reshape(3, -1))
    canvas = Canvas(frame.u.size, max(spacing_mm, 0.7))
    flat = texture.reshape(3, -1)
    body = painters.paint_body(canvas, frame, flat, rng)
    painters.paint_neck_and_chest(canvas, frame, flat, body, rng)
    painters.paint_head(canvas, frame, flat, rng)
    painters.paint_vertebrae(canvas, frame, flat, rng)
    painters.paint_canal(canvas, frame, flat, rng)
    cord = painters.paint_cord(canvas, frame, spine, rng)
    if rng.random() < 0.04:
        painters.paint_implant(canvas, frame, rng)
    lesions = painters.find_lesions(frame, spine, cord, flat)
    cord = cord.copy()
    cord[frame.h > 4.0] = 0
    return Anatomy(shape, tuple(canvas.layers), cord.reshape(shape), lesions, texture)
