"""The process that runs nnU-Net's own code: ``prepare RUN_DIR N``, ``fold RUN_DIR F DEVICE N``.

nnU-Net takes its folders from the environment, prints much and starts processes of its own, so
it gets a process to itself. What it prints goes to the log (the standard error that this process
was given); standard output carries one JSON object a line for the process that started it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from bids_app.documents import parse_json
from bids_app.training.run import EVERY_CASE, PLANNERS, Run, read_run

Emit = Callable[[Mapping[str, Any]], None]

# A picture of the course takes nnU-Net seconds to draw.
_SECONDS_BETWEEN_PICTURES = 60
# A run that is stopped loses a hundredth of itself at most.
_CHECKPOINTS = 100
# Features, convolutions a stage, batch size, longest side of a patch in 2D.
_REDUCED = {
    "tiny": ((8, 16, 16), 1, 2, 64),
    "small": ((16, 32, 64, 64), 2, 8, 128),
}


def main(arguments: Sequence[str]) -> int:
    """Do one step; gives the exit code."""
    emit = _emitter()
    step, folder, *rest = arguments
    try:
        run = read_run(Path(folder))
        if step == "prepare":
            _prepare(run, int(rest[0]), emit)
        else:
            _fold(run, rest[0], rest[1], int(rest[2]), emit)
    except Exception as error:
        traceback.print_exc()
        emit({"event": "failed", "error": f"{type(error).__name__}: {error}"})
        return 1
    return 0


def _emitter() -> Emit:
    """Keep standard output for events; whatever prints there from now on goes to the log."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(event: Mapping[str, Any]) -> None:
        print(json.dumps(event), file=events, flush=True)

    return emit


def _prepare(run: Run, n_cpus: int, emit: Emit) -> None:
    """Check the dataset, plan, preprocess: nnU-Net's own functions, one after the other."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
        DatasetFingerprintExtractor,
    )
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    emit({"event": "stage", "stage": "checking"})
    verify_dataset_integrity(str(run.raw), n_cpus)
    emit({"event": "stage", "stage": "planning"})
    extractor = DatasetFingerprintExtractor(run.settings.dataset, n_cpus)
    extractor.show_progress_bar = False
    extractor.run(overwrite_existing=True)
    splits = run.raw / "splits_final.json"
    if splits.is_file():
        shutil.copyfile(splits, run.preprocessed / splits.name)
    plans = _plan(run)
    emit({"event": "stage", "stage": "preprocessing"})
    configuration = PlansManager(plans).get_configuration(run.settings.configuration)
    preprocessor = configuration.preprocessor_class(verbose=False)
    preprocessor.show_progress_bar = False
    preprocessor.run(run.settings.dataset, run.settings.configuration, run.plans_name, n_cpus)
    _keep_references(run)
    (run.preprocessed / "prepared.json").write_text("{}\n")


def _plan(run: Run) -> dict[str, Any]:
    """Let nnU-Net plan, or move the pretrained model's plans here as nnU-Net does."""
    path = run.preprocessed / f"{run.plans_name}.json"
    planner = PLANNERS.get(run.settings.planner)
    if planner is None:
        plans = _read(run.pretrained / "plans.json")
        plans |= {"dataset_name": run.settings.dataset, "plans_name": run.plans_name}
        plans["image_reader_writer"] = _reader(run)
        for name, configuration in plans["configurations"].items():
            configuration["data_identifier"] = f"{run.plans_name}_{name}"
        shutil.copyfile(run.raw / "dataset.json", run.preprocessed / "dataset.json")
    else:
        module = import_module(f"nnunetv2.experiment_planning.experiment_planners.{planner.module}")
        kind = getattr(module, planner.name)
        kind(run.settings.dataset, plans_name=planner.plans).plan_experiment()
        plans = _read(path)
    if run.settings.configuration not in plans["configurations"]:
        raise ValueError(
            f"the plan has no configuration {run.settings.configuration}, only "
            f"{', '.join(plans['configurations'])}"
        )
    if run.settings.planner in _REDUCED:
        _reduce(
            plans["configurations"][run.settings.configuration], *_REDUCED[run.settings.planner]
        )
    path.write_text(json.dumps(plans, indent=2))
    return plans


def _reader(run: Run) -> str:
    """Name the class by which nnU-Net reads this dataset's images."""
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

    document = _read(run.raw / "dataset.json")
    image = next(iter(document["dataset"].values()))["images"][0]
    return str(determine_reader_writer_from_dataset_json(document, image, True, False).__name__)


def _reduce(
    configuration: dict[str, Any], features: tuple[int, ...], convolutions: int, batch_size: int,
    largest: int,
) -> None:  # fmt: skip
    """Replace the network by a few small stages on small patches, for CPUs."""
    dimensions = len(configuration["patch_size"])
    stages = len(features)
    arguments = configuration["architecture"]["arch_kwargs"]
    arguments.update(
        n_stages=stages,
        features_per_stage=list(features),
        strides=[[1] * dimensions, *[[2] * dimensions] * (stages - 1)],
        kernel_sizes=[[3] * dimensions] * stages,
        n_conv_per_stage=[convolutions] * stages,
        n_conv_per_stage_decoder=[convolutions] * (stages - 1),
    )
    if dimensions == 3:
        largest = largest * 3 // 8
    whole = 2 ** (stages - 1)
    patch = [max(8, min(largest, size)) // whole * whole for size in configuration["patch_size"]]
    configuration.update(batch_size=batch_size, patch_size=patch)


def _keep_references(run: Run) -> None:
    """Copy the labels to where validation looks for them; forget where the files came from.

    nnU-Net's function for this needs ``distutils``, which later versions of Python lack. Paths of
    training images are no part of a model.
    """
    path = run.preprocessed / "dataset.json"
    document = _read(path)
    place = run.preprocessed / "gt_segmentations"
    place.mkdir(exist_ok=True)
    for name, files in document.pop("dataset").items():
        shutil.copyfile(files["label"], place / f"{name}{document['file_ending']}")
    path.write_text(json.dumps(document, indent=2))


def _fold(run: Run, fold: str, device: str, n_cpus: int, emit: Emit) -> None:
    """Train a fold, or go on with it, and predict the cases that it leaves out."""
    import torch
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
    from nnunetv2.run.run_training import get_trainer_from_args
    from torch.backends import cudnn

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(n_cpus if device == "cpu" else 1)
    cudnn.deterministic, cudnn.benchmark = False, device == "cuda"
    place = run.results / f"fold_{fold}"
    checkpoint = _checkpoint(place)
    trainer = get_trainer_from_args(
        *(run.settings.dataset, run.settings.configuration),
        fold if fold == EVERY_CASE else int(fold),
        *("nnUNetTrainer", run.plans_name, checkpoint is not None),
        device=torch.device(device),
    )
    trainer.num_epochs = run.settings.epochs
    trainer.num_iterations_per_epoch = run.settings.iterations
    trainer.num_val_iterations_per_epoch = max(1, run.settings.iterations // 5)
    trainer.save_every = max(1, run.settings.epochs // _CHECKPOINTS)
    trainer.save_checkpoint = _whole_or_not(trainer.save_checkpoint)
    trainer.logger = _Reporter(trainer.logger, fold, run.settings.epochs, emit)
    if checkpoint is not None:
        trainer.load_checkpoint(str(checkpoint))
    elif run.settings.pretrained:
        trainer.initialize()
        load_pretrained_weights(trainer.network, str(_checkpoint_to_start_from(run)))
    emit({"event": "start", "fold": fold, "epoch": trainer.current_epoch, "device": device})
    if checkpoint is None or checkpoint.name != "checkpoint_final.pth":
        trainer.run_training()
    if fold != EVERY_CASE:
        emit({"event": "stage", "stage": f"validating fold {fold}"})
        trainer.perform_actual_validation(save_probabilities=True)


def _checkpoint(place: Path) -> Path | None:
    """Find where to go on: nnU-Net's own order."""
    for name in ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth"):
        if (place / name).is_file():
            return place / name
    return None


def _checkpoint_to_start_from(run: Run) -> Path:
    """Give the first fold of the exported model."""
    return min(run.pretrained.glob("fold_*/checkpoint_final.pth"))


def _whole_or_not(save: Callable[[str], None]) -> Callable[[str], None]:
    """Let a checkpoint take its name when it is complete: a stop while saving loses nothing."""

    def save_aside(name: str) -> None:
        save(f"{name}.part")
        Path(f"{name}.part").replace(name)

    return save_aside


class _Reporter:
    """nnU-Net's logger, which also says what it logs after each epoch."""

    def __init__(self, logger: Any, fold: str, epochs: int, emit: Emit) -> None:
        self._logger, self._fold, self._epochs, self._emit = logger, fold, epochs, emit
        self._pictured = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    def log(self, key: str, value: Any, step: int) -> None:
        """Log a value; the last one of an epoch is the time of its end."""
        self._logger.log(key, value, step)
        if key != "epoch_end_timestamps":
            return
        last = {name: self._logger.get_value(name, -1) for name in _LOGGED}
        self._emit(
            {
                "event": "epoch",
                "fold": self._fold,
                "epoch": step + 1,
                "loss": float(last["train_losses"]),
                "val_loss": float(last["val_losses"]),
                "pseudo_dice": [float(dice) for dice in last["dice_per_class_or_region"]],
                "seconds": value - last["epoch_start_timestamps"],
            }
        )

    def plot_progress_png(self, folder: str) -> None:
        """Draw the course now and then, and at the end."""
        done = len(self._logger.get_value("epoch_end_timestamps", None))
        now = time.monotonic()
        if done >= self._epochs or now - self._pictured > _SECONDS_BETWEEN_PICTURES:
            self._logger.plot_progress_png(folder)
            self._pictured = now


_LOGGED = ("train_losses", "val_losses", "dice_per_class_or_region", "epoch_start_timestamps")


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
