"""Algorithm 1 on the learner `empirical`, whose every step has a closed form."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from luceloop.core.config.point import PointConfig
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.learners.base import Fitted
from luceloop.core.loop.loop import Loop, run_loop
from luceloop.core.loop.state import IterationResult, LoopState
from luceloop.core.measures.metrics import metric_names
from luceloop.core.pool.shards import ShardResult, ShardTask

OTCFM = {
    "name": "otcfm",
    "steps": 4,
    "initial_steps": 10,
    "batch_size": 16,
    "width": 32,
    "depth": 1,
    "nfe": 4,
    "ot_batch": 4,
    "ema": 0.9,
    "carry_optimizer": True,
}


def _reward(x: Tensor) -> np.ndarray:
    """The default reward: distance beyond 1 from the mode at (5, 0), negated."""
    distance = np.linalg.norm(x.double().numpy() - np.array([5.0, 0.0]), axis=-1)
    return -np.maximum(0, distance - 1)


def _pool(loop: Loop, result: IterationResult) -> Tensor:
    """The whole pool `(R, N, ...)`, which the loop itself never holds."""
    model = loop.learner.model(result.state.learner)
    seeds, iteration = loop.rows.seeds, result.iteration
    parts = [
        loop.learner.sample(model, shard.stop - shard.start, seeds, iteration, shard.index)
        for shard in loop.shards
    ]
    return torch.cat(parts, 1)


def _bits(result: IterationResult) -> dict[str, Tensor]:
    """All of a result that has to repeat, by name."""
    found = {k: v for k, v in result.metrics.items() if not k.startswith("seconds/")}
    found["preview"] = result.preview
    if result.state.kept is not None:
        found["kept"] = result.state.kept
    return found | _tensors(result.state.learner, "state.")


def _tensors(state: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        nested = isinstance(value, Mapping)
        found |= _tensors(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return found


def _assert_same(a: Sequence[IterationResult], b: Sequence[IterationResult]) -> None:
    assert [result.iteration for result in a] == [result.iteration for result in b]
    for one, other in zip(a, b, strict=True):
        found, expected = _bits(one), _bits(other)
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert torch.equal(value, expected[name]), (one.iteration, name)


# --- training sets


SIZES = [
    # keys, real samples, kept samples
    ({"lam": 0}, 60, 0),
    ({"lam": 0.3}, 60, 18),
    ({"lam": 1}, 60, 60),
    ({"lam": math.inf}, 0, 60),
    ({"lam": 0.3, "real_size": 41}, 41, 12),
    ({"lam": math.inf, "real_size": 41}, 0, 41),
    ({"lam": 0.01}, 60, 0),
    ({"lam": 0.5, "kept_size": 10}, 20, 10),
    ({"lam": math.inf, "kept_size": 10}, 0, 10),
    ({"lam": 0, "kept_size": 10}, 60, 0),
]


@pytest.mark.parametrize(("keys", "real", "kept"), SIZES, ids=str)
@pytest.mark.parametrize("k", [1, 2, math.inf])
def test_training_sets_hold_real_and_kept_samples_as_algorithm_1_says(
    make_config, keys, real, kept, k
):
    results = list(run_loop(make_config(curation={"k": k}, **keys)))
    everything = results[0].state.learner["samples"]
    assert results[0].state.learner["sizes"].tolist() == [60, 60]
    for last, result in itertools.pairwise(results):
        assert result.state.learner["sizes"].tolist() == [real + kept] * 2
        for row in range(2):
            held = result.state.learner["samples"][row].tolist()
            drawn = held[:real]
            assert len({tuple(x) for x in drawn}) == real  # without replacement
            assert all(x in everything[row].tolist() for x in drawn)
            if kept:
                assert last.state.kept is not None
                assert held[real:] == last.state.kept[row].tolist()
            else:
                assert last.state.kept is None


def _real_parts(results, size):
    return [set(map(tuple, r.state.learner["samples"][0, :size].tolist())) for r in results[1:]]


def test_a_seed_retrains_on_the_same_real_samples(make_config):
    results = list(run_loop(make_config(lam=1, real_size=20)))
    first, *others = _real_parts(results, 20)
    assert len(others) >= 1 and all(part == first for part in others)


@pytest.mark.parametrize("size", [20, 60])
def test_fresh_real_samples_are_new_at_every_retraining(make_config, size):
    fresh = {"real": "fresh"}
    results = list(run_loop(make_config(lam=1, real_size=size, training=fresh)))
    everything = set(map(tuple, results[0].state.learner["samples"][0].tolist()))
    parts = [everything, *_real_parts(results, size)]
    for one, other in itertools.combinations(parts, 2):
        assert not one & other  # of a continuous law no sample comes twice


def test_fresh_real_samples_of_a_file_are_a_new_subset(make_config, tmp_path):
    file = tmp_path / "own.npz"
    np.savez(file, x=np.random.default_rng(0).normal(size=(40, 2)))
    data = {"name": "npz", "path": str(file)}
    reward = {"name": "mode_distance", "center": [0, 0]}
    keys = {"data": data, "reward": reward, "training": {"real": "fresh"}}
    config = make_config(lam=1, real_size=20, **keys)
    first, second, *_ = _real_parts(list(run_loop(config)), 20)
    assert len(first) == len(second) == 20 and first != second


def test_real_samples_of_rows_differ(make_config):
    samples = next(run_loop(make_config())).state.learner["samples"]
    assert not torch.equal(samples[0], samples[1])


def test_lambda_zero_ignores_the_pickers(make_config):
    liked = list(run_loop(make_config(lam=0, curation={"beta": 50, "k": 4})))
    plain = list(run_loop(make_config(lam=0, curation={"beta": 0, "k": 1})))
    for one, other in zip(liked, plain, strict=True):
        assert "kept_reward_mean" not in one.metrics
        assert one.state.kept is None
        assert torch.equal(one.metrics["reward_mean"], other.metrics["reward_mean"])
        # The real data of a row are the same at every iteration.
        first = liked[0].state.learner["samples"]
        assert torch.equal(one.state.learner["samples"], first)


def test_no_iterations_train_p_0_only(make_config):
    results = list(run_loop(make_config(iterations=0)))
    assert [result.iteration for result in results] == [0]
    assert results[0].state.kept is None
    assert "reward_mean" in results[0].metrics and "kept_reward_mean" not in results[0].metrics


# --- curation through the loop


def test_quality_is_measured_as_often_as_asked_and_at_both_ends(make_config):
    often = make_config(iterations=5, quality={"samples": 50}, lam=1)
    seldom = make_config(iterations=5, quality={"samples": 50, "every": 2}, lam=1)
    every, some = list(run_loop(often)), list(run_loop(seldom))
    quality = {"frechet_distance", "precision", "recall", "sliced_wasserstein", "width_ratio"}
    for full, result in zip(every, some, strict=True):
        measured = result.iteration in (0, 2, 4, 5)
        assert set(full.metrics) - set(result.metrics) == (set() if measured else quality)
        for name, values in result.metrics.items():
            if not name.startswith("seconds/"):
                assert torch.equal(values, full.metrics[name]), name


def _expected_choice(reward: np.ndarray, beta: float) -> tuple[float, float]:
    """Mean of the kept reward, and its variance, of a choice among each row of `reward`."""
    weight = np.exp(beta * (reward - reward.max(1, keepdims=True)))
    share = weight / weight.sum(1, keepdims=True)
    mean = (share * reward).sum(1)
    variance = (share * reward**2).sum(1) - mean**2
    return float(mean.mean()), float(variance.sum() / len(mean) ** 2)


@pytest.mark.parametrize("k", [2, 3, 7])
@pytest.mark.parametrize("beta", [0.0, 0.2, 1.0, 10.0])
def test_kept_reward_is_that_of_luces_choice_in_the_pool(make_config, k, beta):
    config = make_config(
        curation={"k": k, "beta": beta},
        kept_size=2000,
        iterations=1,
        sampling={"shard_size": 1500},
    )
    loop = Loop(config)
    result = next(loop.run())
    for row, pool in enumerate(_pool(loop, result)):
        mean, variance = _expected_choice(_reward(pool).reshape(2000, k), beta)
        found = float(result.metrics["kept_reward_mean"][row])
        assert abs(found - mean) < 5 * math.sqrt(variance) + 1e-6


@pytest.mark.parametrize("beta", [0.0, 0.2, 1.0, 10.0])
def test_infinite_k_draws_from_the_pool_with_weights_e_to_the_beta_r(make_config, beta):
    config = make_config(
        curation={"k": "inf", "beta": beta},
        kept_size=3000,
        iterations=1,
        sampling={"shard_size": 1000},
    )
    loop = Loop(config)
    result = next(loop.run())
    assert len(loop.shards) == 12
    for row, pool in enumerate(_pool(loop, result)):
        mean, variance = _expected_choice(_reward(pool)[None], beta)
        found = float(result.metrics["kept_reward_mean"][row])
        assert abs(found - mean) < 5 * math.sqrt(variance / 3000) + 1e-6


@pytest.mark.parametrize("beta", [0.1, 0.3])
def test_one_step_moves_the_mean_reward_as_pairs_of_the_data_say(make_config, beta):
    """λ=∞, K=2: from p_0, uniform on n real samples, to what pairwise choices make of it."""
    kept, n = 20_000, 60
    config = make_config(curation={"k": 2, "beta": beta}, kept_size=kept, iterations=1)
    first, second = run_loop(config)

    def expectation(reward: np.ndarray, factor: float) -> tuple[float, float]:
        total = squares = 0.0
        for a in reward:
            for b in reward:
                wins = 1 / (1 + math.exp(-factor * (a - b)))
                total += wins * a + (1 - wins) * b
                squares += wins * a**2 + (1 - wins) * b**2
        return total / n**2, squares / n**2 - (total / n**2) ** 2

    for row, real in enumerate(first.state.learner["samples"]):
        reward = _reward(real)
        mean, variance = expectation(reward, beta)
        error = math.sqrt(variance / kept)
        assert abs(float(first.metrics["kept_reward_mean"][row]) - mean) < 5 * error
        # p_1's pool draws 2·kept samples from the kept ones.
        error = math.sqrt(variance / kept + variance / (2 * kept))
        assert abs(float(second.metrics["reward_mean"][row]) - mean) < 5 * error
        # A factor mistaken by ten, either way, would show.
        for mistaken in (beta / 10, 10 * beta):
            assert abs(expectation(reward, mistaken)[0] - mean) > 10 * error


def test_one_candidate_keeps_the_pool_as_it_is(make_config):
    loop = Loop(make_config(curation={"k": 1, "beta": 9}, kept_size=50, pool_size=80))
    result = next(loop.run())
    assert result.state.kept is not None
    assert torch.equal(result.state.kept, _pool(loop, result)[:, :50])


def test_infinite_beta_keeps_the_best_of_each_group(make_config):
    config = make_config(curation={"k": 3, "beta": "inf"}, sampling={"shard_size": 50})
    loop = Loop(config)
    result = next(loop.run())
    pool = _pool(loop, result)
    best = _reward(pool).reshape(2, 60, 3).max(2)
    assert result.state.kept is not None
    assert np.array_equal(_reward(result.state.kept), best)


def test_infinite_k_and_beta_keep_only_the_best_of_the_pool(make_config):
    config = make_config(
        curation={"k": "inf", "beta": "inf"}, reward={"r_min": 0}, sampling={"shard_size": 50}
    )
    loop = Loop(config)
    result = next(loop.run())
    assert result.state.kept is not None
    for kept, pool in zip(result.state.kept, _pool(loop, result), strict=True):
        best = pool[(pool - torch.tensor([5.0, 0.0])).norm(dim=1).argmin()]
        assert torch.equal(kept, best.expand_as(kept))


@pytest.mark.parametrize("k", [1, 2, math.inf])
@pytest.mark.parametrize("beta", [0, 1e6, math.inf])
def test_metrics_stay_finite_in_every_limit(make_config, k, beta):
    for result in run_loop(make_config(curation={"k": k, "beta": beta})):
        for name, value in result.metrics.items():
            assert value.isfinite().all(), name


def test_the_favourite_takes_over_alone_and_only_in_part_with_real_data(make_config):
    """β=∞, K=2: of a share p, 1-(1-p)² is kept where r is 0 on the favourite mode alone."""
    shared = {
        "iterations": 6,
        "curation": {"beta": "inf"},
        "reward": {"r_min": 2},  # 3.6 deviations: all of the mode, and nothing of its neighbours
        "data": {"name": "eight_gaussians", "size": 2000},
    }
    curves = [
        torch.stack(
            [result.metrics["class_fraction/0"] for result in run_loop(make_config(**keys))]
        )
        for keys in (shared, shared | {"lam": 1})
    ]
    assert (curves[0][-1] > 0.98).all()  # 1-(1-⅛)^64
    share = real = 1 / 8
    for found in curves[1]:
        # A row's real data deviate by 0.007; a pool of 4000 and its kept half add at most 0.013 a
        # step to what is left of the step before, a share of at most 7/8: 0.027 in all.
        assert ((found - share).abs() < 5 * 0.027).all()
        share = (real + 1 - (1 - share) ** 2) / 2
    assert (curves[1][-1] < 0.5).all()


# --- metrics


@pytest.mark.parametrize("k", [2, math.inf])
def test_metrics_are_those_of_numpy_on_the_whole_pool(make_config, k):
    beta = 0.7
    loop = Loop(make_config(curation={"k": k, "beta": beta}, sampling={"shard_size": 37}))
    angles = np.arange(8) * math.pi / 4
    modes = 5 * np.stack([np.cos(angles), np.sin(angles)], 1)
    for result in loop.run():
        for row, pool in enumerate(_pool(loop, result)):
            reward = _reward(pool)
            weight = np.exp(beta * reward)
            distance = np.linalg.norm(pool.double().numpy()[:, None] - modes, axis=2)
            share = np.bincount(distance.argmin(1), minlength=8) / len(pool)
            expected = {
                "reward_mean": reward.mean(),
                "reward_std": reward.std(),
                "reward_min": reward.min(),
                "reward_max": reward.max(),
                "exp_reward_mean": weight.mean(),
                "exp_reward_var": weight.var(),
                "class_entropy": -sum(p * math.log(p) for p in share if p),
            } | {f"class_fraction/{i}": p for i, p in enumerate(share)}
            if result.state.kept is not None:
                expected["kept_reward_mean"] = _reward(result.state.kept[row]).mean()
            found = {name: float(result.metrics[name][row]) for name in expected}
            # Rewards are computed in float32: rounding of 1e-6 on distances of about 10.
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("learner", [{"name": "empirical"}, OTCFM], ids=["empirical", "otcfm"])
def test_every_iteration_has_the_metrics_that_are_promised(make_config, learner):
    results = list(run_loop(make_config(learner=learner)))
    promised = set(metric_names(8, 0.0))
    if learner["name"] == "empirical":
        promised.remove("loss")
    for result in results:
        missing = {"kept_reward_mean"} if result.iteration == 2 else set()
        margins = {"margin/lemma_2_2"} if result.iteration else set()
        assert set(result.metrics) == promised - missing | margins
        for value in result.metrics.values():
            assert value.shape == (2,) and value.dtype == torch.float64


def test_data_without_classes_has_no_class_metrics(make_config, tmp_path):
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(30, 3)))
    data = {"name": "npz", "path": str(tmp_path / "data.npz")}
    result = next(run_loop(make_config(data=data, reward={"center": [0, 0, 0]})))
    assert not any(name.startswith("class") for name in result.metrics)
    assert result.state.kept is not None
    assert result.state.kept.shape == (2, 30, 3)


def test_previews_are_the_first_samples_of_the_pool(make_config):
    loop = Loop(make_config(sampling={"preview": 50, "shard_size": 20}))
    for result in loop.run():
        assert torch.equal(result.preview, _pool(loop, result)[:, :50])


# --- determinism


LEARNERS = [{"name": "empirical"}, OTCFM, OTCFM | {"init": "scratch"}]


@pytest.mark.parametrize("learner", LEARNERS, ids=["empirical", "otcfm", "scratch"])
@pytest.mark.parametrize("k", [2, math.inf])
def test_resuming_anywhere_changes_no_bit(make_config, learner, k):
    config = make_config(
        learner=learner, curation={"k": k}, lam=0.5, iterations=3, sampling={"shard_size": 25}
    )
    undisturbed = list(run_loop(config))
    for result in undisturbed:
        buffer = io.BytesIO()
        torch.save(result.state.plain(), buffer)
        buffer.seek(0)
        state = LoopState.of(torch.load(buffer, weights_only=True))
        _assert_same(list(Loop(config).run(state)), undisturbed[result.iteration + 1 :])


@pytest.mark.parametrize("learner", LEARNERS[:2], ids=["empirical", "otcfm"])
@pytest.mark.parametrize("k", [2, math.inf])
def test_shards_may_be_computed_in_any_order_by_anyone(make_config, learner, k):
    config = make_config(learner=learner, curation={"k": k, "beta": 2}, sampling={"shard_size": 25})

    loop = Loop(config)

    class Elsewhere:
        def run_shards(
            self, model: Mapping[str, Tensor], tasks: Sequence[ShardTask]
        ) -> list[ShardResult]:
            torch.manual_seed(len(tasks))
            found = {
                task.shard.index: Loop(config).sampler(model, task) for task in reversed(tasks)
            }
            Loop(config).sampler(model, tasks[0])  # twice: a lost answer
            return [found[task.shard.index] for task in tasks]

        def fit_rows(self, start: LoopState | None) -> Fitted:
            return loop.fitter.fit(start)

    assert len(loop.shards) > 3
    _assert_same(list(loop.run(executor=Elsewhere())), list(run_loop(config)))


@pytest.mark.parametrize("k", [2, math.inf])
def test_a_seed_has_the_same_curve_whatever_the_other_seeds(make_config, k):
    shared = {"curation": {"k": k}, "lam": 1, "sampling": {"shard_size": 25}}
    together = list(run_loop(make_config(**shared, seeds=[3, 5, 7])))
    for result, alone in zip(together, run_loop(make_config(**shared, seeds=[7])), strict=True):
        for name, value in alone.metrics.items():
            if not name.startswith("seconds/"):
                assert torch.equal(result.metrics[name][2:], value), name


def test_points_that_share_a_seed_start_from_the_same_model(make_config):
    points: list[PointConfig] = [
        make_config(learner=OTCFM, **keys)
        for keys in ({}, {"curation": {"beta": 9, "k": 3}}, {"lam": 1, "real_size": 20})
    ]
    starts = [next(run_loop(point)).state.learner for point in points]
    for other in starts[1:]:
        for name, value in _tensors(starts[0], "").items():
            assert torch.equal(_tensors(other, "")[name], value)


def test_running_does_not_depend_on_global_random_state(make_config):
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(list(run_loop(make_config(learner=OTCFM))))
    _assert_same(*found)


# --- the user's own code


CUSTOM = """
import torch
from luceloop.core.learners.base import Fitted

def first(x):
    return x[:, 0]

def late(x):
    late.calls += 1
    return torch.full((len(x),), float("nan") if late.calls > 3 else 0.0)
late.calls = 0

def column(x):
    return x

def failing(x):
    raise KeyError("no such colour")

def unbounded(x):
    return x[:, 0]
unbounded.supremum = 1.0

def bounded(x):
    return x[:, 0] - 100
bounded.supremum = -50.0

class Fitless:
    def __init__(self, shape, device):
        pass

    def sample(self, model, count, seeds, iteration, shard):
        raise AssertionError("never reached")

class Breaking:
    def __init__(self, shape, device):
        self.shape = shape

    def fit(self, state, training, seeds, iteration):
        return Fitted({"iteration": torch.full((len(seeds), 1), float(iteration))}, None)

    def model(self, state):
        return dict(state)

    def sample(self, model, count, seeds, iteration, shard):
        x = torch.zeros(len(seeds), count, *self.shape)
        x[torch.tensor(seeds) * iteration == 5] = float("inf")
        return x
"""


@pytest.fixture
def custom(write_module):
    """Names an attribute of the module above."""
    module = write_module(CUSTOM)
    return lambda attribute: {"name": f"{module}:{attribute}"}


def test_a_reward_without_supremum_leaves_out_what_needs_one(make_config, custom):
    results = list(run_loop(make_config(reward=custom("first"))))
    for result in results:
        assert not any(name.startswith("exp_reward") for name in result.metrics)
        assert set(result.metrics) <= set(metric_names(8, None))
    loop = Loop(make_config(reward=custom("first")))
    pool = _pool(loop, results[0]).double()
    expected = pool[..., 0].mean(1).tolist()
    assert results[0].metrics["reward_mean"].tolist() == pytest.approx(expected, rel=1e-6)


def test_exp_reward_is_relative_to_the_supremum(make_config, custom):
    loop = Loop(make_config(reward=custom("bounded"), curation={"beta": 0.1}))
    result = next(loop.run())
    expected = (0.1 * (_pool(loop, result)[..., 0].double() - 50)).exp().mean(1)
    found = result.metrics["exp_reward_mean"]
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("attribute", "complaint"),
    [
        ("late", "NaN or infinite"),
        ("column", "one number a sample"),
        ("failing", "no such colour"),
        ("unbounded", "above its supremum 1"),
    ],
)
def test_a_reward_that_breaks_its_contract_ends_the_loop_with_the_reason(
    make_config, custom, attribute, complaint
):
    reward = custom(attribute)
    config = make_config(reward=reward, iterations=8)
    with pytest.raises(LoopError, match=complaint) as error:
        list(run_loop(config))
    assert reward["name"] in str(error.value)


def test_infinite_samples_end_the_loop_naming_their_seeds(make_config, custom):
    results = Loop(make_config(learner=custom("Breaking"))).run()
    assert next(results).iteration == 0
    with pytest.raises(LoopError, match=r"iteration 1 for seeds \[5\]"):
        next(results)


def test_a_learner_that_lacks_a_method_is_refused(make_config, custom):
    with pytest.raises(ConfigError, match="has no method fit") as error:
        Loop(make_config(learner=custom("Fitless")))
    assert error.value.key == "learner.name"


def test_a_reward_that_real_data_break_fails_before_anything_is_trained(write_module, make_config):
    module = write_module(
        "import torch\n\n"
        "def nan(x):\n    return x[:, 0] * float('nan')\n\n"
        "class Never:\n"
        "    def __init__(self, shape, device):\n        pass\n"
        "    def fit(self, *given):\n        raise AssertionError('trained')\n"
        "    model = sample = fit\n"
    )
    config = make_config(reward={"name": f"{module}:nan"}, learner={"name": f"{module}:Never"})
    with pytest.raises(LoopError, match="NaN or infinite"):
        next(Loop(config).run())
