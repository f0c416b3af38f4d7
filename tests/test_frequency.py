"""Lesion frequency maps: who counts, where nobody was looked at, what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_app.frequency import write_frequency_maps
from bids_app.imaging.volumes import write_volume

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
SHAPE = (3, 3, 4)


def _mask(*voxels: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    for voxel in voxels:
        mask[voxel] = 1
    return mask


def _session(
    out: Path,
    identifier: str,
    lesion: np.ndarray,
    covered: np.ndarray,
    affine: np.ndarray = AFFINE,
    sealed: bool = True,
) -> None:
    folder = out.joinpath(*identifier.split("_"), "anat")
    names = []
    for label, mask in (("lesion", lesion), ("cord", covered)):
        path = folder / f"{identifier}_space-PAM50_res-1_label-{label}_mask.nii.gz"
        write_volume(path, mask, affine)
        names.append(path.name)
    hashes = dict.fromkeys(names, "x") if sealed else {}
    seal = folder / f"{identifier}_label-lesion_mask.json"
    seal.write_text(json.dumps({"OutputHashes": hashes}))


def _table(rows: list[tuple[str, str | None, str, str | None]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["participant_id", "session_id", "status", "group"])


def _load(out: Path, label: str) -> tuple[np.ndarray, np.ndarray, dict[str, object]]:
    stem = out / f"group_space-PAM50_res-1_label-lesion_desc-{label}_probseg"
    count = out / f"group_space-PAM50_res-1_label-cord_desc-{label}_count.nii.gz"
    about = json.loads(stem.with_suffix(".json").read_text())
    frequency = nib.load(f"{stem}.nii.gz").get_fdata()
    return frequency, np.asarray(nib.load(count).dataobj), about


@pytest.fixture
def cohort(tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    a, b, c = (1, 1, 0), (1, 1, 1), (1, 1, 2)
    _session(tmp_path, "sub-01_ses-M0", _mask(a), _mask(a, b))
    # A later visit of the same person, which must not count.
    _session(tmp_path, "sub-01_ses-M12", _mask(a, b, c), _mask(a, b, c))
    _session(tmp_path, "sub-02_ses-M0", _mask(a, b), _mask(a, b))
    _session(tmp_path, "sub-03_ses-M0", _mask(), _mask(b))
    table = _table(
        [
            ("sub-01", "ses-M0", "done", "MS"),
            ("sub-01", "ses-M12", "done", "MS"),
            ("sub-02", "ses-M0", "done", "MS"),
            ("sub-03", "ses-M0", "done", "control"),
            ("sub-04", "ses-M0", "failed", "MS"),
        ]
    )
    return tmp_path, table


def test_frequencies(cohort: tuple[Path, pd.DataFrame]) -> None:
    out, table = cohort
    _, remarks = write_frequency_maps(out, table, "PAM50")
    assert remarks == ()
    frequency, count, about = _load(out, "all")
    np.testing.assert_allclose(frequency[1, 1], [1, 1 / 3, np.nan, np.nan], rtol=1e-6)
    assert count[1, 1].tolist() == [2, 3, 0, 0]
    assert about["Sessions"] == ["sub-01_ses-M0", "sub-02_ses-M0", "sub-03_ses-M0"]
    assert about["Group"] is None
    frequency, count, about = _load(out, "groupMS")
    np.testing.assert_allclose(frequency[1, 1], [1, 0.5, np.nan, np.nan])
    assert (about["Group"], about["Participants"], about["MostCovered"]) == ("MS", 2, 2)
    frequency, _, _ = _load(out, "groupcontrol")
    np.testing.assert_array_equal(frequency[1, 1], [np.nan, 0, np.nan, np.nan])
    assert np.isnan(frequency[0]).all()


def test_the_first_visit_that_is_there_counts(cohort: tuple[Path, pd.DataFrame]) -> None:
    out, table = cohort
    table.loc[0, "status"] = "failed"
    write_frequency_maps(out, table, "PAM50")
    _, count, about = _load(out, "all")
    assert about["Sessions"][0] == "sub-01_ses-M12"  # type: ignore[index]
    assert count[1, 1].tolist() == [2, 3, 1, 0]


def test_left_over_files_and_other_grids(cohort: tuple[Path, pd.DataFrame]) -> None:
    out, table = cohort
    _session(out, "sub-02_ses-M0", _mask(), _mask((1, 1, 1)), sealed=False)
    _session(out, "sub-03_ses-M0", _mask(), _mask((1, 1, 1)), AFFINE * 2)
    _, remarks = write_frequency_maps(out, table, "PAM50")
    assert len(remarks) == 1
    assert "sub-03_ses-M0" in remarks[0]
    assert "another grid" in remarks[0]
    assert _load(out, "all")[2]["Sessions"] == ["sub-01_ses-M0"]
    assert not list(out.glob("*groupcontrol*"))


def test_a_damaged_mask_is_named(cohort: tuple[Path, pd.DataFrame]) -> None:
    out, table = cohort
    next(out.glob("sub-02/ses-M0/anat/*label-cord_mask.nii.gz")).write_bytes(b"")
    _, remarks = write_frequency_maps(out, table, "PAM50")
    assert len(remarks) == 1
    assert "sub-02_ses-M0" in remarks[0]


def test_without_sessions_old_maps_go(cohort: tuple[Path, pd.DataFrame]) -> None:
    out, table = cohort
    write_frequency_maps(out, table, "PAM50")
    assert len(list(out.glob("group_space-*"))) == 12
    assert write_frequency_maps(out, table[table["status"] == "failed"], "PAM50") == ([], ())
    assert not list(out.glob("group_space-*"))


def test_without_session_folders_and_groups(tmp_path: Path) -> None:
    voxel = (1, 1, 1)
    _session(tmp_path, "sub-01", _mask(voxel), _mask(voxel))
    table = _table([("sub-01", None, "done", None)]).drop(columns="group")
    maps, remarks = write_frequency_maps(tmp_path, table, "PAM50")
    assert ([one.sessions for one in maps], remarks) == ([("sub-01",)], ())
    frequency, _, about = _load(tmp_path, "all")
    assert frequency[voxel] == 1
    assert about["Sessions"] == ["sub-01"]
