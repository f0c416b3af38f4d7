"""Fit the calibration of a model's lesions, and show on other sessions whether it holds.

    python benchmarks/calibration.py [--fit 40 100] [--check 40 200] [--write]

Each session is one of `benchmarks/accuracy.py`'s, from a seed of its own, read with both contrasts
and with the T2w only; what counts as true are the lesions that show in a contrast that is there,
6-connected. A candidate is right when it and a true lesion overlap with IoU 0.2 or more. The fit
sees the sessions of the first seed, the tables are of those of the second. `--write` puts the
record into the model's ``model.json``.

Segmentations are kept under `--cache` by the weights' hash, so an interrupted run goes on where
it was and another fit takes seconds. `--placement known` puts the second contrast where the
generator says, which saves a third of the time; the app itself registers it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from readings import CANDIDATE_THRESHOLD, WAYS, Reading, collect, read_cohort
from rich.console import Console
from rich.table import Table

from bids_app.evaluation.calibration import expected_calibration_error, reliability
from bids_app.evaluation.fitting import fit_dispersion, fit_logistic, fit_temperature
from bids_app.lesions.preset import Preset, load_preset
from bids_app.lesions.uncertainty import (
    chances_of,
    expected_count,
    expected_volume,
    settings_of,
)
from bids_app.records import Calibration, FloatArray
from bids_app.segmentation.manifest import find_model, read_manifest

FEWEST_MISSED = 5


def joined(readings: Sequence[Reading], part: Callable[[Reading], FloatArray]) -> FloatArray:
    """Put one array of all readings together."""
    return np.concatenate([part(reading) for reading in readings])


def features_of(reading: Reading) -> FloatArray:
    """Give the features of the candidates, shape (candidates, 3)."""
    return np.array([each.features for each in reading.candidates]).reshape(-1, 3)


def fit(
    readings: Sequence[Reading], preset: Preset, source: str, logistic: bool = False
) -> Calibration:
    """Fit all of a calibration record.

    The probability is that of a temperature, fitted on reported lesions, or of a logistic
    regression on all candidates, which was less well calibrated on other sessions.
    """
    features = joined(readings, features_of)
    right = joined(readings, lambda r: r.right)
    if logistic:
        intercept, weights = fit_logistic(features, right)
    else:
        reported = joined(readings, lambda r: r.reported)
        temperature = fit_temperature(features[reported, 0], right[reported])
        intercept, weights = 0.0, np.array([1 / temperature, 0.0, 0.0])
    per_mm = [
        sum(len(r.missed_mm3) for r in readings if r.contrasts == n)
        / sum(r.cord_mm for r in readings if r.contrasts == n)
        for n in (1, 2)
    ]
    counts = np.array([len(r.missed_mm3) for r in readings])
    means = np.array([per_mm[r.contrasts - 1] * r.cord_mm for r in readings])
    true_mm3 = joined(readings, lambda r: r.true_mm3)
    known = true_mm3 > 0
    slope, offset = np.polyfit(features[known, 2], np.log(true_mm3[known]), 1)
    off = np.log(true_mm3[known]) - offset - slope * features[known, 2]
    missed_mm3 = joined(readings, lambda r: r.missed_mm3)
    # Too few to have a spread of their own: of the size of those that were found.
    unseen = np.log(missed_mm3 if len(missed_mm3) >= FEWEST_MISSED else true_mm3[known])
    return Calibration(
        intercept=round(intercept, 4),
        mean_logit_weight=round(float(weights[0]), 4),
        peak_logit_weight=round(float(weights[1]), 4),
        log_volume_weight=round(float(weights[2]), 4),
        candidate_threshold=CANDIDATE_THRESHOLD,
        missed_per_mm=(round(per_mm[0], 6), round(per_mm[1], 6)),
        missed_dispersion=round(fit_dispersion(counts, means), 4),
        volume_log_intercept=round(float(offset), 4),
        volume_log_slope=round(float(slope), 4),
        volume_log_sd=round(float(off.std(ddof=2)), 4),
        missed_volume_log_mean=round(float(unseen.mean()), 4),
        missed_volume_log_sd=round(float(unseen.std(ddof=1)), 4),
        preset=settings_of(preset),
        source=source,
    )


def chance_table(
    fitted: Sequence[Reading], checked: Sequence[Reading], record: Calibration
) -> Table:
    """Compare the ways to calibrate the probability of reported lesions."""

    def of(readings: Sequence[Reading], part: Callable[[Reading], FloatArray]) -> FloatArray:
        return joined(readings, lambda r: part(r)[r.reported])

    def right_of(readings: Sequence[Reading]) -> FloatArray:
        return of(readings, lambda r: r.right)

    temperature = fit_temperature(of(fitted, features_of)[:, 0], right_of(fitted))
    offset, slope = fit_logistic(of(fitted, features_of)[:, :1], right_of(fitted))
    logits = of(checked, features_of)[:, 0]
    chances = {
        "mean probability, uncalibrated": of(checked, lambda r: r.mean_probability),
        f"temperature {temperature:.2f}": 1 / (1 + np.exp(-logits / temperature)),
        "mean log-odds (Platt)": 1 / (1 + np.exp(-offset - logits * slope[0])),
        "the record": of(checked, lambda r: chances_of(r.candidates, record)),
    }
    right = right_of(checked)
    table = Table(
        "probability", "ECE", "by chance", "Brier", title=f"{len(right)} reported lesions"
    )
    for name, values in chances.items():
        cells = (
            expected_calibration_error(values, right),
            error_by_chance(values),
            np.mean((values - right) ** 2),
        )
        table.add_row(name, *(f"{cell:.3f}" for cell in cells))
    return table


def error_by_chance(chances: FloatArray, draws: int = 500) -> float:
    """Give the mean ECE of probabilities that are exactly right, for so few lesions."""
    rng = np.random.default_rng(0)
    drawn = rng.random((draws, len(chances))) < chances
    return float(np.mean([expected_calibration_error(chances, right) for right in drawn]))


def reliability_table(readings: Sequence[Reading], record: Calibration) -> Table:
    """Show what became of lesions by their calibrated probability."""
    right = joined(readings, lambda r: r.right[r.reported])
    chances = joined(readings, lambda r: chances_of(r.candidates, record)[r.reported])
    table = Table("lesions", "probability", "right", title="Reliability")
    for each in reliability(chances, right):
        if each.count:
            table.add_row(
                str(each.count), f"{each.mean_probability:.3f}", f"{each.share_right:.3f}"
            )
    return table


def coverage_table(readings: Sequence[Reading], record: Calibration) -> Table:
    """Show how often the intervals hold the truth."""
    headings = ("sessions", "n", "count covered", "width", "expected", "true", "reported",
                "no missed rate", "volume covered", "expected mm3", "true mm3")  # fmt: skip
    table = Table(*headings, title="95 % intervals")
    groups: list[tuple[str, Callable[[Reading], bool]]] = [("all", lambda r: r.lesions >= 0)]
    groups += [(way, lambda r, n=n: r.contrasts == n) for way, n in WAYS.items()]
    for low, high, name in (
        (0, 0, "no lesion"),
        (1, 2, "1-2"),
        (3, 4, "3-4"),
        (5, 99, "5 or more"),
    ):
        groups.append((name, lambda r, a=low, b=high: a <= r.lesions <= b))
    rows = [(reading, *_check(reading, record)) for reading in readings]
    for name, belongs in groups:
        some = [row[1:] for row in rows if belongs(row[0])]
        if some:
            cells = np.mean(np.array(some, dtype=float), axis=0)
            table.add_row(name, str(len(some)), *(f"{cell:.3g}" for cell in cells))
    return table


def _check(reading: Reading, record: Calibration) -> tuple[float, ...]:
    """Give the cells of one session."""
    chances = chances_of(reading.candidates, record)
    missed = record.missed_mean(reading.cord_mm, reading.contrasts)
    count = expected_count(chances, missed, record.missed_dispersion)
    plain = expected_count(chances, 0, 0)
    volumes = np.array([each.volume_mm3 for each in reading.candidates])
    volume = expected_volume(chances, volumes, missed, record)
    return (
        count.low <= reading.lesions <= count.high,
        count.high - count.low,
        count.expected,
        reading.lesions,
        float(reading.reported.sum()),
        plain.low <= reading.lesions <= plain.high,
        volume.low <= reading.volume_mm3 <= volume.high,
        volume.expected,
        reading.volume_mm3,
    )


def main() -> None:
    """Fit, show, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None)
    parser.add_argument("--preset", default=None, help="default: the model's own")
    parser.add_argument("--fit", type=int, nargs=2, default=(40, 100), metavar=("N", "SEED"))
    parser.add_argument("--check", type=int, nargs=2, default=(40, 200), metavar=("N", "SEED"))
    parser.add_argument("--cache", type=Path, default=Path("checkpoints/calibration"))
    parser.add_argument("--placement", choices=("registered", "known"), default="registered")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--logistic", action="store_true", help="in place of a temperature")
    parser.add_argument("--write", action="store_true", help="put the record into model.json")
    arguments = parser.parse_args()
    model_folder = Path(find_model(arguments.model))
    manifest = read_manifest(model_folder)
    preset = load_preset(arguments.preset or manifest.preset or "default")
    folder = arguments.cache / manifest.fingerprint[:12]
    folder.mkdir(parents=True, exist_ok=True)
    work = partial(collect, folder=folder, model_folder=model_folder, placement=arguments.placement)
    fitted = read_cohort(*arguments.fit, work, preset, arguments.workers)
    checked = read_cohort(*arguments.check, work, preset, arguments.workers)
    number, seed = arguments.fit
    source = f"{number} synthetic sessions (seed {seed}), with and without a second contrast"
    record = fit(fitted, preset, source, arguments.logistic)
    console = Console(width=150)
    console.print(record)
    console.print(chance_table(fitted, checked, record))
    console.print(reliability_table(checked, record))
    console.print(coverage_table(checked, record))
    if arguments.write:
        path = model_folder / "model.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["calibration"] = asdict(record)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        console.print(f"Wrote the calibration into {path}.")


if __name__ == "__main__":
    main()
