"""When sessions took place, from tables as they come."""

import logging
from pathlib import Path

import pytest

from bids_app.dataset.times import read_years

NAMES = ["sub-01_ses-M0", "sub-01_ses-M12", "sub-02_ses-M0"]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_nothing_is_known(tmp_path: Path) -> None:
    assert read_years(tmp_path / "nowhere", NAMES) == {}
    assert read_years(tmp_path, []) == {}


def test_the_sessions_table(tmp_path: Path) -> None:
    table = "session_id\tacq_time\nses-M0\t1901-03-01T10:00:00\nM12\t1902-03-01T10:00:00.5Z\n"
    write(tmp_path / "sub-01/sub-01_sessions.tsv", table)
    write(tmp_path / "sub-02/sub-02_sessions.tsv", table)
    years = read_years(tmp_path, NAMES)
    # One session has no change: its participant's table is not even opened.
    assert set(years) == {"sub-01_ses-M0", "sub-01_ses-M12"}
    assert years["sub-01_ses-M12"] - years["sub-01_ses-M0"] == pytest.approx(365 / 365.25)


def test_the_scans_table_fills_gaps_with_its_earliest_scan(tmp_path: Path) -> None:
    write(
        tmp_path / "sub-01/sub-01_sessions.tsv",
        "session_id\tacq_time\nses-M0\t1901-01-01\nses-M12\tn/a\n",
    )
    write(
        tmp_path / "sub-01/ses-M12/sub-01_ses-M12_scans.tsv",
        "filename\tacq_time\nanat/b\t1901-07-02T12:00:00\nanat/a\t1901-07-02\nanat/c\tn/a\n",
    )
    years = read_years(tmp_path, NAMES)
    assert years["sub-01_ses-M12"] - years["sub-01_ses-M0"] == pytest.approx(182 / 365.25)


def test_what_is_no_date_is_told_and_left_out(tmp_path, caplog) -> None:
    write(
        tmp_path / "sub-01/sub-01_sessions.tsv",
        "session_id\tacq_time\nses-M0\t01/03/1901\nses-M12\t1902-03-01\n",
    )
    with caplog.at_level(logging.WARNING):
        assert set(read_years(tmp_path, NAMES)) == {"sub-01_ses-M12"}
    assert "'01/03/1901' of sub-01_ses-M0 is no date" in caplog.text


def test_tables_without_the_columns(tmp_path: Path) -> None:
    write(tmp_path / "sub-01/sub-01_sessions.tsv", "session\nses-M0\n")
    write(tmp_path / "sub-01/ses-M0/sub-01_ses-M0_scans.tsv", "")
    assert read_years(tmp_path, NAMES) == {}
