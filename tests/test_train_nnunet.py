"""Training by nnU-Net's own code: a real run that is killed, resumed, packaged and used."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from support import ROOT, run_app

from bids_app.cli import build_parser, main
from bids_app.commands.train import _begin, _parts
from bids_app.errors import UsageError
from bids_app.segmentation.manifest import read_manifest
from bids_app.training.card import write_card
from bids_app.training.raw import check_folds, hash_raw, read_raw
from bids_app.training.run import read_run

# On a machine with other work, the one real training takes its time.
pytestmark = pytest.mark.timeout(1800)

NAME = "Dataset911_Made"
LABELS = {"background": 0, "cord": [1, 2], "lesion": 2}


def write_dataset(root: Path, channels: tuple[str, ...] = ("T2w",), cases: int = 4) -> Path:
    """Write small cases of two datasets with their splits, as 'cordlesion convert' does."""
    folder = root / NAME
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    affine = np.diag([1, 1, 1.5, 1])
    lines = ["case\tdataset\tsite\tsplit\tfold"]
    for number in range(cases):
        rng = np.random.default_rng(number)
        i, j, k = np.indices((30, 36, 24))
        radius = np.hypot(i - 15 + number % 3, j - 18)
        lesion = (radius < 4) & (abs(k - 12) < 3) & (i > 14)
        image = np.where(radius < 4, 0.5, np.where(radius < 7, 1, 0.2)) + 0.3 * lesion
        case = f"case_{number}"
        for channel in range(len(channels)):
            noisy = (image + rng.normal(0, 0.05, image.shape)).astype(np.float32)
            path = folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(noisy, affine), path)
        truth = (radius < 4).astype(np.uint8) + lesion
        nibabel.save(nibabel.Nifti1Image(truth, affine), folder / "labelsTr" / f"{case}.nii.gz")
        lines.append(f"{case}\t{'AB'[number % 2]}\tsite{number % 2}\ttrain\t{number // 2}")
    lines.append("case_9\tA\tsite0\ttest\tn/a")
    document = {
        "channel_names": {str(n): name for n, name in enumerate(channels)},
        "labels": LABELS,
        "regions_class_order": [1, 2],
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "image_orientation": "LPI",
    }
    folds = [
        {"train": ["case_2", "case_3"], "val": ["case_0", "case_1"]},
        {"train": ["case_0", "case_1"], "val": ["case_2", "case_3"]},
    ]
    (folder / "dataset.json").write_text(json.dumps(document))
    (folder / "splits_final.json").write_text(json.dumps(folds))
    (folder / "cases.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("raw"))


def _command(raw: Path, run: Path) -> list[str]:
    # Fewer iterations leave it to chance whether the app then finds a cord.
    quick = ["--planner", "tiny", "--epochs", "4", "--iterations", "60", "--folds", "0"]
    here = ["--device", "cpu", "--n-cpus", "1", "--package", "made", "--metric", "dice"]
    return ["train", "nnunet", str(raw), str(run), *quick, *here]


def _epochs(run: Path) -> list[int]:
    """Give the epochs in the order in which they ended."""
    path = run / "progress.tsv"
    lines = path.read_text().splitlines()[1:] if path.exists() else []
    return [int(line.split("\t")[1]) for line in lines]


@pytest.fixture(scope="module")
def trained(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Train, stop by SIGTERM after the first checkpoint, and give the same command again."""
    root = tmp_path_factory.mktemp("train")
    run, environ = root / "run", {**os.environ, "CORDLESION_MODELS": str(root / "store")}
    environ["PYTHONPATH"] = str(ROOT)
    files = sorted(path for path in raw.rglob("*") if path.is_file())
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    command = [sys.executable, "-m", "bids_app.cli", *_command(raw, run)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as first:
        while not list(run.rglob("checkpoint_latest.pth")) and first.poll() is None:
            time.sleep(0.05)
        first.send_signal(signal.SIGTERM)
        said, _ = first.communicate()
    stopped = first.returncode, said, _epochs(run), _children_of(run)
    second = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    after = sorted(path for path in raw.rglob("*") if path.is_file())
    assert after == files
    assert all((path.stat().st_mtime_ns, path.read_bytes()) == before[path] for path in files)
    return {"run": run, "store": root / "store", "stopped": stopped, "second": second,
            "environ": environ, "command": command}  # fmt: skip


def _children_of(run: Path) -> list[str]:
    """List the processes that still work for a run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "bids_app.training.nnunet_child" in words and str(run) in words:
            found.append(" ".join(words))
    return found


@pytest.mark.slow
def test_a_stopped_run_goes_on(trained: dict[str, Any]) -> None:
    code, said, epochs, children = trained["stopped"]
    assert code == 143
    assert "the same command goes on" in said
    assert epochs[0] == 1
    assert epochs[-1] < 4
    assert children == []
    assert trained["second"].returncode == 0, trained["second"].stderr
    done = _epochs(trained["run"])
    assert done[len(epochs)] > 1  # not from the start again
    assert done[-1] == 4
    assert read_run(trained["run"]).record["hours"] > 0


@pytest.mark.slow
def test_the_package_says_where_it_comes_from(trained: dict[str, Any], raw: Path) -> None:
    folder = trained["store"] / "made"
    manifest = read_manifest(folder)
    assert manifest.channels == ("T2w",)
    assert manifest.outputs == {"cord": (0,), "lesion": (1,)}
    assert manifest.orientation == "RAS"
    assert manifest.preset == "preset.json"
    training = manifest.training
    assert training["dataset_sha256"] == hash_raw(read_raw(raw))
    assert (training["epochs"], training["folds"], training["cases"]) == (4, ["0"], 4)
    assert set(training["validation_dice"]["0"]) == {"cord", "lesion"}
    assert training["tuning"]["metric"] == "dice"
    assert training["tuning"]["cases"] == 2
    # Thresholds above the chosen peak ask for nothing and are not on the curve.
    curve = training["tuning"]["curves"]["lesion_threshold"]
    chosen = str(training["tuning"]["chosen"]["lesion_threshold"])
    assert len(curve) > 1
    assert curve[chosen] == max(curve.values())
    card = (folder / "README.md").read_text()
    assert "| A | site0 | 2 |" in card
    assert "nnU-Net" in card
    # Paths of training images are no part of a model.
    assert all(str(raw) not in p.read_text() for p in folder.glob("d*.json"))


@pytest.mark.slow
def test_the_app_runs_the_model(trained: dict[str, Any], raw: Path, tmp_path: Path) -> None:
    """On an image like those of the training: so short a training finds no other cord."""
    bids = tmp_path / "bids"
    (bids / "sub-01" / "anat").mkdir(parents=True)
    shutil.copyfile(
        raw / "imagesTr" / "case_0_0000.nii.gz", bids / "sub-01" / "anat" / "sub-01_T2w.nii.gz"
    )
    description = {"Name": "One", "BIDSVersion": "1.10.0"}
    (bids / "dataset_description.json").write_text(json.dumps(description))
    done = run_app(
        *(bids, tmp_path / "out", "participant", "--model", "made", "--device", "cpu"),
        env=trained["environ"],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sidecar = json.loads(next(tmp_path.rglob("*_label-lesion_mask.json")).read_text())
    assert '"made"' in json.dumps(sidecar)
    tuned = read_manifest(trained["store"] / "made").training["tuning"]["chosen"]
    assert sidecar["Preset"]["name"] == "made/preset.json"
    assert sidecar["Preset"]["lesion_threshold"] == tuned["lesion_threshold"]


@pytest.mark.slow
def test_finished_work_is_skipped_and_other_settings_are_refused(
    trained: dict[str, Any], raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained["run"]
    course = (run / "progress.tsv").read_bytes()
    log_size = (run / "train.log").stat().st_size
    again = subprocess.run(
        trained["command"], env=trained["environ"], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert (run / "progress.tsv").read_bytes() == course
    assert (run / "train.log").stat().st_size == log_size
    changed = _command(raw, run)
    changed[changed.index("--epochs") + 1] = "5"
    assert main(changed) == 2
    assert "begun with epochs 4, not 5" in capsys.readouterr().err


def _namespace(raw: Path, run: Path, *more: str) -> Any:
    return build_parser().parse_args(["train", "nnunet", str(raw), str(run), *more])


def test_specific_models_get_a_run_each(raw: Path, tmp_path: Path) -> None:
    dataset = read_raw(raw)
    general = _parts(dataset, _namespace(raw, tmp_path / "g", "--package"))
    assert [(part.folder, part.package) for part in general] == [(tmp_path / "g", "Made")]
    namespace = _namespace(raw, tmp_path / "s", "--specific", "--package", "my")
    parts = _parts(dataset, namespace)
    assert [part.package for part in parts] == ["my-A", "my-B"]
    runs = [_begin(part, namespace) for part in parts]
    assert [run.folder for run in runs] == [tmp_path / "s" / "A", tmp_path / "s" / "B"]
    for run, cases in zip(runs, (["case_0", "case_2"], ["case_1", "case_3"]), strict=True):
        document = json.loads((run.raw / "dataset.json").read_text())
        assert sorted(document["dataset"]) == cases
        assert document["numTraining"] == 2
        splits = json.loads((run.raw / "splits_final.json").read_text())
        assert splits[0] == {"train": cases[1:], "val": cases[:1]}
    assert runs[0].settings.dataset_sha256 != runs[1].settings.dataset_sha256


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--folds", "2"], "has 2 folds, 0 to 1"),
        (["--folds", "x"], "give numbers such as 0 1 2 3 4, or all"),
        (["--folds", "0", "all"], "goes alone"),
        (["--epochs", "0"], "too few"),
        (["--pretrained", "box"], "takes 2 channels (T2w, second), the dataset has 1 (T2w)"),
        (["--pretrained", "box", "--planner", "plain"], "leave out --planner plain"),
        (["--pretrained", "box", "--configuration", "2d"], "do not fit --configuration 2d"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], complaint: str
) -> None:
    assert main(["train", "nnunet", str(raw), str(tmp_path / "run"), *more]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_name_that_another_model_has_is_refused_before_training(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store" / "other").mkdir(parents=True)
    monkeypatch.setenv("CORDLESION_MODELS", str(tmp_path / "store"))
    code = main(["train", "nnunet", str(raw), str(tmp_path / "run"), "--package", "other"])
    assert code == 2
    assert "of another origin" in capsys.readouterr().err


def test_the_box_is_a_start_for_two_channels(tmp_path: Path) -> None:
    raw = write_dataset(tmp_path, ("T2w", "STIR"))
    namespace = _namespace(raw, tmp_path / "run", "--pretrained", "box")
    run = _begin(_parts(read_raw(raw), namespace)[0], namespace)
    assert run.settings.planner == "pretrained"
    assert run.settings.configuration == "3d_fullres"
    assert run.settings.pretrained.startswith("box ")


def _spoil(folder: Path, how: str) -> None:
    if how == "test case":
        path = folder / "cases.tsv"
        path.write_text(path.read_text().replace("site0\ttrain", "site0\ttest", 1))
    elif how == "missing image":
        (folder / "imagesTr" / "case_1_0000.nii.gz").unlink()
    elif how == "missing label":
        (folder / "labelsTr" / "case_3.nii.gz").unlink()
    else:
        (folder / "dataset.json").write_text("{")


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("test case", "keeps for the test: case_0"),
        ("missing image", "no case_1_0000.nii.gz"),
        ("missing label", "no label in labelsTr: case_3"),
        ("bad JSON", "cannot be read"),
    ],
)
def test_a_dataset_that_does_not_fit_together_is_refused(
    tmp_path: Path, how: str, complaint: str
) -> None:
    folder = write_dataset(tmp_path)
    _spoil(folder, how)
    with pytest.raises(UsageError, match=complaint):
        check_folds(read_raw(folder), ["0", "1"])


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    first, second = (write_dataset(tmp_path / name) for name in "ab")
    assert hash_raw(read_raw(first)) == hash_raw(read_raw(second))
    label = second / "labelsTr" / "case_0.nii.gz"
    image = nibabel.load(label)
    nibabel.save(nibabel.Nifti1Image(1 - np.asarray(image.dataobj) % 2, image.affine), label)
    assert hash_raw(read_raw(first)) != hash_raw(read_raw(second))


def test_a_card_without_table_and_tuning_says_so() -> None:
    training = {
        "cases": 3, "command": "c", "nnunetv2": "2.8", "configuration": "2d", "planner": "plain",
        "epochs": 1, "iterations": 1, "folds": ["all"], "pretrained": None, "hours": 1.5,
        "dataset_sha256": "0", "validation_dice": {"all": {}}, "tuning": None,
    }  # fmt: skip
    dataset = {"channel_names": {"0": "T2w"}, "labels": {"background": 0, "lesion": 1}}
    card = write_card("m", training, dataset, [])
    for words in ("no cases.tsv", "not tuned", "none was left out", "Not stated"):
        assert words in card
