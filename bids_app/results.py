"""Write the results of a session: images, table, transform, and what each of them is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bids_app import __version__
from bids_app.dataset.derivatives import bids_uri, seal, sidecar_path, unseal
from bids_app.files import write_json, write_tsv
from bids_app.imaging.grids import box_around, crop, from_canonical
from bids_app.imaging.itk import write_transform
from bids_app.imaging.volumes import shorten, write_volume
from bids_app.lesions.columns import lesion_column_names, lesion_dictionary, lesion_rows
from bids_app.lesions.level_columns import level_column_names, level_dictionary, level_rows
from bids_app.lesions.preset import Preset
from bids_app.lesions.vertebrae import REGIONS, Vertebrae
from bids_app.options import Options
from bids_app.records import (
    Alignment,
    Cord,
    Expected,
    Findings,
    Job,
    Lesion,
    Prepared,
    Quality,
    Scan,
    Segmentation,
    Volume,
)
from bids_app.template_space import InTemplate, write_in_template

# Room round the cord that reports show.
_SHOWN_MARGIN_MM = 20.0


@dataclass(frozen=True)
class Provenance:
    """What is written into every sidecar, so that a number can be traced.

    Attributes
    ----------
    options : Options
    preset : Preset
    model : mapping
        Name, version, SHA-256 of the weights, folds, fusion, what is taken off a reading of the
        second contrast alone, licence and intended use.
    device, precision : str
    command : str
        The command line.
    settings_hash : str
        Of all that decides the results beside the images' contents.
    """

    options: Options
    preset: Preset
    model: dict[str, Any]
    device: str
    precision: str
    command: str
    settings_hash: str


@dataclass(frozen=True)
class SessionResult:
    """All that was found in a session, on the canonical grid of its reference."""

    original: Volume
    prepared: Prepared
    segmentation: Segmentation
    findings: Findings
    lesions: tuple[Lesion, ...]
    cord: Cord
    warnings: tuple[str, ...]
    vertebrae: Vertebrae | None = None
    expected: Expected | None = None
    in_template: InTemplate | None = None
    quality: Quality = field(default_factory=dict)


def write_session(
    job: Job, result: SessionResult, provenance: Provenance, inputs_hash: str
) -> None:
    """Write everything of one session on the reference's own grid; its seal comes last.

    Parameters
    ----------
    job : Job
    result : SessionResult
    provenance : Provenance
    inputs_hash : str
        What the results were made from, see `bids_app.dataset.derivatives.fingerprint`.
    """
    unseal(job)
    findings, segmentation = result.findings, result.segmentation
    images: dict[str, tuple[Any, type[np.generic]]] = {
        "cord_probability": (segmentation.cord, np.float32),
        "lesion_probability": (segmentation.lesion, np.float32),
        "uncertainty": (segmentation.uncertainty, np.float32),
        "cord_mask": (findings.cord, np.uint8),
        "instances": (findings.instances, np.int16),
        "lesion_mask": (findings.lesion, np.uint8),
    }
    if result.vertebrae is not None and "vertebrae" in job.outputs:
        images["vertebrae"] = (result.vertebrae.labels, np.uint8)
        _write_levels(job, result.vertebrae, provenance)
    if result.in_template is not None:
        sources = {"Sources": _sources(job, provenance)}
        write_in_template(job, result.in_template, _common(job, provenance) | sources)
    second = result.prepared.channels[1] if len(result.prepared.channels) > 1 else None
    if second is not None and "second_preproc" in job.outputs:
        images["second_preproc"] = (shorten(second.data), np.float32)
    about = _sidecars(job, result, provenance)
    if "shown" in job.outputs:
        cord = from_canonical(findings.cord, result.original).data
        shown = _shown_part(result.original, cord)
        write_volume(job.outputs["shown"], shown.data, shown.affine)
        write_json(sidecar_path(job.outputs["shown"]), about["shown"])
    wanted = {key: image for key, image in images.items() if key in job.outputs}
    for key in wanted.keys() - {"lesion_mask", "instances", "vertebrae"}:
        write_json(sidecar_path(job.outputs[key]), about[key])
    _write_images(job, wanted, result.original, provenance.options.n_cpus)
    if "transform" in job.outputs and result.prepared.alignment is not None:
        write_transform(job.outputs["transform"], result.prepared.alignment.matrix)
    write_tsv(job.outputs["lesion_table"], lesion_column_names(), lesion_rows(result.lesions))
    if "lesion_table_dictionary" in job.outputs:
        write_json(
            job.outputs["lesion_table_dictionary"], {**about["instances"], **lesion_dictionary()}
        )
    seal(job, about["lesion_mask"], inputs_hash)


def _write_images(
    job: Job,
    images: Mapping[str, tuple[Any, type[np.generic]]],
    original: Volume,
    threads: int,
) -> None:
    """Write images on the reference's own grid, several at a time: most of it is compressing."""

    def write(key: str) -> None:
        data, dtype = images[key]
        volume = from_canonical(np.asarray(data).astype(dtype), original)
        write_volume(job.outputs[key], volume.data, volume.affine)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, images))


def _shown_part(original: Volume, cord: Any) -> Volume:
    """Cut the reference to the surroundings of the cord; as int16 where that loses nothing."""
    part = crop(original, box_around(cord, original.spacing_mm, _SHOWN_MARGIN_MM))
    whole = np.rint(part.data)
    small = bool((whole == part.data).all()) and float(np.abs(whole).max(initial=0)) < 2**15
    return Volume(whole.astype(np.int16) if small else part.data.astype(np.float32), part.affine)


def _write_levels(job: Job, vertebrae: Vertebrae, provenance: Provenance) -> None:
    """Write the table of vertebral levels and its dictionary, the label image's sidecar too."""
    rows = level_rows(vertebrae.levels)
    write_tsv(job.outputs["vertebrae_table"], level_column_names(), rows)
    about = _common(job, provenance) | {
        "Sources": _sources(job, provenance),
        "Type": "ROI",
        "Description": "Spinal cord by vertebral level: 1 is C1, 8 is T1, 20 is L1.",
        "DiscLabels": sorted(vertebrae.axis.discs_mm),
        "Warnings": list(vertebrae.axis.remarks),
    }
    write_json(job.outputs["vertebrae_table_dictionary"], {**about, **level_dictionary()})


def _sources(job: Job, provenance: Provenance) -> list[str]:
    """Name all files that the measures were made from, those of other derivatives too."""
    given = [file for file in (job.cord, job.discs) if file is not None]
    uris = [bids_uri(file.path, file.root, file.dataset) for file in given]
    return [*_common(job, provenance)["Sources"], *uris]


def _sidecars(job: Job, result: SessionResult, provenance: Provenance) -> dict[str, dict[str, Any]]:
    """Build the sidecar of each image."""
    preset = _rules(job, provenance)
    common = _common(job, provenance)
    lesion = common | {"Type": "Lesion"}
    cord = common | {"Type": "ROI"}
    measured = {"Sources": _sources(job, provenance)}
    about = {
        "lesion_probability": lesion | {"Manual": False, **_combination(preset, provenance.model)},
        "uncertainty": lesion
        | {
            "Description": "Binary entropy of the lesion probability (the mean over folds and "
            "mirrorings) in bits; 0 sure, 1 undecided."
        },
        "cord_probability": cord | {"Description": "Probability of spinal cord; 0 to 1."},
        "cord_mask": cord | _cord_mask(job, provenance),
        "instances": lesion | measured | {"Description": "Each lesion with a number of its own."},
        "lesion_mask": lesion
        | measured
        | {"Description": "Lesions.", "Threshold": preset.lesion_limit}
        | _summary(job, result, provenance),
    }
    about["shown"] = {
        "Sources": [_source(job.reference, provenance)],
        "Description": "The reference, cut to the surroundings of the cord; reports show it.",
        "SkullStripped": False,
    }
    alignment = result.prepared.alignment
    if job.second is not None and alignment is not None:
        about["second_preproc"] = common | {
            "Sources": [_source(job.second, provenance), _source(job.reference, provenance)],
            "Description": f"{job.second.contrast} on the grid of the reference.",
            "SkullStripped": False,
            "Registration": _registration(alignment),
        }
        del about["second_preproc"]["Manual"]
    return about


def _rules(job: Job, provenance: Provenance) -> Preset:
    """Give the preset's values for the session's contrasts."""
    return provenance.preset.for_contrast(job.second.contrast if job.second else None)


def _cord_mask(job: Job, provenance: Provenance) -> dict[str, Any]:
    """Say what the cord mask is made from: the network's probability, or a mask that was given."""
    if job.cord is None:
        threshold = _rules(job, provenance).cord_threshold
        return {"Description": "Spinal cord, lesions included.", "Threshold": threshold}
    sources = [
        bids_uri(job.cord.path, job.cord.root, job.cord.dataset),
        *_common(job, provenance)["Sources"],
    ]
    return {
        "Description": "Spinal cord as it was given, with the lesions.",
        "Manual": "manual" in job.cord.path.name,
        "Sources": sources,
    }


def _combination(preset: Preset, model: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the values of the lesion map are: how folds and contrasts made it."""
    votes = preset.combination == "vote"
    about: dict[str, Any] = {"Folds": model["Folds"], "Rule": preset.combination}
    if votes:
        about["FoldThreshold"] = preset.fold_threshold
    if preset.min_votes:
        # As shares: four of five votes and two of two are both at least 0.6.
        about["MinVotes"] = math.ceil(preset.lesion_limit * model["Folds"] - 1e-9)
    about["Contrasts"] = _reading(model)
    if preset.zero_below:
        about["ZeroBelow"] = preset.zero_below
    if preset.min_contrast_peak:
        about["MinContrastPeak"] = preset.min_contrast_peak
    what = "Share of the folds that say lesion" if votes else "Probability of lesion"
    return {"Description": f"{what}; 0 to 1.", "Combination": about}


def _reading(model: Mapping[str, Any]) -> str:
    """Say in words how the contrasts are read."""
    if model["Fusion"] == "early":
        return "read together by one network"
    if model["SecondAlonePenalty"] is None:
        return "each by itself, merged as sum / coverage"
    said = (
        "each by itself, on its own grid; with two, cord put on cord, the higher counts, the "
        f"second's logits lowered by {model['SecondAlonePenalty']:g}"
    )
    if model["ReferenceAlonePenalty"]:
        said += (
            "; what the reference says above one half lowered by "
            f"{model['ReferenceAlonePenalty']:g} logits, to one half at least, where the second "
            "shows the cord and no lesion near"
        )
    return said


def _common(job: Job, provenance: Provenance) -> dict[str, Any]:
    """Build what all sidecars of a session share."""
    scans = [job.reference] + ([job.second] if job.second else [])
    return {
        "Sources": [_source(scan, provenance) for scan in scans],
        "SpatialReference": _source(job.reference, provenance),
        "Manual": False,
        "Model": provenance.model,
        "SoftwareName": "CordLesion",
        "SoftwareVersion": __version__,
        "Device": provenance.device,
        "Precision": provenance.precision,
    }


def _source(scan: Scan, provenance: Provenance) -> str:
    return bids_uri(scan.path, provenance.options.bids_dir, "raw")


def _summary(job: Job, result: SessionResult, provenance: Provenance) -> dict[str, Any]:
    """Build what the group level reads, and what it takes to repeat the session."""
    alignment = result.prepared.alignment
    content: dict[str, Any] = {
        "Summary": {
            "lesion_count": len(result.lesions),
            "lesion_volume_mm3": sum(lesion.volume_mm3 for lesion in result.lesions),
            "cord_volume_mm3": result.cord.volume_mm3,
            "cord_length_mm": result.cord.length_mm,
            "cord_mean_area_mm2": result.cord.mean_area_mm2,
            "cord_ap_diameter_mm": result.cord.ap_diameter_mm,
            "cord_lr_diameter_mm": result.cord.lr_diameter_mm,
            **_regions(result.vertebrae),
            **_expected(result.expected),
        },
        "Quality": dict(result.quality),
        "Contrasts": {
            "reference": job.reference.contrast,
            "second": job.second.contrast if job.second else None,
        },
        "Outputs": provenance.options.outputs,
        "Preset": vars(_rules(job, provenance)),
        "Command": provenance.command,
        "SettingsHash": provenance.settings_hash,
        "Warnings": list(result.warnings),
    }
    if alignment is not None:
        content["Registration"] = _registration(alignment)
    return content


def _regions(vertebrae: Vertebrae | None) -> dict[str, int | None]:
    counts = vertebrae.lesion_counts() if vertebrae else dict.fromkeys(REGIONS)
    return {f"lesion_count_{region}": count for region, count in counts.items()}


def _expected(expected: Expected | None) -> dict[str, float | None]:
    """Give the expected count and volume with their intervals; None without a calibration."""
    count = expected.count if expected else None
    volume = expected.volume_mm3 if expected else None
    return {
        f"expected_lesion_{name}{end}": round(getattr(interval, which), 3) if interval else None
        for name, interval in (("count", count), ("volume_mm3", volume))
        for end, which in (("", "expected"), ("_low", "low"), ("_high", "high"))
    }


def _registration(alignment: Alignment) -> dict[str, Any]:
    """Say how the second contrast was aligned; the matrix maps RAS+ mm of the reference."""
    return {
        "Accepted": alignment.accepted,
        "Metric": alignment.metric,
        "ScoreHeaders": alignment.score_headers,
        "ScoreRegistered": alignment.score_registered,
        "Matrix": np.asarray(alignment.matrix).round(6),
    }
