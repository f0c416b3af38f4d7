"""Seals: the JSON files that vouch for results, and whether results are still what they say.

A seal is written last and holds, by file name, the SHA-256 of each file that it vouches for
(``OutputHashes``), what these were made from (``InputsHash``), and a hash of itself (``SealHash``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bids_app.dataset.hashes import file_sha256
from bids_app.documents import parse_json
from bids_app.errors import UnreadableImage
from bids_app.files import plain

_HASH = "SealHash"
_RESULTS = ("*.nii.gz", "*.tsv", "*_xfm.txt")

Status = Literal["unchanged", "changed", "missing", "broken seal", "without a seal", "left over"]


@dataclass(frozen=True)
class Check:
    """What was found of one file.

    Attributes
    ----------
    path : Path
    status : str
        ``unchanged``, ``changed``, ``missing`` or ``broken seal``; ``without a seal`` for a
        result that no seal names, as a run that was stopped leaves it; ``left over`` for the
        hidden beginning of a file, which nobody reads.
    """

    path: Path
    status: Status

    @property
    def is_problem(self) -> bool:
        """Whether it should not be trusted."""
        return self.status not in ("unchanged", "left over")


def signed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add the hash of everything else to the content of a seal.

    Examples
    --------
    >>> is_signed(signed({"OutputHashes": {}}))
    True
    >>> is_signed({**signed({"OutputHashes": {}}), "Threshold": 0.4})
    False
    """
    document = {key: value for key, value in plain(content).items() if key != _HASH}
    return {**document, _HASH: _digest(document)}


def is_signed(content: Mapping[str, Any]) -> bool:
    """Tell whether a seal is what was written."""
    rest = {key: value for key, value in content.items() if key != _HASH}
    return content.get(_HASH) == _digest(rest)


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_tree(out_dir: Path) -> Iterator[Check]:
    """Compare every result of a derivatives folder with the seal that vouches for it.

    Parameters
    ----------
    out_dir : Path
        Only read.

    Yields
    ------
    Check
        For each file below ``sub-*`` that is a seal, named by one, or should be.
    """
    for subject in sorted(out_dir.glob("sub-*")):
        if subject.is_dir():
            yield from _check_subject(subject)


def _check_subject(subject: Path) -> Iterator[Check]:
    vouched: set[Path] = set()
    for path in sorted(subject.rglob("*.json")):
        content = _read(path)
        if content is None:
            yield Check(path, "broken seal")
            continue
        if "OutputHashes" not in content:
            continue
        if not is_signed(content):
            yield Check(path, "broken seal")
            vouched |= _named(path, content)
            continue
        yield Check(path, "unchanged")
        for name, digest in content["OutputHashes"].items():
            vouched.add(path.parent / name)
            yield _check_file(path.parent / name, digest)
    for path in sorted(path for end in _RESULTS for path in subject.rglob(end)):
        if path.name.startswith("."):
            yield Check(path, "left over")
        elif path not in vouched:
            yield Check(path, "without a seal")
    for path in sorted(subject.rglob(".*.part")):
        yield Check(path, "left over")


def _read(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where it is none any more."""
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _named(path: Path, content: Mapping[str, Any]) -> set[Path]:
    """List the files that a seal names, as far as it can still be understood."""
    names = content["OutputHashes"]
    return {path.parent / str(name) for name in names} if isinstance(names, dict) else set()


def _check_file(path: Path, digest: str) -> Check:
    if not path.exists():
        return Check(path, "missing")
    try:
        return Check(path, "unchanged" if file_sha256(path) == digest else "changed")
    except UnreadableImage:
        return Check(path, "changed")
