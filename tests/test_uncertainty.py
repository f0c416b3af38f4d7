"""Probabilities of lesions, expected number and volume: against enumeration and simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_app.lesions.measure import measure
from bids_app.lesions.preset import Preset
from bids_app.lesions.uncertainty import (
    Candidate,
    applicable,
    assess,
    chances_of,
    count_distribution,
    expected_count,
    expected_volume,
    find_candidates,
    settings_of,
)
from bids_app.records import Calibration, Cord, Findings, Interval

PRESET = Preset(lesion_threshold=0.5, min_lesion_volume_mm3=0, connectivity=6)
CALIBRATION = Calibration(
    intercept=0.0,
    mean_logit_weight=0.5,
    peak_logit_weight=0.0,
    log_volume_weight=0.0,
    candidate_threshold=0.1,
    missed_per_mm=(0.02, 0.01),
    missed_dispersion=0.5,
    volume_log_intercept=0.0,
    volume_log_slope=1.0,
    volume_log_sd=0.3,
    missed_volume_log_mean=4.0,
    missed_volume_log_sd=0.5,
    preset=settings_of(PRESET),
)
CORD = Cord(volume_mm3=5000.0, length_mm=100.0, mean_area_mm2=50.0)
chance_lists = st.lists(st.floats(0, 1), max_size=12).map(np.array)


def enumerated(chances: list[float]) -> list[float]:
    """Add up the probability of every outcome."""
    total = [0.0] * (len(chances) + 1)
    for outcome in product((0, 1), repeat=len(chances)):
        total[sum(outcome)] += math.prod(
            p if hit else 1 - p for p, hit in zip(chances, outcome, strict=True)
        )
    return total


@pytest.mark.parametrize(
    "chances",
    [[], [0.3], [0.0, 0.0], [1.0, 1.0], [0.0, 0.5, 1.0], [0.1, 0.2, 0.7, 0.9, 0.5, 0.05]],
)
def test_poisson_binomial_is_that_of_enumeration(chances: list[float]) -> None:
    found = count_distribution(np.array(chances), 0, 0)
    assert found == pytest.approx(enumerated(chances), abs=1e-12)


@pytest.mark.parametrize("dispersion", [0.0, 0.8])
def test_count_with_missed_lesions_is_that_of_simulation(dispersion: float) -> None:
    rng = np.random.default_rng(3)
    chances, missed, draws = np.array([0.9, 0.6, 0.2]), 1.4, 200_000
    rate = rng.gamma(1 / dispersion, dispersion * missed, draws) if dispersion else missed
    drawn = (rng.random((draws, 3)) < chances).sum(axis=1) + rng.poisson(rate, draws)
    found = count_distribution(chances, missed, dispersion)
    assert found.sum() == pytest.approx(1, abs=1e-8)
    assert found[:10] == pytest.approx(np.bincount(drawn, minlength=10)[:10] / draws, abs=0.004)


def test_thousands_of_faint_candidates_stay_exact() -> None:
    found = count_distribution(np.full(3000, 0.001), 0, 0)
    assert found[:3] == pytest.approx([0.04971, 0.14928, 0.22407], abs=1e-4)
    assert found.min() > -1e-12


@pytest.mark.parametrize(
    ("chances", "missed", "expected"),
    [
        ([], 0.0, Interval(0, 0, 0)),
        ([1.0, 1.0], 0.0, Interval(2, 2, 2)),
        ([0.0, 0.0], 0.0, Interval(0, 0, 0)),
        ([0.01], 0.0, Interval(0.01, 0, 1)),  # 0 to 0 would not hold the mean
        ([0.5], 0.0, Interval(0.5, 0, 1)),
        ([], 3.0, Interval(3, 0, 7)),  # tabulated Poisson: P(N <= 7) = 0.988
        ([1.0], 3.0, Interval(4, 1, 8)),
    ],
)
def test_expected_count(chances: list[float], missed: float, expected: Interval) -> None:
    found = expected_count(np.array(chances), missed, 0)
    assert (found.low, found.high) == (expected.low, expected.high)
    assert found.expected == pytest.approx(expected.expected)


@given(chances=chance_lists, missed=st.floats(0, 5), dispersion=st.floats(0, 3))
@settings(deadline=None, max_examples=60)
def test_count_is_held_by_intervals_that_widen(
    chances: np.ndarray, missed: float, dispersion: float
) -> None:
    steps = [expected_count(chances, missed, dispersion, c) for c in (0.5, 0.8, 0.95, 0.999)]
    for each in steps:
        assert 0 <= each.low <= each.expected + 1e-9
        assert each.expected <= each.high + 1e-9
    for inner, outer in pairwise(steps):
        assert outer.low <= inner.low
        assert inner.high <= outer.high
    more = expected_count(np.append(chances, 0.5), missed, dispersion)
    assert more.expected > steps[2].expected
    assert more.high >= steps[2].high


@given(
    lesions=st.lists(st.tuples(st.floats(0, 1), st.floats(1, 1000)), max_size=5),
    missed=st.floats(0, 3),
)
@settings(deadline=None, max_examples=25)
def test_volume_is_held_by_intervals_that_widen(
    lesions: list[tuple[float, float]], missed: float
) -> None:
    chances, volumes = np.array(lesions).reshape(-1, 2).T
    steps = [expected_volume(chances, volumes, missed, CALIBRATION, c) for c in (0.5, 0.95, 0.999)]
    assert all(0 <= each.low <= each.expected <= each.high for each in steps)
    for inner, outer in pairwise(steps):
        assert outer.low <= inner.low
        assert inner.high <= outer.high
    again = expected_volume(chances, volumes, missed, CALIBRATION, 0.95)
    assert again == steps[1]


def test_volume_of_a_sure_lesion_is_log_normal() -> None:
    found = expected_volume(np.ones(1), np.array([100.0]), 0, CALIBRATION)
    assert found.expected == pytest.approx(100 * math.exp(0.045))
    assert found.low == pytest.approx(100 * math.exp(-1.96 * 0.3), rel=0.03)
    assert found.high == pytest.approx(100 * math.exp(1.96 * 0.3), rel=0.03)


def test_volume_mean_is_that_of_the_draws() -> None:
    narrow = replace(CALIBRATION, missed_dispersion=0.0)
    found = expected_volume(np.array([0.5, 0.9]), np.array([200.0, 50.0]), 2.0, narrow)
    rng = np.random.default_rng(8)
    drawn = [
        (rng.random(2) < (0.5, 0.9)) @ (np.array([200, 50]) * np.exp(rng.normal(0, 0.3, 2)))
        + np.exp(rng.normal(4, 0.5, rng.poisson(2.0))).sum()
        for _ in range(20_000)
    ]
    assert found.expected == pytest.approx(np.mean(drawn), rel=0.02)
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, (0.025, 0.975)), rel=0.06)


def scene() -> tuple[Findings, np.ndarray]:
    """A cord with a reported lesion and its fringe, a faint one, a fainter one, one outside."""
    cord = np.zeros((5, 5, 30), dtype=bool)
    cord[1:4, 1:4] = True
    probability = np.zeros(cord.shape, dtype=np.float32)
    probability[2, 2, 2:5] = 0.9
    probability[2, 2, 5:7] = 0.3  # the fringe
    probability[2, 1:3, 12] = 0.4
    probability[2, 2, 20] = 0.05
    probability[0, 0, 25] = 0.8
    probability[3, 3, 28] = np.nan
    instances = np.zeros(cord.shape, dtype=np.int32)
    instances[2, 2, 2:5] = 1
    return Findings(cord, instances > 0, instances), probability


def test_candidates_are_the_reported_and_the_faint() -> None:
    findings, probability = scene()
    sure, faint = find_candidates(findings, probability, 2.0, PRESET, CALIBRATION)
    assert (sure.index, sure.volume_mm3) == (1, 6.0)
    assert sure.mean_logit == pytest.approx(math.log(9), rel=1e-5)
    assert (faint.index, faint.volume_mm3) == (0, 4.0)
    assert faint.peak_logit == pytest.approx(math.log(2 / 3), rel=1e-5)
    assert find_candidates(findings, probability, 2.0, PRESET, None) == ()


def test_an_empty_cord_has_no_candidates() -> None:
    nothing = np.zeros((4, 4, 4), dtype=bool)
    findings = Findings(nothing, nothing, nothing.astype(np.int32))
    assert find_candidates(findings, np.ones((4, 4, 4)), 1.0, PRESET, CALIBRATION) == ()


def test_probabilities_follow_the_temperature() -> None:
    candidates = (Candidate(2.0, 3.0, 10.0, 1), Candidate(-2.0, 0.0, 5.0))
    assert chances_of(candidates, CALIBRATION) == pytest.approx([0.731059, 0.268941], abs=1e-6)
    assert chances_of((), CALIBRATION).shape == (0,)


def test_a_session_is_assessed() -> None:
    findings, probability = scene()
    lesions, _ = measure(findings, probability, np.eye(4))
    candidates = find_candidates(findings, probability, 1.0, PRESET, CALIBRATION)
    judged, expected = assess(lesions, CORD, candidates, CALIBRATION, 2)
    assert [lesion.probability for lesion in judged] == pytest.approx([0.75], abs=1e-4)
    assert expected is not None
    # 0.75 of the reported, sigmoid(logit(0.4) / 2) of the faint, one missed in 100 mm.
    assert expected.count.expected == pytest.approx(0.75 + 0.4495 + 1.0, abs=1e-3)
    alone = assess(lesions, CORD, candidates, CALIBRATION, 1)[1]
    assert alone is not None
    assert alone.count.expected == pytest.approx(expected.count.expected + 1.0)
    assert expected.volume_mm3.low <= expected.volume_mm3.expected <= expected.volume_mm3.high


def test_without_lesions_there_may_still_be_some() -> None:
    judged, expected = assess((), CORD, (), CALIBRATION, 2)
    assert judged == ()
    assert expected is not None
    assert expected.count == Interval(1.0, 0, 4)
    assert expected.volume_mm3.low == 0.0


def test_without_a_calibration_the_mean_is_the_probability() -> None:
    findings, probability = scene()
    lesions, _ = measure(findings, probability, np.eye(4))
    judged, expected = assess(lesions, CORD, (), None, 2)
    assert expected is None
    assert [lesion.probability for lesion in judged] == pytest.approx([0.9])


def test_a_cord_without_length_has_no_expectation() -> None:
    assert assess((), replace(CORD, length_mm=None), (), CALIBRATION, 2) == ((), None)


@pytest.mark.parametrize(
    ("preset", "fits"),
    [
        (PRESET, True),
        (replace(PRESET, name="mine.json", description="The same."), True),
        (replace(PRESET, lesion_threshold=0.4), False),
    ],
)
def test_a_calibration_holds_for_its_own_preset(preset: Preset, fits: bool) -> None:
    assert applicable(CALIBRATION, preset) is (CALIBRATION if fits else None)
    assert applicable(None, preset) is None


def test_a_calibration_from_before_a_setting_came_holds_for_its_default() -> None:
    before = {key: value for key, value in CALIBRATION.preset.items() if key != "zero_below"}
    old = replace(CALIBRATION, preset=before)
    assert applicable(old, PRESET) is old
    assert applicable(old, replace(PRESET, zero_below=0.1)) is None
