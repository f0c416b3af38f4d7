"""What is on disk and what will be done with it: small, and can be pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

Status = Literal["done", "up-to-date", "failed"]
# The contrasts that are known by name, and what files and models may call them instead.
CONTRASTS = ("T2w", "STIR", "PSIR", "UNIT1", "T1w", "T2starw", "PDw")
OTHER_NAMES = {"T2star": "T2starw", "MP2RAGE": "UNIT1", "PD": "PDw"}


@dataclass(frozen=True)
class Scan:
    """One image file and what its name says.

    Attributes
    ----------
    path : Path
        The NIfTI file.
    entities : mapping
        BIDS entities by their short key (``sub``, ``ses``, ``acq``, ``run``, ...), without
        suffix and extension.
    suffix : str
        The last part of the name, such as ``T2w``.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str

    @cached_property
    def contrast(self) -> str:
        """Name the contrast: ``acq-STIR_T2w`` is a STIR, whatever its suffix says."""
        acquisition = self.entities.get("acq", "").upper()
        for name in ("STIR", "PSIR"):
            if acquisition.startswith(name):
                return name
        return OTHER_NAMES.get(self.suffix, self.suffix)


@dataclass(frozen=True)
class Session:
    """All scans of one visit of one subject; labels come without ``sub-`` and ``ses-``."""

    subject: str
    session: str | None
    scans: tuple[Scan, ...] = ()

    @property
    def identifier(self) -> str:
        """Give ``sub-01_ses-M0``, or ``sub-01`` in a dataset without sessions."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")


@dataclass(frozen=True)
class GivenFile:
    """A file of other derivatives that a session uses.

    Attributes
    ----------
    path : Path
    dataset : str
        Name of the derivatives, as given with ``--derivatives NAME=DIR``.
    root : Path
        Their folder.
    """

    path: Path
    dataset: str
    root: Path


@dataclass(frozen=True)
class Job:
    """What will be done for one session: decided before anything is opened.

    Attributes
    ----------
    session : Session
    reference : Scan
        The scan that gives the grid of all results.
    second : Scan or None
        The second contrast.
    outputs : mapping
        Absolute path of each result by a short key (``lesion_mask``, ``cord_mask``, ...).
    set_aside : tuple of (Scan, str)
        Scans that are not used, each with the reason.
    cord, discs : GivenFile or None
        An existing cord mask and disc labels of the reference.
    """

    session: Session
    reference: Scan
    second: Scan | None
    outputs: Mapping[str, Path]
    set_aside: tuple[tuple[Scan, str], ...] = ()
    cord: GivenFile | None = None
    discs: GivenFile | None = None


@dataclass(frozen=True)
class Outcome:
    """The only thing that comes back from a worker."""

    identifier: str
    status: Status
    lesions: int | None = None
    seconds: float = 0.0
    error: str | None = None
    warnings: tuple[str, ...] = field(default_factory=tuple)
