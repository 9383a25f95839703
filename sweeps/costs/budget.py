"""Holding a sweep to its budget: once it is reached no trial starts, and none goes on.

A trial that computes an iteration ends once that is on record, with its checkpoint, so that
whoever resumes the sweep repeats nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from luceloop.core.config.budget import BudgetConfig
from luceloop.core.config.point import PointConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.sweeps.costs.recorded import Costs, Pricing
from luceloop.sweeps.costs.sizes import row_counts
from luceloop.sweeps.costs.table import count
from luceloop.sweeps.record.events import IterationDone
from luceloop.sweeps.record.ledger import Ledger
from luceloop.workers.messages import IterationReport

HOUR = 3600.0


class Budget:
    """What a run of a sweep may still take; reached once, it stays so."""

    def __init__(self, limits: BudgetConfig | None, config: SweepConfig, ledger: Ledger) -> None:
        """Begin to count: wall-clock time from now, all else from the record.

        Args:
            limits: what may be taken; None for no limit.
            config: of the sweep.
            ledger: what is on record.
        """
        self._limits, self._ledger, self._pricing = limits, ledger, Pricing(config)
        self._start, self._read = time.monotonic(), 0
        self._spent = Costs()
        self.reached = ""
        """What was reached, in words; empty while there is something left."""

    def is_reached(self, reports: Iterable[IterationReport] = ()) -> bool:
        """Whether a limit is reached by what is on record and reports that are about to be."""
        if self._limits is None or self.reached:
            return bool(self.reached)
        self._count_events()
        spent = self._spent
        for report in reports:
            # A trial that was started again reports what is on record, too.
            point = self._ledger.points[report.index]
            if report.iteration not in point.running_rows:
                row = report.iteration, report.metrics, report.reused
                spent += self._pricing.of_row(point, *row, seeds=point.batch).computed
        self.reached = _reached(self._limits, spent, time.monotonic() - self._start)
        return bool(self.reached)

    def _count_events(self) -> None:
        """Add what was put on record since the last look."""
        while self._read < len(self._ledger.events):
            event = self._ledger.events[self._read]
            self._read += 1
            if isinstance(event, IterationDone):
                point = self._ledger.points[event.point]
                row = event.iteration, event.metrics, event.reused
                self._spent += self._pricing.of_row(point, *row, seeds=event.seeds).computed


def _reached(limits: BudgetConfig, spent: Costs, seconds: float) -> str:
    """What limit is reached, in words; empty if none is."""
    found = {
        "hours": seconds / HOUR,
        "samples": spent.samples,
        "comparisons": spent.comparisons,
        "device_hours": spent.device_seconds / HOUR,
    }
    for key, value in found.items():
        limit = getattr(limits, key)
        if limit is not None and value >= limit:
            return f"{_amount(key, value)} of budget.{key}={limit:.10g} are used"
    return ""


def _amount(key: str, value: float) -> str:
    return f"{value:.3g} {key.replace('_', '-')}" if "hours" in key else f"{count(value)} {key}"


def how_to_go_on(reached: str) -> str:
    """What `luceloop resume` is to be told, beside the sweep, so that it has a budget again."""
    key = reached.partition("budget.")[2].partition("=")[0]
    return "" if key == "hours" else f" budget.{key}=…, more than that"


def check_budget(config: SweepConfig, reached: Iterable[PointConfig]) -> None:
    """Refuse a budget that says nothing.

    Args:
        config: of the sweep.
        reached: points that it can reach.

    Raises:
        ConfigError: if comparisons are limited and there are infinitely many of them.
    """
    limit = None if config.budget is None else config.budget.comparisons
    if limit is not None and any(math.isinf(row_counts(p, 0).comparisons) for p in reached):
        allowed = "limits nothing at k=inf, where a choice takes infinitely many comparisons"
        raise ConfigError("budget.comparisons", limit, allowed)
