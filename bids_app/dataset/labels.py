"""Lesion labels in a folder: which files they are, and which belong to the same scan."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from bids_app.dataset.entities import INDEX_ENTITIES
from bids_app.errors import NoUsableData, UsageError
from bids_app.records import Scan

Kind = Literal["instances", "mask", "unknown"]

_ENDS = (".nii.gz", ".nii")
_ENTITY = re.compile(r"([a-zA-Z]+)-([0-9a-zA-Z+]+)")
_SUBJECT = re.compile(r"sub-([0-9a-zA-Z+]+)")
_SESSION = re.compile(r"_ses-([0-9a-zA-Z+]+)")
_LESION = {"lesion", "lesions"}
# What says how a label was made or stored, not which scan it belongs to.
_NOT_OF_THE_SCAN = {"label", "seg", "desc"}


@dataclass(frozen=True)
class LesionFile:
    """A label image of lesions.

    Attributes
    ----------
    path : Path
    scan : str
        The scan that it belongs to: its entities as a name (``sub-01_ses-M0``), or the file's
        name in a plain folder.
    contrast : str or None
        Contrast of the scan, where the name says it.
    kind : str
        ``instances``: each lesion has a number of its own; ``mask``; or ``unknown``.
    rater : str or None
        The name's ``desc``.
    """

    path: Path
    scan: str
    contrast: str | None = None
    kind: Kind = "unknown"
    rater: str | None = None

    @property
    def subject(self) -> str:
        """Give ``sub-01``, or the scan's name where it names no subject."""
        match = _SUBJECT.match(self.scan)
        return match[0] if match else self.scan

    @property
    def session(self) -> str | None:
        """Give ``ses-M0`` where the name has one."""
        match = _SESSION.search(self.scan)
        return match[0][1:] if match else None

    @property
    def stem(self) -> Path:
        """Give the path without ``.nii.gz``."""
        return self.path.with_name(_without_end(self.path.name))


def parse_lesion_name(path: Path) -> LesionFile | None:
    """Read a lesion label's name; None for any other file.

    Understood are BIDS derivatives (``_label-lesion_mask``, ``_seg-lesions_dseg``) and what
    laboratories use (``_T2w_lesion-manual``, ``_label-lesion_seg``, with ``desc-rater1``).

    Examples
    --------
    >>> parse_lesion_name(Path("sub-01_ses-02_T2w_lesion-manual.nii.gz")).scan
    'sub-01_ses-02'
    >>> parse_lesion_name(Path("sub-01_acq-STIR_T2w_label-lesion_seg.nii.gz")).contrast
    'STIR'
    >>> parse_lesion_name(Path("sub-01_T2w_label-SC_seg.nii.gz")) is None
    True
    """
    entities: dict[str, str] = {}
    bare: list[str] = []
    for part in _without_end(path.name).split("_"):
        match = _ENTITY.fullmatch(part)
        if match:
            entities[match[1]] = match[2]
        else:
            bare.append(part)
    kind = _kind(entities, bare)
    if kind is None or "sub" not in entities or len(bare) > 1:
        return None
    own = {key: entities[key] for key in entities if key not in _NOT_OF_THE_SCAN}
    name = _joined(own)
    contrast = Scan(path, own, bare[0]).contrast if bare else None
    return LesionFile(path, name, contrast, kind, entities.get("desc"))


def find_lesion_labels(folder: Path, rater: str | None = None) -> list[LesionFile]:
    """List the lesion labels of a folder.

    A folder with ``sub-*`` folders is read as BIDS derivatives. So is the top of a dataset: there
    the labels are in ``derivatives/labels*``, or else in the one other derivatives folder that
    has some. Any other folder is plain: each image directly in it is a label map.

    Parameters
    ----------
    folder : Path
    rater : str, optional
        Keep the labels with this ``desc``.

    Returns
    -------
    list of LesionFile
        In the order of their paths.

    Raises
    ------
    UsageError
        `folder` is no folder, or several derivatives folders have lesion labels.
    NoUsableData
        There is no label.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a directory.")
    if not any(folder.glob("sub-*/")) and not (folder / "derivatives").is_dir():
        found = [
            LesionFile(path, _without_end(path.name))
            for path in sorted(folder.iterdir())
            if path.name.endswith(_ENDS) and not path.name.startswith(".")
        ]
    else:
        found = _in_bids(folder)
        if rater is not None:
            found = [label for label in found if label.rater == rater]
    if not found:
        which = f" of rater {rater}" if rater else ""
        raise NoUsableData(
            f"{folder} holds no lesion label{which}: give a folder of NAME.nii.gz, or of BIDS "
            "derivatives such as sub-01/anat/sub-01_label-lesion_mask.nii.gz."
        )
    return found


def choose_labels(
    labels: Sequence[LesionFile],
) -> tuple[list[LesionFile], list[tuple[LesionFile, str]]]:
    """Choose one label for each scan and contrast.

    An instance map comes before a mask, a label without ``desc`` before one with, then the
    path decides.

    Returns
    -------
    chosen : list of LesionFile
    left_out : list of (LesionFile, str)
        With the reason; the mask beside a chosen instance map is not mentioned.
    """
    chosen, left_out = [], []

    def place(label: LesionFile) -> tuple[str, str]:
        return label.scan, label.contrast or ""

    for _, group in groupby(sorted(labels, key=place), key=place):
        first, *others = sorted(
            group, key=lambda x: (x.kind != "instances", x.rater or "", str(x.path))
        )
        chosen.append(first)
        left_out += [
            (other, f"{first.path.name} is used for the same scan")
            for other in others
            if (other.path.parent, other.rater) != (first.path.parent, first.rater)
        ]
    return chosen, left_out


def label_folders(folder: Path) -> list[Path]:
    """Find the folders of a dataset's lesion labels by the rule of `find_lesion_labels`.

    Returns
    -------
    list of Path
        Empty when there is no label.

    Raises
    ------
    UsageError
        Several derivatives folders have lesion labels.
    """
    if _has_labels(folder):
        return [folder]
    usual = [place for place in sorted(folder.glob("derivatives/labels*")) if _has_labels(place)]
    if usual:
        return usual
    filled = [place for place in sorted(folder.glob("derivatives/*")) if _has_labels(place)]
    if len(filled) > 1:
        raise UsageError(
            f"{folder} has lesion labels in several folders ("
            + ", ".join(str(place.relative_to(folder)) for place in filled)
            + "): give one of them."
        )
    return filled


def scan_name(scan: Scan) -> str:
    """Name a scan as `LesionFile.scan` does.

    Examples
    --------
    >>> scan_name(Scan(Path("sub-01_run-02_T2w.nii"), {"sub": "01", "run": "02"}, "T2w"))
    'sub-01_run-2'
    """
    return _joined(scan.entities)


def _in_bids(folder: Path) -> list[LesionFile]:
    return [label for place in label_folders(folder) for label in _walk(place)]


def _has_labels(folder: Path) -> bool:
    return next(_walk(folder), None) is not None


def _joined(entities: Mapping[str, str]) -> str:
    return "_".join(f"{key}-{_normalised(key, value)}" for key, value in entities.items())


def _walk(folder: Path) -> Iterator[LesionFile]:
    for top in sorted(folder.glob("sub-*/")):
        for path in sorted(top.rglob("*.nii*")):
            label = parse_lesion_name(path) if path.name.endswith(_ENDS) else None
            if label is not None:
                yield label


def _kind(entities: dict[str, str], bare: list[str]) -> Kind | None:
    """Say what kind of lesion label a name is, and take the words that say so out of it."""
    if entities.pop("lesion", None) == "manual":
        return "mask"
    last = bare.pop() if bare else ""
    if entities.get("seg") in _LESION and last == "dseg":
        return "instances"
    if entities.get("label") in _LESION and last in {"seg", "mask", "dseg"}:
        return "instances" if last == "dseg" else "mask"
    return None


def _normalised(key: str, value: str) -> str:
    return str(int(value)) if key in INDEX_ENTITIES and value.isdecimal() else value


def _without_end(name: str) -> str:
    return next((name.removesuffix(end) for end in _ENDS if name.endswith(end)), name)
