"""Comparing the sessions of a subject: which are taken, what is written, when nothing is done.

The images are so small that the registration leaves them where their headers put them.
"""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from bids_app.dataset.finished import finished_sessions, natural_key, unfinished_sessions
from bids_app.dataset.hashes import file_sha256
from bids_app.follow_up import compare_sessions
from bids_app.imaging.itk import read_transform
from bids_app.imaging.volumes import write_volume
from bids_app.lesions.preset import Preset, parse_preset
from bids_app.options import Options
from bids_app.records import Outcome

PLACES = {"upper": (2, 11), "lower": (3, 4)}
END = "_label-lesion_mask.json"


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(bids_dir=tmp_path / "bids", out_dir=tmp_path / "out")


def write_session(options: Options, session: str | None, *lesions: str, cord_x: int = 2) -> Path:
    """Write the scan, the masks and the seal of a session; gives the seal."""
    folder = Path("sub-01", *([f"ses-{session}"] if session else []), "anat")
    stem = f"sub-01_ses-{session}" if session else "sub-01"
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    cord, instances = np.zeros((2, 7, 5, 16), dtype=np.int16)
    cord[cord_x - 1 : cord_x + 3, 1:4] = 1
    for number, name in enumerate(lesions, start=1):
        x, z = PLACES[name]
        instances[x : x + 2, 1:4, z - 2 : z + 3] = number
    image = np.random.default_rng(0).normal(size=cord.shape).astype(np.float32)
    write_volume(options.bids_dir / folder / f"{stem}_T2w.nii.gz", image, affine)
    out = options.out_dir / folder
    paths = [out / f"{stem}_seg-lesions_dseg.nii.gz", out / f"{stem}_label-cord_mask.nii.gz"]
    for path, data in zip(paths, (instances, cord), strict=True):
        write_volume(path, data, affine)
    seal = {
        "Sources": [f"bids:raw:{folder.as_posix()}/{stem}_T2w.nii.gz"],
        "InputsHash": f"hash of {stem}",
        "OutputHashes": {path.name: file_sha256(path) for path in paths},
        "OutputSizes": {path.name: path.stat().st_size for path in paths},
    }
    (out / f"{stem}{END}").write_text(json.dumps(seal))
    return out / f"{stem}{END}"


def run(
    options: Options, failed: tuple[str, ...] = (), preset: Preset | None = None
) -> list[Outcome]:
    return list(compare_sessions(options, preset or Preset(), ["01"], failed))


def rows(options: Options) -> list[tuple[str, str, str, str]]:
    with (options.out_dir / "sub-01/sub-01_lesions.tsv").open(newline="") as lines:
        return [
            (row["session_id"], row["lesion_id"], row["index"], row["change"])
            for row in csv.DictReader(lines, delimiter="\t")
        ]


def about(options: Options) -> dict[str, object]:
    return dict(json.loads((options.out_dir / "sub-01/sub-01_lesions.json").read_text()))


def files(options: Options) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in options.out_dir.rglob("*")
        if path.is_file()
    }


def test_two_sessions(options: Options) -> None:
    write_session(options, "M0", "upper")
    write_session(options, "M6", "lower", "upper")
    (outcome,) = run(options)
    assert (outcome.identifier, outcome.status, outcome.error) == ("sub-01_lesions", "done", None)
    assert rows(options) == [
        ("ses-M0", "1", "1", "baseline"),
        ("ses-M6", "1", "2", "stable"),
        ("ses-M6", "2", "1", "new"),
    ]
    told = about(options)
    assert told["Sources"] == [
        "bids::sub-01/ses-M0/anat/sub-01_ses-M0_seg-lesions_dseg.nii.gz",
        "bids::sub-01/ses-M0/anat/sub-01_ses-M0_label-cord_mask.nii.gz",
        "bids::sub-01/ses-M6/anat/sub-01_ses-M6_seg-lesions_dseg.nii.gz",
        "bids::sub-01/ses-M6/anat/sub-01_ses-M6_label-cord_mask.nii.gz",
        "bids:raw:sub-01/ses-M0/anat/sub-01_ses-M0_T2w.nii.gz",
        "bids:raw:sub-01/ses-M6/anat/sub-01_ses-M6_T2w.nii.gz",
    ]
    place = "sub-01/ses-M6/anat/sub-01_ses-M6_from-T2w_to-sesM0_mode-image_xfm.txt"
    assert [entry["Transform"] for entry in told["Sessions"]] == [None, place]  # type: ignore[attr-defined]
    np.testing.assert_allclose(read_transform(options.out_dir / place), np.eye(4))


def test_nothing_is_done_twice_and_everything_when_something_changed(options: Options) -> None:
    write_session(options, "M0", "upper")
    write_session(options, "M6", "upper")
    run(options)
    before = files(options)
    assert [outcome.status for outcome in run(options)] == ["up-to-date"]
    assert files(options) == before
    looser = parse_preset({"track_volume_change": 0.5}, "mine")
    assert [outcome.status for outcome in run(options, preset=looser)] == ["done"]
    assert [outcome.status for outcome in run(options)] == ["done"]
    (options.out_dir / "sub-01/sub-01_lesions.tsv").write_text("spoiled\n")
    assert [outcome.status for outcome in run(options)] == ["done"]
    write_session(options, "M12", "upper", "lower")
    assert [outcome.status for outcome in run(options)] == ["done"]
    assert rows(options)[-1] == ("ses-M12", "2", "2", "new")


def test_one_session_is_nothing_to_compare(options: Options) -> None:
    write_session(options, "M0", "upper")
    assert run(options) == []
    write_session(options, "M6")
    assert run(options, failed=("sub-01_ses-M6",)) == []
    assert not (options.out_dir / "sub-01/sub-01_lesions.tsv").exists()


def test_a_session_without_results_is_left_out_and_resolves_nothing(options: Options) -> None:
    write_session(options, "M0", "upper")
    write_session(options, "M6").unlink()
    write_session(options, "M12", "upper")
    run(options)
    assert [row[0] for row in rows(options)] == ["ses-M0", "ses-M12"]
    assert rows(options)[1][3] == "stable"
    assert about(options)["SessionsLeftOut"] == [
        {"session_id": "ses-M6", "Reason": "it has no results"}
    ]


def test_no_lesions_at_all(options: Options) -> None:
    write_session(options, "M0")
    write_session(options, "M6")
    run(options)
    assert rows(options) == []
    assert len(about(options)["Sessions"]) == 2  # type: ignore[arg-type]


def test_a_cord_that_cannot_be_aligned_is_left_out_with_a_warning(options: Options) -> None:
    write_session(options, "M0", "upper")
    write_session(options, "M6", "upper", cord_x=5)
    (outcome,) = run(options)
    assert outcome.warnings == (
        "ses-M6 is left out: its cord could not be aligned with that of ses-M0",
    )
    assert rows(options) == [("ses-M0", "1", "1", "baseline")]


def test_an_unreadable_scan_is_one_failed_unit(options: Options) -> None:
    write_session(options, "M0", "upper")
    write_session(options, "M6", "upper")
    (options.bids_dir / "sub-01/ses-M6/anat/sub-01_ses-M6_T2w.nii.gz").write_bytes(b"no image")
    (outcome,) = run(options)
    assert outcome.status == "failed"
    assert str(outcome.error).startswith("UnreadableImage: ")


def test_the_order_of_time(options: Options) -> None:
    for session in ("followup", "baseline", "M12", "M6"):
        write_session(options, session)
    found = finished_sessions(options.out_dir, options.bids_dir, "01")
    assert [one.name for one in found] == ["ses-M6", "ses-M12", "ses-baseline", "ses-followup"]
    assert unfinished_sessions(options.bids_dir, found[1:], "01") == ["ses-M6"]
    table = options.bids_dir / "sub-01/sub-01_sessions.tsv"
    text = "session_id\tacq_time\nses-baseline\t2020-01-01T00:00:00\nses-M6\t2020-07-01T00:00:00\n"
    table.write_text(text)
    names = [one.name for one in finished_sessions(options.out_dir, options.bids_dir, "01")]
    assert names[0] == "ses-M6"
    table.write_text(text + "ses-followup\t2022-01-01\nses-M12\t2021-01-01T00:00:00\n")
    names = [one.name for one in finished_sessions(options.out_dir, options.bids_dir, "01")]
    assert names == ["ses-baseline", "ses-M6", "ses-M12", "ses-followup"]
    assert sorted(["10", "9", "x"], key=natural_key) == ["x", "9", "10"]


def test_two_jobs_at_once_leave_one_whole_result(options: Options) -> None:
    for session in ("M0", "M6", "M12"):
        write_session(options, session, "upper")
    outcomes: list[Outcome] = []
    jobs = [threading.Thread(target=lambda: outcomes.extend(run(options))) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert [outcome.status for outcome in run(options)] == ["up-to-date"]
    assert len(rows(options)) == 3
