"""The image that a lesion label was drawn on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bids_app.dataset.entities import parse_name
from bids_app.dataset.labels import LesionFile, scan_name
from bids_app.records import Scan

_ENDS = (".nii.gz", ".nii")
# The first channel of an nnU-Net case; a plain name comes first.
_CHANNELS = ("", "_0000")


def usual_image_folders(label_folder: Path) -> list[Path]:
    """Say where the images of a folder of labels are usually kept.

    Examples
    --------
    >>> usual_image_folders(Path("/x/labelsTs"))[0]
    PosixPath('/x/imagesTs')
    >>> usual_image_folders(Path("/data/derivatives/labels"))[-1]
    PosixPath('/data')
    """
    found = [label_folder]
    if label_folder.name.startswith("labels"):
        found.insert(0, label_folder.with_name(label_folder.name.replace("labels", "images", 1)))
    # A dataset's labels lie in its derivatives folder, two levels below its top.
    if label_folder.parent.name == "derivatives":
        found.append(label_folder.parents[1])
    return found


def find_image(label: LesionFile, folders: Sequence[Path]) -> Path | None:
    """Find the image of a label's scan.

    Parameters
    ----------
    label : LesionFile
    folders : sequence of Path
        BIDS datasets, or plain folders of ``NAME.nii.gz`` or ``NAME_0000.nii.gz``; the first
        that has the image counts.

    Returns
    -------
    Path or None
        Of several contrasts that of the label, else the T2w.
    """
    for folder in folders:
        for channel in _CHANNELS:
            for end in _ENDS:
                plain = folder / f"{label.scan}{channel}{end}"
                if plain.is_file() and plain != label.path:
                    return plain
        scans = list(_scans(label, folder))
        if scans:
            return min(scans, key=lambda scan: _place(scan, label)).path
    return None


def _scans(label: LesionFile, folder: Path) -> Iterator[Scan]:
    top = folder / label.subject
    if label.session:
        top = top / label.session
    for path in sorted(top.glob("anat/*.nii*")) if top.is_dir() else ():
        name = parse_name(path.name)
        if name is None or name.extension not in _ENDS:
            continue
        scan = Scan(path, name.entities, name.suffix)
        derived = {"label", "seg", "desc", "space"} & set(name.entities)
        if not derived and _same_scan(scan, label):
            yield scan


def _same_scan(scan: Scan, label: LesionFile) -> bool:
    # A label may leave out what one contrast alone has, as acq-STIR.
    own = scan_name(scan).split("_")
    wanted = label.scan.split("_")
    return set(wanted) <= set(own)


def _place(scan: Scan, label: LesionFile) -> tuple[bool, bool, int, str]:
    wanted = label.contrast or "T2w"
    return (
        scan.contrast != wanted,
        scan.contrast != "T2w",
        len(scan.entities),
        scan.path.name,
    )
