"""Measure the registration on synthetic pairs with a known truth, and on a real pair.

    python benchmarks/registration.py --pairs 40 --seed 0

Error is the mean distance (mm) at the reference's cord between where an alignment puts it and
where it is. The methods: the headers; SimpleITK's Mattes mutual information from the headers,
the usual way; ours without a cord on the moving image; ours with noisy cords on both. The real
pair is used when ``shared/real`` lies beside the checkout, or where CORDLESION_REAL_DATA says.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from phantoms import Pair, error_at_cord, make_pair, noisy_cord, rigid  # noqa: E402

from bids_app.imaging.grids import coverage, resample_to  # noqa: E402
from bids_app.imaging.itk import ras_to_lps, to_image  # noqa: E402
from bids_app.imaging.registration import register  # noqa: E402
from bids_app.imaging.volumes import read_label_map, read_volume  # noqa: E402
from bids_app.records import FloatArray, Volume  # noqa: E402

REAL = Path(os.environ.get("CORDLESION_REAL_DATA", ROOT.parent / "shared" / "real"))
FAILURE_MM = 2.0

Method = Callable[[Pair, int], FloatArray]


def by_headers(_pair: Pair, _seed: int) -> FloatArray:
    """Leave the images where their headers put them."""
    return np.eye(4)


def by_simpleitk(pair: Pair, _seed: int) -> FloatArray:
    """Run SimpleITK's rigid registration within 25 mm of the cord, three levels."""
    import SimpleITK as sitk  # noqa: N813
    from scipy import ndimage

    reference = to_image(Volume(pair.reference.data.astype(np.float32), pair.reference.affine))
    moving = to_image(Volume(pair.moving.data.astype(np.float32), pair.moving.affine))
    cord = pair.reference_cord
    far = ndimage.distance_transform_edt(cord.data < 0.5, sampling=cord.spacing_mm)
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(to_image(Volume(far < 25, cord.affine)))
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.2, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    transform = sitk.Euler3DTransform()
    middle = cord.affine @ [*np.argwhere(cord.data > 0.5).mean(axis=0), 1]
    transform.SetCenter((ras_to_lps(np.eye(4)) @ (middle * [-1, -1, 1, 1]))[:3].tolist())
    method.SetInitialTransform(transform, inPlace=True)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 0.005, 150, 0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([1, 1, 1])
    method.SetSmoothingSigmasPerLevel([3.0, 1.5, 0.0])
    try:
        method.Execute(reference, moving)
    except RuntimeError:
        return np.eye(4)
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    lps[:3, 3] = origin
    return ras_to_lps(lps)


def by_intensity(pair: Pair, _seed: int) -> FloatArray:
    """Run ours with a noisy cord on the reference alone."""
    cord = noisy_cord(pair.reference_cord, np.random.default_rng(_seed))
    return register(pair.moving, pair.reference, cord.data).matrix


def by_cords(pair: Pair, seed: int) -> FloatArray:
    """Run ours with noisy cords on both images."""
    rng = np.random.default_rng(seed)
    cord = noisy_cord(pair.reference_cord, rng)
    other = noisy_cord(pair.moving_cord, rng)
    return register(pair.moving, pair.reference, cord.data, other.data).matrix


METHODS: dict[str, Method] = {
    "headers": by_headers,
    "SimpleITK": by_simpleitk,
    "intensity": by_intensity,
    "cords": by_cords,
}


def real_pair() -> Pair | None:
    """Read the real pair; its truth is not known, so its matrix is the identity."""
    scans = REAL / "rawdata" / "sub-real01" / "anat"
    labels = REAL / "derivatives" / "labels" / "sub-real01" / "anat"
    if not scans.is_dir():
        return None
    return Pair(
        "real",
        read_volume(scans / "sub-real01_T2w.nii.gz"),
        read_volume(scans / "sub-real01_T2starw.nii.gz"),
        read_label_map(labels / "sub-real01_T2w_label-cord_mask.nii.gz"),
        read_label_map(labels / "sub-real01_T2starw_label-cord_mask.nii.gz"),
        np.eye(4),
    )


def cord_dice(pair: Pair, matrix: FloatArray) -> float:
    """Give the Dice overlap of both cords on the reference grid, where both were imaged."""
    soft = Volume(pair.moving_cord.data.astype(np.float32), pair.moving_cord.affine)
    moved = resample_to(soft, pair.reference, matrix).data > 0.5
    cord = (pair.reference_cord.data > 0) & coverage(pair.moving, pair.reference, matrix)
    return float(2 * (moved & cord).sum() / max(1, moved.sum() + cord.sum()))


def displaced(pair: Pair, seed: int) -> tuple[Pair, FloatArray]:
    """Displace the moving image's header by up to 6 mm and 4 degrees at the cord."""
    points = np.argwhere(pair.reference_cord.data > 0)
    centre = pair.reference.affine @ [*points.mean(axis=0), 1]
    extra = rigid(np.random.default_rng(seed), 6.0, 4.0) if seed else np.eye(4)
    extra[:3, 3] += centre[:3] - extra[:3, :3] @ centre[:3]
    moving = Volume(pair.moving.data, extra @ pair.moving.affine)
    cord = Volume(pair.moving_cord.data, extra @ pair.moving_cord.affine)
    return Pair(pair.name, pair.reference, moving, pair.reference_cord, cord, extra), extra


def synthetic_table(pairs: int, seed: int, names: list[str], verbose: bool) -> None:
    """Print one row a method over synthetic pairs."""
    errors: dict[str, list[float]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    dice: dict[str, list[float]] = {name: [] for name in names}
    for number in range(seed, seed + pairs):
        pair = make_pair(number)
        for name in names:
            start = time.process_time()
            matrix = METHODS[name](pair, number)
            seconds[name].append(time.process_time() - start)
            errors[name].append(error_at_cord(matrix, pair.matrix, pair.reference_cord))
            dice[name].append(cord_dice(pair, matrix))
        if verbose:
            line = "  ".join(f"{name} {errors[name][-1]:5.2f}" for name in names)
            print(f"{pair.name:36s} {line}", flush=True)
    print(f"\n{pairs} synthetic pairs from seed {seed}; a failure is an error over {FAILURE_MM} mm")
    print("method      median   p95     max    dice   failures  worse  CPU s")
    before = np.array([error_at_cord(np.eye(4), *_truth(n)) for n in range(seed, seed + pairs)])
    for name in names:
        error = np.array(errors[name])
        median, high = np.percentile(error, [50, 95])
        print(
            f"{name:10s} {median:7.2f} {high:6.2f} {error.max():7.2f} "
            f"{np.median(dice[name]):7.3f} {(error > FAILURE_MM).sum():7d} "
            f"{(error > before + 0.3).sum():8d} {np.mean(seconds[name]):6.1f}"
        )


def _truth(number: int) -> tuple[FloatArray, Volume]:
    pair = make_pair(number)
    return pair.matrix, pair.reference_cord


def real_table(starts: int, names: list[str]) -> None:
    """Print Dice and agreement on the real pair, from the headers and displaced starts."""
    pair = real_pair()
    if pair is None:
        print("\nno real pair here")
        return
    print(f"\nthe real pair, from its headers and {starts} displaced starts")
    print("method      dice: headers   median   lowest   spread across, along the cord (mm)")
    for name in names:
        found = []
        for seed in range(starts + 1):
            moved, extra = displaced(pair, seed)
            found.append((cord_dice(moved, m := METHODS[name](moved, seed)), _end(moved, extra, m)))
        dice = [score for score, _ in found]
        ends = np.array([end for _, end in found])
        away = np.abs(ends - np.median(ends, axis=0))
        across = np.hypot(away[:, 0], away[:, 1]).max()
        print(
            f"{name:10s} {dice[0]:13.3f} {np.median(dice):10.3f} {min(dice):8.3f} "
            f"{across:10.2f} {away[:, 2].max():8.2f}",
            flush=True,
        )


def _end(pair: Pair, extra: FloatArray, matrix: FloatArray) -> FloatArray:
    """Give where the middle of the shared cord ends in the undisplaced moving image."""
    shared = coverage(pair.moving, pair.reference) & (pair.reference_cord.data > 0)
    centre = pair.reference.affine @ [*np.argwhere(shared).mean(axis=0), 1]
    return (np.linalg.inv(extra) @ matrix @ centre - centre)[:3]


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--starts", type=int, default=5, help="displaced starts of the real pair")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("-v", "--verbose", action="store_true", help="a line a pair")
    options = parser.parse_args()
    synthetic_table(options.pairs, options.seed, options.methods, options.verbose)
    real_table(options.starts, options.methods)


if __name__ == "__main__":
    main()
