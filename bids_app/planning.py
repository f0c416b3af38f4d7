"""What a participant run will do, found without opening an image."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from bids_app.dataset.derivatives import minimal, output_paths, region_paths, template_paths
from bids_app.dataset.discover import discover
from bids_app.dataset.given import find_given
from bids_app.dataset.select import select
from bids_app.dataset.templates import (
    PAM50,
    RESOLUTION,
    TemplateFiles,
    find_template,
    templates_home,
)
from bids_app.errors import CordLesionError, MissingResource
from bids_app.lesions.preset import Preset, load_preset
from bids_app.options import Options
from bids_app.records import Job, Session
from bids_app.segmentation.manifest import Manifest, find_model, read_manifest


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
    template : TemplateFiles or None
        PAM50, when there are disc labels that lead to it.
    """

    jobs: tuple[Job, ...]
    unusable: tuple[tuple[Session, CordLesionError], ...]
    preset: Preset
    manifest: Manifest
    template: TemplateFiles | None = None

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Give all selected sessions, usable or not."""
        return (*(job.session for job in self.jobs), *(session for session, _ in self.unusable))

    def only(self, identifiers: Collection[str]) -> Plan:
        """Give the part of the plan that is about these sessions."""
        jobs = tuple(job for job in self.jobs if job.session.identifier in identifiers)
        unusable = tuple(one for one in self.unusable if one[0].identifier in identifiers)
        return replace(self, jobs=jobs, unusable=unusable)


def plan_run(options: Options) -> Plan:
    """Find the sessions and choose the scans of each; nothing is written."""
    manifest, preset = choose_rules(options.model, options.preset)
    jobs, unusable = [], []
    for session in discover(options):
        try:
            choice = select(session, options.reference, options.contrasts, options.bids_filters)
        except CordLesionError as error:
            unusable.append((session, error))
            continue
        given = find_given(options.derivatives, session, choice.reference)
        outputs = output_paths(
            *(options.out_dir, session, choice.reference, choice.second), given.discs is not None
        )
        if options.outputs == "minimal":
            outputs = minimal(outputs)
        jobs.append(
            Job(session, choice.reference, choice.second, outputs, choice.set_aside, *given)
        )
    template = _template(options, any(job.discs for job in jobs))
    jobs = [_in_template(job, options, template) for job in jobs]
    plan = Plan(tuple(jobs), tuple(unusable), preset, manifest, template)
    return plan.only(options.batch.sessions) if options.batch else plan


def _template(options: Options, labelled: bool) -> TemplateFiles | None:
    """Find PAM50: it must be there when it is asked for, and may be when there are levels."""
    wanted = PAM50 in options.output_spaces
    if not wanted and not labelled:
        return None
    try:
        return find_template(templates_home(os.environ), PAM50)
    except MissingResource:
        if wanted:
            raise
        return None


def _in_template(job: Job, options: Options, template: TemplateFiles | None) -> Job:
    """Add what a session with disc labels gives in a template's space."""
    if template is None or job.discs is None:
        return job
    more: dict[str, Path] = {}
    if PAM50 in options.output_spaces:
        more |= template_paths(options.out_dir, job.session, job.reference, PAM50, RESOLUTION)
    if template.regions and options.outputs != "minimal":
        more |= region_paths(options.out_dir, job.session, job.reference)
    return replace(job, outputs={**job.outputs, **more})


def choose_rules(model: str | None, preset: str | None) -> tuple[Manifest, Preset]:
    """Read what a model says of itself, and the post-processing that goes with it."""
    folder = find_model(model)
    manifest = read_manifest(folder)
    return manifest, _preset(preset, manifest, folder)


def _preset(wanted: str | None, manifest: Manifest, folder: Path) -> Preset:
    """Load the preset that is asked for, the one in the model's folder, or a shipped one."""
    own = manifest.preset or "default"
    if wanted is None and Path(own).name == own and (folder / own).is_file():
        # Named by the model: where the store lies must not make results out of date.
        return replace(load_preset(folder / own), name=f"{manifest.name}/{own}")
    return load_preset(wanted or own)
