"""The Boutiques descriptors: what the parser says, what bosh accepts, what a launch gives."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import ROOT

from bids_app import errors
from bids_app.cli import build_parser

FOLDER = ROOT / "boutiques"
APP, CASE = FOLDER / "cordlesion.json", FOLDER / "cordlesion-challenge.json"


def bosh(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the real bosh with this environment's ``cordlesion`` in reach."""
    bin_ = Path(sys.executable).parent
    environ = os.environ | {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}
    environ |= {"PYTHONPATH": str(ROOT)}
    command = [str(bin_ / "bosh"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environ, timeout=580
    )


def invoke(tmp_path: Path, **values: Any) -> Path:
    path = tmp_path / "invocation.json"
    path.write_text(json.dumps(values))
    return path


@pytest.fixture(scope="module")
def describe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("describe", FOLDER / "describe.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_are_what_the_parser_says(describe: ModuleType) -> None:
    documents = describe.documents()
    assert {path.name for path in FOLDER.glob("*.json")} == set(documents)
    for name, document in documents.items():
        written = json.loads((FOLDER / name).read_text())
        assert written == document, "run 'python boutiques/describe.py'"


def test_every_exit_code_is_told(describe: ModuleType) -> None:
    families = [one for one in vars(errors).values() if isinstance(one, type)]
    ours = {one.exit_code for one in families if issubclass(one, errors.CordLesionError)}
    assert set(describe.ERROR_CODES) == ours | {130, 143}


@pytest.mark.parametrize("arguments", [("-b", APP), (CASE,)])
def test_bosh_finds_nothing_wrong(arguments: tuple[object, ...]) -> None:
    done = bosh("validate", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK" in done.stdout


def test_all_options_reach_the_program(demo: Path, tmp_path: Path) -> None:
    filters = tmp_path / "filter.json"
    filters.write_text("{}")
    values = {
        "bids_dir": str(demo),
        "output_dir_name": "out",
        "analysis_level": "participant",
        "participant_label": ["01", "02"],
        "session_label": ["M0"],
        "bids_filter_file": str(filters),
        "reference": "T1w",
        "contrasts": ["STIR", "PSIR"],
        "bids_database_dir": "index",
        "skip_bids_validation": True,
        "model": "box",
        "derivatives": ["a=/a", "b=/b"],
        "preset": "default",
        "output_spaces": ["T1w", "PAM50"],
        "device": "cpu",
        "n_cpus": 2,
        "mem": "8G",
        "work_dir": "work",
        "group_column": "site",
        "covariates": ["age", "sex"],
        "exclude_qc": str(filters),
        "outputs": "minimal",
        "dry_run": True,
        "force": True,
        "reports_only": True,
        "stop_on_first_crash": True,
        "verbose": True,
    }
    inputs = {one["id"] for one in json.loads(APP.read_text())["inputs"]}
    assert inputs - set(values) == {"participant_level_analysis_dir"}
    done = bosh("exec", "simulate", "-i", invoke(tmp_path, **values), APP)
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(one for one in done.stdout.splitlines() if one.startswith("mkdir -p out; "))
    program, *arguments = shlex.split(line.removeprefix("mkdir -p out; "))
    assert program == "cordlesion"
    parsed = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in vars(build_parser().parse_args(arguments)).items()
    }
    renamed = {
        "output_dir_name": "out_dir",
        "analysis_level": "level",
        "participant_label": "participant_labels",
        "session_label": "session_labels",
        "verbose": "verbosity",
    }
    wanted = {renamed.get(key, key): value for key, value in values.items()}
    assert {key: parsed[key] for key in wanted} == wanted


def test_a_launch_on_the_demo(demo: Path, tmp_path: Path) -> None:
    values = {"bids_dir": str(demo), "output_dir_name": "out"}
    flags = ("--no-container", "--skip-data-collection")
    first = invoke(tmp_path, **values, analysis_level="participant", participant_label=["03"])
    done = bosh("exec", "launch", *flags, APP, first, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out/sub-03/ses-M0/anat/sub-03_ses-M0_label-lesion_mask.json").is_file()
    then = invoke(tmp_path, **values, analysis_level="group")
    done = bosh("exec", "launch", *flags, APP, then, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out/group_sessions.tsv").is_file()


def test_a_failure_s_exit_code_comes_through(demo: Path, tmp_path: Path) -> None:
    values = {"bids_dir": str(demo), "output_dir_name": "out", "analysis_level": "participant"}
    invocation = invoke(tmp_path, **values, participant_label=["77"])
    flags = ("--no-container", "--skip-data-collection")
    done = bosh("exec", "launch", *flags, APP, invocation, cwd=tmp_path)
    assert done.returncode == 2
    assert "a label is unknown" in done.stdout


def test_the_challenge_s_launch_is_zip_in_and_tgz_out(demo: Path, tmp_path: Path) -> None:
    scan = demo / "sub-03/ses-M0/anat/sub-03_ses-M0_T2w.nii.gz"
    with zipfile.ZipFile(tmp_path / "case.zip", "w") as archive:
        archive.write(scan, "rawdata/sub-001/01-001_T2.nii.gz")
    invocation = invoke(tmp_path, input_archive="case.zip")
    flags = ("--no-container", "--skip-data-collection")
    done = bosh("exec", "launch", *flags, CASE, invocation, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(tmp_path / "OUTDIR")
    with tarfile.open(tmp_path / "case_output.tgz") as archive:
        names = {Path(name).name for name in archive.getnames()}
        table = archive.extractfile("OUTDIR/lesion_probabilities.csv")
        assert table is not None
        assert table.read().startswith(b"id,p\n1,0.")
    assert names == {"OUTDIR", "instance_segmentation.nii.gz", "lesion_probabilities.csv"}
