"""Published models that can be installed by name: addresses only, nothing is shipped.

The licence of each is that of its authors; the addresses are those of their own releases.
"""

from __future__ import annotations

from dataclasses import dataclass

_IVADOMED = "https://github.com/ivadomed"
_LESION = f"{_IVADOMED}/seg-sc-ms-lesion-multicontrast/releases/download/r20260703"


@dataclass(frozen=True)
class KnownModel:
    """A published nnU-Net v2 model.

    Attributes
    ----------
    about : str
        What it segments in which images, in one line.
    sources : tuple of str
        Addresses of its zip files, one a fold where the authors cut it so.
    crop_margin_mm : tuple of float or None
        See `Manifest`.
    """

    about: str
    sources: tuple[str, ...]
    crop_margin_mm: tuple[float, float, float] | None = None


KNOWN = {
    "sct-lesion-ms": KnownModel(
        "MS lesion, any contrast, 5 folds, 3D; trained on images cut round the cord",
        tuple(f"{_LESION}/model_fold{fold}.zip" for fold in range(5)),
        # Theirs were cut 20 mm to the sides, 40 mm above and 100 mm below.
        (20.0, 20.0, 100.0),
    ),
    "sct-lesion-ms-mp2rage": KnownModel(
        "MS lesion on MP2RAGE UNIT1, 3D; trained on images cut round the cord",
        (
            f"{_IVADOMED}/model_seg_ms_mp2rage/releases/download/r20240610/"
            "nnUNetTrainer_seg_ms_lesion_mp2rage__nnUNetPlans__3d_fullres.zip",
        ),
        (30.0, 30.0, 5.0),
    ),
    "sct-lesion-ms-axial-t2w": KnownModel(
        "cord and MS lesion, axial T2w, 2D",
        (
            f"{_IVADOMED}/model-seg-ms-axial-t2w/releases/download/r20241111/"
            "model_bavaria_quebec_axial_t2w_ms.zip",
        ),
    ),
    "sct-lesion-sci-t2w": KnownModel(
        "cord and lesion of spinal-cord injury, T2w",
        (f"{_IVADOMED}/model_seg_sci/releases/download/r20240729/model_SCIsegV2_r20240729.zip",),
    ),
    "sct-cord": KnownModel(
        "cord, any contrast (no lesions: for use as the cord model of another)",
        (
            "https://github.com/sct-pipeline/contrast-agnostic-softseg-spinalcord/releases/"
            "download/v4.0/model_contrast_agnostic_20260628.zip",
        ),
    ),
}
