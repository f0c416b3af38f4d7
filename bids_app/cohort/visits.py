"""From the sessions' table to what is compared: one row a participant, pairs, yearly slopes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

MIN_SPAN_YEARS = 0.25
"""Visits closer together say nothing about a year: the noise would be multiplied."""

# Beyond so many session labels (dates, say) visits are compared by their order instead.
_MOST_LABELS = 20


@dataclass(frozen=True)
class People:
    """One row a participant, in the order of their names.

    Attributes
    ----------
    values : DataFrame
        The numbers compared, NaN where there is none; the index is the participant.
    groups : Series
        The participant's group, missing where unknown.
    states : Series
        ``done``, ``failed``, ``excluded`` or ``missing``, of what the values come from.
    covariates : DataFrame
        Columns of participants.tsv, as text or numbers.
    late : Series of bool
        Whether an earlier session of the participant exists but is not done.
    """

    values: pd.DataFrame
    groups: pd.Series
    states: pd.Series
    covariates: pd.DataFrame
    late: pd.Series

    def of(self, group: str | None) -> People:
        """Keep one group, or with None everyone."""
        if group is None:
            return self
        kept = self.groups.index[self.groups == group]
        return self.with_values(self.values.loc[kept], self.states)

    def with_values(self, values: pd.DataFrame, states: pd.Series) -> People:
        """Keep the people but give them other values; those without get NaN."""
        index = values.index
        return People(
            values,
            self.groups.loc[index],
            states.loc[index],
            self.covariates.loc[index],
            self.late.loc[index],
        )


def order_visits(sessions: pd.DataFrame, years: Mapping[str, float]) -> pd.DataFrame:
    """Sort the sessions' table by participant and visit.

    A participant's visits are in the order of their times where all are known, else in the
    natural order of their labels (``ses-M6`` before ``ses-M12``).

    Parameters
    ----------
    sessions : DataFrame
        Any order of rows.
    years : mapping
        When a session took place, in years from any origin that is the same for all sessions
        of a participant, by identifier (``sub-01_ses-M0``); may be empty.

    Returns
    -------
    DataFrame
        With the columns ``years`` (NaN where unknown), ``number`` (1 for the first visit) and
        ``visit`` (the session's label, or ``visit-<number>`` where the labels are more than 20;
        in the order that `visit_labels` gives) instead of ``session_id``.
    """
    labels = sessions["session_id"].astype(object).where(sessions["session_id"].notna(), "")
    rank = {label: n for n, label in enumerate(sorted(set(labels), key=natural_key))}
    names = sessions["participant_id"].astype(str)
    identifiers = names.where(labels == "", names + "_" + labels.astype(str))
    table = sessions.drop(columns="session_id").assign(
        years=[years.get(name, math.nan) for name in identifiers],
        visit=labels,
        _rank=[rank[label] for label in labels],
    )
    timed = table["years"].notna().groupby(names).transform("all")
    table["_time"] = table["years"].where(timed, table["_rank"])
    table = table.sort_values(["participant_id", "_time", "_rank"], kind="stable")
    table["number"] = table.groupby("participant_id").cumcount() + 1
    if len(rank) > _MOST_LABELS:
        table["visit"] = "visit-" + table["number"].astype(str)
    return table.drop(columns=["_rank", "_time"]).reset_index(drop=True)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort text with its numbers as numbers, case aside.

    Examples
    --------
    >>> sorted(["ses-M12", "ses-M6", "ses-M0"], key=natural_key)
    ['ses-M0', 'ses-M6', 'ses-M12']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    key = [(0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in parts]
    return (*key, (2, 0, text))


def visit_labels(visits: pd.DataFrame) -> list[str]:
    """List the visits of the cohort in order, at most 20.

    Where every label has a time, the order is that of the median time since the participants'
    first visits; else the natural one.
    """
    names = sorted(set(visits["visit"]), key=natural_key)
    since = visits["years"] - visits.groupby("participant_id")["years"].transform("first")
    several = visits.groupby("participant_id")["number"].transform("max") > 1
    median = since[several].groupby(visits["visit"]).median()
    if median.reindex(names).notna().all():
        names.sort(key=lambda name: median[name])
    return names[:_MOST_LABELS]


def first_done(
    visits: pd.DataFrame, columns: Sequence[str], group_column: str, covariates: Sequence[str]
) -> People:
    """Take the first session that is done of each participant, so that everyone counts once.

    Parameters
    ----------
    visits : DataFrame
        From `order_visits`.
    columns : sequence of str
        The numbers to take.
    group_column : str
        May be absent: then no participant has a group.
    covariates : sequence of str
    """
    done = visits[visits["status"] == "done"].drop_duplicates("participant_id")
    everyone = visits.drop_duplicates("participant_id").set_index("participant_id")
    first = done.set_index("participant_id").reindex(everyone.index)
    groups = everyone.get(group_column, pd.Series(None, index=everyone.index, dtype=object))
    return People(
        values=first[list(columns)].astype("Float64").astype(float),
        groups=groups.astype(object).map(str, na_action="ignore"),
        states=_states(visits, everyone.index),
        covariates=everyone[list(covariates)],
        late=first["number"] > 1,
    )


def _states(visits: pd.DataFrame, people: pd.Index) -> pd.Series:
    """Say of each participant whether any session is done, else failed, else excluded."""
    states = pd.Series("missing", index=people)
    for status in ("excluded", "failed", "done"):
        states[people.isin(visits.loc[visits["status"] == status, "participant_id"])] = status
    return states


def pair_visits(
    visits: pd.DataFrame, people: People, measure: str, first: str, later: str
) -> People:
    """Take a measure at two visits of each participant.

    Returns
    -------
    People
        Of everyone, with the columns ``first`` and ``later``. The state is ``failed`` where one
        of the two failed, else ``excluded`` where one is, else ``missing`` where one was not
        processed or does not exist.
    """
    values, failed = {}, pd.Series(False, index=people.values.index)
    excluded = failed.copy()
    for name, label in (("first", first), ("later", later)):
        part = visits[visits["visit"] == label].drop_duplicates("participant_id")
        part = part.set_index("participant_id").reindex(people.values.index)
        values[name] = part[measure].astype("Float64").astype(float).where(part["status"] == "done")
        failed |= part["status"] == "failed"
        excluded |= part["status"] == "excluded"
    table = pd.DataFrame(values)
    states = pd.Series("missing", index=table.index)
    states = states.mask(excluded, "excluded").mask(failed, "failed")
    return people.with_values(table, states.mask(table.notna().all(axis=1), "done"))


def yearly_changes(visits: pd.DataFrame, people: People, measure: str) -> People:
    """Fit a straight line to each participant's visits over time; its slope is a change a year.

    Returns
    -------
    People
        Of those with more than one session, done or not, with the column ``slope``: NaN with fewer
        than two sessions that are done and have a time, or less than a quarter of a year
        between the first and the last of them.
    """
    values = visits[measure].astype("Float64").astype(float)
    usable = visits["years"].notna() & values.notna() & (visits["status"] == "done")
    part = pd.DataFrame(
        {"who": visits["participant_id"], "t": visits["years"], "y": values}, index=visits.index
    )[usable]
    by = part.groupby("who")
    t = part["t"] - by["t"].transform("mean")
    y = part["y"] - by["y"].transform("mean")
    moments = pd.DataFrame({"ty": t * y, "tt": t * t}).groupby(part["who"]).sum()
    long_enough = by["t"].max() - by["t"].min() >= MIN_SPAN_YEARS
    slopes = (moments["ty"] / moments["tt"].where(long_enough, np.nan)).astype(float)
    several = people.values.index[
        people.values.index.isin(visits.loc[visits["number"] > 1, "participant_id"])
    ]
    table = pd.DataFrame({"slope": slopes.reindex(several)})
    states = pd.Series("missing", index=several)
    for status in ("excluded", "failed"):
        states[several.isin(visits.loc[visits["status"] == status, "participant_id"])] = status
    return people.with_values(table, states.mask(table["slope"].notna(), "done"))
