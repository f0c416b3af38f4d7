"""What ``cordlesion status`` says of the sessions that were submitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from bids_app.errors import UsageError
from bids_app.execution.fates import STATUSES, Fate, all_fates
from bids_app.execution.queue import Queue, ask
from bids_app.execution.submission import Submission, read_submissions
from bids_app.places import absolute

_UNWELL = ("failed", "out of memory", "missing")
_HINTS = {
    "out of memory": "Give more: --mem, or --retry-mem 2x for a second try.",
    "missing": "Submit again: only what is missing is done.",
}


def submissions_folder(out_dir: Path) -> Path:
    """Name the folder of all submissions."""
    return out_dir / "logs" / "slurm"


def show_status(out_dir: Path, everything: bool = False) -> int:
    """Print what became of each session that was submitted.

    Returns
    -------
    int
        1 when a session is failed, out of memory or missing; else 0.

    Raises
    ------
    UsageError
        Nothing was submitted.
    """
    out_dir = absolute(out_dir)
    submissions = read_submissions(submissions_folder(out_dir))
    if not submissions:
        raise UsageError(f"{out_dir} has no submission: give the OUT_DIR of 'cordlesion submit'.")
    queue = ask([number for one in submissions for number in one.numbers])
    found = all_fates(submissions, queue, out_dir)
    console = Console(highlight=False, soft_wrap=True)
    console.print(report(found.values(), everything), markup=False)
    group = _group(submissions, queue)
    if group:
        console.print(group, markup=False)
    if not queue.known:
        console.print("Slurm cannot be asked here: what waits and runs is not known.")
    return 1 if any(fate.status in _UNWELL for fate in found.values()) else 0


def report(found: Iterable[Fate], everything: bool = False) -> str:
    """Write one line a session that is not done, and the counts.

    Examples
    --------
    >>> print(report([Fate("sub-01", "done"), Fate("sub-02", "pending")]))
    sub-02: pending
    2 sessions: 1 done, 1 pending.
    """
    ordered = sorted(found, key=lambda fate: (STATUSES.index(fate.status), fate.unit))
    lines = [_line(fate) for fate in ordered if everything or fate.status != "done"]
    counts = Counter(fate.status for fate in ordered)
    parts = [f"{counts[status]} {status}" for status in STATUSES if counts[status]]
    plural = "" if len(ordered) == 1 else "s"
    lines.append(f"{len(ordered)} session{plural}: {', '.join(parts)}.")
    lines += [hint for status, hint in _HINTS.items() if counts[status]]
    return "\n".join(lines)


def _line(fate: Fate) -> str:
    job = f" (job {fate.number})" if fate.number and fate.status != "done" else ""
    reason = f": {fate.reason.rstrip('.')}" if fate.reason else ""
    log = f". Log: {fate.log}" if fate.log else ""
    return f"{fate.unit}: {fate.status}{job}{reason}{log}"


def _group(submissions: list[Submission], queue: Queue) -> str:
    """Say how the newest group job stands."""
    newest = submissions[-1]
    if not newest.group:
        return ""
    state = queue.state(newest.group)
    return f"Group job {newest.group}: {state.lower()}. Submission: {newest.folder}"
