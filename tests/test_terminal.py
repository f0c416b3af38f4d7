"""The terminal: live progress in a real pseudo-terminal, one line a session in a pipe."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from bids_app.errors import CordLesionError
from bids_app.records import Outcome
from bids_app.terminal.progress import RunProgress, TimeLeft, duration, is_live
from bids_app.terminal.stages import LOGGER, entering, starting
from bids_app.terminal.tables import attention_table, totals_table

# A small program that does what `run_participant` does with its progress.
PROGRAM = """
import logging, sys, time
from bids_app.cli import _log_to_terminal
from bids_app.records import Outcome
from bids_app.terminal.progress import RunProgress
from bids_app.terminal.stages import entering, starting
_log_to_terminal(int(sys.argv[1]))
if not int(sys.argv[1]):
    logging.getLogger("bids_app").setLevel(logging.DEBUG)
with RunProgress(3) as progress:
    for number in range(3):
        starting(f"sub-{number}")
        for stage in ("align", "segment"):
            entering(stage)
            time.sleep(0.3)
        logging.getLogger("bids_app").warning("watch [this]")
        outcome = Outcome(f"sub-{number}", "done", 1, 0.6)
        progress.ended(outcome)
        progress.line(f"sub-{number}: done [1/3]")
        if "crash" in sys.argv:
            raise KeyboardInterrupt
"""
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


def in_terminal(command: list[str], **environ: str) -> tuple[int, str]:
    """Run a command with a pseudo-terminal for all its streams; give its code and all it wrote."""
    main, other = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", **environ}
    process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other, env=env)
    os.close(other)
    pieces = []
    until = time.monotonic() + 300
    while time.monotonic() < until:
        ready, _, _ = select.select([main], [], [], 1.0)
        if not ready:
            continue
        try:
            piece = os.read(main, 65536)
        except OSError:  # the other side is closed: Linux' way of saying the end
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(main)
    return process.wait(timeout=60), b"".join(pieces).decode()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_terminal_sees_session_stage_and_time_left() -> None:
    code, text = in_terminal([sys.executable, "-c", PROGRAM, "0"])
    assert code == 0, text
    shown = plain(text)
    assert "sub-0 · align" in shown
    assert "sub-1 · segment" in shown
    assert "1/3" in shown
    assert re.search(r"\d+ s left", shown)
    # Lines of sessions and warnings stand by themselves, above the progress.
    lines = [line.strip() for line in re.split(r"[\r\n]+", shown)]
    assert [line for line in lines if line.endswith("[1/3]")] == [
        f"sub-{n}: done [1/3]" for n in range(3)
    ]
    assert lines.count("WARNING: watch [this]") == 3
    assert HIDE_CURSOR in text
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)


def test_the_cursor_comes_back_when_a_run_is_stopped() -> None:
    code, text = in_terminal([sys.executable, "-c", PROGRAM, "0", "crash"])
    assert code != 0
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)


@pytest.mark.parametrize("environ", [{}, {"FORCE_COLOR": "1", "TERM": "xterm"}])
def test_a_pipe_sees_lines_only(environ: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "0"],
        capture_output=True, text=True, env={**os.environ, **environ}, timeout=300,
    )  # fmt: skip
    assert done.stdout == "".join(f"sub-{n}: done [1/3]\n" for n in range(3))
    assert done.stderr == "WARNING: watch [this]\n" * 3


def test_a_dumb_terminal_sees_lines_only() -> None:
    code, text = in_terminal([sys.executable, "-c", PROGRAM, "0"], TERM="dumb")
    assert code == 0
    assert HIDE_CURSOR not in text
    assert "left" not in text


def test_verbose_says_the_stages() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "1"], capture_output=True, text=True, timeout=300
    )
    first = done.stderr.splitlines()[:3]
    assert first == ["INFO: sub-0 starts", "INFO:   align", "INFO:   segment"]


def test_a_stream_that_is_no_terminal_is_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert is_live(Terminal())
    assert not is_live(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not is_live(Terminal())


def clock_of(*seconds: float) -> Callable[[], float]:
    times = iter(seconds)
    return lambda: next(times)


def test_time_left_is_that_of_sessions_that_were_done() -> None:
    left = TimeLeft(5, clock_of(100.0, 110.0))
    assert left.text() == ""
    left.ended(Outcome("sub-1", "up-to-date", seconds=0.1))
    assert left.seconds() is None
    left.ended(Outcome("sub-2", "done", seconds=60.0))
    assert left.seconds() == 180.0
    left.started()
    assert left.seconds() == 170.0
    left.ended(Outcome("sub-3", "failed", seconds=1.0))
    assert left.text() == "2 min left"


def test_time_left_with_several_at_once() -> None:
    left = TimeLeft(5, clock_of(100.0, 160.0, 170.0, 200.0))
    left.at_once(2)
    left.ended(Outcome("sub-1", "done", seconds=60.0))
    assert left.seconds() == 4 * 30 - 10
    left.started()  # the others are done one after the other
    left.ended(Outcome("sub-2", "done", seconds=60.0))
    assert left.seconds() == 3 * 60


def test_only_sessions_of_this_process_are_shown() -> None:
    progress = RunProgress(3, io.StringIO())
    progress.at_once(2)
    with progress:
        late = logging.makeLogRecord({"unit": "sub-1", "process": 0, "levelno": logging.INFO})
        logging.getLogger(LOGGER).handle(late)
        assert progress.shown == "2 sessions at work"
        for number in (1, 2):
            progress.ended(Outcome(f"sub-{number}", "done"))
        assert progress.shown == "1 session at work"
        logging.getLogger(LOGGER).setLevel(logging.INFO)
        starting("sub-3")
        logging.getLogger(LOGGER).setLevel(logging.NOTSET)
        assert progress.shown == "sub-3"
        progress.ended(Outcome("sub-3", "done"))
        assert progress.shown == ""


def test_no_session_left_is_no_time_left() -> None:
    left = TimeLeft(1, clock_of())
    left.ended(Outcome("sub-1", "done", seconds=60.0))
    assert left.text() == ""
    assert duration(7199.9) == "2 h 00 min"


def test_listening_ends_with_the_run() -> None:
    stream = io.StringIO()
    before = list(logging.getLogger(LOGGER).handlers)
    with RunProgress(1, stream):
        starting("sub-1")
        entering("align")
    assert logging.getLogger(LOGGER).handlers == before
    assert stream.getvalue() == ""


def test_the_tables_of_a_run() -> None:
    outcomes = [
        Outcome("sub-1", "done", 2, 30.0),
        Outcome("sub-2", "done", 0, 10.0, warnings=("registration rejected",)),
        Outcome("sub-3", "failed", None, 1.0, "NoCordFound: no [cord]."),
        Outcome("sub-4", "up-to-date"),
    ]
    cells = [list(column.cells) for column in totals_table(outcomes).columns]
    assert list(zip(*cells, strict=True)) == [
        ("done", "2", "2", "20.0"),
        ("up-to-date", "1", "", ""),
        ("failed", "1", "", ""),
    ]
    table = attention_table(outcomes)
    assert table is not None
    stream = io.StringIO()
    Console(file=stream, width=100).print(table)
    assert "NoCordFound: no [cord]." in stream.getvalue()
    assert stream.getvalue().index("sub-3") < stream.getvalue().index("sub-2")
    assert attention_table([outcomes[0]]) is None


def test_the_real_command_in_a_terminal(tmp_path: Path) -> None:
    from support import ROOT

    bids = tmp_path / "bids"
    for subject in ("01", "02"):
        (bids / f"sub-{subject}/anat").mkdir(parents=True)
        (bids / f"sub-{subject}/anat/sub-{subject}_T2w.nii.gz").write_bytes(b"not an image")
    (bids / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    command = [sys.executable, str(ROOT / "run.py"), str(bids), str(tmp_path / "out")]
    code, text = in_terminal([*command, "participant"])
    shown = plain(text)
    assert code == 1, shown
    assert "0/2" in shown
    assert "To look at" in shown
    assert "UnreadableImage" in shown
    assert shown.rstrip().splitlines()[-1].startswith("Participant: 0 done")
    (record,) = (tmp_path / "out/logs").glob("run-*_summary.json")
    assert [unit["status"] for unit in json.loads(record.read_text())["units"]] == ["failed"] * 2


def test_a_reader_that_has_seen_enough_is_no_fault() -> None:
    command = f"{sys.executable} -m bids_app.cli models info box | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_pipe_that_is_not_the_readers_is_a_fault() -> None:
    program = (
        "import sys\n"
        "from bids_app import cli\n"
        "def fail(_): raise BrokenPipeError('of a child')\n"
        "cli._models_list = fail\n"
        "sys.exit(cli.main(['models', 'list']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == CordLesionError.exit_code, done.stderr
    assert "BrokenPipeError: of a child" in done.stderr
