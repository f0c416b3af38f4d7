"""Real containers where there is no Docker: base images from debootstrap, built and run as root.

What is made is kept below ``build/containers`` (or CORDLESION_CONTAINERS), so that a second run of
the suite is quick. Where a tool or a network is missing, a test skips and says which.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support import ROOT

KEPT = Path(os.environ.get("CORDLESION_CONTAINERS", ROOT / "build" / "containers"))
PYTHON_IMAGE = "docker.io/library/python:3.11-slim-bookworm"
IMAGE = "localhost/cordlesion:ci"
APPTAINER_NEEDS = (
    *("ca-certificates", "squashfs-tools", "squashfuse", "uidmap", "fuse3", "e2fsprogs"),
    *("libseccomp2", "containernetworking-plugins"),
)
_ENTER = ROOT / "tests" / "enter_tree.sh"
_STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{0}/graph"\nrunroot = "{0}/run"\n'
_ENGINE = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def need(*programs: str) -> None:
    """Skip a test that cannot run here."""
    if os.getuid() != 0:
        pytest.skip("building a base image takes root")
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (apt-get install)")


def run(
    *command: object, env: Mapping[str, str] | None = None, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with what it says."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [str(part) for part in command],
        **{"capture_output": True, "text": True, "env": env, **options},
    )


def debian(suite: str, *packages: str) -> Path:
    """Give a Debian tree with these packages."""
    tree = KEPT / suite
    if not (tree / ".complete").exists():
        shutil.rmtree(tree, ignore_errors=True)
        tree.parent.mkdir(parents=True, exist_ok=True)
        include = f"--include={','.join(packages)}"
        done = run("debootstrap", "--variant=minbase", include, suite, tree)
        if done.returncode:
            pytest.skip(f"debootstrap {suite} did not work here: {done.stdout.strip()[-300:]}")
        (tree / ".complete").touch()
    return tree


def pip_sources() -> tuple[dict[str, str], list[Path]]:
    """Give pip's settings on this machine as build arguments, and the local folders they name."""
    arguments, folders = {}, []
    for name in ("index-url", "extra-index-url", "find-links", "cert"):
        variable = f"PIP_{name.upper().replace('-', '_')}"
        config = run(sys.executable, "-m", "pip", "config", "get", f"global.{name}")
        value = " ".join((os.environ.get(variable) or config.stdout).split())
        if value:
            arguments[variable] = value
        for part in value.split():
            path = Path(part.removeprefix("file://"))
            if path.is_absolute() and path.exists():
                # An index names files beside its folder of links.
                folders.append(path.parent if path.name == "simple" else path)
    if "PIP_FIND_LINKS" in arguments:
        arguments["TORCH_INDEX"] = ""  # the CPU build is in there
    return arguments, list(dict.fromkeys(folders))


def podman_environ() -> dict[str, str]:
    """Give the environment in which podman and buildah keep to a folder of their own."""
    folder = KEPT / "podman"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "storage.conf").write_text(_STORAGE.format(folder))
    (folder / "containers.conf").write_text(_ENGINE)
    return os.environ | {
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
    }


def import_base(environ: Mapping[str, str]) -> None:
    """Make the image that the Dockerfile starts from: a Debian with its own Python 3.11."""
    if run("podman", "image", "exists", PYTHON_IMAGE, env=environ).returncode == 0:
        return
    tree = debian("bookworm", "ca-certificates", "python3", "python3-pip", "python3-venv")
    left_out = ("--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*")
    with subprocess.Popen(
        ["tar", "-C", tree, *left_out, "-c", "."],
        stdout=subprocess.PIPE,
    ) as tar:
        done = run("podman", "import", "-", PYTHON_IMAGE, env=environ, stdin=tar.stdout)
    assert done.returncode == 0, done.stderr


def build_image(environ: Mapping[str, str]) -> None:
    """Build the Dockerfile with buildah."""
    arguments, folders = pip_sources()
    command: list[object] = ["buildah", "bud", "--isolation", "chroot", "--pull-never"]
    command += ["--layers", "--format", "docker", "--tag", IMAGE]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for folder in folders:
        command += ["--volume", f"{folder}:{folder}:ro"]
    done = run(*command, ROOT, env=environ)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def apptainer_tree() -> Path:
    """Give a Debian tree in which Apptainer works; its package is in no release but sid."""
    tree = debian("trixie", *APPTAINER_NEEDS)
    if (tree / "usr/bin/apptainer").exists():
        return tree
    folder = KEPT / "sid"
    for name in ("lists/partial", "archives/partial", "etc"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    mirror = re.search(r"^deb \S*?(\S+://\S+)", (tree / "etc/apt/sources.list").read_text(), re.M)
    assert mirror is not None
    (folder / "etc/sources.list").write_text(f"deb [signed-by={keyring}] {mirror[1]} sid main\n")
    (folder / "status").touch()
    options = {
        "Dir::Etc::sourcelist": folder / "etc/sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache::archives": folder / "archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
    }
    given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    for action in (["update"], ["download", "apptainer"]):
        done = run("apt-get", *given, *action, cwd=folder)
        if done.returncode:
            pytest.skip(f"Apptainer's package cannot be had: {done.stderr.strip()[-300:]}")
    package = max(folder.glob("apptainer_*.deb"))
    shutil.copy(package, tree / "tmp" / "apptainer.deb")
    done = run("chroot", tree, "dpkg", "-i", "/tmp/apptainer.deb")
    if done.returncode:
        (tree / "usr/bin/apptainer").unlink(missing_ok=True)
        pytest.skip(f"Apptainer's package does not fit this Debian: {done.stderr.strip()[-300:]}")
    run("chroot", tree, "useradd", "--create-home", "--uid", "1000", "builder")
    return tree


def in_tree(
    tree: Path, binds: Sequence[Path], *command: object
) -> subprocess.CompletedProcess[str]:
    """Run a command as an ordinary user with `tree` as its root; `binds` are where they are."""
    return run("bash", _ENTER, tree, ":".join(map(str, binds)), *command)
