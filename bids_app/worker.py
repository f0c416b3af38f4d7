"""Process sessions in one process: resume, load the model once, say what was used."""

from __future__ import annotations

import gc
import logging
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from bids_app.dataset.derivatives import (
    is_up_to_date,
    report_path,
    sidecar_path,
)
from bids_app.dataset.templates import TemplateFiles
from bids_app.given import read_known
from bids_app.imaging.grids import to_canonical
from bids_app.imaging.volumes import read_volume
from bids_app.inputs import Inputs
from bids_app.lesions.preset import Preset
from bids_app.lesions.uncertainty import applicable
from bids_app.options import Options
from bids_app.pipeline import find_lesions
from bids_app.records import Job, Outcome
from bids_app.reporting import write_report
from bids_app.results import Provenance, SessionResult, write_session
from bids_app.segmentation.manifest import Manifest, find_model
from bids_app.template_space import carry, load_template, with_tissue
from bids_app.terminal.stages import entering, starting

if TYPE_CHECKING:
    from bids_app.lesions.atlas import TemplateCord
    from bids_app.segmentation.weights import Model

log = logging.getLogger("bids_app")


class Worker:
    """Process sessions one after the other; the model is loaded at the first that needs it."""

    def __init__(
        self,
        options: Options,
        preset: Preset,
        manifest: Manifest,
        template: TemplateFiles | None = None,
        command: str | None = None,
    ) -> None:
        self.options, self.preset, self.manifest = options, preset, manifest
        self.template_files = template
        self.inputs = Inputs(options, preset, manifest, template)
        self.command = command or shlex.join(sys.argv)
        self._has_begun = False

    def __reduce__(self) -> tuple[Callable[..., Worker], tuple[object, ...]]:
        """Be pickled without what was loaded: models stay where they are."""
        return Worker, (
            *(self.options, self.preset, self.manifest),
            *(self.template_files, self.command),
        )

    def with_cpus(self, number: int) -> Worker:
        """Give one that does the same with another number of cores; no result depends on it."""
        options = replace(self.options, n_cpus=number)
        return Worker(options, self.preset, self.manifest, self.template_files, self.command)

    def __call__(self, job: Job) -> Outcome:
        """Process one session, or find that its results are up to date."""
        starting(job.session.identifier)
        inputs_hash = self.inputs.hash(job)
        if not self.options.force and is_up_to_date(job, inputs_hash):
            missing = not report_path(self.options.out_dir, job.session).exists()
            warnings = self._report(job) if missing else ()
            return Outcome(job.session.identifier, "up-to-date", warnings=warnings)
        self._forget_last()
        result = self._in_template(self.find(job))
        entering("write")
        write_session(job, result, self._provenance(job), inputs_hash)
        entering("report")
        warnings = (*result.warnings, *self._report(job))
        return Outcome(job.session.identifier, "done", len(result.lesions), warnings=warnings)

    def _forget_last(self) -> None:
        """Free what the session before left in cycles: the process would grow by half in ten.

        Python by itself looks for it too seldom, see `bids_app.cli`. What stays for good, the
        model and the libraries, is set aside once, so that looking costs a hundredth of a second.
        """
        if self._has_begun:
            gc.collect()
            if not gc.get_freeze_count():
                gc.freeze()
        self._has_begun = True

    def find(self, job: Job) -> SessionResult:
        """Read the scans of a session and find its lesions; nothing is written."""
        entering("read")
        original = read_volume(job.reference.path)
        second = to_canonical(read_volume(job.second.path)) if job.second else None
        known = read_known(job, original)
        return find_lesions(
            original, second, self.model, self.preset, self.cord_model, known, self.options.n_cpus
        )

    def _report(self, job: Job) -> tuple[str, ...]:
        """Write the session's report where its images are kept; remove an older run's."""
        if self.options.outputs == "minimal":
            report_path(self.options.out_dir, job.session).unlink(missing_ok=True)
            return ()
        return _report(job)

    @cached_property
    def model(self) -> Model:
        """The model, loaded once."""
        return self._load(self.options.model)

    @cached_property
    def cord_model(self) -> Model:
        """The model that finds the cord: the box's where the chosen one does not."""
        return self._load(None) if self.manifest.needs_cord_model else self.model

    @cached_property
    def template(self) -> TemplateCord | None:
        """The template, loaded once."""
        return load_template(self.template_files) if self.template_files else None

    def _in_template(self, result: SessionResult) -> SessionResult:
        """Carry the lesions to the template, where there are levels and a template."""
        if result.vertebrae is None or self.template is None:
            return result
        affine = result.prepared.reference.affine
        carried = carry(result.findings, affine, result.vertebrae.axis, self.template)
        lesions = with_tissue(result.lesions, carried.tissues)
        return replace(result, lesions=lesions, in_template=carried)

    def _load(self, name: str | None) -> Model:
        import torch

        from bids_app.segmentation.weights import choose_device, load_model

        torch.set_num_threads(self.options.n_cpus)
        return load_model(find_model(name), choose_device(self.options.device))

    def _provenance(self, job: Job) -> Provenance:
        model = self.manifest
        calibration = applicable(model.calibration, self.preset)
        return Provenance(
            options=self.options,
            preset=self.preset,
            model={
                "Name": model.name,
                "Version": model.version,
                "WeightsSHA256": model.fingerprint,
                "Folds": len(model.weights),
                "Fusion": model.fusion,
                "SecondAlonePenalty": model.second_alone_penalty,
                "ReferenceAlonePenalty": model.reference_alone_penalty,
                "Licence": model.licence,
                "IntendedUse": model.intended_use,
                "Calibration": calibration.source if calibration else None,
            },
            device=str(self.model.device),
            precision="bfloat16" if self.model.bf16 else "float32",
            command=self.command,
            settings_hash=self.inputs.settings_hash(job),
        )


def _report(job: Job) -> tuple[str, ...]:
    """Write the session's report; that it failed is a warning, for the results are there."""
    try:
        write_report(sidecar_path(job.outputs["lesion_mask"]))
    except Exception as error:
        log.info("%s: no report", job.session.identifier, exc_info=True)
        return (f"the report was not written ({type(error).__name__}: {error})",)
    return ()
