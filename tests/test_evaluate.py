"""The command as a user runs it: folders in, tables, summary, plots and exit codes out."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from test_evaluation_official import plain_froc, plain_rates, random_image

from bids_app.cli import main
from bids_app.dataset.labels import choose_labels, find_lesion_labels, parse_lesion_name
from bids_app.dataset.pairs import pair_labels
from bids_app.errors import UsageError
from bids_app.imaging.volumes import write_volume

AFFINE = np.diag([0.5, 0.5, 3.0, 1.0])


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    write_volume(path, data.astype(np.int16), affine)
    return path


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def summary(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def evaluate(*arguments: object) -> int:
    return main(["evaluate", "--n-cpus", "1", *map(str, arguments)])


def checksum(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    return tmp_path / "known", tmp_path / "found", tmp_path / "out"


def two_lesions() -> np.ndarray:
    data = np.zeros((12, 10, 6), int)
    data[1:4, 1:4, 1:3] = 1
    data[7:10, 6:9, 2:4] = 2
    return data


@pytest.mark.parametrize("n_cpus", [1, 2])
def test_plain_folders_end_to_end(folders: tuple[Path, Path, Path], n_cpus: int) -> None:
    known, found, out = folders
    images = [random_image(np.random.default_rng((9, n))) for n in range(10)]
    for number, (reference, prediction, chances) in enumerate(images):
        save(known / f"case{number}.nii.gz", reference)
        save(found / f"case{number}.nii.gz", prediction)
        head = "id,p" if number % 2 else "label,p"
        lines = [head, *(f"{label},{p!r}" for label, p in chances.items())]
        (found / f"case{number}.csv").write_text("\n".join(lines) + "\n")
    before = checksum(known), checksum(found)
    assert evaluate(known, found, out, "--n-cpus", n_cpus) == 0
    assert (checksum(known), checksum(found)) == before
    got = summary(out)["challenge"]
    rates = [plain_rates(image, 0.5) for image in images]
    assert got["froc"] == pytest.approx(plain_froc(images), abs=1e-9)
    assert got["sensitivity"] == pytest.approx(np.nanmean([rate[0] for rate in rates]), abs=1e-9)
    assert got["precision"] == pytest.approx(np.mean([rate[1] for rate in rates]), abs=1e-9)
    assert got["f1"] == pytest.approx(np.mean([rate[2] for rate in rates]), abs=1e-9)
    assert got["fp_per_image"] == pytest.approx(np.mean([rate[3] for rate in rates]), abs=1e-9)
    for name in ("froc", "reliability", "volume_agreement", "sensitivity_by_size"):
        assert (out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert "# Evaluation" in (out / "summary.md").read_text()
    for name in ("scans", "lesions"):
        rows, columns = table(out / f"{name}.tsv"), json.loads((out / f"{name}.json").read_text())
        assert list(rows[0]) == list(columns)
        assert all(len(row) == len(columns) for row in rows)
    lesions = table(out / "lesions.tsv")
    assert len(lesions) == sum(len(np.unique(x[x > 0])) for image in images for x in image[:2])
    assert not any(np.isnan(float(row["iou"])) for row in lesions)


def test_missing_unusable_failed_and_left_out(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    known, found, out = folders
    data = two_lesions()
    for name in ("a", "b", "c", "d", "e"):
        save(known / f"{name}.nii.gz", data)
    save(found / "a.nii.gz", data)
    save(found / "c.nii.gz", data[:, :, :5])
    save(found / "d.nii.gz", data, np.diag([0.5, 0.5, 3.1, 1]))
    save(found / "e.nii.gz", data)
    (known / "e.nii.gz").write_bytes(b"nothing of use")
    save(found / "z.nii.gz", data)
    assert evaluate(known, found, out) == 1
    rows = {row["scan"]: row for row in table(out / "scans.tsv")}
    assert {name: row["status"] for name, row in rows.items()} == {
        "a": "scored", "b": "missing", "c": "unusable", "d": "unusable", "e": "failed",
    }  # fmt: skip
    assert [rows[name]["dice"] for name in "abcde"] == ["1", "0", "0", "0", "n/a"]
    got = summary(out)
    assert got["n"]["scans"] == 4
    assert got["challenge"]["sensitivity"] == 0.25
    assert got["status"] == {"missing": ["b"], "unusable": ["c", "d"], "failed": ["e"]}
    assert got["predictions_without_reference"] == ["z.nii.gz"]
    text = capsys.readouterr().out
    assert "is 12 x 10 x 5 voxels, the reference 12 x 10 x 6" in rows["c"]["error"]
    assert "affine" in rows["d"]["error"]
    assert "No prediction for b: scored as an empty prediction." in text


@pytest.mark.parametrize("connectivity", [None, 6, 18, 26])
def test_masks_and_instance_maps(
    folders: tuple[Path, Path, Path], connectivity: int | None
) -> None:
    known, found, out = folders
    mask = np.zeros((6, 6, 4), int)
    mask[1, 1, 1] = mask[2, 2, 1] = mask[3, 3, 2] = mask[5, 0, 0] = 1
    instances = np.zeros_like(mask)
    instances[1, 1, 1], instances[2, 2, 1] = 4, 7
    for name in "abcd":
        save(known / f"{name}.nii.gz", mask)
        save(found / f"{name}.nii.gz", instances)
    # A table shows that the one label is a lesion of its own, and not a mask.
    save(found / "d.nii.gz", 5 * mask)
    (found / "d.csv").write_text("label,p\n5,0.8\n")
    more = ["--connectivity", connectivity] if connectivity else []
    assert evaluate(known, found, out, *more) == 0
    rows = table(out / "scans.tsv")
    counts = {None: 1, 6: 4, 18: 3, 26: 2}
    assert {row["reference_lesions"] for row in rows} == {str(counts[connectivity])}
    assert [row["predicted_lesions"] for row in rows] == ["2", "2", "2", "1"]
    assert summary(out)["one_label_in_pieces"] == (0 if connectivity else 4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("label,p\n1,0.5\n", "without a probability"),
        ("label,p\n1,0.5\n2,1.5\n", "is no probability"),
        ("label,p\n1,0.5\n2,high\n", "line 3"),
        ("lesion,chance\n1,0.5\n", "'label,p' or 'id,p'"),
        ("", "'label,p' or 'id,p'"),
    ],
)
def test_probabilities_that_cannot_be_used(
    folders: tuple[Path, Path, Path], content: str, words: str
) -> None:
    known, found, out = folders
    for name in "ab":
        save(known / f"{name}.nii.gz", two_lesions())
        save(found / f"{name}.nii.gz", two_lesions())
    (found / "b.csv").write_text(content)
    assert evaluate(known, found, out) == 1
    assert words in table(out / "scans.tsv")[1]["error"]


def test_spaces_and_a_byte_order_mark_in_a_table(folders: tuple[Path, Path, Path]) -> None:
    known, found, out = folders
    save(known / "a.nii.gz", two_lesions())
    save(found / "a.nii.gz", two_lesions())
    (found / "a.csv").write_bytes(b"\xef\xbb\xbfid , p\r\n1, 0.25\r\n2, 0.75\r\n\r\n")
    assert evaluate(known, found, out) == 0
    lesions = table(out / "lesions.tsv")
    assert [row["probability"] for row in lesions if row["kind"] == "prediction"] == [
        "0.25", "0.75",
    ]  # fmt: skip


def bids_prediction(folder: Path, stem: str, data: np.ndarray, contrasts: tuple[str, str]) -> None:
    """One session as our own derivatives hold it."""
    place = folder / stem.split("_")[0] / "ses-1" / "anat"
    save(place / f"{stem}_seg-lesions_dseg.nii.gz", data)
    save(place / f"{stem}_label-lesion_mask.nii.gz", data > 0)
    rows = [f"{n}\tlesion-{n}\t{0.4 + n / 10}" for n in np.unique(data[data > 0])]
    (place / f"{stem}_seg-lesions_dseg.tsv").write_text(
        "\n".join(["index\tname\tmean_probability", *rows]) + "\n"
    )
    used = {"Contrasts": {"reference": contrasts[0], "second": contrasts[1]}}
    (place / f"{stem}_label-lesion_mask.json").write_text(json.dumps(used))
    vertebrae = np.zeros_like(data)
    vertebrae[:, :, :2], vertebrae[:, :, 2:] = 3, 8
    save(place / f"{stem}_seg-vertebrae_dseg.nii.gz", vertebrae)
    (place / f"{stem}_seg-vertebrae_dseg.tsv").write_text("index\tname\n3\tC3\n8\tT1\n")


def test_bids_derivatives(folders: tuple[Path, Path, Path]) -> None:
    dataset, found, out = folders
    data = two_lesions()
    for number in range(1, 7):
        who = f"sub-{number:02d}"
        save(
            dataset / f"derivatives/labels/{who}/ses-1/anat/{who}_ses-1_T2w_lesion-manual.nii.gz",
            data > 0,
        )
        second = "STIR" if number < 4 else "PSIR"
        bids_prediction(found, f"{who}_ses-1", data if number > 1 else data * 0, ("T2w", second))
    # A second rater, and a label of another contrast of a scan with one prediction.
    for name in ("T2w_desc-rater2_label-lesion_seg", "PSIR_label-lesion_seg"):
        save(dataset / f"derivatives/labels/sub-01/ses-1/anat/sub-01_ses-1_{name}.nii.gz", data > 0)
    (dataset / "participants.tsv").write_text(
        "participant_id\tsite\tcoil\n"
        + "".join(f"sub-{n:02d}\t{'AB'[n % 2]}\t{'xy'[n // 4]}\n" for n in range(1, 7))
    )
    assert evaluate(dataset, found, out, "--by", "contrast", "site", "coil") == 0
    got = summary(out)
    assert got["n"] == {
        "scans": 6, "subjects": 6, "reference_lesions": 12, "predicted_lesions": 10,
    }  # fmt: skip
    assert got["probabilities"] == {"mean_probability": 6}
    groups = {key: list(found) for key, found in got["by"].items() if key != "lesion_size"}
    assert groups == {
        "contrast": ["T2w+PSIR", "T2w+STIR"], "site": ["A", "B"], "coil": ["x", "y"],
        "level": ["C3", "T1"],
    }  # fmt: skip
    assert got["by"]["level"]["T1"]["sensitivity"]["mean"] == pytest.approx(5 / 6)
    assert got["by"]["site"]["A"]["challenge"]["sensitivity"] == 1
    assert got["by"]["site"]["B"]["challenge"]["sensitivity"] == pytest.approx(2 / 3)
    row = table(out / "scans.tsv")[1]
    assert (row["participant_id"], row["session_id"], row["site"]) == ("sub-02", "ses-1", "A")
    reasons = {Path(one["path"]).name: one["reason"] for one in got["left_out"]}
    assert len(reasons) == 2
    assert "sub-01_ses-1_PSIR_label-lesion_seg.nii.gz" in reasons


def test_other_layouts_of_the_same_references(folders: tuple[Path, Path, Path]) -> None:
    """The dataset's top, its labels folder, and their parent all mean the same references."""
    dataset, _, _ = folders
    name = "sub-01/anat/sub-01_label-lesion_seg.nii.gz"
    path = save(dataset / "derivatives" / "labels_softseg" / name, two_lesions() > 0)
    for place in (dataset, dataset / "derivatives" / "labels_softseg"):
        assert [label.path for label in find_lesion_labels(place)] == [path]
    save(dataset / "derivatives" / "other" / name, two_lesions() > 0)
    assert [label.path for label in find_lesion_labels(dataset)] == [path]
    path.rename(save(dataset / "derivatives" / "third" / name, two_lesions() > 0))
    with pytest.raises(UsageError, match="derivatives/other, derivatives/third"):
        find_lesion_labels(dataset)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-01_T2w_lesion-manual.nii.gz", ("sub-01", "T2w", "mask", None)),
        ("sub-01_ses-2_acq-a_T2w_lesion-manual.nii", ("sub-01_ses-2_acq-a", "T2w", "mask", None)),
        ("sub-01_label-lesion_seg.nii.gz", ("sub-01", None, "mask", None)),
        ("sub-01_T2star_label-lesion_seg.nii.gz", ("sub-01", "T2starw", "mask", None)),
        ("sub-01_desc-rater1_label-lesion_seg.nii.gz", ("sub-01", None, "mask", "rater1")),
        ("sub-01_run-02_label-lesion_mask.nii.gz", ("sub-01_run-2", None, "mask", None)),
        ("sub-01_seg-lesions_dseg.nii.gz", ("sub-01", None, "instances", None)),
        ("sub-01_space-PAM50_label-lesion_mask.nii.gz", ("sub-01_space-PAM50", None, "mask", None)),
        ("sub-01_label-lesion_probseg.nii.gz", None),
        ("sub-01_label-lesion_desc-uncertainty_probseg.nii.gz", None),
        ("sub-01_label-SC_seg.nii.gz", None),
        ("sub-01_T2w_seg-manual.nii.gz", None),
        ("sub-01_label-discs_dlabel.nii.gz", None),
        ("sub-01_T2w_labels-disc-manual.nii.gz", None),
        ("sub-01_seg-vertebrae_dseg.nii.gz", None),
        ("sub-01_T2w.nii.gz", None),
        ("lesion-manual.nii.gz", None),
    ],
)  # fmt: skip
def test_label_names(name: str, expected: tuple[str, str | None, str, str | None] | None) -> None:
    label = parse_lesion_name(Path(name))
    assert (label and (label.scan, label.contrast, label.kind, label.rater)) == expected


@pytest.mark.parametrize(
    ("references", "predictions", "expected", "spare"),
    [
        (["T2w"], [""], ["T2w-"], 0),
        (["T2w", "STIR"], ["STIR", "T2w"], ["STIR-STIR", "T2w-T2w"], 0),
        (["STIR", "T2w"], [""], ["T2w-"], 0),
        ([""], ["STIR", "T2w"], ["-T2w"], 1),
        (["STIR"], ["T2w"], ["STIR-missing"], 1),
        (["STIR", "T2w"], ["T2w"], ["STIR-missing", "T2w-T2w"], 0),
    ],
)
def test_pairs_by_contrast(
    references: list[str], predictions: list[str], expected: list[str], spare: int
) -> None:
    sides = [
        [
            parse_lesion_name(Path(f"sub-01_{one}_label-lesion_seg.nii.gz".replace("__", "_")))
            for one in side
        ]
        for side in (references, predictions)
    ]
    found = pair_labels(*[choose_labels(side)[0] for side in sides])
    got = [
        f"{pair.reference.contrast or ''}-"
        + ("missing" if pair.prediction is None else pair.prediction.contrast or "")
        for pair in found.pairs
    ]
    assert (got, len(found.without_reference)) == (expected, spare)


def test_exit_codes(folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    known, found, out = folders
    assert evaluate(known, found, out) == 2
    known.mkdir()
    found.mkdir()
    assert evaluate(known, found, out) == 65
    save(known / "a.nii.gz", two_lesions())
    save(found / "b.nii.gz", two_lesions())
    assert evaluate(known, found, out) == 65
    assert "References are for a, ...; predictions for b" in capsys.readouterr().err
    assert not out.exists()
    assert evaluate(known, found, known) == 2
    assert evaluate(known, found, known.parent) == 2
    assert evaluate(known, found, out, "--threshold", 2) == 2
    assert evaluate(known, found, out, "--participants", known / "none.tsv") == 2
    # The only prediction is on another grid: no pair is left.
    save(found / "a.nii.gz", two_lesions()[:5])
    assert evaluate(known, found, out) == 65
    assert "not on the grid" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        evaluate(known, found, out, "--connectivity", 7)
    assert stop.value.code == 2


def test_nothing_anywhere(folders: tuple[Path, Path, Path]) -> None:
    """No lesion in any label: FROC is undefined, and nothing breaks."""
    known, found, out = folders
    for name in "abcd":
        save(known / f"{name}.nii.gz", np.zeros((4, 4, 3)))
        save(found / f"{name}.nii.gz", np.zeros((4, 4, 3)))
    assert evaluate(known, found, out) == 0
    got = summary(out)["challenge"]
    assert (got["froc"], got["sensitivity"]) == (None, None)
    assert (got["precision"], got["f1"], got["fp_per_image"]) == (1, 1, 0)
    assert len((out / "lesions.tsv").read_text().splitlines()) == 1
