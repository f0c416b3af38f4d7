"""Hash files, and say why where one cannot be read."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from bids_app.errors import UnreadableImage

_CHUNK_BYTES = 2**20


def file_sha256(path: Path) -> str:
    """Hash a file's content.

    Raises
    ------
    UnreadableImage
    """
    digest = hashlib.sha256()
    try:
        # A pipe or a device would never end being read.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableImage(f"{path} is not a regular file. Put the image itself there.")
        with path.open("rb") as file:
            while block := file.read(_CHUNK_BYTES):
                digest.update(block)
    except OSError as error:
        raise UnreadableImage(f"{path} {_why_not_read(path, error)}") from error
    return digest.hexdigest()


def _why_not_read(path: Path, error: OSError) -> str:
    """Say what kind of absence an absence is."""
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return (
            "is a link to content that is not here. In a DataLad dataset, run "
            f"'datalad get {path.name}' in its folder."
        )
    if isinstance(error, FileNotFoundError):
        return "is not there any more. Check the dataset folder and run again."
    return f"cannot be read: {error.strerror or error}. Check its permissions and its links."
