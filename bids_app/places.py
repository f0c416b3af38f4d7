"""Where a run may read and where it may write: the raw dataset is never written to."""

from __future__ import annotations

import os
from pathlib import Path

from bids_app.documents import parse_json
from bids_app.errors import UsageError


def absolute(path: Path) -> Path:
    """Make `path` absolute, ``~`` and ``..`` included; links stay as the user wrote them."""
    try:
        return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - absolute() keeps '..'
    except RuntimeError as error:
        raise UsageError(f"{path} names a home directory that does not exist.") from error


def check_dataset(bids_dir: Path, skip_validation: bool) -> None:
    """Refuse what is no folder, or no BIDS dataset unless `skip_validation` is set.

    Raises
    ------
    UsageError
        Also when ``dataset_description.json`` is there but is no JSON object.
    """
    if not bids_dir.exists():
        raise UsageError(f"BIDS_DIR {bids_dir} does not exist.")
    if not bids_dir.is_dir():
        raise UsageError(f"BIDS_DIR {bids_dir} is not a directory.")
    if skip_validation:
        return
    description = bids_dir / "dataset_description.json"
    if not description.is_file():
        raise UsageError(
            f"BIDS_DIR {bids_dir} has no dataset_description.json: give the top of a BIDS "
            "dataset, or --skip-bids-validation."
        )
    try:
        valid = isinstance(parse_json(description.read_bytes().decode("utf-8-sig")), dict)
    except (OSError, ValueError):
        valid = False
    if not valid:
        raise UsageError(
            f"{description} cannot be read as a JSON object in UTF-8: repair it, or give "
            "--skip-bids-validation."
        )


def check_out_dir(out_dir: Path, bids_dir: Path) -> Path:
    """Refuse places where derivatives would end up among the raw data, or around them.

    Parameters
    ----------
    out_dir, bids_dir : Path
        Both absolute.

    Returns
    -------
    Path
        `out_dir` as it came in: outside `bids_dir`, or below its ``derivatives`` folder.

    Raises
    ------
    UsageError
    """
    if out_dir.exists() and not out_dir.is_dir():
        raise UsageError(f"OUT_DIR {out_dir} is not a directory.")
    # As written and with links followed: a link may lead out of the dataset or into it.
    for out, bids in ((out_dir, bids_dir), (out_dir.resolve(), bids_dir.resolve())):
        if out == bids:
            problem = "is BIDS_DIR itself"
        elif bids.is_relative_to(out):
            problem = f"contains BIDS_DIR {bids_dir}"
        elif out.is_relative_to(bids) and not _below_derivatives(out, bids):
            problem = f"lies among the raw data of {bids_dir}"
        else:
            continue
        raise UsageError(
            f"OUT_DIR {out_dir} {problem}: choose a folder outside, or one such as "
            f"{bids_dir / 'derivatives' / 'cordlesion'}."
        )
    return out_dir


def _below_derivatives(path: Path, bids_dir: Path) -> bool:
    parts = path.relative_to(bids_dir).parts
    return len(parts) > 1 and parts[0] == "derivatives"


def check_outside(path: Path | None, option: str, bids_dir: Path) -> Path | None:
    """Make the folder of `option` absolute and refuse one inside `bids_dir`; None stays None."""
    if path is None:
        return None
    path = absolute(path)
    if path.exists() and not path.is_dir():
        raise UsageError(f"{option} {path} is not a directory.")
    if path.is_relative_to(bids_dir) or path.resolve().is_relative_to(bids_dir.resolve()):
        raise UsageError(f"{option} {path} lies inside BIDS_DIR: choose a folder outside.")
    return path
