"""The page about repeated scans: rows of repeatability in, HTML out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bids_app.reports.charts import COLORS, choice
from bids_app.reports.page import Markup, number, render

Row = Mapping[str, Any]

_VOLUME, _COUNT = "lesion_volume_mm3", "lesion_count"
_NAMES = {_VOLUME: "lesion volume (mm³)", _COUNT: "lesion count"}
_STATISTICS = {
    "mean": "mean",
    "cv_percent": "CV within subjects (%)",
    "cv_median_percent": "median CV (%)",
    "within_subject_sd": "SD within subjects",
    "repeatability_coefficient": "repeatability coefficient",
    "icc_agreement": "ICC, absolute agreement",
    "icc_consistency": "ICC, consistency",
    "icc_one_way": "ICC, one-way",
    "bias": "bias",
    "limit_low": "lower limit of agreement",
    "limit_high": "upper limit of agreement",
    "bias_percent": "bias (%)",
    "limit_low_percent": "lower limit (%)",
    "limit_high_percent": "upper limit (%)",
    "equal": "share with equal counts",
    "within_one": "share within one",
    "presence": "share that agree on any lesion",
    "mean_range": "mean of largest - smallest",
}


def repeat_page(document: Mapping[str, Any]) -> str:
    """Write the page of repeated scans.

    Parameters
    ----------
    document : mapping
        What ``summary.json`` of ``compare --repeat`` holds.

    Returns
    -------
    str
        One self-contained HTML page; plots are interactive without a network.
    """
    from plotly.offline import get_plotlyjs

    return render(
        "repeat.html.j2",
        title="Repeated scans",
        document=document,
        headline=[headline(document, model) for model in document["models"]],
        tables={name: _table(document, measure) for measure, name in _NAMES.items()},
        figures=[(head, caption, Markup(drawn)) for head, caption, drawn in _figures(document)],
        plotly=Markup(get_plotlyjs()),
    )


def headline(document: Mapping[str, Any], model: str) -> str:
    """Say in one sentence how well a model repeats."""
    found = {
        (row["measure"], row["statistic"]): row
        for row in document["repeatability"]
        if row["model"] == model
    }
    if not found:
        return f"{model}: nothing was scanned twice."
    variation, agreement = found[_VOLUME, "cv_percent"], found[_VOLUME, "icc_agreement"]
    equal = found[_COUNT, "equal"]
    parts = [
        f"lesion volume CV {_said(variation)} %" if variation["value"] is not None else "",
        f"ICC {_said(agreement)}" if agreement["value"] is not None else "",
        f"the same number of lesions in {equal['value'] * equal['n']:.0f} of {equal['n']}",
    ]
    return f"{model}: {', '.join(part for part in parts if part)}."


def _said(row: Row) -> str:
    if row["ci95_low"] is None:
        return number(row["value"])
    return f"{number(row['value'])} ({number(row['ci95_low'])} to {number(row['ci95_high'])})"


def _table(document: Mapping[str, Any], measure: str) -> list[tuple[str, list[str]]]:
    rows = [row for row in document["repeatability"] if row["measure"] == measure]
    found = {(row["model"], row["statistic"]): row for row in rows}
    result = []
    for statistic in dict.fromkeys(row["statistic"] for row in rows):
        cells = [found.get((model, statistic)) for model in document["models"]]
        result.append((_say(statistic), [_said(cell) if cell else "none" for cell in cells]))
    return result


def _say(statistic: str) -> str:
    """Name a statistic; ``bias_3_1`` is the third scan against the first.

    Examples
    --------
    >>> _say("limit_low_percent_3_1")
    'lower limit (%), scan 3 against 1'
    """
    bare, _, later = statistic.removesuffix("_1").rpartition("_")
    if statistic.endswith("_1") and later.isdecimal():
        return f"{_STATISTICS[bare]}, scan {later} against 1"
    return _STATISTICS[statistic]


def _figures(document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    units = _units(document)
    found = []
    for measure, name in _NAMES.items():
        groups = {
            model: traces
            for model in document["models"]
            if (traces := _bland_altman(document, units, model, measure))
        }
        percent = {
            f"{model}, in percent": traces
            for model in document["models"]
            if measure == _VOLUME and (traces := _bland_altman(document, units, model, measure, 1))
        }
        axes = dict.fromkeys(groups, (f"mean {name}", f"difference, {name}"))
        axes |= dict.fromkeys(percent, (f"mean {name}", "difference (% of the mean)"))
        figure = choice(groups | percent, "", "", axes, height=440)
        caption = (
            "Difference of a later scan from the first against the mean of the two. Lines: bias "
            "and limits of agreement (bias ± 1.96 SD); bands: their 95 % intervals."
        )
        found.append((f"Bland-Altman, {name}", caption, figure))
    found.append(
        (
            "Scan by scan",
            "Lesion volume of the repeats of each subject.",
            choice(
                {model: _lines(units, model) for model in document["models"]},
                "scan",
                _NAMES[_VOLUME],
                height=440,
                xaxis_dtick=1,
                showlegend=False,
            ),
        )
    )
    return found


def _units(document: Mapping[str, Any]) -> dict[tuple[str, str], list[Row]]:
    units: dict[tuple[str, str], list[Row]] = {}
    for row in document["scans"]:
        units.setdefault((row["model"], row["unit"]), []).append(row)
    return units


def _bland_altman(
    document: Mapping[str, Any],
    units: Mapping[tuple[str, str], Sequence[Row]],
    model: str,
    measure: str,
    percent: int = 0,
) -> list[Any]:
    import plotly.graph_objects as go

    own = {unit: rows for (name, unit), rows in units.items() if name == model}
    if not own:
        return []
    repeats = len(next(iter(own.values())))
    found = {
        row["statistic"]: row
        for row in document["repeatability"]
        if (row["model"], row["measure"]) == (model, measure)
    }
    end = "_percent" if percent else ""
    widest = max(row[measure] for rows in own.values() for row in rows) or 1.0
    traces: list[Any] = []
    for later in range(1, repeats):
        points = []
        for unit, rows in own.items():
            first, second = rows[0][measure], rows[later][measure]
            mean = (first + second) / 2
            if not percent or mean:
                points.append((mean, (second - first) / (mean / 100 if percent else 1), unit))
        color = COLORS[(later - 1) % len(COLORS)]
        traces.append(
            go.Scatter(
                x=[point[0] for point in points], y=[point[1] for point in points],
                text=[point[2] for point in points], mode="markers",
                name=f"scan {later + 1} - scan 1",
                marker={"color": color, "size": 9, "opacity": 0.75},
            )
        )  # fmt: skip
        which = f"_{later + 1}_1" if repeats > 2 else ""
        for name in ("bias", "limit_low", "limit_high"):
            traces += _line(found[f"{name}{end}{which}"], name, widest, color)
    return traces


def _line(row: Row, name: str, widest: float, color: str) -> list[Any]:
    """Draw a horizontal line with the band of its interval."""
    import plotly.graph_objects as go

    if row["value"] is None:
        return []
    traces = [
        go.Scatter(
            x=[0, widest], y=[row["value"]] * 2, mode="lines", showlegend=False,
            line={"color": color, "width": 1.5, "dash": "solid" if name == "bias" else "dash"},
            hovertemplate=f"{_STATISTICS[name]} {_said(row)}<extra></extra>",
        )
    ]  # fmt: skip
    if row["ci95_low"] is not None:
        low, high = row["ci95_low"], row["ci95_high"]
        traces.append(
            go.Scatter(
                x=[0, widest, widest, 0], y=[low, low, high, high], fill="toself", mode="none",
                fillcolor=color, opacity=0.12, showlegend=False, hoverinfo="skip",
            )
        )  # fmt: skip
    return traces


def _lines(units: Mapping[tuple[str, str], Sequence[Row]], model: str) -> list[Any]:
    import plotly.graph_objects as go

    return [
        go.Scatter(
            x=[row["repeat"] for row in rows],
            y=[row[_VOLUME] for row in rows],
            text=[f"{row['scan']}, {row[_COUNT]:.0f} lesions" for row in rows],
            mode="lines+markers",
            name=unit,
            line={"color": COLORS[0], "width": 1},
            opacity=0.6,
        )
        for (name, unit), rows in units.items()
        if name == model
    ]
