"""Claims answered from seeds: what each answer rests on, in words, and how often it is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from luceloop.analysis.statistics.claims import Verdict, answer_claims
from luceloop.core.config.claims import ClaimConfig
from luceloop.core.config.parsing import parse_config
from luceloop.core.errors import ConfigError

POINTS = {
    0: {"curation.beta": 0, "lam": 1.0},
    1: {"curation.beta": 0, "lam": math.inf},
    2: {"curation.beta": 10, "lam": 1.0},
    3: {"curation.beta": 10, "lam": math.inf},
}
NAMES = {index: f"point {index}" for index in POINTS}
MEANS = {0: 0.0, 1: 0.05, 2: 1.0, 3: 3.0}


def _values(index: int, metric: str, at: object, seeds: int = 6) -> dict[int, float]:
    """Seeds share their noise; at t=0 all points are at 0."""
    rng = np.random.default_rng(0)
    common, own = rng.normal(0, 0.2, size=seeds), np.random.default_rng(index + 1)
    level = 0.0 if at == 0 else MEANS[index]
    own_noise = own.normal(0, 0.02, size=seeds) if at != 0 else np.zeros(seeds)
    return dict(enumerate(level + common + own_noise))


def _answer(*plain: dict, points=POINTS, measure=_values, forecasts=None) -> list[Verdict]:
    claims = [ClaimConfig.model_validate({"says": "so", **each}) for each in plain]
    expect = forecasts or (lambda index, metric, at: None)
    return answer_claims(claims, points, NAMES, measure, expect)


ANSWERS = [
    ({"point": {"lam": math.inf, "beta": 10}, "above": 1.0}, "holds"),
    ({"point": {"lam": math.inf, "beta": 10}, "below": 1.0}, "contradicted"),
    ({"point": {"beta": 10}, "above": {"at": 0}, "by": 0.5}, "holds"),
    ({"point": {"beta": 10}, "above": {"at": 0}, "by": 2}, "contradicted"),  # at λ=1
    ({"point": {"lam": 1, "beta": 10}, "below": {"point": {"lam": math.inf}}}, "holds"),
    ({"point": {"lam": 1}, "below": {"point": {"lam": math.inf}}, "by": 1}, "contradicted"),
    ({"point": {"beta": 0}, "near": {"at": 0}, "within": 0.2}, "holds"),
    ({"point": {"beta": 10}, "near": {"at": 0}, "within": 0.2}, "contradicted"),
    ({"point": {"beta": 0, "lam": 1}, "above": 0.0}, "undecided"),
    ({"point": {"beta": 3}, "above": 0.0}, "undecided"),  # no such point
    ({"point": {"beta": 10, "lam": 1}, "above": {"point": {"lam": 7}}}, "undecided"),
]


@pytest.mark.parametrize(("plain", "answer"), ANSWERS, ids=str)
def test_a_claim_is_answered(plain, answer):
    [found] = _answer(plain)
    assert found.answer == answer and found.words.startswith(answer)


def test_comparisons_are_paired_and_adjusted_as_one_family():
    first, second = _answer(
        {"point": {"beta": 10}, "below": {"point": {"lam": math.inf}}},
        {"point": {"beta": 0, "lam": 1}, "above": 0.0},
    )
    [one], [other] = first.comparisons, second.comparisons
    a, b = (np.array(list(_values(i, "", "last").values())) for i in (2, 3))
    raw = stats.ttest_rel(a, b).pvalue
    assert one.found.p == pytest.approx(raw)
    assert one.found.p_holm == pytest.approx(2 * raw)
    assert other.found.p_holm >= other.found.p


def test_the_forecast_is_a_number_like_another():
    expected = {3: 3.0, 2: 2.5}
    [near, above] = _answer(
        {"point": {"beta": 10, "lam": math.inf}, "near": "forecast", "within": 0.5},
        {"point": {"beta": 10, "lam": 1}, "above": "forecast"},
        forecasts=lambda index, metric, at: expected.get(index),
    )
    assert near.answer == "holds" and above.answer == "contradicted"
    assert "point 2 against the forecast" in above.words


def test_undecided_claims_say_what_they_take():
    def noisy(index, metric, at):
        rng = np.random.default_rng(index)
        return dict(enumerate(0.3 + rng.normal(size=5)))

    [found] = _answer({"point": {"beta": 0, "lam": 1}, "above": 0.0}, measure=noisy)
    assert found.answer == "undecided" and "seeds" in found.words


SWEEPS = 400


def test_wrong_answers_are_rare_when_nothing_is_different():
    """Claims of growth, of an order and of a threshold, none of them true or false."""
    rng = np.random.default_rng(5)
    plain: list[dict] = [
        {"above": {"at": 0}},
        {"point": {"lam": 1}, "below": {"point": {"lam": math.inf}}},
        {"above": 0.0},
    ]
    wrong = 0
    for _ in range(SWEEPS):
        drawn: dict[tuple, dict[int, float]] = {}

        def measure(index, metric, at, drawn=drawn):
            key = (index, at)
            if key not in drawn:
                drawn[key] = dict(enumerate(rng.normal(size=5)))
            return drawn[key]

        wrong += any(found.answer != "undecided" for found in _answer(*plain, measure=measure))
    assert wrong / SWEEPS < 0.05 + 3 * math.sqrt(0.05 * 0.95 / SWEEPS)


REFUSED = [
    ({"says": "x"}, "exactly one of above, below and near"),
    ({"says": "x", "above": 1, "below": 2}, "exactly one of"),
    ({"says": "x", "near": 1}, "within"),
    ({"says": "x", "above": 1, "within": 2}, "within"),
    ({"says": "x", "above": {}}, "another point or another iteration"),
    ({"says": "", "above": 1}, "claims.0.says"),
    ({"says": "x", "abov": 1}, "abov"),
    ({"says": "x", "above": "forcast"}, "must be a number, forecast, or another point"),
]


@pytest.mark.parametrize(("claim", "said"), REFUSED, ids=str)
def test_a_claim_that_cannot_be_tested_is_one_line(claim, said):
    plain = {"name": "x", "data": {"name": "eight_gaussians"}, "claims": [claim]}
    with pytest.raises(ConfigError) as raised:
        parse_config(plain)
    assert said in str(raised.value) and "\n" not in str(raised.value)
    assert raised.value.key.startswith("claims")


def test_points_that_have_not_ended_leave_a_claim_undecided():
    claim = {"point": {"beta": 10}, "above": {"at": 0}}
    [whole] = _answer(claim)
    claims = [ClaimConfig.model_validate({"says": "so", **claim})]
    [part] = answer_claims(claims, POINTS, NAMES, _values, lambda *_: None, ended=[0, 1, 2])
    assert whole.answer == "holds" and part.answer == "undecided"
    assert part.words == "undecided: 1 points cannot be compared yet"


def test_a_point_is_not_compared_with_itself():
    [found] = _answer({"below": {"point": {"lam": math.inf}}, "point": {"beta": 10}})
    assert [each.a for each in found.comparisons] == ["point 2"] and found.answer == "holds"


def test_what_is_decided_before_all_points_have_ended_stays_so():
    """In whatever order points end; without room for those to come, some would be taken back."""
    claims = [
        ClaimConfig.model_validate({"says": "so", **plain})
        for plain in (
            {"point": {"beta": 10, "lam": math.inf}, "above": 0.5},
            {"point": {"beta": 10, "lam": 1.0}, "above": {"point": {"beta": 0}}},
            {"point": {"beta": 0, "lam": math.inf}, "above": 0.0},
            {"point": {"beta": 0, "lam": 1.0}, "near": 0.0, "within": 0.4},
            {"above": -1.0},
        )
    ]
    taken_back, decided = {True: 0, False: 0}, 0
    for repeat in range(60):
        random = np.random.default_rng(repeat)
        seeds = {i: dict(enumerate(random.normal(0.5 * i, 0.3, 6))) for i in POINTS}
        order = [int(i) for i in random.permutation(4)]

        def answers(count: int, lasting: bool, seeds=seeds, order=order) -> list[str]:
            found = answer_claims(
                claims,
                POINTS,
                NAMES,
                lambda index, metric, at: seeds[index],
                lambda index, metric, at: None,
                order[:count],
                lasting=lasting,
            )
            return [each.answer for each in found]

        last = answers(4, lasting=False)
        for lasting in (True, False):
            for count in (1, 2, 3):
                for early, final in zip(answers(count, lasting), last, strict=True):
                    taken_back[lasting] += early not in ("undecided", final)
                    decided += lasting and early != "undecided"
    assert taken_back[True] == 0 < taken_back[False] and decided > 50
