"""Fits that make probabilities mean what they say."""

from __future__ import annotations

import numpy as np
from scipy import optimize, stats

from bids_app.records import BoolArray, FloatArray, IntArray

_LARGEST_DISPERSION = 20.0


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
