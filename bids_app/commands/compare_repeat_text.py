"""Tell repeatability to people: the terminal's table, notes, and the tables' columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from scipy import stats

from bids_app.commands.compare_arguments import CompareOptions
from bids_app.commands.compare_matrix import FEWEST
from bids_app.commands.compare_repeat_values import COUNT, VOLUME, Estimated
from bids_app.commands.evaluate_text import count, some
from bids_app.reports.page import number

if TYPE_CHECKING:
    from bids_app.commands.compare_repeat import Repeated

# Fewer points show no trend.
_ENOUGH = 6

REPEATABILITY: dict[str, dict[str, Any]] = {
    "model": {"Description": "Model."},
    "measure": {
        "Description": "What was measured in each scan.",
        "Levels": {VOLUME: "volume of all lesions, mm^3", COUNT: "number of lesions"},
    },
    "statistic": {
        "Description": "What the value is.",
        "Levels": {
            "mean": "mean over all scans",
            "cv_percent": "coefficient of variation within subjects: root of the mean of the "
            "squared CVs (Gluer 1995); without those who have no lesion in any scan",
            "cv_median_percent": "median of the same CVs",
            "within_subject_sd": "root of the mean variance within subjects",
            "repeatability_coefficient": "1.96 sqrt(2) times that: two scans of a subject differ "
            "by less in 95 of 100 cases",
            "icc_agreement": "ICC(A,1) of McGraw & Wong, ICC(2,1) of Shrout & Fleiss",
            "icc_consistency": "ICC(C,1), ICC(3,1)",
            "icc_one_way": "ICC(1), ICC(1,1)",
            "bias": "mean of second - first (Bland & Altman 1986)",
            "limit_low": "bias - 1.96 SD",
            "limit_high": "bias + 1.96 SD",
            "bias_percent": "the same of differences in percent of the mean of the two",
            "limit_low_percent": "the same",
            "limit_high_percent": "the same",
            "equal": "share of subjects with the same count in all scans",
            "within_one": "share with counts at most one apart",
            "presence": "share whose scans agree on whether there is any lesion",
            "mean_range": "mean of largest - smallest count",
        },
    },
    "value": {"Description": "The value; with more than two repeats _3_1 is third - first."},
    "ci95_low": {
        "Description": "Lower end of its 95 % interval: of ICC after McGraw & Wong, of bias and "
        "limits after Bland & Altman, of the others by bootstrap of subjects."
    },
    "ci95_high": {"Description": "Upper end of that interval."},
    "n": {"Description": "Repeated scans (a subject's scan and its repeats count once) used."},
    "subjects": {"Description": "Subjects they are of."},
    "repeats": {"Description": "Scans of each."},
}

SCANS: dict[str, dict[str, Any]] = {
    "model": {"Description": "Model."},
    "unit": {"Description": "The scan's name without what counts the repeats."},
    "participant_id": {"Description": "Subject."},
    "repeat": {"Description": "1 for the first scan, 2 for the second, ..."},
    "scan": {"Description": "The scan's name."},
    VOLUME: {"Description": "Volume of all lesions.", "Units": "mm^3"},
    COUNT: {"Description": "Number of lesions."},
}

TESTS: dict[str, dict[str, Any]] = {
    "metric": {
        "Description": "What is compared between models.",
        "Levels": {
            "cv_percent": "CV of the lesion volume within each subject",
            "count_range": "largest - smallest count of each subject",
        },
    },
    "model_a": {"Description": "One model."},
    "model_b": {"Description": "The other."},
    "n": {"Description": "Repeated scans that both have, with a value in both."},
    "subjects": {"Description": "Subjects they are of."},
    "mean_a": {"Description": "Mean of model a over them."},
    "mean_b": {"Description": "Mean of model b."},
    "difference": {"Description": "mean_a - mean_b; below 0, model a repeats better."},
    "ci95_low": {"Description": "Lower end of its 95 % bootstrap interval."},
    "ci95_high": {"Description": "Upper end of that interval."},
    "subjects_a_higher": {"Description": "Subjects with more in model a."},
    "subjects_equal": {"Description": "Subjects with the same."},
    "subjects_b_higher": {"Description": "Subjects with more in model b."},
    "test": {"Description": "Wilcoxon's signed ranks of the subjects' differences, two-sided."},
    "p": {"Description": f"p value; n/a below {FEWEST} subjects or when none differs."},
    "p_corrected": {"Description": "p value after correction over the family."},
    "family": {"Description": "The tests that the correction is over: all of one metric."},
    "note": {"Description": "What else a reader should know."},
}


def repeat_table(rows: Sequence[Estimated]) -> Table:
    """Lay the main numbers out: statistics by models."""
    models = list(dict.fromkeys(row.model for row in rows))
    table = Table(box=box.SIMPLE, title="Repeated scans, with 95 % intervals")
    table.add_column("")
    for model in models:
        table.add_column(model, justify="right")
    found = {(row.model, row.measure, row.statistic): row for row in rows}
    for measure, statistic, name in _MAIN:
        cells = [found.get((model, measure, statistic)) for model in models]
        if any(cells):
            table.add_row(name, *(_cell(cell) for cell in cells))
    return table


_MAIN = (
    (VOLUME, "cv_percent", "lesion volume, CV (%)"),
    (VOLUME, "icc_agreement", "lesion volume, ICC"),
    (VOLUME, "bias", "lesion volume, bias (mm³)"),
    (VOLUME, "limit_low", "lower limit of agreement (mm³)"),
    (VOLUME, "limit_high", "upper limit of agreement (mm³)"),
    (COUNT, "equal", "lesion count, share equal"),
    (COUNT, "within_one", "lesion count, share within one"),
    (COUNT, "icc_agreement", "lesion count, ICC"),
)


def _cell(row: Estimated | None) -> str:
    if row is None or math.isnan(row.value):
        return "n/a"
    if math.isnan(row.ci95_low):
        return number(row.value)
    return f"{number(row.value)} ({number(row.ci95_low)} to {number(row.ci95_high)})"


def repeat_notes(
    every: Sequence[Repeated],
    tests: Sequence[Mapping[str, Any]],
    options: CompareOptions,
) -> list[str]:
    """Say what a reader of the numbers has to know: one sentence each."""
    found = []
    for one in every:
        found += list(_of_model(one))
    units = [set(one.units) for one in every]
    if len(every) > 1 and any(own != units[0] for own in units):
        numbers = ", ".join(f"{one.model} {len(one.units)}" for one in every)
        found.append(
            f"Models have different repeated scans ({numbers}); tests are over those of both."
        )
    for row in tests:
        if row["note"]:
            found.append(
                f"{row['metric']}, {row['model_a']} against {row['model_b']}: {row['note']}."
            )
    if options.repeat == "session":
        found.append(
            "Sessions may differ because the disease has changed: far apart, they tell nothing "
            "about the method."
        )
    return found


def _of_model(one: Repeated) -> Iterator[str]:
    if not one.units:
        yield f"{one.model}: nothing was scanned twice."
        return
    people = len(set(one.subjects))
    repeats = one.values[VOLUME].shape[1]
    yield f"{one.model}: {count(people, 'subject')}, {repeats} scans each" + (
        "."
        if people == len(one.units)
        else f", {len(one.units)} sets of scans; ICC and limits "
        "treat the sets of a subject as independent."
    )
    if people < FEWEST:
        yield f"{one.model}: with fewer than {FEWEST} subjects there is no interval and no ICC."
    if one.errors:
        yield f"{one.model}: {some(list(one.errors))} cannot be used. " + next(
            iter(one.errors.values())
        )
    if one.single:
        yield (
            f"{one.model}: {some(one.single)} {'has' if len(one.single) == 1 else 'have'} fewer "
            f"than {repeats} usable scans: left out."
        )
    if one.extra:
        yield f"{one.model}: {count(one.extra, 'scan')} beyond the first {repeats} left out."
    volumes = one.values[VOLUME]
    empty = int((volumes.max(axis=1) == 0).sum())
    if empty:
        yield (
            f"{one.model}: {empty} of {len(one.units)} without a lesion in any scan: they have no "
            "CV, and agree in all else."
        )
    yield from _trend(one)


def _trend(one: Repeated) -> Iterator[str]:
    """Warn where differences grow with the volume: limits in mm³ then mislead."""
    first, second = one.values[VOLUME][:, 0], one.values[VOLUME][:, 1]
    mean, apart = (first + second) / 2, abs(second - first)
    kept = mean > 0
    if kept.sum() < _ENOUGH or not apart[kept].any() or len(set(mean[kept])) == 1:
        return
    if len(set(apart[kept])) == 1:
        return
    rank = stats.spearmanr(mean[kept], apart[kept])
    if rank.statistic > 0 and rank.pvalue < 0.05:
        yield (
            f"{one.model}: differences grow with the lesion volume (Spearman "
            f"{rank.statistic:.2f}): read the limits in percent."
        )
