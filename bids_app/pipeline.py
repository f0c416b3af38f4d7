"""The order of the stages: discover, plan, prepare, segment, refine, measure, write; aggregate."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bids_app import __version__
from bids_app.cohort.aggregate import CohortTables, aggregate
from bids_app.dataset.atomic import write_json, write_tsv
from bids_app.dataset.derivatives import fingerprint, is_up_to_date, output_paths
from bids_app.dataset.discover import discover
from bids_app.dataset.folders import list_sessions
from bids_app.dataset.participants import read_participants
from bids_app.dataset.rootfiles import write_root_files
from bids_app.dataset.select import select
from bids_app.errors import CordLesionError, NoCordFound
from bids_app.imaging.grids import resample_to, to_canonical
from bids_app.imaging.registration import register
from bids_app.imaging.volumes import read_volume
from bids_app.lesions.measure import measure
from bids_app.lesions.preset import Preset, load_preset
from bids_app.lesions.refine import refine
from bids_app.options import Options
from bids_app.records import Job, Outcome, Prepared, Session, Volume
from bids_app.results import Provenance, SessionResult, write_session
from bids_app.segmentation.manifest import Manifest, find_model, read_manifest

if TYPE_CHECKING:
    from bids_app.segmentation.weights import Model


@dataclass(frozen=True)
class Plan:
    """What a participant run will do: a value, made before anything is opened.

    Attributes
    ----------
    jobs : tuple of Job
    unusable : tuple of (Session, CordLesionError)
        Sessions without what it takes.
    preset : Preset
    manifest : Manifest
        Of the model.
    """

    jobs: tuple[Job, ...]
    unusable: tuple[tuple[Session, CordLesionError], ...]
    preset: Preset
    manifest: Manifest


def plan(options: Options) -> Plan:
    """Find the sessions and choose the scans of each; nothing is written."""
    manifest = read_manifest(find_model(options.model))
    preset = load_preset(options.preset or manifest.preset or "default")
    jobs, unusable = [], []
    for session in discover(options):
        try:
            choice = select(session, options.reference, options.contrasts, options.bids_filters)
        except CordLesionError as error:
            unusable.append((session, error))
            continue
        outputs = output_paths(options.out_dir, session, choice.reference, choice.second)
        jobs.append(Job(session, choice.reference, choice.second, outputs, choice.set_aside))
    return Plan(tuple(jobs), tuple(unusable), preset, manifest)


class Worker:
    """Process sessions one after the other; the model is loaded at the first that needs it."""

    def __init__(self, options: Options, preset: Preset, manifest: Manifest) -> None:
        self.options, self.preset, self.manifest = options, preset, manifest

    def __call__(self, job: Job) -> Outcome:
        """Process one session, or find that its results are up to date."""
        inputs = [job.reference.path] + ([job.second.path] if job.second else [])
        inputs_hash = fingerprint(inputs, self._settings(job))
        if not self.options.force and is_up_to_date(job, inputs_hash):
            return Outcome(job.session.identifier, "up-to-date")
        original = read_volume(job.reference.path)
        second = to_canonical(read_volume(job.second.path)) if job.second else None
        result = find_lesions(original, second, self.model, self.preset, self.cord_model)
        write_session(job, result, self._provenance(), inputs_hash)
        return Outcome(
            job.session.identifier, "done", len(result.lesions), warnings=result.warnings
        )

    @cached_property
    def model(self) -> Model:
        """The model, loaded once."""
        return self._load(self.options.model)

    @cached_property
    def cord_model(self) -> Model:
        """The model that finds the cord: the box's where the chosen one does not."""
        return self._load(None) if self.manifest.needs_cord_model else self.model

    def _load(self, name: str | None) -> Model:
        import torch

        from bids_app.segmentation.weights import choose_device, load_model

        torch.set_num_threads(self.options.n_cpus)
        return load_model(find_model(name), choose_device(self.options.device))

    def _settings(self, job: Job) -> dict[str, object]:
        """Give what decides the results beside the images."""
        return {
            "version": __version__,
            "model": self.manifest.to_json(),
            "cord model": read_manifest(find_model(None)).fingerprint,
            "preset": vars(self.preset),
            "device": self.options.device,
            "contrasts": [job.reference.contrast, job.second.contrast if job.second else None],
        }

    def _provenance(self) -> Provenance:
        model = self.manifest
        return Provenance(
            options=self.options,
            preset=self.preset,
            model={
                "Name": model.name,
                "Version": model.version,
                "WeightsSHA256": model.fingerprint,
                "Licence": model.licence,
                "IntendedUse": model.intended_use,
            },
            device=str(self.model.device),
            precision="bfloat16" if self.model.bf16 else "float32",
            command=shlex.join(sys.argv),
        )


def find_lesions(
    original: Volume,
    second: Volume | None,
    model: Model,
    preset: Preset,
    cord_model: Model | None = None,
) -> SessionResult:
    """Go from images to lesions: prepare, segment, refine, measure.

    Parameters
    ----------
    original : Volume
        The reference, in any orientation.
    second : Volume, optional
        The second contrast on its own grid, canonical.
    model : Model
    preset : Preset
    cord_model : Model, optional
        Finds the cord where `model` does not.

    Returns
    -------
    SessionResult
        On the canonical grid of the reference.

    Raises
    ------
    NoCordFound
    """
    from bids_app.segmentation.inference import segment

    reference = to_canonical(original)
    prepared = prepare(reference, second, cord_model or model)
    segmentation = segment(prepared, model, cord_model)
    findings = refine(segmentation.cord, segmentation.lesion, reference.spacing_mm, preset)
    if not findings.cord.any():
        raise NoCordFound(
            "No spinal cord was found in the image, so it cannot be said to be free of lesions. "
            "Look at it: wrong body part, mirrored or damaged? See --bids-filter-file."
        )
    lesions, cord = measure(findings, segmentation.lesion, reference.affine)
    warnings = _warnings(prepared)
    return SessionResult(original, prepared, segmentation, findings, lesions, cord, warnings)


def prepare(reference: Volume, second: Volume | None, cord_model: Model) -> Prepared:
    """Bring the second contrast to the reference's grid, aligned by cord and surroundings."""
    from bids_app.segmentation.inference import predict_cord

    if second is None:
        return Prepared((reference, None))
    cord = predict_cord(Prepared((reference, None)), cord_model)
    moving_cord = predict_cord(Prepared((None, second)), cord_model)
    alignment = register(second, reference, cord, moving_cord)
    moved = resample_to(second, reference, np.asarray(alignment.matrix), interpolation="linear")
    return Prepared((reference, moved), alignment)


def _warnings(prepared: Prepared) -> tuple[str, ...]:
    if prepared.alignment is not None and not prepared.alignment.accepted:
        return ("registration rejected: the headers align the contrasts at least as well",)
    return ()


def set_up(options: Options) -> None:
    """Write the files at the top of the derivatives."""
    write_root_files(options.out_dir, options.bids_dir, os.environ)


def summarise(options: Options) -> CohortTables:
    """Write the group tables from the derivatives.

    Returns
    -------
    CohortTables
    """
    known = [
        session.identifier
        for session in list_sessions(
            options.bids_dir, options.participant_labels, options.session_labels
        )
    ]
    tables = aggregate(options.out_dir, known, read_participants(options.bids_dir))
    set_up(options)
    for name, frame in (
        ("sessions", tables.sessions),
        ("lesions", tables.lesions),
        ("summary", tables.summary),
    ):
        path = options.out_dir / f"group_{name}.tsv"
        write_tsv(path, list(frame.columns), _rows(frame))
        write_json(path.with_suffix(".json"), tables.dictionaries[name])
    return tables


def _rows(frame: object) -> Sequence[dict[str, object]]:
    records = frame.astype(object).where(frame.notna(), None)  # type: ignore[attr-defined]
    return [dict(row) for row in records.to_dict("records")]
