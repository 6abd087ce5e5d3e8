"""Agreement equals what definitions and other programs give, with missing answers, and never is NaN."""

from __future__ import annotations

import json
from dataclasses import fields
from itertools import permutations
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from app.statistics import agreement as agreements
from app.statistics import kappa as kappas_module
from app.statistics.agreement import Agreement, agreement
from app.statistics.estimate import Estimate
from app.statistics.kappa import kappas

Table = list[list[bool | None]]

ORACLES = json.loads((Path(__file__).parent / "agreement_oracles.json").read_text())["tables"]
FEW = 10  # draws: the estimate itself needs none
EXACT = 1e-9

tables = st.integers(2, 5).flatmap(
    lambda coders: st.lists(
        st.lists(st.sampled_from([None, False, True]), min_size=coders, max_size=coders), min_size=1, max_size=12
    )
)


def clips_of(table: Table) -> list[dict[str, bool | None]]:
    return [{f"ra{number}": answer for number, answer in enumerate(row)} for row in table]


def measured(table: Table, draws: int = FEW) -> Agreement:
    return agreement(clips_of(table), draws)


def same(found: Estimate, wanted: float | None) -> None:
    if wanted is None:
        assert (found.value, found.low, found.high) == (None, None, None)
        assert found.reason
        return
    assert found.value == pytest.approx(wanted, abs=EXACT)
    limits = [limit for limit in (found.low, found.value, found.high) if limit is not None]
    assert len(limits) == 3
    assert sorted(limits) == limits
    assert not found.reason


# Oracles, by ordered pairs of answers


def pairs(row: list[bool | None]) -> list[tuple[bool, bool]]:
    return list(permutations([answer for answer in row if answer is not None], 2))


def percent_by_pairs(table: Table) -> float | None:
    shares = [fmean(one == other for one, other in pairs(row)) for row in table if pairs(row)]
    return fmean(shares) if shares else None


def alpha_by_coincidences(table: Table) -> float | None:
    """Krippendorff's alpha from the matrix of coincidences."""
    coincidences = {(one, other): 0.0 for one in (False, True) for other in (False, True)}
    for row in table:
        judged = sum(answer is not None for answer in row)
        for pair in pairs(row):
            coincidences[pair] += 1 / (judged - 1)
    totals = {one: coincidences[one, False] + coincidences[one, True] for one in (False, True)}
    n = sum(totals.values())
    if not totals[False] * totals[True]:
        return None
    expected = 2 * totals[False] * totals[True] / (n - 1)
    return 1 - (coincidences[False, True] + coincidences[True, False]) / expected


def ac1_by_pairs(table: Table) -> float | None:
    observed = percent_by_pairs(table)
    if observed is None:
        return None
    given_answers = [[answer for answer in row if answer is not None] for row in table]
    yes = fmean(fmean(answers) for answers in given_answers if answers)
    chance = yes * (1 - yes) + (1 - yes) * yes
    return (observed - chance) / (1 - chance)


def positive_by_pairs(table: Table) -> float | None:
    others = [other for row in table for one, other in pairs(row) if one]
    return fmean(others) if others else None


@given(tables)
def test_measures_of_many_coders_equal_their_definitions(table):
    found = measured(table)
    same(found.percent, percent_by_pairs(table))
    same(found.alpha, alpha_by_coincidences(table))
    same(found.ac1, ac1_by_pairs(table))
    same(found.positive, positive_by_pairs(table))


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle["name"])
def test_measures_equal_those_of_other_programs(oracle):
    table = [[None if answer is None else bool(answer) for answer in row] for row in oracle["answers"]]
    found = measured(table)
    same(found.alpha, oracle["krippendorff_alpha"])
    same(found.ac1, oracle["irrcac_ac1"])
    same(found.percent, oracle["irrcac_percent"])


@given(tables)
@settings(max_examples=50)
def test_kappa_of_each_pair_equals_that_of_scikit_learn(table):
    found = kappas(clips_of(table), FEW)
    values = []
    for pair in found.pairs:
        columns = int(pair.first[2:]), int(pair.second[2:])
        both = [[row[column] for column in columns] for row in table]
        first, second = zip(*[answers for answers in both if None not in answers], strict=True)
        one_answer = len({*first, *second}) == 1
        wanted = None if one_answer else cohen_kappa_score(first, second, labels=[False, True])
        same(pair.kappa, wanted)
        values += [] if wanted is None else [wanted]
    same(found.mean, fmean(values) if values else None)


def table_of(no_no: int, no_yes: int, yes_no: int, yes_yes: int) -> Table:
    rows: Table = [[False, False], [False, True], [True, False], [True, True]]
    return [row for row, count in zip(rows, (no_no, no_yes, yes_no, yes_yes), strict=True) for _ in range(count)]


def test_krippendorffs_example_of_two_coders_and_ten_articles():
    """Computing Krippendorff's Alpha-Reliability, section A (2011): 0.095."""
    meg, owen = "0100000010", "1110010000"
    table: Table = [[one == "1", other == "1"] for one, other in zip(meg, owen, strict=True)]
    assert measured(table).alpha.value == pytest.approx(0.095, abs=5e-4)


def test_gwets_example_in_which_kappa_is_below_0_and_ac1_is_high():
    """Gwet, Kappa Statistic is not Satisfactory for Assessing the Extent of Agreement Between Raters (2002)."""
    table = table_of(0, 2, 5, 118)
    assert measured(table).ac1.value == pytest.approx(0.9408, abs=5e-5)
    assert kappas(clips_of(table)).pairs[0].kappa.value == pytest.approx(-0.0234, abs=5e-5)


@pytest.mark.parametrize("table", [[[True, None], [None, False]], [[None, None]], []], ids=["apart", "none", "no clip"])
def test_without_a_pair_nothing_is_defined(table):
    found = measured(table)
    for measure in (found.percent, found.alpha, found.ac1, found.positive, kappas(clips_of(table)).mean):
        same(measure, None)
    assert found.percent.reason == agreements.NO_PAIR


def test_if_all_say_no_only_measures_that_need_both_answers_are_undefined():
    table = table_of(20, 0, 0, 0)
    found, kappa = measured(table, 2000), kappas(clips_of(table))
    assert (found.alpha.reason, found.positive.reason) == (agreements.ONE_ANSWER, agreements.NO_YES)
    assert (kappa.pairs[0].kappa.reason, kappa.mean.reason) == (kappas_module.ONE_ANSWER, kappas_module.NO_KAPPA)
    assert (found.percent.value, found.percent.high, found.ac1.value) == (1, 1, 1)
    assert found.percent.low == pytest.approx(0.9, abs=0.05)  # 20 clips show no more


@pytest.mark.parametrize("measure", [field.name for field in fields(Agreement) if field.type == "Estimate"])
def test_the_order_of_clips_and_coders_changes_nothing(measure):
    table: Table = [[True, True, None], [False, True, False], [False, None, False], [True, True, False]] * 5
    turned: Table = [row[::-1] for row in table[::-1]]
    assert getattr(measured(table, 200), measure) == getattr(measured(turned, 200), measure)


def test_the_same_data_give_the_same_interval_of_kappa():
    clips = clips_of(table_of(80, 5, 6, 9))
    assert kappas(clips) == kappas(clips[::-1])


def test_the_mean_of_many_pairs_has_limits_also_with_few_draws(monkeypatch):
    clips = clips_of([[True, True, False], [False, False, False], [True, True, True]] * 10)
    full = kappas(clips).mean
    monkeypatch.setattr(kappas_module, "MOST_WORK", 0)
    few = kappas(clips).mean
    assert few.value == full.value
    assert few.half_width == pytest.approx(full.half_width, rel=0.3)


def test_one_pair_has_the_same_limits_as_the_mean_within_the_noise_of_draws():
    clips = clips_of(table_of(80, 5, 6, 9))
    found = kappas(clips)
    assert found.mean.low == pytest.approx(found.pairs[0].kappa.low, abs=0.02)
    assert found.mean.high == pytest.approx(found.pairs[0].kappa.high, abs=0.02)


@pytest.mark.parametrize("measure", ["percent", "alpha", "ac1", "positive"])
def test_ten_times_the_clips_give_an_interval_of_about_a_third(measure):
    few, many = (getattr(measured(table_of(*counts), 2000), measure) for counts in ((80, 5, 6, 9), (800, 50, 60, 90)))
    assert many.half_width == pytest.approx(few.half_width / 10**0.5, rel=0.15)
