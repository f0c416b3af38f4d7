"""Compare the sessions of a subject: align them, track the lesions, write the subject's table.

It works on what is there: results of this run, of earlier runs, and of other jobs. Jobs that
compare the same subject at once do no harm: both write the same, and each looks again after
writing, so that the last word is always about all the sessions that are done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bids_app import __version__
from bids_app.dataset.derivatives import bids_uri
from bids_app.dataset.entities import build_name
from bids_app.dataset.finished import Finished, finished_sessions, unfinished_sessions
from bids_app.dataset.hashes import file_sha256
from bids_app.dataset.seals import signed
from bids_app.documents import parse_json
from bids_app.execution.local import guarded
from bids_app.files import plain, write_json, write_tsv
from bids_app.imaging.grids import to_canonical
from bids_app.imaging.itk import write_transform
from bids_app.imaging.registration import register
from bids_app.imaging.volumes import read_label_map, read_volume
from bids_app.lesions.carry import course_gap_mm
from bids_app.lesions.preset import Preset
from bids_app.lesions.track import track
from bids_app.lesions.track_columns import track_column_names, track_dictionary, track_rows
from bids_app.options import Options
from bids_app.records import Alignment, Outcome, TrackedLesion, Visit, Volume

# Further apart than this, the cords of two sessions were not brought together.
_MOST_GAP_MM = 5.0
_MOST_TRIES = 5
_ITSELF = Alignment(np.eye(4), True, float("nan"), float("nan"), "none: the first session")


@dataclass(frozen=True)
class _Aligned:
    """A finished session in the first one's space; `gap_mm` is between the two centrelines."""

    finished: Finished
    visit: Visit
    alignment: Alignment
    gap_mm: float


def compare_sessions(
    options: Options, preset: Preset, subjects: Iterable[str], failed: Iterable[str] = ()
) -> Iterator[Outcome]:
    """Track the lesions of each subject that has at least two sessions with results.

    Parameters
    ----------
    options : Options
    preset : Preset
    subjects : iterable of str
        Labels, without ``sub-``.
    failed : iterable of str
        Identifiers of sessions that failed just now: their older results are left out.

    Yields
    ------
    Outcome
        Of the unit ``sub-<subject>_lesions``; nothing for the other subjects. One subject's
        failure is a failed outcome.
    """
    left_out = frozenset(failed)
    for subject in subjects:
        if len(_sessions(options, subject, left_out)) > 1:
            work = partial(_compare, options, preset, subject, left_out)
            yield guarded(f"sub-{subject}_lesions", work)


def _sessions(options: Options, subject: str, failed: frozenset[str]) -> tuple[Finished, ...]:
    found = finished_sessions(options.out_dir, options.bids_dir, subject)
    return tuple(one for one in found if one.session.identifier not in failed)


def _compare(options: Options, preset: Preset, subject: str, failed: frozenset[str]) -> Outcome:
    """Write one subject's table, again while sessions come in, unless it is up to date."""
    identifier = f"sub-{subject}_lesions"
    sessions = _sessions(options, subject, failed)
    if not options.force and _is_up_to_date(options.out_dir, subject, sessions, preset):
        return Outcome(identifier, "up-to-date")
    warnings: tuple[str, ...] = ()
    for _ in range(_MOST_TRIES):
        warnings = _write(options, preset, subject, sessions)
        sessions = _sessions(options, subject, failed)
        if _is_up_to_date(options.out_dir, subject, sessions, preset):
            break
    return Outcome(identifier, "done", warnings=warnings)


def _write(
    options: Options, preset: Preset, subject: str, sessions: Sequence[Finished]
) -> tuple[str, ...]:
    """Align, track, write: transforms, the table, and last the JSON that vouches for them."""
    aligned = _align(options.bids_dir, sessions, options.n_cpus)
    usable = [one for one in aligned if one.gap_mm <= _MOST_GAP_MM]
    lost = [one for one in aligned if one.gap_mm > _MOST_GAP_MM]
    lesions = track([one.visit for one in usable], preset)
    written = [_transform_path(one.finished, sessions[0]) for one in usable[1:]]
    for path, one in zip(written, usable[1:], strict=True):
        write_transform(path, one.visit.from_first)
    table = _table_path(options.out_dir, subject)
    names = [one.finished.name for one in usable]
    write_tsv(table, track_column_names(), track_rows(lesions, names))
    content = _describe(options, preset, subject, usable, lost, lesions)
    hashes = {str(path.relative_to(table.parent)): file_sha256(path) for path in (table, *written)}
    seal = {"InputsHash": _inputs_hash(sessions, preset), "OutputHashes": hashes}
    write_json(table.with_suffix(".json"), signed({**track_dictionary(), **content, **seal}))
    return tuple(
        f"{one.finished.name} is left out: its cord could not be aligned with that of "
        f"{sessions[0].name}"
        for one in lost
    )


def _align(bids_dir: Path, sessions: Sequence[Finished], threads: int) -> list[_Aligned]:
    """Bring each session to the first one by their reference scans and cords."""
    aligned: list[_Aligned] = []
    first: tuple[Volume, Volume] | None = None
    for session in sessions:
        image = to_canonical(read_volume(bids_dir / session.reference))
        cord = to_canonical(read_label_map(session.cord_mask))
        instances = to_canonical(read_label_map(session.instances))
        alignment = _ITSELF
        if first is None:
            first = image, cord
        else:
            alignment = register(image, first[0], first[1].data, cord.data, threads=threads)
        matrix = np.asarray(alignment.matrix, dtype=np.float64)
        visit = Visit(instances.data, cord.data > 0, instances.affine, matrix)
        gap = course_gap_mm(aligned[0].visit, visit) if aligned else 0.0
        aligned.append(_Aligned(session, visit, alignment, gap))
    return aligned


def _table_path(out_dir: Path, subject: str) -> Path:
    return out_dir / f"sub-{subject}" / f"sub-{subject}_lesions.tsv"


def _transform_path(session: Finished, first: Finished) -> Path:
    """Name the transform that brings a session's reference to the first session's."""
    contrast = session.reference.rsplit("_", 1)[-1].split(".", 1)[0]
    route = {"from": contrast, "to": f"ses{first.session.session or ''}", "mode": "image"}
    return session.cord_mask.with_name(build_name({**session.entities, **route}, "xfm", ".txt"))


def _inputs_hash(sessions: Sequence[Finished], preset: Preset) -> str:
    """Hash all that decides the comparison: the sessions' own hashes, their order, settings."""
    content = {
        "version": __version__,
        "settings": preset.tracking_settings,
        "sessions": [
            [one.name, one.inputs_hash, one.output_hashes.get(one.instances.name),
             one.output_hashes.get(one.cord_mask.name)]
            for one in sessions
        ],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(plain(content), sort_keys=True).encode()).hexdigest()


def _is_up_to_date(
    out_dir: Path, subject: str, sessions: Sequence[Finished], preset: Preset
) -> bool:
    """Tell whether the table is there, is the one its JSON tells of, and about these sessions."""
    table = _table_path(out_dir, subject)
    try:
        content = parse_json(table.with_suffix(".json").read_bytes())
        written = all(
            (out_dir / entry["Transform"]).exists()
            for entry in content["Sessions"]
            if entry["Transform"]
        )
        digest = hashlib.sha256(table.read_bytes()).hexdigest()
        return bool(
            written
            and content["InputsHash"] == _inputs_hash(sessions, preset)
            and content["OutputHashes"][table.name] == digest
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _describe(
    options: Options,
    preset: Preset,
    subject: str,
    usable: Sequence[_Aligned],
    lost: Sequence[_Aligned],
    lesions: Sequence[TrackedLesion],
) -> dict[str, Any]:
    """Say what was compared, how the sessions were aligned, and which are not in the table."""
    every = tuple(one.finished for one in (*usable, *lost))
    missing = unfinished_sessions(options.bids_dir, every, subject)
    left_out = [
        (one.finished.name, "its cord could not be aligned with the first's") for one in lost
    ]
    left_out += [(name, "it has no results") for name in missing]
    inputs = [path for one in usable for path in (one.finished.instances, one.finished.cord_mask)]
    return {
        "Description": "Lesions of one subject over its sessions.",
        "Sources": [bids_uri(path, options.out_dir) for path in inputs]
        + [f"bids:raw:{one.finished.reference}" for one in usable],
        "Sessions": [_session(one, usable[0], options.out_dir) for one in usable],
        "SessionsLeftOut": [{"session_id": name, "Reason": why} for name, why in left_out],
        "LesionIdentities": len({lesion.lesion_id for lesion in lesions}),
        "Settings": {"Preset": preset.name, **preset.tracking_settings},
        "SoftwareName": "CordLesion",
        "SoftwareVersion": __version__,
    }


def _session(one: _Aligned, first: _Aligned, out_dir: Path) -> dict[str, Any]:
    """Describe one session: whose results, and how it was aligned to the first."""
    alignment = one.alignment
    transform = None
    if one is not first:
        path = _transform_path(one.finished, first.finished)
        transform = path.relative_to(out_dir).as_posix()
    return {
        "session_id": one.finished.name,
        "InputsHash": one.finished.inputs_hash,
        "Transform": transform,
        "Registration": {
            "Accepted": alignment.accepted,
            "Metric": alignment.metric,
            "ScoreHeaders": alignment.score_headers,
            "ScoreRegistered": alignment.score_registered,
            "CordGapMillimetres": round(one.gap_mm, 2),
            "Matrix": np.asarray(alignment.matrix).round(6),
        },
    }
