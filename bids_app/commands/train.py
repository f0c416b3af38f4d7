"""``cordlesion train nnunet`` and ``train tune``: raw dataset in, packaged model out."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from bids_app.commands.package import check_package_name, package
from bids_app.commands.tune import PRESET_FILE, describe_tuning, tune, write_tuning
from bids_app.commands.tune_cases import cases_of_folder, cases_of_run, find_table
from bids_app.errors import UsageError
from bids_app.execution.local import StoppedBySignal, stop_on_signals
from bids_app.lesions.preset import load_preset
from bids_app.places import absolute
from bids_app.resources import machine_cpus
from bids_app.segmentation.describe import Choices, describe
from bids_app.segmentation.manifest import find_model, read_manifest
from bids_app.segmentation.vetting import channel_names
from bids_app.training.launch import prepare, train_fold
from bids_app.training.raw import RawDataset, check_folds, hash_raw, read_raw, write_raw
from bids_app.training.run import (
    RUN_FILE,
    Run,
    RunSettings,
    check_same,
    read_run,
    validation_dice,
    write_run,
)
from bids_app.training.watch import Watch

_CASES_FILE = "cases.tsv"


@dataclass(frozen=True)
class Part:
    """One model to train: its data, and where."""

    raw: RawDataset
    folder: Path
    package: str | None


def train(namespace: argparse.Namespace) -> int:
    """Train one model, or one a dataset; go on where a run was stopped.

    Parameters
    ----------
    namespace : argparse.Namespace
        Of ``train nnunet``.

    Returns
    -------
    int
        0, or 130 or 143 when a signal stopped the run.

    Raises
    ------
    UsageError, MissingResource
        Before anything is done.
    NoUsableData, UnitError
        nnU-Net could not use the dataset, or failed.
    """
    raw = read_raw(absolute(namespace.raw))
    _check_channels(raw)
    folds = namespace.folds or [str(n) for n in range(len(raw.splits) if raw.splits else 5)]
    parts = _parts(raw, namespace)
    runs = []
    for part in parts:
        check_folds(part.raw, folds)
        run = _begin(part, namespace)
        if part.package is not None:
            check_package_name(part.package, run)
        runs.append(run)
    console = Console(highlight=False)
    if raw.splits is None and folds != ["all"]:
        console.print("Note: there is no splits_final.json, so nnU-Net splits by case.")
    try:
        with stop_on_signals():
            for part, run in zip(parts, runs, strict=True):
                _train_one(part, run, folds, namespace, console)
    except StoppedBySignal as stop:
        console.print(f"Stopped by {stop}; the same command goes on.", markup=False)
        return stop.exit_code
    return 0


def tune_only(namespace: argparse.Namespace) -> int:
    """Tune the post-processing on the validation cases of a run, or of a folder."""
    source = absolute(namespace.source)
    preset = load_preset(namespace.preset)
    if (source / RUN_FILE).is_file():
        table = find_table(*([namespace.cases] if namespace.cases else []), source / _CASES_FILE)
        cases = cases_of_run(read_run(source), table)
        out = absolute(namespace.out) if namespace.out else source / "tuning"
    else:
        if not source.is_dir():
            raise UsageError(f"{source} is not a directory.")
        if namespace.references is None or namespace.out is None:
            raise UsageError(
                f"{source} is no run of 'cordlesion train nnunet': a folder of probabilities needs "
                "--references and --out too."
            )
        references = absolute(namespace.references)
        table = find_table(
            *([namespace.cases] if namespace.cases else []),
            references.parent / _CASES_FILE,
            references / _CASES_FILE,
        )
        cases = cases_of_folder(source, references, table)
        out = absolute(namespace.out)
    tuning = tune(cases, preset, namespace.metric, namespace.n_cpus or machine_cpus(os.environ))
    write_tuning(tuning, out)
    console = Console(highlight=False)
    if not table:
        console.print("Note: there is no cases.tsv, so nothing says which cases are for the test.")
    console.print(describe_tuning(tuning), markup=False, soft_wrap=True)
    console.print(f"Wrote {out / PRESET_FILE}", markup=False, soft_wrap=True)
    return 0


def _parts(raw: RawDataset, namespace: argparse.Namespace) -> list[Part]:
    """List the models to train."""
    folder, name = absolute(namespace.folder), namespace.package
    if folder == raw.folder or folder.is_relative_to(raw.folder):
        raise UsageError(f"RUN_DIR {folder} lies inside RAW_DATASET_DIR: choose one outside.")
    if name == "":
        name = raw.name.partition("_")[2]
    if not namespace.specific:
        return [Part(raw, folder, name)]
    if not raw.sources:
        raise UsageError(
            f"--specific needs a {_CASES_FILE} in {raw.folder} whose column 'dataset' says where "
            "each case comes from."
        )
    odd = [source for source in raw.sources if Path(source).name != source]
    if odd:
        raise UsageError(f"{_CASES_FILE} names the dataset {odd[0]!r}, which is no folder's name.")
    return [
        Part(raw.part(source), folder / source, None if name is None else f"{name}-{source}")
        for source in raw.sources
    ]


def _begin(part: Part, namespace: argparse.Namespace) -> Run:
    """Write down what the run is to do, or read what it was begun with."""
    settings = _settings(part, namespace)
    if (part.folder / RUN_FILE).is_file():
        run = read_run(part.folder)
        check_same(run, settings)
        return run
    if part.folder.exists() and any(part.folder.iterdir()):
        raise UsageError(f"RUN_DIR {part.folder} is not empty and no run: give a new folder.")
    versions = {name: version(name) for name in ("nnunetv2", "torch")}
    run = Run(
        part.folder,
        settings,
        {
            "id": uuid.uuid4().hex,
            "command": shlex.join(["cordlesion", *sys.argv[1:]]),
            "hours": 0.0,
            **versions,
        },
    )
    write_run(run)
    write_raw(part.raw, run.raw)
    table = part.raw.folder / _CASES_FILE
    if table.is_file():
        (part.folder / _CASES_FILE).write_bytes(table.read_bytes())
    return run


def _settings(part: Part, namespace: argparse.Namespace) -> RunSettings:
    configuration, planner = namespace.configuration, namespace.planner or "plain"
    pretrained = None
    if namespace.pretrained:
        configuration, pretrained = _check_pretrained(part.raw, namespace)
        planner = "pretrained"
    return RunSettings(
        dataset=part.raw.name,
        dataset_sha256=hash_raw(part.raw),
        configuration=configuration or "3d_fullres",
        planner=planner,
        epochs=namespace.epochs,
        iterations=namespace.iterations,
        pretrained=pretrained,
    )


def _check_pretrained(raw: RawDataset, namespace: argparse.Namespace) -> tuple[str, str]:
    """Refuse a model whose network the dataset does not fit; gives its configuration and name."""
    manifest = read_manifest(find_model(namespace.pretrained))
    if namespace.planner:
        raise UsageError(
            f"--pretrained uses the plan of '{manifest.name}', so its weights fit; leave out "
            f"--planner {namespace.planner}."
        )
    if namespace.configuration not in (None, manifest.configuration):
        raise UsageError(
            f"'{manifest.name}' is a {manifest.configuration} network, so its weights do not fit "
            f"--configuration {namespace.configuration}."
        )
    channels = channel_names(raw.document)
    if len(channels) != len(manifest.channels):
        raise UsageError(
            f"'{manifest.name}' takes {len(manifest.channels)} channels "
            f"({', '.join(manifest.channels)}), the dataset has {len(channels)} "
            f"({', '.join(channels)}): the weights do not fit."
        )
    return manifest.configuration, f"{manifest.name} {manifest.version} ({manifest.fingerprint})"


def _check_channels(raw: RawDataset) -> None:
    """Refuse, before days of training, labels of which nobody could say what they are."""
    try:
        describe(raw.document, channel_names(raw.document), "", Choices())
    except (TypeError, ValueError, KeyError) as error:
        raise UsageError(f"{raw.folder / 'dataset.json'} cannot be used ({error}).") from error


def _train_one(
    part: Part, run: Run, folds: Sequence[str], namespace: argparse.Namespace, console: Console
) -> None:
    """Do what is left of one run, then package it."""
    n_cpus = namespace.n_cpus or machine_cpus(os.environ)
    labels = [label for label in part.raw.document["labels"] if label not in _NO_LABELS]
    with Watch(run.folder, labels, run.settings.epochs, console) as watch:
        if not run.is_prepared:
            _export_pretrained(run, namespace.pretrained)
            run = _timed(run, lambda: prepare(run, n_cpus, os.environ, watch.tell))
        for fold in folds:
            if run.is_finished(fold):
                continue
            step = _fold_step(run, fold, namespace.device, n_cpus, watch)
            run = _timed(run, step)
    for fold in folds:
        dice = ", ".join(f"{k} {v:.3f}" for k, v in validation_dice(run, fold).items())
        told = f"validation Dice {dice}" if dice else "trained on every case, so not validated"
        console.print(f"{run.folder} fold {fold}: {told}", soft_wrap=True)
    if part.package is not None:
        table = find_table(run.folder / _CASES_FILE)
        rows = [dict(table[case]) for case in part.raw.cases if case in table]
        package(run, part.package, folds, rows, namespace.metric, n_cpus, console)


_NO_LABELS = ("background", "ignore")


def _fold_step(run: Run, fold: str, device: str, n_cpus: int, watch: Watch) -> Callable[[], None]:
    return lambda: train_fold(run, fold, device, n_cpus, os.environ, watch.tell)


def _timed(run: Run, step: Callable[[], None]) -> Run:
    """Do a step and add its hours to the run's record, also when it is stopped."""
    start = time.monotonic()
    try:
        step()
    finally:
        hours = run.record["hours"] + (time.monotonic() - start) / 3600
        run = replace(run, record={**run.record, "hours": round(hours, 4)})
        write_run(run)
    return run


def _export_pretrained(run: Run, name: str | None) -> None:
    """Write the model to start from as nnU-Net's own code reads it."""
    if not name or (run.pretrained / "plans.json").is_file():
        return
    from bids_app.segmentation.export import export_model

    export_model(find_model(name), run.pretrained)
