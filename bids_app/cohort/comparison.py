"""What is compared, and the row that a comparison becomes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from bids_app.cohort.effects import Tested

FEWEST = 3
"""With fewer participants there are descriptives only, no test."""


@dataclass(frozen=True)
class Measure:
    """A column of the sessions' table that is compared; counts get rates too."""

    name: str
    count: bool = False


MEASURES = (
    Measure("lesion_count", count=True),
    Measure("lesion_volume_mm3"),
    Measure("lesion_load"),
    Measure("cord_mean_area_mm2"),
)
"""The family of measures. A column that a table lacks is left out; to add one, add a line."""


@dataclass(frozen=True)
class Comparison:
    """One row of ``group_statistics.tsv``; see `DICTIONARY` for the fields."""

    measure: str
    comparison: str
    group_a: str | None = None
    group_b: str | None = None
    session: str | None = None
    test: str | None = None
    statistic: float | None = None
    p: float | None = None
    p_holm: float | None = None
    family: str | None = None
    effect: float | None = None
    effect_name: str | None = None
    ci95_low: float | None = None
    ci95_high: float | None = None
    n_a: int | None = None
    n_b: int | None = None
    n_missing: int | None = None
    n_failed: int | None = None
    n_excluded: int | None = None
    median_a: float | None = None
    median_b: float | None = None
    covariates: str | None = None
    note: str | None = None

    def noted(self, *sentences: str | None) -> Comparison:
        """Add to the note what is not empty."""
        return replace(self, note="; ".join(s for s in (self.note, *sentences) if s) or None)

    def tested(self, found: Tested, family: str) -> Comparison:
        """Enter a test and its effect; without a p value it belongs to no family."""
        row = replace(
            self,
            test=found.test,
            statistic=_digits(found.statistic),
            p=_digits(found.p),
            family=None if math.isnan(found.p) else family,
            effect=_digits(found.effect),
            effect_name=found.effect_name,
            ci95_low=_digits(found.low),
            ci95_high=_digits(found.high),
        )
        return row.noted(found.note)


def _digits(value: float) -> float | None:
    """Round to six significant digits; None for what is no number."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def holm(rows: Iterable[Comparison]) -> list[Comparison]:
    """Correct the p values of each family (Holm 1979) and say how many tests it has."""
    result = list(rows)
    families: dict[str, list[int]] = {}
    for index, row in enumerate(result):
        if row.family is not None:
            families.setdefault(row.family, []).append(index)
    for family, members in families.items():
        number = len(members)
        named = f"{family} ({number} test{'s' if number > 1 else ''})"
        p_holm = 0.0
        for rank, index in enumerate(sorted(members, key=lambda i: result[i].p or 0.0)):
            p_holm = max(p_holm, min(1.0, (number - rank) * (result[index].p or 0.0)))
            result[index] = replace(result[index], p_holm=_digits(p_holm), family=named)
    return result


DICTIONARY: dict[str, dict[str, Any]] = {
    "measure": {"Description": "The column of group_sessions.tsv that is compared."},
    "comparison": {
        "Description": "What is compared.",
        "Levels": {
            "between groups": "Group b against group a; one session a participant, the first "
            "that is done.",
            "over sessions": "A later session against the cohort's first, within participants.",
            "annualised change": "Mean over participants of the slope over time; those with at "
            "least two sessions a quarter of a year apart, times from acq_time of "
            "sub-*_sessions.tsv or *_scans.tsv.",
            "annualised change between groups": "These slopes, group b against group a.",
        },
    },
    "group_a": {"Description": "The group compared with, or the only one; all for everyone."},
    "group_b": {"Description": "The other group; n/a where there is one group only."},
    "session": {"Description": "The session or sessions that the values are from."},
    "test": {"Description": "The test, or the model whose coefficient is tested; two-sided."},
    "statistic": {
        "Description": "The test's statistic: U of group b, H, the smaller rank sum, or t."
    },
    "p": {"Description": "p value; n/a with fewer than 3 participants in a group."},
    "p_holm": {"Description": "p value after Holm's correction over the family."},
    "family": {"Description": "The tests that Holm's correction is over, and their number."},
    "effect": {
        "Description": "The effect named in effect_name. Above 0 (a ratio: above 1) means that "
        "group b, or the later session, has more."
    },
    "effect_name": {
        "Description": "Which effect size.",
        "Levels": {
            "Cliff's delta": "P(b > a) - P(b < a), -1 to 1; the rank-biserial correlation.",
            "epsilon squared": "H / (n - 1), 0 to 1.",
            "rate ratio": "Rate of b divided by that of a, or of the later by the first session.",
            "adjusted difference": "Mean of b minus mean of a at equal covariates.",
            "Hodges-Lehmann change": "Median of all pairwise means of the changes.",
            "mean change a year": "Mean of the participants' slopes, in the measure's unit a year.",
        },
    },
    "ci95_low": {"Description": "Lower end of the effect's 95 % interval, not corrected."},
    "ci95_high": {"Description": "Upper end of that interval."},
    "n_a": {"Description": "Participants of group a (of a pair of sessions: with both) used."},
    "n_b": {"Description": "Participants of group b used."},
    "n_missing": {
        "Description": "Participants of these groups who are not used because a session was not "
        "processed or does not exist, or a value, a covariate or a time is unknown."
    },
    "n_failed": {"Description": "Participants of these groups not used because a session failed."},
    "n_excluded": {
        "Description": "Participants of these groups not used because a session was left out by a "
        "person's decision (--exclude-qc) and none failed."
    },
    "median_a": {
        "Description": "Median of group a, or of the first session; of changes: a year's."
    },
    "median_b": {"Description": "Median of group b, or of the later session."},
    "covariates": {"Description": "Columns of participants.tsv that the model adjusts for."},
    "note": {"Description": "What else a reader should know."},
}
