"""Whether results seem to need nothing, by a look at the disk: for thousands of sessions."""

from __future__ import annotations

from pathlib import Path

from bids_app.dataset.derivatives import is_up_to_date, sidecar_path
from bids_app.documents import parse_json
from bids_app.records import Job


def looks_up_to_date(job: Job, settings_hash: str) -> bool:
    """Tell, without reading an image, whether a session's results seem to need nothing.

    They must be sealed with these settings, have the sizes that the seal says, and be newer than
    the last change of any input, a change of its name or rights included. So an older result is
    never taken for a good one, and at worst `is_up_to_date` is asked once more than needed.
    """
    path = sidecar_path(job.outputs["lesion_mask"])
    inputs = [file.path for file in (job.reference, job.second, job.cord, job.discs) if file]
    try:
        seals = parse_json(path.read_bytes())
        sealed = path.stat().st_mtime_ns
        return (
            seals["SettingsHash"] == settings_hash
            and is_up_to_date(job, seals["InputsHash"])
            and all(_changed(file) < sealed for file in inputs)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _changed(path: Path) -> int:
    """Give when a file, or the link to it, last changed in any way."""
    stats = (path.stat(), path.lstat())
    return max(time for stat in stats for time in (stat.st_mtime_ns, stat.st_ctime_ns))
