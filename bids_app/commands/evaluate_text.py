"""Tell an evaluation's summary to people: the terminal's table and ``summary.md``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

_SHOWN = 5
_UNITS = {"_mm3": " (mm³)", "_mm": " (mm)", "_percent": " (%)"}
_WORDS = {
    "dice": "Dice",
    "nsd": "NSD, 1 mm",
    "hd95": "HD95",
    "f1": "F1",
    "froc": "FROC",
    "ece": "ECE",
}
_RULES = {
    "iou": "IoU of 0.2",
    "overlap": "any overlap",
    "covered": "10 % covered",
}

Line = tuple[str, float, tuple[float, float], int | None]
"""Name, value, interval, number of values."""


def terminal_table(summary: Mapping[str, Any]) -> Table:
    """Lay the main numbers out as a table."""
    n = summary["n"]
    table = Table(
        box=box.SIMPLE,
        title=f"{count(n['scans'], 'scan')} of {count(n['subjects'], 'subject')}, "
        f"{count(n['reference_lesions'], 'reference lesion')}, "
        f"{n['predicted_lesions']} predicted",
    )
    for name in ("", "mean", "95 % interval", "n"):
        table.add_column(name, justify="left" if not name else "right")
    for title, lines in _sections(summary):
        table.add_row(f"[bold]{title}[/bold]")
        for name, value, interval, number in lines:
            table.add_row(f"  {name}", _number(value), _interval(interval), str(number or ""))
    return table


def markdown(summary: Mapping[str, Any]) -> str:
    """Write the whole summary as Markdown."""
    n = summary["n"]
    parts = [
        "# Evaluation",
        "",
        f"Predictions: `{summary['settings']['prediction_dir']}`  ",
        f"References: `{summary['settings']['reference_dir']}`",
        "",
        f"{count(n['scans'], 'scan')} of {count(n['subjects'], 'subject')}, "
        f"{count(n['reference_lesions'], 'reference lesion')}, "
        f"{n['predicted_lesions']} predicted. Intervals are bootstrap intervals by subject; what "
        "the measures mean, and what empty masks give, is in docs/evaluation.md.",
        "",
    ]
    parts += [f"- {note}" for note in notes(summary)]
    for title, lines in _sections(summary):
        parts += [
            "",
            f"## {title}",
            "",
            "| | mean | 95 % interval | n |",
            "| --- | --- | --- | --- |",
        ]
        parts += [
            f"| {name} | {_number(value)} | {_interval(interval)} | {number or ''} |"
            for name, value, interval, number in lines
        ]
    parts += [line for key, groups in summary["by"].items() for line in _groups(key, groups)]
    parts += ["", "## Plots", ""]
    parts += [
        f"![{title}]({name}.png)"
        for name, title in (
            ("froc", "FROC"),
            ("reliability", "Calibration"),
            ("volume_agreement", "Lesion volume, Bland-Altman"),
            ("sensitivity_by_size", "Sensitivity by lesion size"),
        )
    ]
    return "\n".join(parts) + "\n"


def notes(summary: Mapping[str, Any]) -> list[str]:
    """Say what a reader of the numbers has to know: one sentence each."""
    found = []
    status = summary["status"]
    if status["missing"]:
        found.append(f"No prediction for {some(status['missing'])}: scored as an empty prediction.")
    if status["unusable"]:
        found.append(
            f"The prediction cannot be used for {some(status['unusable'])}: scored as an empty "
            "prediction."
        )
    if status["failed"]:
        found.append(f"The reference cannot be used for {some(status['failed'])}: not scored.")
    found += [f"{name}: {error}" for name, error in list(summary["errors"].items())[:_SHOWN]]
    if summary["predictions_without_reference"]:
        names = some(summary["predictions_without_reference"])
        found.append(f"Predictions without a reference, left out: {names}.")
    if summary["left_out"]:
        named = [f"{one['path']} ({one['reason']})" for one in summary["left_out"]]
        found.append(f"Further labels, left out: {some(named)}.")
    without = summary["probabilities"].get("none", 0)
    if without:
        found.append(
            f"No probabilities beside {count(without, 'prediction')}: all their lesions count "
            "with 1."
        )
    mean = summary["probabilities"].get("mean_probability", 0)
    if mean:
        found.append(
            f"A lesion's probability is the mean_probability of its table in "
            f"{count(mean, 'prediction')}."
        )
    pieces = summary["one_label_in_pieces"]
    if pieces:
        found.append(
            f"{count(pieces, 'scan')} with a label map of one value in several pieces, taken as "
            "one lesion: if it is a mask, give --connectivity 6."
        )
    return found


def _sections(summary: Mapping[str, Any]) -> Iterator[tuple[str, list[Line]]]:
    challenge = summary["challenge"]
    p = challenge["probability_threshold"]
    yield (
        f"Challenge metrics (IoU 0.2, p >= {p:g})",
        [
            (name, challenge[key], tuple(challenge["ci95"][key]), None)
            for key, name in (
                ("froc", "FROC (all p)"),
                ("sensitivity", "sensitivity"),
                ("precision", "precision"),
                ("f1", "F1"),
                ("fp_per_image", "false positives an image"),
            )
        ],
    )
    yield "Masks and volumes", [_line(say(k), v) for k, v in summary["agreement"].items()]
    for rule, rates in summary["lesions"].items():
        lines = [_line(say(name), one) for name, one in rates.items()]
        yield f"Lesions found by {_RULES[rule]}, all p", lines
    yield "ANIMA's measures", [_line(say(k), v) for k, v in summary["anima"].items()]
    calibration = summary["calibration"]
    yield (
        "Calibration",
        [
            (
                say(name),
                calibration[name],
                tuple(calibration["ci95"][name]),
                calibration["n"],
            )
            for name in ("ece", "brier")
        ],
    )


def _groups(key: str, groups: Mapping[str, Any]) -> list[str]:
    """Write one group's table: challenge and Dice for scans, rates for lesions."""
    if key in {"lesion_size", "level"}:
        head = ["reference lesions", "sensitivity", "predicted lesions", "precision"]
        rows = [[name, *_lesion_row(one)] for name, one in groups.items()]
    else:
        head = ["scans", "FROC", "sensitivity", "precision", "F1", "FP an image", "Dice"]
        rows = [[name, *_group_row(one)] for name, one in groups.items()]
    lines = ["", f"## By {key.replace('_', ' ')}", ""]
    lines.append("| | " + " | ".join(head) + " |")
    lines.append("| --- " * (len(head) + 1) + "|")
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _lesion_row(one: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(one["reference_lesions"]),
        _with_interval(one["sensitivity"]["mean"], one["sensitivity"]["ci95"]),
        str(one["predicted_lesions"]),
        _with_interval(one["precision"]["mean"], one["precision"]["ci95"]),
    )


def _group_row(one: Mapping[str, Any]) -> tuple[str, ...]:
    challenge, dice = one["challenge"], one["agreement"]["dice"]
    keys = ("froc", "sensitivity", "precision", "f1", "fp_per_image")
    return (
        str(one["n"]["scans"]),
        *(_with_interval(challenge[key], challenge["ci95"][key]) for key in keys),
        _with_interval(dice["mean"], dice["ci95"]),
    )


def _line(name: str, one: Mapping[str, Any]) -> Line:
    return name, one["mean"], (one["ci95"][0], one["ci95"][1]), one["n"]


def say(name: str) -> str:
    """Write a measure's name as people do: ``hd95_mm`` is HD95 (mm)."""
    unit = next((end for end in _UNITS if name.endswith(end)), "")
    bare = name.removesuffix(unit)
    return _WORDS.get(bare, bare.replace("_", " ")) + _UNITS.get(unit, "")


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def _interval(interval: Any) -> str:
    low, high = interval
    return "" if math.isnan(low) else f"{_number(low)} to {_number(high)}"


def _with_interval(value: float, interval: Any) -> str:
    text = _interval(interval)
    return _number(value) + (f" ({text})" if text else "")


def some(names: Sequence[str]) -> str:
    """Name the first few of many."""
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def count(number: int, what: str) -> str:
    """Write a number with its noun: 1 scan, 2 scans."""
    return f"{number} {what}" + ("" if number == 1 else "s")
