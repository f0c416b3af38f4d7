"""Read what other derivatives say of a session's reference: its cord and its discs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bids_app.errors import UnreadableImage, UnusableMask
from bids_app.imaging.grids import same_places, to_canonical
from bids_app.imaging.volumes import read_label_map
from bids_app.lesions.discs import Discs, find_discs
from bids_app.lesions.preset import Preset
from bids_app.lesions.vertebrae import measure_vertebrae
from bids_app.records import BoolArray, Job, Volume
from bids_app.results import SessionResult


@dataclass(frozen=True)
class Known:
    """What is known of a session before the network is asked.

    Attributes
    ----------
    cord : ndarray of bool or None
        On the canonical grid of the reference.
    discs : Discs or None
    contrasts : tuple of str or None
        What the reference and the second are: a preset may have values of its own for the
        second, and a model may ask for a contrast by name. Empty where nobody knows.
    """

    cord: BoolArray | None = None
    discs: Discs | None = None
    contrasts: tuple[str | None, ...] = ()

    @property
    def second(self) -> str | None:
        """Name the second contrast."""
        return self.contrasts[1] if len(self.contrasts) > 1 else None


UNKNOWN = Known()
"""Nothing is known: the usual case."""


def read_known(job: Job, reference: Volume) -> Known:
    """Read the cord mask and the disc labels of a job.

    Disc labels may be on any grid, since only their places in the world count. When they cannot
    be read, levels are not available and a remark says why. A cord mask is what everything is
    measured against: one that does not fit ends the session.

    Parameters
    ----------
    job : Job
    reference : Volume
        In any orientation.

    Raises
    ------
    UnreadableImage, UnusableMask
        For the cord mask.
    """
    contrasts = (job.reference.contrast, job.second.contrast if job.second else None)
    return Known(_read_cord(job, reference), _read_discs(job), contrasts)


def _read_cord(job: Job, reference: Volume) -> BoolArray | None:
    """Read a mask; one stored in another orientation is turned, none is resampled."""
    if job.cord is None:
        return None
    path = job.cord.path
    mask = to_canonical(read_label_map(path))
    if not same_places(mask, to_canonical(reference)):
        raise UnusableMask(
            f"{path} is not on the voxel grid of {job.reference.path.name}: resample the mask to "
            f"it, or leave {job.cord.dataset} out of --derivatives."
        )
    cord = np.asarray(mask.data > 0)
    if not cord.any():
        raise UnusableMask(
            f"{path} is empty: segment the cord again, or leave {job.cord.dataset} out of "
            "--derivatives."
        )
    return cord


def _read_discs(job: Job) -> Discs | None:
    if job.discs is None:
        return None
    try:
        labels = read_label_map(job.discs.path)
    except UnreadableImage as error:
        return Discs({}, (str(error),))
    return find_discs(labels.data, labels.affine)


def as_given(preset: Preset) -> Preset:
    """Change a preset for a cord that is given: it is taken as it is."""
    return replace(preset, cord_threshold=0.5, fill_holes=False, keep_largest_cord=False)


def add_levels(result: SessionResult, discs: Discs | None) -> SessionResult:
    """Give cord and lesions their vertebral levels; without disc labels nothing changes."""
    if discs is None:
        return result
    vertebrae = measure_vertebrae(
        result.findings,
        result.lesions,
        result.prepared.reference.affine,
        discs.positions_mm,
    )
    remarks = (*discs.remarks, *vertebrae.axis.remarks)
    return replace(
        result,
        lesions=vertebrae.lesions,
        vertebrae=vertebrae,
        warnings=(*result.warnings, *remarks),
    )
