"""The comparisons' table: who counts, which test, what is said when there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from bids_app.cohort.comparison import DICTIONARY, Comparison, Measure, holm
from bids_app.cohort.inference import statistics_table
from bids_app.cohort.visits import order_visits, visit_labels

COUNT, VOLUME = Measure("lesion_count", count=True), Measure("lesion_volume_mm3")


def cohort(*rows: tuple[Any, ...], **extra: Mapping[str, Any]) -> pd.DataFrame:
    """Make a sessions' table of (participant, session, count, group); a text count is a status."""
    table = pd.DataFrame(
        {
            "participant_id": [f"sub-{row[0]}" for row in rows],
            "session_id": [row[1] and f"ses-{row[1]}" for row in rows],
            "status": [row[2] if isinstance(row[2], str) else "done" for row in rows],
            "lesion_count": [None if isinstance(row[2], str) else row[2] for row in rows],
            "group": [row[3] for row in rows],
        }
    ).astype({"lesion_count": "Int64", "session_id": object, "group": object})
    table["lesion_volume_mm3"] = table["lesion_count"].astype("Float64").astype(float) * 10.0
    table["cord_length_mm"] = np.where(table["status"] == "done", 100.0, np.nan)
    for name, values in extra.items():
        table[name] = [values.get(who) for who in table["participant_id"]]
    return table


def groups(**counts: list[Any]) -> pd.DataFrame:
    """Make a cohort without sessions from each group's counts."""
    rows = [
        (f"{group}{i}", None, count, group)
        for group, values in counts.items()
        for i, count in enumerate(values)
    ]
    return cohort(*rows)


def only(table: pd.DataFrame, **wanted: Any) -> pd.Series:
    chosen = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    assert len(chosen) == 1, chosen
    return chosen.iloc[0]


def test_two_groups() -> None:
    a, b = [0, 1, 2, 3, 9], [4, 5, 6, 7, 8]
    table = statistics_table(groups(HC=a, MS=b), measures=[COUNT])
    assert list(table.columns) == list(DICTIONARY)
    row = only(table, test="Mann-Whitney U (exact)")
    direct = stats.mannwhitneyu(b, a, method="exact")
    assert (row["group_a"], row["group_b"], row["n_a"], row["n_b"]) == ("HC", "MS", 5, 5)
    assert (row["statistic"], row["median_a"], row["median_b"]) == (20, 2, 6)
    assert row["p"] == pytest.approx(direct.pvalue, abs=1e-6)
    assert row["effect"] == pytest.approx(0.6)
    assert row["family"] == "between groups: rank tests (1 test)"
    rate = only(table, effect_name="rate ratio")
    assert rate["effect"] == pytest.approx(2, rel=1e-4)
    assert rate["p"] > 0 and rate["ci95_low"] < 2 < rate["ci95_high"]
    assert "offset log(cord_length_mm)" in rate["note"]


def test_every_p_comes_with_its_n_its_test_and_its_missing() -> None:
    rows = [(i, s, (i * 7 + k) % 5, "a" if i % 2 else "b") for i in range(20)
            for k, s in enumerate(("M0", "M6"))]  # fmt: skip
    table = statistics_table(cohort(*rows))
    tested = table[table["p"].notna()]
    assert len(tested) > 5
    needed = ["n_a", "test", "n_missing", "n_failed", "p_holm", "family", "effect_name"]
    assert tested[needed].notna().all(axis=None)
    assert (tested["p_holm"] >= tested["p"]).all()
    assert table[table["p"].isna()]["note"].notna().all()


@pytest.mark.parametrize(
    ("a", "b"), [([], [1, 2, 3]), ([1], [1, 2, 3]), ([1, 2], [3, 4]), ([1, 5], [1, 2, 3, 4])]
)
def test_fewer_than_three_give_descriptives_only(a: list[int], b: list[int]) -> None:
    table = statistics_table(groups(a=a or ["missing"], b=b))
    assert len(table) == 2  # of the two measures in this table
    assert table["p"].isna().all()
    row = table.iloc[0]
    assert (row["n_a"], row["n_b"], row["n_missing"]) == (len(a), len(b), 0 if a else 1)
    assert row["median_b"] == np.median(b)
    assert "descriptives only" in row["note"]


@pytest.mark.parametrize(
    "table",
    [
        groups(),
        groups(a=[1, 2, 3, 4]),
        groups(a=["missing"] * 5),
        groups(a=[1, 2, 3]).drop(columns="group"),
        groups(a=[1, 2, 3]).assign(group=None),
    ],
)
def test_nothing_to_compare_is_a_header(table: pd.DataFrame) -> None:
    found = statistics_table(table)
    assert len(found) == 0
    assert list(found.columns) == list(DICTIONARY)


def test_constant_and_all_zero() -> None:
    zero = statistics_table(groups(a=[0] * 6, b=[0] * 6), measures=[COUNT])
    assert zero["p"].isna().all()
    assert zero["note"].tolist() == [
        "all values are equal",
        "all counts are zero in a and b: no rate ratio",
    ]
    one = statistics_table(groups(a=[0] * 6, b=[1, 2, 3, 0, 5, 2]), measures=[COUNT])
    assert only(one, test="Mann-Whitney U (exact)")["p"] < 0.05
    assert "all counts are zero in a: no rate ratio" in one.iloc[1]["note"]
    same = statistics_table(groups(a=[2] * 6, b=[2] * 6), measures=[VOLUME])
    assert same["note"].tolist() == ["all values are equal"]


def test_participants_count_once_by_their_first_done_session() -> None:
    rows = [("1", "M6", 50, "a"), ("1", "M12", 60, "a"), ("1", "M0", "failed", "a")]
    rows += [(f"{i}", "M0", i, "a") for i in (2, 3)]
    rows += [("4", "M0", "failed", "a"), ("5", "M0", "missing", "a"), ("6", "M0", 6, None)]
    rows += [(f"{i}", "M0", i, "b") for i in (7, 8, 9)]
    row = statistics_table(cohort(*rows), measures=[VOLUME]).iloc[0]
    assert (row["n_a"], row["n_b"], row["n_missing"], row["n_failed"]) == (3, 3, 1, 1)
    assert row["median_a"] == 30
    assert "1 enter with a later session than their first" in row["note"]
    assert "1 have no group and are left out" in row["note"]


def test_more_groups_are_compared_all_and_in_pairs() -> None:
    table = statistics_table(
        groups(c=[1, 2, 3, 4], A=[3, 5, 6, 9], b=[7, 8, 2, 8], few=[1]), measures=[VOLUME]
    )
    whole = only(table, test="Kruskal-Wallis")
    direct = stats.kruskal([3, 5, 6, 9], [7, 8, 2, 8], [1, 2, 3, 4])
    assert whole["p"] == pytest.approx(direct.pvalue, abs=1e-6)
    assert (whole["group_a"], whole["n_a"]) == ("all", 12)
    assert "without few" in whole["note"]
    pairs = table[table["group_b"].notna()]
    assert list(zip(pairs["group_a"], pairs["group_b"], strict=True)) == [
        ("A", "b"), ("A", "c"), ("A", "few"), ("b", "c"), ("b", "few"), ("c", "few"),
    ]  # fmt: skip
    assert set(pairs["family"].dropna()) == {"between groups: pairs (3 tests)"}
    many = statistics_table(groups(**{f"g{i}": [i, 1, 2] for i in range(12)}), measures=[VOLUME])
    assert many["note"].tolist() == ["12 groups: too many for pairs"]


def test_groups_with_odd_names() -> None:
    names = ["MS (RR)", "n/a", "Ünïcode % \\ '", "12", "all"]
    rows = [(f"{g}{i}", None, (i * 3 + g) % 7, name) for g, name in enumerate(names)
            for i in range(4)]  # fmt: skip
    table = statistics_table(cohort(*rows), measures=[VOLUME])
    assert set(table["group_b"].dropna()) | set(table["group_a"]) == set(names)
    assert len(table) == 1 + 10


def test_holm() -> None:
    rows = [Comparison("m", "c", family="f", p=p) for p in (0.01, 0.04, 0.03, 0.005)]
    rows.insert(2, Comparison("m", "c", note="none"))
    rows.append(Comparison("m", "c", family="g", p=0.2))
    found = holm(rows)
    assert [row.p_holm for row in found] == pytest.approx(
        [0.03, 0.06, None, 0.06, 0.02, 0.2], nan_ok=True
    )
    assert found[0].family == "f (4 tests)"
    assert found[-1].family == "g (1 test)"
    assert found[2].family is None


def test_holm_is_that_of_statsmodels() -> None:
    ps = np.random.default_rng(2).beta(0.3, 2, 40).tolist()
    found = holm([Comparison("m", "c", family="f", p=p) for p in ps])
    expected = multipletests(ps, method="holm")[1]
    assert [row.p_holm for row in found] == pytest.approx(expected, rel=1e-5)


def test_covariates_adjust_and_their_gaps_are_counted() -> None:
    rng = np.random.default_rng(3)
    ages = rng.normal(40, 10, 40)
    rows = [(f"{i:02d}", None, int(rng.poisson(np.exp(ages[i] / 20))), "ab"[i % 2])
            for i in range(40)]  # fmt: skip
    age = {f"sub-{i:02d}": f"{ages[i]:.1f}" for i in range(1, 40)}
    table = statistics_table(cohort(*rows, age=age), covariates=["age"], measures=[COUNT, VOLUME])
    rate = only(table, effect_name="rate ratio")
    assert (rate["covariates"], rate["n_a"], rate["n_missing"]) == ("age", 19, 1)
    assert rate["ci95_low"] < 1 < rate["ci95_high"]
    mean = only(table, effect_name="adjusted difference")
    assert mean["covariates"] == "age"
    plain = table[table["test"] == "Mann-Whitney U"]
    assert plain["covariates"].isna().all() and (plain["n_a"] == 20).all()
    twin = {f"sub-{i:02d}": "ab"[i % 2] for i in range(40)}
    stuck = statistics_table(cohort(*rows, twin=twin), covariates=["twin"], measures=[COUNT])
    assert "covariates cannot be told from the groups" in stuck.iloc[1]["note"]


def visits_of(n: int, change: int, groups: str = "ab") -> pd.DataFrame:
    rows = []
    for i in range(n):
        rows.append((f"{i:02d}", "M0", 5 + i % 3, groups[i % len(groups)]))
        rows.append((f"{i:02d}", "M12", 5 + i % 3 + change + i % 2, groups[i % len(groups)]))
    return cohort(*rows)


def test_paired_change() -> None:
    table = visits_of(10, 2, "a")
    lost = cohort(("90", "M0", 3, "a"), ("91", "M0", 3, "a"), ("91", "M12", "failed", "a"))
    found = statistics_table(pd.concat([table, lost]), measures=[VOLUME])
    row = only(found, comparison="over sessions")
    direct = stats.wilcoxon([20, 30] * 5)
    assert row["session"] == "ses-M0, ses-M12"
    assert (row["n_a"], row["n_missing"], row["n_failed"]) == (10, 1, 1)
    assert row["p"] == pytest.approx(direct.pvalue, abs=1e-6)
    assert (row["effect"], row["ci95_low"], row["ci95_high"]) == (25, 20, 30)
    yearly = only(found, comparison="annualised change")
    assert (yearly["n_a"], yearly["n_missing"], yearly["n_failed"]) == (0, 10, 1)
    assert "no acquisition times" in yearly["note"]


def dated(table: pd.DataFrame, **when: float) -> dict[str, float]:
    """Date each session: whole years differ between participants, `when` within."""
    return {
        f"{who}_{label}": 1900 + int(who.removeprefix("sub-")) + when[label.removeprefix("ses-")]
        for who, label in zip(table["participant_id"], table["session_id"], strict=True)
    }


def test_annualised_change() -> None:
    table = visits_of(12, 2)
    found = statistics_table(table, years=dated(table, M0=0, M12=0.5), measures=[VOLUME])
    whole = only(found, comparison="annualised change", group_a="all")
    assert whole["effect"] == pytest.approx(50)  # 25 mm3 in half a year
    assert 40 <= whole["ci95_low"] < 50 < whole["ci95_high"] <= 60
    assert whole["p"] == pytest.approx(stats.ttest_1samp([40, 60] * 6, 0).pvalue, rel=1e-5)
    between = only(found, comparison="annualised change between groups")
    assert (between["effect"], between["n_a"], between["n_b"]) == (1, 6, 6)
    assert (between["median_a"], between["median_b"]) == (40, 60)


def test_three_visits_give_the_slope_of_a_line_and_close_ones_nothing() -> None:
    rows = [(f"{i}", s, c, None) for i in range(3)
            for s, c in (("M0", 1), ("M6", 2), ("M24", 2))]  # fmt: skip
    table = cohort(*rows)
    times = dated(table, M0=0, M6=0.5, M24=2)
    row = only(statistics_table(table, years=times, measures=[COUNT]),
               comparison="annualised change")  # fmt: skip
    assert row["effect"] == pytest.approx(np.polyfit([0, 0.5, 2], [1, 2, 2], 1)[0], rel=1e-5)
    assert row["note"] == "all changes are equal"
    close = dated(table, M0=0, M6=0.1, M24=0.2)
    row = only(statistics_table(table, years=close, measures=[COUNT]),
               comparison="annualised change")  # fmt: skip
    assert (row["n_a"], row["n_missing"]) == (0, 3)


def test_visits_are_ordered_by_time_else_by_number() -> None:
    table = cohort(("1", "post", 1, "a"), ("1", "pre", 2, "a"), ("2", "M12", 1, "a"),
                   ("2", "M6", 2, "a"))  # fmt: skip
    plain = order_visits(table, {})
    assert plain["visit"].tolist() == ["ses-post", "ses-pre", "ses-M6", "ses-M12"]
    times = {"sub-1_ses-pre": 1900.0, "sub-1_ses-post": 1901.0}
    timed = order_visits(table, times)
    assert timed["visit"].tolist() == ["ses-pre", "ses-post", "ses-M6", "ses-M12"]
    alone = table[table["participant_id"] == "sub-1"]
    assert visit_labels(order_visits(alone, {})) == ["ses-post", "ses-pre"]
    assert visit_labels(order_visits(alone, times)) == ["ses-pre", "ses-post"]


def test_labels_of_dates_are_compared_by_their_order() -> None:
    rows = [(f"{i:02d}", f"2001{k}{i:02d}", i % 4 + k, None) for i in range(15) for k in (0, 1)]
    table = statistics_table(cohort(*rows), measures=[VOLUME])
    row = only(table, comparison="over sessions")
    assert (row["session"], row["n_a"], row["effect"]) == ("visit-1, visit-2", 15, 10)


def test_unknown_cord_lengths_mean_no_offset() -> None:
    table = groups(a=[1, 2, 3, 4], b=[2, 2, 5, 6])
    table.loc[0, "cord_length_mm"] = np.nan
    rate = only(statistics_table(table, measures=[COUNT]), effect_name="rate ratio")
    assert "no offset" in rate["note"]
    assert rate["effect"] == pytest.approx(1.5, rel=1e-4)


cells = st.one_of(st.integers(0, 4), st.sampled_from(["failed", "missing"]))
tables = st.lists(
    st.tuples(cells, cells, st.sampled_from(["a", "b", "c", None])), min_size=0, max_size=14
).map(
    lambda people: cohort(
        *[
            (f"{i:02d}", s, p[k], p[2])
            for i, p in enumerate(people)
            for k, s in ((0, "A"), (1, "B"))
        ]
    )
)


@settings(max_examples=8, deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(table: pd.DataFrame, random: Any) -> None:
    times = dated(table, A=0, B=1)
    shuffled = table.iloc[random.sample(range(len(table)), len(table))]
    found = statistics_table(table, years=times, measures=[COUNT])
    again = statistics_table(shuffled, years=times, measures=[COUNT])
    pd.testing.assert_frame_equal(found, again)
    inside = found.dropna(subset=["effect", "ci95_low"])
    assert (inside["ci95_low"] <= inside["effect"] + 1e-9).all()
    assert (inside["effect"] <= inside["ci95_high"] + 1e-9).all()
    assert found["p"].dropna().between(0, 1).all()


def test_a_missing_measure_is_left_out() -> None:
    table = statistics_table(groups(a=[1, 2, 3], b=[4, 5, 6]), measures=[Measure("no_such")])
    assert len(table) == 0
