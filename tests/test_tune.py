"""Tuning: the known optimum is found, the search equals the real chain, the test split is out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from bids_app.cli import main
from bids_app.commands.tune import find_candidates_of
from bids_app.commands.tune_cases import TuneCase
from bids_app.evaluation.matching import match_instances
from bids_app.evaluation.metrics import detect_at, dice, score_predictions
from bids_app.evaluation.search import Grid, score_at, search
from bids_app.imaging.volumes import write_volume
from bids_app.lesions.preset import Preset, load_preset
from bids_app.lesions.refine import refine

AFFINE = np.eye(4)
THRESHOLDS = (0.3, 0.45, 0.6)


def _write_case(root: Path, name: str, lesion: np.ndarray, truth: np.ndarray) -> TuneCase:
    probability = root / "probabilities" / f"{name}_label-lesion_probseg.nii.gz"
    reference = root / "labels" / f"{name}.nii.gz"
    write_volume(probability, lesion.astype(np.float32), AFFINE)
    write_volume(reference, truth.astype(np.uint8), AFFINE)
    return TuneCase(name, probability, reference)


def _made_case(root: Path, name: str) -> TuneCase:
    """A lesion of 27 mm3 at 0.6, a false one at 0.4, a false voxel at 0.9."""
    lesion, truth = np.zeros((20, 20, 20)), np.zeros((20, 20, 20))
    lesion[2:5, 2:5, 2:5] = 0.6
    truth[2:5, 2:5, 2:5] = 1
    lesion[12:15, 12:15, 12:15] = 0.4
    lesion[5, 17, 5] = 0.9
    return _write_case(root, name, lesion, truth)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        _made_case(tmp_path, name)
    return tmp_path


def _tune(root: Path, *more: object) -> int:
    places = [root / "probabilities", "--references", root / "labels", "--out", root / "out"]
    return main(["train", "tune", *map(str, places), "--n-cpus", "1", *map(str, more)])


@pytest.mark.parametrize("metric", ["dice", "f1", "froc"])
def test_the_known_optimum_is_found(
    made: Path, metric: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _tune(made, "--metric", metric) == 0
    record = json.loads((made / "out" / "tuning.json").read_text())
    # The default preset asks for a peak of 0.8, which drops the lesion.
    assert record["score_of_base"] == pytest.approx(0.0)
    assert record["score"] == pytest.approx(1.0)
    chosen = record["chosen"]
    assert chosen["min_lesion_volume_mm3"] == 8.0  # as before: every limit above 1 does
    assert chosen["min_peak_probability"] in (0.0, 0.5, 0.6)
    if metric != "froc":  # which forgives a false lesion that is less sure than the true one
        assert 0.4 < max(chosen["lesion_threshold"], chosen["min_peak_probability"]) <= 0.6
    preset = load_preset(made / "out" / "preset.json")
    assert preset.lesion_threshold == chosen["lesion_threshold"]
    assert preset.cord_dilation_mm == Preset().cord_dilation_mm
    header, *rows = (made / "out" / "tuning.tsv").read_text().splitlines()
    assert header.split("\t")[-1] == metric
    best = max(float(row.split("\t")[-1]) for row in rows)
    assert best == pytest.approx(record["score"])
    assert "no cases.tsv" in capsys.readouterr().out


def test_of_equal_limits_the_nearest_to_the_base_is_chosen(made: Path) -> None:
    assert _tune(made, "--metric", "dice") == 0
    record = json.loads((made / "out" / "tuning.json").read_text())
    assert record["chosen"] == {
        "lesion_threshold": 0.3,
        "min_peak_probability": 0.6,
        "min_lesion_volume_mm3": 8.0,
    }


def _random_case(root: Path, seed: int) -> TuneCase:
    rng = np.random.default_rng(seed)
    lesion = ndimage.gaussian_filter(rng.random((24, 20, 16)), 1.2)
    lesion = (lesion - lesion.min()) / np.ptp(lesion)
    truth = ndimage.gaussian_filter(rng.random((24, 20, 16)), 1.2)
    return _write_case(root, f"r{seed}", lesion, (truth > np.quantile(truth, 0.9)) | (lesion > 0.9))


@pytest.mark.parametrize("seed", range(3))
def test_the_search_scores_what_the_real_chain_would(tmp_path: Path, seed: int) -> None:
    case = _random_case(tmp_path, seed)
    base = load_preset("default")
    image = find_candidates_of(case, base, THRESHOLDS)
    grid = Grid(THRESHOLDS, (0.0, 0.7, 0.9), (0.0, 8.0, 30.0))
    lesion, truth = (
        np.asarray(nibabel.load(path).dataobj) for path in (case.probability, case.reference)
    )
    known, _ = ndimage.label(truth)
    for threshold in THRESHOLDS:
        for peak in grid.min_peak_probability:
            for volume in grid.min_lesion_volume_mm3:
                preset = replace(
                    base,
                    lesion_threshold=threshold,
                    min_peak_probability=peak,
                    min_lesion_volume_mm3=volume,
                )
                found = refine(np.ones_like(lesion), lesion, (1.0, 1.0, 1.0), preset)
                overlaps = match_instances(known, found.instances)
                means = [lesion[found.instances == n].mean() for n in overlaps.predicted_labels]
                scored = score_predictions(overlaps, np.array(means))
                point = threshold, peak, volume
                assert score_at([image], grid, "dice", point) == dice(truth > 0, found.lesion)
                assert score_at([image], grid, "f1", point) == detect_at(scored).f1


def test_the_held_out_score_is_of_limits_that_others_chose(tmp_path: Path) -> None:
    good = _made_case(tmp_path, "good")
    lesion, truth = np.zeros((20, 20, 20)), np.zeros((20, 20, 20))
    lesion[2:5, 2:5, 2:5], truth[2:5, 2:5, 2:5] = 0.4, 1  # here 0.4 is right
    odd = _write_case(tmp_path, "odd", lesion, truth)
    images = [find_candidates_of(c, Preset(), THRESHOLDS) for c in (good, good, odd)]
    grid = Grid(THRESHOLDS, (0.0,), (8.0,))
    found = search(images, grid, "dice", (0.3, 0.0, 8.0), ["0", "1", "2"])
    # All three: 0.45 gives 1, 1, 0; 0.3 gives 2/3, 2/3, 1, which is the better mean.
    assert found.best.point[0] == 0.3
    assert found.best.score == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    # Without one good image: (2/3 + 1) / 2 against (1 + 0) / 2, so 0.3; without the odd one 0.45.
    assert found.held_out == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_cases_of_the_test_split_are_refused(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "cases.tsv").write_text("case\tsplit\na\ttrain\nb\ttest\nc\ttrain\n")
    assert _tune(made) == 2
    assert "keeps b for the test" in capsys.readouterr().err
    assert not (made / "out").exists()
    (made / "labels").rename(made / "labelsTs")
    (made / "cases.tsv").unlink()
    places = [made / "probabilities", "--references", made / "labelsTs", "--out", made / "out"]
    assert main(["train", "tune", *map(str, places)]) == 2
    assert "the test split" in capsys.readouterr().err


def test_rules_for_single_folds_cannot_be_tuned(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _tune(made, "--preset", "challenge-multimodal") == 2
    assert "challenge-multimodal sets combination" in capsys.readouterr().err


def test_nothing_to_tune_with_is_said(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "labels" / "b.nii.gz").unlink()
    assert _tune(made) == 2
    assert "no reference of b" in capsys.readouterr().err
    assert main(["train", "tune", str(made / "probabilities")]) == 2
    assert "--references and --out" in capsys.readouterr().err
    for name in "abc":
        write_volume(made / "labels" / f"{name}.nii.gz", np.zeros((20, 20, 20), np.uint8), AFFINE)
    assert _tune(made, "--metric", "froc") == 65
    assert "no image has a reference lesion" in capsys.readouterr().err
