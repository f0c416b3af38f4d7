"""Figures of an evaluation: scored cases in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bids_app.evaluation.bootstrap import Estimate
from bids_app.evaluation.calibration import Bin
from bids_app.evaluation.froc import FROC_FALSE_POSITIVES, Curve

# Okabe & Ito (2008): colours that colour-blind readers can tell apart.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#5A5A5A"
_SIZE_INCHES = (6.0, 4.2)
_WIDEST_FALSE_POSITIVES = 4.0


def plot_froc(curve: Curve | None, score: float) -> Figure:
    """Draw sensitivity against false positives, with the points that make the FROC score."""
    figure, axes = _figure("False positives for each image", "Mean sensitivity for each image")
    axes.set(xlim=(0, _WIDEST_FALSE_POSITIVES), ylim=(0, 1.02))
    if curve is None:
        axes.set_title("FROC: no reference lesion")
        return figure
    last = max(_WIDEST_FALSE_POSITIVES, float(curve.false_positives[-1]))
    axes.plot(
        [*curve.false_positives, last], [*curve.sensitivity, curve.sensitivity[-1]], color=_BLUE
    )
    targets = list(FROC_FALSE_POSITIVES)
    read = [curve.at(target) for target in targets]
    axes.plot(targets, read, "o", color=_ORANGE, label="read for the score")
    for target, value in zip(targets, read, strict=True):
        axes.annotate(
            f"{value:.2f}", (target, value), xytext=(4, -13), textcoords="offset points",
            color=_GREY, fontsize=8,
        )  # fmt: skip
    axes.set_title(f"FROC {score:.3f}")
    _legend(figure)
    return figure


def plot_reliability(bins: Sequence[Bin], error: float) -> Figure:
    """Draw the share of right predictions against their probability."""
    figure, axes = _figure("Mean probability of the predicted lesions", "Share that is right")
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.05))
    axes.plot([0, 1], [0, 1], "--", color=_GREY, label="perfect calibration")
    filled = [one for one in bins if one.count]
    axes.plot(
        [one.mean_probability for one in filled], [one.share_right for one in filled], "o-",
        color=_BLUE, label="this prediction (number of lesions beside)",
    )  # fmt: skip
    for one in filled:
        axes.annotate(
            str(one.count), (one.mean_probability, one.share_right), xytext=(5, -12),
            textcoords="offset points", color=_GREY, fontsize=8,
        )  # fmt: skip
    axes.set_title(f"Calibration, ECE {error:.3f}" if filled else "No predicted lesion")
    _legend(figure)
    return figure


def plot_volumes(reference_mm3: Sequence[float], predicted_mm3: Sequence[float]) -> Figure:
    """Draw the Bland-Altman plot of each scan's lesion volume."""
    figure, axes = _figure(
        "Mean of reference and predicted lesion volume (mm³)", "Predicted - reference (mm³)"
    )
    known, found = np.asarray(reference_mm3, dtype=float), np.asarray(predicted_mm3, dtype=float)
    difference = found - known
    axes.plot((known + found) / 2, difference, "o", color=_BLUE, alpha=0.7)
    bias = float(difference.mean())
    axes.axhline(bias, color=_ORANGE, label=f"bias {bias:.1f} mm³")
    if len(difference) > 1:
        half = 1.96 * float(difference.std(ddof=1))
        for limit in (bias - half, bias + half):
            label = f"limits of agreement ±{half:.1f} mm³" if limit < bias or not half else None
            axes.axhline(limit, color=_ORANGE, linestyle="--", label=label)
    axes.axhline(0, color=_GREY, linewidth=0.8)
    axes.set_title(f"Lesion volume, {len(difference)} scans")
    _legend(figure)
    return figure


def plot_sizes(sensitivity: Mapping[str, Estimate]) -> Figure:
    """Draw the sensitivity of each class of lesion volume with its interval."""
    figure, axes = _figure("Volume of the reference lesion", "Share of lesions found")
    names = list(sensitivity)
    for at, name in enumerate(names):
        one = sensitivity[name]
        if not one.n:
            continue
        axes.bar(at, one.mean, color=_BLUE, width=0.6)
        if np.isfinite([one.low, one.high]).all():
            axes.vlines(at, one.low, one.high, color=_ORANGE, linewidth=2)
    axes.set_xticks(
        range(len(names)), [f"{name}\nn = {sensitivity[name].n}" for name in names], fontsize=8
    )
    axes.set(xlim=(-0.6, len(names) - 0.4), ylim=(0, 1.05))
    axes.set(title="Sensitivity by lesion size (95 % interval by subject)")
    return figure


def _legend(figure: Figure) -> None:
    """Put the legend below the axes, where no point lies under it."""
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def _figure(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    return figure, axes
