"""Reports: cuts keep their place and aspect, text is escaped, nothing is asked of the network."""

from __future__ import annotations

import re

import numpy as np
import pytest

from bids_app.errors import UnreadableImage
from bids_app.imaging.grids import crop, to_canonical
from bids_app.records import Volume
from bids_app.reporting import _cut_like
from bids_app.reports.cohort import Cohort, cohort_page
from bids_app.reports.cohort_maps import FrequencyView, map_pictures
from bids_app.reports.methods import methods_paragraph
from bids_app.reports.session import SessionFacts, concerns, headline, session_page
from bids_app.reports.view import (
    SessionView,
    axial,
    cord_course,
    enlarge,
    follow,
    project,
    sagittal,
    to_grey,
)

HOSTILE = "<script>alert(1)</script>"


def make_view(lesions: int = 2, second: bool = True, spacing=(1.0, 1.0, 2.0)) -> SessionView:
    rng = np.random.default_rng(0)
    shape = (24, 26, 30)
    reference = rng.random(shape).astype(np.float32)
    cord = np.zeros(shape, bool)
    cord[9:15, 10:16, :] = True
    instances = np.zeros(shape, int)
    for index in range(lesions):
        instances[10:13, 11:14, 4 + 10 * index : 9 + 10 * index] = index + 1
    return SessionView(
        reference,
        reference[::-1] if second else None,
        cord,
        instances,
        np.where(instances > 0, 0.5, 0.0),
        np.diag([*spacing, 1.0]),
    )


def make_facts(lesions: int = 2, **about: object) -> SessionFacts:
    rows = [
        {"index": str(n + 1), "name": f"lesion-{n + 1}", "color": "#E69F00", "volume_mm3": "90.0"}
        for n in range(lesions)
    ]
    document = {
        "Summary": {
            "lesion_count": lesions,
            "lesion_volume_mm3": 90.0 * lesions,
            "cord_volume_mm3": 2000.0,
        },
        "Contrasts": {"reference": "T2w", "second": "STIR"},
        "Command": "run.py in out participant --work-dir /scratch" + "/no_place_to_break" * 6,
        **about,
    }
    columns = ["index", "name", "color", "volume_mm3"]
    return SessionFacts("sub-01_ses-M0", document, columns, rows, {})


def test_directions() -> None:
    data = np.zeros((3, 4, 5))
    data[2, 3, 4] = 1  # the patient's right, front, head
    assert axial(data, 4)[0, 0] == 1  # front at the top, right on the left
    assert sagittal(data, 2)[0, 0] == 1  # head at the top, front on the left
    assert project(data.astype(int))[0, 0] == 1
    assert follow(data, np.full(5, 2))[0, 0] == 1


def test_the_bent_cut_follows_the_cord() -> None:
    cord = np.zeros((9, 3, 7), bool)
    for k in range(7):
        cord[k + 1, 1, k] = True
    assert cord_course(cord).tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert follow(cord, cord_course(cord))[:, 1].all()
    assert cord_course(np.zeros((9, 3, 7), bool)).tolist() == [4] * 7


@pytest.mark.parametrize("spacing", [(3.0, 0.5), (0.5, 3.0), (1.0, 1.0)])
def test_pixels_are_square_and_labels_stay_whole(spacing: tuple[float, float]) -> None:
    plane = np.zeros((10, 12), int)
    plane[2:5, 3:9] = 7
    large = enlarge(plane, spacing, 4.0, 0)
    assert large.shape == (round(40 * spacing[0]), round(48 * spacing[1]))
    assert set(np.unique(large)) == {0, 7}
    assert (large == 7).mean() == pytest.approx((plane == 7).mean(), rel=1e-6)


def test_a_constant_image_is_black() -> None:
    assert to_grey(np.full((3, 3), 5.0)).max() == 0


@pytest.mark.parametrize(
    ("about", "rows", "expected"),
    [
        ({"lesion_count": 0}, [], "No lesion was found."),
        (
            {"lesion_count": 2, "lesion_volume_mm3": 50.0, "cord_volume_mm3": 5000.0},
            [{"level_from": "C3", "level_to": "C4"}, {"level_from": "T1", "level_to": "T1"}],
            "2 lesions were found: 50 mm³, 1.0 % of the cord in view, from C3 to T1.",
        ),
        (
            {
                "lesion_count": 0,
                "expected_lesion_count": 0.42,
                "expected_lesion_count_low": 0,
                "expected_lesion_count_high": 2,
            },
            [],
            "No lesion was found. Allowing for missed and false ones, 0.4 are expected "
            "(95 % interval 0 to 2).",
        ),
    ],
)
def test_headline(about: dict, rows: list, expected: str) -> None:
    assert headline(about, rows) == expected


def test_what_a_person_should_look_at() -> None:
    facts, view = make_facts(), make_view()
    assert concerns(facts.about, view) == []
    alone = concerns({"Contrasts": {"reference": "T2w", "second": None}}, view)
    assert "Only the T2w" in alone[0]
    view.cord[:, :, 12] = False
    assert any("2 pieces" in line for line in concerns(facts.about, view))
    view.cord[0, 12, 3] = True
    assert any("side of the image" in line for line in concerns(facts.about, view))
    view.instances[9:15, 10:16] = 1
    assert any("unusual" in line for line in concerns(facts.about, view))


def test_quality_measures_beyond_their_limit_are_told() -> None:
    quality = {"cord_snr": 12.5, "lesions_at_edge": 2, "second_coverage": 0.5, "cord_pieces": 1}
    facts = make_facts(2, Quality=quality)
    page = session_page(facts, make_view())
    assert "The second contrast shows only 50% of the cord." in page
    assert "2 of the lesions touch the edge of the image." in page
    section = page[page.index('id="quality"') : page.index('id="methods"')]
    assert "<td>SNR in the cord</td><td>12.5</td>" in section
    assert section.count("(look)") == 2
    assert 'id="quality"' not in session_page(make_facts(1), make_view(1))


def test_methods_tell_what_was_done() -> None:
    base = {"Contrasts": {"reference": "T2w", "second": "PSIR"}, "Model": {"Name": "box"}}
    text, bibtex = methods_paragraph({**base, "Registration": {"Accepted": True}})
    assert "PSIR was aligned" in text
    assert len(bibtex) == 5
    text, bibtex = methods_paragraph({"Contrasts": {"reference": "T2w"}})
    assert "Only the T2w was used." in text
    assert all(entry.startswith("@article{") for entry in bibtex)


@pytest.mark.parametrize(("lesions", "second"), [(2, True), (0, True), (1, False), (0, False)])
def test_a_page_is_complete_and_asks_nothing_of_the_network(lesions: int, second: bool) -> None:
    page = session_page(make_facts(lesions), make_view(lesions, second))
    assert page.count('class="card"') == lesions
    assert ('id="alignment"' in page) == second
    assert ("No lesion was found" in page) == (lesions == 0)
    inner = page.replace("&#34;", '"').replace("&lt;", "<").replace("&gt;", ">")
    for address in re.findall(r'(?:src|href)="([^"]{1,80})', inner):
        assert address.startswith(("data:", "#")), address


def test_text_from_the_data_is_escaped() -> None:
    facts = make_facts(1, Command=HOSTILE, Sources=[HOSTILE], Warnings=[HOSTILE])
    facts.lesions[0]["name"] = HOSTILE
    page = session_page(facts, make_view(1))
    assert HOSTILE not in page


def cohort_rows(count: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number in range(count):
        rows.append(
            {
                "participant_id": f"sub-{number // 2:03d}",
                "session_id": f"ses-{number % 2}",
                "status": "done",
                "lesion_count": number % 5,
                "lesion_volume_mm3": 30.0 * (number % 7),
                "expected_lesion_count": number % 5 + 0.5,
                "expected_lesion_count_low": number % 5,
                "expected_lesion_count_high": number % 5 + 3,
                "group": "MS" if number % 3 else "control",
            }
        )
    return rows


def quality_rows(sessions: list[dict[str, object]]) -> list[dict[str, object]]:
    rows = []
    for number, session in enumerate(sessions):
        done = session["status"] == "done"
        rows.append(
            {
                **{key: session[key] for key in ("participant_id", "session_id", "status")},
                "qc_decision": "fail" if number == 2 else None,
                "qc_reason": "it moved" if number == 2 else None,
                "excluded": number == 2,
                "concerns": "the cord is in 2 pieces" if number == 1 else None,
                "outliers": "cord_snr low" if number == 3 else None,
                "reference_contrast": "T2w" if done else None,
                "second_contrast": "STIR" if done else None,
                "cord_snr": 10.0 + number if done else None,
                "uncertainty": 0.1 + 0.01 * number if done else None,
            }
        )
    return rows


def test_a_cohorts_page_shows_what_is_there_and_what_is_not() -> None:
    failed = {"participant_id": "sub-99", "session_id": None, "status": "failed", "error": HOSTILE}
    lesions = [{"level": "C3", "probability": 0.9}, {"level": "T1"}, {"level": None}]
    statistics = [{"measure": "lesion_count", "test": "U", "p": None, "n_a": 9}]
    page = cohort_page(Cohort([*cohort_rows(6), failed], lesions, statistics=statistics))
    assert page.count('class="plotly-graph-div') == 6
    assert "1 session failed, 0 missing" in page
    assert HOSTILE not in page
    assert "<td>n/a</td>" in page
    bare = cohort_page(Cohort([failed]))
    assert 'class="plotly-graph-div' not in bare
    assert "0 lesions" in bare


def test_an_excluded_session_is_in_sight_but_not_counted() -> None:
    sessions = cohort_rows(12)
    sessions[2] |= {"excluded": True, "lesion_count": 654321}
    quality = quality_rows(sessions)
    page = cohort_page(Cohort(sessions, [{"excluded": True, "level": "C3"}], quality=quality))
    assert "in 11 sessions of 6 participants; 0 sessions failed, 0 missing, 1 left out." in page
    assert "decision: fail (it moved)" in page
    assert "<td>654321</td>" in page
    assert "Along the cord" not in page
    assert page.count("654321") == 1
    assert "the cord is in 2 pieces" in page
    assert '<td class="odd" title="low among the sessions">13</td>' in page


def test_levels_without_a_lesion_are_shown_between_those_with_one() -> None:
    sessions = cohort_rows(2)
    lesions = [{"level": level} for level in ("C7", "T3", "C7", "elsewhere")]
    page = cohort_page(Cohort(sessions, lesions))
    assert '"x":[2,0,0,1],"y":["C7","T1","T2","T3"]' in page
    assert "Along the cord" not in cohort_page(Cohort(sessions, [{"level": "elsewhere"}]))


def test_a_map_is_shown_from_three_sides() -> None:
    frequency = np.full((20, 24, 40), np.nan, np.float32)
    frequency[6:14, 8:16, 5:35] = 0.0
    frequency[7, 9, 20] = 0.5
    discs = [("C2/C3", 30.0), ("C7/T1", 0.5)]
    shown = map_pictures(FrequencyView("all", 8, frequency, (0.5, 0.5, 0.5), discs))
    assert (shown["highest"], shown["highest_mean"]) == (0.5, pytest.approx(0.5 / 30))
    # 30 slices and a margin of 4 on each side; the disc below is out of sight.
    assert shown["height"] == 38
    assert shown["discs"] == [("C2/C3", pytest.approx(100 * (39 - 30) / 38))]
    page = cohort_page(Cohort(cohort_rows(2), maps=[FrequencyView("a", 8, frequency, (1, 1, 1))]))
    assert page.count("Lesion frequency of a seen from the") == 2


def test_names_in_plots_cannot_end_the_script() -> None:
    rows = cohort_rows(4)
    for row in rows:
        row["participant_id"] = "</script><script>alert(1)//"
    assert "</script><script>alert" not in cohort_page(Cohort(rows, quality=quality_rows(rows)))


@pytest.mark.parametrize("turned", [np.diag([-1.0, 2, 3, 1]), np.diag([1.0, -2, -3, 1])])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_report_cuts_images_of_any_orientation_alike(turned, order) -> None:
    affine = turned[:, [*order, 3]]
    whole = Volume(np.arange(7 * 8 * 9).reshape(7, 8, 9), affine)
    part = crop(whole, np.s_[1:5, 2:8, 3:6])
    np.testing.assert_array_equal(_cut_like(whole, part), to_canonical(part).data)
    elsewhere = Volume(part.data, affine @ np.diag([1.0, 1, 1.5, 1]) + 0.3)
    with pytest.raises(UnreadableImage, match="not on one grid"):
        _cut_like(whole, elsewhere)
