"""The page about one session: facts and pictures in, HTML out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from bids_app.records import QUALITY_MEASURES
from bids_app.reports.methods import methods_paragraph
from bids_app.reports.page import render
from bids_app.reports.pictures import alignment, lesion_pictures, overview
from bids_app.reports.view import SessionView
from bids_app.reports.viewer import viewer_page

# What a lesion's card tells at once; the whole table is below it on the page.
_CARD_MEASURES = (
    ("volume_mm3", "Volume", "mm³"),
    ("length_mm", "Length", "mm"),
    ("max_axial_damage_ratio", "Largest share of the section", ""),
    ("level", "Level", ""),
    ("quadrant", "Part of the section", ""),
    ("surface_distance_mm", "To the surface", "mm"),
    ("probability", "Probability", ""),
    ("mean_probability", "Mean network output", ""),
)
# Told from the masks themselves, so that reports of older results say it too.
_SEEN_IN_VIEW = ("cord_pieces", "cord_gap_mm", "cord_edge_mm")
# Share of the cord from which a lesion mask is worth a second look.
_UNUSUAL_LOAD = 0.15


@dataclass(frozen=True)
class SessionFacts:
    """What is known about a session besides its images.

    Attributes
    ----------
    identifier : str
    about : mapping
        The sidecar of the lesion mask.
    columns : sequence of str
        Of the lesion table.
    lesions : sequence of mapping
        Its rows, cells as text.
    descriptions : mapping
        What the columns mean, as in the table's JSON file.
    """

    identifier: str
    about: Mapping[str, Any]
    columns: Sequence[str]
    lesions: Sequence[Mapping[str, str]]
    descriptions: Mapping[str, Any]


def session_page(facts: SessionFacts, view: SessionView) -> str:
    """Write the report of a session.

    Parameters
    ----------
    facts : SessionFacts
    view : SessionView

    Returns
    -------
    str
        One self-contained HTML page.
    """
    colors = _colors(facts.lesions)
    text, bibtex = methods_paragraph(facts.about)
    return render(
        "session.html.j2",
        title=facts.identifier,
        headline=headline(facts.about.get("Summary", {}), facts.lesions),
        contrasts=facts.about.get("Contrasts", {}),
        warnings=[*facts.about.get("Warnings", ()), *concerns(facts.about, view)],
        overview=overview(view, colors),
        alignment=alignment(view),
        registration=facts.about.get("Registration"),
        cards=[_card(row, view, colors) for row in facts.lesions],
        summary=facts.about.get("Summary", {}),
        columns=facts.columns,
        rows=facts.lesions,
        descriptions=facts.descriptions,
        viewer=viewer_page(view),
        quality=quality_rows(facts.about),
        about=facts.about,
        methods=text,
        bibtex=bibtex,
    )


def headline(summary: Mapping[str, Any], lesions: Sequence[Mapping[str, str]]) -> str:
    """Say in one sentence what was found.

    Examples
    --------
    >>> headline({"lesion_count": 0}, [])
    'No lesion was found.'
    >>> headline({"lesion_count": 1, "lesion_volume_mm3": 80.0, "cord_volume_mm3": 8000.0}, [{}])
    '1 lesion was found: 80 mm³, 1.0 % of the cord in view.'
    """
    count = int(summary.get("lesion_count", len(lesions)))
    if not count:
        sentence = "No lesion was found"
    else:
        volume = float(summary.get("lesion_volume_mm3") or 0)
        cord = float(summary.get("cord_volume_mm3") or 0)
        sentence = f"{count} lesion{'s were' if count > 1 else ' was'} found: {volume:.0f} mm³"
        sentence += f", {100 * volume / cord:.1f} % of the cord in view" if cord else ""
        levels = [row.get(key, "n/a") for row in lesions for key in ("level_from", "level_to")]
        named = [level for level in levels if level not in ("n/a", "")]
        if named:
            ends = sorted(set(named), key=_level_order)
            sentence += f", from {ends[0]} to {ends[-1]}" if len(ends) > 1 else f", at {ends[0]}"
    return f"{sentence}{_expectation(summary)}."


def _level_order(level: str) -> tuple[int, int]:
    number = level[1:]
    return "CTLS".find(level[:1]), int(number) if number.isdecimal() else 0


def _expectation(summary: Mapping[str, Any]) -> str:
    keys = ("expected_lesion_count", "expected_lesion_count_low", "expected_lesion_count_high")
    mean, low, high = (summary.get(key) for key in keys)
    if mean is None or low is None or high is None:
        return ""
    return (
        f". Allowing for missed and false ones, {mean:.1f} are expected "
        f"(95 % interval {low:.0f} to {high:.0f})"
    )


def concerns(about: Mapping[str, Any], view: SessionView) -> list[str]:
    """List what a person should look at, in plain words."""
    found = []
    contrasts = about.get("Contrasts", {})
    if not contrasts.get("second"):
        found.append(
            f"Only the {contrasts.get('reference', 'reference')} was there: lesions that show in a "
            "second contrast only are missed."
        )
    _, pieces = ndimage.label(view.cord, np.ones((3, 3, 3)))
    if pieces > 1:
        found.append(f"The cord is in {pieces} pieces: look for slices where it was missed.")
    sides = [view.cord[[0, -1]].any(), view.cord[:, [0, -1]].any()]
    if any(sides):
        found.append("The cord's mask touches the side of the image: it may be cut off there.")
    found += _measured_concerns(_quality(about))
    cord = float(view.cord.sum())
    if cord and float((view.instances > 0).sum()) / cord > _UNUSUAL_LOAD:
        found.append(
            f"More than {_UNUSUAL_LOAD:.0%} of the cord is marked as lesion, which is unusual: "
            "check that the contrast is what its name says."
        )
    return found


def _quality(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the quality measures of a sidecar; none where an older version wrote it."""
    quality = about.get("Quality")
    return quality if isinstance(quality, dict) else {}


def _measured_concerns(quality: Mapping[str, Any]) -> Iterator[str]:
    """Say which measures pass their limit, but for those that the view shows by itself."""
    for measure in QUALITY_MEASURES:
        value = quality.get(measure.name)
        if measure.name not in _SEEN_IN_VIEW and measure.concern and measure.beyond(value):
            sentence = measure.concern.format(value)
            yield f"{sentence[0].upper()}{sentence[1:]}."


def quality_rows(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lay out the quality measures that a session has."""
    quality = _quality(about)
    return [
        {
            "title": measure.title + (f" ({measure.unit})" if measure.unit else ""),
            "value": quality[measure.name],
            "beyond": measure.beyond(quality[measure.name]),
            "meaning": measure.description,
        }
        for measure in QUALITY_MEASURES
        if quality.get(measure.name) is not None
    ]


def _colors(lesions: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Colours by label from the table's hexadecimal ones."""
    highest = max((int(row["index"]) for row in lesions), default=0)
    colors = np.full((highest + 1, 3), 255, np.uint8)
    for row in lesions:
        color = row.get("color", "#E69F00").lstrip("#")
        colors[int(row["index"])] = [int(color[n : n + 2], 16) for n in (0, 2, 4)]
    return colors


def _card(row: Mapping[str, str], view: SessionView, colors: np.ndarray) -> dict[str, Any]:
    index = int(row["index"])
    measures = [
        (title, f"{row[key]} {unit}".strip())
        for key, title, unit in _CARD_MEASURES
        if row.get(key, "n/a") != "n/a"
    ]
    return {
        "name": row.get("name", f"lesion-{index}"),
        "color": row.get("color", "#E69F00"),
        "pictures": lesion_pictures(view, index, colors),
        "measures": measures,
    }
