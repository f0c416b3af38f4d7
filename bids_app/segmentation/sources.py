"""Bring what the user named to local folders: addresses are fetched, zips unpacked."""

# pooch ships untyped.
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import hashlib
import logging
import re
import sys
import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from bids_app.errors import MissingResource, UsageError
from bids_app.segmentation.archive import Limits, unpack
from bids_app.segmentation.trained import list_files

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIMEOUT_S = 60


def is_address(source: str) -> bool:
    """Tell a web address from a path.

    Examples
    --------
    >>> is_address("https://example.org/a.zip"), is_address("model/a.zip")
    (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


def gather(
    sources: Sequence[str], hashes: Sequence[str], work: Path
) -> tuple[list[Path], dict[str, str]]:
    """Make local folders of folders, zips and addresses.

    Parameters
    ----------
    sources : sequence of str
    hashes : sequence of str
        SHA-256 of each source, in order, or empty. Folders have none.
    work : Path
        Where to fetch and unpack; it is for the caller to remove it.

    Returns
    -------
    folders : list of Path
        One a source.
    found : dict
        SHA-256 of each zip by where it came from; an empty text for a folder.

    Raises
    ------
    UsageError, MissingResource
    """
    wanted = _check_hashes(sources, hashes)
    folders, found = [], {}
    for number, (source, digest) in enumerate(zip(sources, wanted, strict=True)):
        place = work / str(number)
        place.mkdir()
        if is_address(source):
            path = fetch(source, digest, place)
        else:
            path = Path(source).expanduser().absolute()
        if path.is_dir():
            if digest:
                raise UsageError(f"--sha256 goes with a zip or an address; {source} is a folder.")
            folders.append(path.resolve())
            found[str(path)] = ""
            continue
        found[_origin(source, path)] = _verify(path, digest, source)
        unpack(path, place / "unpacked")
        folders.append(place / "unpacked")
    return [_with_inner_zips(folder, work) for folder in folders], found


def fetch(address: str, sha256: str | None, folder: Path) -> Path:
    """Download a file with a progress bar.

    Raises
    ------
    UsageError
        Not a web address.
    MissingResource
        It could not be had, or is not the file that `sha256` says.
    """
    scheme = urlsplit(address).scheme.lower()
    if scheme not in ("http", "https"):
        raise UsageError(f"{address}: only http and https addresses can be fetched.")
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=_TIMEOUT_S)
    try:
        path = pooch.retrieve(
            address,
            known_hash=f"sha256:{sha256}" if sha256 else None,
            fname="download.zip",
            path=folder,
            downloader=downloader,
        )
    except OSError as error:  # all of requests' errors are
        raise MissingResource(
            f"{address} cannot be fetched ({_first_line(error)}); download it elsewhere and give "
            "the file."
        ) from error
    except ValueError as error:
        raise MissingResource(
            f"{address} is not the file that was asked for: its SHA-256 is not {sha256}."
        ) from error
    finally:
        logger.setLevel(level)
    return Path(path)


def sha256_of(path: Path) -> str:
    """Give a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_name(source: str) -> str:
    """Make a model's name of where it comes from.

    Examples
    --------
    >>> short_name("https://example.org/r1/model_axial.zip?x=1"), short_name("/data/my model/")
    ('model_axial', 'my-model')
    """
    path = urlsplit(source).path if is_address(source) else source
    name = re.sub(r"\.zip$", "", PurePosixPath(path).name, flags=re.I)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:100]


def _check_hashes(sources: Sequence[str], hashes: Sequence[str]) -> list[str | None]:
    """Give each source its hash."""
    if not hashes:
        return [None] * len(sources)
    lower = [digest.lower().removeprefix("sha256:") for digest in hashes]
    for digest in lower:
        if not _SHA256.fullmatch(digest):
            raise UsageError(f"--sha256 {digest}: a SHA-256 has 64 hexadecimal digits.")
    if len(lower) != len(sources):
        raise UsageError(
            f"--sha256 gives {len(lower)} hashes for {len(sources)} sources; give one a source."
        )
    return list(lower)


def _verify(path: Path, digest: str | None, source: str) -> str:
    """Give a file's hash after comparing it with the one that was asked for."""
    if not path.is_file():
        raise MissingResource(
            f"No model '{source}': neither a folder, a zip, an address nor a known name; "
            "'cordlesion models list' shows the names."
        )
    try:
        found = sha256_of(path)
    except OSError as error:
        raise MissingResource(f"{path} cannot be read ({error}).") from error
    if digest and found != digest:
        raise MissingResource(
            f"{source} is not the file that was asked for: its SHA-256 is {found}, not {digest}."
        )
    if not zipfile.is_zipfile(path):
        raise MissingResource(f"{source} is no zip; give a trained nnU-Net folder or a zip of one.")
    return found


def _with_inner_zips(folder: Path, work: Path) -> Path:
    """Unpack zips that lie in a folder without plans, as when five folds come in one zip."""
    files = list_files(folder)
    zips = [path for path in files if path.suffix.lower() == ".zip"]
    if not zips or any(path.name == "plans.json" for path in files):
        return folder
    together = work / f"inner-{uuid.uuid4().hex}"
    limits = Limits()
    for number, path in enumerate(zips):
        size = unpack(path, together / str(number), limits)
        limits = replace(limits, bytes=limits.bytes - size)
    return together


def _origin(source: str, path: Path) -> str:
    return source if is_address(source) else str(path)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
