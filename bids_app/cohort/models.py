"""Regressions whose first columns are the things compared: rates of counts, means of amounts.

statsmodels takes seconds to load, so it is imported where it is used.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from bids_app.cohort.effects import NAN, Tested
from bids_app.records import FloatArray

_TAIL = 0.025
_ITERATIONS = 500
# Least residual degrees of freedom; with fewer the interval would be all there is.
_FREEDOM = 3


class NotEstimableError(Exception):
    """A model says nothing about these data; its sentence goes into the note."""


@dataclass(frozen=True)
class Fit:
    """Estimates of the design's columns.

    Attributes
    ----------
    name : str
        The model and its test.
    estimates : ndarray of shape (k,)
    covariance : ndarray of shape (k, k)
    freedom : float
        Degrees of freedom of Student's t.
    note : str
    """

    name: str
    estimates: FloatArray
    covariance: FloatArray
    freedom: float
    note: str = ""


def fit_rates(
    counts: FloatArray,
    design: FloatArray,
    offset: FloatArray | None = None,
    owners: FloatArray | None = None,
) -> Fit:
    """Fit a negative-binomial regression with log link (NB2: variance mu + alpha mu^2).

    The dispersion alpha is estimated by maximum likelihood with the rest. Where its likelihood
    falls from alpha = 0 on (no overdispersion), the fit is the Poisson regression that this is
    the limit of.

    Parameters
    ----------
    counts : ndarray of shape (n,)
    design : ndarray of shape (n, k)
    offset : ndarray of shape (n,), optional
        Added to the logarithm of the mean.
    owners : ndarray of int, shape (n,), optional
        Whose count it is: errors are then robust to the likeness of counts of one owner.

    Returns
    -------
    Fit
        On the log scale. Degrees of freedom are n - k, or the number of owners less one.

    Raises
    ------
    NotEstimableError
    """
    freedom = _check(design, owners)
    if not counts.any():
        raise NotEstimableError("all counts are zero")
    errors = {} if owners is None else {"cov_type": "cluster", "cov_kwds": {"groups": owners}}
    # Importing statsmodels switches its warnings on again, so it comes before silencing them.
    from statsmodels.discrete import discrete_model

    with warnings.catch_warnings():  # what they would say is checked below
        warnings.simplefilter("ignore")
        try:
            name, fit = _likeliest(discrete_model, counts, design, offset, errors)
            covariance = np.asarray(fit.cov_params(), dtype=float)
        except (np.linalg.LinAlgError, ValueError, FloatingPointError):
            raise NotEstimableError(f"the {_NB} did not converge") from None
    if not fit.mle_retvals["converged"]:
        raise NotEstimableError(f"the {name} did not converge")
    k = design.shape[1]
    note = f"dispersion {fit.params[-1]:.3g}" if name == _NB else "no overdispersion"
    return _checked(Fit(f"{name}, t", fit.params[:k], covariance[:k, :k], freedom, note))


def _likeliest(
    models: Any,
    counts: FloatArray,
    design: FloatArray,
    offset: FloatArray | None,
    errors: dict[str, Any],
) -> tuple[str, Any]:
    """Fit Poisson's regression, and with overdispersion the negative-binomial one from there."""
    settings = {"disp": 0, "maxiter": _ITERATIONS, **errors}
    fit = models.Poisson(counts, design, offset=offset).fit(method="newton", **settings)
    mean = np.asarray(fit.predict())
    # The sign of the slope of the log-likelihood in alpha at 0.
    if np.sum((counts - mean) ** 2 - counts) <= 0:
        return "Poisson regression", fit
    moments = float(np.sum((counts - mean) ** 2 - mean) / np.sum(mean**2))
    start = np.append(fit.params, max(moments, 0.01))
    model = models.NegativeBinomial(counts, design, offset=offset)
    return _NB, model.fit(start_params=start, method="bfgs", **settings)


_NB = "negative-binomial regression"


def fit_means(values: FloatArray, design: FloatArray) -> Fit:
    """Fit a linear regression by least squares, errors robust to unequal variances (HC3).

    Long & Ervin (2000), Am Stat 54:217-224.

    Raises
    ------
    NotEstimableError
    """
    from statsmodels.regression.linear_model import OLS

    freedom = _check(design, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a leverage of 1 divides by zero; checked below
        fit = OLS(values, design).fit(cov_type="HC3", use_t=True)
        covariance = np.asarray(fit.cov_params(), dtype=float)
    return _checked(Fit("linear regression (HC3), t", fit.params, covariance, freedom))


def contrast(fit: Fit, a: int, b: int, ratio: bool, effect_name: str) -> Tested:
    """Compare columns `b` and `a` of the design: their difference, or its exponential.

    Returns
    -------
    Tested
        With Wald's t; the interval is taken on the scale of the fit.
    """
    difference = float(fit.estimates[b] - fit.estimates[a])
    variance = float(
        fit.covariance[a, a] + fit.covariance[b, b] - fit.covariance[a, b] - fit.covariance[b, a]
    )
    if not variance > 0:
        return Tested(fit.name, NAN, NAN, effect_name, NAN, NAN, NAN, "no spread")
    error = math.sqrt(variance)
    half = float(stats.t.ppf(1 - _TAIL, fit.freedom)) * error
    p = float(2 * stats.t.sf(abs(difference) / error, fit.freedom))
    ends = [difference, difference - half, difference + half]
    effect, low, high = np.exp(ends) if ratio else np.asarray(ends)
    return Tested(
        fit.name,
        difference / error,
        p,
        effect_name,
        float(effect),
        float(low),
        float(high),
        fit.note,
    )


def _check(design: FloatArray, owners: FloatArray | None) -> float:
    """Give the degrees of freedom, or say why there is nothing to estimate."""
    n, k = design.shape
    freedom = n - k if owners is None else len(np.unique(owners)) - 1
    if owners is None and freedom < _FREEDOM:
        raise NotEstimableError(f"too few participants ({n}) for {k} terms")
    if np.linalg.matrix_rank(design) < k:
        raise NotEstimableError("the covariates cannot be told from the groups or each other")
    return float(freedom)


def _checked(fit: Fit) -> Fit:
    if not (np.isfinite(fit.estimates).all() and np.isfinite(fit.covariance).all()):
        raise NotEstimableError(f"the {fit.name.split(',')[0]} has no finite errors")
    return fit
