"""What ``cordlesion submit`` does: plan once, hand batches to Slurm, say how to watch."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from bids_app.commands.submit_jobs import hand_over
from bids_app.commands.submit_request import read_request
from bids_app.commands.submit_selection import layout, select
from bids_app.errors import NoUsableData
from bids_app.execution.plan_table import show_plan
from bids_app.execution.slurm import main_numbers, require_slurm
from bids_app.execution.submission import Submission
from bids_app.planning import plan_run


def submit(namespace: argparse.Namespace) -> int:
    """Submit the sessions that are not done yet, with a group job behind them.

    Returns
    -------
    int
        0.

    Raises
    ------
    CordLesionError
        In one sentence: a bad option, nothing that could be processed, no Slurm.
    """
    options, request = read_request(namespace)
    if not options.dry_run:
        require_slurm()
    plan = plan_run(options)
    if not plan.jobs:
        reasons = " ".join(str(error) for _, error in plan.unusable[:5])
        raise NoUsableData(f"No session of the selection can be processed. {reasons}")
    command = shlex.join(sys.argv)
    selection = select(options, request, plan)
    console = Console(highlight=False, soft_wrap=True)
    if options.dry_run:
        left_out = {*selection.done, *selection.on_their_way}
        show_plan(plan.jobs, plan.unusable, left_out)
    console.print(layout(selection, request), markup=False)
    if options.dry_run or not selection.batches:
        return 0
    submission = hand_over(options, request, selection, command)
    console.print(_how_to_watch(submission, options.out_dir), markup=False)
    return 0


def _how_to_watch(submission: Submission, out_dir: Path) -> str:
    """Say which jobs there are and how to follow them."""
    numbers = submission.numbers
    listed = ",".join(numbers)
    arrays = main_numbers([task.number for task in submission.tasks])
    retries = main_numbers([task.number for task in submission.retries])
    lines = [f"Sessions: job {', '.join(arrays)}"]
    if retries:
        lines.append(f"Second try: job {', '.join(retries)}")
    lines += [
        f"Group: job {submission.group}",
        f"Watch:  cordlesion status {shlex.quote(str(out_dir))}",
        f"        squeue -j {listed}",
        f"        sacct -X -j {listed} -o JobID,State,Elapsed,ExitCode",
        f"Logs:   {submission.jobs_folder}",
        f"Cancel: scancel {' '.join(numbers)}",
    ]
    return "\n".join(lines)
