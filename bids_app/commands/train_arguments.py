"""The options of ``cordlesion train``; what runs them is imported when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from bids_app import __version__
from bids_app.errors import UsageError

DEVICES = ("auto", "cpu", "cuda")
METRICS = ("f1", "dice", "froc")
PLANNERS = ("plain", "ResEncM", "ResEncL", "ResEncXL", "small", "tiny")

_NNUNET = """\
example, a first try on a CPU (minutes), then the real thing on a GPU (days):
  cordlesion train nnunet nnUNet_raw/Dataset501_MS try --planner tiny --epochs 2 --iterations 20
  cordlesion train nnunet nnUNet_raw/Dataset501_MS run --planner ResEncL --package my-model
  cordlesion run BIDS_DIR OUT_DIR participant --model my-model

The same command goes on with a run that was stopped, and skips folds that are finished.
"""
_TUNE = """\
examples, a run of 'cordlesion train nnunet', and any folder of probabilities:
  cordlesion train tune run --metric f1
  cordlesion train tune probabilities --references labelsTr --out tuned
  cordlesion run BIDS_DIR OUT_DIR participant --preset tuned/preset.json
"""


def add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    train = commands.add_parser("train", help="train a model, tune its post-processing")
    kinds = train.add_subparsers(required=True, metavar="KIND")
    _add_box(kinds)
    _add_nnunet(kinds)
    _add_tune(kinds)


def _add_box(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    box = kinds.add_parser(
        "box", help="train the model in the box on synthetic spines, or go on with a run"
    )
    box.add_argument("folder", type=Path, metavar="RUN_DIR", help="the run; resumed when there")
    box.add_argument("--steps", type=int, default=8000, help="in all (default: %(default)s)")
    box.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    box.add_argument("--batch-size", type=int, default=2, help="default: %(default)s")
    box.add_argument(
        "--learning-rate", type=float, default=1e-3, help="AdamW's peak (default: %(default)s)"
    )
    box.add_argument(
        "--decay",
        type=float,
        default=0.25,
        help="share of the steps over which the rate falls to zero (default: %(default)s)",
    )
    box.add_argument("--workers", type=int, default=1, help="default: %(default)s")
    box.add_argument("--device", choices=DEVICES, default="auto")
    box.add_argument(
        "--start", type=Path, metavar="MODEL_DIR", help="start from the weights of this model"
    )
    box.add_argument(
        "--package", type=Path, metavar="MODEL_DIR", help="write the averaged weights there"
    )
    box.add_argument(
        "--keep",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the --start weights in those that are packaged, 0 to 1 (default: 0)",
    )
    box.set_defaults(run=_train_box)


def _add_nnunet(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "nnunet",
        help="train on an nnU-Net dataset, such as 'cordlesion convert' writes",
        description="Train on a raw nnU-Net v2 dataset with nnU-Net's own planner, preprocessing "
        "and trainer. See docs/training.md.",
        epilog=_NNUNET,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "raw", type=Path, metavar="RAW_DATASET_DIR", help="DatasetXXX_Name; never written to"
    )
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="the run; resumed when there")
    parser.add_argument(
        "--folds",
        nargs="+",
        metavar="F",
        help="numbers of folds, or all: one network on all cases (default: every fold of "
        "splits_final.json, 0 1 2 3 4 without that file)",
    )
    parser.add_argument("--configuration", choices=("2d", "3d_fullres"), help="default: 3d_fullres")
    parser.add_argument(
        "--planner",
        choices=PLANNERS,
        help="default: plain, nnU-Net's standard; ResEnc presets want GPUs of about 10, 24 and "
        "40 GB; small trains on a CPU, tiny is for trying things out",
    )
    parser.add_argument(
        "--epochs", type=int, default=1000, metavar="N", help="default: %(default)s, as nnU-Net"
    )
    parser.add_argument(
        "--iterations",
        type=int,
        default=250,
        metavar="N",
        help="of an epoch; default: %(default)s, as nnU-Net",
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="default: %(default)s")
    parser.add_argument(
        "--pretrained",
        metavar="MODEL",
        help="start from the weights of a model (box, an installed one or a folder); its plan is "
        "used, as nnU-Net does for fine-tuning",
    )
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument(
        "--general", action="store_true", help="one model for all datasets (default)"
    )
    scope.add_argument(
        "--specific",
        action="store_true",
        help="one model for each dataset that cases.tsv names, each in RUN_DIR/<dataset>",
    )
    parser.add_argument("--n-cpus", "--n_cpus", type=int, metavar="N", help="default: all")
    parser.add_argument(
        "--package",
        nargs="?",
        const="",
        metavar="NAME",
        help="at the end tune the post-processing and install the model under this name "
        "(default: the dataset's; with --specific its dataset is added)",
    )
    parser.add_argument(
        "--metric", choices=METRICS, default="f1", help="to tune for (default: %(default)s)"
    )
    _add_verbosity(parser)
    parser.set_defaults(run=_train_nnunet)


def _add_tune(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "tune",
        help="find the post-processing limits that suit a model, on validation cases",
        description="Search lesion_threshold, min_peak_probability and min_lesion_volume_mm3 on a "
        "grid, on validation predictions and never on the test split. Writes preset.json, "
        "tuning.tsv (the whole grid) and tuning.json.",
        epilog=_TUNE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="RUN_DIR|DIR",
        help="a run of 'cordlesion train nnunet', or a folder with nnU-Net's CASE.npz or "
        "CASE_label-lesion_probseg.nii.gz (and CASE_label-cord_probseg.nii.gz)",
    )
    parser.add_argument(
        "--references", type=Path, metavar="DIR", help="CASE.nii.gz; for a folder of probabilities"
    )
    parser.add_argument(
        "--cases",
        type=Path,
        metavar="TSV",
        help="table that says which cases are for the test (default: cases.tsv beside the "
        "references' folder)",
    )
    parser.add_argument(
        "--metric",
        choices=METRICS,
        default="f1",
        help="the challenge's F1 (default), Dice or FROC, averaged over cases",
    )
    parser.add_argument(
        "--preset", metavar="NAME|FILE", default="default", help="gives what is not searched"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default for a run: RUN_DIR/tuning")
    parser.add_argument("--n-cpus", "--n_cpus", type=int, metavar="N", help="default: all")
    _add_verbosity(parser)
    parser.set_defaults(run=_tune)


def _add_verbosity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-v", action="count", default=0, dest="verbosity", help="say more; twice for everything"
    )


def _train_box(namespace: argparse.Namespace) -> int:
    from bids_app.training.fit import FitSettings, fit
    from bids_app.training.package import package_box

    if not 0 <= namespace.keep <= 1 or (namespace.keep and not namespace.start):
        raise UsageError(
            f"--keep {namespace.keep}: give a share from 0 to 1, and --start with the weights."
        )
    settings = FitSettings(
        folder=namespace.folder,
        steps=namespace.steps,
        batch_size=namespace.batch_size,
        learning_rate=namespace.learning_rate,
        decay=namespace.decay,
        seed=namespace.seed,
        workers=namespace.workers,
        device=namespace.device,
        start=namespace.start,
    )
    state = fit(settings)
    if namespace.package:
        manifest = package_box(
            state, namespace.package, __version__, namespace.start, namespace.keep
        )
        print(f"Wrote {manifest}")
    return 0


def _train_nnunet(namespace: argparse.Namespace) -> int:
    _at_least_one(namespace, "epochs", "iterations", "n_cpus")
    _check_fold_names(namespace.folds)
    from bids_app.commands.train import train

    return train(namespace)


def _tune(namespace: argparse.Namespace) -> int:
    _at_least_one(namespace, "n_cpus")
    from bids_app.commands.train import tune_only

    return tune_only(namespace)


def _at_least_one(namespace: argparse.Namespace, *names: str) -> None:
    for name in names:
        value = getattr(namespace, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value} is too few: give 1 or more.")


def _check_fold_names(folds: list[str] | None) -> None:
    for fold in folds or ():
        if fold != "all" and not (fold.isascii() and fold.isdigit()):
            raise UsageError(f"--folds {fold}: give numbers such as 0 1 2 3 4, or all.")
    if folds and "all" in folds and len(folds) > 1:
        raise UsageError("--folds all is one network on all cases; it goes alone.")
