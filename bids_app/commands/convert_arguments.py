"""The options of ``cordlesion convert``, validated once."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_app.arguments import DEFAULT_CONTRASTS, DEFAULT_REFERENCE
from bids_app.conversion.identifiers import dataset_label
from bids_app.dataset.filters import Filter, read_filters
from bids_app.errors import UsageError
from bids_app.places import absolute, check_dataset
from bids_app.resources import machine_cpus

_EXAMPLE = """\
example, from nothing (the second line takes a minute or two):
  cordlesion demo spines --subjects 4
  cordlesion convert spines --out nnunet_raw --id 501

two datasets with names of your choice, one held out for testing:
  cordlesion convert basel=/data/basel/bids paris=/data/paris/bids --out nnunet_raw \\
      --labels paris=derivatives/labels_rater1 --hold-out-dataset paris
"""
_NAME = re.compile(r"[0-9A-Za-z]+")
_MOST_DATASETS = 999


@dataclass(frozen=True)
class ConvertOptions:
    """What to convert and how.

    Attributes
    ----------
    datasets : mapping of str to Path
        BIDS datasets by name, in the order given.
    folder : Path
        The nnU-Net dataset, ``DatasetNNN_Name``.
    fusion : str
        ``early``: a case a session, reference and second contrast; ``late``: a case a scan.
    reference : str
    contrasts : tuple of str
        Early: the preferred second contrast first. Late: which scans become cases.
    bids_filters : mapping
    labels : mapping of str to tuple of Path
        Folders with labels by dataset, the preferred one first; none: found by the rule of
        `bids_app.dataset.labels`.
    rater : str or None
    cord : str
        ``box``: where there is no cord mask, the box's model finds it; ``required``.
    test_share : float
    folds, seed : int
    held_out_datasets, held_out_contrasts : tuple of str
    splits : Path or None
    new_split : bool
        Do not keep the places of an earlier conversion.
    exclude : Path or None
    on_problem : str
        ``exclude`` or ``fail``.
    n_cpus : int
    """

    datasets: Mapping[str, Path]
    folder: Path
    fusion: str
    reference: str
    contrasts: tuple[str, ...]
    bids_filters: Mapping[str, Filter]
    labels: Mapping[str, tuple[Path, ...]]
    rater: str | None
    cord: str
    test_share: float
    folds: int
    seed: int
    held_out_datasets: tuple[str, ...]
    held_out_contrasts: tuple[str, ...]
    splits: Path | None
    new_split: bool
    exclude: Path | None
    on_problem: str
    n_cpus: int


def add_convert(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand; what runs it is imported when it runs."""
    parser = commands.add_parser(
        "convert",
        help="make an nnU-Net dataset of BIDS datasets",
        description="Make one nnU-Net v2 dataset of any number of BIDS datasets with lesion "
        "labels. The sources are only read. The same command goes on with a conversion that was "
        "stopped, and takes in datasets that are named in addition. See docs/training.md.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "datasets",
        nargs="+",
        metavar="[NAME=]BIDS_DIR",
        help="BIDS datasets; NAME (default: the folder's name) goes into the cases' identifiers",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="NNUNET_RAW", help="nnU-Net's raw folder"
    )
    parser.add_argument("--id", type=int, default=501, metavar="N", help="default: %(default)s")
    parser.add_argument("--name", default="CordLesion", help="default: %(default)s")
    _add_content(parser.add_argument_group("what becomes a case"))
    _add_split(parser.add_argument_group("split, by subject"))
    _add_conduct(parser.add_argument_group("conduct"))
    parser.set_defaults(run=_run)


def _add_content(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fusion",
        choices=("early", "late"),
        default="early",
        help="early: a case a session with two channels, the reference and the second contrast "
        "registered to it (zeros where there is none); late: a case a scan (default: %(default)s)",
    )
    group.add_argument(
        "--reference", default=DEFAULT_REFERENCE, metavar="CONTRAST", help="default: %(default)s"
    )
    group.add_argument(
        "--contrasts",
        nargs="+",
        metavar="CONTRAST",
        help="early: preference for the second contrast; late: which scans to take (default: "
        f"{' '.join(DEFAULT_CONTRASTS)}; late also the reference)",
    )
    group.add_argument("--bids-filter-file", type=Path, metavar="FILE", help="as for 'run'")
    group.add_argument(
        "--labels",
        nargs="+",
        metavar="[NAME=]FOLDER",
        help="folders with lesion and cord labels, below each dataset or that of NAME; the first "
        "that labels a scan counts (default: derivatives/labels*, or the one other derivatives "
        "folder that has lesion labels)",
    )
    group.add_argument("--rater", metavar="LABEL", help="take lesion labels named desc-LABEL")
    group.add_argument(
        "--cord",
        choices=("box", "required"),
        default="box",
        help="without a cord mask: let the model in the box find the cord, or leave the case out "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--exclude",
        type=Path,
        metavar="FILE",
        help="subjects, sessions, scans or cases to leave out, one a line, a reason after a tab",
    )


def _add_split(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--test-share", type=float, default=0.2, help="default: %(default)s")
    group.add_argument("--folds", type=int, default=5, help="default: %(default)s")
    group.add_argument("--seed", type=int, default=42, help="default: %(default)s")
    group.add_argument("--hold-out-dataset", nargs="+", default=(), metavar="NAME")
    group.add_argument("--hold-out-contrast", nargs="+", default=(), metavar="CONTRAST")
    group.add_argument(
        "--splits",
        metavar="FILE|new",
        help="keep the split of a cases.tsv, a table with participant_id and split, or a "
        "splits_final.json; 'new' forgets that of an earlier conversion in the same place",
    )


def _add_conduct(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--on-problem",
        choices=("exclude", "fail"),
        default="exclude",
        help="a label or image that cannot be used: leave the case out and go on, or stop before "
        "the dataset is completed, with exit code 1 (default: %(default)s)",
    )
    group.add_argument("--skip-bids-validation", action="store_true")
    group.add_argument("--n-cpus", "--n_cpus", type=int, metavar="N", help="default: all")
    group.add_argument(
        "-v", action="count", default=0, dest="verbosity", help="say more; twice for everything"
    )


def convert_options(
    namespace: argparse.Namespace, environ: Mapping[str, str] = os.environ
) -> ConvertOptions:
    """Validate the command line.

    Raises
    ------
    UsageError
    """
    datasets = _datasets(namespace.datasets)
    for root in datasets.values():
        check_dataset(root, namespace.skip_bids_validation)
    _check_numbers(namespace)
    unknown = [name for name in namespace.hold_out_dataset if name not in datasets]
    if unknown:
        raise UsageError(
            f"--hold-out-dataset {' '.join(unknown)}: no such dataset. There are "
            f"{', '.join(datasets)}."
        )
    new = namespace.splits == "new"
    given = absolute(Path(namespace.splits)) if namespace.splits and not new else None
    filters: Path | None = namespace.bids_filter_file
    exclude = absolute(namespace.exclude) if namespace.exclude else None
    for option, path in (("--splits", given), ("--exclude", exclude)):
        if path and not path.is_file():
            raise UsageError(f"{option} {path} is not a file.")
    default = [one for one in DEFAULT_CONTRASTS if one != namespace.reference]
    if namespace.fusion == "late":
        default.insert(0, namespace.reference)
    return ConvertOptions(
        datasets=datasets,
        folder=_folder(namespace, datasets),
        fusion=namespace.fusion,
        reference=namespace.reference,
        contrasts=tuple(dict.fromkeys(namespace.contrasts or default)),
        bids_filters=read_filters(absolute(filters)) if filters else {},
        labels=_labels(namespace.labels or (), datasets),
        rater=namespace.rater.removeprefix("desc-") if namespace.rater else None,
        cord=namespace.cord,
        test_share=namespace.test_share,
        folds=namespace.folds,
        seed=namespace.seed,
        held_out_datasets=tuple(namespace.hold_out_dataset),
        held_out_contrasts=tuple(namespace.hold_out_contrast),
        splits=given,
        new_split=new,
        exclude=exclude,
        on_problem=namespace.on_problem,
        n_cpus=namespace.n_cpus or machine_cpus(environ),
    )


def _datasets(items: Sequence[str]) -> dict[str, Path]:
    """Name each dataset; names that would look alike in a file name are refused."""
    result: dict[str, Path] = {}
    for item in items:
        name, equals, folder = item.partition("=")
        # A path may have '=' in it; a name has no slash.
        if not equals or "/" in name or Path(item).is_dir():
            name, folder = "", item
        root = absolute(Path(folder))
        name = name or root.name
        twins = [one for one in result if dataset_label(one).lower() == dataset_label(name).lower()]
        if twins:
            raise UsageError(
                f"{result[twins[0]]} and {root} would both be called {dataset_label(name)!r}: name "
                f"one of them, such as other={root}."
            )
        if root in result.values():
            raise UsageError(f"{root} is given twice.")
        result[name] = root
    return result


def _check_numbers(namespace: argparse.Namespace) -> None:
    if not 1 <= namespace.id <= _MOST_DATASETS:
        raise UsageError(f"--id {namespace.id} is no nnU-Net dataset number: give 1 to 999.")
    if _NAME.fullmatch(namespace.name) is None:
        raise UsageError(f"--name {namespace.name!r} may have letters and digits only.")
    if not 0 <= namespace.test_share < 1:
        raise UsageError(f"--test-share {namespace.test_share} is not from 0 to below 1.")
    if namespace.folds < 2:
        raise UsageError(f"--folds {namespace.folds} is too few: give 2 or more.")
    if namespace.n_cpus is not None and namespace.n_cpus < 1:
        raise UsageError(f"--n-cpus {namespace.n_cpus} is too few: give 1 or more.")


def _folder(namespace: argparse.Namespace, datasets: Mapping[str, Path]) -> Path:
    """Name the nnU-Net dataset's folder; refuse one in a source, or a second one of its number."""
    out = absolute(namespace.out)
    folder = out / f"Dataset{namespace.id:03d}_{namespace.name}"
    for root in datasets.values():
        for place, source in ((folder, root), (folder.resolve(), root.resolve())):
            if place.is_relative_to(source) or source.is_relative_to(place):
                raise UsageError(f"--out {out} lies in {root}: choose a folder outside.")
    others = [one for one in out.glob(f"Dataset{namespace.id:03d}_*") if one != folder]
    if others:
        raise UsageError(
            f"{others[0]} has the number {namespace.id} already: give another --id, or its --name."
        )
    if folder.exists() and (not folder.is_dir() or _is_foreign(folder)):
        raise UsageError(
            f"{folder} was not made by 'cordlesion convert': give another --id or --name."
        )
    return folder


def _is_foreign(folder: Path) -> bool:
    return any(folder.iterdir()) and not (folder / "conversion.json").is_file()


def _labels(items: Sequence[str], datasets: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """Find the label folders of each dataset; each must be there for at least one."""
    result: dict[str, list[Path]] = {}
    for item in items:
        name, equals, folder = item.partition("=")
        own = bool(equals) and name in datasets
        chosen = {name: datasets[name]} if own else dict(datasets)
        path = Path(folder if own else item).expanduser()
        places = {one: root / path for one, root in chosen.items() if (root / path).is_dir()}
        if not places:
            raise UsageError(
                f"--labels {item}: there is no folder {path} in "
                f"{', '.join(map(str, chosen.values()))}."
            )
        for one, place in places.items():
            result.setdefault(one, []).append(place)
    return {name: tuple(found) for name, found in result.items()}


def _run(namespace: argparse.Namespace) -> int:
    options = convert_options(namespace)
    from bids_app.commands.convert import convert

    return convert(options)
