"""Does one general model beat specific ones outside their domain? On synthetic data.

    python benchmarks/general_specific.py WORK_DIR [--subjects 20 --epochs 30 --iterations 100]

Four synthetic BIDS datasets with a contrast and a protocol each are written to WORK_DIR, converted
into one nnU-Net dataset with a case a scan, and a specific model is trained on each and a general
one on all, with the same network, number of steps and seed of the split. All five models predict
the test subjects of all four datasets; cord and lesion Dice are printed as tables of models by
test sets, and `cordlesion compare` makes the page with tests and pictures. The question is that
of Bouchard et al. (see docs/training.md), who found lesion Dice 0.850 for the general model and
0.027 to 0.770 for specific ones out of their domain.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from bids_app.cli import main as cordlesion
from bids_app.evaluation.metrics import dice
from bids_app.imaging.volumes import write_volume
from bids_app.training.anatomy import draw_lesion, draw_spine
from bids_app.training.session import AXIAL, FIELD_MM, ISOTROPIC, SAGITTAL, Recipe, image_session

DATASETS = {
    "t2wSagittal": ("T2w", SAGITTAL),
    "t2starAxial": ("T2starw", AXIAL),
    "unit1Isotropic": ("UNIT1", ISOTROPIC),
    "psirSagittal": ("PSIR", SAGITTAL),
}
NUMBER = 701
_CROP_MM = 24.0


def main() -> None:
    """Write, convert, train, predict, tell; what is there already is not made again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="WORK_DIR")
    parser.add_argument("--subjects", type=int, default=20, help="of each dataset")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--configuration", choices=("2d", "3d_fullres"), default="2d")
    parser.add_argument("--planner", default="small")
    arguments = parser.parse_args()
    work: Path = arguments.folder
    for place, name in enumerate(DATASETS):
        _write_dataset(work / "bids" / name, name, arguments.subjects, seed=50 + place)
    sources = [str(work / "bids" / name) for name in DATASETS]
    _run("convert", *sources, "--out", work / "raw", "--id", NUMBER, "--fusion", "late",
         "--cord", "required", "--test-share", "0.3", "--contrasts",
         *[contrast for contrast, _ in DATASETS.values()])  # fmt: skip
    raw = next((work / "raw").glob(f"Dataset{NUMBER}_*"))
    training = ["--planner", arguments.planner, "--configuration", arguments.configuration,
                "--epochs", arguments.epochs, "--iterations", arguments.iterations,
                "--folds", "all", "--device", "cpu"]  # fmt: skip
    for kind in ("general", "specific"):
        start = time.monotonic()
        _run("train", "nnunet", raw, work / kind, f"--{kind}", *training)
        print(f"{kind}: trained in {(time.monotonic() - start) / 60:.1f} min", flush=True)
    models = {"general": work / "general", **{f"only {n}": work / "specific" / n for n in DATASETS}}
    cases = pd.read_csv(raw / "cases.tsv", sep="\t")
    tested = cases[cases["split"] == "test"]
    for name, folder in models.items():
        _predict(folder, raw / "imagesTs", work / "predicted" / name)
    _print_tables(tested, models, raw, work)
    _compare(tested, models, raw, work)


def _write_dataset(folder: Path, name: str, subjects: int, seed: int) -> None:
    """Write a BIDS dataset of one contrast with its labels, cut to the surroundings of the cord."""
    if (folder / "dataset_description.json").exists():
        return
    contrast, protocol = DATASETS[name]
    for index in range(subjects):
        rng = np.random.default_rng((seed, index))
        height = float(rng.uniform(-320, -95))
        low, high = height - FIELD_MM[2] * 0.4, height + FIELD_MM[2] * 0.4
        spine = draw_spine(rng, 0)
        lesions = tuple(draw_lesion(rng, low, high, (1.0, 1.0)) for _ in range(rng.integers(1, 6)))
        spine = type(spine)(**{**vars(spine), "lesions": lesions})
        imaged = image_session(rng, spine, height, Recipe(protocol, None, None, contrast))
        stem = f"sub-{index + 1:02d}"
        data, affine = imaged.first
        box = _around(imaged.cord, protocol.spacing_mm)
        affine = affine @ _shift([part.start for part in box])
        image = folder / stem / "anat" / f"{stem}_{contrast}.nii.gz"
        write_volume(image, (data[box] * 800).clip(0, 32000).astype(np.int16), affine)
        known = folder / "derivatives" / "labels" / stem / "anat"
        for kind, mask in (("cord", imaged.cord), ("lesion", imaged.lesion)):
            path = known / f"{stem}_{contrast}_label-{kind}_seg.nii.gz"
            write_volume(path, mask[box].astype(np.uint8), affine)
    about = {"Name": name, "BIDSVersion": "1.10.0"}
    (folder / "dataset_description.json").write_text(json.dumps(about))


def _around(cord: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[slice, ...]:
    """Give the box around the cord; height is kept whole."""
    found = ndimage.find_objects(cord.astype(np.uint8))[0]
    margin = [int(_CROP_MM / size) for size in spacing_mm]
    across = [
        slice(max(0, part.start - more), part.stop + more)
        for part, more in zip(found[:2], margin, strict=False)
    ]
    return (*across, slice(0, cord.shape[2]))


def _shift(voxels: list[int]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = voxels
    return matrix


def _run(*arguments: object) -> None:
    code = cordlesion([str(argument) for argument in arguments])
    if code:
        sys.exit(f"cordlesion {' '.join(map(str, arguments))}: exit code {code}")


def _predict(folder: Path, images: Path, out: Path) -> None:
    """Let nnU-Net's own command predict."""
    if (out / "predict_from_raw_data_args.json").exists():
        return
    plans = next((folder / "nnUNet_results").glob("*/*/plans.json"))
    command = [
        str(Path(sys.executable).parent / "nnUNetv2_predict_from_modelfolder"),
        *("-i", str(images), "-o", str(out), "-m", str(plans.parent)),
        *("-f", "all", "-device", "cpu", "--disable_tta", "-npp", "1", "-nps", "1"),
    ]
    subprocess.run(command, check=True, capture_output=True)


def _print_tables(tested: pd.DataFrame, models: dict[str, Path], raw: Path, work: Path) -> None:
    for what, limit in (("cord", 1), ("lesion", 2)):
        table = pd.DataFrame(index=list(models), columns=list(DATASETS), dtype=float)
        for model in models:
            for name in DATASETS:
                scores = [
                    dice(_labels(raw / "labelsTs", case) >= limit,
                         _labels(work / "predicted" / model, case) >= limit)
                    for case in tested.loc[tested["dataset"] == name, "case"]
                ]  # fmt: skip
                table.loc[model, name] = np.nanmean(scores)
        print(f"\nmean Dice of the {what}, {len(tested)} test scans (rows: trained on)")
        print(table.round(3).to_string())
        specific = table.drop(index="general").to_numpy()
        out = specific[~np.eye(len(DATASETS), dtype=bool)]
        print(
            f"in domain: general {table.loc['general'].mean():.3f}, "
            f"specific {np.diag(specific).mean():.3f}; specific out of domain "
            f"{out.mean():.3f} ({out.min():.3f} to {out.max():.3f})",
            flush=True,
        )
        table.round(4).to_csv(work / f"dice_{what}.tsv", sep="\t", index_label="model")


def _labels(folder: Path, case: str) -> np.ndarray:
    return np.asarray(nib.load(folder / f"{case}.nii.gz").dataobj)


def _compare(tested: pd.DataFrame, models: dict[str, Path], raw: Path, work: Path) -> None:
    """Give `cordlesion compare` the lesions alone, a folder a test set."""
    shutil.rmtree(work / "lesions", ignore_errors=True)
    for source, name in ((raw / "labelsTs", "reference"),
                         *((work / "predicted" / model, model) for model in models)):  # fmt: skip
        for row in tested.itertuples():
            image = nib.load(source / f"{row.case}.nii.gz")
            path = work / "lesions" / name / row.dataset / f"{row.case}.nii.gz"
            write_volume(path, (np.asarray(image.dataobj) == 2).astype(np.uint8), image.affine)
    arguments: list[object] = ["compare", work / "comparison", "--connectivity", "6",
                               "--metrics", "dice", "f1", "sensitivity", "precision",
                               "--against", "general", "--images", raw / "imagesTs"]  # fmt: skip
    for name in DATASETS:
        arguments += ["--test-set", f"{name}={work / 'lesions' / 'reference' / name}"]
    for model in models:
        arguments += ["--model", f"{model}={work / 'lesions' / model}"]
        seen = ",".join(DATASETS) if model == "general" else model.removeprefix("only ")
        arguments += ["--trained-on", f"{model}={seen}"]
    _run(*arguments)


if __name__ == "__main__":
    main()
