"""Names of the results, seals that say they are done, and the files at the top."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bids_app.dataset.derivatives import (
    bids_uri,
    fingerprint,
    is_up_to_date,
    output_paths,
    report_path,
    seal,
    sidecar_path,
    unseal,
)
from bids_app.dataset.entities import parse_name
from bids_app.dataset.rootfiles import describe_container, write_root_files
from bids_app.errors import UnreadableImage
from bids_app.records import Job, Scan, Session


def scan(name):
    parsed = parse_name(name)
    return Scan(Path("/raw") / name, parsed.entities, parsed.suffix)


def names(session, reference, second=None):
    paths = output_paths(Path("/out"), session, scan(reference), second and scan(second))
    return {key: path.as_posix() for key, path in paths.items()}


def test_names_without_a_second_contrast():
    assert names(Session("01", None), "sub-01_T2w.nii") == {
        "lesion_probability": "/out/sub-01/anat/sub-01_label-lesion_probseg.nii.gz",
        "lesion_mask": "/out/sub-01/anat/sub-01_label-lesion_mask.nii.gz",
        "instances": "/out/sub-01/anat/sub-01_seg-lesions_dseg.nii.gz",
        "lesion_table": "/out/sub-01/anat/sub-01_seg-lesions_dseg.tsv",
        "lesion_table_dictionary": "/out/sub-01/anat/sub-01_seg-lesions_dseg.json",
        "cord_mask": "/out/sub-01/anat/sub-01_label-cord_mask.nii.gz",
        "cord_probability": "/out/sub-01/anat/sub-01_label-cord_probseg.nii.gz",
        "uncertainty": "/out/sub-01/anat/sub-01_label-lesion_desc-uncertainty_probseg.nii.gz",
        "shown": "/out/sub-01/anat/sub-01_desc-cord_T2w.nii.gz",
    }


@pytest.mark.parametrize(
    ("session", "reference", "second", "expected"),
    [
        (
            Session("01", "M0"),
            "sub-01_ses-M0_acq-sag_run-02_T2w.nii.gz",
            "sub-01_ses-M0_PSIR.nii.gz",
            {
                "lesion_mask": "sub-01_ses-M0_acq-sag_run-02_label-lesion_mask.nii.gz",
                "second_preproc": "sub-01_ses-M0_space-T2w_desc-preproc_PSIR.nii.gz",
                "transform": "sub-01_ses-M0_acq-sag_run-02_from-PSIR_to-T2w_mode-image_xfm.txt",
            },
        ),
        (
            Session("01", None),
            "sub-01_T2w.nii",
            "sub-01_acq-STIR_T2w.nii",
            {
                "second_preproc": "sub-01_acq-STIR_space-T2w_desc-preproc_T2w.nii.gz",
                "transform": "sub-01_from-STIR_to-T2w_mode-image_xfm.txt",
            },
        ),
        (
            Session("01", None),
            "sub-01_echo-1_part-mag_chunk-2_UNIT1.nii",
            "sub-01_T1w.nii",
            {
                "lesion_mask": "sub-01_echo-1_part-mag_chunk-2_label-lesion_mask.nii.gz",
                "second_preproc": "sub-01_space-UNIT1_desc-preproc_T1w.nii.gz",
                "transform": (
                    "sub-01_echo-1_part-mag_chunk-2_from-T1w_to-UNIT1_mode-image_xfm.txt"
                ),
            },
        ),
    ],
)
def test_names(session, reference, second, expected):
    folder = "/out/sub-01" + ("/ses-M0" if session.session else "") + "/anat/"
    found = names(session, reference, second)
    assert {key: found[key] for key in expected} == {
        key: folder + name for key, name in expected.items()
    }


def test_other_names():
    assert report_path(Path("/out"), Session("01", "M0")) == Path("/out/sub-01_ses-M0.html")
    assert sidecar_path(Path("/o/sub-01_dseg.tsv")) == Path("/o/sub-01_dseg.json")
    path = Path("/out/sub-01/anat/sub-01_mask.nii.gz")
    assert bids_uri(path, Path("/out")) == "bids::sub-01/anat/sub-01_mask.nii.gz"
    with pytest.raises(ValueError, match="not in the subpath"):
        bids_uri(path, Path("/raw"), "raw")


def test_fingerprint(tmp_path):
    one, two, same = (tmp_path / name for name in ("one", "two", "same"))
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    same.write_bytes(b"1")
    settings = {"threshold": 0.5, "order": ("a", "b"), "path": Path("/x")}
    first = fingerprint([one, two], settings)
    assert len(first) == 64
    assert first == fingerprint([same, two], dict(reversed(settings.items())))
    others = [
        fingerprint([two, one], settings),
        fingerprint([one], settings),
        fingerprint([one, two], settings | {"threshold": 0.6}),
        fingerprint([one, two], {}),
    ]
    assert len({first, *others}) == 5


def test_fingerprint_of_what_is_not_there(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UnreadableImage, match="datalad get link"):
        fingerprint([tmp_path / "link"], {})
    with pytest.raises(UnreadableImage, match="not a regular file"):
        fingerprint([tmp_path], {})


@pytest.fixture
def job(tmp_path):
    session, reference = Session("01", None), scan("sub-01_T2w.nii.gz")
    second = scan("sub-01_STIR.nii.gz")
    outputs = output_paths(tmp_path, session, reference, second)
    job = Job(session, reference, second, outputs)
    mask = outputs["lesion_mask"]
    for path in outputs.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
        if path.name.endswith(".nii.gz") and path != mask:
            sidecar_path(path).write_text("{}")
    return job


def test_seal(job):
    assert not is_up_to_date(job, "hash")
    path = seal(job, {"Type": "Lesion"}, "hash")
    assert path.name == "sub-01_label-lesion_mask.json"
    document = json.loads(path.read_text())
    assert (document["Type"], document["InputsHash"]) == ("Lesion", "hash")
    assert len(document["OutputHashes"]) == 17
    assert document["OutputSizes"]["sub-01_label-lesion_mask.nii.gz"] == 31
    assert path.name not in document["OutputHashes"]
    assert is_up_to_date(job, "hash")
    assert not is_up_to_date(job, "other hash")
    unseal(job)
    unseal(job)
    assert not is_up_to_date(job, "hash")


def test_any_missing_empty_or_resized_output_breaks_the_seal(job):
    path = seal(job, {}, "hash")
    files = sorted(path.parent.iterdir())
    assert len(files) == 18
    for file in files:
        content = file.read_bytes()
        for change in (file.unlink, lambda: file.write_bytes(b""), lambda: file.write_bytes(b"?")):  # noqa: B023
            change()
            assert not is_up_to_date(job, "hash"), file
        file.write_bytes(content)
        assert is_up_to_date(job, "hash")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"InputsHash": "hash"}', '{"InputsHash": "hash", "OutputSizes": 1}']
)
def test_broken_seals(job, text):
    sidecar_path(job.outputs["lesion_mask"]).write_text(text)
    assert not is_up_to_date(job, "hash")


def test_seal_needs_all_outputs(job):
    job.outputs["transform"].unlink()
    with pytest.raises(UnreadableImage):
        seal(job, {}, "hash")
    assert not sidecar_path(job.outputs["lesion_mask"]).exists()


def test_levels_of_an_earlier_run_do_not_stay(tmp_path):
    session, reference = Session("01", None), scan("sub-01_acq-sag_T2w.nii.gz")
    with_levels = output_paths(tmp_path, session, reference, levels=True)
    new = {"vertebrae", "vertebrae_table", "vertebrae_table_dictionary"}
    assert with_levels.keys() - output_paths(tmp_path, session, reference) == new
    assert with_levels["vertebrae"].name == "sub-01_acq-sag_seg-vertebrae_dseg.nii.gz"
    for path in with_levels.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    unseal(Job(session, reference, None, with_levels))
    assert all(path.exists() for path in with_levels.values())
    unseal(Job(session, reference, None, output_paths(tmp_path, session, reference)))
    assert {key for key, path in with_levels.items() if not path.exists()} == new


def test_links_to_other_derivatives_are_added(tmp_path):
    raw = raw_dataset(tmp_path / "raw")
    out = raw / "derivatives" / "cordlesion"
    write_root_files(out, raw, {})
    links = {"labels": raw / "derivatives" / "labels", "sct": tmp_path / "s c t"}
    for _ in range(2):
        write_root_files(out, raw, {}, links)
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetLinks"] == {
        "raw": "../..",
        "labels": "../labels",
        "sct": (tmp_path / "s c t").as_uri(),
    }
    (out / "dataset_description.json").write_text("[]")
    write_root_files(out, raw, {}, links)
    assert (out / "dataset_description.json").read_text() == "[]"


def test_container():
    assert describe_container({}) is None
    assert describe_container({"APPTAINER_CONTAINER": "/a b.sif"}) == {
        "Type": "apptainer",
        "URI": "file:///a%20b.sif",
    }
    assert describe_container({"CORDLESION_DOCKER_TAG": "x:1"}) == {"Type": "docker", "Tag": "x:1"}


def raw_dataset(folder, **more):
    folder.mkdir(parents=True)
    content = {"Name": "Raw", "BIDSVersion": "1.8.0"} | more
    (folder / "dataset_description.json").write_text(json.dumps(content))
    return folder


def test_root_files(tmp_path):
    raw = raw_dataset(tmp_path / "raw", License="CC0", Authors=["A"], DatasetDOI="doi:10.1/x")
    out = raw / "derivatives" / "cordlesion"
    write_root_files(out, raw, {})
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetLinks"] == {"raw": "../.."}
    assert description["SourceDatasets"] == [{"URL": raw.as_uri(), "DOI": "doi:10.1/x"}]
    assert description["GeneratedBy"][0]["Name"] == "CordLesion"
    assert description["Authors"] == ["A", "The CordLesion developers"]
    assert (description["License"], description["DatasetType"]) == ("CC0", "derivative")
    assert (out / ".bidsignore").read_text() == (
        "*.html\nfigures\nlog\n*_xfm.*\n*_STIR.*\n*_PSIR.*\n*_lesions.*\ngroup_*\nqc_decisions.tsv\n"
    )
    assert sorted(path.name for path in raw.iterdir()) == [
        "dataset_description.json",
        "derivatives",
    ]


def test_root_files_are_written_once_by_many(tmp_path):
    raw, out = raw_dataset(tmp_path / "raw"), tmp_path / "out"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: write_root_files(out, raw, {}), range(32)))
    assert sorted(path.name for path in out.iterdir()) == [
        ".bidsignore",
        "README.md",
        "dataset_description.json",
    ]
    (out / "README.md").write_text("mine")
    (out / ".bidsignore").write_text("mine")
    write_root_files(out, raw, {})
    assert (out / "README.md").read_text() == (out / ".bidsignore").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", '{"Name": 3, "Authors": "A", "License": 1}'])
def test_odd_raw_descriptions(tmp_path, text):
    raw = raw_dataset(tmp_path / "raw")
    (raw / "dataset_description.json").write_text(text)
    write_root_files(tmp_path / "out", raw, {})
    description = json.loads((tmp_path / "out" / "dataset_description.json").read_text())
    assert len(description["Authors"]) == 2


@pytest.mark.parametrize(
    ("out", "environ"),
    [
        ("raw/derivatives/cordlesion", {}),
        ("out", {"APPTAINER_CONTAINER": "/images/cordlesion.sif"}),
        ("out", {"CORDLESION_DOCKER_TAG": "cordlesion:0.1.0"}),
    ],
)
def test_validator_has_nothing_to_say(tmp_path, out, environ):
    validator = shutil.which(
        "bids-validator-deno", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if validator is None:
        pytest.skip("bids-validator-deno is not installed")
    raw, folder = raw_dataset(tmp_path / "raw"), tmp_path / out
    write_root_files(folder, raw, environ)
    # What .bidsignore is for, and what makes a subject's folder.
    for name in ("sub-01/anat/sub-01_from-STIR_to-T2w_mode-image_xfm.txt", "sub-01.html"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x\n")
    for name in ("sub-01/figures/a.svg", "logs/run-1_summary.json", "group_sessions.tsv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}\n")
    done = subprocess.run(
        [validator, folder, "--format", "json"], capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout)["issues"]["issues"] == []
