"""Templates in the TemplateFlow home: the only door to `templateflow`.

PAM50 is in no TemplateFlow archive. It is laid out as ``tpl-PAM50`` in the home folder once, and
found through TemplateFlow's client from then on. The client is asked with ``ls``, which is its
``get`` without the download: nothing here uses the network, and a file that TemplateFlow left
empty to be fetched later is refused. (In 25.1.0 ``get`` needs Python 3.13, too.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.documents import parse_json
from bids_app.errors import MissingResource, UsageError

if TYPE_CHECKING:
    from templateflow import TemplateFlowClient

PAM50 = "PAM50"
RESOLUTION = "1"
"""Label of the one grid of an installed template; its voxel size is in the description."""
DESCRIPTION = "template_description.json"

_IMAGE = ".nii.gz"
# What is taken of the source, by the middle of its name: key and how TemplateFlow calls it.
_ENTITIES: dict[str, tuple[dict[str, str], str]] = {
    "t1": ({}, "T1w"),
    "t2": ({}, "T2w"),
    "t2s": ({}, "T2starw"),
    "cord": ({"label": "cord"}, "mask"),
    "label_disc": ({"label": "discs"}, "dlabel"),
    "levels": ({"seg": "vertebrae"}, "dseg"),
    "wm": ({"label": "WM"}, "probseg"),
    "gm": ({"label": "GM"}, "probseg"),
    "csf": ({"label": "CSF"}, "probseg"),
}
_REQUIRED = ("cord", "label_disc")
_SOURCE = re.compile(r"PAM50(?:_small)?_(t1|t2|t2s|cord|label_disc|levels|wm|gm|csf)\.nii(\.gz)?")
_TRACT = re.compile(r"PAM50_atlas_(\d+)\.nii(\.gz)?")
WANTED = re.compile(rf"{_SOURCE.pattern}|{_TRACT.pattern}|info_label\.txt")
"""Names of the files that are taken out of a zip."""


@dataclass(frozen=True)
class Region:
    """One region of the white- and grey-matter atlas: its number, its name, its file."""

    index: int
    name: str
    path: Path


@dataclass(frozen=True)
class TemplateFiles:
    """The files of a template, in its source or as installed.

    Attributes
    ----------
    images : mapping of str to Path
        By SCT's name: ``cord`` and ``label_disc`` always, ``t2``, ``levels``, ``wm``, ``gm``,
        ... where they are there.
    regions : tuple of Region
        Of the atlas, by number; often none.
    """

    images: Mapping[str, Path]
    regions: tuple[Region, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """List all files, always in the same order."""
        return [self.images[key] for key in sorted(self.images)] + [r.path for r in self.regions]


def templates_home(environ: Mapping[str, str]) -> Path:
    """Give the TemplateFlow home, which need not exist.

    Parameters
    ----------
    environ : mapping
        ``TEMPLATEFLOW_HOME`` names it; else it is in the user's cache folder, as TemplateFlow
        has it.
    """
    from platformdirs import user_cache_dir

    return Path(environ.get("TEMPLATEFLOW_HOME") or user_cache_dir("templateflow")).absolute()


def template_folder(home: Path, name: str) -> Path:
    """Name a template's folder."""
    return home / f"tpl-{name}"


def installed_templates(home: Path) -> dict[str, Mapping[str, Any]]:
    """List the templates of a home that have any image, each with its description."""
    found = {}
    for folder in sorted(home.glob("tpl-*")):
        if any(path.stat().st_size for path in folder.rglob("*.nii.gz") if path.is_file()):
            found[folder.name.removeprefix("tpl-")] = _description(folder)
    return found


def find_template(home: Path, name: str) -> TemplateFiles:
    """Find an installed template through TemplateFlow; no network is used, nothing written.

    Raises
    ------
    MissingResource
        It is not there, or files of it are missing or empty.
    """
    if not any(template_folder(home, name).glob("*.nii*")):
        raise MissingResource(
            f"The template {name} is not installed in {home}; run 'cordlesion templates install "
            f"{name} SOURCE', or set TEMPLATEFLOW_HOME to where it is."
        )
    # Imported only now: without a home that is filled, the import would fill one.
    from templateflow import TemplateFlowClient

    client = TemplateFlowClient(root=home, autoupdate=False, use_datalad=False)
    images = {}
    for key, (entities, suffix) in _ENTITIES.items():
        query = {"label": None, "segmentation": None, "atlas": None}
        given = {"segmentation" if k == "seg" else k: v for k, v in entities.items()}
        paths = _get(client, name, suffix=suffix, **{**query, **given})
        if paths:
            images[key] = paths[0]
    for key in _REQUIRED:
        if key not in images:
            raise _incomplete(home, name, f"has no {key.replace('_', ' ')}")
    return TemplateFiles(images, _installed_regions(client, home, name))


def _get(client: TemplateFlowClient, name: str, **query: Any) -> list[Path]:
    """List the files of a query; an empty one is only a promise of TemplateFlow's."""
    found = client.ls(name, resolution=int(RESOLUTION), extension=_IMAGE, **query)
    for path in found:
        if not path.is_file() or path.stat().st_size == 0:
            home = Path(client.cache.config.root)
            raise _incomplete(home, name, f"has an empty file, {path.name}")
    return sorted(found)


def _incomplete(home: Path, name: str, problem: str) -> MissingResource:
    return MissingResource(
        f"The template {name} in {home} {problem}; install it again with 'cordlesion templates "
        f"install {name} SOURCE --replace'."
    )


def _installed_regions(client: TemplateFlowClient, home: Path, name: str) -> tuple[Region, ...]:
    paths = {p.name: p for p in _get(client, name, atlas=name, suffix="probseg")}
    names = _description(template_folder(home, name)).get("Regions")
    if not paths or not isinstance(names, dict):
        return ()
    regions = []
    for number, region in sorted(names.items(), key=lambda item: int(item[0])):
        path = paths.get(region_name(name, int(number)))
        if path is None:
            raise _incomplete(home, name, f"lacks region {number} of its atlas")
        regions.append(Region(int(number), str(region), path))
    return tuple(regions)


def _description(folder: Path) -> Mapping[str, Any]:
    try:
        content = parse_json((folder / DESCRIPTION).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def image_name(name: str, key: str) -> str:
    """Name an image of a template as TemplateFlow does.

    Examples
    --------
    >>> image_name("PAM50", "t2"), image_name("PAM50", "cord")
    ('tpl-PAM50_res-1_T2w.nii.gz', 'tpl-PAM50_res-1_label-cord_mask.nii.gz')
    """
    entities, suffix = _ENTITIES[key]
    return _name(name, entities, suffix)


def region_name(name: str, index: int) -> str:
    """Name the map of an atlas region.

    Examples
    --------
    >>> region_name("PAM50", 4)
    'tpl-PAM50_res-1_atlas-PAM50_label-04_probseg.nii.gz'
    """
    return _name(name, {"atlas": name, "label": f"{index:02d}"}, "probseg")


def _name(name: str, entities: Mapping[str, str], suffix: str) -> str:
    # TemplateFlow puts the resolution first, which BIDS does not.
    pairs = {"tpl": name, "res": RESOLUTION, **entities}
    return "_".join([f"{key}-{value}" for key, value in pairs.items()] + [suffix + _IMAGE])


def source_files(folder: Path) -> TemplateFiles:
    """Find the files of PAM50 in a folder, at any depth.

    Where the full template and its small variant are both there, the full one is taken.

    Parameters
    ----------
    folder : Path
        The Spinal Cord Toolbox's PAM50 folder or one that holds it.

    Raises
    ------
    UsageError
        No cord or no discs, or an atlas whose list names files that are not there.
    """
    images: dict[str, Path] = {}
    found = [path for path in sorted(folder.rglob("PAM50_*")) if _SOURCE.fullmatch(path.name)]
    full = [path for path in found if "_small_" not in path.name]
    for path in full or found:
        match = _SOURCE.fullmatch(path.name)
        if match:
            images.setdefault(match[1], path)
    missing = [f"PAM50_{key}.nii.gz" for key in _REQUIRED if key not in images]
    if missing:
        raise UsageError(
            f"{folder} has no {' and no '.join(missing)}: give the Spinal Cord Toolbox's PAM50 "
            "folder (data/PAM50 in its installation) or a zip of it."
        )
    return TemplateFiles(images, _source_regions(folder))


def _source_regions(folder: Path) -> tuple[Region, ...]:
    tracts = [path for path in sorted(folder.rglob("PAM50_atlas_*")) if _TRACT.fullmatch(path.name)]
    if not tracts:
        return ()
    atlas = tracts[0].parent
    try:
        text = (atlas / "info_label.txt").read_text("utf-8", errors="replace")
    except OSError as error:
        raise UsageError(
            f"{atlas} has an atlas but no info_label.txt that says what its files are."
        ) from error
    regions = []
    for index, name, file in read_regions(text):
        if not (atlas / file).is_file():
            raise UsageError(f"{atlas / 'info_label.txt'} names {file}, which is not there.")
        regions.append(Region(index, name, atlas / file))
    return tuple(regions)


def read_regions(text: str) -> list[tuple[int, str, str]]:
    """Read the atlas's list: number, name and file of each region of white or grey matter.

    Examples
    --------
    >>> read_regions("8, WM left rubrospinal tract, PAM50_atlas_08.nii.gz")
    [(8, 'WM left rubrospinal tract', 'PAM50_atlas_08.nii.gz')]
    >>> read_regions("36, CSF contour, PAM50_atlas_36.nii.gz"), read_regions("51, all, 0:29")
    ([], [])
    """
    regions = []
    for line in text.splitlines():
        number, _, rest = line.partition(",")
        # A name may hold commas; the file is the last field.
        name, _, file = (part.strip() for part in rest.rpartition(","))
        if number.strip().isdecimal() and name[:3] in ("WM ", "GM ") and _TRACT.fullmatch(file):
            regions.append((int(number), name, file))
    return regions
