"""The house: data and imports go one way. Walks every import, those inside functions too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "bids_app"
FOLDERS = {p.name for p in PACKAGE.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
# The nouns are below the stages; the console's commands know them, as the files at the top do.
STAGES = FOLDERS - {"commands", "records"}
# What any stage may use; everything else at the top knows the stages.
GROUND = {"records", "files", "documents", "errors", "options", "networks", "__version__"}
# Libraries with one door each.
DOORS = {
    "bids": {"dataset.discover"},
    "torch": {"networks", "segmentation", "training", "worker"},
    "nnunetv2": {"networks", "segmentation", "training"},
    "SimpleITK": {"imaging"},
    "threadpoolctl": {"execution.parallel"},
    "pandas": {"cohort"},
    "templateflow": {"dataset.templates"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they go"
            module = node.module or ""
            if module == "bids_app":
                yield from (f"bids_app.{alias.name}" for alias in node.names)
            else:
                yield module


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


@pytest.mark.parametrize("path", FILES, ids=_dotted)
def test_stages_never_import_one_another(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0]
    if own not in STAGES:
        pytest.skip("knows the stages")
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "bids_app" and len(parts) > 1:
            assert parts[1] == own or parts[1] in GROUND, f"{_dotted(path)} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=_dotted)
def test_each_library_has_its_door(path: Path) -> None:
    own = _dotted(path)
    for name in _imports(path):
        doors = DOORS.get(name.split(".")[0])
        if doors is not None:
            assert any(own == d or own.startswith(f"{d}.") for d in doors), f"{own} imports {name}"


def test_the_nouns_import_nothing_of_ours_and_touch_no_disk() -> None:
    for path in (*(PACKAGE / "records").glob("*.py"), PACKAGE / "errors.py"):
        ours = [n for n in _imports(path) if n.startswith("bids_app")]
        assert all(name.startswith("bids_app.records") for name in ours)


def test_help_loads_neither_torch_nor_the_tables() -> None:
    code = (
        "import sys; from bids_app.cli import build_parser; build_parser().format_help(); "
        "print(sorted({'torch', 'nnunetv2', 'bids', 'pandas', 'SimpleITK'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_pipeline_fits_on_a_screen_or_two() -> None:
    longest = max(
        (node.end_lineno or 0) - node.lineno
        for node in ast.walk(ast.parse((PACKAGE / "pipeline.py").read_text()))
        if isinstance(node, ast.FunctionDef)
    )
    assert longest <= 45
