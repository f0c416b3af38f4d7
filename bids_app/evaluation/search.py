"""Grid search of post-processing limits over lesions that were found once at each threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np

from bids_app.evaluation.froc import froc
from bids_app.evaluation.metrics import Scored, detect_at
from bids_app.records import BoolArray, FloatArray, IntArray

Metric = Literal["f1", "dice", "froc"]
METRICS: tuple[str, ...] = get_args(Metric)
_SAME = 1e-9


@dataclass(frozen=True)
class Candidates:
    """Lesions of one image at one lesion threshold, before small and unsure ones are dropped.

    Attributes
    ----------
    volumes_mm3, peaks, chances : ndarray of shape (n,)
        Of each: volume, highest and mean probability.
    voxels, shared_voxels : ndarray of int, shape (n,)
        How many it has, and how many of them are lesion in the reference.
    hits : ndarray of bool, shape (references, n)
        Which reference lesion it finds.
    reference_voxels : int
    """

    volumes_mm3: FloatArray
    peaks: FloatArray
    chances: FloatArray
    voxels: IntArray
    shared_voxels: IntArray
    hits: BoolArray
    reference_voxels: int

    def kept(self, min_peak: float, min_volume_mm3: float) -> BoolArray:
        """Tell which lesions `bids_app.lesions.refine` keeps with these limits."""
        large = self.volumes_mm3 >= min_volume_mm3 * (1 - 1e-6)
        return np.asarray(large & (self.peaks >= min_peak))

    def dice(self, kept: BoolArray) -> float:
        """Give the Dice of the lesions that are kept; 1 when both sides are empty."""
        total = int(self.voxels[kept].sum()) + self.reference_voxels
        return 2 * int(self.shared_voxels[kept].sum()) / total if total else 1.0

    def scored(self, kept: BoolArray) -> Scored:
        """Give what the challenge's metrics need of the lesions that are kept."""
        hits, chances = self.hits[:, kept], self.chances[kept]
        found_at = np.where(hits, chances[None, :], -np.inf).max(axis=1, initial=-np.inf)
        return Scored(found_at=found_at, false_at=chances[~hits.any(axis=0)])


@dataclass(frozen=True)
class Grid:
    """The values that are tried of each limit, rising."""

    lesion_threshold: tuple[float, ...] = tuple(round(0.05 * n, 2) for n in range(2, 19))
    min_peak_probability: tuple[float, ...] = (
        *(0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95),
    )
    min_lesion_volume_mm3: tuple[float, ...] = (0.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0)


LIMITS = ("lesion_threshold", "min_peak_probability", "min_lesion_volume_mm3")
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Tried:
    """One combination of limits, in the order of `LIMITS`, and its score."""

    point: Point
    score: float


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes
    ----------
    tried : tuple of Tried
        The whole grid.
    best : Tried
    held_out : float
        Score of the images of each group with the limits that the other groups chose: what may
        be expected of new images. NaN with fewer than two groups.
    """

    tried: tuple[Tried, ...]
    best: Tried
    held_out: float

    def curve(self, limit: str) -> dict[float, float]:
        """Give the score along one limit, the others as chosen."""
        place = LIMITS.index(limit)
        others = [n for n in range(len(LIMITS)) if n != place]
        return {
            one.point[place]: one.score
            for one in self.tried
            if all(one.point[n] == self.best.point[n] for n in others)
        }


def search(
    images: Sequence[Sequence[Candidates]],
    grid: Grid,
    metric: Metric,
    start: Point,
    groups: Sequence[str] = (),
) -> Found:
    """Find the limits with the best score.

    Parameters
    ----------
    images : sequence of sequence of Candidates
        Of each image one a value of ``grid.lesion_threshold``.
    grid : Grid
    metric : {"f1", "dice", "froc"}
        The challenge's F1 at a probability of 0.5 and Dice, both averaged over images, or FROC.
    start : tuple of float
        Limits in use so far. Of combinations that score the same, the one that changes the least
        of it, counted in steps of the grid, is chosen.
    groups : sequence of str
        Of each image, such as its fold.

    Raises
    ------
    ValueError
        No image, or the metric is not defined: FROC without any reference lesion.
    """
    if not images:
        raise ValueError("there is no image")
    names = sorted(set(groups)) if len(set(groups)) > 1 else []
    members = [[n for n, group in enumerate(groups) if group != name] for name in names]
    tried, without = [], []
    for point in _points(grid):
        values = _values(images, grid, metric, point)
        tried.append(Tried(point, _mean(values, metric)))
        without.append([_mean([values[n] for n in inside], metric) for inside in members])
    if math.isnan(tried[0].score):
        raise ValueError("no image has a reference lesion")
    best = _best(tried, grid, start)
    held_out = math.nan
    if names:
        left: list[Scored | float] = []
        for number, name in enumerate(names):
            others = [
                Tried(one.point, row[number]) for one, row in zip(tried, without, strict=True)
            ]
            own = [image for image, group in zip(images, groups, strict=True) if group == name]
            left += _values(own, grid, metric, _best(others, grid, start).point)
        held_out = _mean(left, metric)
    return Found(tuple(tried), best, held_out)


def score_at(
    images: Sequence[Sequence[Candidates]], grid: Grid, metric: Metric, point: Point
) -> float:
    """Give the score of one combination; its threshold is one of the grid's."""
    return _mean(_values(images, grid, metric, point), metric)


def _points(grid: Grid) -> list[Point]:
    """List the combinations; a peak below the threshold asks for nothing, so 0 stands for all."""
    every = product(grid.lesion_threshold, grid.min_peak_probability, grid.min_lesion_volume_mm3)
    return [
        point for point in every if point[1] > point[0] or point[1] == grid.min_peak_probability[0]
    ]


def _values(
    images: Sequence[Sequence[Candidates]], grid: Grid, metric: Metric, point: Point
) -> list[Scored | float]:
    """Give what each image contributes to the score."""
    place = grid.lesion_threshold.index(point[0])
    values: list[Scored | float] = []
    for image in images:
        candidates = image[place]
        kept = candidates.kept(point[1], point[2])
        if metric == "dice":
            values.append(candidates.dice(kept))
        else:
            scored = candidates.scored(kept)
            values.append(scored if metric == "froc" else detect_at(scored).f1)
    return values


def _mean(values: Sequence[Scored | float], metric: Metric) -> float:
    if metric == "froc":
        return froc([value for value in values if isinstance(value, Scored)])
    return float(np.mean([value for value in values if isinstance(value, float)]))


def _best(tried: Sequence[Tried], grid: Grid, start: Point) -> Tried:
    """Choose the best score, and of equal ones the nearest to the start."""
    top = max((one.score for one in tried if not math.isnan(one.score)), default=math.nan)
    if math.isnan(top):
        return min(tried, key=lambda one: _steps(one.point, grid, start))
    equal = [one for one in tried if one.score >= top - _SAME]
    return min(equal, key=lambda one: _steps(one.point, grid, start))


def _steps(point: Point, grid: Grid, start: Point) -> float:
    """Count the steps of the grid between two points.

    Examples
    --------
    >>> _steps((0.3, 0.8, 8.0), Grid(), (0.4, 0.8, 4.0))
    3.0
    """
    steps = 0.0
    for limit, one, other in zip(LIMITS, point, start, strict=True):
        values = np.asarray(getattr(grid, limit))
        both = np.interp([one, other], values, np.arange(len(values)))
        steps += abs(float(both[0] - both[1]))
    return round(steps, 6)
