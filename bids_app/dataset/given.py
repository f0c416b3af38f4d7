"""Find what other derivatives already say of a scan: its cord mask and its disc labels.

The rule
--------
A file belongs to a scan when its name has the scan's entities, each with the same value, and no
other but ``desc`` (and ``space-orig``); then the scan's suffix; then one of these ends, with
``.nii.gz`` or ``.nii``. Names without the scan's suffix (``sub-01_label-cord_mask``) belong to it
too when the end begins with ``label-``.

- cord: ``seg-manual``, ``label-SC_seg-manual``, ``label-cord_mask``, ``label-SC_mask``,
  ``label-SC_seg``, ``label-cord_seg``, ``seg``
- discs: ``labels-disc-manual``, ``label-disc-manual``, ``label-discs_dlabel``,
  ``label-disc_dlabel``, ``labels-disc``, ``label-disc``, ``totalspineseg_discs``,
  ``step1_levels``, ``seg_labeled_discs``, ``totalspineseg_all``, ``step2_output``,
  ``step1_output``; a file named as the scan itself in a folder ``step1_levels``,
  ``step2_output`` or ``step1_output``, as TotalSpineSeg writes them

They are looked for in DIR and in its folders ``labels*``, each with or without the session's
folder and ``anat``. Where several fit, these decide one after the other:

1. the derivatives that come first on the command line;
2. names with the scan's suffix before those without;
3. the order of the ends above;
4. ``desc-manual``, then no ``desc``, then others in alphabetical order;
5. DIR itself before ``labels*``, then the path in alphabetical order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bids_app.dataset.entities import same_value
from bids_app.records import GivenFile, Scan, Session

CORD_ENDS = (
    "seg-manual",
    "label-SC_seg-manual",
    "label-cord_mask",
    "label-SC_mask",
    "label-SC_seg",
    "label-cord_seg",
    "seg",
)
DISC_ENDS = (
    "labels-disc-manual",
    "label-disc-manual",
    "label-discs_dlabel",
    "label-disc_dlabel",
    "labels-disc",
    "label-disc",
    "totalspineseg_discs",
    "step1_levels",
    "seg_labeled_discs",
    "totalspineseg_all",
    "step2_output",
    "step1_output",
)
# TotalSpineSeg names its results as the image, each kind in a folder of its own.
_STEP_FOLDERS = ("step1_levels", "step2_output", "step1_output")
_EXTENSIONS = (".nii.gz", ".nii")
_PAIR = re.compile(r"([a-zA-Z]+)-([0-9a-zA-Z+]+)")
_DESCRIBES_RESULTS = {"label", "labels", "seg", "desc"}


class _Name(NamedTuple):
    """A file name taken apart; `suffix` is the scan's, None where the name leaves it out."""

    entities: dict[str, str]
    suffix: str | None
    desc: str | None
    end: str


class Given(NamedTuple):
    """What other derivatives have for a scan."""

    cord: GivenFile | None = None
    discs: GivenFile | None = None


def find_given(derivatives: Mapping[str, Path], session: Session, reference: Scan) -> Given:
    """Find the cord mask and the disc labels of a scan by the rule of this module.

    Parameters
    ----------
    derivatives : mapping of str to Path
        By name, in the order of the command line.
    session : Session
    reference : Scan

    Returns
    -------
    Given
        No file is opened.
    """
    kept: list[GivenFile | None] = []
    for ends in (CORD_ENDS, DISC_ENDS):
        ranked = [
            (place, *rank, GivenFile(path, name, root))
            for place, (name, root) in enumerate(derivatives.items())
            for path, folder in _candidates(root, session)
            if (rank := _rank(path, folder, reference, ends)) is not None
        ]
        kept.append(min(ranked, key=lambda entry: entry[:-1])[-1] if ranked else None)
    return Given(*kept)


def belongs(name: str, reference: Scan, ends: tuple[str, ...], folder: str = "") -> bool:
    """Tell whether a file of this name says one of `ends` about a scan.

    Parameters
    ----------
    name : str
    reference : Scan
    ends : tuple of str
        `CORD_ENDS` or `DISC_ENDS`.
    folder : str
        Name of the folder it is in.

    Examples
    --------
    >>> scan = Scan(Path("sub-01_acq-sag_T2w.nii.gz"), {"sub": "01", "acq": "sag"}, "T2w")
    >>> belongs("sub-01_acq-sag_T2w_label-SC_seg.nii.gz", scan, CORD_ENDS)
    True
    >>> belongs("sub-01_T2w_label-SC_seg.nii.gz", scan, CORD_ENDS)
    False
    """
    return _rank(Path(folder, name), 0, reference, ends) is not None


def _candidates(root: Path, session: Session) -> Iterator[tuple[Path, int]]:
    """List the session's files wherever derivatives keep them, each with its folder's rank."""
    subject = f"sub-{session.subject}"
    inside = [Path(subject, "anat"), Path(subject)]
    if session.session:
        visit = Path(subject, f"ses-{session.session}")
        inside = [visit / "anat", visit, *inside]
    inside += [Path(), *map(Path, _STEP_FOLDERS)]
    bases = [root, *sorted(path for path in root.glob("labels*") if path.is_dir())]
    folders = [base / part for base in bases for part in inside]
    for rank, folder in enumerate(dict.fromkeys(folders)):
        for path in sorted(folder.glob(f"{subject}_*.nii*")):
            yield path, rank


def _rank(
    path: Path, folder: int, reference: Scan, ends: tuple[str, ...]
) -> tuple[int, int, int, str, int, str] | None:
    """Give what decides between files (smaller wins), or None for one of something else."""
    name = _split(path.name, reference.suffix)
    if name is None or not _same_scan(name.entities, reference.entities):
        return None
    end = name.end
    if not end and name.suffix and path.parent.name in _STEP_FOLDERS:
        end = path.parent.name
    if end not in ends or (name.suffix is None and not end.startswith("label-")):
        return None
    desc = {"manual": 0, None: 1}.get(name.desc, 2)
    return int(name.suffix is None), ends.index(end), desc, name.desc or "", folder, str(path)


def _split(file_name: str, suffix: str) -> _Name | None:
    """Take a name apart, also one that BIDS does not know, such as ``sub-01_T2w_seg-manual``."""
    stem = next((file_name.removesuffix(e) for e in _EXTENSIONS if file_name.endswith(e)), None)
    if stem is None:
        return None
    entities: dict[str, str] = {}
    parts = stem.split("_")
    while parts and (pair := _PAIR.fullmatch(parts[0])) and pair[1] not in _DESCRIBES_RESULTS:
        entities[pair[1]] = pair[2]
        parts.pop(0)
    has_suffix = bool(parts) and parts[0] == suffix
    if has_suffix:
        parts.pop(0)
    desc = next((part.partition("-")[2] for part in parts if part.startswith("desc-")), None)
    if "space-orig" in parts:
        parts.remove("space-orig")
    end = "_".join(part for part in parts if not part.startswith("desc-"))
    return _Name(entities, suffix if has_suffix else None, desc, end)


def _same_scan(entities: Mapping[str, str], scan: Mapping[str, str]) -> bool:
    if entities.get("space") == "orig" and "space" not in scan:
        entities = {key: value for key, value in entities.items() if key != "space"}
    return entities.keys() == scan.keys() and all(
        same_value(key, value, scan[key]) for key, value in entities.items()
    )
