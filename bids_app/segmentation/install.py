"""Install a trained nnU-Net v2 model: check it, turn its weights into data, put it in the store."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from bids_app import __version__
from bids_app.documents import parse_json
from bids_app.errors import MissingResource, UsageError
from bids_app.segmentation.checkpoint import Checkpoint, read_checkpoint
from bids_app.segmentation.describe import Choices, describe
from bids_app.segmentation.fitting import fit_network
from bids_app.segmentation.known import KNOWN
from bids_app.segmentation.manifest import Manifest
from bids_app.segmentation.sources import gather, sha256_of, short_name
from bids_app.segmentation.store import check_name
from bids_app.segmentation.trained import Trained, find_trained
from bids_app.segmentation.vetting import Vetted, channel_names, vet


@dataclass(frozen=True)
class Installed:
    """A model that was just installed, and what was assumed of it."""

    folder: Path
    manifest: Manifest
    notes: tuple[str, ...]


def install(
    sources: Sequence[str],
    store: Path,
    *,
    name: str | None = None,
    hashes: Sequence[str] = (),
    choices: Choices | None = None,
    half: bool = False,
    replace_old: bool = False,
    beside: Mapping[str, str] | None = None,
) -> Installed:
    """Install a model; no code of it is run, and a model that fails leaves nothing behind.

    Parameters
    ----------
    sources : sequence of str
        A folder, zip, address or known name; several for folds that come apart.
    store : Path
    name : str, optional
        In the store; made from the first source by default.
    hashes : sequence of str
        SHA-256 of each source, to be checked.
    choices : Choices, optional
    half : bool
        Store the weights in half precision.
    replace_old : bool
        Replace a model of the same name.
    beside : mapping, optional
        Text of further files for the model's folder by their names, such as a model card.

    Raises
    ------
    UsageError
        A name, an option or the store cannot be used.
    MissingResource
        The model cannot be had, is unsafe, incomplete, or does not fit together.
    """
    choices = choices or Choices()
    known = KNOWN.get(sources[0]) if len(sources) == 1 else None
    name = check_name(name or (sources[0] if known else short_name(sources[0])))
    if known:
        sources = known.sources
        if choices.crop_margin_mm is None and "crop_margin_mm" not in choices.manifest:
            choices = replace(choices, crop_margin_mm=known.crop_margin_mm)
    target = store / name
    if target.exists() and not replace_old:
        raise UsageError(
            f"A model '{name}' is already in {store}; give another --name, or --replace."
        )
    work = _make_work_folder(store)
    try:
        folders, origins = gather(sources, hashes, work)
        model = find_trained(folders)
        built = work / "model"
        built.mkdir()
        manifest, notes = _convert(model, built, choices, half, {"name": name, "source": origins})
        for file, text in (beside or {}).items():
            (built / file).write_text(text, encoding="utf-8")
        _publish(built, target, work, replace_old)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Installed(target, manifest, tuple(notes))


def _convert(
    model: Trained, folder: Path, choices: Choices, half: bool, identity: dict[str, Any]
) -> tuple[Manifest, list[str]]:
    """Write a model in the store's own form, one fold after the other."""
    first = read_checkpoint(next(iter(model.checkpoints.values())))
    vetted = vet(model.plans, model.dataset, first.configuration)
    reader = str(model.plans.get("image_reader_writer"))
    fields, notes = describe(model.dataset, channel_names(model.dataset), reader, choices)
    _check_outputs(fields["outputs"], vetted)
    weights: dict[str, str] = {}
    for number, (fold, path) in enumerate(model.checkpoints.items()):
        checkpoint = read_checkpoint(path) if number else first
        _check_alike(checkpoint, first, fold, vetted)
        network = fit_network(checkpoint.weights, vetted, fold)
        file = folder / f"{fold}.safetensors"
        _save(network.half() if half else network, file)
        weights[file.name] = sha256_of(file)
    manifest = Manifest(
        **identity,
        **fields,
        configuration=first.configuration,
        mirror_axes=first.mirror_axes,
        weights=weights,
        training=_training(model, first) | choices.manifest.get("training", {}),
        installed_by=f"cordlesion {__version__}",
    )
    for name, content in (("plans.json", vetted.document), ("dataset.json", model.dataset)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "model.json").write_text(manifest.to_json(), encoding="utf-8")
    return manifest, notes


def _save(network: nn.Module, path: Path) -> None:
    """Write each weight once, though nnU-Net's networks know the same ones by several names.

    The same weights give the same bytes, which ``safetensors.torch.save_model`` does not.
    """
    named = dict(network.named_parameters()) | dict(network.named_buffers())
    kept = {name: value.detach().clone().contiguous() for name, value in named.items()}
    save_file(kept, str(path))
    path.chmod(0o644)  # safetensors makes files that others may not read


def _training(model: Trained, first: Checkpoint) -> dict[str, Any]:
    """Record what the files say of the training."""
    return {
        "trainer": first.trainer,
        "plans": str(model.plans.get("plans_name", "")),
        "dataset": str(model.plans.get("dataset_name", "")),
        "cases": model.dataset.get("numTraining"),
        "epochs": first.epochs,
        "checkpoints": {fold: path.name for fold, path in model.checkpoints.items()},
    }


def _check_outputs(outputs: dict[str, tuple[int, ...]], vetted: Vetted) -> None:
    """Refuse a manifest that points to outputs the network does not have."""
    heads = vetted.labels.num_segmentation_heads
    for structure, channels in outputs.items():
        if structure not in ("cord", "lesion") or not all(
            isinstance(channel, int) and 0 <= channel < heads for channel in channels
        ):
            raise UsageError(
                f"The manifest's output {structure!r} is {list(channels)}: outputs are cord and "
                f"lesion, and the network's channels are 0 to {heads - 1}."
            )


def _check_alike(checkpoint: Checkpoint, first: Checkpoint, fold: str, vetted: Vetted) -> None:
    """Refuse folds that were trained in another way than the first."""
    if checkpoint.configuration != first.configuration:
        raise MissingResource(
            f"The folds are of different configurations, {first.configuration} and "
            f"{checkpoint.configuration}; give the folder of one."
        )
    dimensions = len(vetted.configuration.patch_size)
    if checkpoint.mirror_axes != first.mirror_axes or not all(
        0 <= axis < dimensions for axis in checkpoint.mirror_axes
    ):
        raise MissingResource(
            f"The checkpoint of {fold} mirrors along {list(checkpoint.mirror_axes)}, which does "
            f"not go with a {dimensions}D network mirrored along {list(first.mirror_axes)}."
        )


def _make_work_folder(store: Path) -> Path:
    """Make a hidden folder in the store: on the same disk, so that a rename publishes it."""
    work = store / f".{uuid.uuid4().hex}"
    try:
        work.mkdir(parents=True)
    except OSError as error:
        raise UsageError(
            f"The store {store} cannot be written ({error.strerror}); set CORDLESION_MODELS to a "
            "folder of your own."
        ) from error
    return work


def _publish(built: Path, target: Path, work: Path, replace_old: bool) -> None:
    """Rename the finished model into the store."""
    if replace_old and target.exists():
        target.rename(work / "old")
    try:
        built.rename(target)
    except OSError as error:
        raise UsageError(
            f"A model '{target.name}' came into the store meanwhile ({error.strerror}); "
            "give another --name."
        ) from error


def read_manifest_file(path: Path) -> dict[str, Any]:
    """Read a partial ``model.json`` that the user gives.

    Raises
    ------
    UsageError
        Not a JSON object.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--manifest {path} cannot be read ({error}).") from error
    if not isinstance(content, dict) or not all(re.fullmatch(r"\w+", key) for key in content):
        raise UsageError(f"--manifest {path} is no JSON object with the keys of a model.json.")
    return content
