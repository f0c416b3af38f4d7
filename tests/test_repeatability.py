"""Repeatability against published numbers and independent calculations."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from bids_app.evaluation.repeatability import (
    coefficients_of_variation,
    count_agreement,
    icc,
    limits_of_agreement,
    mean_squares,
    relative,
    repeatability_coefficient,
    root_mean_square,
    within_subject_sd,
)

# Shrout & Fleiss (1979), table 2: six targets, four judges.
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]],
    dtype=float,
)
# Bland & Altman (1986), table 1: peak expiratory flow, first readings of two meters, and the
# second reading of the Wright meter, l/min.
WRIGHT = np.array(
    [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427], float
)
WRIGHT_AGAIN = np.array(
    [490, 397, 512, 401, 470, 611, 415, 431, 638, 429, 420, 633, 275, 492, 165, 372, 421], float
)
MINI = np.array(
    [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451], float
)


@pytest.mark.parametrize(
    ("form", "value", "low", "high"),
    [
        # Values: Shrout & Fleiss, table 4. Intervals: as R's psych::ICC prints them.
        ("1", 0.17, -0.13, 0.72),
        ("A,1", 0.29, 0.02, 0.76),
        ("C,1", 0.71, 0.34, 0.95),
    ],
)
def test_icc_of_shrout_and_fleiss(form: str, value: float, low: float, high: float) -> None:
    found = icc(SHROUT_FLEISS, form)
    assert [round(x, 2) for x in (found.value, found.low, found.high)] == [value, low, high]


def test_mean_squares_are_those_of_an_analysis_of_variance() -> None:
    rng = np.random.default_rng(1)
    for n, k in ((5, 2), (9, 3), (20, 2)):
        values = rng.gamma(2, 50, (n, 1)) + rng.normal(0, 10, (n, k)) + [5 * j for j in range(k)]
        frame = pd.DataFrame(
            {
                "value": values.ravel(),
                "subject": np.repeat(np.arange(n), k),
                "scan": np.tile(np.arange(k), n),
            }
        )
        two = anova_lm(ols("value ~ C(subject) + C(scan)", frame).fit())
        one = anova_lm(ols("value ~ C(subject)", frame).fit())
        squares = [two["mean_sq"][name] for name in ("C(subject)", "C(scan)", "Residual")]
        squares.append(one["mean_sq"]["Residual"])
        assert mean_squares(values) == pytest.approx(squares, rel=1e-9)
        # ICC(A,1) from the components of variance, by their definition.
        subject, scan, error, _ = squares
        parts = (subject - error) / k, (scan - error) / n, error
        assert icc(values).value == pytest.approx(parts[0] / sum(parts), rel=1e-9)


@pytest.mark.parametrize("scan_sd", [0.0, 1.0])
def test_the_interval_of_icc_holds_what_it_says(scan_sd: float) -> None:
    """Of 95 % intervals of simulated scans about 95 of 100 hold the true value."""
    rng = np.random.default_rng(2)
    true = 4 / (4 + scan_sd**2 + 1)
    held = 0
    for _ in range(400):
        values = rng.normal(0, 2, (25, 1)) + rng.normal(0, scan_sd, (1, 4)) + rng.normal(
            0, 1, (25, 4)
        )  # fmt: skip
        found = icc(values)
        held += found.low <= true <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_limits_of_bland_and_altman() -> None:
    found = limits_of_agreement(MINI, WRIGHT)
    # The paper: mean difference -2.1, SD 38.8, limits -79.7 to 75.5 with 2 SD; intervals of the
    # bias -22.0 to 17.8, of the lower limit -114.3 to -45.1, of the upper 40.9 to 110.1.
    assert (round(found.bias, 1), round(found.sd, 1), found.n) == (-2.1, 38.8, 17)
    assert found.low == pytest.approx(-2.1 - 1.96 * 38.8, abs=0.1)
    assert found.bias_ci95 == pytest.approx((-22.0, 17.8), abs=0.1)
    for got, paper, centre in (
        (found.low_ci95, (-114.3, -45.1), -79.7),
        (found.high_ci95, (40.9, 110.1), 75.5),
    ):
        assert got[1] - got[0] == pytest.approx(paper[1] - paper[0], abs=0.3)
        assert np.mean(got) == pytest.approx(centre, abs=2)
    t = stats.ttest_rel(WRIGHT, MINI).confidence_interval()
    assert found.bias_ci95 == pytest.approx((t.low, t.high), rel=1e-9)


def test_within_subject_sd_of_the_wright_meter() -> None:
    values = np.stack([WRIGHT, WRIGHT_AGAIN], axis=1)
    assert within_subject_sd(values) == pytest.approx(
        math.sqrt(np.mean((WRIGHT - WRIGHT_AGAIN) ** 2 / 2)), rel=1e-12
    )
    assert round(within_subject_sd(values), 1) == 15.3
    assert repeatability_coefficient(values) == pytest.approx(2.7719 * 15.3, rel=0.005)


def test_coefficients_of_variation() -> None:
    values = np.array([[100.0, 120.0, 80.0], [10.0, 10.0, 10.0], [0.0, 0.0, 0.0]])
    found = coefficients_of_variation(values)
    assert found[:2] == pytest.approx(100 * stats.variation(values[:2], axis=1, ddof=1))
    assert math.isnan(found[2])
    assert root_mean_square(found) == pytest.approx(math.sqrt(20**2 / 2))
    # Two scans: SD / mean is the difference over sqrt(2) times the mean.
    pair = np.array([[50.0, 70.0]])
    assert coefficients_of_variation(pair)[0] == pytest.approx(100 * 20 / math.sqrt(2) / 60)


def test_few_subjects_and_nothing_at_all() -> None:
    assert math.isnan(icc(np.array([[1.0, 2.0], [3.0, 4.0]])).value)
    one = limits_of_agreement(np.array([1.0]), np.array([3.0]))
    assert (one.bias, one.n) == (2.0, 1)
    assert math.isnan(one.low)
    none = limits_of_agreement(np.array([]), np.array([]))
    assert math.isnan(none.bias)
    assert math.isnan(within_subject_sd(np.empty((0, 2))))
    assert math.isnan(count_agreement(np.empty((0, 2)))["equal"])
    first, second = relative(np.zeros(2), np.zeros(2))
    assert limits_of_agreement(first, second).n == 0
