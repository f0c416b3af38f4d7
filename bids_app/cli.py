"""The command line: subcommands, exit codes, and what is said on the terminal."""

from __future__ import annotations

import argparse
import atexit
import gc
import logging
import os
import select
import signal
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TextIO

from bids_app import __version__
from bids_app.commands.challenge_arguments import add_challenge
from bids_app.commands.compare_arguments import add_compare
from bids_app.commands.convert_arguments import add_convert
from bids_app.commands.evaluate_arguments import add_evaluate
from bids_app.commands.submit_arguments import add_status, add_submit
from bids_app.commands.train_arguments import add_train
from bids_app.commands.verify import add_verify
from bids_app.errors import CordLesionError, output_refused
from bids_app.options import Options, add_app_arguments, options_from_arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; those of the process by default.

    Returns
    -------
    int
        The exit code, see `bids_app.errors`.
    """
    _collect_less()
    parser = build_parser()
    namespace = parser.parse_args(sys.argv[1:] if arguments is None else list(arguments))
    verbose = getattr(namespace, "verbosity", 0)
    _log_to_terminal(verbose)
    try:
        code = int(namespace.run(namespace))
        sys.stdout.flush()
        return code
    except CordLesionError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped by SIGINT.", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_has_gone():
            return _seen_enough()
        refused = output_refused(error) if isinstance(error, OSError) else None
        if refused is not None:
            print(f"{type(refused).__name__}: {refused}", file=sys.stderr)
            return refused.exit_code
        if verbose:
            raise
        print(
            f"{type(error).__name__}: {error}\nThis is a fault of CordLesion, not of your data. "
            "Run again with -v and report what it prints.",
            file=sys.stderr,
        )
        return CordLesionError.exit_code


def _reader_has_gone() -> bool:
    """Say whether nobody reads standard output any more; another pipe may be the broken one."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    gone = select.POLLERR | select.POLLHUP  # Linux says the first of a pipe, macOS the second
    return any(event & gone for _, event in poll.poll(0))


def _seen_enough() -> int:
    """End as a program does that writes to one that has gone, such as ``head``.

    Python would complain once more as it leaves and finds something left to write.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


class _Terminal(logging.StreamHandler[TextIO]):
    """Write to standard error as it is now, so that lines go above a live progress."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.setLevel(level)
        self.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        # A session's own line is on standard output already.
        self.addFilter(lambda record: not getattr(record, "told", False))

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


@cache
def _collect_less() -> None:
    """Let Python look for cyclic garbage less often, and not when all ends.

    Importing PyTorch and leaving with it take a third longer otherwise: each look walks over
    everything that was imported.
    """
    gc.set_threshold(50_000, 3, 3)
    atexit.register(gc.freeze)


def _log_to_terminal(verbosity: int) -> None:
    """Show warnings always, the stages of the run with ``-v``, everything with ``-vv``."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    logging.getLogger().addHandler(_Terminal(level))
    logging.getLogger("bids_app").setLevel(level)
    if verbosity > 1:
        logging.getLogger().setLevel(logging.INFO)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all subcommands; importing torch is left to those that need it."""
    parser = argparse.ArgumentParser(
        prog="cordlesion",
        description="Find multiple sclerosis lesions in spinal-cord MRI. For research use.",
    )
    parser.add_argument("--version", action="version", version=f"cordlesion {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="the BIDS App",
        description="Find multiple sclerosis lesions in a BIDS dataset of spinal-cord MRI.",
    )
    add_app_arguments(run)
    run.set_defaults(run=_run)
    add_submit(commands)
    add_status(commands)
    _add_demo(commands)
    add_convert(commands)
    add_train(commands)
    _add_models(commands)
    add_evaluate(commands)
    add_compare(commands)
    add_challenge(commands)
    _add_templates(commands)
    add_verify(commands)
    return parser


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser("demo", help="write a synthetic BIDS dataset with ground truth")
    demo.add_argument("dir", type=Path, metavar="DIR", help="where the dataset goes")
    demo.add_argument("--subjects", type=int, default=5, metavar="N", help="default: %(default)s")
    demo.add_argument("--seed", type=int, default=1, metavar="S", help="default: %(default)s")
    demo.add_argument(
        "--score",
        type=Path,
        metavar="DERIVATIVES",
        help="write nothing; compare these derivatives with the ground truth of DIR",
    )
    demo.set_defaults(run=_demo)


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    models = commands.add_parser("models", help="list, install and export models")
    actions = models.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the models that are there, and known ones")
    listing.set_defaults(run=_models_list)
    info = actions.add_parser("info", help="what a model says of itself")
    info.add_argument("name", metavar="NAME|DIR")
    info.set_defaults(run=_models_info)
    install = actions.add_parser(
        "install",
        help="take in a trained nnU-Net v2 model",
        description="Take in a trained nnU-Net v2 model. No code of it is run: its weights become "
        "data, and anything unsafe or incomplete is refused.",
    )
    install.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="a folder, zip, address or known name; several for folds that come apart",
    )
    install.add_argument("--name", metavar="N", help="default: that of the source")
    install.add_argument("--sha256", nargs="+", metavar="H", help="checked, one a source")
    install.add_argument("--replace", action="store_true", help="a model of the same name")
    install.add_argument("--half", action="store_true", help="store weights in half precision")
    _add_manifest(install.add_argument_group("what the model is, where it cannot be inferred"))
    install.set_defaults(run=_models_install)
    export = actions.add_parser("export", help="write a model as a plain nnU-Net v2 folder")
    export.add_argument("name", metavar="NAME|DIR")
    export.add_argument("dir", type=Path, metavar="DIR", help="a new folder")
    export.set_defaults(run=_models_export)


def _add_templates(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    templates = commands.add_parser("templates", help="list and install templates")
    actions = templates.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the templates in the TemplateFlow home")
    listing.set_defaults(run=_templates_list)
    install = actions.add_parser(
        "install",
        help="put a template into the TemplateFlow home",
        description="Put a template into the TemplateFlow home (TEMPLATEFLOW_HOME). PAM50 comes "
        "with the Spinal Cord Toolbox, in its folder data/PAM50.",
    )
    install.add_argument("name", metavar="NAME", help="PAM50")
    install.add_argument("source", type=Path, metavar="SOURCE", help="a folder, or a zip of it")
    install.add_argument("--replace", action="store_true", help="a template of the same name")
    install.set_defaults(run=_templates_install)


def _add_manifest(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--manifest", type=Path, metavar="FILE", help="JSON, keys of a model.json")
    group.add_argument("--channels", nargs="+", metavar="C", help="such as T2w second")
    group.add_argument("--cord-label", nargs="+", metavar="L", help="name in dataset.json")
    group.add_argument("--lesion-label", nargs="+", metavar="L", help="name in dataset.json")
    group.add_argument(
        "--orientation",
        metavar="LPI",
        help="of the training images, in the Spinal Cord Toolbox's letters",
    )
    group.add_argument("--fusion", choices=("early", "late"), help="default: early")
    group.add_argument("--preset", metavar="NAME", help="post-processing that suits the model")
    group.add_argument(
        "--crop-margin",
        nargs=3,
        type=float,
        metavar=("RL", "AP", "SI"),
        help="mm round the cord, for a model trained on images cut so",
    )
    group.add_argument("--licence", metavar="TEXT", help="of the weights")


def _run(namespace: argparse.Namespace) -> int:
    options = options_from_arguments(namespace)
    _refuse_what_is_not_there(options)
    if options.level == "participant" and options.dry_run and not options.reports_only:
        from bids_app.dry_run import show_run

        return show_run(options)
    if options.level == "participant":
        from bids_app.app import run_participant

        return run_participant(options)
    from bids_app.group_level import run_group

    return run_group(options)


def _refuse_what_is_not_there(options: Options) -> None:
    """Say so, rather than ignore an option that this version cannot honour."""
    from bids_app.errors import MissingResource

    spaces = [s for s in options.output_spaces if s not in (options.reference, "PAM50")]
    if spaces:
        raise MissingResource(
            f"--output-spaces {' '.join(spaces)}: there is no such template; PAM50 is known, and "
            f"{options.reference} for results on its own grid, which are always written."
        )


def _demo(namespace: argparse.Namespace) -> int:
    if namespace.score:
        from bids_app.commands.demo_score import score_demo

        return score_demo(namespace.dir, namespace.score)
    from bids_app.commands.demo import write_demo

    write_demo(namespace.dir, namespace.subjects, namespace.seed)
    print(f"Wrote a synthetic BIDS dataset with its ground truth to {namespace.dir}")
    return 0


def _models_list(_: argparse.Namespace) -> int:
    from bids_app.commands.models import list_models

    return list_models()


def _models_info(namespace: argparse.Namespace) -> int:
    from bids_app.commands.models import show_model

    return show_model(namespace.name)


def _models_install(namespace: argparse.Namespace) -> int:
    from bids_app.commands.models import install_model

    return install_model(namespace)


def _models_export(namespace: argparse.Namespace) -> int:
    from bids_app.commands.models import export

    return export(namespace.name, namespace.dir)


def _templates_list(_: argparse.Namespace) -> int:
    from bids_app.commands.templates import list_templates

    return list_templates()


def _templates_install(namespace: argparse.Namespace) -> int:
    from bids_app.commands.templates import install_template

    return install_template(namespace.name, namespace.source, namespace.replace)


if __name__ == "__main__":
    sys.exit(main())
