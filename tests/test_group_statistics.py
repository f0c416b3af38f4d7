"""The group level through the real command: the table, its options, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from support import run_app

from bids_app.cohort.comparison import DICTIONARY


def write_dataset(folder: Path) -> None:
    """Write a dataset of 8 participants, two visits each, with results and no image."""
    bids, out = folder / "bids", folder / "out"
    bids.mkdir()
    (bids / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    people = ["participant_id\tgroup\tage\tsite"]
    for i in range(8):
        people.append(f"sub-{i}\t{'MS' if i % 2 else 'HC'}\t{30 + i * i % 7}\tx")
        times = ["session_id\tacq_time"]
        for visit in (0, 1):
            name = f"sub-{i}_ses-{visit}"
            (bids / f"sub-{i}/ses-{visit}/anat").mkdir(parents=True)
            times.append(f"ses-{visit}\t190{visit}-01-01T00:00:00")
            write_results(out / f"sub-{i}/ses-{visit}/anat", name, i % 3 + visit + 2 * (i % 2))
        (bids / f"sub-{i}/sub-{i}_sessions.tsv").write_text("\n".join(times) + "\n")
    (bids / "participants.tsv").write_text("\n".join(people) + "\n")


def write_results(anat: Path, name: str, lesions: int) -> None:
    anat.mkdir(parents=True)
    summary = {
        "lesion_count": lesions,
        "lesion_volume_mm3": 10.0 * lesions,
        "cord_volume_mm3": 9000.0,
        "cord_length_mm": 120.0,
        "cord_mean_area_mm2": 75.0 - lesions,
    }
    (anat / f"{name}_label-lesion_mask.json").write_text(json.dumps({"Summary": summary}))
    rows = ["index\tname", *(f"{i}\tlesion-{i}" for i in range(1, lesions + 1))]
    (anat / f"{name}_seg-lesions_dseg.tsv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("group")
    write_dataset(folder)
    return folder


def test_the_table_and_its_dictionary(dataset: Path) -> None:
    done = run_app(dataset / "bids", dataset / "out", "group", "--covariates", "age")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().splitlines()) == 1
    table = pd.read_csv(dataset / "out/group_statistics.tsv", sep="\t", na_values="n/a")
    described = json.loads((dataset / "out/group_statistics.json").read_text())
    assert list(table.columns) == list(described) == list(DICTIONARY)
    assert all(entry["Description"] for entry in described.values())
    assert set(table["comparison"]) == set(described["comparison"]["Levels"])
    assert set(table["effect_name"].dropna()) <= set(described["effect_name"]["Levels"])
    yearly = table[(table["comparison"] == "annualised change") & (table["group_a"] == "all")]
    assert yearly.set_index("measure")["effect"]["lesion_count"] == pytest.approx(
        365.25 / 365, rel=1e-5
    )


def test_another_column(dataset: Path) -> None:
    done = run_app(dataset / "bids", dataset / "out", "group", "--group-column", "site")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(dataset / "out/group_statistics.tsv", sep="\t")
    assert set(table["comparison"]) == {"over sessions", "annualised change"}
    summary = pd.read_csv(dataset / "out/group_summary.tsv", sep="\t")
    assert set(summary["group"]) == {"all", "x"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--group-column", "Group"], ["Group (did you mean group?)"]),
        (["--covariates", "ages", "nope"], ["ages (did you mean age?)", "nope"]),
        (["--covariates", "group"], ["--covariates group"]),
        (["--group-column", "site", "--covariates", "site"], ["--covariates site"]),
    ],
)
def test_columns_that_cannot_be_used(dataset: Path, arguments: list[str], words: list[str]) -> None:
    done = run_app(dataset / "bids", dataset / "out", "group", *arguments)
    assert done.returncode == 2
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_to_compare_leaves_a_header(tmp_path: Path) -> None:
    (tmp_path / "bids/sub-1/anat").mkdir(parents=True)
    write_results(tmp_path / "out/sub-1/anat", "sub-1", 2)
    done = run_app(tmp_path / "bids", tmp_path / "out", "group", "--skip-bids-validation")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out/group_statistics.tsv").read_text().splitlines()
    assert lines == ["\t".join(DICTIONARY)]
