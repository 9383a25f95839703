"""The device of a process: how it is made to repeat its bits, and how time on it is taken."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import scipy.linalg  # noqa: F401 - so that its linear algebra is there to be limited
import torch
from threadpoolctl import threadpool_limits


def make_repeatable(threads: int) -> None:
    """Fix what the last bits depend on: CPU threads, and how GPU kernels are chosen.

    cuDNN would otherwise choose convolutions by timing them, add gradients in any order, and round
    the factors of float32 products to ten bits (TF32).
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(threads)
    threadpool_limits(1, user_api="blas")  # NumPy's, SciPy's and that of compiled functions
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def own_device() -> str:
    """The device of a process that nobody grants one, as of a command: a GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def explain_memory(error: BaseException) -> str:
    """What happened where a GPU's memory is full, and what to change."""
    first = str(error).partition(". ")[0]
    return (
        f"a GPU is out of memory ({first}): lower sampling.shard_size or learner.batch_size, or "
        "give each trial a whole GPU with resources.trial.gpus=1"
    )


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
