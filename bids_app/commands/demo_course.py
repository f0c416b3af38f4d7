"""The demo's subject with a known course: three sessions, each lesion's fate decided beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_app.records import Change, FloatArray, IntArray
from bids_app.training.anatomy import LesionShape, draw_spine
from bids_app.training.session import ISOTROPIC, Imaged, Recipe, draw_scanner_pose, image_session

RECIPE = Recipe(ISOTROPIC, None, None)
SESSIONS = ("M0", "M6", "M12")

# How the person lies at each visit relative to the first: degrees about, mm along x, y, z.
_MOVED = (((0, 0, 0), (0, 0, 0)), ((3, -2, 3), (3, -2, 3)), ((-2, 2, -1), (-2, 1, -3)))


@dataclass(frozen=True)
class _Fate:
    """One lesion: its place, its half-length and half-width at each visit, what is true of it.

    A half-length of 0 stands for no lesion.
    """

    above_middle_mm: float
    p: float
    q: float
    half_length_mm: tuple[float, float, float]
    radius: tuple[float, float, float]
    change: tuple[Change | None, Change | None, Change | None]


_FATES = (
    _Fate(50, 0.5, -0.1, (9, 9, 9), (0.5, 0.5, 0.5), ("baseline", "stable", "stable")),
    _Fate(18, -0.4, -0.3, (5, 11, 11), (0.38, 0.6, 0.6), ("baseline", "enlarging", "stable")),
    _Fate(-16, 0.2, -0.5, (8, 8, 0), (0.5, 0.5, 0.5), ("baseline", "stable", "resolved")),
    _Fate(-48, -0.4, 0.1, (0, 8, 8), (0.5, 0.5, 0.5), (None, "new", "stable")),
)


@dataclass(frozen=True)
class KnownVisit:
    """One session with the truth about it.

    Attributes
    ----------
    session : str
    images : Imaged
    instances : ndarray of int
        Connected lesions on the grid of the first image.
    rows : tuple of mapping
        ``lesion_id``, ``session_id``, ``index`` and ``change`` as in the results' own table.
    from_first : ndarray of shape (4, 4)
        Maps RAS+ points of the first session's image to those of this one's.
    """

    session: str
    images: Imaged
    instances: IntArray
    rows: tuple[Mapping[str, Any], ...]
    from_first: FloatArray


def follow_known(rng: np.random.Generator) -> Iterator[KnownVisit]:
    """Image one person three times, repositioned in between, with lesions of known fate."""
    bare = draw_spine(rng, 0)
    height = float(rng.uniform(-150, -95))
    first = draw_scanner_pose(rng, bare, height).astype(np.float64)
    for visit, session in enumerate(SESSIONS):
        shapes = [_shape(fate, visit, height) for fate in _FATES]
        spine = replace(bare, lesions=tuple(shape for shape in shapes if shape is not None))
        from_first = _movement(visit)
        pose = first @ np.linalg.inv(from_first)
        images = image_session(rng, spine, height, RECIPE, pose.astype(np.float32))
        instances, _ = ndimage.label(images.lesion, ndimage.generate_binary_structure(3, 2))
        indices = _indices(instances, images.first[1], pose, height)
        rows = tuple(
            {"lesion_id": number, "session_id": f"ses-{session}",
             "index": indices.get(number), "change": fate.change[visit]}
            for number, fate in enumerate(_FATES, start=1)
            if fate.change[visit] is not None
        )  # fmt: skip
        yield KnownVisit(session, images, np.asarray(instances), rows, from_first)


def _shape(fate: _Fate, visit: int, height_mm: float) -> LesionShape | None:
    """Give a lesion at a visit, sharp and well visible; None where there is none."""
    length, radius = fate.half_length_mm[visit], fate.radius[visit]
    if not length:
        return None
    place = height_mm + fate.above_middle_mm
    return LesionShape(place, length, fate.p, fate.q, radius, radius, 0.12, (1.3, 1.3))


def _movement(visit: int) -> FloatArray:
    angles, shift = _MOVED[visit]
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def _indices(
    instances: IntArray, affine: FloatArray, pose: FloatArray, height_mm: float
) -> dict[int, int]:
    """Tell which instance is which lesion, by its height in the spine: they lie far apart."""
    heights = height_mm + np.array([fate.above_middle_mm for fate in _FATES])
    indices: dict[int, int] = {}
    sizes = np.bincount(instances.ravel())
    for index in range(len(sizes) - 1, 0, -1):
        middle = np.append(np.argwhere(instances == index).mean(axis=0), 1.0)
        number = 1 + int(np.argmin(np.abs(heights - (pose @ affine @ middle)[2])))
        if number not in indices or sizes[index] > sizes[indices[number]]:
            indices[number] = index
    return indices
