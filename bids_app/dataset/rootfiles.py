"""The files at the top of the derivatives that say what they are, written once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bids_app import __version__
from bids_app.documents import parse_json
from bids_app.files import write_json, write_text
from bids_app.options import DECISIONS_NAME

BIDS_VERSION = "1.10.0"
CODE_URL = "https://github.com/cordlesion/cordlesion"
IGNORED = (
    *("*.html", "figures", "log", "*_xfm.*", "*_STIR.*", "*_PSIR.*", "*_lesions.*", "group_*"),
    DECISIONS_NAME,
)
"""Lines of ``.bidsignore``: results that BIDS has no name for yet."""

_README = """\
# CordLesion derivatives

Segmentations of the spinal cord and of multiple sclerosis lesions in it, made by CordLesion
{version} ({url}). For research only: no result here has been looked at by a physician unless its
sidecar says so.

- `*_label-lesion_mask.nii.gz`: lesions; `*_label-lesion_probseg.nii.gz`: their probability
- `*_seg-lesions_dseg.nii.gz` and `.tsv`: each lesion with its number and its measures
- `*_label-cord_mask.nii.gz`, `*_label-cord_probseg.nii.gz`: the spinal cord
- `*_label-lesion_desc-uncertainty_probseg.nii.gz`: how unsure the model is, from 0 to 1
- `*_desc-preproc_*.nii.gz`: the second contrast on the grid of the reference
- `group_*`: counts and volumes over the cohort

All images are on the grid of the reference scan whose name theirs begins with. The JSON file beside
each says what it was made from, by which model and with which settings.
"""


def write_root_files(
    out_dir: Path,
    bids_dir: Path,
    environ: Mapping[str, str],
    links: Mapping[str, Path] | None = None,
) -> None:
    """Write ``dataset_description.json``, ``.bidsignore`` and ``README.md`` where missing.

    Any number of processes may do so at the same moment: each file appears by rename, and all
    write the same.

    Parameters
    ----------
    out_dir, bids_dir : Path
        Absolute.
    environ : mapping
        The environment, which names the container if there is one.
    links : mapping of str to Path, optional
        Other derivatives that results point to, by name; those that an older description lacks
        are added to its ``DatasetLinks``.
    """
    path = out_dir / "dataset_description.json"
    if not path.exists():
        write_json(path, describe(out_dir, bids_dir, environ))
    if links:
        _add_links(path, {name: _link(root, out_dir, bids_dir) for name, root in links.items()})
    if not (out_dir / ".bidsignore").exists():
        write_text(out_dir / ".bidsignore", "\n".join(IGNORED) + "\n")
    if not any((out_dir / name).exists() for name in ("README.md", "README", "README.txt")):
        write_text(out_dir / "README.md", _README.format(version=__version__, url=CODE_URL))


def describe(out_dir: Path, bids_dir: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Build the content of ``dataset_description.json``.

    The raw dataset is linked by a relative path when the derivatives lie inside it, so that both
    can move together, otherwise by its ``file:`` address. Its own name, licence, authors and DOI
    are taken over where it has them; we are named as the last author.
    """
    raw = _raw_description(bids_dir)
    generator: dict[str, Any] = {
        "Name": "CordLesion",
        "Version": __version__,
        "CodeURL": CODE_URL,
    }
    container = describe_container(environ)
    if container:
        generator["Container"] = container
    source: dict[str, Any] = {"URL": bids_dir.as_uri()}
    if isinstance(raw.get("DatasetDOI"), str):
        source["DOI"] = raw["DatasetDOI"]
    name = raw.get("Name")
    description: dict[str, Any] = {
        "Name": f"CordLesion derivatives of {name}" if name else "CordLesion derivatives",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "Authors": _authors(raw),
        "GeneratedBy": [generator],
        "SourceDatasets": [source],
        "DatasetLinks": {
            "raw": _link(bids_dir, out_dir, bids_dir),
        },
    }
    if isinstance(raw.get("License"), str):
        description["License"] = raw["License"]
    return description


def _link(root: Path, out_dir: Path, bids_dir: Path) -> str:
    """Point to a dataset: by a relative path where both lie in the raw one, else by its address."""
    inside = out_dir.is_relative_to(bids_dir) and root.is_relative_to(bids_dir)
    return os.path.relpath(root, out_dir) if inside else root.as_uri()


def _add_links(path: Path, links: Mapping[str, str]) -> None:
    """Add to the description's links; a broken description is left to its owner."""
    try:
        description = parse_json(path.read_text("utf-8-sig"))
        known = description.setdefault("DatasetLinks", {})
        if all(known.get(name) == link for name, link in links.items()):
            return
        known.update(links)
    except (OSError, ValueError, AttributeError):
        return
    write_json(path, description)


def describe_container(environ: Mapping[str, str]) -> dict[str, str] | None:
    """Say which container this runs in, by the variables that tell of it, or None.

    Apptainer sets ``APPTAINER_CONTAINER`` (formerly ``SINGULARITY_CONTAINER``) to the image's
    path; our Docker image sets ``CORDLESION_DOCKER_TAG`` to its own tag.
    """
    for variable in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"):
        if environ.get(variable):
            return {"Type": "apptainer", "URI": Path(environ[variable]).absolute().as_uri()}
    tag = environ.get("CORDLESION_DOCKER_TAG")
    return {"Type": "docker", "Tag": tag} if tag else None


def _authors(raw: Mapping[str, Any]) -> list[str]:
    """Name the raw dataset's authors and us; the validator warns of fewer than two."""
    authors = raw.get("Authors")
    named = [one for one in authors if isinstance(one, str)] if isinstance(authors, list) else []
    return [*(named or ["The authors of the raw dataset"]), "The CordLesion developers"]


def _raw_description(bids_dir: Path) -> dict[str, Any]:
    """Read the raw dataset's own description; a missing or broken one says nothing."""
    try:
        document = parse_json((bids_dir / "dataset_description.json").read_text("utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
