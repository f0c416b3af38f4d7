"""Agreement of repeated scans: within-subject variation, ICC, Bland-Altman, counts.

Arrays of shape (subjects, repeats) come in, in the unit of the measure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from bids_app.records import FloatArray

_TAIL = 0.025
_Z = 1.96
_FEWEST = 3


@dataclass(frozen=True)
class Limits:
    """A Bland-Altman analysis: how much a second value differs from the first.

    Attributes
    ----------
    bias, sd : float
        Mean and SD of second - first.
    low, high : float
        Limits of agreement, bias -+ 1.96 SD.
    bias_ci95, low_ci95, high_ci95 : tuple of float
        NaN for fewer than three subjects.
    n : int
    """

    bias: float
    sd: float
    low: float
    high: float
    bias_ci95: tuple[float, float]
    low_ci95: tuple[float, float]
    high_ci95: tuple[float, float]
    n: int


@dataclass(frozen=True)
class Correlation:
    """An intraclass correlation with its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float


def coefficients_of_variation(values: FloatArray) -> FloatArray:
    """Give each subject's SD over the repeats in percent of its mean.

    Parameters
    ----------
    values : ndarray of shape (subjects, repeats)
        None negative.

    Returns
    -------
    ndarray of shape (subjects,)
        NaN where the mean is 0: with nothing in any scan there is no relative variation.

    Examples
    --------
    >>> coefficients_of_variation(np.array([[90.0, 110.0], [0.0, 0.0], [0.0, 8.0]])).round(1)
    array([ 14.1,   nan, 141.4])
    """
    mean = values.mean(axis=1)
    sd = values.std(axis=1, ddof=1)
    return np.asarray(100 * np.divide(sd, mean, out=np.full(len(mean), np.nan), where=mean > 0))


def root_mean_square(values: FloatArray) -> float:
    """Average coefficients of variation as Gluer et al. (1995, Osteoporos Int 5:262-270) do.

    Examples
    --------
    >>> root_mean_square(np.array([3.0, 4.0, np.nan])) == 12.5 ** 0.5
    True
    >>> root_mean_square(np.array([np.nan]))
    nan
    """
    known = values[np.isfinite(values)]
    return math.sqrt(float(np.mean(known**2))) if len(known) else math.nan


def within_subject_sd(values: FloatArray) -> float:
    """Give the SD of repeats of the same subject: the root of the mean variance.

    Bland & Altman (1996, BMJ 313:744). 1.96 sqrt(2) times it is the repeatability coefficient:
    two scans of a subject differ by less in 95 of 100 cases.

    Examples
    --------
    >>> within_subject_sd(np.array([[1.0, 3.0], [5.0, 5.0]]))
    1.0
    """
    return math.sqrt(float(values.var(axis=1, ddof=1).mean())) if len(values) else math.nan


def repeatability_coefficient(values: FloatArray) -> float:
    """Give 1.96 sqrt(2) times the within-subject SD (Bland & Altman 1996)."""
    return _Z * math.sqrt(2) * within_subject_sd(values)


def icc(values: FloatArray, form: Literal["A,1", "C,1", "1"] = "A,1") -> Correlation:
    """Give an intraclass correlation of single values with its 95 % interval.

    Forms and intervals of McGraw & Wong (1996, Psychol Methods 1:30-46), which are those of
    Shrout & Fleiss (1979, Psychol Bull 86:420-428): ``A,1`` two-way random effects, absolute
    agreement, their ICC(2,1); ``C,1`` consistency, ICC(3,1); ``1`` one-way, ICC(1,1).

    Parameters
    ----------
    values : ndarray of shape (subjects, repeats)
        None missing.
    form : {"A,1", "C,1", "1"}

    Returns
    -------
    Correlation
        NaN for fewer than three subjects, or when all values are equal: without differences
        between subjects there is nothing to tell them apart by.

    Examples
    --------
    >>> icc(np.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]]))
    Correlation(value=1.0, low=1.0, high=1.0)
    >>> icc(np.zeros((5, 2)))
    Correlation(value=nan, low=nan, high=nan)
    """
    n, k = values.shape
    if n < _FEWEST or k < 2 or np.ptp(values) == 0:
        return Correlation(math.nan, math.nan, math.nan)
    rows, columns, error, within = mean_squares(values)
    if form == "1":
        return _one_way(rows, within, n, k)
    if form == "C,1":
        return _consistency(rows, error, n, k)
    return _agreement(rows, columns, error, n, k)


def mean_squares(values: FloatArray) -> tuple[float, float, float, float]:
    """Give the mean squares of subjects, repeats, error, and within subjects."""
    n, k = values.shape
    grand = values.mean()
    of_rows = k * float(((values.mean(axis=1) - grand) ** 2).sum())
    of_columns = n * float(((values.mean(axis=0) - grand) ** 2).sum())
    within = float(((values - values.mean(axis=1, keepdims=True)) ** 2).sum())
    # Rounding must not make an error of perfect agreement.
    error = within - of_columns
    error = error if error > 1e-12 * (of_rows + within) else 0.0
    return (
        of_rows / (n - 1),
        of_columns / (k - 1),
        error / ((n - 1) * (k - 1)),
        within / (n * (k - 1)),
    )


def _one_way(rows: float, within: float, n: int, k: int) -> Correlation:
    value = (rows - within) / (rows + (k - 1) * within)
    if within == 0:
        return Correlation(value, value, value)
    ratio = rows / within
    low = ratio / _f(n - 1, n * (k - 1))
    high = ratio * _f(n * (k - 1), n - 1)
    return Correlation(value, (low - 1) / (low + k - 1), (high - 1) / (high + k - 1))


def _consistency(rows: float, error: float, n: int, k: int) -> Correlation:
    value = (rows - error) / (rows + (k - 1) * error)
    if error == 0:
        return Correlation(value, value, value)
    ratio = rows / error
    low = ratio / _f(n - 1, (n - 1) * (k - 1))
    high = ratio * _f((n - 1) * (k - 1), n - 1)
    return Correlation(value, (low - 1) / (low + k - 1), (high - 1) / (high + k - 1))


def _agreement(rows: float, columns: float, error: float, n: int, k: int) -> Correlation:
    value = (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)
    if error == 0 and columns == 0:
        return Correlation(value, value, value)
    share = k * value / (n * (1 - value))
    of_columns, of_error = share * columns, (1 + share * (n - 1)) * error
    freedom = (of_columns + of_error) ** 2 / (
        of_columns**2 / (k - 1) + of_error**2 / ((n - 1) * (k - 1))
    )
    other = k * columns + (k * n - k - n) * error
    below, above = _f(n - 1, freedom), _f(freedom, n - 1)
    low = n * (rows - below * error) / (below * other + n * rows)
    high = n * (above * rows - error) / (other + n * above * rows)
    return Correlation(value, low, high)


def _f(numerator: float, denominator: float) -> float:
    return float(stats.f.ppf(1 - _TAIL, numerator, denominator))


def limits_of_agreement(first: FloatArray, second: FloatArray) -> Limits:
    """Compare two values of each subject after Bland & Altman (1986, Lancet 327:307-310).

    The intervals are theirs: Student's t with a standard error of SD / sqrt(n) for the bias and
    sqrt(3 / n) SD for the limits.

    Parameters
    ----------
    first, second : ndarray of shape (subjects,)
        NaN, in either, leaves the subject out.

    Examples
    --------
    >>> limits_of_agreement(np.array([1.0, 2.0]), np.array([2.0, 5.0])).bias
    2.0
    """
    difference = second - first
    difference = difference[np.isfinite(difference)]
    n = len(difference)
    bias = float(difference.mean()) if n else math.nan
    sd = float(difference.std(ddof=1)) if n > 1 else math.nan
    low, high = bias - _Z * sd, bias + _Z * sd
    t = float(stats.t.ppf(1 - _TAIL, n - 1)) if n >= _FEWEST else math.nan
    of_bias, of_limit = (t * sd * math.sqrt(share / n) if n else math.nan for share in (1, 3))
    return Limits(
        bias,
        sd,
        low,
        high,
        (bias - of_bias, bias + of_bias),
        (low - of_limit, low + of_limit),
        (high - of_limit, high + of_limit),
        n,
    )


def relative(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give both values in percent of their mean; NaN where both are 0.

    Examples
    --------
    >>> relative(np.array([9.0, 0.0]), np.array([11.0, 0.0]))
    (array([90., nan]), array([110.,  nan]))
    """
    mean = (first + second) / 2
    empty = np.full(len(mean), np.nan)
    scaled = [100 * np.divide(v, mean, out=empty.copy(), where=mean != 0) for v in (first, second)]
    return scaled[0], scaled[1]


def count_agreement(counts: FloatArray) -> dict[str, float]:
    """Say how often repeats count the same number of lesions.

    Parameters
    ----------
    counts : ndarray of shape (subjects, repeats)

    Returns
    -------
    dict
        ``equal`` and ``within_one``: share of the subjects whose smallest and largest count are
        the same, or one apart; ``presence``: share whose scans agree on whether there is any
        lesion; ``mean_range``: mean of largest - smallest count. NaN without subjects.

    Examples
    --------
    >>> count_agreement(np.array([[2, 2], [3, 4], [0, 2], [0, 0]]))
    {'equal': 0.5, 'within_one': 0.75, 'presence': 0.75, 'mean_range': 0.75}
    """
    if not len(counts):
        return dict.fromkeys(("equal", "within_one", "presence", "mean_range"), math.nan)
    span = counts.max(axis=1) - counts.min(axis=1)
    some = counts > 0
    return {
        "equal": float((span == 0).mean()),
        "within_one": float((span <= 1).mean()),
        "presence": float((some.all(axis=1) | ~some.any(axis=1)).mean()),
        "mean_range": float(span.mean()),
    }
