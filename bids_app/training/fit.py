"""Train the box's network on an endless stream of synthetic spines.

A run is a folder with ``state.pt`` (everything needed to go on) and ``log.tsv``. Examples are
numbered: the same seed and number give the same example whatever the number of workers, so a
run that is stopped and resumed sees what an unbroken one would have seen.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from scipy import ndimage
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bids_app.errors import MissingResource
from bids_app.networks import build_network, has_fast_bf16, hasten_norms
from bids_app.training.anatomy import SMALLEST_LESION_MM3
from bids_app.training.patches import make_examples
from bids_app.training.plan import PATCH, SPACING_MM, WEIGHTS_FILE, box_architecture

_RENDERINGS = 2
# A lesion of so many voxels or more has weight one; no voxel counts more often than the second.
_USUAL_LESION, _MOST_WEIGHT = 200, 4.0
# First and last step of narrow patches only; the step from which examples are of full difficulty.
_COURSE_STEPS = (1700, 2800, 3800)


@dataclass(frozen=True)
class FitSettings:
    """How to train; everything that changes the result.

    Attributes
    ----------
    folder : Path
        Where the run lives; resumed when it holds a ``state.pt``.
    steps : int
        Optimiser steps of the whole run, earlier sessions included.
    batch_size : int
    learning_rate : float
        AdamW's; constant after a short warm-up, then linear to zero.
    decay : float
        Share of the run over which the rate falls.
    seed : int
    device : str
    workers : int
        Processes that make examples.
    start : Path, optional
        Folder of a model with the box's plan to start from; examples are then of full difficulty
        from the first step.
    """

    folder: Path
    steps: int = 6000
    batch_size: int = 2
    learning_rate: float = 1e-3
    decay: float = 0.25
    seed: int = 1
    device: str = "auto"
    workers: int = 2
    start: Path | None = None


class _Stream(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
    """Endless groups of batches, numbered from `first`; workers take turns.

    A group holds `_RENDERINGS` batches of the same anatomies: drawing a spine costs as much as
    acquiring it, and a second look at it with other contrasts is nearly as good as a new one.
    """

    def __init__(self, seed: int, batch_size: int, first: int, skip: int = 0) -> None:
        self.seed, self.batch_size, self.first, self.skip = seed, batch_size, first, skip

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        info = torch.utils.data.get_worker_info()
        worker, count = (info.id, info.num_workers) if info else (0, 1)
        torch.set_num_threads(1)
        number = self.first + worker
        while True:
            yield self._group(number)
            number += count

    def _group(self, number: int) -> tuple[Tensor, Tensor]:
        """Images and targets of shape (renderings, batch, 2, z, y, x)."""
        images, targets = [], []
        now = course(number * _RENDERINGS + self.skip)
        for item in range(self.batch_size * now.batches):
            rng = np.random.default_rng((self.seed, number, item))
            examples = list(
                make_examples(rng, now.patch, SPACING_MM, _RENDERINGS, now.ease, now.dense)
            )
            images.append(torch.from_numpy(np.stack([example.image for example in examples])))
            targets.append(torch.from_numpy(np.stack([example.target for example in examples])))
        return torch.stack(images, 1), torch.stack(targets, 1)


def fit(settings: FitSettings) -> Path:
    """Train, or go on with, a run.

    Parameters
    ----------
    settings : FitSettings

    Returns
    -------
    Path
        The run's ``state.pt``.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    device = _device(settings.device)
    network = build_network(box_architecture(), 2, 2, deep=True, start=True)
    if settings.start:
        _start_from(settings.start, network)
    network = network.to(device)
    if device.type == "cpu":
        hasten_norms(network)
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=1e-2
    )
    state_path = settings.folder / "state.pt"
    step, record = _resume(state_path, network, average, optimizer)
    hours_before, start = record.get("hours", 0.0), time.monotonic()
    record = _record(settings, device)
    log = _Log(settings.folder / "log.tsv")
    for images, targets in _loader(settings, step):
        if step >= settings.steps:
            break
        for image, target in zip(images, targets, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * rate(step, settings.steps, settings.decay)
            loss, dice = _train_step(network, optimizer, image.to(device), target.to(device))
            average.update_parameters(network)
            step += 1
            log.add(step, loss, dice)
        if step % 200 == 0 or step >= settings.steps:
            record["hours"] = round(hours_before + (time.monotonic() - start) / 3600, 2)
            _save(state_path, step, network, average, optimizer, record | {"steps": step})
    return state_path


def _record(settings: FitSettings, device: torch.device) -> dict[str, Any]:
    """Tell how a run is made, for the model's manifest."""
    return {
        "command": shlex.join(["cordlesion", *sys.argv[1:]]),
        "seed": settings.seed,
        **({"start": _weights_of(settings.start)} if settings.start else {}),
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "decay": settings.decay,
        "machine": f"{device.type}, {torch.get_num_threads()} threads",
    }


def _loader(settings: FitSettings, step: int) -> torch.utils.data.DataLoader[tuple[Tensor, Tensor]]:
    """Give the groups of batches from a step on."""
    skip = _COURSE_STEPS[-1] if settings.start else 0
    stream = _Stream(settings.seed, settings.batch_size, step // _RENDERINGS, skip)
    return torch.utils.data.DataLoader(
        stream,
        batch_size=None,
        num_workers=settings.workers,
        prefetch_factor=3 if settings.workers else None,
    )


def rate(step: int, steps: int, decay: float = 0.25) -> float:
    """Learning rate relative to its peak: warm-up, plateau, linear decay at the end.

    Examples
    --------
    >>> [round(rate(step, 1000), 2) for step in (0, 500, 750, 875, 1000)]
    [0.01, 1.0, 1.0, 0.5, 0.0]
    """
    return float(min(1.0, (step + 1) / 100, max(0.0, (steps - step) / (decay * steps))))


@dataclass(frozen=True)
class Course:
    """What is shown at a step.

    Attributes
    ----------
    patch : tuple of int
        Shape (z, y, x); small ones come in larger batches.
    batches : int
        Times the batch size.
    ease : float
        How much easier than the full range, see `bids_app.training.patches.make_examples`.
    dense : bool
        Only patches on the cord, with many lesions while examples are easy.
    """

    patch: tuple[int, int, int] = PATCH
    batches: int = 1
    ease: float = 0.0
    dense: bool = False


def course(step: int) -> Course:
    """Give what is shown at a step: first the cord, then many strong lesions, then everything.

    Examples
    --------
    >>> course(100).ease, course(2000).batches, course(3300).ease, course(9000) == Course()
    (1.0, 3, 0.5, True)
    """
    dense_from, dense_to, full_from = _COURSE_STEPS
    ease = float(np.clip((full_from - step) / (full_from - dense_to), 0, 1))
    turn = step // _RENDERINGS % 3
    if dense_from <= step < dense_to or (step >= dense_to and turn == 1):
        return Course((64, 48, 32), 3, ease, True)
    return Course(ease=ease, dense=step >= dense_to and turn == 2)


def _loss() -> DeepSupervisionWrapper:
    """Give nnU-Net's loss for regions, halved at each coarser output."""
    loss = DC_and_BCE_loss(
        {},
        {"batch_dice": True, "do_bg": True, "smooth": 1e-5, "ddp": False},
        dice_class=MemoryEfficientSoftDiceLoss,
    )
    weights = np.array([1.0, 0.5, 0.25, 0.125])
    return DeepSupervisionWrapper(loss, tuple(weights / weights.sum()))


def _lesion_term(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the lesion within and near the cord.

    Over a whole patch one voxel in a thousand is lesion; within the cord one in ten is, and
    only there does the answer matter. Without this term lesions are learned much more slowly.
    """
    near_cord = nn.functional.max_pool3d(target[:, :1], 5, stride=1, padding=2) > 0
    weight = near_cord * _lesion_weights(target[:, 1:])
    loss = nn.functional.binary_cross_entropy_with_logits(
        output[:, 1:], target[:, 1:], weight, reduction="sum"
    )
    return loss / near_cord.sum().clamp(min=1)


def _lesion_weights(lesion: Tensor) -> Tensor:
    """Give voxels of small lesions more weight: a lesion counts as one, whatever its size.

    Not those of specks, which the grid cuts off lesions and which can hardly be seen.

    Examples
    --------
    >>> lesion = torch.zeros((1, 1, 1, 20, 20))
    >>> lesion[..., :10, :5] = lesion[..., 12, :15] = lesion[..., 15, 15] = 1
    >>> weights = _lesion_weights(lesion)[0, 0, 0]
    >>> [round(weights[at].item(), 1) for at in ((0, 0), (12, 0), (15, 15), (19, 19))]
    [2.0, 3.7, 1.0, 1.0]
    """
    weights = np.ones(tuple(lesion.shape), np.float32)
    for weight, mask in zip(weights[:, 0], lesion[:, 0].cpu().numpy(), strict=True):
        pieces, _ = ndimage.label(mask > 0.5)
        sizes = np.maximum(np.bincount(pieces.ravel()), 1)
        each = np.clip(np.sqrt(_USUAL_LESION / sizes), 1, _MOST_WEIGHT)
        each[sizes * SPACING_MM**3 < SMALLEST_LESION_MM3] = 1
        each[0] = 1
        weight[:] = each[pieces]
    return torch.from_numpy(weights).to(lesion.device)


def _train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    image: Tensor,
    target: Tensor,
) -> tuple[float, tuple[float, ...]]:
    """Take one optimiser step; gives the loss and the batch's Dice of cord and lesion."""
    image = image.to(memory_format=torch.channels_last_3d)
    target = target.float()
    with torch.autocast(image.device.type, torch.bfloat16, enabled=has_fast_bf16(image.device)):
        outputs = network(image)
    outputs = [output.float() for output in outputs]
    scales = [tuple(output.shape[2:]) for output in outputs]
    targets = [
        (torch.nn.functional.interpolate(target, scale, mode="area") >= 0.5).float()
        for scale in scales
    ]
    loss = _loss()(outputs, targets) + _lesion_term(outputs[0], target)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 12)
    optimizer.step()
    with torch.no_grad():
        found = outputs[0] > 0
        both = (found & (target > 0.5)).sum((0, 2, 3, 4))
        total = found.sum((0, 2, 3, 4)) + target.sum((0, 2, 3, 4))
        dice = tuple(
            float(2 * b / t) if t else float("nan") for b, t in zip(both, total, strict=True)
        )
    return loss.item(), dice


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def _weights_of(model: Path) -> str:
    """SHA-256 of a model's weights."""
    return hashlib.sha256((model / WEIGHTS_FILE).read_bytes()).hexdigest()


def _start_from(model: Path, network: nn.Module) -> None:
    """Fill a network with the weights of a packaged model."""
    try:
        safetensors.torch.load_model(network, model / WEIGHTS_FILE)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise MissingResource(
            f"{model / WEIGHTS_FILE} is missing or no network of the box's plan; "
            "start from a folder written by --package."
        ) from error


def _resume(
    path: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, dict[str, Any]]:
    """Load a run's state when there is one; gives the number of steps done and its record."""
    if not path.exists():
        return 0, {}
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), state.get("record", {})


def _save(
    path: Path,
    step: int,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    record: dict[str, Any],
) -> None:
    """Write the state under a temporary name, then rename it."""
    state = {
        "step": step,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "record": record,
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


class _Log:
    """Append a line with running means every 50 steps."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows, self.start = path, [], time.monotonic()  # type: ignore[var-annotated]
        if not path.exists():
            path.write_text("step\tseconds\tloss\tdice_cord\tdice_lesion\n")

    def add(self, step: int, loss: float, dice: tuple[float, ...]) -> None:
        self.rows.append((loss, *dice))
        if step % 50:
            return
        means = [np.nanmean(column) for column in zip(*self.rows, strict=True)]
        line = "\t".join(
            [str(step), f"{time.monotonic() - self.start:.0f}", *(f"{m:.4f}" for m in means)]
        )
        with self.path.open("a") as log:
            log.write(line + "\n")
        print(line, flush=True)
        self.rows = []
