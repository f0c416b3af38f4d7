"""Image a synthetic person: a session with known cord and lesions, as arrays.

Unlike a training patch, a session is a whole scan as a dataset holds it: the second contrast on a
grid of its own, displaced by a known rigid movement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_app.records import BoolArray, FloatArray
from bids_app.training.acquisition import Protocol, apply_axes, degrade, slice_matrix
from bids_app.training.anatomy import SMALLEST_LESION_MM3, Spine
from bids_app.training.contrasts import draw_contrast, render
from bids_app.training.patches import visible_lesions
from bids_app.training.poses import fine_points
from bids_app.training.structures import Anatomy, paint

Array = FloatArray

_FINE_MM = 0.8
FIELD_MM = (48.0, 112.0, 168.0)
SAGITTAL = Protocol("sagittal", (3.0, 0.8, 0.8), (2.8, 0.8, 0.8))
AXIAL = Protocol("axial", (0.7, 0.7, 5.0), (0.7, 0.7, 4.5))
ISOTROPIC = Protocol("isotropic", (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
# Noise and artefacts of the demo relative to the training's range.
_DEGRADATION = 0.5


@dataclass(frozen=True)
class Recipe:
    """How a session is acquired.

    Attributes
    ----------
    first : Protocol
        Of the T2w.
    second : Protocol or None
        Of the second contrast.
    contrast : str or None
        Name of the second contrast, see `bids_app.training.contrasts.draw_contrast`.
    reference : str
        Name of the first one.
    """

    first: Protocol
    second: Protocol | None
    contrast: str | None
    reference: str = "T2w"


@dataclass(frozen=True)
class Imaged:
    """A session in the scanner, arrays in RAS order.

    Attributes
    ----------
    first, second : tuple of (ndarray, ndarray)
        Image and affine; `second` is None without a second contrast.
    matrix : ndarray of shape (4, 4)
        From RAS+ mm of the first to RAS+ mm of the second.
    cord, lesion : ndarray of bool
        Ground truth on the grid of `first`.
    specks : ndarray of bool
        Pieces of lesion that are no part of `lesion`, because they are smaller than
        `bids_app.training.anatomy.SMALLEST_LESION_MM3`: what the grid cuts off.
    lesion_in_first : ndarray of bool
        The lesions that show in the first contrast: all that one sees without the second.
    discs : mapping of int to ndarray of shape (3,)
        Posterior tips of the discs in RAS+ mm of `first`, by the Spinal Cord Toolbox's number
        (3 is C2/C3); those outside the field of view too.
    """

    first: tuple[Array, Array]
    second: tuple[Array, Array] | None
    matrix: Array
    cord: BoolArray
    lesion: BoolArray
    specks: BoolArray
    lesion_in_first: BoolArray
    discs: Mapping[int, Array] = field(default_factory=dict)


def image_session(
    rng: np.random.Generator,
    spine: Spine,
    height_mm: float,
    recipe: Recipe,
    pose: Array | None = None,
) -> Imaged:
    """Put a person in the scanner: pose, both contrasts on their own grids, ground truth.

    Parameters
    ----------
    rng : numpy.random.Generator
    spine : Spine
    height_mm : float
        Height of the middle of the field of view, see `bids_app.training.anatomy`.
    recipe : Recipe
    pose : ndarray of shape (4, 4), optional
        From RAS+ mm of the first image to the spine's frame; drawn by `draw_scanner_pose`
        when None.

    Returns
    -------
    Imaged
    """
    if pose is None:
        pose = draw_scanner_pose(rng, spine, height_mm)
    shape = tuple(int(mm / _FINE_MM) + 30 for mm in FIELD_MM)
    anatomy = paint(spine, fine_points((shape[0], shape[1], shape[2]), _FINE_MM, pose), _FINE_MM)
    fine = _affine((_FINE_MM,) * 3, anatomy.shape)
    first = _acquire(rng, anatomy, fine, recipe.first, 0, recipe.reference, np.eye(4))
    matrix = _known_displacement(rng)
    second = None
    if recipe.second is not None:
        second = _acquire(rng, anatomy, fine, recipe.second, 1, recipe.contrast, matrix)
    present = (True, recipe.second is not None)
    alone = visible_lesions(anatomy, (True, False))
    regions = np.stack([anatomy.cord, visible_lesions(anatomy, present), alone])
    cord, lesion, in_first = apply_axes(regions, _rows(anatomy, recipe.first))
    voxel_mm3 = float(np.prod(recipe.first.spacing_mm))
    filled, shown = (without_specks(share > 0.42, voxel_mm3) for share in (lesion, in_first))
    specks = (lesion > 0.42) & ~filled
    discs = _discs(spine, pose)
    whole = (cord > 0.5) | (lesion > 0.42)
    return Imaged(first, second, matrix, whole, filled, specks, shown, discs)


def without_specks(lesion: BoolArray, voxel_mm3: float) -> BoolArray:
    """Leave out pieces, joined by faces, that are smaller than any lesion is.

    Examples
    --------
    >>> mask = np.zeros((1, 1, 30), bool)
    >>> mask[..., :15] = mask[..., 20:28] = True
    >>> int(without_specks(mask, 1.0).sum()), int(without_specks(mask, 2.0).sum())
    (15, 23)
    """
    pieces, _ = ndimage.label(lesion)
    enough = np.bincount(pieces.ravel()) * voxel_mm3 >= SMALLEST_LESION_MM3
    return np.asarray(enough[pieces] & lesion)


def _discs(spine: Spine, pose: Array) -> dict[int, Array]:
    """Find the front of the dural sac at each disc, in the plane across the cord there."""
    to_grid = np.linalg.inv(pose.astype(float))
    points = {}
    # The spine's first disc is the joint of C1 and C2, number 2 by the toolbox's count.
    for number, height in enumerate(spine.disc_mm.astype(float), start=2):
        slope = spine.at("center_y", height + 0.5) - spine.at("center_y", height - 0.5)
        front = spine.at("sac_y", height) + spine.at("sac_b", height) + 1.0
        out = np.array([0.0, 1.0, -slope]) / np.hypot(1.0, slope)
        center = [spine.at("center_x", height), spine.at("center_y", height), height]
        points[number] = to_grid[:3, :3] @ (center + front * out) + to_grid[:3, 3]
    return points


def draw_scanner_pose(rng: np.random.Generator, spine: Spine, height_mm: float) -> Array:
    """Draw how a person lies in the scanner: a few degrees and millimetres off the middle."""
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = Rotation.from_euler("xyz", rng.normal(0, 3, 3), degrees=True).as_matrix()
    center = [spine.at("center_x", height_mm), spine.at("center_y", height_mm) + 6, height_mm]
    pose[:3, 3] = np.array(center) + rng.normal(0, 2, 3)
    return pose


def _known_displacement(rng: np.random.Generator) -> Array:
    """From reference to second contrast, RAS+ mm: a few millimetres and degrees."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-4, 4, 3), degrees=True).as_matrix()
    matrix[:3, 3] = rng.uniform(-4, 4, 3)
    return np.asarray(matrix, np.float32)


def _affine(spacing_mm: tuple[float, ...], shape: tuple[int, ...]) -> Array:
    """RAS+ affine of a grid centred on the world's origin."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True)]
    return np.asarray(affine, np.float32)


def _shape(protocol: Protocol) -> tuple[int, int, int]:
    x, y, z = (max(2, round(mm / s)) for mm, s in zip(FIELD_MM, protocol.spacing_mm, strict=True))
    return x, y, z


def _rows(anatomy: Anatomy, protocol: Protocol) -> tuple[Array, Array, Array]:
    """Acquisition matrices from the fine grid to a protocol's."""
    x, y, z = (
        slice_matrix(_axis(n, _FINE_MM), _axis(m, s), t)
        for n, m, s, t in zip(
            anatomy.shape, _shape(protocol), protocol.spacing_mm, protocol.thickness_mm, strict=True
        )
    )
    return x, y, z


def _axis(count: int, spacing_mm: float) -> Array:
    return np.asarray((np.arange(count) - (count - 1) / 2) * spacing_mm, np.float32)


def _acquire(
    rng: np.random.Generator,
    anatomy: Anatomy,
    fine: Array,
    protocol: Protocol,
    channel: int,
    name: str | None,
    matrix: NDArray[Any],
) -> tuple[Array, Array]:
    """Image the anatomy, displaced by `matrix`, on a protocol's grid; as scaled integers."""
    contrast = draw_contrast(rng, channel, name)
    signal = render(anatomy, contrast, channel, rng)
    if not np.allclose(matrix, np.eye(4)):
        to_index = np.linalg.inv(fine) @ np.linalg.inv(matrix) @ fine
        signal = ndimage.affine_transform(signal, to_index, order=1, mode="nearest")
    image = apply_axes(signal, _rows(anatomy, protocol))
    image = degrade(image, protocol, rng, contrast.noise_floor, _DEGRADATION)
    return image, _affine(protocol.spacing_mm, image.shape)
