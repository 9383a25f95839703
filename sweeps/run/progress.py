"""Showing a sweep while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from luceloop.analysis.reading.real_rewards import read_law
from luceloop.analysis.statistics.looks import level_of
from luceloop.analysis.statistics.seeds import over_seeds
from luceloop.analysis.statistics.starts import describe_starts
from luceloop.analysis.statistics.verdicts import SplitGap, at, split_gap
from luceloop.core.config.naming import count_seeds, point_name
from luceloop.core.config.parsing import at_point
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.measures.ranges import count_classes, metric_range
from luceloop.core.theory.finite_n import MOST_DRAWS, usual_replicates
from luceloop.core.theory.forecast import Forecast, forecast
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.search import objective

STYLES = {"done": "green", "stopped": "yellow", "failed": "red", "lost": "red"}


class Progress(Protocol):
    """What the runner tells about."""

    def show(self, point: Point) -> None:
        """A point has a new row, or has ended."""
        ...

    def tell(self, line: str) -> None:
        """Something has been decided."""
        ...

    def close(self) -> None:
        """The sweep is over."""
        ...


def spread(config: SweepConfig, point: Point) -> str:
    """The first objective's metric at the latest iteration that has it: `mean ± std` over seeds."""
    metric = config.search.objective[0].metric
    rows = [row for _, row in sorted(point.running_rows.items()) if metric in row]
    if not rows:
        return ""
    over = over_seeds(np.array(rows[-1][metric]))
    return f"{over['mean']:.4g}" + (f" ± {over['std']:.2g}" if "std" in over else "")


def name_of(config: SweepConfig, point: Point) -> str:
    """The point's name."""
    return point_name(at_point(config, point.values).flat(), list(config.search.space))


@dataclass(frozen=True)
class PointGap:
    """How far a point's mean over seeds is from its forecast, at the last iteration."""

    metric: str
    forecast: float
    gap: SplitGap


def forecast_gaps(config: SweepConfig, ledger: Ledger, folder: SweepFolder) -> dict[int, PointGap]:
    """The gaps of the points that have run to their end.

    They are in the first objective's metric, or in the mean reward if that one has no forecast.
    Real rewards that the sweep has on record are not worked out again.

    Raises:
        ConfigError: if data or a reward cannot be built.
        LoopError: if a reward breaks its contract on the real data.
    """
    configs = {p.index: at_point(config, p.values) for p in list(ledger.points.values())}
    ended = {i: c for i, c in configs.items() if ledger.points[i].last == c.iterations}
    ended = {i: c for i, c in ended.items() if not c.curation.is_custom}  # of which is no theory
    laws = [read_law(folder.real_rewards(index)) for index in ended]
    every = forecast(
        list(ended.values()),
        laws,
        folder.cache,
        replicates=usual_replicates(len(ended)),
        most_draws=MOST_DRAWS,
    )
    forecasts = dict(zip(ended, every, strict=True))
    metric = config.search.objective[0].metric
    if not all(np.isfinite(f.curves.get(metric, [np.nan])[-1]) for f in forecasts.values()):
        metric = "reward_mean"
    level = level_of(config.seed_rule)
    return {
        index: _gap(ledger.points[index], ended[index].iterations, metric, found, level)
        for index, found in forecasts.items()
    }


def _gap(point: Point, last: int, metric: str, found: Forecast, level: float) -> PointGap:
    row = point.rows[last]
    expected = float(found.curves[metric][-1])
    ends = metric_range(metric, count_classes(row), point.supremum)
    simulated = at(found.finite_n.get(metric), last)
    found_gap = split_gap(np.array(row[metric]), expected, simulated, *ends, level)
    return PointGap(metric, expected, found_gap)


def sweep_table(
    config: SweepConfig,
    ledger: Ledger,
    total: int,
    most: int | None = None,
    gaps: Mapping[int, PointGap] | None = None,
) -> Table:
    """All points with their state; of more than `most`, the running and the newest ones."""
    metric = config.search.objective[0].metric
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("point")
    table.add_column("iteration", justify="right")
    table.add_column(f"{metric} (mean ± std of {count_seeds(config)})", justify="right")
    if gaps:
        table.add_column(f"forecast of {next(iter(gaps.values())).metric}", justify="right")
        table.add_column("mean minus forecast (95 % interval)")
        if any(gap.gap.learner is not None for gap in gaps.values()):
            table.add_column("of it the learner's")
    table.add_column("state")
    points = list(ledger.points.values())
    if most is not None and len(points) > most:
        points = sorted(points, key=lambda p: (p.status is not None, -p.index))[:most]
        points.sort(key=lambda p: p.index)
    for point in points:
        going = "waiting" if ledger.stopped else "running" if point.rows else "starting"
        state: str = point.status or going
        if config.seed_rule is not None:
            state = f"{state}, {_seeds_of(config, point)}"
        style = STYLES.get(point.status or "", "")
        table.add_row(
            name_of(config, point),
            f"{max(point.reported, 0)}/{config.point.iterations}",
            spread(config, point),
            *(_gap_cells(gaps, point.index) if gaps else ()),
            Text(state, style),
        )
    if total > len(ledger.points):
        table.add_row(f"{total - len(ledger.points)} more to come")
    return table


def _seeds_of(config: SweepConfig, point: Point) -> str:
    """How many seeds a point has, and which run now."""
    whole = len(config.point.seeds) + len(point.added)
    return f"{whole}+{len(point.batch)} seeds" if point.batch else f"{whole} seeds"


def _gap_cells(gaps: Mapping[int, PointGap], index: int) -> list[str]:
    split = any(gap.gap.learner is not None for gap in gaps.values())
    if index not in gaps:
        return [""] * (3 if split else 2)
    found = gaps[index]
    cells = [f"{found.forecast:.4g}", found.gap.whole.words]
    learner = found.gap.learner
    return [*cells, "" if learner is None else learner.words] if split else cells


def remarks(config: SweepConfig, ledger: Ledger) -> list[str]:
    """Lines beneath the table: how fair the start was, why points failed, which are best."""
    ended = [point for point in ledger.points.values() if point.status]
    bad = [point for point in ended if point.status in ("failed", "lost")]
    started = [point.rows[0] for point in ledger.points.values() if 0 in point.rows]
    lines = describe_starts(started)
    lines += [f"{name_of(config, point)} {point.status}: {point.reason}" for point in bad]
    wanted = config.search.objective
    done = [p for p in ended if p.status == "done" and objective.is_measured(wanted, p)]
    if config.search.sampler == "grid":
        return lines
    scores = {p.index: [objective.of_point(o, p) for o in wanted] for p in done}
    signs = np.array([1 if o.mode == "max" else -1 for o in wanted])
    for point in done:
        signed = signs * np.array(scores[point.index])
        rivals = [signs * np.array(scores[other.index]) for other in done]
        if any((rival >= signed).all() and (rival > signed).any() for rival in rivals):
            continue
        values = ", ".join(
            f"{o.metric} {value:.4g} ({o.mode} of the {o.over_seeds} over seeds)"
            for o, value in zip(wanted, scores[point.index], strict=True)
        )
        lines.append(f"best: {name_of(config, point)}  {values}")
    return lines


class _Clock:
    """Estimates what is left from the pace since the start."""

    def __init__(self, config: SweepConfig, ledger: Ledger, total: int) -> None:
        self._config, self._ledger, self._total = config, ledger, total
        self._start, self._before = time.monotonic(), self._finished()

    def line(self) -> str:
        elapsed = time.monotonic() - self._start
        finished = self._finished()
        everything = self._total * (self._config.point.iterations + 1)
        new = finished - self._before
        left = duration(elapsed / new * (everything - finished)) if new > 0 else "?"
        ended = sum(point.status is not None for point in list(self._ledger.points.values()))
        return f"{ended}/{self._total} points done, {duration(elapsed)} elapsed, ETA {left}"

    def _finished(self) -> int:
        """Iterations on record; a point that ended early counts in full."""
        whole = self._config.point.iterations + 1
        points = list(self._ledger.points.values())
        return sum(whole if point.status else len(point.running_rows) for point in points)


class LiveTable:
    """A table that redraws itself."""

    def __init__(self, console: Console, config: SweepConfig, ledger: Ledger, total: int) -> None:
        self._config, self._ledger, self._total = config, ledger, total
        self._clock = _Clock(config, ledger, total)
        self._console = console
        self._live = Live(
            get_renderable=self._render,
            console=console,
            refresh_per_second=2,
            transient=True,
        )
        self._live.start()

    def _render(self) -> Group:
        room = max(5, self._console.size.height - 6)
        table = sweep_table(self._config, self._ledger, self._total, room)
        return Group(table, Text(self._clock.line(), style="dim"))

    def show(self, point: Point) -> None:
        """Nothing: the table reads the ledger twice a second."""

    def tell(self, line: str) -> None:
        """Print the line above the table."""
        self._live.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Take the table off the screen."""
        self._live.stop()


class PlainLines:
    """A line per iteration, for logs and pipes."""

    def __init__(self, console: Console, config: SweepConfig, ledger: Ledger, total: int) -> None:
        self._console, self._config = console, config
        self._clock = _Clock(config, ledger, total)
        self._names: dict[int, str] = {}

    def show(self, point: Point) -> None:
        """Print the point's newest row, or how it ended."""
        name = self._names.get(point.index) or name_of(self._config, point)
        self._names[point.index] = name
        if point.status is None:
            metric = self._config.search.objective[0].metric
            more = f"  +{len(point.batch)} seeds" if point.batch else ""
            self._line(
                f"{name}{more}  iteration {point.reported}/{self._config.point.iterations}  "
                f"{metric} {spread(self._config, point)}"
            )
        else:
            reason = f": {point.reason}" if point.reason else ""
            self._line(f"{name}  {point.status}{reason}  ({self._clock.line()})")

    def tell(self, line: str) -> None:
        """Print the line."""
        self._line(line)

    def close(self) -> None:
        """Nothing is left open."""

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def build_progress(console: Console, config: SweepConfig, ledger: Ledger, total: int) -> Progress:
    """The live table where there is a terminal, else plain lines."""
    kind = LiveTable if console.is_terminal else PlainLines
    return kind(console, config, ledger, total)


def duration(seconds: float) -> str:
    """Seconds as people say them: `1:05` or `2 h 07 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes}:{rest:02}"
