"""Files of trained weights: what does not hold the network is refused before anything runs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from luceloop.core.classifier.vgg11 import VGG11
from luceloop.core.config.parsing import parse_config
from luceloop.core.errors import ConfigError
from luceloop.core.learners.networks.unet import UNet, UNetConfig
from luceloop.sweeps.run.check import check
from tests.support import Cli, write_cifar10

NET: dict[str, Any] = {
    "channels": 32, "multipliers": [1], "blocks": 1, "attention": [4], "head_channels": 32
}  # fmt: skip


@pytest.fixture(scope="module")
def network() -> dict[str, torch.Tensor]:
    """The weights of a U-Net of digits, by name."""
    module = UNet(UNetConfig(**NET), (1, 8, 8), "cpu").module
    return {name: weight.detach() for name, weight in module.named_parameters()}


class Command:
    """What a prepared file would hold."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was-unpickled",)


Weights = Mapping[str, torch.Tensor]
JUNK: dict[str, tuple[Callable[[Weights], Any], str]] = {
    "text": (lambda net: b"no checkpoint\n", "no checkpoint that can be read"),
    "empty": (lambda net: b"", "no checkpoint that can be read"),
    "a list": (lambda net: [1, 2], "holds no net_model"),
    "weights alone": (lambda net: dict(net), "holds no net_model"),
    "a number for weights": (lambda net: {"net_model": {"a": 1}}, "no mapping of names to weights"),
    "numbers for names": (
        lambda net: {"net_model": {1: torch.ones(2)}},
        "no mapping of names to weights",
    ),
    "too few weights": (lambda net: {"net_model": dict(list(net.items())[1:])}, "net_model lacks"),
    "weights of another shape": (
        lambda net: {"net_model": {name: weight[None] for name, weight in net.items()}},
        "learner.unet needs",
    ),
    "weights that are NaN": (
        lambda net: {"net_model": {name: weight * torch.nan for name, weight in net.items()}},
        "NaN, infinite or no real numbers",
    ),
    "complex weights": (
        lambda net: {"net_model": {name: weight * 1j for name, weight in net.items()}},
        "NaN, infinite or no real numbers",
    ),
    "moments of another network": (
        lambda net: {"net_model": dict(net), "optim": {"state": {0: {"step": "x"}}}},
        "not Adam's of this network",
    ),
    "code": (lambda net: {"net_model": Command()}, "no checkpoint that can be read"),
}


def write(file: Path, content: Any) -> str:
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    return str(file)


def of_digits(checkpoint: str) -> dict[str, Any]:
    learner = {"name": "otcfm", "unet": NET, "checkpoint": checkpoint}
    reward = {"name": "class_probability", "label": 1}
    classifier = {"name": "small_cnn"}
    data = {"name": "digits"}
    return {"data": data, "learner": learner, "reward": reward, "classifier": classifier}


@pytest.mark.parametrize("kind", JUNK)
def test_a_checkpoint_that_is_junk_is_refused_in_one_line(kind, network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, complaint = JUNK[kind]
    config = parse_config({"name": "x"} | of_digits(write(tmp_path / "p0.pt", make(network))))
    with pytest.raises(ConfigError, match=complaint) as error:
        check(config, here=False)
    assert error.value.key == "learner.checkpoint" and "\n" not in str(error.value)
    assert not (tmp_path / "was-unpickled").exists()


def test_a_checkpoint_that_fits_passes(network, tmp_path):
    file = write(tmp_path / "p0.pt", {"net_model": dict(network)})
    assert check(parse_config({"name": "x"} | of_digits(file)), here=False) == 1


VGG_JUNK: dict[str, tuple[Callable[[Weights], Any], str]] = {
    "text": (lambda net: b"no weights\n", "is no such network"),
    "a pickle": (lambda net: pickle.dumps({"a": 1}), "is no such network"),
    "a list": (lambda net: [1], "is no such network"),
    "another head": (lambda net: dict(net) | {"classifier.6.bias": torch.ones(7)}, "size mismatch"),
    "NaN": (lambda net: dict(net) | {"classifier.6.bias": torch.ones(10) * torch.nan}, "NaN"),
}


@pytest.mark.parametrize("kind", VGG_JUNK)
def test_weights_of_a_classifier_that_are_junk_are_refused_in_one_line(kind, tmp_path):
    write_cifar10(tmp_path)
    make, complaint = VGG_JUNK[kind]
    file = write(tmp_path / "vgg.pt", make(VGG11(10).state_dict()))
    plain: dict[str, Any] = {
        "name": "x",
        "data": {"name": "cifar10", "root": str(tmp_path), "size": 20},
        "classifier": {"name": "vgg11_bn", "weights": file},
        "reward": {"name": "max_confidence"},
        "learner": {"name": "empirical"},
    }
    with pytest.raises(ConfigError, match=complaint) as error:
        check(parse_config(plain), here=False)
    assert error.value.key == "classifier.weights" and "\n" not in str(error.value)


def test_inception_that_is_junk_is_refused_by_validate(cli: Cli, tmp_path):
    file = write(tmp_path / "inception.pt", {"a": torch.ones(1)})
    ran = cli("validate", "digits", f"quality.inception={file}", "--output", str(tmp_path / "out"))
    assert ran.code == 2 and ran.out == "" and len(ran.err.strip().splitlines()) == 1
    assert ran.err.startswith("quality.inception=") and "is no such network" in ran.err
