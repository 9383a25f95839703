"""The memory that trials take, of all the points that a sweep can reach, beside what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from luceloop.core.config.point import PointConfig
from luceloop.core.data.base import RealData
from luceloop.core.data.npz import ArrayData
from luceloop.core.pool.rows import training_sizes
from luceloop.sweeps.costs.memory import CODE, DataShape, estimate_memory
from luceloop.sweeps.run.machines import Room


def shape_of(point: PointConfig, data: RealData) -> DataShape:
    """What a point's memory depends on of its data.

    Raises:
        ConfigError: if it is too small for the point.
    """
    images, sizes = data.images, training_sizes(point, data.size)
    held = len(data.x) if isinstance(data, ArrayData) else 0
    held = held if images is None else len(images)
    return DataShape(tuple(data.shape), data.size, held, images is not None, sizes)


def shapes_of(points: Sequence[PointConfig]) -> list[DataShape]:
    """The same of several points, data that they share built once.

    Raises:
        ConfigError: if data cannot be built, or is too small for a point.
    """
    built: dict[str, RealData] = {}
    for point in points:
        key = point.data.model_dump_json()
        if key not in built:
            built[key] = point.data.build()
    return [shape_of(point, built[point.data.model_dump_json()]) for point in points]


class Needs:
    """What the trials of some points take of the memory that there is."""

    def __init__(
        self, points: Sequence[PointConfig], shapes: Sequence[DataShape], room: Room
    ) -> None:
        """Take points, the shapes of their data, and the memory that their trials may take."""
        self.room = room
        self._points = list(zip(points, shapes, strict=True))
        self._sizes = cache(self._estimate)

    def fits(self, samplers: int, points: int, on_gpu: bool, trials: int) -> bool:
        """Whether trials that run at once have the memory, as far as it is known.

        Args:
            samplers: of a trial.
            points: of a trial.
            on_gpu: whether they compute on GPUs.
            trials: so many.
        """
        if not self.room.is_known:
            return True
        sizes = self._sizes(on_gpu)
        if max(each.device * points for each in sizes) > self.room.device:
            return False
        if self.room.is_shared:
            return self.together(samplers, points, on_gpu, trials) <= self.room.host
        return max(each.trial(points) for each in sizes) <= self.room.host  # samplers take less

    def together(self, samplers: int, points: int, on_gpu: bool, trials: int) -> float:
        """Bytes that so many trials take in all their processes, code shared, at the most."""
        sizes = self._sizes(on_gpu)
        each = max(each.trial(points) + samplers * each.sampler for each in sizes)
        return trials * each - (trials - 1) * CODE

    def _estimate(self, on_gpu: bool) -> set[_Size]:
        found = set[_Size]()
        for point, shape in self._points:
            one = estimate_memory(point, shape, on_gpu=on_gpu)
            more = replace(one, points=2).host - one.host
            found.add(_Size(one.host - more, more, one.of_sampler, one.device))
        return found


@dataclass(frozen=True)
class _Size:
    """What a trial takes, in bytes: by itself, of each of its points, of each of its samplers."""

    alone: float
    point: float
    sampler: float
    device: float
    """Of a GPU, of each point."""

    def trial(self, points: int) -> float:
        """Of the trial's own process."""
        return self.alone + points * self.point
