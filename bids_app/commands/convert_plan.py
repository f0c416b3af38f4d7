"""Find what `convert` will make cases of, and what it will leave out: nothing is opened.

The rule
--------
A lesion label belongs to the scan whose entities it has. One that names a contrast belongs to the
scan of that contrast; one that names none, to the only scan with these entities, or else to that of
``--reference``. Of several labels of a scan, those in the folder that comes first with ``--labels``
count; then an instance map before a mask, a label without ``desc`` before one with; then the path
decides. ``--rater`` takes labels of one ``desc`` only.

Early fusion makes a case of a session: its reference is chosen among the scans that have a label,
by the rule of `bids_app.dataset.select`, and so is the second contrast. Late fusion makes a case of
each scan of ``--contrasts`` that has a label. The cord mask is looked for in the folders of the
lesion labels, by the rule of `bids_app.dataset.given`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bids_app.commands.convert_arguments import ConvertOptions
from bids_app.conversion.identifiers import case_identifier
from bids_app.dataset.discover import discover
from bids_app.dataset.given import find_given
from bids_app.dataset.labels import (
    LesionFile,
    choose_labels,
    find_lesion_labels,
    label_folders,
    scan_name,
)
from bids_app.dataset.participants import read_participants
from bids_app.dataset.select import select
from bids_app.errors import MissingContrast, NoUsableData, UsageError
from bids_app.options import Options
from bids_app.records import Scan, Session

_SITE_COLUMNS = ("site", "institution_id")


@dataclass(frozen=True)
class CasePlan:
    """What one case will be made of.

    Attributes
    ----------
    identifier, dataset : str
    root : Path
        The dataset's folder.
    subject : str
        With ``sub-``.
    session : str or None
        With ``ses-``.
    site, contrast : str
    reference : Scan
    second : Scan or None
    lesion : LesionFile
    cord : Path or None
    two_channels : bool
    remarks : tuple of str
    """

    identifier: str
    dataset: str
    root: Path
    subject: str
    session: str | None
    site: str
    contrast: str
    reference: Scan
    second: Scan | None
    lesion: LesionFile
    cord: Path | None
    two_channels: bool
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A session or scan that becomes no case; kinds are in `EXCLUDED_COLUMNS`."""

    dataset: str
    name: str
    kind: str
    reason: str


@dataclass(frozen=True)
class _Dataset:
    """A dataset with its labels, chosen and others."""

    name: str
    root: Path
    folders: tuple[Path, ...]
    labels: tuple[LesionFile, ...]
    set_aside: tuple[LesionFile, ...]


def plan_cases(
    options: ConvertOptions, excluded: dict[str, str]
) -> tuple[list[CasePlan], list[LeftOut]]:
    """Find the cases of all datasets by the rule of this module.

    Parameters
    ----------
    options : ConvertOptions
    excluded : dict
        Reason by name, as `read_exclusions` gives.

    Raises
    ------
    NoUsableData
        A dataset has no lesion label at all, or there is no case.
    UsageError
        It is not clear which folder has the labels.
    """
    cases: list[CasePlan] = []
    left: list[LeftOut] = []
    seen: set[str] = set()
    for name, root in options.datasets.items():
        dataset = _read_labels(name, root, options)
        people = read_participants(root)
        for session in discover(Options(bids_dir=root, out_dir=options.folder)):
            row = people.get(session.subject, {})
            site = next((row[c] for c in _SITE_COLUMNS if c in row), name)
            plan = _early if options.fusion == "early" else _late
            for found in plan(session, dataset, site, options):
                reason = _why_excluded(found, excluded)
                if reason is not None:
                    scan = found.name if isinstance(found, LeftOut) else _name(found)
                    left.append(LeftOut(name, scan, "asked", reason))
                elif isinstance(found, LeftOut):
                    left.append(found)
                elif found.identifier in seen:
                    reason = "another file has the same name but for its extension"
                    left.append(LeftOut(name, found.reference.path.name, "problem", reason))
                else:
                    seen.add(found.identifier)
                    cases.append(found)
    if not cases:
        reasons = " ".join(f"{one.name}: {one.reason}" for one in left[:3])
        raise NoUsableData(f"No scan has a lesion label that fits it. {reasons}")
    return cases, left


def read_exclusions(path: Path | None) -> dict[str, str]:
    """Read the list of ``--exclude``: a name a line, then a tab and a reason if there is one."""
    if path is None:
        return {}
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UsageError(f"--exclude {path} cannot be read as text in UTF-8.") from error
    result = {}
    for line in text.splitlines():
        name, _, reason = line.partition("\t")
        name = name.strip().removesuffix(".gz").removesuffix(".nii")
        if name and not name.startswith("#"):
            result[name] = " ".join(reason.split()) or f"listed in {path.name}"
    return result


def _why_excluded(found: CasePlan | LeftOut, excluded: dict[str, str]) -> str | None:
    """Look a case up as case, scan, session and subject, with and without its dataset."""
    if isinstance(found, LeftOut):
        names = [found.name]
    else:
        session = f"{found.subject}_{found.session}" if found.session else found.subject
        names = [found.identifier, _stem(found.reference), session, found.subject]
    tried = [*names, *(f"{found.dataset}/{name}" for name in names)]
    return next((excluded[name] for name in tried if name in excluded), None)


def _read_labels(name: str, root: Path, options: ConvertOptions) -> _Dataset:
    """Read one dataset's labels; the folders of ``--labels`` count one after the other."""
    given = options.labels.get(name)
    try:
        folders = given or tuple(label_folders(root))
        groups = (
            [find_lesion_labels(folder, options.rater) for folder in given]
            if given
            else [find_lesion_labels(root, options.rater)]
        )
    except UsageError as error:
        raise UsageError(f"{error} See --labels.") from error
    chosen: dict[tuple[str, str | None], LesionFile] = {}
    aside: list[LesionFile] = []
    for group in groups:
        best, others = choose_labels(group)
        aside += [label for label, _ in others]
        for label in best:
            kept = chosen.setdefault((label.scan, label.contrast), label)
            if kept is not label:
                aside.append(label)
    return _Dataset(name, root, folders, tuple(chosen.values()), tuple(aside))


def _early(
    session: Session, dataset: _Dataset, site: str, options: ConvertOptions
) -> Iterator[CasePlan | LeftOut]:
    """Make a case of a session."""
    of_reference = [scan for scan in session.scans if scan.contrast == options.reference]
    labels = {
        scan.path: label
        for scan in of_reference
        if (label := _label_of(scan, session, dataset, options.reference))
    }
    usable = tuple(
        scan for scan in session.scans if scan not in of_reference or scan.path in labels
    )
    try:
        if of_reference and not labels:
            raise MissingContrast(_no_label(session, dataset, options))
        choice = select(
            replace(session, scans=usable),
            *(options.reference, options.contrasts, options.bids_filters),
        )
    except MissingContrast as error:
        yield LeftOut(dataset.name, session.identifier, "unlabelled", str(error))
        return
    reference, second = choice.reference, choice.second
    contrast = "+".join(scan.contrast for scan in (reference, second) if scan)
    yield _case(
        session.identifier,
        *(session, dataset, site, contrast, reference, second, labels[reference.path], options),
    )


def _late(
    session: Session, dataset: _Dataset, site: str, options: ConvertOptions
) -> Iterator[CasePlan | LeftOut]:
    """Make a case of each scan."""
    for scan in session.scans:
        if scan.contrast not in options.contrasts:
            continue
        name = _stem(scan)
        label = _label_of(scan, session, dataset, options.reference)
        try:
            # What is no image of its contrast, such as an inversion, is no candidate either.
            select(replace(session, scans=(scan,)), scan.contrast, (), options.bids_filters)
            if label is None:
                raise MissingContrast(f"{name} has no lesion label.")
        except MissingContrast as error:
            yield LeftOut(dataset.name, name, "unlabelled", str(error))
            continue
        yield _case(
            *(name, session, dataset, site, scan.contrast, scan, None, label, options),
        )


def _case(
    name: str,
    session: Session,
    dataset: _Dataset,
    site: str,
    contrast: str,
    reference: Scan,
    second: Scan | None,
    label: LesionFile,
    options: ConvertOptions,
) -> CasePlan:
    others = [
        one.path.name
        for one in dataset.set_aside
        if (one.scan, one.contrast) == (label.scan, label.contrast)
    ]
    return CasePlan(
        identifier=case_identifier(dataset.name, name),
        dataset=dataset.name,
        root=dataset.root,
        subject=f"sub-{session.subject}",
        session=f"ses-{session.session}" if session.session else None,
        site=site,
        contrast=contrast,
        reference=reference,
        second=second,
        lesion=label,
        cord=_cord_of(reference, session, dataset, options.reference),
        two_channels=options.fusion == "early",
        remarks=(f"other labels not used: {', '.join(others)}",) if others else (),
    )


def _label_of(scan: Scan, session: Session, dataset: _Dataset, reference: str) -> LesionFile | None:
    name = scan_name(scan)
    mine = [label for label in dataset.labels if label.scan == name]
    named = next((label for label in mine if label.contrast == scan.contrast), None)
    if named is not None or not _owns_unnamed(scan, session, reference):
        return named
    return next((label for label in mine if label.contrast is None), None)


def _owns_unnamed(scan: Scan, session: Session, reference: str) -> bool:
    """Tell whether a label that names no contrast is this scan's."""
    alike = [other for other in session.scans if scan_name(other) == scan_name(scan)]
    return len(alike) == 1 or scan.contrast == reference


def _cord_of(scan: Scan, session: Session, dataset: _Dataset, reference: str) -> Path | None:
    folders = {str(number): folder for number, folder in enumerate(dataset.folders)}
    found = find_given(folders, session, scan).cord
    if found is None:
        return None
    names_it = f"_{scan.suffix}_" in found.path.name
    return found.path if names_it or _owns_unnamed(scan, session, reference) else None


def _no_label(session: Session, dataset: _Dataset, options: ConvertOptions) -> str:
    of_session = {scan_name(scan): scan for scan in session.scans}
    others = sorted(
        {label.contrast for label in dataset.labels if label.scan in of_session and label.contrast}
    )
    hint = f" There is one for {', '.join(others)}: see --reference." if others else ""
    return f"{session.identifier} has no lesion label for its {options.reference}.{hint}"


def _name(case: CasePlan) -> str:
    if not case.two_channels:
        return _stem(case.reference)
    return f"{case.subject}_{case.session}" if case.session else case.subject


def _stem(scan: Scan) -> str:
    return scan.path.name.removesuffix(".gz").removesuffix(".nii")


def contrasts_in(cases: Sequence[CasePlan]) -> set[str]:
    """List the contrasts that the cases show."""
    return {part for case in cases for part in case.contrast.split("+")}
