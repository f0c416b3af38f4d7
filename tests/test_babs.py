"""BABS: its way of calling an app, in a job's folder as it lays one out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from support import ROOT, run_app

CONFIG = ROOT / "docs/babs.yaml"
KEY = "MD5E-s1--{}.nii.gz"
# What BABS itself would write, where BABS is installed (it wants an older NumPy than ours).
GENERATE = """
import sys, yaml
from babs.container import Container
from babs.input_datasets import InputDatasets
config, script = sys.argv[1:]
container = Container("containers", "cordlesion-0-1-0", config)
datasets = InputDatasets("subject", yaml.safe_load(open(config))["input_datasets"])
datasets.update_abs_paths(".")
container.generate_bash_run_bidsapp(script, datasets, "subject")
"""
# Everything up to the image is singularity's; the app gets the rest.
SINGULARITY = """#!/bin/bash
set -e
for flag in run --containall --writable-tmpfs --cleanenv; do [[ " $* " == *" $flag "* ]]; done
while [[ $1 != containers/.datalad/environments/cordlesion-0-1-0/image ]]; do shift; done
shift
exec {python} {root}/run.py "$@"
"""


@pytest.fixture
def job(demo: Path, tmp_path: Path) -> Path:
    """Lay a job's clone out: two subjects as links into the annex, only sub-03's content there."""
    folder = tmp_path / ".scratch/job-1-1-sub-03/ds"
    inputs, annex = folder / "inputs/data/BIDS", folder / "inputs/data/BIDS/.git/annex/objects"
    annex.mkdir(parents=True)
    shutil.copy(demo / "dataset_description.json", inputs)
    shutil.copy(demo / "participants.tsv", inputs)
    for path in sorted(demo.glob("sub-0[23]/**/*")):
        place = inputs / path.relative_to(demo)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif path.name.endswith(".json"):
            shutil.copy(path, place)
        else:
            key = KEY.format(hashlib.md5(path.name.encode()).hexdigest())
            if path.is_relative_to(demo / "sub-03"):
                shutil.copy(path, annex / key)
                (annex / key).chmod(0o444)
            up = Path(*[".."] * (len(place.relative_to(inputs).parts) - 1))
            place.symlink_to(up / ".git/annex/objects" / key)
    return folder


def _arguments() -> list[str]:
    """Read the app's arguments from the configuration as BABS does."""
    given = dict(yaml.safe_load(CONFIG.read_text())["bids_app_args"])
    assert given.pop("$SUBJECT_SELECTION_FLAG") == "--participant-label"
    assert given.pop("-w") == "$BABS_TMPDIR"
    return [part for pair in given.items() for part in pair if part]


def _state(folder: Path) -> dict[str, str]:
    return {
        str(path): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def _check_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        about = json.loads(archive.read("cordlesion/dataset_description.json"))
    place = "cordlesion/sub-03/ses-M0/anat/sub-03_ses-M0"
    assert {f"{place}_label-lesion_mask.nii.gz", f"{place}_seg-lesions_dseg.tsv"} <= names
    assert "cordlesion/sub-03_ses-M0.html" in names
    assert not [name for name in names if "sub-02" in name or ".git/" in name]
    assert about["DatasetType"] == "derivative"


def test_one_subject_of_a_sparse_clone(job: Path) -> None:
    before = _state(job / "inputs")
    work, out = job / ".git/tmp/wkdir", job / "outputs/cordlesion"
    work.mkdir(parents=True)
    out.mkdir(parents=True)
    arguments = [*_arguments(), "-w", work, "--participant-label", "sub-03"]
    done = run_app(job / "inputs/data/BIDS", out, "participant", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 done, 0 already up to date, 0 failed" in done.stdout
    assert _state(job / "inputs") == before
    shutil.make_archive(str(job / "sub-03_cordlesion-0-1-0"), "zip", job / "outputs", "cordlesion")
    _check_zip(job / "sub-03_cordlesion-0-1-0.zip")


def test_a_subject_whose_content_was_not_got_fails_with_a_sentence(job: Path) -> None:
    data, out = job / "inputs/data/BIDS", job / "outputs/cordlesion"
    done = run_app(data, out, "participant", "--participant-label", "sub-02")
    assert done.returncode == 1
    assert "is a link to content that is not here" in done.stdout


def test_the_zip_s_name_has_the_version() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    from bids_app import __version__

    assert config["zip_foldernames"] == {"cordlesion": __version__.replace(".", "-")}
    assert config["all_results_in_one_zip"] is True


def _babs() -> str:
    """Find a Python that has BABS: that of CORDLESION_BABS_PYTHON, or of .venv-babs."""
    python = os.environ.get("CORDLESION_BABS_PYTHON", str(ROOT / ".venv-babs/bin/python"))
    if not Path(python).is_file():
        pytest.skip("BABS is not installed: make an environment .venv-babs with babs==0.5.4")
    if shutil.which("7z") is None:
        pytest.skip("7z is not installed, with which BABS packs results")
    return python


@pytest.mark.container
def test_the_script_that_babs_writes(job: Path, tmp_path: Path) -> None:
    """Run BABS's own script; its ``singularity run`` is this environment's program."""
    python = _babs()
    script, bin_ = job / "code/cordlesion-0-1-0_zip.sh", tmp_path / "bin"
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    wrote = [python, "-c", GENERATE, str(CONFIG), str(script)]
    subprocess.run(wrote, check=True, capture_output=True, env=environ, timeout=120)
    bin_.mkdir()
    # Everything up to the image is singularity's; the app gets the rest.
    (bin_ / "singularity").write_text(SINGULARITY.format(python=sys.executable, root=ROOT))
    (bin_ / "singularity").chmod(0o755)
    environ["PATH"] = f"{bin_}{os.pathsep}{environ['PATH']}"
    before = _state(job / "inputs")
    command = ["bash", str(script), "sub-03"]
    done = subprocess.run(command, cwd=job, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _state(job / "inputs") == before
    assert not (job / "outputs").exists()
    _check_zip(job / "sub-03_cordlesion-0-1-0.zip")
