"""Repeated scans through the real command: volumes in, agreement out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from test_compare import compare, summary
from test_evaluate import AFFINE, checksum, evaluate, save, table

from bids_app.commands.compare_repeat import Reading, group_readings, without_entity
from bids_app.evaluation.repeatability import coefficients_of_variation, icc

VOXEL = 0.75  # mm3, of AFFINE
# Voxels of each lesion of six subjects, in the first and the second scan.
SIZES = [
    ([8, 4], [8, 4]),
    ([20], [24]),
    ([10, 10, 4], [12, 9]),
    ([], []),
    ([30, 5], [28, 5, 3]),
    ([16], [12]),
]


def lesions(sizes: list[int]) -> np.ndarray:
    """Give each lesion a row of its own."""
    data = np.zeros((9, 32, 3), int)
    for number, size in enumerate(sizes):
        data[2 * number, :size, 1] = 1
    return data


def volumes(sizes: list = SIZES) -> np.ndarray:
    return np.array([[sum(scan) * VOXEL for scan in scans] for scans in sizes])


@pytest.fixture
def rescanned(tmp_path: Path) -> Path:
    assert pytest.approx(VOXEL) == abs(np.linalg.det(AFFINE[:3, :3]))
    for number, scans in enumerate(SIZES):
        for place, sizes in zip(("scan", "rescan"), scans, strict=True):
            who = f"sub-{number}"
            save(
                tmp_path / place / who / "anat" / f"{who}_label-lesion_mask.nii.gz",
                lesions(sizes),
            )
    return tmp_path


def statistics(out: Path, measure: str, model: str = "m") -> dict[str, dict[str, str]]:
    return {
        row["statistic"]: row
        for row in table(out / "repeatability.tsv")
        if (row["measure"], row["model"]) == (measure, model)
    }


def test_two_folders(rescanned: Path, capsys: pytest.CaptureFixture) -> None:
    out, before = rescanned / "out", checksum(rescanned)
    given = ["--model", f"m={rescanned / 'scan'}", f"m={rescanned / 'rescan'}"]
    assert compare(out, "--repeat", "folder", *given) == 0
    said = capsys.readouterr().out
    page = (out / "repeat.html").read_text()
    for name in ("repeatability", "scans", "tests", "summary"):
        assert (out / f"{name}.json").is_file()
    found = statistics(out, "lesion_volume_mm3")
    values = volumes()
    cv = coefficients_of_variation(values)
    assert float(found["cv_percent"]["value"]) == pytest.approx(np.sqrt(np.nanmean(cv**2)))
    assert (found["cv_percent"]["n"], found["bias"]["n"], found["bias"]["repeats"]) == (
        "5", "6", "2",
    )  # fmt: skip
    agreement = icc(values)
    assert float(found["icc_agreement"]["value"]) == pytest.approx(agreement.value)
    assert float(found["icc_agreement"]["ci95_low"]) == pytest.approx(agreement.low)
    gap = values[:, 1] - values[:, 0]
    assert float(found["bias"]["value"]) == pytest.approx(gap.mean())
    assert float(found["limit_high"]["value"]) == pytest.approx(gap.mean() + 1.96 * gap.std(ddof=1))
    share = 100 * gap[[0, 1, 2, 4, 5]] / values[[0, 1, 2, 4, 5]].mean(axis=1)
    assert float(found["bias_percent"]["value"]) == pytest.approx(share.mean())
    counts = statistics(out, "lesion_count")
    assert float(counts["equal"]["value"]) == pytest.approx(4 / 6)
    assert float(counts["within_one"]["value"]) == 1
    assert float(counts["presence"]["value"]) == 1
    assert float(counts["cv_percent"]["ci95_low"]) >= 0
    rows = table(out / "scans.tsv")
    assert [float(r["lesion_volume_mm3"]) for r in rows] == pytest.approx(values.ravel())
    assert "m: 6 subjects, 2 scans each." in said
    assert "m: 1 of 6 without a lesion in any scan" in said
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"(?!data:)", page)
    assert "the same number of lesions in 4 of 6" in page
    for path in out.rglob("*"):
        path.unlink()
    out.rmdir()
    assert checksum(rescanned) == before


@pytest.mark.parametrize("entity", ["ses", "run"])
def test_sessions_and_runs(tmp_path: Path, entity: str, capsys: pytest.CaptureFixture) -> None:
    """A subject with one scan and the third scan of another are left out, and named."""
    derivatives = tmp_path / "found"
    for number, scans in enumerate([*SIZES, ([5],), ([9], [9], [9])]):
        for repeat, sizes in enumerate(scans, start=9):
            who = f"sub-{number}"
            folder = derivatives / who / (f"ses-{repeat}" if entity == "ses" else "") / "anat"
            save(folder / f"{who}_{entity}-{repeat}_label-lesion_mask.nii.gz", lesions(sizes))
    kind = {"ses": "session", "run": "run"}[entity]
    out = tmp_path / "out"
    assert compare(out, "--repeat", kind, "--model", f"m={derivatives}") == 0
    said = capsys.readouterr().out
    assert "sub-6 has fewer than 2 usable scans: left out." in said
    assert "1 scan beyond the first 2 left out." in said
    assert ("the disease has changed" in said) == (kind == "session")
    values = np.vstack([volumes(), [[9 * VOXEL] * 2]])
    found = statistics(out, "lesion_volume_mm3")
    assert float(found["icc_one_way"]["value"]) == pytest.approx(icc(values, "1").value)
    # 9 comes before 10.
    first = [r for r in table(out / "scans.tsv") if r["unit"] == "sub-1"]
    assert [r["scan"] for r in first] == [f"sub-1_{entity}-9", f"sub-1_{entity}-10"]
    assert compare(out, "--repeat", "run", "--model", f"m={tmp_path / 'found' / 'sub-0'}") == 65


def test_models_are_compared(rescanned: Path, tmp_path: Path) -> None:
    """The second model repeats exactly."""
    given = ["--model", *(f"m={rescanned / place}" for place in ("scan", "rescan"))]
    for number, (sizes, _) in enumerate(SIZES):
        save(tmp_path / "again" / f"sub-{number}.nii.gz", lesions(sizes))
    # Plain folders of the same names work too; masks need their connectivity.
    given += ["exact=" + str(tmp_path / "again")] * 2
    out = tmp_path / "out"
    assert compare(out, "--repeat", "folder", *given, "--connectivity", 6) == 0
    exact = statistics(out, "lesion_volume_mm3", "exact")
    assert float(exact["cv_percent"]["value"]) == 0
    assert (exact["icc_agreement"]["value"], exact["icc_agreement"]["ci95_low"]) == ("1", "1")
    rows = {row["metric"]: row for row in table(out / "tests.tsv")}
    cv = coefficients_of_variation(volumes())
    assert float(rows["cv_percent"]["difference"]) == pytest.approx(np.nanmean(cv))
    # Four of five differ, all in one direction: 2 of 16 ways.
    assert float(rows["cv_percent"]["p"]) == pytest.approx(2 / 16)
    assert rows["count_range"]["subjects_a_higher"] == "2"


def test_what_evaluate_wrote_and_broken_files(
    rescanned: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for place in ("scan", "rescan"):
        assert evaluate(rescanned / "scan", rescanned / place, tmp_path / f"e-{place}") == 0
    given = ["--model", *(f"m={tmp_path / f'e-{place}'}" for place in ("scan", "rescan"))]
    assert compare(tmp_path / "out", "--repeat", "folder", *given) == 0
    rows = table(tmp_path / "out" / "scans.tsv")
    assert [float(r["lesion_volume_mm3"]) for r in rows] == pytest.approx(volumes().ravel())
    broken = rescanned / "rescan" / "sub-0" / "anat" / "sub-0_label-lesion_mask.nii.gz"
    broken.write_bytes(b"nothing of use")
    given = ["--model", *(f"m={rescanned / place}" for place in ("scan", "rescan"))]
    capsys.readouterr()
    assert compare(tmp_path / "out", "--repeat", "folder", *given) == 1
    said = capsys.readouterr().out
    assert "m: sub-0 cannot be used." in said
    assert "m: 5 subjects, 2 scans each." in said


def test_two_subjects(tmp_path: Path) -> None:
    for place in ("scan", "rescan"):
        for number in range(2):
            save(tmp_path / place / f"{number}.nii.gz", lesions([5 + number]))
    given = ["--model", *(f"m={tmp_path / place}" for place in ("scan", "rescan"))]
    assert compare(tmp_path / "out", "--repeat", "folder", *given) == 0
    found = statistics(tmp_path / "out", "lesion_volume_mm3")
    assert (found["icc_agreement"]["value"], found["bias"]["ci95_low"]) == ("n/a", "n/a")
    assert float(found["bias"]["value"]) == 0
    said = summary(tmp_path / "out")["notes"]
    assert "m: with fewer than 3 subjects there is no interval and no ICC." in said


def test_three_folders(rescanned: Path) -> None:
    given = [f"m={rescanned / place}" for place in ("scan", "rescan", "scan")]
    out = rescanned / "out"
    assert compare(out, "--repeat", "folder", "--model", *given) == 0
    found = statistics(out, "lesion_volume_mm3")
    assert float(found["limit_high_3_1"]["value"]) == 0
    assert float(found["bias_2_1"]["value"]) == pytest.approx(np.diff(volumes()).mean())
    values = np.hstack([volumes(), volumes()[:, :1]])
    assert float(found["icc_agreement"]["value"]) == pytest.approx(icc(values).value)
    assert "upper limit of agreement, scan 3 against 1" in (out / "repeat.html").read_text()


def test_three_scans_each() -> None:
    readings = [
        Reading(str(repeat), f"sub-{n}", f"sub-{n}", f"sub-{n}_run-{repeat}", 10.0 * repeat, 1.0)
        for n in range(4)
        for repeat in (1, 2, 3)
    ]
    found = group_readings("m", readings[:-1])
    assert found.values["lesion_volume_mm3"].tolist() == [[10, 20, 30]] * 3
    assert (found.single, found.extra) == (("sub-3",), 0)
    # As many with two as with three: three are kept.
    assert group_readings("m", readings[6:-1]).units == ("sub-2",)


def test_names_without_an_entity() -> None:
    assert without_entity("sub-1_ses-M0_run-2", "ses") == ("M0", "sub-1_run-2")
    assert without_entity("case12", "run") == ("", "case12")
