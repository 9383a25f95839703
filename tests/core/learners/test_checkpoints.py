"""p_0 from checkpoints as torchcfm's image examples write them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchcfm.models.unet.unet import UNetModelWrapper

from luceloop.core.config.parsing import parse_config
from luceloop.core.errors import ConfigError
from luceloop.core.learners.base import TrainingSet
from luceloop.core.learners.ddpm import DDPMConfig
from luceloop.core.learners.networks.unet import UNetConfig
from luceloop.core.learners.otcfm import OTCFMConfig
from luceloop.core.loop.loop import Loop

SHAPE = (1, 8, 8)
NET: dict[str, Any] = {
    "channels": 32, "multipliers": [1], "blocks": 1, "attention": [4], "head_channels": 32
}  # fmt: skip


def _module() -> nn.Module:
    module: nn.Module = UNetModelWrapper(
        dim=SHAPE, num_channels=32, num_res_blocks=1, channel_mult=[1],
        attention_resolutions="4", num_heads=4, num_head_channels=32, dropout=0.1,
    )  # fmt: skip
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.05)
    return module


def _write(file: Path, prefix: str = "") -> dict[str, Any]:
    """What a training on random images would save after two steps, in torchcfm's layout."""
    torch.manual_seed(0)
    net = _module()
    average = copy.deepcopy(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step, 5) / 5)
    for _ in range(2):
        loss = net(torch.rand(3), torch.randn(3, *SHAPE)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    named = {prefix + name: weight for name, weight in net.state_dict().items()}
    content = {
        "net_model": named,
        "ema_model": average.state_dict(),
        "sched": schedule.state_dict(),
        "optim": optimizer.state_dict(),
        "step": 2,
    }
    torch.save(content, file)
    return {"net": net, "average": average, "optimizer": optimizer}


def _config(file: Path, **keys: Any) -> OTCFMConfig:
    return OTCFMConfig(
        **{"steps": 3, "batch_size": 4, "ema": 0.9, "solver": "euler", "nfe": 4}
        | {"carry_optimizer": True, "unet": UNetConfig(**NET), "checkpoint": str(file)}
        | keys
    )


def _training(rows: int = 2) -> TrainingSet:
    images = torch.rand(rows, 10, *SHAPE, generator=torch.Generator().manual_seed(1))
    return TrainingSet(images, torch.full((rows,), 10))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_p_0_is_the_checkpoints_network_for_every_seed(tmp_path, prefix):
    written = _write(tmp_path / "net.pt", prefix)
    learner = _config(tmp_path / "net.pt").build(SHAPE)
    fitted = learner.fit(None, _training(), [3, 4], 0)
    assert fitted.loss is None
    for name, weight in written["net"].named_parameters():
        assert torch.equal(fitted.state["weights"][name], weight.detach().expand(2, *weight.shape))
    for name, weight in written["average"].named_parameters():
        assert torch.equal(fitted.state["ema"][name][1], weight)
    moments = written["optimizer"].state
    for name, weight in written["net"].named_parameters():
        assert torch.equal(fitted.state["adam"]["exp_avg"][name][0], moments[weight]["exp_avg"])
    assert fitted.state["adam"]["step"].tolist() == [2, 2]
    x = learner.sample(learner.model(fitted.state), 5, [3, 4], 0, 0)
    assert x.shape == (2, 5, *SHAPE) and not torch.equal(x[0], x[1])
    again = learner.fit(fitted.state, _training(), [3, 4], 1)
    assert again.state["adam"]["step"].tolist() == [2 + 3] * 2


def test_a_loop_starts_from_it_and_keeps_no_copy(tmp_path):
    _write(tmp_path / "net.pt")
    plain = {
        "name": "given",
        "data": {"name": "digits", "size": 30},
        "learner": _config(tmp_path / "net.pt").model_dump(),
        "classifier": {"name": "small_cnn", "epochs": 1},
        "reward": {"name": "max_confidence"},
        "kept_size": 4,
        "iterations": 1,
        "seeds": 2,
    }
    results = list(Loop(parse_config(plain).point, cache=tmp_path / "cache").run())
    assert "loss" not in results[0].metrics and "loss" in results[1].metrics
    assert not list((tmp_path / "cache").glob("p0-*"))


BROKEN = [
    (lambda c: c.pop("net_model"), "holds no net_model"),
    (lambda c: c.pop("ema_model"), "holds no ema_model; without one, learner.ema must be null"),
    (lambda c: c["net_model"].pop("out.2.bias"), "net_model lacks out.2.bias"),
    (lambda c: c["ema_model"].update(more=torch.ones(1)), "has no place in learner.unet for more"),
    (
        lambda c: c["net_model"].update({"out.2.bias": torch.ones(7)}),
        r"net_model has out.2.bias \(7,\); learner.unet needs \(1,\)",
    ),
    (lambda c: c["optim"].update(state={}), "an optim that is not Adam's of this network"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[m for _, m in BROKEN])
def test_what_does_not_fit_is_one_clear_line(tmp_path, change, message):
    file = tmp_path / "net.pt"
    _write(file)
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, file)
    with pytest.raises(ConfigError, match=message) as error:
        _config(file).build(SHAPE).fit(None, _training(), [3, 4], 0)
    assert error.value.key == "learner.checkpoint" and "\n" not in str(error.value)


class Pickled:
    """Anything but tensors and plain types."""


def test_nothing_else_is_unpickled(tmp_path):
    torch.save({"net_model": Pickled()}, tmp_path / "net.pt")
    with pytest.raises(ConfigError, match="is no checkpoint that can be read"):
        _config(tmp_path / "net.pt").build(SHAPE).fit(None, _training(), [3, 4], 0)


def test_a_missing_file_and_vectors_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        _config(tmp_path / "missing.pt").build(SHAPE)
    _write(tmp_path / "net.pt")
    with pytest.raises(ConfigError, match="holds a flow"):
        DDPMConfig(checkpoint=str(tmp_path / "net.pt")).build(SHAPE)
    with pytest.raises(ConfigError, match="is for images"):
        _config(tmp_path / "net.pt").build((2,))
