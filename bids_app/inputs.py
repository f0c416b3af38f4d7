"""What decides the results of a session, and whether those that are there still stand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from bids_app import __version__
from bids_app.dataset.derivatives import fingerprint, is_up_to_date, sidecar_path
from bids_app.dataset.templates import TemplateFiles
from bids_app.errors import UnreadableImage
from bids_app.lesions.preset import Preset
from bids_app.options import Options
from bids_app.records import Job
from bids_app.segmentation.manifest import Manifest, find_model, read_manifest


@dataclass(frozen=True)
class Inputs:
    """Everything of a run that decides the results of its sessions.

    Attributes
    ----------
    options : Options
    preset : Preset
    manifest : Manifest
        Of the model.
    template : TemplateFiles or None
    """

    options: Options
    preset: Preset
    manifest: Manifest
    template: TemplateFiles | None = None

    def hash(self, job: Job) -> str:
        """Hash the images' contents and the settings."""
        sources = (job.reference, job.second, job.cord, job.discs)
        return fingerprint([source.path for source in sources if source], self._settings(job))

    def settings_hash(self, job: Job) -> str:
        """Hash what decides the results beside the images' contents."""
        return fingerprint([], self._settings(job))

    def is_done(self, job: Job) -> bool:
        """Tell whether a session's results are up to date; nothing is written."""
        if self.options.force or not sidecar_path(job.outputs["lesion_mask"]).exists():
            return False
        try:
            return is_up_to_date(job, self.hash(job))
        except UnreadableImage:
            return False

    @cached_property
    def _cord_model_hash(self) -> str:
        return read_manifest(find_model(None)).fingerprint

    @cached_property
    def _template_hash(self) -> str | None:
        return fingerprint(self.template.paths, {}) if self.template else None

    def _settings(self, job: Job) -> dict[str, object]:
        return {
            "version": __version__,
            "model": self.manifest.to_json(),
            "cord model": self._cord_model_hash,
            "preset": self.preset.session_settings,
            "device": self.options.device,
            "contrasts": [job.reference.contrast, job.second.contrast if job.second else None],
            "given": [bool(job.cord), bool(job.discs)],
            "template": self._template_hash if job.discs else None,
            "outputs": sorted(job.outputs),
        }
