"""Which scans a session is segmented from: cases with the expected choice and the reasons."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_app.dataset.entities import parse_name
from bids_app.dataset.select import select
from bids_app.errors import MissingContrast
from bids_app.records import Scan, Session


def session_of(*endings, subject="01", session=None):
    prefix = f"sub-{subject}" + (f"_ses-{session}" if session else "")
    scans = []
    for ending in endings:
        name = f"{prefix}_{ending}" + ("" if "." in ending else ".nii.gz")
        parsed = parse_name(name)
        scans.append(Scan(Path("/raw/anat") / name, parsed.entities, parsed.suffix))
    return Session(subject, session, tuple(scans))


def short(scan):
    name = None if scan is None else scan.path.name.removeprefix("sub-01_")
    return name and name.removesuffix(".nii.gz")


@pytest.mark.parametrize(
    ("endings", "reference", "second"),
    [
        (["T2w"], "T2w", None),
        (["T2w", "acq-STIR_T2w"], "T2w", "acq-STIR_T2w"),
        (["acq-STIR_T2w", "acq-zz_T2w"], "acq-zz_T2w", "acq-STIR_T2w"),
        (["acq-STIRsag_T2w", "acq-ax_T2w"], "acq-ax_T2w", "acq-STIRsag_T2w"),
        (["T2w", "PSIR", "STIR", "T1w"], "T2w", "STIR"),
        (["T2w", "PSIR", "UNIT1", "T1w"], "T2w", "PSIR"),
        (["T2w", "UNIT1", "inv-1_MP2RAGE", "inv-2_MP2RAGE"], "T2w", "UNIT1"),
        (["T2w", "inv-1_MP2RAGE", "inv-2_MP2RAGE"], "T2w", None),
        (["T2w", "MP2RAGE", "inv-1_MP2RAGE"], "T2w", "MP2RAGE"),
        (["T2w", "T2star"], "T2w", "T2star"),
        (["T2w", "FLAIR", "PDw"], "T2w", None),
        (["acq-ax_T2w", "acq-sag_T2w"], "acq-sag_T2w", None),
        (["acq-ax_T2w", "T2w"], "T2w", None),
        (["acq-ax_T2w", "acq-top_T2w"], "acq-top_T2w", None),
        (["acq-axial_T2w", "acq-iso_T2w"], "acq-iso_T2w", None),
        (["acq-cor_T2w", "acq-sag_run-1_T2w", "acq-ax_run-3_T2w"], "acq-sag_run-1_T2w", None),
        (["run-1_T2w", "run-2_T2w"], "run-2_T2w", None),
        (["run-9_T2w", "run-10_T2w"], "run-10_T2w", None),
        (["T2w", "run-02_T2w"], "run-02_T2w", None),
        (["rec-norm_run-2_T2w", "run-1_T2w"], "run-1_T2w", None),
        (["rec-norm_T2w"], "rec-norm_T2w", None),
        (["part-phase_T2w", "part-mag_T2w"], "part-mag_T2w", None),
        (["part-real_T2w", "part-mag_T2w"], "part-mag_T2w", None),
        (["T2w", "part-real_PSIR"], "T2w", "part-real_PSIR"),
        (["echo-2_T2w", "echo-1_T2w"], "echo-1_T2w", None),
        (["acq-sag2_T2w", "acq-sag1_T2w"], "acq-sag1_T2w", None),
        (["T2w.nii", "T2w"], "T2w.nii", None),
        (
            ["chunk-1_T2w", "chunk-2_run-2_STIR", "chunk-1_STIR", "T1w"],
            "chunk-1_T2w",
            "chunk-1_STIR",
        ),
        (["T2w", "run-1_STIR", "run-2_STIR"], "T2w", "run-2_STIR"),
    ],
)
def test_rule(endings, reference, second):
    choice = select(session_of(*endings))
    assert (short(choice.reference), short(choice.second)) == (reference, second)


@pytest.mark.parametrize(
    ("filters", "reference", "second"),
    [
        ({}, "run-2_T2w", "acq-sag_STIR"),
        ({"t2w": {"run": ("01",)}}, "run-1_T2w", "acq-sag_STIR"),
        ({"t2w": {"acq": ("ax",)}}, "acq-ax_T2w", "acq-sag_STIR"),
        ({"t2w": {"acq": ("*",)}}, "acq-ax_T2w", "acq-sag_STIR"),
        ({"t2w": {"acq": None, "part": None}}, "run-2_T2w", "acq-sag_STIR"),
        ({"t2w": {"part": ("phase",)}}, "part-phase_T2w", "acq-sag_STIR"),
        ({"second": {"acq": ("ax", "cor")}}, "run-2_T2w", "acq-ax_STIR"),
        ({"second": {"suffix": ("PSIR", "T1w")}}, "run-2_T2w", "PSIR"),
        ({"second": {"acq": ("none",)}}, "run-2_T2w", None),
        ({"second": {"extension": (".nii.gz",), "datatype": ("anat",)}}, "run-2_T2w", "PSIR"),
        ({"second": {"acq": None, "extension": ("nii",)}}, "run-2_T2w", "T1w.nii"),
    ],
)
def test_filters_decide_first(filters, reference, second):
    endings = ["run-1_T2w", "run-2_T2w", "acq-ax_T2w", "part-phase_T2w"]
    endings += ["PSIR", "T1w.nii"]
    endings += ["acq-ax_STIR.nii", "acq-sag_STIR.nii"]
    choice = select(session_of(*endings), filters=filters)
    assert (short(choice.reference), (short(choice.second) or "").removesuffix(".nii") or None) == (
        reference,
        second.removesuffix(".nii") if second else None,
    )


def test_other_reference_and_order():
    session = session_of("T1w", "T2w", "STIR", "UNIT1", "inv-1_MP2RAGE")
    choice = select(session, "UNIT1", ("T1w", "STIR"))
    assert (short(choice.reference), short(choice.second)) == ("UNIT1", "T1w")


def test_second_of_the_reference_s_contrast_when_asked_for():
    choice = select(session_of("acq-sag_T2w", "acq-ax_T2w"), contrasts=("T2w",))
    assert (short(choice.reference), short(choice.second)) == ("acq-sag_T2w", "acq-ax_T2w")


def test_reasons():
    endings = ["acq-sag_run-2_T2w", "acq-sag_run-1_T2w", "acq-ax_T2w", "part-phase_T2w"]
    endings += ["rec-norm_T2w", "STIR", "acq-ax_STIR", "PSIR", "PDw", "inv-1_MP2RAGE"]
    choice = select(session_of(*endings))
    assert (short(choice.reference), short(choice.second)) == ("acq-sag_run-2_T2w", "STIR")
    assert {short(scan): reason for scan, reason in choice.set_aside} == {
        "PDw": "PDw is not asked for",
        "PSIR": "STIR is preferred as the second contrast",
        "acq-ax_STIR": "sagittal or isotropic acquisitions are preferred",
        "acq-ax_T2w": "sagittal or isotropic acquisitions are preferred",
        "acq-sag_run-1_T2w": "a later run is used",
        "inv-1_MP2RAGE": "an inversion, not the uniform image",
        "part-phase_T2w": "the phase part of an image",
        "rec-norm_T2w": "another reconstruction (rec)",
    }


def test_reason_of_a_filter():
    choice = select(session_of("T2w", "acq-x_T2w", "STIR"), filters={"t2w": {"acq": ("x",)}})
    assert [reason for _, reason in choice.set_aside] == ["does not pass the filter"]


@pytest.mark.parametrize(
    ("endings", "filters", "message"),
    [
        (["T1w", "PDw"], {}, "sub-01_ses-02 has no T2w. Found: PDw, T1w."),
        (["acq-STIR_T2w"], {}, "sub-01_ses-02 has no T2w. Found: STIR."),
        ([], {}, "sub-01_ses-02 has no T2w. Found: no image in anat."),
        (["part-phase_T2w"], {}, "has no usable T2w (the phase part of an image). Found: T2w."),
        (["T2w"], {"t2w": {"acq": ("x",)}}, "has no T2w that passes the t2w filter. Found: T2w."),
    ],
)
def test_no_reference(endings, filters, message):
    with pytest.raises(MissingContrast) as caught:
        select(session_of(*endings, session="02"), filters=filters)
    assert message + " See --bids-filter-file." in str(caught.value)


acquisitions = st.sampled_from(["", "acq-sag_", "acq-ax_", "acq-STIR_", "acq-x_"])
runs = st.sampled_from(["", "run-1_", "run-02_", "run-b_"])
suffixes = st.sampled_from(["T2w", "STIR", "PSIR", "T1w", "inv-1_MP2RAGE", "PDw"])
many = st.lists(
    st.builds(lambda a, r, s: a + r + s, acquisitions, runs, suffixes), unique=True, max_size=8
)


@given(many, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_nothing_is_lost(endings, random):
    shuffled = random.sample(endings, len(endings))
    session = session_of("T2w", *[ending for ending in endings if ending != "T2w"])
    mixed = session_of(*[ending for ending in shuffled if ending != "T2w"], "T2w")
    choice = select(session)
    assert choice == select(mixed)
    used = [choice.reference, choice.second] if choice.second else [choice.reference]
    together = used + [scan for scan, _ in choice.set_aside]
    assert sorted(scan.path for scan in together) == sorted(scan.path for scan in session.scans)
    assert choice.reference.contrast == "T2w"
    assert choice.second is not choice.reference
