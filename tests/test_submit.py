"""``cordlesion submit`` and ``status`` as far as they go without a cluster."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT
from tiny import write_tiny

from bids_app.cli import build_parser
from bids_app.commands.submit_request import parse_factor, parse_minutes, read_request
from bids_app.errors import CordLesionError, MissingResource, UsageError
from bids_app.options import Options, options_from_arguments


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small dataset with a session that cannot be processed."""
    folder = tmp_path_factory.mktemp("tiny") / "bids"
    write_tiny(folder, ["01", "02", "03"])
    (folder / "sub-03/anat/sub-03_T2w.nii.gz").rename(folder / "sub-03/anat/sub-03_T1w.nii.gz")
    return folder


def _cordlesion(
    *arguments: object, path: str | None = None, before: str = ""
) -> subprocess.CompletedProcess[str]:
    code = f"import sys; {before}\nfrom bids_app.cli import main; sys.exit(main())"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)} | ({"PATH": path} if path else {})
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=300)


def _request(*arguments: object) -> tuple[Options, object]:
    return read_request(build_parser().parse_args(["submit", *map(str, arguments)]))


def test_a_dry_run_needs_no_slurm_and_touches_nothing(bids: Path, tmp_path: Path) -> None:
    done = _cordlesion(
        *("submit", bids, tmp_path / "out", "--dry-run", "--sessions-per-job", "1"),
        *("--max-jobs", "4", "--gpus", "1", "--retry-mem", "1.5x"),
        path=str(tmp_path),
        before="sys.modules['submitit'] = None",
    )
    assert done.returncode == 0, done.stderr
    assert "sub-01" in done.stdout
    assert "cannot: sub-03 has no T2w" in done.stdout
    assert (
        "2 sessions in 2 jobs of up to 1, 2 at a time; each job: 4 CPUs, 1 GPU, 8G, 120 min."
        in done.stdout
    )
    assert "Then 2 jobs for what ran out of memory, with 12G." in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("", "Slurm's sbatch and srun cannot be found here"),
        ("sys.modules['submitit'] = None", "pip install 'cordlesion[slurm]'"),
    ],
)
def test_without_slurm_or_submitit_one_sentence_and_69(
    bids: Path, tmp_path: Path, before: str, said: str
) -> None:
    out = tmp_path / "out"
    done = _cordlesion("submit", bids, out, path=str(tmp_path), before=before)
    assert done.returncode == 69
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["--sessions-per-job", "0"], UsageError, "--sessions-per-job 0"),
        (["--max-jobs", "-1"], UsageError, "--max-jobs -1"),
        (["--gpus", "-1"], UsageError, "--gpus -1"),
        (["--time", "2h"], UsageError, "--time '2h'"),
        (["--time", "0"], UsageError, "no time at all"),
        (["--time", "4:00"], UsageError, "5 minutes or more"),
        (["--mem", "8"], UsageError, "--mem"),
        (["--retry-mem", "1x"], UsageError, "--retry-mem '1x'"),
        (["--retry-mem", "much"], UsageError, "--retry-mem 'much'"),
        (["--slurm", "qos"], UsageError, "KEY=VALUE"),
        (["--slurm", "array=1-3"], UsageError, "array is decided"),
        (["--container", "no-such.sif"], UsageError, "no-such.sif does not exist"),
        (["--container", __file__], MissingResource, "--setup 'module load apptainer'"),
    ],
)
def test_bad_requests(
    bids: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    error: type[CordLesionError],
    said: str,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(error, match="(?s)" + re.escape(said)):
        _request(bids, tmp_path / "out", *arguments)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:01", 91), ("02:00:00", 120), ("2-0", 2880), ("1-2:3", 1563), ("0:0:1", 1)],
)
def test_times_are_read_as_sbatch_reads_them(text: str, minutes: int) -> None:
    assert parse_minutes(text) == minutes


def test_factors() -> None:
    assert [parse_factor(text) for text in ("2x", "1.5", "3X")] == [2.0, 1.5, 3.0]


def test_a_container_is_given_every_option_that_submit_was(bids: Path, tmp_path: Path) -> None:
    """What the image is called with, parsed again, gives the same options."""
    filters = tmp_path / "filter.json"
    filters.write_text(json.dumps({"t2w": {"acquisition": None}}))
    preset = tmp_path / "own preset.json"
    preset.write_text("{}")
    options, request = _request(
        *(bids, tmp_path / "out", "--container", __file__, "--setup", "module load x"),
        *("--bids-filter-file", filters, "--preset", preset, "--model", "some-model"),
        *("--derivatives", f"mine={tmp_path}", "--contrasts", "T1w", "STIR", "--device", "cpu"),
        *("--output-spaces", "T2w", "PAM50", "--outputs", "minimal", "--n-cpus", "3"),
        *(
            "--mem",
            "5G",
            "--exclude-qc",
            preset,
            "--group-column",
            "site",
            "--covariates",
            "age",
            "--force",
            "-v",
        ),
        *("--work-dir", tmp_path / "work", "--bids-database-dir", tmp_path / "db"),
        *("--skip-bids-validation", "--gpus", "1"),
    )
    call = request.container.call(options, "participant")  # type: ignore[attr-defined]
    image = call.index(__file__)
    assert call[1:6] == ["run", "--containall", "--cleanenv", "--no-home", "--nv"]
    again = options_from_arguments(build_parser().parse_args(["run", *call[image + 1 :]]))
    assert again == dataclasses.replace(options, preset=str(preset))
    binds = [call[index + 1] for index, word in enumerate(call) if word == "-B"]
    assert f"{bids}:{bids}:ro" in binds
    assert binds.index(f"{tmp_path / 'out'}:{tmp_path / 'out'}") > binds.index(f"{bids}:{bids}:ro")
    for path in (filters, preset, tmp_path):
        assert f"{path}:{path}:ro" in binds


def test_status_of_a_folder_without_submissions(tmp_path: Path) -> None:
    done = _cordlesion("status", tmp_path)
    assert done.returncode == 2
    assert "has no submission" in done.stderr
