"""What the user's code returns on another device is moved, not crashed on."""

from __future__ import annotations

import pytest
import torch

from luceloop.core.custom_metrics import check_metric
from luceloop.core.data.custom import CustomData
from luceloop.core.rewards.custom import check_reward
from tests.core.elsewhere import elsewhere

X = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))


class Far:
    """A dataset whose classes and coordinates lie elsewhere."""

    size, shape, n_classes = 6, (2,), 2

    def draw(self, size: int, generator: torch.Generator) -> torch.Tensor:
        return elsewhere(X)

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        return elsewhere((x[:, 0] > 0).long())

    def across(self, x: torch.Tensor) -> torch.Tensor:
        return elsewhere(x[:, :1])


def test_the_pretended_device_does_not_mix():
    with pytest.raises(RuntimeError, match="same device"):
        elsewhere(X) + X
    assert torch.equal(elsewhere(X).to("cpu") + X, 2 * X)


def test_a_reward_is_moved():
    reward = check_reward("mine:reward", lambda x: elsewhere(x[:, 0]))
    assert torch.equal(reward(X) + 0, X[:, 0])


def test_a_reward_with_a_supremum_is_moved():
    def bounded(x: torch.Tensor) -> torch.Tensor:
        return elsewhere(-x[:, 0].abs())

    bounded.supremum = 0.0  # type: ignore[attr-defined]
    assert torch.equal(check_reward("mine:bounded", bounded)(X) + 0, -X[:, 0].abs())


def test_what_a_dataset_says_is_moved():
    data = CustomData("mine:Far", Far())
    assert torch.equal(data.classify(X) + 0, (X[:, 0] > 0).long())
    assert torch.equal(data.across(X) + 0, X[:, :1])
    assert torch.equal(data.draw(6, torch.Generator()) + 0, X)


def test_a_metric_is_moved():
    metric = check_metric("own", "mine:own", lambda x, real: {"a": elsewhere(x.mean()), "b": 1})
    assert metric(X, X) == {"own/a": float(X.mean()), "own/b": 1.0}
