"""What points and sweeps are called in MLflow, tables and figures alike."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from luceloop.core.config.sweep import SweepConfig
from luceloop.core.text import MOST_OF_VALUE, in_one_line, shown

SYMBOLS = {"curation.beta": "β", "lam": "λ", "curation.k": "K"}
"""How the keys that every sweep varies are written in names."""


def number(value: Any) -> str:
    """A value as in labels: 10 rather than 10.0, inf, three digits of anything longer."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return in_one_line(str(value), MOST_OF_VALUE)
    if math.isinf(value):
        return "inf"
    return f"{value:g}" if float(value).is_integer() else f"{value:.3g}"


def point_name(flat: Mapping[str, Any], searched: list[str]) -> str:
    """A point's name, like `β=10 λ=inf K=2`, then whatever else is searched.

    Args:
        flat: the point's flattened configuration.
        searched: dotted keys that the sweep varies.
    """
    shown = [key for key in SYMBOLS if key in searched or not _is_every_users_own(flat, key)]
    parts = [f"{SYMBOLS[key]}={number(flat[key])}" for key in shown]
    parts += [f"{key}={number(flat.get(key))}" for key in searched if key not in SYMBOLS]
    return " ".join(parts)


def count_seeds(config: SweepConfig) -> str:
    """How many seeds a point has, in words: `5 seeds`, or `5 to 50 seeds` by a rule."""
    count, rule = len(config.point.seeds), config.seed_rule
    if rule is not None:
        return f"{count} to {rule.most} seeds"
    return f"{count} seed{'s' if count > 1 else ''}"


def _is_every_users_own(flat: Mapping[str, Any], key: str) -> bool:
    """Whether a key tells nothing of a point, as β where all users have one of their own."""
    own = [flat[each] for each in flat if re.fullmatch(r"curation\.users\.\d+\.beta", each)]
    return key == "curation.beta" and bool(own) and None not in own


def describe(config: SweepConfig) -> str:
    """What is swept, in a sentence on one line."""
    space = config.search.space
    parts = []
    for key, dimension in space.items():
        values = dimension.values
        spelled = shown(list(dimension.bounds) if values is None else values)
        parts.append(f"{SYMBOLS.get(key, key)} over {spelled}")
    swept = "; ".join(parts) or "a single point"
    prefix = f"{config.description} " if config.description else ""
    seeds = count_seeds(config)
    sentence = f"Sweeps {swept}, with {seeds} a point and T={config.point.iterations}."
    return in_one_line(prefix + sentence)
