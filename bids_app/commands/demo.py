"""Write a synthetic BIDS dataset with ground truth: the spines the box's model is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_app import __version__
from bids_app.commands.demo_course import RECIPE, SESSIONS, follow_known
from bids_app.errors import UsageError
from bids_app.files import write_json, write_text, write_tsv
from bids_app.imaging.volumes import write_volume
from bids_app.records import FloatArray
from bids_app.training.anatomy import draw_lesion, draw_spine
from bids_app.training.session import (
    AXIAL,
    FIELD_MM,
    ISOTROPIC,
    SAGITTAL,
    Imaged,
    Recipe,
    image_session,
)

Array = FloatArray


@dataclass(frozen=True)
class _Visit:
    """What one session of the demo is made of."""

    session: str
    recipe: Recipe
    name: str | None
    orientation: str
    oblique_deg: float
    new_lesions: int


_COURSES: tuple[tuple[str, tuple[_Visit, ...]], ...] = (
    (
        "MS",
        (
            _Visit("M0", Recipe(SAGITTAL, SAGITTAL, "STIR"), "acq-STIR_T2w", "PSR", 0.0, 3),
            _Visit("M12", Recipe(SAGITTAL, ISOTROPIC, "PSIR"), "PSIR", "PIR", 0.0, 1),
        ),
    ),
    ("MS", (_Visit("M0", Recipe(AXIAL, ISOTROPIC, "UNIT1"), "UNIT1", "LPS", 7.0, 4),)),
    ("MS", (_Visit("M0", Recipe(ISOTROPIC, None, None), None, "RAS", 0.0, 3),)),
    ("control", (_Visit("M0", Recipe(SAGITTAL, SAGITTAL, "STIR"), "acq-STIR_T2w", "PSR", 0.0, 0),)),
)


_FOLLOWED = _Visit("", RECIPE, None, "RAS", 0.0, 0)
"""The last course is one of three sessions with known change, see `demo_course`."""


def write_demo(folder: Path, subjects: int = 5, seed: int = 1) -> None:
    """Write the demo dataset.

    Parameters
    ----------
    folder : Path
        Must be empty or not exist yet.
    subjects : int
        From the sixth on they repeat the courses of the first five with other spines.
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
        course = index % (len(_COURSES) + 1)
        group, visits = _COURSES[course] if course < len(_COURSES) else ("MS", ())
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
        if not visits:
            _write_course(folder, truth, label, rng)
    _write_dataset_files(folder, truth, people)


def _follow(rng: np.random.Generator, visits: tuple[_Visit, ...]) -> Iterator[Imaged]:
    """Image one person at each visit: the same spine, older lesions kept, new ones added."""
    spine = draw_spine(rng, 0)
    height = float(rng.uniform(-150, -95))
    low, high = height - FIELD_MM[2] * 0.4, height + FIELD_MM[2] * 0.4
    for visit in visits:
        visible = (0.85, 0.85) if visit.recipe.second else (1.0, 1.0)
        new = tuple(draw_lesion(rng, low, high, visible) for _ in range(visit.new_lesions))
        spine = replace(spine, lesions=spine.lesions + new)
        yield image_session(rng, spine, height, visit.recipe)


def _write_visit(folder: Path, truth: Path, label: str, visit: _Visit, images: Imaged) -> None:
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
    path = known / f"{stem}_label-discs_dlabel.nii.gz"
    _write_oriented(path, _disc_labels(images), images.first[1], visit, tilt)
    _write_truth_sidecar(path, "ROI", place, stem)
    instances, _ = ndimage.label(images.lesion, ndimage.generate_binary_structure(3, 2))
    path = known / f"{stem}_seg-lesions_dseg.nii.gz"
    _write_oriented(path, instances.astype(np.int16), images.first[1], visit, tilt)
    _write_truth_sidecar(path, "Lesion", place, stem)
    if images.second is not None and visit.recipe.contrast is not None:
        raw = folder / place / f"{stem}_{visit.name}.nii.gz"
        _write_raw(raw, images.second, visit, tilt, visit.recipe.contrast)
        matrix = tilt @ images.matrix @ np.linalg.inv(tilt)
        about = {"Description": "From RAS+ mm of the T2w to RAS+ mm of the second contrast.",
                 "Matrix": matrix.round(6)}  # fmt: skip
        write_json(
            truth / place / f"{stem}_from-T2w_to-{visit.recipe.contrast}_mode-image_xfm.json", about
        )


def _disc_labels(images: Imaged) -> NDArray[np.uint8]:
    """Mark each disc in the field of view by one voxel of its number."""
    data, affine = images.first
    labels = np.zeros(data.shape, dtype=np.uint8)
    to_voxel = np.linalg.inv(affine.astype(float))
    for number, point in images.discs.items():
        voxel = np.rint(to_voxel[:3, :3] @ point + to_voxel[:3, 3]).astype(int)
        if (voxel >= 0).all() and (voxel < data.shape).all():
            labels[tuple(voxel)] = number
    return labels


def _write_course(folder: Path, truth: Path, label: str, rng: np.random.Generator) -> None:
    """Write the three sessions of known change, and what became of each lesion."""
    rows: list[Mapping[str, Any]] = []
    for known in follow_known(rng):
        _write_visit(folder, truth, label, replace(_FOLLOWED, session=known.session), known.images)
        rows += known.rows
        name = f"sub-{label}_ses-{known.session}_from-T2w_to-ses{SESSIONS[0]}_mode-image_xfm.json"
        about = {"Description": f"From RAS+ mm of ses-{SESSIONS[0]} to RAS+ mm of this session.",
                 "Matrix": known.from_first.round(6)}  # fmt: skip
        write_json(truth / f"sub-{label}" / f"ses-{known.session}" / "anat" / name, about)
    path = truth / f"sub-{label}" / f"sub-{label}_lesions.tsv"
    write_tsv(path, ["lesion_id", "session_id", "index", "change"], rows)
    write_json(path.with_suffix(".json"), {
        "lesion_id": {"Description": "Number of the lesion in its subject."},
        "session_id": {"Description": "Session, in the order of time."},
        "index": {"Description": "Its value in the session's label image; n/a when not there."},
        "change": {"Description": "What became of it since the session before."},
    })  # fmt: skip


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
    write_text(truth / ".bidsignore", "*_xfm.*\n*_dlabel.*\n*_lesions.*\n")
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
