"""What is shipped: one version everywhere, and packages that work without the source tree."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from support import ROOT

from bids_app import __version__


def _setup() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def _docker_variables() -> dict[str, str]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    line = next(line for line in text.splitlines() if line.startswith("ENV "))
    return dict(pair.split("=", 1) for pair in line.split()[1:])


def _section(name: str) -> list[str]:
    """Give the lines of a section of the Singularity definition, without comments."""
    text = (ROOT / "Singularity.def").read_text()
    body = re.split(r"^%(\w+)$", text, flags=re.M)
    lines = body[body.index(name) + 1].splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def test_one_version_everywhere() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert f"ARG VERSION={__version__}\n" in (ROOT / "Dockerfile").read_text()
    assert f"org.opencontainers.image.version {__version__}" in _section("labels")
    for path in (ROOT / "boutiques").glob("*.json"):
        about = json.loads(path.read_text())
        assert about["tool-version"] == __version__
        assert about["container-image"]["image"].endswith(f":{__version__}")
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_one_licence_everywhere() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"]
    assert cited == _setup()["metadata"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:400]


def test_both_containers_set_the_same_variables() -> None:
    docker = _docker_variables()
    # Apptainer has the user's own home and name, and its own option for the GPU.
    left_out = {"HOME", "USER", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"}
    pairs = (line.removeprefix("export ").split("=", 1) for line in _section("environment"))
    apptainer = {name: re.sub(r'^"\$\{\w+:-(.*)\}"$', r"\1", value) for name, value in pairs}
    assert apptainer == {k: v for k, v in docker.items() if k not in left_out}


def test_both_containers_take_the_same_arguments_and_files() -> None:
    docker = (ROOT / "Dockerfile").read_text()
    stage = docker[docker.index("AS deps") : docker.index("RUN sh /src/install.sh deps")]
    names = set(re.findall(r"^ARG (\w+)", stage, re.M))
    assert names == {line.split("=")[0] for line in _section("arguments")}
    copied = {part for line in re.findall(r"^COPY (?!--)(.+) /src", docker, re.M)
              for part in line.split()}  # fmt: skip
    assert copied == {line.split()[0] for line in _section("files")}
    let_in = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} <= set(let_in)


def test_the_run_time_pins_are_in_the_lock() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = {re.sub("[-_.]+", "-", line.split("==")[0]).lower() for line in lines if "==" in line}
    wanted = _setup()["options"]["install_requires"].strip().splitlines()
    names = {re.sub("[-_.]+", "-", re.split("[<>=;]", one)[0]).lower() for one in wanted}
    assert names <= pins


def test_the_workflow_runs_what_ci_runs() -> None:
    flow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = flow["jobs"]["test"]["steps"]
    assert any(".ci/run" in step.get("run", "") for step in steps)
    tried = set(re.findall(r"Python :: (3\.\d+)", _setup()["metadata"]["classifiers"]))
    assert set(flow["jobs"]["test"]["strategy"]["matrix"]["python"]) == tried


def test_the_hooks_are_the_lock_s_tools() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks)


def _run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environ, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build the sdist from what git tracks, and the wheel from that sdist."""
    top = tmp_path_factory.mktemp("packages")
    venv.create(top / "builder", with_pip=True)
    python = top / "builder/bin/python"
    got = _run(python, "-m", "pip", "install", "--quiet", "build", cwd=top)
    if got.returncode:
        pytest.skip(f"no package index to get 'build' from: {got.stderr.strip()[-200:]}")
    source = top / "source"
    tracked = _run("git", "ls-files", "-z", cwd=ROOT)
    names = [name for name in tracked.stdout.split("\0") if name and (ROOT / name).is_file()]
    if tracked.returncode or not names:
        pytest.skip("not a git repository: nobody knows what belongs to the source")
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    done = _run(python, "-m", "build", "--outdir", top / "dist", source, cwd=top)
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        "sdist": next((top / "dist").glob("*.tar.gz")),
        "wheel": next((top / "dist").glob("*.whl")),
    }


@pytest.mark.slow
def test_the_wheel_has_all_data_and_the_sdist_the_rest(packages: dict[str, Path]) -> None:
    wheel = set(zipfile.ZipFile(packages["wheel"]).namelist())
    with tarfile.open(packages["sdist"]) as archive:
        sdist = {name.split("/", 1)[-1] for name in archive.getnames()}
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "bids_app").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    assert ours <= wheel
    assert {name for name in wheel if not name.startswith("cordlesion-")} == ours
    for name in ("LICENSE", "requirements.lock", "run.py", "Dockerfile", "docs/quickstart.md"):
        assert name in sdist
    assert "tests/test_packaging.py" in sdist


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_wheel_works_without_the_source_tree(packages: dict[str, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "clean", with_pip=True)
    python, cordlesion = (tmp_path / "clean/bin" / name for name in ("python", "cordlesion"))
    # The libraries are those of this environment; its link to the source tree is a .pth file,
    # which is not followed from here.
    here = next(p for p in map(Path, sys.path) if (p / "nnunetv2").is_dir())
    own = next((tmp_path / "clean/lib").glob("python3*/site-packages"))
    (own / "libraries.pth").write_text(f"{here}\n")
    installed = _run(python, "-m", "pip", "install", "--no-deps", packages["wheel"], cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    where = _run(python, "-c", "import bids_app; print(bids_app.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(own))

    for arguments in (
        ("--version",),
        ("models", "info", "box"),
        ("demo", "bids", "--subjects", "3"),
        ("run", "bids", "out", "participant", "--participant-label", "03"),
        ("run", "bids", "out", "group", "--participant-label", "03"),
        ("run", "bids", "out", "participant", "--preset", "challenge-monomodal", "--dry-run"),
    ):
        done = _run(cordlesion, *arguments, cwd=tmp_path)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    stem = tmp_path / "out/sub-03/ses-M0/anat/sub-03_ses-M0"
    assert Path(f"{stem}_label-lesion_mask.nii.gz").is_file()
    assert (tmp_path / "out/sub-03_ses-M0.html").is_file()
    assert (tmp_path / "out/group_report.html").is_file()
