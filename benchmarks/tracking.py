"""Measure the tracking of lesions on synthetic subjects whose links are known.

    python benchmarks/tracking.py --subjects 40 --seed 0 --reposition 5

Each subject has three sessions on grids of their own (sagittal, axial, isotropic, oblique). Lesions
are new, resolve, grow, shrink, merge and split; their masks get uneven edges, some lesions are
missed and some are false, as a network's are. The person is repositioned between sessions by
the given distance and up to 4 degrees, and brought back by the app's own registration from noisy
cord masks. A link is a pair of connected lesions in consecutive sessions that show the same
lesion. What becomes of a lesion is judged from the known links and the drawn sizes.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from phantoms import cord_coordinates, draw_person, error_at_cord, image_person, noisy_cord  # noqa: E402

from bids_app.imaging.registration import register  # noqa: E402
from bids_app.lesions.preset import Preset  # noqa: E402
from bids_app.lesions.track import track  # noqa: E402
from bids_app.records import FloatArray, IntArray, TrackedLesion, Visit, Volume  # noqa: E402

GRIDS = ("sagittal", "axial", "isotropic")
FATES = ("stable", "stable", "enlarging", "shrinking", "new", "resolved", "merging", "splitting")
GROWTH, SHRINKAGE = 1.35, 0.7  # of each half-axis: 2.5 and 0.34 times the volume
EDGE_MM, EDGE_SCALE_MM = 0.4, 2.5
MISSED, FALSE = 0.04, 0.3
SMALLEST_MM3 = 8.0
CLASSES = ("new", "enlarging", "stable", "shrinking", "merged", "split", "resolved", "not-covered")


@dataclass(frozen=True)
class Drawn:
    """One lesion: its centre in the cord, and its half-axes and trend at each session."""

    center_mm: FloatArray
    half_mm: FloatArray
    trend: tuple[str, ...]


@dataclass(frozen=True)
class Imaged:
    """One session: what tracking is given, and which drawn lesions each instance shows."""

    visit: Visit
    shows: dict[int, frozenset[int]]
    error_mm: float


def draw_lesions(rng: np.random.Generator) -> list[Drawn]:
    """Draw 4 to 7 fates, each lesion at a distance from the others."""
    lesions: list[Drawn] = []
    for fate in rng.choice(FATES, int(rng.integers(4, 8)), replace=False):
        for _ in range(200):
            drawn = _draw(rng, str(fate))
            if all(_apart(one, other) for one in drawn for other in lesions):
                lesions += drawn
                break
    return lesions


def _draw(rng: np.random.Generator, fate: str) -> list[Drawn]:
    half = np.array([rng.uniform(1.4, 2.4), rng.uniform(1.3, 2.0), rng.uniform(3, 8)])
    center = np.array([rng.uniform(-3.5, 3.5), rng.uniform(-1.8, 1.8), rng.uniform(-36, 36)])
    when = int(rng.integers(1, 3))
    later = np.array([visit >= when for visit in range(3)])
    size = np.ones(3)
    trend = ["stable"] * 3
    if fate in ("enlarging", "shrinking"):
        size = np.where(later, GROWTH if fate == "enlarging" else SHRINKAGE, 1.0)
        trend[when] = fate
    elif fate in ("new", "resolved"):
        size = (later if fate == "new" else ~later).astype(float)
    elif fate in ("merging", "splitting"):
        apart = later if fate == "splitting" else ~later
        length = np.where(apart, half[2] * 0.6, half[2] * 1.15)
        axes = np.stack([np.full(3, half[0]), np.full(3, half[1]), length], axis=1)
        offset = np.array([0, 0, half[2] * 0.6 + 1.75])
        return [Drawn(center + sign * offset, axes, tuple(trend)) for sign in (-1, 1)]
    return [Drawn(center, half * size[:, None], tuple(trend))]


def _apart(one: Drawn, other: Drawn) -> bool:
    """Tell whether two lesions stay 2 mm apart along one of the axes."""
    gap = np.abs(one.center_mm - other.center_mm)
    return bool((gap > one.half_mm.max(axis=0) + other.half_mm.max(axis=0) + 2).any())


def segment(
    rng: np.random.Generator, lesions: list[Drawn], session: int, place: FloatArray, grid: Volume
) -> tuple[IntArray, dict[int, frozenset[int]]]:
    """Give a session's instances as a network would find them, and what each of them shows."""
    depth = np.full(place.shape[1:], -9.0)
    owner = np.zeros(place.shape[1:], dtype=int)
    for number, lesion in enumerate(lesions):
        half = lesion.half_mm[session]
        if half.min() <= 0 or rng.random() < MISSED:
            continue
        away = (place - lesion.center_mm[:, None, None, None]) / half[:, None, None, None]
        own = (1 - np.linalg.norm(away, axis=0)) * half.min()
        owner = np.where(own > depth, number + 1, owner)
        depth = np.maximum(depth, own)
    spacing = np.array(grid.spacing_mm)
    edge = ndimage.gaussian_filter(rng.normal(size=depth.shape), EDGE_SCALE_MM / spacing)
    mask = depth + EDGE_MM * edge / edge.std() > 0
    cord = (place[0] / 6.3) ** 2 + (place[1] / 4.0) ** 2 < 1.1
    if rng.random() < FALSE:
        at = np.array([rng.uniform(-3, 3), rng.uniform(-2, 2), rng.uniform(-36, 36)])
        extra = np.linalg.norm(place - at[:, None, None, None], axis=0) < 1.6
        owner[extra & (depth < -1)] = 0
        mask |= extra
    labels, count = ndimage.label(mask & cord, ndimage.generate_binary_structure(3, 2))
    shows = {}
    for label in range(1, count + 1):
        inside = labels == label
        if np.count_nonzero(inside) * np.prod(spacing) < SMALLEST_MM3:
            labels[inside] = 0
            continue
        # What only grazes another lesion does not show it.
        share = Counter(owner[inside & (depth > -1)].tolist())
        least = 0.1 * sum(share.values())
        shows[label] = frozenset(n for n, size in share.items() if n and size >= least)
    return labels, shows


def make_subject(seed: int, reposition_mm: float, aligned: bool = True) -> list[Imaged]:
    """Image one subject three times and align its sessions as the app does, or not at all."""
    rng = np.random.default_rng(seed)
    person, lesions = draw_person(rng), draw_lesions(rng)
    sessions: list[Imaged] = []
    first: tuple[Volume, FloatArray, Volume] | None = None
    for session in range(3):
        matrix = np.eye(4)
        if session and reposition_mm:
            shift, axis = rng.normal(size=(2, 3))
            turn = axis / np.linalg.norm(axis) * np.deg2rad(rng.uniform(0, 4))
            matrix[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
            matrix[:3, 3] = shift / np.linalg.norm(shift) * reposition_mm
        image, true_cord = image_person(person, str(rng.choice(GRIDS)), matrix, "T2w", rng)
        place = cord_coordinates(person, image, matrix)
        instances, shows = segment(rng, lesions, session, place, image)
        image.data[instances > 0] *= 1.3
        cord = noisy_cord(true_cord, rng).data > 0.5
        found, error = np.eye(4), 0.0
        if first is None:
            first = image, cord, true_cord
        else:
            if aligned:
                found = register(image, first[0], first[1], cord).matrix
            error = error_at_cord(found, matrix, first[2])
        sessions.append(Imaged(Visit(instances, cord, image.affine, found), shows, error))
    return sessions


def known_links(before: Imaged, after: Imaged) -> set[tuple[int, int]]:
    """Pair the instances of two sessions that show the same lesion."""
    return {(i, j) for i, one in before.shows.items() for j, two in after.shows.items()
            if one & two}  # fmt: skip


def found_links(rows: tuple[TrackedLesion, ...], session: int) -> set[tuple[int, int]]:
    """Give the links of a session with the one before it, as instance numbers."""
    earlier = {row.lesion_id: row.index for row in rows if row.visit == session - 1 and row.index}
    return {
        (earlier[number], row.index)
        for row in rows
        if row.visit == session and row.index
        for number in row.came_from
        if number in earlier
    }


def known_changes(
    lesions: list[Drawn], before: Imaged, after: Imaged, session: int
) -> dict[tuple[str, int], str]:
    """Say what became of each instance: of ``now`` ones, and of those ``gone``."""
    links = known_links(before, after)
    changes = {}
    for index, shown in after.shows.items():
        parents = [i for i, j in links if j == index]
        siblings = [j for i, j in links if i in parents]
        if not parents:
            changes["now", index] = "new"
        elif len(parents) > 1:
            changes["now", index] = "merged"
        elif len(siblings) > 1:
            changes["now", index] = "split"
        else:
            trends = {lesions[number - 1].trend[session] for number in shown} - {"stable"}
            changes["now", index] = min(trends, default="stable")
    for index in set(before.shows) - {i for i, _ in links}:
        changes["gone", index] = "resolved"
    return changes


def told_changes(rows: tuple[TrackedLesion, ...], session: int) -> dict[tuple[str, int], str]:
    """Give what the tracking says, keyed as `known_changes`."""
    earlier = {row.lesion_id: row.index for row in rows if row.visit == session - 1 and row.index}
    told = {}
    for row in rows:
        if row.visit == session and row.index:
            told["now", row.index] = row.change
        elif row.visit == session and row.lesion_id in earlier and row.merged_into is None:
            told["gone", earlier[row.lesion_id]] = row.change
    return told


@dataclass(frozen=True)
class Score:
    """What one subject adds to the tables."""

    links: Counter[str]
    changes: Counter[tuple[str, str]]
    errors_mm: tuple[float, ...]


def score_subject(seed: int, reposition_mm: float, aligned: bool) -> Score:
    """Make a subject, track its lesions, and compare with what is known."""
    sessions = make_subject(seed, reposition_mm, aligned)
    rng = np.random.default_rng(seed)
    draw_person(rng)
    lesions = draw_lesions(rng)
    rows = track([one.visit for one in sessions], Preset())
    links: Counter[str] = Counter()
    changes: Counter[tuple[str, str]] = Counter()
    for session in (1, 2):
        before, after = sessions[session - 1 : session + 1]
        known, found = known_links(before, after), found_links(rows, session)
        links["hit"] += len(known & found)
        links["false"] += len(found - known)
        links["missed"] += len(known - found)
        told = told_changes(rows, session)
        for key, change in known_changes(lesions, before, after, session).items():
            changes[change, told.get(key, "no row")] += 1
    return Score(links, changes, tuple(one.error_mm for one in sessions[1:]))


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=40, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--reposition", type=float, default=5.0, metavar="MM")
    parser.add_argument("--headers", action="store_true", help="do not align, trust the headers")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.subjects)
    score = partial(score_subject, reposition_mm=options.reposition, aligned=not options.headers)
    scores = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for seed, one in zip(seeds, pool.map(score, seeds), strict=True):
            scores.append(one)
            error = ", ".join(f"{mm:.2f}" for mm in one.errors_mm)
            print(f"{seed:4d} {error} mm off, links {dict(one.links)}", flush=True)
    links = sum((one.links for one in scores), Counter[str]())
    changes = sum((one.changes for one in scores), Counter[tuple[str, str]]())
    _print(options, links, changes, np.array([one.errors_mm for one in scores]).ravel())


def _print(
    options: argparse.Namespace,
    counts: Counter[str],
    confusion: Counter[tuple[str, str]],
    errors: FloatArray,
) -> None:
    precision = counts["hit"] / max(1, counts["hit"] + counts["false"])
    recall = counts["hit"] / max(1, counts["hit"] + counts["missed"])
    print(
        f"\n{options.subjects} subjects from seed {options.seed}, {options.reposition:g} mm apart"
    )
    median, high = np.percentile(errors, [50, 95])
    print(f"alignment: median {median:.2f}, 95th percentile {high:.2f}, max {errors.max():.2f} mm")
    print(f"links: {dict(counts)}")
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    print(f"precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}")
    columns = [*CLASSES, "baseline"]
    print("known \\ told " + " ".join(f"{name:>11s}" for name in columns))
    for change in CLASSES[:-1]:
        cells = " ".join(f"{confusion[change, told]:11d}" for told in columns)
        print(f"{change:12s} {cells}")


if __name__ == "__main__":
    main()
