"""Which prediction belongs to which reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bids_app.dataset.labels import LesionFile

Aside = tuple[LesionFile, str]


@dataclass(frozen=True)
class Pair:
    """A reference and its prediction; None where there is none.

    Attributes
    ----------
    name : str
        The scan, with its contrast where several of one scan's are paired.
    reference : LesionFile
    prediction : LesionFile or None
    """

    name: str
    reference: LesionFile
    prediction: LesionFile | None

    @property
    def contrast(self) -> str | None:
        """Give the contrast that either name says."""
        prediction = self.prediction.contrast if self.prediction else None
        return self.reference.contrast or prediction


@dataclass(frozen=True)
class Pairing:
    """All pairs of two folders, and what was left out.

    Attributes
    ----------
    pairs : tuple of Pair
    without_reference : tuple of LesionFile
        Predictions for scans that have no reference.
    left_out : tuple of (LesionFile, str)
        Further labels, with the reason.
    """

    pairs: tuple[Pair, ...]
    without_reference: tuple[LesionFile, ...]
    left_out: tuple[Aside, ...]


def pair_labels(references: Sequence[LesionFile], predictions: Sequence[LesionFile]) -> Pairing:
    """Pair labels by scan and contrast.

    A label that names no contrast goes with one that does: with the T2w's if there are several.
    When a scan's one prediction names no contrast, its other references are left out; they do
    not count as missed.

    Parameters
    ----------
    references, predictions : sequence of LesionFile
        At most one for each scan and contrast.

    Returns
    -------
    Pairing
    """
    pairs: list[Pair] = []
    spare: list[LesionFile] = []
    left_out: list[Aside] = []
    for scan in sorted({label.scan for label in references}):
        known = [label for label in references if label.scan == scan]
        found = [label for label in predictions if label.scan == scan]
        matched = _match(known, found)
        unnamed = any(label.contrast is None for label in found)
        for reference in known:
            prediction = matched.get(reference)
            if prediction is None and unnamed:
                reason = "its scan's prediction goes with another contrast's reference"
                left_out.append((reference, reason))
                continue
            several = len(known) > 1 and reference.contrast is not None
            name = f"{scan}_{reference.contrast}" if several else scan
            pairs.append(Pair(name, reference, prediction))
        spare += [label for label in found if label not in matched.values()]
    known_scans = {label.scan for label in references}
    spare += [label for label in predictions if label.scan not in known_scans]
    return Pairing(tuple(pairs), tuple(spare), tuple(left_out))


def _match(
    references: Sequence[LesionFile], predictions: Sequence[LesionFile]
) -> dict[LesionFile, LesionFile]:
    """Match one scan's labels: equal contrasts first, then those that name none."""
    matched: dict[LesionFile, LesionFile] = {}
    by_contrast = {label.contrast: label for label in predictions}
    for reference in references:
        if reference.contrast in by_contrast:
            matched[reference] = by_contrast[reference.contrast]
    for reference in sorted(references, key=_t2w_first):
        if reference in matched:
            continue
        free = [label for label in predictions if label not in matched.values()]
        fitting = [x for x in free if reference.contrast is None or x.contrast is None]
        if fitting:
            matched[reference] = min(fitting, key=_t2w_first)
    return matched


def _t2w_first(label: LesionFile) -> tuple[bool, str]:
    return label.contrast != "T2w", label.contrast or ""
