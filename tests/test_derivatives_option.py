"""``--derivatives`` through the real command: levels, a given cord, resume, clear failures."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from support import run_app

STEM = "sub-03_ses-M0"
ANAT = Path("sub-03/ses-M0/anat")


@pytest.fixture(scope="module")
def labels(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of derivatives with the disc labels of one session of the demo."""
    folder = tmp_path_factory.mktemp("labels")
    (folder / ANAT).mkdir(parents=True)
    name = f"{STEM}_label-discs_dlabel.nii.gz"
    shutil.copy(demo / "derivatives/ground-truth" / ANAT / name, folder / ANAT / name)
    return folder


@pytest.fixture(scope="module")
def out(demo: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "out"
    done = _run(demo, folder, labels)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 done" in done.stdout
    return folder


def _run(demo: Path, out: Path, labels: Path | None) -> subprocess.CompletedProcess[str]:
    given = ["--derivatives", f"mine={labels}"] if labels else []
    return run_app(demo, out, "participant", "--participant-label", "03", *given)


def _array(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_levels_lie_between_the_discs(labels: Path, out: Path) -> None:
    levels = nib.load(out / ANAT / f"{STEM}_seg-vertebrae_dseg.nii.gz")
    cord = _array(out / ANAT / f"{STEM}_label-cord_mask.nii.gz") > 0
    data = np.asarray(levels.dataobj)
    assert levels.get_data_dtype() == np.uint8
    assert not data[~cord].any()
    discs = _array(labels / ANAT / f"{STEM}_label-discs_dlabel.nii.gz")
    points = np.argwhere(cord) @ levels.affine[:3, :3].T + levels.affine[:3, 3]
    values = data[cord]
    seen = 0
    for voxel in np.argwhere(discs):
        number = discs[tuple(voxel)]
        disc = levels.affine[:3, :3] @ voxel + levels.affine[:3, 3]
        # Behind the disc's tip, in the cord, level n - 1 ends and level n begins.
        near = np.linalg.norm(points - disc, axis=1) < 14
        above, below = (points[:, 2] - disc[2] > 5), (points[:, 2] - disc[2] < -5)
        if (near & above).sum() > 50 and (near & below).sum() > 50:
            assert set(values[near & above]) == {number - 1}
            assert set(values[near & below]) == {number}
            seen += 1
    assert seen >= 5


def test_tables_and_sidecars(out: Path) -> None:
    table = pd.read_csv(out / ANAT / f"{STEM}_seg-vertebrae_dseg.tsv", sep="\t")
    image = _array(out / ANAT / f"{STEM}_seg-vertebrae_dseg.nii.gz")
    assert list(table["index"]) == sorted(set(image[image > 0]))
    assert table.loc[table["coverage"] == 1, "area_mm2"].between(30, 120).all()
    lesions = pd.read_csv(out / ANAT / f"{STEM}_seg-lesions_dseg.tsv", sep="\t")
    assert len(lesions) >= 1
    assert set(lesions["level"]) <= set(table["name"])
    assert table["lesion_count"].sum() == len(lesions)
    about = json.loads((out / ANAT / f"{STEM}_seg-vertebrae_dseg.json").read_text())
    discs = f"bids:mine:{ANAT.as_posix()}/{STEM}_label-discs_dlabel.nii.gz"
    assert discs in about["Sources"]
    assert about["Warnings"] == []
    summary = json.loads((out / ANAT / f"{STEM}_label-lesion_mask.json").read_text())
    assert discs in summary["Sources"]
    counts = summary["Summary"]
    regions = [counts[f"lesion_count_{name}"] for name in ("cervical", "thoracic", "lumbar")]
    assert sum(count for count in regions if count is not None) == len(lesions)
    links = json.loads((out / "dataset_description.json").read_text())["DatasetLinks"]
    assert links["mine"].startswith("file://")


def test_the_validator_has_nothing_to_say(out: Path) -> None:
    command = [str(Path(sys.executable).parent / "bids-validator-deno"), str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] in ("error", "warning")] == []


def test_what_is_up_to_date_stays(demo: Path, labels: Path, out: Path) -> None:
    assert "1 already up to date" in _run(demo, out, labels).stdout


def test_a_cord_joins_and_the_discs_turn_odd(
    demo: Path, labels: Path, out: Path, tmp_path: Path
) -> None:
    truth = nib.load(demo / "derivatives/ground-truth" / ANAT / f"{STEM}_label-cord_mask.nii.gz")
    discs = nib.load(labels / ANAT / f"{STEM}_label-discs_dlabel.nii.gz")
    upside_down = np.asarray(discs.dataobj).astype(int)
    upside_down[upside_down > 0] = 20 - upside_down[upside_down > 0]
    mine = tmp_path / ANAT
    mine.mkdir(parents=True)
    name = f"{STEM}_T2w_labels-disc.nii.gz"
    nib.save(nib.Nifti1Image(upside_down.astype(np.uint8), discs.affine), mine / name)
    # Stored with other axes, which is the same grid.
    turned = truth.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
    nib.save(turned, mine / f"{STEM}_T2w_label-SC_seg.nii.gz")
    done = _run(demo, out, tmp_path)
    assert "1 done" in done.stdout, done.stdout + done.stderr
    assert "warning: The disc labels are out of order" in done.stdout
    cord = _array(out / ANAT / f"{STEM}_label-cord_mask.nii.gz") > 0
    lesion = _array(out / ANAT / f"{STEM}_label-lesion_mask.nii.gz") > 0
    np.testing.assert_array_equal(cord, (np.asarray(truth.dataobj) > 0) | lesion)
    about = json.loads((out / ANAT / f"{STEM}_label-cord_mask.json").read_text())
    assert about["Sources"][0].endswith("_T2w_label-SC_seg.nii.gz")
    assert len(pd.read_csv(out / ANAT / f"{STEM}_seg-vertebrae_dseg.tsv", sep="\t")) == 0
    lesions = pd.read_csv(out / ANAT / f"{STEM}_seg-lesions_dseg.tsv", sep="\t")
    assert lesions["level"].isna().all()


def test_a_cord_that_does_not_fit_fails_its_session(demo: Path, tmp_path: Path) -> None:
    truth = nib.load(demo / "derivatives/ground-truth" / ANAT / f"{STEM}_label-cord_mask.nii.gz")
    mine = tmp_path / "mine" / ANAT / f"{STEM}_T2w_seg-manual.nii.gz"
    mine.parent.mkdir(parents=True)
    for mask, words in (
        (truth.slicer[:, :, :-3], "is not on the voxel grid of sub-03_ses-M0_T2w.nii.gz"),
        (nib.Nifti1Image(np.zeros(truth.shape, np.uint8), truth.affine), "is empty: segment"),
    ):
        nib.save(mask, mine)
        done = _run(demo, tmp_path / "out", tmp_path / "mine")
        assert done.returncode == 1
        assert words in done.stdout
    (log, *_) = (tmp_path / "out" / "logs").glob("run-*.log")
    assert "Disc labels for 0 of 1 sessions" in log.read_text()
