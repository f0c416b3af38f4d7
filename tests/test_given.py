"""Which files of other derivatives belong to a scan, by their names alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_app.dataset.entities import parse_name
from bids_app.dataset.given import CORD_ENDS, DISC_ENDS, belongs, find_given
from bids_app.records import Scan, Session


def scan(name: str) -> Scan:
    parsed = parse_name(name)
    assert parsed is not None
    return Scan(Path("/raw") / name, parsed.entities, parsed.suffix)


T2W = "sub-01_ses-M0_T2w.nii.gz"


@pytest.mark.parametrize(
    ("name", "reference", "what"),
    [
        ("sub-01_ses-M0_T2w_label-discs_dlabel.nii.gz", T2W, "discs"),
        ("sub-01_ses-M0_T2w_labels-disc-manual.nii.gz", T2W, "discs"),
        ("sub-01_ses-M0_T2w_labels-disc.nii.gz", T2W, "discs"),
        ("sub-01_ses-M0_label-discs_dlabel.nii.gz", T2W, "discs"),
        ("sub-01_ses-M0_T2w_totalspineseg_discs.nii.gz", T2W, "discs"),
        ("sub-01_ses-M0_T2w_step1_levels.nii.gz", T2W, "discs"),
        ("sub-01_ses-M0_T2w_step2_output.nii.gz", T2W, "discs"),
        ("sub-01_ses-M0_T2w_seg_labeled_discs.nii.gz", T2W, "discs"),
        ("sub-01_ses-M0_T2w_label-SC_seg.nii.gz", T2W, "cord"),
        ("sub-01_ses-M0_T2w_seg-manual.nii.gz", T2W, "cord"),
        ("sub-01_ses-M0_T2w_seg.nii.gz", T2W, "cord"),
        ("sub-01_ses-M0_T2w_seg.nii", T2W, "cord"),
        ("sub-01_ses-M0_T2w_label-cord_mask.nii.gz", T2W, "cord"),
        ("sub-01_ses-M0_label-cord_mask.nii.gz", T2W, "cord"),
        ("sub-01_ses-M0_T2w_desc-rater1_label-SC_seg.nii.gz", T2W, "cord"),
        ("sub-01_ses-M0_space-orig_T2w_label-SC_seg.nii.gz", T2W, "cord"),
        ("sub-01_ses-M0_run-1_T2w_seg.nii.gz", "sub-01_ses-M0_run-01_T2w.nii.gz", "cord"),
        ("sub-01_acq-sag_UNIT1_seg.nii.gz", "sub-01_acq-sag_UNIT1.nii.gz", "cord"),
        # Another scan of the session, another person, another space, another thing.
        ("sub-01_ses-M0_T1w_label-SC_seg.nii.gz", T2W, None),
        ("sub-01_ses-M12_T2w_seg.nii.gz", T2W, None),
        ("sub-01_T2w_seg.nii.gz", T2W, None),
        ("sub-011_ses-M0_T2w_seg.nii.gz", T2W, None),
        ("sub-01_ses-M0_acq-STIR_T2w_seg.nii.gz", T2W, None),
        ("sub-01_ses-M0_run-02_T2w_seg.nii.gz", T2W, None),
        ("sub-01_ses-M0_T2w_seg.nii.gz", "sub-01_ses-M0_acq-sag_T2w.nii.gz", None),
        ("sub-01_ses-M0_space-PAM50_T2w_seg.nii.gz", T2W, None),
        ("sub-01_ses-M0_space-other_T2w_label-SC_seg.nii.gz", T2W, None),
        ("sub-01_ses-M0_T2w_lesion-manual.nii.gz", T2W, None),
        ("sub-01_ses-M0_T2w_label-lesion_seg.nii.gz", T2W, None),
        ("sub-01_ses-M0_T2w_gmseg-manual.nii.gz", T2W, None),
        ("sub-01_ses-M0_T2w.nii.gz", T2W, None),
        ("sub-01_ses-M0_seg.nii.gz", T2W, None),
        ("sub-01_ses-M0_T2w_seg.json", T2W, None),
        ("sub-01_ses-M0_T2w_label-cord_probseg.nii.gz", T2W, None),
    ],
)
def test_names(name: str, reference: str, what: str | None) -> None:
    assert belongs(name, scan(reference), DISC_ENDS) == (what == "discs")
    assert belongs(name, scan(reference), CORD_ENDS) == (what == "cord")


@pytest.mark.parametrize("folder", ["step1_levels", "step2_output", "step1_output"])
def test_totalspineseg_keeps_the_images_name(folder: str) -> None:
    assert belongs(T2W, scan(T2W), DISC_ENDS, folder)
    assert not belongs("sub-01_ses-M0_T1w.nii.gz", scan(T2W), DISC_ENDS, folder)
    assert not belongs(T2W, scan(T2W), CORD_ENDS, folder)
    assert not belongs(T2W, scan(T2W), DISC_ENDS, "input")


@pytest.mark.parametrize(
    "place",
    [
        "sub-01/ses-M0/anat",
        "sub-01/ses-M0",
        "sub-01/anat",
        "sub-01",
        "",
        "labels/sub-01/ses-M0/anat",
        "labels_softseg/sub-01/anat",
    ],
)
def test_places(tmp_path: Path, place: str) -> None:
    path = tmp_path / place / "sub-01_ses-M0_T2w_label-SC_seg.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    cord, discs = find_given({"labels": tmp_path}, Session("01", "M0"), scan(T2W))
    assert discs is None
    assert cord is not None
    assert (cord.path, cord.dataset, cord.root) == (path, "labels", tmp_path)
    assert find_given({"labels": tmp_path}, Session("02", None), scan("sub-02_T2w.nii")) == (
        None,
        None,
    )


def test_totalspineseg_folders(tmp_path: Path) -> None:
    for folder in ("step2_output", "step1_levels", "input"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / T2W).touch()
    for root in (tmp_path, tmp_path / "step1_levels"):
        _, discs = find_given({"tss": root}, Session("01", "M0"), scan(T2W))
        assert discs is not None
        assert discs.path == tmp_path / "step1_levels" / T2W


@pytest.mark.parametrize(
    "order",
    [
        # The better one first.
        ["b/sub-01/anat/sub-01_T2w_seg.nii.gz", "a/sub-01/anat/sub-01_T2w_seg-manual.nii.gz"],
        ["b/sub-01_T2w_seg-manual.nii.gz", "b/sub-01_T2w_label-SC_seg.nii.gz"],
        ["b/sub-01_T2w_seg.nii.gz", "b/sub-01_label-cord_mask.nii.gz"],
        ["b/sub-01_T2w_desc-manual_label-SC_seg.nii.gz", "b/sub-01_T2w_label-SC_seg.nii.gz"],
        ["b/sub-01_T2w_label-SC_seg.nii.gz", "b/sub-01_T2w_desc-rater1_label-SC_seg.nii.gz"],
        [
            "b/sub-01_T2w_desc-rater1_label-SC_seg.nii.gz",
            "b/sub-01_T2w_desc-rater2_label-SC_seg.nii.gz",
        ],
        ["b/sub-01/anat/sub-01_T2w_seg.nii.gz", "b/labels/sub-01/anat/sub-01_T2w_seg.nii.gz"],
        ["b/labels/sub-01/sub-01_T2w_seg.nii.gz", "b/labels2/sub-01/sub-01_T2w_seg.nii.gz"],
    ],
)
def test_of_several_the_stated_one_is_taken(tmp_path: Path, order: list[str]) -> None:
    for name in order:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a").mkdir(exist_ok=True)
    derivatives = {"b": tmp_path / "b", "a": tmp_path / "a"}
    cord, _ = find_given(derivatives, Session("01", None), scan("sub-01_T2w.nii.gz"))
    assert cord is not None
    assert cord.path == tmp_path / order[0]
