"""The app against nnU-Net's own command: same model, same machine, same run.

    python benchmarks/against_nnunet.py [one] [large] [many] [--repeats 3] [--sessions 20]
        [--folds 5] [--device cuda]

A session is a whole spine: T2w and STIR of 320x256x60 voxels (0.8x0.8x1 mm). nnU-Net's command is
given both on one grid and predicts, nothing else; the app reads, aligns, predicts, measures, writes
everything and makes the report. Both start cold, by turns, on all cores, or on a GPU.

one     the box, no mirroring on either side.
large   nnU-Net's residual encoder M with random weights, `--folds`, mirroring on all axes for both;
        it gives lesions only, and the box finds the cord for the app.
many    so many sessions in one run of the app; nnU-Net's command over a folder of the same, and
        once for each, of which `--repeats` are run and the median counts.

Memory is the sum of the processes' shares (PSS), looked at up to five times a second; so is a GPU,
of which the share of the time in use and the most memory are told, other programs' included.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_model
from session import ROOT, write_large_session

from bids_app.imaging.grids import resample_to, to_canonical
from bids_app.imaging.volumes import read_volume, write_volume
from bids_app.networks import build_network
from bids_app.segmentation.export import export_model
from bids_app.segmentation.manifest import BOX
from bids_app.training.plan import box_plans

SHAPE, SPACING_MM = (60, 256, 320), (1.0, 0.8, 0.8)
_ARCHITECTURES = "dynamic_network_architectures.architectures.unet"
STAGES = ("read", "align", "segment", "measure", "write", "report")


@dataclass(frozen=True)
class Taken:
    """What a command took."""

    seconds: float
    peak_mb: float
    gpu: str = ""


def main() -> None:
    """Measure what was asked for and print a table each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", choices=["one", "large", "many", []], default=[])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--folds", type=int, default=1, help="of the large model")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="of both sides")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_large_session(work / "bids", 4, SHAPE, SPACING_MM)
        _as_nnunet_wants(work / "bids", work / "images", "case")
        export_model(BOX, work / "exported")
        for row in arguments.rows or ("one", "large", "many"):
            {"one": one, "large": large, "many": many}[row](work, arguments)


def one(work: Path, arguments: argparse.Namespace) -> None:
    """Compare a cold session of the box."""

    def ours(run: int) -> Taken:
        return _app(work / "bids", work / f"one-{run}", arguments.device)

    def theirs(run: int) -> Taken:
        return _nnunet(work / "images", work / f"nn-{run}", work / "exported", arguments.device)

    _by_turns("one session, the box, cold", ours, theirs, arguments.repeats)
    _tell_stages(work / f"one-{arguments.repeats - 1}")


def large(work: Path, arguments: argparse.Namespace) -> None:
    """Compare a cold session of a large model."""
    folds = arguments.folds
    _write_large_model(work / "large", work / "large_nnunet", folds)

    def ours(run: int) -> Taken:
        model = ("--model", str(work / "large"))
        return _app(work / "bids", work / f"large-{run}", arguments.device, *model)

    def theirs(run: int) -> Taken:
        places = (work / "images", work / f"nnl-{run}", work / "large_nnunet")
        return _nnunet(*places, arguments.device, folds, mirror=True)

    title = f"one session, residual encoder M, {folds} fold{'s' * (folds > 1)}, mirroring"
    _by_turns(title, ours, theirs, 1)
    _tell_stages(work / "large-0")


def many(work: Path, arguments: argparse.Namespace) -> None:
    """Compare a run of many sessions."""
    for number in range(1, arguments.sessions + 1):
        anat = work / "cohort" / f"sub-{number:02d}" / "anat"
        anat.mkdir(parents=True)
        for path in (work / "bids" / "sub-01" / "anat").iterdir():
            shutil.copy(path, anat / path.name.replace("sub-01", f"sub-{number:02d}"))
        for path in list((work / "images").glob("case_*")):
            (work / "folder").mkdir(exist_ok=True)
            shutil.copy(path, work / "folder" / path.name.replace("case", f"case{number:02d}"))
    shutil.copy(work / "bids" / "dataset_description.json", work / "cohort")
    device = arguments.device
    ours = _app(work / "cohort", work / "many", device)
    theirs = _nnunet(work / "folder", work / "nn-many", work / "exported", device)
    each = [
        _nnunet(work / "images", work / f"nn-cold-{run}", work / "exported", device)
        for run in range(arguments.repeats)
    ]
    cold = statistics.median(taken.seconds for taken in each)
    count = arguments.sessions
    table = Table("what", "seconds", "a session", "peak memory, MB", "times slower", "GPU")
    for name, taken in (
        ("the app, one run", ours),
        ("nnU-Net over the folder", theirs),
        (
            "nnU-Net, once for each",
            Taken(cold * count, max(taken.peak_mb for taken in each), each[0].gpu),
        ),
    ):
        table.add_row(
            name,
            *(f"{number:.1f}" for number in (taken.seconds, taken.seconds / count)),
            f"{taken.peak_mb:.0f}",
            f"{taken.seconds / ours.seconds:.2f}",
            taken.gpu,
        )
    table.title = f"{count} sessions"
    Console().print(table)
    _tell_stages(work / "many")


def _by_turns(
    title: str, ours: Callable[[int], Taken], theirs: Callable[[int], Taken], repeats: int
) -> None:
    taken: dict[str, list[Taken]] = {"the app, everything": [], "nnU-Net, prediction": []}
    for run in range(repeats):
        for name, act in zip(taken, (ours, theirs), strict=True):
            taken[name].append(act(run))
    table = Table("what", "seconds, median", "range", "peak memory, MB", "GPU", title=title)
    for name, runs in taken.items():
        seconds = sorted(one.seconds for one in runs)
        table.add_row(
            name,
            f"{statistics.median(seconds):.1f}",
            f"{seconds[0]:.1f} to {seconds[-1]:.1f}",
            f"{max(one.peak_mb for one in runs):.0f}",
            runs[-1].gpu,
        )
    medians = [statistics.median(one.seconds for one in runs) for runs in taken.values()]
    Console().print(table, f"The app is {medians[1] / medians[0]:.2f} times as fast.")


def _app(bids_dir: Path, out_dir: Path, device: str, *more: str) -> Taken:
    command = [sys.executable, str(ROOT / "run.py"), str(bids_dir), str(out_dir), "participant"]
    return _watch([*command, "--device", device, *more], device)


def _nnunet(
    images: Path, out: Path, model: Path, device: str, folds: int = 1, *, mirror: bool = False
) -> Taken:
    command = str(Path(sys.executable).with_name("nnUNetv2_predict_from_modelfolder"))
    places = ["-i", str(images), "-o", str(out), "-m", str(model)]
    how = ["-f", *map(str, range(folds)), "-device", device]
    # A CPU has its hands full with the network; beside a GPU nnU-Net's own numbers hold.
    helpers = ["-npp", "1", "-nps", "1"] if device == "cpu" else []
    return _watch(
        [command, *places, *how, *helpers, *([] if mirror else ["--disable_tta"])], device
    )


def _watch(command: list[str], device: str) -> Taken:
    """Run a command in a session of its own and watch the memory of its processes, and a GPU."""
    start = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    peak, over, gpu = [0.0], threading.Event(), list[tuple[int, int]]()

    def look() -> None:
        while not over.wait(0.2):
            peak[0] = max(peak[0], _memory_mb(process.pid))
            if device == "cuda":
                gpu.append(_gpu_now())

    thread = threading.Thread(target=look)
    thread.start()
    _, errors = process.communicate()
    seconds = time.monotonic() - start
    over.set()
    thread.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors.decode()[-2000:]}")
    told = ""
    if gpu:
        use, most = statistics.mean(use for use, _ in gpu), max(mib for _, mib in gpu)
        told = f"{use:.0f} % of the time, {most} MiB"
    return Taken(seconds, peak[0], told)


def _gpu_now() -> tuple[int, int]:
    """Ask NVIDIA's program for what share of the time the first GPU is in use, and for its MiB."""
    query = ["--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
    answer = subprocess.run(
        ["nvidia-smi", "--id=0", *query], capture_output=True, text=True, check=True
    )
    use, mib = answer.stdout.split(",")
    return int(use), int(mib)


def _memory_mb(session: int) -> float:
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if os.getsid(int(folder.name)) == session:
                text = (folder / "smaps_rollup").read_text()
                total += int(re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)[0])
    return total / 1024


def _tell_stages(out_dir: Path) -> None:
    """Read the run's log: seconds of each stage and inside the network, median over sessions."""
    stages: dict[str, list[float]] = defaultdict(list)
    stage, since, network, sessions = "", 0.0, 0.0, []
    inside_at, done_at = [], []
    for line in next((out_dir / "logs").glob("run-*.log")).read_text().splitlines():
        if "network: " in line:
            seconds = float(re.findall(r"in ([\d.]+) s", line)[0])
            network += seconds
            inside_at.append((_seconds_at(line) - seconds, _seconds_at(line)))
        _, _, rest = line.partition(" INFO ")
        if not rest.startswith("bids_app.stage ") and ": done" not in rest:
            continue
        now = _seconds_at(line)
        if stage in STAGES:
            stages[stage].append(now - since)
        if ": done" in rest:
            sessions.append(network)
            done_at.append(now)
            network = 0.0
        stage, since = rest.split()[-1], now
    whole = sum(statistics.median(stages[name]) for name in STAGES if stages[name])
    later = sessions[1:] or sessions
    parts = ", ".join(f"{n} {statistics.median(stages[n]):.2f}" for n in STAGES if stages[n])
    inside = statistics.median(later)
    Console().print(
        f"Seconds of a session by stage: {parts}; together {whole:.2f}, of which inside the "
        f"network {inside:.2f} ({100 * inside / whole:.0f} %)."
    )
    if len(done_at) > 1:
        share = _covered(inside_at, min(done_at), max(done_at))
        Console().print(
            f"From the second session on a network of one or the other session runs for "
            f"{100 * share:.0f} % of the time by the clock."
        )


def _seconds_at(line: str) -> float:
    """Read the time at the start of a line of the log."""
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()


def _covered(spans: list[tuple[float, float]], start: float, stop: float) -> float:
    """Give the share of the time from `start` to `stop` that lies in at least one span."""
    covered, reached = 0.0, start
    for first, last in sorted(spans):
        last = min(last, stop)
        covered += max(0.0, last - max(first, reached))
        reached = max(reached, last)
    return covered / (stop - start)


def _as_nnunet_wants(bids_dir: Path, images: Path, name: str) -> None:
    """Write both contrasts on one grid, in the orientation of the box's training."""
    anat = bids_dir / "sub-01" / "anat"
    reference = to_canonical(read_volume(anat / "sub-01_T2w.nii.gz"))
    second = to_canonical(read_volume(anat / "sub-01_acq-STIR_T2w.nii.gz"))
    for channel, volume in enumerate((reference, resample_to(second, reference))):
        path = images / f"{name}_{channel:04d}.nii.gz"
        write_volume(path, volume.data.astype(np.float32), volume.affine)


def _write_large_model(folder: Path, nnunet_folder: Path, folds: int) -> None:
    """Write a model of nnU-Net's ResEnc-M size with random weights, for the app and for nnU-Net."""
    torch.manual_seed(0)
    plans = box_plans()
    configuration = plans["configurations"]["3d_fullres"]
    configuration["patch_size"] = [128, 128, 64]
    old = configuration["architecture"]["arch_kwargs"]
    kept = ("conv_op", "conv_bias", "norm_op", "norm_op_kwargs", "dropout_op",
            "dropout_op_kwargs", "nonlin", "nonlin_kwargs")  # fmt: skip
    configuration["architecture"] = {
        **configuration["architecture"],
        "network_class_name": f"{_ARCHITECTURES}.ResidualEncoderUNet",
        "arch_kwargs": {
            "n_stages": 6,
            "features_per_stage": [32, 64, 128, 256, 320, 320],
            "kernel_sizes": [[3, 3, 3]] * 6,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5,
            "n_blocks_per_stage": [1, 3, 4, 6, 6, 6],
            "n_conv_per_stage_decoder": [1] * 5,
            **{key: old[key] for key in kept},
        },
    }
    dataset = {
        "channel_names": {"0": "T2w", "1": "second"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    folder.mkdir()
    digests = {}
    for fold in range(folds):
        network = build_network(configuration["architecture"], 2, 2, deep=True, start=True)
        path = folder / f"fold_{fold}.safetensors"
        save_model(network, str(path))
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest: dict[str, Any] = {
        "name": "large",
        "version": "0",
        "configuration": "3d_fullres",
        "channels": ["T2w", "second"],
        "outputs": {"lesion": 1},
        "orientation": "RAS",
        "mirror_axes": [0, 1, 2],
        "weights": digests,
        "licence": "none",
        "intended_use": "timing",
        "citation": "none",
    }
    for name, content in (("model", manifest), ("plans", plans), ("dataset", dataset)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    export_model(folder, nnunet_folder)


if __name__ == "__main__":
    main()
