"""Lesion frequency in template space: how often, among those who were looked at, there is one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_app.cohort.session import SIDECAR_END
from bids_app.documents import parse_json
from bids_app.records import BoolArray, FloatArray, IntArray

EVERYONE = "all"
"""What stands for the group where a map is of the whole cohort."""

Reader = Callable[[Path], tuple[BoolArray, FloatArray]]
"""Reads a mask: its voxels and its affine."""


@dataclass(frozen=True)
class Carried:
    """One session's masks in template space.

    Attributes
    ----------
    participant, session : str
        Identifiers as in the sessions' table; `session` is empty where there is none.
    group : str or None
    lesion, covered : Path
        The lesion mask, and the part of the template's cord that the session shows.
    """

    participant: str
    session: str
    group: str | None
    lesion: Path
    covered: Path

    @property
    def identifier(self) -> str:
        """Give ``sub-01_ses-M0``, or ``sub-01`` without sessions."""
        return self.participant + (f"_{self.session}" if self.session else "")


@dataclass(frozen=True)
class FrequencyMap:
    """How many had a lesion at each voxel, of how many that show it.

    Attributes
    ----------
    group : str
        `EVERYONE` for the whole cohort.
    lesions, covered : ndarray of int, shape (i, j, k)
        Participants with a lesion there; participants who show the place.
    affine : ndarray of shape (4, 4)
    sessions : tuple of str
        Identifiers of the sessions that count, one a participant.
    """

    group: str
    lesions: IntArray
    covered: IntArray
    affine: FloatArray
    sessions: tuple[str, ...]

    @property
    def frequency(self) -> FloatArray:
        """Give lesions / covered, 0 to 1; NaN where nobody was looked at.

        Examples
        --------
        >>> counts = np.array([[[0, 1, 0]]]), np.array([[[2, 4, 0]]])
        >>> FrequencyMap("all", *counts, np.eye(4), ()).frequency.tolist()
        [[[0.0, 0.25, nan]]]
        """
        with np.errstate(invalid="ignore"):
            return np.asarray(self.lesions / self.covered, dtype=np.float32)


def carried_sessions(
    out_dir: Path, sessions: pd.DataFrame, space: str, group_column: str = "group"
) -> list[Carried]:
    """Find each participant's first session that is done and was carried to a template.

    Parameters
    ----------
    out_dir : Path
        Derivatives.
    sessions : DataFrame
        The sessions' table, sorted.
    space : str
        The template's name.
    group_column : str
        Column of the table that splits the cohort; it may be absent.

    Returns
    -------
    list of Carried
        One a participant, in the order of the table: later sessions do not count, so that a
        participant counts once. Files that the session's seal does not name are left over from
        another run and are passed over.
    """
    found: dict[str, Carried] = {}
    for row in sessions[sessions["status"] == "done"].to_dict("records"):
        participant = str(row["participant_id"])
        visit = row["session_id"] if isinstance(row["session_id"], str) else ""
        if participant in found:
            continue
        masks = _masks(out_dir / participant / visit / "anat", space)
        group = row.get(group_column)
        if masks is not None:
            label = None if group is None or pd.isna(group) else str(group)
            found[participant] = Carried(participant, visit, label, *masks)
    return list(found.values())


def _masks(folder: Path, space: str) -> tuple[Path, Path] | None:
    """Find the newest pair of masks of a session that its seal names."""
    newest: tuple[float, Path, Path] | None = None
    for lesion in sorted(folder.glob(f"*_space-{space}_*_label-lesion_mask.nii.gz")):
        stem = lesion.name.split(f"_space-{space}_")[0]
        covered = lesion.with_name(lesion.name.replace("_label-lesion_", "_label-cord_"))
        seal = lesion.with_name(stem + SIDECAR_END)
        names = _sealed(seal)
        if lesion.name in names and covered.name in names:
            entry = (seal.stat().st_mtime, lesion, covered)
            newest = entry if newest is None else max(newest, entry)
    return newest[1:] if newest else None


def _sealed(seal: Path) -> Iterable[str]:
    try:
        hashes = parse_json(seal.read_bytes()).get("OutputHashes")
    except (OSError, ValueError, AttributeError):
        return ()
    return hashes if isinstance(hashes, dict) else ()


def frequency_maps(
    carried: Sequence[Carried], read: Reader
) -> tuple[list[FrequencyMap], tuple[str, ...]]:
    """Count lesions and coverage over the cohort and over each of its groups.

    Parameters
    ----------
    carried : sequence of Carried
    read : callable
        From a mask's path to its voxels and affine; may raise OSError or ValueError.

    Returns
    -------
    maps : list of FrequencyMap
        Of everyone first, then of each group in alphabetical order; participants without a
        group count among everyone. Empty without sessions.
    remarks : tuple of str
        Sessions that were left out: on another grid than the first, or not readable.
    """
    totals: dict[str, FrequencyMap] = {}
    remarks = []
    for session in carried:
        try:
            lesion, affine = read(session.lesion)
            covered, other = read(session.covered)
        except (OSError, ValueError) as error:
            remarks.append(f"{session.identifier} is not in the frequency maps: {error}")
            continue
        first = totals.get(EVERYONE)
        if not _same(lesion, affine, covered, other) or (
            first and not _same(lesion, affine, first.lesions, first.affine)
        ):
            remarks.append(
                f"{session.identifier} is not in the frequency maps: it lies on another grid of "
                "the template; run it again."
            )
            continue
        for group in (EVERYONE, session.group and f"group {session.group}"):
            if group:
                totals[group] = _added(totals.get(group), group, session, lesion, covered, affine)
    everyone = [totals.pop(EVERYONE)] if totals else []
    return everyone + [totals[group] for group in sorted(totals)], tuple(remarks)


def _same(one: Any, affine: FloatArray, other: Any, other_affine: FloatArray) -> bool:
    return one.shape == other.shape and bool(np.allclose(affine, other_affine, atol=1e-3))


def _added(
    total: FrequencyMap | None,
    group: str,
    session: Carried,
    lesion: BoolArray,
    covered: BoolArray,
    affine: FloatArray,
) -> FrequencyMap:
    seen = covered.astype(np.int32)
    hit = (lesion & covered).astype(np.int32)
    if total is None:
        return FrequencyMap(group, hit, seen, affine, (session.identifier,))
    names = (*total.sessions, session.identifier)
    return FrequencyMap(group, total.lesions + hit, total.covered + seen, affine, names)


def map_labels(maps: Iterable[FrequencyMap]) -> dict[str, str]:
    """Give each group a label for file names, unlike all others.

    Examples
    --------
    >>> empty = np.zeros((1, 1, 1), int)
    >>> map_labels(FrequencyMap(g, empty, empty, np.eye(4), ()) for g in
    ...     ("all", "group MS", "group a b", "group ab"))
    {'all': 'all', 'group MS': 'groupMS', 'group a b': 'groupab', 'group ab': 'groupab2'}
    """
    labels: dict[str, str] = {}
    for one in maps:
        base = re.sub(r"[^0-9A-Za-z]", "", one.group)
        label, number = base, 1
        while label in labels.values():
            number += 1
            label = f"{base}{number}"
        labels[one.group] = label
    return labels


def describe_map(one: FrequencyMap, space: str) -> Mapping[str, Any]:
    """Say what a map shows, for the file beside it."""
    return {
        "Description": "Share of participants with a lesion, of those whose images show the "
        "place; NaN where none does. The count beside it says how many show it.",
        "Group": None if one.group == EVERYONE else one.group.removeprefix("group "),
        "Participants": len(one.sessions),
        "Sessions": list(one.sessions),
        "SessionRule": "The first session of each participant that is done and in this space.",
        "Space": space,
        "MostCovered": int(one.covered.max(initial=0)),
        "MostLesions": int(one.lesions.max(initial=0)),
    }
