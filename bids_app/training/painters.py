"""The tissues of a spine, one function a region; `structures.paint` calls them back to front.

Each takes the canvas, the points in cord coordinates, the smooth noise at them (coarse to fine)
and a generator that is the same wherever the spine is looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bids_app.records import FloatArray
from bids_app.training.anatomy import Spine
from bids_app.training.canvas import Canvas, Frame, ellipse

Array = FloatArray


def paint_body(
    canvas: Canvas, f: Frame, noise: Array, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Skin, fat under it, muscle with septa of fat; returns the points inside the body."""
    v = f.v - f.value["skin_y"]
    depth = ellipse(f.u + 4 * noise[0], v, f.value["skin_a"], f.value["skin_b"])
    canvas.paint("skin_fat", depth)
    inside = np.flatnonzero(depth > 0)
    thickness = rng.gamma(2.5, 2.5) * (1 + 1.2 * (v[inside] < -20))
    canvas.paint("muscle", depth[inside] - thickness, inside)
    deep = inside[depth[inside] > thickness]
    septum = 0.14 - np.abs(noise[1][deep] + 0.4 * noise[0][deep] + rng.uniform(-0.5, 0.5))
    canvas.paint("fat", septum * 5, deep)
    front = deep[(f.v[deep] > 18) | (np.abs(f.u[deep]) > 45)]
    for tissue, level in (("organ_a", 0.5), ("organ_b", 0.7)):
        sign = 1 if tissue == "organ_a" else -1
        edge = np.maximum(f.v[front] - 18, np.abs(f.u[front]) - 45)
        canvas.paint(tissue, np.minimum((noise[0][front] * sign - level) * 8, edge), front)
    return deep


def paint_neck_and_chest(
    canvas: Canvas, f: Frame, noise: Array, body: NDArray[np.int64], rng: np.random.Generator
) -> None:
    """Airway, oesophagus, great vessels, lungs."""
    near = body[(f.v[body] > -10) & (np.abs(f.u[body]) < 60)]
    g = f.take(near, "neck", "chest", "sac_b", "body_d", "sac_y")
    if near.size == 0:
        return
    front = g.value["sac_b"] + g.value["sac_y"] + 3 + g.value["body_d"]
    neck = g.value["neck"]
    gap = rng.uniform(3, 7)
    off = rng.normal(0, 2)
    canvas.paint(
        "oesophagus", ellipse(g.u - off - 3, g.v - front - gap, 7.0, 3.5) - 30 * (neck < 0.2), near
    )
    radius = rng.uniform(6, 10)
    trachea = ellipse(g.u - off, g.v - front - gap - 5 - radius, radius * 1.2, radius)
    canvas.paint("cartilage", trachea + 2.0 - 30 * (neck < 0.15), near)
    canvas.paint("airway", trachea - 30 * (neck < 0.15), near)
    for side in (-1, 1):
        for tissue, u0, v0, r in (
            ("vessel_a", rng.uniform(20, 30), rng.uniform(-2, 8), rng.uniform(2.5, 4)),
            ("vessel_b", rng.uniform(27, 38), rng.uniform(-6, 6), rng.uniform(3, 7)),
            (
                "vessel_c",
                rng.uniform(13, 17),
                -front.mean() + rng.uniform(3, 8),
                rng.uniform(1.5, 2.6),
            ),
        ):
            wave = 2 * np.sin(g.h / rng.uniform(25, 50) + rng.uniform(0, 6)).astype(np.float32)
            circle = ellipse(g.u - side * u0 - wave, g.v - front - v0, r, r)
            canvas.paint(tissue, circle - 30 * (neck < 0.2), near)
    chest = g.value["chest"]
    canvas.paint(
        "vessel_a", ellipse(g.u + 12, g.v - front - 4, 10.0, 10.0) - 30 * (chest < 0.5), near
    )
    wide = body[(np.abs(f.u[body]) > 22) & (f.value["chest"][body] > 0.3)]
    k = f.take(wide, "chest", "skin_y", "skin_a", "skin_b")
    lung = ellipse(np.abs(k.u) - 62 + 4 * noise[0][wide], k.v - k.value["skin_y"], 42.0, 62.0)
    canvas.paint("lung", lung - 60 * (k.value["chest"] < 0.4), wide)


def paint_head(canvas: Canvas, f: Frame, noise: Array, rng: np.random.Generator) -> None:
    """Skull, brain, cerebellum and the clivus in front of the brainstem."""
    where = np.flatnonzero(f.h > -12)
    if where.size == 0:
        return
    h, u, v = f.h[where], f.u[where], f.v[where]
    cavity = ellipse(np.sqrt(u * u + ((h - 68) * 0.95) ** 2), v - 8, 66.0, 78.0)
    behind = v < 14 + 0.6 * h
    cavity = np.where(behind, cavity, -np.abs(cavity) - 5)
    canvas.paint("bone", cavity + rng.uniform(3, 7), where)
    canvas.paint("csf", cavity, where)
    cistern = np.sqrt(u * u + v * v) - f.value["sac_a"][where] * 0.95 - 1.5 * noise[1][where]
    sulci = cavity - 3 - 1.5 * noise[1][where]
    canvas.paint("brain", np.minimum(sulci, np.where(h < 40, cistern, 9)), where)
    folia = 0.8 * np.sin(h * rng.uniform(1.1, 1.8) + 2 * noise[1][where])
    lobes = ellipse(np.sqrt((np.abs(u) - 20) ** 2 + (h - 22) ** 2), v + 32, 25.0, 22.0)
    canvas.paint("cerebellum", lobes + 1.5 * folia.astype(np.float32), where)
    clivus = 6 - np.abs(v - 22 - 0.5 * h)
    canvas.paint("marrow", np.minimum(clivus, 14 - np.abs(u)) - 40 * (h < 2), where)


def paint_vertebrae(canvas: Canvas, f: Frame, noise: Array, rng: np.random.Generator) -> None:
    """Bodies with discs between them, arches, facets and spinous processes."""
    where = np.flatnonzero((f.h < 6) & (np.abs(f.u) < 45) & (f.v < 75) & (f.v > -75))
    if where.size == 0:
        return
    g = f.take(where, "sac_a", "sac_b", "sac_x", "sac_y", "epidural", "to_disc", "to_spinous",
               "body_a", "body_d")  # fmt: skip
    val = g.value
    u, v = g.u - val["sac_x"], g.v - val["sac_y"]
    disc, spinous = val["to_disc"], val["to_spinous"]
    half_depth = val["body_d"] / 2
    center = val["sac_b"] + 2.0 + half_depth
    waist = 0.92 + 0.08 * np.clip(1 - disc / 8, 0, 1)
    body = ellipse(u, v - center, val["body_a"] * waist, half_depth * (0.95 + 0.1 * (waist - 0.92)))
    body = np.minimum(body, v - val["sac_b"] - 1.2) + 0.5 * noise[1][where]
    shell = rng.uniform(0.8, 1.8)
    canvas.paint("ligament", body + 1.2, where)
    canvas.paint("bone", np.minimum(body, disc), where)
    canvas.paint("marrow", np.minimum(body - shell, disc - shell * 0.7), where)
    vein = (
        np.minimum(2.0 - np.abs(u) * 0.4, 1.3 - np.abs(disc - 7))
        - np.abs(v - center + half_depth * 0.6) * 0.2
    )
    canvas.paint("vein", np.minimum(vein, body - 1), where)
    canvas.paint("disc", np.minimum(body + 0.8, -disc), where)
    nucleus = np.minimum(body - half_depth * 0.35, -disc - 0.6)
    canvas.paint("nucleus", nucleus, where)
    back = -(val["sac_b"] + val["epidural"])
    reach = rng.uniform(18, 45)
    slant = rng.uniform(0.0, 0.5)
    arch = np.sqrt((u / (val["sac_a"] + 4.5)) ** 2 + ((v + 1) / (-back + 5.0)) ** 2)
    lamina = np.minimum(2.6 - np.abs(arch - 1) * 9, -v + 2)
    lamina = np.minimum(lamina, -(spinous - 2.5))
    process = np.minimum(rng.uniform(1.8, 4) - np.abs(u), np.minimum(back - v, v - back + reach))
    process = np.minimum(process, -(spinous + slant * (np.abs(v) - 12) * 0.1))
    facet_u = np.abs(u) - val["sac_a"] - rng.uniform(5, 8)
    facet = np.minimum(
        ellipse(facet_u, v + rng.uniform(-3, 5), 6.0, 6.5), 6 - 0.8 * np.abs(spinous)
    )
    for shape in (lamina, process, facet):
        canvas.paint("bone", shape + 0.8, where)
        canvas.paint("marrow", shape - rng.uniform(0.1, 1.0), where)


def paint_canal(canvas: Canvas, f: Frame, noise: Array, rng: np.random.Generator) -> None:
    """Epidural fat, ligaments, dura, cerebrospinal fluid and the nerve roots that leave."""
    reach = f.value["sac_a"] + 16
    where = np.flatnonzero((np.abs(f.u) < reach) & (np.abs(f.v) < reach) & (f.h < 44))
    if where.size == 0:
        return
    g = f.take(where, "sac_a", "sac_b", "sac_x", "sac_y", "triangle", "epidural", "to_root",
               "cord_a", "cord_b")  # fmt: skip
    val = g.value
    u, v = g.u - val["sac_x"], g.v - val["sac_y"]
    r = np.sqrt(u * u + v * v) + 1e-3
    sine = v / r
    corner = 1 + val["triangle"] * (sine * (4 * sine * sine - 3) + 0.2)
    sac = ellipse(u, v, val["sac_a"] * corner, val["sac_b"] * corner)
    below = g.h < 8
    behind = np.clip(-sine + 0.15, 0, 1) * val["epidural"]
    canal = np.where(below, sac + behind + 0.8, -9)
    tunnel = np.sqrt(((v - 1.0) / 4.2) ** 2 + ((val["to_root"] + 3) / 5.5) ** 2)
    tunnel = np.minimum((1 - tunnel) * 4, 13 - np.abs(u) + val["sac_a"] + noise[1][where])
    canvas.paint("epidural", np.where(below, tunnel, -9), where)
    canvas.paint("ligament", canal + rng.uniform(0.6, 1.6), where)
    canvas.paint("epidural", canal, where)
    dura = rng.uniform(0.1, 0.7)
    canvas.paint("ligament", np.where(below, sac + dura, -9), where)
    ganglion = ellipse(np.abs(u) - val["sac_a"] - rng.uniform(3, 6), v - 1.0, 4.5, 2.6)
    canvas.paint("root", np.where(below, np.minimum(ganglion, -val["to_root"]), -9), where)
    canvas.paint("csf", sac, where)
    _paint_roots(canvas, g, where, sac, rng)


def _paint_roots(
    canvas: Canvas, g: Frame, where: NDArray[np.int64], sac: Array, rng: np.random.Generator
) -> None:
    """Rootlets from the cord to the dura; below the conus the cauda equina."""
    inner = np.flatnonzero((sac > 0.2) & (g.h < 0))
    if inner.size == 0:
        return
    u, v, h = g.u[inner], g.v[inner], g.h[inner]
    a = g.value["cord_a"][inner]
    near_level = np.clip(1.2 - np.abs(g.value["to_root"][inner] + 2) * 0.12, 0, 1)
    for start, climb in ((0.35, -0.25), (-0.35, 0.2)):
        line = start * g.value["cord_b"][inner] * 1.6 + climb * np.abs(u) * np.sign(start)
        thread = np.clip(0.9 - np.abs(v - line), 0, 1) * (np.abs(u) > a * 0.55)
        canvas.cover(
            "root", (thread * near_level * rng.uniform(0.2, 0.75)).astype(np.float32), where[inner]
        )
    tail = inner[a < 3.6]
    if tail.size == 0:
        return
    u, v, h = g.u[tail], g.v[tail], g.h[tail]
    wide, deep = g.value["sac_a"][tail], g.value["sac_b"][tail]
    fullness = np.clip((3.6 - g.value["cord_a"][tail]) / 2, 0, 1)
    for _ in range(16):
        angle, radius = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0.02, 0.85))
        sway = 0.1 * np.sin(h / rng.uniform(15, 40) + rng.uniform(0, 6))
        u0 = (radius * np.cos(angle) + sway) * wide * 0.9
        v0 = (radius * np.sin(angle) * 0.8 - 0.25) * deep * 0.9
        root = np.clip(1.2 - np.sqrt((u - u0) ** 2 + (v - v0) ** 2), 0, 1) * fullness * 0.8
        canvas.cover("root", root.astype(np.float32), where[tail])


def paint_cord(canvas: Canvas, f: Frame, spine: Spine, rng: np.random.Generator) -> Array:
    """Cord with its fissure, grey matter and central canal; returns its membership."""
    membership = np.zeros(f.u.size, np.float32)
    reach = f.value["cord_a"] * 1.3 + 2
    where = np.flatnonzero(
        (np.abs(f.u) < reach) & (np.abs(f.v) < reach) & (f.h > spine.conus_mm - 14)
    )
    if where.size == 0:
        return membership
    g = f.take(where, "cord_a", "cord_b", "grey", "canal_csf")
    a, b = g.value["cord_a"], g.value["cord_b"]
    notch = 1 - rng.uniform(0.0, 0.09) * np.exp(-((g.u / 1.2) ** 2)) * (g.v > 0)
    depth = ellipse(g.u, g.v, a * notch, b * notch)
    soft = canvas.soft(depth)
    membership[where] = soft
    canvas.cover("cord", soft, where)
    p, q = np.abs(g.u / a), g.v / b
    scale = g.value["grey"] * rng.uniform(0.85, 1.15)
    front = 1 - np.sqrt(((p - 0.30) / (0.17 * scale)) ** 2 + ((q - 0.24) / (0.32 * scale)) ** 2)
    lean = p - 0.27 + 0.16 * (q + 0.3)
    back = 1 - np.sqrt((lean / (0.085 * scale)) ** 2 + ((q + 0.3) / (0.46 * scale)) ** 2)
    bridge = 1 - np.sqrt((p / 0.4) ** 2 + ((q - 0.03) / (0.11 * scale)) ** 2)
    horns = np.maximum(np.maximum(front * 0.22, back * 0.12), bridge * 0.12) * a
    canvas.cover("grey", np.minimum(canvas.soft(np.asarray(horns, np.float32)), soft), where)
    channel = g.value["canal_csf"] * 0.9 - np.sqrt(g.u**2 + g.v**2)
    canvas.cover("canal", np.clip(channel + 0.3, 0, 1).astype(np.float32), where)
    return membership


def paint_implant(canvas: Canvas, f: Frame, rng: np.random.Generator) -> None:
    """Metal: a void with a bright rim somewhere beside the canal."""
    u0, v0, h0 = (
        rng.choice([-1, 1]) * rng.uniform(12, 22),
        rng.uniform(-25, 25),
        rng.uniform(-350, -40),
    )
    radius = rng.uniform(5, 13)
    void = radius - np.sqrt((f.u - u0) ** 2 + (f.v - v0) ** 2 + ((f.h - h0) * 0.5) ** 2)
    canvas.paint("implant", void + 2, None)
    canvas.paint("airway", void, None)


def find_lesions(
    f: Frame, spine: Spine, cord: Array, noise: Array
) -> tuple[tuple[NDArray[np.int64], Array, tuple[float, float]], ...]:
    """Membership of each lesion, its edge made uneven by noise, cut by the cord."""
    found = []
    inside = np.flatnonzero(cord > 0.02)
    h = f.h[inside]
    for lesion in spine.lesions:
        near = inside[np.abs(h - lesion.height_mm) < lesion.half_length_mm * 1.4 + 2]
        if near.size == 0:
            continue
        p, q = f.u[near] / f.value["cord_a"][near], f.v[near] / f.value["cord_b"][near]
        along = (f.h[near] - lesion.height_mm) / lesion.half_length_mm
        across = np.sqrt(
            ((p - lesion.p) / lesion.radius_p) ** 2 + ((q - lesion.q) / lesion.radius_q) ** 2
        )
        rho = (
            (across**2.2 + np.abs(along) ** 3) ** 0.4
            + 0.09 * noise[2][near]
            + 0.12 * noise[1][near]
        )
        width = max(lesion.softness, 0.16)
        member = np.clip((1 - rho) / width + 0.5, 0, 1) * cord[near]
        keep = member > 0.02
        if keep.any():
            found.append((near[keep], member[keep].astype(np.float32), lesion.strength))
    return tuple(found)
