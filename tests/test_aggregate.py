"""The cohort: what counts as done, failed or missing, and what the tables then say."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_app.cohort.aggregate import CohortTables, aggregate
from bids_app.cohort.changes import COUNT_COLUMNS
from bids_app.cohort.read import read_cohort
from bids_app.cohort.statistics import bootstrap_mean_interval

EXPECTED = tuple(
    f"expected_lesion_{name}{end}"
    for name in ("count", "volume_mm3")
    for end in ("", "_low", "_high")
)
HEADER = "index\tname\tcolor\tvolume_mm3\tlength_mm"


def write_session(
    out: Path, identifier: str, volumes: tuple[float, ...] = (), prefix: str = "", **changes: Any
) -> Path:
    """Write the small files of one finished session."""
    anat = out.joinpath(*identifier.split("_")) / "anat"
    anat.mkdir(parents=True, exist_ok=True)
    sidecar: dict[str, Any] = {
        "Summary": {
            "lesion_count": len(volumes),
            "lesion_volume_mm3": sum(volumes),
            "cord_volume_mm3": 1000.0,
            "cord_length_mm": None,
            "cord_mean_area_mm2": 70.5,
        },
        "Contrasts": {"reference": "T2w", "second": "STIR"},
        "Registration": {"Accepted": True},
        "Model": {"Name": "box", "WeightsSHA256": "00"},
        "GeneratedBy": [{"Name": "CordLesion", "Version": "0.1.0"}],
    }
    path = anat / f"{identifier}{prefix}_label-lesion_mask.json"
    path.write_text(json.dumps(sidecar | changes))
    rows = [f"{i}\tlesion-{i}\t#E69F00\t{v}\tn/a" for i, v in enumerate(volumes, start=1)]
    table = anat / f"{identifier}{prefix}_seg-lesions_dseg.tsv"
    table.write_text("\n".join([HEADER, *rows]) + "\n")
    described = {"volume_mm3": {"Description": "Volume.", "Units": "mm^3"}}
    table.with_suffix(".json").write_text(json.dumps(described))
    return path


def write_run(out: Path, run: str, **units: str | None) -> None:
    """Record a run: session (with double underscores for dashes) to its error, or None."""
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    content = [
        {
            "unit": unit.replace("__", "-"),
            "status": "failed" if error else "done",
            "seconds": 1.0,
            "error": error,
        }
        for unit, error in units.items()
    ]
    (logs / f"run-{run}_summary.json").write_text(json.dumps({"units": content}))


def statuses(tables: CohortTables) -> dict[str, str]:
    columns = ["participant_id", "session_id", "status"]
    return {
        "_".join(name for name in (participant, session) if name): status
        for participant, session, status in tables.sessions[columns].to_numpy().tolist()
    }


def test_an_empty_or_absent_folder_knows_only_the_datasets_sessions(tmp_path: Path) -> None:
    tables = aggregate(tmp_path / "nowhere", ["sub-02", "sub-01_ses-A"], {})
    assert statuses(tables) == {"sub-01_ses-A": "missing", "sub-02": "missing"}
    assert tables.sessions["lesion_count"].isna().all()
    assert len(tables.lesions) == 0
    assert tables.summary[["n", "n_missing"]].to_numpy()[0].tolist() == [0, 2]
    nothing = aggregate(tmp_path, [], {})
    assert len(nothing.sessions) == 0
    assert nothing.summary["n"].tolist() == [0, 0, 0, 0]


def test_a_sessions_row(tmp_path: Path) -> None:
    write_session(tmp_path, "sub-01_ses-M0", (10.5, 20.0), prefix="_acq-sag")
    participants = {"01": {"participant_id": "sub-01", "group": "RRMS", "age": "n/a", "status": 3}}
    tables = aggregate(tmp_path, ["sub-01_ses-M0"], participants)
    (row,) = tables.sessions.astype(object).to_dict("records")
    # None in the sidecar, or not there at all, as in those of an older version.
    for name in ("cord_length_mm", "cord_ap_diameter_mm", "cord_lr_diameter_mm", *EXPECTED):
        assert pd.isna(row.pop(name))
    for region in ("cervical", "thoracic", "lumbar"):
        assert row.pop(f"lesion_count_{region}") is None
    # Sessions were not compared.
    assert all(pd.isna(row.pop(name)) for name in COUNT_COLUMNS)
    assert row == {
        "participant_id": "sub-01",
        "session_id": "ses-M0",
        "status": "done",
        "error": None,
        "qc_decision": None,
        "excluded": False,
        "lesion_count": 2,
        "lesion_volume_mm3": 30.5,
        "cord_volume_mm3": 1000.0,
        "cord_mean_area_mm2": 70.5,
        "lesion_load": 0.0305,
        "reference_contrast": "T2w",
        "second_contrast": "STIR",
        "registration_accepted": True,
        "model": "box",
        "software_version": "0.1.0",
        "group": "RRMS",
        "age": None,
        "participants_status": 3,
    }
    assert list(tables.dictionaries["sessions"]) == list(tables.sessions.columns)


def test_lesions(tmp_path: Path) -> None:
    write_session(tmp_path, "sub-02", (3.0,))
    write_session(tmp_path, "sub-01", (10.5, 20.0))
    write_session(tmp_path, "sub-03", (1.0,))
    write_run(tmp_path, "1", **{"sub__03": "broke"})
    tables = aggregate(tmp_path, [], {})
    columns = ["participant_id", "index", "volume_mm3"]
    assert tables.lesions[columns].to_numpy().tolist() == [
        ["sub-01", 1, 10.5],
        ["sub-01", 2, 20.0],
        ["sub-02", 1, 3.0],
    ]
    assert tables.lesions["length_mm"].isna().all()
    assert tables.lesions["index"].dtype == int
    described = tables.dictionaries["lesions"]
    assert list(described) == list(tables.lesions.columns)
    assert described["volume_mm3"] == {"Description": "Volume.", "Units": "mm^3"}


def test_no_lesion_is_not_the_same_as_not_processed(tmp_path: Path) -> None:
    write_session(tmp_path, "sub-01")
    write_run(tmp_path, "1", **{"sub__02": "no cord"})
    tables = aggregate(tmp_path, ["sub-01", "sub-02", "sub-03"], {})
    assert statuses(tables) == {"sub-01": "done", "sub-02": "failed", "sub-03": "missing"}
    assert tables.sessions["lesion_count"].tolist() == [0, pd.NA, pd.NA]
    assert tables.sessions["error"].tolist() == [None, "no cord", None]
    text = tables.sessions.to_csv(sep="\t", na_rep="n/a", index=False)
    assert "sub-01\tn/a\tdone\tn/a\t0\t0.0\t1000.0" in text
    assert "sub-03\tn/a\tmissing\tn/a\tn/a\tn/a\tn/a" in text


def test_the_newest_run_that_names_a_session_wins(tmp_path: Path) -> None:
    for name in ("sub-01", "sub-02", "sub-03"):
        write_session(tmp_path, name, (1.0,))
    write_run(tmp_path, "20260101", sub__01="old", sub__02=None, sub__03="old")
    write_run(tmp_path, "20260102", sub__01=None, sub__02="new\nlines  too")
    tables = aggregate(tmp_path, [], {})
    assert statuses(tables) == {"sub-01": "done", "sub-02": "failed", "sub-03": "failed"}
    assert tables.sessions["error"].tolist() == [None, "new lines too", "old"]


def test_a_run_says_done_but_nothing_is_there(tmp_path: Path) -> None:
    write_run(tmp_path, "1", sub__01=None)
    assert statuses(aggregate(tmp_path, ["sub-01"], {})) == {"sub-01": "missing"}


def test_folders_without_results_are_missing_and_other_folders_are_none(tmp_path: Path) -> None:
    for folder in ("sub-01/anat", "sub-02/ses-A/anat", "sub-02/figures", "sub-03/figures", "logs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "sub-01.html").write_text("")
    assert statuses(aggregate(tmp_path, [], {})) == {
        "sub-01": "missing",
        "sub-02_ses-A": "missing",
    }


def test_masks_in_another_space_do_not_count(tmp_path: Path) -> None:
    write_session(tmp_path, "sub-01", (1.0, 2.0), prefix="_space-PAM50_res-1")
    assert statuses(aggregate(tmp_path, [], {})) == {"sub-01": "missing"}
    write_session(tmp_path, "sub-01", (1.0,))
    assert aggregate(tmp_path, [], {}).sessions["lesion_count"].tolist() == [1]


def test_of_two_masks_the_newer_counts(tmp_path: Path) -> None:
    older = write_session(tmp_path, "sub-01", (1.0, 2.0), prefix="_acq-sag")
    write_session(tmp_path, "sub-01", (1.0,), prefix="_acq-ax")
    os.utime(older, (1, 1))
    assert aggregate(tmp_path, [], {}).sessions["lesion_count"].tolist() == [1]


SUMMARY = {"lesion_count": 0, "lesion_volume_mm3": 0.0, "cord_volume_mm3": 1.0}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Summary": None}, "has no Summary"),
        ({"Summary": {}}, "gives no usable lesion_count"),
        ({"Summary": SUMMARY | {"lesion_count": 1.5}}, "gives no usable lesion_count"),
        ({"Summary": SUMMARY | {"lesion_count": True}}, "gives no usable lesion_count"),
        ({"Summary": SUMMARY | {"lesion_volume_mm3": math.nan}}, "no usable lesion_volume_mm3"),
        ({"Summary": SUMMARY | {"cord_volume_mm3": "12"}}, "gives no usable cord_volume_mm3"),
        ({"Summary": SUMMARY | {"cord_length_mm": -1}}, "gives no usable cord_length_mm"),
        ({"Summary": SUMMARY | {"lesion_count": 3}}, "counts 3 lesions, but its table has 0"),
    ],
)
def test_half_a_sidecar_is_a_failed_session(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    write_session(tmp_path, "sub-01", **changes)
    write_session(tmp_path, "sub-02", (5.0,))
    tables = aggregate(tmp_path, [], {})
    assert statuses(tables) == {"sub-01": "failed", "sub-02": "done"}
    assert reason in tables.sessions["error"][0]
    assert "--force" in tables.sessions["error"][0]


@pytest.mark.parametrize("content", ["", '{"Summary": {', "[1]", "\x00", "[" * 100_000])
def test_a_broken_sidecar_is_a_failed_session(tmp_path: Path, content: str) -> None:
    write_session(tmp_path, "sub-01").write_text(content)
    assert statuses(aggregate(tmp_path, [], {})) == {"sub-01": "failed"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        (b"", "has no header"),
        (b"index\tname\n1\n", "rows that do not fit"),
        (b"index\xff\n", "is not a table"),
    ],
)
def test_a_broken_table_is_a_failed_session(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    sidecar = write_session(tmp_path, "sub-01")
    table = sidecar.with_name("sub-01_seg-lesions_dseg.tsv")
    if content is None:
        table.unlink()
    else:
        table.write_bytes(content)
    tables = aggregate(tmp_path, [], {})
    assert statuses(tables) == {"sub-01": "failed"}
    assert reason in tables.sessions["error"][0]


def test_content_that_was_not_fetched_is_a_failed_session(tmp_path: Path) -> None:
    sidecar = write_session(tmp_path, "sub-01")
    sidecar.unlink()
    sidecar.symlink_to(tmp_path / "not-fetched")
    (sidecar.parent / "sub-01_acq-x_label-lesion_mask.json").symlink_to(tmp_path / "neither")
    assert statuses(aggregate(tmp_path, [], {})) == {"sub-01": "failed"}


def test_facts_may_be_absent_or_odd(tmp_path: Path) -> None:
    odd = {"Contrasts": None, "Registration": [], "Model": 3, "GeneratedBy": {}}
    write_session(tmp_path, "sub-01", **odd)
    row = aggregate(tmp_path, [], {}).sessions.iloc[0]
    assert row["status"] == "done"
    assert row[["second_contrast", "registration_accepted", "model"]].isna().all()


def test_odd_run_records_are_left_out_and_told(tmp_path: Path) -> None:
    write_session(tmp_path, "sub-01")
    write_run(tmp_path, "1", sub__01=None)
    logs = tmp_path / "logs"
    (logs / "run-2_summary.json").write_text("{")
    (logs / "run-3_summary.json").write_text('{"units": 5}')
    (logs / "run-4_summary.json").write_text(
        '{"units": [7, {"unit": "group", "status": "failed"}]}'
    )
    tables = aggregate(tmp_path, [], {})
    assert statuses(tables) == {"sub-01": "done"}
    assert len(tables.remarks) == 1
    assert tables.remarks[0].startswith("logs/run-2_summary.json was left out: ")


def summary_row(tables: CohortTables, group: str, session: str, measure: str) -> dict[str, Any]:
    wanted = pd.Series({"group": group, "session_id": session, "measure": measure})
    (row,) = tables.summary[(tables.summary[wanted.index] == wanted).all(axis=1)].to_dict("records")
    return row


def test_summary_by_group_and_session(tmp_path: Path) -> None:
    volumes = {"01": (1.0,), "02": (2.0, 2.0), "03": (), "04": (8.0,)}
    for subject, lesions in volumes.items():
        write_session(tmp_path, f"sub-{subject}_ses-A", lesions)
    write_session(tmp_path, "sub-01_ses-B", (3.0, 3.0))
    write_run(tmp_path, "1", **{"sub__02_ses__B": "broke"})
    participants = {
        "sub-01": {"group": "MS"},
        "sub-02": {"group": "MS"},
        "sub-03": {"group": "control"},
    }
    tables = aggregate(tmp_path, ["sub-03_ses-B"], participants)
    assert list(tables.dictionaries["summary"]) == list(tables.summary.columns)
    scopes = tables.summary[["group", "session_id"]].drop_duplicates().to_numpy().tolist()
    assert scopes == [
        ["all", "all"],
        ["MS", "all"],
        ["control", "all"],
        ["n/a", "all"],
        ["all", "ses-A"],
        ["all", "ses-B"],
        ["MS", "ses-A"],
        ["MS", "ses-B"],
        ["control", "ses-A"],
        ["control", "ses-B"],
        ["n/a", "ses-A"],
    ]
    whole = summary_row(tables, "all", "all", "lesion_volume_mm3")
    assert (whole["n"], whole["n_participants"]) == (5, 4)
    assert (whole["n_failed"], whole["n_missing"]) == (1, 1)
    assert (whole["mean"], whole["median"], whole["q1"], whole["q3"]) == (3.8, 4.0, 1.0, 6.0)
    assert whole["iqr"] == 5.0
    assert whole["sd"] == pytest.approx(np.std([1, 4, 0, 8, 6], ddof=1), abs=1e-4)
    assert 0 < whole["ci95_low"] < 3.8 < whole["ci95_high"] < 8
    few = summary_row(tables, "MS", "all", "lesion_count")
    assert (few["n"], few["mean"]) == (3, pytest.approx(5 / 3, abs=1e-4))
    assert math.isnan(few["ci95_low"])  # three sessions, but two participants
    none = summary_row(tables, "control", "ses-B", "lesion_count")
    assert (none["n"], none["n_missing"]) == (0, 1)
    assert math.isnan(none["mean"])


def test_what_is_expected_reaches_the_tables(tmp_path: Path) -> None:
    summary = {"lesion_count": 0, "lesion_volume_mm3": 0.0, "cord_volume_mm3": 1000.0}
    values = dict(zip(EXPECTED, (1.25, 0, 4, 80.5, 0.0, 300.0), strict=True))
    write_session(tmp_path, "sub-01", Summary=summary | values)
    write_session(tmp_path, "sub-02", Summary=summary | dict.fromkeys(EXPECTED))
    tables = aggregate(tmp_path, [], {})
    first, second = tables.sessions[list(EXPECTED)].astype(object).to_numpy().tolist()
    assert first == [1.25, 0, 4, 80.5, 0.0, 300.0]
    assert all(pd.isna(value) for value in second)
    assert str(tables.sessions["expected_lesion_count_high"].dtype) == "Int64"
    row = summary_row(tables, "all", "all", "expected_lesion_count")
    assert (row["n"], row["mean"]) == (1, 1.25)


def test_no_groups_and_no_sessions_give_overall_rows_only(tmp_path: Path) -> None:
    write_session(tmp_path, "sub-01", (1.0,))
    summary = aggregate(tmp_path, [], {"01": {"group": "n/a"}}).summary
    assert summary["measure"].tolist() == [
        "lesion_count",
        "lesion_volume_mm3",
        "expected_lesion_count",
        "expected_lesion_volume_mm3",
    ]
    assert summary["mean"].tolist()[:2] == [1.0, 1.0]
    assert summary["n"].tolist() == [1, 1, 0, 0]  # no calibration, nothing expected
    assert summary["sd"].isna().all()


def test_bootstrap_is_seeded_and_knows_repeated_visits() -> None:
    values = np.array([1.0, 2.0, 3.0, 5.0, 8.0, 13.0])
    people = ["a", "b", "c", "d", "e", "f"]
    once = bootstrap_mean_interval(values, people)
    assert once == bootstrap_mean_interval(values, people)
    assert once == pytest.approx((2.3, 9.2), abs=0.7)
    # The same values seen ten times over are not sixty people.
    again = bootstrap_mean_interval(np.repeat(values, 10), np.repeat(people, 10))
    assert again == pytest.approx(once, abs=0.3)


@pytest.mark.parametrize("values", [[0.1] * 30, [0.0] * 5, [1e-9, 1e-9, 1e-9]])
def test_bootstrap_without_spread(values: list[float]) -> None:
    interval = bootstrap_mean_interval(np.array(values), list(map(str, range(len(values)))))
    assert interval == pytest.approx((values[0], values[0]))


def test_bootstrap_with_one_that_differs() -> None:
    low, high = bootstrap_mean_interval(np.array([0.0, 0.0, 0.0, 9.0]), ["a", "b", "c", "d"])
    assert 0 <= low < 2.25 < high <= 9


def test_reading_stays_linear(tmp_path: Path) -> None:
    for number in range(300):
        write_session(tmp_path, f"sub-{number:04d}_ses-A", (1.0, 2.0))
    started = time.perf_counter()
    assert len(read_cohort(tmp_path).sessions) == 300
    # The budget, 60 s for 10,000 sessions, is 1.8 s for these; shared machines get more.
    assert time.perf_counter() - started < 5


def write_course(out: Path, subject: str, hashes: dict[str, str], *rows: str) -> None:
    """Write a subject's lesions over its sessions: id, session, index, change."""
    table = out / subject / f"{subject}_lesions.tsv"
    table.write_text("\n".join(["lesion_id\tsession_id\tindex\tchange", *rows]) + "\n")
    listed = [{"session_id": name, "InputsHash": digest} for name, digest in hashes.items()]
    table.with_suffix(".json").write_text(json.dumps({"Sessions": listed}))


def test_changes_and_identities(tmp_path: Path) -> None:
    write_session(tmp_path, "sub-01_ses-A", (10.0, 20.0), InputsHash="a")
    write_session(tmp_path, "sub-01_ses-B", (30.0, 5.0), InputsHash="b")
    write_session(tmp_path, "sub-01_ses-C", (30.0,), InputsHash="changed since")
    rows = (
        "1\tses-A\t2\tbaseline", "2\tses-A\t1\tbaseline",
        "1\tses-B\t1\tmerged", "2\tses-B\tn/a\tmerged", "3\tses-B\t2\tnew",
        "1\tses-C\t1\tstable", "3\tses-C\tn/a\tresolved",
    )  # fmt: skip
    write_course(tmp_path, "sub-01", {"ses-A": "a", "ses-B": "b", "ses-C": "c"}, *rows)
    tables = aggregate(tmp_path, [], {})
    counts = tables.sessions[list(COUNT_COLUMNS)]
    assert counts.iloc[0].isna().all()
    assert counts.iloc[1].to_dict() == {
        "new_lesion_count": 1,
        "enlarging_lesion_count": 0,
        "stable_lesion_count": 0,
        "shrinking_lesion_count": 0,
        "merged_lesion_count": 1,
        "split_lesion_count": 0,
        "resolved_lesion_count": 0,
    }
    assert counts.iloc[2].isna().all()
    assert tables.lesions["lesion_id"].tolist() == [2, 1, 1, 3, pd.NA]
    assert list(tables.dictionaries["lesions"]) == list(tables.lesions.columns)


@pytest.mark.parametrize("broken", ["{", "{}", '{"Sessions": 3}', '{"Sessions": []}'])
def test_a_broken_course_is_as_none(tmp_path: Path, broken: str) -> None:
    write_session(tmp_path, "sub-01_ses-A", (10.0,))
    write_course(tmp_path, "sub-01", {}, "1\tses-A\t1\tbaseline")
    (tmp_path / "sub-01/sub-01_lesions.json").write_text(broken)
    tables = aggregate(tmp_path, [], {})
    assert statuses(tables) == {"sub-01_ses-A": "done"}
    assert tables.lesions["lesion_id"].isna().all()


SESSIONS = st.lists(
    st.lists(st.floats(0.1, 500).map(lambda v: round(v, 3)), max_size=4).map(tuple),
    min_size=1,
    max_size=7,
)


@settings(max_examples=12, deadline=None)
@given(SESSIONS, st.randoms(use_true_random=False), st.data())
def test_the_group_is_the_sum_of_its_sessions_in_any_order(
    sessions: list[tuple[float, ...]], order: Any, data: st.DataObject
) -> None:
    """People are renamed and written in another order: the same numbers for the cohort."""
    groups = [data.draw(st.sampled_from(["MS", "control"])) for _ in sessions]
    names = [f"sub-{number:02d}" for number in range(len(sessions))]
    others = order.sample(names, len(names))
    with TemporaryDirectory() as one, TemporaryDirectory() as two:
        tables = _cohort(Path(one), names, sessions, groups)
        turned = _cohort(Path(two), others, sessions, groups)
    for measure, each in (
        ("lesion_count", [len(volumes) for volumes in sessions]),
        ("lesion_volume_mm3", [sum(volumes) for volumes in sessions]),
    ):
        for group in ("all", *sorted(set(groups))):
            counted = [
                value for value, own in zip(each, groups, strict=True) if group in ("all", own)
            ]
            row = summary_row(tables, group, "all", measure)
            assert row["n"] == len(counted)
            assert row["mean"] * row["n"] == pytest.approx(sum(counted), rel=1e-3, abs=1e-3)
            again = summary_row(turned, group, "all", measure)
            same = ("n", "mean", "sd", "median", "q1", "q3")
            # The order of a sum shows in its last digits, and the tables round.
            assert [row[key] for key in same] == pytest.approx(
                [again[key] for key in same], rel=1e-4, abs=2e-4, nan_ok=True
            )
    assert tables.sessions["lesion_count"].sum() == len(tables.lesions)
    back = dict(zip(others, names, strict=True))
    turned.sessions["participant_id"] = turned.sessions["participant_id"].map(back)
    columns = ["participant_id", "lesion_count", "lesion_volume_mm3", "status"]
    same = turned.sessions[columns].sort_values("participant_id").to_numpy().tolist()
    assert same == tables.sessions[columns].to_numpy().tolist()


def _cohort(
    folder: Path, names: list[str], sessions: list[tuple[float, ...]], groups: list[str]
) -> CohortTables:
    for name, volumes in zip(names, sessions, strict=True):
        write_session(folder, name, volumes)
    return aggregate(folder, [], {n: {"group": g} for n, g in zip(names, groups, strict=True)})
