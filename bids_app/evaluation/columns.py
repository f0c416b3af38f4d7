"""The columns of the two tables that an evaluation writes, and what they mean."""

from __future__ import annotations

from typing import Any

Dictionary = dict[str, dict[str, Any]]

_SCAN: Dictionary = {
    "scan": {"Description": "The scan: its entities, or the file's name in a plain folder."},
    "participant_id": {"Description": "Subject; the scan's name where it names no subject."},
    "session_id": {"Description": "Session."},
    "contrast": {
        "Description": "Contrasts the prediction was made from, where its sidecar says so; "
        "else that of the label's name."
    },
    "dataset": {"Description": "Dataset, where a table says so."},
    "site": {"Description": "Site, where a table says so."},
}

_RULES = {
    "challenge": "intersection over union of 0.2 or more, predictions of probability {p} or more",
    "iou": "intersection over union of 0.2 or more, all predictions",
    "overlap": "one shared voxel or more, all predictions",
    "covered": "10 % or more of the reference lesion covered, all predictions; a predicted lesion "
    "is false when it touches no reference lesion",
}
_RATES = {
    "true_positives": "Reference lesions that were found",
    "false_negatives": "Reference lesions that were not found",
    "false_positives": "Predicted lesions that find no reference lesion",
    "sensitivity": "Share of the reference lesions found; n/a without reference lesions",
    "precision": "TP / (TP + FP); 1 when both are 0",
    "f1": "2PS / (P + S); 0 when both are 0, the precision without reference lesions",
}
_ANIMA = {
    "jaccard": ("Shared voxels over those of either; 1 when both masks are empty", None),
    "dice": ("As dice", None),
    "sens": ("Share of the reference's voxels found; n/a without", None),
    "spec": ("Share of the voxels outside the reference left out", None),
    "ppv": ("Share of the predicted voxels that are right; n/a without", None),
    "npv": ("Share of the voxels outside the prediction that are right", None),
    "rve": ("(predicted - reference) / reference volume; n/a without reference", None),
    "hausdorff_mm": ("Largest distance of a voxel of one mask to the other mask", "mm"),
    "contour_mean_distance_mm": (
        "Mean distance from one mask's contour voxels to the other's, the larger direction",
        "mm",
    ),
    "surface_distance_mm": ("Mean distance over the contour voxels of both masks", "mm"),
    "ppvl": ("Share of the predicted lesions that are right by ANIMA's rule; n/a without", None),
    "sensl": ("Share of the reference lesions found by ANIMA's rule; n/a without", None),
    "f1": ("2 PPVL SensL / (PPVL + SensL); n/a where one of them is", None),
}
_EMPTY_DISTANCE = "; 0 when both masks are empty, n/a when one is"


def scan_dictionary(threshold: float) -> Dictionary:
    """Describe the columns of ``scans.tsv``, in their order.

    Parameters
    ----------
    threshold : float
        Probability from which the challenge's counts keep a predicted lesion.
    """
    columns: Dictionary = {
        **_SCAN,
        "status": {
            "Description": "Whether the scan could be scored.",
            "Levels": {
                "scored": "Both labels were read.",
                "missing": "There is no prediction: an empty one was scored.",
                "unusable": "The prediction cannot be used, see error: an empty one was scored.",
                "failed": "The reference cannot be used, see error: not in any number.",
            },
        },
        "error": {"Description": "What is wrong with a file."},
        "reference": {"Description": "Path of the reference, in REFERENCE_DIR."},
        "prediction": {"Description": "Path of the prediction, in PREDICTION_DIR."},
        "probability_source": {
            "Description": "Where the lesions' probabilities come from: csv, a column of the TSV, "
            "or none (all 1)."
        },
        "reference_lesions": _of("Lesions of the reference", "lesion"),
        "predicted_lesions": _of("Lesions of the prediction, whatever their probability", "lesion"),
        "reference_volume_mm3": _of("Volume of the reference's lesions", "mm^3"),
        "predicted_volume_mm3": _of("Volume of the predicted lesions", "mm^3"),
        "volume_difference_mm3": _of("Predicted - reference volume", "mm^3"),
        "absolute_volume_difference_mm3": _of("Its absolute value", "mm^3"),
        "volume_difference_percent": _of(
            "Predicted - reference, of the reference volume; n/a without reference", "%"
        ),
        "dice": _of("Dice coefficient; 1 when both masks are empty, 0 when one is"),
        "nsd": _of(
            "Normalised surface Dice at 1 mm, weighted by area; 1 when both masks are empty, 0 "
            "when one is"
        ),
        "hd95_mm": _of(f"95th percentile Hausdorff distance{_EMPTY_DISTANCE}", "mm"),
    }
    for rule, meaning in _RULES.items():
        for rate, text in _RATES.items():
            unit = "lesion" if rate.endswith(("positives", "negatives")) else None
            columns[f"{rule}_{rate}"] = _of(f"{text}: {meaning.format(p=threshold)}", unit)
    for name, (text, unit) in _ANIMA.items():
        empty = _EMPTY_DISTANCE if unit == "mm" else ""
        columns[f"anima_{name}"] = _of(f"ANIMA: {text}{empty}", unit)
    return columns


def lesion_dictionary(threshold: float) -> Dictionary:
    """Describe the columns of ``lesions.tsv``, in their order; see `scan_dictionary`."""
    return {
        **_SCAN,
        "kind": {
            "Description": "Whose lesion it is.",
            "Levels": {"reference": "of the reference", "prediction": "a predicted one"},
        },
        "label": _of("Value of the lesion's voxels; its component's number in a mask"),
        "outcome": {
            "Description": f"What it counts as at probability {threshold} or more.",
            "Levels": {
                "TP": "a reference lesion that was found, or a prediction that finds one",
                "FN": "a reference lesion that was not found",
                "FP": "a prediction that finds no reference lesion",
                "below": "a prediction of lower probability",
            },
        },
        "hit": _of(
            "Whether it and a lesion of the other kind reach an intersection over union of 0.2, "
            "whatever the probability"
        ),
        "match": _of("Label of the lesion of the other kind with the largest IoU; n/a without"),
        "iou": _of("That intersection over union"),
        "coverage": _of("Share of its voxels that lesions of the other kind cover together"),
        "probability": _of(
            "Of a prediction its own; of a reference lesion the highest among those that hit it"
        ),
        "voxels": _of("Number of voxels", "voxel"),
        "volume_mm3": _of("Volume", "mm^3"),
        "size": _of("Class of volume"),
        "level": _of("Vertebral level that holds most of its voxels, where a map of levels is"),
    }


def _of(text: str, unit: str | None = None) -> dict[str, Any]:
    return {"Description": f"{text}."} | ({"Units": unit} if unit else {})
