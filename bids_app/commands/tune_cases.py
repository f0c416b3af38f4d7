"""Which cases a search may use: validation cases of a run or a folder, never the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_app.errors import NoUsableData, UsageError
from bids_app.segmentation.describe import Choices, describe
from bids_app.segmentation.trained import read_json
from bids_app.segmentation.vetting import channel_names
from bids_app.training.raw import read_cases
from bids_app.training.run import EVERY_CASE, Run

_LESION = "_label-lesion_probseg.nii.gz"
_CORD = "_label-cord_probseg.nii.gz"
_SHOWN = 5


@dataclass(frozen=True)
class TuneCase:
    """A case with its prediction and its reference.

    Attributes
    ----------
    name : str
    probability : Path
        nnU-Net's ``CASE.npz``, or a NIfTI of the lesion's probability.
    reference : Path
        Label map.
    lesion_values : tuple of int
        Label values that are lesion; none stands for all but 0.
    cord : Path or None
        NIfTI of the cord's probability.
    outputs : mapping
        Channels of the ``npz`` that add up to ``cord`` and to ``lesion``.
    group : str
        Cases that were predicted by the same network: the fold.
    """

    name: str
    probability: Path
    reference: Path
    lesion_values: tuple[int, ...] = ()
    cord: Path | None = None
    outputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    group: str = ""


def cases_of_run(run: Run, table: Mapping[str, Mapping[str, str]]) -> list[TuneCase]:
    """List the validation cases of every finished fold of a run.

    Parameters
    ----------
    run : Run
    table : mapping
        Rows of ``cases.tsv``.

    Raises
    ------
    NoUsableData
        No fold with validation cases that were kept out of its training.
    UsageError
        A case belongs to the test split.
    """
    dataset = read_json(run.results / "dataset.json")
    outputs, lesion_values = meaning(dataset, run)
    references = run.preprocessed / "gt_segmentations"
    cases = []
    for place in sorted(run.results.glob("fold_*")):
        fold = place.name.removeprefix("fold_")
        if fold == EVERY_CASE or not run.is_finished(fold):
            continue
        cases += [
            TuneCase(
                name=path.stem,
                probability=path,
                reference=references / f"{path.stem}{dataset['file_ending']}",
                lesion_values=lesion_values,
                outputs=outputs,
                group=place.name,
            )
            for path in sorted((place / "validation").glob("*.npz"))
        ]
    if not cases:
        raise NoUsableData(
            f"{run.folder} has no finished fold with validation cases; fold 'all' has none, "
            "because it has seen every case."
        )
    refuse_test([case.name for case in cases], table)
    return cases


def cases_of_folder(
    probabilities: Path, references: Path, table: Mapping[str, Mapping[str, str]]
) -> list[TuneCase]:
    """Pair the probabilities of a folder with the references of another by their names.

    Parameters
    ----------
    probabilities : Path
        ``CASE_label-lesion_probseg.nii.gz``, beside it perhaps ``CASE_label-cord_probseg.nii.gz``;
        or nnU-Net's ``CASE.npz``.
    references : Path
        ``CASE.nii.gz``. A ``dataset.json`` beside the folder says which values are lesion.
    table : mapping
        Rows of ``cases.tsv``.

    Raises
    ------
    UsageError, NoUsableData
    """
    if references.name == "labelsTs":
        raise UsageError(f"{references} holds the test split, which nothing is tuned on.")
    document = references.parent / "dataset.json"
    dataset = read_json(document) if document.is_file() else None
    outputs, values = meaning(dataset, None) if dataset else ({}, ())
    cases = []
    for path in sorted(probabilities.glob(f"*{_LESION}")):
        name = path.name.removesuffix(_LESION)
        cord = path.with_name(f"{name}{_CORD}")
        cases.append(
            TuneCase(
                name, path, references / f"{name}.nii.gz", values, cord if cord.is_file() else None
            )
        )
    archives = sorted(probabilities.glob("*.npz"))
    if archives and not outputs:
        raise UsageError(f"{document} is missing: it says what the channels of *.npz are.")
    cases += [
        TuneCase(path.stem, path, references / f"{path.stem}.nii.gz", values, None, outputs)
        for path in archives
    ]
    if not cases:
        raise NoUsableData(f"{probabilities} has no *{_LESION} and no *.npz of nnU-Net.")
    missing = [case.name for case in cases if not case.reference.is_file()]
    if missing:
        raise UsageError(f"{references} has no reference of {_listed(missing)}.")
    refuse_test([case.name for case in cases], table)
    return cases


def meaning(
    dataset: Mapping[str, Any], run: Run | None
) -> tuple[dict[str, tuple[int, ...]], tuple[int, ...]]:
    """Give a network's channels of cord and lesion, and the label values of lesions.

    Raises
    ------
    UsageError
        None of the labels is called lesion, or nnU-Net has turned the images.
    """
    plans = read_json(run.results / "plans.json") if run else {}
    reader = str(plans.get("image_reader_writer", ""))
    if reader == "NibabelIOWithReorient":
        raise UsageError("Predictions made with NibabelIOWithReorient are turned: not supported.")
    fields, _ = describe(dataset, channel_names(dict(dataset)), reader, Choices())
    if "lesion" not in fields["outputs"]:
        raise UsageError(f"None of the labels {', '.join(dataset['labels'])} is called lesion.")
    names = [name for name in dataset["labels"] if "lesion" in name.lower()]
    values = [dataset["labels"][name] for name in names]
    flat = {int(v) for value in values for v in (value if isinstance(value, list) else [value])}
    return fields["outputs"], tuple(sorted(flat))


def find_table(*places: Path) -> dict[str, dict[str, str]]:
    """Read the first ``cases.tsv`` that is there."""
    for place in places:
        if place.is_file():
            return read_cases(place)
    return {}


def refuse_test(names: Sequence[str], table: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse cases of the test split: what was tuned on them could not be tested on them.

    Raises
    ------
    UsageError
    """
    test = [name for name in names if table.get(name, {}).get("split") == "test"]
    if test:
        raise UsageError(
            f"cases.tsv keeps {_listed(test)} for the test; tuning on them would make the test "
            "worthless. Give validation cases only."
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
