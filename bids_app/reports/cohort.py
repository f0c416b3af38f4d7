"""The page about a cohort: the rows of the group tables in, HTML out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bids_app.reports.charts import COLORS as _COLORS
from bids_app.reports.charts import plot
from bids_app.reports.page import Markup, render

Row = Mapping[str, Any]
"""A row of a group table; None where it says ``n/a``."""

_FIRST_COLUMNS = ("participant_id", "session_id", "status")
_NO_GROUP = "all"


def cohort_page(
    sessions: Sequence[Row],
    lesions: Sequence[Row],
    statistics: Sequence[Row],
    group_column: str = "group",
    reports: Mapping[str, str] | None = None,
) -> str:
    """Write the report of a cohort.

    Parameters
    ----------
    sessions, lesions, statistics : sequence of mapping
        Rows of ``group_sessions.tsv``, ``group_lesions.tsv`` and ``group_statistics.tsv``.
    group_column : str
        Column of the sessions that says who belongs together.
    reports : mapping, optional
        From participant and session, joined by ``_``, to the address of the session's report.

    Returns
    -------
    str
        One self-contained HTML page; plots are interactive without a network.
    """
    from plotly.offline import get_plotlyjs

    done = [row for row in sessions if row.get("status") == "done"]
    figures = [
        (title, caption, Markup(figure(done, lesions, group_column)))
        for title, caption, needs, figure in _FIGURES
        if needs(done, lesions)
    ]
    columns = list(dict.fromkeys([*_FIRST_COLUMNS, *(key for row in sessions for key in row)]))
    counts = {s: sum(r.get("status") == s for r in sessions) for s in ("done", "failed", "missing")}
    return render(
        "cohort.html.j2",
        title="Cohort",
        counts=counts,
        headline=cohort_headline(done, counts),
        problems=[row for row in sessions if row.get("status") != "done"],
        figures=figures,
        plotly=Markup(get_plotlyjs()),
        columns=columns,
        rows=sessions,
        reports=reports or {},
        identifier=identifier,
        statistics=statistics,
    )


def identifier(row: Row) -> str:
    """Join participant and session.

    Examples
    --------
    >>> identifier({"participant_id": "sub-01", "session_id": "ses-M0"})
    'sub-01_ses-M0'
    >>> identifier({"participant_id": "sub-01", "session_id": None})
    'sub-01'
    """
    return "_".join(str(row[key]) for key in ("participant_id", "session_id") if row.get(key))


def cohort_headline(done: Sequence[Row], counts: Mapping[str, int]) -> str:
    """Say in one sentence what the cohort has.

    Examples
    --------
    >>> rows = [{"participant_id": "sub-01", "lesion_count": 2, "lesion_volume_mm3": 80.0}]
    >>> cohort_headline(rows, {"done": 1, "failed": 0, "missing": 1})
    '2 lesions, 80 mm³ in all, in 1 session of 1 participant; 0 sessions failed, 1 missing.'
    """
    number = sum(int(row["lesion_count"]) for row in done)
    volume = sum(float(row["lesion_volume_mm3"]) for row in done)
    people = len({row["participant_id"] for row in done})
    return (
        f"{number} lesion{_s(number)}, {volume:.0f} mm³ in all, in {len(done)} "
        f"session{_s(len(done))} of {people} participant{_s(people)}; {counts['failed']} "
        f"session{_s(counts['failed'])} failed, {counts['missing']} missing."
    )


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _plot(traces: Sequence[Any], x: str, y: str, **layout: Any) -> str:
    """Draw traces of measures that start at zero."""
    return plot(traces, x, y, yaxis_rangemode="tozero", **layout)


def _groups(rows: Sequence[Row], column: str) -> list[str]:
    return sorted({str(row.get(column) or _NO_GROUP) for row in rows})


def _spread(measure: str, title: str) -> Callable[[Sequence[Row], Sequence[Row], str], str]:
    """Make the plot of a measure: each session a point, boxes by session and group."""

    def draw(done: Sequence[Row], _: Sequence[Row], column: str) -> str:
        import plotly.graph_objects as go

        traces = []
        for number, group in enumerate(_groups(done, column)):
            part = [row for row in done if str(row.get(column) or _NO_GROUP) == group]
            traces.append(
                go.Box(
                    x=[row.get("session_id") or "one session" for row in part],
                    y=[row.get(measure) for row in part],
                    text=[identifier(row) for row in part],
                    name=group, boxpoints="all", jitter=0.4, pointpos=0,
                    marker={"color": _COLORS[number % len(_COLORS)], "size": 6},
                )
            )  # fmt: skip
        return _plot(traces, "session", title, boxmode="group")

    return draw


def _over_time(done: Sequence[Row], _: Sequence[Row], column: str) -> str:
    """Join the sessions of each participant."""
    import plotly.graph_objects as go

    groups = _groups(done, column)
    shown: set[str] = set()
    traces = []
    for participant in sorted({str(row["participant_id"]) for row in done}):
        part = [row for row in done if row["participant_id"] == participant]
        part.sort(key=lambda row: str(row.get("session_id") or ""))
        if len(part) < 2:
            continue
        group = str(part[0].get(column) or _NO_GROUP)
        traces.append(
            go.Scatter(
                x=[row["session_id"] for row in part],
                y=[row["lesion_volume_mm3"] for row in part],
                text=[identifier(row) + _changes(row) for row in part],
                mode="lines+markers", name=group, legendgroup=group,
                showlegend=group not in shown,
                line={"color": _COLORS[groups.index(group) % len(_COLORS)], "width": 1.5},
            )
        )  # fmt: skip
        shown.add(group)
    return _plot(traces, "session", "lesion volume (mm³)")


def _changes(row: Row) -> str:
    """Tell how many lesions are new and resolved, where that is known."""
    known = [
        f"{row[key]} {word}"
        for key, word in (("new_lesion_count", "new"), ("resolved_lesion_count", "resolved"))
        if row.get(key) is not None
    ]
    return "".join(f"<br>{text}" for text in known)


def _levels(_: Sequence[Row], lesions: Sequence[Row], __: str) -> str:
    """Count lesions by vertebral level, from head to feet."""
    import plotly.graph_objects as go

    found = [str(row["level"]) for row in lesions if row.get("level")]
    order = sorted(set(found), key=lambda name: ("CTLS".find(name[:1]), int(name[1:] or 0)))
    bars = go.Bar(
        x=[found.count(level) for level in order],
        y=order,
        orientation="h",
        marker={"color": _COLORS[0]},
    )
    return _plot([bars], "lesions", "vertebral level", yaxis_autorange="reversed")


def _expected(done: Sequence[Row], _: Sequence[Row], __: str) -> str:
    """Draw each session's expected count with its interval beside what was counted."""
    import plotly.graph_objects as go

    rows = [row for row in done if row.get("expected_lesion_count") is not None]
    names = [identifier(row) for row in rows]
    mean = [float(row["expected_lesion_count"]) for row in rows]
    low = [float(row["expected_lesion_count_low"]) for row in rows]
    high = [float(row["expected_lesion_count_high"]) for row in rows]
    bars = {
        "type": "data",
        "array": [h - m for h, m in zip(high, mean, strict=True)],
        "arrayminus": [m - w for m, w in zip(mean, low, strict=True)],
    }
    expected = go.Scatter(
        x=names, y=mean, error_y=bars, mode="markers", name="expected, 95 % interval",
        marker={"color": _COLORS[0]},
    )  # fmt: skip
    counted = go.Scatter(
        x=names,
        y=[row["lesion_count"] for row in rows],
        mode="markers",
        name="counted",
        marker={"color": _COLORS[1], "symbol": "x"},
    )
    return _plot([expected, counted], "", "lesions", xaxis_showticklabels=len(rows) <= 40)


def _has_sessions(done: Sequence[Row], _: Sequence[Row]) -> bool:
    return bool(done)


def _has_follow_up(done: Sequence[Row], _: Sequence[Row]) -> bool:
    people = [row["participant_id"] for row in done]
    return len(set(people)) < len(people)


_FIGURES: tuple[
    tuple[
        str,
        str,
        Callable[[Sequence[Row], Sequence[Row]], bool],
        Callable[[Sequence[Row], Sequence[Row], str], str],
    ],
    ...,
] = (
    ("Number of lesions", "Each point is a session.", _has_sessions,
     _spread("lesion_count", "lesions")),
    ("Lesion volume", "Each point is a session.", _has_sessions,
     _spread("lesion_volume_mm3", "lesion volume (mm³)")),
    ("Over time", "Each line is a participant.", _has_follow_up, _over_time),
    ("Along the cord", "Lesions by vertebral level, where levels are known.",
     lambda _, lesions: any(row.get("level") for row in lesions), _levels),
    ("Expected number of lesions",
     "With missed and false ones allowed for; bars are 95 % intervals.",
     lambda done, _: any(row.get("expected_lesion_count") is not None for row in done), _expected),
)  # fmt: skip
