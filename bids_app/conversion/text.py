"""The summary for people: ``README.md`` of the nnU-Net dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
_SHOWN = 20


def readme(
    name: str, rows: Sequence[Row], left: Sequence[Row], folds: int, command: str, version: str
) -> str:
    """Write what is in the dataset, what is not, and what to do next, as Markdown.

    Parameters
    ----------
    name : str
        ``Dataset501_CordLesion``.
    rows : sequence of mapping
        Of ``cases.tsv``.
    left : sequence of mapping
        Of ``excluded.tsv``.
    folds : int
    command, version : str
    """
    number = name.removeprefix("Dataset").partition("_")[0]
    lines = [
        f"# {name}",
        "",
        f"Made by CordLesion {version}:",
        "",
        f"    {command}",
        "",
        "| dataset | contrast | site | train: subjects | cases | test: subjects | cases "
        "| cases without lesion | lesions |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *_counts(rows),
        "",
        f"Folds: {folds}, by subject; cases for validation in each: {_folds(rows)}.",
        f"Cord from the model in the box, not from a mask: {_count(rows, 'cord_source', 'box')} of "
        f"{len(rows)} cases.",
        f"Second contrast aligned by its header only: {_count(rows, 'registration', 'headers')}.",
        "",
        f"Not in the dataset: {len(left)}{' (see excluded.tsv)' if left else ''}.",
        *_left(left),
        "",
        "Images are stored right-anterior-superior (LPI in the Spinal Cord Toolbox's letters). "
        "Labels: 0 background, 1 cord, 2 lesion; nnU-Net trains the regions cord (1 and 2) and "
        "lesion (2). `cases.tsv` says what each case was made from.",
        "",
        "nnU-Net reads `splits_final.json` from its preprocessed folder; `cordlesion train` puts "
        "it there. By hand:",
        "",
        f"    nnUNetv2_plan_and_preprocess -d {number} --verify_dataset_integrity",
        f"    cp splits_final.json $nnUNet_preprocessed/{name}/",
        "",
    ]
    return "\n".join(lines)


def _counts(rows: Sequence[Row]) -> list[str]:
    def of(row: Row) -> tuple[str, str, str]:
        return row["dataset"], row["contrast"], row["site"]

    lines = []
    for kind in dict.fromkeys(map(of, rows)):
        mine = [row for row in rows if of(row) == kind]
        cells = [*kind]
        for split in ("train", "test"):
            some = [row for row in mine if row["split"] == split]
            cells += [str(len({row["participant_id"] for row in some})), str(len(some))]
        cells.append(str(sum(row["lesion_count"] == 0 for row in mine)))
        cells.append(str(sum(row["lesion_count"] for row in mine)))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _folds(rows: Sequence[Row]) -> str:
    counts = Counter(row["fold"] for row in rows if row["fold"] is not None)
    return ", ".join(str(counts[fold]) for fold in sorted(counts))


def _count(rows: Sequence[Row], column: str, value: str) -> int:
    return sum(row[column] == value for row in rows)


def _left(left: Sequence[Row]) -> list[str]:
    lines = [
        f"- {one['dataset']}, {one['name']} ({one['kind']}): {one['reason']}"
        for one in left[:_SHOWN]
    ]
    return lines + ([f"- and {len(left) - _SHOWN} more"] if len(left) > _SHOWN else [])
