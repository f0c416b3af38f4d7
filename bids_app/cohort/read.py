"""Read what a tree of derivatives says about its sessions; no image is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_app.cohort.changes import add_changes
from bids_app.cohort.session import (
    SIDECAR_END,
    SessionRecord,
    UnusableFileError,
    read_json,
    read_session,
    read_shared_dictionary,
    read_table_dictionary,
)

_IDENTIFIER = re.compile(r"sub-[^_/]+(_ses-[^_/]+)?")


@dataclass(frozen=True)
class Reading:
    """All that was read: sessions by identifier, column descriptions, remarks for the log."""

    sessions: Mapping[str, SessionRecord]
    lesion_dictionary: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def read_cohort(out_dir: Path) -> Reading:
    """Read all sessions of a derivatives folder, and the records of its runs.

    A session is done when its lesion mask's sidecar (written last) and its lesion table say
    all they should. It is failed when one of them cannot be used, or when the newest run that
    names it says so, even beside older results. It is missing when it has a folder but no
    sidecar. Of several lesion masks of one session the newest sidecar counts; masks in
    another space are left out.

    Parameters
    ----------
    out_dir : Path
        May be empty or absent: then there are no sessions.

    Returns
    -------
    Reading
    """
    failures, remarks = _read_failures(out_dir / "logs")
    sessions: dict[str, SessionRecord] = {}
    dictionary: Mapping[str, Any] = {}
    for identifier, sidecar in find_sessions(out_dir):
        if identifier in failures:
            continue
        if sidecar is None:
            sessions[identifier] = SessionRecord(identifier, "missing")
            continue
        sessions[identifier] = read_session(identifier, sidecar)
        dictionary = dictionary or read_table_dictionary(sidecar)
    for identifier, error in failures.items():
        sessions[identifier] = SessionRecord(identifier, "failed", error)
    dictionary = dictionary or read_shared_dictionary(out_dir)
    return Reading(add_changes(out_dir, sessions), dictionary, remarks)


def find_sessions(out_dir: Path) -> Iterator[tuple[str, Path | None]]:
    """Find the sessions' folders, each with its newest sidecar; each folder is listed once.

    Yields
    ------
    identifier : str
    sidecar : Path or None
        Of the lesion mask; None where the session is not done.
    """
    for subject in _folders(out_dir, "sub-"):
        for inner in _folders(subject.path, ""):
            if inner.name == "anat":
                yield subject.name, _sidecar(inner.path)
            elif inner.name.startswith("ses-"):
                yield f"{subject.name}_{inner.name}", _sidecar(os.path.join(inner.path, "anat"))  # noqa: PTH118


def _folders(folder: str | Path, prefix: str) -> list[os.DirEntry[str]]:
    found = [entry for entry in _entries(folder) if entry.name.startswith(prefix)]
    return sorted((entry for entry in found if entry.is_dir()), key=lambda entry: entry.name)


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sidecar(anat: str) -> Path | None:
    found = [e for e in _entries(anat) if e.name.endswith(SIDECAR_END) and "_space-" not in e.name]
    if len(found) > 1:
        found.sort(key=lambda entry: (_modified(entry), entry.name))
    return Path(found[-1].path) if found else None


def _modified(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_mtime_ns
    except OSError:  # a link to nowhere, such as annexed content that was not fetched
        return 0


def _read_failures(logs: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Find the sessions whose newest run failed; run identifiers sort by time."""
    failures: dict[str, str] = {}
    remarks = []
    names = (entry.name for entry in _entries(logs))
    for name in sorted(n for n in names if n.startswith("run-") and n.endswith("_summary.json")):
        try:
            units = read_json(logs / name).get("units")
        except UnusableFileError as error:
            remarks.append(f"logs/{name} was left out: {error}.")
            continue
        for unit in units if isinstance(units, list) else []:
            _note(failures, unit)
    return failures, tuple(remarks)


def _note(failures: dict[str, str], unit: object) -> None:
    if not isinstance(unit, dict) or not _IDENTIFIER.fullmatch(str(unit.get("unit"))):
        return
    identifier = str(unit["unit"])
    failures.pop(identifier, None)
    if unit.get("status") == "failed":
        failures[identifier] = str(unit.get("error") or "failed without a message")
