"""The plots of a cohort's page: rows of the group tables in, blocks of HTML out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bids_app.records import LEVEL_NAMES
from bids_app.reports.page import Markup

Row = Mapping[str, Any]
"""A row of a group table; None where it says ``n/a``."""

# Okabe & Ito (2008): told apart by colour-blind readers.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_NO_GROUP = "all"
_MOST_NAMES = 40
_HEIGHT = 380


@dataclass(frozen=True)
class CohortFacts:
    """What is plotted: sessions that count, their lesions, and who belongs together.

    Attributes
    ----------
    done, lesions, quality : sequence of mapping
        Rows of the group tables, of the sessions that count only.
    column : str
        Column of `done` that says who belongs together.
    reports : mapping
        From session to the address of its report; a click on its point leads there.
    """

    done: Sequence[Row]
    lesions: Sequence[Row] = ()
    quality: Sequence[Row] = ()
    column: str = "group"
    reports: Mapping[str, str] = field(default_factory=dict)

    def group(self, row: Row) -> str:
        """Name the group of a session."""
        return str(row.get(self.column) or _NO_GROUP)

    @property
    def groups(self) -> list[str]:
        """List the groups in the order of their names."""
        return sorted({self.group(row) for row in self.done})

    @property
    def visits(self) -> list[str]:
        """List the sessions' labels, M6 before M12."""
        return sorted({_visit(row) for row in self.done}, key=_natural)

    def color(self, group: str) -> str:
        """Give a group its colour."""
        return COLORS[self.groups.index(group) % len(COLORS)]

    def links(self, rows: Sequence[Row]) -> list[str | None]:
        """Give the address of each session's report."""
        return [self.reports.get(identifier(row)) for row in rows]


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


def draw_figures(facts: CohortFacts) -> list[tuple[str, str, Markup]]:
    """Draw all plots that there are values for.

    Returns
    -------
    list of (heading, caption, HTML)
    """
    return [
        (title, caption, Markup(draw(facts)))
        for title, caption, needs, draw in _FIGURES
        if needs(facts)
    ]


def _visit(row: Row) -> str:
    return str(row.get("session_id") or "one session")


def _natural(label: str) -> list[tuple[int, str]]:
    return [(int(number or 0), text) for text, number in re.findall(r"(\D*)(\d*)", label)]


def _plot(traces: Sequence[Any], x: str, y: str, **layout: Any) -> str:
    """Draw traces into a block of HTML; the library itself is on the page once."""
    import plotly.graph_objects as go

    figure = go.Figure(list(traces))
    figure.update_layout(
        **{
            "template": "plotly_white", "height": _HEIGHT,
            "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
            "xaxis_title": x, "yaxis_title": y,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},

            "yaxis_rangemode": "tozero", **layout,
        }
    )  # fmt: skip
    # Drawn by the page's script when it comes into sight: all at once would take seconds.
    data = str(figure.to_json()).replace("<", "\\u003c")
    return f"""<div class="plotly-graph-div" style="height: {_HEIGHT}px"></div>
<script type="application/json">{data}</script>"""


def _spread(measure: str, title: str) -> Callable[[CohortFacts], str]:
    """Make the plot of a measure: each session a point, boxes by session and group."""

    def draw(facts: CohortFacts) -> str:
        import plotly.graph_objects as go

        traces = []
        for group in facts.groups:
            part = [row for row in facts.done if facts.group(row) == group]
            traces.append(
                go.Box(
                    x=[_visit(row) for row in part],
                    y=[row.get(measure) for row in part],
                    text=[identifier(row) for row in part],
                    customdata=facts.links(part),
                    name=f"{group} (n = {len(part)})",
                    boxpoints="all", jitter=0.4, pointpos=0,
                    marker={"color": facts.color(group), "size": 6},
                )
            )  # fmt: skip
        return _plot(
            traces, "session", title, boxmode="group", xaxis_categoryorder="array",
            xaxis_categoryarray=facts.visits,
        )  # fmt: skip

    return draw


def _over_time(facts: CohortFacts) -> str:
    """Join the sessions of each participant; a trace a group, since many traces are slow."""
    import plotly.graph_objects as go

    traces = []
    for group in facts.groups:
        lines = _lines(facts, group)
        if not lines:
            continue
        # None between two participants lifts the pen.
        rows = [row for line in lines for row in (*line, None)]
        traces.append(
            go.Scatter(
                x=[row and _visit(row) for row in rows],
                y=[row and row["lesion_volume_mm3"] for row in rows],
                text=[row and identifier(row) + _changes(row) for row in rows],
                customdata=[row and facts.reports.get(identifier(row)) for row in rows],
                mode="lines+markers",
                name=f"{group} (n = {len(lines)})",
                line={"color": facts.color(group), "width": 1.2},
                marker={
                    "size": [11 if row and _has_change(row) else 5 for row in rows],
                    "symbol": [_symbol(row) if row else "circle" for row in rows],
                },
            )
        )
    return _plot(
        traces, "session", "lesion volume (mm³)", xaxis_categoryorder="array",
        xaxis_categoryarray=facts.visits,
    )  # fmt: skip


def _lines(facts: CohortFacts, group: str) -> list[list[Row]]:
    """Give the sessions of each participant of a group who has more than one."""
    people: dict[str, list[Row]] = {}
    for row in facts.done:
        if facts.group(row) == group:
            people.setdefault(str(row["participant_id"]), []).append(row)
    lines = [sorted(part, key=lambda row: _natural(_visit(row))) for part in people.values()]
    return [line for line in lines if len(line) > 1]


def _symbol(row: Row) -> str:
    """Point up where lesions are new, down where they resolved, both ways for both."""
    new, resolved = bool(row.get("new_lesion_count")), bool(row.get("resolved_lesion_count"))
    return {
        (True, False): "triangle-up",
        (False, True): "triangle-down",
        (True, True): "hourglass",
        (False, False): "circle",
    }[new, resolved]


def _has_change(row: Row) -> bool:
    return bool(row.get("new_lesion_count") or row.get("resolved_lesion_count"))


def _changes(row: Row) -> str:
    """Tell how many lesions are new and resolved, where that is known."""
    known = [
        f"{row[key]} {word}"
        for key, word in (("new_lesion_count", "new"), ("resolved_lesion_count", "resolved"))
        if row.get(key) is not None
    ]
    return "".join(f"<br>{text}" for text in known)


def _new_and_resolved(facts: CohortFacts) -> str:
    """Count what changed at each session: what came above the line, what went below."""
    import plotly.graph_objects as go

    rows = [row for row in facts.done if row.get("new_lesion_count") is not None]
    visits = sorted({_visit(row) for row in rows}, key=_natural)
    kinds = (
        ("new", 1, COLORS[5]), ("enlarging", 1, COLORS[1]),
        ("shrinking", -1, COLORS[4]), ("resolved", -1, COLORS[0]),
    )  # fmt: skip
    bars = [
        go.Bar(
            x=visits,
            y=[sign * _total(rows, visit, f"{kind}_lesion_count") for visit in visits],
            customdata=[None] * len(visits),
            name=kind,
            marker={"color": color},
        )
        for kind, sign, color in kinds
    ]
    n = [sum(_visit(row) == visit for row in rows) for visit in visits]
    ticks = [f"{visit}<br>n = {number}" for visit, number in zip(visits, n, strict=True)]
    return _plot(
        bars, "", "lesions", barmode="relative", bargap=0.5, yaxis_rangemode="normal",
        xaxis_tickvals=visits, xaxis_ticktext=ticks,
    )  # fmt: skip


def _total(rows: Sequence[Row], visit: str, key: str) -> int:
    return sum(int(row.get(key) or 0) for row in rows if _visit(row) == visit)


def _levels(facts: CohortFacts) -> str:
    """Count lesions by vertebral level, from head to feet; levels between that have none too."""
    import plotly.graph_objects as go

    found = [str(row["level"]) for row in facts.lesions if row.get("level") in LEVEL_NAMES]
    numbers = [LEVEL_NAMES.index(level) for level in found]
    order = LEVEL_NAMES[min(numbers) : max(numbers) + 1]
    bars = go.Bar(
        x=[found.count(level) for level in order],
        y=order,
        orientation="h",
        marker={"color": COLORS[0]},
    )
    return _plot([bars], "lesions", "vertebral level", yaxis_autorange="reversed")


def _expected(facts: CohortFacts) -> str:
    """Draw each session's expected count with its interval beside what was counted."""
    import plotly.graph_objects as go

    rows = [row for row in facts.done if row.get("expected_lesion_count") is not None]
    rows.sort(key=lambda row: float(row["expected_lesion_count"]))
    names, links = [identifier(row) for row in rows], facts.links(rows)
    mean = [float(row["expected_lesion_count"]) for row in rows]
    low = [float(row["expected_lesion_count_low"]) for row in rows]
    high = [float(row["expected_lesion_count_high"]) for row in rows]
    bars = {
        "type": "data",
        "array": [h - m for h, m in zip(high, mean, strict=True)],
        "arrayminus": [m - w for m, w in zip(mean, low, strict=True)],
        "thickness": 1,
    }
    expected = go.Scatter(
        x=names, y=mean, error_y=bars, mode="markers", name="expected, 95 % interval",
        customdata=links, marker={"color": COLORS[0]},
    )  # fmt: skip
    counted = go.Scatter(
        x=names, y=[row["lesion_count"] for row in rows], mode="markers", name="counted",
        customdata=links, marker={"color": COLORS[1], "symbol": "x"},
    )  # fmt: skip
    few = len(rows) <= _MOST_NAMES
    return _plot(
        [expected, counted], "", "lesions", xaxis_showticklabels=few, xaxis_showgrid=few
    )  # fmt: skip


def _doubt(facts: CohortFacts) -> str:
    """Lay how unsure the network is against how good the image is."""
    import plotly.graph_objects as go

    known = {identifier(row): row for row in facts.quality if _has_doubt(row)}
    traces = []
    for group in facts.groups:
        rows = [r for r in facts.done if facts.group(r) == group and identifier(r) in known]
        quality = [known[identifier(row)] for row in rows]
        traces.append(
            go.Scatter(
                x=[row["cord_snr"] for row in quality],
                y=[row["uncertainty"] for row in quality],
                text=[identifier(row) + _told(row) for row in quality],
                customdata=facts.links(rows),
                mode="markers",
                name=f"{group} (n = {len(rows)})",
                marker={
                    "color": facts.color(group),
                    "size": 8,
                    "symbol": ["x" if row.get("outliers") else "circle" for row in quality],
                },
            )
        )
    return _plot(
        traces, "signal-to-noise ratio in the cord", "mean uncertainty in the cord (bit)",
        xaxis_type="log",
    )  # fmt: skip


def _told(row: Row) -> str:
    return f"<br>{row['outliers']}" if row.get("outliers") else ""


def _has_doubt(row: Row) -> bool:
    return row.get("uncertainty") is not None and bool(row.get("cord_snr"))


def _probabilities(facts: CohortFacts) -> str:
    """Count the lesions by how sure they are."""
    import plotly.graph_objects as go

    values = [float(row["probability"]) for row in facts.lesions if _is_probable(row)]
    bars = go.Histogram(
        x=values, xbins={"start": 0, "end": 1.0001, "size": 0.05}, marker={"color": COLORS[0]}
    )
    return _plot([bars], "probability of being a lesion", "lesions", xaxis_range=[0, 1])


def _is_probable(row: Row) -> bool:
    return isinstance(row.get("probability"), int | float)


def _has_sessions(facts: CohortFacts) -> bool:
    return bool(facts.done)


def _has_follow_up(facts: CohortFacts) -> bool:
    return any(_lines(facts, group) for group in facts.groups)


_FIGURES: tuple[
    tuple[str, str, Callable[[CohortFacts], bool], Callable[[CohortFacts], str]], ...
] = (
    ("Number of lesions", "Each point is a session; a click opens its report.", _has_sessions,
     _spread("lesion_count", "lesions")),
    ("Lesion volume", "Each point is a session.", _has_sessions,
     _spread("lesion_volume_mm3", "lesion volume (mm³)")),
    ("Over time", "Each line is a participant. Triangles point up where lesions are new, down "
     "where some resolved; an hourglass is both.", _has_follow_up, _over_time),
    ("New and resolved lesions", "Against the session compared with; n sessions were compared. "
     "What came or grew is above the line, what shrank or went below.",
     lambda facts: any(row.get("new_lesion_count") is not None for row in facts.done),
     _new_and_resolved),
    ("Along the cord", "Lesions by vertebral level, where levels are known.",
     lambda facts: any(row.get("level") in LEVEL_NAMES for row in facts.lesions), _levels),
    ("Expected number of lesions",
     "With missed and false ones allowed for; bars are 95 % intervals. From few to many.",
     lambda facts: any(row.get("expected_lesion_count") is not None for row in facts.done),
     _expected),
    ("How sure each lesion is", "Calibrated probability of the lesions that were counted.",
     lambda facts: any(_is_probable(row) for row in facts.lesions), _probabilities),
    ("Uncertainty and image quality",
     "Each point is a session; a cross marks one that is an outlier in some measure.",
     lambda facts: any(_has_doubt(row) for row in facts.quality), _doubt),
)  # fmt: skip
