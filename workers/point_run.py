"""One point of a trial: how far it is, what it reports, and what its checkpoints hold."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from luceloop.core.device import explain_memory
from luceloop.core.io.places import Folder, open_whole
from luceloop.core.io.saved import save_atomically
from luceloop.core.loop.loop import Loop
from luceloop.core.loop.state import IterationResult, LoopState
from luceloop.workers.executor import ActorExecutor
from luceloop.workers.messages import FailureReport, IterationReport, PointSetup, Report
from luceloop.workers.recorded import Recorded, batch_suffix, start_of, to_compute, whole_row


@dataclass
class PointRun:
    """One point of a trial, and how far it is."""

    setup: PointSetup
    rows: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    """Metrics of every iteration that has been computed."""
    recorded: Sequence[Recorded] = ()
    """What is not computed again."""
    state: LoopState | None = None
    """After the last computed iteration, of the seeds that were computed."""
    of_state: tuple[int, ...] = ()
    """Which seeds those are."""
    next: int = 0
    """The iteration to report next."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """Of the last computed iteration, until they are reported."""
    loop: Loop | None = None
    executor: ActorExecutor | None = None
    failure: FailureReport | None = None
    ended: bool = False
    """Whether nothing more is to be reported."""

    @property
    def waits(self) -> bool:
        """Whether the iteration to report has yet to be computed."""
        return not self.ended and self.failure is None and self.next not in self.rows

    @property
    def iteration(self) -> int:
        """The iteration to compute next."""
        return len(self.rows)

    def seeds_at(self, iteration: int) -> tuple[int, ...]:
        """The seeds that an iteration is computed for."""
        return to_compute(self.setup.point.seeds, self.recorded, iteration)

    def start(self) -> LoopState | None:
        """Where the loop stands before its next iteration.

        Raises:
            StatesGoneError: if states that it goes on from are gone.
        """
        t, seeds = self.iteration, self.seeds_at(self.iteration)
        return start_of(seeds, self.recorded, t, self.state, self.of_state)

    def begin_anew(self) -> None:
        """Compute all seeds from the start but those that are wholly on record."""
        self.recorded = [each for each in self.recorded if not each.state]
        self.rows, self.state, self.of_state = {}, None, ()

    def take(self, result: IterationResult, real_rewards: Mapping[str, np.ndarray]) -> None:
        """Take note of a computed iteration."""
        seeds = self.seeds_at(result.iteration)
        self.state, self.of_state = result.state, seeds
        self.arrays = {"preview": result.preview.numpy()}
        if result.reward is not None:
            self.arrays |= {"reward": result.reward.numpy()} | dict(real_rewards)
        values = {name: column.tolist() for name, column in result.metrics.items()}
        self._add_row(
            {
                seed: {name: column[row] for name, column in values.items()}
                for row, seed in enumerate(seeds)
            }
        )

    def take_recorded(self) -> None:
        """Take note of an iteration that all seeds have on record."""
        self._add_row({})

    def _add_row(self, computed: Mapping[int, Mapping[str, float]]) -> None:
        seeds, t = self.setup.point.seeds, self.iteration
        self.rows[t] = whole_row(seeds, self.recorded, t, computed)

    def fail(self, error: BaseException) -> None:
        """Take an error as what the point came to."""
        full = isinstance(error, torch.OutOfMemoryError)
        reason = explain_memory(error) if full else str(error)
        text = "".join(traceback.format_exception(error))
        self.failure = FailureReport(self.setup.index, reason, text)

    def report(self) -> Report:
        """The next report."""
        if self.failure is not None:
            self.ended = True
            return self.failure
        iteration, self.next = self.next, self.next + 1
        self.ended = iteration >= self.setup.point.iterations
        arrays, self.arrays = self.arrays, {}
        computed = self.seeds_at(iteration)
        return IterationReport(
            self.setup.index,
            iteration,
            self.rows[iteration],
            reused=tuple(seed for seed in self.setup.point.seeds if seed not in computed),
            is_last=self.ended,
            arrays=arrays,
        )

    def save(self, folder: Path) -> None:
        """Write a checkpoint: the state after the last computed iteration, and every row so far."""
        state = None if self.state is None or self.ended else self.state.plain()
        content: dict[str, Any] = {"state": state, "of_state": list(self.of_state)}
        content |= {"rows": self.rows, "next": self.next, "ended": self.ended}
        content["recorded"] = [each.plain() for each in self.recorded]
        save_atomically(content, folder / checkpoint_name(self.setup.index, self.setup.batch))

    def restore(self, folder: Folder) -> dict[str, Any]:
        """Go on from a checkpoint; what is in it."""
        content = read_checkpoint(folder, self.setup.index, self.setup.batch)
        self.rows = content["rows"]
        self.state = LoopState.of(content["state"]) if content["state"] else None
        self.of_state = tuple(content["of_state"])
        self.recorded = [Recorded.of(each) for each in content["recorded"]]
        return content


def checkpoint_name(index: int, batch: int = 0) -> str:
    """The file of a point in a checkpoint's folder: its loop's state, and all rows so far."""
    return f"loop-{index:04d}{batch_suffix(batch)}.pt"


def read_checkpoint(folder: Folder, index: int, batch: int = 0) -> dict[str, Any]:
    """What `Trial.save_checkpoint` wrote of a point; nothing is unpickled but plain types."""
    with open_whole(folder / checkpoint_name(index, batch)) as file:
        content: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    if content["state"] is not None:
        LoopState.of(content["state"])  # else it is an older version's, and cannot be read either
        content["of_state"], content["recorded"]
    return content
