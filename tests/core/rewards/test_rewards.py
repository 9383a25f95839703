"""Rewards: the paper's distance to a mode, and a user's function held to its contract."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from luceloop.core.data.eight_gaussians import EightGaussiansConfig
from luceloop.core.data.npz import NpzConfig
from luceloop.core.data.two_moons import TwoMoonsConfig
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.rewards.custom import CustomRewardConfig
from luceloop.core.rewards.mode_distance import ModeDistanceConfig

GAUSSIANS = EightGaussiansConfig(size=10)


@pytest.mark.parametrize("mode", [0, 3])
@pytest.mark.parametrize("r_min", [0.0, 1.0, 2.5])
def test_reward_is_the_negative_distance_beyond_r_min(mode, r_min):
    config = ModeDistanceConfig(mode=mode, r_min=r_min)
    reward = config.build(GAUSSIANS.build(), None)
    x = np.random.default_rng(0).uniform(-8, 8, (500, 2)).astype(np.float32)
    centre = 5 * np.array([math.cos(mode * math.pi / 4), math.sin(mode * math.pi / 4)])
    expected = -np.maximum(0, np.linalg.norm(x - centre, axis=1) - r_min)
    assert reward(torch.from_numpy(x)).numpy() == pytest.approx(expected, abs=1e-5)
    assert reward.supremum == 0


def test_reward_is_at_its_supremum_everywhere_within_r_min():
    reward = ModeDistanceConfig(r_min=1.0).build(GAUSSIANS.build(), None)
    angle = torch.linspace(0, 2 * math.pi, 50)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    near = reward(torch.tensor([5.0, 0.0]) + 0.999 * circle)
    far = reward(torch.tensor([5.0, 0.0]) + 1.001 * circle)
    assert (near == 0).all() and (far < 0).all()


def test_a_given_centre_replaces_the_modes(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 3)))
    dataset = NpzConfig(path=str(tmp_path / "data.npz")).build()
    config = ModeDistanceConfig(center=(1.0, 2.0, 2.0), r_min=1.0)
    assert config.build(dataset, None)(torch.zeros(1, 3)).tolist() == [-2.0]


def _refusal(config: ModeDistanceConfig | CustomRewardConfig, data=GAUSSIANS) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        config.build(data.build(), None)
    return error.value


def test_a_mode_the_data_lacks_is_refused():
    assert _refusal(ModeDistanceConfig(mode=8)).key == "reward.mode"
    assert _refusal(ModeDistanceConfig(mode=4), TwoMoonsConfig(size=10)).key == "reward.mode"


def test_a_centre_of_the_wrong_dimension_is_refused():
    assert _refusal(ModeDistanceConfig(center=(1.0, 2.0, 3.0))).key == "reward.center"


def test_data_without_modes_needs_a_centre(tmp_path):
    np.savez(tmp_path / "vectors.npz", x=np.zeros((4, 3)))
    data = NpzConfig(path=str(tmp_path / "vectors.npz"))
    assert _refusal(ModeDistanceConfig(), data).key == "reward.center"


def test_images_have_no_distance_to_a_mode(tmp_path):
    np.savez(tmp_path / "images.npz", x=np.zeros((4, 3, 3)))
    data = NpzConfig(path=str(tmp_path / "images.npz"))
    assert _refusal(ModeDistanceConfig(), data).key == "reward.name"


CUSTOM = """
import torch

def first(x):
    return x[:, 0].double()

def capped(x):
    return x[:, 0].clamp_max(0.1) * (1 + 1e-7)
capped.supremum = 0.1

def unbounded(x):
    return x[:, 0]
unbounded.supremum = 0.5

def endless(x):
    return x[:, 0]
endless.supremum = float("inf")

class Scaled:
    def __init__(self, factor=1.0):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x[:, 0]

def column(x):
    return x[:, :1]

def total(x):
    return x.sum()

def as_list(x):
    return x[:, 0].tolist()

def undefined(x):
    return torch.where(x[:, 0] > 0.5, torch.nan, 0.0)

def infinite(x):
    return torch.where(x[:, 0] > 0.5, -torch.inf, 0.0)

def failing(x):
    raise ZeroDivisionError("no such colour")

number = 3
"""
X = torch.tensor([[0.0, 9.0], [0.25, 9.0], [1.0, 9.0]])


@pytest.fixture
def custom(write_module):
    """Builds a reward of the module above by its attribute."""
    module = write_module(CUSTOM)

    def build(attribute, **args):
        config = CustomRewardConfig(name=f"{module}:{attribute}", args=args)
        return config.build(GAUSSIANS.build(), None)

    return build


def test_a_function_rewards_with_its_values(custom):
    reward = custom("first")
    assert reward.supremum is None
    assert reward(X).dtype == torch.float32
    assert reward(X).tolist() == [0.0, 0.25, 1.0]


def test_a_class_is_built_with_its_arguments(custom):
    assert custom("Scaled", factor=2.0)(X).tolist() == [0.0, 0.5, 2.0]
    assert custom("Scaled")(X).tolist() == [0.0, 0.25, 1.0]


def test_rounding_above_the_supremum_is_forgiven_and_cut(custom):
    reward = custom("capped")
    assert reward.supremum == 0.1
    assert float(reward(X).max()) <= np.float32(0.1)


@pytest.mark.parametrize(
    ("attribute", "complaint"),
    [
        ("unbounded", r"reached 1, above its supremum 0\.5"),
        ("column", r"\(3, 1\).*shape \(3,\)"),
        ("total", r"\(\).*shape \(3,\)"),
        ("as_list", "list"),
        ("undefined", "NaN or infinite on 1 of 3"),
        ("infinite", "NaN or infinite on 1 of 3"),
        ("failing", "no such colour"),
    ],
)
def test_a_function_that_breaks_its_contract_fails_with_the_reason(custom, attribute, complaint):
    reward = custom(attribute)
    with pytest.raises(LoopError, match=complaint) as error:
        reward(X)
    assert attribute in str(error.value)


@pytest.mark.parametrize("attribute", ["number", "endless", "absent"])
def test_what_cannot_be_a_reward_is_refused(custom, attribute):
    with pytest.raises(ConfigError) as error:
        custom(attribute)
    assert error.value.key == "reward.name"
