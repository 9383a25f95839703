"""Comparisons of the points of one sweep, or of two, as tables: for the command and for Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from luceloop.analysis.reading.curves import load_curves
from luceloop.analysis.reading.store import find_runs
from luceloop.analysis.statistics.looks import level_of
from luceloop.analysis.statistics.pairs import At, Measured, compare_across, compare_within, measure
from luceloop.core.config.parsing import at_point, plain_config, read_value, values_of
from luceloop.core.config.search import SHORT_KEYS
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.fields import flatten
from luceloop.core.io.plain import read_yaml
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger


def comparison_table(
    sweeps: Sequence[SweepFolder], output: Output, metric: str, at: At, points: Sequence[str] = ()
) -> pd.DataFrame:
    """The table of comparisons within one sweep, or between two.

    Raises:
        ConfigError: if there is no such metric, iteration or point, or nothing to compare.
    """
    measured = [_measured(sweep, output, metric, at) for sweep in sweeps]
    level = max(level_of(sweep.config().seed_rule) for sweep in sweeps)
    if len(sweeps) == 2:
        if points:
            raise ConfigError("--point", points[0], "is for comparisons within one sweep")
        return compare_across(measured[0], measured[1], metric, level)
    against = matching_points(sweeps[0], points) if points else None
    table = compare_within(measured[0], metric, against, level)
    if table.empty:
        raise ConfigError("SWEEP", sweeps[0].id, "has no two points to compare")
    return table


def _measured(sweep: SweepFolder, output: Output, metric: str, at: At) -> dict[int, Measured]:
    runs, objective = find_runs(output.tracking_uri, sweep.id), sweep.config().search.objective[0]
    names = {index: run.info.run_name or str(index) for index, run in runs.points.items()}
    mode = objective.mode if objective.metric == metric else "max"
    return measure(load_curves(runs), names, metric, at, mode)


def matching_points(sweep: SweepFolder, given: Sequence[str], option: str = "--point") -> list[int]:
    """The indices of a sweep's points with these values.

    Args:
        sweep: the sweep's folder.
        given: `key=value` of searched keys, values in YAML.
        option: what an error calls them.

    Raises:
        ConfigError: if a key is not searched, or no point fits.
    """
    config, conditions = sweep.config(), {}
    for assignment in given:
        key, equals, text = assignment.partition("=")
        key = SHORT_KEYS.get(key, key)
        if not equals or key not in config.search.space:
            searched = ", ".join(config.search.space)
            raise ConfigError(option, assignment, f"must read key=value, of keys {searched}")
        conditions[key] = _read(config, key, text, option)
    found = []
    for point in Ledger(sweep.ledger, writable=False).points.values():
        if values_of(at_point(config, point.values), conditions) == conditions:
            found.append(point.index)
    if not found:
        raise ConfigError(option, " ".join(given), "fits no point of the sweep")
    return found


def _read(config: SweepConfig, key: str, text: str, option: str) -> Any:
    """A value as configurations have it, so that 1e-3 is a number and inf infinite."""
    return read_value(config.point, key, read_yaml(text, option, f"{key}={text}"))


def configuration_difference(first: SweepConfig, second: SweepConfig) -> list[str]:
    """A line for each key in which two sweeps differ, their names and descriptions aside."""
    flat = [flatten(plain_config(config)) for config in (first, second)]
    lines = []
    for key in dict.fromkeys([*flat[0], *flat[1]]):
        one, other = (each.get(key, "-") for each in flat)
        if one != other and key not in ("name", "description"):
            lines.append(f"{key}: {one} against {other}")
    return lines
