"""Checking a sweep before it runs: every part of every point that it can reach is built."""

from __future__ import annotations

import json
import os
import shutil

import ray

from luceloop.core.config.claims import ClaimConfig, Target
from luceloop.core.config.parsing import with_values
from luceloop.core.config.point import PointConfig
from luceloop.core.config.seed_rule import WidthGoal
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.loop.loop import Loop
from luceloop.core.measures.metrics import IMAGE_QUALITY, VECTOR_QUALITY, metric_names
from luceloop.core.pickers.opinions import user_metric_names
from luceloop.core.theory.bounds import applicable
from luceloop.sweeps.costs.budget import check_budget
from luceloop.sweeps.record.folders import LATEST
from luceloop.sweeps.run.machines import (
    Room,
    knows_cluster,
    room_anywhere,
    room_here,
    room_of_session,
    this_machine,
)
from luceloop.sweeps.run.resources import allocate_for, check_crowd, check_fits
from luceloop.sweeps.run.room import check_memory
from luceloop.sweeps.search.space import check_objectives, check_space


def check(config: SweepConfig, here: bool = True) -> int:
    """Build every part of every point that the sweep can reach, so that errors come first.

    Args:
        config: of the sweep.
        here: whether it will run on this machine, which must then be large enough.

    Returns:
        The number of points.

    Raises:
        ConfigError: naming the key, the value and what is allowed.
    """
    if config.name == LATEST:
        raise ConfigError("name", config.name, "is what commands call the newest sweep")
    reached = check_space(config)
    check_budget(config, reached)
    check_objectives(config, single_seed=len(config.point.seeds) == 1)
    cluster, room = _place(here)
    if room.is_known:
        check_crowd(config.point.resources, cluster)
    needs = check_memory(config, reached, cluster, room)
    trained = set[str]()
    measured = [measured_names(_built(point, trained)) for point in reached]
    names = set.intersection(*measured)
    if room.is_known:
        allocation = allocate_for(config, cluster, Loop(reached[0]), needs.fits)
        if not ray.is_initialized():
            check_fits(allocation, cluster)
    for wanted in config.search.objective:
        if wanted.metric not in names:
            allowed = f"must be one of {', '.join(sorted(names))}"
            raise ConfigError("search.objective.metric", wanted.metric, allowed)
    _check_seed_rule(config, names)
    _check_claims(config, set.union(*measured))
    return config.point_count


def _place(here: bool) -> tuple[dict[str, float], Room]:
    """Resources of this machine, or of the Ray session that there is, and its memory.

    A cluster that is still to be joined is asked when it has been.
    """
    if here and ray.is_initialized():
        return ray.cluster_resources(), room_of_session()
    return this_machine(), room_here() if here and not knows_cluster() else room_anywhere()


def _built(point: PointConfig, trained: set[str]) -> Loop:
    """The loop of a point, its files of trained weights read where they have not been yet."""
    loop = Loop(point)
    files = {key: name for key, name in point.files().items() if not key.startswith("data.")}
    parts = point.learner, point.classifier, point.data.model_copy(update={"size": None})
    key = json.dumps([files, *(part and part.model_dump(mode="json") for part in parts)])
    if files and key not in trained:
        loop.check_trained()
        trained.add(key)
    return loop


def lacks_compiler(config: SweepConfig) -> bool:
    """Whether a network is to be compiled and this machine has no compiler to do it with."""
    named = os.environ.get("CC") or os.environ.get("CXX")
    found = any(map(shutil.which, filter(None, [named, "cc", "gcc", "clang"])))
    return bool(getattr(config.point.learner, "compile", False)) and not found


def _check_seed_rule(config: SweepConfig, names: set[str]) -> None:
    """Refuse a wanted width of a metric or at an iteration that not every point has."""
    goal = None if config.seed_rule is None else config.seed_rule.until
    if not isinstance(goal, WidthGoal):
        return
    if goal.metric not in names:
        allowed = f"must be one of {', '.join(sorted(names))}"
        raise ConfigError("seeds.until.metric", goal.metric, allowed)
    if isinstance(goal.at, int) and goal.at > config.point.iterations:
        allowed = f"must be at most iterations={config.point.iterations}"
        raise ConfigError("seeds.until.at", goal.at, allowed)
    if isinstance(goal.at, int) and not is_measured_at(config.point, goal.metric, goal.at):
        allowed = f"must be an iteration at which {goal.metric} is measured, or last"
        raise ConfigError("seeds.until.at", goal.at, allowed)


def is_measured_at(point: PointConfig, metric: str, iteration: int) -> bool:
    """Whether a point that has a metric at all has it at an iteration."""
    last = iteration == point.iterations
    if metric.startswith("margin/"):  # which compare an iteration with the one before
        return iteration > 0
    if metric.startswith(("kept_reward_mean", "choice_share", "flip_share")):
        return not last  # the last pool is not curated
    if point.quality is not None and metric in {*VECTOR_QUALITY, *IMAGE_QUALITY}:
        return last or iteration % point.quality.every == 0
    return True


def _check_claims(config: SweepConfig, names: set[str]) -> None:
    """Refuse claims about metrics, keys or iterations that no sweep, or not this one, can have.

    A metric that other data would have is let pass: a preset's claims stay when its data is
    replaced, and are then undecided.
    """
    names = names | set(metric_names(1, 0.0, VECTOR_QUALITY))
    for number, claim in enumerate(config.claims):
        place = f"claims.{number}"
        if claim.metric not in names and not claim.metric.startswith(
            ("class_fraction/", "margin/")
        ):
            allowed = f"must be one of {', '.join(sorted(names))}"
            raise ConfigError(f"{place}.metric", claim.metric, allowed)
        against = claim.against
        targets: list[ClaimConfig | Target] = [claim]
        if isinstance(against, Target):
            targets.append(against)
        for target in targets:
            if isinstance(target.at, int) and target.at > config.point.iterations:
                allowed = f"must be at most iterations={config.point.iterations}"
                raise ConfigError(f"{place}.at", target.at, allowed)
            with_values(config.point, target.point)  # which names a key that there is none of


def measured_names(loop: Loop) -> set[str]:
    """The metrics that a loop puts on record, but for how long its stages took."""
    config = loop.config
    supremum = None if config.beta < 0 else loop.scorer.supremum
    quality: tuple[str, ...] = ()
    if config.quality is not None:
        quality = VECTOR_QUALITY if loop.dataset.images is None else IMAGE_QUALITY
    names = set(metric_names(loop.scorer.n_classes, supremum, quality))
    names |= set(loop.own_metrics.names())
    alike = len(config.pickers) == 1
    if config.iterations and not config.curation.is_custom:
        synthetic = config.training.synthetic
        bounds = applicable(config.lam, config.k, supremum, synthetic, alike=alike)
        names |= {f"margin/{name}" for name in bounds}
    curates = bool(config.iterations and int(loop.rows.kept.max()))
    names |= set(user_metric_names(config, loop.scorer.suprema, curates=curates))
    if not curates:
        names.discard("kept_reward_mean")
    if not config.learner.has_loss:
        names.discard("loss")
    return names
