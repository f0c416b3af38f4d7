"""Time and peak memory of one cold session, and of the demo, through the real command.

    python benchmarks/session.py [--repeats 3]

The session is a synthetic sagittal T2w of 320x256x19 voxels (0.8x0.8x3 mm) with a STIR of the
same size on a grid of its own. Each run is a fresh process, so starting Python and loading the
model count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.spatial.transform import Rotation

from bids_app.commands.demo import write_demo
from bids_app.files import write_json
from bids_app.imaging.volumes import write_volume
from bids_app.training.acquisition import Protocol, apply_axes, degrade, slice_matrix
from bids_app.training.anatomy import draw_spine
from bids_app.training.contrasts import draw_contrast, render
from bids_app.training.poses import fine_points
from bids_app.training.structures import paint

ROOT = Path(__file__).resolve().parent.parent
SHAPE = (19, 256, 320)  # right, anterior, superior
SPACING_MM = (3.0, 0.8, 0.8)
FINE_MM = 1.2


@dataclass(frozen=True)
class Measured:
    """One run of a command."""

    seconds: float
    peak_mb: float


def write_large_session(
    folder: Path,
    seed: int,
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> None:
    """Write a dataset of one subject with one large session; axes right, anterior, superior."""
    rng = np.random.default_rng(seed)
    spine = draw_spine(rng, 8)
    height = -110.0
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = Rotation.from_euler("xyz", [2, 1, 1], degrees=True).as_matrix()
    pose[:3, 3] = [spine.at("center_x", height), spine.at("center_y", height) + 30, height]
    fine_shape = [int(n * s / FINE_MM) + 8 for n, s in zip(shape, spacing_mm, strict=True)]
    points = fine_points((fine_shape[0], fine_shape[1], fine_shape[2]), FINE_MM, pose)
    anatomy = paint(spine, points, FINE_MM)
    protocol = Protocol("sagittal", spacing_mm, spacing_mm)
    rows = [
        slice_matrix(_axis(n, FINE_MM), _axis(m, s), s)
        for n, m, s in zip(anatomy.shape, shape, spacing_mm, strict=True)
    ]
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True)]
    anat = folder / "sub-01" / "anat"
    for channel, (contrast_name, name) in enumerate((("T2w", "T2w"), ("STIR", "acq-STIR_T2w"))):
        contrast = draw_contrast(rng, channel, contrast_name)
        image = apply_axes(render(anatomy, contrast, channel, rng), (rows[0], rows[1], rows[2]))
        image = degrade(image, protocol, rng, contrast.noise_floor, 0.5)
        moved = affine.copy()
        moved[:3, 3] += (0.0, 2.0 * channel, -1.5 * channel)
        write_volume(anat / f"sub-01_{name}.nii.gz", (image * 800).astype(np.int16), moved)
    description = {"Name": "benchmark", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    write_json(folder / "dataset_description.json", description)


def _axis(count: int, spacing_mm: float) -> np.ndarray:
    return (np.arange(count) - (count - 1) / 2) * spacing_mm


def run(bids_dir: Path, out_dir: Path) -> Measured:
    """Run the participant level in a process of its own."""
    command = [sys.executable, str(ROOT / "run.py"), str(bids_dir), str(out_dir), "participant"]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    return Measured(time.monotonic() - start, usage.ru_maxrss / 1024)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    table = Table(title=f"{os.cpu_count()} CPUs, median of {arguments.repeats} cold runs")
    for heading in ("what", "seconds", "peak memory, MB"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_large_session(folder / "large", arguments.seed)
        write_demo(folder / "demo", subjects=4, seed=arguments.seed)
        for name, label in (("large", "one session of 320x256x19, two contrasts"),
                            ("demo", "the demo's first four subjects, five sessions")):  # fmt: skip
            runs = [run(folder / name, folder / f"{name}-{i}") for i in range(arguments.repeats)]
            seconds = statistics.median(measured.seconds for measured in runs)
            peak = max(measured.peak_mb for measured in runs)
            table.add_row(label, f"{seconds:.1f}", f"{peak:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
