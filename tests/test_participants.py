"""Participants' tables as they come."""

import logging

import pytest

from bids_app.dataset.participants import read_participants


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
