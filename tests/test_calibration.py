"""Fits of the calibration find what the data were made with; manifests carry it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from bids_app.commands.models import describe_manifest
from bids_app.errors import MissingResource
from bids_app.evaluation.calibration import expected_calibration_error, reliability
from bids_app.evaluation.fitting import fit_dispersion, fit_logistic, fit_temperature
from bids_app.lesions.preset import load_preset
from bids_app.lesions.uncertainty import settings_of
from bids_app.records import Calibration
from bids_app.segmentation.manifest import BOX, read_manifest

CALIBRATION = Calibration(
    intercept=-0.5,
    mean_logit_weight=0.6,
    peak_logit_weight=0.1,
    log_volume_weight=0.2,
    candidate_threshold=0.1,
    missed_per_mm=(0.01, 0.005),
    missed_dispersion=0.2,
    volume_log_intercept=0.3,
    volume_log_slope=0.9,
    volume_log_sd=0.3,
    missed_volume_log_mean=4.0,
    missed_volume_log_sd=0.8,
    preset=settings_of(load_preset("default")),
    source="40 sessions",
)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_recovered(temperature: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0.5, 3, 20_000)
    right = rng.random(20_000) < special.expit(logits / temperature)
    assert fit_temperature(logits, right) == pytest.approx(temperature, rel=0.05)
    before = expected_calibration_error(special.expit(logits), right)
    after = expected_calibration_error(
        special.expit(logits / fit_temperature(logits, right)), right
    )
    assert after < 0.015
    assert after <= before + 0.005


def test_logistic_weights_are_recovered() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal([1, 4], [2, 1], (20_000, 2))
    right = rng.random(20_000) < special.expit(-1.5 + features @ [0.8, -0.3])
    intercept, weights = fit_logistic(features, right)
    assert intercept == pytest.approx(-1.5, abs=0.15)
    assert weights == pytest.approx([0.8, -0.3], abs=0.05)


@pytest.mark.parametrize("right", [[True] * 4, [False] * 4, [False, False, True, True]])
def test_separable_or_one_sided_cases_stay_finite(right: list[bool]) -> None:
    features = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
    intercept, weights = fit_logistic(features, np.array(right))
    chances = special.expit(intercept + features @ weights)
    assert np.all(np.isfinite(weights))
    assert weights[1] == pytest.approx(0, abs=1e-6)  # a feature that never changes says nothing
    assert np.mean(chances) == pytest.approx(np.mean(right), abs=0.06)


@pytest.mark.parametrize("dispersion", [0.0, 0.5, 2.0])
def test_dispersion_is_recovered(dispersion: float) -> None:
    rng = np.random.default_rng(4)
    means = rng.uniform(0.5, 3, 8000)
    rates = rng.gamma(1 / dispersion, dispersion * means) if dispersion else means
    assert fit_dispersion(rng.poisson(rates), means) == pytest.approx(dispersion, abs=0.12)


def test_nothing_missed_is_poisson() -> None:
    assert fit_dispersion(np.zeros(5, dtype=int), np.zeros(5)) == 0.0
    assert fit_dispersion(np.zeros(0, dtype=int), np.zeros(0)) == 0.0


def test_reliability_by_hand() -> None:
    chances = np.array([0.05, 0.15, 0.15, 1.0])
    right = np.array([False, True, False, True])
    assert [(b.count, b.share_right) for b in reliability(chances, right) if b.count] == [
        (1, 0.0),
        (2, 0.5),
        (1, 1.0),
    ]
    assert expected_calibration_error(chances, right) == pytest.approx((0.05 + 2 * 0.35 + 0) / 4)
    assert math.isnan(expected_calibration_error(np.zeros(0), np.zeros(0, dtype=bool)))


def folder_with(tmp_path: Path, calibration: object) -> Path:
    content = json.loads((BOX / "model.json").read_text()) | {"calibration": calibration}
    (tmp_path / "model.json").write_text(json.dumps(content))
    return tmp_path


def test_a_manifest_carries_its_calibration(tmp_path: Path) -> None:
    manifest = read_manifest(folder_with(tmp_path, asdict(CALIBRATION) | {"later": 1}))
    assert manifest.calibration == CALIBRATION
    (tmp_path / "model.json").write_text(manifest.to_json())
    assert read_manifest(tmp_path) == manifest
    assert describe_manifest(manifest)["calibration"].startswith("fitted on 40 sessions;")


def test_a_manifest_without_calibration_works(tmp_path: Path) -> None:
    content = json.loads((BOX / "model.json").read_text())
    content.pop("calibration", None)
    (tmp_path / "model.json").write_text(json.dumps(content))
    manifest = read_manifest(tmp_path)
    assert manifest.calibration is None
    assert describe_manifest(manifest)["calibration"].startswith("none")


@pytest.mark.parametrize(
    "change",
    [
        {"intercept": "much"},
        {"intercept": math.nan},
        {"missed_per_mm": [0.1]},
        {"missed_per_mm": [0.1, -0.1]},
        {"volume_log_sd": -1},
        {"missed_dispersion": None},
    ],
)
def test_a_broken_calibration_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(MissingResource, match="not a complete manifest"):
        read_manifest(folder_with(tmp_path, asdict(CALIBRATION) | change))
    broken = asdict(CALIBRATION)
    del broken[next(iter(change))]
    with pytest.raises(MissingResource, match="not a complete manifest"):
        read_manifest(folder_with(tmp_path, broken))


def test_the_boxs_calibration_fits_its_preset() -> None:
    manifest = read_manifest(BOX)
    if manifest.calibration is None:
        pytest.skip("the box has none yet")
    assert manifest.calibration.preset == settings_of(load_preset(manifest.preset or "default"))
