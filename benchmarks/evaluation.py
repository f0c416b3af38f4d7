"""Time and memory of `evaluate` on random pairs.

    python benchmarks/evaluation.py [--pairs 60 --shape 256 256 40 --n-cpus 2]

Each pair has 0 to 12 blocks of 3 to 14 voxels a side as reference lesions anywhere in the image;
the prediction moves four in five of them by a voxel or two, and invents up to two. Writing the
pairs is not timed. Memory is the largest resident set of the main process plus, for each worker,
that of the largest worker: an upper bound.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from bids_app.cli import main as cordlesion
from bids_app.imaging.volumes import write_volume

SPACING_MM = (0.5, 0.5, 3.0)


def write_pairs(folder: Path, pairs: int, shape: tuple[int, ...], seed: int) -> None:
    """Write the pairs and a table of probabilities for each prediction."""
    affine = np.diag([*SPACING_MM, 1.0])
    for number in range(pairs):
        rng = np.random.default_rng((seed, number))
        reference, prediction = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
        for label in range(1, int(rng.integers(0, 13)) + 1):
            size = rng.integers(3, 15, 3)
            corner = rng.integers(0, np.array(shape) - size)
            reference[box(corner, size)] = label
            if rng.random() < 0.8:
                moved = np.maximum(corner + rng.integers(-2, 3, 3), 0)
                prediction[box(moved, size)] = label
        for label in range(21, 21 + int(rng.integers(0, 3))):
            prediction[box(rng.integers(0, np.array(shape) - 5), np.full(3, 5))] = label
        write_volume(folder / "known" / f"{number:04d}.nii.gz", reference, affine)
        write_volume(folder / "found" / f"{number:04d}.nii.gz", prediction, affine)
        rows = [f"{n},{rng.random():.4f}" for n in np.unique(prediction) if n]
        (folder / "found" / f"{number:04d}.csv").write_text("\n".join(["label,p", *rows]) + "\n")


def box(corner: np.ndarray, size: np.ndarray) -> tuple[slice, ...]:
    """Give the slices of a block."""
    return tuple(slice(int(a), int(a + s)) for a, s in zip(corner, size, strict=True))


def main() -> None:
    """Write, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--shape", type=int, nargs=3, default=(256, 256, 40))
    parser.add_argument("--n-cpus", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_pairs(folder, arguments.pairs, tuple(arguments.shape), arguments.seed)
        start, cpu = time.monotonic(), _cpu_seconds()
        code = cordlesion(
            ["evaluate", str(folder / "known"), str(folder / "found"), str(folder / "out"),
             "--n-cpus", str(arguments.n_cpus)]
        )  # fmt: skip
        wall, used = time.monotonic() - start, _cpu_seconds() - cpu
    own, worker = (
        resource.getrusage(who).ru_maxrss / 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    total = own + worker * (arguments.n_cpus if arguments.n_cpus > 1 else 0)
    print(
        f"exit code {code}; {arguments.pairs} pairs on {arguments.n_cpus} processes: {wall:.1f} s "
        f"by the clock, {used:.1f} s of CPU ({used / arguments.pairs:.3f} s a pair); memory at "
        f"most {total:.0f} MB (main {own:.0f}, worker {worker:.0f})"
    )


def _cpu_seconds() -> float:
    """Give the CPU time of this process and of the workers that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


if __name__ == "__main__":
    main()
