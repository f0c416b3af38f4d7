"""Rigid alignment of a second contrast to the reference around the spinal cord.

The method: normalised mutual information of local contrast at points within 25 mm of the cord,
climbed by Powell's method from coarse to fine and from starts all along the cord (where the cord
is known in both images, their centrelines give the starts). Poses are chosen by that and by the
structures that they bring together, compared in pairs at the points that both cover: a smaller
overlap looks more alike. What comes out is judged at points that the search never saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_app.imaging._centreline import gap_mm, lay_onto
from bids_app.imaging._scene import MOST_POINTS, REACH_MM, Scene, build_scene
from bids_app.imaging._similarity import FEWEST_POINTS, Similarity, pose_matrix, tournament
from bids_app.imaging._structure import Structure
from bids_app.records import Alignment, BoolArray, FloatArray, Volume

METRIC = "normalised mutual information of local contrast around the cord"

# Cost of a shift along the cord, in spreads of the margins: the next vertebra, which looks alike,
# must win by this much. Nearer it costs in proportion, further no more, up to the starts' reach.
_NEXT_VERTEBRA = 2.0
_VERTEBRA_MM = 18.0
_BEYOND_PER_MM2 = 0.05
# Gain in score below which an alignment is not told from the headers'.
_LEAST_GAIN = 0.002
# Slices from which on the place along the cord is settled over a stretch: number of poses on
# it, width of its smoothing in poses, rounds.
_THICK_MM = 3.0
_STRETCH = 43
_SMOOTHNESS = 7.0
_ROUNDS = 2
# Starts along the cord, and where no cord gives their place across it.
_ALONG_MM = np.arange(-27.5, 28.0, 2.5)
_ALONG_WITHOUT_CORDS_MM = np.arange(-12.0, 13.0, 3.0)
_ACROSS_MM = np.arange(-8.0, 9.0, 4.0)
_PITCH_MM = (-4.0, 0.0, 4.0)


@dataclass(frozen=True)
class _Level:
    """One pass of the search: blur, number of points, and bounds around each start (mm)."""

    fwhm_mm: float
    points: int
    bound_mm: float
    step_mm: float
    tolerance_mm: float
    evaluations: int
    slides: bool  # whether the shift along the cord is free


_COARSE = _Level(4.0, 3000, 4.0, 1.0, 0.3, 90, False)
_MIDDLE = _Level(2.0, 5000, 2.0, 0.5, 0.1, 250, True)
_FINE = _Level(0.0, MOST_POINTS, 1.0, 0.3, 0.02, 250, True)
_LAST = _Level(0.0, MOST_POINTS, 1.0, 0.3, 0.05, 120, False)


def register(
    moving: Volume,
    reference: Volume,
    mask: NDArray[Any] | None = None,
    moving_cord: NDArray[Any] | None = None,
    seed: int = 0,
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
    scene = build_scene(fixed, other, fixed_cord, other_cord, seed)
    if scene is None:
        return Alignment(np.eye(4), False, float("nan"), float("nan"), METRIC)
    pose = _search(scene)
    before, after = _judge(scene, pose)
    accepted = after > before + _LEAST_GAIN and not _parts_the_cords(scene, pose)
    matrix = pose_matrix(pose, scene.centre_mm) if accepted else np.eye(4)
    return Alignment(np.linalg.inv(matrix) if swapped else matrix, accepted, before, after, METRIC)


def _search(scene: Scene) -> FloatArray:
    """Go from a start at each height to one pose at the fine level.

    Several survive each level: which vertebra is which shows only in the detail.
    """
    coarse, middle, fine = (
        scene.similarity(level.fwhm_mm, level.points) for level in (_COARSE, _MIDDLE, _FINE)
    )
    field = [_climb(coarse, start, _COARSE) for start in _starts(scene, coarse)]
    contest = _Contest(scene.structure(), field)
    poses = contest.best(middle, field, 5, 3.5)
    poses = [_climb(middle, pose, _MIDDLE) for pose in poses]
    poses = [_climb(fine, pose, _FINE) for pose in contest.best(fine, poses, 3, 1.5)]
    return _settle(scene, fine, contest.best(fine, poses, 1, 1.5)[0])


def _settle(scene: Scene, similarity: Similarity, pose: FloatArray) -> FloatArray:
    """Find the best place along the cord in a stretch about one slice either way.

    Across thick slices the score along the cord is broad and bumpy, and a climb ends on some
    bump near its start. The margins over the whole stretch, smoothed, have one top. Nothing
    here knows the headers.
    """
    from scipy import ndimage

    thick = float(np.linalg.norm(scene.fixed.affine[2, :3]))
    if thick < _THICK_MM:
        return pose
    offsets = np.linspace(-thick, thick, _STRETCH)
    for _ in range(_ROUNDS):
        stretch = _stretch(scene, similarity, pose, offsets)
        contest = _Contest(scene.structure(), stretch)
        curve = ndimage.gaussian_filter1d(contest.margins(similarity, []), _SMOOTHNESS)
        pose = stretch[int(np.argmax(curve))]
    return _climb(similarity, pose, _LAST)


def _stretch(
    scene: Scene, similarity: Similarity, pose: FloatArray, offsets: FloatArray
) -> list[FloatArray]:
    """Lay out poses along the cord that fit equally well across it.

    A pose that was fitted at one place along the cord does best there. So a few are fitted all
    along, and the line through them is followed.
    """
    nodes = offsets[:: (_STRETCH - 1) // 6]
    start = [_slide(scene, pose, float(offset)) for offset in nodes]
    left = np.stack([_climb(similarity, node, _LAST) - node for node in start])
    line = np.polynomial.polynomial.polyfit(nodes, left, 1)
    return [_slide(scene, pose, float(x)) + line[0] + line[1] * x for x in offsets]


def _slide(scene: Scene, pose: FloatArray, along_mm: float) -> FloatArray:
    """Shift a pose along the cord, and with it across, as the cord itself bends."""
    moved = pose.copy()
    moved[2] += along_mm
    if scene.fixed_line is None or scene.other_line is None:
        return moved
    lines = (scene.fixed_line, scene.other_line, scene.centre_mm)
    here, there = (lay_onto(*lines, float(height)) for height in (pose[2], moved[2]))
    return moved if here is None or there is None else pose + (there - here)


def _starts(scene: Scene, similarity: Similarity) -> list[FloatArray]:
    """Give the headers' pose and, for each shift along the cord, the most promising one."""
    starts: list[FloatArray] = [np.zeros(6)]
    if scene.fixed_line is not None and scene.other_line is not None:
        for along in _ALONG_MM:
            pose = lay_onto(scene.fixed_line, scene.other_line, scene.centre_mm, along)
            if pose is not None:
                starts.append(pose)
        return starts
    for along in _ALONG_WITHOUT_CORDS_MM:
        grid: list[FloatArray] = [
            np.array([right, front, along, pitch, 0.0, 0.0])
            for right in _ACROSS_MM
            for front in _ACROSS_MM
            for pitch in _PITCH_MM
            if np.linalg.norm([right, front, along]) <= REACH_MM
        ]
        starts.append(max(grid, key=similarity.score_covered))
    return starts


def _climb(similarity: Similarity, start: FloatArray, level: _Level) -> FloatArray:
    """Improve a pose within the level's bounds by Powell's method.

    The points are those that stay inside both images whatever the shift along the cord within
    the bounds: were they free, the pose would slide to where few points overlap.
    """
    from scipy import optimize

    slide = np.array([0.0, 0.0, level.bound_mm if level.slides else 0.0, 0.0, 0.0, 0.0])
    where = similarity.covered(start)
    for end in (start - slide, start + slide):
        where &= similarity.covered(end)
    if np.count_nonzero(where) < FEWEST_POINTS:
        return start
    common = similarity.at(where)
    free = np.arange(6) if level.slides else np.array([0, 1, 3, 4, 5])

    def pose_of(values: FloatArray) -> FloatArray:
        pose = start.copy()
        pose[free] = values
        return pose

    result = optimize.minimize(
        lambda values: -common.score(pose_of(values)),
        start[free],
        method="Powell",
        bounds=[(value - level.bound_mm, value + level.bound_mm) for value in start[free]],
        options={
            "direc": np.eye(free.size) * level.step_mm,
            "xtol": level.tolerance_mm,
            "ftol": 1e-4,
            "maxfev": level.evaluations,
        },
    )
    return pose_of(np.asarray(result.x, dtype=np.float64))


class _Contest:
    """Choose between poses by intensities and by structures, on what they have in common.

    The field are poses all along the cord: each kind of margin is measured in its spread over
    them, so that both kinds weigh the same.
    """

    def __init__(self, structure: Structure, field: Sequence[FloatArray]) -> None:
        self._structure = structure
        self._field = list(field)
        self._differences = [structure.difference(pose) for pose in field]

    def best(
        self, similarity: Similarity, poses: Sequence[FloatArray], most: int, apart_mm: float
    ) -> list[FloatArray]:
        """Keep the best poses, and one of those that ended in the same place."""
        along = np.abs([float(pose[2]) for pose in poses])
        cost = _NEXT_VERTEBRA * np.minimum(along / _VERTEBRA_MM, 1.0)
        cost += _BEYOND_PER_MM2 * np.maximum(0.0, along - REACH_MM) ** 2
        cost -= self.margins(similarity, poses)[len(self._field) :]
        kept: list[FloatArray] = []
        for index in np.argsort(cost, kind="stable"):
            if all(np.abs(poses[index] - other)[:3].max() > apart_mm for other in kept):
                kept.append(poses[index])
        return kept[:most]

    def margins(self, similarity: Similarity, poses: Sequence[FloatArray]) -> FloatArray:
        """Give what poses win by over the field and each other, in spreads of the field."""
        everyone = [*self._field, *poses]
        differences = [*self._differences, *map(self._structure.difference, poses)]

        def compare(one: int, other: int, shared: BoolArray) -> float:
            return float((differences[other][shared] - differences[one][shared]).mean())

        structure = tournament([~np.isnan(difference) for difference in differences], compare)
        total = np.zeros(len(everyone))
        for margins in (similarity.margins(everyone), structure):
            total += margins / max(float(margins[: len(self._field)].std()), 1e-9)
        return total


def _judge(scene: Scene, pose: FloatArray) -> tuple[float, float]:
    """Score the headers and a pose at unseen points that both put inside the other image."""
    judge = scene.judge()
    shared = judge.covered(np.zeros(6)) & judge.covered(pose)
    if np.count_nonzero(shared) < FEWEST_POINTS:
        return float("nan"), float("nan")
    common = judge.at(shared)
    return common.score(np.zeros(6)), common.score(pose)


def _parts_the_cords(scene: Scene, pose: FloatArray) -> bool:
    """Tell whether the cords, where both are known, would lie further apart than before."""
    if scene.fixed_line is None or scene.other_line is None:
        return False
    lines = (scene.fixed_line, scene.other_line, scene.centre_mm)
    return gap_mm(*lines, pose) > gap_mm(*lines, np.zeros(6)) + 0.5
