"""What ``cordlesion templates`` does: list and install templates."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bids_app import __version__
from bids_app.dataset.templates import (
    DESCRIPTION,
    PAM50,
    RESOLUTION,
    WANTED,
    TemplateFiles,
    find_template,
    image_name,
    installed_templates,
    region_name,
    source_files,
    template_folder,
    templates_home,
)
from bids_app.errors import MissingResource, UnreadableImage, UsageError
from bids_app.files import write_json
from bids_app.imaging.volumes import read_label_map, read_volume, write_volume
from bids_app.records import Volume
from bids_app.segmentation.archive import unpack

_LABELS = ("label_disc", "levels")


def list_templates() -> int:
    """Print the templates that are there."""
    home = templates_home(os.environ)
    table = Table(box=box.SIMPLE, show_edge=False)
    for column in ("name", "voxels (mm)", "atlas regions", "MB", "what"):
        table.add_column(column, no_wrap=column == "name")
    templates = installed_templates(home)
    for name, about in templates.items():
        files = template_folder(home, name).rglob("*.nii.gz")
        size = sum(path.stat().st_size for path in files if path.is_file())
        regions = about.get("Regions")
        count = str(len(regions)) if isinstance(regions, dict) else ""
        table.add_row(name, _zooms(about), count, f"{size / 1e6:.1f}", str(about.get("Name", "")))
    console = Console(highlight=False, soft_wrap=True)
    if templates:
        (console if console.is_terminal else Console(width=200, highlight=False)).print(table)
    console.print(f"TemplateFlow home: {home}", markup=False)
    if PAM50 not in templates:
        console.print(
            f"Can be installed: {PAM50} (spinal cord; from the Spinal Cord Toolbox's folder "
            f"data/PAM50: cordlesion templates install {PAM50} SOURCE)",
            markup=False,
        )
    return 0


def install_template(name: str, source: Path, replace: bool) -> int:
    """Lay a template out in the TemplateFlow home.

    Raises
    ------
    UsageError
        Another template than PAM50, one that is there already, or a source that is no PAM50.
    """
    if name != PAM50:
        raise UsageError(f"{name!r} is not a template that can be installed; {PAM50} is.")
    home = templates_home(os.environ)
    target = template_folder(home, name)
    if target.exists() and not replace:
        raise UsageError(f"{name} is already in {home}; give --replace to install it again.")
    # Hidden until it is complete, and beside its place so that it can be renamed.
    aside = home / f".tpl-{name}-{uuid.uuid4().hex}"
    try:
        with _opened(source) as folder:
            files = source_files(folder)
            try:
                aside.mkdir(parents=True)
                _lay_out(files, aside, name)
            except OSError as error:
                raise UsageError(
                    f"{home} cannot be written to ({error.strerror or error}); set "
                    "TEMPLATEFLOW_HOME to a folder of yours."
                ) from error
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    installed = find_template(home, name)
    regions = f" and an atlas of {len(installed.regions)} regions" if installed.regions else ""
    print(f"Installed {name} in {target}: {', '.join(sorted(installed.images))}{regions}.")
    for wanted, lost in (("wm", "white- and grey-matter fractions"), ("regions", "tracts")):
        if wanted not in installed.images and not (wanted == "regions" and installed.regions):
            print(f"Note: the source has no {wanted}, so there will be no {lost}.")
    return 0


@contextmanager
def _opened(source: Path) -> Iterator[Path]:
    """Give the source as a folder; a zip is unpacked for as long as it is needed."""
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise UsageError(f"SOURCE {source} does not exist: give a folder or a zip.")
    with tempfile.TemporaryDirectory() as folder:
        try:
            unpack(source, Path(folder), wanted=WANTED)
        except MissingResource as error:
            raise UsageError(str(error)) from error
        yield Path(folder)


def _lay_out(files: TemplateFiles, folder: Path, name: str) -> None:
    """Write a template's files under TemplateFlow's names."""
    try:
        cord = read_volume(files.images["cord"])
        for key, path in files.images.items():
            volume = _on_grid(_read(key, path), cord, path)
            write_volume(folder / image_name(name, key), volume.data, volume.affine)
        for region in files.regions:
            volume = _on_grid(read_volume(region.path), cord, region.path)
            write_volume(folder / region_name(name, region.index), volume.data, volume.affine)
    except UnreadableImage as error:
        raise UsageError(str(error)) from error
    write_json(folder / DESCRIPTION, _describe(files, cord, name))


def _read(key: str, path: Path) -> Volume:
    """Read one image: labels as they are, the cord as a mask, all else as numbers."""
    if key in _LABELS:
        labels = read_label_map(path)
        return Volume(labels.data.astype(np.int16), labels.affine)
    volume = read_volume(path)
    if key == "cord":
        return Volume((volume.data >= 0.5).astype(np.uint8), volume.affine)
    return volume


def _on_grid(volume: Volume, cord: Volume, path: Path) -> Volume:
    if not volume.same_grid(cord):
        raise UsageError(f"{path} does not lie on the grid of the template's cord.")
    return volume


def _describe(files: TemplateFiles, cord: Volume, name: str) -> dict[str, Any]:
    """Build the template's description, with the grid as TemplateFlow writes it."""
    document: dict[str, Any] = {
        "Identifier": name,
        "Name": "PAM50: spinal cord template of the Spinal Cord Toolbox",
        "BIDSVersion": "1.10.0",
        "License": "As the source's; see the Spinal Cord Toolbox",
        "ReferencesAndLinks": [
            "https://doi.org/10.1016/j.neuroimage.2017.10.041",
            "https://github.com/spinalcordtoolbox/PAM50",
        ],
        "InstalledBy": f"CordLesion {__version__}",
        "res": {
            RESOLUTION: {
                "origin": cord.affine[:3, 3].round(4),
                "shape": list(cord.data.shape),
                "zooms": [round(step, 4) for step in cord.spacing_mm],
            }
        },
    }
    if files.regions:
        document["Regions"] = {str(region.index): region.name for region in files.regions}
    return document


def _zooms(about: Any) -> str:
    grids = about.get("res")
    known = grids.values() if isinstance(grids, dict) else ()
    zooms = [grid.get("zooms", ()) for grid in known if isinstance(grid, dict)]
    return "; ".join(" x ".join(f"{step:g}" for step in one) for one in zooms)
