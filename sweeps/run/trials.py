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
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.run.checkpoints import Checkpoints, for_ray
from luceloop.sweeps.run.progress import Progress
from luceloop.sweeps.run.recorder import Recorder
from luceloop.sweeps.run.resources import allocate_for
from luceloop.sweeps.run.reuse import Plan, Reuse, reuses
from luceloop.sweeps.search.journal import StudyJournal
from luceloop.sweeps.search.space import check_space
from luceloop.sweeps.search.tune import EarlyStop, PointSearcher
from luceloop.workers.messages import PointSetup, TrialSetup, unpack_setup
from luceloop.workers.stops import Stops
from luceloop.workers.trial import Trial

RETRIES = 3
"""Times a trial whose process died is started again."""


class Trials:
    """Has Tune run the points of a sweep that have not ended, on the Ray session there is."""

    def __init__(
        self, config: SweepConfig, folder: SweepFolder, ledger: Ledger, files: Holdings
    ) -> None:
        """Take a sweep; `files` are digests of the user's files that it depends on, by name."""
        self._files = files
        self._config, self._folder, self._ledger = config, folder, ledger
        loop = Loop(check_space(config)[0])
        self._allocation = allocate_for(config, ray.cluster_resources(), loop)
        self._checkpoints = Checkpoints(folder)
        self._cache, self._code = str(folder.cache), name_folder()
        self._stops: Any = None
        sampled = self._allocation.sampler_setup
        kinds = [self._allocation.trial_gpus, *([sampled.gpus] if sampled.count else [])]
        # Where samplers have another kind than the trial, their streams are others, too.
        self._device = "+".join(dict.fromkeys("cuda" if gpus else "cpu" for gpus in kinds))
        self._reuse = Reuse(folder, config, self._device) if reuses(config) else None

    def plan(self) -> Plan | None:
        """What is taken from other sweeps, where that is asked for and all points are known."""
        if self._reuse is None or self._config.search.sampler != "grid":
            return None
        return self._reuse.plan(check_space(self._config))

    def run(self, progress: Progress) -> None:
        """Run them to their ends; every report is on record before the next is asked for."""
        stopper = EarlyStop(self._config.search, self._ledger, self._stop)
        journal = StudyJournal(self._folder.study, self._folder.id, self._config)
        recorder = Recorder(
            self._folder, self._ledger, stopper.reasons, progress, journal, self._reuse
        )
        with recorder:
            self._tuner(stopper, recorder).fit()
        journal.update(self._ledger)
        points = self._ledger.points.values()
        self._checkpoints.remove(point.index for point in points if point.status)

    def _tuner(self, stopper: EarlyStop, recorder: Recorder) -> tune.Tuner:
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
        )
        filesystem, where = for_ray(self._folder.tune)
        return tune.Tuner(
            tune.with_resources(Trial, self._allocation.bundles()),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=stopper,
                num_samples=self._config.point_count,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: unpack_setup(trial.config).name,
            ),
            run_config=tune.RunConfig(
                name=self._checkpoints.next_attempt,
                storage_path=where,
                storage_filesystem=filesystem,
                callbacks=[recorder],
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
        needed = dependencies([config]) & self._files.keys()
        recorded = () if self._reuse is None else self._reuse.find(point.index, config)
        return PointSetup(
            index=point.index,
            point=config,
            checkpoint=self._checkpoints.newest(point.index) if point.rows else None,
            reported=point.last,
            files={name: self._files[name] for name in needed},
            recorded=recorded,
        )

    def _stop(self, points: Sequence[int]) -> None:
        """Have trials stop some of their points."""
        if self._stops is not None:
            ray.get(self._stops.add.remote(list(points)))
