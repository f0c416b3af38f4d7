"""Write the sessions' reports: what is read is derivatives only, the pages are `reports`' work."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bids_app.cohort.read import find_sessions
from bids_app.documents import parse_json
from bids_app.errors import NoUsableData, UnreadableImage
from bids_app.files import write_text
from bids_app.imaging.grids import to_canonical
from bids_app.imaging.volumes import read_label_map, read_volume
from bids_app.options import Options
from bids_app.records import Volume

log = logging.getLogger("bids_app")

_MASK = "_label-lesion_mask.json"


def report_place(sidecar: Path) -> tuple[Path, str]:
    """Give the report's path and the session's identifier, from a lesion mask's sidecar.

    Examples
    --------
    >>> path = Path("out/sub-01/ses-M0/anat/sub-01_ses-M0_label-lesion_mask.json")
    >>> report_place(path)
    (PosixPath('out/sub-01_ses-M0.html'), 'sub-01_ses-M0')
    """
    folder = sidecar.parent.parent
    if folder.name.startswith("ses-"):
        identifier = f"{folder.parent.name}_{folder.name}"
        return folder.parent.parent / f"{identifier}.html", identifier
    return folder.parent / f"{folder.name}.html", folder.name


def write_report(sidecar: Path) -> Path:
    """Write the report of one finished session.

    Parameters
    ----------
    sidecar : Path
        Its ``*_label-lesion_mask.json``.

    Returns
    -------
    Path
        The page, at the top of the derivatives.

    Raises
    ------
    UnreadableImage
        A file of the session is missing or damaged.
    """
    from bids_app.reports.session import SessionFacts, session_page

    page, identifier = report_place(sidecar)
    try:
        about: dict[str, Any] = parse_json(sidecar.read_bytes())
        if about.get("Outputs") == "minimal":
            raise UnreadableImage(
                f"{identifier} was run with --outputs minimal, which keeps no images for a report; "
                "run it with --outputs all."
            )
        stem = sidecar.name.removesuffix(_MASK)
        table = sidecar.with_name(f"{stem}_seg-lesions_dseg.tsv")
        with table.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            rows = list(reader)
            columns = list(reader.fieldnames or ())
        descriptions = parse_json(table.with_suffix(".json").read_bytes())
    except (OSError, ValueError) as error:
        raise UnreadableImage(
            f"{identifier} has no complete results to report ({error}); run it with --force."
        ) from error
    facts = SessionFacts(identifier, about, columns, rows, descriptions)
    write_text(page, session_page(facts, _view(sidecar, stem, about)))
    return page


def _view(sidecar: Path, stem: str, about: dict[str, Any]) -> Any:
    """Read a session's images, cut to its report's box."""
    from bids_app.reports.view import SessionView

    shown = _only(sidecar, about, "_desc-cord_")
    if shown is None:
        raise UnreadableImage(
            f"{sidecar.parent} has no *_desc-cord_* image, which a report shows; it is of an older "
            "version: run the session with --force."
        )
    part = read_volume(shown)

    def labels(name: str) -> Any:
        return _cut_like(read_label_map(sidecar.with_name(f"{stem}{name}")), part)

    def image(path: Path) -> Any:
        return _cut_like(read_volume(path, constant_ok=True), part)

    reference = to_canonical(part)
    second = _only(sidecar, about, "_desc-preproc_")
    return SessionView(
        reference=reference.data,
        second=None if second is None else image(second),
        cord=labels("_label-cord_mask.nii.gz") > 0,
        instances=labels("_seg-lesions_dseg.nii.gz"),
        uncertainty=image(
            sidecar.with_name(f"{stem}_label-lesion_desc-uncertainty_probseg.nii.gz")
        ),
        affine=reference.affine,
    )


def _only(sidecar: Path, about: dict[str, Any], part: str) -> Path | None:
    """Find the image with this part in its name among those that the session wrote."""
    names = [n for n in about.get("OutputHashes", {}) if part in n and n.endswith(".nii.gz")]
    return sidecar.with_name(names[0]) if names else None


def _cut_like(volume: Volume, small: Volume) -> Any:
    """Give, in canonical order, the part of a volume that a smaller one on its voxels covers."""
    start = np.linalg.solve(volume.affine, small.affine)[:3, 3]
    first = [round(float(s)) for s in start]
    parts = tuple(slice(s, s + n) for s, n in zip(first, small.data.shape, strict=True))
    data = volume.data[parts]
    if data.shape != small.data.shape or np.abs(start - first).max() > 0.01:
        raise UnreadableImage("The images of a session are not on one grid; run it with --force.")
    return to_canonical(Volume(data, small.affine)).data


def write_reports(options: Options) -> Iterator[tuple[str, str | None]]:
    """Write the reports of all selected sessions again (``--reports-only``).

    Yields
    ------
    identifier : str
    error : str or None

    Raises
    ------
    NoUsableData
        No selected session is done.
    """
    found = [
        (identifier, sidecar)
        for identifier, sidecar in find_sessions(options.out_dir)
        if sidecar is not None and _selected(identifier, options)
    ]
    if not found:
        raise NoUsableData(
            f"No session of the selection is done in {options.out_dir}, so there is nothing to "
            "report; run the participant level first."
        )
    for identifier, sidecar in found:
        try:
            write_report(sidecar)
        except UnreadableImage as error:
            yield identifier, str(error)
        else:
            yield identifier, None


def _selected(identifier: str, options: Options) -> bool:
    subject, _, session = identifier.partition("_ses-")
    return (
        not options.participant_labels or subject.removeprefix("sub-") in options.participant_labels
    ) and (not options.session_labels or session in options.session_labels)
