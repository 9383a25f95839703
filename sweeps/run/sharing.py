"""How the trials of a sweep share a machine or cluster."""

from __future__ import annotations

from collections.abc import Mapping

from luceloop.core.config.parsing import at_point
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.io.memory import in_words
from luceloop.core.pool.shards import cut_into_shards
from luceloop.sweeps.costs.pace import Places
from luceloop.sweeps.costs.sizes import sizes_of
from luceloop.sweeps.run.needs import Needs
from luceloop.sweeps.run.resources import Allocation, Fits, allocate, trials_at_once


def places_of(
    config: SweepConfig,
    cluster: Mapping[str, float],
    *,
    large: bool,
    fits: Fits | None = None,
) -> Places:
    """How the trials of a sweep share a cluster.

    Args:
        config: of the sweep.
        cluster: resources by kind.
        large: whether its network fills a device by itself.
        fits: tells whether memory does.

    Raises:
        ConfigError: if a point's data cannot be built.
    """
    first = {key: (each.values or each.bounds)[0] for key, each in config.search.space.items()}
    point = at_point(config, first)
    shards = len(cut_into_shards(sizes_of(point).pool, point.k, point.sampling.shard_size))
    at_once, seeds = trials_at_once(config), len(point.seeds)
    given = config.point.resources
    allocation = allocate(given, cluster, at_once, shards, large=large, seeds=seeds, fits=fits)
    trials = allocation.trials_at_once(cluster, at_once)
    device, samplers = device_of(allocation), allocation.samplers
    return Places(trials, allocation.pack, device, large, samplers)


def device_of(allocation: Allocation) -> str:
    """What points are computed on, as the ledger has it."""
    kinds = [allocation.trial_gpus, *([allocation.sampler_gpus] if allocation.samplers else [])]
    # Where samplers have another kind than the trial, their streams are others, too.
    return "+".join(dict.fromkeys("cuda" if gpus else "cpu" for gpus in kinds))


def crowding(places: Places, needs: Needs) -> str:
    """That the trials which run at once take more memory than a machine has; empty if they do not.

    They can be run all the same: not all are at their largest at the same time.
    """
    trials, pack = places.trials, places.pack
    takes = needs.together(places.samplers, pack, places.device != "cpu", trials)
    there = needs.room.host
    if not needs.room.is_shared or takes <= there:
        return ""
    of = f" of {pack} points" if pack > 1 else ""
    which, remedy = f"a trial{of} takes", "lower resources.pack"
    if trials > 1:
        which = f"{trials} trials{of} at once take"
        remedy = "raise resources.trial.cpus, and fewer run at once"
    line = f"{which} about {in_words(round(takes))} of memory in all"
    return f"{line}; {needs.room.where} has {in_words(round(there))}: {remedy}"
