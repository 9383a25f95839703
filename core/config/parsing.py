"""From plain values (YAML, command-line overrides) to configurations, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from luceloop.core.config.explain import PARTS, explained
from luceloop.core.config.point import PointConfig
from luceloop.core.config.search import (
    SHORT_KEYS,
    Dimension,
    SearchConfig,
    by_full_name,
    searched_keys,
)
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.config.webhooks import HIDDEN
from luceloop.core.errors import ConfigError
from luceloop.core.fields import check_limits
from luceloop.core.io.plain import MOST_DEPTH, MOST_VALUES, read_yaml, taken_over


def parse_config(plain: Mapping[str, Any], *, recorded: bool = False) -> SweepConfig:
    """The configuration of a sweep, from plain values (parsed YAML).

    Args:
        plain: the values.
        recorded: whether a sweep has it on record: it is then read though a new one may not ask
            for as much.

    Raises:
        ConfigError: one line naming the first offending key, its value and what is allowed.
    """
    if not isinstance(plain, Mapping):
        raise ConfigError("configuration", plain, "must be a mapping of keys to values")
    try:
        most = math.inf if recorded else MOST_VALUES
        config = SweepConfig.model_validate(taken_over(plain, most=most))
    except ValidationError as error:
        raise explained(error, SweepConfig) from None
    if not recorded:
        check_limits(config.point)
        check_limits(config.search, "search.")
    return config


def parse_point(plain: Mapping[str, Any]) -> PointConfig:
    """The configuration of one point, from plain values.

    Raises:
        ConfigError: one line naming the first offending key, its value and what is allowed.
    """
    try:
        return PointConfig.model_validate(plain)
    except ValidationError as error:
        raise explained(error, PointConfig) from None


def at_point(config: SweepConfig, values: Mapping[str, Any]) -> PointConfig:
    """The configuration of one point of a sweep: `values` (dotted keys) set.

    Raises:
        ConfigError: naming the first key that does not fit.
    """
    return with_values(config.point, values)


def with_values(point: PointConfig, values: Mapping[str, Any]) -> PointConfig:
    """The same point but for `values` (dotted keys).

    Raises:
        ConfigError: naming the first key that does not fit.
    """
    plain = point.model_dump()
    for key in sorted(values, key=_after_names):
        set_dotted(plain, key, values[key])
    return parse_point(plain)


def read_value(point: PointConfig, key: str, value: Any) -> Any:
    """A value of dotted `key` as points have it: `1e-4`, which YAML takes for text, is a number.

    Raises:
        ConfigError: if it does not fit.
    """
    return dotted(with_values(point, {key: value}).model_dump(), key)


def values_of(point: PointConfig, keys: Iterable[str]) -> dict[str, Any]:
    """A point's values of dotted keys, such as those that a sweep searches."""
    plain = point.model_dump()
    return {key: dotted(plain, key) for key in keys}


def plain_config(config: SweepConfig) -> dict[str, Any]:
    """A configuration as values that YAML and JSON hold, in the spelling users write."""
    apart: dict[str, Any] = {
        "point": True,
        "claims": True,
        "seed_rule": True,
        "search": {"space"},
    }
    dumped = config.model_dump(mode="json", exclude=apart)
    search = dumped.pop("search") | {
        key: dimension.model_dump(mode="python", exclude_none=True)
        for key, dimension in config.search.space.items()
    }
    for key in ("reuse", "extends", "budget"):
        if not dumped[key]:  # most sweeps have none of them
            del dumped[key]
    found = dumped | config.point.model_dump(mode="json") | {"search": search}
    if config.seed_rule is not None:
        found["seeds"] = config.seed_rule.model_dump(mode="json")
    # JSON's own mode would turn an infinity among the values of a point to nothing.
    claims = [claim.model_dump(mode="python", exclude_none=True) for claim in config.claims]
    return found | {"claims": claims} if claims else found


def override(plain: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Apply `key=value` assignments, values in YAML, to plain configuration values.

    A key that is set this way is no longer searched: `beta=3` beats `search.beta`. Giving a
    searched key another kind of range drops the old one.

    Raises:
        ConfigError: for an assignment without `=` or a value that is not YAML.
    """
    for assignment in sorted(assignments, key=lambda a: _after_names(a.partition("=")[0])):
        key, equals, text = assignment.partition("=")
        if not (equals and key):
            raise ConfigError("override", assignment, "must read key=value")
        if key.count(".") >= MOST_DEPTH:
            raise ConfigError(key, text, f"a key may have at most {MOST_DEPTH} parts")
        value = read_yaml(text, key, HIDDEN if "://" in text else text)
        first, _, inside = key.partition(".")
        searched = plain.get("search")
        if (
            inside
            and first == "search"
            and inside.partition(".")[0] not in SearchConfig.model_fields
        ):
            _search(plain, inside, value)
            continue
        set_dotted(plain, key, value)
        if isinstance(searched, dict) and first != "search":
            full = SHORT_KEYS.get(key, key)
            plain["search"] = {k: v for k, v in _spelled_out(searched).items() if k != full}
    return plain


def _search(plain: dict[str, Any], key: str, value: Any) -> None:
    """Let a search vary dotted `key`, which may end in a kind of range; beats what it had of it."""
    before = plain.get("search") or {}
    if not isinstance(before, dict):
        raise ConfigError("search", before, f"has no key {key!r}")
    named, _, kind = key.rpartition(".")
    if kind in Dimension.model_fields:
        key, value = named, {kind: value}
    given = by_full_name(searched_keys({key: value}))
    plain["search"] = _spelled_out(before) | given


def _spelled_out(search: dict[str, Any]) -> dict[str, Any]:
    """A search whose keys are dotted full names, none of them inside another."""
    options = {key: value for key, value in search.items() if key in SearchConfig.model_fields}
    return options | by_full_name(searched_keys(search))


def _after_names(key: str) -> bool:
    """Sorts a part's name before its settings, which choosing another name would drop."""
    return not key.endswith(".name")


def set_dotted(plain: dict[str, Any], key: str, value: Any) -> None:
    """Set `value` at dotted `key`, making the mappings on the way.

    Choosing another `name` of a part (data, learner, reward) drops the old one's settings.
    """
    *parents, last = SHORT_KEYS.get(key, key).split(".")
    target: Any = plain
    for depth, parent in enumerate(parents):
        target = _descend(target, parent, ".".join(parents[: depth + 1]), key)
    if isinstance(target, list):
        raise ConfigError(".".join(parents), target, f"has no key {key!r}")
    if last == "name" and parents and target.get("name", _unnamed(parents[0])) != value:
        target.clear()
    target[_key_in(target, last)] = value


def _descend(target: Any, part: str, place: str, key: str) -> Any:
    """What `part` of a key names inside a mapping or a list, made where it is missing."""
    if isinstance(target, list):
        if not (part.isdecimal() and int(part) < len(target)):
            allowed = f"is none of the {len(target)} there are, which are numbered from 0"
            raise ConfigError(place, part, allowed)
        found = target[int(part)]
    else:
        part = _key_in(target, part)
        if target.get(part) is None:
            target[part] = {}
        if isinstance(target[part], tuple):
            target[part] = list(target[part])
        found = target[part]
    holds = isinstance(found, dict) or (isinstance(found, list) and _of_mappings(found))
    if not holds:
        raise ConfigError(place, found, f"has no key {key!r}")
    return found


def _key_in(target: Mapping[Any, Any], part: str) -> Any:
    """The key that reads like `part`: users may be numbered, and YAML's numbers are no text."""
    return next((key for key in target if str(key) == part), part)


def _of_mappings(given: Sequence[Any]) -> bool:
    """Whether a list is one of parts with keys of their own, such as users."""
    return bool(given) and all(isinstance(item, dict) for item in given)


def _unnamed(part: str) -> str | None:
    """The kind of a part that does not say its name."""
    return PARTS[part].unnamed if part in PARTS else None


def dotted(plain: Mapping[str, Any], key: str) -> Any:
    """The value at dotted `key`; None where there is none, the inverse of `set_dotted`."""
    value: Any = plain
    for part in SHORT_KEYS.get(key, key).split("."):
        if isinstance(value, list | tuple):
            value = value[int(part)] if part.isdecimal() and int(part) < len(value) else None
        else:
            value = value.get(part) if isinstance(value, Mapping) else None
    return value
