"""Faulty data through the real command: a clear sentence each, and the other sessions finished."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest
from hostile.cases import CASES
from hostile.dataset import GOOD, write_hostile
from support import run_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def _state(folder: Path) -> dict[str, object]:
    """Give name, content and time of everything below a folder."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None,
        )
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Run the app once over all cases, both levels."""
    folder = tmp_path_factory.mktemp("hostile")
    bids, given = write_hostile(folder)
    out = folder / "out"
    before = _state(bids)
    done = run_app(bids, out, "participant", "--derivatives", f"hand={given}", seconds=1700)
    group = run_app(bids, out, "group")
    newest = max((out / "logs").glob("run-*_summary.json"))
    units = {unit["unit"]: unit for unit in json.loads(newest.read_text())["units"]}
    sessions = pd.read_csv(out / "group_sessions.tsv", sep="\t").set_index("participant_id")
    return {
        "bids": bids,
        "out": out,
        "done": done,
        "group": group,
        "units": units,
        "sessions": sessions,
        "unchanged": _state(bids) == before,
    }


@pytest.mark.parametrize("name", sorted(CASES))
def test_each_fault_is_told_in_one_sentence(run, name: str) -> None:  # type: ignore[no-untyped-def]
    case, unit = CASES[name], run["units"][f"sub-{name}"]
    told = " ".join([unit["error"] or "", *unit["warnings"]])
    assert case.status == "any" or unit["status"] == case.status, told
    if unit["status"] == "failed":
        assert "Traceback" not in told
        assert "InternalError" not in told
        assert len(told) < 400
    if case.says and (case.status != "any" or unit["status"] == "failed"):
        assert re.search(case.says, told), told


def test_good_sessions_are_finished_and_the_exit_code_is_1(run) -> None:  # type: ignore[no-untyped-def]
    assert run["done"].returncode == 1
    assert all(run["units"][f"sub-{name}"]["status"] == "done" for name in GOOD)
    assert "Traceback" not in run["done"].stdout + run["done"].stderr


def test_a_failed_session_is_never_a_session_without_lesions(run) -> None:  # type: ignore[no-untyped-def]
    failed = [name for name, unit in run["units"].items() if unit["status"] == "failed"]
    rows = run["sessions"].loc[failed]
    assert set(rows["status"]) == {"failed"}
    assert rows["lesion_count"].isna().all()
    for name in failed:
        assert not list((run["out"] / name).rglob("*_mask.nii.gz"))


def test_whatever_has_no_cord_is_no_result(run) -> None:  # type: ignore[no-untyped-def]
    done = run["sessions"][run["sessions"]["status"] == "done"]
    assert (done["cord_volume_mm3"] > 0).all()


def test_the_input_is_as_it_was(run) -> None:  # type: ignore[no-untyped-def]
    assert run["unchanged"]


def test_no_script_of_the_data_runs_in_a_report(run) -> None:  # type: ignore[no-untyped-def]
    page = (run["out"] / "sub-sidecarwithscript.html").read_text()
    assert "document.title='owned'" not in page or "&lt;script&gt;document.title" in page
    assert "<script>document.title" not in page


# --- whole datasets -------------------------------------------------------------------------


@pytest.fixture
def small(demo: Path, tmp_path: Path) -> Path:
    """Copy one subject of the demo, to be spoilt."""
    bids = tmp_path / "bids"
    shutil.copytree(demo / "sub-04", bids / "sub-04")
    for name in ("dataset_description.json", "participants.tsv"):
        shutil.copy(demo / name, bids / name)
    return bids


def test_no_subject(tmp_path: Path) -> None:
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids/dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    done = run_app(tmp_path / "bids", tmp_path / "out", "participant")
    assert done.returncode == 65
    assert len(done.stderr.strip().splitlines()) == 1


def test_no_dataset(tmp_path: Path) -> None:
    done = run_app(tmp_path / "nowhere", tmp_path / "out", "participant")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert not (tmp_path / "out").exists()


def test_no_dataset_description(small: Path, tmp_path: Path) -> None:
    (small / "dataset_description.json").unlink()
    done = run_app(small, tmp_path / "out", "participant", "--dry-run")
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or "dataset_description.json" in done.stderr


@pytest.mark.parametrize("where", ["{bids}/work", "{bids}"])
def test_the_work_folder_is_never_inside_the_dataset(
    small: Path, tmp_path: Path, where: str
) -> None:
    done = run_app(small, tmp_path / "out", "participant", "-w", where.format(bids=small))
    assert done.returncode == 2
    assert not (small / "work").exists()


@pytest.mark.parametrize("where", ["{bids}", "{bids}/sub-04", "{bids}/sub-04/ses-M0/anat"])
def test_results_never_go_among_the_raw_data(small: Path, where: str) -> None:
    before = _state(small)
    done = run_app(small, where.format(bids=small), "participant")
    assert done.returncode == 2
    assert _state(small) == before


def test_the_dataset_inside_the_results_is_refused_or_left_alone(small: Path) -> None:
    before = _state(small)
    done = run_app(small, small.parent, "participant", "--dry-run")
    assert done.returncode in (0, 2)
    assert _state(small) == before


def test_unusual_paths_and_participants_tables(small: Path, tmp_path: Path) -> None:
    """Results inside the dataset's derivatives; spaces, quotes, unicode and a very long path."""
    deep = tmp_path / "Daten 'ä\"ö' $(x) ; rm" / ("long" * 40) / ("path" * 40)
    deep.mkdir(parents=True)
    bids = deep / "bids"
    small.rename(bids)
    table = "\ufeffparticipant_id\tgroup\nsub-04\t=1+1\nsub-04\t<b>MS</b>\nsub-99\tMS\n"
    (bids / "participants.tsv").write_text(table, encoding="utf-8")
    out = bids / "derivatives" / "cordlesion"
    done = run_app(bids, out, "participant")
    assert done.returncode == 0, done.stderr
    again = run_app(bids, out, "participant")
    assert "1 already up to date" in again.stdout
    group = run_app(bids, out, "group")
    assert "Traceback" not in group.stderr
    assert group.returncode in (0, 2)
    if group.returncode:
        assert "participants.tsv" in group.stderr
    else:
        assert "<b>MS</b>" not in (out / "group_report.html").read_text().split("<script")[0]


def test_sessions_that_differ_by_case_only(small: Path, tmp_path: Path) -> None:
    anat = small / "sub-04/ses-m0/anat"
    anat.mkdir(parents=True)
    for path in (small / "sub-04/ses-M0/anat").glob("*.nii.gz"):
        shutil.copy(path, anat / path.name.replace("ses-M0", "ses-m0"))
    done = run_app(small, tmp_path / "out", "participant", "--dry-run")
    assert done.returncode == 0
    assert "ses-M0" in done.stdout
    assert "ses-m0" in done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_scan_that_may_not_be_read(small: Path, tmp_path: Path) -> None:
    next(small.rglob("*_T2w.nii.gz")).chmod(0)
    done = run_app(small, tmp_path / "out", "participant")
    assert done.returncode == 1
    assert "Permission denied" in done.stdout


def test_a_named_pipe_does_not_stop_the_run(small: Path, tmp_path: Path) -> None:
    image = next(path for path in small.rglob("*_T2w.nii.gz") if "acq-" not in path.name)
    image.unlink()
    os.mkfifo(image)
    start = time.monotonic()
    done = run_app(small, tmp_path / "out", "participant")
    assert done.returncode == 1
    assert "not a regular file" in done.stdout
    assert time.monotonic() - start < 300
