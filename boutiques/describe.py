#!/usr/bin/env python
"""Write the Boutiques descriptors from the program's own parser: ``python boutiques/describe.py``.

Options, choices and help come from argparse, so the descriptors cannot say anything else than the
program does; ``tests/test_boutiques.py`` compares.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bids_app import __version__
from bids_app.cli import build_parser

FOLDER = Path(__file__).resolve().parent
URL = "https://github.com/cordlesion/cordlesion"
IMAGE = f"cordlesion/cordlesion:{__version__}"
ERROR_CODES = {
    1: "At least one session failed; the others are finished and written.",
    2: "The command line cannot be used, or a label is unknown.",
    65: "Nothing in the selection can be processed.",
    69: "A model or a template is missing.",
    70: "A fault of CordLesion.",
    130: "Stopped by SIGINT.",
    143: "Stopped by SIGTERM.",
}
# Arguments that are files for the platform to bring; all other paths are made by the program.
_BROUGHT = ("BIDS_DIR", "CASE_DIR", "FILE")


def documents() -> dict[str, dict[str, Any]]:
    """Give the content of each descriptor by its file name."""
    return {"cordlesion.json": bids_app(), "cordlesion-challenge.json": challenge()}


def bids_app() -> dict[str, Any]:
    """Describe ``cordlesion run`` as a BIDS App, in the shape that ``bosh validate -b`` wants."""
    parser = _parser("run")
    first = ("bids_dir", "out_dir", "level", "participant_labels", "session_labels")
    known = {action.dest: action for action in _actions(parser)}
    names = {
        "bids_dir": "BIDS_DIR",
        "level": "ANALYSIS_LEVEL",
        "participant_labels": "PARTICIPANT_LABEL",
        "session_labels": "SESSION_LABEL",
    }
    inputs = [_input(known[dest], key) for dest, key in names.items()]
    out = _input(known["out_dir"], "OUTPUT_DIR") | {"optional": True}
    fresh = out | {"id": "output_dir_name", "name": "Output directory name", "type": "String"}
    # The validator wants this twin of the other one, but of two inputs with one key bosh 0.5.33
    # fills in just the first: the second is for platforms that do better.
    there = out | {
        "id": "participant_level_analysis_dir",
        "name": "Output directory with participant results",
        "type": "File",
        "description": "the output directory of the participant level, for the group level; bosh "
        "0.5.33 does not pass it on: give output_dir_name at both levels",
    }
    others = [_input(action) for dest, action in known.items() if dest not in first]
    keys = " ".join(one["value-key"] for one in others)
    return {
        **_head("CordLesion", parser),
        "command-line": "mkdir -p [OUTPUT_DIR]; cordlesion run [BIDS_DIR] [OUTPUT_DIR] "
        f"[ANALYSIS_LEVEL] [PARTICIPANT_LABEL] [SESSION_LABEL] {keys}",
        "inputs": [inputs[0], fresh, there, *inputs[1:], *others],
        "groups": [
            {
                "id": "output_directory",
                "name": "Output directory",
                "description": "A name for a new one, or one that has participant results.",
                "members": [fresh["id"], there["id"]],
                "mutually-exclusive": True,
                "one-is-required": True,
            }
        ],
        "output-files": [
            {
                "id": "output_dir",
                "name": "Output directory",
                "description": "BIDS derivatives, reports and tables.",
                "path-template": "[OUTPUT_DIR]",
                "optional": False,
            }
        ],
    }


def challenge() -> dict[str, Any]:
    """Describe ``cordlesion challenge`` as that challenge's platform runs it: zip in, tgz out."""
    parser = _parser("challenge")
    known = {action.dest: action for action in _actions(parser)}
    archive = _input(known["case_dir"], "INPUT_ARCHIVE") | {
        "id": "input_archive",
        "name": "Input archive",
        "description": f"zip of one case: {known['case_dir'].help}",
    }
    others = [_input(known[dest]) for dest in ("model", "preset", "device", "n_cpus")]
    keys = " ".join(one["value-key"] for one in others)
    return {
        **_head("CordLesion for the MS-Multi-Spine challenge", parser),
        "command-line": f"cordlesion challenge [INPUT_ARCHIVE] OUTDIR {keys} && "
        "tar -czf [OUTPUT_FILE] OUTDIR",
        "inputs": [archive, *others],
        "output-files": [
            {
                "id": "outarchive",
                "name": "Output archive",
                "description": "OUTDIR with instance_segmentation.nii.gz and "
                "lesion_probabilities.csv.",
                "path-template": "[INPUT_ARCHIVE]_output.tgz",
                "path-template-stripped-extensions": [".zip"],
                "value-key": "[OUTPUT_FILE]",
            }
        ],
    }


def _head(name: str, parser: argparse.ArgumentParser) -> dict[str, Any]:
    return {
        "name": name,
        "tool-version": __version__,
        "schema-version": "0.5",
        "author": "CordLesion contributors",
        "url": URL,
        "description": f"{parser.description} For research use.",
        "container-image": {"type": "docker", "image": IMAGE, "entrypoint": True},
        "tags": {"domain": ["neuroinformatics", "mri", "bids", "spinal-cord"]},
        # docs/speed.md: 12 s and 1.4 GB a session on two cores.
        "suggested-resources": {"cpu-cores": 2, "ram": 4, "walltime-estimate": 60},
        "error-codes": [{"code": code, "description": ERROR_CODES[code]} for code in ERROR_CODES],
    }


def _parser(command: str) -> argparse.ArgumentParser:
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            parser: argparse.ArgumentParser = action.choices[command]
            return parser
    raise LookupError(command)


def _actions(parser: argparse.ArgumentParser) -> Iterable[argparse.Action]:
    """Give what a user may choose: not help and version, which do nothing else."""
    left_out = (argparse._HelpAction, argparse._VersionAction)
    return [
        action
        for action in parser._actions
        if not isinstance(action, left_out) and action.help != argparse.SUPPRESS
    ]


def _input(action: argparse.Action, key: str | None = None) -> dict[str, Any]:
    """Turn one argument into a Boutiques input."""
    flag = next((one for one in action.option_strings if one.startswith("--")), None)
    name = (flag or action.dest).strip("-").replace("_", "-")
    about: dict[str, Any] = {
        "id": (key or name).lower().replace("-", "_"),
        "name": _title(key or name),
        "type": _kind(action),
        "description": _help(action),
        "value-key": f"[{key or name.upper().replace('-', '_')}]",
        "optional": flag is not None,
    }
    if flag:
        about["command-line-flag"] = flag
    if action.choices:
        about["value-choices"] = list(action.choices)
    if action.nargs == "+":
        about |= {"list": True, "min-list-entries": 1}
    if action.type is int:
        about |= {"integer": True, "minimum": 1}
    return about


def _title(name: str) -> str:
    return re.sub("[-_]", " ", name).capitalize().replace("Bids", "BIDS").replace("cpus", "CPUs")


def _kind(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "Flag"
    if action.type is int:
        return "Number"
    return "File" if action.type is Path and action.metavar in _BROUGHT else "String"


def _help(action: argparse.Action) -> str:
    return re.sub(r"%\((\w+)\)s", lambda found: str(getattr(action, found[1])), action.help or "")


def main() -> None:
    """Write the files."""
    for name, document in documents().items():
        (FOLDER / name).write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
