"""Compare as a user runs it: several models' folders in, matrix, tests and one page out."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_evaluate import AFFINE, checksum, evaluate, save, table, two_lesions
from test_evaluation_official import plain_froc, random_image

from bids_app.cli import build_parser, main
from bids_app.cohort.effects import signed_rank
from bids_app.commands.compare_arguments import _EXAMPLE
from bids_app.commands.compare_matrix import Test as Row
from bids_app.commands.compare_matrix import corrected
from bids_app.dataset.images import find_image, usual_image_folders
from bids_app.dataset.labels import parse_lesion_name
from bids_app.evaluation.bootstrap import estimate_mean
from bids_app.evaluation.compare import (
    average,
    difference_interval,
    froc_models,
    interval,
    mean_sums,
    swap_test,
)
from bids_app.evaluation.froc import froc, froc_interval
from bids_app.evaluation.scan import score_scan
from bids_app.reports.gallery import GalleryView, choose_slice, pictures

HOSTILE = "<script>alert(1)</script>"


def compare(*arguments: object) -> int:
    return main(["compare", "--n-cpus", "1", *map(str, arguments)])


def summary(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


# The numbers, against independent ones.


def random_models(seed: int, images: int = 9) -> tuple[list, list, np.ndarray]:
    """The same images as two models see them, and whose they are."""
    sides = []
    for model in range(2):
        rng = [np.random.default_rng((seed, n)) for n in range(images)]
        drawn = [random_image(one) for one in rng]
        chance = np.random.default_rng((seed, 99, model))
        sides.append(
            [(ref, found, {k: float(chance.random()) for k in p}) for ref, found, p in drawn]
        )
    return sides[0], sides[1], np.arange(images) % 5


@pytest.mark.parametrize("seed", range(4))
def test_froc_of_sums_is_froc(seed: int) -> None:
    one, two, owner = random_models(seed)
    scored = [
        [score_scan(ref, found, p, (1, 1, 1)).scored for ref, found, p in side]
        for side in (one, two)
    ]
    sums = froc_models(scored, owner, 5)
    for side, images, plain in zip(sums, scored, (one, two), strict=True):
        assert side.value == pytest.approx(froc(images), abs=1e-12)
        assert side.value == pytest.approx(plain_froc(plain), abs=1e-9)
        subjects = [str(n) for n in owner]
        assert interval(side) == pytest.approx(froc_interval(images, subjects), abs=1e-12)
    # The permutation test against all ways of swapping, each computed from its images.
    observed = froc(scored[0]) - froc(scored[1])
    swaps = []
    for ways in itertools.product((0, 1), repeat=5):
        parts = [[scored[way ^ ways[o]][n] for n, o in enumerate(owner)] for way in (0, 1)]
        swaps.append(froc(parts[0]) - froc(parts[1]))
    found = np.array(swaps)
    tails = [(found >= observed - 1e-12).mean(), (found <= observed + 1e-12).mean()]
    assert swap_test(*sums) == pytest.approx(min(1.0, 2 * min(tails)), abs=1e-12)


def test_means_differences_and_averages() -> None:
    rng = np.random.default_rng(4)
    owner = np.array([0, 0, 1, 2, 3, 3, 4, 5, 6, 7])
    a, b = rng.random(10), rng.random(10)
    names = [str(n) for n in owner]
    sums = [mean_sums(side, owner, 8) for side in (a, b)]
    assert sums[0].value == pytest.approx(a.mean())
    one = estimate_mean(a, names)
    assert interval(sums[0]) == pytest.approx((one.low, one.high))
    gap = estimate_mean(a - b, names)
    assert difference_interval(*sums) == pytest.approx((gap.low, gap.high), abs=1e-12)
    mean, low, high = average(sums)
    assert mean == pytest.approx((a.mean() + b.mean()) / 2)
    # Independent people: the variance of the mean of two is a quarter of the sum of both.
    width = [high - low for low, high in map(interval, sums)]
    assert high - low == pytest.approx(np.hypot(*width) / 2, rel=0.2)
    assert low < mean < high


def test_scores_that_are_undefined_have_no_interval_and_no_test() -> None:
    owner = np.arange(4)
    known = mean_sums(np.array([4.0, 3.0, 2.0, 1.0]), owner, 4)
    unknown = mean_sums(np.full(4, np.nan), owner, 4)
    # From sums of nothing, yet with rows of its own: only the value says that it is undefined.
    endless = replace(known, finish=lambda sums: np.full(len(np.atleast_2d(sums)), np.inf))
    for one, other in ((known, unknown), (unknown, known), (known, endless), (endless, endless)):
        assert np.isnan(difference_interval(one, other)).all()
        assert np.isnan(swap_test(one, other))
    assert np.isnan(interval(unknown)).all() and np.isnan(average([known, endless])).all()


def test_holm_and_false_discovery_rate_by_hand() -> None:
    p = [0.01, 0.04, float("nan"), 0.03, 0.005]
    rows = [Row("f1", "t", "a", "b", 9, 9, 0, 0, 0, 0, 0, p=one) for one in p]
    holm = [row.p_corrected for row in corrected(rows, "holm")]
    # 0.005 x 4, 0.01 x 3, 0.03 x 2, then 0.04 x 1 is not below the one before.
    assert holm == pytest.approx([0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True)
    fdr = [row.p_corrected for row in corrected(rows, "fdr")]
    # 0.005 x 4 / 1, 0.01 x 4 / 2, 0.03 x 4 / 3, 0.04 x 4 / 4.
    assert fdr == pytest.approx([0.02, 0.04, np.nan, 0.04, 0.02], nan_ok=True)
    assert corrected(rows, "holm")[0].family == "f1 (4 tests)"


# The command.


def write_test_set(root: Path, name: str, subjects: int = 8) -> Path:
    """A BIDS dataset with images and labels, every scan with two lesions."""
    labels = root / name / "derivatives" / "labels"
    for number in range(subjects):
        who = f"sub-{name}{number}"
        data = np.random.default_rng(number).normal(100, 10, two_lesions().shape)
        save(root / name / who / "anat" / f"{who}_T2w.nii.gz", data + 50 * (two_lesions() > 0))
        save(labels / who / "anat" / f"{who}_label-lesion_mask.nii.gz", two_lesions() > 0)
    return root / name


def write_model(root: Path, model: str, test_set: str, quality: list[int]) -> Path:
    """Predictions that find none, one or both of the lesions; -1: no file."""
    for number, found in enumerate(quality):
        who = f"sub-{test_set}{number}"
        data = two_lesions()
        if found >= 0:
            mask = (data > 0) & (data <= found)
            save(root / model / who / "anat" / f"{who}_label-lesion_mask.nii.gz", mask)
    return root / model


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test sets, two models: one good on both, the other on its own only."""
    root = tmp_path_factory.mktemp("study")
    for name in ("basel", "lyon"):
        write_test_set(root, name)
    for name, quality in (("basel", [2] * 7 + [1]), ("lyon", [2] * 8)):
        write_model(root, "general", name, quality)
    write_model(root, "specific", "basel", [2] * 8)
    write_model(root, "specific", "lyon", [0, 1, 1, 0, 1, 1, 1, 0])
    return root


def sets(root: Path) -> list[object]:
    return ["--test-set", f"basel={root / 'basel'}", f"lyon={root / 'lyon'}"]


def models(root: Path, *names: str) -> list[object]:
    return ["--model", *(f"{name}={root / name}" for name in names)]


@pytest.fixture(scope="module")
def compared(study: Path) -> Path:
    out = study / "out"
    before = checksum(study)
    options = ["--trained-on", "general=basel,lyon", "specific=basel", "--gallery", 2]
    assert compare(out, *sets(study), *models(study, "general", "specific"), *options) == 0
    moved = out.rename(study.parent / f"{study.name}-out")
    assert checksum(study) == before
    return moved.rename(out)


def test_the_matrix_is_what_evaluate_says(compared: Path) -> None:
    rows = table(compared / "matrix.tsv")
    assert list(rows[0]) == list(json.loads((compared / "matrix.json").read_text()))
    for model, test_set in itertools.product(("general", "specific"), ("basel", "lyon")):
        said = summary(compared / "scores" / model / test_set)
        for metric in ("f1", "froc", "sensitivity", "precision", "fp_per_image"):
            (row,) = [
                r for r in rows
                if (r["metric"], r["model"], r["test_set"]) == (metric, model, test_set)
            ]  # fmt: skip
            assert float(row["mean"]) == pytest.approx(said["challenge"][metric], abs=1e-9)
            low, high = said["challenge"]["ci95"][metric]
            assert float(row["ci95_low"]) == pytest.approx(low, abs=1e-9)
            assert float(row["ci95_high"]) == pytest.approx(high, abs=1e-9)
            assert (row["scans"], row["subjects"], row["left_out"]) == ("8", "8", "0")
    means = {(r["model"], r["over"]): r["mean"] for r in rows if r["metric"] == "f1"}
    # F1 of one lesion of two is 2/3, of none 0.
    lyon = (5 * 2 / 3) / 8
    assert float(means["specific", "all test sets"]) == pytest.approx((1 + lyon) / 2)
    assert float(means["specific", "unseen test sets"]) == pytest.approx(lyon)
    assert float(means["specific", "seen test sets"]) == 1
    assert ("general", "unseen test sets") not in means


def test_the_tests_are_signed_ranks_corrected(compared: Path) -> None:
    rows = [row for row in table(compared / "tests.tsv") if row["metric"] == "f1"]
    assert [row["test_set"] for row in rows] == ["basel", "lyon"]
    gaps = {
        "basel": np.array([0.0] * 7 + [-1 / 3]),
        "lyon": 1 - np.array([0, 2, 2, 0, 2, 2, 2, 0]) / 3,
    }
    p = {name: signed_rank(values).p for name, values in gaps.items()}
    # All eight differ in one direction: 2 of 256 ways.
    assert p["lyon"] == pytest.approx(2 / 256)
    for row in rows:
        assert float(row["p"]) == pytest.approx(p[row["test_set"]], abs=1e-9)
        assert float(row["difference"]) == pytest.approx(gaps[row["test_set"]].mean(), abs=1e-9)
        assert row["family"] == "f1 (2 tests)"
    assert float(rows[1]["p_corrected"]) == pytest.approx(4 / 256)
    assert [rows[0][f"subjects_{way}"] for way in ("a_higher", "equal", "b_higher")] == [
        "0", "7", "1",
    ]  # fmt: skip
    assert summary(compared)["verdicts"] == [
        "F1, general against specific: general is better on lyon; no difference is shown on basel "
        "(p < 0.05, Holm, 2 tests)."
    ]
    froc_row = next(r for r in table(compared / "tests.tsv") if r["metric"] == "froc")
    assert froc_row["test"] == "permutation"


def test_the_page_stands_alone(compared: Path) -> None:
    page = (compared / "compare.html").read_text()
    assert page.count("plotly.js v") == 1
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"(?!data:)", page)
    shown = re.findall(r"<h3>(\w+): ([\w-]+)", page)
    # The one scan of basel on which the models differ comes first, and two of lyon with F1 0.
    assert shown[0] == ("basel", "sub-basel7")
    assert {scan for name, scan in shown if name == "lyon"} <= {
        "sub-lyon0", "sub-lyon3", "sub-lyon7",
    }  # fmt: skip
    assert len(shown) == 4
    assert page.count('class="strip" style="--n:4"') == 4
    assert "axial slice" in page


def test_nothing_is_scored_twice(study: Path, compared: Path) -> None:
    places = sorted(compared.glob("scores/*/*/summary.json"))
    before = [place.stat().st_mtime_ns for place in places]
    command = [*sets(study), *models(study, "general", "specific"), "--metrics", "dice"]
    assert compare(compared, *command) == 0
    assert [place.stat().st_mtime_ns for place in places] == before
    assert {row["metric"] for row in table(compared / "matrix.tsv")} == {"dice"}
    # A prediction that changes is scored again, the others are not.
    path = study / "specific/sub-basel0/anat/sub-basel0_label-lesion_mask.nii.gz"
    kept = path.read_bytes()
    save(path, two_lesions() == 1)
    assert compare(compared, *command) == 0
    path.write_bytes(kept)
    changed = [
        p.parent.name for p, t in zip(places, before, strict=True) if p.stat().st_mtime_ns > t
    ]
    assert "basel" in changed
    assert [p.parent.parent.name for p in places if p.stat().st_mtime_ns not in before] == [
        "specific"
    ] * len(changed)
    out = study / "again"
    scores = compared / "scores"
    given = [
        f"{m}:{t}={scores / m / t}" for m in ("general", "specific") for t in ("basel", "lyon")
    ]
    # What evaluate wrote needs no references; but it may not lie in OUT_DIR.
    assert compare(compared, "--model", *given) == 2
    assert compare(out, "--model", *given, "--metrics", "dice", "--gallery", 0) == 0
    assert not (out / "scores").exists()
    assert table(out / "matrix.tsv") == table(compared / "matrix.tsv")


def test_scans_that_not_all_have(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_model(tmp_path, "half", "basel", [2, 2, 2, 2, -1, -1, 1, 1])
    out = tmp_path / "out"
    one = ["--test-set", f"basel={study / 'basel'}", "--model", f"half={tmp_path / 'half'}",
           f"general={study / 'general'}", "--metrics", "dice", "--gallery", 1]  # fmt: skip
    assert compare(out, *one) == 0
    (half, general) = table(out / "matrix.tsv")
    assert (half["scans"], half["left_out"], general["scans"], general["left_out"]) == (
        "6", "2", "6", "2",
    )  # fmt: skip
    # Dice of one lesion of two of the same size: 2/3, on scans 6 and 7; general's on 7.
    assert float(half["mean"]) == pytest.approx((4 + 2 * 2 / 3) / 6)
    assert float(general["mean"]) == pytest.approx((5 + 2 / 3) / 6)
    assert table(out / "tests.tsv")[0]["scans"] == "6"
    said = capsys.readouterr().out
    assert "half, basel: has no prediction for 2 scans (sub-basel4, sub-basel5): left out." in said
    assert "means are over the 6 scans that all models have (half 6, general 8)" in said
    assert compare(out, *one, "--missing", "empty") == 0
    half = table(out / "matrix.tsv")[0]
    assert float(half["mean"]) == pytest.approx((4 + 2 * 2 / 3) / 8)
    assert "counted as empty predictions" in capsys.readouterr().out


def test_small_and_odd_cases(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One subject, one model, a model without a test set, an unusable prediction."""
    known, found, other = tmp_path / "known", tmp_path / "found", tmp_path / "other"
    save(known / "a.nii.gz", two_lesions())
    save(found / "a.nii.gz", two_lesions())
    save(other / "a.nii.gz", two_lesions() * 0)
    given = ["--test-set", f"one={known}", "--model", f"x={found}"]
    assert compare(tmp_path / "out", *given) == 0
    said = capsys.readouterr().out
    assert "There is one model only, so nothing is tested." in said
    assert "one has 1 subject: no interval and no test below 3." in said
    assert table(tmp_path / "out" / "tests.tsv") == []
    two = [*given, f"y={other}", "--test-set", f"lyon={study / 'lyon'}"]
    assert compare(tmp_path / "out", *two, "--model", f"z:lyon={study / 'general'}") == 0
    said = capsys.readouterr().out
    assert "x has no score on lyon. No prediction in" in said
    assert "F1, x against y: no test with 1 subject on one." in said
    save(other / "a.nii.gz", two_lesions()[:4])
    save(known / "b.nii.gz", two_lesions())
    save(found / "b.nii.gz", two_lesions())
    save(other / "b.nii.gz", two_lesions())
    assert compare(tmp_path / "out", *given, f"y={other}") == 1
    assert "y, one: has an unusable prediction for 1 scan (a): left out." in capsys.readouterr().out


def test_nothing_anywhere(tmp_path: Path) -> None:
    """No lesion in any label: sensitivity and FROC are undefined, and nothing breaks."""
    for folder, name in itertools.product(("known", "x", "y"), "abcd"):
        save(tmp_path / folder / f"{name}.nii.gz", np.zeros((4, 4, 3)))
    given = ["--test-set", f"none={tmp_path / 'known'}", *models(tmp_path, "x", "y")]
    assert compare(tmp_path / "out", *given) == 0
    rows = {(r["metric"], r["model"]): r for r in table(tmp_path / "out" / "matrix.tsv")}
    assert rows["froc", "x"]["mean"] == rows["sensitivity", "x"]["mean"] == "n/a"
    assert (rows["f1", "x"]["mean"], rows["sensitivity", "x"]["n"]) == ("1", "0")
    assert {row["p"] for row in table(tmp_path / "out" / "tests.tsv")} == {"n/a"}


def test_test_sets_split_by_contrast(tmp_path: Path) -> None:
    known, found = tmp_path / "known", {"x": ("T2w", "STIR"), "y": ("T2w", None)}
    for number in range(4):
        who = f"sub-{number}"
        save(known / who / "anat" / f"{who}_label-lesion_mask.nii.gz", two_lesions() > 0)
        for model, (first, second) in found.items():
            place = tmp_path / model / who / "anat" / f"{who}_label-lesion_mask"
            save(Path(f"{place}.nii.gz"), two_lesions() > 0)
            used = {"reference": first, "second": (second and ("STIR", "PSIR")[number // 2])}
            Path(f"{place}.json").write_text(json.dumps({"Contrasts": used}))
    given = ["--test-set", f"all={known}", *models(tmp_path, "x", "y"), "--metrics", "dice"]
    assert compare(tmp_path / "out", *given, "--by", "contrast", "--gallery", 0) == 0
    rows = [r for r in table(tmp_path / "out" / "matrix.tsv") if r["over"] == "test set"]
    # y saw the T2w only, but its scans are those that x saw with STIR and with PSIR.
    assert {(r["model"], r["test_set"], r["scans"]) for r in rows} == set(
        itertools.product("xy", ("all, T2w+STIR", "all, T2w+PSIR"), "2")
    )


def test_what_is_refused(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    basel, general = f"basel={study / 'basel'}", f"general={study / 'general'}"
    out = tmp_path / "out"
    for given, words in (
        (["--model", "general"], "write NAME=DIR"),
        (["--model", f"a/b={study}"], "cannot be a name"),
        (["--model", f"general={study / 'nowhere'}"], "is not a directory"),
        (["--model", general], "give --test-set NAME=REFERENCE_DIR"),
        (["--model", f"general:x={study / 'general'}", "--test-set", basel], "--test-set x="),
        (["--model", general, general, "--test-set", basel], "is given twice"),
        (["--model", general, "--test-set", basel, basel], "is given twice"),
        (["--model", general, "--test-set", basel, "--against", "z"], "no such --model"),
        (
            ["--model", general, "--test-set", basel, "--trained-on", "general=x"],
            "no such test set",
        ),
        (["--model", general, "--test-set", basel, "--metrics", "dise"], "did you mean dice"),
        (["--model", general, "--test-set", basel, "--repeat"], "needs no references"),
        (["--model", general, "--repeat"], "has one folder"),
    ):
        assert compare(out, *given) == 2, given
        assert words in capsys.readouterr().err, given
    assert compare(study, "--model", general, "--test-set", basel) == 2
    assert not out.exists()
    (tmp_path / "empty").mkdir()
    assert compare(out, "--model", f"x={tmp_path / 'empty'}", "--test-set", basel) == 65
    assert "holds no lesion label" in capsys.readouterr().err


def test_scores_that_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in "abc":
        save(tmp_path / "known" / f"{name}.nii.gz", two_lesions())
        save(tmp_path / "other" / f"{name}.nii.gz", two_lesions() == 1)
    for place, references, more in (
        ("x", "known", []), ("y", "other", []), ("z", "known", ["--threshold", 0.3]),
    ):  # fmt: skip
        assert evaluate(tmp_path / references, tmp_path / "known", tmp_path / place, *more) == 0
    said = []
    for other in "yz":
        given = [f"{name}:t={tmp_path / name}" for name in ("x", other)]
        assert compare(tmp_path / "out", "--model", *given) == 2
        said.append(capsys.readouterr().err)
    assert "different references: a has 2 and 1 lesions" in said[0]
    assert "different thresholds (0.5 and 0.3)" in said[1]
    (tmp_path / "x" / "lesions.tsv").write_text("scan\tkind\na\treference\n")
    (tmp_path / "x" / "scans.tsv").write_text("scan\nb\n")
    assert compare(tmp_path / "out", "--model", f"x:t={tmp_path / 'x'}") == 2
    assert "is not a complete output" in capsys.readouterr().err


def test_names_are_escaped(tmp_path: Path) -> None:
    for folder in ("known", "x"):
        save(tmp_path / folder / "a&b.nii.gz", two_lesions())
    name = HOSTILE.replace("/", "")
    given = ["--test-set", f"{name}={tmp_path / 'known'}", "--model", f"{name}={tmp_path / 'x'}"]
    assert compare(tmp_path / "out", *given) == 0
    page = (tmp_path / "out" / "compare.html").read_text()
    assert name not in page
    assert "&lt;script&gt;" in page


def test_the_help_example_parses() -> None:
    text = _EXAMPLE.replace("\\\n", "")
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("  cordlesion")]
    assert len(commands) == 6
    for command in commands:
        build_parser().parse_args(command[1:])


# The gallery.


@pytest.mark.parametrize(
    ("spacing", "axis"), [((0.5, 0.5, 3.0), 2), ((3.0, 0.5, 0.5), 0), ((1.0, 1.0, 1.0), 0)]
)
def test_pictures_keep_their_aspect(spacing: tuple[float, float, float], axis: int) -> None:
    shape = (40, 60, 50)
    one = np.zeros(shape, bool)
    one[20, 30, 25] = True
    view = GalleryView(None, one, {"a": one, "b": ~one & False}, spacing)
    assert choose_slice(view) == (axis, (20, 30, 25)[axis])
    drawn, place = pictures(view)
    assert list(drawn) == ["reference", "model a", "model b"]
    assert place.startswith(("sagittal", "coronal", "axial")[axis])
    sizes = {
        Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).size
        for address in drawn.values()
    }
    ((width, height),) = sizes
    sides = [s for n, s in enumerate(spacing) if n != axis]
    wanted = [min(n * s, 45.0) for n, s in zip(np.delete(shape, axis), sides, strict=True)]
    assert width / height == pytest.approx(wanted[0] / wanted[1], rel=0.08)


def test_pictures_say_what_is_right() -> None:
    reference, found = np.zeros((2, 30, 30, 4), bool)
    reference[5:15, 5:15, 2] = True
    found[10:20, 5:15, 2] = True
    view = GalleryView(np.zeros((30, 30, 4)), reference, {"a": found}, (1.0, 1.0, 4.0))
    drawn, _ = pictures(view)
    picture = np.array(Image.open(io.BytesIO(base64.b64decode(drawn["model a"].split(",")[1]))))
    seen = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    mixed = {
        tuple(int(0.55 * c) for c in color)
        for color in ((0, 158, 115), (86, 180, 233), (213, 94, 0))
    }
    assert mixed <= seen
    assert drawn["image"] != drawn["reference"]


def test_the_image_of_a_label(tmp_path: Path) -> None:
    name = "sub-1/ses-2/anat/sub-1_ses-2"
    for end in ("acq-sag_T2w", "acq-STIR_T2w", "run-1_T1w", "acq-sag_label-lesion_mask"):
        save(tmp_path / f"{name}_{end}.nii.gz", np.ones((2, 2, 2)))
    folders = usual_image_folders(tmp_path / "derivatives" / "labels")
    for label, expected in (
        ("sub-1_ses-2_label-lesion_mask.nii.gz", "acq-sag_T2w"),
        ("sub-1_ses-2_acq-sag_label-lesion_mask.nii.gz", "acq-sag_T2w"),
        ("sub-1_ses-2_STIR_lesion-manual.nii.gz", "acq-STIR_T2w"),
        ("sub-1_ses-2_T1w_label-lesion_seg.nii.gz", "run-1_T1w"),
        ("sub-1_ses-3_label-lesion_mask.nii.gz", None),
    ):
        found = find_image(parse_lesion_name(Path(label)), folders)
        assert (found and found.name) == (expected and f"sub-1_ses-2_{expected}.nii.gz")
    save(tmp_path / "imagesTs" / "case_0000.nii.gz", np.ones((2, 2, 2)), AFFINE)
