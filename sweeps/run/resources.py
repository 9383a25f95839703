"""What `resources: auto` means on the cluster at hand; it never changes a result."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ray.tune import PlacementGroupFactory

from luceloop.core.config.parts import ResourcesConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.loop.loop import Loop
from luceloop.workers.messages import SamplerSetup

ENOUGH_ROWS = 8
"""Rows of an ensemble on a CPU beyond which more save no time."""
MOST_SAMPLERS = 8
"""Sampler actors that `auto` gives a trial."""

MOST_PER_CPU = 16
"""Processes of a trial, or threads of a process, that may share a CPU."""

SHARES = 10_000
"""Parts of a CPU that Ray tells apart."""

Fits = Callable[[int, int, bool, int], bool]
"""Whether memory does for trials: samplers and points of each, whether on GPUs, and how many."""


@dataclass(frozen=True)
class Allocation:
    """Resources of every trial of a sweep."""

    trial_cpus: float
    trial_gpus: float
    samplers: int
    sampler_cpus: float
    sampler_gpus: float
    pack: int = 1
    """The most points of a trial."""

    @property
    def sampler_setup(self) -> SamplerSetup:
        """What a trial is told of its samplers."""
        return SamplerSetup(self.samplers, self.sampler_cpus, self.sampler_gpus)

    def bundles(self) -> PlacementGroupFactory:
        """The placement group of one trial: itself, then each of its samplers."""
        trial = _bundle(self.trial_cpus, self.trial_gpus)
        sampler = _bundle(self.sampler_cpus, self.sampler_gpus)
        return PlacementGroupFactory([trial, *[sampler] * self.samplers])

    def trials_at_once(self, cluster: Mapping[str, float], points: int) -> int:
        """Trials of so many points that a cluster's resources, by kind, have room for."""
        needs = self.bundles().required_resources
        fit = [cluster.get(kind, 0.0) / amount for kind, amount in needs.items() if amount]
        return max(1, min(math.ceil(points / self.pack), int(min(fit, default=1.0))))


def allocate(
    config: ResourcesConfig,
    cluster: Mapping[str, float],
    points: int,
    shards: int,
    *,
    large: bool = False,
    seeds: int = 1,
    fits: Fits | None = None,
) -> Allocation:
    """Fill in `auto`, by the cluster and, if that is known, by its memory.

    A large network takes a whole GPU: two that share one gain nothing and need twice the memory. A
    small network does so only where there is a GPU for every trial; else each takes one CPU, of
    which there are more. GPUs, or CPUs, that no trial would use become samplers; more samplers than
    fit are given fractions. Points of small networks share a trial, a pack, where that gains time:
    all on a GPU, else so many that an ensemble has `ENOUGH_ROWS` and every core a trial.

    Args:
        config: what was asked for.
        cluster: Ray's total resources.
        points: trials that could run at once.
        shards: shards of a pool; more samplers would idle.
        large: whether the network fills a device by itself.
        seeds: of a point.
        fits: tells whether memory does; where it does not, trials get fewer samplers, then fewer
            points, and then fewer run at once.

    Raises:
        ConfigError: if packs are asked for where points cannot share a trial.
    """
    _check_pack(config, large)
    found = _fill(config, cluster, points, shards, large, seeds)
    return found if fits is None else _within(found, config, cluster, points, fits)


def _fill(
    config: ResourcesConfig,
    cluster: Mapping[str, float],
    points: int,
    shards: int,
    large: bool,
    seeds: int,
) -> Allocation:
    """Fill in `auto`, whatever memory there is."""
    if config.pack != "auto":
        points = math.ceil(points / config.pack)
    cpus, gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
    trial_gpus, sampler_gpus = _share_gpus(config, gpus, points, large)
    trial_cpus, sampler_cpus = _given(config.trial.cpus, 1.0), _given(config.sampler.cpus, 1.0)
    samplers = 0 if config.samplers == "auto" else config.samplers
    if config.samplers == "auto" and config.pack in (1, "auto"):
        spare = _spare(cpus, trial_cpus, sampler_cpus, points)
        if trial_gpus:
            spare = min(spare, int(gpus / max(1, points) - 1)) if sampler_gpus else 0
        samplers = max(0, min(spare, shards, MOST_SAMPLERS))
    elif trial_cpus + samplers * sampler_cpus > cpus:  # more actors than CPUs share them
        even = max(0.01, _hundredths(cpus / (1 + samplers)))  # none at all would suit any node
        trial_cpus = _given(config.trial.cpus, even)
        sampler_cpus = _given(config.sampler.cpus, even)
    pack = 1 if config.pack == "auto" else config.pack
    if config.pack == "auto" and not samplers and not large:
        at_once = int(gpus / trial_gpus if trial_gpus else cpus / (trial_cpus or 1.0))
        pack = _pack_size(points, max(1, at_once), seeds, on_gpus=trial_gpus > 0)
    return Allocation(trial_cpus, trial_gpus, samplers, sampler_cpus, sampler_gpus, pack)


def _within(
    usual: Allocation,
    config: ResourcesConfig,
    cluster: Mapping[str, float],
    points: int,
    fits: Fits,
) -> Allocation:
    """An allocation whose `auto` are lowered as far as memory asks for, and none that is given."""
    found, on_gpu = usual, usual.trial_gpus > 0
    at_once = found.trials_at_once(cluster, points)
    if config.samplers == "auto":
        samplers = _most(0, found.samplers, lambda s: fits(s, found.pack, on_gpu, at_once))
        found = replace(found, samplers=samplers)
    if config.pack == "auto":
        pack = _most(1, found.pack, lambda p: fits(found.samplers, p, on_gpu, at_once))
        found = replace(found, pack=pack)
    if config.trial.cpus == "auto":
        at_once = found.trials_at_once(cluster, points)
        most = _most(1, at_once, lambda n: fits(found.samplers, found.pack, on_gpu, n))
        if most < at_once:
            share = cluster.get("CPU", 1.0) / most - found.samplers * found.sampler_cpus
            found = replace(found, trial_cpus=math.floor(share * SHARES) / SHARES)
    return found


def _most(least: int, most: int, fits: Callable[[int], bool]) -> int:
    """The largest number that fits, of which all smaller do, too; the least if none does."""
    return least + bisect(range(least + 1, most + 1), False, key=lambda number: not fits(number))


def _share_gpus(
    config: ResourcesConfig, gpus: float, points: int, large: bool
) -> tuple[float, float]:
    """GPUs of a trial and of each of its samplers."""
    share = gpus / max(1, points)
    on_gpus = gpus >= 1 and (large or share >= 1)
    trial_gpus = _given(config.trial.gpus, 1.0 if on_gpus else 0.0)
    sampler_gpus = _given(config.sampler.gpus, 1.0 if trial_gpus == 1 else 0.0)
    if on_gpus and config.samplers != "auto" and config.samplers:
        # All of a trial's actors compute on one kind of device, or their bits would differ.
        whole = max(share, 1.0)
        each = min(1.0, whole / (1 + config.samplers))
        trial_gpus = _given(config.trial.gpus, _hundredths(each))
        rest = min(1.0, max(0.0, whole - trial_gpus) / config.samplers) if trial_gpus else 0.0
        sampler_gpus = _given(config.sampler.gpus, _hundredths(rest))
    return trial_gpus, sampler_gpus


def _spare(cpus: float, trial_cpus: float, sampler_cpus: float, points: int) -> int:
    """Samplers that a trial's share of the CPUs has room for, beside itself."""
    at_once = max(1, min(points, int(cpus // max(trial_cpus, 1))))
    return int((cpus / at_once - trial_cpus) // max(sampler_cpus, 1))


def _pack_size(points: int, at_once: int, seeds: int, *, on_gpus: bool) -> int:
    """The points of a trial where `at_once` trials run at a time."""
    if on_gpus:
        return math.ceil(points / at_once)
    return max(1, min(points // at_once, ENOUGH_ROWS // seeds))


def _check_pack(config: ResourcesConfig, large: bool) -> None:
    if config.pack in (1, "auto"):
        return
    if large:
        allowed = "must be 1 or auto: a large network fills a device by itself"
        raise ConfigError("resources.pack", config.pack, allowed)
    if config.samplers not in (0, "auto"):
        allowed = "must be 1 or auto: a pack samples itself, without resources.samplers"
        raise ConfigError("resources.pack", config.pack, allowed)


def allocate_for(
    config: SweepConfig, cluster: Mapping[str, float], loop: Loop, fits: Fits
) -> Allocation:
    """The resources of a sweep's trials on a cluster.

    Args:
        config: of the sweep.
        cluster: Ray's total resources.
        loop: of one of its points.
        fits: tells whether memory does.
    """
    at_once = trials_at_once(config)
    large = loop.fitter.one_by_one
    seeds, shards = len(loop.rows.seeds), len(loop.shards)
    resources = config.point.resources
    return allocate(resources, cluster, at_once, shards, large=large, seeds=seeds, fits=fits)


def trials_at_once(config: SweepConfig) -> int:
    """Trials of a point each that could run at once."""
    if config.search.learns:
        return min(config.point_count, config.search.concurrency)
    return config.point_count


def check_crowd(config: ResourcesConfig, cluster: Mapping[str, float]) -> None:
    """Refuse more processes in a trial, or threads in a process, than CPUs can be shared by.

    What `auto` gives is never too many.

    Raises:
        ConfigError: naming the key, and how many there may be.
    """
    cpus = max(1, int(cluster.get("CPU", 1)))
    most = MOST_PER_CPU * cpus
    allowed = f"must be at most {{}}: {MOST_PER_CPU} can share each of {cpus} CPUs"
    if config.threads > most:
        raise ConfigError("resources.threads", config.threads, allowed.format(most))
    if config.samplers != "auto" and 1 + config.samplers > most:
        raise ConfigError("resources.samplers", config.samplers, allowed.format(most - 1))


def check_fits(allocation: Allocation, cluster: Mapping[str, float]) -> None:
    """Refuse a trial that this machine could never start.

    Raises:
        ConfigError: naming what is missing.
    """
    needs = allocation.bundles().required_resources
    for kind in ("CPU", "GPU"):
        wanted, there = needs.get(kind, 0.0), cluster.get(kind, 0.0)
        if wanted > there:
            line = f"a trial and its {allocation.samplers} samplers need {wanted:g} {kind}s; "
            raise ConfigError("resources", f"{wanted:g} {kind}", f"{line}there are {there:g}")


def _given(value: float | Literal["auto"], otherwise: float) -> float:
    return otherwise if value == "auto" else value


def _hundredths(share: float) -> float:
    return math.floor(100 * share) / 100


def _bundle(cpus: float, gpus: float) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}
