"""Same answer as nnU-Net: our sliding window against nnUNetPredictor.

On the exported box, and on models of each kind that nnU-Net itself planned, trained for two
short epochs and saved.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from bids_app.records import Combination, FloatArray, Prepared, Volume
from bids_app.segmentation.describe import Choices
from bids_app.segmentation.export import export_model
from bids_app.segmentation.inference import segment
from bids_app.segmentation.install import install
from bids_app.segmentation.manifest import BOX
from bids_app.segmentation.orientation import orient
from bids_app.segmentation.prediction import predict
from bids_app.segmentation.weights import Model, load_model

SPACING_XYZ = (0.9, 0.8, 2.8)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(BOX, tmp_path_factory.mktemp("export") / "box")


def _noise_with_a_tube(
    shape: tuple[int, int, int], seed: int, spacing: Sequence[float] = SPACING_XYZ
) -> Volume:
    rng = np.random.default_rng(seed)
    i, j, _ = np.indices(shape)
    tube = np.hypot((i - shape[0] / 2) * spacing[0], (j - shape[1] / 2) * spacing[1])
    data = np.where(tube < 5, 0.4, np.where(tube < 9, 1.0, 0.2)) + rng.normal(0, 0.05, shape)
    return Volume(data.astype(np.float32), np.diag([*spacing, 1.0]))


def _nnunets(folder: Path, channels: Sequence[Volume], folds: Any, mirror: bool) -> FloatArray:
    """Let nnU-Net predict; gives (outputs, i, j, k)."""
    predictor = nnUNetPredictor(
        use_mirroring=mirror, device=CPU, perform_everything_on_device=False, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(folder), folds, "checkpoint_final.pth")
    stack = np.ascontiguousarray(np.stack([channel.data.T for channel in channels]))
    spacing = list(channels[0].spacing_mm[::-1])
    _, found = predictor.predict_single_npy_array(stack, {"spacing": spacing}, None, None, True)
    return np.asarray(found.transpose(0, 3, 2, 1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("channels", ["both", "first only"])
def test_probabilities_equal_nnunets(exported: Path, mirror: bool, channels: str) -> None:
    shape = (66, 66, 30)
    first = _noise_with_a_tube(shape, 0)
    second = _noise_with_a_tube(shape, 1) if channels == "both" else None
    model = load_model(BOX, CPU, by_pytorch=True)

    ours = predict(Prepared((first, second)), model, whole=True, mirror=mirror)

    blank = Volume(np.zeros(shape, np.float32), first.affine)
    theirs = _nnunets(exported, (first, second or blank), (0,), mirror)
    assert ours.shape == (2, *shape)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert ours.max() - ours.min() > 0.1


def test_nnunets_own_command_gives_our_labels(exported: Path, tmp_path: Path) -> None:
    """The exported box, files on disk and all, by the command that nnU-Net's users know."""
    image = _noise_with_a_tube((64, 60, 26), 3)
    (tmp_path / "in").mkdir()
    for channel, data in enumerate((image.data, np.zeros_like(image.data))):
        path = tmp_path / "in" / f"case_{channel:04d}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(data, image.affine), path)
    command = [str(Path(sys.executable).with_name("nnUNetv2_predict_from_modelfolder"))]
    places = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(exported)]
    how = ["-f", "0", "-device", "cpu", "--disable_tta", "-npp", "1", "-nps", "1"]
    done = subprocess.run([*command, *places, *how], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

    theirs = np.asarray(nibabel.load(tmp_path / "out" / "case.nii.gz").dataobj)
    model = load_model(BOX, CPU, by_pytorch=True)
    cord, lesion = predict(Prepared((image, None)), model, whole=True, mirror=False) > 0.5
    ours = np.where(lesion, 2, np.where(cord, 1, 0))
    assert (ours == theirs).all()
    assert cord.any()


# What follows uses models that nnU-Net trains here.

PLAIN = {"background": 0, "cord": 1, "lesion": 2}
REGIONS = {"background": 0, "spinal_cord": [1, 2], "lesion": 2}


@dataclass(frozen=True)
class Kind:
    """A kind of model: which dataset, planned how, and what its outputs should mean."""

    dataset: str
    planner: str
    configuration: str
    folds: tuple[int, ...]
    outputs: dict[str, tuple[int, ...]]


SUMS = {"cord": (1, 2), "lesion": (2,)}
KINDS = {
    "3D, plain labels": Kind("Dataset901_Plain", "plain", "3d_fullres", (0, 1), SUMS),
    "2D, plain labels": Kind("Dataset901_Plain", "plain", "2d", (0,), SUMS),
    "ResEnc": Kind("Dataset901_Plain", "resenc", "3d_fullres", (0,), SUMS),
    "regions": Kind(
        "Dataset902_Regions", "plain", "3d_fullres", (0,), {"cord": (0,), "lesion": (1,)}
    ),
}


def _write_raw(folder: Path, channels: Sequence[str], labels: dict[str, Any], **extra: Any) -> None:
    """Write three small cases in nnU-Net's layout."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    affine = np.diag([1, 1, 1.5, 1])
    for case in range(3):
        rng = np.random.default_rng(case)
        i, j, k = np.indices((30, 36, 24))
        radius = np.hypot(i - 15 + case, j - 18)
        lesion = (radius < 4) & (abs(k - 12) < 3) & (i > 14)
        truth = (radius < 4).astype(np.uint8) + lesion
        for number in range(len(channels)):
            image = np.where(radius < 4, 0.5, np.where(radius < 7, 1, 0.2)) + 0.3 * lesion
            image = (image + rng.normal(0, 0.05, image.shape)).astype(np.float32)
            path = folder / "imagesTr" / f"case_{case}_{number:04d}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(image, affine), path)
        nibabel.save(
            nibabel.Nifti1Image(truth, affine), folder / "labelsTr" / f"case_{case}.nii.gz"
        )
    document = {
        "channel_names": {str(n): name for n, name in enumerate(channels)},
        "labels": labels,
        "numTraining": 3,
        "file_ending": ".nii.gz",
        **extra,
    }
    (folder / "dataset.json").write_text(json.dumps(document))


class _PoolHere:
    """Does at once what nnU-Net would give to other processes."""

    def __init__(self, _: int) -> None:
        self._pool: list[Any] = []

    def __enter__(self) -> _PoolHere:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def starmap_async(self, function: Any, calls: Any) -> Any:
        found = [function(*call) for call in calls]
        return mock.Mock(ready=lambda: True, get=lambda: found)


def _plan(root: Path, dataset: str, planner: str, configurations: Sequence[str]) -> str:
    """Run nnU-Net's fingerprint, planning and preprocessing; make the network tiny in between."""
    from nnunetv2.experiment_planning.dataset_fingerprint import fingerprint_extractor
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )
    from nnunetv2.experiment_planning.experiment_planners.resencUNet_planner import (
        ResEncUNetPlanner,
    )
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    place = root / "preprocessed" / dataset
    context = mock.Mock(Pool=_PoolHere)
    with mock.patch.object(fingerprint_extractor.multiprocessing, "get_context", lambda _: context):
        fingerprint_extractor.DatasetFingerprintExtractor(dataset, 1).run()
    planning = {"plain": ExperimentPlanner, "resenc": ResEncUNetPlanner}[planner](dataset)
    planning.plan_experiment()
    path = place / f"{planning.plans_identifier}.json"
    plans = json.loads(path.read_text())
    for name in configurations:
        _make_tiny(plans["configurations"][name])
    path.write_text(json.dumps(plans))
    manager, raw = PlansManager(plans), root / "raw" / dataset
    document = json.loads((raw / "dataset.json").read_text())
    cases = get_filenames_of_train_images_and_targets(str(raw), document)
    for name in configurations:
        configuration = manager.get_configuration(name)
        out = place / configuration.data_identifier
        if not out.exists():  # the two planners share what is preprocessed
            out.mkdir()
            for case, files in cases.items():
                images, label = files["images"], files["label"]
                DefaultPreprocessor(verbose=False).run_case_save(
                    str(out / case), images, label, manager, configuration, document
                )
    splits = [{"train": ["case_0", "case_1"], "val": ["case_2"]}] * 2
    (place / "splits_final.json").write_text(json.dumps(splits))
    return str(planning.plans_identifier)


def _make_tiny(configuration: dict[str, Any]) -> None:
    flat = len(configuration["patch_size"]) == 2
    one, two = ([1, 1], [2, 2]) if flat else ([1, 1, 1], [2, 2, 2])
    arguments = configuration["architecture"]["arch_kwargs"]
    arguments.update(n_stages=3, features_per_stage=[4, 8, 8], strides=[one, two, two])
    arguments.update(kernel_sizes=[[3] * len(one)] * 3)
    for key in ("n_conv_per_stage", "n_blocks_per_stage", "n_conv_per_stage_decoder"):
        if key in arguments:
            arguments[key] = [1, 1] if "decoder" in key else [1, 1, 1]
    configuration.update(batch_size=2, patch_size=[16, 16] if flat else [12, 16, 16])


def _train(dataset: str, configuration: str, plans: str, fold: int) -> Path:
    """Run nnU-Net's own trainer, which saves the checkpoint."""
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.manual_seed(fold)
    trainer = get_trainer_from_args(
        dataset, configuration, fold, "nnUNetTrainer", plans, device=CPU
    )
    trainer.num_epochs, trainer.num_iterations_per_epoch = 2, 4
    trainer.num_val_iterations_per_epoch = 1
    # Pictures and notes that take longer than the training.
    with mock.patch.object(trainer.logger, "plot_progress_png", lambda *_: None):
        trainer.run_training()
    return Path(trainer.output_folder_base)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Let nnU-Net train one model of each kind; gives their folders."""
    root = tmp_path_factory.mktemp("nnunet")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all of it is nnU-Net's own code
        for name in ("raw", "preprocessed", "results"):
            (root / name).mkdir()
            patch.setenv(f"nnUNet_{name}", str(root / name))
        patch.setenv("nnUNet_compile", "f")
        _write_raw(root / "raw" / "Dataset901_Plain", ("T2w", "STIR"), PLAIN)
        _write_raw(
            root / "raw" / "Dataset902_Regions", ("T2w",), REGIONS,
            regions_class_order=[1, 2], image_orientation="LPI",
        )  # fmt: skip
        patch.setenv("nnUNet_n_proc_DA", "1")
        plans = {
            ("Dataset901_Plain", "plain"): ("2d", "3d_fullres"),
            ("Dataset901_Plain", "resenc"): ("3d_fullres",),
            ("Dataset902_Regions", "plain"): ("3d_fullres",),
        }
        names = {key: _plan(root, *key, configurations) for key, configurations in plans.items()}
        patch.setenv("nnUNet_n_proc_DA", "0")
        folders = {}
        for name, kind in KINDS.items():
            for fold in kind.folds:
                folders[name] = _train(
                    kind.dataset, kind.configuration, names[kind.dataset, kind.planner], fold
                )
        yield folders


@pytest.fixture(scope="module")
def installed(trained: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install all of them."""
    store = tmp_path_factory.mktemp("store")
    for name, folder in trained.items():
        found = install([str(folder)], store, name=name.replace(", ", "-").replace(" ", "-"))
        assert found.manifest.outputs == KINDS[name].outputs
        assert len(found.manifest.weights) == len(KINDS[name].folds)
    return store


def _model(store: Path, name: str) -> Model:
    return load_model(store / name.replace(", ", "-").replace(" ", "-"), CPU, by_pytorch=True)


def _session(count: int) -> tuple[Volume, ...]:
    return tuple(_noise_with_a_tube((24, 22, 14), n, (1.1, 1.1, 1.6)) for n in range(count))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("name", list(KINDS))
def test_a_trained_models_probabilities_equal_nnunets(
    trained: dict[str, Path], installed: Path, name: str, mirror: bool
) -> None:
    model = _model(installed, name)
    channels = _session(len(model.manifest.channels))

    ours = predict(Prepared(channels), model, whole=True, mirror=mirror)

    theirs = _nnunets(trained[name], channels, KINDS[name].folds, mirror)
    print(f"\n{name}, mirror {mirror}: max difference {abs(ours - theirs).max():.1e}")
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert ours.max() - ours.min() > 0.02


@pytest.mark.filterwarnings("ignore")
def test_one_fold_of_two_equals_nnunets(trained: dict[str, Path], installed: Path) -> None:
    name = "3D, plain labels"
    model = _model(installed, name)
    channels = _session(2)
    found = [
        predict(Prepared(channels), replace(model, networks=(network,)), whole=True)
        for network in model.networks
    ]
    for fold, ours in enumerate(found):
        theirs = _nnunets(trained[name], channels, (fold,), True)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.filterwarnings("ignore")
def test_votes_are_those_of_nnunets_folds(trained: dict[str, Path], installed: Path) -> None:
    name = "3D, plain labels"
    channels = _session(2)
    theirs = [_nnunets(trained[name], channels, (fold,), True)[2] for fold in (0, 1)]
    threshold = float(np.median(theirs))
    combination = Combination("vote", threshold)
    found = segment(Prepared(channels), _model(installed, name), combination=combination)
    sure = (abs(np.array(theirs) - threshold) > 1e-4).all(axis=0)
    votes = sum((fold >= threshold).astype(int) for fold in theirs)
    assert sure.mean() > 0.95
    assert set(np.unique(votes)) == {0, 1, 2}
    np.testing.assert_array_equal(found.lesion[sure], (votes / 2)[sure])


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_another_orientation_sees_images_turned_to_it(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    name = "3D, plain labels"
    choices = Choices(orientation="AIL")  # nibabel's PSR
    install([str(trained[name])], tmp_path, name="turned", choices=choices)
    model = load_model(tmp_path / "turned", CPU, by_pytorch=True)
    channels = _session(2)

    ours = predict(Prepared(channels), model, whole=True)

    turned = [orient(channel, "PSR") for channel in channels]
    assert turned[0].data.shape == (22, 14, 24)
    theirs = _nnunets(trained[name], turned, (0, 1), True)
    # Back by hand: axes P, S, R become R, A, S.
    back = theirs.transpose(0, 3, 1, 2)[:, :, ::-1, :]
    np.testing.assert_allclose(ours, back, atol=1e-4)


@pytest.mark.parametrize("name", list(KINDS))
def test_a_trained_model_segments(installed: Path, name: str) -> None:
    model = _model(installed, name)
    found = segment(Prepared((_session(1)[0], None)), model)
    assert found.cord.shape == (24, 22, 14)
    if not model.labels.has_regions:
        assert (found.cord >= found.lesion - 1e-6).all()


@pytest.mark.filterwarnings("ignore")
def test_an_installed_model_is_exported_as_it_was(
    trained: dict[str, Path], installed: Path, tmp_path: Path
) -> None:
    folder = export_model(installed / "regions", tmp_path / "out")
    channels = _session(1)
    ours, theirs = (_nnunets(place, channels, (0,), True) for place in (folder, trained["regions"]))
    np.testing.assert_array_equal(ours, theirs)
    assert json.loads((folder / "dataset.json").read_text())["image_orientation"] == "LPI"


def test_the_best_checkpoint_serves_where_there_is_no_final_one(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "deeper" / "model"
    shutil.copytree(trained["regions"], folder)
    (folder / "fold_0" / "checkpoint_final.pth").rename(folder / "fold_0" / "checkpoint_best.pth")
    (folder / "fold_0").rename(folder / "fold_all")
    found = install([str(tmp_path / "deep")], tmp_path / "store", name="m")
    assert found.manifest.training["checkpoints"] == {"fold_all": "checkpoint_best.pth"}
    assert found.manifest.training["trainer"] == "nnUNetTrainer"
    assert list(found.manifest.weights) == ["fold_all.safetensors"]
