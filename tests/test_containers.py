"""The images, built for real, run the demo alike: no network, nothing writable, any user."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from engines import (
    IMAGE,
    KEPT,
    PYTHON_IMAGE,
    apptainer_tree,
    build_image,
    import_base,
    in_tree,
    need,
    pip_sources,
    podman_environ,
    run,
)
from support import ROOT, run_app

from bids_app import __version__

pytestmark = [pytest.mark.container, pytest.mark.timeout(3600)]

SELECTION = ("--participant-label", "01", "03", "--session-label", "M0", "--n-cpus", "2")
IMAGES = 15  # eight of a session with two contrasts, seven of one with one
UID = 54321


@pytest.fixture(scope="module")
def bare(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the sessions that the containers will run, without one."""
    out = tmp_path_factory.mktemp("bare") / "out"
    done = run_app(demo, out, "participant", *SELECTION)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def podman() -> Mapping[str, str]:
    """Build the Dockerfile; gives the environment for podman."""
    need("buildah", "podman", "runc", "debootstrap")
    environ = podman_environ()
    import_base(environ)
    build_image(environ)
    return environ


@pytest.fixture(scope="module")
def sif() -> tuple[Path, Path]:
    """Build the Singularity definition; gives Apptainer's tree and the image."""
    need("podman", "debootstrap", "unshare", "setpriv")
    tree = apptainer_tree()
    environ = podman_environ()
    import_base(environ)
    folder = KEPT / "sif"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save = ("podman", "save", "--format", "oci-archive", "--output", folder / "base.tar")
    assert run(*save, PYTHON_IMAGE, env=environ).returncode == 0
    for name in ("bids_app", "containers"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("requirements.lock", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    arguments, folders = pip_sources()
    # What is not as for users: where the base image comes from, and places for a mirror's mounts.
    text = (ROOT / "Singularity.def").read_text()
    places = " ".join(f'"${{APPTAINER_ROOTFS}}{path}"' for path in folders if path.is_dir())
    header = f"Bootstrap: oci-archive\nFrom: {folder}/base.tar\n"
    header += f"\n%setup\n    mkdir -p {places}\n" if places else ""
    text, count = re.subn(r"Bootstrap: docker\nFrom: \S+\n", header, text)
    assert count == 1
    (folder / "Singularity.def").write_text(text)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 1000, 1000)
    given = [part for pair in arguments.items() for part in ("--build-arg", "=".join(pair))]
    binds = [part for path in folders for part in ("--bind", f"{path}:{path}:ro")]
    build = f'cd {folder} && exec apptainer build --force --fakeroot "$@" x.sif Singularity.def'
    done = in_tree(tree, [folder, *folders], "sh", "-c", build, "sh", *given, *binds)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "PyTorch" in done.stdout + done.stderr, "%test did not run"
    return tree, folder / "x.sif"


def _same_images(one: Path, other: Path) -> int:
    """Compare all images byte for byte, unpacked; gives their number."""
    names = sorted(path.relative_to(one) for path in one.rglob("*.nii.gz"))
    assert names == sorted(path.relative_to(other) for path in other.rglob("*.nii.gz"))
    for name in names:
        same = gzip.decompress((one / name).read_bytes()) == gzip.decompress(
            (other / name).read_bytes()
        )
        assert same, name
    return len(names)


def _podman_run(
    podman: Mapping[str, str], demo: Path, out: Path, *arguments: str
) -> tuple[int, str]:
    flags = ["--network=none", "--read-only", "--tmpfs", "/tmp", "--cap-drop=all"]
    flags += ["--security-opt=no-new-privileges", "--no-healthcheck", f"--user={UID}:{UID}"]
    mounts = ["--volume", f"{demo}:/data:ro", "--volume", f"{out}:/out"]
    done = run("podman", "run", "--rm", *flags, *mounts, IMAGE, *arguments, env=podman)
    return done.returncode, done.stdout + done.stderr


def test_the_docker_image_gives_what_the_bare_run_gives(
    podman: Mapping[str, str], demo: Path, bare: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    os.chown(out, UID, UID)
    code, said = _podman_run(podman, demo, out, "/data", "/out", "participant", *SELECTION)
    assert code == 0, said
    assert "arning" not in said
    assert _same_images(bare, out) == IMAGES
    code, said = _podman_run(podman, demo, out, "/data", "/out", "group", *SELECTION[:5])
    assert code == 0, said
    assert (out / "group_report.html").stat().st_uid == UID
    code, said = _podman_run(podman, demo, out, "/data", "/out", "participant", *SELECTION)
    assert "0 done, 2 already up to date" in said


def test_the_docker_image_says_what_it_is(podman: Mapping[str, str]) -> None:
    about = json.loads(run("podman", "image", "inspect", IMAGE, env=podman).stdout)[0]
    config, labels = about["Config"], about["Config"]["Labels"]
    assert config["Entrypoint"] == ["cordlesion", "run"]
    assert config["User"] == "10001:10001"
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    shell = ("podman", "run", "--rm", "--network=none", "--read-only", "--entrypoint", "sh", IMAGE)
    closed = run(*shell, "-c", "find /opt/cordlesion /home ! -perm -o=r | head", env=podman)
    assert (closed.returncode, closed.stdout) == (0, ""), "not for everyone to read"
    version = run(*shell[:-1], IMAGE, "-c", "cordlesion --version; id -u", env=podman)
    assert version.stdout.split() == ["cordlesion", __version__, "10001"]


def test_the_docker_image_answers_bad_requests(
    podman: Mapping[str, str], demo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    code, said = _podman_run(
        podman, demo, out, "/data", "/out", "participant", "--participant-label", "77"
    )
    assert code == 2
    assert "77" in said
    code, said = _podman_run(podman, demo, out, "/data", "/out", "participant", *SELECTION)
    assert code != 0, "the output folder is not this user's"
    assert "Traceback" not in said


def test_the_apptainer_image_gives_what_the_bare_run_gives(
    sif: tuple[Path, Path], demo: Path, bare: Path
) -> None:
    tree, image = sif
    folder = KEPT / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(demo, folder / "bids")
    (folder / "out").mkdir()
    os.chown(folder / "out", 1000, 1000)
    flags = ("--containall", "--cleanenv", "--no-home", "--net", "--network", "none")
    mounts = ("--bind", f"{folder}/bids:/data:ro", "--bind", f"{folder}/out:/out")
    command = ("apptainer", "run", *flags, *mounts, image, "/data", "/out")
    done = in_tree(tree, [KEPT], *command, "participant", *SELECTION)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _same_images(bare, folder / "out") == IMAGES
    done = in_tree(tree, [KEPT], *command, "group", *SELECTION[:5])
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "out/group_sessions.tsv").is_file()


def test_the_apptainer_image_says_what_it_is(sif: tuple[Path, Path]) -> None:
    tree, image = sif
    labels = in_tree(tree, [KEPT], "apptainer", "inspect", "--labels", image)
    assert f"org.opencontainers.image.version: {__version__}" in labels.stdout
    told = in_tree(tree, [KEPT], "apptainer", "run-help", image)
    assert "Research use" in told.stdout
