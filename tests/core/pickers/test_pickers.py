"""Pickers of several kinds in the loop: who chooses, what they keep, and what is measured."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from luceloop.core import rng
from luceloop.core.config.point import PointConfig
from luceloop.core.loop.loop import Loop, run_loop
from luceloop.core.loop.pack import Member, iterate_all
from luceloop.core.loop.state import IterationResult, LoopState
from luceloop.core.pickers.opinions import UserStatistics, choice_metrics, merge_users
from luceloop.core.pickers.pickers import Pickers, liking
from luceloop.core.pool import curation
from luceloop.core.theory.forecast import forecast

INF = math.inf
Make = Callable[..., PointConfig]
OPPOSITE = [{"weight": 0.7, "reward": {"mode": 0}}, {"weight": 0.3, "reward": {"mode": 4}}]
MIXED = [
    {"weight": 2, "beta": 3, "flip": 0.2, "reward": {"mode": 0}},
    {"weight": 1, "beta": -1, "reward": {"mode": 3}},
]


def _same(one: IterationResult, other: IterationResult) -> bool:
    kept, others = one.state.kept, other.state.kept
    if kept is None or others is None:
        if kept is not others:
            return False
    elif not torch.equal(kept, others):
        return False
    names = [name for name in one.metrics if not name.startswith("seconds/")]
    extra = {n for n in other.metrics if not n.startswith("seconds/")} - set(names)
    return not extra and all(
        torch.equal(one.metrics[name].nan_to_num(9), other.metrics[name].nan_to_num(9))
        for name in names
    )


def _pickers(share: list[float], beta: list[float], reward: tuple[int, ...]) -> Pickers:
    shares, betas = (torch.tensor([each], dtype=torch.float64) for each in (share, beta))
    return Pickers(shares, betas, reward, tuple(range(len(share))), (False,) * len(share))


# --- one user is today's loop


@pytest.mark.parametrize("k", [1, 2, 3, INF])
@pytest.mark.parametrize("lam", [1, INF])
def test_a_list_of_one_user_is_the_loop_of_one_kind_bit_for_bit(make_config: Make, k, lam):
    reward = {"name": "mode_distance", "mode": 2}
    plain = make_config(curation={"k": k, "beta": 5}, reward=reward, lam=lam)
    listed = make_config(curation={"k": k, "users": [{"beta": 5, "reward": reward}]}, lam=lam)
    for one, other in zip(run_loop(plain), run_loop(listed), strict=True):
        assert _same(one, other)


@pytest.mark.parametrize("k", [2, INF])
def test_a_user_without_weight_changes_no_choice(make_config: Make, k):
    """Who chooses comes from a stream of its own, so what is chosen is what it was."""
    idle = [{"beta": 5, "reward": {"mode": 1}}, {"weight": 0, "beta": 9, "reward": {"mode": 3}}]
    plain = make_config(curation={"k": k, "beta": 5}, reward={"mode": 1}, iterations=3)
    several = make_config(curation={"k": k, "users": idle}, iterations=3)
    for one, other in zip(run_loop(plain), run_loop(several), strict=True):
        for name, values in one.metrics.items():
            if not name.startswith(("seconds/", "margin/", "reward_kl")):  # fewer law samples
                assert torch.equal(values, other.metrics[name]), name


# --- who chooses


def test_who_chooses_is_drawn_by_the_shares():
    pickers = _pickers([0.2, 0.5, 0.3], [1, 1, 1], (0, 0, 0))
    who = pickers.draw([7], 40_000, iteration=3)
    counts = torch.bincount(who[0], minlength=3).numpy()
    assert stats.chisquare(counts, [8000, 20_000, 12_000]).pvalue > 1e-4
    assert torch.equal(who, pickers.draw([7], 40_000, iteration=3))
    assert not torch.equal(who, pickers.draw([7], 40_000, iteration=4))


def test_a_row_has_the_same_choosers_whatever_its_neighbours():
    share = torch.tensor([[0.2, 0.8], [0.6, 0.4]], dtype=torch.float64)
    both = Pickers(share, torch.ones(2, 2).double(), (0, 0), (0, 1), (False, False))
    alone = Pickers(share[1:], torch.ones(1, 2).double(), (0, 0), (0, 1), (False, False))
    assert torch.equal(both.draw([3, 4], 100, 1)[1:], alone.draw([4], 100, 1))


def test_shares_of_choices_count_only_what_is_kept():
    pickers = Pickers(
        torch.full((1, 3), 1 / 3).double(), torch.ones(1, 3).double(), (0, 0, 0), (0, 0, 1),
        (False, True, False),
    )  # fmt: skip
    who, mask = torch.tensor([[0, 1, 2, 2, 2]]), torch.tensor([[1, 1, 1, 1, 0]]).bool()
    found = choice_metrics(pickers, who, mask)
    assert {name: float(value) for name, value in found.items()} == {
        "choice_share/0": 0.5,
        "choice_share/1": 0.5,
        "flip_share": 0.25,
    }


# --- what they keep

REWARDS = torch.tensor([[0.0, -1.0, -2.0, 0.5]]), torch.tensor([[-1.0, 0.0, 0.5, -2.0]])


def _luce(reward: Tensor, beta: float) -> np.ndarray:
    liked, strength = liking(reward, torch.tensor([beta]).double())
    weight = curation.utility(liked, strength).double().exp()
    return (weight / weight.sum())[0].numpy()


@pytest.mark.parametrize("betas", [(2.0, 1.0), (-1.0, INF), (0.0, -INF)], ids=str)
def test_among_k_each_chooses_by_a_taste_of_their_own(betas):
    """Winners of equal groups are independent draws: χ² against the mixture of Luce's choices."""
    groups, k, share = 30_000, 4, [0.4, 0.6]
    pickers = _pickers(share, list(betas), (0, 1))
    who = pickers.draw([5], groups, 1)
    pools = [reward.repeat(1, groups) for reward in REWARDS]
    winner = curation.choose_among_k_by(pools, pickers, who, k, rng.streams([5], "test"))
    for p, beta in enumerate(betas):
        own = (winner[who == p] % k).numpy()
        expected = _luce(REWARDS[p], beta)
        present = expected > 0
        counts = np.bincount(own, minlength=k)
        assert not counts[~present].any()
        expected = expected[present] / expected[present].sum() * counts.sum()
        assert present.sum() == 1 or stats.chisquare(counts[present], expected).pvalue > 1e-4


@pytest.mark.parametrize("betas", [(2.0, 1.0), (-1.0, 3.0), (0.0, -INF)], ids=str)
def test_from_the_whole_pool_each_draws_by_a_taste_of_their_own(betas):
    """The pool lies in three parts; draws are as from all of it together."""
    draws = 30_000
    pickers = _pickers([0.4, 0.6], list(betas), (0, 1))
    who = pickers.draw([5], draws, 1)
    cuts = [slice(0, 1), slice(1, 3), slice(3, 4)]
    parts = [
        curation.draw_weighted_by(
            [reward[:, cut] for reward in REWARDS],
            torch.ones_like(REWARDS[0][:, cut]).bool(),
            pickers,
            who,
            functools.partial(rng.streams, [5], "test", shard=shard),
        )
        for shard, cut in enumerate(cuts)
    ]
    source = curation.choose_part_by(parts, pickers, who, lambda: rng.streams([5], "part"))
    index = torch.stack([part.index for part in parts], 1).gather(1, source[:, None])[:, 0]
    drawn = torch.tensor([cut.start for cut in cuts])[source] + index
    for p, beta in enumerate(betas):
        expected = _luce(REWARDS[p], beta)
        counts = np.bincount(drawn[who == p].numpy(), minlength=4)
        present = expected > 0
        assert not counts[~present].any()
        expected = expected[present] / expected[present].sum() * counts.sum()
        assert present.sum() == 1 or stats.chisquare(counts[present], expected).pvalue > 1e-4


def test_a_beta_of_minus_infinity_keeps_the_worst_of_k(make_config: Make):
    point = make_config(curation={"k": 3, "beta": -INF}, seeds=[1], iterations=1)
    loop = Loop(point)
    first = next(loop.run())
    assert first.reward is not None and first.state.kept is not None
    groups = first.reward[:, : 3 * 60].reshape(1, 60, 3)
    kept = loop.scorer.of_rows(first.state.kept).reward.reshape(1, 60)
    assert torch.equal(kept, groups.amin(2))


# --- what is measured


def test_utilities_are_those_of_the_pool_however_it_is_cut():
    generator = torch.Generator().manual_seed(0)
    rewards = [-40 * torch.rand(2, 50, generator=generator) for _ in range(2)]
    mask = torch.arange(50) < torch.tensor([[50], [7]])
    share = torch.tensor([[0.3, 0.7]], dtype=torch.float64).repeat(2, 1)
    beta = torch.tensor([[20.0, -30.0]], dtype=torch.float64).repeat(2, 1)
    pickers = Pickers(share, beta, (0, 1), (0, 1), (False, False))

    def metrics(sizes: list[int]) -> dict[str, Tensor]:
        cut = list(itertools.pairwise(itertools.accumulate(sizes, initial=0)))
        parts = [
            UserStatistics.of([r[:, a:b] for r in rewards], mask[:, a:b], pickers, (0.0, 0.0))
            for a, b in cut
        ]
        return merge_users(parts).metrics(pickers)

    whole = metrics([50])
    for row in range(2):
        logs = [
            torch.logsumexp(float(beta[0, p]) * rewards[p][row][mask[row]].double(), 0)
            - math.log(int(mask[row].sum()))
            for p in range(2)
        ]
        expected = 0.3 * float(logs[0]) + 0.7 * float(logs[1])
        assert float(whole["collective_utility"][row]) == pytest.approx(expected, rel=1e-12)
        mean = float(rewards[1][row][mask[row]].double().mean())
        assert float(whole["reward_mean/1"][row]) == pytest.approx(mean, rel=1e-12)
    assert "exp_reward_mean/0" in whole and "exp_reward_mean/1" not in whole
    for sizes in ([10, 40], [7, 3, 20, 20]):
        for name, values in metrics(sizes).items():
            assert torch.allclose(values, whole[name], rtol=1e-12), name


def test_metrics_of_each_user_are_those_of_their_own_loops(make_config: Make):
    point = make_config(curation={"beta": 10, "users": OPPOSITE}, iterations=0)
    [both] = run_loop(point)
    for user, mode in enumerate((0, 4)):
        [alone] = run_loop(make_config(curation={"beta": 10}, reward={"mode": mode}, iterations=0))
        for name in ("reward_mean", "exp_reward_mean"):
            assert torch.equal(both.metrics[f"{name}/{user}"], alone.metrics[name])
    assert both.reward is not None and both.reward.shape == (2, 120, 2)


def test_a_classifier_looks_once_for_all_users(make_config: Make, monkeypatch):
    """And a reward that users share is computed once."""
    users = [
        {"beta": 5, "reward": {"name": "class_probability", "label": 1}},
        {"beta": 5, "reward": {"name": "class_probability", "label": 7}},
        {"beta": -2, "reward": {"name": "class_probability", "label": 1}},
    ]
    point = make_config(
        data={"name": "digits", "size": 60},
        classifier={"name": "small_cnn", "epochs": 1},
        reward={"name": "max_confidence"},
        curation={"users": users},
        iterations=1,
    )
    assert len(point.rewards) == 2
    loop = Loop(point)
    looks: list[int] = []
    look = type(loop.scorer.classifier).__call__

    def counted(self: Any, x: Tensor) -> Any:
        looks.append(len(x))
        return look(self, x)

    monkeypatch.setattr(type(loop.scorer.classifier), "__call__", counted)
    x = loop.dataset.draw(30, rng.stream(0, "test"))[None]
    scores = loop.scorer.of_rows(x)
    assert looks == [30] and scores.others is not None and scores.others.shape == (30, 1)
    assert loop.scorer.classifier is not None
    probability = loop.scorer.classifier(x[0])[1].softmax(1)
    assert torch.equal(scores.reward, probability[:, 1])
    assert torch.equal(scores.others[:, 0], probability[:, 7])


# --- the promises of every loop


@pytest.mark.parametrize("k", [2, INF])
def test_an_interrupted_loop_goes_on_bit_for_bit(make_config: Make, k, tmp_path):
    point = make_config(curation={"k": k, "users": MIXED}, iterations=4, lam=1)
    whole = list(run_loop(point))
    torch.save(whole[1].state.plain(), tmp_path / "state.pt")
    saved = LoopState.of(torch.load(tmp_path / "state.pt", weights_only=True))
    for one, other in zip(whole[2:], Loop(point).run(saved), strict=True):
        assert _same(one, other)


@pytest.mark.parametrize("k", [2, INF])
def test_a_row_has_the_bits_that_it_has_alone(make_config: Make, k):
    shared = {"curation": {"k": k, "users": MIXED}, "sampling": {"shard_size": 50}}
    both = list(run_loop(make_config(**shared, seeds=[3, 5])))
    alone = list(run_loop(make_config(**shared, seeds=[5])))
    for one, other in zip(both, alone, strict=True):
        for name, values in other.metrics.items():
            if not name.startswith("seconds/"):
                assert torch.equal(one.metrics[name][1:], values), name


def test_loops_of_a_pack_have_the_bits_that_they_have_alone(make_config: Make):
    """Users differ from member to member; the network is trained for all together."""
    small = {"name": "otcfm", "steps": 15, "batch_size": 16, "width": 32, "depth": 2}
    curations = [
        {"beta": 5},
        {"k": 2, "users": OPPOSITE, "beta": 5},
        {"k": INF, "users": MIXED},
        {"beta": 5, "flip": 0.4},
    ]
    points = [make_config(learner=small, curation=each) for each in curations]
    members = {i: Member(Loop(point), None) for i, point in enumerate(points)}
    packed: dict[int, list[IterationResult]] = {i: [] for i in members}
    for _ in range(3):
        for i, result in iterate_all(members).items():
            assert isinstance(result, IterationResult), result
            members[i].state = result.state
            packed[i].append(result)
    for i, point in enumerate(points):
        for one, other in zip(packed[i], Loop(point).run(), strict=True):
            assert _same(one, other)


# --- the loop against its forecast

SEEDS = 200
CASES: list[dict[str, Any]] = [
    {"curation": {"k": 2, "beta": 10, "users": OPPOSITE}, "lam": INF},
    {"curation": {"k": 4, "beta": 10, "users": OPPOSITE}, "lam": 1},
    {"curation": {"k": INF, "beta": 10, "users": OPPOSITE}, "lam": INF},
    {"curation": {"k": 3, "users": MIXED}, "lam": 1},
    {"curation": {"k": INF, "users": MIXED}, "lam": INF},
    {"curation": {"k": 2, "beta": -2}, "lam": INF},
    {"curation": {"k": INF, "beta": -1}, "lam": 1},
    {"curation": {"k": 2, "beta": 10, "flip": 0.3}, "lam": INF},
]
METRICS = ["reward_mean", "reward_mean/1", "exp_reward_mean/0", "class_fraction/1",
           "class_entropy", "collective_utility", "choice_share/1", "flip_share"]  # fmt: skip
RETRAININGS = 3


@pytest.mark.parametrize("keys", CASES, ids=str)
def test_loops_with_the_empirical_learner_follow_the_forecast_at_finite_n(make_config: Make, keys):
    """Means by Welch's test and spreads by Levene's, at a level divided among all comparisons."""
    point = make_config(
        **keys,
        data={"name": "eight_gaussians", "size": 150},
        iterations=RETRAININGS,
        seeds=list(range(SEEDS)),
        sampling={"preview": 0},
    )
    results = [result.metrics for result in run_loop(point)]
    [found] = forecast([point], replicates=2 * SEEDS)
    metrics = [metric for metric in METRICS if metric in results[0]]
    level = 0.01 / (2 * len(metrics) * (RETRAININGS + 1) * len(CASES))
    for metric, t in itertools.product(metrics, range(RETRAININGS + 1)):
        if metric not in results[t]:
            continue
        seeds, ours = results[t][metric].numpy(), found.finite_n[metric].values
        assert ours is not None
        if np.ptp(seeds) == 0:
            assert (np.abs(ours[:, t] - seeds[0]) < 1e-6).mean() > 0.95  # lost but in few
            continue
        assert stats.ttest_ind(seeds, ours[:, t], equal_var=False).pvalue > level, (metric, t)
        assert stats.levene(seeds, ours[:, t], center="median").pvalue > level, (metric, t)


@pytest.mark.parametrize("keys", [CASES[0], CASES[5]], ids=["two users", "negative beta"])
def test_loops_of_many_samples_follow_the_forecast_at_infinitely_many(make_config: Make, keys):
    """200 seeds of 2,000 samples: within 4.5 standard errors and a bias of order 1/n."""
    point = make_config(
        **keys,
        data={"name": "eight_gaussians", "size": 2000},
        iterations=RETRAININGS,
        seeds=list(range(SEEDS)),
        sampling={"preview": 0},
    )
    [found] = forecast([point])
    for t, result in enumerate(run_loop(point)):
        for metric in ("reward_mean", "class_fraction/4", "class_entropy"):
            seeds = result.metrics[metric]
            error = 4.5 * float(seeds.std()) / math.sqrt(SEEDS) + 10 / 2000
            assert float(seeds.mean()) == pytest.approx(found.curves[metric][t], abs=error)
