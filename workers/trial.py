"""The Tune trainable of a point, or of a pack of points: one `step` is one retraining iteration."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import tune

from luceloop.core.config.dependencies import dependencies
from luceloop.core.device import explain_memory, make_repeatable
from luceloop.core.io.holdings import Guard
from luceloop.core.io.places import Folder, make_folder, open_folder, open_whole
from luceloop.core.io.plugins import enter_folder
from luceloop.core.io.saved import save_atomically
from luceloop.core.loop.loop import Loop
from luceloop.core.loop.pack import FAILURES, Member, iterate_all
from luceloop.core.loop.state import IterationResult, LoopState
from luceloop.core.theory.real_law import is_recorded, real_rewards
from luceloop.workers.devices import granted_device
from luceloop.workers.executor import ActorExecutor, ActorPool
from luceloop.workers.messages import (
    REAL,
    FailureReport,
    IterationReport,
    PointSetup,
    Report,
    TrialSetup,
    pack_reports,
    unpack_setup,
)
from luceloop.workers.recorded import (
    Recorded,
    StatesGoneError,
    keep_state,
    start_of,
    to_compute,
    whole_row,
)

logger = logging.getLogger(__name__)


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

    def restore(self, folder: Folder) -> dict[str, Any]:
        """Go on from a checkpoint; what is in it."""
        content = read_checkpoint(folder, self.setup.index)
        self.rows = content["rows"]
        self.state = LoopState.of(content["state"]) if content["state"] else None
        self.of_state = tuple(content["of_state"])
        self.recorded = [Recorded.of(each) for each in content["recorded"]]
        return content


class Trial(tune.Trainable):
    """Runs the loops of its points and reports a row of each per step; see `workers.messages`."""

    def setup(self, config: dict[str, Any]) -> None:
        """Start a process: called once, then `reset_config` for every further trial."""
        self._actors: ActorPool | None = None
        self._guard = Guard()
        self._start(unpack_setup(config))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take on other points in the same process."""
        self._start(unpack_setup(new_config))
        return True

    def _start(self, setup: TrialSetup) -> None:
        self._setup = setup
        if setup.folder is not None:
            enter_folder(setup.folder)
        self._cache = open_folder("cache", setup.cache)
        self._states = None if setup.states is None else open_folder("states", setup.states)
        self._runs = [
            PointRun(point, recorded=point.recorded, next=point.reported + 1)
            for point in setup.points
        ]
        self._reported: list[IterationReport] = []
        for run in self._runs:
            if run.setup.checkpoint:
                run.restore(open_folder("checkpoint", run.setup.checkpoint))

    def step(self) -> dict[str, Any]:
        """Report the next iteration of every point, computing whatever it takes."""
        self._drop_stopped()
        while waiting := [run for run in self._runs if run.waits]:
            self._advance(waiting)
        reports = [run.report() for run in self._runs if not run.ended]
        self._reported = [report for report in reports if isinstance(report, IterationReport)]
        return pack_reports(reports, done=all(run.ended for run in self._runs))

    def _drop_stopped(self) -> None:
        """End the points that the driver has stopped early."""
        going = [run.setup.index for run in self._runs if not run.ended]
        if self._setup.stops is not None and going:
            stopped = ray.get(self._setup.stops.of.remote(going))
            for run in self._runs:
                run.ended = run.ended or run.setup.index in stopped

    def _advance(self, runs: Sequence[PointRun]) -> None:
        """Compute the next iteration of some points, those of a pack as one ensemble."""
        members: dict[int, Member] = {}
        for run in runs:
            try:
                if run.seeds_at(run.iteration):
                    members[run.setup.index] = Member(self._loop(run), run.start())
                else:
                    run.take_recorded()
            except StatesGoneError as gone:
                logger.warning("point %d begins anew: %s is gone", run.setup.index, gone)
                run.begin_anew()
            except FAILURES as error:
                run.fail(error)
        found = iterate_all(members, runs[0].executor)
        for run in runs:
            result = found.get(run.setup.index)
            if isinstance(result, IterationResult):
                run.take(result, self._real_rewards(run) if result.reward is not None else {})
                self._keep(run)
            elif result is not None:
                run.fail(result)

    def _keep(self, run: PointRun) -> None:
        """Keep the states that a longer loop would go on from: the last pool is not curated."""
        point, state = run.setup.point, run.state
        if point.keep == "none" or self._states is None or state is None:
            return
        if state.iteration == point.iterations - 1:
            make_folder(self._states)
            keep_state(self._states, run.setup.index, run.of_state, state)

    def _loop(self, run: PointRun) -> Loop:
        """The loop of the seeds of a point that are computed now, begun when it is needed."""
        seeds = run.seeds_at(run.iteration)
        if run.loop is not None and run.loop.rows.seeds == seeds:
            return run.loop
        setup, point = self._setup, run.setup.point.model_copy(update={"seeds": seeds})
        files = run.setup.files
        self._guard.check(files, dependencies([point]) if files else ())
        make_repeatable(point.resources.threads)
        loop = Loop(point, granted_device(), cache=self._cache)
        loop.prepare()
        if setup.samplers.count:
            if self._actors is None:
                self._actors = ActorPool(setup)
            run.executor = ActorExecutor(self._actors, loop, files)
        run.loop = loop
        return loop

    def _real_rewards(self, run: PointRun) -> dict[str, np.ndarray]:
        """What the sweep records of its real data, so that its theory never scores it again."""
        point = run.setup.point
        if not is_recorded(point):
            return {}
        found = real_rewards(point, granted_device(), self._cache)  # worked out before, and kept
        return {f"{REAL}{name}": array for name, array in found.arrays().items()}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write each loop's state after its last computed iteration, and every row so far."""
        for run in self._runs:
            state = None if run.state is None or run.ended else run.state.plain()
            content: dict[str, Any] = {"state": state, "of_state": list(run.of_state)}
            content |= {"rows": run.rows, "next": run.next, "ended": run.ended}
            content["recorded"] = [each.plain() for each in run.recorded]
            save_atomically(content, Path(checkpoint_dir) / checkpoint_name(run.setup.index))
        # Tune keeps a copy of the last report with each checkpoint; these have been delivered.
        for report in self._reported:
            report.arrays.clear()

    def load_checkpoint(self, checkpoint: Mapping[str, Any] | str | None) -> None:
        """Go on from a checkpoint of this attempt, which knows what was reported by then."""
        assert isinstance(checkpoint, str)
        for run in self._runs:
            content = run.restore(Path(checkpoint))
            run.next, run.ended = content["next"], content["ended"]
            run.failure = None

    def cleanup(self) -> None:
        """End the process's sampler actors."""
        if self._actors is not None:
            self._actors.close()


def checkpoint_name(index: int) -> str:
    """The file of a point in a checkpoint's folder: its loop's state, and all rows so far."""
    return f"loop-{index:04d}.pt"


def read_checkpoint(folder: Folder, index: int) -> dict[str, Any]:
    """What `Trial.save_checkpoint` wrote of a point; nothing is unpickled but plain types."""
    with open_whole(folder / checkpoint_name(index)) as file:
        content: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    if content["state"] is not None:
        LoopState.of(content["state"])  # else it is an older version's, and cannot be read either
        content["of_state"], content["recorded"]
    return content
