"""Names of cases: unique, and the same whatever other datasets are converted beside."""

from __future__ import annotations

import hashlib
import re

_OTHER = re.compile(r"[^0-9A-Za-z]+")
_HASH_DIGITS = 8


def dataset_label(name: str) -> str:
    """Reduce a dataset's name to letters, digits and hyphens, for use in file names.

    Examples
    --------
    >>> dataset_label("My study (3T)"), dataset_label("ds_01")
    ('My-study-3T', 'ds-01')
    """
    return _OTHER.sub("-", name).strip("-") or "dataset"


def case_identifier(dataset: str, scan: str) -> str:
    """Name a case by its dataset and its session or scan.

    The hash of both, as they are spelled, keeps names apart that some disks take for one
    (``sub-a`` and ``sub-A``) or that lose a character here (``ds_1`` and ``ds-1``).

    Parameters
    ----------
    dataset : str
    scan : str
        ``sub-01_ses-M0``, or a scan's file name without its extension.

    Returns
    -------
    str
        A function of the two arguments only, so it never changes when data are added.

    Examples
    --------
    >>> case_identifier("demo", "sub-01_ses-M0")
    'demo_sub-01_ses-M0_149b998c'
    """
    digest = hashlib.sha256(f"{dataset}\n{scan}".encode()).hexdigest()[:_HASH_DIGITS]
    return f"{dataset_label(dataset)}_{scan}_{digest}"
