"""When sessions took place: ``acq_time`` of the sessions' and the scans' tables."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from bids_app.dataset.tsv import read_tsv

_DAYS_A_YEAR = 365.25
_log = logging.getLogger(__name__)


def read_years(bids_dir: Path, identifiers: Iterable[str]) -> dict[str, float]:
    """Read when sessions took place, for participants who have several.

    ``sub-*/sub-*_sessions.tsv`` counts; for sessions that it does not date, the earliest scan of
    ``sub-*/ses-*/sub-*_ses-*_scans.tsv``. Dates may be shifted, as long as all of a participant
    are shifted alike.

    Parameters
    ----------
    bids_dir : Path
        May lack all of these files.
    identifiers : iterable of str
        Sessions, as ``sub-01_ses-M0``.

    Returns
    -------
    dict
        Years (of 365.25 days, from the year 1) by identifier; sessions without a readable time
        are not in it.
    """
    by_subject: dict[str, list[str]] = {}
    for identifier in identifiers:
        subject, _, session = identifier.partition("_")
        by_subject.setdefault(subject, []).append(session)
    times: dict[str, datetime] = {}
    for subject, sessions in by_subject.items():
        if len(sessions) > 1:
            times |= _subject_times(bids_dir / subject, sessions)
    return {name: _years(time) for name, time in times.items()}


def _subject_times(folder: Path, sessions: list[str]) -> dict[str, datetime]:
    _, rows = read_tsv(folder / f"{folder.name}_sessions.tsv")
    told = {f"ses-{row.get('session_id', '').removeprefix('ses-')}": row for row in rows}
    times = {}
    for session in sessions:
        name = f"{folder.name}_{session}" if session else folder.name
        time = parse_time(told.get(session, {}).get("acq_time"), name)
        if time is None:
            _, scans = read_tsv(folder / session / f"{name}_scans.tsv")
            found = [parse_time(scan.get("acq_time"), name) for scan in scans]
            time = min((one for one in found if one is not None), default=None)
        if time is not None:
            times[name] = time
    return times


def parse_time(text: str | None, whose: str) -> datetime | None:
    """Read an ISO 8601 date, with or without a time of day; the time zone is left aside.

    Examples
    --------
    >>> parse_time("1901-06-15T13:45:30Z", "sub-01_ses-M0")
    datetime.datetime(1901, 6, 15, 13, 45, 30)
    >>> parse_time("1901-06-15", "sub-01_ses-M0")
    datetime.datetime(1901, 6, 15, 0, 0)
    """
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        _log.warning("acq_time %r of %s is no date; write 2009-06-15T13:45:30.", text, whose)
        return None


def _years(time: datetime) -> float:
    day = time.hour / 24 + time.minute / 1440 + time.second / 86400
    return (time.toordinal() + day) / _DAYS_A_YEAR
