"""Same answer as nnU-Net: our sliding window against nnUNetPredictor on the exported box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from bids_app.records import Prepared, Volume
from bids_app.segmentation.export import export_model
from bids_app.segmentation.inference import predict
from bids_app.segmentation.manifest import BOX
from bids_app.segmentation.weights import load_model

SPACING_XYZ = (0.9, 0.8, 2.8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(BOX, tmp_path_factory.mktemp("export") / "box")


def _noise_with_a_tube(shape: tuple[int, int, int], seed: int) -> Volume:
    rng = np.random.default_rng(seed)
    i, j, _ = np.indices(shape)
    tube = np.hypot((i - shape[0] / 2) * SPACING_XYZ[0], (j - shape[1] / 2) * SPACING_XYZ[1])
    data = np.where(tube < 5, 0.4, np.where(tube < 9, 1.0, 0.2)) + rng.normal(0, 0.05, shape)
    return Volume(data.astype(np.float32), np.diag([*SPACING_XYZ, 1.0]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("channels", ["both", "first only"])
def test_probabilities_equal_nnunets(exported: Path, mirror: bool, channels: str) -> None:
    shape = (70, 90, 40)
    first = _noise_with_a_tube(shape, 0)
    second = _noise_with_a_tube(shape, 1) if channels == "both" else None
    model = load_model(BOX, torch.device("cpu"), bf16=False)

    ours = predict(Prepared((first, second)), model, whole=True, mirror=mirror)

    predictor = nnUNetPredictor(
        use_mirroring=mirror, device=torch.device("cpu"), perform_everything_on_device=False
    )
    predictor.allow_tqdm = False
    predictor.initialize_from_trained_model_folder(str(exported), (0,), "checkpoint_final.pth")
    stack = np.stack(
        [first.data.T, np.zeros(shape[::-1], np.float32) if second is None else second.data.T]
    )
    _, theirs = predictor.predict_single_npy_array(
        stack, {"spacing": list(SPACING_XYZ[::-1])}, None, None, True
    )
    assert ours.shape == (2, *shape)
    np.testing.assert_allclose(ours, theirs.transpose(0, 3, 2, 1), atol=1e-4)
    assert ours.max() - ours.min() > 0.1
