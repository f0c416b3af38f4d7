"""The page about a cohort: the rows of the group tables in, HTML out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bids_app.reports.cohort_figures import CohortFacts, Row, draw_figures, identifier
from bids_app.reports.cohort_maps import FrequencyView, map_pictures
from bids_app.reports.page import Markup, render

_FIRST_COLUMNS = ("participant_id", "session_id", "status")
_STATUSES = ("done", "failed", "missing", "excluded")
# Of the quality table: what the page shows in cells of its own, and what is elsewhere.
_TOLD_APART = (
    "participant_id", "session_id", "status", "qc_decision", "qc_reason", "excluded", "concerns",
    "outliers", "reference_contrast", "second_contrast", "registration_accepted",
)  # fmt: skip


@dataclass(frozen=True)
class Cohort:
    """What the group level found.

    Attributes
    ----------
    sessions, lesions, summary, statistics, quality : sequence of mapping
        Rows of the group tables.
    described : mapping
        From column of the quality table to its description.
    group_column : str
        Column of the sessions that says who belongs together.
    reports : mapping
        From participant and session, joined by ``_``, to the address of the session's report.
    maps : sequence of FrequencyView
        Lesion frequency in template space.
    """

    sessions: Sequence[Row]
    lesions: Sequence[Row] = ()
    summary: Sequence[Row] = ()
    statistics: Sequence[Row] = ()
    quality: Sequence[Row] = ()
    described: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    group_column: str = "group"
    reports: Mapping[str, str] = field(default_factory=dict)
    maps: Sequence[FrequencyView] = ()


def cohort_page(cohort: Cohort) -> str:
    """Write the report of a cohort.

    Returns
    -------
    str
        One self-contained HTML page; plots are interactive without a network.
    """
    from plotly.offline import get_plotlyjs

    sessions = cohort.sessions
    state = {identifier(row): _state(row) for row in sessions}
    done = [row for row in sessions if _state(row) == "done"]
    facts = CohortFacts(
        done,
        [row for row in cohort.lesions if not row.get("excluded")],
        cohort.quality,
        cohort.group_column,
        cohort.reports,
    )
    counts = {s: sum(one == s for one in state.values()) for s in _STATUSES}
    return render(
        "cohort.html.j2",
        title="Cohort",
        counts=counts,
        headline=cohort_headline(done, counts),
        problems=[row for row in sessions if _state(row) in ("failed", "missing")],
        excluded=[row for row in cohort.quality if row.get("excluded")],
        figures=draw_figures(facts),
        maps=[map_pictures(one) for one in cohort.maps],
        plotly=Markup(get_plotlyjs()),
        columns=_columns(sessions),
        rows=sessions,
        reports=cohort.reports,
        identifier=identifier,
        statistics=[comparison_cells(row) for row in cohort.statistics],
        summary=[row for row in cohort.summary if row.get("n") is not None],
        quality=[_quality_row(row) for row in cohort.quality],
        measures=_measures(cohort),
        verdicts=("pass", "fail", "exclude"),
        reasons={identifier(r): r["qc_reason"] for r in cohort.quality if r.get("qc_reason")},
    )


def _state(row: Row) -> str:
    """Give the status of a session, or that it is left out of what is counted."""
    status = str(row.get("status"))
    return "excluded" if row.get("excluded") and status == "done" else status


def _columns(rows: Sequence[Row]) -> list[str]:
    """List the columns that any row has a value in; the tables on disk have all."""
    filled = [key for row in rows for key, value in row.items() if value is not None]
    known = dict.fromkeys(key for row in rows for key in row)
    kept = {*_FIRST_COLUMNS, *filled}
    return list(dict.fromkeys([*_FIRST_COLUMNS, *(name for name in known if name in kept)]))


def cohort_headline(done: Sequence[Row], counts: Mapping[str, int]) -> str:
    """Say in one sentence what the cohort has.

    Examples
    --------
    >>> rows = [{"participant_id": "sub-01", "lesion_count": 2, "lesion_volume_mm3": 80.0}]
    >>> cohort_headline(rows, {"done": 1, "failed": 0, "missing": 1, "excluded": 0})
    '2 lesions, 80 mm³ in all, in 1 session of 1 participant; 0 sessions failed, 1 missing.'
    """
    number = sum(int(row["lesion_count"]) for row in done)
    volume = sum(float(row["lesion_volume_mm3"]) for row in done)
    people = len({row["participant_id"] for row in done})
    left_out = f", {counts['excluded']} left out" if counts["excluded"] else ""
    return (
        f"{number} lesion{_s(number)}, {volume:.0f} mm³ in all, in {len(done)} "
        f"session{_s(len(done))} of {people} participant{_s(people)}; {counts['failed']} "
        f"session{_s(counts['failed'])} failed, {counts['missing']} missing{left_out}."
    )


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _measures(cohort: Cohort) -> list[tuple[str, str, str]]:
    """List the measures that any session has: column, title, description."""
    columns = [name for name in _columns(cohort.quality) if name not in _TOLD_APART]
    listed = []
    for name in columns if cohort.quality else ():
        if any(row.get(name) is not None for row in cohort.quality):
            about = cohort.described.get(name, {})
            unit = f" ({about['Units']})" if "Units" in about else ""
            title = str(about.get("LongName", name)) + unit
            listed.append((name, title, str(about.get("Description", ""))))
    return listed


def _quality_row(row: Row) -> dict[str, Any]:
    """Add which measures of a session are outliers, and on which side."""
    marked = dict(one.rsplit(" ", 1) for one in str(row.get("outliers") or "").split("; ") if one)
    contrasts = [row.get(key) for key in ("reference_contrast", "second_contrast")]
    return {
        **row,
        "marked": marked,
        "contrasts": " + ".join(str(name) for name in contrasts if name) or None,
        "shown_status": _state(row),
    }


def comparison_cells(row: Row) -> dict[str, Any]:
    """Lay one comparison out as it is read: who, effect with interval, p, and every n.

    Examples
    --------
    >>> cells = comparison_cells({"measure": "lesion_count", "group_a": "MS", "group_b": "control",
    ...     "effect": 0.5, "ci95_low": 0.1, "ci95_high": 0.9, "n_a": 9, "n_b": 8, "n_failed": 1})
    >>> cells["compared"], cells["value (95 % interval)"], cells["n"], cells["not used"]
    ('control against MS', '0.5 (0.1 to 0.9)', '9, 8', '1 failed')
    """
    groups = [str(row[key]) for key in ("group_b", "group_a") if row.get(key)]
    unused = [
        f"{row[key]} {word}"
        for key, word in (
            ("n_failed", "failed"), ("n_missing", "missing"), ("n_excluded", "left out"),
        )
        if row.get(key)
    ]  # fmt: skip
    return {
        "measure": row.get("measure"),
        "comparison": row.get("comparison"),
        "compared": " against ".join(groups) or None,
        "sessions": row.get("session"),
        "effect": row.get("effect_name"),
        "value (95 % interval)": _interval(row),
        "p": row.get("p"),
        "p, Holm": row.get("p_holm"),
        "n": ", ".join(str(row[key]) for key in ("n_a", "n_b") if row.get(key) is not None),
        "not used": ", ".join(unused) or "0",
        "medians": ", ".join(
            f"{row[key]:.4g}" for key in ("median_a", "median_b") if row.get(key) is not None
        ),
        "test": row.get("test"),
        "note": row.get("note"),
    }


def _interval(row: Row) -> str | None:
    if row.get("effect") is None:
        return None
    low, high = row.get("ci95_low"), row.get("ci95_high")
    ends = f" ({low:.4g} to {high:.4g})" if low is not None and high is not None else ""
    return f"{row['effect']:.4g}{ends}"
