"""The trials of a sweep: one of Tune's for each point that is left to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import tune

from luceloop.core.config.dependencies import dependencies
from luceloop.core.config.parsing import at_point
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.io.holdings import Holdings
from luceloop.core.io.plugins import name_folder
from luceloop.core.loop.loop import Loop
from luceloop.core.loop.pack import pack_key
from luceloop.sweeps.costs.budget import Budget
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.run.checkpoints import Checkpoints, for_ray
from luceloop.sweeps.run.foreseen import Foresight, nothing_known
from luceloop.sweeps.run.machines import room_of_session
from luceloop.sweeps.run.progress import Progress
from luceloop.sweeps.run.recorder import Recorder
from luceloop.sweeps.run.resources import allocate_for, check_crowd
from luceloop.sweeps.run.reuse import Plan, Reuse, reuses
from luceloop.sweeps.run.room import check_memory
from luceloop.sweeps.run.rounds import next_round
from luceloop.sweeps.run.sharing import device_of
from luceloop.sweeps.search.journal import StudyJournal
from luceloop.sweeps.search.space import reached_points
from luceloop.sweeps.search.tune import EarlyStop, PointSearcher
from luceloop.workers.messages import PointSetup, TrialSetup, unpack_setup
from luceloop.workers.stops import Stops
from luceloop.workers.trial import Trial

RETRIES = 3
"""Times a trial whose process died is started again."""


class Trials:
    """Has Tune run the points of a sweep that have not ended, on the Ray session there is."""

    def __init__(
        self,
        config: SweepConfig,
        folder: SweepFolder,
        ledger: Ledger,
        files: Holdings,
        budget: Budget,
    ) -> None:
        """Take a sweep; `files` are digests of the user's files that it depends on, by name."""
        self._budget = budget
        self._files = files
        self._config, self._folder, self._ledger = config, folder, ledger
        reached, cluster = reached_points(config), ray.cluster_resources()
        room = room_of_session()
        if room.is_known:
            check_crowd(config.point.resources, cluster)
        needs = check_memory(config, reached, cluster, room)
        loop = Loop(reached[0])
        self._allocation = allocate_for(config, cluster, loop, needs.fits)
        self._checkpoints = Checkpoints(folder)
        self._cache, self._code = str(folder.cache), name_folder()
        self._stops: Any = None
        self._device = device_of(self._allocation)
        self._progress: Progress | None = None
        self._reuse = Reuse(folder, config, self._device) if reuses(config) else None
        known = self._reuse.known if self._reuse is not None else nothing_known
        self.foresight = Foresight(config, folder, folder.cache, cluster, loop, known, needs)
        """Tells how much it will take."""

    def __getstate__(self) -> dict[str, Any]:
        """Without data and what shows progress: Tune keeps a copy of all it is given."""
        return self.__dict__ | {"foresight": None, "_progress": None}

    def plan(self) -> Plan | None:
        """What is taken from other sweeps, where that is asked for and all points are known."""
        if self._reuse is None or self._config.search.sampler != "grid":
            return None
        return self._reuse.plan(reached_points(self._config))

    def run(self, progress: Progress, *callbacks: tune.Callback) -> None:
        """Run them to their ends; every report is on record before the next is asked for.

        Args:
            progress: what shows how they stand.
            callbacks: further ones of Tune's.
        """
        self._progress = progress
        is_over = self._budget.is_reached
        stopper = EarlyStop(self._config.search, self._ledger, self._stop, is_over)
        journal = StudyJournal(self._folder.study, self._folder.id, self._config)
        recorder = Recorder(
            self._folder, self._ledger, stopper.reasons, progress, journal, self._reuse
        )
        with recorder:
            self._tuner(stopper, recorder, *callbacks).fit()
        journal.update(self._ledger)
        points = self._ledger.points.values()
        self._checkpoints.remove(point.index for point in points if point.status)

    def _tuner(
        self, stopper: EarlyStop, recorder: Recorder, *callbacks: tune.Callback
    ) -> tune.Tuner:
        search, ledger = self._config.search, self._ledger
        searcher = PointSearcher(
            search,
            ledger,
            self._assign,
            self._length,
            self._supremum,
            pack=self._allocation.pack,
            alike=lambda values: pack_key(at_point(self._config, values)),
            device=self._device,
            is_over=self._budget.is_reached,
            grow=None if self._config.seed_rule is None else self._grow,
        )
        rule = self._config.seed_rule
        rounds = 1 if rule is None else 1 + len(rule.counts)  # who asks once more is told the end
        filesystem, where = for_ray(self._folder.tune)
        return tune.Tuner(
            tune.with_resources(Trial, self._allocation.bundles()),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=stopper,
                num_samples=self._config.point_count * rounds,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: unpack_setup(trial.config).name,
            ),
            run_config=tune.RunConfig(
                name=self._checkpoints.next_attempt,
                storage_path=where,
                storage_filesystem=filesystem,
                callbacks=[recorder, *callbacks],
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                verbose=0,
            ),
        )

    def _length(self, point: Point) -> int:
        """The last iteration of a point, T."""
        return at_point(self._config, point.values).iterations

    def _supremum(self, values: Mapping[str, Any]) -> float | None:
        """r* of a point, if known."""
        return at_point(self._config, values).rewards[0].least_upper_bound()

    def _assign(self, points: Sequence[Point]) -> TrialSetup:
        """What the trial of some points is given."""
        if len(points) > 1 and self._config.search.early_stop is not None and self._stops is None:
            self._stops = Stops.remote()
        return TrialSetup(
            points=tuple(map(self._set_up, points)),
            cache=self._cache,
            samplers=self._allocation.sampler_setup,
            trial_gpus=self._allocation.trial_gpus,
            states=str(self._folder.states),
            folder=self._code,
            stops=self._stops,
        )

    def _set_up(self, point: Point) -> PointSetup:
        """A point, and where it stands."""
        config = at_point(self._config, point.values)
        if point.batch:
            config = config.model_copy(update={"seeds": point.batch})
        batch = len(point.batches)
        needed = dependencies([config]) & self._files.keys()
        recorded = () if self._reuse is None else self._reuse.find(point.index, config)
        going_on = bool(point.running_rows)
        return PointSetup(
            index=point.index,
            point=config,
            checkpoint=self._checkpoints.newest(point.index, batch) if going_on else None,
            reported=point.reported,
            files={name: self._files[name] for name in needed},
            recorded=recorded,
            batch=batch,
        )

    def _grow(self) -> dict[int, tuple[int, ...]]:
        """Seeds that are to be added, by the index of the point, once all points have ended."""
        found = next_round(self._config, self._ledger, self._folder)
        if found is None:
            return {}
        if self._progress is not None:
            self._progress.tell(found.words)
        return found.batches

    def _stop(self, points: Sequence[int]) -> None:
        """Have trials stop some of their points."""
        if self._stops is not None:
            ray.get(self._stops.add.remote(list(points)))
