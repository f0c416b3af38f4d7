"""Start nnU-Net's steps in processes of their own, and follow what they say."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from bids_app.documents import parse_json
from bids_app.errors import NoUsableData, UnitError
from bids_app.training.run import Run

Event = Mapping[str, Any]
_LOG = "train.log"
_PATIENCE_S = 10


def prepare(
    run: Run, n_cpus: int, environ: Mapping[str, str], tell: Callable[[Event], None]
) -> None:
    """Check, plan and preprocess.

    Parameters
    ----------
    run : Run
    n_cpus : int
    environ : mapping
        The child's environment is this one and nnU-Net's folders.
    tell : callable
        Gets each event.

    Raises
    ------
    NoUsableData
        nnU-Net cannot use the dataset.
    """
    environment = run.environment(environ, n_cpus, training=False)
    error = _follow(run, ["prepare", str(run.folder), str(n_cpus)], environment, tell)
    if error:
        raise NoUsableData(
            f"nnU-Net could not prepare {run.settings.dataset}: {error} "
            f"{run.folder / _LOG} has the details."
        )


def train_fold(
    run: Run, fold: str, device: str, n_cpus: int, environ: Mapping[str, str],
    tell: Callable[[Event], None],
) -> None:  # fmt: skip
    """Train a fold, or go on with it; parameters are those of `prepare`.

    Raises
    ------
    UnitError
        nnU-Net's training failed.
    """
    environment = run.environment(environ, n_cpus, training=True)
    arguments = ["fold", str(run.folder), fold, device, str(n_cpus)]
    error = _follow(run, arguments, environment, tell)
    if error:
        raise UnitError(
            f"nnU-Net's training of fold {fold} failed: {error} {run.folder / _LOG} has the "
            "details; the same command goes on from the last checkpoint."
        )


def _follow(
    run: Run, arguments: list[str], environment: dict[str, str], tell: Callable[[Event], None]
) -> str:
    """Run a step to its end; gives what went wrong, or nothing.

    The step gets a session of its own, so that its helpers can be stopped together with it.
    """
    # -P: whatever lies in the user's folder is not to be imported.
    command = [sys.executable, "-P", "-m", "bids_app.training.nnunet_child", *arguments]
    failure = ""
    with (
        (run.folder / _LOG).open("ab") as log,
        subprocess.Popen(  # noqa: S603 - our own module, no shell
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        ) as child,
    ):
        try:
            for line in child.stdout or ():
                event = parse_json(line)
                if event["event"] == "failed":
                    failure = _sentence(event["error"])
                else:
                    tell(event)
            code = child.wait()
        finally:
            _stop(child)
    return failure or (f"it ended with code {code}." if code else "")


def _stop(child: subprocess.Popen[str]) -> None:
    """Stop a step and its helpers, first with a word, then without."""
    for number, patience in ((signal.SIGTERM, _PATIENCE_S), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience)


def _sentence(text: str) -> str:
    r"""Give the first line of a message, ended by a full stop.

    Examples
    --------
    >>> _sentence("ValueError: no\nmore")
    'ValueError: no.'
    """
    line = text.strip().splitlines()[0][:300] if text.strip() else "an unnamed error"
    return line if line.endswith((".", "!")) else f"{line}."
