"""Folds that vote, contrasts that are read one by one, and channels by the name of a contrast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_store import make_trained

from bids_app import results
from bids_app.errors import MissingContrast
from bids_app.given import Known
from bids_app.lesions.preset import load_preset
from bids_app.pipeline import find_lesions
from bids_app.records import Combination, Prepared, Volume
from bids_app.segmentation.describe import Choices
from bids_app.segmentation.inference import entropy_bits, segment, segment_contrasts
from bids_app.segmentation.install import install
from bids_app.segmentation.prediction import predict
from bids_app.segmentation.weights import Model, load_model

CPU = torch.device("cpu")


def _image(shape: tuple[int, int, int] = (18, 17, 16)) -> Volume:
    rng = np.random.default_rng(0)
    return Volume(rng.normal(size=shape).astype(np.float32), np.eye(4))


def test_late_fusion_reads_each_contrast_by_itself(tmp_path: Path) -> None:
    folder = make_trained(tmp_path / "trained")
    found = install([str(folder)], tmp_path / "store", choices=Choices(fusion="late"))
    late = load_model(found.folder, CPU, by_pytorch=True)
    early = replace(late, manifest=replace(late.manifest, fusion="early"))
    first, second = _image(), Volume(_image().data[::-1].copy(), np.eye(4))
    both = Prepared((first, second), contrasts=("T2w", "STIR"))
    readings = segment_contrasts(both, late)
    for reading, image in zip(readings, (first, second), strict=True):
        alone = segment(Prepared((image,)), early)
        np.testing.assert_array_equal(reading.lesion, alone.lesion)
        np.testing.assert_array_equal(reading.cord, alone.cord)
    assert abs(readings[0].lesion - readings[1].lesion).max() > 1e-3
    assert len(segment_contrasts(Prepared((first, None)), late)) == 1
    assert len(segment_contrasts(both, early)) == 1


@pytest.mark.parametrize("folds", [1, 2, 5])
def test_votes_of_the_folds(tmp_path: Path, folds: int) -> None:
    names = [f"fold_{number}" for number in range(folds)]
    folder = make_trained(tmp_path / "trained", folds=names)
    model = load_model(install([str(folder)], tmp_path / "store").folder, CPU, by_pytorch=True)
    prepared = Prepared((_image(), None))
    single = [replace(model, networks=(network,)) for network in model.networks]
    chances = np.array([segment(prepared, one).lesion for one in single])
    threshold = float(np.median(chances))  # so that the folds differ
    found = segment(prepared, model, combination=Combination("vote", threshold))
    votes = (chances >= threshold).sum(axis=0)
    assert (np.rint(found.lesion * folds) == votes).all()
    assert len(np.unique(votes)) > folds / 2
    np.testing.assert_array_equal(found.lesion == np.float32(0.6), votes == 3 if folds == 5 else 0)
    np.testing.assert_allclose(found.uncertainty, entropy_bits(chances.mean(0)), atol=1e-5)
    cords = np.mean([segment(prepared, one).cord for one in single], axis=0)
    # The mean is rounded to multiples of 2^-16 once more.
    np.testing.assert_allclose(found.cord, cords, rtol=0, atol=1.01 * 2**-17)


@pytest.mark.parametrize(
    ("preset", "second"),
    [
        ("challenge-multimodal", "STIR"),
        ("challenge-multimodal", None),
        ("challenge-monomodal", "PSIR"),
        ("challenge-monomodal", None),
    ],
)
def test_the_challenges_chains_from_images_to_lesions(
    tmp_path: Path, preset: str, second: str | None
) -> None:
    late = preset == "challenge-monomodal"
    folder = make_trained(
        tmp_path / "trained",
        channels=("T2w",) if late else ("T2w", "second"),
        labels={"background": 0, "sc": [1, 2], "lesion": 2},
        folds=[f"fold_{number}" for number in range(5)],
        regions_class_order=[1, 2],
    )
    choices = Choices(fusion="late" if late else "early")
    installed = install([str(folder)], tmp_path / "store", choices=choices).folder
    model = load_model(installed, CPU, by_pytorch=True)
    image = _image()
    rules = load_preset(preset)
    # Random networks are undecided: half of the voxels is lesion enough for a fold.
    rules = replace(rules, fold_threshold=_upper_half(image, model), cord_threshold=0.3)
    other = Volume(image.data[::-1].copy(), image.affine) if second else None
    found = find_lesions(image, other, model, rules, None, Known(contrasts=("T2w", second)))
    soft, lesion = found.segmentation.lesion, found.findings.lesion
    limit = np.float32({"STIR": 0.2}.get(second or "", 0.6) if not late else 0.5)
    assert lesion.any()
    assert soft[lesion].min() >= limit
    if second is None or not late:
        assert np.allclose(soft * 5, np.rint(soft * 5))
    smallest = np.bincount(found.findings.instances.ravel())[1:].min()
    assert smallest >= (50 if late else 18)
    for row in found.lesions:
        own = soft[found.findings.instances == row.index]
        assert row.mean_probability == pytest.approx(own.mean())
        assert row.max_probability == pytest.approx(own.max())


def _upper_half(image: Volume, model: Model) -> float:
    return float(np.quantile(segment(Prepared((image, None)), model).lesion, 1 / 2))


def test_a_model_is_fed_the_contrast_it_was_trained_on(tmp_path: Path) -> None:
    folder = make_trained(tmp_path / "trained", channels=("MP2RAGE",))
    model = load_model(install([str(folder)], tmp_path / "store").folder, CPU, by_pytorch=True)
    first, second = _image(), Volume(_image().data[::-1].copy(), np.eye(4))
    alone = predict(Prepared((second,)), model)
    for prepared in (
        Prepared((first, second), contrasts=("T2w", "UNIT1")),
        Prepared((second, first), contrasts=("UNIT1", "STIR")),
    ):
        np.testing.assert_array_equal(predict(prepared, model), alone)
    sentence = "The model reads UNIT1, and of this session T2w, STIR is used"
    with pytest.raises(MissingContrast, match=sentence):
        predict(Prepared((first, second), contrasts=("T2w", "STIR")), model)
    with pytest.raises(MissingContrast, match=r"--contrasts UNIT1 or --reference UNIT1"):
        predict(Prepared((first, None), contrasts=("T2w", None)), model)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"Fusion": "early"}, "read together by one network"),
        ({"Fusion": "late", "SecondAlonePenalty": None}, "merged as sum / coverage"),
        (
            {"Fusion": "late", "SecondAlonePenalty": 0.25, "ReferenceAlonePenalty": 0.0},
            "the higher counts, the second's logits lowered by 0.25",
        ),
        (
            {"Fusion": "late", "SecondAlonePenalty": 0.25, "ReferenceAlonePenalty": 1.5},
            "above one half lowered by 1.5 logits",
        ),
    ],
)
def test_a_sidecar_says_how_contrasts_were_read(model: dict[str, object], words: str) -> None:
    said = results._reading(model)
    assert words in said
    assert ("lowered by 1.5" in said) == bool(model.get("ReferenceAlonePenalty"))
