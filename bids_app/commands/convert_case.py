"""Make one case: read, check, register, merge, write. What a worker of `convert` does.

Images are written to a folder aside (`STAGING`): which of them train and which test is decided when
all are there, so a conversion that was stopped never has a test case among its training images.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

from bids_app import __version__
from bids_app.commands.convert_plan import CasePlan
from bids_app.conversion.merge import count_lesions, merge_labels
from bids_app.dataset.hashes import file_sha256
from bids_app.documents import parse_json
from bids_app.errors import CordLesionError, MissingResource, UnusableMask
from bids_app.files import write_json
from bids_app.imaging.grids import same_places, to_canonical
from bids_app.imaging.volumes import read_label_map, read_volume, write_volume
from bids_app.lesions.preset import load_preset
from bids_app.lesions.refine import refine
from bids_app.pipeline import prepare
from bids_app.records import BoolArray, Prepared, Volume
from bids_app.segmentation.manifest import find_model, read_manifest

if TYPE_CHECKING:
    from bids_app.segmentation.weights import Model

STAGING, RECORDS = "staging", "records"
PLACES = (STAGING, "imagesTr", "labelsTr", "imagesTs", "labelsTs")
"""Folders where a case's files may be."""

log = logging.getLogger("bids_app")


@dataclass(frozen=True)
class Settings:
    """What holds for all cases.

    Attributes
    ----------
    folder : Path
        The nnU-Net dataset.
    cord : str
        ``box`` or ``required``.
    threads : int
        Of each process.
    """

    folder: Path
    cord: str
    threads: int


@dataclass(frozen=True)
class Converted:
    """What became of a case; the only thing that leaves a worker.

    Attributes
    ----------
    identifier : str
    status : str
        ``problem``: something of the case cannot be used; ``failed``: an unexpected error.
    row : mapping
        Of ``cases.tsv``, without the split; empty without a case.
    error : str or None
    """

    identifier: str
    status: Literal["done", "up-to-date", "problem", "failed"]
    row: Mapping[str, Any]
    error: str | None = None


def convert_case(case: CasePlan, settings: Settings) -> Converted:
    """Make a case, or find that it is up to date; what is wrong with it becomes its status."""
    try:
        return _convert(case, settings)
    except MissingResource:
        raise
    except CordLesionError as error:
        return Converted(case.identifier, "problem", {}, str(error))
    except Exception as error:
        log.info("%s failed", case.identifier, exc_info=True)
        return Converted(case.identifier, "failed", {}, f"{type(error).__name__}: {error}")


def find_file(folder: Path, name: str) -> Path | None:
    """Find a case's file wherever it may be, the newest copy first."""
    return next((path for one in PLACES if (path := folder / one / name).is_file()), None)


def read_record(folder: Path, identifier: str) -> dict[str, Any]:
    """Read what an earlier conversion noted of a case; empty where it noted nothing."""
    try:
        document = parse_json((folder / RECORDS / f"{identifier}.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _convert(case: CasePlan, settings: Settings) -> Converted:
    sources = {
        "reference": case.reference.path,
        "second": case.second.path if case.second else None,
        "lesion_label": case.lesion.path,
        "cord_label": case.cord,
    }
    hashes = {name: file_sha256(path) if path else None for name, path in sources.items()}
    inputs_hash = _inputs_hash(case, settings, hashes)
    record = read_record(settings.folder, case.identifier)
    about = _about(case, sources, hashes)
    if record.get("inputs_hash") == inputs_hash and _is_whole(settings.folder, record):
        return Converted(case.identifier, "up-to-date", {**record["row"], **about})
    stored = read_volume(case.reference.path)
    reference = to_canonical(stored)
    instances = _read_mask(case.lesion.path, case.reference.path, reference)
    cord = _read_mask(case.cord, case.reference.path, reference) if case.cord else None
    if cord is not None and not cord.any():
        raise UnusableMask(f"{case.cord} is empty: segment the cord, or remove the file.")
    if cord is None and settings.cord == "required":
        raise UnusableMask(
            f"{case.reference.path.name} has no cord mask beside its lesion label; see --cord."
        )
    second = to_canonical(read_volume(case.second.path)) if case.second else None
    # Without a second contrast nothing is registered, and no network is needed.
    prepared = Prepared((reference, None))
    if second is not None:
        known = None if cord is None else cord != 0
        model = _model(settings.threads)
        prepared = prepare(reference, second, model, known, settings.threads)
    inside = cord != 0 if cord is not None else _find_cord(prepared, settings)
    row = {
        "orientation": "".join(aff2axcodes(stored.affine)),
        **_measures(case, reference, instances, inside),
        "cord_source": "box" if cord is None else "label",
        "registration": _registration(prepared),
    }
    merged = merge_labels(inside, instances != 0)
    outputs = _write(case, settings.folder, prepared, merged)
    document = {"inputs_hash": inputs_hash, "row": row, "outputs": outputs}
    if prepared.alignment:
        document["reference_to_second"] = prepared.alignment.matrix
    write_json(settings.folder / RECORDS / f"{case.identifier}.json", document)
    return Converted(case.identifier, "done", {**row, **about})


def _inputs_hash(case: CasePlan, settings: Settings, hashes: Mapping[str, str | None]) -> str:
    box = read_manifest(find_model(None)).fingerprint
    decides = {
        "version": __version__,
        "sources": hashes,
        "cord": None if case.cord else settings.cord,
        "numbered": case.lesion.kind == "instances",
        "two channels": case.two_channels,
        "box": box if case.second or not case.cord else None,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _is_whole(folder: Path, record: Mapping[str, Any]) -> bool:
    """Tell whether all files of a record are there with the content they were written with."""
    outputs = record.get("outputs", {})
    found = {name: find_file(folder, name) for name in outputs}
    return bool(outputs) and all(
        path is not None and file_sha256(path) == outputs[name] for name, path in found.items()
    )


def _about(
    case: CasePlan, sources: Mapping[str, Path | None], hashes: Mapping[str, str | None]
) -> dict[str, Any]:
    """Give the columns that are known from names."""
    files = {
        name: path.relative_to(case.root).as_posix() if path.is_relative_to(case.root) else path
        for name, path in sources.items()
        if path
    }
    return {
        "case": case.identifier,
        "dataset": case.dataset,
        "participant_id": case.subject,
        "session_id": case.session,
        "site": case.site,
        "contrast": case.contrast,
        "entities": "_".join(f"{k}-{v}" for k, v in case.reference.entities.items()),
        **files,
        **{f"{name}_sha256": digest for name, digest in hashes.items()},
        "rater": case.lesion.rater,
    }


def _read_mask(path: Path, image: Path, reference: Volume) -> NDArray[np.int32]:
    """Read a label map on the reference's grid; another orientation is turned, none resampled."""
    labels = to_canonical(read_label_map(path))
    if labels.data.min(initial=0) < 0:
        raise UnusableMask(f"{path} has negative labels: number lesions from 1.")
    if not same_places(labels, reference):
        shapes = [" x ".join(map(str, one.data.shape)) for one in (labels, reference)]
        raise UnusableMask(
            f"{path} ({shapes[0]}) is not on the voxel grid of {image.name} ({shapes[1]}), not "
            "even in another orientation: resample it (nearest neighbour), or draw it again."
        )
    return np.asarray(labels.data, np.int32)


def _find_cord(prepared: Prepared, settings: Settings) -> BoolArray:
    """Let the model in the box find the cord, refined as in a run."""
    from bids_app.segmentation.inference import segment

    probability = segment(prepared, _model(settings.threads)).cord
    grid = prepared.reference
    nothing = np.zeros(grid.data.shape, np.float32)
    cord = refine(probability, nothing, grid.spacing_mm, load_preset("box")).cord
    if not cord.any():
        raise UnusableMask("The model in the box finds no cord, and there is no cord mask.")
    return cord


@cache
def _model(threads: int) -> Model:
    """Load the box's model, once a process."""
    from bids_app.segmentation.weights import choose_device, limit_threads, load_model

    limit_threads(threads)
    return load_model(find_model(None), choose_device("cpu"))


def _measures(
    case: CasePlan, reference: Volume, instances: NDArray[np.int32], cord: BoolArray
) -> dict[str, Any]:
    lesion = instances != 0
    outside = int(np.count_nonzero(lesion & ~cord))
    remarks = [*case.remarks]
    if outside:
        remarks.append(f"{outside} lesion voxels lie outside the cord mask; they stay lesion")
    if not lesion.any():
        remarks.append("no lesion: the label is empty")
    return {
        **{f"spacing_{x}_mm": s for x, s in zip("xyz", reference.spacing_mm, strict=True)},
        "shape": "x".join(map(str, reference.data.shape)),
        "lesion_count": count_lesions(instances, case.lesion.kind == "instances"),
        "lesion_volume_mm3": np.count_nonzero(lesion) * reference.voxel_mm3,
        "cord_volume_mm3": np.count_nonzero(lesion | cord) * reference.voxel_mm3,
        "lesion_outside_cord_mm3": outside * reference.voxel_mm3,
        "remarks": "; ".join(remarks) or None,
    }


def _registration(prepared: Prepared) -> str | None:
    if prepared.alignment is None:
        return None
    return "registered" if prepared.alignment.accepted else "headers"


def _write(
    case: CasePlan, folder: Path, prepared: Prepared, merged: NDArray[np.uint8]
) -> dict[str, str]:
    """Write channels and label aside; give the SHA-256 of each by its name."""
    affine = prepared.reference.affine
    files: dict[str, NDArray[Any]] = {f"{case.identifier}.nii.gz": merged}
    channels = prepared.channels if case.two_channels else prepared.channels[:1]
    for number, channel in enumerate(channels):
        data = np.zeros(merged.shape, np.int16) if channel is None else _compact(channel.data)
        files[f"{case.identifier}_{number:04d}.nii.gz"] = data
    digests = {}
    for name, data in sorted(files.items()):
        path = folder / STAGING / name
        write_volume(path, data, affine)
        digests[name] = file_sha256(path)
    return digests


def _compact(data: NDArray[Any]) -> NDArray[Any]:
    """Store whole numbers that fit as int16: the same values, a quarter of the time to compress."""
    limits = np.iinfo(np.int16)
    if data.min() >= limits.min and data.max() <= limits.max and (data == np.rint(data)).all():
        return data.astype(np.int16)
    return data
