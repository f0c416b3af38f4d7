"""Same in, same out: threads, order and company of a session change no voxel and no number."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import results, write_small
from support import run_app

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two sessions, one of them with a second contrast."""
    return write_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def plain(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run with two threads."""
    return _run(small, tmp_path_factory.mktemp("plain") / "out", "--n-cpus", "2")


def _run(bids: Path, out: Path, *options: str) -> dict[str, str]:
    done = run_app(bids, out, "participant", *options)
    assert done.returncode == 0, done.stderr
    return results(out)


def _of_sessions(found: dict[str, str]) -> dict[str, str]:
    return {name: content for name, content in found.items() if name.startswith("sub-")}


@pytest.mark.parametrize("options", [("--n-cpus", "1"), ("--n-cpus", "2", "--outputs", "all")])
def test_threads_change_nothing(
    small: Path, plain: dict[str, str], options: tuple[str, ...], tmp_path: Path
) -> None:
    assert _of_sessions(_run(small, tmp_path / "out", *options)) == _of_sessions(plain)


def test_alone_and_in_any_order(small: Path, plain: dict[str, str], tmp_path: Path) -> None:
    """One command a session, the last one first: as an array of jobs does it."""
    labels = sorted({path.name for path in small.glob("sub-*")}, reverse=True)
    for label in labels:
        found = _run(small, tmp_path / "out", "--participant-label", label)
    assert len(labels) == 2
    assert _of_sessions(found) == _of_sessions(plain)
