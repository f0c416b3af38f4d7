"""The end of ``cordlesion train nnunet``: tune, describe and install what was trained."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bids_app.commands.tune import PRESET_FILE, Tuning, describe_tuning, tune, write_tuning
from bids_app.commands.tune_cases import cases_of_run, find_table
from bids_app.errors import UsageError
from bids_app.evaluation.search import Metric
from bids_app.files import plain
from bids_app.lesions.preset import load_preset
from bids_app.segmentation.describe import Choices
from bids_app.segmentation.install import install
from bids_app.segmentation.manifest import read_manifest
from bids_app.segmentation.store import check_name, models_folder
from bids_app.segmentation.trained import read_json
from bids_app.training.card import write_card
from bids_app.training.run import Run, validation_dice

CARD_FILE = "README.md"


def check_package_name(name: str, run: Run) -> None:
    """Refuse, before days of training, a name that another model has.

    Raises
    ------
    UsageError
    """
    folder = models_folder(os.environ) / check_name(name)
    if folder.exists() and not _is_of_run(folder, run):
        raise UsageError(
            f"A model '{name}' of another origin is already in {folder.parent}; give --package "
            "another name."
        )


def package(
    run: Run,
    name: str,
    folds: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    metric: Metric,
    n_cpus: int,
    console: Console,
) -> None:
    """Tune the post-processing, write the card, install the folds as one model.

    Parameters
    ----------
    run : Run
    name : str
    folds : sequence of str
        Finished ones.
    rows : sequence of mapping
        Of ``cases.tsv``, of the training cases.
    metric : {"f1", "dice", "froc"}
    n_cpus : int
    console : Console
    """
    tuning = None
    if "all" not in folds:  # that one has seen every case: nothing to tune on
        table = find_table(run.folder / "cases.tsv")
        tuning = tune(cases_of_run(run, table), load_preset("default"), metric, n_cpus)
        write_tuning(tuning, run.folder / "tuning")
        console.print(describe_tuning(tuning), markup=False, soft_wrap=True)
    record = _record(run, folds, tuning)
    dataset = read_json(run.results / "dataset.json")
    beside = {CARD_FILE: write_card(name, record, dataset, rows)}
    if tuning is not None:
        beside[PRESET_FILE] = json.dumps(plain(tuning.preset), indent=2) + "\n"
    manifest = {
        "training": record,
        "version": time.strftime("%Y%m%d"),
        "preset": PRESET_FILE if tuning is not None else None,
    }
    installed = install(
        [str(gather_folds(run, folds))],
        models_folder(os.environ),
        name=name,
        choices=Choices(manifest=manifest),
        replace_old=True,  # `check_package_name` has made sure that the old one is this run's
        beside=beside,
    )
    for note in installed.notes:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)
    console.print(
        f"Installed '{name}' ({len(folds)} folds) in {installed.folder}; its card is "
        f"{installed.folder / CARD_FILE}. Use it with --model {name}.",
        markup=False,
        soft_wrap=True,
    )


def gather_folds(run: Run, folds: Sequence[str]) -> Path:
    """Lay the finished folds out as a plain nnU-Net model, without what only training needs.

    Returns
    -------
    Path
        ``RUN_DIR/model``, which ``nnUNetv2_predict_from_modelfolder`` runs.
    """
    folder = run.folder / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("plans.json", "dataset.json"):
        shutil.copyfile(run.results / name, folder / name)
    for fold in folds:
        place = folder / f"fold_{fold}"
        place.mkdir()
        name = "checkpoint_final.pth"
        try:
            os.link(run.results / place.name / name, place / name)
        except OSError:  # a file system without hard links
            shutil.copyfile(run.results / place.name / name, place / name)
    return folder


def _record(run: Run, folds: Sequence[str], tuning: Tuning | None) -> dict[str, Any]:
    """Give the manifest's record of the training."""
    settings = run.settings
    record = {
        "run": run.record["id"],
        "command": run.record["command"],
        "nnunetv2": run.record["nnunetv2"],
        "torch": run.record["torch"],
        "hours": run.record["hours"],
        "dataset_sha256": settings.dataset_sha256,
        "configuration": settings.configuration,
        "planner": settings.planner,
        "epochs": settings.epochs,
        "iterations": settings.iterations,
        "pretrained": settings.pretrained,
        "folds": list(folds),
        "cases": len(read_json(run.raw / "dataset.json")["dataset"]),
        "validation_dice": {fold: validation_dice(run, fold) for fold in folds},
        "tuning": tuning.record if tuning is not None else None,
    }
    return dict(plain(record))


def _is_of_run(folder: Path, run: Run) -> bool:
    """Tell whether a model was packaged from this run before."""
    if not (folder / "model.json").is_file():
        return False
    return bool(read_manifest(folder).training.get("run") == run.record["id"])
