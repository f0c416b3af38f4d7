"""What ``cordlesion models`` prints."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bids_app.errors import MissingResource
from bids_app.lesions.preset import load_preset
from bids_app.segmentation.known import KNOWN
from bids_app.segmentation.manifest import BOX, Manifest, find_model, read_manifest
from bids_app.segmentation.orientation import to_sct_letters
from bids_app.segmentation.store import installed_models, models_folder

_WIDTH = 22


def list_models() -> int:
    """Print the models that are there, and the known ones that could be."""
    store = models_folder(os.environ)
    table = Table(box=box.SIMPLE, show_edge=False)
    for column in ("name", "version", "channels", "finds", "folds", "MB", "licence"):
        table.add_column(column, no_wrap=column == "name")
    folders = {"box": BOX, **{folder.name: folder for folder in installed_models(store)}}
    for name, folder in folders.items():
        table.add_row(name, *_row(folder))
    console = Console(highlight=False, soft_wrap=True)
    _print_table(console, table)
    console.print(f"Store: {store}", markup=False)
    for name, known in KNOWN.items():
        if name not in folders:
            console.print(f"Can be installed: {name} ({known.about})", markup=False)
    return 0


def show_model(name: str) -> int:
    """Print all that a model says of itself."""
    folder = find_model(name)
    manifest = read_manifest(folder)
    for key, value in describe_manifest(manifest).items():
        print(f"{key + ':':<{_WIDTH}}{value}")
    print(f"{'folder:':<{_WIDTH}}{folder}")
    return 0


def _fusion(manifest: Manifest) -> str:
    """Say how contrasts are read."""
    penalty = manifest.second_alone_penalty
    if manifest.fusion == "early" or penalty is None:
        return f"{manifest.fusion} fusion"
    return (
        f"late fusion, the higher counts; the second lowered by {penalty:g} logits, the reference "
        f"by {manifest.reference_alone_penalty:g} where the second shows nothing"
    )


def describe_manifest(manifest: Manifest) -> Mapping[str, str]:
    """Give a model's description as lines for people."""
    crop = manifest.crop_margin_mm
    lines = {
        "name": manifest.name,
        "version": manifest.version,
        "intended use": manifest.intended_use,
        "licence": manifest.licence,
        "citation": manifest.citation,
        "channels": f"{', '.join(manifest.channels)} ({_fusion(manifest)})",
        "finds": _finds(manifest),
        "outputs": ", ".join(f"{k} = {_sum(v)}" for k, v in manifest.outputs.items()),
        "configuration": manifest.configuration,
        "orientation": f"{to_sct_letters(manifest.orientation)} "
        f"({manifest.orientation} in nibabel's letters)",
        "mirrored axes": ", ".join(map(str, manifest.mirror_axes)) or "none",
        "preset": manifest.preset or "default",
        "cut to": "the whole image" if crop is None else f"the cord and {_mm(crop)} round it",
        "calibration": _calibration(manifest),
        "installed by": manifest.installed_by or "comes with the program",
    }
    for number, (file, digest) in enumerate(sorted(manifest.weights.items())):
        lines[f"weights {number}"] = f"{file}, SHA-256 {digest}"
    for number, (origin, digest) in enumerate(manifest.source.items()):
        lines[f"source {number}"] = origin + (f", SHA-256 {digest}" if digest else "")
    lines |= {f"training {key}": str(value) for key, value in manifest.training.items()}
    return lines


def install_model(namespace: argparse.Namespace) -> int:
    """Install a model and say what was assumed of it."""
    from bids_app.segmentation.describe import Choices
    from bids_app.segmentation.install import install, read_manifest_file

    if namespace.preset:
        load_preset(namespace.preset)
    margin = namespace.crop_margin
    choices = Choices(
        manifest=read_manifest_file(namespace.manifest) if namespace.manifest else {},
        channels=tuple(namespace.channels or ()),
        cord=tuple(namespace.cord_label or ()),
        lesion=tuple(namespace.lesion_label or ()),
        orientation=namespace.orientation,
        fusion=namespace.fusion,
        preset=namespace.preset,
        licence=namespace.licence,
        crop_margin_mm=(margin[0], margin[1], margin[2]) if margin else None,
    )
    installed = install(
        namespace.source,
        models_folder(os.environ),
        name=namespace.name,
        hashes=namespace.sha256 or (),
        choices=choices,
        half=namespace.half,
        replace_old=namespace.replace,
    )
    manifest = installed.manifest
    for note in installed.notes:
        print(f"Note: {note}")
    print(
        f"Installed '{manifest.name}' ({', '.join(manifest.channels)} in; {_finds(manifest)} out; "
        f"{len(manifest.weights)} folds) in {installed.folder}. "
        f"Look at it with 'cordlesion models info {manifest.name}'."
    )
    return 0


def export(name: str, folder: Path) -> int:
    """Write a model as a plain nnU-Net folder."""
    from bids_app.segmentation.export import export_model

    source = find_model(name)
    letters = to_sct_letters(read_manifest(source).orientation)
    export_model(source, folder)
    print(
        f"Wrote {folder}; nnUNetv2_predict_from_modelfolder runs it on images stored in {letters} "
        "(Spinal Cord Toolbox's letters)."
    )
    return 0


def _row(folder: Path) -> tuple[str, ...]:
    try:
        manifest = read_manifest(folder)
        size = sum((folder / name).stat().st_size for name in manifest.weights)
    except (MissingResource, OSError):
        return ("", "", "damaged; install it again", "", "", "")
    return (
        manifest.version,
        ", ".join(manifest.channels),
        _finds(manifest),
        str(len(manifest.weights)),
        f"{size / 1e6:.1f}",
        manifest.licence,
    )


def _finds(manifest: Manifest) -> str:
    found = " and ".join(manifest.outputs)
    return found + (" (cord from the box)" if "cord" not in manifest.outputs else "")


def _calibration(manifest: Manifest) -> str:
    known = manifest.calibration
    if known is None:
        return "none: no expected counts and volumes"
    return (
        f"fitted on {known.source}; log-odds = {known.intercept:.2f} "
        f"{known.mean_logit_weight:+.2f} mean {known.peak_logit_weight:+.2f} peak "
        f"{known.log_volume_weight:+.2f} ln(mm3); missed per mm of cord: "
        f"{known.missed_per_mm[0]:.2g} (one contrast), {known.missed_per_mm[1]:.2g} (two)"
    )


def _sum(channels: tuple[int, ...]) -> str:
    return " + ".join(f"channel {channel}" for channel in channels)


def _mm(margin: tuple[float, float, float]) -> str:
    return " x ".join(f"{length:g}" for length in margin) + " mm"


def _print_table(console: Console, table: Table) -> None:
    """Print a table in full where the output is not a terminal."""
    wide: Any = console if console.is_terminal else Console(width=200, highlight=False)
    wide.print(table)
