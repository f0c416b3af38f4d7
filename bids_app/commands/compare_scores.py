"""The scores of each model on each test set: read where `evaluate` wrote them, else computed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bids_app import __version__
from bids_app.commands.compare_arguments import COLUMNS, CompareOptions, Source
from bids_app.commands.evaluate import score_folders
from bids_app.commands.evaluate_arguments import GROUPS, EvaluateOptions
from bids_app.dataset.labels import find_lesion_labels
from bids_app.dataset.tsv import read_tsv
from bids_app.documents import parse_json
from bids_app.errors import NoUsableData, UsageError
from bids_app.evaluation.metrics import Scored
from bids_app.files import write_json

_KEY = "inputs.json"
_TEXTS = {"scan", "status", "error", "reference", "prediction", "probability_source"}
# Two programs may round a volume differently; two references do not differ by this little.
_SAME_VOLUME = 1e-6


@dataclass(frozen=True)
class ScanRow:
    """What an evaluation says of one scan.

    Attributes
    ----------
    name, subject, status : str
    measures : mapping of str to float
        By column of ``scans.tsv``; what is n/a is left out.
    scored : Scored
        What FROC needs.
    groups : mapping of str to str
    reference, prediction : Path or None
    """

    name: str
    subject: str
    status: str
    measures: Mapping[str, float]
    scored: Scored
    groups: Mapping[str, str]
    reference: Path | None
    prediction: Path | None

    def value(self, metric: str) -> float:
        """Give a metric's value; NaN where it is undefined."""
        return self.measures.get(COLUMNS.get(metric, metric), math.nan)


@dataclass(frozen=True)
class Scores:
    """One model on one test set: its scans by name, and how they were scored."""

    model: str
    test_set: str
    scans: Mapping[str, ScanRow]
    settings: Mapping[str, Any]
    threshold: float


@dataclass(frozen=True)
class Cell:
    """One model on one test set, before it is scored.

    Attributes
    ----------
    model, test_set : str
    path : Path
    references : Path or None
        None for what is scored already.
    """

    model: str
    test_set: str
    path: Path
    references: Path | None


def is_evaluation(folder: Path) -> bool:
    """Tell whether ``cordlesion evaluate`` wrote a folder."""
    return all((folder / name).is_file() for name in ("scans.tsv", "lesions.tsv", "summary.json"))


def plan_cells(options: CompareOptions) -> list[Cell]:
    """Decide which folder is scored for which test set.

    Raises
    ------
    UsageError
        Predictions without references, or one model twice on a test set.
    """
    cells: dict[tuple[str, str], Cell] = {}
    for source in options.sources:
        for cell in _cells_of(source, options):
            known = cells.setdefault((cell.model, cell.test_set), cell)
            if known is not cell:
                raise UsageError(
                    f"{cell.model} has two folders for {cell.test_set}: {known.path} and "
                    f"{cell.path}. Name the test sets, as in {cell.model}:TEST_SET=DIR."
                )
    return list(cells.values())


def _cells_of(source: Source, options: CompareOptions) -> Iterator[Cell]:
    if source.test_set is not None:
        yield _cell(source.model, source.test_set, source.path, options)
        return
    if is_evaluation(source.path):
        yield Cell(source.model, _name_of(source.path, options), source.path, None)
        return
    own = [name for name in options.test_sets if (source.path / name).is_dir()]
    for name in own or options.test_sets:
        yield _cell(source.model, name, source.path / name if own else source.path, options)
    if not options.test_sets:
        raise UsageError(
            f"--model {source.model}: {source.path} holds no output of `cordlesion evaluate`, so "
            "its references are needed: give --test-set NAME=REFERENCE_DIR."
        )


def _cell(model: str, test_set: str, path: Path, options: CompareOptions) -> Cell:
    if is_evaluation(path):
        return Cell(model, test_set, path, None)
    if test_set not in options.test_sets:
        raise UsageError(
            f"--model {model}:{test_set}: {path} holds no output of `cordlesion evaluate`, so its "
            f"references are needed: give --test-set {test_set}=REFERENCE_DIR."
        )
    return Cell(model, test_set, path, options.test_sets[test_set])


def _name_of(path: Path, options: CompareOptions) -> str:
    """Name the test set of an evaluation: by its references, or the only one there is."""
    references = Path(str(_summary(path)["settings"]["reference_dir"]))
    for name, folder in options.test_sets.items():
        if folder.resolve() == references.resolve():
            return name
    if len(options.test_sets) == 1:
        return next(iter(options.test_sets))
    return references.name


def scores_of(cell: Cell, options: CompareOptions) -> tuple[Scores, bool]:
    """Give a cell's scores; predictions are scored unless they were, with the same files.

    Returns
    -------
    scores : Scores
    usable : bool
        False when a label could not be used.

    Raises
    ------
    NoUsableData
        No prediction belongs to a reference.
    UsageError
        An evaluation's files cannot be read.
    """
    folder = cell.path
    if cell.references is not None:
        folder = options.out_dir / "scores" / cell.model / cell.test_set
        key = _key(cell.path, cell.references, options)
        if not is_evaluation(folder) or _stored_key(folder) != key:
            (folder / _KEY).unlink(missing_ok=True)
            score_folders(_evaluate_options(cell.path, cell.references, folder, options))
            write_json(folder / _KEY, {"Key": key})
    scores = read_scores(cell.model, cell.test_set, folder)
    broken = any(row.status in {"unusable", "failed"} for row in scores.scans.values())
    return scores, not broken


def _evaluate_options(
    predictions: Path, references: Path, out: Path, options: CompareOptions
) -> EvaluateOptions:
    return EvaluateOptions(
        reference_dir=references,
        prediction_dir=predictions,
        out_dir=out,
        connectivity=options.connectivity,
        threshold=options.threshold,
        rater=options.rater,
        by=GROUPS,
        participants=None,
        n_cpus=options.n_cpus,
    )


def _key(predictions: Path, references: Path, options: CompareOptions) -> str:
    """Hash what an evaluation depends on: labels, what lies beside them, options, version."""
    settings = [options.connectivity, options.threshold, options.rater, __version__]
    settings += [str(predictions), str(references)]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for folder in (references, predictions):
        labels = {label.path for label in find_lesion_labels(folder)}
        beside = {
            path
            for place in {label.parent for label in labels}
            for pattern in ("*.csv", "*.tsv", "*.json", "*_seg-vertebrae_dseg.nii.gz")
            for path in place.glob(pattern)
        }
        tables = {p for p in (folder / "participants.tsv",) if p.is_file()}
        for path in sorted(labels | beside | tables):
            digest.update(f"{path}\n".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _stored_key(folder: Path) -> str | None:
    try:
        return str(parse_json((folder / _KEY).read_bytes())["Key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_scores(model: str, test_set: str, folder: Path) -> Scores:
    """Read what ``cordlesion evaluate`` wrote.

    Raises
    ------
    UsageError
        The folder is not complete, or of another program.
    NoUsableData
        Its table has no scan.
    """
    summary = _summary(folder)
    _, rows = read_tsv(folder / "scans.tsv")
    _, lesions = read_tsv(folder / "lesions.tsv")
    try:
        scored = _scored(lesions)
        settings = dict(summary["settings"])
        threshold = float(summary["challenge"]["probability_threshold"])
        scans = {row["scan"]: _scan_row(row, scored.get(row["scan"]), settings) for row in rows}
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(
            f"{folder} is not a complete output of `cordlesion evaluate` ({error}): evaluate again."
        ) from error
    if not scans:
        raise NoUsableData(f"{folder}/scans.tsv has no scan.")
    return Scores(model, test_set, scans, settings, threshold)


def _summary(folder: Path) -> dict[str, Any]:
    try:
        summary = parse_json((folder / "summary.json").read_bytes())
        summary["settings"]["reference_dir"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder}/summary.json is not what `cordlesion evaluate` writes: evaluate again."
        ) from error
    return dict(summary)


def _scored(lesions: Sequence[Mapping[str, str]]) -> dict[str, Scored]:
    found: dict[str, tuple[list[float], list[float]]] = {}
    for row in lesions:
        known, false = found.setdefault(row["scan"], ([], []))
        if row["kind"] == "reference":
            known.append(float(row.get("probability", -math.inf)))
        elif row["hit"] != "true":
            false.append(float(row["probability"]))
    return {scan: Scored(np.array(a), np.array(b)) for scan, (a, b) in found.items()}


def _scan_row(
    row: Mapping[str, str], scored: Scored | None, settings: Mapping[str, Any]
) -> ScanRow:
    numbers = {}
    for name, value in row.items():
        if name not in _TEXTS and not name.endswith("_id") and name not in GROUPS:
            numbers[name] = float(value)

    def place(side: str) -> Path | None:
        return Path(str(settings[f"{side}_dir"])) / row[side] if row.get(side) else None

    return ScanRow(
        name=row["scan"],
        subject=row.get("participant_id", row["scan"]),
        status=row["status"],
        measures=numbers,
        scored=scored or Scored(np.array([]), np.array([])),
        groups={key: row[key] for key in GROUPS if key in row},
        reference=place("reference"),
        prediction=place("prediction"),
    )


def check_alike(every: Sequence[Scores]) -> None:
    """Refuse scores that cannot be compared: other thresholds, other references.

    Raises
    ------
    UsageError
    """
    for test_set in dict.fromkeys(scores.test_set for scores in every):
        first, *others = [scores for scores in every if scores.test_set == test_set]
        for other in others:
            who = f"{first.model} and {other.model} on {test_set}"
            if first.threshold != other.threshold:
                raise UsageError(
                    f"{who} were scored at different thresholds ({first.threshold:g} and "
                    f"{other.threshold:g}): evaluate both with the same --threshold."
                )
            for name in sorted(first.scans.keys() & other.scans.keys()):
                _check_reference(who, first.scans[name], other.scans[name])


def _check_reference(who: str, one: ScanRow, other: ScanRow) -> None:
    if "failed" in (one.status, other.status):
        return
    for measure, unit in (("reference_lesions", "lesions"), ("reference_volume_mm3", "mm³")):
        a, b = one.measures[measure], other.measures[measure]
        if abs(a - b) > _SAME_VOLUME * max(a, b, 1):
            raise UsageError(
                f"{who} were scored against different references: {one.name} has {a:g} and {b:g} "
                f"{unit}. Evaluate both against the same labels, cut with the same --connectivity."
            )


def split_by(every: Sequence[Scores], column: str) -> list[Scores]:
    """Split each test set by a column of its scans, alike for all models.

    Where models differ (one was given fewer contrasts) the value that names most counts.
    """
    values: dict[tuple[str, str], str] = {}
    for scores in every:
        for name, row in scores.scans.items():
            here = row.groups.get(column, "n/a")
            known = values.get((scores.test_set, name), "n/a")
            more = (here != "n/a", here.count("+")) > (known != "n/a", known.count("+"))
            values[scores.test_set, name] = here if more else known
    result = []
    for scores in every:
        groups = sorted({values[scores.test_set, name] for name in scores.scans})
        for group in groups:
            scans = {
                name: row
                for name, row in scores.scans.items()
                if values[scores.test_set, name] == group
            }
            result.append(replace(scores, test_set=f"{scores.test_set}, {group}", scans=scans))
    return result
