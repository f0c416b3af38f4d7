"""What the documentation says works: its commands, its links, and the tutorial as a whole."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

from bids_app.cli import build_parser

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_LINK = re.compile(r"\]\(([^)#\s]+)?(?:#([^)\s]+))?\)")
# Shown, not run: the program's own parser knows nothing of these.
_PROGRAMS = {"cordlesion": [], "run.py": ["run"]}


def _code(page: Path) -> Iterator[str]:
    """Give the lines of indented and fenced code, continued ones joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Give each command of ours as page and arguments."""
    for page in PAGES:
        for line in _code(page):
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                continue
            if words[:1] in (["python"], ["python3"]):
                words = words[1:]
            program = Path(words[0]).name if words else ""
            if program in _PROGRAMS and not any(set(word) & set("…[]{}|<>") for word in words):
                yield page.name, [*_PROGRAMS[program], *words[1:]]


COMMANDS = list(_commands())


def test_there_are_commands_on_many_pages() -> None:
    assert len(COMMANDS) >= 25
    assert len({page for page, _ in COMMANDS}) >= 7


@pytest.mark.parametrize(
    ("page", "arguments"), COMMANDS, ids=[f"{p}: {shlex.join(a)[:60]}" for p, a in COMMANDS]
)
def test_every_command_is_understood(page: str, arguments: list[str]) -> None:
    try:
        build_parser().parse_args(arguments)
    except SystemExit as end:
        assert end.code == 0, f"{page}: {shlex.join(arguments)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        to = (page.parent / target).resolve() if target else page
        assert to.exists(), f"{page.name} links to {target}"
        if anchor and to.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", to.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {_slug(title) for title in titles}, f"{page.name}: #{anchor}"


def _slug(title: str) -> str:
    plain = re.sub(r"[^\w\s-]", "", title.replace("`", "").lower()).strip()
    return re.sub(r"[\s]+", "-", plain)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_works_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    lines = [
        line for line in _code(ROOT / "docs" / "tutorial.md") if line.startswith("cordlesion ")
    ]
    assert len(lines) >= 6
    for line in lines:
        command = [sys.executable, "-m", "bids_app.cli", *shlex.split(line)[1:]]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env=_environment()
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert (tmp_path / "tutorial/out/group_report.html").exists()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_notebook_was_executed_and_shows_its_tables() -> None:
    notebook = json.loads((ROOT / "docs" / "general_specific.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert all(cell["outputs"] for cell in cells)
    assert {output["output_type"] for output in outputs} <= {"execute_result", "display_data"}
    shown = "".join("".join(output["data"]["text/plain"]) for output in outputs)
    table = (ROOT / "docs" / "general_specific" / "dice_lesion.tsv").read_text().splitlines()[1:]
    for line in table:
        for value in line.split("\t")[1:]:
            assert f"{float(value):.3f}" in shown
