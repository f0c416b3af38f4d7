"""File names to fields and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_app.dataset.entities import (
    _ENTITIES,
    ParsedName,
    build_name,
    is_label,
    parse_name,
    same_value,
    short_key,
)

labels = st.text("abcXYZ0189+", min_size=1, max_size=6)
known_keys = [names[0] for names in _ENTITIES]
keys = st.sampled_from(known_keys) | st.text("qwxz", min_size=4, max_size=6)
suffixes = st.sampled_from(["T2w", "STIR", "dseg", "probseg", "UNIT1", "2PE"])
extensions = st.sampled_from([".nii", ".nii.gz", ".json", ".tsv", ".ome.tif", ".txt"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-01_T2w.nii.gz", ParsedName({"sub": "01"}, "T2w", ".nii.gz")),
        ("sub-01_T2w.nii", ParsedName({"sub": "01"}, "T2w", ".nii")),
        (
            "sub-01_ses-M0_acq-sag_run-02_STIR.nii.gz",
            ParsedName({"sub": "01", "ses": "M0", "acq": "sag", "run": "02"}, "STIR", ".nii.gz"),
        ),
        ("sub-01_foo-bar_T2w.nii", ParsedName({"sub": "01", "foo": "bar"}, "T2w", ".nii")),
        ("sub-a+b_T2w.nii", ParsedName({"sub": "a+b"}, "T2w", ".nii")),
        ("acq-sag_T2w.json", ParsedName({"acq": "sag"}, "T2w", ".json")),
        (
            "sub-01_seg-lesions_dseg.tsv",
            ParsedName({"sub": "01", "seg": "lesions"}, "dseg", ".tsv"),
        ),
    ],
)
def test_parse(name, expected):
    assert parse_name(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        "README.md",
        "dataset_description.json",
        "T2w.json",
        "sub-01.html",
        "sub-01_T2w",
        "._sub-01_T2w.nii.gz",
        ".sub-01_T2w.nii.gz",
        "sub-01_T2w_seg.nii.gz",
        "sub-01_acq-a-b_T2w.nii.gz",
        "sub-01_acq-0.8_T2w.nii.gz",
        "sub-01_acq-_T2w.nii.gz",
        "sub-01_run-1_run-2_T2w.nii.gz",
        "acq-sag_sub-01_T2w.nii.gz",
        "sub-01__T2w.nii.gz",
        "sub-01_T2w copy.nii.gz",
        "sub-01_T2w.nii.gz\n",
        "sub-é_T2w.nii.gz",
        "anat/sub-01_T2w.nii.gz",
    ],
)
def test_not_a_bids_name(name):
    assert parse_name(name) is None


@pytest.mark.parametrize(
    ("entities", "suffix", "expected"),
    [
        (
            {"label": "lesion", "sub": "01", "res": "1", "space": "PAM50"},
            "mask",
            "sub-01_space-PAM50_res-1_label-lesion_mask.nii.gz",
        ),
        (
            {"desc": "uncertainty", "label": "lesion", "ses": "M0", "sub": "01"},
            "probseg",
            "sub-01_ses-M0_label-lesion_desc-uncertainty_probseg.nii.gz",
        ),
        (
            {"seg": "lesions", "chunk": "1", "sub": "01", "acq": "sag"},
            "dseg",
            "sub-01_acq-sag_chunk-1_seg-lesions_dseg.nii.gz",
        ),
        (
            {"to": "T2w", "mode": "image", "from": "STIR", "sub": "01", "run": "1"},
            "xfm",
            "sub-01_run-1_from-STIR_to-T2w_mode-image_xfm.nii.gz",
        ),
        (
            {"part": "mag", "zoo": "1", "space": "T2w", "sub": "01"},
            "T2w",
            "sub-01_part-mag_zoo-1_space-T2w_T2w.nii.gz",
        ),
    ],
)
def test_build_in_official_order(entities, suffix, expected):
    assert build_name(entities, suffix, ".nii.gz") == expected


def test_order_is_the_schema_s():
    schema = pytest.importorskip("bidsschematools.schema").load_schema()
    official = [schema.objects.entities[name].name for name in schema.rules.entities]
    assert [key for key in known_keys if key not in {"from", "to", "mode"}] == official


@pytest.mark.parametrize(
    ("entities", "suffix", "extension"),
    [
        ({"sub": "a-b"}, "T2w", ".nii"),
        ({"sub": ""}, "T2w", ".nii"),
        ({}, "T2w", ".nii"),
        ({"sub": "01"}, "T2w", "nii"),
        ({"sub": "01"}, "label-x_T2w", ".nii"),
    ],
)
def test_build_refuses_what_is_no_bids_name(entities, suffix, extension):
    with pytest.raises(ValueError, match="not a BIDS name"):
        build_name(entities, suffix, extension)


@given(st.dictionaries(keys, labels, min_size=1), suffixes, extensions)
def test_round_trip_from_fields(entities, suffix, extension):
    parsed = parse_name(build_name(entities, suffix, extension))
    assert parsed == (entities, suffix, extension)


@given(st.dictionaries(keys, labels, min_size=1), suffixes, extensions)
def test_built_names_are_stable(entities, suffix, extension):
    name = build_name(entities, suffix, extension)
    assert build_name(*parse_name(name)) == name


@given(st.text())
def test_any_text_parses_or_gives_none(text):
    parsed = parse_name(text)
    assert parsed is None or set("/ \n.").isdisjoint("".join(parsed.entities.values()))


def test_keys_labels_and_values():
    assert [short_key(name) for name in ("acquisition", "inv", "inversion", "zoo")] == [
        "acq",
        "inv",
        "inv",
        None,
    ]
    assert is_label("a+1") and not is_label("a-1") and not is_label("") and not is_label("é")
    assert same_value("run", "1", "01") and not same_value("run", "1", "2")
    assert same_value("acq", "ax", "ax") and not same_value("acq", "1", "01")
