"""Compare groups of participants: rank tests, rates of counts, adjusted means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from bids_app.cohort.comparison import FEWEST, Comparison
from bids_app.cohort.effects import kruskal_wallis, mann_whitney
from bids_app.cohort.models import Fit, NotEstimableError, contrast, fit_means, fit_rates
from bids_app.cohort.visits import People, natural_key
from bids_app.records import FloatArray

LENGTH = "cord_length_mm"
"""How much cord was seen: the exposure of a count."""

# More groups have more pairs than anyone reads; it may be a column of numbers by mistake.
_MOST_GROUPS = 10
_FEW = "fewer than 3 participants in a group: descriptives only"


@dataclass(frozen=True)
class Sample:
    """The values of one group, and how many participants have none."""

    name: str
    values: FloatArray
    missing: int
    failed: int
    excluded: int = 0


def samples(people: People, column: str) -> list[Sample]:
    """Cut a column by group, in the natural order of the groups' names."""
    names = sorted(people.groups.dropna().unique(), key=natural_key)
    return [sample(people.of(name), column, name) for name in names]


def sample(people: People, column: str, name: str) -> Sample:
    """Take a column of all these people as one group."""
    values = people.values[column]
    failed, excluded = (
        int((values.isna() & (people.states == state)).sum()) for state in ("failed", "excluded")
    )
    missing = int(values.isna().sum()) - failed - excluded
    return Sample(name, values.dropna().to_numpy(dtype=float), missing, failed, excluded)


def rank_rows(people: People, column: str, template: Comparison) -> list[Comparison]:
    """Compare the groups by ranks: Mann-Whitney for two, Kruskal-Wallis and pairs for more.

    Parameters
    ----------
    people : People
    column : str
        Of ``people.values``.
    template : Comparison
        What all rows have in common.

    Returns
    -------
    list of Comparison
        Empty with fewer than two groups.
    """
    groups = samples(people, column)
    if len(groups) < 2:
        return []
    if len(groups) == 2:
        return [_pair(groups[0], groups[1], template, "rank tests")]
    rows = [_omnibus(groups, template)]
    if len(groups) > _MOST_GROUPS:
        return [rows[0].noted(f"{len(groups)} groups: too many for pairs")]
    return rows + [_pair(a, b, template, "pairs") for a, b in combinations(groups, 2)]


def describe_pair(a: Sample, b: Sample, template: Comparison) -> Comparison:
    """Enter names, numbers of participants and medians."""
    return replace(
        template,
        group_a=a.name,
        group_b=b.name,
        n_a=len(a.values),
        n_b=len(b.values),
        n_missing=a.missing + b.missing,
        n_failed=a.failed + b.failed,
        n_excluded=a.excluded + b.excluded,
        median_a=median(a.values),
        median_b=median(b.values),
    )


def median(values: FloatArray) -> float | None:
    """Give the median to six significant digits; None for no values."""
    return float(f"{np.median(values):.6g}") if len(values) else None


def _pair(a: Sample, b: Sample, template: Comparison, kind: str) -> Comparison:
    row = describe_pair(a, b, template)
    if min(len(a.values), len(b.values)) < FEWEST:
        return row.noted(_FEW)
    return row.tested(mann_whitney(a.values, b.values), f"{template.comparison}: {kind}")


def _omnibus(groups: Sequence[Sample], template: Comparison) -> Comparison:
    used = [group for group in groups if len(group.values) >= FEWEST]
    row = replace(
        template,
        group_a="all",
        n_a=sum(len(group.values) for group in used),
        n_missing=sum(group.missing for group in groups),
        n_failed=sum(group.failed for group in groups),
        n_excluded=sum(group.excluded for group in groups),
    )
    left = [group.name for group in groups if group not in used]
    if left:
        row = row.noted(f"without {', '.join(left)}: fewer than 3 participants")
    if len(used) < 3:
        return row.noted("fewer than 3 groups have 3 participants: not tested")
    found = kruskal_wallis([group.values for group in used])
    return row.tested(found, f"{template.comparison}: rank tests")


def model_rows(people: People, column: str, template: Comparison, count: bool) -> list[Comparison]:
    """Compare the groups by a regression with a column for each group, covariates behind.

    Counts get a negative-binomial rate, per millimetre of cord where every length is known;
    other measures a linear regression.

    Returns
    -------
    list of Comparison
        One a pair of groups; empty with fewer than two groups, or more than ten.
    """
    covariates = list(people.covariates.columns)
    complete = people.covariates.notna().all(axis=1)
    values = people.values.assign(**{column: people.values[column].where(complete)})
    people = people.with_values(values, people.states)
    groups = samples(people, column)
    if not 2 <= len(groups) <= _MOST_GROUPS:
        return []
    template = replace(template, covariates=", ".join(covariates) or None)
    used = [group for group in groups if len(group.values) >= FEWEST]
    if count:
        used = [group for group in used if group.values.any()]
    fit, note = _fit(people, column, [group.name for group in used], count)
    kind, effect = ("rates", "rate ratio") if count else ("adjusted means", "adjusted difference")
    rows = []
    for a, b in combinations(groups, 2):
        row = describe_pair(a, b, template)
        if min(len(a.values), len(b.values)) < FEWEST:
            if not covariates:
                continue  # the rank test's row says the same
            row = row.noted(_FEW)
        elif count and not (a.values.any() and b.values.any()):
            zero = [group.name for group in (a, b) if not group.values.any()]
            row = row.noted(f"all counts are zero in {' and '.join(zero)}: no rate ratio")
        elif fit is None:
            row = row.noted(note)
        else:
            found = contrast(fit, used.index(a), used.index(b), count, effect)
            row = row.tested(found, f"{template.comparison}: {kind}").noted(note)
        rows.append(row)
    return rows


def _fit(people: People, column: str, names: Sequence[str], count: bool) -> tuple[Fit | None, str]:
    """Fit the regression; with it, or without, comes what there is to say about it."""
    kept = people.groups.isin(names) & people.values[column].notna()
    if not kept.any():
        return None, "no group can be used"
    values = people.values.loc[kept, column].to_numpy(dtype=float)
    groups = people.groups[kept]
    columns = [(groups == name).to_numpy(dtype=float) for name in names]
    design = np.column_stack([*columns, encode(people.covariates[kept])])
    try:
        if not count:
            return fit_means(values, design), ""
        length = people.values.loc[kept, LENGTH].to_numpy(dtype=float)
        if np.all(length > 0):
            return fit_rates(values, design, np.log(length)), f"offset log({LENGTH})"
        return fit_rates(values, design), "no offset: some cord lengths are unknown"
    except NotEstimableError as error:
        return None, str(error)


def encode(covariates: pd.DataFrame) -> FloatArray:
    """Turn covariates into columns of a design, centred.

    Numbers are scaled to unit spread; anything else becomes a column for each value but the
    first. A covariate that is the same for all adjusts nothing and is left out.

    Parameters
    ----------
    covariates : DataFrame
        None missing.

    Returns
    -------
    ndarray of shape (n, columns)

    Examples
    --------
    >>> encode(pd.DataFrame({"age": ["1", "3"], "sex": ["F", "M"], "site": ["x", "x"]})).tolist()
    [[-1.0, -0.5], [1.0, 0.5]]
    """
    columns = []
    for name in covariates:
        numbers = pd.to_numeric(covariates[name], errors="coerce").to_numpy(dtype=float)
        if np.isfinite(numbers).all():
            spread = numbers.std()
            columns += [numbers / spread] if spread > 0 else []
        else:
            text = covariates[name].astype(str)
            levels = sorted(set(text), key=natural_key)[1:]
            columns += [(text == level).to_numpy(dtype=float) for level in levels]
    table = np.array(columns, dtype=float).reshape(len(columns), len(covariates)).T
    return np.asarray(table - table.mean(axis=0)) if len(table) else table
