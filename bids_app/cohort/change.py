"""Compare sessions of the same participants: paired changes, rates, change a year."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from bids_app.cohort.between import LENGTH, Sample, describe_pair, median, rank_rows, sample
from bids_app.cohort.comparison import FEWEST, Comparison, Measure
from bids_app.cohort.effects import NAN, Tested, signed_rank
from bids_app.cohort.models import NotEstimableError, contrast, fit_rates
from bids_app.cohort.statistics import EVERYONE, bootstrap_mean_interval
from bids_app.cohort.visits import People, pair_visits, visit_labels, yearly_changes
from bids_app.records import FloatArray

_FEW = "fewer than 3 participants: descriptives only"
_KIND = "over sessions"
_YEARLY = "annualised change"
_BOOTSTRAPPED = 30


def paired_rows(
    visits: pd.DataFrame, people: People, measure: Measure, parts: Sequence[str | None]
) -> list[Comparison]:
    """Compare each later session with the first, in everyone and in each group.

    Parameters
    ----------
    visits : DataFrame
        From `bids_app.cohort.visits.order_visits`.
    people : People
    measure : Measure
    parts : sequence of str or None
        Groups to look at; None for everyone.
    """
    first, *later = visit_labels(visits)
    rows = []
    for label in later:
        everyone = pair_visits(visits, people, measure.name, first, label)
        length = pair_visits(visits, people, LENGTH, first, label).values
        for part in parts:
            pairs = everyone.of(part)
            row = _described_pairs(pairs, measure, part, f"{first or 'n/a'}, {label}")
            few = row.n_a is None or row.n_a < FEWEST
            both = pairs.values.dropna()
            family = _KIND if part is None else f"{_KIND}, by group"
            if few:
                rows.append(row.noted(_FEW))
                continue
            changes = (both["later"] - both["first"]).to_numpy(dtype=float)
            rows.append(row.tested(signed_rank(changes), f"{family}: signed rank"))
            if measure.count:
                rows.append(_rate_row(row, both, length.loc[both.index], f"{family}: rates"))
    return rows


def _described_pairs(pairs: People, measure: Measure, part: str | None, session: str) -> Comparison:
    """Describe both sessions of the participants who have both."""
    both = pairs.values.notna().all(axis=1)
    failed, excluded = (
        int((~both & (pairs.states == state)).sum()) for state in ("failed", "excluded")
    )
    return Comparison(
        measure.name,
        _KIND,
        group_a=part or EVERYONE,
        session=session,
        n_a=int(both.sum()),
        n_missing=int((~both).sum()) - failed - excluded,
        n_failed=failed,
        n_excluded=excluded,
        median_a=median(pairs.values.loc[both, "first"].to_numpy(dtype=float)),
        median_b=median(pairs.values.loc[both, "later"].to_numpy(dtype=float)),
    )


def _rate_row(row: Comparison, both: pd.DataFrame, length: pd.DataFrame, family: str) -> Comparison:
    """Compare the rates at two sessions; both counts of a participant are one cluster."""
    counts = both[["first", "later"]].to_numpy(dtype=float)
    if not counts.any(axis=0).all():
        return row.noted("all counts are zero at a session: no rate ratio")
    lengths = length[["first", "later"]].to_numpy(dtype=float)
    known = bool(np.all(lengths > 0))
    n = len(counts)
    design = np.kron(np.eye(2), np.ones((n, 1)))
    try:
        fit = fit_rates(
            counts.T.ravel(),
            design,
            np.log(lengths.T.ravel()) if known else None,
            np.tile(np.arange(n), 2),
        )
    except NotEstimableError as error:
        return row.noted(str(error))
    found = contrast(fit, 0, 1, ratio=True, effect_name="rate ratio")
    found = replace(found, test=f"{found.test}, clustered by participant")
    offset = f"offset log({LENGTH})" if known else "no offset: some cord lengths are unknown"
    return row.tested(found, family).noted(offset)


def yearly_rows(
    visits: pd.DataFrame, people: People, measure: Measure, parts: Sequence[str | None]
) -> list[Comparison]:
    """Describe the change a year, in everyone and in each group, and compare the groups."""
    slopes = yearly_changes(visits, people, measure.name)
    template = Comparison(measure.name, _YEARLY, session="all")
    if not visits["years"].notna().any():
        row = _yearly_row(sample(slopes, "slope", EVERYONE), template, "")
        return [row.noted("no acquisition times (acq_time) in sub-*_sessions.tsv or *_scans.tsv")]
    rows = [
        _yearly_row(
            sample(slopes.of(part), "slope", part or EVERYONE),
            template,
            f"{_YEARLY}: mean" if part is None else f"{_YEARLY}, by group: mean",
        )
        for part in parts
    ]
    between = replace(template, comparison=f"{_YEARLY} between groups")
    return rows + rank_rows(slopes, "slope", between)


def _yearly_row(group: Sample, template: Comparison, family: str) -> Comparison:
    empty = Sample("", np.array([]), 0, 0)
    row = replace(describe_pair(group, empty, template), group_b=None, n_b=None)
    if len(group.values) < FEWEST:
        return row.noted(_FEW)
    return row.tested(mean_tested(group.values), family)


def mean_tested(values: FloatArray) -> Tested:
    """Test a mean against zero by Student's t.

    The interval is the cohort's bootstrap from 30 values on; with fewer it is too narrow (5
    normal values: 83 % instead of 95 %, see docs/statistics.md), so Student's is given.
    """
    mean, name = float(values.mean()), "one-sample t"
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    if error <= 1e-12 * abs(mean):
        return Tested(name, NAN, NAN, _EFFECT, mean, mean, mean, "all changes are equal")
    t = mean / error
    p = float(2 * stats.t.sf(abs(t), len(values) - 1))
    if len(values) >= _BOOTSTRAPPED:
        low, high = bootstrap_mean_interval(values, np.arange(len(values)))
        return Tested(name, t, p, _EFFECT, mean, low, high, "bootstrap interval")
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return Tested(name, t, p, _EFFECT, mean, mean - half, mean + half, "Student's interval")


_EFFECT = "mean change a year"
