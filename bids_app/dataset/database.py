"""The stamp inside a saved index, by which a stale one is told from a good one.

pybids' database does not say what it indexed, nor when. A table of our own in the same SQLite
file holds the dataset's place and each anat folder's time of change; being in the same file,
index and stamp appear together by one rename.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from bids_app.documents import parse_json

DATABASE_NAME = "layout_index.sqlite"
"""What pybids calls its file in the folder of ``--bids-database-dir``."""

_TABLE = "cordlesion_stamp"


def folder_times(bids_dir: Path, folders: Iterable[str]) -> dict[str, int]:
    """Give the time of change in nanoseconds of each folder that is there.

    A file that is added, removed or renamed changes its folder's time.
    """
    times = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            times[folder] = (bids_dir / folder).stat().st_mtime_ns
    return times


def publish(built: Path, directory: Path, bids_dir: Path, times: Mapping[str, int]) -> None:
    """Stamp an index that was built aside and move it to its place by rename.

    Parameters
    ----------
    built : Path
        The SQLite file, closed, on a disk where SQLite's locks work.
    directory : Path
        Made if need be. Several processes may publish into it at once: the last one stays, and
        readers see one whole file or another.
    bids_dir : Path
    times : mapping
        From `folder_times`, taken before indexing began.

    Raises
    ------
    OSError, sqlite3.Error
    """
    stamp = json.dumps({"root": str(bids_dir), "folders": dict(times)})
    with contextlib.closing(sqlite3.connect(built)) as connection, connection:
        connection.execute(f"CREATE TABLE {_TABLE} (stamp TEXT)")
        connection.execute(f"INSERT INTO {_TABLE} VALUES (?)", (stamp,))  # noqa: S608 - our own name
    directory.mkdir(parents=True, exist_ok=True)
    aside = directory / f".{DATABASE_NAME}.{uuid.uuid4().hex}"
    try:
        shutil.copyfile(built, aside)
        os.replace(aside, directory / DATABASE_NAME)  # noqa: PTH105 - says what it does
    finally:
        aside.unlink(missing_ok=True)


def why_unusable(directory: Path, bids_dir: Path, times: Mapping[str, int]) -> str | None:
    """Say why a saved index cannot stand for these folders, or None when it can.

    Parameters
    ----------
    directory : Path
    bids_dir : Path
    times : mapping
        From `folder_times`, of the folders that matter to this run.
    """
    address = f"{(directory / DATABASE_NAME).as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            row = connection.execute(f"SELECT stamp FROM {_TABLE}").fetchone()  # noqa: S608
        stamp = parse_json(row[0])
        root, folders = stamp["root"], stamp["folders"]
    except (sqlite3.Error, ValueError, TypeError, KeyError):
        return "is broken or was made by another program"
    if root != str(bids_dir):
        return f"was made for {root}"
    changed = sorted(folder for folder, time in times.items() if folders.get(folder) != time)
    return f"is older than {changed[0]}" if changed else None
