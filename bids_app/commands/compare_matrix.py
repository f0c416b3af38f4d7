"""From scores to the rows of a comparison: the matrix, means over test sets, paired tests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from bids_app.cohort.effects import signed_rank
from bids_app.commands.compare_arguments import CompareOptions
from bids_app.commands.compare_scores import ScanRow, Scores
from bids_app.evaluation.compare import (
    Sums,
    average,
    by_subject,
    difference_interval,
    froc_models,
    interval,
    mean_sums,
    swap_test,
)
from bids_app.records import IntArray

FEWEST = 3
"""With fewer subjects there is neither interval nor test."""

Named = tuple[str, str]
"""A model and a test set."""


@dataclass(frozen=True)
class Entry:
    """One row of ``matrix.tsv``; see `compare_text.MATRIX` for the fields."""

    metric: str
    model: str
    over: str
    test_set: str | None
    seen: bool | None
    mean: float
    ci95_low: float
    ci95_high: float
    sd: float
    n: int | None
    scans: int
    subjects: int
    left_out: int


@dataclass(frozen=True)
class Test:
    """One row of ``tests.tsv``; see `compare_text.TESTS` for the fields."""

    metric: str
    test_set: str | None
    model_a: str
    model_b: str
    scans: int
    subjects: int
    mean_a: float
    mean_b: float
    difference: float
    ci95_low: float
    ci95_high: float
    subjects_a_higher: int | None = None
    subjects_equal: int | None = None
    subjects_b_higher: int | None = None
    test: str | None = None
    p: float = math.nan
    p_corrected: float = math.nan
    family: str | None = None
    note: str | None = None


def usable(scores: Scores, options: CompareOptions) -> dict[str, ScanRow]:
    """Give the scans that count: those with a usable label on both sides, unless told otherwise."""
    kept = {"scored"} | ({"missing", "unusable"} if options.missing_as_empty else set())
    return {name: row for name, row in scores.scans.items() if row.status in kept}


def shared_scans(every: Sequence[Scores], options: CompareOptions) -> dict[Named, list[str]]:
    """Give the scans on which each model is judged: those that all models of its test set have.

    Where no scan is in all models, each is judged on its own.
    """
    result: dict[Named, list[str]] = {}
    for test_set in dict.fromkeys(scores.test_set for scores in every):
        here = [scores for scores in every if scores.test_set == test_set]
        scans = [usable(scores, options) for scores in here]
        common = set(scans[0]).intersection(*scans[1:])
        for scores, own in zip(here, scans, strict=True):
            result[scores.model, test_set] = sorted(common or own)
    return result


def matrix(every: Sequence[Scores], options: CompareOptions) -> list[Entry]:
    """Compute every model's mean on every test set, and over them, for every metric."""
    shared = shared_scans(every, options)
    rows = []
    for metric in options.metrics:
        sums: dict[Named, Sums] = {}
        for scores in every:
            own = usable(scores, options)
            scans = [own[name] for name in shared[scores.model, scores.test_set]]
            if not scans:
                continue
            sums[scores.model, scores.test_set], entry = _entry(metric, scores, scans)
            seen = _seen(scores.model, scores.test_set, options)
            rows.append(replace(entry, seen=seen, left_out=len(scores.scans) - len(scans)))
        rows += _averages(metric, sums, rows, options)
    return rows


def _entry(metric: str, scores: Scores, scans: Sequence[ScanRow]) -> tuple[Sums, Entry]:
    owner, subjects = _owners(scans)
    values = np.array([row.value(metric) for row in scans])
    if metric == "froc":
        (sums,) = froc_models([[row.scored for row in scans]], owner, subjects)
        number = sum(row.scored.found_at.size > 0 for row in scans)
        spread = math.nan
    else:
        sums = mean_sums(values, owner, subjects)
        number = int(np.isfinite(values).sum())
        spread = float(np.nanstd(values, ddof=1)) if number > 1 else math.nan
    low, high = interval(sums)
    return sums, Entry(
        metric, scores.model, "test set", scores.test_set, None, sums.value, low, high, spread,
        number, len(scans), subjects, 0,
    )  # fmt: skip


def _owners(scans: Sequence[ScanRow]) -> tuple[IntArray, int]:
    names, owner = np.unique([row.subject for row in scans], return_inverse=True)
    return np.asarray(owner), len(names)


def _seen(model: str, test_set: str, options: CompareOptions) -> bool | None:
    """Say whether a model was trained on a test set's dataset; None where nothing is said."""
    if not options.trained_on or model not in options.trained_on:
        return None
    own = options.trained_on[model]
    return test_set in own or test_set.rsplit(", ", 1)[0] in own


def _averages(
    metric: str, sums: Mapping[Named, Sums], rows: Sequence[Entry], options: CompareOptions
) -> list[Entry]:
    """Average over the test sets that all models have, and over each one's seen and unseen ones."""
    sets = list(dict.fromkeys(test_set for _, test_set in sums))
    models = list(dict.fromkeys(model for model, _ in sums))
    complete = [name for name in sets if all((model, name) in sums for model in models)]
    result = []
    for model in models:
        parts: list[tuple[str, bool | None, list[str]]] = []
        if len(complete) > 1:
            parts.append(("all test sets", None, complete))
        for known, over in ((True, "seen test sets"), (False, "unseen test sets")):
            own = [
                name
                for name in sets
                if (model, name) in sums and _seen(model, name, options) is known
            ]
            if own:
                parts.append((over, known, own))
        for over, seen, names in parts:
            mean, low, high = average([sums[model, name] for name in names])
            of = [
                row
                for row in rows
                if (row.metric, row.model) == (metric, model) and row.test_set in names
            ]
            scans, subjects = sum(row.scans for row in of), sum(row.subjects for row in of)
            left_out = sum(row.left_out for row in of)
            result.append(
                Entry(
                    metric, model, over, None, seen, mean, low, high, math.nan, None, scans,
                    subjects, left_out,
                )
            )  # fmt: skip
    return result


def paired_tests(every: Sequence[Scores], options: CompareOptions) -> list[Test]:
    """Test the models in pairs, on the scans that both have, and correct within each metric."""
    by_name = {(scores.model, scores.test_set): usable(scores, options) for scores in every}
    sets = list(dict.fromkeys(scores.test_set for scores in every))
    rows = []
    for metric in options.metrics:
        tests = [
            _test(metric, test_set, pair, by_name)
            for test_set in sets
            for pair in _pairs(options)
            if all((model, test_set) in by_name for model in pair)
        ]
        rows += corrected([test for test in tests if test is not None], options.correction)
    return rows


def _pairs(options: CompareOptions) -> list[tuple[str, str]]:
    models = options.models
    if options.against is None:
        return list(combinations(models, 2))
    return [(model, options.against) for model in models if model != options.against]


def _test(
    metric: str,
    test_set: str,
    pair: tuple[str, str],
    by_name: Mapping[Named, Mapping[str, ScanRow]],
) -> Test | None:
    one, two = (by_name[model, test_set] for model in pair)
    names = sorted(one.keys() & two.keys())
    if not names:
        return None
    scans = [one[name] for name in names], [two[name] for name in names]
    if metric == "froc":
        return _froc_test(test_set, pair, scans)
    return _scan_test(metric, test_set, pair, scans)


def _scan_test(
    metric: str, test_set: str, pair: tuple[str, str], scans: tuple[list[ScanRow], list[ScanRow]]
) -> Test:
    """Test a measure of scans: the signed ranks of the subjects' mean differences."""
    values = np.array([[row.value(metric) for row in side] for side in scans])
    known = np.isfinite(values).all(axis=0)
    values = values[:, known]
    owner, subjects = _owners([row for row, kept in zip(scans[0], known, strict=True) if kept])
    sums = [mean_sums(side, owner, subjects) for side in values]
    differences = values[0] - values[1]
    # Differences of equal sums are rounding, and would be ranked.
    changes = by_subject(differences, owner, subjects)
    changes[np.abs(changes) < 1e-12 * max(1.0, np.abs(values).max(initial=0.0))] = 0.0
    row = Test(
        metric,
        test_set,
        *pair,
        int(known.sum()),
        subjects,
        sums[0].value,
        sums[1].value,
        sums[0].value - sums[1].value,
        *difference_interval(*sums),
        int((changes > 0).sum()),
        int((changes == 0).sum()),
        int((changes < 0).sum()),
    )
    if subjects < FEWEST:
        return replace(row, note=_few(subjects) if subjects else "no scan has a value in both")
    found = signed_rank(changes)
    note = "no subject differs" if not changes.any() else _smallest_p(changes)
    return replace(row, test=found.test, p=found.p, note=note)


def _smallest_p(changes: np.ndarray) -> str | None:
    """Warn where no result could have reached 0.05."""
    smallest = 2 / 2 ** int(np.count_nonzero(changes))
    if smallest < 0.05:
        return None
    return f"with {np.count_nonzero(changes)} subjects that differ, p is {smallest:g} at the least"


def _froc_test(
    test_set: str, pair: tuple[str, str], scans: tuple[list[ScanRow], list[ScanRow]]
) -> Test:
    """Test FROC, which single scans do not have: the models swapped within subjects."""
    owner, subjects = _owners(scans[0])
    one, two = froc_models([[row.scored for row in side] for side in scans], owner, subjects)
    row = Test(
        "froc",
        test_set,
        *pair,
        len(scans[0]),
        subjects,
        one.value,
        two.value,
        one.value - two.value,
        *difference_interval(one, two),
    )
    if subjects < FEWEST:
        return replace(row, note=_few(subjects))
    if not math.isfinite(row.difference):
        return replace(row, note="no reference lesion")
    p = swap_test(one, two)
    if math.isnan(p):
        return replace(row, test="permutation", note="no subject differs")
    return replace(row, test="permutation", p=p)


def _few(subjects: int) -> str:
    return f"no test with {subjects} subject{'' if subjects == 1 else 's'}"


def corrected(tests: Iterable[Test], correction: str) -> list[Test]:
    """Correct the p values of one family of tests and say how many it has."""
    from statsmodels.stats.multitest import multipletests

    rows = list(tests)
    at = [index for index, row in enumerate(rows) if math.isfinite(row.p)]
    if not at:
        return rows
    method = {"holm": "holm", "fdr": "fdr_bh"}[correction]
    values = multipletests([rows[index].p for index in at], method=method)[1]
    family = f"{rows[0].metric} ({len(at)} test{'' if len(at) == 1 else 's'})"
    for index, value in zip(at, values, strict=True):
        rows[index] = replace(rows[index], p_corrected=float(value), family=family)
    return rows


def plain_rows(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Turn rows into dictionaries."""
    return [dict(vars(row)) for row in rows]
