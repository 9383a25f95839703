"""The Tune trainable of one configuration point: one `step` is one retraining iteration."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray import tune

from luceloop.core.config.dependencies import dependencies
from luceloop.core.device import explain_memory, make_repeatable
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.io.holdings import Guard
from luceloop.core.io.places import Folder, open_folder, open_whole
from luceloop.core.io.plugins import enter_folder
from luceloop.core.io.saved import save_atomically
from luceloop.core.loop.loop import Loop
from luceloop.core.loop.state import IterationResult, LoopState
from luceloop.core.theory.real_law import is_recorded, real_rewards
from luceloop.workers.devices import granted_device
from luceloop.workers.executor import ActorExecutor, ActorPool
from luceloop.workers.messages import (
    REAL,
    FailureReport,
    IterationReport,
    TrialSetup,
    pack_report,
    unpack_setup,
)

CHECKPOINT = "loop.pt"
"""File of a checkpoint folder: the loop's state and the rows of all iterations so far."""


class Trial(tune.Trainable):
    """Runs the loop of one point and reports a row per iteration; see `workers.messages`."""

    def setup(self, config: dict[str, Any]) -> None:
        """Start a process: called once, then `reset_config` for every further point."""
        self._actors: ActorPool | None = None
        self._guard = Guard()
        self._start(unpack_setup(config))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take on another point in the same process."""
        self._start(unpack_setup(new_config))
        return True

    def _start(self, setup: TrialSetup) -> None:
        self._setup = setup
        if setup.folder is not None:
            enter_folder(setup.folder)
        self._cache = open_folder("cache", setup.cache)
        self._rows: dict[int, dict[str, list[float]]] = {}
        self._iterations: Iterator[IterationResult] | None = None
        self._state: LoopState | None = None
        self._arrays: dict[str, np.ndarray] = {}
        self._next = setup.reported + 1
        if setup.checkpoint:
            self._restore(open_folder("checkpoint", setup.checkpoint))

    def step(self) -> dict[str, Any]:
        """Report the next iteration, computing whatever it takes."""
        try:
            report = self._report()
        except (LoopError, ConfigError, torch.OutOfMemoryError) as error:
            # Repeating would only fail again: this is the point's result.
            full = isinstance(error, torch.OutOfMemoryError)
            reason = explain_memory(error) if full else str(error)
            failure = FailureReport(self._setup.index, reason, traceback.format_exc())
            return pack_report(failure, done=True)
        return pack_report(report, done=report.iteration >= self._setup.point.iterations)

    def _report(self) -> IterationReport:
        self._arrays = {}
        while self._next not in self._rows:
            if self._iterations is None:
                self._iterations = self._begin()
            result = next(self._iterations)
            self._state, self._arrays = result.state, {"preview": result.preview.numpy()}
            if result.reward is not None:
                self._arrays |= {"reward": result.reward.numpy()} | self._real_rewards()
            self._rows[result.iteration] = {
                name: values.tolist() for name, values in result.metrics.items()
            }
        iteration = self._next
        self._next += 1
        return IterationReport(
            self._setup.index, iteration, self._rows[iteration], arrays=self._arrays
        )

    def _begin(self) -> Iterator[IterationResult]:
        setup = self._setup
        self._guard.check(setup.files, dependencies([setup.point]) if setup.files else ())
        make_repeatable(setup.point.resources.threads)
        loop = Loop(setup.point, granted_device(), cache=self._cache)
        if not setup.samplers.count:
            return loop.run(self._state)
        if self._actors is None:
            self._actors = ActorPool(setup)
        return loop.run(self._state, ActorExecutor(self._actors, loop, setup.files))

    def _real_rewards(self) -> dict[str, np.ndarray]:
        """What the sweep records of its real data, so that its theory never scores it again."""
        point = self._setup.point
        if not is_recorded(point):
            return {}
        found = real_rewards(point, granted_device(), self._cache)  # worked out before, and kept
        return {f"{REAL}{name}": array for name, array in found.arrays().items()}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the loop's state after the last computed iteration, and every row so far."""
        state = None if self._state is None else self._state.plain()
        content = {"state": state, "rows": self._rows, "next": self._next}
        save_atomically(content, Path(checkpoint_dir) / CHECKPOINT)
        # Tune keeps a copy of the last report with each checkpoint; this one has been delivered.
        self._arrays.clear()

    def load_checkpoint(self, checkpoint: Mapping[str, Any] | str | None) -> None:
        """Go on from a checkpoint of this attempt, which knows what was reported by then."""
        assert isinstance(checkpoint, str)
        self._next = self._restore(Path(checkpoint))["next"]

    def _restore(self, folder: Folder) -> dict[str, Any]:
        content = read_checkpoint(folder)
        self._rows = content["rows"]
        self._state = LoopState.of(content["state"]) if content["state"] else None
        self._iterations = None
        return content

    def cleanup(self) -> None:
        """End the process's sampler actors."""
        if self._actors is not None:
            self._actors.close()


def read_checkpoint(folder: Folder) -> dict[str, Any]:
    """What `Trial.save_checkpoint` wrote; nothing is unpickled but tensors and plain types."""
    with open_whole(folder / CHECKPOINT) as file:
        content: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    if content["state"] is not None:
        LoopState.of(content["state"])  # else it is an older version's, and cannot be read either
    return content
