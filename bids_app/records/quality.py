"""What is measured of the quality of a session, and what a person decided about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Quality = Mapping[str, int | float | None]
"""Value by the name of a `QualityMeasure`; None where it is undefined or there was nothing."""

Verdict = Literal["pass", "fail", "exclude"]


@dataclass(frozen=True)
class Decision:
    """What a person decided about a session, in a file of their own.

    Attributes
    ----------
    verdict : {"pass", "fail", "exclude"}
        Looked at and good; looked at and not usable; usable, but not for this study.
    reason : str or None
    """

    verdict: Verdict
    reason: str | None = None

    @property
    def leaves(self) -> bool:
        """Tell whether the session leaves the statistics."""
        return self.verdict != "pass"


@dataclass(frozen=True)
class QualityMeasure:
    """One measure of quality: what it is, and when it is worth a look.

    Attributes
    ----------
    name, title, description : str
    unit : str or None
        As BIDS writes units; None for numbers without one.
    worse : {"low", "high", "either"}
        The side on which a value is worse than the others.
    logarithmic : bool
        Whether ratios rather than differences are alike: values above zero of any size.
    second : bool
        Whether it is of the second contrast, or of both together.
    limit : float or None
        What a value must not pass, whatever the others are.
    concern : str or None
        A value beyond the limit in plain words; ``{}`` stands for the value.
    """

    name: str
    title: str
    description: str
    unit: str | None = None
    worse: Literal["low", "high", "either"] = "high"
    logarithmic: bool = False
    second: bool = False
    limit: float | None = None
    concern: str | None = None

    def beyond(self, value: float | None) -> bool:
        """Tell whether a value passes the limit, on the worse side.

        Examples
        --------
        >>> pieces = QualityMeasure("n", "N", "Pieces.", limit=1)
        >>> [pieces.beyond(value) for value in (1, 2, None)]
        [False, True, False]
        """
        if value is None or self.limit is None:
            return False
        return value < self.limit if self.worse == "low" else value > self.limit


IMAGE_MEASURES = (
    QualityMeasure(
        "voxel_mm3", "Voxel", "Volume of a voxel of the reference.", "mm^3", "either", True
    ),
    QualityMeasure(
        "slice_thickness_mm",
        "Slice thickness",
        "Largest side of the reference's voxels.",
        "mm",
        "either",
        True,
    ),
    QualityMeasure(
        "cord_snr",
        "SNR in the cord",
        "Signal-to-noise ratio in the reference: median signal of the cord without lesions / "
        "standard deviation of the noise there. The noise is that of neighbouring voxels in the "
        "plane of the slices (Immerkaer 1996, with the median), so that fine anatomy does not "
        "count as noise; interpolated or denoised images score too high.",
        worse="low",
        logarithmic=True,
    ),
    QualityMeasure(
        "cord_cnr",
        "Contrast at the cord",
        "Contrast-to-noise ratio in the reference: difference between the median signal of the "
        "cord and that of what lies 1 to 3 mm outside it / the same noise.",
        worse="low",
        logarithmic=True,
    ),
    QualityMeasure(
        "cord_signal_range",
        "Signal range along the cord",
        "How uneven the signal is along the cord: 5th to 95th percentile of the slices' medians, "
        "lesions left out / their median.",
    ),
)
"""Of the reference's image."""

SECOND_MEASURES = (
    QualityMeasure(
        "second_cord_snr",
        "SNR, second contrast",
        "As cord_snr, in the second contrast on its own grid.",
        worse="low",
        logarithmic=True,
        second=True,
    ),
    QualityMeasure(
        "second_cord_cnr",
        "Contrast at the cord, second contrast",
        "As cord_cnr, in the second contrast on its own grid.",
        worse="low",
        logarithmic=True,
        second=True,
    ),
    QualityMeasure(
        "second_coverage",
        "Cord in the second contrast",
        "Share of the reference's cord that lies in the field of view of the second contrast.",
        worse="low",
        second=True,
        limit=0.8,
        concern="the second contrast shows only {:.0%} of the cord",
    ),
    QualityMeasure(
        "registration_score",
        "Registration score",
        "Similarity of the two contrasts as they are used: normalised mutual information of "
        "local contrast round the cord, higher is better.",
        worse="low",
        second=True,
    ),
    QualityMeasure(
        "registration_shift_mm",
        "Shift by registration",
        "Mean distance by which registration moved the second contrast at the cord; 0 where the "
        "headers were as good.",
        "mm",
        second=True,
        limit=10.0,
        concern="registration moved the second contrast by {:.1f} mm",
    ),
)
"""Of the second contrast and how it was brought to the reference."""

SEGMENTATION_MEASURES = (
    QualityMeasure(
        "cord_pieces",
        "Pieces of the cord",
        "Pieces of the cord mask, voxels that touch by a corner taken together.",
        limit=1,
        concern="the cord is in {:.0f} pieces",
    ),
    QualityMeasure(
        "cord_gap_mm",
        "Gaps in the cord",
        "Height of the slices between the cord's ends that show no cord.",
        "mm",
        limit=0.0,
        concern="{:.1f} mm of the cord are missing between its ends",
    ),
    QualityMeasure(
        "cord_edge_mm",
        "Cord at the side of the image",
        "Height of the slices in which the cord mask touches the left, right, front or back "
        "side of the image.",
        "mm",
        limit=0.0,
        concern="the cord touches the side of the image over {:.1f} mm",
    ),
    QualityMeasure(
        "cord_area_step",
        "Step of the cord's area",
        "Largest change of the cord's area from one slice to the next / the median area; the "
        "outermost slices are left out.",
    ),
    QualityMeasure(
        "cord_probability",
        "Probability of the cord",
        "Mean probability of cord, as the network sees it, in the cord mask.",
        worse="low",
    ),
    QualityMeasure(
        "lesions_at_edge",
        "Lesions at the edge",
        "Lesions that touch a side of the image and may be cut off.",
        "lesion",
        limit=0,
        concern="{:.0f} of the lesions touch the edge of the image",
    ),
    QualityMeasure(
        "uncertainty",
        "Uncertainty",
        "Mean uncertainty of the voxels of the cord: binary entropy of the lesion probability.",
        "bit",
    ),
)
"""Of the masks and how sure the network is of them."""

QUALITY_MEASURES = IMAGE_MEASURES + SECOND_MEASURES + SEGMENTATION_MEASURES
"""All that is measured where the images are, and written into the session's derivatives."""
