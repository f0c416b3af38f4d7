"""The nouns that travel between the stages: frozen dataclasses, no input or output.

Those of `scans` and `lesions` are small and can be pickled; those of `images` hold arrays and never
cross a process boundary.
"""

from bids_app.records.arrays import BoolArray, FloatArray, IntArray
from bids_app.records.images import Alignment, Combination, Findings, Prepared, Segmentation, Volume
from bids_app.records.lesions import (
    Calibration,
    Change,
    Cord,
    Expected,
    Interval,
    Lesion,
    TrackedLesion,
    VertebralLevel,
    Visit,
)
from bids_app.records.scans import (
    CONTRASTS,
    OTHER_NAMES,
    GivenFile,
    Job,
    Outcome,
    Scan,
    Session,
    Status,
)

__all__ = [
    "CONTRASTS",
    "OTHER_NAMES",
    "Alignment",
    "BoolArray",
    "Calibration",
    "Change",
    "Combination",
    "Cord",
    "Expected",
    "Findings",
    "FloatArray",
    "GivenFile",
    "IntArray",
    "Interval",
    "Job",
    "Lesion",
    "Outcome",
    "Prepared",
    "Scan",
    "Segmentation",
    "Session",
    "Status",
    "TrackedLesion",
    "VertebralLevel",
    "Visit",
    "Volume",
]
