"""A raw nnU-Net v2 dataset: its cases, splits and table; and the part of it for one model."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bids_app.documents import parse_json
from bids_app.errors import UsageError
from bids_app.training.run import EVERY_CASE

_NAME = re.compile(r"Dataset\d{3}_\w+")
_SHOWN = 5

Split = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class TrainingCase:
    """The files of a case, one image a channel."""

    images: tuple[Path, ...]
    label: Path


@dataclass(frozen=True)
class RawDataset:
    """A raw dataset, or a part of one.

    Attributes
    ----------
    name : str
        ``DatasetXXX_Name``.
    folder : Path
    document : dict
        Content of ``dataset.json``.
    cases : mapping of str to TrainingCase
        Those to train with, by name.
    splits : tuple of mapping, or None
        Of ``splits_final.json``: each fold's ``train`` and ``val``.
    table : mapping
        Rows of ``cases.tsv`` by case, test cases included; empty without the file.
    """

    name: str
    folder: Path
    document: dict[str, Any]
    cases: Mapping[str, TrainingCase]
    splits: tuple[Split, ...] | None
    table: Mapping[str, Mapping[str, str]]

    def part(self, dataset: str) -> RawDataset:
        """Keep the cases of which ``cases.tsv`` says that they are of this dataset."""
        kept = {name: case for name, case in self.cases.items() if self._source(name) == dataset}
        splits = self.splits and tuple(
            {side: [name for name in names if name in kept] for side, names in split.items()}
            for split in self.splits
        )
        return replace(self, cases=kept, splits=splits)

    @property
    def sources(self) -> tuple[str, ...]:
        """List what ``cases.tsv`` calls the datasets of the training cases, sorted."""
        return tuple(sorted({self._source(name) for name in self.cases} - {""}))

    def _source(self, case: str) -> str:
        return self.table.get(case, {}).get("dataset", "")


def read_raw(folder: Path) -> RawDataset:
    """Read what a raw dataset says of itself; images are not opened.

    Parameters
    ----------
    folder : Path
        With ``dataset.json``, ``imagesTr`` and ``labelsTr``; ``splits_final.json`` and
        ``cases.tsv`` are optional.

    Raises
    ------
    UsageError
        Not such a folder, a file of a case is missing, or the parts do not fit together.
    """
    if not folder.is_dir():
        raise UsageError(f"RAW_DATASET_DIR {folder} is not a directory.")
    if not _NAME.fullmatch(folder.name):
        raise UsageError(
            f"RAW_DATASET_DIR {folder} is not named like DatasetXXX_Name, which nnU-Net asks for; "
            "give one dataset of an nnUNet_raw folder."
        )
    document = _read_json(folder / "dataset.json")
    missing = {"channel_names", "labels", "file_ending"} - set(document)
    if missing:
        raise UsageError(f"{folder / 'dataset.json'} has no {', '.join(sorted(missing))}.")
    table = read_cases(folder / "cases.tsv")
    splits = folder / "splits_final.json"
    raw = RawDataset(
        name=folder.name,
        folder=folder,
        document=document,
        cases=_find_cases(folder, document),
        splits=tuple(_read_json(splits, list)) if splits.is_file() else None,
        table=table,
    )
    _refuse_test_cases(raw)
    return raw


def read_cases(path: Path) -> dict[str, dict[str, str]]:
    """Read ``cases.tsv`` by case; missing values are left out, and a missing file is empty.

    Raises
    ------
    UsageError
        There is no column ``case``.
    """
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if rows and "case" not in rows[0]:
        raise UsageError(f"{path} has no column 'case'.")
    return {row["case"]: {k: v for k, v in row.items() if k and v and v != "n/a"} for row in rows}


def check_folds(raw: RawDataset, folds: Sequence[str]) -> None:
    """Refuse folds that the splits do not have, or that would have nothing to learn from.

    Raises
    ------
    UsageError
    """
    if raw.splits is None:
        return
    unknown = {name for split in raw.splits for side in split.values() for name in side}
    unknown -= set(raw.cases)
    if unknown:
        raise UsageError(
            f"splits_final.json of {raw.folder} names cases that have no label in labelsTr: "
            f"{_listed(unknown)}."
        )
    for fold in folds:
        if fold == EVERY_CASE:
            continue
        if int(fold) >= len(raw.splits):
            raise UsageError(
                f"--folds {fold}: splits_final.json of {raw.folder} has {len(raw.splits)} folds, "
                f"0 to {len(raw.splits) - 1}."
            )
        for side in ("train", "val"):
            if not raw.splits[int(fold)].get(side):
                what = " and ".join(raw.sources) or raw.folder.name
                raise UsageError(
                    f"Fold {fold} has no {side} case of {what}: leave it out of --folds, or "
                    "convert again with other splits."
                )


def write_raw(raw: RawDataset, folder: Path) -> None:
    """Write a raw dataset whose ``dataset.json`` lists where the files are; no image is copied.

    nnU-Net reads such a list instead of ``imagesTr`` and ``labelsTr``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        name: {"images": [str(path) for path in case.images], "label": str(case.label)}
        for name, case in raw.cases.items()
    }
    document = raw.document | {"numTraining": len(files), "dataset": files}
    (folder / "dataset.json").write_text(json.dumps(document, indent=2), encoding="utf-8")
    if raw.splits is not None:
        (folder / "splits_final.json").write_text(json.dumps(raw.splits, indent=2))


def hash_raw(raw: RawDataset) -> str:
    """Give one SHA-256 for the content of all that is trained with."""
    total = hashlib.sha256()
    for name in sorted(raw.cases):
        total.update(name.encode())
        for path in (*raw.cases[name].images, raw.cases[name].label):
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    document = {key: value for key, value in raw.document.items() if key != "dataset"}
    total.update(json.dumps([document, raw.splits], sort_keys=True).encode())
    return total.hexdigest()


def _find_cases(folder: Path, document: Mapping[str, Any]) -> dict[str, TrainingCase]:
    """Find each case's files: a label, and an image for every channel."""
    ending, channels = str(document["file_ending"]), len(document["channel_names"])
    if "dataset" in document:
        listed = document["dataset"].items()
        return {
            name: TrainingCase(
                tuple(folder / image for image in case["images"]), folder / case["label"]
            )
            for name, case in listed
        }
    found = {}
    for label in sorted((folder / "labelsTr").glob(f"*{ending}")):
        name = label.name.removesuffix(ending)
        images = [folder / "imagesTr" / f"{name}_{n:04d}{ending}" for n in range(channels)]
        missing = [image.name for image in images if not image.is_file()]
        if missing:
            raise UsageError(f"{folder / 'imagesTr'} has no {', '.join(missing)}.")
        found[name] = TrainingCase(tuple(images), label)
    if not found:
        raise UsageError(f"{folder / 'labelsTr'} has no label *{ending}: nothing to train with.")
    return found


def _refuse_test_cases(raw: RawDataset) -> None:
    """Refuse to train with what the table keeps for the test."""
    test = {name for name in raw.cases if raw.table.get(name, {}).get("split") == "test"}
    if test:
        raise UsageError(
            f"{raw.folder / 'labelsTr'} holds cases that cases.tsv keeps for the test: "
            f"{_listed(test)}; they belong into imagesTs and labelsTs."
        )


def _read_json(path: Path, kind: type = dict) -> Any:
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}).") from error
    if not isinstance(content, kind):
        raise UsageError(f"{path} is not what nnU-Net writes: no JSON {kind.__name__}.")
    return content


def _listed(names: set[str]) -> str:
    more = ", ..." if len(names) > _SHOWN else ""
    return ", ".join(sorted(names)[:_SHOWN]) + more
