"""Measure the cohort's page: how long it takes to write and to open, and what it weighs.

    python benchmarks/cohort_report.py [--sessions 500] [--shots DIR]

Writes synthetic derivatives of many sessions (small files, no image), runs the group level on them
and opens the page in Chromium from disk, several times. Opening is over when what is in sight is
drawn and the tables answer to their filters; then all plots are scrolled into sight. The page's
own CPU time is given too, since on a busy machine the clock says little. Needs playwright and
Debian's chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WIDTHS = (1280, 390)
REPEATS = 5


def main() -> None:
    """Write, open, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--shots", type=Path, help="keep screenshots here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bids, out = Path(folder) / "bids", Path(folder) / "out"
        write_cohort(bids, out, arguments.sessions)
        start = time.monotonic()
        command = [sys.executable, ROOT / "run.py", bids, out, "group", "--exclude-qc"]
        subprocess.run(command, check=True)
        print(f"group level: {time.monotonic() - start:.1f} s")
        page = out / "group_report.html"
        print(f"page: {page.stat().st_size / 1e6:.1f} MB")
        for what, seconds in open_page(page, arguments.shots).items():
            shown = ", ".join(f"{s:.2f}" for s in seconds)
            print(f"{what}: {statistics.median(seconds):.2f} s (median of {shown})")


def write_cohort(bids: Path, out: Path, sessions: int) -> None:
    """Write participants with two visits each: a dataset without images, and its results."""
    rng = np.random.default_rng(0)
    bids.mkdir()
    (bids / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    people = ["participant_id\tgroup\tage\tsex"]
    for number in range(sessions // 2):
        subject = f"sub-{number:03d}"
        group = ("RRMS", "PPMS", "control")[number % 3]
        people.append(f"{subject}\t{group}\t{rng.integers(20, 70)}\t{'MF'[number % 2]}")
        lesions = int(rng.poisson({"RRMS": 3, "PPMS": 5, "control": 0.1}[group]))
        for visit, label in enumerate(("ses-M0", "ses-M12")):
            (bids / subject / label / "anat").mkdir(parents=True)
            if rng.random() < 0.02:
                continue
            lesions = max(0, lesions + int(rng.integers(-1, 2)) * visit)
            write_session(out / subject / label / "anat", f"{subject}_{label}", lesions, rng)
            (out / f"{subject}_{label}.html").write_text("<h1>a session</h1>")
        if number % 4:
            write_changes(out / subject, subject, rng)
    (bids / "participants.tsv").write_text("\n".join(people) + "\n")
    (out / "qc_decisions.tsv").write_text(
        "participant_id\tsession_id\tqc_decision\treason\n"
        "sub-001\tses-M0\tfail\tmoved during the scan\nsub-002\tses-M12\texclude\twithdrew\n"
    )
    (out / "logs").mkdir()
    failed = {"unit": "sub-004_ses-M12", "status": "failed", "error": "NoCordFound: no cord."}
    (out / "logs/run-1_summary.json").write_text(json.dumps({"units": [failed]}))


def write_session(anat: Path, name: str, lesions: int, rng: np.random.Generator) -> None:
    """Write the sidecar and the table of a finished session, with plausible numbers."""
    anat.mkdir(parents=True)
    volumes = rng.lognormal(4, 0.8, lesions)
    second = rng.choice(["STIR", "PSIR"])
    summary = {
        "lesion_count": lesions,
        "lesion_volume_mm3": float(volumes.sum()),
        "cord_volume_mm3": float(rng.normal(11000, 900)),
        "cord_length_mm": float(rng.normal(150, 8)),
        "cord_mean_area_mm2": float(rng.normal(75, 6)),
        "expected_lesion_count": lesions + 0.6,
        "expected_lesion_count_low": max(0, lesions - 1),
        "expected_lesion_count_high": lesions + 2 + int(rng.integers(0, 3)),
    }
    quality = {
        "voxel_mm3": 0.75,
        "slice_thickness_mm": 3.0,
        "cord_snr": float(rng.lognormal(2.8, 0.3)),
        "cord_cnr": float(rng.lognormal(2.3, 0.4)),
        "cord_signal_range": float(rng.lognormal(-1.6, 0.4)),
        "second_cord_snr": float(rng.lognormal(2.6, 0.3)),
        "second_cord_cnr": float(rng.lognormal(2.1, 0.4)),
        "second_coverage": float(np.clip(rng.normal(0.99, 0.02), 0, 1)),
        "registration_score": float(rng.normal(0.1, 0.02)),
        "registration_shift_mm": float(rng.exponential(1.5)),
        "cord_pieces": int(1 + (rng.random() < 0.02)),
        "cord_gap_mm": 0.0,
        "cord_edge_mm": 0.0,
        "cord_area_step": float(rng.lognormal(-2, 0.3)),
        "cord_probability": float(np.clip(rng.normal(0.95, 0.01), 0, 1)),
        "lesions_at_edge": 0,
        "uncertainty": float(rng.lognormal(-3, 0.4)),
    }
    sidecar = {
        "Summary": summary,
        "Quality": quality,
        "Contrasts": {"reference": "T2w", "second": str(second)},
        "Registration": {"Accepted": bool(rng.random() > 0.05)},
        "Model": {"Name": "box"},
        "SoftwareVersion": "0.1.0",
        "InputsHash": name,
    }
    (anat / f"{name}_label-lesion_mask.json").write_text(json.dumps(sidecar))
    rows = ["index\tname\tcolor\tvolume_mm3\tlevel\tprobability"]
    for index, volume in enumerate(volumes, start=1):
        level = f"C{rng.integers(1, 8)}" if rng.random() < 0.7 else f"T{rng.integers(1, 5)}"
        sure = rng.beta(5, 2)
        rows.append(f"{index}\tlesion-{index}\t#E69F00\t{volume:.2f}\t{level}\t{sure:.3f}")
    (anat / f"{name}_seg-lesions_dseg.tsv").write_text("\n".join(rows) + "\n")


def write_changes(folder: Path, subject: str, rng: np.random.Generator) -> None:
    """Write what became of the lesions between two visits."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["lesion_id\tsession_id\tindex\tchange"]
    number = 0
    for change, mean in (("new", 0.5), ("enlarging", 0.4), ("stable", 2), ("resolved", 0.2)):
        for _ in range(rng.poisson(mean)):
            number += 1
            index = "n/a" if change == "resolved" else number
            rows.append(f"{number}\tses-M12\t{index}\t{change}")
    (folder / f"{subject}_lesions.tsv").write_text("\n".join(rows) + "\n")
    listed = [
        {"session_id": label, "InputsHash": f"{subject}_{label}"} for label in ("ses-M0", "ses-M12")
    ]
    (folder / f"{subject}_lesions.json").write_text(json.dumps({"Sessions": listed}))


READY = (
    "document.getElementById('shown').textContent.length > 0"
    " && !!document.querySelector('.plotly-graph-div .main-svg')"
)
DRAWN = (
    "[...document.querySelectorAll('.plotly-graph-div')].every(e => e.querySelector('.main-svg'))"
)


def open_page(page: Path, shots: Path | None) -> dict[str, list[float]]:
    """Open the page several times; give the seconds until it can be used and all is drawn."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    names = ("opened, clock", "opened, CPU", "all drawn, clock", "all drawn, CPU")
    measured: dict[str, list[float]] = {name: [] for name in names}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(REPEATS):
            view = browser.new_page(viewport={"width": WIDTHS[0], "height": 900})
            tools = view.context.new_cdp_session(view)
            tools.send("Performance.enable")
            start = time.monotonic()
            view.goto(page.as_uri())
            view.wait_for_function(READY)
            values = [time.monotonic() - start, cpu_seconds(tools)]
            view.evaluate("window.dispatchEvent(new Event('beforeprint'))")
            view.wait_for_function(DRAWN)
            values += [time.monotonic() - start, cpu_seconds(tools)]
            for name, value in zip(names, values, strict=True):
                measured[name].append(value)
            view.close()
        for width in WIDTHS if shots else ():
            view = browser.new_page(viewport={"width": width, "height": 900})
            view.goto(page.as_uri())
            view.evaluate("window.dispatchEvent(new Event('beforeprint'))")
            view.wait_for_function(DRAWN)
            view.wait_for_timeout(1000)
            shots.mkdir(parents=True, exist_ok=True)  # type: ignore[union-attr]
            view.screenshot(path=shots / f"cohort-{width}.png", full_page=True)  # type: ignore[operator]
            view.close()
        browser.close()
    return measured


def cpu_seconds(tools: object) -> float:
    """Ask the page's process for its CPU time since it started."""
    metrics = tools.send("Performance.getMetrics")["metrics"]  # type: ignore[attr-defined]
    return float(next(one["value"] for one in metrics if one["name"] == "ProcessTime"))


if __name__ == "__main__":
    main()
