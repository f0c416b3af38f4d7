"""Calibration: whether lesions given a probability of 0.7 turn out right seven times in ten."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bids_app.records import BoolArray, FloatArray, IntArray

BINS = 10
"""Bins of equal width; a probability on an edge belongs to the lower bin."""


@dataclass(frozen=True)
class Bin:
    """The predicted lesions of one range of probability.

    Attributes
    ----------
    low, high : float
        The range, (low, high]; the first one includes 0.
    count : int
    mean_probability, share_right : float
        NaN in an empty bin.
    """

    low: float
    high: float
    count: int
    mean_probability: float
    share_right: float


def bin_of(probabilities: FloatArray, bins: int = BINS) -> IntArray:
    """Give each probability's bin, counted from 0.

    Examples
    --------
    >>> bin_of(np.array([0.0, 0.1, 0.11, 1.0])).tolist()
    [0, 0, 1, 9]
    """
    edges = np.linspace(0, 1, bins + 1)
    return np.asarray(np.searchsorted(edges[1:-1], probabilities), dtype=np.intp)


def reliability(probabilities: FloatArray, right: BoolArray, bins: int = BINS) -> tuple[Bin, ...]:
    """Compare the mean probability with the share that is right, bin by bin."""
    at = bin_of(probabilities, bins)
    edges = np.linspace(0, 1, bins + 1)
    result = []
    for number in range(bins):
        inside = at == number
        count = int(inside.sum())
        result.append(
            Bin(
                float(edges[number]),
                float(edges[number + 1]),
                count,
                float(probabilities[inside].mean()) if count else math.nan,
                float(right[inside].mean()) if count else math.nan,
            )
        )
    return tuple(result)


def expected_calibration_error(
    probabilities: FloatArray, right: BoolArray, bins: int = BINS
) -> float:
    """Average |mean probability - share right| over the bins, weighted by their counts.

    Naeini et al. (2015). NaN without predictions.

    Examples
    --------
    >>> round(expected_calibration_error(np.array([0.8, 0.8]), np.array([True, False])), 3)
    0.3
    >>> expected_calibration_error(np.array([]), np.array([], dtype=bool))
    nan
    """
    filled = [one for one in reliability(probabilities, right, bins) if one.count]
    if not filled:
        return math.nan
    gaps = [one.count * abs(one.mean_probability - one.share_right) for one in filled]
    return float(sum(gaps) / len(probabilities))


def brier_score(probabilities: FloatArray, right: BoolArray) -> float:
    """Average the squared distance between probability and outcome; NaN without predictions.

    Examples
    --------
    >>> brier_score(np.array([1.0, 0.5]), np.array([True, False]))
    0.125
    >>> brier_score(np.array([]), np.array([], dtype=bool))
    nan
    """
    if not len(probabilities):
        return math.nan
    return float(np.mean((probabilities - right) ** 2))
