"""How soon a run of a large dataset starts: the first image opened, the index, the whole plan.

    python benchmarks/start.py [--subjects 2000 --repeats 5]

Each subject has 20 files as a study has them (T2w, STIR, T1w, diffusion, functional, sidecars);
images are links to one of 64x64x19 voxels. A run of one subject is started as a user starts it,
and stopped once it has opened an image: a hook that Python calls when a file is opened tells. The
index is timed within Python, without imports; the plan is `--dry-run` of the whole dataset. Disk
caches are warm.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
_HOOK = """
import os, sys, time
def _told(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".nii.gz"):
        print("OPENED", time.time(), flush=True)
        os._exit(0)
sys.addaudithook(_told)
"""
_INDEX = """
import sys, time
from pathlib import Path
import bids.layout
from bids_app.dataset.discover import discover
from bids_app.options import Options
folder, database, *labels = sys.argv[1:]
options = Options(
    bids_dir=Path(folder), out_dir=Path("unused"), participant_labels=tuple(labels),
    bids_database_dir=Path(database) if database else None,
)
start = time.perf_counter()
discover(options)
print("INDEXED", time.perf_counter() - start)
"""
_SUFFIXES = {
    "anat": ("T2w", "STIR", "T1w", "acq-axial_T2starw"),
    "dwi": ("dwi", "acq-rev_dwi"),
    "func": ("task-rest_bold", "task-motor_bold"),
    "fmap": ("phasediff", "magnitude1"),
}


def main() -> None:
    """Write the dataset, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        (top / "hook").mkdir()
        (top / "hook" / "sitecustomize.py").write_text(_HOOK)
        data, saved = top / "data", top / "index"
        files = _write(data, arguments.subjects)
        one = f"{arguments.subjects // 2:05d}"
        kept = ["--bids-database-dir", saved]
        print(f"index saved in {_indexed(data, str(saved), one):.1f} s")
        rows: dict[str, Callable[[], float]] = {
            "first image of one subject opened": lambda: _opened(top, "--participant-label", one),
            "the same, saved index": lambda: _opened(top, "--participant-label", one, *kept),
            "index, one subject": lambda: _indexed(data, "", one),
            "index, one subject, saved": lambda: _indexed(data, str(saved), one),
            "plan of all": lambda: _seconds(lambda: _run(data, top / "out", "--dry-run")),
            "plan of all, saved index": lambda: _seconds(
                lambda: _run(data, top / "out", "--dry-run", *kept)
            ),
        }  # fmt: skip
        table = Table("what", "seconds, median", "range", title=f"{files} files")
        for name, measure in rows.items():
            taken = [measure() for _ in range(arguments.repeats)]
            table.add_row(
                name, f"{statistics.median(taken):.2f}", f"{min(taken):.2f} to {max(taken):.2f}"
            )
    Console(width=120).print(table)


def _write(folder: Path, subjects: int) -> int:
    """Write the dataset; gives its number of files."""
    folder.mkdir()
    about = {"Name": "many files", "BIDSVersion": "1.10.0"}
    (folder / "dataset_description.json").write_text(json.dumps(about))
    image, sidecar = folder / "image.nii.gz", folder / "sidecar.json"
    voxels = np.random.default_rng(1).integers(0, 999, (64, 64, 19)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([0.8, 0.8, 3, 1])), image)
    sidecar.write_text("{}")
    for number in range(1, subjects + 1):
        name = f"sub-{number:05d}"
        for kind, suffixes in _SUFFIXES.items():
            place = folder / name / kind
            place.mkdir(parents=True)
            for suffix in suffixes:
                os.link(image, place / f"{name}_{suffix}.nii.gz")
                os.link(sidecar, place / f"{name}_{suffix}.json")
    image.unlink()
    sidecar.unlink()
    return sum(len(files) for _, _, files in os.walk(folder))


def _run(data: Path, out: Path, *more: object, hook: Path | None = None) -> str:
    """Run the app; gives what it printed."""
    paths = [str(hook)] * (hook is not None) + [str(ROOT)]
    command = [sys.executable, str(ROOT / "run.py"), str(data), str(out), "participant"]
    done = subprocess.run(
        [*command, *map(str, more)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    return done.stdout


def _opened(top: Path, *more: object) -> float:
    start = time.time()
    printed = _run(top / "data", top / "out", *more, hook=top / "hook")
    return float(printed.split("OPENED ", 1)[1].split()[0]) - start


def _indexed(data: Path, saved: str, one: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _INDEX, str(data), saved, one],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return float(done.stdout.split("INDEXED ", 1)[1])


def _seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


if __name__ == "__main__":
    main()
