"""Files appear whole, with ordinary permissions, and leave nothing behind."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_app.files import plain, write_json, write_text, write_tsv, written_aside


def test_text_replaces_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text(path, "one\n")
    write_text(path, "zwei ü\n")
    assert path.read_bytes() == "zwei ü\n".encode()
    assert [one.name for one in path.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_permissions_are_the_umask_s(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_json(tmp_path / "x.json", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == mode


def test_failure_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "sub-01_mask.nii.gz"
    path.write_text("old")
    with pytest.raises(RuntimeError), written_aside(path) as aside:
        assert aside.name.endswith(".nii.gz")
        aside.write_text("half")
        raise RuntimeError
    with pytest.raises(TypeError, match="object cannot be written"):
        write_json(tmp_path / "x.json", {"a": object()})
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"


def test_many_at_once(tmp_path):
    path = tmp_path / "x.txt"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_text(path, f"{number}\n" * 1000), range(64)))
    assert len(set(path.read_text().split())) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["x.txt"]


def test_json(tmp_path):
    document = {"b": np.float32(0.5), "a": [np.int64(2), float("inf")], "p": Path("/x"), "ü": None}
    write_json(tmp_path / "x.json", document | {"matrix": np.eye(2), "yes": np.bool_(True)})
    assert (tmp_path / "x.json").read_text() == (
        '{\n  "b": 0.5,\n  "a": [\n    2,\n    null\n  ],\n  "p": "/x",\n  "ü": null,\n'
        '  "matrix": [\n    [\n      1.0,\n      0.0\n    ],\n    [\n      0.0,\n      1.0\n'
        '    ]\n  ],\n  "yes": true\n}\n'
    )


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, "n/a"),
        (float("nan"), "n/a"),
        (float("-inf"), "n/a"),
        ("", "n/a"),
        (" \t\n", "n/a"),
        ("a\tb\r\nc", "a b c"),
        (True, "true"),
        (np.bool_(False), "false"),
        (0, "0"),
        (0.0, "0"),
        (1 / 3, "0.3333333333"),
        (123456.789, "123456.789"),
        (np.float32(0.5), "0.5"),
        (np.int16(7), "7"),
    ],
)
def test_cells(tmp_path, value, cell):
    write_tsv(tmp_path / "x.tsv", ["one", "two"], [{"two": value, "three": 3}])
    assert (tmp_path / "x.tsv").read_text() == f"one\ttwo\nn/a\t{cell}\n"


def test_header_only(tmp_path):
    write_tsv(tmp_path / "x.tsv", ["index", "name"], [])
    assert (tmp_path / "x.tsv").read_bytes() == b"index\tname\n"


@given(st.lists(st.lists(st.text() | st.floats() | st.none(), min_size=3, max_size=3)))
def test_tables_stay_rectangular(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("t") / "x.tsv"
    write_tsv(path, list("abc"), [dict(zip("abc", row, strict=True)) for row in rows])
    lines = path.read_bytes().decode().split("\n")
    assert [line.count("\t") for line in lines] == [2] * (len(rows) + 1) + [0]


def test_plain_refuses_the_unknown():
    with pytest.raises(TypeError):
        plain({1, 2})
