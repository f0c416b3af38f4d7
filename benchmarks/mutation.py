"""How many deliberate faults in `lesions/` and `evaluation/` the tests find, by cosmic-ray.

    pip install cosmic-ray==8.7.0
    python benchmarks/mutation.py [--mutants 200 --seed 1 --only lesions]

All mutations of the two folders (annotations left alone, nothing runs them) are listed, a sample of
them is drawn, and each is tried in a copy of the source: first the tests of its own module, then
those of the whole folder. What survives is printed as a diff, to be explained or mended by a test.
"""

from __future__ import annotations

import argparse
import ast
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Tests that look at a folder, in the order in which they are tried.
TESTS = {
    "lesions": (
        "refine", "measure", "measure_shape", "measure_midsagittal", "track", "uncertainty",
        "votes", "levels", "discs", "vertebrae", "preset", "columns", "atlas",
    ),
    "evaluation": (
        "metrics", "evaluation_official", "evaluation_masks", "calibration", "repeatability",
        "tune", "compare", "evaluate",
    ),
}  # fmt: skip
# Modules whose tests have another name.
_OWN = {
    "cord": "refine", "fusion": "votes", "cord_coordinates": "atlas", "course": "levels",
    "frame": "measure", "links": "track", "place": "measure", "shape": "measure_shape",
    "midsagittal": "measure_midsagittal", "anima": "evaluation_masks",
    "scan": "evaluate", "surface": "evaluation_masks", "froc": "evaluation_official",
    "matching": "evaluation_official", "bootstrap": "evaluation_official", "search": "tune",
    "fitting": "calibration", "summary": "evaluate",
}  # fmt: skip
# Taking away `@dataclass` or `@cached_property` is told by the import already.
_DULL = ("core/RemoveDecorator",)
_LEFT_OUT = ("columns", "level_columns", "region_columns", "track_columns", "plots", "__init__")


def main() -> None:
    """Draw, try, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=tuple(TESTS))
    arguments = parser.parse_args()
    chosen = [arguments.only] if arguments.only else list(TESTS)
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place, "tree")
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("bids_app", "tests", "boutiques"):
            shutil.copytree(ROOT / name, tree / name, ignore=ignored)
        for name in ("pyproject.toml", "setup.cfg", "run.py", "README.md"):
            shutil.copy(ROOT / name, tree)
        for folder in chosen:
            _try_folder(tree, folder, arguments.mutants // len(chosen), arguments.seed)


def _try_folder(tree: Path, folder: str, count: int, seed: int) -> None:
    database = tree.parent / f"{folder}.sqlite"
    config = tree.parent / f"{folder}.toml"
    modules = [
        path
        for path in sorted((tree / "bids_app" / folder).glob("*.py"))
        if path.stem not in _LEFT_OUT
    ]
    paths = ", ".join(f'"{path}"' for path in modules)
    config.write_text(
        f"[cosmic-ray]\nmodule-path = [{paths}]\ntimeout = 240.0\nexcluded-modules = []\n"
        f'test-command = "true"\n[cosmic-ray.distributor]\nname = "local"\n'
    )
    _cosmic_ray("init", config, database)
    unharmed = [sys.executable, "-m", "pytest", "-x", "-q", *_tests(tree, folder)]
    if subprocess.run(unharmed, cwd=tree, stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(f"the tests of {folder} fail without a mutation")
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "select job_id, module_path, operator_name, start_pos_row, start_pos_col from "
            "mutation_specs order by module_path, start_pos_row, start_pos_col, operator_name, "
            "occurrence"
        ).fetchall()
    dull = {module: _annotations(Path(module)) for module in {row[1] for row in rows}}
    specs = [
        (job, module)
        for job, module, operator, row, column in rows
        if operator not in _DULL
        and not any(start <= (row, column) < stop for start, stop in dull[module])
    ]
    drawn = random.Random(seed).sample(specs, min(count, len(specs)))
    print(f"{folder}: {len(drawn)} of {len(specs)} mutations in {len(modules)} modules", flush=True)
    results: Counter[str] = Counter()
    per_module: dict[str, Counter[str]] = {}
    for job, module in sorted(drawn, key=lambda spec: str(spec[1])):
        outcome, diff = _try_one(tree, config, database, job, folder, Path(module))
        results[outcome] += 1
        print(f"{results.total()}\t{Path(module).stem}\t{outcome}", flush=True)
        per_module.setdefault(Path(module).stem, Counter())[outcome] += 1
        if outcome == "survived":
            print(diff, flush=True)
    for module, counts in per_module.items():
        print(f"{module}\t{counts['killed']} of {counts.total()}")
    share = results["killed"] / max(1, results.total())
    print(f"{folder}: {results['killed']} of {results.total()} found ({share:.0%})", flush=True)


def _annotations(module: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Give where a module's annotations begin and end, as (line, column)."""
    spans = []
    for node in ast.walk(ast.parse(module.read_text())):
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if part is not None:
                start, stop = (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)
                spans.append((start, stop))
    return spans


def _tests(tree: Path, folder: str, own: str | None = None) -> list[str]:
    """Give the files of a folder's tests, a module's own first."""
    names = dict.fromkeys([*([own] if own else []), *TESTS[folder]])
    return [str(p) for name in names if (p := tree / "tests" / f"test_{name}.py").exists()]


def _try_one(
    tree: Path, config: Path, database: Path, job: str, folder: str, module: Path
) -> tuple[str, str]:
    """Run one mutation alone, against its own module's tests and then the folder's."""
    quoted = " ".join(_tests(tree, folder, _OWN.get(module.stem, module.stem)))
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {quoted} {module}"
    text = config.read_text()
    single = config.with_name("single.toml")
    single.write_text(text.replace('test-command = "true"', f'test-command = "{command}"'))
    one = database.with_name("single.sqlite")
    shutil.copy(database, one)
    with closing(sqlite3.connect(one)) as connection:
        connection.execute("delete from mutation_specs where job_id != ?", (job,))
        connection.execute("delete from work_items where job_id != ?", (job,))
        connection.commit()
    _cosmic_ray("exec", single, one, cwd=tree)
    with closing(sqlite3.connect(one)) as connection:
        outcome, diff = connection.execute("select test_outcome, diff from work_results").fetchone()
    return str(outcome).lower(), str(diff)


def _cosmic_ray(*arguments: object, cwd: Path | None = None) -> None:
    program = str(Path(sys.executable).parent / "cosmic-ray")
    subprocess.run([program, *map(str, arguments)], check=True, cwd=cwd)


if __name__ == "__main__":
    main()
