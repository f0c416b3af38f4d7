"""Read the split of an earlier conversion, a table, or nnU-Net's own split file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_app.commands.convert_plan import CasePlan
from bids_app.conversion.splits import TEST, TRAIN, Key, Place
from bids_app.documents import parse_json
from bids_app.errors import UsageError

_BY_CHOICE = {"dataset", "contrast"}


def read_places(path: Path, cases: Sequence[CasePlan]) -> dict[Key, Place]:
    """Read where subjects went, or shall go.

    Parameters
    ----------
    path : Path
        ``cases.tsv`` of a conversion; a table with the columns ``participant_id`` and ``split``
        (``train`` or ``test``) and, if wanted, ``dataset`` and ``fold``; or nnU-Net's
        ``splits_final.json``. Of the datasets that a ``splits_final.json`` names, subjects that it
        does not name are for testing, for that is where an earlier conversion would have put them.
    cases : sequence of CasePlan

    Returns
    -------
    dict
        By dataset and subject.

    Raises
    ------
    UsageError
        Neither format, or one subject is in two places.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as text in UTF-8.") from error
    if path.suffix == ".json":
        return _from_json(path, text, cases)
    return _from_table(path, text, cases)


def _from_json(path: Path, text: str, cases: Sequence[CasePlan]) -> dict[Key, Place]:
    known = {case.identifier: (case.dataset, case.subject) for case in cases}
    places: dict[Key, Place] = {}
    try:
        folds = parse_json(text)
        for number, fold in enumerate(folds):
            for identifier in fold["val"]:
                if identifier in known:
                    _put(path, places, known[identifier], Place(TRAIN, number))
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f'{path} is no splits_final.json: it must be [{{"train": [...], "val": [...]}}, ...].'
        ) from error
    named = {dataset for dataset, _ in places}
    for key in known.values():
        if key[0] in named:
            places.setdefault(key, Place(TEST))
    return places


def _from_table(path: Path, text: str, cases: Sequence[CasePlan]) -> dict[Key, Place]:
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    columns = set(rows[0]) if rows else set()
    datasets = list(dict.fromkeys(case.dataset for case in cases))
    if not {"participant_id", "split"} <= columns:
        raise UsageError(f"{path} needs the columns participant_id and split (train or test).")
    if "dataset" not in columns and len(datasets) > 1:
        raise UsageError(f"{path} needs a column dataset: there are {', '.join(datasets)}.")
    places: dict[Key, Place] = {}
    for row in rows:
        # What was held out by an option is decided by that option again.
        if row.get("held_out") in _BY_CHOICE:
            continue
        key = row.get("dataset") or datasets[0], f"sub-{row['participant_id'].removeprefix('sub-')}"
        _put(path, places, key, _place(path, row))
    return places


def _place(path: Path, row: Mapping[str, Any]) -> Place:
    fold = str(row.get("fold") or "n/a")
    if row["split"] == TEST:
        return Place(TEST)
    if row["split"] != TRAIN or not (fold == "n/a" or fold.isdecimal()):
        raise UsageError(
            f"{path}: {row['participant_id']} has split {row['split']!r} and fold {fold!r}; write "
            "train or test, and a fold from 0, or n/a."
        )
    return Place(TRAIN, None if fold == "n/a" else int(fold))


def _put(path: Path, places: dict[Key, Place], key: Key, place: Place) -> None:
    if places.setdefault(key, place) != place:
        raise UsageError(
            f"{path} puts {key[1]} of {key[0]} in two places; all its cases must go together."
        )
