"""The same work inside an Apptainer image: what it sees and how it is called."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_app.dataset.templates import templates_home
from bids_app.errors import CordLesionError
from bids_app.execution.notes import Notes
from bids_app.files import write_json
from bids_app.options import Options
from bids_app.places import absolute
from bids_app.records import Job
from bids_app.segmentation.store import models_folder

# 1: sessions failed, which the notes tell; a job's state comes from them.
_NOTED = (0, 1)
# By the signal with which Slurm asks to make way; the container gets it at the same moment.
_MAKES_WAY = (-12, 128 + 12)
_WAIT_SECONDS = 30


@dataclass(frozen=True)
class Container:
    """An image, what of this file system it sees, and the options it is run with.

    Attributes
    ----------
    command : tuple of str
        Up to and with the image.
    arguments : tuple of str
        Options of the BIDS App, without labels.
    """

    command: tuple[str, ...]
    arguments: tuple[str, ...]

    @classmethod
    def of(
        cls,
        program: str,
        image: Path,
        options: Options,
        filter_file: Path | None,
        environ: Mapping[str, str],
        gpu: bool,
    ) -> Container:
        """Build the call: the dataset read-only, OUT_DIR writable, and what is named."""
        homes = {
            "CORDLESION_MODELS": models_folder(environ),
            "TEMPLATEFLOW_HOME": templates_home(environ),
        }
        homes = {name: path for name, path in homes.items() if path.is_dir()}
        named = (_as_path(options.model), _as_path(options.preset), filter_file,
                 options.decisions_file)  # fmt: skip
        read = [options.bids_dir, *options.derivatives.values(), *homes.values()]
        read += [path for path in named if path]
        written = [options.out_dir, options.work_dir, options.bids_database_dir]
        command = [program, "run", "--containall", "--cleanenv", "--no-home"]
        command += ["--nv"] if gpu else []
        for path in dict.fromkeys(read):
            command += ["-B", f"{path}:{path}:ro"]
        # Below the dataset, OUT_DIR must come after it.
        for path in (path for path in written if path):
            command += ["-B", f"{path}:{path}"]
        for name, path in homes.items():
            command += ["--env", f"{name}={path}"]
        return cls((*command, str(image)), tuple(_arguments(options, filter_file)))

    def call(self, options: Options, level: str, more: Iterable[str] = ()) -> list[str]:
        """Give the whole command for one level."""
        places = (str(options.bids_dir), str(options.out_dir), level)
        return [*self.command, *places, *self.arguments, *more]


@dataclass(frozen=True)
class ContainerWork:
    """Do the sessions of a batch in a container; they are noted from inside."""

    container: Container
    options: Options

    def __call__(self, jobs: Sequence[Job], notes: Notes) -> None:
        """Run the image on these sessions.

        Raises
        ------
        CordLesionError
            It ended before it was through.
        """
        file = notes.path.with_suffix(".json")
        sessions = [job.session.identifier for job in jobs]
        write_json(file, {"sessions": sessions, "notes": notes.path})
        subjects = dict.fromkeys(job.session.subject for job in jobs)
        more = ("--participant-label", *subjects, "--batch", str(file))
        run(self.container.call(self.options, "participant", more))


def run(command: Sequence[str]) -> None:
    """Run a container, with its output in this job's log.

    Raises
    ------
    CordLesionError
    """
    code = subprocess.run(command).returncode  # noqa: S603 - no shell
    if code in _MAKES_WAY:
        # Our own signal handler is about to put this job back into the queue.
        time.sleep(_WAIT_SECONDS)
    if code not in _NOTED:
        raise CordLesionError(f"The container ended with code {code}; its output is above.")


def _arguments(options: Options, filter_file: Path | None) -> Iterable[str]:
    """Write options as they were given to ``submit``, with absolute paths."""
    yield from ("--reference", options.reference)
    if options.contrasts:
        yield from ("--contrasts", *options.contrasts)
    yield from ("--outputs", options.outputs, "--device", options.device)
    yield from ("--output-spaces", *options.output_spaces)
    yield from ("--n-cpus", str(options.n_cpus), "--mem", f"{options.memory_bytes >> 20}M")
    for option, value in (
        ("--bids-filter-file", filter_file),
        ("--model", _as_path(options.model) or options.model),
        ("--preset", _as_path(options.preset) or options.preset),
        ("--work-dir", options.work_dir),
        ("--bids-database-dir", options.bids_database_dir),
        ("--group-column", options.group_column),
        ("--exclude-qc", options.decisions_file),
    ):
        if value is not None:
            yield from (option, str(value))
    if options.derivatives:
        yield from ("--derivatives", *(f"{k}={v}" for k, v in options.derivatives.items()))
    if options.covariates:
        yield from ("--covariates", *options.covariates)
    if options.skip_bids_validation:
        yield "--skip-bids-validation"
    if options.force:
        yield "--force"
    if options.verbosity:
        yield "-" + "v" * options.verbosity


def _as_path(text: str | None) -> Path | None:
    """Take a name or a path for a path where there is something at it."""
    if text is None:
        return None
    path = absolute(Path(text))
    return path if path.exists() else None
