"""Datasets' faults, each a function that spoils one session of an otherwise good dataset.

A case gets a folder that already holds a good session and changes it; what the app must then say
is registered with it. ``failed`` cases must end in one sentence, ``done`` cases in results, with
or without a warning.
"""

# nibabel ships as typed, but most of its functions are not.
# mypy: allow-untyped-calls

from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np


@dataclass(frozen=True)
class Place:
    """A session to spoil.

    Attributes
    ----------
    t2w, second : Path
        Good images; `second` is a STIR.
    anat : Path
        Their folder.
    given : Path
        The folder of other derivatives for this subject (cord masks, disc labels); empty.
    cord : ndarray
        The true cord on the T2w's grid.
    name : str
        What the session's files begin with.
    """

    t2w: Path
    second: Path
    anat: Path
    given: Path
    cord: Any
    name: str


@dataclass(frozen=True)
class Case:
    """A fault and what must become of it.

    Attributes
    ----------
    spoil : callable
    status : str
        ``failed``, ``done``, or ``any`` where either is honest, as long as it is said.
    says : str
        Regular expression for the sentence (of an error or a warning); empty: nothing is asked.
    """

    spoil: Callable[[Place], None]
    status: str
    says: str = ""


CASES: dict[str, Case] = {}


def case(
    status: str, says: str = ""
) -> Callable[[Callable[[Place], None]], Callable[[Place], None]]:
    """Register a case under the name of its function."""

    def register(spoil: Callable[[Place], None]) -> Callable[[Place], None]:
        CASES[spoil.__name__.replace("_", "")] = Case(spoil, status, says)
        return spoil

    return register


def _load(path: Path) -> tuple[Any, Any]:
    image = nib.load(path)
    return np.asarray(image.dataobj, np.float32), image.affine


def _save(path: Path, data: Any, affine: Any) -> None:
    nib.save(nib.Nifti1Image(data, affine), path)


def _header(path: Path, offset: int, content: bytes) -> None:
    """Overwrite bytes of the header, below everything that a library would check."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[offset : offset + len(content)] = content
    path.write_bytes(gzip.compress(bytes(raw), 1))


# --- files that are no whole image ------------------------------------------------------------


@case("failed", "truncated or corrupt")
def truncated_gzip(place: Place) -> None:
    """A copy that was interrupted."""
    content = place.t2w.read_bytes()
    place.t2w.write_bytes(content[: len(content) // 2])


@case("failed", "truncated or corrupt")
def corrupt_gzip(place: Place) -> None:
    """A bad block in the middle."""
    content = bytearray(place.t2w.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    place.t2w.write_bytes(bytes(content))


@case("failed", "truncated or corrupt")
def gzip_checksum(place: Place) -> None:
    """All voxels there, but not those that were compressed."""
    content = bytearray(place.t2w.read_bytes())
    content[-8] ^= 0xFF
    place.t2w.write_bytes(bytes(content))


@case("failed", "0 bytes")
def zero_bytes(place: Place) -> None:
    """A file that was created and never filled."""
    place.t2w.write_bytes(b"")


@case("failed", "0 bytes|truncated|not a single-file NIfTI")
def gzip_of_nothing(place: Place) -> None:
    """A compressed empty file."""
    place.t2w.write_bytes(gzip.compress(b""))


@case("failed", "wrong magic")
def wrong_magic(place: Place) -> None:
    """Another format under this name."""
    _header(place.t2w, 344, b"XXXX")


@case("failed", "wrong magic")
def html_error_page(place: Place) -> None:
    """What a download portal sent instead of the file."""
    place.t2w.write_bytes(b"<!DOCTYPE html><html><body>403 <script>x</script></body></html>")


@case("failed", "wrong magic")
def two_file_nifti(place: Place) -> None:
    """The header half of an .hdr/.img pair."""
    _header(place.t2w, 344, b"ni1\x00")


@case("failed", "truncated")
def huge_without_data(place: Place) -> None:
    """A header of 1024 cubed with no voxels behind it."""
    _header(place.t2w, 40, struct.pack("<8h", 3, 1024, 1024, 1024, 1, 1, 1, 1))


@case("failed", "promises|larger than|truncated or corrupt")
def gzip_bomb(place: Place) -> None:
    """A gigabyte of zeros behind a small image."""
    bomb = gzip.compress(bytes(1 << 26), 9)
    content = gzip.decompress(place.t2w.read_bytes())
    place.t2w.write_bytes(gzip.compress(content, 1) + bomb * 64)


@case("any", "header|truncated")
def extension_beyond_file(place: Place) -> None:
    """A header extension that says it is 300 MB long."""
    raw = bytearray(gzip.decompress(place.t2w.read_bytes()))
    raw[348:352] = bytes([1, 0, 0, 0])
    raw[352:360] = struct.pack("<2i", 300_000_000, 4)
    struct.pack_into("<f", raw, 108, 300_000_352.0)
    place.t2w.write_bytes(gzip.compress(bytes(raw), 1))


@case("done")
def extension_of_30_megabytes(place: Place) -> None:
    """A long but whole header extension, as some converters write it."""
    image = nib.load(place.t2w)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 30_000_000))
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), place.t2w)


@case("failed", "header|truncated")
def offset_beyond_file(place: Place) -> None:
    """Voxels that begin behind the end."""
    _header(place.t2w, 108, struct.pack("<f", 1e9))


@case("failed", "header|truncated|offset")
def offset_negative(place: Place) -> None:
    """Voxels that begin before the file."""
    _header(place.t2w, 108, struct.pack("<f", -400.0))


@case("failed", "header|truncated|offset")
def offset_not_a_number(place: Place) -> None:
    """Voxels that begin nowhere."""
    _header(place.t2w, 108, struct.pack("<f", float("nan")))


@case("failed", "header|three-dimensional|truncated")
def dimensions_negative(place: Place) -> None:
    """A shape below nothing."""
    _header(place.t2w, 40, struct.pack("<8h", 3, -16, -20, 30, 1, 1, 1, 1))


@case("failed", "header|three-dimensional")
def dimensions_nine(place: Place) -> None:
    """More axes than the format has."""
    _header(place.t2w, 40, struct.pack("<h", 9))


@case("failed", "header|three-dimensional")
def dimensions_none(place: Place) -> None:
    """No axis."""
    _header(place.t2w, 40, struct.pack("<h", 0))


@case("failed", "header|type")
def datatype_unknown(place: Place) -> None:
    """A voxel type that nobody defined."""
    _header(place.t2w, 70, struct.pack("<h", 4242))


@case("failed", "not here|datalad get")
def annex_link_dangling(place: Place) -> None:
    """A DataLad dataset whose content was not fetched."""
    place.t2w.unlink()
    place.t2w.symlink_to("../../.git/annex/objects/Xx/Yy/MD5E-s1--0.nii.gz")


@case("failed", "cannot be opened|No session|no T2w|T2w")
def link_to_itself(place: Place) -> None:
    """A loop of links."""
    place.t2w.unlink()
    place.t2w.symlink_to(place.t2w.name)


@case("failed", "regular file|cannot be opened|T2w")
def named_pipe(place: Place) -> None:
    """Something that never ends being read."""
    place.t2w.unlink()
    os.mkfifo(place.t2w)


@case("failed", "cannot be opened|T2w|regular file")
def folder_of_that_name(place: Place) -> None:
    """A folder where the image should be."""
    place.t2w.unlink()
    place.t2w.mkdir()
    (place.t2w / "image.nii.gz").write_bytes(b"x")


# --- images that hold nothing to segment ------------------------------------------------------


@case("failed", "not finite")
def all_nan(place: Place) -> None:
    """Nothing but NaN."""
    data, affine = _load(place.t2w)
    _save(place.t2w, np.full_like(data, np.nan), affine)


@case("failed", "not finite")
def all_infinite(place: Place) -> None:
    """Nothing but infinity."""
    data, affine = _load(place.t2w)
    _save(place.t2w, np.full_like(data, np.inf), affine)


@case("failed", "same value everywhere")
def all_zero(place: Place) -> None:
    """Black."""
    data, affine = _load(place.t2w)
    _save(place.t2w, np.zeros_like(data), affine)


@case("failed", "same value everywhere")
def constant(place: Place) -> None:
    """Grey."""
    data, affine = _load(place.t2w)
    _save(place.t2w, np.full_like(data, 37.0), affine)


@case("failed", "series of volumes")
def series(place: Place) -> None:
    """Five volumes."""
    data, affine = _load(place.t2w)
    _save(place.t2w, np.stack([data] * 5, axis=-1).astype(np.int16), affine)


@case("failed", "colours")
def colours(place: Place) -> None:
    """A screenshot."""
    data, affine = _load(place.t2w)
    rgb = np.zeros(data.shape, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    rgb["R"] = np.clip(data, 0, 255)
    _save(place.t2w, rgb, affine)


@case("failed", "complex")
def complex_numbers(place: Place) -> None:
    """Raw data of the scanner."""
    data, affine = _load(place.t2w)
    _save(place.t2w, data.astype(np.complex64), affine)


@case("failed", "three-dimensional")
def single_slice(place: Place) -> None:
    """Two axes."""
    data, affine = _load(place.t2w)
    _save(place.t2w, data[:, :, 0], affine)


@case("failed", "three-dimensional")
def axis_of_one(place: Place) -> None:
    """A localiser: one sagittal slice."""
    data, affine = _load(place.t2w)
    _save(place.t2w, data[8:9], affine)


@case("any", "cord")
def two_slices(place: Place) -> None:
    """As few as there can be."""
    data, affine = _load(place.t2w)
    _save(place.t2w, data[7:9], affine)


@case("failed", "No spinal cord")
def noise_alone(place: Place) -> None:
    """The coil was not plugged in."""
    data, affine = _load(place.t2w)
    _save(place.t2w, np.random.default_rng(1).normal(100, 20, data.shape).astype("f4"), affine)


@case("failed", "No spinal cord")
def brain_instead(place: Place) -> None:
    """An ellipsoid with a cortex and two ventricles."""
    data, affine = _load(place.t2w)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in data.shape], indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    brain = np.where(radius < 0.9, 300.0, 20.0) + np.where(radius < 0.75, 120.0, 0)
    for side in (-0.25, 0.25):
        off = np.sqrt(((grid[0] - side) * 3) ** 2 + grid[1] ** 2 + (grid[2] * 2) ** 2)
        brain += np.where(off < 0.4, 400.0, 0)
    brain += np.random.default_rng(2).normal(0, 8, data.shape)
    _save(place.t2w, brain.astype("f4"), affine)


# --- images whose header lies -----------------------------------------------------------------


@case("failed", "no valid affine|voxels of")
def affine_singular(place: Place) -> None:
    """Rows of zeros, and voxels without a size."""
    _header(place.t2w, 280, bytes(48))
    _header(place.t2w, 252, struct.pack("<2h", 0, 1))
    _header(place.t2w, 80, bytes(12))


@case("done")
def affine_nan(place: Place) -> None:
    """An sform of NaN beside a good qform."""
    _header(place.t2w, 280, struct.pack("<12f", *[float("nan")] * 12))


@case("failed", "no valid affine|voxels of")
def zooms_zero(place: Place) -> None:
    """Neither form, and voxels without a size."""
    _header(place.t2w, 252, struct.pack("<2h", 0, 0))
    _header(place.t2w, 80, bytes(12))


@case("any")
def zooms_negative(place: Place) -> None:
    """Voxel sizes below zero, and no form."""
    _header(place.t2w, 252, struct.pack("<2h", 0, 0))
    _header(place.t2w, 80, struct.pack("<3f", -3.0, -0.8, -0.8))


@case("failed", "metres")
def metres(place: Place) -> None:
    """A header in metres."""
    data, affine = _load(place.t2w)
    image = nib.Nifti1Image(data, np.diag([1e-3, 1e-3, 1e-3, 1]) @ affine)
    image.header.set_xyzt_units("meter")
    nib.save(image, place.t2w)


@case("failed", "voxels of")
def voxels_of_a_metre(place: Place) -> None:
    """Voxels as large as a person."""
    data, affine = _load(place.t2w)
    _save(place.t2w, data, np.diag([1e3, 1e3, 1e3, 1]) @ affine)


@case("done")
def forms_disagree(place: Place) -> None:
    """An sform that was moved by 40 mm, a qform that was not."""
    image = nib.load(place.t2w)
    moved = image.affine.copy()
    moved[:3, 3] += 40
    image.set_qform(image.affine, 1)
    image.set_sform(moved, 1)
    nib.save(image, place.t2w)


@case("done")
def sheared(place: Place) -> None:
    """An affine with a shear of ten degrees, as a tilted gantry gives."""
    data, affine = _load(place.t2w)
    shear = np.eye(4)
    shear[1, 2] = 0.17
    _save(place.t2w, data, affine @ shear)


@case("done")
def oblique(place: Place) -> None:
    """Turned by forty degrees around the left-right axis."""
    data, affine = _load(place.t2w)
    c, s = np.cos(0.7), np.sin(0.7)
    turn = np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1.0]])
    _save(place.t2w, data, turn @ affine)


@case("done")
def big_endian(place: Place) -> None:
    """Bytes the other way round."""
    image = nib.load(place.t2w)
    header = image.header.as_byteswapped()
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, header), place.t2w)


@case("done")
def nifti_2(place: Place) -> None:
    """The younger format."""
    data, affine = _load(place.t2w)
    nib.save(nib.Nifti2Image(data, affine), place.t2w)


@case("done")
def plain_under_gz(place: Place) -> None:
    """Not compressed, whatever its name says."""
    place.t2w.write_bytes(gzip.decompress(place.t2w.read_bytes()))


@case("done")
def slope_zero(place: Place) -> None:
    """A scale of nothing."""
    _header(place.t2w, 112, struct.pack("<2f", 0.0, 0.0))


@case("done")
def slope_nan(place: Place) -> None:
    """A scale that is no number."""
    _header(place.t2w, 112, struct.pack("<2f", float("nan"), float("nan")))


@case("any", "same value|not finite")
def slope_huge(place: Place) -> None:
    """A scale beyond single precision."""
    _header(place.t2w, 112, struct.pack("<2f", 3e38, 0.0))


@case("done")
def some_nan(place: Place) -> None:
    """A tenth of the voxels is NaN, as after masking."""
    data, affine = _load(place.t2w)
    data[:, : data.shape[1] // 10] = np.nan
    _save(place.t2w, data, affine)


@case("done")
def some_infinite(place: Place) -> None:
    """A few hot voxels."""
    data, affine = _load(place.t2w)
    data.ravel()[:: data.size // 50] = np.inf
    _save(place.t2w, data, affine)


@case("any", "not finite|same value|No spinal cord")
def huge_values(place: Place) -> None:
    """Double precision, one voxel in a thousand at 1e300."""
    data, affine = _load(place.t2w)
    data = data.astype(np.float64)
    data.ravel()[::1000] = 1e300
    _save(place.t2w, data, affine)


@case("done")
def negative_intensities(place: Place) -> None:
    """Shifted below zero, as an unsigned type read as signed."""
    data, affine = _load(place.t2w)
    _save(place.t2w, (data - 2000).astype(np.int16), affine)


@case("any", "cord")
def upside_down(place: Place) -> None:
    """The header says that up is down."""
    data, affine = _load(place.t2w)
    _save(place.t2w, data, np.diag([1, 1, -1, 1]) @ affine)


@case("done")
def mirrored(place: Place) -> None:
    """The header says that left is right."""
    data, affine = _load(place.t2w)
    _save(place.t2w, data, np.diag([-1, 1, 1, 1]) @ affine)


@case("done")
def axes_permuted(place: Place) -> None:
    """Stored inferior-left-anterior, honestly."""
    image = nib.load(place.t2w)
    target = nib.orientations.axcodes2ornt("ILA")
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), target)
    nib.save(image.as_reoriented(turn), place.t2w)


# --- the second contrast ----------------------------------------------------------------------


@case("failed", "truncated or corrupt")
def second_truncated(place: Place) -> None:
    """The second contrast was not copied whole."""
    place.second.write_bytes(place.second.read_bytes()[:5000])


@case("failed", "same value everywhere")
def second_black(place: Place) -> None:
    """The second contrast is empty."""
    data, affine = _load(place.second)
    _save(place.second, np.zeros_like(data), affine)


@case("done", "registration rejected|does not overlap|overlap")
def second_elsewhere(place: Place) -> None:
    """A second contrast half a metre away: another body part."""
    data, affine = _load(place.second)
    affine = affine.copy()
    affine[:3, 3] += (0, 0, 500)
    _save(place.second, data, affine)


@case("done", "registration rejected|overlap")
def second_is_noise(place: Place) -> None:
    """A second contrast without a spine."""
    data, affine = _load(place.second)
    _save(place.second, np.random.default_rng(3).normal(9, 2, data.shape).astype("f4"), affine)


@case("done")
def second_mirrored(place: Place) -> None:
    """Left and right exchanged in the second contrast."""
    data, affine = _load(place.second)
    _save(place.second, np.ascontiguousarray(data[::-1]), affine)


@case("done")
def second_upside_down(place: Place) -> None:
    """The second contrast stands on its head."""
    data, affine = _load(place.second)
    _save(place.second, np.ascontiguousarray(data[:, :, ::-1]), affine)


@case("done")
def second_link_dangling(place: Place) -> None:
    """Only an axial second contrast that was not fetched, beside a good one."""
    (place.anat / f"{place.name}_acq-ax_STIR.nii.gz").symlink_to("nowhere.nii.gz")


# --- what lies beside the images --------------------------------------------------------------


@case("done")
def sidecar_not_json(place: Place) -> None:
    """A sidecar that breaks off."""
    place.t2w.with_name(place.t2w.name.replace(".nii.gz", ".json")).write_text('{"EchoTime": ')


@case("done")
def sidecar_not_utf8(place: Place) -> None:
    """A sidecar in Latin-1."""
    path = place.t2w.with_name(place.t2w.name.replace(".nii.gz", ".json"))
    path.write_bytes('{"InstitutionName": "Universität"}'.encode("latin-1"))


@case("done")
def sidecar_list(place: Place) -> None:
    """A sidecar that is a list."""
    place.t2w.with_name(place.t2w.name.replace(".nii.gz", ".json")).write_text("[1, 2]")


@case("done")
def sidecar_with_script(place: Place) -> None:
    """HTML, a formula and terminal escapes in the fields of a sidecar."""
    path = place.t2w.with_name(place.t2w.name.replace(".nii.gz", ".json"))
    canary = "<script>document.title='owned'</script>"
    fields = {"SeriesDescription": canary, "PatientID": "=1+1", "Manufacturer": "\x1b[31mred"}
    path.write_text(json.dumps(fields))


@case("done")
def repeated_scan(place: Place) -> None:
    """Two runs of the T2w; the later one counts."""
    content = place.t2w.read_bytes()
    place.t2w.unlink()
    for run in ("1", "2"):
        (place.anat / f"{place.name}_run-{run}_T2w.nii.gz").write_bytes(content)


@case("failed", "T2w")
def no_reference(place: Place) -> None:
    """A session with a second contrast only."""
    place.t2w.unlink()


@case("done")
def no_second(place: Place) -> None:
    """A session with a T2w only."""
    place.second.unlink()


# --- other derivatives ------------------------------------------------------------------------


def _give(place: Place, end: str, data: Any, affine: Any) -> None:
    place.given.mkdir(parents=True, exist_ok=True)
    _save(place.given / f"{place.name}_{end}.nii.gz", data, affine)


@case("failed", "not on the voxel grid")
def cord_mask_on_another_grid(place: Place) -> None:
    """A cord mask of half the resolution."""
    _, affine = _load(place.t2w)
    _give(place, "label-cord_mask", place.cord[:, ::2, ::2].astype("u1"), affine)


@case("failed", "is empty")
def cord_mask_empty(place: Place) -> None:
    """A cord mask without a cord."""
    _, affine = _load(place.t2w)
    _give(place, "label-cord_mask", np.zeros(place.cord.shape, "u1"), affine)


@case("failed", "between whole numbers")
def cord_mask_of_probabilities(place: Place) -> None:
    """Probabilities where a mask should be."""
    _, affine = _load(place.t2w)
    _give(place, "label-cord_mask", place.cord.astype("f4") * 0.7, affine)


@case("failed", "truncated or corrupt")
def cord_mask_truncated(place: Place) -> None:
    """Half of a cord mask."""
    _, affine = _load(place.t2w)
    _give(place, "label-cord_mask", place.cord.astype("u1"), affine)
    path = place.given / f"{place.name}_label-cord_mask.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])


@case("done", "order|disc|level")
def discs_out_of_order(place: Place) -> None:
    """Disc labels whose numbers run the wrong way."""
    _, affine = _load(place.t2w)
    labels = np.zeros(place.cord.shape, "i2")
    middle = np.argwhere(place.cord).mean(0).astype(int)
    for number, height in zip((3, 5, 4, 6), (0.85, 0.6, 0.4, 0.15), strict=True):
        labels[middle[0], middle[1], int(height * labels.shape[2])] = number
    _give(place, "label-discs_dlabel", labels, affine)


@case("done", "disc|level")
def discs_empty(place: Place) -> None:
    """Disc labels without a label."""
    _, affine = _load(place.t2w)
    _give(place, "label-discs_dlabel", np.zeros(place.cord.shape, "i2"), affine)


@case("done", "disc|truncated|level")
def discs_truncated(place: Place) -> None:
    """Half of the disc labels."""
    _, affine = _load(place.t2w)
    _give(place, "label-discs_dlabel", np.ones(place.cord.shape, "i2"), affine)
    path = place.given / f"{place.name}_label-discs_dlabel.nii.gz"
    path.write_bytes(path.read_bytes()[:-9])
