"""What the modes share: a device, the CIFAR-10 preset's learner, images with structure, checks."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from rich.console import Console
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks.measure import median_seconds
from luceloop.core import rng
from luceloop.core.device import make_repeatable, own_device
from luceloop.core.learners.base import State, TrainingSet, to_device
from luceloop.core.learners.networks.unet import UNetConfig
from luceloop.core.learners.otcfm import OTCFM, OTCFMConfig
from luceloop.sweeps.presets.reading import read_config

SHAPE = (3, 32, 32)
SMALL = UNetConfig(channels=32, multipliers=(1,), blocks=1, attention=(), head_channels=32)
MIDDLE = UNetConfig(channels=32, multipliers=(1, 2, 2), blocks=1, attention=(8,), head_channels=32)
"""The preset's kind of network, at a fortieth of its cost: what a CPU trains in minutes."""


class Bench:
    """One mode's run on one device."""

    def __init__(self, console: Console, *, tiny: bool) -> None:
        self.tiny, self.device = tiny, own_device()
        self.failed: list[str] = []
        """What did not hold."""
        self._console, self._start = console, time.perf_counter()
        make_repeatable(4 if self.device == "cuda" else 1)
        name = torch.cuda.get_device_name() if self.device == "cuda" else "CPU"
        self.say(f"{name}, torch {torch.__version__}")
        preset = read_config("cifar10-confidence", ["lam=inf"]).point
        assert isinstance(preset.learner, OTCFMConfig)
        self.preset, self._config = preset, preset.learner

    def say(self, line: str) -> None:
        """Print a line with the seconds so far."""
        self._console.print(f"{time.perf_counter() - self._start:6.1f} s  {line}", soft_wrap=True)

    def check(self, name: str, holds: bool, note: str = "") -> None:
        """Print whether something holds."""
        self.say(f"{'ok  ' if holds else 'FAIL'} {name}  {note}")
        if not holds:
            self.failed.append(name)

    def learner(self, device: str | None = None, **changes: Any) -> OTCFM:
        """The preset's learner, small where this is a check, with other settings."""
        sizes: dict[str, Any] = {"initial_steps": 4}
        if self.tiny:
            sizes |= {"unet": SMALL, "batch_size": 4, "ot_batch": 4, "steps": 2, "nfe": 4}
        elif self.device == "cpu":
            sizes |= {"unet": MIDDLE, "batch_size": 16, "ot_batch": 16, "lr": 1e-3, "warmup": 50}
        if self.device == "cpu":
            sizes["precision"] = "fp32"  # a CPU may take twenty times as long in bf16
        on = self.device if device is None else device
        sizes["compile"] = on == "cuda" and not self.tiny
        config = self._config.model_copy(update=sizes | changes)
        return config.build(SHAPE, on)

    def weights(self, learner: OTCFM, rows: int = 1) -> dict[str, Tensor]:
        """New weights of some rows; outputs are not zero, as those of new networks are."""
        weights = learner.network.initialize(range(rows), 0)
        generator = rng.stream(0, "zeros")
        for weight in weights.values():
            if weight.dim() > 2 and not weight.any():
                weight.normal_(0, weight[0, 0].numel() ** -0.5, generator=generator)
        return to_device(weights, learner.device)

    def seconds(self, call: Callable[[], object], times: int = 5) -> float:
        """Median of some calls, after one that warms up and compiles."""
        return median_seconds(call, 1 if self.tiny else times, self._wait)

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def relative(found: Tensor, exact: Tensor) -> float:
    """Distance by the exact one's norm."""
    exact = exact.double().cpu()
    return float((found.double().cpu() - exact).norm() / exact.norm())


def digest(state: State | Mapping[str, Any]) -> str:
    """A hash of all tensors of a state, by name."""
    found = hashlib.sha256()

    def add(values: Mapping[str, Any]) -> None:
        for name in sorted(values):
            found.update(name.encode())
            if isinstance(values[name], Mapping):
                add(values[name])
            else:
                found.update(values[name].detach().cpu().contiguous().numpy().tobytes())

    add(state)
    return found.hexdigest()


def coloured_digits(count: int) -> tuple[Tensor, Tensor]:
    """Images `(count, 3, 32, 32)` in [-1, 1] of scikit-learn's digits, inked, and their classes.

    Real structure that needs no download.
    """
    source, generator = load_digits(), rng.stream(0, "digits")
    which = torch.arange(count) % len(source.target)
    grey = torch.from_numpy(source.images).float()[which, None] / 16
    grey = torch.nn.functional.interpolate(grey, size=32, mode="bilinear")
    ink, paper = torch.rand(2, count, 3, 1, 1, generator=generator).unbind()
    images = grey * ink + (1 - grey) * paper / 2
    return 2 * images - 1, torch.from_numpy(source.target)[which].long()


def training_set(rows: int, count: int) -> TrainingSet:
    """Training sets of coloured digits."""
    images, _ = coloured_digits(rows * count)
    return TrainingSet(images.reshape(rows, count, *SHAPE), torch.full((rows,), count))
