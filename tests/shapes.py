"""Shapes whose measures are known, painted on grids of any orientation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bids_app.records import Findings

Grid = tuple[np.ndarray, tuple[int, int, int]]
Inside = Callable[[np.ndarray], np.ndarray]


def grid(
    axes: str = "RAS",
    spacing: tuple[float, float, float] = (0.5, 0.5, 0.5),
    size_mm: tuple[float, float, float] = (24, 40, 60),
    turn_deg: tuple[float, float, float] = (0, 0, 0),
) -> Grid:
    """An affine centred on the world's origin whose voxel axes point as `axes` says.

    `spacing` is in the array's order, `size_mm` in the world's (R, A, S).
    """
    steps = np.zeros((3, 3))
    shape = []
    for column, letter in enumerate(axes):
        world = ("RL", "AP", "SI").index(next(p for p in ("RL", "AP", "SI") if letter in p))
        steps[world, column] = spacing[column] * (1 if letter in "RAS" else -1)
        shape.append(round(size_mm[world] / spacing[column]))
    for world, angle in enumerate(np.deg2rad(turn_deg)):
        first, second = (other for other in range(3) if other != world)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        steps = turn @ steps
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = -steps @ ((np.array(shape) - 1) / 2)
    return affine, (shape[0], shape[1], shape[2])


def spacing_of(where: Grid) -> np.ndarray:
    return np.linalg.norm(where[0][:3, :3], axis=0)


def paint(where: Grid, inside: Inside) -> np.ndarray:
    """Voxels whose world position (n, 3) satisfies `inside`."""
    affine, shape = where
    index = np.indices(shape).reshape(3, -1).T
    return inside(index @ affine[:3, :3].T + affine[:3, 3]).reshape(shape)


def found(cord: np.ndarray, *lesions: np.ndarray) -> Findings:
    instances = np.zeros(cord.shape, dtype=np.int32)
    for number, lesion in enumerate(lesions, start=1):
        instances[lesion] = number
    return Findings(cord=cord | (instances > 0), lesion=instances > 0, instances=instances)


def ellipsoid(center: tuple[float, float, float], half: tuple[float, float, float]) -> Inside:
    return lambda p: np.sum(np.square((p - center) / np.array(half)), axis=1) <= 1


def tilted_rod(radius: float, tilt_deg: float, low: float = -1e9, high: float = 1e9) -> Inside:
    """A rod through the origin, tilted forwards, cut by horizontal planes."""
    direction = np.array([0, np.sin(np.deg2rad(tilt_deg)), np.cos(np.deg2rad(tilt_deg))])

    def inside(p: np.ndarray) -> np.ndarray:
        aside = p - np.outer(p @ direction, direction)
        return (np.sum(aside**2, axis=1) <= radius**2) & (p[:, 2] >= low) & (p[:, 2] < high)

    return inside


def arc(radius: float, bend_mm: float, low_deg: float = -90, high_deg: float = 90) -> Inside:
    """A rod bent along a circle in the sagittal plane, through the origin at 0 degrees."""

    def inside(p: np.ndarray) -> np.ndarray:
        out = np.hypot(p[:, 1] + bend_mm, p[:, 2])
        angle = np.rad2deg(np.arctan2(p[:, 2], p[:, 1] + bend_mm))
        near = np.hypot(out - bend_mm, p[:, 0]) <= radius
        return near & (angle >= low_deg) & (angle < high_deg)

    return inside


SCANS = {
    "isotropic": grid(spacing=(0.4, 0.4, 0.4)),
    "flipped": grid("LPI", (0.4, 0.4, 0.4)),
    "sagittal, thick": grid("PSR", (0.4, 0.4, 1.0)),
    "axial, thick": grid("LAS", (0.35, 0.35, 2.0)),
    "oblique": grid("RAS", (0.5, 0.5, 0.5), turn_deg=(8, 6, 10)),
}
