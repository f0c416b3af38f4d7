"""Lay records out as the cohort's tables: records in, frames and their dictionaries out."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bids_app.cohort.changes import COUNT_COLUMNS
from bids_app.cohort.session import Cell, SessionRecord
from bids_app.records import Decision

Dictionary = dict[str, dict[str, Any]]

_SESSION_COLUMNS: Dictionary = {
    "participant_id": {"Description": "Participant, as in participants.tsv."},
    "session_id": {"Description": "Session; n/a in a dataset without sessions."},
    "status": {
        "Description": "Whether the session's results are there.",
        "Levels": {
            "done": "Results are there and usable.",
            "failed": "The newest run failed, or its results cannot be read; see error.",
            "missing": "The session exists but was not processed.",
        },
    },
    "error": {"Description": "Why the session failed."},
    "lesion_count": {"Description": "Number of lesions; n/a unless done.", "Units": "lesion"},
    "lesion_volume_mm3": {"Description": "Volume of all lesions.", "Units": "mm^3"},
    "cord_volume_mm3": {"Description": "Volume of the cord in the image.", "Units": "mm^3"},
    "cord_length_mm": {
        "Description": "Length of the cord in the image, along its centreline.",
        "Units": "mm",
    },
    "cord_mean_area_mm2": {
        "Description": "Mean cross-sectional area of the cord, corrected for its angle.",
        "Units": "mm^2",
    },
    "cord_ap_diameter_mm": {
        "Description": "Mean antero-posterior diameter of the cord, corrected for its angle.",
        "Units": "mm",
    },
    "cord_lr_diameter_mm": {
        "Description": "Mean left-right diameter of the cord, corrected for its angle.",
        "Units": "mm",
    },
    "lesion_count_cervical": {
        "Description": "Number of lesions with their centre at C1 to C7; n/a where the cord in "
        "view has no known level there.",
        "Units": "lesion",
    },
    "lesion_count_thoracic": {"Description": "The same at T1 to T12.", "Units": "lesion"},
    "lesion_count_lumbar": {"Description": "The same at L1 to L5.", "Units": "lesion"},
    "expected_lesion_count": {
        "Description": "Expected number of lesions, too faint and missed ones included; n/a "
        "where the model has no calibration.",
        "Units": "lesion",
    },
    "expected_lesion_count_low": {
        "Description": "Lower end of the 95 % interval of the number of lesions.",
        "Units": "lesion",
    },
    "expected_lesion_count_high": {
        "Description": "Upper end of the 95 % interval of the number of lesions.",
        "Units": "lesion",
    },
    "expected_lesion_volume_mm3": {
        "Description": "Expected volume of all lesions, too faint and missed ones included.",
        "Units": "mm^3",
    },
    "expected_lesion_volume_mm3_low": {
        "Description": "Lower end of the 95 % interval of the volume of all lesions.",
        "Units": "mm^3",
    },
    "expected_lesion_volume_mm3_high": {
        "Description": "Upper end of the 95 % interval of the volume of all lesions.",
        "Units": "mm^3",
    },
    "lesion_load": {
        "Description": "Fraction of the cord's volume that is lesion, 0 to 1.",
        "Units": "arbitrary",
    },
    **COUNT_COLUMNS,
    "reference_contrast": {"Description": "Contrast of the reference."},
    "second_contrast": {"Description": "Contrast used beside the reference; n/a for none."},
    "registration_accepted": {
        "Description": "Whether the second contrast was moved: false when its header was better."
    },
    "model": {"Description": "Name of the model."},
    "software_version": {"Description": "Version of CordLesion that wrote the results."},
    "qc_decision": {
        "Description": "What a person decided about the session: pass, fail or exclude; see "
        "group_qc.tsv. n/a for no decision."
    },
    "excluded": {
        "Description": "Whether the session is left out of summary, statistics, plots and maps, "
        "because of the decision and --exclude-qc."
    },
}
_IDENTITY = ("participant_id", "session_id")
_LESION_ID = {
    "lesion_id": {
        "Description": "Number of the lesion in its participant, the same in all sessions; n/a "
        "where sessions were not compared."
    }
}
_LESION_EXCLUDED = {
    "excluded": {"Description": "Whether the lesion's session is left out, see group_sessions.tsv."}
}


def split_identifier(identifier: str) -> tuple[str, str | None]:
    """Split an identifier into participant and session.

    Examples
    --------
    >>> split_identifier("sub-01_ses-M0"), split_identifier("sub-01")
    (('sub-01', 'ses-M0'), ('sub-01', None))
    """
    participant, _, session = identifier.partition("_ses-")
    return participant, f"ses-{session}" if session else None


def participant_column(name: str) -> str:
    """Say what a column of participants.tsv is called in the sessions' table."""
    return f"participants_{name}" if name in _SESSION_COLUMNS else name


def sessions_table(
    records: Sequence[SessionRecord],
    participants: Mapping[str, Mapping[str, Any]],
    decisions: Mapping[str, Decision] | None = None,
    excluded: Container[str] = (),
) -> tuple[pd.DataFrame, Dictionary]:
    """Lay out one row for each session.

    Parameters
    ----------
    records : sequence of SessionRecord
    participants : mapping
        From participant (with or without ``sub-``) to the columns of participants.tsv. A
        column that has the name of one of ours is called ``participants_<name>``.
    decisions : mapping, optional
        What a person decided, by identifier.
    excluded : container of str
        Identifiers of the sessions that leave the statistics.

    Returns
    -------
    table : DataFrame
        Sorted by participant and session. Numbers are missing values unless done.
    dictionary : dict
        Column to its description.
    """
    known = {f"sub-{key.removeprefix('sub-')}": row for key, row in participants.items()}
    extra = list(dict.fromkeys(name for row in known.values() for name in row))
    extra = [name for name in extra if name != "participant_id"]
    names = {name: participant_column(name) for name in extra}
    rows = [
        _session_row(record)
        | _decided(record, decisions or {}, excluded)
        | {names[name]: _given(_participant(record, known).get(name)) for name in extra}
        for record in _ordered(records)
    ]
    columns = [*_SESSION_COLUMNS, *names.values()]
    frame = pd.DataFrame(rows, columns=columns, dtype=object)
    described = {names[name]: {"Description": "As in participants.tsv."} for name in extra}
    return _typed(frame), {**_SESSION_COLUMNS, **described}


def _decided(
    record: SessionRecord, decisions: Mapping[str, Decision], excluded: Container[str]
) -> dict[str, Cell]:
    decision = decisions.get(record.identifier)
    return {
        "qc_decision": decision.verdict if decision else None,
        "excluded": record.identifier in excluded,
    }


def lesions_table(
    records: Sequence[SessionRecord],
    dictionary: Mapping[str, Any],
    excluded: Container[str] = (),
) -> tuple[pd.DataFrame, Dictionary]:
    """Lay out one row for each lesion of the sessions that are done.

    Parameters
    ----------
    records : sequence of SessionRecord
    dictionary : mapping
        Description of the sessions' lesion tables, column by column.
    excluded : container of str
        Identifiers of the sessions that leave the statistics; their lesions stay in the table.

    Returns
    -------
    table : DataFrame
        All columns of the sessions' tables behind participant and session.
    dictionary : dict
        Column to its description.
    """
    done = [record for record in _ordered(records) if record.status == "done"]
    columns = list(dict.fromkeys(name for record in done for name in record.lesion_columns))
    rows = [
        _identity(record) | dict(lesion) | {"excluded": record.identifier in excluded}
        for record in done
        for lesion in record.lesions
    ]
    ours = {*_LESION_ID, *_LESION_EXCLUDED}
    own = [name for name in columns or ["index", "name"] if name not in ours]
    frame = pd.DataFrame(rows, columns=[*_IDENTITY, *_LESION_ID, *own, *_LESION_EXCLUDED])
    frame = frame.astype({"lesion_id": "Int64", "excluded": "bool"})
    described = {name: dictionary.get(name) for name in own}
    known = {
        name: entry if isinstance(entry, dict) else {"Description": "As in the session's table."}
        for name, entry in described.items()
    }
    identity = {name: _SESSION_COLUMNS[name] for name in _IDENTITY}
    return frame, {**identity, **_LESION_ID, **known, **_LESION_EXCLUDED}


def _ordered(records: Iterable[SessionRecord]) -> list[SessionRecord]:
    def key(record: SessionRecord) -> tuple[str, str]:
        participant, session = split_identifier(record.identifier)
        return participant, session or ""

    return sorted(records, key=key)


def _identity(record: SessionRecord) -> dict[str, Cell]:
    participant, session = split_identifier(record.identifier)
    return {"participant_id": participant, "session_id": session}


def _session_row(record: SessionRecord) -> dict[str, Any]:
    numbers = record.numbers
    cord, lesion = numbers.get("cord_volume_mm3"), numbers.get("lesion_volume_mm3")
    load = round(lesion / cord, 6) if cord and lesion is not None else None
    return {
        **_identity(record),
        "status": record.status,
        "error": record.error and " ".join(record.error.split()),
        **numbers,
        "lesion_load": load,
        **record.changes,
        **record.facts,
    }


def _participant(
    record: SessionRecord, known: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any]:
    return known.get(split_identifier(record.identifier)[0], {})


def _given(value: Any) -> Any:
    return None if value in ("n/a", "") else value


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Give counts, numbers and flags their own types, so that 3 is not written as 3.0."""
    types = {name: "float64" for name, entry in _SESSION_COLUMNS.items() if "Units" in entry}
    types |= {name: "Int64" for name in types if name.startswith("lesion_count")}
    counts = ("expected_lesion_count_low", "expected_lesion_count_high", *COUNT_COLUMNS)
    types |= dict.fromkeys(counts, "Int64")
    types |= {"registration_accepted": "boolean", "excluded": "bool"}
    return frame.astype(types)
