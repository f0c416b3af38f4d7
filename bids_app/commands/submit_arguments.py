"""The command lines of ``cordlesion submit`` and ``cordlesion status``."""

from __future__ import annotations

import argparse
from pathlib import Path

from bids_app.arguments import add_shared_arguments

DEFAULT_TIME = "02:00:00"
DEFAULT_MEMORY = "8G"
DEFAULT_CPUS = 4


def add_submit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``submit``: the options of ``run`` that matter, and what Slurm is asked for."""
    submit = commands.add_parser(
        "submit",
        help="the same run as a Slurm array, with the group level behind it",
        description="Hand the sessions that are not done yet to Slurm, in batches as an array, "
        "and a job for the group level behind it. Submitting again does what is missing.",
    )
    submit.add_argument("bids_dir", type=Path, metavar="BIDS_DIR", help="the raw BIDS dataset")
    submit.add_argument(
        "out_dir", type=Path, metavar="OUT_DIR", help="on a disk that all nodes share"
    )
    _add_jobs(submit.add_argument_group("jobs"))
    add_shared_arguments(submit)
    submit.set_defaults(
        run=_submit,
        level="participant",
        reports_only=False,
        stop_on_first_crash=False,
        batch=None,
    )


def _add_jobs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--partition", metavar="P", help="default: the cluster's")
    group.add_argument("--account", metavar="A", help="that is charged")
    group.add_argument("--gpus", type=int, default=0, metavar="N", help="a job; default: none")
    group.add_argument(
        *("--n-cpus",), type=int, default=DEFAULT_CPUS, metavar="N", help="default: %(default)s"
    )
    group.add_argument(
        "--mem", default=DEFAULT_MEMORY, metavar="8G", help="of a job (default: %(default)s)"
    )
    group.add_argument(
        "--time",
        default=DEFAULT_TIME,
        metavar="HH:MM:SS",
        help="of a job, as sbatch reads it; one that does not get through is queued again and "
        "goes on (default: %(default)s)",
    )
    group.add_argument(
        *("--sessions-per-job",), type=int, default=8, metavar="N", help="default: %(default)s"
    )
    group.add_argument(
        *("--max-jobs",), type=int, default=50, metavar="N", help="at once (default: %(default)s)"
    )
    group.add_argument(
        "--retry-mem", metavar="2x", help="sessions that ran out of memory get a second try"
    )
    group.add_argument(
        "--container", type=Path, metavar="FILE", help="Apptainer image that does the work"
    )
    group.add_argument(
        "--setup",
        action="append",
        default=[],
        metavar="COMMAND",
        help="run before the work, such as 'module load apptainer'; may be given several times",
    )
    group.add_argument(
        "--slurm",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="further options of sbatch, such as qos=long",
    )


def add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``status``."""
    status = commands.add_parser(
        "status",
        help="what became of the sessions that were submitted",
        description="Say what became of the sessions that were submitted: done, failed, out of "
        "memory, running, pending, missing. Exit code 1 when one is failed, out of memory or "
        "missing.",
    )
    status.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    status.add_argument("--all", action="store_true", help="list the sessions that are done, too")
    status.set_defaults(run=_status)


def _submit(namespace: argparse.Namespace) -> int:
    from bids_app.commands.submit import submit

    return submit(namespace)


def _status(namespace: argparse.Namespace) -> int:
    from bids_app.commands.submit_status import show_status

    return show_status(namespace.out_dir, namespace.all)
