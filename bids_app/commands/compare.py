"""``cordlesion compare``: scores of several models in, one matrix, tests and a page out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from bids_app import __version__
from bids_app.commands.compare_arguments import CompareOptions
from bids_app.commands.compare_gallery import gallery
from bids_app.commands.compare_matrix import Entry, Test, matrix, paired_tests, plain_rows
from bids_app.commands.compare_scores import (
    Cell,
    Scores,
    check_alike,
    plan_cells,
    scores_of,
    split_by,
)
from bids_app.commands.compare_text import MATRIX, TESTS, notes, terminal_table, title, verdicts
from bids_app.errors import NoUsableData, UsageError
from bids_app.evaluation.compare import direction
from bids_app.files import plain, write_json, write_text, write_tsv


def compare(options: CompareOptions) -> int:
    """Compare models on test sets, write everything to OUT_DIR, print the first metric.

    Parameters
    ----------
    options : CompareOptions

    Returns
    -------
    int
        0, or 1 when a label could not be used.

    Raises
    ------
    NoUsableData
        No model has a score on any test set.
    """
    cells = plan_cells(options)
    try:
        options.out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"OUT_DIR {options.out_dir} cannot be made: {error.strerror}.") from error
    console = Console(highlight=False)
    every, absent, usable = _score(cells, options, Console(stderr=True, highlight=False))
    check_alike(every)
    if options.by:
        every = split_by(every, options.by)
    entries, tests = matrix(every, options), paired_tests(every, options)
    if not entries:
        raise NoUsableData(
            "No scan has a usable prediction: see the status column of OUT_DIR/scores/*/*/"
            "scans.tsv, or give --missing empty."
        )
    said = [*absent, *notes(every, entries, tests, options)]
    _write(options, every, entries, tests, said)
    console.print(terminal_table(entries, options))
    for line in [*verdicts(tests, options), *said]:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"Wrote {options.out_dir}/compare.html", markup=False, soft_wrap=True)
    return 0 if usable else 1


def _score(
    cells: Sequence[Cell], options: CompareOptions, console: Console
) -> tuple[list[Scores], list[str], bool]:
    """Score every cell; one without any pair is left empty, and said."""
    every: list[Scores] = []
    absent: list[str] = []
    usable = True
    for cell in cells:
        console.print(f"{cell.model} on {cell.test_set}", markup=False)
        try:
            scores, whole = scores_of(cell, options)
        except NoUsableData as error:
            absent.append(f"{cell.model} has no score on {cell.test_set}. {error}")
            continue
        every.append(scores)
        usable = usable and whole
    if not every:
        raise NoUsableData(" ".join(absent))
    return every, absent, usable


def _write(
    options: CompareOptions,
    every: Sequence[Scores],
    entries: Sequence[Entry],
    tests: Sequence[Test],
    said: Sequence[str],
) -> None:
    from bids_app.reports.comparison import comparison_page

    document = _document(options, every, entries, tests, said)
    for name, columns in (("matrix", MATRIX), ("tests", TESTS)):
        write_tsv(options.out_dir / f"{name}.tsv", list(columns), document[name])
        write_json(options.out_dir / f"{name}.json", columns)
    write_json(options.out_dir / "summary.json", document)
    # The page shows what the JSON holds: None where a number is not defined.
    page = comparison_page(plain(document), gallery(every, options), title, direction)
    write_text(options.out_dir / "compare.html", page)


def _document(
    options: CompareOptions,
    every: Sequence[Scores],
    entries: Sequence[Entry],
    tests: Sequence[Test],
    said: Sequence[str],
) -> dict[str, Any]:
    return {
        "models": [name for name in options.models if any(s.model == name for s in every)],
        "test_sets": list(dict.fromkeys(scores.test_set for scores in every)),
        "metrics": list(options.metrics),
        "verdicts": verdicts(tests, options),
        "notes": list(said),
        "matrix": plain_rows(entries),
        "tests": plain_rows(tests),
        "scans": _scans(every, options),
        "settings": {
            "against": options.against,
            "correction": options.correction,
            "missing": "empty" if options.missing_as_empty else "leave-out",
            "trained_on": dict(options.trained_on or {}),
            "by": options.by,
            "threshold": every[0].threshold,
            "folders": {
                scores.test_set: {
                    other.model: {
                        "references": other.settings["reference_dir"],
                        "predictions": other.settings["prediction_dir"],
                    }
                    for other in every
                    if other.test_set == scores.test_set
                }
                for scores in every
            },
            "software_version": __version__,
        },
    }


def _scans(every: Sequence[Scores], options: CompareOptions) -> list[dict[str, Any]]:
    """Give each scan's values by model, for the plots of pairs."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    measured = [metric for metric in options.metrics if metric != "froc"]
    for scores in every:
        for name, scan in scores.scans.items():
            row = rows.setdefault(
                (scores.test_set, name),
                {"test_set": scores.test_set, "scan": name, "subject": scan.subject, "models": {}},
            )
            values = {metric: scan.value(metric) for metric in measured}
            row["models"][scores.model] = {
                "status": scan.status,
                **{metric: v if math.isfinite(v) else None for metric, v in values.items()},
            }
    return list(rows.values())
