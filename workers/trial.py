"""The Tune trainable of a point, or of a pack of points: one `step` is one retraining iteration."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune

from luceloop.core.config.dependencies import dependencies
from luceloop.core.device import make_repeatable
from luceloop.core.io.holdings import Guard
from luceloop.core.io.places import make_folder, open_folder
from luceloop.core.io.plugins import enter_folder
from luceloop.core.loop.loop import Loop
from luceloop.core.loop.pack import FAILURES, Member, iterate_all
from luceloop.core.loop.state import IterationResult
from luceloop.core.theory.real_law import is_recorded, real_rewards
from luceloop.workers.devices import granted_device
from luceloop.workers.executor import ActorExecutor, ActorPool
from luceloop.workers.messages import (
    REAL,
    IterationReport,
    TrialSetup,
    pack_reports,
    unpack_setup,
)
from luceloop.workers.point_run import PointRun
from luceloop.workers.recorded import StatesGoneError, keep_state

logger = logging.getLogger(__name__)


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
            keep_state(self._states, run.setup.index, run.setup.batch, run.of_state, state)

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
        """Write where each point stands."""
        for run in self._runs:
            run.save(Path(checkpoint_dir))
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
