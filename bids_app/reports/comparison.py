"""The page that compares models: the rows of a comparison in, HTML out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bids_app.reports.charts import COLORS, choice
from bids_app.reports.gallery import Exhibit, pictures
from bids_app.reports.page import Markup, number, p_value, render

Row = Mapping[str, Any]
"""A row of the matrix or of the tests; None where a number is not defined."""

_AVERAGES = ("all test sets", "seen test sets", "unseen test sets")
_MARGIN = 0.02


def comparison_page(
    document: Mapping[str, Any],
    exhibits: Sequence[Exhibit] = (),
    title: Callable[[str], str] = str,
    direction: Callable[[str], int] = lambda _: 1,
) -> str:
    """Write the page of a comparison.

    Parameters
    ----------
    document : mapping
        What ``summary.json`` of a comparison holds.
    exhibits : sequence of Exhibit
        The gallery.
    title : callable
        Writes a metric's name as people do.
    direction : callable
        Says whether more of a metric is better (1), less (-1), or neither (0).

    Returns
    -------
    str
        One self-contained HTML page; plots are interactive without a network.
    """
    from plotly.offline import get_plotlyjs

    metrics = list(document["metrics"])
    return render(
        "comparison.html.j2",
        title="Comparison of models",
        document=document,
        metrics=metrics,
        first=title(metrics[0]),
        name=title,
        tables={metric: _table(document, metric) for metric in metrics},
        tests={
            metric: [r for r in document["tests"] if r["metric"] == metric] for metric in metrics
        },
        better=lambda metric: {1: "higher is better", -1: "lower is better", 0: ""}[
            direction(metric)
        ],
        figures=_figures(document, title, direction),
        shown=[_shown(exhibit) for exhibit in exhibits],
        plotly=Markup(get_plotlyjs()),
    )


def with_interval(row: Row | None) -> str:
    """Write a mean with its interval.

    Examples
    --------
    >>> with_interval({"mean": 0.5, "ci95_low": 0.25, "ci95_high": 0.75})
    '0.500 (0.250 to 0.750)'
    >>> with_interval({"mean": 12.34, "ci95_low": None, "ci95_high": None})
    '12.3'
    >>> with_interval(None), with_interval({"mean": None, "ci95_low": None, "ci95_high": None})
    ('none', 'n/a')
    """
    if row is None:
        return "none"
    if row["mean"] is None:
        return "n/a"
    between = _interval(row)
    return number(row["mean"]) + (f" ({between})" if between else "")


def _interval(row: Row | None) -> str:
    if row is None or row["ci95_low"] is None:
        return ""
    return f"{number(row['ci95_low'])} to {number(row['ci95_high'])}"


def _columns(rows: Iterable[Row]) -> list[str]:
    found = list(dict.fromkeys(row["test_set"] or row["over"] for row in rows))
    return [c for c in found if c not in _AVERAGES] + [c for c in _AVERAGES if c in found]


def _rows(document: Mapping[str, Any], metric: str) -> list[Row]:
    return [row for row in document["matrix"] if row["metric"] == metric]


def _table(document: Mapping[str, Any], metric: str) -> dict[str, Any]:
    rows = _rows(document, metric)
    columns = _columns(rows)
    body = {}
    for model in document["models"]:
        cells = {row["test_set"] or row["over"]: row for row in rows if row["model"] == model}
        body[model] = [
            {
                "mean": number(cells[column]["mean"]) if column in cells else "none",
                "interval": _interval(cells.get(column)),
                "seen": bool(cells.get(column, {}).get("seen")) and column not in _AVERAGES,
                "n": cells.get(column, {}).get("n"),
            }
            for column in columns
        ]
    return {"columns": columns, "body": body}


def _figures(
    document: Mapping[str, Any], title: Callable[[str], str], direction: Callable[[str], int]
) -> list[tuple[str, str, Markup]]:
    metrics = document["metrics"]
    found = [
        (
            "Models and test sets",
            "Means; darker is better. Choose the metric above the plot.",
            choice(
                {title(m): [_heat_map(document, m, direction(m))] for m in metrics},
                "",
                "",
                height=130 + 48 * len(document["models"]),
                yaxis_autorange="reversed",
                xaxis_side="bottom",
                margin={"l": 20, "r": 20, "t": 60, "b": 40},
                yaxis_automargin=True,
                xaxis_automargin=True,
            ),
        ),
        (
            "Means with intervals",
            "Bars are 95 % bootstrap intervals, whole subjects resampled.",
            choice(
                {title(m): _dots(document, m) for m in metrics},
                "",
                "",
                height=420,
                xaxis_tickvals=list(range(len(_columns(document["matrix"])))),
                xaxis_ticktext=_columns(document["matrix"]),
                xaxis_showgrid=False,
                xaxis_zeroline=False,
            ),
        ),
    ]
    if document["tests"]:
        most = max(sum(r["metric"] == m for r in document["tests"]) for m in metrics)
        found.append(
            (
                "Differences of two models",
                "Difference of the means on the scans that both have, with its 95 % interval (not "
                "corrected). Filled: the corrected p is below 0.05.",
                choice(
                    {title(m): _forest(document, m) for m in metrics},
                    "difference",
                    "",
                    height=140 + 30 * most,
                    yaxis_autorange="reversed",
                    yaxis_automargin=True,
                    xaxis_zeroline=True,
                    xaxis_zerolinecolor="#1c2430",
                    showlegend=False,
                ),
            )
        )
    scatter = _scatter(document, title)
    return [(head, caption, Markup(figure)) for head, caption, figure in [*found, *scatter]]


def _heat_map(document: Mapping[str, Any], metric: str, sign: int) -> Any:
    import plotly.graph_objects as go

    rows = _rows(document, metric)
    columns = _columns(rows)
    cell = {(row["model"], row["test_set"] or row["over"]): row for row in rows}
    models = document["models"]
    at = [[cell.get((model, column)) for column in columns] for model in models]

    def text(row: Row | None) -> str:
        if row is None:
            return "none"
        return number(row["mean"]) + (" •" if row["seen"] and row["test_set"] else "")

    return go.Heatmap(
        z=[[row["mean"] if row else None for row in line] for line in at],
        x=columns,
        y=models,
        text=[[text(row) for row in line] for line in at],
        customdata=[[with_interval(row) for row in line] for line in at],
        texttemplate="%{text}",
        hovertemplate="%{y} on %{x}: %{customdata}<extra></extra>",
        colorscale="Blues",
        reversescale=sign < 0,
        showscale=False,
        xgap=2,
        ygap=2,
    )


def _dots(document: Mapping[str, Any], metric: str) -> list[Any]:
    """Draw each model's means side by side on every test set."""
    import plotly.graph_objects as go

    rows = _rows(document, metric)
    columns = _columns(document["matrix"])
    traces = []
    for index, model in enumerate(document["models"]):
        own = {row["test_set"] or row["over"]: row for row in rows if row["model"] == model}
        known = [column for column in columns if own.get(column, {}).get("mean") is not None]
        shift = (index - (len(document["models"]) - 1) / 2) * 0.6 / len(document["models"])
        traces.append(
            go.Scatter(
                x=[columns.index(column) + shift for column in known],
                y=[own[column]["mean"] for column in known],
                error_y=_bars([own[column] for column in known], "mean"),
                text=[f"{column}: {with_interval(own[column])}" for column in known],
                hovertemplate="%{text}",
                mode="markers",
                name=model,
                marker={"color": COLORS[index % len(COLORS)], "size": 9},
            )
        )
    return traces


def _bars(rows: Sequence[Row], middle: str) -> dict[str, Any]:
    return {
        "type": "data",
        "array": [_length(row["ci95_high"], row[middle]) for row in rows],
        "arrayminus": [_length(row[middle], row["ci95_low"]) for row in rows],
        "thickness": 1.5,
    }


def _length(high: float | None, low: float | None) -> float:
    return 0.0 if high is None or low is None else max(0.0, high - low)


def _forest(document: Mapping[str, Any], metric: str) -> list[Any]:
    import plotly.graph_objects as go

    rows = [
        row
        for row in document["tests"]
        if row["metric"] == metric and row["difference"] is not None
    ]
    clear = [row["p_corrected"] is not None and row["p_corrected"] < 0.05 for row in rows]
    bars = _bars(rows, "difference")
    return [
        go.Scatter(
            x=[row["difference"] for row in rows],
            y=[f"{row['model_a']} - {row['model_b']}, {row['test_set']}" for row in rows],
            error_x=bars,
            text=[f"corrected p {p_value(row['p_corrected'])}" for row in rows],
            hovertemplate="%{y}: %{x:.3f}, %{text}<extra></extra>",
            mode="markers",
            marker={
                "color": COLORS[0],
                "size": 10,
                "symbol": ["circle" if one else "circle-open" for one in clear],
            },
        )
    ]


def _scatter(
    document: Mapping[str, Any], title: Callable[[str], str]
) -> list[tuple[str, str, str]]:
    """Draw each scan's value in two models, with the means and their intervals."""
    metric = next((m for m in document["metrics"] if m != "froc"), None)
    pairs = list(dict.fromkeys((row["model_a"], row["model_b"]) for row in document["tests"]))
    if metric is None or not pairs:
        return []
    groups = {f"{a} and {b}": _pair_traces(document, metric, a, b) for a, b in pairs}
    shown = {name: traces for name, traces in groups.items() if traces}
    if not shown:
        return []
    figure = choice(
        shown,
        "",
        "",
        {f"{a} and {b}": (f"{title(metric)}, {a}", f"{title(metric)}, {b}") for a, b in pairs},
        height=520,
    )
    caption = (
        f"Each point is a scan: {title(metric)} of one model against that of the other, on the "
        "line when both are equal. Crosses are the means of the test sets with their 95 % "
        "intervals."
    )
    return [("Scan by scan", caption, figure)]


def _pair_traces(document: Mapping[str, Any], metric: str, a: str, b: str) -> list[Any]:
    import plotly.graph_objects as go

    traces, values = [], []
    mean = {(r["model"], r["test_set"]): r for r in _rows(document, metric) if r["test_set"]}
    for index, test_set in enumerate(document["test_sets"]):
        points = [
            (scan["models"][a][metric], scan["models"][b][metric], scan["scan"])
            for scan in document["scans"]
            if scan["test_set"] == test_set and {a, b} <= scan["models"].keys()
        ]
        points = [point for point in points if None not in point]
        if not points:
            continue
        color = COLORS[index % len(COLORS)]
        values += [value for point in points for value in point[:2]]
        traces.append(
            go.Scatter(
                x=[point[0] for point in points], y=[point[1] for point in points],
                text=[point[2] for point in points], mode="markers", name=test_set,
                marker={"color": color, "size": 8, "opacity": 0.55},
            )
        )  # fmt: skip
        one, two = mean.get((a, test_set)), mean.get((b, test_set))
        if one and two and one["mean"] is not None and two["mean"] is not None:
            traces.append(
                go.Scatter(
                    x=[one["mean"]], y=[two["mean"]], error_x=_bars([one], "mean"),
                    error_y=_bars([two], "mean"), mode="markers", showlegend=False,
                    name=f"{test_set}, mean",
                    marker={"color": color, "size": 13, "symbol": "cross",
                            "line": {"color": "#1c2430", "width": 1}},
                )
            )  # fmt: skip
    if not traces:
        return []
    low, high = min(values), max(values)
    edge = _MARGIN * ((high - low) or 1)
    line = go.Scatter(
        x=[low - edge, high + edge], y=[low - edge, high + edge], mode="lines", showlegend=False,
        hoverinfo="skip", line={"color": "#5b6675", "dash": "dot", "width": 1},
    )  # fmt: skip
    return [line, *traces]


def _shown(exhibit: Exhibit) -> dict[str, Any]:
    """Draw one scan of the gallery."""
    row: dict[str, Any] = {
        "test_set": exhibit.test_set,
        "scan": exhibit.scan,
        "note": exhibit.note,
        "place": None,
        "pictures": [],
    }
    if exhibit.view is None:
        return row
    drawn, place = pictures(exhibit.view)
    names = {"image": "image", "reference": "reference"}
    row["pictures"] = [
        (
            names.get(key, key.removeprefix("model ")),
            address,
            exhibit.captions.get(key.removeprefix("model "), "") if key not in names else "",
        )
        for key, address in drawn.items()
    ]
    return row | {"place": place, "note": exhibit.view.note}
