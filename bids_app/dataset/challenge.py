"""One case of the MS-Multi-Spine challenge: where its files are and what their names say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bids_app.errors import NoUsableData
from bids_app.records import Scan

WANTED = re.compile(r"[^.].*_(T2|STIR|PSIR|MP2RAGE)\.nii(\.gz)?")
"""Names, without folders, of the images of a case."""

# Where an image may lie, the best first: our own alignment starts from the scanner's image.
_FOLDERS = ("rawdata", "derivatives/preprocessed", "derivatives/preprocessedAndRegistered")
_SUFFIXES = {"T2": "T2w", "STIR": "STIR", "PSIR": "PSIR", "MP2RAGE": "UNIT1"}
_PLACE = re.compile(
    rf"(?:.*/)?(?P<folder>{'|'.join(_FOLDERS)})/sub-(?P<sub>[0-9A-Za-z]+)/"
    rf"(?P<case>[^/.][^/]*)_(?P<contrast>{'|'.join(_SUFFIXES)})\.nii(?:\.gz)?"
)


@dataclass(frozen=True)
class Case:
    """One case: its images by what they are used for.

    Attributes
    ----------
    name : str
        As in the file names, such as ``01-001``.
    reference : Scan
        The raw T2, on whose grid the answer lies.
    second : Scan or None
        The second contrast.
    unused : tuple of Path
        Other images of the case.
    """

    name: str
    reference: Scan
    second: Scan | None
    unused: tuple[Path, ...] = ()


def find_case(folder: Path, contrasts: Iterable[str]) -> Case:
    """Find the images of the one case that is in a folder.

    Parameters
    ----------
    folder : Path
        Has ``rawdata/sub-001/01-001_T2.nii.gz``, at its top or further down.
    contrasts : iterable of str
        Contrasts for the second scan, the preferred one first.

    Returns
    -------
    Case

    Raises
    ------
    NoUsableData
        There is no raw T2, or there are several cases.
    """
    paths = sorted(path for path in folder.rglob("*.nii*") if WANTED.fullmatch(path.name))
    return choose(paths, contrasts, folder)


def choose(paths: Iterable[Path], contrasts: Iterable[str], where: Path) -> Case:
    """Choose among paths by their names alone.

    Parameters
    ----------
    paths : iterable of Path
    contrasts : iterable of str
        The preferred one first.
    where : Path
        What the paths come from, for messages.

    Returns
    -------
    Case

    Raises
    ------
    NoUsableData

    Examples
    --------
    >>> raw = Path("rawdata/sub-001")
    >>> found = choose([raw / "01-001_T2.nii.gz", raw / "01-001_STIR.nii.gz"], ["STIR"], Path())
    >>> found.name, found.second.suffix
    ('01-001', 'STIR')
    """
    known = [(path, found) for path in paths if (found := _PLACE.fullmatch(path.as_posix()))]
    raw = [one for one in known if one[1]["folder"] == "rawdata" and one[1]["contrast"] == "T2"]
    if not raw:
        raise NoUsableData(
            f"{where} has no rawdata/sub-*/*_T2.nii.gz: give the folder or zip of one case of the "
            "MS-Multi-Spine challenge, or 'cordlesion run' a BIDS dataset."
        )
    if len(raw) > 1:
        names = ", ".join(sorted(path.name for path, _ in raw)[:5])
        raise NoUsableData(f"{where} has {len(raw)} cases ({names}): give one at a time.")
    name, subject = raw[0][1]["case"], raw[0][1]["sub"]
    own = [one for one in known if (one[1]["case"], one[1]["sub"]) == (name, subject)]
    own.sort(key=lambda one: _FOLDERS.index(one[1]["folder"]))
    scans = [Scan(path, {"sub": subject}, _SUFFIXES[match["contrast"]]) for path, match in own]
    reference = next(scan for scan in scans if scan.path == raw[0][0])
    second = next((s for wanted in contrasts for s in scans if _is(s, wanted)), None)
    used = [reference.path, second.path if second else None]
    return Case(name, reference, second, tuple(s.path for s in scans if s.path not in used))


def _is(scan: Scan, contrast: str) -> bool:
    """Tell whether a scan can be the second contrast: another T2 never is."""
    return scan.suffix != "T2w" and scan.contrast == contrast
