"""Presets: shipped ones hold their rules, broken ones are refused in one sentence."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bids_app.errors import UsageError
from bids_app.lesions.preset import Preset, load_preset, parse_preset, preset_names


def test_shipped_names() -> None:
    assert preset_names() == ("challenge-monomodal", "challenge-multimodal", "default")


def test_default_file_and_dataclass_agree() -> None:
    shipped = asdict(load_preset("default"))
    assert shipped | {"description": ""} == asdict(Preset())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("challenge-multimodal", (0.6, 0.3, 18, 6)),
        ("challenge-monomodal", (0.5, 0.8, 50, 6)),
    ],
)
def test_challenge_rules(name: str, expected: tuple[float, float, int, int]) -> None:
    preset = load_preset(name)
    assert (
        preset.lesion_threshold,
        preset.min_peak_probability,
        preset.min_lesion_voxels,
        preset.connectivity,
    ) == expected


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
    ],
)
def test_bad_content_is_one_sentence(content: object, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_preset(content, "p")
    assert str(caught.value) == sentence


def test_unknown_settings_without_a_near_match_lists_the_known() -> None:
    with pytest.raises(UsageError, match="xyzzy; known are description, lesion_threshold"):
        parse_preset({"xyzzy": 1}, "p")


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither a shipped preset \(challenge-mono"):
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
