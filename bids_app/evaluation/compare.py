"""Compare models on the same subjects: scores as sums over subjects, intervals, swapped labels.

A mean over scans and FROC alike are functions of sums over subjects. So one way of resampling
(whole subjects) gives the interval of a score, of the difference of two and of their mean over
several test sets, and one way of permuting (the two models swapped within a subject) a test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from bids_app.evaluation.bootstrap import count_draws, subject_interval
from bids_app.evaluation.froc import froc_of_sums, froc_sums, froc_thresholds
from bids_app.evaluation.metrics import Scored
from bids_app.records import FloatArray, IntArray

PERMUTATIONS = 9999
"""Random swaps; with few subjects all of them are tried."""
_SEED = 0
_BATCH_VALUES = 2_000_000
# Names that end so are better the smaller they are.
_COSTS = (
    "false_positives",
    "false_negatives",
    "fp_per_image",
    "hausdorff_mm",
    "distance_mm",
    "hd95_mm",
    "absolute_volume_difference_mm3",
)
# Names for which neither more nor less is better.
_NEUTRAL = (
    "volume_difference_mm3",
    "volume_difference_percent",
    "volume_mm3",
    "lesions",
    "rve",
)


@dataclass(frozen=True)
class Sums:
    """A score as a function of sums over subjects.

    Attributes
    ----------
    rows : ndarray of shape (subjects, columns)
        What each subject adds.
    finish : callable
        From weighted sums, shape (n, columns), to scores, shape (n,).
    """

    rows: FloatArray
    finish: Callable[[FloatArray], FloatArray]

    @property
    def value(self) -> float:
        """Give the score of all subjects; NaN where it is undefined or there is no subject."""
        if not len(self.rows):
            return math.nan
        return float(self.weighted(np.ones((1, len(self.rows))))[0])

    def weighted(self, weights: FloatArray) -> FloatArray:
        """Give the score for each row of weights of the subjects."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.finish(weights @ self.rows)


def direction(metric: str) -> int:
    """Say whether more is better (1), less is better (-1), or neither (0).

    Examples
    --------
    >>> [direction(name) for name in ("dice", "hd95_mm", "absolute_volume_difference_mm3")]
    [1, -1, -1]
    >>> [direction(name) for name in ("volume_difference_mm3", "predicted_lesions")]
    [0, 0]
    """
    if metric.endswith(_COSTS):
        return -1
    return 0 if metric.endswith(_NEUTRAL) else 1


def mean_sums(values: FloatArray, owner: IntArray, subjects: int) -> Sums:
    """Make the mean over scans a function of sums over subjects; NaN is left out.

    Parameters
    ----------
    values : ndarray of shape (scans,)
    owner : ndarray of int, shape (scans,)
        The row of each scan's subject.
    subjects : int

    Examples
    --------
    >>> mean_sums(np.array([1.0, 3.0, np.nan]), np.array([0, 0, 1]), 2).value
    2.0
    """
    known = np.isfinite(values)
    total = np.bincount(owner[known], values[known], minlength=subjects)
    number = np.bincount(owner[known], minlength=subjects)
    return Sums(np.stack([total, number], axis=1).astype(float), _ratio)


def froc_models(models: Sequence[Sequence[Scored]], owner: IntArray, subjects: int) -> list[Sums]:
    """Make FROC of each model a function of sums over subjects, with the same columns for all.

    Parameters
    ----------
    models : sequence of sequence of Scored
        Of the same images.
    owner : ndarray of int, shape (images,)
        The row of each image's subject.
    subjects : int
    """
    thresholds = froc_thresholds([image for images in models for image in images])
    return [Sums(froc_sums(images, owner, subjects, thresholds), froc_of_sums) for images in models]


def interval(sums: Sums) -> tuple[float, float]:
    """Give a score's 95 % bootstrap interval by subject; see `subject_interval`."""
    if not math.isfinite(sums.value):
        return math.nan, math.nan
    return subject_interval(sums.weighted, len(sums.rows), sums.rows.shape[1])


def difference_interval(first: Sums, second: Sums) -> tuple[float, float]:
    """Give the 95 % bootstrap interval of first - second, the same subjects drawn for both."""
    if not math.isfinite(first.value - second.value):
        return math.nan, math.nan

    def difference(weights: FloatArray) -> FloatArray:
        return first.weighted(weights) - second.weighted(weights)

    return subject_interval(difference, len(first.rows), 2 * first.rows.shape[1])


def average(parts: Sequence[Sums]) -> tuple[float, float, float]:
    """Average a score over test sets, each with the same weight, with its 95 % interval.

    Subjects are drawn from all test sets together; draws that leave a test set without any are
    left out.

    Parameters
    ----------
    parts : sequence of Sums
        One for each test set, their subjects all different people.

    Returns
    -------
    mean, low, high : float
        NaN when a part is undefined.
    """
    mean = float(np.mean([part.value for part in parts])) if parts else math.nan
    if not math.isfinite(mean):
        return math.nan, math.nan, math.nan
    cuts = np.cumsum([len(part.rows) for part in parts])[:-1]

    def averaged(weights: FloatArray) -> FloatArray:
        split = np.split(weights, cuts, axis=1)
        values = [part.weighted(own) for part, own in zip(parts, split, strict=True)]
        return np.asarray(np.mean(values, axis=0))

    sizes = [len(part.rows) for part in parts]
    low, high = subject_interval(averaged, sum(sizes), max(p.rows.shape[1] for p in parts))
    return mean, low, high


def swap_test(first: Sums, second: Sums) -> float:
    """Test whether two models score alike: swap them within subjects, at random or in all ways.

    The two-sided permutation test of paired samples: were the models exchangeable, each swap
    would be as likely as what was seen.

    Parameters
    ----------
    first, second : Sums
        Of the same subjects, with the same columns.

    Returns
    -------
    float
        The p value; NaN when the scores are undefined or no subject's differ.

    Examples
    --------
    >>> ones = [mean_sums(np.array(v), np.arange(4), 4) for v in ([4.0, 3, 2, 1], [0.0, 0, 0, 0])]
    >>> swap_test(*ones)  # 2 of 16 ways
    0.125
    """
    if not math.isfinite(first.value - second.value) or np.array_equal(first.rows, second.rows):
        return math.nan
    both, count = np.concatenate([first.rows, second.rows]), len(first.rows)
    total = both.sum(axis=0)

    def statistic(one: Any, _: Any, axis: int = -1) -> FloatArray:
        # What one side has not drawn the other has, so it says nothing new.
        drawn = np.moveaxis(np.asarray(one), axis, -1)
        sums = count_draws(drawn.reshape(-1, count), 2 * count) @ both
        difference = first.finish(sums) - first.finish(total - sums)
        # Swaps that give the same differ by rounding, and must tie.
        return np.asarray(np.round(difference, 12).reshape(drawn.shape[:-1]))

    with np.errstate(invalid="ignore", divide="ignore"):
        found = stats.permutation_test(
            (np.arange(count), np.arange(count) + count),
            statistic,
            permutation_type="samples",
            vectorized=True,
            n_resamples=PERMUTATIONS,
            batch=max(1, _BATCH_VALUES // (both.shape[1] + 4 * count)),
            rng=np.random.default_rng(_SEED),
        )
    return float(found.pvalue)


def by_subject(values: FloatArray, owner: IntArray, subjects: int) -> FloatArray:
    """Average the values of each subject that are defined; subjects without any are left out.

    Examples
    --------
    >>> by_subject(np.array([1.0, 3.0, np.nan]), np.array([0, 0, 1]), 2)
    array([2.])
    """
    rows = mean_sums(values, owner, subjects).rows
    kept = rows[:, 1] > 0
    return np.asarray(rows[kept, 0] / rows[kept, 1])


def _ratio(sums: FloatArray) -> FloatArray:
    return np.asarray(sums[:, 0] / sums[:, 1])
