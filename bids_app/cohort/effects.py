"""Rank tests with their effect sizes and 95 % intervals; arrays in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special, stats

from bids_app.records import FloatArray

NAN = float("nan")

_TAIL = 0.025
# Up to so many ways of drawing the groups all are tried, which is right with ties too.
_MOST_DRAWS = 5_000
# Up to here the signed-rank distribution is counted out; beyond, it is normal to 3 digits.
_MOST_COUNTED = 50


@dataclass(frozen=True)
class Tested:
    """A test and the effect that goes with it; NaN where undefined.

    Attributes
    ----------
    test : str
    statistic, p : float
    effect_name : str
    effect, low, high : float
        The effect size and its 95 % interval.
    note : str
        What a reader should know; empty when there is nothing.
    """

    test: str
    statistic: float
    p: float
    effect_name: str
    effect: float
    low: float
    high: float
    note: str = ""


def mann_whitney(a: FloatArray, b: FloatArray) -> Tested:
    """Compare two independent groups by ranks.

    The p value is exact (all ways of drawing the groups, ties kept) for small groups, else from
    the normal approximation with corrections for ties and continuity.

    Parameters
    ----------
    a, b : ndarray of shape (n,)
        At least one value each, none missing.

    Returns
    -------
    Tested
        The statistic is the U of `b`, the effect Cliff's delta.

    Examples
    --------
    >>> found = mann_whitney(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]))
    >>> found.statistic, round(found.p, 3), found.effect
    (9.0, 0.1, 1.0)
    """
    name = "Mann-Whitney U"
    delta, low, high = cliffs_delta(a, b)
    pooled = np.concatenate([a, b])
    if np.all(pooled == pooled[0]):
        return Tested(name, NAN, NAN, _DELTA, delta, NAN, NAN, "all values are equal")
    method: Any = "asymptotic"
    if special.comb(len(pooled), len(a)) <= _MOST_DRAWS:
        name += " (exact)"
        tied = len(np.unique(pooled)) < len(pooled)
        draws = stats.PermutationMethod(n_resamples=_MOST_DRAWS, rng=np.random.default_rng(0))
        method = draws if tied else "exact"
    found = stats.mannwhitneyu(b, a, method=method)
    return Tested(name, float(found.statistic), float(found.pvalue), _DELTA, delta, low, high)


_DELTA = "Cliff's delta"


def cliffs_delta(a: FloatArray, b: FloatArray) -> tuple[float, float, float]:
    """Give P(b > a) - P(b < a), which is the rank-biserial correlation, and its 95 % interval.

    The interval is the asymmetric one of Feng & Cliff (2004, J Mod Appl Stat Methods 3:322-332)
    with the unbiased variance of Cliff (1993, Psychol Bull 114:494-509) and Student's t. Where
    the groups do not overlap, that variance is 0 and the bound on the inner side is theirs for
    this case, from the smaller group.

    Returns
    -------
    delta, low, high : float
        From -1 to 1; the interval is NaN with fewer than 2 values in a group.

    Examples
    --------
    >>> cliffs_delta(np.array([1.0, 2.0]), np.array([2.0]))[0]
    0.5
    """
    m, n = len(a), len(b)
    above, below = _dominance(b, a), -_dominance(a, b)
    delta = float(above.mean())
    if min(m, n) < 2:
        return delta, NAN, NAN
    z = float(stats.t.ppf(1 - _TAIL, m + n - 2))
    if abs(delta) == 1:
        inner = (min(m, n) - z**2) / (min(m, n) + z**2)
        return (1.0, inner, 1.0) if delta > 0 else (-1.0, -1.0, -inner)
    untied = float(_untied(a, b))
    inner_spread = untied - m * n * delta**2  # sum over all pairs of (d_ij - delta)^2
    rows, columns = np.sum((above - delta) ** 2), np.sum((below - delta) ** 2)
    variance = (m**2 * rows + n**2 * columns - inner_spread) / (m * n * (m - 1) * (n - 1))
    # The unbiased variance can come out too small, even negative; Cliff's floor.
    variance = max(float(variance), (1 - delta**2) / (m * n - 1))
    middle = delta - delta**3
    half = z * math.sqrt(variance * ((1 - delta**2) ** 2 + z**2 * variance))
    scale = 1 - delta**2 + z**2 * variance
    return delta, max(-1.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def _dominance(values: FloatArray, others: FloatArray) -> FloatArray:
    """Give for each value the share of others below it minus the share above it."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, side="left")
    above = len(others) - np.searchsorted(ordered, values, side="right")
    return np.asarray((below - above) / len(others))


def _untied(a: FloatArray, b: FloatArray) -> int:
    """Count the pairs (one of `a`, one of `b`) whose values differ."""
    ordered = np.sort(b)
    same = np.searchsorted(ordered, a, side="right") - np.searchsorted(ordered, a, side="left")
    return len(a) * len(b) - int(same.sum())


def kruskal_wallis(groups: Sequence[FloatArray]) -> Tested:
    """Compare three or more independent groups by ranks.

    Returns
    -------
    Tested
        The statistic is H with its correction for ties, p from the chi-squared distribution,
        the effect epsilon squared, H / (n - 1) (Tomczak & Tomczak 2014, Trends Sport Sci
        1:19-25), 0 to 1. Its interval inverts the noncentral chi-squared distribution of H and
        is approximate.
    """
    name, effect_name = "Kruskal-Wallis", "epsilon squared"
    pooled = np.concatenate(groups)
    if np.all(pooled == pooled[0]):
        return Tested(name, NAN, NAN, effect_name, NAN, NAN, NAN, "all values are equal")
    found = stats.kruskal(*groups)
    h, most = float(found.statistic), len(pooled) - 1
    low, high = (_noncentrality(h, len(groups) - 1, tail) / most for tail in (1 - _TAIL, _TAIL))
    return Tested(
        name, h, float(found.pvalue), effect_name, h / most, min(low, h / most), min(1.0, high)
    )


def _noncentrality(statistic: float, freedom: int, probability: float) -> float:
    """Find the noncentrality under which `statistic` is the quantile of `probability`."""
    if stats.chi2.cdf(statistic, freedom) <= probability:
        return 0.0
    # The mean is freedom + noncentrality, the variance 2 (freedom + 2 noncentrality).
    most = statistic + 10 * math.sqrt(2 * (freedom + 2 * statistic)) + 50
    root = optimize.brentq(
        lambda value: stats.ncx2.cdf(statistic, freedom, value) - probability, 1e-12, most
    )
    return float(root)


def signed_rank(changes: FloatArray) -> Tested:
    """Test whether changes of the same participants centre on zero.

    Parameters
    ----------
    changes : ndarray of shape (n,)
        One for each participant, n >= 1, none missing.

    Returns
    -------
    Tested
        Wilcoxon's signed-rank test, unchanged participants ranked too (Pratt 1959, J Am Stat
        Assoc 54:655-667), and the Hodges-Lehmann estimate of the change. The p value is exact,
        with ties too, up to 50 participants. The statistic is the smaller rank sum.
    """
    name, effect_name = "Wilcoxon signed rank", "Hodges-Lehmann change"
    estimate, low, high = hodges_lehmann(changes)
    note = "" if math.isfinite(low) else "95 % interval needs 6 participants"
    if not changes.any():
        note = "no participant changed"
        return Tested(name, NAN, NAN, effect_name, estimate, low, high, note)
    if len(changes) <= _MOST_COUNTED:
        name += " (exact)"
        statistic, p = _exact_signed_rank(changes)
    else:
        found = stats.wilcoxon(changes, zero_method="pratt", method="asymptotic")
        statistic, p = float(found.statistic), float(found.pvalue)
    return Tested(name, statistic, p, effect_name, estimate, low, high, note)


def _exact_signed_rank(changes: FloatArray) -> tuple[float, float]:
    """Give the smaller rank sum and how often random signs make one as small, doubled.

    scipy's exact test takes neither ties nor zeros, and its permutations are slow.
    """
    ranks = stats.rankdata(np.abs(changes))
    sums = ranks[changes > 0].sum(), ranks[changes < 0].sum()
    # Ranks of ties are halves; twice them are whole numbers.
    ways = _sign_sums(np.rint(2 * ranks[changes != 0]).astype(int))
    tail = float(ways[: round(2 * min(sums)) + 1].sum() / ways.sum())
    return float(min(sums)), min(1.0, 2 * tail)


def _sign_sums(ranks: Iterable[int]) -> FloatArray:
    """Count for each sum the choices of signs for which the positive ranks have it."""
    ways = np.ones(1)
    for rank in ranks:  # is among the positive ones or is not
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    return ways


def hodges_lehmann(values: FloatArray) -> tuple[float, float, float]:
    """Give the median of all pairwise means, and the 95 % interval of the signed-rank test.

    Hollander, Wolfe & Chicken (2014), Nonparametric Statistical Methods, 3.2 and 3.3.

    Returns
    -------
    estimate, low, high : float
        The interval is NaN for fewer than 6 values: none has 95 % then.

    Examples
    --------
    >>> hodges_lehmann(np.array([1.0, 2.0, 6.0]))
    (2.75, nan, nan)
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    pairs = n * (n + 1) // 2
    middle = [_pairwise_mean(ordered, rank) for rank in {(pairs + 1) // 2, pairs // 2 + 1}]
    estimate = float(np.mean(middle))
    cut = _signed_rank_cut(n)
    if cut < 1:
        return estimate, NAN, NAN
    return estimate, _pairwise_mean(ordered, cut), _pairwise_mean(ordered, pairs + 1 - cut)


def _pairwise_mean(ordered: FloatArray, rank: int) -> float:
    """Find the mean of two (or of one with itself) that has `rank` among all; by bisection.

    All pairwise means at once would take n^2 / 2 numbers.
    """

    def number_up_to(limit: float) -> int:
        twice = int(np.searchsorted(ordered, 2 * limit - ordered, side="right").sum())
        return (twice + int(np.sum(ordered <= limit))) // 2

    low, high = float(ordered[0]), float(ordered[-1])
    if number_up_to(low) >= rank:
        return low
    fine = 1e-13 * max(abs(low), abs(high))
    while high - low > fine:
        middle = (low + high) / 2
        low, high = (low, middle) if number_up_to(middle) >= rank else (middle, high)
    # Bisection comes within rounding; the pair itself gives the number exactly.
    partner = np.searchsorted(ordered, 2 * high - ordered, side="left").clip(0, len(ordered) - 1)
    means = np.concatenate(
        [(ordered + ordered[partner]) / 2, (ordered + ordered[np.maximum(partner - 1, 0)]) / 2]
    )
    return float(means[np.argmin(np.abs(means - high))])


def _signed_rank_cut(n: int) -> int:
    """Give the rank among the pairwise means at which the 95 % interval begins; 0 for none."""
    if n > _MOST_COUNTED:
        spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return int(n * (n + 1) / 4 - stats.norm.ppf(1 - _TAIL) * spread)
    ways = _sign_sums(range(1, n + 1))
    return int(np.searchsorted(np.cumsum(ways) / 2.0**n, _TAIL, side="right"))
