"""Rank tests and effect sizes: published examples, direct computation, invariants, edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from bids_app.cohort.effects import (
    cliffs_delta,
    hodges_lehmann,
    kruskal_wallis,
    mann_whitney,
    signed_rank,
)

# Hollander & Wolfe (1973): permeability of the amnion (4.1), Hamilton depression scores (3.1),
# mucociliary efficiency (6.1); the data of R's examples of wilcox.test and kruskal.test.
AT_TERM = np.array([0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46])
EARLY = np.array([1.15, 0.88, 0.90, 0.74, 1.21])
BEFORE = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
AFTER = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
LUNGS = ([2.9, 3.0, 2.5, 2.6, 3.2], [3.8, 2.7, 4.0, 2.4], [2.8, 3.4, 3.7, 2.2, 2.0])

# Few distinct values, so that ties are the rule.
samples = arrays(float, st.integers(3, 25), elements=st.integers(0, 6).map(float))


def test_mann_whitney_of_the_textbook() -> None:
    found = mann_whitney(EARLY, AT_TERM)
    assert found.test == "Mann-Whitney U (exact)"
    assert found.statistic == 35
    assert found.p == pytest.approx(0.2544, abs=5e-5)
    assert found.effect == pytest.approx(2 * 35 / 50 - 1)


def test_cliffs_delta_of_the_r_package_effsize() -> None:
    treatment = np.array([10, 10, 20, 20, 20, 30, 30, 30, 40, 50], dtype=float)
    control = np.array([10, 20, 30, 40, 40, 50], dtype=float)
    found = cliffs_delta(control, treatment)
    assert found == pytest.approx((-0.25, -0.7265846, 0.3890062), abs=1e-7)


def test_signed_rank_of_the_textbook() -> None:
    found = signed_rank(BEFORE - AFTER)
    assert found.p == pytest.approx(0.0391, abs=5e-5)
    assert found.statistic == 5  # the smaller rank sum; the other is 40
    assert (found.effect, found.low, found.high) == pytest.approx((0.46, 0.010, 0.786))


def test_kruskal_wallis_of_the_textbook() -> None:
    found = kruskal_wallis([np.array(values) for values in LUNGS])
    assert found.statistic == pytest.approx(0.77143, abs=5e-6)
    assert found.p == pytest.approx(0.68, abs=5e-3)
    assert found.effect == pytest.approx(0.77143 / 13, abs=1e-6)
    assert found.low == 0


def test_large_groups_take_the_normal_approximation() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.poisson(2, 40).astype(float), rng.poisson(3, 50).astype(float)
    direct = stats.mannwhitneyu(b, a, method="asymptotic")
    found = mann_whitney(a, b)
    assert (found.test, found.statistic) == ("Mann-Whitney U", direct.statistic)
    assert found.p == direct.pvalue


def test_exact_p_with_ties_is_counted_by_hand() -> None:
    # Of the 10 ways of drawing three of 0 0 0 1 1, one puts all zeros into the first group.
    found = mann_whitney(np.zeros(3), np.ones(2))
    assert found.p == pytest.approx(2 / 10)
    found = mann_whitney(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0]))
    assert found.p == 1


@settings(max_examples=60, deadline=None)
@given(samples, samples)
def test_cliffs_delta_by_all_pairs(a: np.ndarray, b: np.ndarray) -> None:
    delta, low, high = cliffs_delta(a, b)
    assert delta == pytest.approx(np.sign(b[:, None] - a[None, :]).mean())
    assert -1 <= low <= delta <= high <= 1
    assert cliffs_delta(b, a) == pytest.approx((-delta, -high, -low))
    assert cliffs_delta(np.exp(a), np.exp(b)) == pytest.approx((delta, low, high))


@settings(max_examples=60, deadline=None)
@given(arrays(float, st.integers(1, 40), elements=st.floats(-1e6, 1e6).map(lambda x: round(x, 2))))
def test_hodges_lehmann_by_all_pairs(values: np.ndarray) -> None:
    i, j = np.triu_indices(len(values))
    means = np.sort((values[i] + values[j]) / 2)
    estimate, low, high = hodges_lehmann(values)
    assert estimate == pytest.approx(np.median(means), abs=1e-6)
    if len(values) < 6:
        assert math.isnan(low) and math.isnan(high)
    else:
        assert low <= estimate + 1e-6 and estimate <= high + 1e-6
        assert np.abs(means - low).min() < 1e-6
        mirrored = hodges_lehmann(-values)
        assert mirrored == pytest.approx((-estimate, -high, -low), abs=1e-6)


@pytest.mark.parametrize(
    ("n", "cut"),
    # Walsh averages below the interval, plus one: tables of the signed-rank statistic, 0.025.
    [(5, 0), (6, 1), (7, 3), (8, 4), (9, 6), (10, 9), (15, 26), (20, 53), (25, 90)],
)
def test_the_interval_uses_the_tabled_quantiles(n: int, cut: int) -> None:
    values = 2.0 ** np.arange(n)  # all pairwise means differ
    i, j = np.triu_indices(n)
    means = np.sort((values[i] + values[j]) / 2)
    low, high = hodges_lehmann(values)[1:]
    if cut == 0:
        assert math.isnan(low)
    else:
        assert (low, high) == (means[cut - 1], means[-cut])


def test_counted_and_normal_quantiles_meet() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=51)
    widths = [np.diff(hodges_lehmann(values[:n])[1:])[0] for n in (50, 51)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


@pytest.mark.parametrize("n", [3, 7, 20, 50])
def test_exact_signed_rank_without_ties_is_scipys(n: int) -> None:
    changes = np.random.default_rng(n).normal(0.3, size=n)
    direct = stats.wilcoxon(changes, method="exact")
    found = signed_rank(changes)
    assert found.test == "Wilcoxon signed rank (exact)"
    assert (found.statistic, found.p) == pytest.approx((direct.statistic, direct.pvalue))


@pytest.mark.parametrize("changes", [[1, 1, 2, -1, 3, 0, 2], [0, 0, 0, 1, 1], [2, -2, 4, 4, 0, 5]])
def test_exact_signed_rank_with_ties_and_zeros_tries_all_signs(changes: list[int]) -> None:
    values = np.array(changes, dtype=float)
    ranks = stats.rankdata(np.abs(values)) * (values != 0)
    signs = np.array(list(itertools.product((0, 1), repeat=len(values))))
    sums = signs @ ranks
    seen = min(ranks[values > 0].sum(), ranks[values < 0].sum())
    found = signed_rank(values)
    assert found.p == pytest.approx(min(1, 2 * np.mean(sums <= seen)))


def test_many_changes_take_the_normal_approximation() -> None:
    changes = np.random.default_rng(1).poisson(2, 80) - 1.5
    direct = stats.wilcoxon(changes, zero_method="pratt", method="asymptotic")
    assert signed_rank(changes).p == direct.pvalue


def test_nothing_differs() -> None:
    same = np.full(4, 2.0)
    for found in (mann_whitney(same, same), kruskal_wallis([same, same, same])):
        assert math.isnan(found.p)
        assert found.note == "all values are equal"
    still = signed_rank(np.zeros(7))
    assert math.isnan(still.p)
    assert (still.effect, still.low, still.high) == (0, 0, 0)
    assert still.note == "no participant changed"


def test_groups_that_do_not_overlap_have_an_interval() -> None:
    delta, low, high = cliffs_delta(np.arange(10.0), np.arange(10.0) + 100)
    assert (delta, high) == (1, 1)
    assert 0 < low < 1
    assert cliffs_delta(np.arange(10.0) + 100, np.arange(10.0)) == (-1, -1, -low)


def test_p_is_uniform_when_nothing_differs() -> None:
    rng = np.random.default_rng(11)
    ps = [mann_whitney(rng.normal(size=20), rng.normal(size=20)).p for _ in range(400)]
    assert stats.kstest(ps, "uniform").pvalue > 0.01
    assert np.mean(np.array(ps) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_intervals_cover() -> None:
    rng = np.random.default_rng(12)
    truth = 2 * stats.norm.cdf(0.8 / np.sqrt(2)) - 1
    inside = 0
    for _ in range(400):
        found = cliffs_delta(rng.normal(size=15), rng.normal(0.8, size=15))
        inside += found[1] <= truth <= found[2]
    assert inside / 400 == pytest.approx(0.95, abs=0.035)
