"""Sessions on a real Slurm: an array with everything that happens to arrays."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hpc.one_node import OneNode, one_node, until, why_not
from hpc.toys import ENDLESS, job, sleep
from support import ROOT
from tiny import write_tiny

from bids_app.execution.batch import Batch
from bids_app.execution.notes import Notes, newest
from bids_app.execution.slurm import Resources, submit_arrays
from bids_app.execution.submission import Submission, read_submissions

pytestmark = [pytest.mark.hpc, pytest.mark.timeout(1800)]

ALL = tuple(f"{number:02d}" for number in range(1, 25))
CORRUPT, GREEDY, REQUEUED, PREEMPTED = "05", "06", "01", "09"
CANCELLED, NEVER_BEGUN = "20", "24"
MEMORY = "900M"
HPC = Path(__file__).parent


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNode]:
    """Start a Slurm, or skip with the reason."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    pytest.importorskip("submitit")
    folder = tmp_path_factory.mktemp("slurm")
    programs = folder / "bin"
    programs.mkdir()
    shutil.copy(HPC / "apptainer_stand_in.py", programs / "apptainer")
    with one_node(folder) as running:
        running.environ |= {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
            "CORDLESION_TEST_PYTHON": sys.executable,
            "CORDLESION_TEST_PROGRAM": str(ROOT / "run.py"),
        }
        yield running


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 24 small sessions: one image is no image, one is large."""
    folder = tmp_path_factory.mktemp("data") / "bids"
    write_tiny(folder, ALL)
    _image(folder, CORRUPT).write_bytes(b"not an image")
    _enlarge(_image(folder, GREEDY), 272)
    return folder


def _image(bids: Path, label: str) -> Path:
    return bids / f"sub-{label}" / "anat" / f"sub-{label}_T2w.nii.gz"


def _enlarge(path: Path, side: int) -> None:
    small = nib.load(path)
    data = np.zeros((side, side, side), np.int16)
    start = (side - small.shape[0]) // 2
    inner = slice(start, start + small.shape[0])
    data[inner, inner, inner] = np.asarray(small.dataobj)
    nib.save(nib.Nifti1Image(data, small.affine), path)


def _cordlesion(
    node: OneNode, *arguments: object, code: int = 0
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bids_app.cli", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=node.environ, cwd=node.folder, timeout=300
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def _submit(node: OneNode, bids: Path, out: Path, *more: object) -> Submission:
    """Submit by the real command; give the record that it left."""
    _cordlesion(node, "submit", bids, out, "--n-cpus", "1", "--time", "30", *more)
    return read_submissions(out / "logs" / "slurm")[-1]


def _is_running(submission: Submission, unit: str) -> bool:
    (task,) = (task for task in submission.tasks if unit in task.sessions)
    notes = Notes(submission.notes_path(task.name)).read()
    return bool(notes) and notes[-1].status == "running"


def _same_mask(one: Path, other: Path, label: str) -> bool:
    name = f"sub-{label}/anat/sub-{label}_label-lesion_mask.nii.gz"
    masks = [np.asarray(nib.load(folder / name).dataobj) for folder in (one, other)]
    return masks[0].any() and np.array_equal(*masks)


def _statuses(node: OneNode, out: Path, code: int) -> dict[str, str]:
    said = _cordlesion(node, "status", out, "--all", code=code).stdout
    return dict(re.findall(r"^(sub-\d+): ([a-z ]+?)(?: \(|:|$)", said, re.MULTILINE))


def _no_errors(folder: Path) -> None:
    """Hold the derivatives against the validator."""
    command = [str(Path(sys.executable).parent / "bids-validator-deno"), str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def _nothing_half_written(out: Path, done: set[str]) -> None:
    """What is sealed is whole; there is nothing else but that and no temporary file."""
    sealed = set()
    for seal in out.glob("sub-*/anat/*_label-lesion_mask.json"):
        sizes = json.loads(seal.read_text())["OutputSizes"]
        assert all((seal.parent / name).stat().st_size == size for name, size in sizes.items())
        sealed.add(seal.parent.parent.name)
    assert sealed == done
    images = {path.parent.parent.name for path in out.glob("sub-*/anat/*.nii.gz")}
    assert images == done
    assert [path for path in out.rglob(".*") if path.name != ".bidsignore"
            and "slurm" not in path.parts] == []  # fmt: skip


@dataclass
class Timed:
    """A batch that runs beside the others: it takes minutes of waiting."""

    folder: Path
    number: str


@pytest.fixture(scope="module")
def timed(node: OneNode, tmp_path_factory: pytest.TempPathFactory) -> Timed:
    """Submit a batch with a session that never ends, under a limit of one minute."""
    folder = tmp_path_factory.mktemp("timed")
    jobs = (job("a", 2), job("b", ENDLESS), job("c", 1))
    batch = Batch(jobs, sleep, folder / "notes.jsonl", limit_seconds=60, warning_seconds=10)
    resources = Resources(1, 200 * 2**20, minutes=1, warning_seconds=10)
    with pytest.MonkeyPatch.context() as patch:
        for key in ("SLURM_CONF", "PYTHONPATH"):
            patch.setenv(key, node.environ[key])
        (number,) = submit_arrays(folder / "jobs", [batch], resources, 1)
    return Timed(folder, number)


@dataclass
class Run:
    """The 24 sessions, after the first submission has ended."""

    out: Path
    first: Submission
    states: dict[str, str]


@pytest.fixture(scope="module")
def run(node: OneNode, bids: Path, timed: Timed, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Submit 24 sessions, four at a time, and disturb four of them on the way."""
    del timed  # waits beside them
    out = tmp_path_factory.mktemp("run") / "out"
    first = _submit(
        *(node, bids, out, "--sessions-per-job", 1, "--max-jobs", 4, "--mem", MEMORY),
        *("--outputs", "minimal"),
    )
    numbers = dict(zip(ALL, (task.number for task in first.tasks), strict=True))
    node.call("scancel", numbers[NEVER_BEGUN])
    until(lambda: _is_running(first, f"sub-{REQUEUED}"), 600)
    node.call("scontrol", "requeue", numbers[REQUEUED])
    until(lambda: _is_running(first, f"sub-{PREEMPTED}"), 600)
    # It tries again for as long as the job makes way, and then finds none to signal: up to a
    # minute, in which all others may have ended.
    preempt = threading.Thread(
        target=node.call,
        args=("scancel", "--signal=USR2", numbers[PREEMPTED]),
        kwargs={"check": False},
    )
    preempt.start()
    running = node.call("squeue", "-h", "-r", "-t", "R", "-j", first.numbers[0], "-o", "%i")
    assert len(running.split()) <= 4
    until(lambda: _is_running(first, f"sub-{CANCELLED}"), 600)
    node.call("scancel", numbers[CANCELLED])
    preempt.join()
    return Run(out, first, node.wait(*first.numbers, seconds=900))


def test_the_scheduler_tells_the_truth(run: Run) -> None:
    numbers = dict(zip(ALL, (task.number for task in run.first.tasks), strict=True))
    expected = dict.fromkeys(numbers.values(), "COMPLETED") | {
        numbers[CORRUPT]: "FAILED",
        numbers[CANCELLED]: "CANCELLED",
        run.first.group: "COMPLETED",
    }
    # Without control groups, Slurm 22 calls a job that it ended for its memory FAILED.
    assert run.states.pop(numbers[GREEDY]) in ("FAILED", "OUT_OF_MEMORY")
    assert run.states == {key: expected[key] for key in run.states}
    # An array's task that was cancelled before it ran has no entry in Slurm's books.
    assert len(run.states) == 23
    assert numbers[NEVER_BEGUN] not in run.states


def test_status_tells_each_session(node: OneNode, run: Run) -> None:
    statuses = _statuses(node, run.out, code=1)
    expected = dict.fromkeys((f"sub-{label}" for label in ALL), "done") | {
        f"sub-{CORRUPT}": "failed",
        f"sub-{GREEDY}": "out of memory",
        f"sub-{CANCELLED}": "missing",
        f"sub-{NEVER_BEGUN}": "missing",
    }
    assert statuses == expected


def test_the_requeued_and_the_preempted_went_on(node: OneNode, run: Run) -> None:
    numbers = dict(zip(ALL, (task.number for task in run.first.tasks), strict=True))
    for label in (REQUEUED, PREEMPTED):
        said = node.call("sacct", "-X", "-n", "-D", "-P", "-o", "State", "-j", numbers[label])
        # The signal is sent again while the job makes way, and may find its second run.
        *before, last = said.split()
        assert (set(before), last) == ({"REQUEUED"}, "COMPLETED"), said
        task = run.first.tasks[ALL.index(label)]
        notes = Notes(run.first.notes_path(task.name)).read()
        assert [note.status for note in notes][-1] in ("done", "up-to-date")


def test_nothing_is_half_written_and_root_files_are_valid(run: Run) -> None:
    lost = {CORRUPT, GREEDY, CANCELLED, NEVER_BEGUN}
    _nothing_half_written(run.out, {f"sub-{label}" for label in ALL if label not in lost})
    _no_errors(run.out)


def test_the_group_job_reports_the_missing(run: Run) -> None:
    sessions = pd.read_csv(run.out / "group_sessions.tsv", sep="\t", dtype=str)
    status = dict(zip(sessions["participant_id"], sessions["status"], strict=True))
    lost = {CORRUPT: "failed", GREEDY: "failed"}
    lost |= {CANCELLED: "missing", NEVER_BEGUN: "missing"}
    assert status == {f"sub-{label}": lost.get(label, "done") for label in ALL}
    log = (run.first.jobs_folder / f"{run.first.group}_0_log.out").read_text()
    assert "24 sessions: 20 done, 1 failed, 1 out of memory, 2 missing." in log
    errors = [
        unit["error"]
        for record in (run.out / "logs").glob("run-*_summary.json")
        for unit in json.loads(record.read_text())["units"]
        if unit["unit"] == f"sub-{GREEDY}"
    ]
    assert errors[-1].startswith(f"OutOfMemory: Slurm ended it at {MEMORY}")


def test_submitting_again_does_what_is_missing_with_more_memory(
    node: OneNode, bids: Path, run: Run
) -> None:
    """The image is repaired, and what ran out of memory gets a second try in the same go."""
    before = {path: path.stat().st_mtime_ns for path in run.out.rglob("*_mask.nii.gz")}
    shutil.copy(_image(bids, "07"), _image(bids, CORRUPT))
    second = _submit(
        *(node, bids, run.out, "--sessions-per-job", 2, "--mem", MEMORY, "--retry-mem", "2x"),
        *("--outputs", "minimal"),
    )
    names = {unit for task in second.tasks for unit in task.sessions}
    assert names == {f"sub-{label}" for label in (CORRUPT, GREEDY, CANCELLED, NEVER_BEGUN)}
    third = _cordlesion(node, "submit", bids, run.out, "--outputs", "minimal")
    assert "20 up to date, 4 on their way" in third.stdout
    assert "Nothing to submit." in third.stdout
    node.wait(*second.numbers, seconds=300)
    assert _statuses(node, run.out, code=0) == {f"sub-{label}": "done" for label in ALL}
    retried = [Notes(second.notes_path(task.name)).read() for task in second.retries]
    assert f"sub-{GREEDY}" in {note.unit for notes in retried for note in notes}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    _nothing_half_written(run.out, {f"sub-{label}" for label in ALL})
    sessions = pd.read_csv(run.out / "group_sessions.tsv", sep="\t")
    assert list(sessions["status"]) == ["done"] * 24


def test_two_arrays_may_write_one_folder(
    node: OneNode, bids: Path, run: Run, tmp_path: Path
) -> None:
    """Two submissions at once, with sessions of their own and one that both have."""
    del run  # after it, so that the node is free
    out = tmp_path / "out"
    (one, other) = (
        _submit(
            *(node, bids, out, "--participant-label", *labels, "--force", "--mem", "1G"),
            *("--sessions-per-job", 2, "--gpus", 1),
        )
        for labels in (("08", "09", "10"), ("10", "11", "12"))
    )
    states = node.wait(*one.numbers, *other.numbers, seconds=400)
    assert set(states.values()) == {"COMPLETED"}
    tres = node.call("sacct", "-X", "-n", "-P", "-o", "AllocTRES", "-j", one.tasks[0].number)
    assert "gres/gpu=1" in tres
    wanted = {f"sub-{label}" for label in ("08", "09", "10", "11", "12")}
    _nothing_half_written(out, wanted)
    _no_errors(out)
    assert set(_statuses(node, out, code=0)) == wanted
    assert all((out / f"{unit}.html").exists() for unit in wanted)


def test_a_container_does_the_same(node: OneNode, bids: Path, run: Run, tmp_path: Path) -> None:
    image = tmp_path / "image.sif"
    image.write_text("stands for an image")
    _image(bids, "11").rename(tmp_path / "kept")
    _image(bids, "11").write_bytes(b"not an image")
    submission = _submit(
        *(node, bids, tmp_path / "out", "--participant-label", "10", "11", "--mem", "1G"),
        *("--container", image, "--outputs", "minimal"),
    )
    states = node.wait(*submission.numbers, seconds=200)
    (tmp_path / "kept").rename(_image(bids, "11"))
    assert states == {submission.tasks[0].number: "FAILED", submission.group: "COMPLETED"}
    found = _statuses(node, tmp_path / "out", code=1)
    assert found == {"sub-10": "done", "sub-11": "failed"}
    assert (tmp_path / "out" / "group_sessions.tsv").exists()
    assert _same_mask(tmp_path / "out", run.out, "10")


def test_a_batch_passes_over_what_cannot_be_done_in_time(node: OneNode, timed: Timed) -> None:
    states = node.wait(timed.number, seconds=400)
    assert states == {timed.number: "FAILED"}
    notes = Notes(timed.folder / "notes.jsonl").read()
    last = newest(notes)
    assert last["sub-a2"].status == last["sub-c1"].status == "done"
    assert (last[f"sub-b{ENDLESS}"].error or "").startswith("TimeLimit: ")
    begun = [note.unit for note in notes if note.status == "running"]
    assert begun == ["sub-a2", f"sub-b{ENDLESS}", f"sub-b{ENDLESS}", "sub-c1"]


def test_arrays_follow_one_another_where_one_cannot_hold_all(
    node: OneNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("SLURM_CONF", "PYTHONPATH"):
        monkeypatch.setenv(key, node.environ[key])
    batches = [
        Batch((job("x", index % 2),), sleep, tmp_path / f"{index}.jsonl", 60, 10)
        for index in range(3)
    ]
    numbers = submit_arrays(
        *(tmp_path / "jobs", batches, Resources(1, 200 * 2**20, minutes=9), 2), most=2
    )
    first, second = numbers[0].partition("_")[0], numbers[2]
    assert numbers == [f"{first}_0", f"{first}_1", second]
    assert f"afterany:{first}" in node.call("squeue", "-h", "-j", second, "-o", "%E")
    assert set(node.wait(first, second, seconds=120).values()) == {"COMPLETED"}
    assert all((tmp_path / f"{index}.jsonl").exists() for index in range(3))


def test_what_slurm_refuses_is_told_in_its_words(node: OneNode, bids: Path, tmp_path: Path) -> None:
    done = _cordlesion(
        *(node, "submit", bids, tmp_path / "out", "--partition", "nowhere", "--outputs", "minimal"),
        code=2,
    )
    assert "Slurm refused the job" in done.stderr
    assert "invalid partition specified: nowhere" in done.stderr
    assert list((tmp_path / "out" / "logs" / "slurm").iterdir()) == []


def _blocks(language: str) -> list[str]:
    text = (ROOT / "docs" / "cluster.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_plain_array_script_of_the_docs(
    node: OneNode, bids: Path, run: Run, tmp_path: Path
) -> None:
    """Run the script from ``docs/cluster.md`` as it is; only what it is told is ours."""
    (script,) = _blocks("bash")
    (tmp_path / "cordlesion.sh").write_text(script)
    some = tmp_path / "some"
    for label in ("08", "09"):
        shutil.copytree(bids / f"sub-{label}", some / f"sub-{label}")
    shutil.copy(bids / "dataset_description.json", some)
    (tmp_path / "image.sif").write_text("stands for an image")
    out = tmp_path / "out"
    told = f"--export=ALL,BIDS={some},OUT={out},IMAGE={tmp_path / 'image.sif'}"
    common = ("sbatch", "--parsable", told, f"--chdir={tmp_path}", "--mem=1G", "--cpus-per-task=1")
    array = node.call(*common, "--array=1-2%2", tmp_path / "cordlesion.sh").strip()
    group = node.call(
        *(*common, f"--dependency=afterany:{array}", tmp_path / "cordlesion.sh", "group")
    ).strip()
    states = node.wait(array, group, seconds=300)
    assert states == {f"{array}_1": "COMPLETED", f"{array}_2": "COMPLETED", group: "COMPLETED"}
    sessions = pd.read_csv(out / "group_sessions.tsv", sep="\t")
    assert list(sessions["status"]) == ["done", "done"]
    assert _same_mask(out, run.out, "08")


def test_the_dask_recipe_of_the_docs(node: OneNode, bids: Path, run: Run, tmp_path: Path) -> None:
    """Run the recipe from ``docs/cluster.md`` as it is."""
    if subprocess.run(
        [sys.executable, "-c", "import dask_jobqueue"], capture_output=True
    ).returncode:
        pytest.skip("dask-jobqueue is not installed")
    (recipe,) = _blocks("python")
    assert len(recipe.strip().splitlines()) <= 25
    (tmp_path / "recipe.py").write_text(recipe)
    some = tmp_path / "some"
    for label in ("08", "09"):
        shutil.copytree(bids / f"sub-{label}", some / f"sub-{label}")
    shutil.copy(bids / "dataset_description.json", some)
    told = {
        "BIDS": str(some),
        "OUT": str(tmp_path / "out"),
        "DASK_JOBQUEUE__SLURM__INTERFACE": "lo",
        "DASK_DISTRIBUTED__DASHBOARD__LINK": "",
    }
    done = subprocess.run(
        [sys.executable, tmp_path / "recipe.py"],
        capture_output=True, text=True, cwd=tmp_path, env=node.environ | told, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(re.findall(r"^(sub-\d+) (\d)$", done.stdout, re.MULTILINE)) == {
        ("sub-08", "0"),
        ("sub-09", "0"),
    }
    assert _same_mask(tmp_path / "out", run.out, "08")
