"""Compare derivatives of the demo with its ground truth, session by session."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bids_app.errors import NoUsableData
from bids_app.evaluation.matching import match_instances
from bids_app.evaluation.metrics import detect, dice
from bids_app.imaging.volumes import read_label_map

_END = "_seg-lesions_dseg.nii.gz"


@dataclass(frozen=True)
class SessionScore:
    """How one session came out; `reference` and `found` count lesions.

    Attributes
    ----------
    session : str
    cord_dice, lesion_dice : float
    reference, found : int
    hits, false : int
        Reference lesions that a found one touches; found ones that touch none.
    """

    session: str
    cord_dice: float
    lesion_dice: float
    reference: int
    found: int
    hits: int
    false: int


@dataclass(frozen=True)
class ChangeScore:
    """What became of the lesions of one session: pairs of known and found, ``none`` for no row."""

    session: str
    pairs: tuple[tuple[str, str], ...]


def score_sessions(bids_dir: Path, derivatives: Path) -> list[SessionScore]:
    """Score every session that has both ground truth and results.

    Parameters
    ----------
    bids_dir : Path
        The demo dataset.
    derivatives : Path

    Returns
    -------
    list of SessionScore

    Raises
    ------
    NoUsableData
        There is no ground truth, or a session has no results.
    """
    truth = bids_dir / "derivatives" / "ground-truth"
    known = sorted(truth.glob(f"sub-*/ses-*/anat/*{_END}"))
    if not known:
        raise NoUsableData(f"{truth} holds no ground truth; write one with 'cordlesion demo DIR'.")
    return [_score(path, derivatives / path.relative_to(truth)) for path in known]


def _score(known: Path, found: Path) -> SessionScore:
    if not found.exists():
        raise NoUsableData(f"{found} is missing; run the participant level first.")
    reference, prediction = read_label_map(known).data, read_label_map(found).data
    cords = [
        read_label_map(path.with_name(path.name.replace(_END, "_label-cord_mask.nii.gz"))).data > 0
        for path in (known, found)
    ]
    detection = detect(match_instances(reference, prediction))
    return SessionScore(
        session=known.name.removesuffix(_END),
        cord_dice=dice(cords[0], cords[1]),
        lesion_dice=dice(reference > 0, prediction > 0),
        reference=int(reference.max()),
        found=int(prediction.max()),
        hits=detection.true_positives,
        false=detection.false_positives,
    )


def score_changes(bids_dir: Path, derivatives: Path) -> list[ChangeScore]:
    """Compare what became of each lesion with what is known, for subjects with known change.

    A lesion that is there is found by what it overlaps most, one that resolved by the number
    that it had in the session before.

    Parameters
    ----------
    bids_dir : Path
        The demo dataset.
    derivatives : Path

    Returns
    -------
    list of ChangeScore
        Empty when the demo has no such subject, or its results no table.
    """
    truth = bids_dir / "derivatives" / "ground-truth"
    scores = []
    for table in sorted(truth.glob("sub-*/sub-*_lesions.tsv")):
        found = derivatives / table.relative_to(truth)
        if found.exists():
            scores += _score_course(table.parent, _rows(table), found.parent, _rows(found))
    return scores


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def _score_course(
    truth: Path, known: list[dict[str, str]], out: Path, found: list[dict[str, str]]
) -> list[ChangeScore]:
    """Go through the sessions, keeping in mind which found lesion was which known one."""
    scores = []
    number_of: dict[str, str] = {}
    for session in dict.fromkeys(row["session_id"] for row in known):
        name = f"{truth.name}_{session}"
        place = Path(session) / "anat" / f"{name}{_END}"
        reference = read_label_map(truth / place).data
        prediction = read_label_map(out / place).data
        told = [row for row in found if row["session_id"] == session]
        by_index = {row["index"]: row for row in told if row["index"] != "n/a"}
        pairs = []
        for row in (row for row in known if row["session_id"] == session):
            if row["index"] != "n/a":
                hit = np.bincount(prediction[reference == int(row["index"])])
                hit[:1] = 0
                match = by_index.get(str(hit.argmax())) if hit.any() else None
                if match is not None:
                    number_of[row["lesion_id"]] = match["lesion_id"]
            else:
                number = number_of.get(row["lesion_id"])
                match = next((one for one in told if one["lesion_id"] == number), None)
            pairs.append((row["change"], match["change"] if match else "none"))
        scores.append(ChangeScore(name, tuple(pairs)))
    return scores


def score_demo(bids_dir: Path, derivatives: Path) -> int:
    """Print the scores of the demo as a table, and where to look next."""
    scores = score_sessions(bids_dir, derivatives)
    table = Table(title="Demo: results against the ground truth")
    table.add_column("session")
    for heading in ("cord Dice", "lesion Dice", "lesions", "found", "hit", "false"):
        table.add_column(heading, justify="right")
    for s in scores:
        counts = (s.reference, s.found, s.hits, s.false)
        table.add_row(
            s.session, f"{s.cord_dice:.3f}", f"{s.lesion_dice:.3f}", *(str(n) for n in counts)
        )
    console = Console()
    console.print(table)
    for change in score_changes(bids_dir, derivatives):
        told = ", ".join(a if a == b else f"{a} (found: {b})" for a, b in change.pairs)
        console.print(f"{change.session}: {told}", markup=False, soft_wrap=True)
    total = sum(s.reference for s in scores)
    hits = sum(s.hits for s in scores)
    console.print(
        f"{hits} of {total} lesions hit, {sum(s.false for s in scores)} false. "
        f"Look at {derivatives}/group_sessions.tsv and "
        f"{derivatives}/sub-01/ses-M0/anat/*_label-lesion_mask.nii.gz",
        markup=False,
        soft_wrap=True,
    )
    return 0
