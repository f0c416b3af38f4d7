"""What ``cordlesion verify`` does: check derivatives against their seals, and tell."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bids_app.dataset.seals import check_tree
from bids_app.errors import NoUsableData, UsageError

_EXAMPLE = """\
example, after a copy or before a release:
  cordlesion verify derivatives/cordlesion

exit codes: 0 all as it was written, 1 something is not, 65 there are no results.
"""


def add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "verify",
        help="check derivatives against their sidecars",
        description="Compare every result with the SHA-256 that was noted when it was written. "
        "Nothing is written.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="derivatives of 'run'")
    parser.set_defaults(run=lambda namespace: verify(namespace.out_dir))


def verify(out_dir: Path) -> int:
    """Print a line for each problem and a table of all files by what was found.

    Returns
    -------
    int
        1 when there is a problem.

    Raises
    ------
    UsageError
        `out_dir` is no folder.
    NoUsableData
        It holds no results.
    """
    if not out_dir.is_dir():
        raise UsageError(f"{out_dir} is no folder; name the OUT_DIR of a run.")
    console = Console(highlight=False, soft_wrap=True)
    counts: Counter[str] = Counter()
    problems = 0
    for check in check_tree(out_dir):
        counts[check.status] += 1
        problems += check.is_problem
        if check.status != "unchanged":
            console.print(f"{check.status}: {check.path.relative_to(out_dir)}", markup=False)
    if not counts:
        raise NoUsableData(f"{out_dir} holds no results; run the participant level first.")
    table = Table(box=box.SIMPLE, show_edge=False)
    table.add_column("what was found")
    table.add_column("files", justify="right")
    for status, count in counts.most_common():
        table.add_row(escape(status), str(count))
    console.print(table)
    advice = "The sessions they belong to are done again by 'run'; --force does all again."
    console.print(f"{problems} problems. {advice}" if problems else "All as it was written.")
    return 1 if problems else 0
