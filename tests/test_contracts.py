"""The contracts that users' tests can call: our own kinds keep them, and each check can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from luceloop.core.data.base import Dataset, DatasetConfig
from luceloop.core.data.digits import DigitsConfig
from luceloop.core.data.eight_gaussians import EightGaussiansConfig
from luceloop.core.data.gaussian import GaussianDataConfig
from luceloop.core.data.npz import NpzConfig
from luceloop.core.data.two_moons import TwoMoonsConfig
from luceloop.core.learners.base import Fitted
from luceloop.core.learners.empirical import Empirical
from luceloop.core.rewards.by_class import ClassifierReward
from luceloop.core.rewards.mode_distance import ModeDistance
from luceloop.testing import (
    CURATION_CHECKS,
    DATASET_CHECKS,
    LEARNER_CHECKS,
    REWARD_CHECKS,
    check_curation,
    check_dataset,
    check_learner,
    check_metric,
    check_reward,
)

X = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))

DATASETS: dict[str, DatasetConfig] = {
    "eight_gaussians": EightGaussiansConfig(size=50),
    "two_moons": TwoMoonsConfig(size=50),
    "gaussian": GaussianDataConfig(size=50, dim=3),
    "digits": DigitsConfig(size=50),
}


@pytest.mark.parametrize("check", DATASET_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("config", DATASETS.values(), ids=DATASETS)
def test_a_dataset_keeps_its_contract(config, check):
    check(config.build())


@pytest.mark.parametrize("labels", [None, np.arange(30) % 3], ids=["plain", "labelled"])
def test_samples_of_a_file_keep_the_contract(labels, tmp_path):
    arrays = {"x": X[:30].numpy()} | ({} if labels is None else {"y": labels})
    np.savez(tmp_path / "data.npz", **arrays)
    check_dataset(NpzConfig(path=str(tmp_path / "data.npz"), size=20).build())


REWARDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mode_distance": ModeDistance((1.0, 0.0), 0.5),
    "one class": ClassifierReward((1,)),
    "the surest class": ClassifierReward(None),
}


@pytest.mark.parametrize("check", REWARD_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("reward", REWARDS.values(), ids=REWARDS)
def test_a_reward_keeps_its_contract(reward, check):
    check(reward, X)


class Line:
    """A dataset that keeps its contract, for others to break."""

    size, shape, n_classes = 20, (2,), 2

    def draw(self, size: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(size, 2, generator=generator)

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, 0] > 0).long()


BROKEN_DATA: dict[str, tuple[dict[str, Any], str]] = {
    "no size": ({"size": 0}, "size is"),
    "no shape": ({"shape": ()}, "shape is"),
    "half a class": ({"n_classes": 0.5}, "n_classes is"),
    "one sample short": (
        {"draw": lambda self, size, g: torch.randn(size - 1, 2, generator=g)},
        "as many samples",
    ),
    "double": (
        {"draw": lambda self, size, g: torch.randn(size, 2, generator=g).double()},
        "float32",
    ),
    "NaN": (
        {"draw": lambda self, size, g: torch.randn(size, 2, generator=g) / 0 * 0},
        "finite",
    ),
    "global": ({"draw": lambda self, size, g: torch.randn(size, 2)}, "global state"),
    "in place": ({"classify": lambda self, x: x.zero_()[:, 0].long()}, "as they are"),
    "one class for all": ({"classify": lambda self, x: torch.tensor(0)}, "for each sample"),
    "real classes": ({"classify": lambda self, x: x[:, 0]}, "int64"),
    "a third class": ({"classify": lambda self, x: (x[:, 0] > 0).long() + 1}, "n_classes - 1"),
    "by rank": (
        {"classify": lambda self, x: (x[:, 0] > x[:, 0].mean()).long()},
        "does not depend on the others",
    ),
}


@pytest.mark.parametrize(("changes", "complaint"), BROKEN_DATA.values(), ids=BROKEN_DATA)
def test_a_dataset_that_breaks_its_contract_is_told_how(changes, complaint):
    check_dataset(Line())
    broken = type("Broken", (Line,), changes)()
    with pytest.raises(AssertionError, match=complaint):
        check_dataset(broken)


def test_what_is_no_dataset_is_told_so():
    nothing: Any = object()
    with pytest.raises(AssertionError, match="has size, shape"):
        check_dataset(nothing)
    assert isinstance(Line(), Dataset)


BROKEN_REWARDS: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "a column": (lambda x: x[:, :1], "one number a sample"),
    "a number": (lambda x: x.sum(), "one number a sample"),
    "NaN": (lambda x: x[:, 0] * float("nan"), "NaN or infinite"),
    "raises": (lambda x: x[:, 7], "raised IndexError"),
    "at random": (lambda x: torch.rand(len(x)), "global state"),
    "by rank": (lambda x: x[:, 0] - x[:, 0].mean(), "the samples beside it"),
}


@pytest.mark.parametrize(("reward", "complaint"), BROKEN_REWARDS.values(), ids=BROKEN_REWARDS)
def test_a_reward_that_breaks_its_contract_is_told_how(reward, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_reward(reward, X)


def test_a_reward_above_its_supremum_is_told_so():
    def reward(x: torch.Tensor) -> torch.Tensor:
        return x[:, 0]

    reward.supremum = 0.0  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="above its supremum"):
        check_reward(reward, X)


BROKEN_METRICS: dict[str, tuple[Callable[[torch.Tensor, torch.Tensor], Any], str]] = {
    "a vector": (lambda x, real: x.mean(0), "a number, or several named"),
    "infinite": (lambda x, real: x.sum() / 0, "finite"),
    "raises": (lambda x, real: x[len(x)], "raised IndexError"),
    "at random": (lambda x, real: float(torch.rand(())), "global state"),
}


@pytest.mark.parametrize(("metric", "complaint"), BROKEN_METRICS.values(), ids=BROKEN_METRICS)
def test_a_metric_that_breaks_its_contract_is_told_how(metric, complaint):
    check_metric(lambda x, real: {"shift": (x.mean() - real.mean()).abs()}, X, X + 1)
    with pytest.raises(AssertionError, match=complaint):
        check_metric(metric, X, X)


BROKEN_CURATIONS: dict[str, tuple[Callable[..., Any], str]] = {
    "rewards": (lambda x, r, n, g: r[:n], "must return int64"),
    "too few": (lambda x, r, n, g: torch.arange(n - 1), "must return int64 of shape"),
    "outside": (lambda x, r, n, g: torch.full((n,), len(x)), "positions are from 0"),
    "at random": (lambda x, r, n, g: torch.randint(len(x), (n,)), "global state"),
}


@pytest.mark.parametrize(("own", "complaint"), BROKEN_CURATIONS.values(), ids=BROKEN_CURATIONS)
def test_a_curation_that_breaks_its_contract_is_told_how(own, complaint):
    assert len(CURATION_CHECKS) == 2
    check_curation(lambda x, r, n, g: r.argsort()[:n], X, X[:, 0])
    with pytest.raises(AssertionError, match=complaint):
        check_curation(own, X, X[:, 0])


class FewSamples(Empirical):
    def sample(self, model, count, *name):
        return super().sample(model, count, *name)[:, 1:]


class SingleLoss(Empirical):
    def fit(self, *given):
        return Fitted(super().fit(*given).state, torch.zeros(1))


class PlainState(Empirical):
    def fit(self, state, training, seeds, iteration):
        fitted = super().fit(state, training, seeds, iteration)
        return Fitted({**fitted.state, "iteration": iteration}, None)


class Crowd(Empirical):
    """Centres each row by all rows."""

    def fit(self, state, training, seeds, iteration):
        stored = super().fit(state, training, seeds, iteration).state
        return Fitted({**stored, "samples": stored["samples"] - len(seeds)}, None)


class CrowdOfSamples(Empirical):
    """Draws right in tens, but else looks at the neighbours."""

    def sample(self, model, count, seeds, iteration, shard):
        x = super().sample(model, count, seeds, iteration, shard)
        return x if count == 50 else x + len(seeds)


class Careless(Empirical):
    def sample(self, model, count, seeds, iteration, shard):
        return model["samples"][:, torch.randint(1, (count,))] + torch.rand(())


class ForgetsSeeds(Empirical):
    def sample(self, model, count, seeds, iteration, shard):
        return super().sample(model, count, [0] * len(seeds), iteration, shard)


class ForgetsShards(Empirical):
    def sample(self, model, count, seeds, iteration, shard):
        return super().sample(model, count, seeds, iteration, 0)


class Overwrites(Empirical):
    def fit(self, state, training, seeds, iteration):
        training.samples.mul_(2)
        return super().fit(state, training, seeds, iteration)


class Peeks(Empirical):
    """Samples the padding, too."""

    def sample(self, model, count, seeds, iteration, shard):
        everything = torch.full_like(model["sizes"], model["samples"].shape[1])
        return super().sample({**model, "sizes": everything}, count, seeds, iteration, shard)


class Mixes(Empirical):
    """Trains every row on the sum of all rows, when there are several of equal size."""

    def fit(self, state, training, seeds, iteration):
        stored = super().fit(state, training, seeds, iteration).state
        return Fitted({**stored, "samples": stored["samples"] + stored["samples"].sum(0)}, None)


class Ignores(Empirical):
    """Learns nothing of what it is given."""

    def fit(self, state, training, seeds, iteration):
        stored = super().fit(state, training, seeds, iteration).state
        return Fitted({**stored, "samples": torch.zeros_like(stored["samples"])}, None)


class Remembers(Empirical):
    """Keeps what it should put into the state."""

    fits = 0

    def fit(self, state, training, seeds, iteration):
        self.fits += 1
        stored = super().fit(state, training, seeds, iteration).state
        return Fitted({**stored, "samples": stored["samples"] + self.fits}, None)


BROKEN_LEARNERS: dict[type[Empirical], tuple[str, str]] = {
    FewSamples: ("_samples_have_the_shape_asked_for", "`count` samples"),
    SingleLoss: ("_losses_are_one_number_a_row", "losses are float64"),
    PlainState: ("_states_are_tensors_with_a_row_axis", "iteration is a plain tensor"),
    Crowd: ("_rows_ignore_their_neighbours", "whatever its neighbours"),
    CrowdOfSamples: ("_samples_ignore_neighbours_at_any_count", "1 samples of a row"),
    Careless: ("_draws_come_from_named_streams", "sampling does not depend"),
    ForgetsSeeds: ("_seeds_iterations_and_shards_draw_apart", "two seeds"),
    ForgetsShards: ("_seeds_iterations_and_shards_draw_apart", "iterations and shards"),
    Overwrites: ("_what_is_given_stays_as_it_is", "leaves the training set"),
    Remembers: ("_saved_states_go_on", "a new learner goes on"),
    Peeks: ("_padding_is_never_seen", "what pads them"),
    Ignores: ("_rows_train_on_their_own_samples", "changes what it draws"),
    Mixes: ("_rows_train_on_their_own_samples", "its own samples only"),
}


@pytest.mark.parametrize(("learner", "expected"), BROKEN_LEARNERS.items(), ids=lambda x: str(x))
def test_a_learner_that_breaks_its_contract_is_told_how(learner, expected):
    name, complaint = expected
    [check] = [check for check in LEARNER_CHECKS if check.__name__ == name]
    with pytest.raises(AssertionError, match=complaint):
        check(lambda shape: learner(), (2,))


def test_a_learner_whose_state_cannot_be_stacked_is_told_so():
    class Shared(Empirical):
        def model(self, state):
            return {"samples": state["samples"][:1], "sizes": state["sizes"]}

    with pytest.raises(AssertionError, match="leading axis of rows"):
        check_learner(lambda shape: Shared())
