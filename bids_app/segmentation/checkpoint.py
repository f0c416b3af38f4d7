"""Read nnU-Net checkpoints, which are pickles, as data: anything that could run is refused."""

from __future__ import annotations

import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bids_app.errors import MissingResource

_CONFIGURATION = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_GLOBAL = re.compile(r"GLOBAL (\S+)")
# Wrappers that torch.compile and DataParallel put before the names of weights.
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Checkpoint:
    """What is kept of a checkpoint.

    Attributes
    ----------
    weights : dict of Tensor
    configuration : str
    mirror_axes : tuple of int
    trainer : str
    epochs : int or None
    """

    weights: dict[str, Tensor]
    configuration: str
    mirror_axes: tuple[int, ...]
    trainer: str
    epochs: int | None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without running anything in it.

    Parameters
    ----------
    path : Path
        Written by nnU-Net v2's trainer.

    Raises
    ------
    MissingResource
        Damaged, not a checkpoint, or with something else in it than numbers and text.
    """
    name = f"{path.parent.name}/{path.name}"
    _refuse_compressed(path, name)
    try:
        with torch.serialization.safe_globals(_allowed()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = _GLOBAL.search(str(error))
        what = f"the code {found.group(1)!r}" if found else "something that is no data"
        raise MissingResource(
            f"{name} holds {what}, which could run when it is loaded; it is not loaded."
        ) from error
    except Exception as error:  # whatever a damaged file makes the unpickler do
        raise MissingResource(
            f"{name} is damaged ({type(error).__name__}); get the model again from its source."
        ) from error
    try:
        return _interpret(content)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise MissingResource(
            f"{name} is no checkpoint of nnU-Net v2 ({type(error).__name__}: "
            f"{str(error)[:100]}); the model cannot be used."
        ) from error


def _interpret(content: Any) -> Checkpoint:
    """Take out what is needed, and check the type of each."""
    configuration = content["init_args"]["configuration"]
    if not isinstance(configuration, str) or not _CONFIGURATION.fullmatch(configuration):
        raise ValueError("the configuration has no usable name")
    weights = {}
    for key, value in content["network_weights"].items():
        if not isinstance(key, str) or type(value) not in (Tensor, torch.nn.Parameter):
            raise TypeError("the weights are not tensors")
        if not value.is_floating_point() or value.layout is not torch.strided:
            raise TypeError(f"{key[:60]} is not of floating-point numbers")
        weights[_bare(key)] = value.detach()
    axes = tuple(int(axis) for axis in content.get("inference_allowed_mirroring_axes") or ())
    epochs = content.get("current_epoch")
    return Checkpoint(
        weights,
        configuration,
        axes,
        str(content.get("trainer_name", ""))[:100],
        int(epochs) if epochs is not None else None,
    )


def _bare(key: str) -> str:
    """Strip wrappers from the name of a weight.

    Examples
    --------
    >>> _bare("_orig_mod.encoder.weight"), _bare("module._orig_mod.encoder.weight")
    ('encoder.weight', 'encoder.weight')
    """
    bare = key
    while bare.startswith(_WRAPPERS):
        bare = bare.partition(".")[2]
    return bare


def _allowed() -> list[Any]:
    """List what NumPy's scalars and arrays are pickled with, under old and new names."""
    array = np._core.multiarray  # type: ignore[attr-defined]
    dtypes = [type(np.dtype(code)) for code in "?bBhHiIlLqQefd"]
    return [
        (array.scalar, "numpy.core.multiarray.scalar"),
        (array.scalar, "numpy._core.multiarray.scalar"),
        (array._reconstruct, "numpy.core.multiarray._reconstruct"),
        (array._reconstruct, "numpy._core.multiarray._reconstruct"),
        np.dtype,
        np.ndarray,
        *dict.fromkeys(dtypes),
    ]


def _refuse_compressed(path: Path, name: str) -> None:
    """Refuse a checkpoint that unpacks to more than it is: PyTorch never compresses."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            stored = all(item.compress_type == zipfile.ZIP_STORED for item in archive.infolist())
            total = sum(item.file_size for item in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise MissingResource(
            f"{name} is damaged ({error}); get the model again from its source."
        ) from error
    if not stored or total > path.stat().st_size:
        raise MissingResource(
            f"{name} unpacks to more than its size, which no checkpoint does; it is not loaded."
        )
