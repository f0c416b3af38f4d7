"""Rates and adjusted means: published fits, direct calls, exact identities, what cannot be fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from bids_app.cohort.between import encode
from bids_app.cohort.models import NotEstimableError, contrast, fit_means, fit_rates


def two_groups(n: int) -> np.ndarray:
    return np.kron(np.eye(2), np.ones((n, 1)))


def counts(seed: int, n: int, means: tuple[float, float], alpha: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mean = np.repeat(means, n) * rng.gamma(1 / alpha, alpha, 2 * n)
    return rng.poisson(mean).astype(float)


def test_mites_on_apple_leaves() -> None:
    # Bliss & Fisher (1953), Biometrics 9:176: mean 1.14667, k = 1 / alpha = 1.02459.
    mites = np.repeat(np.arange(8.0), [70, 38, 17, 10, 9, 3, 2, 1])
    fit = fit_rates(mites, np.ones((150, 1)))
    assert fit.name == "negative-binomial regression, t"
    assert np.exp(fit.estimates[0]) == pytest.approx(1.14667, abs=1e-5)
    assert fit.note == f"dispersion {1 / 1.02459:.3g}"
    # The variance of the log of the mean is (1 / mu + alpha) / n.
    assert fit.covariance[0, 0] == pytest.approx((1 / 1.14667 + 1 / 1.02459) / 150, rel=1e-3)


def test_two_groups_give_the_ratio_of_their_means() -> None:
    y = counts(1, 25, (3, 6))
    found = contrast(fit_rates(y, two_groups(25)), 0, 1, True, "rate ratio")
    assert found.effect == pytest.approx(y[25:].mean() / y[:25].mean(), rel=1e-4)
    back = contrast(fit_rates(y, two_groups(25)), 1, 0, True, "rate ratio")
    assert (back.effect, back.low, back.high) == pytest.approx(
        (1 / found.effect, 1 / found.high, 1 / found.low)
    )
    assert back.p == found.p


def test_against_statsmodels_with_offset_and_covariate() -> None:
    rng = np.random.default_rng(4)
    n = 40
    length, age = rng.uniform(60, 200, 2 * n), rng.normal(40, 10, 2 * n)
    y = counts(2, n, (3, 5))
    group = np.repeat([0.0, 1.0], n)
    direct = sm.NegativeBinomial(
        y, np.column_stack([np.ones(2 * n), group, (age - 40) / 10]), offset=np.log(length)
    ).fit(disp=0, maxiter=500, method="bfgs")
    design = np.column_stack([two_groups(n), encode(pd.DataFrame({"age": age}))])
    found = contrast(fit_rates(y, design, np.log(length)), 0, 1, True, "rate ratio")
    assert found.effect == pytest.approx(np.exp(direct.params[1]), rel=1e-3)
    assert found.statistic == pytest.approx(direct.params[1] / direct.bse[1], rel=1e-3)
    half = stats.t.ppf(0.975, 2 * n - 3) * direct.bse[1]
    assert found.high == pytest.approx(np.exp(direct.params[1] + half), rel=1e-3)


def test_no_overdispersion_is_poisson() -> None:
    y = np.tile([2.0, 3.0, 4.0], 8)
    fit = fit_rates(y, two_groups(12))
    assert (fit.name, fit.note) == ("Poisson regression, t", "no overdispersion")
    assert fit.covariance.diagonal() == pytest.approx([1 / 36, 1 / 36])


def test_a_longer_cord_is_no_higher_rate() -> None:
    y = np.concatenate([counts(5, 20, (3, 3))[:20], 2 * counts(5, 20, (3, 3))[:20]])
    offset = np.log(np.repeat([100.0, 200.0], 20))
    found = contrast(fit_rates(y, two_groups(20), offset), 0, 1, True, "rate ratio")
    assert found.effect == pytest.approx(1, rel=1e-3)


def test_two_counts_of_one_person_are_one_cluster() -> None:
    rng = np.random.default_rng(6)
    own = rng.gamma(2, 2, 40)
    y = rng.poisson(np.concatenate([own, own])).astype(float)
    owners = np.tile(np.arange(40), 2)
    loose = contrast(fit_rates(y, two_groups(40)), 0, 1, True, "rate ratio")
    tight = contrast(fit_rates(y, two_groups(40), None, owners), 0, 1, True, "rate ratio")
    assert tight.effect == pytest.approx(loose.effect)
    assert tight.high / tight.low < loose.high / loose.low


def test_means_against_statsmodels() -> None:
    rng = np.random.default_rng(7)
    group, age = np.repeat([0.0, 1.0], 15), rng.normal(40, 10, 30)
    y = 75 - 0.3 * age + 4 * group + rng.normal(0, 1 + 5 * group)
    direct = sm.OLS(y, np.column_stack([np.ones(30), group, age])).fit(cov_type="HC3", use_t=True)
    design = np.column_stack([two_groups(15), encode(pd.DataFrame({"age": age}))])
    found = contrast(fit_means(y, design), 0, 1, False, "adjusted difference")
    low, high = direct.conf_int()[1]
    assert (found.effect, found.p, found.low, found.high) == pytest.approx(
        (direct.params[1], direct.pvalues[1], low, high)
    )


@pytest.mark.parametrize(
    ("y", "design", "reason"),
    [
        ([0.0] * 8, two_groups(4), "all counts are zero"),
        ([1.0, 2.0, 3.0, 4.0], two_groups(2), "too few participants (4) for 2 terms"),
        ([1.0, 2.0] * 4, np.hstack([two_groups(4), np.ones((8, 1))]), "cannot be told from"),
    ],
)
def test_what_cannot_be_estimated(y: list[float], design: np.ndarray, reason: str) -> None:
    with pytest.raises(NotEstimableError, match=reason.replace("(", r"\(").replace(")", r"\)")):
        fit_rates(np.array(y), design)


def test_a_covariate_that_tells_all_zeros_apart_ends_in_a_reason_or_a_finite_fit() -> None:
    y = np.array([0, 0, 0, 0, 5, 7, 9, 4, 0, 0, 0, 0, 6, 8, 3, 9], dtype=float)
    covariate = np.tile([0.0] * 4 + [1.0] * 4, 2)
    design = np.column_stack([two_groups(8), covariate - 0.5])
    try:
        fit = fit_rates(y, design)
    except NotEstimableError as error:
        assert "converge" in str(error) or "finite" in str(error)
    else:
        found = contrast(fit, 0, 1, True, "rate ratio")
        assert found.effect == pytest.approx(26 / 25, rel=0.05)


def test_covariates_as_columns() -> None:
    table = pd.DataFrame(
        {
            "age": ["20", "30", "40"],
            "site": ["b", "a", "c"],
            "odd": ["1", "x", "1"],
            "same": ["4", "4", "4"],
            "inf": ["1", "inf", "1"],
        }
    )
    design = encode(table)
    assert design.shape == (3, 1 + 2 + 1 + 1)
    assert design.mean(axis=0) == pytest.approx(np.zeros(5))
    assert design[:, 0].std() == pytest.approx(1)
    assert encode(pd.DataFrame(index=range(3))).shape == (3, 0)
