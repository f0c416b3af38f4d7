"""Measure the registration on synthetic pairs with a known truth, and on a real pair.

    python benchmarks/registration.py --pairs 40 --seed 0

Error is the mean distance (mm) at the reference's cord between where an alignment puts it and
where it is. The methods: the headers; SimpleITK's Mattes mutual information from the headers,
the usual way; the cord masks alone; ours without a cord on the moving image; ours with noisy
cords on both; and that followed by a shift in each slice, smooth along the cord. The real pair
is used when ``shared/real`` lies beside the checkout, or where CORDLESION_REAL_DATA says.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from phantoms import Array, Pair, make_pair, noisy_cord, rigid  # noqa: E402

from bids_app.imaging._centreline import centreline, lay_onto  # noqa: E402
from bids_app.imaging._similarity import pose_matrix  # noqa: E402
from bids_app.imaging.itk import ras_to_lps, to_image  # noqa: E402
from bids_app.imaging.registration import register  # noqa: E402
from bids_app.imaging.volumes import read_label_map, read_volume  # noqa: E402
from bids_app.records import FloatArray, Volume  # noqa: E402

REAL = Path(os.environ.get("CORDLESION_REAL_DATA", ROOT.parent / "shared" / "real"))
FAILURE_MM = 2.0
SAME_PLACE_MM = 0.7
PATH_SMOOTHNESS_MM = 10.0


@dataclass(frozen=True)
class Mapping:
    """Where points of the reference lie in the moving image (RAS+, mm).

    Attributes
    ----------
    matrix : ndarray of shape (4, 4)
    heights_mm, across_mm : ndarray of shape (m,), (m, 2)
        A further shift across the cord at these heights of the moving image.
    """

    matrix: FloatArray
    heights_mm: Array | None = None
    across_mm: Array | None = None

    def __call__(self, points_mm: Array) -> Array:
        """Map points of shape (n, 3)."""
        moved: Array = points_mm @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        if self.heights_mm is not None and self.across_mm is not None:
            for axis in range(2):
                moved[:, axis] += np.interp(moved[:, 2], self.heights_mm, self.across_mm[:, axis])
        return moved


Method = Callable[[Pair, int], Mapping]


def by_headers(_pair: Pair, _seed: int) -> Mapping:
    """Leave the images where their headers put them."""
    return Mapping(np.eye(4))


def by_simpleitk(pair: Pair, _seed: int) -> Mapping:
    """Run SimpleITK's rigid registration within 25 mm of the cord, three levels."""
    import SimpleITK as sitk  # noqa: N813

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
        return Mapping(np.eye(4))
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    lps[:3, 3] = origin
    return Mapping(ras_to_lps(lps))


def _cords(pair: Pair, seed: int) -> tuple[Volume, Volume]:
    """Spoil both cords as a network would."""
    rng = np.random.default_rng(seed)
    return noisy_cord(pair.reference_cord, rng), noisy_cord(pair.moving_cord, rng)


def by_masks(pair: Pair, seed: int) -> Mapping:
    """Lay the noisy cords' centrelines onto each other; along the cord the headers decide."""
    lines = [centreline(cord) for cord in _cords(pair, seed)]
    if lines[0] is None or lines[1] is None:
        return Mapping(np.eye(4))
    centre = lines[0].mean(axis=1)
    pose = lay_onto(lines[0], lines[1], centre, 0.0)
    return Mapping(np.eye(4) if pose is None else pose_matrix(pose, centre))


def by_intensity(pair: Pair, seed: int) -> Mapping:
    """Run ours with a noisy cord on the reference alone."""
    return Mapping(register(pair.moving, pair.reference, _cords(pair, seed)[0].data).matrix)


def by_cords(pair: Pair, seed: int) -> Mapping:
    """Run ours with noisy cords on both images."""
    cord, other = _cords(pair, seed)
    return Mapping(register(pair.moving, pair.reference, cord.data, other.data).matrix)


def by_path(pair: Pair, seed: int, rigidly: Mapping | None = None) -> Mapping:
    """Run ours, then shift each height by what is left between the noisy cords, smoothly."""
    matrix = (rigidly or by_cords(pair, seed)).matrix
    lines = [centreline(cord) for cord in _cords(pair, seed)]
    if lines[0] is None or lines[1] is None:
        return Mapping(matrix)
    moved = (matrix[:3, :3] @ lines[0] + matrix[:3, 3:]).T
    height = lines[1][2]
    moved = moved[(moved[:, 2] >= height[0]) & (moved[:, 2] <= height[-1])]
    if len(moved) < 3:
        return Mapping(matrix)
    gap = np.stack([np.interp(moved[:, 2], height, lines[1][k]) for k in (0, 1)], 1) - moved[:, :2]
    near = np.subtract.outer(moved[:, 2], moved[:, 2]) / PATH_SMOOTHNESS_MM
    weight = np.exp(-0.5 * near**2)
    return Mapping(matrix, moved[:, 2], weight @ gap / weight.sum(axis=1, keepdims=True))


METHODS: dict[str, Method] = {
    "headers": by_headers,
    "SimpleITK": by_simpleitk,
    "masks": by_masks,
    "intensity": by_intensity,
    "cords": by_cords,
    "path": by_path,
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


def _at_cord(cord: Volume) -> Array:
    """Give the RAS+ points of a cord's voxels, shape (n, 3)."""
    return np.argwhere(cord.data > 0.5) @ cord.affine[:3, :3].T + cord.affine[:3, 3]


def error_mm(found: Mapping, truth: Mapping, cord: Volume) -> float:
    """Give the mean distance between where two mappings put the cord."""
    points = _at_cord(cord)
    return float(np.linalg.norm(found(points) - truth(points), axis=1).mean())


def cord_dice(pair: Pair, mapping: Mapping) -> float:
    """Give the Dice overlap of both cords on the reference grid, where both were imaged."""
    voxels = np.moveaxis(np.indices(pair.reference.data.shape), 0, -1).reshape(-1, 3)
    affine = pair.reference.affine
    back = np.linalg.inv(pair.moving.affine)
    there = mapping(voxels @ affine[:3, :3].T + affine[:3, 3]) @ back[:3, :3].T + back[:3, 3]
    shape = np.array(pair.moving.data.shape)
    imaged = ((there >= -0.5) & (there <= shape - 0.5)).all(axis=1)
    soft = pair.moving_cord.data.astype(np.float32)
    moved = imaged & (ndimage.map_coordinates(soft, there.T, order=1, mode="nearest") > 0.5)
    cord = imaged & (pair.reference_cord.data.ravel() > 0.5)
    return float(2 * (moved & cord).sum() / max(1, moved.sum() + cord.sum()))


def displaced(pair: Pair, seed: int) -> tuple[Pair, FloatArray]:
    """Displace the moving image's header by up to 10 mm and 8 degrees about the cord."""
    centre = _at_cord(pair.reference_cord).mean(axis=0)
    extra = rigid(np.random.default_rng(seed), 10.0, 8.0) if seed else np.eye(4)
    extra[:3, 3] += centre - extra[:3, :3] @ centre
    moving = Volume(pair.moving.data, extra @ pair.moving.affine)
    cord = Volume(pair.moving_cord.data, extra @ pair.moving_cord.affine)
    return Pair(pair.name, pair.reference, moving, pair.reference_cord, cord, extra), extra


def synthetic_table(pairs: int, seed: int, names: list[str], verbose: bool) -> None:
    """Print one row a method over synthetic pairs."""
    errors: dict[str, list[float]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    dice: dict[str, list[float]] = {name: [] for name in names}
    before: list[float] = []
    for number in range(seed, seed + pairs):
        pair = make_pair(number)
        truth = Mapping(pair.matrix)
        before.append(error_mm(Mapping(np.eye(4)), truth, pair.reference_cord))
        found: dict[str, Mapping] = {}
        for name in names:
            start = time.process_time()
            # The path goes on from the rigid alignment, where that is known already.
            known = {"rigidly": found["cords"]} if name == "path" and "cords" in found else {}
            found[name] = METHODS[name](pair, number, **known)
            seconds[name].append(time.process_time() - start)
            errors[name].append(error_mm(found[name], truth, pair.reference_cord))
            dice[name].append(cord_dice(pair, found[name]))
        if verbose:
            line = "  ".join(f"{name} {errors[name][-1]:5.2f}" for name in names)
            print(f"{pair.name:30s} {before[-1]:5.2f} -> {line}", flush=True)
    print(f"\n{pairs} synthetic pairs from seed {seed}; a failure is an error over {FAILURE_MM} mm")
    print("method      median   p95     max    dice   failures  worse  CPU s")
    for name in names:
        error = np.array(errors[name])
        median, high = np.percentile(error, [50, 95])
        print(
            f"{name:10s} {median:7.2f} {high:6.2f} {error.max():7.2f} "
            f"{np.median(dice[name]):7.3f} {(error > FAILURE_MM).sum():7d} "
            f"{(error > np.array(before) + 0.3).sum():8d} {np.mean(seconds[name]):6.1f}"
        )


def real_table(starts: int, names: list[str], verbose: bool) -> None:
    """Print Dice and agreement on the real pair, from the headers and displaced starts."""
    pair = real_pair()
    if pair is None:
        print("\nno real pair here")
        return
    print(f"\nthe real pair, from its headers and {starts} displaced starts")
    print("            Dice                       distance (mm) to the undisplaced solution")
    print("method      headers  median  lowest    median    p95    max  within 0.7 mm")
    points = _at_cord(pair.reference_cord)
    for name in names:
        dice, ends = [], []
        for seed in range(starts + 1):
            moved, extra = displaced(pair, seed)
            mapping = METHODS[name](moved, 0)  # the same noise: a header does not change a cord
            dice.append(cord_dice(moved, mapping))
            back = np.linalg.inv(extra)
            ends.append(mapping(points) @ back[:3, :3].T + back[:3, 3])
            if verbose:
                change = (ends[-1] - ends[0]).mean(axis=0)
                print(
                    f"  {name} {seed}: Dice {dice[-1]:.3f}, moved by {change.round(2)}", flush=True
                )
        away = np.linalg.norm(np.array(ends[1:]) - ends[0], axis=2).mean(axis=1)
        median, high = np.percentile(away, [50, 95])
        print(
            f"{name:10s} {dice[0]:8.3f} {np.median(dice):7.3f} {min(dice):7.3f} {median:9.2f} "
            f"{high:6.2f} {away.max():6.2f} {(away <= SAME_PLACE_MM).sum():6d} of {starts}",
            flush=True,
        )


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--starts", type=int, default=5, help="displaced starts of the real pair")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("-v", "--verbose", action="store_true", help="a line a pair")
    options = parser.parse_args()
    if options.pairs:
        synthetic_table(options.pairs, options.seed, options.methods, options.verbose)
    if options.starts:
        real_table(options.starts, options.methods, options.verbose)


if __name__ == "__main__":
    main()
