"""The command line: what is accepted, what is refused and in which words."""

import argparse
import json
import logging
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bids_app.errors import UsageError
from bids_app.options import Options, add_app_arguments, options_from_arguments


@pytest.fixture
def bids(tmp_path):
    folder = tmp_path / "raw"
    (folder / "sub-01" / "anat").mkdir(parents=True)
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    return folder


@pytest.fixture
def read(bids, tmp_path):
    def read_options(*arguments, bids_dir=bids, out_dir=tmp_path / "out", environ=None):
        parser = argparse.ArgumentParser()
        add_app_arguments(parser)
        line = [str(bids_dir), str(out_dir), "participant", *map(str, arguments)]
        return options_from_arguments(parser.parse_args(line), environ or {})

    return read_options


def test_defaults(read, bids, tmp_path):
    options = read()
    assert options == Options(
        bids_dir=bids,
        out_dir=tmp_path / "out",
        level="participant",
        n_cpus=options.n_cpus,
        memory_bytes=options.memory_bytes,
    )
    assert options.reference == "T2w"
    assert options.contrasts == ("STIR", "PSIR", "UNIT1", "T1w", "T2starw")
    assert options.output_spaces == ("T2w",)
    assert options.n_cpus >= 1 and options.memory_bytes > 0
    assert not (tmp_path / "out").exists()


def test_everything(read, tmp_path):
    (tmp_path / "masks").mkdir()
    options = read(
        *("--participant-label", "sub-01", "02", "--participant_label", "01", "sub-03/"),
        *("--participant-labels", "04", "--session_label", "ses-M0", "M12"),
        *("--reference", "T1w", "--contrasts", "PSIR", "T2star", "MP2RAGE", "T2starw"),
        *("--model", "mine", "--derivatives", f"sct={tmp_path / 'masks'}", "--preset", "strict"),
        *("--device", "cpu", "--n-cpus", "3", "--mem", "500M", "-w", tmp_path / "w"),
        *("--bids-database-dir", tmp_path / "db", "--skip-bids-validation"),
        *("--output-spaces", "T2w", "PAM50", "--dry-run", "--force", "--reports-only"),
        *("--stop-on-first-crash", "-vv"),
    )
    assert options.participant_labels == ("01", "02", "03", "04")
    assert options.session_labels == ("M0", "M12")
    assert (options.reference, options.contrasts) == ("T1w", ("PSIR", "T2starw", "UNIT1"))
    assert (options.model, options.preset, options.device) == ("mine", "strict", "cpu")
    assert options.derivatives == {"sct": tmp_path / "masks"}
    assert (options.n_cpus, options.memory_bytes) == (3, 500 * 2**20)
    assert (options.work_dir, options.bids_database_dir) == (tmp_path / "w", tmp_path / "db")
    assert options.output_spaces == ("T2w", "PAM50")
    assert options.skip_bids_validation and options.dry_run and options.force
    assert options.reports_only and options.stop_on_first_crash and options.verbosity == 2
    assert pickle.loads(pickle.dumps(options)) == options


def test_contrasts_leave_out_the_reference(read):
    assert read("--reference", "T1w").contrasts == ("STIR", "PSIR", "UNIT1", "T2starw")
    assert read("--reference", "T1w").output_spaces == ("T1w",)


def test_slurm_limits_are_the_defaults(read):
    environ = {"SLURM_CPUS_PER_TASK": "1", "SLURM_MEM_PER_NODE": "256"}
    options = read(environ=environ)
    assert (options.n_cpus, options.memory_bytes) == (1, 256 * 2**20)
    assert read("--n-cpus", "2", "--mem", "1G", environ=environ).n_cpus == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mem", "8"], "--mem '8' needs a number and a unit, such as 8G or 500M."),
        (["--mem", "lots"], "--mem 'lots' needs a number and a unit"),
        (["--n-cpus", "0"], "--n-cpus 0 is too few"),
        (["--contrasts", "stir"], "--contrasts stir is unknown; did you mean STIR?"),
        (["--contrasts", "T1w,STIR"], "is no BIDS suffix"),
        (["--derivatives", "/data"], "is not NAME=DIR"),
        (["--derivatives", "a=/no/such/place"], "is not a directory"),
        (["--derivatives", "a=/tmp", "a=/"], "gives 'a' twice"),
        (["--derivatives", "raw=/tmp"], "'raw' cannot be a name"),
        (["--derivatives", "a:b=/tmp"], "'a:b' cannot be a name"),
        (["--participant-label", "sub-"], "An empty label was given; write sub-01 or 01."),
        (["--work-dir", "RAW"], "--work-dir RAW lies inside BIDS_DIR"),
        (["--work-dir", "RAW/derivatives/work"], "lies inside BIDS_DIR"),
        (["--work-dir", "RAW/dataset_description.json"], "is not a directory"),
        (["--bids-database-dir", "RAW/.db"], "--bids-database-dir RAW/.db lies inside BIDS_DIR"),
        (["--work-dir", "~nobody-of-that-name/x"], "names a home directory"),
    ],
)
def test_refused(read, bids, arguments, message):
    arguments = [argument.replace("RAW", str(bids)) for argument in arguments]
    with pytest.raises(UsageError, match=re.escape(message.replace("RAW", str(bids)))) as caught:
        read(*arguments)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [["--device", "gpu"], ["--reference", "FLAIR"], ["--n-cpus", "two"], ["--no-such-option"]],
)
def test_refused_by_argparse(read, arguments):
    with pytest.raises(SystemExit) as caught:
        read(*arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("bids_dir", "message"),
    [
        ("nowhere", "does not exist"),
        ("raw/dataset_description.json", "is not a directory"),
        ("raw/sub-01", "has no dataset_description.json"),
    ],
)
def test_bids_dir_refused(read, tmp_path, bids_dir, message):
    with pytest.raises(UsageError, match=message):
        read(bids_dir=tmp_path / bids_dir)


def test_description_must_be_an_object_unless_skipped(read, bids):
    (bids / "dataset_description.json").write_text("[1]")
    with pytest.raises(UsageError, match="JSON object"):
        read()
    assert read("--skip-bids-validation").skip_bids_validation
    (bids / "dataset_description.json").unlink()
    assert read("--skip-bids-validation").bids_dir == bids


@pytest.mark.parametrize(
    ("out_dir", "message"),
    [
        ("raw", "is BIDS_DIR itself"),
        ("raw/sub-01/..", "is BIDS_DIR itself"),
        ("raw/sub-01", "lies among the raw data"),
        ("raw/sourcedata/x", "lies among the raw data"),
        ("raw/derivatives", "lies among the raw data"),
        ("raw/out", "lies among the raw data"),
        (".", "contains BIDS_DIR"),
        ("raw/dataset_description.json", "is not a directory"),
        ("link-into-raw/sub-01", "lies among the raw data"),
        ("raw/link-out", "lies among the raw data"),
    ],
)
def test_out_dir_refused(read, bids, tmp_path, out_dir, message):
    (tmp_path / "link-into-raw").symlink_to(bids)
    (tmp_path / "elsewhere").mkdir()
    (bids / "link-out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=message) as caught:
        read(out_dir=tmp_path / out_dir)
    assert "derivatives/cordlesion" in str(caught.value) or "not a directory" in message


@pytest.mark.parametrize(
    "out_dir", ["out", "raw/derivatives/cordlesion", "raw/derivatives/a/b", "raw-out", "rawer/x"]
)
def test_out_dir_accepted(read, tmp_path, out_dir):
    assert read(out_dir=tmp_path / out_dir).out_dir == tmp_path / out_dir


def test_relative_paths_become_absolute(read, bids, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = read("-w", "work", bids_dir="raw", out_dir="raw/../out")
    assert options.bids_dir == bids
    assert (options.out_dir, options.work_dir) == (tmp_path / "out", tmp_path / "work")


def test_filter_file(read, tmp_path, caplog):
    path = tmp_path / "filters.json"
    document = {
        "t2w": {"acquisition": "sag", "run": 1, "rec": None, "colour": "red"},
        "second": {"acq": ["ax", "sag"], "ceagent": "*", "suffix": "PSIR"},
        "flair": {"acq": "x"},
    }
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(document).encode())
    with caplog.at_level(logging.WARNING):
        options = read("--bids-filter-file", path)
    assert options.bids_filters == {
        "t2w": {"acq": ("sag",), "run": ("1",), "rec": None},
        "second": {"acq": ("ax", "sag"), "ce": ("*",), "suffix": ("PSIR",)},
    }
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: 'flair' is ignored; filters are t2w and second.",
        f"{path}: 't2w' has no entity 'colour' in BIDS; it is ignored.",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"t2w": }', "is not JSON: line 1, column 9"),
        (b'{"t2w":\n {"acq": "\xff"}}', "is not UTF-8: byte 19"),
        (b"", "is not JSON: line 1, column 1"),
        (b"[]", "holds no JSON object"),
        (b'{"t2w": "sag"}', "'t2w' must be an object"),
        (b'{"t2w": {"acq": true}}', "the value of t2w.acq must be"),
        (b'{"second": {"acq": [null]}}', "the value of second.acq must be"),
        (b'{"second": {"acq": []}}', "the value of second.acq must be"),
        (b"[" * 100_000, "nested too deeply"),
        (None, "cannot be read"),
    ],
)
def test_filter_file_refused(read, tmp_path, content, message):
    path = tmp_path / "filters.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read("--bids-filter-file", path)
    assert str(path) in str(caught.value)


def test_version(read, capsys):
    with pytest.raises(SystemExit) as caught:
        read("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("cordlesion 0")


def test_import_is_light():
    heavy = "{'numpy', 'torch', 'bids', 'pandas', 'nibabel'}"
    code = f"import sys, bids_app.options; print(sorted({heavy} & set(sys.modules)))"
    repository = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=repository
    )
    assert done.stdout == "[]\n"
