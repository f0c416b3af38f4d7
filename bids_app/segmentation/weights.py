"""Load a model: nnU-Net plans for the architecture, safetensors for the weights."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from safetensors import SafetensorError
from safetensors.torch import load_model as fill_from_safetensors
from torch import nn

from bids_app.errors import MissingResource, UsageError
from bids_app.networks import build_network, has_fast_bf16
from bids_app.segmentation.compiled import CannotCompile, CompiledNetwork
from bids_app.segmentation.manifest import Manifest, read_manifest
from bids_app.segmentation.orientation import check_letters
from bids_app.segmentation.trained import read_json
from bids_app.segmentation.vetting import Vetted, vet

log = logging.getLogger("bids_app")


@dataclass(frozen=True)
class Model:
    """A network with the weights of its folds, ready to predict.

    Attributes
    ----------
    manifest : Manifest
    plans : PlansManager
    configuration : ConfigurationManager
    labels : LabelManager
    networks : tuple of torch.nn.Module
        One a fold, in evaluation mode, on `device`; on a CPU as OpenVINO has compiled them.
    device : torch.device
    bf16 : bool
        Run the network in bfloat16.
    at_once : int
        Tiles that the networks read at the same time, a thread each; one where PyTorch runs
        them, which has threads of its own.
    """

    manifest: Manifest
    plans: PlansManager
    configuration: ConfigurationManager
    labels: LabelManager
    networks: tuple[nn.Module, ...]
    device: torch.device
    bf16: bool
    at_once: int = 1


def choose_device(wanted: str) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device.

    Raises
    ------
    MissingResource
        CUDA was asked for and is not there.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise MissingResource(
            "--device cuda: PyTorch finds no CUDA device here; use --device cpu or auto."
        )
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def limit_threads(number: int) -> None:
    """Let PyTorch use so many threads in this process."""
    torch.set_num_threads(number)


def memory_format(bf16: bool, dimensions: int = 3) -> torch.memory_format:
    """Choose the layout of tensors in memory for networks of 2 or 3 dimensions.

    Channels last is faster in bfloat16; in float32 nnU-Net's own layout keeps its rounding, so
    that probabilities equal its own.
    """
    if not bf16:
        return torch.contiguous_format
    return torch.channels_last_3d if dimensions == 3 else torch.channels_last


def load_model(folder: Path, device: torch.device, *, by_pytorch: bool = False) -> Model:
    """Load a model from its folder.

    Parameters
    ----------
    folder : Path
        With ``model.json``, ``plans.json``, ``dataset.json`` and one safetensors file a fold.
    device : torch.device
    by_pytorch : bool
        Let PyTorch run the network in float32 and nnU-Net's own layout, so that probabilities
        equal nnU-Net's; else what is fastest on the device does.

    Returns
    -------
    Model

    Raises
    ------
    MissingResource
        A file is missing, damaged or does not fit the others.
    """
    manifest = read_manifest(folder)
    dataset = read_json(folder / "dataset.json")
    vetted = vet(read_json(folder / "plans.json"), dataset, manifest.configuration)
    _check_manifest(manifest, vetted, folder)
    plans, configuration, labels = vetted.plans, vetted.configuration, vetted.labels
    bf16 = has_fast_bf16(device) and not by_pytorch
    compiles = device.type == "cpu" and not by_pytorch
    model = Model(manifest, plans, configuration, labels, (), device, bf16)
    for name in sorted(manifest.weights):
        # One after the other: several folds of a large network at once take gigabytes.
        network = _load_network(folder / name, manifest.weights[name], vetted)
        compiled = _compile(model, network, vetted.channels) if compiles else None
        compiles = compiled is not None  # what cannot be done of one fold cannot of any
        if compiled is None:
            model = _with_fold(model, network)
        else:
            networks = (*model.networks, compiled)
            model = replace(model, networks=networks, at_once=compiled.streams)
    return model


def _load_network(path: Path, digest: str, vetted: Vetted) -> nn.Module:
    """Load the network of one fold."""
    _check_hash(path, digest)
    heads = vetted.labels.num_segmentation_heads
    network = build_network(*(vetted.architecture, vetted.channels, heads), deep=False, start=False)
    _fill(network, path)
    return network.eval()


def _compile(model: Model, network: nn.Module, channels: int) -> CompiledNetwork | None:
    """Give a fold's network as OpenVINO runs it on a CPU, None where it cannot."""
    shape = (1, channels, *model.configuration.patch_size)
    try:
        return CompiledNetwork(network, shape, torch.get_num_threads(), bf16=model.bf16)
    except CannotCompile as error:
        log.info("Model '%s' runs in float32, by PyTorch: %s.", model.manifest.name, error)
        return None


def _with_fold(model: Model, network: nn.Module) -> Model:
    """Add a fold's network as PyTorch runs it; on a CPU in float32."""
    model = replace(model, bf16=model.bf16 and model.device.type != "cpu")
    network = network.to(model.device)
    if model.bf16:
        layout = memory_format(model.bf16, len(model.configuration.patch_size))
        network = network.to(memory_format=layout)  # type: ignore[call-overload]
    return replace(model, networks=(*model.networks, network))


def _fill(network: nn.Module, path: Path) -> None:
    """Put the weights of a file into a network."""
    try:
        fill_from_safetensors(network, str(path))
    except (RuntimeError, SafetensorError) as error:
        raise MissingResource(
            f"{path} does not fit its plans.json; install the model again."
        ) from error


def _check_manifest(manifest: Manifest, vetted: Vetted, folder: Path) -> None:
    """Refuse a manifest that does not fit the plans beside it."""
    heads = vetted.labels.num_segmentation_heads
    axes = range(len(vetted.configuration.patch_size))
    by_coverage = manifest.fusion == "late" and manifest.second_alone_penalty is None
    if (
        len(manifest.channels) != vetted.channels
        or (by_coverage and vetted.channels != 1)
        or not all(n in range(heads) for channels in manifest.outputs.values() for n in channels)
        or not all(axis in axes for axis in manifest.mirror_axes)
        or not manifest.weights
        or any(Path(name).name != name for name in manifest.weights)
    ):
        raise MissingResource(
            f"{folder / 'model.json'} does not fit its plans.json; install the model again."
        )
    try:
        check_letters(manifest.orientation)
    except UsageError as error:
        raise MissingResource(
            f"{folder / 'model.json'} has no usable orientation; install the model again."
        ) from error


def _check_hash(path: Path, expected: str) -> None:
    """Refuse weights that are not those of the manifest."""
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise MissingResource(
            f"{path} cannot be read ({error}); install the model again."
        ) from error
    if found != expected:
        raise MissingResource(
            f"{path} is damaged: its SHA-256 is not the manifest's; install the model again."
        )
