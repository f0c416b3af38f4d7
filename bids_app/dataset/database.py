"""The stamp inside a saved index, by which a stale one is told from a good one.

pybids' database does not say what it indexed, nor when. Tables of our own in the same SQLite
file hold the dataset's place, each anat folder's time of change, and what pybids found; being in
the same file, index and stamp appear together by one rename, and the images can be listed without
pybids, which alone takes half a second to import.
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

_TABLE, _IMAGES = "cordlesion_stamp", "cordlesion_images"


def folder_times(bids_dir: Path, folders: Iterable[str]) -> dict[str, int]:
    """Give the time of change in nanoseconds of each folder that is there.

    A file that is added, removed or renamed changes its folder's time.
    """
    times = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            times[folder] = (bids_dir / folder).stat().st_mtime_ns
    return times


def publish(
    built: Path,
    directory: Path,
    bids_dir: Path,
    times: Mapping[str, int],
    images: Iterable[tuple[str, str]],
) -> None:
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
    images : iterable of (str, str)
        Folder below the dataset and file name of each image.

    Raises
    ------
    OSError, sqlite3.Error
    """
    stamp = json.dumps({"root": str(bids_dir), "folders": dict(times)})
    with contextlib.closing(sqlite3.connect(built)) as connection, connection:
        connection.execute(f"CREATE TABLE {_TABLE} (stamp TEXT)")
        connection.execute(f"INSERT INTO {_TABLE} VALUES (?)", (stamp,))  # noqa: S608 - our own name
        connection.execute(f"CREATE TABLE {_IMAGES} (folder TEXT, name TEXT)")
        connection.executemany(f"INSERT INTO {_IMAGES} VALUES (?, ?)", images)  # noqa: S608
    directory.mkdir(parents=True, exist_ok=True)
    aside = directory / f".{DATABASE_NAME}.{uuid.uuid4().hex}"
    try:
        shutil.copyfile(built, aside)
        os.replace(aside, directory / DATABASE_NAME)  # noqa: PTH105 - says what it does
    finally:
        aside.unlink(missing_ok=True)


class UnusableIndex(Exception):
    """A saved index cannot stand for the folders; the message completes "The index in DIR"."""


def saved_images(
    directory: Path, bids_dir: Path, times: Mapping[str, int]
) -> list[tuple[str, str]]:
    """List the images of a saved index.

    Parameters
    ----------
    directory : Path
    bids_dir : Path
    times : mapping
        From `folder_times`, of the folders that matter to this run.

    Returns
    -------
    list of (str, str)
        Folder below the dataset and file name, of every image of the dataset.

    Raises
    ------
    UnusableIndex
        It is broken, of another dataset, or older than one of the folders.
    """
    address = f"{(directory / DATABASE_NAME).as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            row = connection.execute(f"SELECT stamp FROM {_TABLE}").fetchone()  # noqa: S608
            images = connection.execute(f"SELECT folder, name FROM {_IMAGES}").fetchall()  # noqa: S608
        stamp = parse_json(row[0])
        root, folders = stamp["root"], stamp["folders"]
    except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
        raise UnusableIndex("is broken or was made by another program") from error
    if root != str(bids_dir):
        raise UnusableIndex(f"was made for {root}")
    changed = sorted(folder for folder, time in times.items() if folders.get(folder) != time)
    if changed:
        raise UnusableIndex(f"is older than {changed[0]}")
    return [(str(folder), str(name)) for folder, name in images]
