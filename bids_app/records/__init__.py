"""The nouns that travel between the stages: frozen dataclasses, no input or output.

Those of `scans`, `lesions` and `quality` are small and can be pickled; those of `images` hold
arrays and never cross a process boundary.
"""

from bids_app.records.arrays import BoolArray, FloatArray, IntArray
from bids_app.records.images import (
    Alignment,
    Combination,
    Findings,
    Glimpse,
    Prepared,
    Segmentation,
    Volume,
)
from bids_app.records.lesions import (
    LEVEL_NAMES,
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
from bids_app.records.quality import (
    IMAGE_MEASURES,
    QUALITY_MEASURES,
    SECOND_MEASURES,
    SEGMENTATION_MEASURES,
    Decision,
    Quality,
    QualityMeasure,
    Verdict,
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
    "IMAGE_MEASURES",
    "LEVEL_NAMES",
    "OTHER_NAMES",
    "QUALITY_MEASURES",
    "SECOND_MEASURES",
    "SEGMENTATION_MEASURES",
    "Alignment",
    "BoolArray",
    "Calibration",
    "Change",
    "Combination",
    "Cord",
    "Decision",
    "Expected",
    "Findings",
    "FloatArray",
    "GivenFile",
    "Glimpse",
    "IntArray",
    "Interval",
    "Job",
    "Lesion",
    "Outcome",
    "Prepared",
    "Quality",
    "QualityMeasure",
    "Scan",
    "Segmentation",
    "Session",
    "Status",
    "TrackedLesion",
    "Verdict",
    "VertebralLevel",
    "Visit",
    "Volume",
]
