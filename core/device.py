"""The device of a process: how it is made to repeat its bits, and how time on it is taken."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch


def make_repeatable(threads: int) -> None:
    """Fix what the last bits depend on: CPU threads, and how GPU kernels are chosen.

    cuDNN would otherwise choose convolutions by timing them, and add gradients in any order.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


@dataclass
class Stopwatch:
    """Adds up the seconds of named stages."""

    device: str = "cpu"
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._last = self._now()

    def lap(self, stage: str) -> None:
        """Count the time since the last lap as `stage`."""
        now = self._now()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def _now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()
