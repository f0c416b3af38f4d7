"""Whether probabilities mean what they say, and fits that make them so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from bids_app.records import BoolArray, FloatArray, IntArray

_LARGEST_DISPERSION = 20.0


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same probability: how many, their mean, the share that is right."""

    count: int
    probability: float
    right: float


def reliability(chances: FloatArray, right: BoolArray, bins: int = 10) -> tuple[Bin, ...]:
    """Group predictions by probability into bins of equal width; empty bins are left out.

    Examples
    --------
    >>> reliability(np.array([0.91, 0.97]), np.array([True, False]))
    (Bin(count=2, probability=0.94, right=0.5),)
    """
    at = np.minimum((chances * bins).astype(int), bins - 1)
    return tuple(
        Bin(int(np.sum(at == b)), float(chances[at == b].mean()), float(right[at == b].mean()))
        for b in np.unique(at)
    )


def calibration_error(chances: FloatArray, right: BoolArray, bins: int = 10) -> float:
    """Give the expected calibration error (Naeini et al. 2015); NaN without predictions.

    Examples
    --------
    >>> round(calibration_error(np.array([0.91, 0.97]), np.array([True, False])), 2)
    0.44
    """
    if not len(chances):
        return float("nan")
    gaps = [b.count * abs(b.probability - b.right) for b in reliability(chances, right, bins)]
    return float(np.sum(gaps) / len(chances))


def fit_temperature(logits: FloatArray, right: BoolArray) -> float:
    """Find the temperature by which log-odds are divided (Guo et al. 2017), from 0.01 to 100.

    It minimises the log loss; predictions that are all right, or all wrong, have no optimum, and
    an end of the range comes out.
    """
    sign = np.where(right, 1.0, -1.0)
    best = optimize.minimize_scalar(
        lambda log_t: np.logaddexp(0, -sign * logits * np.exp(-log_t)).mean(),
        bounds=(np.log(0.01), np.log(100)),
        method="bounded",
    )
    return float(np.exp(best.x))


def fit_logistic(
    features: FloatArray, right: BoolArray, penalty: float = 1.0
) -> tuple[float, FloatArray]:
    """Fit a logistic regression with a ridge, so that few or separable cases stay finite.

    Parameters
    ----------
    features : ndarray of shape (cases, features)
    right : ndarray of bool, shape (cases,)
    penalty : float
        Half of it times the squared weights of the standardised features is added to the summed
        log loss. The intercept is free.

    Returns
    -------
    intercept : float
    weights : ndarray of shape (features,)
        For the features as they came.
    """
    center, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 0, spread, 1)
    standard = (features - center) / spread
    sign = np.where(right, 1.0, -1.0)

    def loss(parameters: FloatArray) -> float:
        margin = sign * (parameters[0] + standard @ parameters[1:])
        ridge = penalty / 2 * (parameters[1:] @ parameters[1:] + 1e-3 * parameters[0] ** 2)
        return float(np.logaddexp(0, -margin).sum() + ridge)

    found = optimize.minimize(loss, np.zeros(features.shape[1] + 1), method="BFGS").x
    weights = found[1:] / spread
    return float(found[0] - weights @ center), np.asarray(weights)


def fit_dispersion(counts: IntArray, means: FloatArray) -> float:
    """Find how much counts vary beyond Poisson round known means, by maximum likelihood.

    The variance is mean + dispersion mean² (negative binomial); 0, which is Poisson, where that
    is at least as likely. Cases of mean 0 say nothing.
    """
    counts, means = counts[means > 0], means[means > 0]
    if not len(counts):
        return 0.0

    def surprise(dispersion: float) -> float:
        likely = stats.nbinom(1 / dispersion, 1 / (1 + dispersion * means))
        return float(-likely.logpmf(counts).sum())

    found = optimize.minimize_scalar(
        lambda log_d: surprise(np.exp(log_d)),
        bounds=(np.log(1e-4), np.log(_LARGEST_DISPERSION)),
        method="bounded",
    )
    poisson = -stats.poisson(means).logpmf(counts).sum()
    return 0.0 if poisson <= found.fun + 1e-6 else float(np.exp(found.x))
