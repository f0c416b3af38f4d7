"""The command as a user runs it: BIDS datasets in, one nnU-Net dataset out."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from bids_app.cli import main
from bids_app.imaging.volumes import read_label_map, read_volume, write_volume

SHAPE = (12, 14, 10)
AFFINE = np.diag([0.8, 0.8, 2.0, 1.0])


def save(path: Path, data: np.ndarray, letters: str = "RAS", affine: np.ndarray = AFFINE) -> None:
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(letters))
    stored = np.ascontiguousarray(apply_orientation(data, turn))
    write_volume(path, stored, affine @ inv_ornt_aff(turn, data.shape))


def write_session(
    root: Path, stem: str, lesions: int = 1, suffixes: tuple[str, ...] = ("T2w",)
) -> None:
    """Write scans with a cord, and masks of it and of lesions, as laboratories name them."""
    rng = np.random.default_rng(sum(map(ord, stem)))
    cord, lesion = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    cord[5:8, 6:9] = 1
    for number in range(lesions):
        lesion[6, 7, 3 * number + 1] = 1
    place = Path(*(part for part in stem.split("_") if part[:4] in {"sub-", "ses-"}), "anat")
    for suffix in suffixes:
        image = rng.integers(0, 50, SHAPE) + 100 * cord + 40 * lesion
        save(root / place / f"{stem}_{suffix}.nii.gz", image.astype(np.int16), "PSR")
        labels = root / "derivatives" / "labels" / place
        # The lesion label is stored in another orientation than its image.
        save(labels / f"{stem}_{suffix}_lesion-manual.nii.gz", lesion, "LPS")
        save(labels / f"{stem}_{suffix}_seg-manual.nii.gz", cord, "PSR")


def write_dataset(root: Path, subjects: int = 6, **more: object) -> Path:
    root.mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    rows = ["participant_id\tsite"]
    for number in range(1, subjects + 1):
        write_session(root, f"sub-{number:02d}_ses-M0", number % 3, **more)  # type: ignore[arg-type]
        rows.append(f"sub-{number:02d}\tsite{number % 2}")
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    return root


def convert(*arguments: object, cpus: int = 1) -> int:
    return main(["convert", *map(str, arguments), "--n-cpus", str(cpus)])


def checksums(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def folder_of(out: Path) -> Path:
    return out / "Dataset501_CordLesion"


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "one")


def test_a_dataset_comes_out_complete_and_the_source_is_untouched(
    one: Path, tmp_path: Path
) -> None:
    before = checksums(one)
    assert convert(one, "--out", tmp_path / "raw", "--folds", 3) == 0
    assert checksums(one) == before
    folder = folder_of(tmp_path / "raw")
    document = json.loads((folder / "dataset.json").read_text())
    assert document["labels"] == {"background": 0, "cord": [1, 2], "lesion": 2}
    assert document["regions_class_order"] == [1, 2]
    assert document["channel_names"] == {"0": "T2w", "1": "second"}
    assert (document["image_orientation"], document["numTraining"]) == ("LPI", 5)
    rows = table(folder / "cases.tsv")
    assert set(rows[0]) == set(json.loads((folder / "cases.json").read_text()))
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert not (folder / "staging").exists()
    for row in rows:
        end = "Tr" if row["split"] == "train" else "Ts"
        images = [folder / f"images{end}" / f"{row['case']}_{n:04d}.nii.gz" for n in (0, 1)]
        source = nib.as_closest_canonical(nib.load(one / row["reference"]))
        first, second = (read_volume(path, constant_ok=True) for path in images)
        assert np.array_equal(first.data, source.get_fdata())
        assert np.allclose(first.affine, AFFINE, atol=1e-5)
        assert not second.data.any()
        label = read_label_map(folder / f"labels{end}" / f"{row['case']}.nii.gz")
        assert set(np.unique(label.data)) <= {0, 1, 2}
        lesions = int(row["participant_id"][-1]) % 3
        assert (int(row["lesion_count"]), (label.data == 2).sum()) == (lesions, lesions)
        assert float(row["lesion_volume_mm3"]) == pytest.approx(lesions * 1.28)
        assert (label.data[5:8, 6:9] > 0).all()
        assert row["reference_sha256"] == before[row["reference"]]
        assert row["site"] == f"site{int(row['participant_id'][-1]) % 2}"
    splits = json.loads((folder / "splits_final.json").read_text())
    training = {row["case"] for row in rows if row["split"] == "train"}
    assert len(splits) == 3
    assert all(set(fold["train"]) | set(fold["val"]) == training for fold in splits)
    assert sorted(case for fold in splits for case in fold["val"]) == sorted(training)


def test_a_second_run_and_a_second_dataset_change_no_existing_file(
    one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "raw"
    assert convert(one, "--out", out) == 0
    folder = folder_of(out)
    images = {k: v for k, v in checksums(folder).items() if k.startswith(("images", "labels"))}
    fold = {row["case"]: (row["split"], row["fold"]) for row in table(folder / "cases.tsv")}
    capsys.readouterr()
    assert convert(one, "--out", out) == 0
    assert "Converted 0, already up to date 6" in capsys.readouterr().out
    two = write_dataset(tmp_path / "two", 5)
    assert convert(one, two, "--out", out) == 0
    now = checksums(folder)
    assert {name: now[name] for name in images} == images
    rows = {row["case"]: (row["split"], row["fold"]) for row in table(folder / "cases.tsv")}
    assert {case: rows[case] for case in fold} == fold
    assert len(rows) == 11
    assert convert(one, "--out", out) == 2


def test_a_stopped_conversion_goes_on_and_a_damaged_file_is_made_again(
    one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "raw", folder_of(tmp_path / "raw")
    assert convert(one, "--out", out, cpus=2) == 0
    before = checksums(folder)
    victim = next(path for path in before if path.startswith("labelsTr"))
    (folder / victim).write_bytes(b"half")
    (folder / "dataset.json").unlink()
    capsys.readouterr()
    assert convert(one, "--out", out) == 0
    assert "Converted 1, already up to date 5" in capsys.readouterr().out
    same = {k: v for k, v in checksums(folder).items() if k.startswith(("images", "labels"))}
    assert same == {name: before[name] for name in same}


def _label(root: Path, kind: str) -> Path:
    name = "sub-02_ses-M0_T2w_" + ("lesion-manual" if kind == "lesion" else "seg-manual")
    return root / "derivatives/labels/sub-02/ses-M0/anat" / f"{name}.nii.gz"


@pytest.mark.parametrize(
    ("kind", "data", "affine", "words"),
    [
        ("lesion", np.full(SHAPE, 0.5, np.float32), AFFINE, "between whole numbers"),
        ("lesion", np.zeros((12, 14, 9), np.uint8), AFFINE, "not on the voxel grid"),
        ("lesion", np.zeros(SHAPE, np.uint8), np.diag([1, 0.8, 2, 1]), "not on the voxel grid"),
        ("lesion", np.full(SHAPE, -1, np.int16), AFFINE, "negative"),
        ("cord", np.zeros(SHAPE, np.uint8), AFFINE, "is empty"),
        ("lesion", None, AFFINE, "no lesion label"),
        ("cord", None, AFFINE, "no cord mask"),
    ],
)
def test_what_cannot_be_used_is_named_and_left_out(
    one: Path,
    tmp_path: Path,
    kind: str,
    data: np.ndarray | None,
    affine: np.ndarray,
    words: str,
) -> None:
    path = _label(one, kind)
    if data is None:
        path.unlink()
    else:
        save(path, data, "RAS", affine)
    arguments = (one, "--out", tmp_path / "raw", "--cord", "required")
    assert convert(*arguments) == 0
    folder = folder_of(tmp_path / "raw")
    (left,) = table(folder / "excluded.tsv")
    assert words in left["reason"] and "sub-02_ses-M0" in left["name"]
    assert len(table(folder / "cases.tsv")) == 5
    unlabelled = left["kind"] == "unlabelled"
    assert convert(*arguments, "--on-problem", "fail") == (0 if unlabelled else 1)


def test_a_case_that_breaks_later_is_taken_out_again(one: Path, tmp_path: Path) -> None:
    assert convert(one, "--out", tmp_path / "raw") == 0
    _label(one, "lesion").unlink()
    assert convert(one, "--out", tmp_path / "raw") == 0
    folder = folder_of(tmp_path / "raw")
    assert not [path for path in folder.rglob("*sub-02*") if path.is_file()]


def test_late_fusion_makes_a_case_of_each_labelled_scan_and_holds_contrasts_out(
    tmp_path: Path,
) -> None:
    root = write_dataset(tmp_path / "one", 8, suffixes=("T2w", "T1w"))
    out = tmp_path / "raw"
    arguments = (root, "--out", out, "--fusion", "late", "--hold-out-contrast", "T1w")
    assert convert(*arguments, "--test-share", 0.5) == 0
    rows = table(folder_of(out) / "cases.tsv")
    assert {row["contrast"] for row in rows if row["split"] == "train"} == {"T2w"}
    assert sum(row["contrast"] == "T1w" for row in rows) == 4
    places = {(row["participant_id"], row["split"]) for row in rows}
    assert len(places) == len({subject for subject, _ in places}) == 8
    left = table(folder_of(out) / "excluded.tsv")
    assert [row["kind"] for row in left] == ["held-out"] * 4
    document = json.loads((folder_of(out) / "dataset.json").read_text())
    assert (document["channel_names"], document["fusion"]) == ({"0": "image"}, "late")


def test_sessions_of_a_subject_stay_together_and_lists_are_followed(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "one", 6)
    for number in range(1, 7):
        write_session(root, f"sub-{number:02d}_ses-M6")
    (tmp_path / "bad.tsv").write_text("# motion\nsub-03\tmotion\none/sub-04_ses-M6\n")
    (tmp_path / "split.tsv").write_text(
        "participant_id\tsplit\nsub-01\ttest\n02\ttrain\nsub-05\ttrain\nsub-06\ttrain\n"
    )
    arguments = (root, "--exclude", tmp_path / "bad.tsv")
    assert convert(*arguments, "--out", tmp_path / "a", "--splits", tmp_path / "split.tsv") == 0
    rows = table(folder_of(tmp_path / "a") / "cases.tsv")
    assert len(rows) == 9 and "sub-03" not in {row["participant_id"] for row in rows}
    places = {(row["participant_id"], row["split"], row["fold"]) for row in rows}
    assert len(places) == 5
    assert {who for who, split, _ in places if split == "test"} == {"sub-01"}
    left = table(folder_of(tmp_path / "a") / "excluded.tsv")
    assert [row["reason"] for row in left] == ["motion", "motion", "listed in bad.tsv"]
    split = folder_of(tmp_path / "a") / "splits_final.json"
    assert convert(*arguments, "--out", tmp_path / "b", "--splits", split, "--seed", 7) == 0
    again = {
        (row["participant_id"], row["split"], row["fold"])
        for row in table(folder_of(tmp_path / "b") / "cases.tsv")
    }
    assert again == places


def test_raters_and_label_folders(one: Path, tmp_path: Path) -> None:
    for rater, lesions in (("rater1", 2), ("rater2", 3)):
        for number in range(1, 7):
            lesion = np.zeros(SHAPE, np.uint8)
            lesion[6, 7, 1 : 2 * lesions : 2] = 1
            stem = f"sub-{number:02d}_ses-M0_T2w_desc-{rater}_label-lesion_seg.nii.gz"
            save(one / f"derivatives/raters/sub-{number:02d}/ses-M0/anat/{stem}", lesion)
    out = tmp_path / "raw"
    labels = ("--labels", "derivatives/raters", "derivatives/labels")
    assert convert(one, "--out", out, *labels, "--rater", "rater2", "--cord", "required") == 65
    assert convert(one, "--out", out, *labels, "--cord", "required") == 0
    rows = table(folder_of(out) / "cases.tsv")
    assert {(row["rater"], row["lesion_count"]) for row in rows} == {("rater1", "2")}
    assert all("rater2" in row["remarks"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{one}", "--out", "{one}/derivatives/raw"], 2, "lies in"),
        (["{one}", "{one}/../copy/one", "--out", "{tmp}/raw"], 2, "name one of them"),
        (["{one}", "--out", "{tmp}/raw", "--hold-out-dataset", "x"], 2, "no such dataset"),
        (["{one}", "--out", "{tmp}/raw", "--hold-out-contrast", "STIR"], 2, "no case shows it"),
        (["{one}", "--out", "{tmp}/raw", "--hold-out-dataset", "one"], 65, "left for training"),
        (["{one}", "--out", "{tmp}/raw", "--reference", "UNIT1"], 65, "no UNIT1"),
        (["{tmp}", "--out", "{tmp}/raw"], 2, "dataset_description"),
        (["{one}", "--out", "{tmp}/raw", "--id", "0"], 2, "1 to 999"),
        (["{one}", "--out", "{tmp}/raw", "--labels", "nowhere"], 2, "there is no folder"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(
    one: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    write_dataset(tmp_path / "copy" / "one", 1)
    assert convert(*(a.format(one=one, tmp=tmp_path) for a in arguments)) == code
    assert words in capsys.readouterr().err


def test_nnunet_accepts_what_comes_out(
    one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    assert convert(one, "--out", tmp_path / "raw") == 0
    verify_dataset_integrity(str(folder_of(tmp_path / "raw")), 1)
    said = capsys.readouterr().out
    assert "verify_dataset_integrity Done" in said
    assert "Warning" not in said and "Error" not in said


@pytest.mark.slow
def test_the_second_contrast_is_registered_and_the_box_finds_a_cord(tmp_path: Path) -> None:
    from bids_app.commands.demo import write_demo

    write_demo(tmp_path / "demo", 3)
    for name in ("sub-01", "sub-03"):
        for mask in (tmp_path / "demo").glob(f"derivatives/*/{name}/ses-M0/anat/*cord_mask*"):
            mask.unlink()
    assert convert(tmp_path / "demo", "--out", tmp_path / "raw", "--test-share", 0) == 0
    rows = {
        (row["participant_id"], row["session_id"]): row
        for row in table(folder_of(tmp_path / "raw") / "cases.tsv")
    }
    assert {key: row["contrast"] for key, row in rows.items()} == {
        ("sub-01", "ses-M0"): "T2w+STIR",
        ("sub-01", "ses-M12"): "T2w+PSIR",
        ("sub-02", "ses-M0"): "T2w+UNIT1",
        ("sub-03", "ses-M0"): "T2w",
    }
    assert rows["sub-01", "ses-M0"]["cord_source"] == rows["sub-03", "ses-M0"]["cord_source"]
    for (subject, _), row in rows.items():
        second = folder_of(tmp_path / "raw") / "imagesTr" / f"{row['case']}_0001.nii.gz"
        assert read_volume(second, constant_ok=True).data.any() == (subject != "sub-03")
        assert float(row["cord_volume_mm3"]) > 3000
