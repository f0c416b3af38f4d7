"""Running jobs: one failure never stops the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_app.errors import MissingResource, UnreadableImage
from bids_app.execution.local import run_jobs
from bids_app.records import Job, Outcome, Scan, Session


def _job(label: str) -> Job:
    return Job(Session(label, None), Scan(Path(f"{label}.nii.gz"), {}, "T2w"), None, {})


JOBS = [_job(label) for label in ("01", "02", "03")]


def _fail_second(error: BaseException):  # type: ignore[no-untyped-def]
    def work(job: Job) -> Outcome:
        if job.session.subject == "02":
            raise error
        return Outcome(job.session.identifier, "done", 1)

    return work


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UnreadableImage("02.nii.gz is empty."), "UnreadableImage: 02.nii.gz is empty."),
        (ValueError("odd"), "ValueError: odd (unexpected; the log file has the details)"),
        (
            MemoryError(),
            "OutOfMemory: this session needs more memory than there is. Give the run more, then "
            "run again: what is done is kept.",
        ),
    ],
)
def test_a_failure_is_an_outcome(error: BaseException, said: str) -> None:
    outcomes = list(run_jobs(JOBS, _fail_second(error)))
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done"]
    assert outcomes[1].error == said
    assert outcomes[1].lesions is None


def test_stop_on_first_crash() -> None:
    outcomes = list(run_jobs(JOBS, _fail_second(ValueError("odd")), stop_on_first_crash=True))
    assert [outcome.identifier for outcome in outcomes] == ["sub-01", "sub-02"]


def test_a_missing_model_ends_the_run() -> None:
    with pytest.raises(MissingResource, match="no weights"):
        list(run_jobs(JOBS, _fail_second(MissingResource("no weights"))))
