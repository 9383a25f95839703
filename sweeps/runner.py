"""Running a sweep: points to Tune trials, their reports to the ledger, the ledger to MLflow.

The ledger is the truth. Tune schedules trials and restarts those that die; a new run of the same
sweep reads the ledger, skips what ended, and starts the rest from their newest checkpoint.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import ray
import torch
from ray import tune
from rich.console import Console

from luceloop.core.bounds import applicable
from luceloop.core.config import Config
from luceloop.core.errors import ConfigError, DiskFullError
from luceloop.core.files import says_full, write_atomically
from luceloop.core.loop import Loop
from luceloop.core.metrics import metric_names
from luceloop.core.parsing import at_point
from luceloop.sweeps.delivery import Delivery, alone, complete
from luceloop.sweeps.experiment import SweepIdentity
from luceloop.sweeps.ledger import Ledger, Point
from luceloop.sweeps.mirror import mirrored
from luceloop.sweeps.naming import describe
from luceloop.sweeps.output import Output, SweepFolder, plain
from luceloop.sweeps.progress import build_progress
from luceloop.sweeps.recorder import Checkpoints, Recorder, for_ray
from luceloop.sweeps.resources import Allocation, allocate, check_fits
from luceloop.sweeps.search import EarlyStop, PointSearcher
from luceloop.sweeps.space import check_objectives, check_space
from luceloop.sweeps.tracking import Tracker
from luceloop.workers.trial import Trial

STORE_PATIENCE = 30.0
"""Seconds a finished sweep waits for a tracking store that is down."""
FULL_PATIENCE = 3.0
"""The same where the sweep ended because its disk is full, as the store may be on it too."""
TRIAL_RETRIES = 3
"""Times a trial whose process died is started again."""


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended."""

    folder: SweepFolder
    failed: list[Point]
    unfinished: int
    """Points that have not ended: the sweep was interrupted."""
    delivery: Delivery


def check(config: Config, here: bool = True) -> int:
    """Build every part of every point that the sweep can reach, so that errors come first.

    Args:
        config: of the sweep.
        here: whether it will run on this machine, which must then be large enough.

    Returns:
        The number of points.

    Raises:
        ConfigError: naming the key, the value and what is allowed.
    """
    reached = check_space(config)
    check_objectives(config, single_seed=len(config.seeds) == 1)
    measured = [_metric_names(Loop(point)) for point in reached]
    names = set.intersection(*measured)
    if here and not ray.is_initialized() and "RAY_ADDRESS" not in os.environ:
        machine = {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}
        check_fits(_allocate(config, machine, len(Loop(reached[0]).shards)), machine)
    for wanted in config.search.objective:
        if wanted.metric not in names:
            allowed = f"must be one of {', '.join(sorted(names))}"
            raise ConfigError("search.objective.metric", wanted.metric, allowed)
    return config.point_count


def _metric_names(loop: Loop) -> set[str]:
    config, supremum = loop.config, loop.scorer.supremum
    names = set(metric_names(loop.scorer.n_classes, supremum, config.quality is not None))
    if config.iterations:
        names |= {f"margin/{name}" for name in applicable(config.lam, config.k, supremum)}
    if not (config.iterations and int(loop.rows.kept.max())):
        names.discard("kept_reward_mean")
    if config.learner.name == "empirical":
        names.discard("loss")
    return names


def run_sweep(
    folder: SweepFolder,
    output: Output,
    console: Console,
    finish: Callable[[], list[Path]],
) -> Outcome:
    """Run what is left of a sweep, from the start or after an interruption.

    Args:
        folder: the sweep's folder, its configuration in it.
        output: the output folder.
        console: where progress is shown.
        finish: draws the sweep's figures and report; the files become artifacts.

    Ctrl-C and SIGTERM end the run at once; nothing on record is lost. Ray is started and ended
    here, unless the caller has started it.

    Raises:
        DiskFullError: if there is no room left in the output folder; nothing on record is lost.
    """
    config = folder.config()
    identity = SweepIdentity(folder.id, config, describe(config))
    with alone(folder), mirrored(folder) as mirror:
        ledger = Ledger(folder.ledger)
        tracker = Tracker(output, folder, identity, mirror)
        patience = STORE_PATIENCE
        try:
            write_atomically(json.dumps(_environment(), indent=2), folder.environment)
            tracker.start(ledger)
            _run_trials(config, folder, output, ledger, console)
        except KeyboardInterrupt:
            console.print("interrupted; everything on record is kept", highlight=False)
        except Exception as error:  # Ray's and Tune's own wrap what the disk says
            if not says_full(str(error)):
                raise
            patience = FULL_PATIENCE
            raise DiskFullError(_full_disk(folder)) from error
        finally:
            tracker.close(patience)
            ledger.close()
        points = ledger.points.values()
        unfinished = config.point_count - sum(point.status is not None for point in points)
        if not tracker.undelivered:
            complete(tracker, folder, None if unfinished else finish)
    failed = [point for point in points if point.status in ("failed", "lost")]
    delivery = Delivery(len(ledger.events), tracker.undelivered, tracker.error)
    return Outcome(folder, failed, unfinished, delivery)


def _run_trials(
    config: Config,
    folder: SweepFolder,
    output: Output,
    ledger: Ledger,
    console: Console,
) -> None:
    os.environ |= {
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        # Resuming goes by our ledger; Tune's own snapshot would cost 50 ms a trial.
        "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
        "TUNE_MAX_PENDING_TRIALS_PG": "4",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the ledger has them; a line says what happened
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        "TUNE_WARN_THRESHOLD_S": "10",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]),
    }
    if not config.search.learns:  # a search that learned from the loss has gone on without
        ledger.reopen_lost()
    total = config.point_count
    if all(i in ledger.points and ledger.points[i].status for i in range(total)):
        return
    progress = build_progress(console, config, ledger, total)
    owner = not ray.is_initialized()
    if owner:
        _start_ray()
    main = threading.current_thread() is threading.main_thread()
    if main:
        before = signal.signal(signal.SIGTERM, _interrupt)  # after ray.init, which sets its own
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # failed points are on record
    try:
        first = Loop(check_space(config)[0])
        allocation = _allocate(config, ray.cluster_resources(), len(first.shards))
        checkpoints, cache = Checkpoints(folder), str(folder.cache)

        def length(point: Point) -> int:
            return at_point(config, point.values).iterations

        def assign(point: Point) -> Mapping[str, Any]:
            return {
                "index": point.index,
                "point": plain(at_point(config, point.values)),
                "cache": cache,
                "samplers": allocation.samplers,
                "trial_gpus": allocation.trial_gpus,
                "sampler_cpus": allocation.sampler_cpus,
                "sampler_gpus": allocation.sampler_gpus,
                "checkpoint": checkpoints.newest(point.index) if point.rows else None,
                "reported": point.last,
            }

        stopper = EarlyStop(config.search, ledger)
        recorder = Recorder(folder, ledger, stopper.reasons, progress)
        filesystem, where = for_ray(folder.tune)
        tuner = tune.Tuner(
            tune.with_resources(Trial, allocation.bundles()),
            tune_config=tune.TuneConfig(
                search_alg=PointSearcher(config.search, ledger, assign, length),
                scheduler=stopper,
                num_samples=total,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: f"point-{trial.config['index']:04d}",
            ),
            run_config=tune.RunConfig(
                name=checkpoints.next_attempt,
                storage_path=where,
                storage_filesystem=filesystem,
                callbacks=[recorder],
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
                failure_config=tune.FailureConfig(max_failures=TRIAL_RETRIES),
                verbose=0,
            ),
        )
        with recorder:
            tuner.fit()
        checkpoints.remove(point.index for point in ledger.points.values() if point.status)
    finally:
        progress.close()
        if owner:
            ray.shutdown()
        if main:
            signal.signal(signal.SIGTERM, before)


def _allocate(config: Config, cluster: Mapping[str, float], shards: int) -> Allocation:
    at_once = config.point_count
    if config.search.learns:
        at_once = min(at_once, config.search.concurrency)
    return allocate(config.resources, cluster, at_once, shards)


def _start_ray() -> None:
    """Join the cluster of `$RAY_ADDRESS` (set inside a Ray job), else start one in this process."""
    address = os.environ.get("RAY_ADDRESS", "local")
    ray.init(
        address=address,
        log_to_driver=False,
        logging_level=logging.ERROR,
        include_dashboard=False if address == "local" else None,
    )


def _full_disk(folder: SweepFolder) -> str:
    reason, places = os.strerror(errno.ENOSPC), [folder.path]
    if folder.has_own_storage and isinstance(folder.storage, Path):
        places.append(folder.storage)
    return (
        f"{reason} (ENOSPC) under {' or '.join(map(str, places))}: "
        f"the sweep ended, everything on record is kept; "
        f"make room, then: luceloop resume {folder.id}"
    )


def _interrupt(*_: object) -> NoReturn:
    """SIGTERM, a cluster's polite kill, ends a run as Ctrl-C does."""
    raise KeyboardInterrupt


def _environment() -> dict[str, Any]:
    packages = ("torch", "torchcfm", "torchdiffeq", "ray", "optuna", "mlflow", "numpy")
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: version(name) for name in packages},
        "command": sys.argv,
    }
