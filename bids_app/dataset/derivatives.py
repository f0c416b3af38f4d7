"""What results are called, and whether they are up to date: the only place that knows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_app.dataset.entities import build_name
from bids_app.dataset.hashes import file_sha256
from bids_app.dataset.seals import signed
from bids_app.documents import parse_json
from bids_app.files import plain, write_json
from bids_app.records import Job, Scan, Session

IMAGE = ".nii.gz"
_MINIMAL = ("lesion_mask", "lesion_table")


def output_paths(
    out_dir: Path,
    session: Session,
    reference: Scan,
    second: Scan | None = None,
    levels: bool = False,
) -> dict[str, Path]:
    """Name the results of one session.

    Parameters
    ----------
    out_dir : Path
    session : Session
        Gives the folder, ``sub-<subject>[/ses-<session>]/anat``.
    reference : Scan
        Its entities start the name of each result: acquisition, run, part and all.
    second : Scan, optional
        Without it, ``second_preproc`` and ``transform`` are left out.
    levels : bool
        With ``vertebrae``, ``vertebrae_table`` and ``vertebrae_table_dictionary``.

    Returns
    -------
    dict of str to Path
        Keys: ``lesion_probability``, ``lesion_mask``, ``instances``, ``lesion_table``,
        ``lesion_table_dictionary``, ``cord_mask``, ``cord_probability``, ``uncertainty``,
        ``shown`` (the reference, cut to the cord's surroundings), ``second_preproc`` and
        ``transform``. The dictionary of the table is the sidecar of the instances as well: they
        share their name up to the extension. Images end in ``.nii.gz`` whatever their source.
    """
    folder = session_folder(out_dir, session) / "anat"
    space = reference.contrast

    def of_reference(suffix: str, extension: str = IMAGE, **entities: str) -> Path:
        return folder / build_name({**reference.entities, **entities}, suffix, extension)

    paths = {
        "lesion_probability": of_reference("probseg", label="lesion"),
        "lesion_mask": of_reference("mask", label="lesion"),
        "instances": of_reference("dseg", seg="lesions"),
        "lesion_table": of_reference("dseg", ".tsv", seg="lesions"),
        "lesion_table_dictionary": of_reference("dseg", ".json", seg="lesions"),
        "cord_mask": of_reference("mask", label="cord"),
        "cord_probability": of_reference("probseg", label="cord"),
        "uncertainty": of_reference("probseg", label="lesion", desc="uncertainty"),
        "shown": of_reference(reference.suffix, desc="cord"),
    }
    if levels:
        paths["vertebrae"] = of_reference("dseg", seg="vertebrae")
        paths["vertebrae_table"] = of_reference("dseg", ".tsv", seg="vertebrae")
        paths["vertebrae_table_dictionary"] = of_reference("dseg", ".json", seg="vertebrae")
    if second is not None:
        own = {**second.entities, "space": space, "desc": "preproc"}
        paths["second_preproc"] = folder / build_name(own, second.suffix, IMAGE)
        # An acq-STIR_T2w would read "from-T2w_to-T2w": there, the contrast says more.
        source = second.suffix if second.suffix != reference.suffix else second.contrast
        route = {"from": source, "to": space, "mode": "image"}
        paths["transform"] = of_reference("xfm", ".txt", **route)
    return paths


def minimal(outputs: Mapping[str, Path]) -> dict[str, Path]:
    """Keep what counts and volumes come from: the lesion mask (with its sidecar) and the table.

    What the table's columns mean then stands once for all sessions, see `shared_dictionary`.
    """
    return {key: path for key, path in outputs.items() if key in _MINIMAL}


def shared_dictionary(out_dir: Path) -> Path:
    """Name the description of all lesion tables, which BIDS lets sessions inherit."""
    return out_dir / "seg-lesions_dseg.json"


def template_paths(
    out_dir: Path, session: Session, reference: Scan, space: str, resolution: str
) -> dict[str, Path]:
    """Name a session's masks in the space of a template.

    Returns
    -------
    dict of str to Path
        ``template_lesion_mask`` and ``template_cord_mask``.
    """
    folder = session_folder(out_dir, session) / "anat"
    entities = {**reference.entities, "space": space, "res": resolution}
    return {
        f"template_{label}_mask": folder / build_name({**entities, "label": label}, "mask", IMAGE)
        for label in ("lesion", "cord")
    }


def region_paths(out_dir: Path, session: Session, reference: Scan) -> dict[str, Path]:
    """Name the table of atlas regions and its dictionary: ``template_regions[_dictionary]``."""
    folder = session_folder(out_dir, session) / "anat"
    entities = {**reference.entities, "seg": "lesions", "desc": "regions"}
    table = folder / build_name(entities, "dseg", ".tsv")
    return {"template_regions": table, "template_regions_dictionary": sidecar_path(table)}


def session_folder(root: Path, session: Session) -> Path:
    """Give a session's folder, ``sub-01/ses-M0`` or ``sub-01``, below `root`."""
    folder = root / f"sub-{session.subject}"
    return folder / f"ses-{session.session}" if session.session else folder


def report_path(out_dir: Path, session: Session) -> Path:
    """Name a session's report; it lies at the top of the derivatives."""
    return out_dir / f"{session.identifier}.html"


def sidecar_path(path: Path) -> Path:
    """Name the JSON file that describes `path`, an image or a table.

    Examples
    --------
    >>> sidecar_path(Path("sub-01_label-lesion_mask.nii.gz")).name
    'sub-01_label-lesion_mask.json'
    """
    return path.with_name(path.name.split(".", 1)[0] + ".json")


def bids_uri(path: Path, dataset_root: Path, dataset_name: str = "") -> str:
    """Give the BIDS URI of a file.

    Parameters
    ----------
    path, dataset_root : Path
    dataset_name : str
        As in ``DatasetLinks`` (``raw``); empty for the dataset that holds the sidecar.

    Raises
    ------
    ValueError
        When `path` is not below `dataset_root`.

    Examples
    --------
    >>> bids_uri(Path("/d/raw/sub-01/anat/sub-01_T2w.nii"), Path("/d/raw"), "raw")
    'bids:raw:sub-01/anat/sub-01_T2w.nii'
    """
    return f"bids:{dataset_name}:{path.relative_to(dataset_root).as_posix()}"


def fingerprint(inputs: Sequence[Path], settings: Mapping[str, Any]) -> str:
    """Hash all that decides a session's results.

    Parameters
    ----------
    inputs : sequence of Path
        Files whose contents count, in this order; their names do not.
    settings : mapping
        Options that matter, hash of the weights, version of the software. The order of the
        keys does not count.

    Returns
    -------
    str
        SHA-256 in hexadecimal.

    Raises
    ------
    UnreadableImage
        When an input cannot be read, such as a link whose content is not there.
    """
    canonical = json.dumps(plain(settings), sort_keys=True, separators=(",", ":"))
    parts = [file_sha256(path) for path in inputs] + [canonical]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def seal(job: Job, metadata: Mapping[str, Any], inputs_hash: str) -> Path:
    """Write the lesion mask's sidecar, the last file of a session: from now on it is done.

    Parameters
    ----------
    job : Job
        All its other outputs and their sidecars are written.
    metadata : mapping
        What else the sidecar says.
    inputs_hash : str
        From `fingerprint`; it goes to ``InputsHash``.

    Returns
    -------
    Path
        The sidecar. ``OutputHashes`` and ``OutputSizes`` (bytes) hold what was written, by file
        name; ``SealHash`` vouches for the sidecar itself.
    """
    path = sidecar_path(job.outputs["lesion_mask"])
    written = [output for output in _expected(job) if output != path]
    seals = {
        "InputsHash": inputs_hash,
        "OutputHashes": {output.name: file_sha256(output) for output in written},
        "OutputSizes": {output.name: output.stat().st_size for output in written},
    }
    write_json(path, signed({**metadata, **seals}))
    return path


def is_up_to_date(job: Job, inputs_hash: str) -> bool:
    """Tell whether a session's results are all there and belong to these inputs and settings.

    The seal must hold `inputs_hash`, and each output and sidecar must have the size that the
    seal says. Contents are not read: that is what ``cordlesion verify`` does.
    """
    path = sidecar_path(job.outputs["lesion_mask"])
    try:
        seals = parse_json(path.read_bytes())
        sizes = seals["OutputSizes"]
        return seals["InputsHash"] == inputs_hash and all(
            0 < output.stat().st_size == sizes[output.name]
            for output in _expected(job)
            if output != path
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def unseal(job: Job) -> None:
    """Remove the seal before a session is done again, so that a half-done one is never taken.

    What only an earlier run had goes too: vertebral levels, template space, atlas regions.
    """
    mask = job.outputs["lesion_mask"]
    _remove_superfluous(job)
    sidecar_path(mask).unlink(missing_ok=True)
    stem = mask.name.removesuffix("_label-lesion_mask" + IMAGE)
    sometimes = {
        "vertebrae": "_seg-vertebrae_dseg.*",
        "template_lesion_mask": "_space-*_res-*_label-*_mask.*",
        "template_regions": "_seg-lesions_desc-regions_dseg.*",
    }
    for key, pattern in sometimes.items():
        if key not in job.outputs:
            for path in mask.parent.glob(stem + pattern):
                path.unlink()


def _remove_superfluous(job: Job) -> None:
    """Remove what the last run wrote and this one will not, by that run's own list."""
    path = sidecar_path(job.outputs["lesion_mask"])
    try:
        names = list(parse_json(path.read_bytes())["OutputSizes"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    keep = {output.name for output in _expected(job)}
    for name in names:
        if name not in keep and Path(name).name == name:
            path.with_name(name).unlink(missing_ok=True)


def _expected(job: Job) -> Iterable[Path]:
    """List every output and, for images, its sidecar, each once."""
    outputs = list(job.outputs.values())
    sidecars = [sidecar_path(path) for path in outputs if path.name.endswith(IMAGE)]
    return dict.fromkeys([*outputs, *sidecars])
