"""Reports in a real browser: opened from disk, nothing asked of the network, controls that work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_compare import compare, models, write_model, write_test_set
from test_reports import cohort_rows, make_facts, make_view, quality_rows

from bids_app.dataset.decisions import read_decisions
from bids_app.records import Decision
from bids_app.reports.cohort import Cohort, cohort_page
from bids_app.reports.cohort_maps import FrequencyView
from bids_app.reports.session import session_page

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    (folder / "sub-000_ses-0.html").write_text(session_page(make_facts(2), make_view(2)))
    (folder / "empty.html").write_text(session_page(make_facts(0), make_view(0)))
    failed = {"participant_id": "sub-999", "session_id": None, "status": "failed", "error": "x"}
    reports = {"sub-000_ses-0": "sub-000_ses-0.html"}
    rows = [*cohort_rows(40), failed]
    _write_comparisons(folder)
    frequency = np.full((20, 24, 80), np.nan, np.float32)
    frequency[6:14, 8:16, 5:75] = np.linspace(0, 0.5, 70)
    maps = [
        FrequencyView(name, 20, frequency, (1, 1, 2), [("C2/C3", 60)]) for name in ("all", "MS")
    ]
    cohort = Cohort(rows, quality=quality_rows(rows), reports=reports, maps=maps)
    (folder / "group_report.html").write_text(cohort_page(cohort))
    return folder


def _write_comparisons(folder: Path) -> None:
    """Write a page of two models, and one of scans that were repeated."""
    known = write_test_set(folder, "basel", 4)
    write_model(folder, "good", "basel", [2, 2, 1, 2])
    write_model(folder, "poor", "basel", [1, 0, 1, 2])
    given = ["--test-set", f"basel={known}", *models(folder, "good", "poor")]
    assert compare(folder / "compared", *given) == 0
    repeats = ["--model", *(f"m={folder / name}" for name in ("good", "poor"))]
    assert compare(folder / "repeated", "--repeat", "folder", *repeats) == 0


@pytest.fixture
def open_page(browser: Any, pages: Path) -> Iterator[Any]:
    """Open a page by name; complaints and requests beyond the folder fail the test."""
    opened, trouble = [], []

    def open_it(name: str, width: int = 1280) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda m: trouble.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on(
            "request",
            lambda r: trouble.append(r.url) if not r.url.startswith(("file:", "data:")) else None,
        )
        page.goto((pages / name).as_uri())
        opened.append(page)
        return page

    yield open_it
    for page in opened:
        page.close()
    assert trouble == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    "name",
    [
        "sub-000_ses-0.html",
        "empty.html",
        "group_report.html",
        "compared/compare.html",
        "repeated/repeat.html",
    ],
)
def test_a_page_fits_the_window(open_page: Any, name: str, width: int) -> None:
    page = open_page(name, width)
    page.wait_for_timeout(600)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#headline").is_visible()


def test_the_overlay_is_switched(open_page: Any) -> None:
    page = open_page("sub-000_ses-0.html")
    canvas = page.frame_locator("#slices").locator("canvas")
    canvas.wait_for(state="visible")
    page.wait_for_timeout(500)
    shown = canvas.screenshot()
    page.locator("#overlay").press("Space")
    hidden = canvas.screenshot()
    page.locator("#overlay").press("Space")
    assert shown != hidden
    assert page.frame_locator("#slices").locator(".slider").input_value() != "0"


def test_the_contrasts_blend_and_flicker(open_page: Any) -> None:
    page = open_page("sub-000_ses-0.html")
    page.locator("#blend").fill("100")
    assert page.locator("#upper").evaluate("e => e.style.opacity") == "1"
    page.locator("#flicker").click()
    assert page.locator("#flicker").get_attribute("aria-pressed") == "true"
    page.wait_for_function("document.getElementById('upper').style.opacity === '0'")


@pytest.mark.parametrize(
    ("table", "filter_of", "shown", "column"),
    [
        ("table", "filter", "shown", "lesion_volume_mm3"),
        ("qc-table", "qc-filter", "qc-shown", "cord_snr"),
    ],
)
def test_tables_are_sorted_and_filtered_by_keyboard(
    open_page: Any, table: str, filter_of: str, shown: str, column: str
) -> None:
    page = open_page("group_report.html")
    head = page.locator(f"#{table} th", has_text=column).locator("button")
    number = page.locator(f"#{table} th").all_inner_texts().index(column)

    def values() -> list[str]:
        return page.locator(f"#{table} tbody tr td:nth-child({number + 1})").all_inner_texts()

    for direction in (1, -1):
        head.press("Enter")
        numbers = [float(text) for text in values() if text != "n/a"]
        assert numbers == sorted(numbers, reverse=direction < 0)
        assert values()[-1] == "n/a"
    page.locator(f"#{filter_of}").fill("sub-999")
    assert page.locator(f"#{table} tbody tr:visible").count() == 1
    assert page.locator(f"#{shown}").inner_text() == "1 of 41"


def test_what_is_odd_is_shown_alone(open_page: Any) -> None:
    page = open_page("group_report.html")
    page.locator("#qc-odd").check()
    assert page.locator("#qc-shown").inner_text() == "2 of 41"
    marked = page.locator("#qc-table td.odd:visible")
    assert marked.all_inner_texts() == ["13"]


def test_decisions_are_saved_as_a_file_that_the_program_reads(
    open_page: Any, tmp_path: Path
) -> None:
    page = open_page("group_report.html")
    page.get_by_label("decision on sub-000_ses-0").select_option("pass")
    page.get_by_label("decision on sub-999").select_option("exclude")
    page.locator("#qc-filter").fill("exclude")
    # The one just chosen, and the session that was left out already.
    assert page.locator("#qc-shown").inner_text() == "2 of 41"
    with page.expect_download() as download:
        page.locator("#save-decisions").click()
    assert download.value.suggested_filename == "qc_decisions.tsv"
    download.value.save_as(tmp_path / "qc_decisions.tsv")
    known = [f"sub-{n // 2:03d}_ses-{n % 2}" for n in range(40)] + ["sub-999"]
    assert read_decisions(tmp_path / "qc_decisions.tsv", known) == {
        "sub-000_ses-0": Decision("pass"),
        "sub-001_ses-0": Decision("fail", "it moved"),
        "sub-999": Decision("exclude"),
    }


def test_a_link_leads_to_the_sessions_report(open_page: Any) -> None:
    page = open_page("group_report.html")
    page.locator("#table a").first.click()
    assert page.locator("h1").inner_text() == "sub-01_ses-M0"


def test_plots_are_drawn_when_they_come_into_sight(open_page: Any) -> None:
    page = open_page("group_report.html")
    page.locator(".main-svg").first.wait_for(state="visible")
    plots = page.locator(".plotly-graph-div")
    assert plots.count() == 5
    assert page.locator(".plotly-graph-div:has(.main-svg)").count() < 5
    for number in range(5):
        plots.nth(number).scroll_into_view_if_needed()
        plots.nth(number).locator(".main-svg").first.wait_for(state="visible")
    widths = page.evaluate("[...document.querySelectorAll('.main-svg')].map(e => e.clientWidth)")
    assert np.max(widths) <= 1280


def test_the_menu_changes_the_metric(open_page: Any) -> None:
    page = open_page("compared/compare.html")
    plot = page.locator(".plotly-graph-div").first
    plot.locator(".heatmaplayer").wait_for()
    before = plot.locator(".heatmap-label, .heatmaplayer text").all_text_contents()
    plot.locator(".updatemenu-header").click()
    plot.locator(".updatemenu-dropdown-button", has_text="sensitivity").click()
    page.wait_for_timeout(500)
    after = plot.locator(".heatmap-label, .heatmaplayer text").all_text_contents()
    assert before
    assert before != after


def test_pictures_of_a_scan_stand_in_one_row(open_page: Any) -> None:
    page = open_page("compared/compare.html")
    tops = page.locator(".strip").first.locator("img").evaluate_all("all => all.map(e => e.y)")
    assert len(tops) == 4
    assert len(set(tops)) == 1


def test_a_click_on_a_point_opens_its_report(open_page: Any) -> None:
    page = open_page("group_report.html")
    page.locator(".main-svg").first.wait_for(state="visible")
    page.evaluate(
        "document.querySelector('.plotly-graph-div')"
        ".emit('plotly_click', {points: [{customdata: 'sub-000_ses-0.html'}]})"
    )
    page.wait_for_url("**/sub-000_ses-0.html")
    assert page.locator("h1").inner_text() == "sub-01_ses-M0"
