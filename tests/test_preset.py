"""Presets: shipped ones hold their rules, broken ones are refused in one sentence."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bids_app.errors import UsageError
from bids_app.lesions.preset import Preset, load_preset, parse_preset, preset_names


def test_shipped_names() -> None:
    assert preset_names() == ("box", "challenge-monomodal", "challenge-multimodal", "default")


def test_default_file_and_dataclass_agree() -> None:
    shipped = asdict(load_preset("default"))
    assert shipped | {"description": ""} == asdict(Preset())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("challenge-multimodal", ("vote", 0.6, 0, 0, 2, 0.3, 18, 6)),
        ("challenge-monomodal", ("vote", 0.5, 0.1, 0.8, 2, 0, 50, 6)),
        ("default", ("mean", 0.3, 0, 0, 1, 0.8, 1, 18)),
    ],
)
def test_shipped_rules(name: str, expected: tuple[float, ...]) -> None:
    preset = load_preset(name)
    assert (
        preset.combination,
        preset.lesion_limit,
        preset.zero_below,
        preset.min_contrast_peak,
        preset.cord_dilation_mm,
        preset.min_peak_probability,
        preset.min_lesion_voxels,
        preset.connectivity,
    ) == expected


@pytest.mark.parametrize(
    ("second", "limit"), [("STIR", 0.2), ("PSIR", 0.6), ("UNIT1", 0.6), ("T1w", 0.6), (None, 0.6)]
)
def test_votes_by_contrast(second: str | None, limit: float) -> None:
    assert load_preset("challenge-multimodal").for_contrast(second).lesion_limit == limit


def test_any_limit_can_differ_by_contrast() -> None:
    content = {"contrasts": {"PSIR": {"min_peak_probability": 0.9, "cord_dilation_mm": 2}}}
    preset = parse_preset(content, "p")
    other = preset.for_contrast("PSIR")
    assert (other.min_peak_probability, other.cord_dilation_mm) == (0.9, 2.0)
    assert (other.lesion_threshold, other.contrasts) == (0.3, {})
    assert preset.for_contrast("STIR").min_peak_probability == 0.8


def test_a_base_gives_what_the_file_leaves_out() -> None:
    content = {
        "base": "challenge-multimodal",
        "min_votes": 2,
        "contrasts": {"PSIR": {"min_votes": 4}, "STIR": {}},
    }
    preset = parse_preset(content, "mine.json")
    assert (preset.name, preset.description) == ("mine.json", "")
    assert (preset.combination, preset.min_lesion_voxels) == ("vote", 18)
    # A contrast that the file names is as the file says; the others are the base's.
    limits = {c: preset.for_contrast(c).min_votes for c in ("PSIR", "STIR", "UNIT1", None)}
    assert limits == {"PSIR": 4, "STIR": 2, "UNIT1": 3, None: 2}


def test_a_file_of_before_means_what_it_meant() -> None:
    old = {
        "description": "MS-Multi-Spine 2025", "lesion_threshold": 0.6, "cord_threshold": 0.5,
        "cord_dilation_mm": 2.0, "min_lesion_volume_mm3": 0.0, "min_lesion_voxels": 18,
        "min_peak_probability": 0.3, "connectivity": 6, "fill_holes": False,
        "keep_largest_cord": False,
    }  # fmt: skip
    preset = parse_preset(old, "old.json")
    assert (preset.combination, preset.lesion_limit, preset.zero_below) == ("mean", 0.6, 0)
    assert preset.for_contrast("STIR") is preset


def test_own_file_overrides_only_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"cord_dilation_mm": 2}))
    preset = load_preset(path)
    assert preset.cord_dilation_mm == 2.0
    assert isinstance(preset.cord_dilation_mm, float)
    assert preset.lesion_threshold == 0.3
    assert preset.name == str(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "Preset p must be a JSON object of settings."),
        (
            {"lesion_treshold": 0.4},
            "Preset p has unknown settings lesion_treshold; did you mean lesion_threshold?",
        ),
        (
            {"lesion_threshold": "0.5"},
            'Preset p: lesion_threshold must be a number, not "0.5".',
        ),
        (
            {"lesion_threshold": 0},
            "Preset p: lesion_threshold must be above 0 and at most 1, not 0.",
        ),
        ({"connectivity": 8}, "Preset p: connectivity must be 6, 18 or 26, not 8."),
        ({"connectivity": True}, "Preset p: connectivity must be a whole number, not true."),
        ({"fill_holes": 1}, "Preset p: fill_holes must be true or false, not 1."),
        (
            {"min_peak_probability": 1.5},
            "Preset p: min_peak_probability must be between 0 and 1, not 1.5.",
        ),
        (
            {"cord_dilation_mm": -1},
            "Preset p: cord_dilation_mm must be 0 or more, and finite, not -1.",
        ),
        (
            {"cord_dilation_mm": float("nan")},
            "Preset p: cord_dilation_mm must be 0 or more, and finite, not NaN.",
        ),
        (
            {"min_lesion_voxels": 2.5},
            "Preset p: min_lesion_voxels must be a whole number, not 2.5.",
        ),
        ({"combination": "median"}, 'Preset p: combination must be mean or vote, not "median".'),
        ({"fold_threshold": 0}, "Preset p: fold_threshold must be above 0 and at most 1, not 0."),
        ({"votes_of": 0}, "Preset p: votes_of must be 1 or more, not 0."),
        ({"zero_below": -0.1}, "Preset p: zero_below must be between 0 and 1, not -0.1."),
        ({"min_votes": 2}, 'Preset p: min_votes needs "combination": "vote".'),
        (
            {"combination": "vote", "min_votes": 6},
            "Preset p: min_votes must be at most votes_of, 5, not 6.",
        ),
        (
            {"base": "challenge-multimodal", "contrasts": {"PSIR": {"min_votes": 7}}},
            "Preset p, PSIR: min_votes must be at most votes_of, 5, not 7.",
        ),
        (
            {"base": "challenge-multimodal", "lesion_threshold": 0.4},
            "Preset p: min_votes decides, so lesion_threshold would have no effect; leave it out, "
            "or set min_votes to 0.",
        ),
        (
            {"base": "defalt"},
            'Preset p: base must be a shipped preset, not "defalt"; did you mean default?',
        ),
        (
            {"base": 3},
            "Preset p: base must be a shipped preset, not 3; shipped are box, "
            "challenge-monomodal, challenge-multimodal, default.",
        ),
        (
            {"contrasts": ["STIR"]},
            "Preset p: contrasts must be an object with an object of settings for each contrast, "
            'such as {"STIR": {"min_votes": 1}}.',
        ),
        (
            {"contrasts": {"MP2RAGE": {}}},
            "Preset p: contrast MP2RAGE is unknown; did you mean UNIT1?",
        ),
        ({"contrasts": {"STIRR": {}}}, "Preset p: contrast STIRR is unknown; did you mean STIR?"),
        (
            {"contrasts": {"T1 w": {}}},
            'Preset p: contrast "T1 w" is no BIDS suffix; write STIR or T1w, say.',
        ),
        (
            {"contrasts": {"STIR": {"lesion_treshold": 0.2}}},
            "Preset p, STIR has unknown settings lesion_treshold; did you mean lesion_threshold?",
        ),
        (
            {"contrasts": {"STIR": {"zero_below": 2}}},
            "Preset p, STIR: zero_below must be between 0 and 1, not 2.",
        ),
    ],
)
def test_bad_content_is_one_sentence(content: object, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_preset(content, "p")
    assert str(caught.value) == sentence


def test_unknown_settings_without_a_near_match_lists_the_known() -> None:
    with pytest.raises(UsageError, match="xyzzy; known are base, description, combination"):
        parse_preset({"xyzzy": 1}, "p")


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither a shipped preset \(box, challenge-mono"):
        load_preset("defualt")
    with pytest.raises(UsageError, match="did you mean default"):
        load_preset("defualt")
    broken = tmp_path / "broken.json"
    broken.write_text('{"connectivity": ')
    with pytest.raises(UsageError, match="is not valid JSON"):
        load_preset(broken)
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not valid JSON"):
        load_preset(broken)
    with pytest.raises(UsageError, match="cannot be read"):
        load_preset(tmp_path)
