"""What sessions cost, one and many: CPU, memory, disk, inodes; planning and counting thousands.

    python benchmarks/scale.py [--many 2000]

A session is that of benchmarks/session.py (T2w and STIR of 320x256x19 voxels). CPU seconds are
those of the processes, so that a busy machine does not count. Many sessions are links to one image,
and copies of its minimal results under other names.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from session import ROOT, write_large_session

_TIMED = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
    "use = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print('USED', use.ru_utime + use.ru_stime, use.ru_maxrss, code)"
)


@dataclass(frozen=True)
class Used:
    """What a command took."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--many", type=int, default=2000)
    many = parser.parse_args().many
    table = Table("what", "CPU s", "wall s", "peak MB", "MB", "inodes")
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        write_large_session(top / "one", seed=3)
        for outputs in ("all", "minimal"):
            out = top / f"out-{outputs}"
            used = measure("run", top / "one", out, "participant", "--outputs", outputs)
            _row(table, f"a session alone, {outputs}", used, *_size(out))
        write_copies(top / "one", top / "eight", 8)
        used = measure("run", top / "eight", top / "out-eight", "participant")
        _row(table, "eight sessions in one job, all", used, *_size(top / "out-eight"))
        write_copies(top / "one", top / "many", many)
        used = measure(
            "submit", top / "many", top / "out-many", "--dry-run", "--outputs", "minimal"
        )
        _row(table, f"plan {many} sessions (submit --dry-run)", used)
        _results(top / "out-minimal", top / "out-many", many)
        used = measure(
            "submit", top / "many", top / "out-many", "--dry-run", "--outputs", "minimal"
        )
        _row(table, f"plan {many} again, all done", used)
        used = measure("run", top / "many", top / "out-many", "group")
        _row(table, f"group level, {many} sessions", used, *_size(top / "out-many"))
    Console(width=120).print(table)


def _row(table: Table, what: str, used: Used, size_mb: float = 0.0, inodes: int = 0) -> None:
    sizes = (f"{size_mb:.1f}", str(inodes)) if inodes else ("", "")
    table.add_row(what, f"{used.cpu_s:.1f}", f"{used.wall_s:.1f}", f"{used.peak_mb:.0f}", *sizes)


def measure(*arguments: object) -> Used:
    """Run a command of the program; two threads, as a job of two cores has."""
    words = [str(word) for word in arguments]
    limits = ["--n-cpus", "2"] if words[0] == "submit" or words[3] == "participant" else []
    command = [sys.executable, "-c", _TIMED, sys.executable, "-m", "bids_app.cli", *words, *limits]
    start = time.monotonic()
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    used = done.stdout.rsplit("USED ", 1)[-1].split()
    if used[2] != "0":
        raise SystemExit(f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return Used(float(used[0]), time.monotonic() - start, int(used[1]) / 1024)


def _size(folder: Path) -> tuple[float, int]:
    """Give the size in MB and the number of files and folders, logs left out."""
    found = [path for path in folder.rglob("*") if "logs" not in path.parts]
    return sum(p.stat().st_size for p in found if p.is_file()) / 1e6, len(found)


def write_copies(one: Path, many: Path, count: int) -> None:
    """Write a dataset whose images are links to those of one session."""
    many.mkdir()
    shutil.copy(one / "dataset_description.json", many)
    for number in range(1, count + 1):
        anat = many / f"sub-{number:05d}" / "anat"
        anat.mkdir(parents=True)
        for image in (one / "sub-01" / "anat").iterdir():
            os.link(image, anat / image.name.replace("sub-01", f"sub-{number:05d}"))


def _results(one: Path, many: Path, count: int) -> None:
    """Write the minimal results of one session as those of many."""
    many.mkdir(exist_ok=True)
    for path in one.glob("*.json"):
        shutil.copy(path, many)
    for number in range(1, count + 1):
        name = f"sub-{number:05d}"
        anat = many / name / "anat"
        anat.mkdir(parents=True)
        for path in sorted((one / "sub-01" / "anat").iterdir(), key=lambda p: p.suffix == ".json"):
            target = anat / path.name.replace("sub-01", name)
            if path.suffix == ".json":
                target.write_text(path.read_text().replace("sub-01", name))
            else:
                shutil.copy(path, target)


if __name__ == "__main__":
    main()
