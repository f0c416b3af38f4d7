"""Compare groups and sessions of a cohort: every comparison a row, with its n and its test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

import pandas as pd

from bids_app.cohort.between import LENGTH, model_rows, rank_rows, samples
from bids_app.cohort.change import paired_rows, yearly_rows
from bids_app.cohort.comparison import MEASURES, Comparison, Measure, holm
from bids_app.cohort.visits import People, first_done, order_visits


def statistics_table(
    sessions: pd.DataFrame,
    group_column: str = "group",
    covariates: Sequence[str] = (),
    years: Mapping[str, float] | None = None,
    measures: Sequence[Measure] = MEASURES,
) -> pd.DataFrame:
    """Make every comparison that the cohort allows.

    Parameters
    ----------
    sessions : DataFrame
        The sessions' table, rows in any order; `group_column` may be absent.
    group_column : str
        Column that splits the cohort.
    covariates : sequence of str
        Columns that the models of group differences adjust for.
    years : mapping, optional
        When a session took place, in years, by identifier.
    measures : sequence of Measure
        Those that are no column of `sessions` are left out.

    Returns
    -------
    DataFrame
        A row a comparison, columns as in `bids_app.cohort.comparison.DICTIONARY`; no rows where
        there is nothing to compare.
    """
    present = [measure for measure in measures if measure.name in sessions]
    visits = order_visits(sessions, years or {})
    columns = dict.fromkeys([*(measure.name for measure in present), LENGTH])
    people = first_done(visits, list(columns), group_column, covariates)
    rows = [row for measure in present for row in _between(people, measure)]
    if (visits["number"] > 1).any():
        rows += _over_sessions(visits, people, present)
    names = [field.name for field in fields(Comparison)]
    table = pd.DataFrame([asdict(row) for row in holm(rows)], columns=names, dtype=object)
    counts = [name for name in names if name.startswith("n_")]
    return table.astype(dict.fromkeys(counts, "Int64"))


def _between(people: People, measure: Measure) -> list[Comparison]:
    template = Comparison(measure.name, "between groups", session="first done")
    later = int((people.late & people.groups.notna()).sum())
    nowhere = int(people.groups.isna().sum())
    template = template.noted(
        f"{later} enter with a later session than their first" if later else None,
        f"{nowhere} have no group and are left out" if nowhere else None,
    )
    rows = rank_rows(people, measure.name, template)
    if measure.count or len(people.covariates.columns):
        rows += model_rows(people, measure.name, template, measure.count)
    return rows


def _over_sessions(
    visits: pd.DataFrame, people: People, measures: Sequence[Measure]
) -> list[Comparison]:
    groups = [group.name for group in samples(people, LENGTH)]
    # One group is everyone again; very many are no groups.
    parts: list[str | None] = [None, *(groups if 2 <= len(groups) <= 10 else [])]
    paired = [row for measure in measures for row in paired_rows(visits, people, measure, parts)]
    yearly = [row for measure in measures for row in yearly_rows(visits, people, measure, parts)]
    return paired + yearly
