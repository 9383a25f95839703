"""What `resources: auto` means on the cluster at hand; it never changes a result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ray.tune import PlacementGroupFactory

from luceloop.core.config.parts import ResourcesConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.workers.messages import SamplerSetup

MOST_TRIALS_ON_A_GPU = 4
"""Trials of small networks that `auto` lets share a GPU."""
MOST_SAMPLERS = 8
"""Sampler actors that `auto` gives a trial."""


@dataclass(frozen=True)
class Allocation:
    """Resources of every trial of a sweep."""

    trial_cpus: float
    trial_gpus: float
    samplers: int
    sampler_cpus: float
    sampler_gpus: float

    @property
    def sampler_setup(self) -> SamplerSetup:
        """What a trial is told of its samplers."""
        return SamplerSetup(self.samplers, self.sampler_cpus, self.sampler_gpus)

    def bundles(self) -> PlacementGroupFactory:
        """The placement group of one trial: itself, then each of its samplers."""
        trial = _bundle(self.trial_cpus, self.trial_gpus)
        sampler = _bundle(self.sampler_cpus, self.sampler_gpus)
        return PlacementGroupFactory([trial, *[sampler] * self.samplers])


def allocate(
    config: ResourcesConfig, cluster: Mapping[str, float], points: int, shards: int
) -> Allocation:
    """Fill in `auto`.

    With GPUs, each is shared evenly: several trials to a GPU where there are more points than GPUs,
    else a whole GPU for the trial and one for each sampler. Without, a trial takes one CPU, and
    CPUs that no trial would use become samplers. On a laptop that is a trial per core. More
    samplers than fit are given fractions of a CPU.

    Args:
        config: what was asked for.
        cluster: Ray's total resources.
        points: trials that could run at once.
        shards: shards of a pool; more samplers would idle.
    """
    cpus, gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
    share = gpus / max(1, points)
    trial_gpus = _given(config.trial.gpus, _even_share(share) if gpus else 0.0)
    sampler_gpus = _given(config.sampler.gpus, 1.0 if trial_gpus == 1 else 0.0)
    if gpus and config.samplers != "auto" and config.samplers:
        # All of a trial's actors compute on one kind of device, or their bits would differ.
        each = min(1.0, max(share, 1 / MOST_TRIALS_ON_A_GPU) / (1 + config.samplers))
        trial_gpus = _given(config.trial.gpus, _hundredths(each))
        sampler_gpus = _given(config.sampler.gpus, _hundredths(each))
    trial_cpus, sampler_cpus = _given(config.trial.cpus, 1.0), _given(config.sampler.cpus, 1.0)
    if config.samplers == "auto":
        at_once = max(1, min(points, int(cpus // max(trial_cpus, 1))))
        spare = int((cpus / at_once - trial_cpus) // max(sampler_cpus, 1))
        if gpus:
            spare = min(spare, int(share - 1)) if sampler_gpus else 0
        samplers = max(0, min(spare, shards, MOST_SAMPLERS))
    else:
        samplers = config.samplers
        if trial_cpus + samplers * sampler_cpus > cpus:  # more actors than CPUs share them
            even = _hundredths(cpus / (1 + samplers))
            trial_cpus = _given(config.trial.cpus, even)
            sampler_cpus = _given(config.sampler.cpus, even)
    return Allocation(trial_cpus, trial_gpus, samplers, sampler_cpus, sampler_gpus)


def allocate_for(config: SweepConfig, cluster: Mapping[str, float], shards: int) -> Allocation:
    """The resources of a sweep's trials on a cluster.

    Args:
        config: of the sweep.
        cluster: Ray's total resources.
        shards: shards of a pool.
    """
    at_once = config.point_count
    if config.search.learns:
        at_once = min(at_once, config.search.concurrency)
    return allocate(config.point.resources, cluster, at_once, shards)


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


def _even_share(share: float) -> float:
    """A whole GPU, or an even fraction of one: 1/2, 1/3, 1/4."""
    return 1.0 if share >= 1 else 1 / min(MOST_TRIALS_ON_A_GPU, math.ceil(1 / share))


def _bundle(cpus: float, gpus: float) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}
