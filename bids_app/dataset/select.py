"""Choose the reference and the second contrast of a session: pure, by one stated rule.

The rule
--------
**Reference.** Candidates are the scans of the contrast ``--reference`` (``T2w``). An
``acq-STIR_T2w`` is a STIR, whatever its suffix, and never the T2w reference.

**Second contrast.** The first contrast of ``--contrasts`` that has a candidate; never the
reference itself.

Of UNIT1, only the uniform image counts, not the inversions it was made from
(``inv-1_MP2RAGE``). Phase and imaginary parts count only when the filter names ``part``. A filter
of ``--bids-filter-file`` (``t2w`` for the reference, ``second``) decides before all else. Where
several candidates are left, these decide one after the other:

1. the same ``chunk`` as the reference's (second contrast only): the same part of the body;
2. a magnitude image, or one that does not name its part, before a real part;
3. an image without ``rec`` before other reconstructions of it;
4. sagittal or isotropic images before axial ones, by the words ``sag``, ``iso`` or ``3d``, and
   ``ax`` or ``tra``, in ``acq``; no ``acq`` at all counts as sagittal, other words lie between;
5. the latest run: who repeats a scan was not content with the one before;
6. the file name, in alphabetical order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bids_app.dataset.entities import same_value
from bids_app.dataset.filters import ANY, Filter
from bids_app.errors import MissingContrast
from bids_app.records import Scan, Session

_Rank = tuple[tuple[int | str, str], ...]


@dataclass(frozen=True)
class Choice:
    """What one session will be segmented from.

    Attributes
    ----------
    reference : Scan
    second : Scan or None
    set_aside : tuple of (Scan, str)
        All other scans of the session, each with the reason.
    """

    reference: Scan
    second: Scan | None
    set_aside: tuple[tuple[Scan, str], ...] = ()


def select(
    session: Session,
    reference: str = "T2w",
    contrasts: Sequence[str] = ("STIR", "PSIR", "UNIT1", "T1w", "T2starw"),
    filters: Mapping[str, Filter] | None = None,
) -> Choice:
    """Choose the reference and the second contrast of `session` by the rule of this module.

    Parameters
    ----------
    session : Session
    reference : str
        Contrast of the reference, as in `Scan.contrast`.
    contrasts : sequence of str
        Contrasts for the second scan, the preferred one first.
    filters : mapping, optional
        By query (``t2w``, ``second``), see `bids_app.dataset.filters.read_filters`.

    Returns
    -------
    Choice
        The same for any order of the session's scans.

    Raises
    ------
    MissingContrast
        When no scan can be the reference.
    """
    filters = filters or {}
    first_filter, second_filter = filters.get("t2w", {}), filters.get("second", {})
    fit = [scan for scan in session.scans if _why_not(scan, reference, first_filter) is None]
    if not fit:
        raise MissingContrast(_missing(session, reference, first_filter))
    chosen = min(fit, key=_rank)
    rest = [scan for scan in session.scans if scan is not chosen]
    second: Scan | None = None
    for contrast in contrasts:
        candidates = [scan for scan in rest if _why_not(scan, contrast, second_filter) is None]
        if candidates:
            second = min(candidates, key=lambda scan: _rank(scan, chosen))
            break
    aside = sorted((scan for scan in rest if scan is not second), key=lambda scan: scan.path.name)
    reasons = [
        _why_beaten(scan, chosen, second, contrasts, first_filter, second_filter) for scan in aside
    ]
    return Choice(chosen, second, tuple(zip(aside, reasons, strict=True)))


def _why_not(scan: Scan, contrast: str, entities: Filter) -> str | None:
    """Say why a scan is no candidate for `contrast`, or None when it is one."""
    if scan.contrast != contrast:
        return f"{scan.contrast} is not asked for"
    if contrast == "UNIT1" and "inv" in scan.entities:
        return "an inversion, not the uniform image"
    if scan.entities.get("part") in {"phase", "imag"} and "part" not in entities:
        return f"the {scan.entities['part']} part of an image"
    if not all(_passes(scan, key, value) for key, value in entities.items()):
        return "does not pass the filter"
    return None


def _passes(scan: Scan, key: str, value: tuple[str, ...] | None) -> bool:
    if key == "suffix":
        actual: str | None = scan.suffix
    elif key == "datatype":
        actual = "anat"
    elif key == "extension":
        actual = "".join(scan.path.suffixes).lstrip(".")
        value = value and tuple(item.lstrip(".") for item in value)
    else:
        actual = scan.entities.get(key)
    if actual is None or value is None:
        return actual is None and value is None
    return value == ANY or any(same_value(key, actual, item) for item in value)


def _rank(scan: Scan, reference: Scan | None = None) -> _Rank:
    """Give what decides between two candidates (smaller wins), each with its words.

    The words say why the larger one lost.
    """
    entities = scan.entities
    acquisition = entities.get("acq", "").lower()
    if not acquisition or any(word in acquisition for word in ("sag", "iso", "3d")):
        plane = 0
    else:
        plane = 2 if any(word in acquisition for word in ("ax", "tra")) else 1
    run = entities.get("run", "0")
    other_chunk = reference is not None and entities.get("chunk") != reference.entities.get("chunk")
    return (
        (int(other_chunk), "another chunk than the reference"),
        (int(entities.get("part", "mag") != "mag"), "not the magnitude image"),
        (int("rec" in entities), "another reconstruction (rec)"),
        (plane, "sagittal or isotropic acquisitions are preferred"),
        (-int(run) if run.isdecimal() else 0, "a later run is used"),
        (scan.path.name, "comes later in alphabetical order"),
    )


def _why_beaten(
    scan: Scan,
    reference: Scan,
    second: Scan | None,
    contrasts: Sequence[str],
    first_filter: Filter,
    second_filter: Filter,
) -> str:
    """Say why a scan is neither the reference nor the second contrast."""
    if scan.contrast == reference.contrast:
        problem = _why_not(scan, reference.contrast, first_filter)
        return problem or _first_difference(_rank(scan), _rank(reference))
    if scan.contrast not in contrasts:
        return f"{scan.contrast} is not asked for"
    problem = _why_not(scan, scan.contrast, second_filter)
    if problem or second is None:
        return problem or "is not needed"
    if scan.contrast == second.contrast:
        return _first_difference(_rank(scan, reference), _rank(second, reference))
    return f"{second.contrast} is preferred as the second contrast"


def _first_difference(loser: _Rank, winner: _Rank) -> str:
    return next(
        words for (mine, words), (best, _) in zip(loser, winner, strict=True) if mine != best
    )


def _missing(session: Session, reference: str, entities: Filter) -> str:
    found = sorted({scan.contrast for scan in session.scans}) or ["no image in anat"]
    near = [scan for scan in session.scans if scan.contrast == reference]
    if not near:
        what = f"no {reference}"
    elif entities:
        what = f"no {reference} that passes the t2w filter"
    else:
        what = f"no usable {reference} ({_why_not(near[0], reference, entities)})"
    return f"{session.identifier} has {what}. Found: {', '.join(found)}. See --bids-filter-file."
