"""Which sessions are to be submitted, in what form, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bids_app.commands.submit_request import Request
from bids_app.commands.submit_status import submissions_folder
from bids_app.dataset.quick_look import looks_up_to_date
from bids_app.execution.batch import pack
from bids_app.execution.fates import all_fates
from bids_app.execution.queue import ask
from bids_app.execution.submission import read_submissions
from bids_app.inputs import Inputs
from bids_app.options import Options
from bids_app.planning import Plan
from bids_app.records import Job


@dataclass(frozen=True)
class Selection:
    """What of the plan is to be submitted: a value, made before anything is written."""

    plan: Plan
    batches: tuple[tuple[Job, ...], ...]
    done: tuple[str, ...]
    on_their_way: tuple[str, ...]

    @property
    def left_out(self) -> str:
        """Say what is left out, and why."""
        parts = []
        if self.done:
            parts.append(f"{len(self.done)} up to date")
        if self.on_their_way:
            parts.append(f"{len(self.on_their_way)} on their way in an earlier submission")
        return f"Left out: {', '.join(parts)}." if parts else ""


def select(options: Options, request: Request, plan: Plan) -> Selection:
    """Leave out what is done, by a look at the disk, and what waits or runs already."""
    inputs = Inputs(options, plan.preset, plan.manifest, plan.template)
    done: tuple[str, ...] = ()
    live: set[str] = set()
    if not options.force:
        done = tuple(
            job.session.identifier
            for job in plan.jobs
            if looks_up_to_date(job, inputs.settings_hash(job))
        )
        live = _live_sessions(options.out_dir)
    names = [job.session.identifier for job in plan.jobs]
    on_their_way = tuple(name for name in names if name in live and name not in set(done))
    out = {*done, *on_their_way}
    left = [job for job in plan.jobs if job.session.identifier not in out]
    batches = tuple(pack(left, request.sessions_per_job))
    return Selection(plan, batches, done, on_their_way)


def _live_sessions(out_dir: Path) -> set[str]:
    submissions = read_submissions(submissions_folder(out_dir))
    if not submissions:
        return set()
    queue = ask([number for one in submissions for number in one.numbers])
    if not queue.known:
        return set()
    found = all_fates(submissions, queue, out_dir)
    return {fate.unit for fate in found.values() if fate.status in ("running", "pending")}


def layout(selection: Selection, request: Request) -> str:
    """Say in what form the sessions go to Slurm."""
    sessions = sum(map(len, selection.batches))
    lines = [f"Cannot be processed: {len(selection.plan.unusable)} (see the group tables)."]
    lines = lines if selection.plan.unusable else []
    if selection.left_out:
        lines.append(selection.left_out)
    if not sessions:
        return "\n".join([*lines, "Nothing to submit."])
    jobs = len(selection.batches)
    wanted = request.resources
    gpus = f", {wanted.gpus} GPU" if wanted.gpus else ""
    lines.append(
        f"{sessions} session{_s(sessions)} in {jobs} job{_s(jobs)} of up to "
        f"{request.sessions_per_job}, {min(request.max_jobs, jobs)} at a time; each job: "
        f"{wanted.n_cpus} CPUs{gpus}, {memory_text(wanted.memory_bytes)}, {wanted.minutes} min."
    )
    if request.retry_factor:
        more = memory_text(request.more_memory.memory_bytes)
        lines.append(f"Then {_retries(request, jobs)} for what ran out of memory, with {more}.")
    lines.append("Then the group level.")
    return "\n".join(lines)


def _retries(request: Request, jobs: int) -> str:
    count = min(request.max_jobs, jobs)
    return f"{count} job{_s(count)}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def memory_text(amount: int) -> str:
    """Write an amount of memory in bytes as ``--mem`` reads it, in three digits."""
    gigabytes = amount / 2**30
    return f"{gigabytes:.3g}G" if gigabytes >= 1 else f"{amount >> 20}M"
