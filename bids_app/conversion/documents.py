"""What is said of the dataset: nnU-Net's ``dataset.json`` and the columns of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SECOND = "second"
_ORIENTATION = "LPI"  # nibabel's RAS in the letters of the Spinal Cord Toolbox

CASE_COLUMNS: dict[str, dict[str, Any]] = {
    "case": {"Description": "Identifier; names the files in imagesTr or imagesTs and labels"},
    "dataset": {"Description": "Name of the BIDS dataset"},
    "participant_id": {"Description": "Subject"},
    "session_id": {"Description": "Session, where there are any"},
    "site": {"Description": "site or institution_id of participants.tsv, else the dataset"},
    "contrast": {"Description": "What the channels show, joined by +"},
    "split": {
        "Description": "Where the subject went",
        "Levels": {"train": "imagesTr, labelsTr", "test": "imagesTs, labelsTs"},
    },
    "fold": {"Description": "Fold in whose validation set the case is; n/a for test cases"},
    "held_out": {
        "Description": "Why a test case is one",
        "Levels": {
            "dataset": "--hold-out-dataset",
            "contrast": "--hold-out-contrast",
            "share": "--test-share or a given split",
        },
    },
    "entities": {"Description": "BIDS entities of the reference scan"},
    "reference": {"Description": "File of the first channel, relative to its dataset"},
    "reference_sha256": {"Description": "Its SHA-256"},
    "second": {"Description": "File of the second channel; n/a: the channel is all zeros"},
    "second_sha256": {"Description": "Its SHA-256"},
    "lesion_label": {"Description": "File of the lesion label"},
    "lesion_label_sha256": {"Description": "Its SHA-256"},
    "rater": {"Description": "desc entity of the lesion label"},
    "cord_label": {"Description": "File of the cord mask; n/a: see cord_source"},
    "cord_label_sha256": {"Description": "Its SHA-256"},
    "cord_source": {
        "Description": "Where the cord comes from",
        "Levels": {"label": "a cord mask of the dataset", "box": "found by the model in the box"},
    },
    "orientation": {
        "Description": "Of the reference as stored in the source, in nibabel's letters"
    },
    "spacing_x_mm": {"Description": "Voxel size from left to right", "Units": "mm"},
    "spacing_y_mm": {"Description": "Voxel size from back to front", "Units": "mm"},
    "spacing_z_mm": {"Description": "Voxel size from below upwards", "Units": "mm"},
    "shape": {"Description": "Voxels from left to right, back to front and below upwards"},
    "lesion_count": {"Description": "Numbers of an instance map, else 18-connected parts"},
    "lesion_volume_mm3": {"Description": "Volume of all lesion voxels", "Units": "mm3"},
    "cord_volume_mm3": {"Description": "Volume of cord and lesions together", "Units": "mm3"},
    "lesion_outside_cord_mm3": {
        "Description": "Volume of lesion voxels that the cord mask leaves out",
        "Units": "mm3",
    },
    "registration": {
        "Description": "How the second contrast came to the reference's grid",
        "Levels": {"registered": "rigidly", "headers": "by the headers; they align as well"},
    },
    "remarks": {"Description": "What is worth knowing"},
}
"""Dictionary of ``cases.tsv``."""

EXCLUDED_COLUMNS: dict[str, dict[str, Any]] = {
    "dataset": {"Description": "Name of the BIDS dataset"},
    "name": {"Description": "Session or scan"},
    "kind": {
        "Description": "Family of the reason",
        "Levels": {
            "unlabelled": "there is no lesion label for it",
            "problem": "an image or a label cannot be used",
            "asked": "in the list of --exclude",
            "held-out": "its contrast is held out, and its subject trains",
            "failed": "an unexpected error; see the log",
        },
    },
    "reason": {"Description": "In words"},
}
"""Dictionary of ``excluded.tsv``."""


def channel_names(fusion: str, reference: str, contrasts: Sequence[str]) -> list[str]:
    """Name the channels.

    Examples
    --------
    >>> channel_names("early", "T2w", ["T2w+STIR", "T2w"])
    ['T2w', 'second']
    >>> channel_names("late", "T2w", ["T2w", "STIR"]), channel_names("late", "T2w", ["STIR"])
    (['image'], ['STIR'])
    """
    if fusion == "early":
        return [reference, SECOND]
    kinds = set(contrasts)
    return [kinds.pop()] if len(kinds) == 1 else ["image"]


def dataset_document(
    name: str, fusion: str, channels: Sequence[str], training: int, contrasts: Sequence[str]
) -> dict[str, Any]:
    """Build nnU-Net's ``dataset.json``, with regions and the orientation of the images.

    Parameters
    ----------
    name : str
    fusion : {"early", "late"}
    channels : sequence of str
    training : int
        Number of training cases.
    contrasts : sequence of str
        What there is, such as ``T2w+STIR``.
    """
    return {
        "name": name,
        "channel_names": {str(number): channel for number, channel in enumerate(channels)},
        "labels": {"background": 0, "cord": [1, 2], "lesion": 2},
        "regions_class_order": [1, 2],
        "numTraining": training,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
        "image_orientation": _ORIENTATION,
        "fusion": fusion,
        "contrasts": sorted(set(contrasts)),
        "description": "Made by 'cordlesion convert'; cases.tsv says from what.",
    }
