"""What a sweep is foreseen to cost on the machine or cluster at hand, before and while it runs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from rich.console import Console

from luceloop.core.config.point import PointConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.io.places import Folder, listed
from luceloop.core.loop.initial import initial_key
from luceloop.core.loop.loop import Loop
from luceloop.sweeps.costs.disk import estimate_disk
from luceloop.sweeps.costs.estimate import Estimate, Work, device_time, initial_fit, wall_time
from luceloop.sweeps.costs.measure import measure
from luceloop.sweeps.costs.memory import estimate_memory
from luceloop.sweeps.costs.pace import Pace, Places, cost_key, pace_of, recorded_paces
from luceloop.sweeps.costs.recorded import Costs
from luceloop.sweeps.costs.sizes import sizes_of
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.run.check import measured_names
from luceloop.sweeps.run.machines import knows_cluster, room_anywhere, room_here, this_machine
from luceloop.sweeps.run.needs import Needs, shape_of, shapes_of
from luceloop.sweeps.run.progress import Progress, duration
from luceloop.sweeps.run.reuse import Reuse, reuses
from luceloop.sweeps.run.sharing import crowding, places_of
from luceloop.sweeps.search.space import planned_points, reached_points

MOST_ASKED = 1000
"""Points that a sampler is asked for beforehand; of more, the ends of the ranges stand for all."""
MOST_MEASURED = 3
"""Kinds of points that are measured; others are scaled by their pools."""


@dataclass(frozen=True)
class Foresight:
    """A sweep, the storage that it uses, and the machine or cluster that it is to run on."""

    config: SweepConfig
    folder: SweepFolder
    """Its folder, which need not be there yet."""
    cache: Folder
    """Where trained p_0 are."""
    cluster: Mapping[str, float]
    """Resources by kind, as Ray names them."""
    loop: Loop
    """Of one of its points."""
    known: Callable[[PointConfig], Mapping[int, int]]
    """By seed, how many rows of a point are taken from other sweeps."""
    needs: Needs
    """What its trials take of memory."""

    @functools.cached_property
    def places(self) -> Places:
        """How its trials share the cluster."""
        large, fits = self.loop.fitter.one_by_one, self.needs.fits
        return places_of(self.config, self.cluster, large=large, fits=fits)

    def estimate(self, *, measured: bool) -> Estimate:
        """What it will cost.

        Args:
            measured: whether time that no earlier sweep tells is measured now.

        Raises:
            ConfigError: if a point's data cannot be built.
        """
        work, bounded = self.work()
        costs = functools.reduce(Costs.__add__, (each.counts() for each in work), Costs())
        untrained = self._untrained(work)
        paces, basis = self._paces(work, measured=measured)
        seconds = wall_time(work, paces, self.places, untrained)
        if spent := device_time(work, paces, self.places):
            first = _initial_seconds(work, paces, untrained, self.places.device)
            costs = replace(costs, device_seconds=spent + first)
        rows = sum(len(each.point.seeds) * (each.point.iterations + 1) for each in work)
        metrics = len(measured_names(self.loop)) + 4  # and the seconds of four stages
        points, missing = [each.point for each in work], sum(untrained.values())
        disk = estimate_disk(points, self.loop, self.places, metrics, missing)
        trials = min(self.places.trials, math.ceil(len(work) / self.places.pack))
        left = rows - costs.rows
        grows = self.config.seed_rule is not None
        memory = max(map(self._memory, points), default=0)
        return Estimate(
            len(work),
            costs,
            left,
            disk,
            seconds,
            basis,
            trials,
            bounded,
            grows,
            memory,
            self.remark,
        )

    @property
    def remark(self) -> str:
        """That trials take more memory together than there is, where they do."""
        return crowding(self.places, self.needs)

    def _memory(self, point: PointConfig) -> int:
        """Bytes that a trial of a point takes, by the data of the point that was built."""
        dataset, sizes = self.loop.dataset, sizes_of(point)
        size = point.data.size or dataset.size
        shape = replace(shape_of(self.loop.config, dataset), size=size, sizes=sizes)
        on_gpu = self.places.device != "cpu"
        samplers, pack = self.places.samplers, self.places.pack
        found = estimate_memory(point, shape, samplers=samplers, on_gpu=on_gpu, points=pack)
        return round(found.host)

    def work(self) -> tuple[list[Work], str]:
        """The points to be run, and why they may come to less than that; empty if they may not."""
        search, bounded = self.config.search, ""
        if search.early_stop is not None:
            bounded = "points may stop early"
        few = search.sampler == "grid" or self.config.point_count <= MOST_ASKED
        if few and not search.learns_values:
            return [Work(p, self.known(p)) for p in planned_points(self.config)], bounded
        reached = reached_points(self.config)
        most = max(reached, key=lambda p: (p.iterations + 1) * sizes_of(p).pool)
        if len({cost_key(p, self.places.device) for p in reached}) > 1:
            bounded = "points are chosen while it runs"
        return [Work(most, {})] * self.config.point_count, bounded

    def _paces(self, work: Sequence[Work], *, measured: bool) -> tuple[dict[str, Pace], str]:
        """How long rows take, by `cost_key`, and where that comes from."""
        wanted = {cost_key(each.point, self.places.device): each.point for each in work}
        every = Output(self.folder.path.parents[1]).sweeps()
        others = [sweep for sweep in every if sweep.id != self.folder.id]

        def places(config: SweepConfig) -> Places:
            return places_of(config, self.cluster, large=self.places.one_by_one)

        found = recorded_paces(others, wanted, places)
        rows, basis = sum(pace.rows for pace in found.values()), ""
        if wanted.keys() <= found.keys():
            return found, f"{rows:,} rows of earlier sweeps"
        missing = {key: point for key, point in wanted.items() if key not in found}
        if not measured:
            return found, "no earlier sweep of this kind is on record"
        more, basis = _measured(missing, self.places.device)
        return found | more, basis

    def _untrained(self, work: Sequence[Work]) -> dict[str, int]:
        """By `cost_key`, seeds whose p_0 is not in the cache; those that points share, once."""
        device = "cuda" if self.places.device.startswith("cuda") else "cpu"
        found, seen = dict[str, int](), set[str]()
        names: dict[str, set[str]] = {}
        for each in work:
            if each.point.learner.reads_initial:
                continue
            key = initial_key(each.point, device)
            if key not in names:
                files = listed(self.cache, f"p0-{key}-seed*.pt")
                names[key] = {file.name for file in files}
            seeds = [seed for seed in each.point.seeds if not each.known.get(seed, 0)]
            files_of = {f"p0-{key}-seed{seed}.pt" for seed in seeds} - names[key] - seen
            seen |= files_of
            own = cost_key(each.point, self.places.device)
            found[own] = found.get(own, 0) + len(files_of)
        return found


def _initial_seconds(
    work: Sequence[Work], paces: Mapping[str, Pace], untrained: Mapping[str, int], device: str
) -> float:
    """Device-seconds of training p_0."""
    points = {cost_key(each.point, device): each.point for each in work}
    return math.fsum(untrained.get(k, 0) * initial_fit(p, paces[k]) for k, p in points.items())


def _measured(missing: Mapping[str, PointConfig], device: str) -> tuple[dict[str, Pace], str]:
    """How long rows of these points take, measured here, and how that was done."""
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        return {}, f"there is no {device} here to measure on"
    found, how = dict[str, Pace](), list[str]()
    reference: tuple[Pace, int] | None = None
    by_pool = sorted(missing.items(), key=lambda item: sizes_of(item[1]).pool)
    for key, point in by_pool:
        pool = sizes_of(point).pool
        if reference is not None and len(how) >= MOST_MEASURED:
            pace, size = reference
            found[key] = replace(pace, pool=pace.pool * pool / size)
            continue
        result = measure(point, device)
        if result is None:
            return {}, "a learner of your own, which may take any time"
        found[key], reference = result[0], (result[0], pool)
        how.append(result[1])
    return found, f"{how[0]}, measured on {_name_of(device)}"


def _name_of(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "this machine's CPU"


def foresee_here(config: SweepConfig, output: Output) -> Estimate:
    """What a sweep would cost if it ran on this machine; what is not on record is measured.

    Raises:
        ConfigError: if a point's data cannot be built.
        LoopError: if a measured loop cannot go on, as the sweep's own could not.
    """
    folder = SweepFolder(output.path / "sweeps" / "-")  # as that of a new sweep
    cluster, reached = this_machine(), reached_points(config)
    room = room_anywhere() if knows_cluster() else room_here()  # which it may not be meant for
    loop, needs = Loop(reached[0]), Needs(reached, shapes_of(reached), room)
    device = places_of(config, cluster, large=loop.fitter.one_by_one).device
    known = Reuse(folder, config, device).known if reuses(config) else nothing_known
    foresight = Foresight(config, folder, output.cache, cluster, loop, known, needs)
    return foresight.estimate(measured=True)


def nothing_known(point: PointConfig) -> Mapping[int, int]:
    """Rows of a point that are on record elsewhere, where other sweeps are not asked."""
    return {}


class TimeTold:
    """A progress that also says how long a sweep will take, once its first rows are on record."""

    def __init__(
        self, progress: Progress, console: Console, foresight: Foresight, ledger: Ledger
    ) -> None:
        """Take note of what is to be run.

        Args:
            progress: what shows all else.
            console: where to say how long it takes.
            foresight: of the sweep.
            ledger: of the sweep.
        """
        self._progress, self._console = progress, console
        self._config, self._ledger = foresight.config, ledger
        self._work, self._places = foresight.work()[0], foresight.places
        self._told = False

    def show(self, point: Point) -> None:
        """Show it; with the first iteration of a retraining, say how long the rest takes."""
        self._progress.show(point)
        if not self._told and point.last >= 1:
            self.tell_left("by the first iterations")

    def tell(self, line: str) -> None:
        """Pass it on."""
        self._progress.tell(line)

    def tell_left(self, basis: str) -> None:
        """Say how long the rest takes, where the record tells, and what tells it."""
        self._told, seconds = True, self.left()
        if seconds is not None:
            line = f"about {duration(seconds)} left, {basis}"
            self._console.print(line, highlight=False, soft_wrap=True)

    def left(self) -> float | None:
        """Seconds to the end, by the rows on record; None where they do not tell all."""
        if any(point.batches for point in list(self._ledger.points.values())):
            return None
        try:
            paces = pace_of(self._ledger, self._config, self._places)
        except ConfigError:
            return None
        work = []
        for index, each in enumerate(self._work):
            point = self._ledger.points.get(index)
            done = 0 if point is None else point.last + 1
            if point is not None and point.status is not None:
                done = each.point.iterations + 1
            known = {seed: max(each.known.get(seed, 0), done) for seed in each.point.seeds}
            work.append(Work(each.point, known))
        return wall_time(work, paces, self._places, {}, started=True)

    def close(self) -> None:
        """The sweep is over."""
        self._progress.close()
