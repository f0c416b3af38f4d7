"""The numbers of repeatability: one row a statistic, with its interval; tests between models."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

import numpy as np

from bids_app.cohort.effects import signed_rank
from bids_app.commands.compare_arguments import CompareOptions
from bids_app.commands.compare_matrix import FEWEST, Test, corrected
from bids_app.evaluation.compare import Sums, by_subject, difference_interval, interval, mean_sums
from bids_app.evaluation.repeatability import (
    Limits,
    coefficients_of_variation,
    count_agreement,
    icc,
    limits_of_agreement,
    relative,
    root_mean_square,
    within_subject_sd,
)
from bids_app.records import FloatArray, IntArray

VOLUME, COUNT = "lesion_volume_mm3", "lesion_count"


class Repeats(Protocol):
    """What is needed of a model's repeated scans."""

    @property
    def model(self) -> str:
        """Give the model's name."""

    @property
    def units(self) -> tuple[str, ...]:
        """Give the names of what was scanned repeatedly."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """Give each unit's subject."""

    @property
    def values(self) -> Mapping[str, FloatArray]:
        """Give the values of each measure, shape (units, repeats)."""


@dataclass(frozen=True)
class Estimated:
    """One row of ``repeatability.tsv``."""

    model: str
    measure: str
    statistic: str
    value: float
    ci95_low: float
    ci95_high: float
    n: int
    subjects: int
    repeats: int


def estimates(one: Repeats, measures: Sequence[str]) -> Iterator[Estimated]:
    """Compute every statistic of a model's repeated scans."""
    for measure in measures:
        values = one.values[measure]
        rows = [*_variation(one, values), *_correlations(values), *_limits(values)]
        if measure == COUNT:
            rows += _counts(one, values)
        for name, (value, low, high), n in rows:
            yield Estimated(
                one.model, measure, name, value, low, high, n, len(set(one.subjects)),
                values.shape[1],
            )  # fmt: skip


_Row = tuple[str, tuple[float, float, float], int]


def _owners(subjects: Sequence[str]) -> tuple[IntArray, int]:
    names, owner = np.unique(list(subjects), return_inverse=True)
    return np.asarray(owner), len(names)


def _variation(one: Repeats, values: FloatArray) -> Iterator[_Row]:
    n, (owner, people) = len(values), _owners(one.subjects)
    mean = mean_sums(values.mean(axis=1), owner, people)
    yield "mean", (mean.value, *interval(mean)), n
    variation = coefficients_of_variation(values)
    known = int(np.isfinite(variation).sum())
    rms = _root(mean_sums(variation**2, owner, people))
    yield "cv_percent", (root_mean_square(variation), *interval(rms)), known
    median = float(np.nanmedian(variation)) if known else math.nan
    yield "cv_median_percent", (median, math.nan, math.nan), known
    spread = _root(mean_sums(values.var(axis=1, ddof=1), owner, people))
    sd, (low, high) = within_subject_sd(values), interval(spread)
    factor = 1.96 * math.sqrt(2)
    yield "within_subject_sd", (sd, low, high), n
    yield "repeatability_coefficient", (factor * sd, factor * low, factor * high), n


def _root(sums: Sums) -> Sums:
    """Take the root of a mean."""
    return Sums(sums.rows, lambda totals: np.sqrt(sums.finish(totals)))


def _correlations(values: FloatArray) -> Iterator[_Row]:
    for form, name in (("A,1", "icc_agreement"), ("C,1", "icc_consistency"), ("1", "icc_one_way")):
        found = icc(values, form)  # type: ignore[arg-type]
        yield name, (found.value, found.low, found.high), len(values)


def _limits(values: FloatArray) -> Iterator[_Row]:
    """Compare each later repeat with the first."""
    for later in range(1, values.shape[1]):
        pair = values[:, 0], values[:, later]
        end = f"_{later + 1}_1" if values.shape[1] > 2 else ""
        yield from _named(limits_of_agreement(*pair), end)
        yield from _named(limits_of_agreement(*relative(*pair)), f"_percent{end}")


def _named(found: Limits, end: str) -> Iterator[_Row]:
    yield f"bias{end}", (found.bias, *found.bias_ci95), found.n
    yield f"limit_low{end}", (found.low, *found.low_ci95), found.n
    yield f"limit_high{end}", (found.high, *found.high_ci95), found.n


def _counts(one: Repeats, values: FloatArray) -> Iterator[_Row]:
    owner, people = _owners(one.subjects)
    span = values.max(axis=1) - values.min(axis=1)
    some = values > 0
    each = {
        "equal": (span == 0).astype(float),
        "within_one": (span <= 1).astype(float),
        "presence": (some.all(axis=1) | ~some.any(axis=1)).astype(float),
        "mean_range": span,
    }
    for name, value in count_agreement(values).items():
        yield name, (value, *interval(mean_sums(each[name], owner, people))), len(values)


def repeat_tests(every: Sequence[Repeats], options: CompareOptions) -> list[dict[str, Any]]:
    """Test between models, on the units of both, how much repeats differ."""
    names = [one.model for one in every]
    pairs = [
        (a, b)
        for a, b in combinations(range(len(every)), 2)
        if options.against is None or options.against in (names[a], names[b])
    ]
    rows: list[Test] = []
    for metric, spread in (
        ("cv_percent", lambda one: coefficients_of_variation(one.values[VOLUME])),
        ("count_range", lambda one: np.ptp(one.values[COUNT], axis=1)),
    ):
        family = [_test(metric, every[a], every[b], spread) for a, b in pairs]
        rows += corrected([row for row in family if row is not None], options.correction)
    keys = [key for key in Test.__dataclass_fields__ if key not in {"test_set", "scans"}]
    return [{**{key: getattr(row, key) for key in keys}, "n": row.scans} for row in rows]


def _test(metric: str, one: Repeats, two: Repeats, spread: Any) -> Test | None:
    shared = [unit for unit in one.units if unit in two.units]
    if not shared:
        return None
    values = np.array(
        [[dict(zip(who.units, spread(who), strict=True))[u] for u in shared] for who in (one, two)]
    )
    people = dict(zip(one.units, one.subjects, strict=True))
    known = np.isfinite(values).all(axis=0)
    values = values[:, known]
    owner, subjects = _owners([people[u] for u, k in zip(shared, known, strict=True) if k])
    changes = by_subject(values[0] - values[1], owner, subjects)
    sums = [mean_sums(side, owner, subjects) for side in values]
    row = Test(
        metric, None, one.model, two.model, int(known.sum()), subjects, sums[0].value,
        sums[1].value, sums[0].value - sums[1].value, *difference_interval(*sums),
        int((changes > 0).sum()), int((changes == 0).sum()), int((changes < 0).sum()),
    )  # fmt: skip
    if subjects < FEWEST:
        return Test(**{**vars(row), "note": f"fewer than {FEWEST} subjects"})
    found = signed_rank(changes)
    note = None if changes.any() else "no subject differs"
    return Test(**{**vars(row), "test": found.test, "p": found.p, "note": note})
