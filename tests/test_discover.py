"""What is found in a dataset, and what is not."""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bids_app.dataset.database import DATABASE_NAME
from bids_app.dataset.discover import discover
from bids_app.errors import NoUsableData, UnknownLabel
from bids_app.options import Options

FILES = [
    "sub-01/anat/sub-01_T2w.nii.gz",
    "sub-01/anat/sub-01_T2w.json",
    "sub-01/anat/sub-01_STIR.nii",
    "sub-01/anat/sub-01_acq-STIR_run-02_T2w.nii.gz",
    "sub-01/anat/._sub-01_T2w.nii.gz",
    "sub-01/anat/.sub-01_T1w.nii.gz",
    "sub-01/anat/old/sub-01_PSIR.nii.gz",
    "sub-01/func/sub-01_task-rest_bold.nii.gz",
    "sub-02/ses-M0/anat/sub-02_ses-M0_T2w.nii.gz",
    "sub-02/ses-M0/anat/sub-02_ses-M0_PSIR.nii.gz",
    "sub-02/ses-M12/anat/sub-02_ses-M12_UNIT1.nii.gz",
    "sub-02/ses-fmri/func/sub-02_ses-fmri_task-rest_bold.nii.gz",
    "sub-03/anat/sub-03_T2w.nii.gz",
    "sub-03/ses-2/anat/sub-03_ses-2_T2w.nii.gz",
    "sub-A/anat/README",
    "derivatives/x/sub-01/anat/sub-01_T2w.nii.gz",
    "sourcedata/sub-01/anat/sub-01_T2w.nii.gz",
    "code/sub-01/anat/sub-01_T2w.nii.gz",
    ".git/sub-01/anat/sub-01_T2w.nii.gz",
    "sub-01_T2w.nii.gz",
]

WHOLE = {
    "sub-01": ["sub-01_STIR.nii", "sub-01_T2w.nii.gz", "sub-01_acq-STIR_run-02_T2w.nii.gz"],
    "sub-02_ses-M0": ["sub-02_ses-M0_PSIR.nii.gz", "sub-02_ses-M0_T2w.nii.gz"],
    "sub-02_ses-M12": ["sub-02_ses-M12_UNIT1.nii.gz"],
    "sub-02_ses-fmri": [],
    "sub-03": ["sub-03_T2w.nii.gz"],
    "sub-03_ses-2": ["sub-03_ses-2_T2w.nii.gz"],
    "sub-A": [],
}


def lay_out(root, files):
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    return root


def state(root):
    """Give all that a run could change in a folder: names, times and contents."""
    return {
        path: (path.lstat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        if path.is_file()
        else path.lstat().st_mtime_ns
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture
def bids(tmp_path):
    return lay_out(tmp_path / "raw", FILES)


@pytest.fixture
def find(bids, tmp_path):
    def names(**choices):
        options = Options(**({"bids_dir": bids, "out_dir": tmp_path / "out"} | choices))
        sessions = discover(options)
        return {one.identifier: [scan.path.name for scan in one.scans] for one in sessions}

    return names


def test_whole_dataset(find, bids):
    before = state(bids)
    assert find() == WHOLE
    assert state(bids) == before


def test_scans_say_what_they_are(bids, tmp_path):
    (first, *_) = discover(Options(bids, tmp_path / "out", participant_labels=("01",)))
    stir = first.scans[-1]
    assert stir.path == bids / "sub-01" / "anat" / "sub-01_acq-STIR_run-02_T2w.nii.gz"
    assert stir.entities == {"sub": "01", "acq": "STIR", "run": "02"}
    assert (stir.suffix, stir.contrast) == ("T2w", "STIR")


@pytest.mark.parametrize(
    ("participants", "sessions", "expected"),
    [
        (("01",), (), ["sub-01"]),
        (("02", "A"), (), ["sub-02_ses-M0", "sub-02_ses-M12", "sub-02_ses-fmri", "sub-A"]),
        ((), ("M0", "2"), ["sub-02_ses-M0", "sub-03_ses-2"]),
        (("03",), ("2",), ["sub-03_ses-2"]),
    ],
)
def test_selection(find, participants, sessions, expected):
    found = find(participant_labels=participants, session_labels=sessions)
    assert found == {identifier: WHOLE[identifier] for identifier in expected}


@pytest.mark.parametrize(
    ("participants", "sessions", "message"),
    [
        (
            ("1", "02", "a", "zzz"),
            (),
            "Unknown participant labels: 1 (did you mean 01?), a (did you mean A?), zzz. "
            "The dataset has 01, 02, 03, A (4 in all).",
        ),
        (
            (),
            ("m0", "M13", "2"),
            "Unknown session labels: m0 (did you mean M0?), M13 (did you mean M12?). "
            "The dataset has 2, M0, M12, fmri (4 in all).",
        ),
        (("09",), (), "Unknown participant label: 09. The dataset has"),
    ],
)
def test_unknown_labels_are_all_named(find, participants, sessions, message):
    with pytest.raises(UnknownLabel) as caught:
        find(participant_labels=participants, session_labels=sessions)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_session_label_in_a_dataset_without_sessions(tmp_path):
    root = lay_out(tmp_path / "flat", ["sub-01/anat/sub-01_T2w.nii.gz"])
    with pytest.raises(UnknownLabel, match=r"session label: M0\. The dataset has none\."):
        discover(Options(root, tmp_path / "out", session_labels=("M0",)))


def test_nothing_selected(find, tmp_path):
    with pytest.raises(NoUsableData, match=r"No selected participant of .* has session M0"):
        find(participant_labels=("01",), session_labels=("M0",))
    root = lay_out(tmp_path / "empty", ["code/x.py"])
    with pytest.raises(NoUsableData, match=r"has no sub-\* folder"):
        find(bids_dir=root)


def test_links(find, bids, tmp_path):
    anat = bids / "sub-01" / "anat"
    (anat / "sub-01_run-2_T2w.nii.gz").symlink_to("../../.git/annex/no-content")
    (anat / "loop").symlink_to(".")
    (anat / "sub-01_run-3_T2w.nii.gz").symlink_to("sub-01_run-3_T2w.nii.gz")
    (bids / "sub-gone").symlink_to(tmp_path / "nowhere")
    elsewhere = lay_out(tmp_path / "store", ["anat/sub-04_T2w.nii.gz"])
    (bids / "sub-04").symlink_to(elsewhere)
    found = find()
    assert found["sub-01"] == [
        "sub-01_STIR.nii",
        "sub-01_T2w.nii.gz",
        "sub-01_acq-STIR_run-02_T2w.nii.gz",
        "sub-01_run-2_T2w.nii.gz",
        "sub-01_run-3_T2w.nii.gz",
    ]
    assert found["sub-04"] == ["sub-04_T2w.nii.gz"]
    assert "sub-gone" not in found


def test_misnamed_images_are_reported(find, bids, caplog):
    for name in ("sub-01/anat/sub-02_T2w.nii.gz", "sub-01/anat/sub-01_T2w_old.nii"):
        (bids / name).touch()
    (bids / "sub-02/ses-M0/anat/sub-02_T2w.nii.gz").touch()
    (bids / "sub-01_old").mkdir()
    with caplog.at_level(logging.WARNING):
        assert find() == WHOLE
    assert [record.getMessage() for record in caplog.records] == [
        f"{bids / 'sub-01_old'} is no BIDS folder name; it is left out.",
        "3 images do not have the BIDS name of their place: sub-01/anat/sub-01_T2w_old.nii, "
        "sub-01/anat/sub-02_T2w.nii.gz, sub-02/ses-M0/anat/sub-02_T2w.nii.gz",
    ]


@pytest.mark.parametrize("place", ["a b#1%20[x]+", "anat/sub-77/func", "ses-9/derivatives/é"])
def test_odd_places(find, tmp_path, place):
    assert find(bids_dir=lay_out(tmp_path / place, FILES)) == WHOLE


def test_linked_dataset_keeps_its_name(find, bids, tmp_path):
    (tmp_path / "link").symlink_to(bids)
    assert find(bids_dir=tmp_path / "link") == WHOLE


def test_without_description(find, bids):
    (bids / "dataset_description.json").unlink()
    assert find() == WHOLE


def test_database_is_made_and_used(find, tmp_path, monkeypatch, caplog):
    folder = tmp_path / "db" / "deep"
    assert find(bids_database_dir=folder, participant_labels=("01",)) == {"sub-01": WHOLE["sub-01"]}
    assert [path.name for path in folder.iterdir()] == [DATABASE_NAME]
    monkeypatch.setattr("bids_app.dataset.discover._index", lambda *_: pytest.fail("not reused"))
    assert find(bids_database_dir=folder) == WHOLE
    assert caplog.records == []


def test_database_is_not_made_by_a_dry_run(find, tmp_path):
    assert find(bids_database_dir=tmp_path / "db", dry_run=True) == WHOLE
    assert not (tmp_path / "db").exists()


def test_stale_database(find, bids, tmp_path, caplog):
    folder = tmp_path / "db"
    find(bids_database_dir=folder)
    (bids / "sub-03/anat/sub-03_STIR.nii.gz").touch()
    assert find(bids_database_dir=folder, participant_labels=("01",)) == {"sub-01": WHOLE["sub-01"]}
    assert caplog.records == []
    found = find(bids_database_dir=folder)
    assert found["sub-03"] == ["sub-03_STIR.nii.gz", "sub-03_T2w.nii.gz"]
    assert f"The index in {folder} is older than sub-03/anat" in caplog.text


@pytest.mark.parametrize("damage", ["text", "empty", "foreign", "moved", "truncated", "tables"])
def test_broken_database(find, bids, tmp_path, caplog, damage):
    folder = tmp_path / "db"
    find(bids_database_dir=folder)
    database = folder / DATABASE_NAME
    content = database.read_bytes()
    if damage == "text":
        database.write_text("no database")
    elif damage == "empty":
        database.write_bytes(b"")
    elif damage == "truncated":
        database.write_bytes(content[: len(content) // 2])
    elif damage == "tables":
        database.write_bytes(content.replace(b"cordlesion_images", b"cordlesion_image5"))
    elif damage == "foreign":
        database.unlink()
        shutil.copy(_plain_pybids_database(bids, tmp_path), database)
    else:
        shutil.copytree(bids, tmp_path / "copy")
    choices = {"bids_dir": tmp_path / "copy"} if damage == "moved" else {}
    assert find(bids_database_dir=folder, **choices) == WHOLE
    assert f"The index in {folder} " in caplog.text


def _plain_pybids_database(bids, tmp_path):
    (bids / "sub-01/anat/sub-01_T2w.json").write_text("{}")
    code = "import sys, bids; bids.BIDSLayout(sys.argv[1], database_path=sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, bids, tmp_path / "plain"], check=True)
    return tmp_path / "plain" / DATABASE_NAME


def test_database_folder_cannot_be_written(find, tmp_path, caplog):
    (tmp_path / "file").touch()
    assert find(bids_database_dir=tmp_path / "file" / "db") == WHOLE
    assert "The index could not be saved" in caplog.text


def test_three_processes_make_one_database(bids, tmp_path):
    code = (
        "import sys, json, pathlib; from bids_app.options import Options;"
        "from bids_app.dataset.discover import discover; raw, db = map(pathlib.Path, sys.argv[1:]);"
        "found = discover(Options(raw, raw.parent / 'out', bids_database_dir=db));"
        "print(json.dumps({s.identifier: [x.path.name for x in s.scans] for s in found}))"
    )
    command = [sys.executable, "-c", code, str(bids), str(tmp_path / "db")]
    repository = Path(__file__).parent.parent
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=repository)
        for _ in range(3)
    ]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, json.loads(out), err) == (0, WHOLE, b"")
    assert [path.name for path in (tmp_path / "db").iterdir()] == [DATABASE_NAME]
