"""The options of ``cordlesion compare``, validated once."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_app.errors import UsageError
from bids_app.places import absolute
from bids_app.resources import machine_cpus

METRICS = (
    "f1",
    "froc",
    "sensitivity",
    "precision",
    "fp_per_image",
    "dice",
    "nsd",
    "hd95_mm",
    "absolute_volume_difference_mm3",
)
"""What is compared unless told otherwise; the first one decides."""

COLUMNS = {
    "f1": "challenge_f1",
    "sensitivity": "challenge_sensitivity",
    "precision": "challenge_precision",
    "fp_per_image": "challenge_false_positives",
}
"""Columns of ``scans.tsv`` by the names that an evaluation's summary gives them."""

REPEATS = ("session", "run", "folder")
GROUPS = ("contrast", "dataset", "site")

_NAME = re.compile(r"[^/\\:=\s.][^/\\:=]*")
_EXAMPLE = """\
example, from nothing (the second and third line take minutes):
  cordlesion demo spines --subjects 3
  cordlesion run spines found-default participant
  cordlesion run spines found-strict participant --preset challenge-monomodal
  cordlesion compare comparison --test-set demo=spines \\
      --model default=found-default --model strict=found-strict

two models on two test sets, scored already by `cordlesion evaluate`:
  cordlesion compare comparison \\
      --model general:basel=scores/general-basel general:lyon=scores/general-lyon \\
      --model basel-only:basel=scores/basel-basel basel-only:lyon=scores/basel-lyon \\
      --trained-on basel-only=basel general=basel,lyon --against general

scan and rescan of the same people, in two folders of derivatives:
  cordlesion compare again --repeat folder --model default=scan default=rescan
"""


@dataclass(frozen=True)
class Source:
    """One ``--model`` entry: what a model found.

    Attributes
    ----------
    model : str
    test_set : str or None
        None: every test set that it has scans of.
    path : Path
        Predictions, or the output of ``cordlesion evaluate``.
    """

    model: str
    test_set: str | None
    path: Path


@dataclass(frozen=True)
class CompareOptions:
    """What to compare and how; see the command's help for the fields.

    Attributes
    ----------
    out_dir : Path
        Absolute, as all paths.
    sources : tuple of Source
    test_sets : mapping of str to Path
        Folder of references by name.
    metrics : tuple of str
    against : str or None
    correction : {"holm", "fdr"}
    missing_as_empty : bool
    trained_on : mapping of str to tuple of str
        Test sets from whose dataset a model has seen training cases.
    by : str or None
    images : tuple of Path
    gallery : int
        Scans shown for each test set.
    repeat : {"session", "run", "folder"} or None
    connectivity : int or None
    threshold : float
    rater : str or None
    n_cpus : int
    """

    out_dir: Path
    sources: tuple[Source, ...]
    test_sets: Mapping[str, Path]
    metrics: tuple[str, ...] = METRICS
    against: str | None = None
    correction: str = "holm"
    missing_as_empty: bool = False
    trained_on: Mapping[str, tuple[str, ...]] | None = None
    by: str | None = None
    images: tuple[Path, ...] = ()
    gallery: int = 3
    repeat: str | None = None
    connectivity: int | None = None
    threshold: float = 0.5
    rater: str | None = None
    n_cpus: int = 1

    @property
    def models(self) -> list[str]:
        """Give the models' names in the order of the command line."""
        return list(dict.fromkeys(source.model for source in self.sources))


def add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand; what runs it is imported when it runs."""
    parser = commands.add_parser(
        "compare",
        help="compare models on test sets, or repeated scans of the same people",
        description="Compare models on test sets: a table of models by test sets with intervals, "
        "paired tests with correction, plots and a gallery in one HTML page. With --repeat: how "
        "well repeated scans of the same people agree. See docs/comparing.md.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="where the results go")
    parser.add_argument(
        "--model",
        nargs="+",
        action="extend",
        required=True,
        metavar="NAME[:TEST_SET]=DIR",
        help="what a model found: predictions as `evaluate` takes them, or what `evaluate` wrote, "
        "which is used as it is. Without :TEST_SET, DIR/TEST_SET where there is such a folder, "
        "else DIR for all test sets",
    )
    parser.add_argument(
        "--test-set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=REFERENCE_DIR",
        help="reference labels, as `evaluate` takes them; not needed for what is scored already",
    )
    _add_comparison(parser.add_argument_group("what is compared"))
    _add_scoring(parser.add_argument_group("how predictions are scored, as in `evaluate`"))
    parser.add_argument(
        "-v", action="count", default=0, dest="verbosity", help="say more; twice for everything"
    )
    parser.set_defaults(run=_run)


def _add_comparison(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--metrics",
        nargs="+",
        metavar="M",
        default=list(METRICS),
        help="froc, f1, sensitivity, precision, fp_per_image or columns of scans.tsv; the first "
        f"decides what is shown first (default: {' '.join(METRICS)})",
    )
    group.add_argument(
        "--against",
        metavar="MODEL",
        help="test every other model against this one only (default: all pairs)",
    )
    group.add_argument(
        "--correction",
        choices=("holm", "fdr"),
        default="holm",
        help="of the p values of a metric: Holm, or Benjamini-Hochberg's false discovery rate "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--missing",
        choices=("leave-out", "empty"),
        default="leave-out",
        help="scans without a usable prediction: leave them out for all models, or count them as "
        "empty predictions (default: %(default)s)",
    )
    group.add_argument(
        "--trained-on",
        nargs="+",
        action="extend",
        default=[],
        metavar="MODEL=TEST_SET[,…]",
        help="test sets whose dataset a model was trained on; adds means over seen and unseen ones",
    )
    group.add_argument(
        "--by", choices=GROUPS, help="split each test set by this column of its scans"
    )
    group.add_argument(
        "--gallery",
        type=int,
        default=3,
        metavar="N",
        help="scans shown for each test set, those on which models differ most "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--images",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        metavar="DIR",
        help="BIDS datasets or folders of NAME.nii.gz or NAME_0000.nii.gz to show in the gallery "
        "(default: the dataset of the references; imagesTs beside labelsTs)",
    )
    group.add_argument(
        "--repeat",
        nargs="?",
        choices=REPEATS,
        const="folder",
        metavar="session|run|folder",
        help="agreement of repeated scans instead: by session or by run within each model's "
        "folder, or in several folders given for the same model name (default: folder)",
    )


def _add_scoring(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--connectivity", type=int, choices=(6, 18, 26))
    group.add_argument("--threshold", type=float, default=0.5, metavar="P")
    group.add_argument("--rater", metavar="LABEL")
    group.add_argument("--n-cpus", "--n_cpus", type=int, metavar="N", help="default: all")


def compare_options(
    namespace: argparse.Namespace, environ: Mapping[str, str] = os.environ
) -> CompareOptions:
    """Validate the command line.

    Raises
    ------
    UsageError
    """
    sources = tuple(_source(text) for text in namespace.model)
    test_sets = _test_sets(namespace.test_set)
    options = CompareOptions(
        out_dir=absolute(namespace.out_dir),
        sources=sources,
        test_sets=test_sets,
        metrics=_metrics(namespace.metrics),
        against=namespace.against,
        correction=namespace.correction,
        missing_as_empty=namespace.missing == "empty",
        trained_on=_trained_on(namespace.trained_on),
        by=namespace.by,
        images=tuple(absolute(path) for path in namespace.images),
        gallery=namespace.gallery,
        repeat=namespace.repeat,
        connectivity=namespace.connectivity,
        threshold=namespace.threshold,
        rater=namespace.rater,
        n_cpus=namespace.n_cpus or machine_cpus(environ),
    )
    _check_numbers(namespace)
    _check_folders(options)
    _check_names(options)
    return options


def _source(text: str) -> Source:
    name, separator, place = text.partition("=")
    model, colon, test_set = name.partition(":")
    if not separator or not place or (colon and not test_set):
        raise UsageError(f"--model {text}: write NAME=DIR or NAME:TEST_SET=DIR.")
    for part in (model, test_set) if colon else (model,):
        _check_name("--model", part)
    return Source(model, test_set or None, absolute(Path(place)))


def _test_sets(texts: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in texts:
        name, separator, place = text.partition("=")
        if not separator or not place:
            raise UsageError(f"--test-set {text}: write NAME=REFERENCE_DIR.")
        _check_name("--test-set", name)
        if name in found:
            raise UsageError(f"--test-set {name} is given twice: give each a name of its own.")
        found[name] = absolute(Path(place))
    return found


def _trained_on(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        model, separator, names = text.partition("=")
        if not separator:
            raise UsageError(f"--trained-on {text}: write MODEL=TEST_SET or MODEL=ONE,OTHER.")
        found[model] = (*found.get(model, ()), *(name for name in names.split(",") if name))
    return found


def _check_name(option: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{option}: '{name}' cannot be a name, because a folder is called by it: leave out "
            "/ \\ : = and a dot or space in front."
        )


def _metrics(names: Sequence[str]) -> tuple[str, ...]:
    from bids_app.evaluation.columns import scan_dictionary

    columns = list(scan_dictionary(0.5))
    measured = columns[columns.index("probability_source") + 1 :]
    known = ["froc", *COLUMNS, *measured]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3) or known[:6]
            raise UsageError(f"--metrics {name} is not known; did you mean {', '.join(close)}?")
    return tuple(dict.fromkeys(names))


def _check_numbers(namespace: argparse.Namespace) -> None:
    if not 0 <= namespace.threshold <= 1:
        raise UsageError(f"--threshold {namespace.threshold} is no probability: give 0 to 1.")
    if namespace.n_cpus is not None and namespace.n_cpus < 1:
        raise UsageError(f"--n-cpus {namespace.n_cpus} is too few: give 1 or more.")
    if namespace.gallery < 0:
        raise UsageError(f"--gallery {namespace.gallery} is too few: give 0 or more.")


def _check_folders(options: CompareOptions) -> None:
    out = options.out_dir
    inputs = [(f"--model {source.model}", source.path) for source in options.sources]
    inputs += [(f"--test-set {name}", path) for name, path in options.test_sets.items()]
    inputs += [("--images", path) for path in options.images]
    for option, folder in inputs:
        if not folder.is_dir():
            raise UsageError(f"{option}: {folder} is not a directory.")
        if folder.resolve().is_relative_to(out.resolve()):
            raise UsageError(
                f"OUT_DIR {out} is or contains {option} {folder}: choose a folder of its own."
            )
    if out.exists() and not out.is_dir():
        raise UsageError(f"OUT_DIR {out} is not a directory.")


def _check_names(options: CompareOptions) -> None:
    models = options.models
    known = {source.test_set for source in options.sources if source.test_set}
    known |= set(options.test_sets)
    for option, name, names in (
        *(("--against", name, models) for name in [options.against] if name),
        *(("--trained-on", name, models) for name in options.trained_on or ()),
    ):
        if name not in names:
            raise UsageError(f"{option} {name}: no such --model; there are {', '.join(models)}.")
    for name in (one for names in (options.trained_on or {}).values() for one in names):
        if known and name not in known:
            raise UsageError(
                f"--trained-on {name}: no such test set; there are {', '.join(sorted(known))}."
            )
    if options.repeat:
        _check_repeat(options)
        return
    seen: set[tuple[str, str | None]] = set()
    for source in options.sources:
        if (source.model, source.test_set) in seen:
            raise UsageError(
                f"--model {source.model} is given twice"
                + (f" for {source.test_set}" if source.test_set else "")
                + ". Name the test set, as in NAME:TEST_SET=DIR; several folders of one model "
                "are repeated scans, see --repeat."
            )
        seen.add((source.model, source.test_set))


def _check_repeat(options: CompareOptions) -> None:
    if options.test_sets or any(source.test_set for source in options.sources):
        raise UsageError("--repeat needs no references: leave out --test-set and :TEST_SET.")
    if options.repeat != "folder":
        return
    for model in options.models:
        if sum(source.model == model for source in options.sources) < 2:
            raise UsageError(
                f"--repeat folder: --model {model} has one folder. Give each repeat's, as in "
                f"--model {model}=SCAN {model}=RESCAN, or say --repeat session (or run) when one "
                "folder holds all."
            )


def _run(namespace: argparse.Namespace) -> int:
    options = compare_options(namespace)
    if options.repeat:
        from bids_app.commands.compare_repeat import compare_repeats

        return compare_repeats(options)
    from bids_app.commands.compare import compare

    return compare(options)
