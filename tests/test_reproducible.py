"""Same in, same out: threads, order and company of a session change no voxel and no number."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import results
from support import run_app

pytestmark = pytest.mark.slow

# The first has a second contrast, which is registered. Three are done several at a time where there
# are two cores, each in a process of its own.
LABELS = ("01", "03", "04")


@pytest.fixture(scope="module")
def plain(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run three sessions on two cores."""
    out = tmp_path_factory.mktemp("plain") / "out"
    return _run(demo, out, *LABELS, threads=2)


def _run(bids: Path, out: Path, *labels: str, threads: int) -> dict[str, str]:
    """Run first sessions; give what was found of each."""
    done = run_app(
        *(bids, out, "participant", "--session-label", "M0", "--n-cpus", threads),
        *("--participant-label", *labels),
    )
    assert done.returncode == 0, done.stderr
    return {name: content for name, content in results(out).items() if name.startswith("sub-")}


def test_threads_change_nothing(demo: Path, plain: dict[str, str], tmp_path: Path) -> None:
    assert _run(demo, tmp_path / "out", *LABELS, threads=1) == plain


def test_alone_and_in_any_order(demo: Path, plain: dict[str, str], tmp_path: Path) -> None:
    """One command a session, the last one first: as an array of jobs does it."""
    for label in reversed(LABELS):
        found = _run(demo, tmp_path / "out", label, threads=2)
    assert len(found) > 20
    assert found == plain
