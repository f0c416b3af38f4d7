"""The model store: install from folders, zips and addresses, and refuse what is not safe."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bids_app.cli import main
from bids_app.errors import CordLesionError, MissingResource, UsageError
from bids_app.networks import build_network
from bids_app.records import Prepared, Volume
from bids_app.segmentation.archive import Limits, unpack
from bids_app.segmentation.describe import Choices, describe
from bids_app.segmentation.inference import segment
from bids_app.segmentation.install import install
from bids_app.segmentation.manifest import BOX, find_model, read_manifest
from bids_app.segmentation.prediction import glimpse, predict
from bids_app.segmentation.sources import fetch
from bids_app.segmentation.vetting import vet
from bids_app.segmentation.weights import load_model

CPU = torch.device("cpu")
LESION_ONLY = {"background": 0, "lesion": 1}


def _plans(channels: int) -> dict[str, Any]:
    plans = json.loads((BOX / "plans.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    configuration["architecture"]["arch_kwargs"].update(
        n_stages=2, features_per_stage=[4, 8], strides=[[1] * 3, [2] * 3],
        kernel_sizes=[[3] * 3] * 2, n_conv_per_stage=[1, 1], n_conv_per_stage_decoder=[1],
    )  # fmt: skip
    configuration.update(
        patch_size=[16, 16, 16],
        normalization_schemes=["ZScoreNormalization"] * channels,
        use_mask_for_norm=[False] * channels,
    )
    statistics = plans["foreground_intensity_properties_per_channel"]["0"]
    plans["foreground_intensity_properties_per_channel"] = {
        str(channel): statistics for channel in range(channels)
    }
    return dict(plans)


def make_trained(
    folder: Path,
    *,
    channels: Sequence[str] = ("T2w",),
    labels: dict[str, Any] | None = None,
    folds: Sequence[str] = ("fold_0",),
    **dataset: Any,
) -> Path:
    """Write what nnU-Net's training leaves, with random weights."""
    folder.mkdir(parents=True)
    labels = labels or {"background": 0, "sc": 1, "lesion": 2}
    document = {
        "channel_names": {str(n): name for n, name in enumerate(channels)},
        "labels": labels,
        "numTraining": 3,
        "file_ending": ".nii.gz",
        **dataset,
    }
    plans = _plans(len(channels))
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(document))
    vetted = vet(plans, document, "3d_fullres")
    for number, fold in enumerate(folds):
        torch.manual_seed(number)
        heads = vetted.labels.num_segmentation_heads
        network = build_network(vetted.architecture, len(channels), heads, deep=False, start=True)
        (folder / fold).mkdir()
        save_checkpoint(folder / fold / "checkpoint_final.pth", network.state_dict())
    return folder


def save_checkpoint(path: Path, weights: Any, **changes: Any) -> None:
    content = {
        "network_weights": weights,
        "init_args": {"configuration": "3d_fullres"},
        "trainer_name": "nnUNetTrainer",
        "current_epoch": 2,
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(content | changes, path)


def zipped(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_trained(tmp_path_factory.mktemp("trained") / "model", folds=("fold_0", "fold_1"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORDLESION_MODELS", str(tmp_path / "store"))
    return tmp_path / "store"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _image(shape: tuple[int, int, int] = (20, 18, 16)) -> Volume:
    rng = np.random.default_rng(0)
    return Volume(rng.normal(size=shape).astype(np.float32), np.eye(4))


# Ways in.


def test_a_folder_is_installed_and_found_by_name(trained: Path, store: Path) -> None:
    found = install([str(trained)], store)
    assert found.folder == find_model("model") == store / "model"
    manifest = read_manifest(found.folder)
    assert manifest == found.manifest
    assert manifest.outputs == {"cord": (1, 2), "lesion": (2,)}
    assert manifest.channels == ("T2w",)
    assert _names(store) == ["model"]
    assert _names(store / "model") == [
        "dataset.json", "fold_0.safetensors", "fold_1.safetensors", "model.json", "plans.json",
    ]  # fmt: skip
    assert "LPI" in found.notes[0]
    assert len(load_model(found.folder, CPU).networks) == 2
    for path in found.folder.iterdir():
        assert path.stat().st_mode & 0o444 == 0o444


def test_a_zip_with_folders_in_folders_and_other_files(trained: Path, tmp_path: Path) -> None:
    path = zipped(trained, tmp_path / "my model v1.zip", "a/b/")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/README.md", "hello")
        archive.writestr("__MACOSX/a/b/._plans.json", "junk")
    found = install([str(path)], tmp_path / "store")
    assert found.manifest.name == "my-model-v1"
    assert found.manifest.source == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("one_zip", [False, True])
def test_one_zip_a_fold(tmp_path: Path, one_zip: bool) -> None:
    folder = make_trained(tmp_path / "model", folds=("fold_0", "fold_1", "fold_2"))
    sources = []
    for fold in range(3):
        part = tmp_path / f"part{fold}" / f"model_fold{fold}"
        shutil.copytree(folder, part)
        for other in range(3):
            if other != fold:
                shutil.rmtree(part / f"fold_{other}")
        sources.append(zipped(part.parent, tmp_path / f"model_fold{fold}.zip"))
    if one_zip:
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for path in sources:
                archive.write(path, path.name)
        sources = [tmp_path / "all.zip"]
    found = install([str(path) for path in sources], tmp_path / "store", name="m")
    assert list(found.manifest.weights) == [f"fold_{n}.safetensors" for n in range(3)]
    assert len(set(found.manifest.weights.values())) == 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a folder on this machine."""
    root = tmp_path / "served"
    root.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, directory=str(root), **options)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", root
    http.shutdown()
    thread.join()
    http.server_close()


def test_an_address(
    trained: Path, store: Path, server: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    address, root = server
    path = zipped(trained, root / "published.zip")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = f"{address}/published.zip"
    assert main(["models", "install", source, "--sha256", digest, "--orientation", "RPI"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Installed 'published' (T2w in; cord and lesion out; 2 folds)")
    manifest = read_manifest(store / "published")
    assert manifest.source == {source: digest}
    assert manifest.orientation == "LAS"
    assert main(["models", "info", "published"]) == 0
    said = capsys.readouterr()
    for expected in (digest, source, "RPI (LAS in nibabel's letters)", "channel 1 + channel 2",
                     "licence:", "intended use:", "training trainer: nnUNetTrainer"):  # fmt: skip
        assert expected in " ".join(said.out.split())


@pytest.mark.parametrize("what", ["hash", "missing", "closed"])
def test_an_address_that_does_not_give_the_model(
    trained: Path, store: Path, server: tuple[str, Path], what: str
) -> None:
    address, root = server
    zipped(trained, root / "m.zip")
    if what == "closed":
        address = "http://127.0.0.1:9"
    source = f"{address}/{'m' if what != 'missing' else 'other'}.zip"
    message = "SHA-256 is not" if what == "hash" else "cannot be fetched"
    with pytest.raises(MissingResource, match=message):
        install([source], store, hashes=["0" * 64] if what == "hash" else ())
    assert list(store.iterdir()) == []


def test_only_web_addresses_are_fetched(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only http"):
        fetch("file:///etc/passwd", None, tmp_path)


def test_half_precision_and_replacing(trained: Path, store: Path) -> None:
    whole = install([str(trained)], store, name="m")
    size = (whole.folder / "fold_0.safetensors").stat().st_size
    with pytest.raises(UsageError, match="already in"):
        install([str(trained)], store, name="m")
    half = install([str(trained)], store, name="m", half=True, replace_old=True)
    assert (half.folder / "fold_0.safetensors").stat().st_size < 0.7 * size
    assert _names(store) == ["m"]


# What is refused. Each spoils a good model.


def _no_plans(folder: Path) -> None:
    (folder / "plans.json").unlink()


def _no_dataset(folder: Path) -> None:
    (folder / "dataset.json").unlink()


def _no_checkpoint(folder: Path) -> None:
    for path in folder.glob("fold_*/*"):
        path.unlink()


def _link(folder: Path) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")


def _edit(folder: Path, file: str, change: Callable[[Any], object]) -> None:
    document = json.loads((folder / file).read_text())
    change(document)
    (folder / file).write_text(json.dumps(document))


def _plan_with(**values: Any) -> Callable[[Path], None]:
    return lambda folder: _edit(
        folder, "plans.json", lambda plans: plans["configurations"]["3d_fullres"].update(values)
    )


def _network(**values: Any) -> Callable[[Path], None]:
    def change(plans: Any) -> None:
        plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(values)

    return lambda folder: _edit(folder, "plans.json", change)


def _class(folder: Path) -> None:
    def change(plans: Any) -> None:
        architecture = plans["configurations"]["3d_fullres"]["architecture"]
        architecture["network_class_name"] = "os.system"

    _edit(folder, "plans.json", change)


def _three_channels(folder: Path) -> None:
    names = {str(n): str(n) for n in range(3)}
    _edit(folder, "dataset.json", lambda dataset: dataset.update(channel_names=names))


def _other_labels(folder: Path) -> None:
    labels = {"background": 0, "lesion": 1}
    _edit(folder, "dataset.json", lambda dataset: dataset.update(labels=labels))


def _weights(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "fold_0" / "checkpoint_final.pth"
        content = torch.load(path, weights_only=True)
        save_checkpoint(path, content["network_weights"], **changes)

    return spoil


def _nan(folder: Path) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    weights = torch.load(path, weights_only=True)["network_weights"]
    next(iter(weights.values())).fill_(float("nan"))
    save_checkpoint(path, weights)


def _truncated(folder: Path) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:1000])


class _Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.canary),)


def _bomb(folder: Path) -> None:
    _weights(optimizer_state=_Bomb(folder.parent / "canary"))(folder)


SPOILT = {
    "no plans": (_no_plans, "No plans.json"),
    "no dataset": (_no_dataset, "no dataset.json"),
    "no checkpoint": (_no_checkpoint, "no fold with a checkpoint"),
    "a link": (_link, "is a link"),
    "code": (_bomb, "could run"),
    "truncated": (_truncated, "damaged"),
    "network class": (_class, "os.system"),
    "layer class": (_network(conv_op="os.system"), "no layer"),
    "endless network": (_network(features_per_stage=[4, 10**9]), "more than any"),
    "huge network": (_network(features_per_stage=[4096, 4096], n_conv_per_stage=[64, 64]), "more"),
    "unknown argument": (_network(colour=3), "cannot be built"),
    "other features": (_network(features_per_stage=[8, 8]), "does not fit"),
    "other patch": (_plan_with(patch_size=[16, 16, 15]), "makes"),
    "endless patch": (_plan_with(patch_size=[10**6] * 3), "cannot be used"),
    "preprocessor": (_plan_with(preprocessor_name="Evil"), "preprocessor 'Evil'"),
    "resampling": (_plan_with(resampling_fn_data="deepcopy"), "resampling 'deepcopy'"),
    "resampling option": (_plan_with(resampling_fn_seg_kwargs={"device": 1, "x": 2}), "option 'x'"),
    "normalisation": (_plan_with(normalization_schemes=["np"]), "normalisation 'np'"),
    "too many normalisations": (
        _plan_with(normalization_schemes=["ZScoreNormalization"] * 2), "disagree"),
    "cascade": (_plan_with(previous_stage="3d_lowres"), "cascade"),
    "circular": (_plan_with(inherits_from="3d_fullres"), "not those of an nnU-Net"),
    "three channels": (_three_channels, "disagree on its input channels"),
    "other labels": (_other_labels, "does not fit"),
    "other configuration": (_weights(init_args={"configuration": "2d"}), "no configuration '2d'"),
    "mirror axes": (_weights(inference_allowed_mirroring_axes=(0, 3)), "mirrors along"),
    "not a number": (_nan, "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("name", list(SPOILT))
def test_a_spoilt_model_is_refused_and_leaves_nothing(
    trained: Path, tmp_path: Path, name: str, as_zip: bool
) -> None:
    spoil, message = SPOILT[name]
    folder = tmp_path / "model"
    shutil.copytree(trained, folder)
    shutil.rmtree(folder / "fold_1")
    spoil(folder)
    if as_zip and name == "a link":
        pytest.skip("a link in a zip is tested by itself")
    source = zipped(folder, tmp_path / "m.zip") if as_zip else folder
    with pytest.raises(CordLesionError) as caught:
        install([str(source)], tmp_path / "store", name="m")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code in (2, 69)
    assert list((tmp_path / "store").iterdir()) == []
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "entry", ["../plans.json", "/tmp/x", "a/../../x", "a\\..\\x", "C:/x", "C:\\x", "..", "//x"]
)
def test_a_zip_path_that_leads_outside(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(entry), "{}")
    with pytest.raises(MissingResource, match="leads outside"):
        install([str(path)], tmp_path / "store")
    assert _names(tmp_path) == ["m.zip", "store"]
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO])
def test_a_link_or_a_pipe_in_a_zip(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "m.zip"
    entry = zipfile.ZipInfo("plans.json")
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(MissingResource, match=r"is a link|no plain file"):
        install([str(path)], tmp_path / "store")


def test_a_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fold_0/checkpoint_final.pth", bytes(5 * 10**7))
    with pytest.raises(MissingResource, match="times its size"):
        install([str(path)], tmp_path / "store")


@pytest.mark.parametrize("limits", [Limits(entries=2), Limits(bytes=10)])
def test_a_zip_with_too_much(tmp_path: Path, limits: Limits) -> None:
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}/plans.json", "12345")
    with pytest.raises(MissingResource, match="more than"):
        unpack(path, tmp_path / "out", limits)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_an_entry_that_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("plans.json", "1")
        archive.writestr("plans.json", "2")
    with pytest.raises(MissingResource, match="twice"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("source", "message"), [("nothing", "No model 'nothing'"), ("text", "is no zip")]
)
def test_a_source_that_is_none(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(MissingResource, match=message):
        install([str(tmp_path / source) if source == "text" else source], tmp_path / "store")


@pytest.mark.parametrize("name", ["box", "../x", ".x", "a/b", ""])
def test_a_name_that_cannot_be(trained: Path, tmp_path: Path, name: str) -> None:
    source = str(trained) if name else "/"
    with pytest.raises(UsageError, match="cannot name a model"):
        install([source], tmp_path / "store", name=name or None)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_store_that_cannot_be_written(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o555)
    with pytest.raises(UsageError, match="CORDLESION_MODELS"):
        install([str(trained)], tmp_path / "store")


def test_folds_of_different_models(tmp_path: Path) -> None:
    one = make_trained(tmp_path / "one")
    other = make_trained(tmp_path / "other", labels=LESION_ONLY)
    with pytest.raises(MissingResource, match="differ in their plans"):
        install([str(one), str(other)], tmp_path / "store")


# What a model is taken to be.


@pytest.mark.parametrize(
    ("labels", "outputs"),
    [
        ({"background": 0, "lesion": 1, "spinal cord": 2},
         {"cord": (1, 2), "lesion": (1,)}),
        ({"background": 0, "SC_seg": 1, "MS-lesion": 3}, {"cord": (1, 2), "lesion": (2,)}),
        ({"background": 0, "lesion": 1}, {"lesion": (1,)}),
        ({"background": 0, "lesion": [1]}, {"lesion": (1,)}),
        ({"background": 0, "sc": 1, "spinal_canal": 2}, {"cord": (1,)}),
        ({"background": 0, "canal": [1, 2, 3], "cord": [2, 3], "lesion": 3},
         {"cord": (1,), "lesion": (2,)}),
        ({"background": 0, "cord": 1, "both": [1, 2], "lesion": 2, "ignore": 3},
         {"cord": (0, 2), "lesion": (2,)}),
    ],
)  # fmt: skip
def test_labels_are_understood(labels: dict[str, Any], outputs: dict[str, tuple[int, ...]]) -> None:
    fields, _ = describe({"labels": labels}, ["T2w"], "SimpleITKIO", Choices())
    assert fields["outputs"] == outputs


def test_the_users_word_goes_before_what_is_inferred() -> None:
    dataset = {"labels": {"background": 0, "a": 1, "b": 2}, "image_orientation": "RPI"}
    with pytest.raises(UsageError, match=r"labels a, b is called .* --lesion-label"):
        describe(dataset, ["x"], "SimpleITKIO", Choices())
    choices = Choices(
        manifest={"channels": ["second"], "licence": "CC0-1.0", "orientation": "LAS"},
        lesion=("b",), cord=("a",), orientation="AIL", preset="default",
    )  # fmt: skip
    fields, notes = describe(dataset, ["x"], "SimpleITKIO", choices)
    assert (fields["channels"], fields["orientation"]) == (("second",), "PSR")
    assert (fields["licence"], fields["preset"], notes) == ("CC0-1.0", "default", [])
    with pytest.raises(UsageError, match="no label 'c'"):
        describe(dataset, ["x"], "SimpleITKIO", replace(choices, lesion=("c",)))
    with pytest.raises(UsageError, match="2 channels are named"):
        describe(dataset, ["x"], "SimpleITKIO", replace(choices, channels=("T2w", "STIR")))
    with pytest.raises(UsageError, match="Late fusion"):
        describe(dataset, ["x", "y"], "", replace(choices, channels=("x", "y"), fusion="late"))


def test_a_lesion_model_takes_its_cord_from_another(tmp_path: Path) -> None:
    folder = make_trained(tmp_path / "lesions", labels=LESION_ONLY)
    other = make_trained(tmp_path / "cord", labels={"background": 0, "cord": 1})
    store = tmp_path / "store"
    lesions = load_model(install([str(folder)], store).folder, CPU, by_pytorch=True)
    cords = load_model(install([str(other)], store).folder, CPU, by_pytorch=True)
    prepared = Prepared((_image(), None))
    assert lesions.manifest.needs_cord_model
    with pytest.raises(MissingResource, match="second model that finds the cord"):
        segment(prepared, lesions)
    with pytest.raises(MissingResource, match="finds no cord"):
        glimpse(prepared, lesions)
    with pytest.raises(MissingResource, match="finds no lesions"):
        segment(prepared, cords)
    found = segment(prepared, lesions, cords)
    # Rounded to multiples of 2^-16.
    np.testing.assert_allclose(found.cord, predict(prepared, cords)[1], rtol=0, atol=2**-17)
    np.testing.assert_allclose(found.lesion, predict(prepared, lesions)[1], rtol=0, atol=2**-17)


def test_a_model_trained_on_cuts_sees_a_cut(tmp_path: Path) -> None:
    folder = make_trained(tmp_path / "lesions", labels=LESION_ONLY)
    choices = Choices(crop_margin_mm=(2.0, 2.0, 100.0))
    found = install([str(folder)], tmp_path / "store", choices=choices)
    model = load_model(found.folder, CPU, by_pytorch=True)
    box = load_model(BOX, CPU, by_pytorch=True)
    segmentation = segment(Prepared((_image((40, 40, 16)), None)), model, box)
    cord = segmentation.cord >= 0.5
    i, j, _ = np.nonzero(cord) if cord.any() else np.indices(cord.shape)
    outside = np.ones(cord.shape, bool)
    outside[max(0, i.min() - 2) : i.max() + 3, max(0, j.min() - 2) : j.max() + 3] = False
    assert (segmentation.lesion[outside] == 0).all()
    assert (segmentation.lesion[~outside] > 0).all()


def test_three_channels_and_two_contrasts(tmp_path: Path) -> None:
    folder = make_trained(tmp_path / "m", channels=("STIR", "t2", "PSIR"))
    found = install([str(folder)], tmp_path / "store")
    assert found.manifest.channels == ("STIR", "T2w", "PSIR")
    model = load_model(found.folder, CPU)
    assert predict(Prepared((_image(), None)), model).shape == (3, 20, 18, 16)


def _as_before_architectures(plans: dict[str, Any]) -> None:
    """Turn plans into those of nnU-Net 2.0 to 2.2."""
    parts = plans["configurations"]["3d_fullres"]
    del parts["architecture"]
    parts.update(
        UNet_class_name="PlainConvUNet", UNet_base_num_features=4, unet_max_num_features=8,
        n_conv_per_stage_encoder=[1, 1], n_conv_per_stage_decoder=[1], num_pool_per_axis=[1] * 3,
        pool_op_kernel_sizes=[[1] * 3, [2] * 3], conv_kernel_sizes=[[3] * 3] * 2,
    )  # fmt: skip
    statistics = plans.pop("foreground_intensity_properties_per_channel")
    plans["foreground_intensity_properties_by_modality"] = statistics
    plans["configurations"]["3d_heir"] = {"inherits_from": "3d_fullres", "batch_size": 3}


def test_old_plans_and_inherited_ones(tmp_path: Path) -> None:
    new = make_trained(tmp_path / "new")
    old = tmp_path / "old"
    shutil.copytree(new, old)
    _edit(old, "plans.json", _as_before_architectures)
    _edit(old, "dataset.json", lambda d: d.update(modality=d.pop("channel_names")))
    _weights(init_args={"configuration": "3d_heir"})(old)
    folders = [install([str(folder)], tmp_path / "store").folder for folder in (new, old)]
    plans = json.loads((folders[1] / "plans.json").read_text())
    assert list(plans["configurations"]) == ["3d_heir"]
    models = [load_model(folder, CPU, by_pytorch=True) for folder in folders]
    assert models[0].manifest.fingerprint == models[1].manifest.fingerprint
    found = [predict(Prepared((_image(),)), model, mirror=False) for model in models]
    np.testing.assert_array_equal(*found)


# Finding.


def test_names_folders_and_the_box(trained: Path, store: Path, tmp_path: Path) -> None:
    install([str(trained)], store, name="mine")
    assert find_model(None) == find_model("box") == BOX
    assert find_model("mine") == store / "mine"
    assert find_model(str(store / "mine")) == store / "mine"
    assert find_model("mine", {"CORDLESION_MODELS": str(store)}) == store / "mine"
    for name in ("other", "../store/none", str(tmp_path)):
        with pytest.raises(MissingResource, match="mine in"):
            find_model(name)
    with pytest.raises(MissingResource, match="none in"):
        find_model("mine", {"HOME": str(tmp_path)})


def test_a_store_may_be_read_only(trained: Path, store: Path) -> None:
    folder = install([str(trained)], store, name="mine").folder
    for path in (folder, store):
        path.chmod(0o555)
    before = sorted(store.rglob("*"))
    try:
        load_model(find_model("mine"), CPU)
        assert main(["models", "list"]) == 0
    finally:
        for path in (store, folder):
            path.chmod(0o755)
    assert sorted(store.rglob("*")) == before


def test_the_list(trained: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install([str(trained)], store, name="mine", choices=Choices(licence="CC-BY-4.0"))
    (store / "broken").mkdir()
    (store / "broken" / "model.json").write_text("{")
    assert main(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[0] == "box" for line in lines if line.strip())
    assert any("mine" in line and "CC-BY-4.0" in line for line in lines)
    assert any("broken" in line and "damaged" in line for line in lines)
    assert any("Can be installed: sct-lesion-ms " in line for line in lines)
    assert f"Store: {store}" in lines


@pytest.mark.usefixtures("store")
def test_errors_end_with_their_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "info", "nothing"]) == 69
    assert main(["models", "install", "/nowhere/x"]) == 69
    assert main(["models", "install", "x", "--sha256", "12"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert all(line.startswith(("MissingResource: ", "UsageError: ")) for line in said)


def test_export_through_the_command_line(
    trained: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install([str(trained)], store, name="mine", choices=Choices(orientation="RPI"))
    assert main(["models", "export", "mine", str(tmp_path / "out")]) == 0
    assert "stored in RPI" in capsys.readouterr().out
    assert _names(tmp_path / "out") == [
        "dataset.json", "fold_0", "fold_1", "plans.json",
    ]  # fmt: skip
    again = install([str(tmp_path / "out")], store, name="again")
    assert again.manifest.weights == read_manifest(store / "mine").weights
    assert again.manifest.orientation == "LAS"
    assert main(["models", "export", "mine", str(tmp_path / "out")]) == 2
