"""Sessions at the same time: nothing is lost, nothing lives on, whoever is killed."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from crews import Work, job
from support import ROOT

from bids_app.errors import MissingResource, UnitError
from bids_app.execution.parallel import run_at_once
from bids_app.gpus import ask_gpus, may_use_gpu
from bids_app.lesions.preset import load_preset
from bids_app.options import Options
from bids_app.records import Job, Outcome
from bids_app.resources import sessions_at_once
from bids_app.segmentation.manifest import find_model, read_manifest
from bids_app.sessions import do_sessions
from bids_app.worker import Worker

GIB = 2**30
JOBS = [job(label) for label in ("01", "02", "03", "04")]
LABELS = ["sub-01", "sub-02", "sub-03", "sub-04"]


@pytest.fixture
def told() -> Iterator[list[logging.LogRecord]]:
    """Give what the package logs, down to details."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    log = logging.getLogger("bids_app")
    before = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    yield records
    log.removeHandler(handler)
    log.setLevel(before)


def at_once(work: Work, stop_on_first_crash: bool = False) -> list[Outcome]:
    return list(run_at_once(JOBS, work, work, 2, 1, stop_on_first_crash))


@pytest.mark.parametrize(
    ("sessions", "cpus", "memory_bytes", "expected"),
    [
        (0, 8, 64 * GIB, 1),
        (2, 8, 64 * GIB, 1),
        (3, 8, 64 * GIB, 3),
        (100, 1, 64 * GIB, 1),
        (100, 8, 64 * GIB, 8),
        (100, 8, 6 * GIB, 4),
        (100, 8, 3 * GIB, 2),
        (100, 8, 3 * GIB - 1, 1),
        (100, 8, GIB, 1),
    ],
)
def test_how_many_at_once(sessions: int, cpus: int, memory_bytes: int, expected: int) -> None:
    assert sessions_at_once(sessions, cpus, memory_bytes) == expected


@pytest.mark.parametrize(
    ("megabytes", "expected"), [(10, 8), (80, 8), (410, 5), (5 * 410, 1), (100_000, 1)]
)
def test_large_models_leave_room_for_fewer(megabytes: int, expected: int) -> None:
    assert sessions_at_once(100, 8, 12 * GIB, megabytes * 1_000_000) == expected


def test_the_weights_of_a_large_model_are_counted(tmp_path: Path) -> None:
    """Each image is missing and fails; with the box three would be done at once."""
    outputs = {"lesion_mask": tmp_path / "none_label-lesion_mask.nii.gz"}
    jobs = [replace(one, outputs=outputs) for one in JOBS]
    folder = shutil.copytree(find_model(None), tmp_path / "large")
    for megabytes, expected in ((0, [3]), (1000, [])):
        with (folder / "fold_0.safetensors").open("r+b") as weights:
            weights.truncate(1_000_000 * megabytes)  # a hole, which takes no room on the disk
        worker = _worker(tmp_path, 3)
        options = replace(worker.options, model=str(folder), memory_bytes=5 * GIB)
        told: list[int] = []
        list(do_sessions(jobs, Worker(options, worker.preset, worker.manifest), told.append))
        assert told == expected


@pytest.mark.parametrize(
    ("device", "there", "expected"),
    [
        ("cpu", "nvidia0", False),
        ("cuda", "null", True),
        ("auto", "null", False),
        ("auto", "nvidia0", True),
        ("auto", "kfd", True),
        ("auto", "nvidiactl", False),
    ],
)
def test_whether_there_is_a_gpu(device: str, there: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / there).touch()
    assert may_use_gpu(device, tmp_path) is expected


def test_all_are_done_by_other_processes(tmp_path: Path, told: list[logging.LogRecord]) -> None:
    outcomes = at_once(Work(tmp_path, {"02": "fail"}))
    assert sorted(outcome.identifier for outcome in outcomes) == LABELS
    failed = next(outcome for outcome in outcomes if outcome.identifier == "sub-02")
    assert failed.error == "ValueError: odd (unexpected; the log file has the details)"
    done = [outcome for outcome in outcomes if outcome.status == "done"]
    assert len(done) == 3
    assert {outcome.warnings for outcome in done} == {("1",)}
    processes = {outcome.lesions for outcome in done}
    assert os.getpid() not in processes and len(processes) <= 2
    # What they logged comes once, with where it comes from and the traceback of what failed.
    details = [record for record in told if record.levelno == logging.DEBUG]
    said = sorted(record.getMessage() for record in details)
    assert said == [f"{one[4:]} in detail" for one in LABELS]
    assert {record.process for record in details} >= processes
    (crash,) = [record.getMessage() for record in told if "failed" in record.getMessage()]
    assert crash.startswith("sub-02 failed\nTraceback") and crash.endswith("ValueError: odd")
    assert not any(_alive(process) for process in processes)


def test_after_the_first_crash_nothing_is_started(tmp_path: Path) -> None:
    outcomes = at_once(Work(tmp_path, {"01": "fail"}, seconds=0.5), stop_on_first_crash=True)
    assert sorted(outcome.identifier for outcome in outcomes) in (["sub-01"], ["sub-01", "sub-02"])
    assert not (tmp_path / "04.pid").exists()


def test_a_missing_model_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(MissingResource, match="no weights"):
        at_once(Work(tmp_path, {"02": "missing"}))


def test_what_a_killed_process_had_is_done_here(
    tmp_path: Path, told: list[logging.LogRecord]
) -> None:
    outcomes = at_once(Work(tmp_path, {"02": "kill", "03": "fail"}))
    assert sorted(outcome.identifier for outcome in outcomes) == LABELS
    status = {outcome.identifier: outcome.status for outcome in outcomes}
    assert status == {"sub-01": "done", "sub-02": "done", "sub-03": "failed", "sub-04": "done"}
    second = next(outcome for outcome in outcomes if outcome.identifier == "sub-02")
    assert second.lesions == os.getpid()
    (warning,) = [record.getMessage() for record in told if record.levelno == logging.WARNING]
    assert "sessions are done one after the other now" in warning


def test_a_consumer_that_leaves_ends_the_processes(tmp_path: Path) -> None:
    work = Work(tmp_path, seconds=0.2)
    outcomes = run_at_once(JOBS, work, work, 2)
    first = next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert first.status == "done"
    assert not any(_alive(int(path.read_text())) for path in tmp_path.glob("*.pid"))
    assert not (tmp_path / "04.end").exists()


@pytest.mark.parametrize(
    ("send", "code", "cleaned"),
    [
        (lambda run: run.send_signal(signal.SIGTERM), 143, True),
        # A terminal interrupts all processes of the group.
        (lambda run: os.killpg(run.pid, signal.SIGINT), 130, True),
        (lambda run: run.kill(), -signal.SIGKILL, False),
    ],
    ids=["SIGTERM", "SIGINT", "SIGKILL"],
)
def test_nothing_lives_longer_than_the_run(
    send: Callable[[subprocess.Popen[str]], None], code: int, cleaned: bool, tmp_path: Path
) -> None:
    program = "import sys, pathlib, crews; "
    program += "sys.exit(crews.run_until_stopped(pathlib.Path(sys.argv[1])))"
    run = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    _until(lambda: len(list(tmp_path.glob("*.pid"))) == 2 or run.poll() is not None)
    time.sleep(0.2)
    processes = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    send(run)
    _, said = run.communicate(timeout=30)
    assert run.returncode == code
    assert "Traceback" not in said
    assert len(processes) == 2
    _until(lambda: not any(_alive(process) for process in processes))
    assert len(list(tmp_path.glob("*.end"))) == (2 if cleaned else 0)


def _until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def _alive(process: int) -> bool:
    """Tell whether a process lives; one that waits to be buried by an idle parent does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def _worker(tmp_path: Path, n_cpus: int, device: str = "cpu") -> Worker:
    folder = find_model(None)
    manifest = read_manifest(folder)
    options = Options(
        tmp_path, tmp_path / "out", device=device, n_cpus=n_cpus, memory_bytes=64 * GIB
    )
    return Worker(options, load_preset("default"), manifest)


def _empty_job(tmp_path: Path) -> Job:
    """Give a session whose one image is an empty file."""
    (tmp_path / "01.nii.gz").touch()
    one = job("01")
    outputs = {"lesion_mask": tmp_path / "out" / "sub-01_label-lesion_mask.nii.gz"}
    return Job(one.session, type(one.reference)(tmp_path / "01.nii.gz", {}, "T2w"), None, outputs)


def test_a_worker_travels_without_its_model_and_hashes_alike(tmp_path: Path) -> None:
    worker = _worker(tmp_path, 4)
    worker.__dict__["model"] = threading.Lock()  # cannot be pickled
    other = pickle.loads(pickle.dumps(worker.with_cpus(1)))
    again = pickle.loads(pickle.dumps(worker))
    assert "model" not in vars(again)
    assert (other.options.n_cpus, again.options.n_cpus) == (1, 4)
    assert other.command == worker.command
    one = _empty_job(tmp_path)
    assert other.inputs.hash(one) == worker.inputs.hash(one)


def test_a_worker_frees_what_the_session_before_left_in_cycles(tmp_path: Path) -> None:
    class Left:
        def __init__(self) -> None:
            self.itself = self

    worker, left = _worker(tmp_path, 1), weakref.ref(Left())
    gc.disable()
    try:
        for still_there in (True, False):
            with pytest.raises(UnitError):
                worker(_empty_job(tmp_path))
            assert (left() is not None) == still_there
    finally:
        gc.unfreeze()
        gc.enable()


def test_few_sessions_and_one_core_need_no_processes(tmp_path: Path) -> None:
    """The images are not there: each fails, in this very process."""
    told: list[int] = []
    for jobs, n_cpus in ((JOBS, 1), (JOBS[:2], 4)):
        outcomes = list(do_sessions(jobs, _worker(tmp_path, n_cpus), told.append))
        assert [outcome.status for outcome in outcomes] == ["failed"] * len(jobs)
    assert told == []


@pytest.mark.parametrize(
    ("answer", "at_once"),
    [
        ("echo '81000, Default, Disabled'", [4]),
        ("echo '81000, Default, Disabled'; echo '16000, Default, [N/A]'", [2]),
        ("echo '8000, Default, [N/A]'", []),
        ("echo '81000, Exclusive_Process, Disabled'", []),
        ("echo '81000, Default, Enabled'", []),
        ("echo '[N/A], Default, Disabled'", []),
        ("echo 'NVIDIA-SMI has failed'; exit 9", []),
        (None, []),
    ],
)
def test_sessions_share_a_gpu_that_has_room(
    answer: str | None, at_once: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images are not there: each fails before a GPU is needed."""
    programs = tmp_path / "programs"
    programs.mkdir()
    if answer is not None:
        (programs / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
        (programs / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    ask_gpus.cache_clear()
    told: list[int] = []
    outputs = {"lesion_mask": tmp_path / "none_label-lesion_mask.nii.gz"}
    jobs = [replace(one, outputs=outputs) for one in JOBS]
    outcomes = list(do_sessions(jobs, _worker(tmp_path, 4, "cuda"), told.append))
    ask_gpus.cache_clear()
    assert [outcome.status for outcome in outcomes] == ["failed"] * len(JOBS)
    assert told == at_once
