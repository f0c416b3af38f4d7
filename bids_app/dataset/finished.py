"""The sessions of a subject whose results are there, whichever run or job made them."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_app.dataset.entities import parse_name
from bids_app.dataset.folders import list_sessions
from bids_app.documents import parse_json
from bids_app.records import Session

_SEAL_END = "_label-lesion_mask.json"
_RAW = "bids:raw:"


@dataclass(frozen=True)
class Finished:
    """One session with results, found by its seal (see `bids_app.dataset.derivatives.seal`).

    Attributes
    ----------
    session : Session
        Without scans.
    entities : mapping
        Of its reference, which start the name of each result.
    instances, cord_mask : Path
    reference : str
        Path of the reference scan in the raw dataset.
    inputs_hash : str
    output_hashes : mapping
        SHA-256 of each result by file name.
    """

    session: Session
    entities: Mapping[str, str]
    instances: Path
    cord_mask: Path
    reference: str
    inputs_hash: str
    output_hashes: Mapping[str, str]

    @property
    def name(self) -> str:
        """Give ``ses-M0``, or ``n/a`` for scans of a subject that lie in no session."""
        return f"ses-{self.session.session}" if self.session.session else "n/a"


def finished_sessions(out_dir: Path, bids_dir: Path, subject: str) -> tuple[Finished, ...]:
    """Find the sessions of a subject that have results, in the order of time.

    The order is that of ``acq_time`` in the raw dataset's ``sub-<subject>_sessions.tsv`` when it
    tells the time of each, otherwise that of the labels with numbers as numbers (M6 before M12).

    Parameters
    ----------
    out_dir, bids_dir : Path
    subject : str
        Without ``sub-``.

    Returns
    -------
    tuple of Finished
        Of several results of one session the newest. A session whose seal is broken, or whose
        masks are not those that the seal tells of, is being done again and is left out.
    """
    found = []
    folder = out_dir / f"sub-{subject}"
    for anat in (folder / "anat", *sorted(folder.glob("ses-*/anat"))):
        label = anat.parent.name.removeprefix("ses-") if anat.parent != folder else None
        seals = [path for path in anat.glob(f"sub-*{_SEAL_END}") if "_space-" not in path.name]
        for seal in sorted(seals, key=_modified, reverse=True)[:1]:
            one = _read(Session(subject, label), seal)
            if one is not None:
                found.append(one)
    times = _times(bids_dir / f"sub-{subject}" / f"sub-{subject}_sessions.tsv")
    if all(one.name in times for one in found):
        return tuple(sorted(found, key=lambda one: times[one.name]))
    return tuple(sorted(found, key=lambda one: natural_key(one.session.session or "")))


def unfinished_sessions(bids_dir: Path, finished: tuple[Finished, ...], subject: str) -> list[str]:
    """Name the sessions of a subject in the raw dataset that have no results."""
    have = {one.session for one in finished}
    every = list_sessions(bids_dir, [subject])
    return [f"ses-{x.session}" if x.session else "n/a" for x in every if x not in have]


def natural_key(label: str) -> tuple[tuple[int, str], ...]:
    """Give the key that sorts labels with numbers as numbers.

    Examples
    --------
    >>> sorted(["M12", "M0", "M6"], key=natural_key)
    ['M0', 'M6', 'M12']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", label)
    return tuple((int(part), "") if part[0].isdecimal() else (-1, part) for part in parts)


def _modified(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, path.name
    except OSError:
        return 0, path.name


def _read(session: Session, seal: Path) -> Finished | None:
    stem = seal.name.removesuffix(_SEAL_END)
    # Any suffix will do: only the entities are wanted.
    name = parse_name(f"{stem}_mask.json")
    instances = seal.with_name(f"{stem}_seg-lesions_dseg.nii.gz")
    cord_mask = seal.with_name(f"{stem}_label-cord_mask.nii.gz")
    try:
        content: Mapping[str, Any] = parse_json(seal.read_bytes())
        sizes = content["OutputSizes"]
        source = str(content["Sources"][0])
        whole = all(path.stat().st_size == sizes[path.name] for path in (instances, cord_mask))
        hashes = dict(content["OutputHashes"])
        inputs_hash = str(content["InputsHash"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    if name is None or not whole or not source.startswith(_RAW):
        return None
    reference = source.removeprefix(_RAW)
    return Finished(session, name.entities, instances, cord_mask, reference, inputs_hash, hashes)


def _times(table: Path) -> dict[str, str]:
    """Read when each session was, as BIDS writes times, which sort as text."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    known = {str(row.get("session_id")): str(row.get("acq_time") or "n/a") for row in rows}
    return {session: time for session, time in known.items() if time[:4].isdecimal()}
