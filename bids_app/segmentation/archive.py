"""Open a zip from a stranger: only the files of a model come out, and only into the folder."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bids_app.errors import MissingResource

# What is taken out; everything else stays in the zip.
WANTED = re.compile(r"plans\.json|dataset\.json|checkpoint_(final|best)\.pth|[^.].*\.zip", re.I)


@dataclass(frozen=True)
class Limits:
    """How much a zip may hold.

    Attributes
    ----------
    entries : int
    bytes : int
        Unpacked, all entries together: ten checkpoints of the largest networks fit.
    ratio : float
        Unpacked to packed. Weights hardly shrink; text does, but not a hundredfold.
    small_bytes : int
        Entries up to here may shrink as they like.
    """

    entries: int = 10_000
    bytes: int = 32 * 2**30
    ratio: float = 100.0
    small_bytes: int = 2**20


def unpack(
    path: Path,
    folder: Path,
    limits: Limits | None = None,
    wanted: re.Pattern[str] = WANTED,
) -> int:
    """Unpack the wanted files, by default those of a model, from a zip.

    Parameters
    ----------
    path : Path
    folder : Path
        New; the zip's own folders are kept below it.
    limits : Limits, optional
    wanted : pattern
        Of the names, without folders, of the files that are taken out.

    Returns
    -------
    int
        Bytes unpacked.

    Raises
    ------
    MissingResource
        Not a zip, damaged, too large, or with an entry that is a link or leads outside.
    """
    limits = limits or Limits()
    total = 0
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            check_entries(entries, path.name, limits)
            for entry in entries:
                if not entry.is_dir() and wanted.fullmatch(PurePosixPath(entry.filename).name):
                    _take(archive, entry, folder)
                    total += entry.file_size
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise MissingResource(
            f"{path.name} is no zip that can be unpacked ({error}); get it again from its source."
        ) from error
    return total


def check_entries(entries: Iterable[zipfile.ZipInfo], name: str, limits: Limits) -> None:
    """Refuse a zip for what its directory says, before anything is unpacked.

    Raises
    ------
    MissingResource
    """
    entries = list(entries)
    seen: set[str] = set()
    for entry in entries:
        problem = _problem(entry, limits)
        if problem is None and entry.filename in seen:
            problem = "is there twice"
        if problem:
            raise MissingResource(
                f"{name} is not safe to unpack: its entry {entry.filename[:80]!r} {problem}."
            )
        seen.add(entry.filename)
    total = sum(entry.file_size for entry in entries)
    if len(entries) > limits.entries or total > limits.bytes:
        raise MissingResource(
            f"{name} is not safe to unpack: {len(entries)} entries of {total / 2**30:.1f} GiB "
            f"are more than the {limits.entries} and {limits.bytes / 2**30:.0f} GiB that are taken."
        )


def _problem(entry: zipfile.ZipInfo, limits: Limits) -> str | None:
    """Say what is wrong with an entry."""
    for text in (entry.filename, entry.orig_filename):
        parts = text.split("/")
        if text.startswith("/") or ".." in parts or "\\" in text or "\0" in text or ":" in parts[0]:
            return "leads outside the folder"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is no plain file"
    large = entry.file_size > limits.small_bytes
    if large and entry.file_size > limits.ratio * max(1, entry.compress_size):
        return f"unpacks to {entry.file_size / max(1, entry.compress_size):.0f} times its size"
    return None


def _take(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    """Write one file; zipfile never gives more bytes than the directory said."""
    target = folder.joinpath(*PurePosixPath(entry.filename).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("xb") as sink:
        shutil.copyfileobj(source, sink, 2**20)
