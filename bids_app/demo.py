"""Write a synthetic BIDS dataset with ground truth: the spines the box's model is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_app import __version__
from bids_app.dataset.atomic import write_json, write_text, write_tsv
from bids_app.errors import UsageError
from bids_app.imaging.volumes import write_volume
from bids_app.records import FloatArray
from bids_app.training.acquisition import Protocol, apply_axes, degrade, slice_matrix
from bids_app.training.anatomy import Spine, draw_lesion, draw_spine
from bids_app.training.contrasts import draw_contrast, render
from bids_app.training.patches import fine_points, visible_lesions
from bids_app.training.structures import Anatomy, paint

Array = FloatArray

_FINE_MM = 0.8
_FIELD_MM = (48.0, 112.0, 168.0)
_SAGITTAL = Protocol("sagittal", (3.0, 0.8, 0.8), (2.8, 0.8, 0.8))
_AXIAL = Protocol("axial", (0.7, 0.7, 5.0), (0.7, 0.7, 4.5))
_ISOTROPIC = Protocol("isotropic", (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
# Noise and artefacts of the demo relative to the training's range.
_DEGRADATION = 0.5


@dataclass(frozen=True)
class _Visit:
    """What one session of the demo is made of."""

    session: str
    first: Protocol
    second: Protocol | None
    contrast: str | None
    name: str | None
    orientation: str
    oblique_deg: float
    new_lesions: int


_COURSES: tuple[tuple[str, tuple[_Visit, ...]], ...] = (
    (
        "MS",
        (
            _Visit("M0", _SAGITTAL, _SAGITTAL, "STIR", "acq-STIR_T2w", "PSR", 0.0, 3),
            _Visit("M12", _SAGITTAL, _ISOTROPIC, "PSIR", "PSIR", "PIR", 0.0, 1),
        ),
    ),
    ("MS", (_Visit("M0", _AXIAL, _ISOTROPIC, "UNIT1", "UNIT1", "LPS", 7.0, 4),)),
    ("MS", (_Visit("M0", _ISOTROPIC, None, None, None, "RAS", 0.0, 3),)),
    ("control", (_Visit("M0", _SAGITTAL, _SAGITTAL, "STIR", "acq-STIR_T2w", "PSR", 0.0, 0),)),
)


def write_demo(folder: Path, subjects: int = 4, seed: int = 1) -> None:
    """Write the demo dataset.

    Parameters
    ----------
    folder : Path
        Must be empty or not exist yet.
    subjects : int
        From the third on they repeat the courses of the first four with other spines.
    seed : int
        The same seed gives the same images.

    Raises
    ------
    UsageError
        The folder has something in it, or there are fewer than one subjects.
    """
    if subjects < 1:
        raise UsageError(f"--subjects {subjects} is too few: give 1 or more.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty; give a new folder or remove it first.")
    truth = folder / "derivatives" / "ground-truth"
    people = []
    for index in range(subjects):
        group, visits = _COURSES[index % len(_COURSES)]
        label = f"{index + 1:02d}"
        rng = np.random.default_rng((seed, index))
        people.append(
            {
                "participant_id": f"sub-{label}",
                "group": group,
                "age": int(rng.integers(22, 60)),
                "sex": str(rng.choice(["F", "M"])),
            }
        )
        for visit, images in zip(visits, _follow(rng, visits), strict=True):
            _write_visit(folder, truth, label, visit, images)
    _write_dataset_files(folder, truth, people)


@dataclass(frozen=True)
class _Images:
    """Volumes of one visit, each with its affine."""

    first: tuple[Array, Array]
    second: tuple[Array, Array] | None
    matrix: Array
    cord: NDArray[np.bool_]
    lesion: NDArray[np.bool_]


def _follow(rng: np.random.Generator, visits: tuple[_Visit, ...]) -> Iterator[_Images]:
    """Image one person at each visit: the same spine, older lesions kept, new ones added."""
    spine = draw_spine(rng, 0)
    height = float(rng.uniform(-150, -95))
    low, high = height - _FIELD_MM[2] * 0.4, height + _FIELD_MM[2] * 0.4
    for visit in visits:
        visible = 0.85 if visit.second else 1.0
        new = tuple(draw_lesion(rng, low, high, visible) for _ in range(visit.new_lesions))
        spine = replace(spine, lesions=spine.lesions + new)
        yield _image(rng, spine, height, visit)


def _image(rng: np.random.Generator, spine: Spine, height: float, visit: _Visit) -> _Images:
    """Put a person in the scanner: pose, both contrasts on their own grids, ground truth."""
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = Rotation.from_euler("xyz", rng.normal(0, 3, 3), degrees=True).as_matrix()
    center = [spine.at("center_x", height), spine.at("center_y", height) + 6, height]
    pose[:3, 3] = np.array(center) + rng.normal(0, 2, 3)
    shape = tuple(int(mm / _FINE_MM) + 30 for mm in _FIELD_MM)
    anatomy = paint(spine, fine_points((shape[0], shape[1], shape[2]), _FINE_MM, pose), _FINE_MM)
    fine = _affine((_FINE_MM,) * 3, anatomy.shape)
    first = _acquire(rng, anatomy, fine, visit.first, 0, "T2w", np.eye(4))
    matrix = _known_displacement(rng)
    second = None
    if visit.second is not None:
        second = _acquire(rng, anatomy, fine, visit.second, 1, visit.contrast, matrix)
    present = (True, visit.second is not None)
    regions = np.stack([anatomy.cord, visible_lesions(anatomy, present)])
    regions = apply_axes(regions, _rows(anatomy, visit.first))
    lesion = regions[1] > 0.42
    return _Images(first, second, matrix, (regions[0] > 0.5) | lesion, lesion)


def _known_displacement(rng: np.random.Generator) -> Array:
    """From reference to second contrast, RAS+ mm: a few millimetres and degrees."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-4, 4, 3), degrees=True).as_matrix()
    matrix[:3, 3] = rng.uniform(-4, 4, 3)
    return np.asarray(matrix, np.float32)


def _affine(spacing_mm: tuple[float, ...], shape: tuple[int, ...]) -> Array:
    """RAS+ affine of a grid centred on the world's origin."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True)]
    return np.asarray(affine, np.float32)


def _shape(protocol: Protocol) -> tuple[int, int, int]:
    x, y, z = (max(2, round(mm / s)) for mm, s in zip(_FIELD_MM, protocol.spacing_mm, strict=True))
    return x, y, z


def _rows(anatomy: Anatomy, protocol: Protocol) -> tuple[Array, Array, Array]:
    """Acquisition matrices from the fine grid to a protocol's."""
    x, y, z = (
        slice_matrix(_axis(n, _FINE_MM), _axis(m, s), t)
        for n, m, s, t in zip(
            anatomy.shape, _shape(protocol), protocol.spacing_mm, protocol.thickness_mm, strict=True
        )
    )
    return x, y, z


def _axis(count: int, spacing_mm: float) -> Array:
    return np.asarray((np.arange(count) - (count - 1) / 2) * spacing_mm, np.float32)


def _acquire(
    rng: np.random.Generator,
    anatomy: Anatomy,
    fine: Array,
    protocol: Protocol,
    channel: int,
    name: str | None,
    matrix: NDArray[Any],
) -> tuple[Array, Array]:
    """Image the anatomy, displaced by `matrix`, on a protocol's grid; as scaled integers."""
    contrast = draw_contrast(rng, channel, name)
    signal = render(anatomy, contrast, channel, rng)
    if not np.allclose(matrix, np.eye(4)):
        to_index = np.linalg.inv(fine) @ np.linalg.inv(matrix) @ fine
        signal = ndimage.affine_transform(signal, to_index, order=1, mode="nearest")
    image = apply_axes(signal, _rows(anatomy, protocol))
    image = degrade(image, protocol, rng, contrast.noise_floor, _DEGRADATION)
    return image, _affine(protocol.spacing_mm, image.shape)


def _write_visit(folder: Path, truth: Path, label: str, visit: _Visit, images: _Images) -> None:
    """Write one session: raw images and their ground truth."""
    stem = f"sub-{label}_ses-{visit.session}"
    place = Path(f"sub-{label}", f"ses-{visit.session}", "anat")
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_euler("x", visit.oblique_deg, degrees=True).as_matrix()
    _write_raw(folder / place / f"{stem}_T2w.nii.gz", images.first, visit, tilt, "T2w")
    known = folder / "derivatives" / "ground-truth" / place
    for name, mask in (("cord", images.cord), ("lesion", images.lesion)):
        path = known / f"{stem}_label-{name}_mask.nii.gz"
        _write_oriented(path, mask.astype(np.uint8), images.first[1], visit, tilt)
        kind = "Lesion" if name == "lesion" else "ROI"
        _write_truth_sidecar(path, kind, place, stem)
    instances, _ = ndimage.label(images.lesion, ndimage.generate_binary_structure(3, 2))
    path = known / f"{stem}_seg-lesions_dseg.nii.gz"
    _write_oriented(path, instances.astype(np.int16), images.first[1], visit, tilt)
    _write_truth_sidecar(path, "Lesion", place, stem)
    if images.second is not None and visit.contrast is not None:
        raw = folder / place / f"{stem}_{visit.name}.nii.gz"
        _write_raw(raw, images.second, visit, tilt, visit.contrast)
        matrix = tilt @ images.matrix @ np.linalg.inv(tilt)
        about = {"Description": "From RAS+ mm of the T2w to RAS+ mm of the second contrast.",
                 "Matrix": matrix.round(6)}  # fmt: skip
        write_json(
            truth / place / f"{stem}_from-T2w_to-{visit.contrast}_mode-image_xfm.json", about
        )


def _write_raw(
    path: Path, image: tuple[Array, Array], visit: _Visit, tilt: NDArray[Any], contrast: str
) -> None:
    data, affine = image
    low = min(0.0, float(data.min()))
    integers = np.clip((data - low) * 800, 0, 32000).astype(np.int16)
    _write_oriented(path, integers, affine, visit, tilt)
    about = {
        "Manufacturer": "Synthetic",
        "MagneticFieldStrength": 3,
        "ProtocolName": f"synthetic {contrast}",
    }
    write_json(path.with_name(path.name.replace(".nii.gz", ".json")), about)


def _write_oriented(
    path: Path, data: NDArray[Any], affine: Array, visit: _Visit, tilt: NDArray[Any]
) -> None:
    """Store an RAS array in the visit's orientation and obliquity, as scanners do."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(visit.orientation))
    stored = apply_orientation(data, turn)
    world = tilt @ affine.astype(float) @ inv_ornt_aff(turn, data.shape)
    write_volume(path, np.ascontiguousarray(stored), world)


def _write_truth_sidecar(path: Path, kind: str, place: Path, stem: str) -> None:
    reference = f"bids:raw:{place.as_posix()}/{stem}_T2w.nii.gz"
    write_json(
        path.with_name(path.name.replace(".nii.gz", ".json")),
        {
            "Type": kind,
            "Manual": False,
            "Description": "Known from how the image was made.",
            "Sources": [reference],
            "SpatialReference": reference,
        },
    )


def _write_dataset_files(folder: Path, truth: Path, people: list[dict[str, Any]]) -> None:
    """Write descriptions, participants and README."""
    authors = ["CordLesion", "CordLesion contributors"]
    made_by = [{"Name": "CordLesion", "Version": __version__}]
    write_json(
        folder / "dataset_description.json",
        {
            "Name": "CordLesion demo: synthetic spines",
            "BIDSVersion": "1.10.0",
            "DatasetType": "raw",
            "License": "CC0",
            "Authors": authors,
            "GeneratedBy": made_by,
        },
    )
    write_json(
        truth / "dataset_description.json",
        {
            "Name": "CordLesion demo: ground truth",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "License": "CC0",
            "Authors": authors,
            "GeneratedBy": made_by,
            "DatasetLinks": {"raw": "../.."},
        },
    )
    text = "Synthetic spinal cords, made by CordLesion. No person was scanned for any image here.\n"
    write_text(folder / "README.md", f"# CordLesion demo\n\n{text}")
    write_text(truth / "README.md", f"# Ground truth of the CordLesion demo\n\n{text}")
    write_text(folder / ".bidsignore", "*_STIR.*\n*_PSIR.*\n")
    write_text(truth / ".bidsignore", "*_xfm.*\n")
    write_tsv(folder / "participants.tsv", ["participant_id", "group", "age", "sex"], people)
    write_json(
        folder / "participants.json",
        {
            "group": {
                "Description": "Course of the disease",
                "Levels": {"MS": "multiple sclerosis", "control": "no lesion"},
            },
            "age": {"Description": "Age, drawn at random", "Units": "year"},
            "sex": {"Description": "Sex, drawn at random", "Levels": {"F": "female", "M": "male"}},
        },
    )
