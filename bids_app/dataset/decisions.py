"""What a person decided about sessions, in a file of their own that is only ever read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from bids_app.dataset.tsv import read_tsv
from bids_app.errors import UnknownLabel, UsageError
from bids_app.records import Decision, Verdict

_VERDICTS: tuple[Verdict, ...] = ("pass", "fail", "exclude")
_COLUMN, _REASON = "qc_decision", "reason"
# A wrong file would name hundreds.
_SHOWN = 20


def read_decisions(path: Path, known: Sequence[str]) -> dict[str, Decision]:
    """Read a file of decisions.

    Parameters
    ----------
    path : Path
        Tab-separated, with the columns ``participant_id``, ``session_id`` (not needed in a
        dataset without sessions), ``qc_decision`` (``pass``, ``fail``, ``exclude``, or ``n/a``
        for not yet) and, if wanted, ``reason``; other columns are left alone. Labels may come
        without ``sub-`` and ``ses-``.
    known : sequence of str
        Identifiers of all sessions (``sub-01_ses-M0`` or ``sub-01``).

    Returns
    -------
    dict
        By identifier; sessions without a decision are left out.

    Raises
    ------
    UnknownLabel
        For sessions that do not exist; they are named, close ones offered.
    UsageError
        The file is not there or not a table, a column is missing, a value is none of the three,
        or a session is decided twice in different ways.
    """
    if not path.is_file():
        raise UsageError(
            f"There is no file of decisions {path}: write a tab-separated table with the columns "
            "participant_id, session_id and qc_decision (pass, fail or exclude)."
        )
    header, rows = read_tsv(path)
    _check_header(path, header, known)
    named = [(_identifier(row), row) for row in rows]
    _check_names(path, [name for name, _ in named], known)
    _check_values(path, [(name, row.get(_COLUMN, "n/a")) for name, row in named])
    decisions: dict[str, Decision] = {}
    for name, row in named:
        verdict = next((v for v in _VERDICTS if v == row.get(_COLUMN, "").lower()), None)
        if verdict is None:
            continue
        before = decisions.setdefault(name, Decision(verdict, row.get(_REASON)))
        if before.verdict != verdict:
            raise UsageError(
                f"{path} says both {before.verdict} and {verdict} about {name}: keep one row."
            )
    return decisions


def _check_header(path: Path, header: Sequence[str], known: Sequence[str]) -> None:
    needed = ["participant_id", _COLUMN]
    if any("_ses-" in name for name in known):
        needed.insert(1, "session_id")
    lacking = [name for name in needed if name not in header]
    if not lacking:
        return
    have = ", ".join(name for name in header if name) or "nothing"
    hint = "; it has to be separated by tabs" if len(header) == 1 and "," in header[0] else ""
    raise UsageError(
        f"{path} has no column {' and no column '.join(lacking)} (its header is: {have}){hint}."
    )


def _identifier(row: dict[str, str]) -> str:
    """Join the labels of a row; ``?`` stands for a participant that is not named."""
    participant = f"sub-{row.get('participant_id', '?').removeprefix('sub-')}"
    session = row.get("session_id", "").removeprefix("ses-")
    return f"{participant}_ses-{session}" if session else participant


def _check_names(path: Path, names: Iterable[str], known: Sequence[str]) -> None:
    unknown = [name for name in dict.fromkeys(names) if name not in set(known)]
    if not unknown:
        return
    described = []
    for name in unknown:
        # A participant alone is not enough where there are sessions: offer theirs.
        own = [other for other in known if other.startswith(f"{name}_ses-")]
        close = own[:3] or difflib.get_close_matches(name, known, n=3)
        described.append(f"{name} (did you mean {' or '.join(close)}?)" if close else name)
    plural = "s" if len(unknown) > 1 else ""
    raise UnknownLabel(
        f"{path} decides about {len(unknown)} unknown session{plural}: {_some(described)}."
    )


def _check_values(path: Path, values: Iterable[tuple[str, str]]) -> None:
    wrong = [
        f"{value!r} about {name}"
        for name, value in values
        if value.lower() not in (*_VERDICTS, "n/a")
    ]
    if wrong:
        raise UsageError(
            f"{path}: {_COLUMN} has to be pass, fail, exclude or n/a, not {_some(wrong)}."
        )


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
