"""Seals and ``cordlesion verify``: a flipped byte anywhere is found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from bids_app.dataset.hashes import file_sha256
from bids_app.dataset.seals import check_tree, is_signed, signed
from bids_app.files import write_json, write_tsv


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Write two sealed files of a session and one of its subject."""
    anat = tmp_path / "sub-01/ses-M0/anat"
    anat.mkdir(parents=True)
    (anat / "sub-01_ses-M0_label-lesion_mask.nii.gz").write_bytes(b"image")
    write_tsv(anat / "sub-01_ses-M0_seg-lesions_dseg.tsv", ["index"], [{"index": 1}])
    hashes = {path.name: file_sha256(path) for path in anat.iterdir()}
    seal = {"Threshold": 0.5, "OutputHashes": hashes}
    write_json(anat / "sub-01_ses-M0_label-lesion_mask.json", signed(seal))
    return tmp_path


def _problems(out: Path) -> dict[str, str]:
    return {check.path.name: check.status for check in check_tree(out) if check.is_problem}


def _verify(out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bids_app.cli", "verify", str(out)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_what_was_written_is_as_it_was(out: Path) -> None:
    assert _problems(out) == {}
    done = _verify(out)
    assert done.returncode == 0
    assert "All as it was written." in done.stdout


@pytest.mark.parametrize(
    "end", ["label-lesion_mask.nii.gz", "seg-lesions_dseg.tsv", "label-lesion_mask.json"]
)
def test_each_flipped_byte_is_found(out: Path, end: str) -> None:
    path = out / f"sub-01/ses-M0/anat/sub-01_ses-M0_{end}"
    whole = path.read_bytes()
    for place in range(len(whole)):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1
        path.write_bytes(spoilt)
        try:
            same = json.loads(spoilt) == json.loads(whole)
        except ValueError:
            same = False
        assert same or _problems(out), place
    path.write_bytes(whole)
    assert _problems(out) == {}


def test_what_is_gone_unsealed_or_left_over_is_told(out: Path) -> None:
    anat = out / "sub-01/ses-M0/anat"
    (anat / "sub-01_ses-M0_seg-lesions_dseg.tsv").unlink()
    (anat / "sub-01_ses-M0_label-cord_mask.nii.gz").write_bytes(b"half")
    (anat / ".sub-01_x.nii.gz.0a.part").write_bytes(b"h")
    assert _problems(out) == {
        "sub-01_ses-M0_seg-lesions_dseg.tsv": "missing",
        "sub-01_ses-M0_label-cord_mask.nii.gz": "without a seal",
    }
    done = _verify(out)
    assert done.returncode == 1
    assert "missing: sub-01/ses-M0/anat/sub-01_ses-M0_seg-lesions_dseg.tsv" in done.stdout
    assert "left over" in done.stdout


def test_a_signature_survives_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", signed({"a": 0.1, "b": [1, None, "ä"], "c": float("nan")}))
    assert is_signed(json.loads((tmp_path / "a.json").read_text()))


def test_nothing_to_verify(tmp_path: Path) -> None:
    assert _verify(tmp_path).returncode == 65
    assert _verify(tmp_path / "none").returncode == 2
