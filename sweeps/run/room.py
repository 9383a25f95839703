"""Whether a trial fits into memory: refused before anything is built, by the key that is to blame.

A trial that surely cannot run is refused, by what its one node has in all. Of several at once that
take more than there is, a remark tells: they may not all be at their largest at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from luceloop.core.config.point import PointConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.io.memory import in_words, machine_memory
from luceloop.core.learners.networks.sizes import NUMBER, unet_size
from luceloop.core.learners.regression.config import RegressionConfig
from luceloop.core.pool.shards import shard_length
from luceloop.sweeps.costs.memory import DataShape, Memory, Part, estimate_memory
from luceloop.sweeps.run.machines import Room
from luceloop.sweeps.run.needs import Needs, shapes_of
from luceloop.sweeps.run.resources import Allocation, allocate, trials_at_once

USUAL = {
    "seeds": 5.0, "iterations": 8, "lam": 1, "curation.k": 2,
    "data.size": 5000, "data.image_size": 32, "data.dim": 2,
    "real_size": 5000, "kept_size": 5000, "pool_size": 10_000,
    "learner.batch_size": 256, "learner.width": 64, "learner.depth": 3, "learner.ot_batch": 16,
    "learner.unet.channels": 128, "learner.unet.blocks": 2,
    "sampling.shard_size": 1024, "sampling.preview": 500, "quality.samples": 1000,
    "classifier.width": 32, "classifier.batch_size": 256,
}  # fmt: skip
"""Keys as they mostly are: of those that a part grows with, the farthest beyond is to blame."""
SQUARED = {"learner.width", "learner.unet.channels", "classifier.width", "data.image_size"}
"""Keys with whose square memory grows."""


def is_large(point: PointConfig, shape: DataShape) -> bool:
    """Whether a point's network fills a device by itself, as far as it is known unbuilt."""
    return len(shape.sample) == 3 and isinstance(point.learner, RegressionConfig)


def check_memory(
    config: SweepConfig, points: Sequence[PointConfig], cluster: dict[str, float], room: Room
) -> Needs:
    """Refuse a point that no trial could run, before anything of its sizes is built.

    On one machine all processes of a trial must fit; on a cluster the trial's own on the largest
    node: samplers, which take no more than that, may lie on others.

    Args:
        config: of the sweep.
        points: that it can reach.
        cluster: resources by kind.
        room: the memory that a trial may take.

    Returns:
        What trials of these points take.

    Raises:
        ConfigError: naming the key that takes most.
    """
    shapes = shapes_of(points)
    for point, shape in zip(points, shapes, strict=True):
        _check_network(point, shape)
        allocation = _allocation(config, point, shape, cluster, room)
        on_gpu = allocation.trial_gpus > 0
        samplers = allocation.samplers if room.is_shared else 0
        memory = estimate_memory(point, shape, samplers=samplers, on_gpu=on_gpu)
        if memory.host > room.host:
            raise _too_large(point, shape, memory, room, on_device=False)
        if memory.device > room.device:
            raise _too_large(point, shape, memory, room, on_device=True)
    return Needs(points, shapes, room)


def _check_network(point: PointConfig, shape: DataShape) -> None:
    """Refuse a U-Net that this machine, where it is built to be checked, cannot hold."""
    if not isinstance(point.learner, RegressionConfig) or len(shape.sample) != 3:
        return
    size, there = unet_size(point.learner.unet, shape.sample).weights * NUMBER, machine_memory()
    if size > there:
        part = Part(size, ("learner.unet.channels", "learner.unet.blocks"))
        key, value = _to_blame(point, shape, part)
        takes = f"the network alone takes {in_words(size)} of memory"
        raise ConfigError(key, value, f"{takes}; this machine has {in_words(there)}")


def _allocation(
    config: SweepConfig,
    point: PointConfig,
    shape: DataShape,
    cluster: dict[str, float],
    room: Room,
) -> Allocation:
    length = shard_length(point.k, point.sampling.shard_size)
    shards = -(-shape.sizes.pool // length)
    large, at_once = is_large(point, shape), trials_at_once(config)
    seeds = len(point.seeds)
    fits = Needs([point], [shape], room).fits
    return allocate(point.resources, cluster, at_once, shards, large=large, seeds=seeds, fits=fits)


def _too_large(
    point: PointConfig, shape: DataShape, memory: Memory, room: Room, *, on_device: bool
) -> ConfigError:
    whole, there = (memory.device, room.device) if on_device else (memory.host, room.host)
    where = "its GPU" if on_device else room.where
    part = max(memory.parts(on_device=on_device), key=lambda each: each.size)
    key, value = "resources.samplers", memory.samplers
    share = memory.samplers * memory.of_sampler
    if on_device or part.size >= share:
        key, value = _to_blame(point, shape, part)
        share = part.size
    takes = (
        f"a trial takes about {in_words(round(whole))} of memory, {in_words(round(share))} of it"
    )
    return ConfigError(key, value, f"{takes} by this; {where} has {in_words(round(there))}")


def _to_blame(point: PointConfig, shape: DataShape, part: Part) -> tuple[str, Any]:
    """The key of a part that is farthest beyond its usual value, and its value."""
    flat: dict[str, Any] = point.flat() | {"seeds": len(point.seeds)}
    if flat.get("data.size") is None:
        flat["data.size"] = shape.size

    def excess(key: str) -> float:
        value = flat.get(key)
        if not isinstance(value, int | float) or not math.isfinite(value) or key not in USUAL:
            return 0.0
        return (value / USUAL[key]) ** (2 if key in SQUARED else 1)

    keys = [key for key in part.keys if excess(key)] or ["seeds"]
    key = max(keys, key=excess)
    return key, flat[key]
