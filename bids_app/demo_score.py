"""Compare derivatives of the demo with its ground truth, session by session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
