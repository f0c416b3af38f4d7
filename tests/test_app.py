"""The main job through the real command: outputs, exit codes, resume, the validator."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from support import ROOT, run_app

from bids_app.commands.demo_score import score_changes, score_sessions
from bids_app.imaging.itk import read_transform
from bids_app.segmentation.manifest import BOX, read_manifest

SESSIONS = (
    "sub-01_ses-M0",
    "sub-01_ses-M12",
    "sub-02_ses-M0",
    "sub-03_ses-M0",
    "sub-04_ses-M0",
    "sub-05_ses-M0",
    "sub-05_ses-M12",
    "sub-05_ses-M6",
)


@pytest.fixture(scope="module")
def out(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run both levels over the demo once."""
    folder = tmp_path_factory.mktemp("run") / "out"
    for level in ("participant", "group"):
        done = run_app(demo, folder, level)
        assert done.returncode == 0, done.stderr
    return folder


def _validate(folder: Path) -> dict[str, list[dict[str, str]]]:
    command = [str(Path(sys.executable).parent / "bids-validator-deno"), str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    return {
        severity: [issue for issue in issues if issue["severity"] == severity]
        for severity in ("error", "warning")
    }


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _image_digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(nib.load(path).get_fdata().tobytes()).hexdigest()
        for path in sorted(folder.rglob("*.nii.gz"))
    }


def _record(folder: Path) -> dict[str, object]:
    newest = max((folder / "logs").glob("run-*_summary.json"), key=lambda p: p.name)
    return dict(json.loads(newest.read_text()))


def test_the_derivatives_have_no_error_and_no_warning(out: Path) -> None:
    assert _validate(out) == {"error": [], "warning": []}


def test_the_demo_has_no_error(demo: Path) -> None:
    assert _validate(demo)["error"] == []


def test_the_demo_is_segmented(demo: Path, out: Path) -> None:
    scores = {score.session: score for score in score_sessions(demo, out)}
    assert tuple(scores) == SESSIONS
    assert min(score.cord_dice for score in scores.values()) >= 0.90
    hits = sum(score.hits for score in scores.values())
    assert hits / sum(score.reference for score in scores.values()) >= 0.8
    assert scores["sub-04_ses-M0"].found == 0


def test_results_lie_on_the_grid_of_the_reference(demo: Path, out: Path) -> None:
    for raw in demo.glob("sub-*/ses-*/anat/*_ses-*_T2w.nii.gz"):
        if "acq-" in raw.name:
            continue
        reference = nib.load(raw)
        stem = raw.name.removesuffix("_T2w.nii.gz")
        folder = out / raw.parent.relative_to(demo)
        for end, dtype in (
            ("label-lesion_mask", np.uint8),
            ("label-lesion_probseg", np.float32),
            ("seg-lesions_dseg", np.int16),
        ):
            image = nib.load(folder / f"{stem}_{end}.nii.gz")
            assert image.shape == reference.shape
            assert image.get_data_dtype() == dtype
            np.testing.assert_allclose(image.affine, reference.affine, atol=1e-3)


def test_sidecars_say_where_a_number_comes_from(out: Path) -> None:
    path = out / "sub-01/ses-M0/anat/sub-01_ses-M0_label-lesion_mask.json"
    about = json.loads(path.read_text())
    assert about["Sources"] == [
        "bids:raw:sub-01/ses-M0/anat/sub-01_ses-M0_T2w.nii.gz",
        "bids:raw:sub-01/ses-M0/anat/sub-01_ses-M0_acq-STIR_T2w.nii.gz",
    ]
    assert about["Type"] == "Lesion"
    assert about["Manual"] is False
    assert len(about["Model"]["WeightsSHA256"]) == 64
    assert about["Contrasts"] == {"reference": "T2w", "second": "STIR"}


def test_group_tables(out: Path) -> None:
    sessions = pd.read_csv(out / "group_sessions.tsv", sep="\t")
    assert list(sessions["status"]) == ["done"] * 8
    assert set(sessions["group"]) == {"MS", "control"}
    lesions = pd.read_csv(out / "group_lesions.tsv", sep="\t")
    assert len(lesions) == sessions["lesion_count"].sum()
    assert lesions["probability"].between(0, 1).all()
    if read_manifest(BOX).calibration is not None:
        low, high = sessions["expected_lesion_count_low"], sessions["expected_lesion_count_high"]
        assert sessions["expected_lesion_count"].between(low, high).all()
    summary = json.loads((out / "group_summary.json").read_text())
    header = (out / "group_summary.tsv").read_text().splitlines()[0].split("\t")
    assert set(header) <= set(summary)


def test_the_known_changes_are_found(demo: Path, out: Path) -> None:
    changes = {change.session: change for change in score_changes(demo, out)}
    assert set(changes) == {"sub-05_ses-M0", "sub-05_ses-M6", "sub-05_ses-M12"}
    known = [pair for change in changes.values() for pair in change.pairs]
    assert len(known) == 11
    assert sum(one == other for one, other in known) >= 9
    assert {"new", "enlarging", "resolved"} <= {one for one, other in known if one == other}
    sessions = pd.read_csv(out / "group_sessions.tsv", sep="\t").set_index("session_id")
    followed = sessions[sessions["participant_id"] == "sub-05"]
    assert np.isnan(followed.loc["ses-M0", "new_lesion_count"])
    assert followed.loc["ses-M6", "new_lesion_count"] == 1
    assert followed.loc["ses-M12", "resolved_lesion_count"] == 1
    lesions = pd.read_csv(out / "group_lesions.tsv", sep="\t")
    assert lesions.loc[lesions["participant_id"] == "sub-05", "lesion_id"].notna().all()
    assert lesions.loc[lesions["participant_id"] == "sub-02", "lesion_id"].isna().all()


def test_the_transform_of_a_repositioned_session_is_the_known_one(demo: Path, out: Path) -> None:
    place = Path("sub-05/ses-M6/anat/sub-05_ses-M6_from-T2w_to-sesM0_mode-image_xfm.txt")
    known = json.loads((demo / "derivatives/ground-truth" / place.with_suffix(".json")).read_text())
    points = np.array([[0, 0, 60, 1], [0, 0, 0, 1], [0, 0, -60, 1.0]]).T
    away = (read_transform(out / place) - np.array(known["Matrix"])) @ points
    assert np.linalg.norm(away[:3], axis=0).max() < 1.0


def test_a_second_run_does_nothing_and_says_so(demo: Path, out: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (*out.rglob("*.nii.gz"), *out.rglob("*_lesions.*"))}
    done = run_app(demo, out, "participant")
    assert done.returncode == 0
    assert "0 done, 8 already up to date, 0 failed" in done.stdout
    assert "sub-05_lesions: up-to-date" in done.stdout
    after = {p: p.stat().st_mtime_ns for p in (*out.rglob("*.nii.gz"), *out.rglob("*_lesions.*"))}
    assert after == before


def test_a_deleted_output_redoes_just_its_session_alike(demo: Path, out: Path) -> None:
    before = _image_digests(out)
    (out / "sub-03/ses-M0/anat/sub-03_ses-M0_label-cord_mask.nii.gz").unlink()
    done = run_app(demo, out, "participant")
    assert "1 done, 7 already up to date, 0 failed" in done.stdout
    assert _image_digests(out) == before


def test_the_input_is_never_written_to(demo: Path, out: Path) -> None:
    before = _digests(demo)
    run_app(demo, out, "participant", "--participant-label", "03", "--force")
    assert _digests(demo) == before


def test_a_dry_run_shows_the_plan_and_touches_nothing(demo: Path, tmp_path: Path) -> None:
    done = run_app(demo, tmp_path / "out", "participant", "--dry-run")
    assert done.returncode == 0
    for session in SESSIONS:
        assert session in done.stdout
    assert "STIR" in done.stdout
    assert not (tmp_path / "out").exists()


def test_one_failing_session_does_not_stop_the_others(demo: Path, tmp_path: Path) -> None:
    bids = tmp_path / "bids"
    for label in ("03", "04"):
        shutil.copytree(demo / f"sub-{label}", bids / f"sub-{label}")
    shutil.copy(demo / "dataset_description.json", bids)
    (bids / "sub-04/ses-M0/anat/sub-04_ses-M0_T2w.nii.gz").write_bytes(b"not an image")
    (bids / "sub-05/ses-M0/anat").mkdir(parents=True)
    (bids / "sub-05/ses-M0/anat/sub-05_ses-M0_T1w.nii.gz").write_bytes(b"")
    done = run_app(bids, tmp_path / "out", "participant")
    assert done.returncode == 1
    assert "1 done, 0 already up to date, 2 failed" in done.stdout
    assert "MissingContrast: sub-05_ses-M0 has no T2w. Found: T1w" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    units = {unit["unit"]: unit for unit in _record(tmp_path / "out")["units"]}  # type: ignore[attr-defined]
    assert units["sub-04_ses-M0"]["status"] == "failed"
    assert run_app(bids, tmp_path / "out", "group").returncode == 0
    sessions = pd.read_csv(tmp_path / "out" / "group_sessions.tsv", sep="\t")
    assert list(sessions["status"]) == ["done", "failed", "failed"]
    assert sessions["lesion_count"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--participant-label", "01", "77", "sub-78"], 2, ["77", "78"]),
        (["--mem", "8"], 2, ["--mem"]),
        (["--no-such-option"], 2, ["--no-such-option"]),
        (["--reference", "UNIT1", "--participant-label", "03"], 65, ["UNIT1"]),
        (["--model", "no-such-model"], 69, ["no-such-model"]),
        (["--output-spaces", "PAM50"], 69, ["PAM50"]),
    ],
)
def test_exit_codes_of_bad_requests(
    demo: Path, tmp_path: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    done = run_app(demo, tmp_path / "out", "participant", *arguments)
    assert done.returncode == code, done.stderr
    assert all(word in done.stderr for word in words)
    assert "Traceback" not in done.stderr


def test_a_fault_of_ours_is_70(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import bids_app.dataset.select as s\n"
        "def broken(*a, **k): raise RuntimeError('broken on purpose')\n"
        "s.select = broken\n"
    )
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = run_app(demo, tmp_path / "out", "participant", env=environ)
    assert done.returncode == 70
    assert "broken on purpose" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(demo: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "run.py"), str(demo), str(out), "participant"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (out / ".bidsignore").exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert _record(out)["exit_code"] == code


def test_help_is_quick_and_version_is_known() -> None:
    assert "BIDS_DIR" in run_app("--help").stdout
    assert run_app("--version").stdout.startswith("cordlesion 0.")


def test_the_real_scan(real: Path, tmp_path: Path) -> None:
    done = run_app(real / "rawdata", tmp_path / "out", "participant", "--skip-bids-validation")
    assert done.returncode == 0, done.stdout + done.stderr
    name = "sub-real01_T2w_label-cord_mask.nii.gz"
    known = nib.load(real / "derivatives/labels/sub-real01/anat" / name).get_fdata() > 0
    found_path = tmp_path / "out/sub-real01/anat/sub-real01_label-cord_mask.nii.gz"
    found = nib.load(found_path).get_fdata() > 0
    assert 2 * (known & found).sum() / (known.sum() + found.sum()) >= 0.85
