"""Code of the user's in a loop: wherever it stands and whatever it does, one line that names it."""

from __future__ import annotations

import itertools

import pytest
import torch

from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.loop.loop import run_loop
from luceloop.core.theory.forecast import forecast

DEEDS = {
    "sys.exit(0)": "called sys.exit(0)",
    "os._exit(0)": "called os._exit(0)",
    "fail(KeyboardInterrupt)": "raised KeyboardInterrupt",
    "fail(GeneratorExit)": "raised GeneratorExit",
    "fail(type('Own', (BaseException,), {}))": "raised Own",
}

SOURCE = """
import os
import sys

import torch

from luceloop.core.data.gaussian import GaussianData
from luceloop.core.learners.empirical import Empirical


def fail(kind):
    raise kind


def deed():
    {deed}


def reward(x):
    deed()


class BuiltReward:
    def __init__(self):
        deed()


class BoundedReward:
    @property
    def supremum(self):
        deed()

    def __call__(self, x):
        return x[:, 0]


def late_reward(x):
    if len(x) < 300:
        deed()
    return x[:, 0]


def metric(samples, real):
    deed()


def curation(samples, reward, count, generator):
    deed()


class Data:
    shape, n_classes = (2,), 2

    def __init__(self, size):
        self.size = size

    def draw(self, size, generator):
        return torch.randn(size, 2, generator=generator)

    def classify(self, x):
        return (x[:, 0] > 0).long()


class BuiltData(Data):
    def __init__(self, size):
        deed()


class ShapedData(Data):
    @property
    def shape(self):
        deed()


class DrawnData(Data):
    def draw(self, size, generator):
        deed()


class ClassifiedData(Data):
    def classify(self, x):
        deed()


class WholeData(GaussianData):
    def __init__(self, size):
        super().__init__(size, 2, 1.0)

    def law_samples(self, cheap):
        deed()
        yield


class BuiltLearner(Empirical):
    def __init__(self, shape, device):
        deed()


class FittedLearner(Empirical):
    def __init__(self, shape, device):
        super().__init__(device)

    def fit(self, state, training, seeds, iteration):
        deed()


class ModelLearner(Empirical):
    def __init__(self, shape, device):
        super().__init__(device)

    def model(self, state):
        deed()


class SampledLearner(Empirical):
    def __init__(self, shape, device):
        super().__init__(device)

    def sample(self, model, count, seeds, iteration, shard):
        deed()


class PatientLearner(FittedLearner):
    @property
    def one_by_one(self):
        deed()

    fit_initial = FittedLearner.fit
"""

PLACES = {
    "reward": ("reward", "reward", LoopError),
    "BuiltReward": ("reward", "reward.name", ConfigError),
    "BoundedReward": ("reward", "reward.name", ConfigError),
    "late_reward": ("reward", "reward", LoopError),
    "metric": ("metrics", "metric own", LoopError),
    "curation": ("curation", "curation", LoopError),
    "BuiltData": ("data", "data.name", ConfigError),
    "ShapedData": ("data", "data.name", ConfigError),
    "DrawnData": ("data", "data", LoopError),
    "ClassifiedData": ("data", "data", LoopError),
    "WholeData": ("data", "data", LoopError),
    "BuiltLearner": ("learner", "learner.name", ConfigError),
    "FittedLearner": ("learner", "learner", LoopError),
    "ModelLearner": ("learner", "learner", LoopError),
    "SampledLearner": ("learner", "learner", LoopError),
    "PatientLearner": ("learner", "learner.name", ConfigError),
}


def config_with(make_config, part: str, name: str):
    named: dict[str, object] = {"name": name}
    if part == "metrics":
        return make_config(metrics={"own": name})
    if part == "curation":
        return make_config(curation={"kind": name})
    if part == "data":
        named["size"] = 60
        reward = {"name": "mode_distance", "center": [0.0, 0.0]}
        return make_config(data=named, reward=reward)
    return make_config(**{part: named})


@pytest.mark.parametrize(("place", "deed"), list(itertools.product(PLACES, DEEDS)))
def test_whatever_code_does_wherever_it_stands_is_one_line(place, deed, make_config, write_module):
    part, named, kind = PLACES[place]
    module = write_module(SOURCE.replace("{deed}", deed))
    config = config_with(make_config, part, f"{module}:{place}")
    with pytest.raises(kind) as error:
        list(run_loop(config))
    line = str(error.value)
    assert line.startswith(named) and f"{module}:{place}" in line and DEEDS[deed] in line
    assert "\n" not in line


def test_a_reward_of_complex_numbers_is_refused(make_config, write_module):
    module = write_module("import torch\ndef f(x):\n    return torch.complex(x[:, 0], x[:, 1])\n")
    config = make_config(reward={"name": f"{module}:f"})
    with pytest.raises(LoopError, match=r"returned .*complex64.*real numbers"):
        list(run_loop(config))


@pytest.mark.parametrize("kind", ["bool", "int64", "float16", "float64"])
def test_a_reward_of_real_numbers_of_any_kind_is_what_it_says(kind, make_config, write_module):
    module = write_module(f"import torch\ndef f(x):\n    return (x[:, 0] > 0).to(torch.{kind})\n")
    plain = write_module("def f(x):\n    return (x[:, 0] > 0).float()\n")
    configs = [make_config(reward={"name": f"{each}:f"}) for each in (module, plain)]
    found, expected = ([r.metrics["reward_mean"] for r in run_loop(each)] for each in configs)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


ODD = """
import torch

from luceloop import Fitted


class Data:
    shape, n_classes = (2,), 0

    def __init__(self, size, draw="ones", **others):
        self.size, self.how = size, draw
        self.__dict__.update(others)

    def draw(self, size, generator):
        return eval(self.how, {"torch": torch, "size": size})

    def classify(self, x):
        return torch.full((len(x),), 7)


class Learner:
    def __init__(self, shape, device, fitted="Fitted({}, None)", sampled="None"):
        self.fitted, self.sampled = fitted, sampled

    def fit(self, state, training, seeds, iteration):
        return eval(self.fitted, {"torch": torch, "Fitted": Fitted})

    def model(self, state):
        return state

    def sample(self, model, count, seeds, iteration, shard):
        return eval(self.sampled, {"torch": torch})
"""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"shape": [2.5]}, "shape must be whole numbers from 1"),
        ({"shape": []}, "shape must be whole numbers from 1"),
        ({"n_classes": -1}, "n_classes must be a whole number from 0"),
        ({"n_classes": True}, "n_classes must be a whole number from 0"),
        ({"draw": "torch.ones(size, 3)"}, r"float32 of shape \(\d+, 3\); samples are real numbers"),
        ({"draw": "torch.ones(size, 2, dtype=torch.complex64)"}, "returned complex64"),
        ({"draw": "None"}, "returned NoneType"),
        ({"draw": "torch.ones(size, 2)", "n_classes": 3}, "class 7; classes are from 0 to 2"),
    ],
)
def test_data_that_breaks_its_contract_is_refused(args, words, make_config, write_module):
    data = {"name": f"{write_module(ODD)}:Data", "size": 60, "args": args}
    config = make_config(data=data, reward={"name": "mode_distance", "center": [0.0, 0.0]})
    with pytest.raises((ConfigError, LoopError), match=words):
        list(run_loop(config))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"fitted": "None"}, "fitted NoneType; it must return a luceloop.Fitted"),
        ({"fitted": "Fitted({'a': 1}, None)"}, "a state with a: int"),
        ({"fitted": "Fitted({'a': torch.ones(3)}, None)"}, "first axis is 2"),
        ({"fitted": "Fitted({}, torch.ones(5))"}, r"no tensor of shape \(2,\)"),
        ({}, r"sampled NoneType; samples are floating numbers of shape \(2, \d+, 2\)"),
        ({"sampled": "torch.ones(2, 3, 2)"}, r"float32 of shape \(2, 3, 2\)"),
    ],
)
def test_a_learner_that_breaks_its_contract_is_refused(args, words, make_config, write_module):
    config = make_config(learner={"name": f"{write_module(ODD)}:Learner", "args": args})
    with pytest.raises(LoopError, match=words):
        list(run_loop(config))


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_forecast_of_data_that_is_not_finite_names_the_data(value, make_config, write_module):
    how = f"torch.full((size, 2), float('{value}'))"
    data = {"name": f"{write_module(ODD)}:Data", "size": 60, "args": {"draw": how}}
    config = make_config(data=data, reward={"name": "mode_distance", "center": [0.0, 0.0]})
    for call in (lambda: forecast([config]), lambda: list(run_loop(config))):
        with pytest.raises(ConfigError, match="NaN or infinite") as error:
            call()
        assert error.value.key == "data.name"


def test_a_reward_that_overflows_on_real_data_is_named(make_config):
    far = {"name": "mode_distance", "center": [3e38, 3e38]}
    with pytest.raises(ConfigError, match="NaN or infinite") as error:
        forecast([make_config(reward=far)])
    assert error.value.key == "reward.name"
