"""Bootstrap intervals that resample subjects, so that repeated scans do not feign precision."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from bids_app.records import FloatArray, IntArray

RESAMPLES = 2000
_SEED = 0
_FEWEST = 3
# The acceleration takes a jackknife, quadratic in time, and vanishes as the subjects grow many.
_MANY = 500
_BATCH_VALUES = 2_000_000

Statistic = Callable[[FloatArray], FloatArray]
"""From weights of subjects, shape (resamples, subjects), to one value a resample."""


@dataclass(frozen=True)
class Estimate:
    """A mean over scans with its interval; NaN where there is nothing to average.

    Attributes
    ----------
    mean, sd, median : float
    low, high : float
        95 % interval of the mean.
    n, subjects : int
        Values that went in, and the subjects they are from.
    """

    mean: float
    sd: float
    median: float
    low: float
    high: float
    n: int
    subjects: int


def estimate_mean(values: Sequence[float] | FloatArray, subjects: Sequence[str]) -> Estimate:
    """Average the values that are defined, with an interval by subject.

    Parameters
    ----------
    values : sequence of float
        NaN is left out.
    subjects : sequence of str
        Whose value it is.

    Examples
    --------
    >>> estimate_mean([1.0, float("nan"), 3.0], ["a", "b", "a"])
    Estimate(mean=2.0, sd=1.4142135623730951, median=2.0, low=nan, high=nan, n=2, subjects=1)
    """
    every = np.asarray(values, dtype=float)
    kept = np.isfinite(every)
    used = every[kept]
    if not len(used):
        return Estimate(math.nan, math.nan, math.nan, math.nan, math.nan, n=0, subjects=0)
    _, owner = np.unique(np.asarray(subjects, dtype=str)[kept], return_inverse=True)
    counts = np.bincount(owner).astype(float)
    sums = np.bincount(owner, used)

    def pooled(weights: FloatArray) -> FloatArray:
        return np.asarray((weights @ sums) / (weights @ counts))

    low, high = subject_interval(pooled, len(counts))
    return Estimate(
        mean=float(used.mean()),
        sd=float(used.std(ddof=1)) if len(used) > 1 else math.nan,
        median=float(np.median(used)),
        low=low,
        high=high,
        n=len(used),
        subjects=len(counts),
    )


def subject_interval(
    statistic: Statistic, subjects: int, values_each: int = 1
) -> tuple[float, float]:
    """Give a statistic's 95 % bootstrap interval.

    Bias-corrected and accelerated (Efron 1987) up to 500 subjects, percentile beyond, and where
    the acceleration is undefined; 2000 resamples, seeded. Resamples in which the statistic is
    undefined (no subject with a lesion) are left out.

    Parameters
    ----------
    statistic : callable
        Computes one value for each row of weights.
    subjects : int
    values_each : int
        Numbers that the statistic handles for each resample, to bound its memory.

    Returns
    -------
    low, high : float
        NaN for fewer than three subjects; the value itself when all subjects agree.
    """
    if subjects < _FEWEST:
        return math.nan, math.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        without_one = statistic(1 - np.eye(subjects)) if subjects <= _MANY else np.zeros(1)
        whole = float(statistic(np.ones((1, subjects)))[0])
    unit = max(1.0, abs(whole)) if math.isfinite(whole) else 1.0
    # Without spread among them the acceleration is 0/0; rounding must not hide that.
    spread = np.ptp(without_one) > 1e-12 * max(1, abs(whole))
    accelerate = subjects <= _MANY and bool(np.isfinite(without_one).all() and spread)

    def resampled(index: Any, axis: int = -1) -> FloatArray:
        rows = np.moveaxis(np.asarray(index), axis, -1)
        flat = rows.reshape(-1, rows.shape[-1])
        # Draws of the same subjects tie; in another order their sums differ by rounding.
        values = np.round(statistic(count_draws(flat, subjects)) / unit, 11) * unit
        return np.asarray(values.reshape(rows.shape[:-1]))

    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        # What is degenerate is dealt with below.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (np.arange(subjects),),
            resampled,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=max(1, _BATCH_VALUES // max(subjects, values_each)),
            method="BCa" if accelerate else "percentile",
            rng=np.random.default_rng(_SEED),
        )
    low, high = float(found.confidence_interval.low), float(found.confidence_interval.high)
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    defined = found.bootstrap_distribution[np.isfinite(found.bootstrap_distribution)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, (0.025, 0.975))
    return float(low), float(high)


def count_draws(index: IntArray, subjects: int) -> FloatArray:
    """Count how often each resample, a row of `index`, took each subject.

    Examples
    --------
    >>> count_draws(np.array([[0, 0, 2]]), 3)
    array([[2., 0., 1.]])
    """
    rows = np.arange(len(index))[:, None] * subjects
    flat = np.bincount((rows + index).ravel(), minlength=len(index) * subjects)
    return np.asarray(flat.reshape(len(index), subjects), dtype=float)
