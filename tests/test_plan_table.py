"""The table of a dry run."""

import io
from pathlib import Path

from rich.console import Console

from bids_app.errors import MissingContrast
from bids_app.execution.plan_table import plan_table, show_plan
from bids_app.records import GivenFile, Job, Scan, Session


def scan(name, suffix):
    return Scan(Path("/raw") / name, {"sub": "02"}, suffix)


def test_table():
    t2w, stir = scan("sub-02_T2w.nii.gz", "T2w"), scan("sub-02_STIR.nii.gz", "STIR")
    beaten = scan("sub-02_acq-[x]_T2w.nii.gz", "T2w")
    jobs = [
        Job(
            *(Session("02", None), t2w, stir, {}, ((beaten, "a later run is used"),)),
            discs=GivenFile(Path("/sct/sub-02_T2w_labels-disc.nii.gz"), "sct", Path("/sct")),
        ),
        Job(Session("03", "M0"), t2w, None, {}),
    ]
    error = MissingContrast("sub-01 has no T2w. Found: T1w.")
    unusable = [(Session("01", None, (scan("sub-01_T1w.nii.gz", "T1w"),)), error)]
    table = plan_table(jobs, unusable, up_to_date={"sub-03_ses-M0"})
    console = Console(width=250, file=io.StringIO())
    console.print(table)
    lines = [
        [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]
        for line in console.file.getvalue().splitlines()
        if line.startswith(("│", "┃"))
    ]
    assert lines == [
        ["session", "reference", "second contrast", "given", "set aside", "status"],
        [
            "sub-01",
            "none",
            "none",
            "",
            "sub-01_T1w.nii.gz",
            "cannot: sub-01 has no T2w. Found: T1w.",
        ],
        [
            "sub-02",
            "sub-02_T2w.nii.gz",
            "sub-02_STIR.nii.gz (STIR)",
            "discs: sct/sub-02_T2w_labels-disc.nii.gz",
            "sub-02_acq-[x]_T2w.nii.gz: a later run is used",
            "would run",
        ],
        ["sub-03_ses-M0", "sub-02_T2w.nii.gz", "none", "", "", "up to date"],
    ]


def test_empty_plan():
    assert plan_table([]).row_count == 0


def test_in_a_pipe_a_plan_is_lines_with_tabs():
    t2w = scan("sub-02_T2w.nii.gz", "T2w")
    beaten = (scan("sub-02_a\tb_T2w.nii.gz", "T2w"), "a later run is used")
    jobs = [Job(Session("02", None), t2w, None, {}, (beaten, beaten))]
    stream = io.StringIO()
    show_plan(jobs, [], (), stream)
    *lines, caption = stream.getvalue().splitlines()
    twice = "; ".join(["sub-02_a b_T2w.nii.gz: a later run is used"] * 2)
    assert [line.split("\t") for line in lines] == [
        ["session", "reference", "second contrast", "given", "set aside", "status"],
        ["sub-02", "sub-02_T2w.nii.gz", "none", "n/a", twice, "would run"],
    ]
    assert caption == "1 would run, 0 up to date, 0 cannot. Nothing was written."
