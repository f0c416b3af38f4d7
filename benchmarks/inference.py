"""How far the cohort's statistics can be trusted: false alarms, power and coverage.

    python benchmarks/inference.py [--repeats 1000] [--seed 1]

Simulates cohorts whose truth is known and counts, for each method and cohort size, how often
p < 0.05 without an effect (bar: near 5 %), how often with the stated one (power), and how often
the 95 % interval covers the true effect (bar: near 95 %).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy import stats

from bids_app.cohort.between import encode
from bids_app.cohort.change import mean_tested
from bids_app.cohort.effects import Tested, kruskal_wallis, mann_whitney, signed_rank
from bids_app.cohort.inference import statistics_table
from bids_app.cohort.models import NotEstimableError, contrast, fit_means, fit_rates
from bids_app.records import FloatArray

Generator = np.random.Generator
DISPERSION = 0.5
RATE = 3.0


@dataclass(frozen=True)
class Scenario:
    """A method on cohorts of one kind.

    Attributes
    ----------
    name : str
    sizes : tuple of int
        Participants a group, or pairs.
    effect : str
        The effect under which power and coverage are counted, in words.
    draw : callable
        From (generator, size, whether there is an effect) to the test's result.
    null, truth : float
        The value of the effect size without and with the effect.
    share : float
        Of the repeats, for slow methods.
    """

    name: str
    sizes: tuple[int, ...]
    effect: str
    draw: Callable[[Generator, int, bool], Tested]
    null: float
    truth: float
    share: float = 1.0


def shifted_normal(rng: Generator, n: int, effect: bool) -> Tested:
    """Draw two normal groups, 0.8 standard deviations apart."""
    return mann_whitney(rng.normal(size=n), rng.normal(0.8 * effect, size=n))


def lesion_counts(rng: Generator, n: int, mean: float) -> FloatArray:
    """Draw overdispersed counts, many of them zero."""
    rate = rng.gamma(1 / DISPERSION, DISPERSION * mean, n)
    return rng.poisson(rate).astype(float)


def tied_counts(rng: Generator, n: int, effect: bool) -> Tested:
    """Draw two groups of counts; the rate doubles."""
    return mann_whitney(
        lesion_counts(rng, n, RATE), lesion_counts(rng, n, RATE * (2 if effect else 1))
    )


def three_groups(rng: Generator, n: int, effect: bool) -> Tested:
    """Draw three normal groups, at 0, 0.4 and 0.8 standard deviations."""
    return kruskal_wallis([rng.normal(shift * effect, size=n) for shift in (0, 0.4, 0.8)])


def rates(rng: Generator, n: int, effect: bool) -> Tested:
    """Draw counts in cords of 60 to 200 mm; the rate per mm doubles."""
    length = rng.uniform(60, 200, 2 * n)
    ratio = np.repeat([1.0, 2.0 if effect else 1.0], n)
    mean = RATE * length / 130 * ratio
    counts = rng.poisson(mean * rng.gamma(1 / DISPERSION, DISPERSION, 2 * n)).astype(float)
    design = np.kron(np.eye(2), np.ones((n, 1)))
    return contrast(fit_rates(counts, design, np.log(length)), 0, 1, True, "rate ratio")


def adjusted_rates(rng: Generator, n: int, effect: bool) -> Tested:
    """Draw counts beside an age that differs between the groups and raises the rate."""
    age = rng.normal(np.repeat([40.0, 45.0], n), 10)
    ratio = np.repeat([1.0, 2.0 if effect else 1.0], n)
    mean = RATE * ratio * np.exp(0.02 * (age - 42))
    counts = rng.poisson(mean * rng.gamma(1 / DISPERSION, DISPERSION, 2 * n)).astype(float)
    groups = np.kron(np.eye(2), np.ones((n, 1)))
    design = np.column_stack([groups, encode(pd.DataFrame({"age": age}))])
    return contrast(fit_rates(counts, design), 0, 1, True, "rate ratio")


def repeated_rates(rng: Generator, n: int, effect: bool) -> Tested:
    """Draw two counts of the same participants; the rate rises by half."""
    own = RATE * rng.gamma(1 / DISPERSION, DISPERSION, n)
    counts = np.concatenate([rng.poisson(own), rng.poisson(own * (1.5 if effect else 1))])
    design = np.kron(np.eye(2), np.ones((n, 1)))
    fit = fit_rates(counts.astype(float), design, None, np.tile(np.arange(n), 2))
    return contrast(fit, 0, 1, True, "rate ratio")


def adjusted_means(rng: Generator, n: int, effect: bool) -> Tested:
    """Draw cord areas (SD 8 and 12 mm2) beside an age that differs; 8 mm2 apart."""
    age = rng.normal(np.repeat([40.0, 45.0], n), 10)
    spread = np.repeat([8.0, 12.0], n)
    area = 75 - 0.3 * (age - 42) + rng.normal(0, spread) + np.repeat([0, 8.0 * effect], n)
    groups = np.kron(np.eye(2), np.ones((n, 1)))
    design = np.column_stack([groups, encode(pd.DataFrame({"age": age}))])
    return contrast(fit_means(area, design), 0, 1, False, "adjusted difference")


def paired(rng: Generator, n: int, effect: bool) -> Tested:
    """Draw changes with heavy tails (t, 4 degrees of freedom), shifted by 0.8."""
    return signed_rank(rng.standard_t(4, n) + 0.8 * effect)


def yearly(rng: Generator, n: int, effect: bool) -> Tested:
    """Draw yearly changes, normal, of mean 0.6 standard deviations."""
    return mean_tested(rng.normal(0.6 * effect, size=n))


def skewed_yearly(rng: Generator, n: int, effect: bool) -> Tested:
    """Draw yearly changes, exponential (skewness 2), of mean 0.6 standard deviations."""
    return mean_tested(rng.exponential(size=n) - 1 + 0.6 * effect)


def true_delta_of_counts() -> float:
    """Cliff's delta of the two negative-binomial laws, summed over their probabilities."""
    numbers = np.arange(400)
    a, b = (
        stats.nbinom.pmf(numbers, 1 / DISPERSION, 1 / (1 + DISPERSION * mean))
        for mean in (RATE, 2 * RATE)
    )
    table = np.outer(a, b)
    return float(np.triu(table, 1).sum() - np.tril(table, -1).sum())


def true_epsilon_squared() -> float:
    """Epsilon squared of a very large cohort."""
    return three_groups(np.random.default_rng(0), 300_000, True).effect


def scenarios() -> list[Scenario]:
    """List what is simulated."""
    delta = float(2 * stats.norm.cdf(0.8 / np.sqrt(2)) - 1)
    counts, epsilon = true_delta_of_counts(), true_epsilon_squared()
    return [
        Scenario("Mann-Whitney", (5, 10, 30), "0.8 SD", shifted_normal, 0, delta),
        Scenario("Mann-Whitney, counts", (5, 10, 30), "rate x 2", tied_counts, 0, counts),
        Scenario("Kruskal-Wallis", (5, 10, 30), "0, 0.4, 0.8 SD", three_groups, 0, epsilon),
        Scenario("rates, offset", (10, 30), "rate x 2", rates, 1, 2, 0.5),
        Scenario("rates, age", (10, 30), "rate x 2", adjusted_rates, 1, 2, 0.5),
        Scenario("rates, repeated", (10, 30), "rate x 1.5", repeated_rates, 1, 1.5, 0.5),
        Scenario("adjusted means", (10, 30), "8 mm2", adjusted_means, 0, 8),
        Scenario("signed rank", (6, 10, 30), "0.8", paired, 0, 0.8),
        Scenario("mean a year", (5, 10, 30), "0.6 SD", yearly, 0, 0.6, 0.5),
        Scenario("mean a year, skewed", (5, 10, 30), "0.6 SD", skewed_yearly, 0, 0.6, 0.5),
    ]


def measure(scenario: Scenario, size: int, repeats: int, seed: int) -> list[str]:
    """Repeat one scenario without and with its effect and count."""
    cells = [scenario.name, str(size), scenario.effect]
    left_out = 0
    for effect, truth in ((False, scenario.null), (True, scenario.truth)):
        rng = np.random.default_rng([seed, size, effect])
        found = []
        for _ in range(repeats):
            try:
                found.append(scenario.draw(rng, size, effect))
            except NotEstimableError:
                left_out += 1
        hits = np.mean([one.p < 0.05 for one in found])
        with_interval = [one for one in found if np.isfinite(one.low)]
        covered = np.mean([one.low <= truth <= one.high for one in with_interval])
        cells += [f"{100 * hits:.1f} %", f"{100 * covered:.1f} %"]
        if not effect:
            uniform = stats.kstest([one.p for one in found if np.isfinite(one.p)], "uniform")
            cells.append(f"{uniform.statistic:.3f}")
    return [*cells, str(left_out)]


def null_cohort(rng: Generator, n: int) -> pd.DataFrame:
    """Draw a sessions' table of two groups that differ in nothing."""
    counts = lesion_counts(rng, n, RATE).astype(int)
    volumes = [float(rng.gamma(2, 20, count).sum()) for count in counts]
    return pd.DataFrame(
        {
            "participant_id": [f"sub-{i:03d}" for i in range(n)],
            "session_id": None,
            "status": "done",
            "lesion_count": counts,
            "lesion_volume_mm3": volumes,
            "lesion_load": np.array(volumes) / rng.normal(9000, 900, n),
            "cord_mean_area_mm2": rng.normal(75, 8, n),
            "cord_length_mm": rng.uniform(100, 200, n),
            "group": rng.permutation(np.arange(n) % 2).astype(str),
        }
    )


def family_wise(repeats: int, seed: int) -> tuple[float, float]:
    """Give the share of null cohorts with any rank test below 0.05, before and after Holm."""
    rng = np.random.default_rng(seed)
    any_p, any_holm = [], []
    for _ in range(repeats):
        table = statistics_table(null_cohort(rng, 40))
        tests = table[table["test"].str.startswith("Mann-Whitney", na=False)]
        any_p.append(bool((tests["p"] < 0.05).any()))
        any_holm.append(bool((tests["p_holm"] < 0.05).any()))
    return float(np.mean(any_p)), float(np.mean(any_holm))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started = time.process_time()
    console = Console(width=130)
    titles = ("method", "n", "effect", "p < 0.05, null", "coverage, null", "KS, null")
    table = Table(*titles, "power", "coverage", "not estimable")
    for scenario in scenarios():
        repeats = max(1, int(arguments.repeats * scenario.share))
        for size in scenario.sizes:
            table.add_row(*measure(scenario, size, repeats, arguments.seed))
    console.print(table)
    repeats = max(1, int(arguments.repeats * 0.4))
    before, after = family_wise(repeats, arguments.seed)
    console.print(
        f"Null cohorts of 40, {repeats} of them: any of four rank tests below 0.05 in "
        f"{100 * before:.1f} %, after Holm in {100 * after:.1f} %."
    )
    console.print(f"{time.process_time() - started:.0f} s of CPU")


if __name__ == "__main__":
    main()
