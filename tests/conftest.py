"""Shared fixtures: the box's model, the demo dataset, the optional real scans."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import ROOT


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the demo dataset once."""
    from bids_app.commands.demo import write_demo

    folder = tmp_path_factory.mktemp("demo") / "bids"
    write_demo(folder)
    return folder


@pytest.fixture(scope="session")
def real() -> Path:
    """Give the folder of real scans used in development, or skip."""
    folder = Path(os.environ.get("CORDLESION_REAL_DATA", ROOT.parent / "shared" / "real"))
    if not (folder / "rawdata").is_dir():
        pytest.skip("the optional real scans are not here")
    return folder
