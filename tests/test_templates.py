"""Installing PAM50: sources good and bad, what TemplateFlow then finds, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cords
import nibabel as nib
import numpy as np
import pytest
from support import run_app

from bids_app.commands.templates import install_template, list_templates
from bids_app.dataset.templates import find_template, read_regions, source_files
from bids_app.errors import MissingResource, UsageError
from bids_app.template_space import load_template


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TemplateFlow home that is not there yet, and a home folder that cannot be one."""
    folder = tmp_path / "templateflow"
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(folder))
    monkeypatch.setenv("HOME", "/nonexistent")
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cords.write_source(tmp_path_factory.mktemp("sct") / "PAM50")


def _zipped(source: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                archive.write(path, Path("PAM50-r1") / path.relative_to(source))
    return target


@pytest.mark.parametrize("kind", ["folder", "parent", "zip"])
def test_installed_template_is_found(home: Path, source: Path, tmp_path: Path, kind: str) -> None:
    given = {"folder": source, "parent": source.parent}.get(kind)
    install_template("PAM50", given or _zipped(source, tmp_path / "PAM50.zip"), replace=False)
    files = find_template(home, "PAM50")
    assert set(files.images) == {"t2", "cord", "label_disc", "wm", "gm"}
    assert files.images["t2"].name == "tpl-PAM50_res-1_T2w.nii.gz"
    assert [(r.index, r.name) for r in files.regions] == list(
        enumerate(["WM left tract", "WM right tract, all", "GM left horn", "GM right horn"])
    )
    cord = nib.load(files.images["cord"])
    assert cord.get_data_dtype() == np.uint8
    assert set(np.unique(cord.dataobj)) == {0, 1}
    assert [p.name for p in home.iterdir()] == ["tpl-PAM50"]
    about = json.loads((home / "tpl-PAM50" / "template_description.json").read_text())
    assert about["res"]["1"]["zooms"] == [1, 1, 2]


@pytest.mark.usefixtures("home")
def test_templateflow_itself_finds_it_offline(source: Path) -> None:
    install_template("PAM50", source, replace=False)
    code = (
        "from templateflow import api; print(api.templates(), "
        "[p.name for p in api.ls('PAM50', resolution=1, label='cord', suffix='mask')])"
    )
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=True
    )
    assert done.stdout.strip() == "['PAM50'] ['tpl-PAM50_res-1_label-cord_mask.nii.gz']"


def test_loaded_arrays(home: Path, source: Path) -> None:
    install_template("PAM50", source, replace=False)
    template = load_template(find_template(home, "PAM50")).template
    np.testing.assert_array_equal(template.cord, cords.template().cord)
    assert set(template.discs_mm) == set(cords.DISCS)
    assert template.white is not None
    assert template.white.probability.sum() == cords.tissues()["wm"].sum()
    assert template.white.probability.size < template.cord.size
    assert len(template.regions) == 4


def test_it_is_replaced_only_when_told(home: Path, source: Path, tmp_path: Path) -> None:
    bare = cords.write_source(tmp_path / "bare", atlas=False, tissue=False)
    install_template("PAM50", source, replace=False)
    with pytest.raises(UsageError, match="--replace"):
        install_template("PAM50", bare, replace=False)
    install_template("PAM50", bare, replace=True)
    files = find_template(home, "PAM50")
    assert "wm" not in files.images
    assert files.regions == ()


def test_a_source_that_fails_leaves_the_old_one(home: Path, source: Path, tmp_path: Path) -> None:
    install_template("PAM50", source, replace=False)
    broken = tmp_path / "broken"
    shutil.copytree(source, broken)
    (broken / "template" / "PAM50_gm.nii.gz").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"PAM50_gm\.nii\.gz"):
        install_template("PAM50", broken, replace=True)
    assert len(find_template(home, "PAM50").regions) == 4
    assert [p.name for p in home.iterdir()] == ["tpl-PAM50"]


def test_bad_sources(home: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../PAM50_cord.nii.gz", b"")
    grid = tmp_path / "grid"
    shutil.copytree(source, grid)
    nib.save(nib.Nifti1Image(np.eye(4).reshape(4, 4, 1), np.eye(4)), grid / "PAM50_csf.nii.gz")
    unnamed = tmp_path / "unnamed"
    shutil.copytree(source, unnamed)
    (unnamed / "atlas" / "info_label.txt").unlink()
    for given, sentence in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "empty", r"no PAM50_cord\.nii\.gz and no PAM50_label_disc\.nii\.gz"),
        (tmp_path / "text.zip", "no zip"),
        (tmp_path / "evil.zip", "leads outside"),
        (grid, "grid"),
        (unnamed, "info_label"),
    ):
        with pytest.raises(UsageError, match=sentence):
            install_template("PAM50", given, replace=False)
    with pytest.raises(UsageError, match="MNI"):
        install_template("MNI", source, replace=False)
    assert not list(home.glob("*")) if home.exists() else True


@pytest.mark.parametrize(
    "name", ["tpl-PAM50_res-1_label-cord_mask", "tpl-PAM50_res-1_atlas-PAM50_label-02_probseg"]
)
def test_empty_files_are_refused(home: Path, source: Path, name: str) -> None:
    install_template("PAM50", source, replace=False)
    (home / "tpl-PAM50" / f"{name}.nii.gz").write_bytes(b"")
    with pytest.raises(MissingResource, match="empty"):
        find_template(home, "PAM50")


def test_nothing_installed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MissingResource, match="templates install PAM50"):
        find_template(home, "PAM50")
    assert list_templates() == 0
    assert "Can be installed: PAM50" in capsys.readouterr().out
    assert not home.exists()


def test_list(home: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install_template("PAM50", source, replace=False)
    stub = home / "tpl-Stub" / "tpl-Stub_T1w.nii.gz"
    stub.parent.mkdir()
    stub.write_bytes(b"")
    capsys.readouterr()
    assert list_templates() == 0
    out = capsys.readouterr().out
    assert "1 x 1 x 2" in out
    assert "Stub" not in out
    assert "Can be installed" not in out


def test_the_full_template_goes_before_the_small_one(source: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(source, both)
    for path in sorted(both.rglob("PAM50_cord*")):
        shutil.copy(path, both / "PAM50_small_cord.nii.gz")
    assert source_files(both).images["cord"].name == "PAM50_cord.nii.gz"


def test_region_names_may_hold_commas() -> None:
    assert read_regions("12, WM left (a, b), PAM50_atlas_12.nii.gz\nwhite matter, 0:29\n") == [
        (12, "WM left (a, b)", "PAM50_atlas_12.nii.gz")
    ]


def test_small_variant(home: Path, real: Path) -> None:
    install_template("PAM50", real / "template", replace=False)
    files = find_template(home, "PAM50")
    assert set(files.images) == {"t2", "cord", "label_disc", "levels"}
    assert set(load_template(files).template.discs_mm) == set(range(2, 20))


def test_exit_codes_and_no_home(tmp_path: Path) -> None:
    scan = tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T2w.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.write_bytes(b"not opened")
    environ = {**os.environ, "TEMPLATEFLOW_HOME": str(tmp_path / "tf"), "HOME": "/nonexistent"}
    done = run_app(
        *(tmp_path / "bids", tmp_path / "out", "participant", "--output-spaces", "PAM50"),
        *("--dry-run", "--skip-bids-validation"),
        env=environ,
    )
    assert done.returncode == 69
    assert "templates install PAM50" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    command = [sys.executable, "-m", "bids_app.cli", "templates", "install", "PAM50", "/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert not (tmp_path / "tf").exists()
