"""Tell a comparison to people: the terminal's table, verdicts, notes, and the tables' columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table

from bids_app.commands.compare_arguments import CompareOptions
from bids_app.commands.compare_matrix import FEWEST, Entry, Test, usable
from bids_app.commands.compare_scores import Scores
from bids_app.commands.evaluate_text import count, say, some
from bids_app.evaluation.compare import direction

_ALPHA = 0.05

MATRIX: dict[str, dict[str, Any]] = {
    "metric": {"Description": "What is averaged; see docs/evaluation.md."},
    "model": {"Description": "Model."},
    "over": {
        "Description": "What the mean is over.",
        "Levels": {
            "test set": "The scans of one test set that all its models have; where there is none, "
            "the model's own.",
            "all test sets": "The means of the test sets that all models have, each counted once.",
            "seen test sets": "Those of --trained-on, each counted once.",
            "unseen test sets": "The others, each counted once.",
        },
    },
    "test_set": {"Description": "Test set; n/a for means over several."},
    "seen": {"Description": "Whether the model was trained on its dataset, where told."},
    "mean": {"Description": "Mean over scans; for froc the score of all scans."},
    "ci95_low": {"Description": "Lower end of the 95 % bootstrap interval, subjects resampled."},
    "ci95_high": {"Description": "Upper end of that interval; n/a below three subjects."},
    "sd": {"Description": "Standard deviation over scans; n/a for froc and means of means."},
    "n": {"Description": "Scans with a value; for froc those with a reference lesion."},
    "scans": {"Description": "Scans that were used."},
    "subjects": {"Description": "Subjects they are of."},
    "left_out": {"Description": "Scans of this model that were not used; see the notes."},
}

TESTS: dict[str, dict[str, Any]] = {
    "metric": {"Description": "What is compared."},
    "test_set": {"Description": "Test set."},
    "model_a": {"Description": "One model."},
    "model_b": {"Description": "The other."},
    "scans": {"Description": "Scans that both have, with a value in both."},
    "subjects": {"Description": "Subjects they are of."},
    "mean_a": {"Description": "Mean of model a over these scans; for froc its score."},
    "mean_b": {"Description": "The same of model b."},
    "difference": {"Description": "mean_a - mean_b."},
    "ci95_low": {
        "Description": "Lower end of its 95 % bootstrap interval, subjects resampled; not "
        "corrected for the number of comparisons."
    },
    "ci95_high": {"Description": "Upper end of that interval."},
    "subjects_a_higher": {"Description": "Subjects whose mean is higher in model a."},
    "subjects_equal": {"Description": "Subjects whose means are equal."},
    "subjects_b_higher": {"Description": "Subjects whose mean is higher in model b."},
    "test": {
        "Description": "Two-sided. Wilcoxon's signed ranks of the subjects' mean differences "
        "(zeros ranked after Pratt, exact up to 50 subjects); for froc the permutation test that "
        "swaps the models within subjects."
    },
    "p": {"Description": f"p value; n/a below {FEWEST} subjects or when none differs."},
    "p_corrected": {"Description": "p value after correction over the family."},
    "family": {"Description": "The tests that the correction is over: all of one metric."},
    "note": {"Description": "What else a reader should know."},
}


def title(metric: str) -> str:
    """Write a metric's name as people do.

    Examples
    --------
    >>> [title(name) for name in ("f1", "fp_per_image", "hd95_mm", "challenge_f1")]
    ['F1', 'false positives an image', 'HD95 (mm)', 'challenge F1']
    """
    if metric == "fp_per_image":
        return "false positives an image"
    return say(metric).replace(" f1", " F1")


def terminal_table(entries: Sequence[Entry], options: CompareOptions) -> Table:
    """Lay the first metric out: models by test sets."""
    metric = options.metrics[0]
    rows = [row for row in entries if row.metric == metric]
    columns = list(dict.fromkeys(row.test_set or row.over for row in rows))
    seen = "; * trained on it" if any(row.seen for row in rows) else ""
    table = Table(box=box.SIMPLE, title=f"{title(metric)}, mean and 95 % interval{seen}", leading=1)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for model in dict.fromkeys(row.model for row in rows):
        cells = {row.test_set or row.over: row for row in rows if row.model == model}
        table.add_row(model, *(_cell(cells.get(name)) for name in columns))
    return table


def _cell(row: Entry | None) -> str:
    if row is None:
        return "none"
    if math.isnan(row.mean):
        return "n/a"
    known = " *" if row.seen and row.test_set else ""
    between = "" if math.isnan(row.ci95_low) else f"\n{row.ci95_low:.2f}-{row.ci95_high:.2f}"
    return f"{row.mean:.3f}{known}{between}"


def verdicts(tests: Sequence[Test], options: CompareOptions) -> list[str]:
    """Say for the first metric, in a sentence for each pair of models, who wins where."""
    metric = options.metrics[0]
    sign = direction(metric)
    pairs: dict[tuple[str, str], list[Test]] = {}
    for row in tests:
        if row.metric == metric:
            pairs.setdefault((row.model_a, row.model_b), []).append(row)
    found = []
    for (a, b), rows in pairs.items():
        tested = [row for row in rows if math.isfinite(row.p_corrected)]
        clear = [row for row in tested if row.p_corrected < _ALPHA]
        parts = []
        for model, way in ((a, 1), (b, -1)):
            sets = [row.test_set or "" for row in clear if row.difference * way * (sign or 1) > 0]
            word = "better" if sign else "higher"
            if sets:
                parts.append(f"{model} is {word} on {', '.join(sets)}")
        unclear = [row.test_set or "" for row in tested if row not in clear]
        if unclear:
            parts.append(f"no difference is shown on {', '.join(unclear)}")
        parts += [f"{row.note} on {row.test_set}" for row in rows if row not in tested]
        if not tested:
            found.append(f"{title(metric)}, {a} against {b}: {'; '.join(parts)}.")
            continue
        how = {"holm": "Holm", "fdr": "false discovery rate"}[options.correction]
        found.append(
            f"{title(metric)}, {a} against {b}: {'; '.join(parts)} (p < {_ALPHA}, {how}, "
            f"{count(sum(math.isfinite(t.p) for t in tests if t.metric == metric), 'test')})."
        )
    return found


def notes(
    every: Sequence[Scores],
    entries: Sequence[Entry],
    tests: Sequence[Test],
    options: CompareOptions,
) -> list[str]:
    """Say what a reader of the numbers has to know: one sentence each."""
    found = []
    if len(options.models) < 2:
        found.append("There is one model only, so nothing is tested.")
    for test_set in dict.fromkeys(scores.test_set for scores in every):
        here = [scores for scores in every if scores.test_set == test_set]
        found += _coverage_notes(test_set, here, options)
        rows = [r for r in entries if r.test_set == test_set and r.metric == options.metrics[0]]
        subjects = max((row.subjects for row in rows), default=0)
        if 0 < subjects < FEWEST:
            found.append(
                f"{test_set} has {count(subjects, 'subject')}: no interval and no test below "
                f"{FEWEST}."
            )
    found += _test_notes(tests, options)
    return found


def _coverage_notes(
    test_set: str, here: Sequence[Scores], options: CompareOptions
) -> Iterator[str]:
    """Say which scans a test set's models do not share."""
    for status, what in (
        ("missing", "has no prediction for"),
        ("unusable", "has an unusable prediction for"),
        ("failed", "was not scored, for want of a usable reference, on"),
    ):
        for scores in here:
            names = [row.name for row in scores.scans.values() if row.status == status]
            if names:
                empty = options.missing_as_empty and status != "failed"
                then = "counted as empty predictions" if empty else "left out"
                yield (
                    f"{scores.model}, {test_set}: {what} {count(len(names), 'scan')} "
                    f"({some(sorted(names))}): {then}."
                )
    own = [set(usable(scores, options)) for scores in here]
    common, any_of = set.intersection(*own), set.union(*own)
    if not common:
        yield (
            f"{test_set}: no scan is in all models, so each mean is over the model's own scans: "
            "do not compare them."
        )
    elif common != any_of:
        numbers = ", ".join(
            f"{scores.model} {len(names)}" for scores, names in zip(here, own, strict=True)
        )
        yield (
            f"{test_set}: means are over the {count(len(common), 'scan')} that all models have "
            f"({numbers}); tests over those of the two."
        )


def _test_notes(tests: Sequence[Test], options: CompareOptions) -> Iterator[str]:
    first = [row for row in tests if row.metric == options.metrics[0]]
    hints: dict[str, list[str]] = {}
    for row in first:
        if row.note and "least" in row.note:
            where = f"{row.model_a} against {row.model_b} on {row.test_set}"
            hints.setdefault(row.note, []).append(where)
    for note, pairs in hints.items():
        said = note[0].upper() + note[1:]
        if len(pairs) == len(first) > 1:
            yield f"{said}: in all {len(pairs)} comparisons."
        else:
            yield f"{said}: {'; '.join(pairs)}."
    if first:
        yield (
            f"p values are corrected within each metric. Decide by the first one, "
            f"{title(options.metrics[0])}; the others describe."
        )
