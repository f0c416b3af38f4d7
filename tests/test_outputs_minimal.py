"""``--outputs minimal``: mask, sidecar and table; resume, the group level, going back to all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from support import run_app
from tiny import write_tiny

FILES = ["label-lesion_mask.json", "label-lesion_mask.nii.gz", "seg-lesions_dseg.tsv"]


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write one subject with two small sessions."""
    folder = tmp_path_factory.mktemp("tiny") / "bids"
    write_tiny(folder, ["01"], ["M0", "M12"])
    return folder


@pytest.fixture(scope="module")
def out(bids: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run both levels with minimal outputs."""
    folder = tmp_path_factory.mktemp("run") / "out"
    for level in ("participant", "group"):
        done = run_app(bids, folder, level, "--outputs", "minimal")
        assert done.returncode == 0, done.stderr
    return folder


def _names(out: Path, session: str = "M0") -> list[str]:
    stem = f"sub-01_ses-{session}_"
    return sorted(p.name.removeprefix(stem) for p in (out / f"sub-01/ses-{session}/anat").iterdir())


def test_a_session_is_three_files(out: Path) -> None:
    assert _names(out) == _names(out, "M12") == FILES
    assert sorted(p.name for p in out.glob("sub-*")) == ["sub-01"]  # no report
    assert sorted(p.name for p in (out / "sub-01").iterdir()) == ["ses-M0", "ses-M12"]


def test_the_validator_finds_the_shared_dictionary(out: Path) -> None:
    command = [str(Path(sys.executable).parent / "bids-validator-deno"), str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert json.loads(done.stdout)["issues"]["issues"] == []


def test_the_group_level_counts(out: Path) -> None:
    sessions = pd.read_csv(out / "group_sessions.tsv", sep="\t")
    assert list(sessions["status"]) == ["done", "done"]
    assert (sessions["lesion_count"] > 0).all()
    assert sessions["new_lesion_count"].isna().all()
    dictionary = json.loads((out / "group_lesions.json").read_text())
    assert dictionary["volume_mm3"]["Units"] == "mm^3"
    assert "sub-01" in (out / "group_report.html").read_text()


def test_a_second_run_does_nothing_and_asks_for_no_report(bids: Path, out: Path) -> None:
    done = run_app(bids, out, "participant", "--outputs", "minimal")
    assert "0 done, 2 already up to date, 0 failed" in done.stdout
    assert _names(out) == FILES
    done = run_app(bids, out, "participant", "--reports-only")
    assert done.returncode == 1
    assert "was run with --outputs minimal" in done.stdout


def test_all_and_back_again(bids: Path, out: Path) -> None:
    """The same mask either way; what minimal does not keep is taken away, the report too."""
    path = out / "sub-01/ses-M0/anat/sub-01_ses-M0_label-lesion_mask.nii.gz"
    before = np.asarray(nib.load(path).dataobj)
    only = ("--session-label", "M0")
    done = run_app(bids, out, "participant", *only)
    assert "1 done" in done.stdout
    assert "label-cord_mask.nii.gz" in _names(out)
    assert (out / "sub-01_ses-M0.html").exists()
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), before)
    done = run_app(bids, out, "participant", *only, "--outputs", "minimal")
    assert "1 done" in done.stdout
    assert _names(out) == FILES
    assert not (out / "sub-01_ses-M0.html").exists()
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), before)
