"""Readers of small files, fed with damaged and forged ones: an answer or a sentence, nothing else.

Each reader gets valid files in which bytes were changed, cut, doubled or replaced by what upsets
readers, and JSON of the right shape with wrong values. Hypothesis draws; a failure is printed as
the bytes that cause it. ``CORDLESION_FUZZ=2000`` draws more than the suite does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bids_app.cohort.session import read_session
from bids_app.commands.convert_plan import read_exclusions
from bids_app.commands.convert_splits import read_places
from bids_app.dataset.decisions import read_decisions
from bids_app.dataset.filters import read_filters
from bids_app.dataset.participants import read_participants
from bids_app.dataset.templates import read_regions
from bids_app.dataset.times import read_years
from bids_app.errors import CordLesionError
from bids_app.execution.submission import RECORD, read_submission
from bids_app.imaging.itk import read_transform
from bids_app.lesions.preset import load_preset
from bids_app.segmentation.install import read_manifest_file
from bids_app.segmentation.manifest import BOX, read_manifest

EXAMPLES = int(os.environ.get("CORDLESION_FUZZ", "60"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# What readers trip over: encodings, nesting, numbers out of range, separators, names.
_ODD = (
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'\\ud800', b"\t", b"\r", b"\n\n",
    b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b"[" * 20_000, b"{\"a\":" * 4000, b"null", b"true",
    b"NaN", b"-Infinity", b"1e999", b"-1", b"9" * 400, b"9" * 5000, b"0.5", b"n/a", b"../", b"=1+1",
    b"sub-01", b"sub-01\tses-M0\tpass\n", b"\x1b[31m", b"2026-02-30T25:61:00", "é\u2028".encode(),
)  # fmt: skip
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 1, 3, 10**400, -(10**30), 0.5, 1e308, float("nan"), float("inf")])
    | st.sampled_from(["", "n/a", "cord", "*", "../x", "\ud7ff", "a" * 300]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """Change a valid file in one to four places; one of JSON at times by putting in odd values."""
    if valid.startswith(b"{") and draw(st.booleans()):
        return _forged(draw, valid)
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.sampled_from([0, 0, 1, 4, 30, 10_000])))
        content[start:stop] = draw(st.sampled_from(_ODD) | st.binary(max_size=4))
    return bytes(content)


def _forged(draw: st.DrawFn, valid: bytes) -> bytes:
    """Put odd values in the place of some of a JSON object's."""
    document: dict[str, Any] = json.loads(valid)
    for _ in range(draw(st.integers(1, 3))):
        place: Any = document
        while isinstance(place, dict) and place:
            key = draw(st.sampled_from(sorted(place)))
            if not isinstance(place[key], dict) or draw(st.integers(0, 3)) == 0:
                place[key] = draw(_VALUES)
                break
            place = place[key]
    return json.dumps(document).encode()


PARTICIPANTS = b"participant_id\tage\tgroup\nsub-01\t34\tMS\nsub-02\tn/a\tcontrol\n"
DECISIONS = b"participant_id\tsession_id\tqc_decision\treason\nsub-01\tses-M0\tfail\tit moved\n"
FILTERS = (
    b'{"t2w": {"acquisition": "sag", "run": null}, "second": {"rec": ["a", 1], "suffix": "*"}}'
)
PRESET = (
    b'{"base": "default", "lesion_threshold": 0.4, "contrasts": {"PSIR": {"cord_threshold": 0.6}}}'
)
MANIFEST = (BOX / "model.json").read_bytes()
TRANSFORM = (
    b"#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
    b"Parameters: 1 0 0 0 1 0 0 0 1 0.5 2 -3\nFixedParameters: 0 0 0\n"
)
SESSIONS = b"session_id\tacq_time\nses-M0\t2020-01-02T03:04:05\nses-M12\t2021-01-02\n"
REGIONS = b"# Label - ROI\n0, left cuneatus, atlas_00.nii.gz\n1, right gracilis, atlas_01.nii.gz\n"
PLACES = b"participant_id\tsplit\tdataset\tfold\nsub-01\ttrain\ta\t0\nsub-02\ttest\ta\tn/a\n"
SUBMISSION = json.dumps(
    {
        "name": "20261121-120000",
        "tasks": [{"name": "0", "sessions": ["sub-01"], "number": "7_0"}],
        "retries": [], "up_to_date": ["sub-02"],
    }
).encode()  # fmt: skip


def _participants(path: Path) -> object:
    return read_participants(path.parent)


def _decisions(path: Path) -> object:
    return read_decisions(path, ["sub-01_ses-M0", "sub-02_ses-M0"])


def _years(path: Path) -> object:
    return read_years(path.parent.parent, ["sub-01_ses-M0", "sub-01_ses-M12"])


def _manifest(path: Path) -> object:
    return read_manifest(path.parent)


def _regions(path: Path) -> object:
    return read_regions(path.read_text(encoding="utf-8", errors="replace"))


def _places(path: Path) -> object:
    cases: Any = [SimpleNamespace(identifier="a_sub-01", dataset="a", subject="sub-01")]
    return read_places(path, cases)


def _submission(path: Path) -> object:
    return read_submission(path.parent)


READERS: list[tuple[str, bytes, Callable[[Path], object]]] = [
    ("participants.tsv", PARTICIPANTS, _participants),
    ("qc_decisions.tsv", DECISIONS, _decisions),
    ("filter.json", FILTERS, read_filters),
    ("preset.json", PRESET, load_preset),
    ("model.json", MANIFEST, _manifest),
    ("manifest.json", MANIFEST, read_manifest_file),
    ("x.txt", TRANSFORM, read_transform),
    ("sub-01/sub-01_sessions.tsv", SESSIONS, _years),
    ("info_label.txt", REGIONS, _regions),
    ("exclude.tsv", b"sub-01_T2w.nii.gz\tit moved\n# no\n", read_exclusions),
    ("cases.tsv", PLACES, _places),
    ("splits_final.json", b'[{"train": ["a_sub-01"], "val": []}]', _places),
    (RECORD, SUBMISSION, _submission),
]


@pytest.mark.parametrize(("name", "valid", "read"), READERS, ids=[name for name, _, _ in READERS])
def test_a_damaged_file_gets_an_answer_or_a_sentence(
    name: str, valid: bytes, read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)

    @fuzzed
    @given(damaged(valid))
    def feed(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read(path)
        except CordLesionError as error:
            assert str(error).strip()

    path.write_bytes(valid)
    read(path)
    feed()


SIDECAR = json.dumps(
    {
        "Summary": {"lesion_count": 1, "lesion_volume_mm3": 20.5, "cord_volume_mm3": 9000.0},
        "Registration": {"Accepted": True}, "Contrasts": {"reference": "T2w", "second": "STIR"},
        "Model": {"Name": "box"}, "GeneratedBy": [{"Version": "0.1.0"}], "Quality": {"snr": 3.5},
    }
).encode()  # fmt: skip
TABLE = b"lesion_id\tvolume_mm3\tlevel\n1\t20.5\tC3\n"


@fuzzed
@given(damaged(SIDECAR), damaged(TABLE))
def test_a_damaged_session_is_done_or_failed(tmp_path: Path, sidecar: bytes, table: bytes) -> None:
    path = tmp_path / "sub-01_label-lesion_mask.json"
    path.write_bytes(SIDECAR)
    (tmp_path / "sub-01_seg-lesions_dseg.tsv").write_bytes(TABLE)
    assert read_session("sub-01", path).status == "done"
    for one, other in ((sidecar, TABLE), (SIDECAR, table), (sidecar, table)):
        path.write_bytes(one)
        (tmp_path / "sub-01_seg-lesions_dseg.tsv").write_bytes(other)
        record = read_session("sub-01", path)
        assert (record.status == "failed") == bool(record.error)
