"""Rigid alignment of a second contrast to the reference around the spinal cord.

The method: local contrast of both images, normalised mutual information at points within 25 mm
of the cord, a search over plausible starts, and Powell's method from coarse to fine, bounded at
each step. Where the cord is known in both images, their centrelines give the starts. What comes
out is judged at points that the search never saw and on which both alignments can be scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_app.imaging._centreline import gap_mm, lay_onto
from bids_app.imaging._scene import MOST_POINTS, REACH_MM, MapOver, Scene, build_scene
from bids_app.imaging._similarity import FEWEST_POINTS, Similarity, pose_matrix
from bids_app.records import Alignment, FloatArray, Volume

METRIC = "normalised mutual information of local contrast around the cord"

# Cost of a pose (mm squared) for leaving the headers: decides only where the images do not.
_PRIOR_PER_MM2 = 1e-4
# Gain in score below which an alignment is not told from the headers'.
_LEAST_GAIN = 0.002
_ACROSS_MM = np.arange(-8.0, 9.0, 4.0)
_ALONG_MM = np.arange(-REACH_MM, REACH_MM + 1, 3.0)
_PITCH_MM = (-4.0, 0.0, 4.0)


@dataclass(frozen=True)
class _Level:
    """One pass of the search.

    Attributes
    ----------
    fwhm_mm : float
        Blur.
    points : int
    bound_mm, step_mm, tolerance_mm : float
        How far a pose may go from its start, the first step, and when to stop.
    prior : float
        Cost of leaving the headers, for each mm squared.
    evaluations : int
        At most, for each start.
    """

    fwhm_mm: float
    points: int
    bound_mm: float
    step_mm: float
    tolerance_mm: float
    prior: float
    evaluations: int


_COARSE = _Level(4.0, 3000, 4.0, 1.0, 0.3, _PRIOR_PER_MM2, 45)
_MIDDLE = _Level(2.0, 5000, 2.0, 0.5, 0.1, _PRIOR_PER_MM2, 80)
_FINE = _Level(0.0, MOST_POINTS, 1.0, 0.3, 0.02, 0.0, 140)


def register(
    moving: Volume,
    reference: Volume,
    mask: NDArray[Any] | None = None,
    moving_cord: NDArray[Any] | None = None,
    seed: int = 0,
    threads: int = 1,
) -> Alignment:
    """Align a second contrast to the reference, rigidly and around the cord.

    Parameters
    ----------
    moving, reference : Volume
        Intensities; any grid, orientation and resolution. The headers are the start.
    mask : ndarray of the reference's shape, optional
        The cord on the reference, as a mask or as probabilities. Without it, or if it is
        empty, the whole overlap counts.
    moving_cord : ndarray of the moving image's shape, optional
        The cord on the moving image, likewise. With both, the search starts from the cords.
    seed : int
        Chooses the points of comparison. The same inputs and seed give the same matrix.
    threads : int
        Starts that are followed at the same time; the result does not depend on it.

    Returns
    -------
    Alignment
        `matrix` maps RAS+ points of the reference to RAS+ points of the moving image (mm).
        `accepted` is False and `matrix` the identity where the headers are as good, where
        aligning would pull the cords apart, and where the images hardly overlap (then both
        scores are ``nan``).

    Raises
    ------
    ValueError
        A cord does not have the shape of its image.
    """
    for cord, image in ((mask, reference), (moving_cord, moving)):
        if cord is not None and cord.shape != image.data.shape:
            raise ValueError(f"A cord of shape {cord.shape} is not of {image.data.shape}.")
    # Points at the centres of the thicker voxels need no interpolation across a thick slice.
    swapped = max(moving.spacing_mm) > max(reference.spacing_mm) + 1e-3
    pair = [(reference, mask), (moving, moving_cord)]
    (fixed, fixed_cord), (other, other_cord) = reversed(pair) if swapped else pair
    with ThreadPoolExecutor(threads) as pool:
        scene = build_scene(fixed, other, fixed_cord, other_cord, seed, pool.map)
        if scene is None:
            return Alignment(np.eye(4), False, float("nan"), float("nan"), METRIC)
        pose = _search(scene, pool.map)
    before, after = _judge(scene, pose)
    accepted = after > before + _LEAST_GAIN and not _parts_the_cords(scene, pose)
    matrix = pose_matrix(pose, scene.centre_mm) if accepted else np.eye(4)
    return Alignment(np.linalg.inv(matrix) if swapped else matrix, accepted, before, after, METRIC)


def _search(scene: Scene, map_over: MapOver) -> FloatArray:
    """Go from many starts at the coarse level to one pose at the fine level.

    Several survive each level: which vertebra is which shows only in the detail.
    """

    def climb(level: _Level, starts: Sequence[FloatArray]) -> list[tuple[float, FloatArray]]:
        similarity = similarities[level]
        return list(map_over(lambda start: _climb(similarity, start, level), starts))

    def build(level: _Level) -> Similarity:
        return scene.similarity(level.fwhm_mm, level.points)

    levels = (_COARSE, _MIDDLE, _FINE)
    similarities = dict(zip(levels, map_over(build, levels), strict=True))
    found = climb(_COARSE, _starts(scene, similarities[_COARSE]))
    found = climb(_MIDDLE, [pose for _, pose in _distinct(found)[:4]])
    found = climb(_FINE, [pose for _, pose in _distinct(found)[:2]])

    def worth(scored: tuple[float, FloatArray]) -> float:
        return scored[0] - _PRIOR_PER_MM2 * float((scored[1] ** 2).sum())

    # Two that ended on one ridge differ by when the search gave up, and the prior says nothing.
    return max(_distinct(found), key=worth)[1]


def _starts(scene: Scene, similarity: Similarity) -> list[FloatArray]:
    """Give the headers' pose and, for each shift along the cord, the most promising one."""
    starts: list[FloatArray] = [np.zeros(6)]
    for along in _ALONG_MM:
        if scene.fixed_line is not None and scene.other_line is not None:
            pose = lay_onto(scene.fixed_line, scene.other_line, scene.centre_mm, along)
            if pose is not None:
                # A search from masks that differ in a few voxels is to be the same search.
                starts.append(pose.round())
        else:
            grid: list[FloatArray] = [
                np.array([right, front, along, pitch, 0.0, 0.0])
                for right in _ACROSS_MM
                for front in _ACROSS_MM
                for pitch in _PITCH_MM
                if np.linalg.norm([right, front, along]) <= REACH_MM
            ]
            starts.append(max(grid, key=similarity.score))
    return starts


def _climb(similarity: Similarity, start: FloatArray, level: _Level) -> tuple[float, FloatArray]:
    """Improve a pose within the level's bounds by Powell's method."""
    from scipy import optimize

    def cost(pose: FloatArray) -> float:
        beyond = max(0.0, abs(float(pose[2])) - REACH_MM)
        prior = level.prior * float(pose @ pose) + 0.01 * beyond**2
        return prior - similarity.score(pose)

    result = optimize.minimize(
        cost,
        start,
        method="Powell",
        bounds=[(value - level.bound_mm, value + level.bound_mm) for value in start],
        options={
            "direc": np.eye(6) * level.step_mm,
            "xtol": level.tolerance_mm,
            "ftol": 1e-4,
            "maxfev": level.evaluations,
        },
    )
    return -float(result.fun), np.asarray(result.x, dtype=np.float64)


def _distinct(found: Sequence[tuple[float, FloatArray]]) -> list[tuple[float, FloatArray]]:
    """Sort by score and keep one of those that ended in the same place."""
    kept: list[tuple[float, FloatArray]] = []
    for score, pose in sorted(found, key=lambda scored: -scored[0]):
        if all(np.abs(pose - other)[:3].max() > 1.5 for _, other in kept):
            kept.append((score, pose))
    return kept


def _judge(scene: Scene, pose: FloatArray) -> tuple[float, float]:
    """Score the headers and a pose at unseen points that both put inside the other image."""
    judge = scene.judge()
    shared = judge.covered(np.zeros(6)) & judge.covered(pose)
    if np.count_nonzero(shared) < FEWEST_POINTS:
        return float("nan"), float("nan")
    return judge.score(np.zeros(6), shared), judge.score(pose, shared)


def _parts_the_cords(scene: Scene, pose: FloatArray) -> bool:
    """Tell whether the cords, where both are known, would lie further apart than before."""
    if scene.fixed_line is None or scene.other_line is None:
        return False
    lines = (scene.fixed_line, scene.other_line, scene.centre_mm)
    return gap_mm(*lines, pose) > gap_mm(*lines, np.zeros(6)) + 0.5
