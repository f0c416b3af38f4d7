"""Where in the body a training patch lies, and which lesions it shows."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from bids_app.records import FloatArray
from bids_app.training.anatomy import Spine, draw_lesion, draw_spine

Array = FloatArray

# Probability that a lesion shows in the first and in the second channel; less than in the sessions
# that the box is judged by, so that lesions of the second contrast alone are learned.
_VISIBLE = (0.62, 0.74)


def fine_points(shape: tuple[int, int, int], spacing_mm: float, pose: Array) -> Array:
    """World points of a grid centred on the origin, carried by a pose.

    Parameters
    ----------
    shape : tuple of int
    spacing_mm : float
    pose : ndarray of shape (4, 4)
        From the grid's millimetres to the spine's frame.

    Returns
    -------
    ndarray of shape (3, i, j, k), float32
    """
    axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) * spacing_mm for n in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    moved = np.tensordot(pose[:3, :3].astype(np.float32), grid, axes=(1, 0))
    return np.asarray(moved + pose[:3, 3].reshape(3, 1, 1, 1), np.float32)


def draw_pose(
    rng: np.random.Generator, spine: Spine, patch_mm: float, dense: bool = False
) -> tuple[Array, float]:
    """Draw where in the body a patch lies, mostly around the cord; returns it and its height."""
    if dense or rng.random() < 0.93:
        height = rng.uniform(spine.conus_mm - 25, 8)
    else:
        height = rng.uniform(spine.conus_mm - 90, 75)
    if spine.lesions and rng.random() < 0.55:
        height = spine.lesions[int(rng.integers(len(spine.lesions)))].height_mm + rng.normal(0, 12)
    reach = patch_mm * (0.2 if dense else float(rng.choice([0.25, 0.7, 1.4], p=[0.8, 0.12, 0.08])))
    offset = rng.uniform(-reach, reach, 3) * np.array([1, 1, 0.0])
    center = np.array([spine.at("center_x", height), spine.at("center_y", height), height])
    angles = rng.normal(0, [9, 4, 4]) * (1 if rng.random() < 0.9 else 2.2)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    pose[:3, 3] = center + offset
    return pose, float(height)


def draw_patch_spine(
    rng: np.random.Generator,
    patch_mm: tuple[float, float],
    dense: bool = False,
    easy: bool = False,
) -> tuple[Spine, Array]:
    """Draw a spine and a pose; most patches get lesions of their own in view.

    Parameters
    ----------
    rng : numpy.random.Generator
    patch_mm : tuple of float
        Length of the patch along the body, and its smallest width.
    dense : bool
        Always on the cord.
    easy : bool
        With `dense`: two to seven lesions, never none.
    """
    spine = draw_spine(rng)
    length, width = patch_mm
    pose, height = draw_pose(rng, spine, width, dense)
    if dense and easy:
        count = int(rng.integers(2, 8))
    elif dense:
        count = int(rng.choice(6, p=[0.25, 0.2, 0.2, 0.15, 0.1, 0.1]))
    else:
        count = int(rng.choice([0, 1, 2, 3, 4], p=[0.28, 0.3, 0.22, 0.12, 0.08]))
    low, high = height - length * 0.5, height + length * 0.5
    low, high = max(low, spine.conus_mm + 8), min(high, -2.0)
    if high <= low:
        return spine, pose
    own = tuple(draw_lesion(rng, low, high, _VISIBLE) for _ in range(count))
    far = tuple(x for x in spine.lesions if not low - 10 < x.height_mm < high + 10)
    return Spine(spine.table, spine.disc_mm, spine.conus_mm, own + far, spine.seed), pose
