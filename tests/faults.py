"""Disturb runs of the app and compare what a plain re-run gives with an undisturbed run.

    python tests/faults.py --kills 40 --seed 1

kills the run at random moments (SIGKILL and SIGTERM in turn), prints a table, and ends with 1 when
anything differs or a half-written file was ever seen under its final name.
"""

# nibabel ships as typed, but most of its functions are not.
# mypy: allow-untyped-calls

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hostile.dataset import write_hostile
from support import ROOT

# What tells when and how a run was made, not what it found.
_OF_THE_RUN = ("Command", "SealHash")


def write_small(folder: Path) -> Path:
    """Write a dataset of two good sessions, small enough to be run many times."""
    bids, _ = write_hostile(folder, ())
    return bids


def command(bids: Path, out: Path, *more: str) -> list[str]:
    """Give the command of a participant run."""
    return [sys.executable, str(ROOT / "run.py"), str(bids), str(out), "participant", *more]


def results(out: Path) -> dict[str, str]:
    """Hash all derivatives of sessions but what tells of the run itself.

    Images by their content: gzip's bytes are the same too, but it is the voxels that count.
    """
    return {
        str(path.relative_to(out)): hashlib.sha256(_content(path)).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.suffix in (".gz", ".tsv", ".json", ".txt") and _kept(path, out)
    }


def _kept(path: Path, out: Path) -> bool:
    return path.relative_to(out).parts[0] != "logs" and not path.name.startswith(".")


def _content(path: Path) -> bytes:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".json":
        document: dict[str, Any] = json.loads(path.read_bytes())
        for key in _OF_THE_RUN:
            document.pop(key, None)
        hashes = document.get("OutputHashes", {})
        sizes = document.get("OutputSizes", {})
        for name in [name for name in hashes if name.endswith(".json")]:
            hashes.pop(name)
            sizes.pop(name, None)
        return json.dumps(document, sort_keys=True).encode()
    return path.read_bytes()


class Watcher(threading.Thread):
    """Look at every file under its final name again and again; note those that are not whole."""

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self.out, self.halves, self.looks, self._stop_now = out, set[str](), 0, threading.Event()

    def run(self) -> None:
        """Look until `stop`."""
        seen: dict[Path, tuple[int, int]] = {}
        while not self._stop_now.is_set():
            for path in self.out.rglob("*"):
                self._look(path, seen)
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop, after a last look."""
        self._stop_now.set()
        self.join()

    def _look(self, path: Path, seen: dict[Path, tuple[int, int]]) -> None:
        if path.name.startswith(".") and path.name != ".bidsignore":
            return
        try:
            if not path.is_file() or path.suffix not in (".gz", ".json", ".tsv", ".html"):
                return
            about = path.stat()
            if seen.get(path) == (about.st_mtime_ns, about.st_ino):
                return
            content = path.read_bytes()
        except OSError:  # gone since it was listed
            return
        seen[path] = (about.st_mtime_ns, about.st_ino)
        self.looks += 1
        if not _whole(path, content):
            self.halves.add(str(path))


def _whole(path: Path, content: bytes) -> bool:
    try:
        if path.suffix == ".gz":
            return len(gzip.decompress(content)) > 352
        if path.suffix == ".json":
            return isinstance(json.loads(content), dict)
    except (OSError, EOFError, ValueError, zlib.error):
        return False
    end = b"</html>" if path.suffix == ".html" else b"\n"
    return content.rstrip(b"\n" if path.suffix == ".html" else b"").endswith(end)


@contextmanager
def watched(out: Path) -> Iterator[Watcher]:
    """Watch a folder while the block runs."""
    out.mkdir(parents=True, exist_ok=True)
    watcher = Watcher(out)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.stop()


def disturbed(bids: Path, out: Path, after_s: float, number: signal.Signals) -> int:
    """Run the app, send a signal after a while, and give the exit code."""
    with subprocess.Popen(
        command(bids, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        try:
            run.wait(after_s)
        except subprocess.TimeoutExpired:
            run.send_signal(number)
        return run.wait()


def finish(bids: Path, out: Path) -> int:
    """Run the app undisturbed and give its exit code."""
    return subprocess.run(command(bids, out), capture_output=True).returncode


def main() -> int:
    """Kill runs at random moments and print what became of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    bad = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bids = write_small(folder)
        finish(bids, folder / "warm-up")
        start = time.monotonic()
        finish(bids, folder / "undisturbed")
        length = time.monotonic() - start
        wanted = results(folder / "undisturbed")
        print(f"an undisturbed run takes {length:.1f} s and writes {len(wanted)} files")
        print("signal\tafter s\texit code\tfiles then\thalf-written\tlooks\tre-run\tidentical")
        for number in range(arguments.kills):
            which = (signal.SIGKILL, signal.SIGTERM)[number % 2]
            after = rng.uniform(0.05, 1.0) * length
            out = folder / f"out{number}"
            with watched(out) as watcher:
                code = disturbed(bids, out, after, which)
            then = sum(1 for path in out.rglob("*") if path.is_file())
            again = finish(bids, out)
            same = results(out) == wanted
            bad += not same or bool(watcher.halves) or again != 0
            print(
                f"{which.name}\t{after:.1f}\t{code}\t{then}\t{len(watcher.halves)}\t"
                f"{watcher.looks}\t{again}\t{same}",
                flush=True,
            )
            shutil.rmtree(out)
    print(f"{arguments.kills} disturbed runs, {bad} not as they should be")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
