"""Pairs of synthetic spines with a known rigid displacement, for tests and benchmarks.

The anatomy is a formula of the point in space, so both images of a pair are sampled from it
directly and no interpolation blurs the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_app.records import Volume

Array = NDArray[Any]

AIR, FAT, MUSCLE, BONE, DISC, CSF, CORD, GREY = range(8)
# Order of the tissues as above: air, fat, muscle, bone, disc, CSF, white and grey matter.
CONTRASTS = {
    "T2w": (0.02, 0.75, 0.20, 0.35, 0.50, 1.00, 0.45, 0.50),
    "STIR": (0.02, 0.08, 0.30, 0.15, 0.45, 1.00, 0.55, 0.60),
    "PSIR": (0.40, 0.95, 0.60, 0.70, 0.50, 0.10, 0.75, 0.65),
    "T1w": (0.02, 0.95, 0.45, 0.60, 0.40, 0.15, 0.50, 0.46),
    "T2starw": (0.02, 0.45, 0.40, 0.15, 0.45, 0.90, 0.50, 0.65),
}
# Name: voxel size and field of view (mm) along left-right, posterior-anterior, inferior-superior.
GRIDS = {
    "sagittal": ((3.0, 0.8, 0.8), (45.0, 110.0, 130.0)),
    "axial": ((0.7, 0.7, 5.0), (75.0, 75.0, 95.0)),
    "isotropic": ((1.0, 1.0, 1.0), (56.0, 80.0, 110.0)),
    "thick": ((0.5, 0.5, 7.5), (28.0, 30.0, 75.0)),
}


@dataclass(frozen=True)
class Pair:
    """Two images of one spine and the truth.

    Attributes
    ----------
    matrix : ndarray of shape (4, 4)
        Maps RAS+ points of the reference to RAS+ points of the moving image.
    """

    name: str
    reference: Volume
    moving: Volume
    reference_cord: Volume
    moving_cord: Volume
    matrix: Array


@dataclass(frozen=True)
class _Spine:
    """The numbers of one anatomy (mm, radians)."""

    bend: Array
    phase: Array
    period_mm: float
    jitter: Array
    waves: Array
    wave_phases: Array


def make_pair(
    seed: int,
    reference_grid: str | None = None,
    moving_grid: str | None = None,
    contrast: str | None = None,
    displacement_mm: float = 10.0,
    rotation_deg: float = 8.0,
) -> Pair:
    """Make one pair; what is not given is drawn.

    Parameters
    ----------
    seed : int
        The same seed gives the same pair.
    displacement_mm, rotation_deg : float
        Bounds of a displacement of uniform length and a turn of uniform angle at the cord.
    """
    rng = np.random.default_rng(seed)
    names = list(GRIDS)
    reference_grid = reference_grid or str(rng.choice(["sagittal", "axial", "isotropic"]))
    moving_grid = moving_grid or str(rng.choice(names))
    contrast = contrast or str(rng.choice(list(CONTRASTS)[1:]))
    spine = _spine(rng)
    matrix = rigid(rng, displacement_mm, rotation_deg)
    place = _grid(reference_grid, rng, np.zeros(3), shift_mm=3.0)
    other = _grid(moving_grid, rng, matrix[:3, 3] * rng.uniform(0, 1), shift_mm=8.0)
    reference, reference_cord = _render(spine, place, np.eye(4), "T2w", rng)
    moving, moving_cord = _render(spine, other, np.linalg.inv(matrix), contrast, rng)
    name = f"{seed}:{reference_grid}<-{moving_grid}/{contrast}"
    return Pair(name, reference, moving, reference_cord, moving_cord, matrix)


def rigid(rng: np.random.Generator, displacement_mm: float, rotation_deg: float) -> Array:
    """Draw a rigid matrix: uniform length and angle, uniform directions, about the origin."""
    direction = rng.normal(size=3)
    axis = rng.normal(size=3)
    matrix = np.eye(4)
    matrix[:3, 3] = direction / np.linalg.norm(direction) * rng.uniform(0, displacement_mm)
    angle = np.deg2rad(rng.uniform(0, rotation_deg))
    matrix[:3, :3] = Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix()
    return matrix


def draw_person(rng: np.random.Generator) -> _Spine:
    """Draw an anatomy of its own, for sessions of one person: see `image_person`."""
    return _spine(rng)


def image_person(
    person: _Spine, grid: str, matrix: Array, contrast: str, rng: np.random.Generator
) -> tuple[Volume, Volume]:
    """Image a person who was moved by `matrix` (RAS+ mm); gives the image and the cord.

    The field of view is moved a little, and turned, as each session's is.
    """
    place = _grid(grid, rng, matrix[:3, 3] * rng.uniform(0, 1), shift_mm=3.0)
    return _render(person, place, np.linalg.inv(matrix), contrast, rng)


def cord_coordinates(person: _Spine, grid: Volume, matrix: Array) -> Array:
    """Give each voxel's place from the middle of the cord in the moved person, (3, i, j, k)."""
    x, y, z = _points(grid, np.linalg.inv(matrix), np.zeros(3))
    x = x - person.bend[0] * np.sin(z / 45 + person.phase[0])
    y = y - person.bend[1] * np.sin(z / 38 + person.phase[1])
    return np.stack(np.broadcast_arrays(x, y, z))


def noisy_cord(cord: Volume, rng: np.random.Generator) -> Volume:
    """Spoil a cord mask as a network would: soft, bumpy, a slab missing, a false blob.

    Returns
    -------
    Volume
        Probabilities in [0, 1], float32.
    """
    spacing = np.array(cord.spacing_mm)
    soft = ndimage.gaussian_filter(cord.data.astype(np.float32), 0.8 / spacing)
    bumps = ndimage.gaussian_filter(rng.normal(size=soft.shape), 2.5 / spacing)
    soft = soft + 0.2 * bumps / bumps.std() * (soft > 0.02)
    axis = int(np.argmax(np.abs(cord.affine[2, :3])))
    inside = np.flatnonzero(cord.data.any(axis=tuple({0, 1, 2} - {axis})))
    lost = int(rng.uniform(0, 0.15) * inside.size)
    slab: list[slice] = [slice(None)] * 3
    slab[axis] = slice(inside[0], inside[0] + lost)
    soft[tuple(slab)] = 0.0
    corner = [int(rng.integers(0, max(1, length - 3))) for length in soft.shape]
    soft[tuple(slice(start, start + 3) for start in corner)] = 0.8
    return Volume(np.clip(soft, 0, 1).astype(np.float32), cord.affine)


def error_at_cord(matrix: Array, truth: Array, cord: Volume) -> float:
    """Give the mean distance (mm) between where two matrices put the cord's voxels."""
    points = np.argwhere(cord.data > 0.5) @ cord.affine[:3, :3].T + cord.affine[:3, 3]
    change = (matrix - truth)[:3]
    return float(np.linalg.norm(points @ change[:, :3].T + change[:, 3], axis=1).mean())


def _spine(rng: np.random.Generator) -> _Spine:
    return _Spine(
        bend=np.array([rng.uniform(0, 2.0), rng.uniform(2.0, 7.0)]),
        phase=rng.uniform(0, 2 * np.pi, 2),
        period_mm=float(rng.uniform(16, 22)),
        jitter=rng.uniform(-1.5, 1.5, 64),
        waves=rng.normal(size=(12, 3)) * rng.uniform(0.1, 0.5, (12, 1)),
        wave_phases=rng.uniform(0, 2 * np.pi, 12),
    )


def _grid(name: str, rng: np.random.Generator, centre: Array, shift_mm: float) -> Volume:
    """Lay out an empty grid near `centre`, moved along the cord and slightly oblique."""
    spacing, extent = (np.array(part) for part in GRIDS[name])
    shape = np.round(extent / spacing).astype(int)
    tilt = Rotation.from_euler("xyz", rng.uniform(-6, 6, 3), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tilt * spacing
    shift = np.array([0.0, 0.0, rng.uniform(-2, 2) * shift_mm])
    shift[:2] = rng.uniform(-0.4, 0.4, 2) * shift_mm
    affine[:3, 3] = centre + shift - affine[:3, :3] @ ((shape - 1) / 2)
    return Volume(np.zeros(shape, np.float32), affine)


def _render(
    spine: _Spine, grid: Volume, to_anatomy: Array, contrast: str, rng: np.random.Generator
) -> tuple[Volume, Volume]:
    """Sample the anatomy on a grid, averaging over each voxel's thickness."""
    steps = np.maximum(1, np.round(np.array(grid.spacing_mm) / 1.2)).astype(int)
    levels = np.array(CONTRASTS[contrast], np.float32)
    levels = levels * rng.uniform(0.85, 1.15, levels.size).astype(np.float32)
    image = np.zeros(grid.data.shape, np.float32)
    cord = np.zeros(grid.data.shape, np.float32)
    offsets = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in steps]), -1)
    for offset in offsets.reshape(-1, 3):
        points = _points(grid, to_anatomy, offset)
        tissue, texture = _tissue(spine, points)
        image += levels[tissue] * texture
        cord += tissue >= CORD
    count = offsets.size // 3
    image = image / count * _bias(grid.data.shape, rng)
    image += rng.normal(0, 0.03, image.shape).astype(np.float32)
    mask = (cord / count > 0.5).astype(np.uint8)
    return Volume(image * np.float32(400), grid.affine), Volume(mask, grid.affine)


def _points(grid: Volume, to_anatomy: Array, offset: Array) -> list[Array]:
    """Give the anatomy's x, y and z of each voxel, moved by a part of a voxel."""
    matrix = to_anatomy @ grid.affine
    i, j, k = np.ogrid[tuple(slice(length) for length in grid.data.shape)]
    moved = [axis + part for axis, part in zip((i, j, k), offset, strict=True)]
    return [
        (row[0] * moved[0] + row[1] * moved[1] + row[2] * moved[2] + row[3]).astype(np.float32)
        for row in matrix[:3]
    ]


def _tissue(spine: _Spine, points: list[Array]) -> tuple[Array, Array]:
    """Name the tissue at each point (x right, y anterior, z superior) and its texture."""
    x, y, z = points
    x = x - spine.bend[0] * np.sin(z / 45 + spine.phase[0])
    y = y - spine.bend[1] * np.sin(z / 38 + spine.phase[1])
    level = np.floor(z / spine.period_mm).astype(int)
    within = z - level * spine.period_mm + spine.jitter[level % 64]
    tissue = np.full(x.shape, FAT, np.int8)
    muscle = ((np.abs(x) - 19) / 13) ** 2 + ((y + 18) / 16) ** 2 < 1
    muscle |= ((np.abs(x) - 17) / 8) ** 2 + ((y - 16) / 9) ** 2 < 1
    tissue[muscle] = MUSCLE
    body = (np.abs(x) < 12 + 0.02 * (y - 16) ** 2) & (y > 8.5) & (y < 25)
    tissue[body] = BONE
    tissue[body & (within > spine.period_mm - 5)] = DISC
    arch = (np.abs(x) < 3.5) & (y < -9) & (y > -30) & (np.abs(within - 7 + 0.2 * y) < 5)
    arch |= (np.abs(np.hypot(x / 13, y / 10) - 1) < 0.2) & (y < 2) & (np.abs(within - 7) < 5)
    tissue[arch] = BONE
    tissue[(x / 9) ** 2 + ((y - 30) / 6) ** 2 < 1] = AIR
    tissue[(y > 42) | (y < -48)] = AIR
    tissue[(x / 10.5) ** 2 + (y / 7.2) ** 2 < 1] = CSF
    tissue[(x / 6.3) ** 2 + (y / 4.0) ** 2 < 1] = CORD
    tissue[(((np.abs(x) - 1.9) / 1.0) ** 2 + (y / 2.3) ** 2 < 1)] = GREY
    texture = sum(
        np.sin(wave[0] * x + wave[1] * y + wave[2] * z + phase)
        for wave, phase in zip(spine.waves[:4], spine.wave_phases, strict=False)
    )
    return tissue, (1 + 0.04 * texture).astype(np.float32)


def _bias(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Draw a smooth receive field, a surface coil behind the neck among it."""
    axes = np.meshgrid(*[np.linspace(-1, 1, length) for length in shape], indexing="ij")
    slope = rng.uniform(-0.35, 0.35, 3)
    bowl = rng.uniform(-0.25, 0.25, 3)
    field = sum(a * axis + b * axis**2 for a, b, axis in zip(slope, bowl, axes, strict=True))
    return np.exp(field).astype(np.float32)
