"""Quality of a cohort: outliers by the stated rule, decisions of a person, what leaves what."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import run_app
from test_aggregate import summary_row, write_session
from test_group_statistics import write_dataset

from bids_app.cohort.aggregate import CohortTables, aggregate
from bids_app.cohort.outliers import fences, modified_z, outliers
from bids_app.dataset.decisions import read_decisions
from bids_app.errors import UnknownLabel, UsageError
from bids_app.records import Decision, QualityMeasure

KNOWN = ("sub-01_ses-A", "sub-01_ses-B", "sub-02_ses-A")


def measure(**changes: object) -> QualityMeasure:
    return QualityMeasure("x", "X", "X.", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "changes", "expected"),
    [
        # Median 6 (or 5), MAD 3: the limit is 3.5 * 3 / 0.6745 = 15.57 from it.
        ([*range(1, 11), 21.5], {}, 0),
        ([*range(1, 11), 21.6], {}, 1),
        ([*range(1, 11), -10.6], {"worse": "low"}, -1),
        ([*range(1, 11), 21.6], {"worse": "low"}, 0),
        ([*range(1, 11), -10.6], {"worse": "either"}, -1),
        # More than half are equal: the mean deviation stands in.
        ([1] * 10 + [2], {}, 1),
        ([1] * 10 + [2] * 5 + [2], {}, 0),
        # All are equal, or too few.
        ([1] * 11, {}, 0),
        ([*range(1, 9), 500], {}, 0),
        # Ratios, not differences.
        ([10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 38], {"worse": "either"}, 1),
        ([10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 38], {"worse": "either", "logarithmic": True}, 0),
        ([10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 2], {"worse": "low", "logarithmic": True}, -1),
    ],
)
def test_outliers(values: list[float], changes: dict[str, object], expected: int) -> None:
    found = outliers(np.array(values, float), measure(**changes))
    assert found[-1] == expected
    assert not found[:-1].any()


def test_the_fences_are_where_outliers_begin() -> None:
    values = np.random.default_rng(3).lognormal(3, 0.5, 200)
    for changes in ({"worse": "either"}, {"worse": "either", "logarithmic": True}):
        low, high = fences(values, measure(**changes))
        inside = [v for v, sign in zip(values, outliers(values, measure(**changes)), strict=True)
                  if not sign]  # fmt: skip
        assert low is not None
        assert high is not None
        assert low <= min(inside)
        assert max(inside) <= high
    assert np.isnan(modified_z(np.ones(20))).all()


def test_unknown_values_are_no_outliers() -> None:
    values = np.array([*range(1, 11), 500.0, np.nan])
    assert outliers(values, measure()).tolist()[-2:] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("participant_id\tsession_id\tqc_decision\tnote\nsub-01\tses-A\tfail\tx\n",
         {"sub-01_ses-A": Decision("fail")}),
        # As people and spreadsheets write it.
        ("\ufeffsession_id\tparticipant_id\tqc_decision\treason\r\nA\t01\tEXCLUDE\tmoved\r\n"
         "ses-B\tsub-01\tn/a\r\nses-A\tsub-02\tpass\n\n",
         {"sub-01_ses-A": Decision("exclude", "moved"), "sub-02_ses-A": Decision("pass")}),
        ("participant_id\tsession_id\tqc_decision\n", {}),
    ],
)  # fmt: skip
def test_decisions(tmp_path: Path, text: str, expected: dict[str, Decision]) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(text, encoding="utf-8")
    assert read_decisions(path, KNOWN) == expected


def test_a_dataset_without_sessions_needs_no_session_column(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text("participant_id\tqc_decision\n01\tfail\n")
    assert read_decisions(path, ["sub-01", "sub-02"]) == {"sub-01": Decision("fail")}


HEAD = "participant_id\tsession_id\tqc_decision\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "sub-09\tses-A\tfail\n", ["1 unknown session:", "sub-09_ses-A (did you mean"]),
        (HEAD + "01\t\tfail\n", ["sub-01 (did you mean sub-01_ses-A or sub-01_ses-B?)"]),
        (HEAD + "01\tA\tfail\n01\tA\tpass\n", ["both fail and pass about sub-01_ses-A"]),
        (HEAD + "01\tA\tbad\n01\tB\tok\n", ["'bad' about sub-01_ses-A, 'ok' about sub-01_ses-B"]),
        ("participant_id\tqc_decision\n01\tfail\n", ["no column session_id"]),
        ("participant\tsession_id\n01\tA\n", ["participant_id and no column qc_decision"]),
        (HEAD.replace("\t", ",") + "01,A,fail\n", ["separated by tabs"]),
        ("", ["no column participant_id", "nothing"]),
        (None, ["no file of decisions"]),
    ],
)
def test_decisions_that_cannot_be_used(tmp_path: Path, text: str | None, words: list[str]) -> None:
    path = tmp_path / "mine.tsv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_decisions(path, KNOWN)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value
    assert isinstance(caught.value, UnknownLabel) == ("unknown session" in str(caught.value))


def write_cohort(out: Path) -> None:
    """Write 12 sessions of T2w and 12 of UNIT1; two of the former are noisy, one is in pieces."""
    for number in range(24):
        second = "STIR" if number < 12 else None
        quality = {
            "cord_snr": {3: 4.0, 4: 4.2}.get(number, 20.0 + number % 5 + (number >= 12) * 200),
            "cord_pieces": 2 if number == 5 else 1,
            "second_coverage": 0.5 if number == 6 else 1.0 if second else None,
            "uncertainty": 0.1,
        }
        write_session(
            *(out, f"sub-{number:02d}", (10.0,) * (number % 3)),
            Quality=quality,
            Contrasts={"reference": "T2w" if number < 12 else "UNIT1", "second": second},
            Registration={"Accepted": number != 7},
        )


def qc_row(tables: CohortTables, participant: str) -> dict[str, object]:
    (row,) = tables.qc[tables.qc["participant_id"] == participant].to_dict("records")
    return row


def test_quality_of_a_cohort(tmp_path: Path) -> None:
    write_cohort(tmp_path)
    tables = aggregate(tmp_path, ["sub-99"], {})
    described = tables.dictionaries["qc"]
    assert list(described) == list(tables.qc.columns)
    assert qc_row(tables, "sub-03")["outliers"] == "cord_snr low"
    assert qc_row(tables, "sub-05")["outliers"] == "cord_pieces high"
    assert qc_row(tables, "sub-05")["concerns"] == "the cord is in 2 pieces"
    concern = "the second contrast shows only 50% of the cord"
    assert qc_row(tables, "sub-06")["concerns"] == concern
    assert str(qc_row(tables, "sub-07")["concerns"]).startswith("registration was rejected")
    # An SNR of 200 is usual for the other contrast.
    flagged = tables.qc.loc[tables.qc["outliers"].notna(), "participant_id"].tolist()
    assert flagged == ["sub-03", "sub-04", "sub-05", "sub-06"]
    missing = qc_row(tables, "sub-99")
    assert missing["status"] == "missing"
    assert pd.isna(missing["concerns"])
    assert np.isnan(missing["cord_snr"])  # type: ignore[call-overload]
    limits = described["cord_snr"]["OutliersBeyond"]
    assert set(limits) == {"T2w", "UNIT1"}
    assert 4.2 < limits["T2w"]["Low"] < 20.0
    assert limits["T2w"]["High"] is None


def test_results_of_an_older_version_have_no_quality(tmp_path: Path) -> None:
    write_session(tmp_path, "sub-01", (1.0,))
    write_session(tmp_path, "sub-02", (1.0,), Quality={"cord_snr": "high", "cord_pieces": True})
    tables = aggregate(tmp_path, [], {})
    assert tables.qc[["cord_snr", "cord_pieces"]].isna().all(axis=None)
    assert tables.qc["status"].tolist() == ["done", "done"]


def test_excluded_sessions_leave_the_statistics_and_stay_in_the_tables(tmp_path: Path) -> None:
    write_cohort(tmp_path)
    groups = {f"{n:02d}": {"group": "a" if n % 2 else "b"} for n in range(24)}
    decisions = {
        "sub-03": Decision("fail", "noisy"),
        "sub-04": Decision("exclude"),
        "sub-05": Decision("pass"),
    }
    before = aggregate(tmp_path, [], groups, decisions=decisions)
    after = aggregate(tmp_path, [], groups, decisions=decisions, exclude=True)
    assert "2 sessions marked fail or exclude still count" in before.remarks[0]
    assert after.remarks == ()
    n = [summary_row(t, "all", "all", "lesion_count")["n"] for t in (before, after)]
    assert n == [24, 22]
    assert summary_row(after, "all", "all", "lesion_count")["n_excluded"] == 2
    row = after.statistics.iloc[0]
    assert (row["n_a"], row["n_b"], row["n_excluded"], row["n_missing"]) == (11, 11, 2, 0)
    # In sight: their status, their numbers, their lesions.
    assert after.sessions["status"].tolist() == ["done"] * 24
    assert after.sessions["lesion_count"].tolist() == before.sessions["lesion_count"].tolist()
    assert after.sessions["excluded"].sum() == 2
    assert not before.sessions["excluded"].any()
    assert len(after.lesions) == len(before.lesions)
    assert after.lesions.loc[after.lesions["excluded"], "participant_id"].tolist() == ["sub-04"]
    assert qc_row(after, "sub-03")["qc_reason"] == "noisy"
    gone = {"sub-03": Decision("fail"), "sub-99": Decision("fail")}
    with_missing = aggregate(tmp_path, ["sub-99"], {}, decisions=gone, exclude=True)
    assert with_missing.counted["status"].value_counts().to_dict() == {
        "done": 23, "excluded": 1, "missing": 1
    }  # fmt: skip
    assert after.counted["status"].value_counts().to_dict() == {"done": 22, "excluded": 2}


def test_one_visit_left_out_takes_a_pair_away(tmp_path: Path) -> None:
    for number in range(5):
        for visit in "AB":
            write_session(tmp_path, f"sub-{number}_ses-{visit}", (1.0,) * (number + (visit > "A")))
    decisions = {"sub-2_ses-B": Decision("fail"), "sub-3_ses-A": Decision("fail")}
    table = aggregate(tmp_path, [], {}, decisions=decisions, exclude=True).statistics
    row = table[(table["comparison"] == "over sessions")].iloc[0]
    assert (row["n_a"], row["n_excluded"], row["n_missing"], row["n_failed"]) == (3, 2, 0, 0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qc")
    write_dataset(folder)
    return folder


def test_the_command_honours_decisions(dataset: Path) -> None:
    bids, out = dataset / "bids", dataset / "out"
    own = out / "qc_decisions.tsv"
    own.write_text(HEAD + "sub-1\tses-0\tfail\nsub-2\tses-1\tpass\n")
    before = own.read_bytes()
    done = run_app(bids, out, "group", "--exclude-qc")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Group: 15 done, 0 failed, 0 missing, 1 excluded. Tables:")
    assert own.read_bytes() == before
    sessions = pd.read_csv(out / "group_sessions.tsv", sep="\t")
    left_out = sessions[sessions["excluded"]]
    assert left_out[["participant_id", "session_id", "status", "qc_decision"]].values.tolist() == [
        ["sub-1", "ses-0", "done", "fail"]
    ]
    qc = pd.read_csv(out / "group_qc.tsv", sep="\t")
    described = json.loads((out / "group_qc.json").read_text())
    assert list(qc.columns) == list(described)
    assert qc["qc_decision"].value_counts().to_dict() == {"fail": 1, "pass": 1}
    assert "Iglewicz" in described["outliers"]["Source"]
    page = (out / "group_report.html").read_text()
    assert "15 sessions of 8 participants" in page
    assert "decision: fail" in page


def test_the_command_without_the_option_excludes_nothing(dataset: Path) -> None:
    bids, out = dataset / "bids", dataset / "out"
    (out / "qc_decisions.tsv").write_text(HEAD + "sub-1\tses-0\tfail\n")
    done = run_app(bids, out, "group")
    assert done.stdout.startswith("Group: 16 done, 0 failed, 0 missing. Tables:")
    assert (
        "1 session marked fail or exclude still counts; --exclude-qc leaves them out."
        in done.stderr
    )


def test_a_file_that_cannot_be_used_writes_nothing(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.tsv").write_text(HEAD + "sub-1\tses-0\tmaybe\n")
    before = {p: p.stat().st_mtime_ns for p in (dataset / "out").glob("group_*")}
    done = run_app(
        dataset / "bids", dataset / "out", "group", "--exclude-qc", tmp_path / "mine.tsv"
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "'maybe' about sub-1_ses-0" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in (dataset / "out").glob("group_*")} == before


def test_a_dry_run_of_the_group_writes_nothing(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.tsv").write_text(HEAD + "sub-1\tses-0\texclude\n")
    before = {p: p.stat().st_mtime_ns for p in (dataset / "out").rglob("*")}
    arguments = ("group", "--dry-run", "--exclude-qc", tmp_path / "mine.tsv")
    done = run_app(dataset / "bids", dataset / "out", *arguments)
    assert done.stdout == (
        "Group: 15 done, 0 failed, 0 missing, 1 excluded. Nothing was written.\n"
    )
    assert {p: p.stat().st_mtime_ns for p in (dataset / "out").rglob("*")} == before
