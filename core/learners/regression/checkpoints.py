"""Checkpoints as torchcfm's image examples write them.

A file holds `net_model` and `ema_model`, state dicts of the U-Net, and `optim`, Adam's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from luceloop.core.errors import ConfigError
from luceloop.core.io.places import local_file
from luceloop.core.learners.networks.base import Network

KEY = "learner.checkpoint"
"""Of the configuration, in errors."""


def read_checkpoint(file: str, network: Network, average: bool) -> dict[str, Any]:
    """The state of a trained network, one row; nothing but tensors and plain types is unpickled.

    Args:
        file: the checkpoint, a path or an fsspec URL.
        network: what the weights must fit.
        average: whether the moving average is wanted, too.

    Raises:
        ConfigError: naming the file and what is wrong with it.
    """
    copy = local_file(KEY, file)
    try:
        content = torch.load(copy, weights_only=True, map_location="cpu")
    except Exception as error:  # a file of another kind can fail in any way
        reason = " ".join(str(error).split())[:200]
        raise _refused(file, f"is no checkpoint that can be read: {reason}") from None
    if not isinstance(content, Mapping) or not isinstance(content.get("net_model"), Mapping):
        raise _refused(file, "holds no net_model")
    if average and not isinstance(content.get("ema_model"), Mapping):
        raise _refused(file, "holds no ema_model; without one, learner.ema must be null")
    shapes = {name: weight.shape[1:] for name, weight in network.initialize([0], 0).items()}
    found: dict[str, Any] = {"weights": _weights(file, content, "net_model", shapes)}
    if average:
        found["ema"] = _weights(file, content, "ema_model", shapes)
    if content.get("optim") is not None:
        found["adam"] = _moments(file, content["optim"], shapes)
    return found


def _weights(
    file: str, content: Mapping[str, Any], key: str, shapes: Mapping[str, torch.Size]
) -> dict[str, Tensor]:
    found = content[key]
    if not all(isinstance(n, str) and isinstance(w, Tensor) for n, w in found.items()):
        raise _refused(file, f"{key} is no mapping of names to weights")
    # Trainings on several GPUs put "module." before every name.
    named = {name.removeprefix("module."): weight for name, weight in found.items()}
    missing, unknown = shapes.keys() - named.keys(), named.keys() - shapes.keys()
    if missing or unknown:
        some = ", ".join(sorted(missing or unknown)[:3])
        what = "lacks" if missing else "has no place in learner.unet for"
        raise _refused(file, f"{key} {what} {some}")
    for name, shape in shapes.items():
        if named[name].shape != shape:
            given = tuple(named[name].shape)
            raise _refused(file, f"{key} has {name} {given}; learner.unet needs {tuple(shape)}")
        if not named[name].is_floating_point() or not named[name].isfinite().all():
            raise _refused(file, f"{key} has {name} that is NaN, infinite or no real numbers")
    return {name: named[name].float()[None] for name in shapes}


def _moments(
    file: str, optim: Mapping[str, Any], shapes: Mapping[str, torch.Size]
) -> dict[str, Any]:
    """Adam's moments, which it numbers in the order of the module's parameters."""
    try:
        states = [optim["state"][i] for i in range(len(shapes))]
        fits = all(
            state["exp_avg"].shape == shape == state["exp_avg_sq"].shape
            for state, shape in zip(states, shapes.values(), strict=True)
        )
        step = torch.as_tensor(states[0]["step"], dtype=torch.float32).reshape(1)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RuntimeError):
        fits = False
    if not fits:
        raise _refused(file, "has an optim that is not Adam's of this network")
    named = list(zip(shapes, states, strict=True))
    return {
        "exp_avg": {name: state["exp_avg"].float()[None] for name, state in named},
        "exp_avg_sq": {name: state["exp_avg_sq"].float()[None] for name, state in named},
        "step": step,
    }


def _refused(file: str, allowed: str) -> ConfigError:
    return ConfigError(KEY, file, allowed)
