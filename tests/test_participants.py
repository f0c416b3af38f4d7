"""Participants' tables as they come."""

import logging

import pytest

from bids_app.dataset.participants import check_columns, read_participants
from bids_app.errors import UnknownColumn


@pytest.mark.parametrize(
    ("content", "expected", "warning"),
    [
        (None, {}, ""),
        (
            b"participant_id\tgroup\tage\nsub-01\tms\t30\nsub-02\tcontrol\tn/a\n",
            {"01": {"group": "ms", "age": "30"}, "02": {"group": "control"}},
            "",
        ),
        (b"\xef\xbb\xbfparticipant_id\tgroup\r\n01\tms\r\n", {"01": {"group": "ms"}}, ""),
        (b"group\tparticipant_id\nms\tsub-01\n\n  \nx", {"01": {"group": "ms"}}, ""),
        (b"participant_id\tgroup\tage\nsub-01\tms\n", {"01": {"group": "ms"}}, ""),
        (b"participant_id\nsub-01\textra\n", {"01": {}}, ""),
        (
            b"participant_id\tgroup\nsub-01\tms\n01\tcontrol\n",
            {"01": {"group": "ms"}},
            "several rows of 01: the first one counts",
        ),
        (b"participant_id\tsite\nsub-01\tM\xfcnchen\n", {"01": {"site": "M\ufffdnchen"}}, "UTF-8"),
        (b"subject,group\n01,ms\n", {}, "no column participant_id"),
        (b"", {}, "no column participant_id"),
    ],
)
def test_tables(tmp_path, caplog, content, expected, warning):
    if content is not None:
        (tmp_path / "participants.tsv").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert read_participants(tmp_path) == expected
    assert warning in caplog.text
    assert bool(warning) == bool(caplog.records)


def test_a_folder_of_that_name(tmp_path, caplog):
    (tmp_path / "participants.tsv").mkdir()
    assert read_participants(tmp_path) == {}
    assert "cannot be read" in caplog.text


def test_columns_that_are_there(tmp_path):
    (tmp_path / "participants.tsv").write_text("participant_id\tgroup\tage\nsub-01\tn/a\tn/a\n")
    check_columns(tmp_path, ["group", "age"])
    check_columns(tmp_path / "nowhere", [])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["Age", "sit", "zzz"], ["columns: Age (did you mean age?)", "site?", "zzz", "has group"]),
        (["participant_id"], ["column: participant_id"]),
    ],
)
def test_columns_that_are_not(tmp_path, asked, words):
    header = "participant_id\tgroup\tage\tsite"
    (tmp_path / "participants.tsv").write_text(f"{header}\nsub-01\tms\t3\tx\n")
    with pytest.raises(UnknownColumn) as error:
        check_columns(tmp_path, asked)
    assert error.value.exit_code == 2
    assert all(word in str(error.value) for word in words)
    with pytest.raises(UnknownColumn, match="is not there"):
        check_columns(tmp_path / "nowhere", asked)
