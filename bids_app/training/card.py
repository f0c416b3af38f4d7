"""The card of a trained model: what it learned from, how it did, what it is not for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_GROUPS = ("dataset", "site", "contrast", "contrasts", "second")


def write_card(
    name: str,
    training: Mapping[str, Any],
    dataset: Mapping[str, Any],
    rows: Sequence[Mapping[str, str]],
) -> str:
    """Write a model card in Markdown.

    Parameters
    ----------
    name : str
    training : mapping
        The manifest's record of the training.
    dataset : mapping
        Content of ``dataset.json``.
    rows : sequence of mapping
        Of ``cases.tsv``, of the training cases.

    Returns
    -------
    str
    """
    channels = ", ".join(dataset["channel_names"].values())
    labels = ", ".join(label for label in dataset["labels"] if label != "background")
    parts = [
        f"# {name}",
        f"Finds {labels} in MRI of the spinal cord from {channels}. Research use only.",
        "## Data",
        _data(rows, int(training["cases"])),
        "## Training",
        _list(
            {
                "Command": f"`{training['command']}`",
                "Network": f"nnU-Net v2 ({training['nnunetv2']}), {training['configuration']}, "
                f"planner {training['planner']}",
                "Epochs": f"{training['epochs']} of {training['iterations']} iterations",
                "Folds": " ".join(training["folds"]),
                "Started from": training["pretrained"] or "random weights",
                "Hours": training["hours"],
                "SHA-256 of the data": training["dataset_sha256"],
            }
        ),
        "## Validation",
        _validation(training["validation_dice"]),
        _tuning(training.get("tuning")),
        "## Limits",
        "The validation cases come from the same datasets as the training cases; expect less on "
        "other scanners, contrasts and fields of view. The model was not tested on other data "
        "here, and nobody has checked it for clinical use.",
        "## Licence",
        str(dataset.get("licence") or dataset.get("license") or _LICENCE),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_LICENCE = "Not stated. Write here what the agreements on the training data allow, before sharing."


def _data(rows: Sequence[Mapping[str, str]], cases: int) -> str:
    """Count the training cases by every column that says where they come from."""
    columns = [column for column in _GROUPS if any(column in row for row in rows)]
    if not columns:
        return f"{cases} training cases; there was no cases.tsv that says where they come from."
    counts = Counter(tuple(row.get(column, "n/a") for column in columns) for row in rows)
    table = [[*columns, "cases"], ["---"] * len(columns) + ["---:"]]
    table += [[*group, str(count)] for group, count in sorted(counts.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


def _validation(dice: Mapping[str, Mapping[str, float]]) -> str:
    """Show each fold's mean Dice as nnU-Net reports it."""
    dice = {fold: values for fold, values in dice.items() if values}
    if not dice:
        return "Trained on every case: none was left out to validate on."
    labels = list(next(iter(dice.values())))
    table = [["fold", *labels], ["---", *("---:" for _ in labels)]]
    table += [
        [fold, *(f"{values[label]:.3f}" for label in labels)] for fold, values in dice.items()
    ]
    text = "Mean Dice over each fold's validation cases, as nnU-Net reports it:\n\n"
    return text + "\n".join(f"| {' | '.join(line)} |" for line in table)


def _tuning(tuning: Mapping[str, Any] | None) -> str:
    if tuning is None:
        return "The post-processing was not tuned."
    chosen = ", ".join(f"{name} {value:g}" for name, value in tuning["chosen"].items())
    held_out = tuning["score_held_out"]
    honest = "" if held_out is None else f", {held_out:.3f} on folds left out of the search"
    return (
        f"The post-processing ({chosen}) was chosen for {tuning['metric']} on {tuning['cases']} "
        f"validation cases: {tuning['score']:.3f}{honest}; with the preset {tuning['base']} it "
        f"was {tuning['score_of_base']:.3f}."
    )


def _list(lines: Mapping[str, Any]) -> str:
    return "\n".join(f"- {key}: {value}" for key, value in lines.items())
