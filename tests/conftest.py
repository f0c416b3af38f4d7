"""Shared fixtures: the box's model, the demo dataset, the optional real scans."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import ROOT


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write the demo dataset once; nothing may change it, and where possible nothing can."""
    from bids_app.commands.demo import write_demo

    folder = tmp_path_factory.mktemp("demo") / "bids"
    write_demo(folder)
    before = _state(folder)
    with _read_only(folder):
        yield folder
    assert _state(folder) == before, "a test changed the dataset that it read"


def _state(folder: Path) -> dict[str, tuple[int, str]]:
    """Give time and hash of every file."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """Mount a folder read-only over itself, for root is stopped by no permission."""
    here = str(folder)
    mounted = os.geteuid() == 0 and not _quietly("mount", "--bind", here, here)
    if mounted:
        _quietly("mount", "-o", "remount,bind,ro", here)
    try:
        yield
    finally:
        if mounted:
            _quietly("umount", here)


def _quietly(*command: str) -> int:
    try:
        return subprocess.run(command, capture_output=True).returncode
    except OSError:
        return 1


@pytest.fixture(scope="session")
def real() -> Path:
    """Give the folder of real scans used in development, or skip."""
    folder = Path(os.environ.get("CORDLESION_REAL_DATA", ROOT.parent / "shared" / "real"))
    if not (folder / "rawdata").is_dir():
        pytest.skip("the optional real scans are not here")
    return folder
