"""Batches, their notes and what is told of each session: without Slurm."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bids_app.execution.batch import Batch, BatchFailed, pack
from bids_app.execution.fates import Fate, all_fates, fates, to_retry
from bids_app.execution.notes import Note, Notes, newest
from bids_app.execution.queue import Queue, died_of_memory
from bids_app.execution.slurm import Resources
from bids_app.execution.submission import Submission, Task, read_submissions
from bids_app.files import write_json
from bids_app.records import Job, Outcome, Scan, Session

KILLED = "slurmstepd: error: Exceeded job memory limit\nsrun: error: node: task 0: Killed\n"
CGROUP = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks\n"


def _job(label: str) -> Job:
    subject, _, session = label.partition("/")
    scan = Scan(Path(f"/raw/{subject}_T2w.nii.gz"), {}, "T2w")
    return Job(Session(subject, session or None), scan, None, {})


@pytest.mark.parametrize(
    ("labels", "size", "expected"),
    [
        ("", 8, []),
        ("a b c", 8, [3]),
        ("a b c", 1, [1, 1, 1]),
        ("a b c d e", 2, [2, 2, 1]),
        ("a/1 a/2 b/1 b/2", 3, [2, 2]),
        ("a/1 a/2 a/3 a/4 b/1", 3, [3, 2]),
        ("a/1 b/1 b/2 c/1", 2, [1, 2, 1]),
    ],
)
def test_batches_split_no_subject_that_fits(labels: str, size: int, expected: list[int]) -> None:
    jobs = [_job(label) for label in labels.split()]
    batches = pack(jobs, size)
    assert [len(batch) for batch in batches] == expected
    assert [job for batch in batches for job in batch] == jobs


def test_notes_survive_half_a_line(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes" / "one.jsonl", "7_0")
    notes.write("sub-01", "running")
    with notes.path.open("a") as file:
        file.write('{"unit": "sub-0')
    notes.outcome(Outcome("sub-01", "failed", None, 1.234, "Broken: it is."))
    assert [(note.unit, note.status, note.seconds) for note in notes.read()] == [
        ("sub-01", "running", 0.0),
        ("sub-01", "failed", 1.23),
    ]
    assert newest(notes.read())["sub-01"].error == "Broken: it is."


def test_a_later_note_in_another_file_counts() -> None:
    notes = [Note("a", "failed", 5.0), Note("a", "done", 9.0), Note("a", "running", 7.0)]
    assert newest(notes)["a"].status == "done"


def _batch(tmp_path: Path, work, labels: str = "a b c") -> Batch:  # type: ignore[no-untyped-def]
    jobs = tuple(_job(label) for label in labels.split())
    return Batch(jobs, work, tmp_path / "notes.jsonl", limit_seconds=600, warning_seconds=90)


def _interrupted_at(label: str):  # type: ignore[no-untyped-def]
    """Give work that ends in the middle of a session, as a signal ends it."""

    def work(jobs, notes):  # type: ignore[no-untyped-def]
        for job in jobs:
            unit = job.session.identifier
            notes.write(unit, "running")
            if unit == f"sub-{label}":
                raise SystemExit
            notes.write(unit, "failed" if unit == "sub-a" else "done")

    return work


def test_a_batch_goes_on_where_it_was_stopped_and_remembers_failures(tmp_path: Path) -> None:
    batch = _batch(tmp_path, _interrupted_at("c"))
    with pytest.raises(SystemExit):
        batch()
    left = batch.left(time.time())
    assert [job.session.subject for job in left.jobs] == ["c"]
    left.work = _interrupted_at("")
    with pytest.raises(BatchFailed, match=r"^1 of"):
        left()


@pytest.mark.parametrize(
    ("at", "seconds", "left"),
    [
        ("a", 10, "abc"),  # preempted: it starts again
        ("a", 599, "bc"),  # had all the time there is: never again
        ("b", 599, "bc"),  # there was progress
    ],
)
def test_a_session_that_had_the_whole_limit_is_not_begun_again(
    tmp_path: Path, at: str, seconds: int, left: str
) -> None:
    batch = _batch(tmp_path, _interrupted_at(at))
    with pytest.raises(SystemExit):
        batch()
    again = batch.left(time.time() + seconds)
    assert "".join(job.session.subject for job in again.jobs) == left
    told = newest(Notes(batch.notes).read())
    assert (told[f"sub-{at}"].status == "failed") == (at not in left)
    assert again.failed == (1 if seconds == 599 else 0)


def test_what_is_asked_of_slurm() -> None:
    wanted = Resources(4, 3 * 2**29, 90, gpus=1, partition="gpu", more={"qos": "long"})
    parameters = wanted.parameters(["7", "8"], 50)
    assert parameters["mem"] == "1536M"
    assert parameters["time"] == 90
    assert parameters["gpus_per_node"] == 1
    assert parameters["dependency"] == "afterany:7:8"
    assert parameters["additional_parameters"] == {"requeue": True, "qos": "long"}
    assert parameters["srun_args"] == ["--cpus-per-task=4"]
    assert "account" not in parameters
    assert "gpus_per_node" not in Resources(1, 2**30, 1).parameters([], 1)


def _submission(folder: Path, sessions: str, retries: int = 0) -> Submission:
    tasks = (Task("batch-000000", tuple(sessions.split()), "7_0"),)
    again = tuple(Task(f"retry-{index}", (), f"8_{index}") for index in range(retries))
    seals = {unit: f"{unit}.json" for unit in sessions.split()}
    return Submission(folder, tasks, again, "9", seals)


def _note(submission: Submission, name: str, *notes: str) -> None:
    for note in notes:
        unit, status, *error = note.split(":")
        Notes(submission.notes_path(name)).write(unit, status, error=error[0] if error else None)
        if status == "done":
            (submission.folder / f"{unit}.json").write_text("{}")


def _log(submission: Submission, number: str, text: str) -> None:
    submission.jobs_folder.mkdir(exist_ok=True)
    (submission.jobs_folder / f"{number}_0_log.err").write_text(text)


@pytest.mark.parametrize(
    ("notes", "queue", "log", "expected"),
    [
        (["a:running", "a:done"], Queue({"7_0": "RUNNING"}), "", "done pending"),
        (["a:running"], Queue({"7_0": "RUNNING"}), "", "running pending"),
        (["a:running"], Queue({"7_0": "PENDING"}), "", "pending pending"),
        ([], Queue({"7_0": "PENDING"}), "", "pending pending"),
        (["a:failed:Broken", "b:done"], Queue({}, {"7_0": "FAILED"}), "", "failed done"),
        (["a:failed:OutOfMemory: x"], Queue({}, {"7_0": "FAILED"}), "", "out of memory|missing"),
        (["a:running"], Queue({}, {"7_0": "OUT_OF_MEMORY"}), "", "out of memory|missing"),
        (["a:running"], Queue({}, {"7_0": "FAILED"}), KILLED, "out of memory|missing"),
        (["a:running"], Queue({}, {}), CGROUP, "out of memory|missing"),
        (["a:done", "b:running"], Queue({}, {"7_0": "CANCELLED"}), "", "done missing"),
        (["a:done", "b:running"], Queue({}, {"7_0": "NODE_FAIL"}), "", "done failed"),
        (["a:running"], Queue({}, {"7_0": "TIMEOUT"}), "", "failed missing"),
        (["a:done"], Queue(known=False), "", "done pending"),
    ],
)
def test_what_became_of_sessions(
    tmp_path: Path, notes: list[str], queue: Queue, log: str, expected: str
) -> None:
    submission = _submission(tmp_path, "a b")
    _note(submission, "batch-000000", *notes)
    _log(submission, "7_0", log)
    found = fates(submission, queue, tmp_path)
    words = expected.split("|") if "|" in expected else expected.split()
    assert [found["a"].status, found["b"].status] == words


def test_what_slurm_was_never_given_is_missing(tmp_path: Path) -> None:
    submission = Submission(tmp_path, (Task("batch-000000", ("a",)),))
    assert fates(submission, Queue(), tmp_path)["a"].status == "missing"
    assert submission.numbers == []


def test_memory_words_of_an_earlier_start_do_not_count(tmp_path: Path) -> None:
    submission = _submission(tmp_path, "a")
    _log(
        submission, "7_0", f"{KILLED}submitit INFO - Starting with SlurmJobEnvironment(job_id=7)\n"
    )
    assert not died_of_memory(submission.jobs_folder, "7_0", Queue())


def test_results_that_are_gone_are_missing(tmp_path: Path) -> None:
    submission = _submission(tmp_path, "a")
    _note(submission, "batch-000000", "a:done")
    (tmp_path / "a.json").unlink()
    assert fates(submission, Queue(), tmp_path)["a"].status == "missing"


def test_a_second_try_gets_what_died_of_memory_and_what_its_batch_did_not_reach(
    tmp_path: Path,
) -> None:
    submission = _submission(tmp_path, "a b c", retries=2)
    _note(submission, "batch-000000", "a:done", "b:running")
    ended = {"7_0": "OUT_OF_MEMORY"}
    assert to_retry(submission, Queue({}, ended)) == {"batch-000000": ["b", "c"]}
    waits = fates(submission, Queue({"8_0": "PENDING"}, ended), tmp_path)
    assert [waits[unit].status for unit in "abc"] == ["done", "pending", "pending"]
    _note(submission, "retry-0", "b:running", "b:done")
    _note(submission, "retry-1", "c:running")
    # All tasks of the second try must see the same, whatever others have done by then.
    assert to_retry(submission, Queue({}, ended)) == {"batch-000000": ["b", "c"]}
    after = fates(submission, Queue({}, {**ended, "8_1": "OUT_OF_MEMORY"}), tmp_path)
    assert [after[unit].status for unit in "abc"] == ["done", "done", "out of memory"]
    assert after["c"].died


def test_nothing_is_tried_again_after_other_failures(tmp_path: Path) -> None:
    submission = _submission(tmp_path, "a b", retries=1)
    _note(submission, "batch-000000", "a:failed:Broken", "b:running")
    assert to_retry(submission, Queue({}, {"7_0": "NODE_FAIL"})) == {}


def test_records_come_back_in_order_and_the_newest_counts(tmp_path: Path) -> None:
    folder = tmp_path / "slurm"
    for name, status in (
        ("20260101T000000000000-aaaa", "a:failed:x"),
        ("20260102T0-bbbb", "a:done"),
    ):
        submission = _submission(folder / name, "a")
        submission.write(write_json)
        _note(submission, "batch-000000", status)
    (folder / "20260103T0-cccc").mkdir()
    (folder / "20260103T0-cccc" / "submission.json").write_text("{")
    submissions = read_submissions(folder)
    assert [one.folder.name[-4:] for one in submissions] == ["aaaa", "bbbb"]
    (tmp_path / "a.json").write_text("{}")
    assert all_fates(submissions, Queue(), tmp_path) == {"a": Fate("a", "done", number="7_0")}
    assert json.loads((submissions[0].folder / "submission.json").read_text())["group"] == "9"
