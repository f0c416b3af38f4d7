"""From findings to files in template space, without a network."""

from __future__ import annotations

import json
from pathlib import Path

import cords
import nibabel as nib
import numpy as np
import pytest
from cords import in_cord, world

from bids_app.dataset.derivatives import output_paths, region_paths, template_paths, unseal
from bids_app.lesions.atlas import TemplateCord, template_cord
from bids_app.lesions.centerline import trace_centerline
from bids_app.lesions.levels import LevelAxis, level_axis
from bids_app.lesions.measure import measure
from bids_app.records import Findings, Job, Scan, Session
from bids_app.template_space import carry, with_tissue, write_in_template


@pytest.fixture(scope="module")
def target() -> TemplateCord:
    return template_cord(cords.template())


@pytest.fixture(scope="module")
def findings() -> Findings:
    points = world(cords.SHAPE, cords.AFFINE)
    instances = np.zeros(cords.SHAPE, dtype=np.int32)
    for number, side in enumerate((-4, 4), start=1):
        near = np.linalg.norm(points - [side, 0, 10 * side], axis=1) < 2.5
        instances[(near & in_cord(points)).reshape(cords.SHAPE)] = number
    return Findings(in_cord(points).reshape(cords.SHAPE), instances > 0, instances)


def _axis(findings: Findings, discs: dict[int, np.ndarray]) -> LevelAxis:
    return level_axis(trace_centerline(findings.cord, cords.AFFINE), discs)


def _job(out: Path, in_template: bool = True) -> Job:
    session = Session("01", "M0")
    scan = Scan(Path("sub-01_ses-M0_T2w.nii.gz"), {"sub": "01", "ses": "M0"}, "T2w")
    outputs = output_paths(out, session, scan)
    if in_template:
        outputs |= template_paths(out, session, scan, "PAM50", "1")
        outputs |= region_paths(out, session, scan)
    return Job(session, scan, None, outputs)


def test_masks_table_and_lesions(tmp_path: Path, target: TemplateCord, findings: Findings) -> None:
    result = carry(findings, cords.AFFINE, _axis(findings, cords.DISCS), target)
    job = _job(tmp_path)
    write_in_template(job, result, {"Manual": False, "SpatialReference": "the scan"})
    stem = tmp_path / "sub-01/ses-M0/anat/sub-01_ses-M0"
    image = nib.load(f"{stem}_space-PAM50_res-1_label-lesion_mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj) > 0, findings.lesion)
    assert image.get_data_dtype() == np.uint8
    about = json.loads(Path(f"{stem}_space-PAM50_res-1_label-cord_mask.json").read_text())
    assert about["SpatialReference"].endswith("PAM50_t2.nii.gz")
    assert about["Resolution"] == "res-1 of the installed template: voxels of 1 x 1 x 2 mm"
    rows = [
        line.split("\t")
        for line in Path(f"{stem}_seg-lesions_desc-regions_dseg.tsv").read_text().splitlines()
    ]
    assert rows[0] == ["index", "name", "lesion_index", "region", "fraction"]
    assert [row[0] for row in rows[1:]] == [str(n) for n in range(1, len(rows))]
    assert {row[3].split()[1] for row in rows[1:] if row[2] == "1"} == {"left"}
    probability = findings.lesion.astype(float)
    lesions, _ = measure(findings, probability, cords.AFFINE)
    told = with_tissue(lesions, result.tissues)
    assert [lesion.tract for lesion in told] == ["left tract", "right tract, all"]
    for lesion in told:
        assert lesion.white_matter_fraction is not None
        assert lesion.grey_matter_fraction == pytest.approx(1 - lesion.white_matter_fraction)


def test_unknown_levels_cover_nothing(target: TemplateCord, findings: Findings) -> None:
    for discs in ({}, {3: cords.DISCS[3]}):
        result = carry(findings, cords.AFFINE, _axis(findings, discs), target)
        assert not result.lesion.any()
        assert not result.covered.any()
        assert [(tissue.white, tissue.tract) for tissue in result.tissues] == [(None, None)] * 2


def test_no_lesion_is_an_empty_mask_over_a_covered_cord(
    target: TemplateCord, findings: Findings
) -> None:
    empty = np.zeros(cords.SHAPE, dtype=np.int32)
    clean = Findings(findings.cord, empty > 0, empty)
    result = carry(clean, cords.AFFINE, _axis(clean, cords.DISCS), target)
    assert not result.lesion.any()
    np.testing.assert_array_equal(result.covered, findings.cord)
    assert result.tissues == ()


def test_a_run_without_a_template_removes_what_an_earlier_one_left(
    tmp_path: Path, target: TemplateCord, findings: Findings
) -> None:
    result = carry(findings, cords.AFFINE, _axis(findings, cords.DISCS), target)
    write_in_template(_job(tmp_path), result, {})
    anat = tmp_path / "sub-01/ses-M0/anat"
    other = anat / "sub-01_ses-M0_acq-ax_space-PAM50_res-1_label-lesion_mask.nii.gz"
    other.write_bytes(b"of another scan")
    unseal(_job(tmp_path))
    assert len(list(anat.iterdir())) == 7
    unseal(_job(tmp_path, in_template=False))
    assert list(anat.iterdir()) == [other]
