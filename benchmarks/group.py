"""The group level of thousands of sessions: seconds and memory, to see whether they are linear.

    python benchmarks/group.py [--sessions 1000 10000]

One session of benchmarks/session.py is processed with everything written; its results are copied
under other subjects' names, images as links. Each subject has raw images too, for the group level
tells which sessions are missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from scale import measure, write_copies
from session import write_large_session


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1000, 10000])
    table = Table("sessions", "seconds", "CPU seconds", "peak MB", title="group level")
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        write_large_session(top / "one", seed=3)
        measure("run", top / "one", top / "out-one", "participant")
        for count in parser.parse_args().sessions:
            raw, out = top / f"raw-{count}", top / f"out-{count}"
            write_copies(top / "one", raw, count)
            _write_results(top / "out-one", out, count)
            used = measure("run", raw, out, "group")
            table.add_row(
                f"{count:,}", f"{used.wall_s:.1f}", f"{used.cpu_s:.1f}", f"{used.peak_mb:.0f}"
            )
    Console(width=100).print(table)


def _write_results(one: Path, many: Path, count: int) -> None:
    """Write all that a session's folder holds as the results of many."""
    many.mkdir()
    for path in one.glob("*.json"):
        shutil.copy(path, many)
    files = [path for path in sorted((one / "sub-01").rglob("*")) if path.is_file()]
    for number in range(1, count + 1):
        name = f"sub-{number:05d}"
        for path in files:
            place = path.relative_to(one).as_posix().replace("sub-01", name)
            target = many / place
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in (".json", ".tsv"):
                target.write_text(path.read_text().replace("sub-01", name))
            else:
                os.link(path, target)


if __name__ == "__main__":
    main()
