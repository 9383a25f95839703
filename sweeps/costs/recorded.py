"""What points have cost, by the rows on record: those computed, and those taken from others."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from luceloop.core.config.parsing import at_point
from luceloop.core.config.point import PointConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.sweeps.costs.sizes import row_counts
from luceloop.sweeps.record.events import Row
from luceloop.sweeps.record.ledger import Point

SECONDS = "seconds/"
"""Start of the names of metrics that tell how long the stages of an iteration took."""


@dataclass(frozen=True)
class Costs:
    """What rows have cost.

    Example:
        Costs(rows=10, samples=40_000, choices=18_000, comparisons=18_000.0, device_seconds=7.9)
    """

    rows: int = 0
    """Iterations, each of one seed."""
    samples: int = 0
    """Generated."""
    choices: int = 0
    """Samples that pickers kept."""
    comparisons: float = 0.0
    """By pickers; infinite where there are choices at K=∞."""
    device_seconds: float = 0.0
    """Time of training, generating, scoring and choosing, on however many devices."""

    def __add__(self, other: Costs) -> Costs:
        return Costs(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class PointCosts:
    """What a point has cost, and what its rows from other sweeps had cost those."""

    computed: Costs = Costs()
    """Its own."""
    taken: Costs = Costs()
    """Of rows that other sweeps had on record, which cost nothing here."""

    def __add__(self, other: PointCosts) -> PointCosts:
        return PointCosts(self.computed + other.computed, self.taken + other.taken)

    def plain(self) -> dict[str, dict[str, float]]:
        """Plain types, for JSON and the ledger; nothing of rows that were taken if none were."""
        taken = {"taken": asdict(self.taken)} if self.taken.rows else {}
        return {"computed": asdict(self.computed), **taken}

    @classmethod
    def of(cls, plain: Mapping[str, Mapping[str, Any]]) -> PointCosts:
        """The inverse of `plain`."""
        return cls(*(Costs(**plain.get(part, {})) for part in ("computed", "taken")))


def iteration_costs(
    point: PointConfig, iteration: int, row: Row, reused: Collection[int] = ()
) -> PointCosts:
    """What an iteration of a point has cost.

    Args:
        point: its configuration.
        iteration: t.
        row: its metrics, a value for each seed.
        reused: positions in `row` of the seeds whose values another sweep had on record.

    Raises:
        ConfigError: if the point's data, which tells sizes, cannot be built.
    """
    counts, stages = row_counts(point, iteration), [n for n in row if n.startswith(SECONDS)]
    found = {True: Costs(), False: Costs()}
    for position in range(max(map(len, row.values()), default=0)):
        times = [row[name][position] for name in stages]
        spent = math.fsum(time for time in times if math.isfinite(time))
        one = Costs(1, counts.samples, counts.choices, counts.comparisons, spent)
        found[position in reused] += one
    return PointCosts(found[False], found[True])


class Pricing:
    """Works out what points have cost, from the configuration of their sweep and the ledger."""

    def __init__(self, config: SweepConfig) -> None:
        """Take the sweep's configuration."""
        self._config = config
        self._points: dict[int, PointConfig] = {}

    def __call__(self, point: Point) -> PointCosts:
        """What a point has cost so far; what is on record of that if it has ended.

        Raises:
            ConfigError: if its data, which tells sizes, cannot be built.
        """
        if point.costs is not None:
            return PointCosts.of(point.costs)
        found = [self.of_row(point, t, row, point.reused.get(t, ())) for t, row in _rows(point)]
        for t, row in dict(point.batch_rows).items():
            found.append(self.of_row(point, t, row, point.reused.get(t, ()), point.batch))
        return total(found)

    def of_row(
        self,
        point: Point,
        iteration: int,
        row: Row,
        reused: Collection[int] = (),
        seeds: Sequence[int] = (),
    ) -> PointCosts:
        """What one iteration of a point has cost.

        Args:
            point: what is on record of it.
            iteration: t.
            row: its metrics.
            reused: seeds whose values another sweep had on record.
            seeds: whose values the row has; those that the point began with, and those that were
                added since then, if not given.

        Raises:
            ConfigError: if its data, which tells sizes, cannot be built.
        """
        if point.index not in self._points:
            self._points[point.index] = at_point(self._config, point.values)
        own = self._points[point.index]
        of = seeds or (*own.seeds, *point.added)
        positions = {position for position, seed in enumerate(of) if seed in reused}
        return iteration_costs(own, iteration, row, positions)

    def plain(self, point: Point) -> dict[str, dict[str, float]]:
        """The same as plain types, which the ledger puts on record."""
        return self(point).plain()

    def try_costs(self, point: Point) -> PointCosts | None:
        """What a point has cost so far; None where data that tells sizes is not here any more."""
        try:
            return self(point)
        except (ConfigError, OSError):
            return None


def sweep_costs(config: SweepConfig, points: Iterable[Point]) -> PointCosts | None:
    """What all points of a sweep have cost so far; None where data that tells it is not here."""
    pricing = Pricing(config)
    try:
        return total(map(pricing, points))
    except (ConfigError, OSError):
        return None


def total(costs: Iterable[PointCosts]) -> PointCosts:
    """The sum."""
    return functools.reduce(PointCosts.__add__, costs, PointCosts())


def _rows(point: Point) -> list[tuple[int, Row]]:
    """Rows by iteration; a copy, as a running sweep adds to them."""
    return sorted(dict(point.rows).items())
