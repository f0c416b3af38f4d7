"""One run of many sessions: does anything grow that should not?

    python tests/soak.py --sessions 300

Prints memory, open files and threads of the run, all its processes added up, at its 5th session and
then at every 50th; at the end what is left in the folder for temporary files, what the log weighs,
and the run's exit code.
Ends with 1 when the last session's memory is more than a tenth above the fifth's, or anything is
left.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from support import ROOT
from tiny import write_tiny

_GROWTH = 1.1
_FIRST = 5


def soak(folder: Path, sessions: int) -> bool:
    """Run, watch, print; gives whether all is as it should be."""
    bids, out, places = folder / "bids", folder / "out", folder / "tmp"
    places.mkdir()
    write_tiny(bids, [f"{number:03d}" for number in range(1, sessions + 1)])
    command = [sys.executable, str(ROOT / "run.py"), str(bids), str(out), "participant"]
    environ = os.environ | {"TMPDIR": str(places)}
    seen: dict[int, tuple[float, float, int, int]] = {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
    ) as run:
        for line in run.stdout or ():
            told = re.match(r"\[(\d+)/\d+\]", line)
            if told:
                seen[int(told[1])] = _use(run.pid)
            else:
                print(line, end="")
    print("session\tmemory MB\tpeak MB\topen files\tthreads")
    for number in [n for n in sorted(seen) if n in (_FIRST, sessions - 1) or n % 50 == 0]:
        print(number, *(f"{value:.0f}" for value in seen[number]), sep="\t")
    last = seen[sessions - 1]
    left = [path for path in places.rglob("*") if path.is_file()]
    hidden = [path for path in out.rglob(".*") if path.is_file() and path.name != ".bidsignore"]
    logs = sum(path.stat().st_size for path in (out / "logs").rglob("*") if path.is_file())
    print(f"exit code {run.returncode}; {len(left)} temporary files left, {len(hidden)} in results")
    print(f"logs: {logs / 1000:.0f} kB, {logs / sessions:.0f} bytes a session")
    # An image may be open at the very moment.
    flat = last[0] <= _GROWTH * seen[_FIRST][0] and last[2] <= seen[_FIRST][2] + 2
    return flat and run.returncode == 0 and not left and not hidden


def _family(pid: int) -> list[int]:
    """Give a process and those that it has started, and theirs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *(each for child in children for each in _family(int(child)))]


def _use(pid: int) -> tuple[float, float, int, int]:
    """Give memory now and at most (MB), open files and threads, those of all processes added up."""
    total = [0, 0, 0, 0]
    for each in _family(pid):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{each}/status").read_text()
            # A process that has just ended has no memory any more, but still a status.
            fields = dict(re.findall(r"^(\w+):\s+(\d+)", status, re.MULTILINE))
            found = [int(fields.get(key, 0)) for key in ("VmRSS", "VmHWM", "Threads")]
            files = len(list(Path(f"/proc/{each}/fd").iterdir()))
            total = [a + b for a, b in zip(total, (*found[:2], files, found[2]), strict=True)]
    return total[0] / 1024, total[1] / 1024, total[2], total[3]


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=300)
    with tempfile.TemporaryDirectory() as folder:
        return 0 if soak(Path(folder), parser.parse_args().sessions) else 1


if __name__ == "__main__":
    sys.exit(main())
