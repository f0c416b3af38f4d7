"""Describe a cohort's counts and volumes, with intervals that know about repeated visits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bids_app.records import FloatArray

MEASURES = (
    "lesion_count",
    "lesion_volume_mm3",
    "expected_lesion_count",
    "expected_lesion_volume_mm3",
)
"""Columns of the sessions' table that are summarised."""

EVERYONE = "all"
"""What stands for group or session where a row is not restricted to one."""

_RESAMPLES = 2000
_SEED = 0
_FEWEST = 3
# The acceleration takes a jackknife, quadratic in time, and vanishes as the cohort grows.
_MANY = 500
# Resampling all at once would take resamples x participants x 8 bytes.
_BATCH_VALUES = 2_000_000

SUMMARY_DICTIONARY: dict[str, dict[str, Any]] = {
    "group": {"Description": "Group of the participants; all for all groups, n/a for no group."},
    "session_id": {"Description": "Session; all for all sessions."},
    "measure": {"Description": "The column of group_sessions.tsv that is described."},
    "n": {"Description": "Number of sessions that are done and have a value."},
    "n_participants": {"Description": "Number of participants that these sessions are from."},
    "n_failed": {"Description": "Number of sessions that failed; they are not in the numbers."},
    "n_missing": {"Description": "Number of sessions that were not processed; nor are they."},
    "n_excluded": {"Description": "Number of sessions left out by a decision; nor are they."},
    "mean": {"Description": "Mean over the sessions, in the unit of the measure."},
    "sd": {"Description": "Standard deviation with n - 1; n/a for n < 2."},
    "median": {"Description": "Median over the sessions."},
    "q1": {"Description": "First quartile, linearly interpolated."},
    "q3": {"Description": "Third quartile, linearly interpolated."},
    "iqr": {"Description": "Interquartile range, q3 - q1."},
    "ci95_low": {
        "Description": "Lower end of the bootstrap 95 % interval of the mean (bias-corrected "
        "and accelerated, percentile beyond 500 participants; whole participants are "
        "resampled, so repeated visits do not feign precision); n/a for fewer than 3 participants."
    },
    "ci95_high": {"Description": "Upper end of that interval."},
}


def summary_table(sessions: pd.DataFrame, group_column: str = "group") -> pd.DataFrame:
    """Describe each measure over all sessions, by group, by session, and by both.

    Parameters
    ----------
    sessions : DataFrame
        The sessions' table; `group_column` may be absent.
    group_column : str
        Column that splits the cohort.

    Returns
    -------
    DataFrame
        Columns as in `SUMMARY_DICTIONARY`; the overall rows come first.
    """
    rows = [
        {"group": group, "session_id": session, "measure": measure, **_describe(part, measure)}
        for group, session, part in _parts(sessions, group_column)
        for measure in MEASURES
    ]
    return pd.DataFrame(rows, columns=list(SUMMARY_DICTIONARY))


def bootstrap_mean_interval(values: FloatArray, participants: Any) -> tuple[float, float]:
    """Estimate a 95 % interval of the mean by resampling participants.

    Parameters
    ----------
    values : ndarray of shape (n,)
        One value for each session, none missing.
    participants : array-like of shape (n,)
        Whose session it is.

    Returns
    -------
    low, high : float
        The bias-corrected and accelerated interval (Efron 1987), for more than 500
        participants the percentile interval, from 2000 seeded resamples: the same input gives
        the same numbers. NaN for fewer than three participants; the mean itself when all
        participants have the same.

    Examples
    --------
    >>> bootstrap_mean_interval(np.array([2.0, 2.0, 2.0]), ["a", "b", "c"])
    (2.0, 2.0)
    >>> bootstrap_mean_interval(np.array([1.0, 2.0]), ["a", "b"])
    (nan, nan)
    """
    _, owner = np.unique(np.asarray(participants, dtype=str), return_inverse=True)
    counts = np.bincount(owner).astype(float)
    sums = np.bincount(owner, values, minlength=len(counts))
    if len(counts) < _FEWEST:
        return float("nan"), float("nan")
    own_means = sums / counts
    # Without spread the acceleration is 0/0; rounding must not hide that.
    if np.allclose(own_means, own_means[0], rtol=1e-12, atol=0):
        return float(own_means[0]), float(own_means[0])

    def pooled_mean(total: FloatArray, number: FloatArray, axis: int = -1) -> FloatArray:
        return np.asarray(total.sum(axis=axis) / number.sum(axis=axis))

    interval = stats.bootstrap(
        (sums, counts),
        pooled_mean,
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=max(1, _BATCH_VALUES // len(counts)),
        method="BCa" if len(counts) <= _MANY else "percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _parts(sessions: pd.DataFrame, group_column: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Cut the table overall, by group, by session, by both; each as (group, session, part)."""
    everyone = pd.Series(EVERYONE, index=sessions.index)
    visits = sessions["session_id"]
    groups = sessions.get(group_column)
    has_groups = groups is not None and groups.notna().any()
    yield EVERYONE, EVERYONE, sessions
    for split_group, split_visit in ((True, False), (False, True), (True, True)):
        if (split_group and not has_groups) or (split_visit and not visits.notna().any()):
            continue
        by_group = groups.where(groups.notna(), "n/a").astype(str) if split_group else everyone
        by_visit = visits.where(visits.notna(), "n/a").astype(str) if split_visit else everyone
        keys = pd.MultiIndex.from_arrays([by_group, by_visit])
        for (group, visit), part in sessions.groupby(keys, sort=True):
            yield str(group), str(visit), part


def _describe(part: pd.DataFrame, measure: str) -> dict[str, float | int]:
    usable = part[(part["status"] == "done") & part[measure].notna()]
    values = usable[measure].to_numpy(dtype=float)
    counted: dict[str, float | int] = {
        "n": len(values),
        "n_participants": int(usable["participant_id"].nunique()),
        "n_failed": int((part["status"] == "failed").sum()),
        "n_missing": int((part["status"] == "missing").sum()),
        "n_excluded": int((part["status"] == "excluded").sum()),
    }
    if not len(values):
        return counted
    q1, median, q3 = np.quantile(values, (0.25, 0.5, 0.75))
    low, high = bootstrap_mean_interval(values, usable["participant_id"])
    described = {
        "mean": values.mean(),
        "sd": values.std(ddof=1) if len(values) > 1 else np.nan,
        "median": median,
        "q1": q1,
        "q3": q3,
        "iqr": q3 - q1,
        "ci95_low": low,
        "ci95_high": high,
    }
    return counted | {name: round(float(value), 4) for name, value in described.items()}
