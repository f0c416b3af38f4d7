"""Interactive plots for a page that holds the plotting library once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Okabe & Ito (2008): told apart by colour-blind readers.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")


def plot(traces: Sequence[Any], x: str, y: str, **layout: Any) -> str:
    """Draw traces into a block of HTML; the library itself is on the page once.

    Parameters
    ----------
    traces : sequence
        Of plotly.
    x, y : str
        Titles of the axes.
    **layout
        What else the layout has.
    """
    import plotly.graph_objects as go

    figure = go.Figure(list(traces))
    usual = {
        "template": "plotly_white",
        "height": 380,
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "xaxis_title": x,
        "yaxis_title": y,
        "legend": {"orientation": "h", "y": 1.12},
    }
    figure.update_layout(**(usual | layout))
    config = {"displaylogo": False, "responsive": True}
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=config))


def choice(
    groups: Mapping[str, Sequence[Any]],
    x: str,
    y: str,
    axes: Mapping[str, tuple[str, str]] | None = None,
    **layout: Any,
) -> str:
    """Draw one group of traces at a time, with a menu to choose which.

    Parameters
    ----------
    groups : mapping of str to sequence
        Traces by what the menu calls them; the first group is shown at the start.
    x, y : str
        Titles of the axes.
    axes : mapping of str to (str, str), optional
        Titles of the axes of each group, where they are not the same.
    **layout
        What else the layout has.
    """
    names = [name for name, traces in groups.items() for _ in traces]
    traces = [trace for group in groups.values() for trace in group]
    for trace, name in zip(traces, names, strict=True):
        trace.visible = name == names[0]
    titles = axes or dict.fromkeys(groups, (x, y))
    buttons = [
        {
            "label": name,
            "method": "update",
            "args": [
                {"visible": [n == name for n in names]},
                {"xaxis.title.text": titles[name][0], "yaxis.title.text": titles[name][1]},
            ],
        }
        for name in groups
    ]
    x, y = titles[names[0]] if names else (x, y)
    menu = {"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}
    more = {"updatemenus": [menu]} if len(groups) > 1 else {}
    margin = {"l": 60, "r": 20, "t": 60 if more else 20, "b": 50}
    legend = {"orientation": "h", "y": -0.2, "yanchor": "top"}
    return plot(traces, x, y, **({"margin": margin, "legend": legend} | more | layout))
