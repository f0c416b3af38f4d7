"""Runs that are killed, disks that refuse, processes that meet: nothing is lost or half-written."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import command, disturbed, finish, results, watched, write_small
from support import run_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# With CORDLESION_THOROUGH=1 a few cases more, which take minutes.
THOROUGH = bool(os.environ.get("CORDLESION_THOROUGH"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the dataset once."""
    return write_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def undisturbed(
    small: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[float, dict[str, str]]:
    """Run once and give the seconds it took and what it wrote."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    start = time.monotonic()
    assert finish(small, out) == 0
    return time.monotonic() - start, results(out)


@pytest.mark.parametrize(("number", "share"), [("KILL", 0.5), ("KILL", 0.8), ("TERM", 0.9)])
def test_after_a_killed_run_a_plain_one_gives_the_same(
    small: Path,
    undisturbed: tuple[float, dict[str, str]],
    tmp_path: Path,
    number: str,
    share: float,
) -> None:
    seconds, wanted = undisturbed
    with watched(tmp_path / "out") as watcher:
        code = disturbed(small, tmp_path / "out", share * seconds, signal.Signals[f"SIG{number}"])
    # Before and after its stages the app leaves SIGTERM to the system; a shell says 143 of both.
    assert code in (0, -signal.SIGKILL, -signal.SIGTERM, 143)
    assert finish(small, tmp_path / "out") == 0
    assert results(tmp_path / "out") == wanted
    assert not watcher.halves


@pytest.mark.parametrize("number", [2, 8] if THOROUGH else [2])
def test_processes_on_one_folder(
    small: Path, undisturbed: tuple[float, dict[str, str]], tmp_path: Path, number: int
) -> None:
    out = tmp_path / "out"
    with watched(out) as watcher:
        line = command(small, out)
        runs = [subprocess.Popen(line, stdout=subprocess.DEVNULL) for _ in range(number)]
        codes = [run.wait() for run in runs]
    assert codes == [0] * number
    assert not watcher.halves
    assert watcher.looks > 10
    assert results(out) == undisturbed[1]


@pytest.mark.parametrize("years", [-30, 30] if THOROUGH else [30])
def test_a_clock_that_jumps(
    small: Path, undisturbed: tuple[float, dict[str, str]], tmp_path: Path, years: int
) -> None:
    """Results from another year are as good as those of today, and broken ones are made again."""
    out = tmp_path / "out"
    assert finish(small, out) == 0
    then = time.time() + years * 365.25 * 86400
    for path in out.rglob("*"):
        os.utime(path, (then, then))
    (mask, *_) = sorted(out.rglob("*_label-lesion_mask.nii.gz"))
    mask.write_bytes(b"broken")
    os.utime(mask, (then, then))
    done = run_app(small, out, "participant")
    assert done.returncode == 0
    assert "1 done, 1 already up to date" in done.stdout + done.stderr
    assert results(out) == undisturbed[1]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of half a megabyte, or skip."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk can be mounted by root only, and not in every container")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_and_costs_nothing(
    small: Path, undisturbed: tuple[float, dict[str, str]], tiny_disk: Path
) -> None:
    out = tiny_disk / "out"
    done = run_app(small, out, "participant")
    assert done.returncode == 1
    told = done.stdout + done.stderr
    assert "No space left on device" in told
    assert "Traceback" not in told
    assert "fault of CordLesion" not in told
    larger = ["mount", "-o", "remount,size=200m", str(tiny_disk)]
    subprocess.run(larger, check=True)
    assert finish(small, out) == 0
    assert results(out) == undisturbed[1]


def test_a_read_only_disk_is_told(small: Path, tiny_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    done = run_app(small, tiny_disk / "out", "participant")
    assert done.returncode in (1, 2)
    assert "Read-only file system" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def _bound_by_permissions() -> list[str]:
    """Give what makes permissions count for root too, or skip."""
    if os.geteuid() != 0:
        return []
    powers = "-dac_override,-dac_read_search"
    prefix = ["setpriv", "--bounding-set", powers, "--inh-caps", powers]
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"]).returncode:
        pytest.skip("needs setpriv, for root is stopped by no permission")
    return prefix


def test_permission_that_is_lost_half_way(
    small: Path, undisturbed: tuple[float, dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        [*_bound_by_permissions(), *command(small, out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        while run.poll() is None and not (out / "sub-good1").exists():
            time.sleep(0.02)
        out.chmod(0o555)
        told = "".join(run.communicate())
        out.chmod(0o755)
    assert run.returncode == 1
    assert "Permission denied" in told
    assert "Traceback" not in told
    assert finish(small, out) == 0
    assert results(out) == undisturbed[1]


def test_results_that_vanish_during_a_run(
    small: Path, undisturbed: tuple[float, dict[str, str]], tmp_path: Path
) -> None:
    out, away = tmp_path / "out", tmp_path / "away"
    with subprocess.Popen(
        command(small, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        time.sleep(0.75 * undisturbed[0])
        if out.exists():
            out.rename(away)
        told = "".join(run.communicate())
    assert run.returncode in (0, 1)
    assert "Traceback" not in told
    assert finish(small, out) == 0
    assert results(out) == undisturbed[1]


def test_a_session_that_runs_out_of_memory(small: Path, tmp_path: Path) -> None:
    def little() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (450 << 20, 450 << 20))

    done = subprocess.run(
        command(small, tmp_path / "out"), capture_output=True, text=True, preexec_fn=little
    )
    told = done.stdout + done.stderr
    assert done.returncode != 0
    assert not list((tmp_path / "out").rglob("*_mask.json"))
    assert "memory" in told.lower() or done.returncode < 0, told
