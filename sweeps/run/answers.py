"""The claims of a sweep, answered from its ledger, which asks no tracking store."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from luceloop.analysis.reading.answers import by_point_and_metric, forecast_at, values_at
from luceloop.analysis.reading.real_rewards import read_law
from luceloop.analysis.statistics.claims import BySeed, Verdict, answer_claims
from luceloop.analysis.statistics.looks import level_of
from luceloop.core.config.claims import Iteration
from luceloop.core.config.naming import point_name
from luceloop.core.config.parsing import at_point
from luceloop.core.config.point import PointConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.theory.forecast import Forecast, forecast
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.search.space import reached_points


def answers(config: SweepConfig, ledger: Ledger, folder: SweepFolder) -> list[Verdict]:
    """What a sweep's seeds say of its claims, of points that have run to their end.

    Raises:
        ConfigError: if data or a reward that a forecast needs cannot be built.
        LoopError: if a reward breaks its contract on the real data.
    """
    configs = {i: at_point(config, p.values) for i, p in ledger.points.items()}
    return _answers(config, configs, ledger, folder)


def lasting_answers(config: SweepConfig, folder: SweepFolder) -> list[Verdict]:
    """The same while the sweep runs, such that what is decided stays so, however others turn out.

    Points that are still to come belong to what claims are about, and all their comparisons to the
    family that is adjusted. While points are unknown that claims may be about, nothing is decided.

    Raises:
        ConfigError: if data or a reward that a forecast needs cannot be built.
        LoopError: if a reward breaks its contract on the real data.
    """
    ledger = Ledger(folder.ledger, writable=False)  # not one that grows meanwhile
    points, total = ledger.points, config.point_count
    if len(points) == total and all(point.status for point in points.values()):
        return answers(config, ledger, folder)
    if config.search.sampler == "grid":
        configs = dict(enumerate(reached_points(config)))
    elif len(points) == total:
        configs = {i: at_point(config, point.values) for i, point in points.items()}
    else:
        return [Verdict(claim, ()) for claim in config.claims]
    return _answers(config, configs, ledger, folder, lasting=True)


def _answers(
    config: SweepConfig,
    configs: Mapping[int, PointConfig],
    ledger: Ledger,
    folder: SweepFolder,
    *,
    lasting: bool = False,
) -> list[Verdict]:
    """Answer claims about the points of `configs`, by index, from those that have ended."""
    if not config.claims:
        return []
    points = ledger.points
    ended = {i: c for i, c in configs.items() if i in points and points[i].last == c.iterations}
    searched = list(config.search.space)
    names = {index: point_name(each.flat(), searched) for index, each in configs.items()}
    curves, expected = by_point_and_metric(_curves(ledger)), dict[int, Forecast]()
    if any(claim.against == "forecast" for claim in config.claims):
        known = {index: c for index, c in ended.items() if not c.curation.is_custom}
        laws = [read_law(folder.real_rewards(index)) for index in known]
        expected = dict(zip(known, forecast(list(known.values()), laws, folder.cache), strict=True))

    def measure(index: int, metric: str, at: Iteration) -> BySeed:
        return values_at(curves, index, metric, at)

    def expect(index: int, metric: str, at: Iteration) -> float | None:
        return forecast_at(expected, index, metric, at)

    level = level_of(config.seed_rule)
    flat = {index: each.flat() for index, each in configs.items()}
    return answer_claims(
        config.claims, flat, names, measure, expect, list(ended), lasting=lasting, level=level
    )


def _curves(ledger: Ledger) -> pd.DataFrame:
    """Rows of seeds, which are numbered as they stand in the configuration."""
    rows = [
        (index, seed, iteration, metric, value)
        for index, point in ledger.points.items()
        for iteration, row in point.rows.items()
        for metric, values in row.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["point", "seed", "iteration", "metric", "value"])
