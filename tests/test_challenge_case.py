"""``cordlesion challenge``: one case in the challenge's layout, as a folder and as a zip."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support import ROOT, run_app

from bids_app.cli import main
from bids_app.dataset.challenge import choose
from bids_app.errors import NoUsableData

RAW = "rawdata/sub-001"


def challenge(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = "import sys; from bids_app.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "challenge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=580)


def make_case(folder: Path, name: str = "01-001", **scans: Path) -> Path:
    """Copy scans into the layout, given by contrast."""
    for place in ("rawdata", "derivatives/preprocessed"):
        (folder / place / "sub-001").mkdir(parents=True)
        for contrast, scan in scans.items():
            shutil.copy(scan, folder / place / "sub-001" / f"{name}_{contrast}.nii.gz")
    return folder


def zipped(folder: Path) -> Path:
    """Pack a case with a folder of its own on top, as file managers do, and a Mac's extras."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.nii.gz"):
            archive.write(file, Path("case", file.relative_to(folder)))
        archive.writestr(f"__MACOSX/case/{RAW}/._01-001_T2.nii.gz", b"\0" * 64)
    return path


def test_a_zip_gives_what_the_run_gives(demo: Path, tmp_path: Path) -> None:
    anat = demo / "sub-01/ses-M0/anat"
    t2, stir = anat / "sub-01_ses-M0_T2w.nii.gz", anat / "sub-01_ses-M0_acq-STIR_T2w.nii.gz"
    case = zipped(make_case(tmp_path / "case", T2=t2, STIR=stir))
    done = challenge(case, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "T2w with STIR" in done.stdout
    names = ["instance_segmentation.nii.gz", "lesion_probabilities.csv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names

    selection = ("--participant-label", "01", "--session-label", "M0")
    assert run_app(demo, tmp_path / "der", "participant", *selection).returncode == 0
    stem = tmp_path / "der/sub-01/ses-M0/anat/sub-01_ses-M0_seg-lesions_dseg"
    image = tmp_path / "out/instance_segmentation.nii.gz"
    assert image.read_bytes() == stem.with_suffix(".nii.gz").read_bytes()
    found = nib.load(image)
    assert found.shape == nib.load(t2).shape
    np.testing.assert_allclose(found.affine, nib.load(t2).affine, atol=1e-3)

    header, *rows = (tmp_path / "out/lesion_probabilities.csv").read_text().splitlines()
    assert header == "id,p"
    columns, *lesions = (
        line.split("\t") for line in stem.with_suffix(".tsv").read_text().splitlines(keepends=True)
    )
    place = {name.strip(): number for number, name in enumerate(columns)}
    known = {row[place["index"]]: float(row[place["probability"]]) for row in lesions}
    table = {row.split(",")[0]: float(row.split(",")[1]) for row in rows}
    assert table == pytest.approx(known, abs=1e-4)  # that one is written with four digits
    assert set(table) == {str(label) for label in np.unique(found.dataobj) if label}


def test_without_a_lesion_the_map_is_empty_and_the_table_a_header(
    demo: Path, tmp_path: Path
) -> None:
    scan = demo / "sub-04/ses-M0/anat/sub-04_ses-M0_T2w.nii.gz"
    case, out = make_case(tmp_path / "case", T2=scan), tmp_path / "out"
    out.mkdir()
    (out / "lesion_probabilities.csv").write_text("id,p\n1,0.5\n")
    done = challenge(case, out)
    assert done.returncode == 0, done.stderr
    assert "0 lesions in T2w alone" in done.stdout
    assert (out / "lesion_probabilities.csv").read_text() == "id,p\n"
    image = nib.load(out / "instance_segmentation.nii.gz")
    assert image.shape == nib.load(scan).shape
    assert not np.asarray(image.dataobj).any()


@pytest.mark.parametrize(
    ("files", "second", "unused"),
    [
        (["T2"], None, 0),
        (["T2", "PSIR"], "PSIR", 0),
        (["T2", "MP2RAGE"], "UNIT1", 0),
        (["T2", "MP2RAGE", "STIR"], "STIR", 1),
    ],
)
def test_the_second_contrast(files: list[str], second: str | None, unused: int) -> None:
    paths = [Path(RAW, f"01-001_{name}.nii.gz") for name in files]
    case = choose(paths, ("STIR", "PSIR", "UNIT1"), Path("x"))
    assert case.reference.path.name == "01-001_T2.nii.gz"
    assert (case.second.contrast if case.second else None) == second
    assert len(case.unused) == unused


def test_the_raw_image_goes_before_the_preprocessed_one() -> None:
    folders = ("derivatives/preprocessedAndRegistered", "derivatives/preprocessed", "rawdata")
    names = ("01-001_T2.nii.gz", "01-001_PSIR.nii.gz")
    paths = [Path("top", folder, "sub-001", name) for folder in folders for name in names]
    raw = choose(paths, ("PSIR",), Path("x"))
    assert raw.second is not None
    assert raw.second.path == Path("top", RAW, names[1])
    fallback = choose([paths[1], paths[3], paths[4]], ("PSIR",), Path("x"))
    assert fallback.second is not None
    assert fallback.second.path.parts[1:3] == ("derivatives", "preprocessed")


def test_another_case_s_image_is_not_the_second_contrast() -> None:
    paths = [Path(RAW, "01-001_T2.nii.gz"), Path("rawdata/sub-002/01-002_STIR.nii.gz")]
    assert choose(paths, ("STIR",), Path("x")).second is None


@pytest.mark.parametrize(
    "paths",
    [
        [],
        ["derivatives/preprocessed/sub-001/01-001_T2.nii.gz"],
        ["sub-001/anat/sub-001_T2w.nii.gz"],
        [f"{RAW}/01-001_T2.nii.gz", "rawdata/sub-002/01-002_T2.nii.gz"],
    ],
)
def test_no_case_and_two_cases_are_refused(paths: list[str]) -> None:
    with pytest.raises(NoUsableData):
        choose(map(Path, paths), ("STIR",), Path("x"))


def _slip(archive: zipfile.ZipFile) -> None:
    archive.writestr("../../escaped_T2.nii.gz", b"x")


def _link(archive: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo(f"{RAW}/01-001_T2.nii.gz")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(entry, "/etc/passwd")


@pytest.mark.parametrize("fill", [_slip, _link])
def test_a_zip_that_leads_outside_is_refused(
    fill: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a" / "b" / "case.zip"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("note.txt", b"")
        fill(archive)  # type: ignore[operator]
    assert main(["challenge", str(path), str(tmp_path / "out"), "-w", str(path.parent)]) == 65
    assert "not safe to unpack" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["case.zip"]


def _nothing(_: Path) -> None:
    pass


def _empty(case: Path) -> None:
    case.mkdir()


def _no_zip(case: Path) -> None:
    case.write_bytes(b"PK\3\4 and then nothing")


def _no_image(case: Path) -> None:
    (case / RAW).mkdir(parents=True)
    (case / RAW / "01-001_T2.nii.gz").write_bytes(b"not an image")


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (_nothing, 2, "does not exist"),
        (_empty, 65, "has no rawdata/sub-*/*_T2.nii.gz"),
        (_no_zip, 65, "is no zip"),
        (_no_image, 1, "01-001_T2.nii.gz"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(
    make: object, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "case")  # type: ignore[operator]
    old = tmp_path / "out" / "lesion_probabilities.csv"
    old.parent.mkdir()
    old.write_text("id,p\n")
    assert main(["challenge", str(tmp_path / "case"), str(old.parent)]) == code
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert [path.name for path in old.parent.iterdir()] == [old.name]


@pytest.mark.parametrize("place", ["", "out"])
def test_nothing_is_written_into_the_case(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["challenge", str(tmp_path), str(tmp_path / place)]) == 2
    assert "choose a folder outside" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
