"""Time and memory of `convert`, on the demo's synthetic sessions.

    python benchmarks/convert.py [--subjects 4 --copies 40 --n-cpus 2 --no-second --no-cord]

Each group of four subjects has five sessions: two with a STIR, one with a PSIR, one with a UNIT1
and one with a T2w alone. `--no-second` takes the T2w of each only; `--no-cord` removes the cord
masks, so that the model in the box finds the cord. `--copies` takes each subject so many times,
under other names: files are linked, everything is read and computed anew. Writing is not timed.
Memory is that of the main process and its workers together, each with its share of what they
share, in each fifth of the time: flat, or growing with the cases.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from bids_app.cli import main as cordlesion


def main() -> None:
    """Write, convert, convert again, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--n-cpus", type=int, default=2)
    parser.add_argument("--no-second", action="store_true")
    parser.add_argument("--no-cord", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        demo = Path(place, "demo")
        # In a process of its own, so that its memory does not count.
        subprocess.run(
            [
                sys.executable,
                "-m",
                "bids_app.cli",
                "demo",
                demo,
                "--subjects",
                str(arguments.subjects),
            ],
            check=True,
        )
        _multiply(demo, arguments.copies)
        if arguments.no_cord:
            for mask in demo.glob("derivatives/*/sub-*/ses-*/anat/*_label-cord_mask.nii.gz"):
                mask.unlink()
        command = ["convert", str(demo), "--out", f"{place}/raw", "--test-share", "0"]
        command += ["--n-cpus", str(arguments.n_cpus)]
        if arguments.no_second:
            command += ["--contrasts", "PDw"]
        sessions = len(list(demo.glob("sub-*/ses-*/anat")))
        for what in ("first", "again"):
            start, cpu = time.monotonic(), _cpu_seconds()
            with _Watch() as watch:
                code = cordlesion(command)
            wall, used = time.monotonic() - start, _cpu_seconds() - cpu
            print(
                f"{what}: exit code {code}; {sessions} sessions on {arguments.n_cpus} processes: "
                f"{wall:.1f} s by the clock, {used:.1f} s of CPU ({used / sessions:.2f} a session)"
            )
            watch.tell()


class _Watch:
    """Samples the memory of this process and its children."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(0.5):
            self.samples.append(_memory_mb())

    def tell(self) -> None:
        """Print the memory in each fifth of the time."""
        for fifth, some in enumerate(np.array_split(self.samples, 5), start=1):
            if some.size:
                print(f"  fifth {fifth}: {some.mean():.0f} MB, at most {some.max():.0f}")


def _memory_mb() -> float:
    """Give the proportional set size of this process and its children."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if os.getpid() in (parent, int(folder.name)):
                text = (folder / "smaps_rollup").read_text()
                total += int(re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)[0])
    return total / 1024


def _multiply(bids: Path, copies: int) -> None:
    """Link each subject's files under further names, in the dataset and its derivatives."""
    for folder in sorted([*bids.glob("sub-*"), *bids.glob("derivatives/*/sub-*")]):
        for number in range(1, copies):
            name = f"{folder.name}copy{number}"
            for path in (path for path in folder.rglob("*") if path.is_file()):
                inside = str(path.relative_to(folder)).replace(folder.name, name)
                target = folder.with_name(name) / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                target.hardlink_to(path)


def _cpu_seconds() -> float:
    """Give the CPU time of this process and of the workers that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


if __name__ == "__main__":
    main()
