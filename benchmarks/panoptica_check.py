"""Our counts and overlaps against panoptica's, on random instance volumes, empty ones among them.

    python -m venv /tmp/panoptica
    /tmp/panoptica/bin/pip install panoptica==2.1.7
    python benchmarks/panoptica_check.py /tmp/panoptica/bin/python [--images 200 --seed 1]

panoptica wants older numpy and pandas, so it runs in an environment of its own: the volumes go
there in a file, its numbers come back in another. Each image has 0 to 6 blocks as lesions; the
prediction moves, splits, merges, drops and invents some. At an IoU above 0.5 a lesion has at
most one partner, so there both programs must count the same. At the challenge's 0.2 panoptica
matches one to one and the challenge does not: there they may differ where lesions have several
partners, and only there.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SHAPE = (48, 40, 24)
THRESHOLDS = (0.51, 0.2)
RATES = ("true_positives", "false_positives", "false_negatives", "precision", "sensitivity", "f1")
THEIRS = dict(zip(RATES, ("tp", "fp", "fn", "prec", "rec", "rq"), strict=True))


def random_pair(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a reference and a prediction; in one image in eight either is empty, or both are."""
    rng = np.random.default_rng((seed, number))
    reference, prediction = np.zeros((2, *SHAPE), np.uint8)
    label = 10
    for lesion in range(1, int(rng.integers(0, 7)) + 1):
        size = rng.integers(3, 10, 3)
        corner = rng.integers(0, np.array(SHAPE) - size)
        reference[_box(corner, size)] = lesion
        if rng.random() < 0.2:
            continue
        moved = np.maximum(corner + rng.integers(-1, 2, 3), 0)
        label += int(rng.random() < 0.8)  # else it is merged with the one before
        prediction[_box(moved, size)] = label
        if rng.random() < 0.25:
            half = size // (2, 1, 1)
            label += 1
            prediction[_box(moved, half)] = label
    for extra in range(100, 100 + int(rng.integers(0, 3))):
        prediction[_box(rng.integers(0, np.array(SHAPE) - 4), np.full(3, 4))] = extra
    if number % 8 == 0:
        reference[:] = 0 if number % 16 else reference
        prediction[:] = 0 if number % 24 else prediction
    return reference, prediction


def _box(corner: np.ndarray, size: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(a + s)) for a, s in zip(corner, size, strict=True))


def ours(reference: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Score with this program."""
    from bids_app.evaluation.anima import anima_scores
    from bids_app.evaluation.matching import match_instances
    from bids_app.evaluation.metrics import detect, dice

    overlaps = match_instances(reference.astype(int), prediction.astype(int))
    found: dict[str, float] = {}
    for threshold in THRESHOLDS:
        counts = detect(overlaps, threshold)
        found |= {f"{name} at {threshold}": getattr(counts, name) for name in RATES}
    matched = overlaps.iou[overlaps.iou >= THRESHOLDS[0]]
    found[f"mean IoU of matches at {THRESHOLDS[0]}"] = (
        float(matched.mean()) if matched.size else 0.0
    )
    found["dice"] = dice(reference > 0, prediction > 0)
    whole = anima_scores(reference > 0, prediction > 0, (1.0, 1.0, 1.0), reference.size)
    found["jaccard"] = whole.jaccard
    unique = overlaps.iou >= THRESHOLDS[1]
    found["one to one"] = float((unique.sum(0) <= 1).all() and (unique.sum(1) <= 1).all())
    return found


def child(place: Path) -> None:
    """Score with panoptica; runs in its own environment."""
    from panoptica import InputType, NaiveThresholdMatching, Panoptica_Evaluator
    from panoptica.metrics import Metric

    evaluators = {
        threshold: Panoptica_Evaluator(
            expected_input=InputType.UNMATCHED_INSTANCE,
            instance_matcher=NaiveThresholdMatching(
                matching_metric=Metric.IOU, matching_threshold=threshold
            ),
            instance_metrics=[Metric.IOU],
            global_metrics=[Metric.DSC, Metric.IOU],
        )
        for threshold in THRESHOLDS
    }
    volumes = np.load(place / "volumes.npz")
    results = []
    for reference, prediction in zip(volumes["reference"], volumes["prediction"], strict=True):
        found: dict[str, float] = {}
        for threshold, evaluator in evaluators.items():
            result = evaluator.evaluate(prediction, reference, verbose=False)["ungrouped"]
            said = result.to_dict()
            found |= {f"{name} at {threshold}": said.get(key) for name, key in THEIRS.items()}
            if threshold == THRESHOLDS[0]:
                found[f"mean IoU of matches at {threshold}"] = said.get("sq")
                found["dice"] = said.get("global_bin_dsc")
                found["jaccard"] = said.get("global_bin_iou")
        results.append({k: None if v is None else float(v) for k, v in found.items()})
    (place / "results.json").write_text(json.dumps(results))


def main() -> None:
    """Draw, score with both, print the largest difference of each measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("python", type=Path, help="of an environment that has panoptica")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    pairs = [random_pair(arguments.seed, number) for number in range(arguments.images)]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        np.savez_compressed(
            place / "volumes.npz",
            reference=[reference for reference, _ in pairs],
            prediction=[prediction for _, prediction in pairs],
        )
        command = [str(arguments.python), __file__, str(arguments.python), "--child", name]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        theirs = json.loads((place / "results.json").read_text())
    _report([ours(*pair) for pair in pairs], theirs, pairs)


def _report(mine: list[dict], theirs: list[dict], pairs: list) -> None:
    empty = [not reference.any() or not prediction.any() for reference, prediction in pairs]
    print(f"{len(pairs)} images, {sum(empty)} with an empty side")
    print(f"{'measure':<32} {'both':>5} {'differ':>7} {'largest':>10}  defined here / there only")
    for name in theirs[0]:
        a, b = (_numbers(side, name) for side in (mine, theirs))
        both = np.isfinite(a) & np.isfinite(b)
        gap = np.abs(a - b)[both]
        alone = [int((np.isfinite(x) & ~np.isfinite(y)).sum()) for x, y in ((a, b), (b, a))]
        print(
            f"{name:<32} {both.sum():>5} {(gap > 1e-9).sum():>7} {gap.max(initial=0):>10.2g}  "
            f"{alone[0]} / {alone[1]}"
        )
    differ = np.zeros(len(mine), bool)
    for name in RATES[:3]:
        key = f"{name} at {THRESHOLDS[1]}"
        differ |= _numbers(mine, key) != _numbers(theirs, key)
    unique = _numbers(mine, "one to one") == 1
    print(
        f"Counts at {THRESHOLDS[1]} differ in {differ.sum()} images, {(differ & unique).sum()} of "
        f"them among the {unique.sum()} where every lesion has one partner at most."
    )
    _report_empty(mine, theirs, pairs)


def _report_empty(mine: list[dict], theirs: list[dict], pairs: list) -> None:
    """Show what either program says of empty sides."""
    names = ("precision at 0.51", "sensitivity at 0.51", "f1 at 0.51", "dice")
    cases = {
        "both empty": lambda r, p: not r.any() and not p.any(),
        "reference empty": lambda r, p: not r.any() and p.any(),
        "prediction empty": lambda r, p: r.any() and not p.any(),
    }
    for title, holds in cases.items():
        at = next((n for n, pair in enumerate(pairs) if holds(*pair)), None)
        if at is None:
            continue
        said = ", ".join(f"{name} {mine[at].get(name)} / {theirs[at].get(name)}" for name in names)
        print(f"{title} (here / panoptica): {said}")


def _numbers(rows: list[dict], name: str) -> np.ndarray:
    return np.array([math.nan if row[name] is None else row[name] for row in rows], dtype=float)


if __name__ == "__main__":
    main()
