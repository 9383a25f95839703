"""From plain values (YAML, command-line overrides) to a `Config`, with errors a user can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from luceloop.core.config import Config, DataConfig, LearnerConfig, RewardConfig
from luceloop.core.errors import ConfigError
from luceloop.core.search_config import SHORT_KEYS, Dimension, EarlyStopConfig, ObjectiveConfig


def parse_config(plain: Mapping[str, Any]) -> Config:
    """Build a `Config` from plain values (parsed YAML).

    Raises:
        ConfigError: one line naming the first offending key, its value and what is allowed.
    """
    if not isinstance(plain, Mapping):
        raise ConfigError("configuration", plain, "must be a mapping of keys to values")
    try:
        return Config.model_validate(plain)
    except ValidationError as error:
        raise _config_error(error) from None


def at_point(config: Config, values: Mapping[str, Any]) -> Config:
    """The configuration of one point: `values` (dotted keys) set, nothing left to search.

    Raises:
        ConfigError: naming the first key that does not fit.
    """
    plain = config.model_dump(exclude={"search"})
    for key in sorted(values, key=_after_names):
        set_dotted(plain, key, values[key])
    return parse_config(plain)


def override(plain: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Apply `key=value` assignments, values in YAML, to plain configuration values.

    A key that is set this way is no longer searched: `beta=3` beats `search.beta`.

    Raises:
        ConfigError: for an assignment without `=` or a value that is not YAML.
    """
    for assignment in sorted(assignments, key=lambda a: _after_names(a.partition("=")[0])):
        key, equals, text = assignment.partition("=")
        if not (equals and key):
            raise ConfigError("override", assignment, "must read key=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(key, text, "is not a YAML value") from None
        set_dotted(plain, key, value)
        if isinstance(plain.get("search"), dict):
            _drop_searched(plain["search"], SHORT_KEYS.get(key, key))
    return plain


def _drop_searched(searched: dict[str, Any], key: str, prefix: str = "") -> None:
    """Remove `key` from a search, however its keys are nested and spelled."""
    for name, value in list(searched.items()):
        path = f"{prefix}{name}"
        if SHORT_KEYS.get(path, path) == key:
            del searched[name]
        elif isinstance(value, dict) and key.startswith(f"{path}."):
            _drop_searched(value, key, f"{path}.")
            if not value:
                del searched[name]


def _after_names(key: str) -> bool:
    """Sorts a part's name before its settings, which choosing another name would drop."""
    return not key.endswith(".name")


_DEFAULTS = {"learner": "otcfm", "reward": "mode_distance"}
"""Names of the parts that a configuration may leave unnamed."""


def set_dotted(plain: dict[str, Any], key: str, value: Any) -> None:
    """Set `value` at dotted `key`, making the mappings on the way.

    Choosing another `name` of a part (data, learner, reward) drops the old one's settings, and
    giving a searched key another kind of range drops the old one.
    """
    *parents, last = SHORT_KEYS.get(key, key).split(".")
    target = plain
    for depth, parent in enumerate(parents):
        if target.get(parent) is None:
            target[parent] = {}
        if not isinstance(target[parent], dict):
            raise ConfigError(".".join(parents[: depth + 1]), target[parent], f"has no key {key!r}")
        target = target[parent]
    renames = last == "name" and parents and target.get("name", _DEFAULTS.get(parents[0])) != value
    if renames or (parents[:1] == ["search"] and last in Dimension.model_fields):
        target.clear()
    target[last] = value


def dotted(plain: Mapping[str, Any], key: str) -> Any:
    """The value at dotted `key`; None where there is none, the inverse of `set_dotted`."""
    value: Any = plain
    for part in SHORT_KEYS.get(key, key).split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


_TAGS = {"data": DataConfig, "learner": LearnerConfig, "reward": RewardConfig}


def _config_error(error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    tags = [tag for union in _TAGS.values() for tag in _names(union)] + ["custom"]
    if len(path) > 1 and path[0] in _TAGS and path[1] in tags:
        del path[1]
    if path[:2] == ["search", "space"]:
        del path[1]
    value, allowed = first["input"], first["msg"].removeprefix("Value error, ")
    kind = first["type"]
    if kind == "extra_forbidden":
        return ConfigError(".".join(path), value, _unknown_key(error, path))
    if kind == "missing":
        return ConfigError(".".join(path), None, "is required")
    if kind.startswith("union_tag"):
        names = _names(_TAGS[path[0]])
        if not isinstance(value, Mapping):
            return ConfigError(path[0], value, "must be a mapping with a name")
        value = value.get("name")
        allowed = f"must be one of {', '.join(names)}, or package.module:attribute"
        return ConfigError(f"{path[0]}.name", value, allowed + _suggest(str(value), names))
    nested = re.match(r"([\w.]+)=(.+?): (.*)", allowed)
    if nested:  # a check over several fields that names its own key
        return ConfigError(".".join([*path, nested[1]]), yaml.safe_load(nested[2]), nested[3])
    if isinstance(value, Mapping):
        value = dict(value)
    path = [part for part in path if not part.startswith(("literal[", "function-", "constrained"))]
    if path and path[-1] in ("int", "float"):
        path = path[:-1]
    return ConfigError(".".join(path) or "configuration", value, allowed[0].lower() + allowed[1:])


def _names(union: Any) -> list[str]:
    tags = [member.__metadata__[0].tag for member in _members(union)]
    return [tag for tag in tags if tag != "custom"]


def _members(union: Any) -> list[Any]:
    """The alternatives of a tagged union, each `Annotated[model, Tag]`."""
    return list(get_args(get_args(union)[0]))


def _unknown_key(error: ValidationError, path: list[str]) -> str:
    model: Any = Config
    for part in error.errors()[0]["loc"][:-1]:
        model = _child_model(model, str(part))
    names = list(model.model_fields) if model is not None else []
    if len(path) == 1 and path[0] in SHORT_KEYS:
        return f"unknown key; did you mean {SHORT_KEYS[path[0]]}?"
    return f"unknown key; {path[-1]!r} is not one of {', '.join(names)}" + _suggest(path[-1], names)


def _child_model(model: Any, part: str) -> Any:
    if isinstance(model, list):  # the members of a union, chosen by their tag
        return next((m.__origin__ for m in model if m.__metadata__[0].tag == part), None)
    field = getattr(model, "model_fields", {}).get(part)
    if part in _TAGS and field is not None:
        return _members(_TAGS[part])
    annotation = getattr(field, "annotation", None)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inside_search = {
        "objective": ObjectiveConfig,
        "early_stop": EarlyStopConfig,
        "space": Dimension,
    }
    return inside_search.get(part, model)


def _suggest(given: str, names: list[str]) -> str:
    close = difflib.get_close_matches(given, names, n=1)
    return f"; did you mean {close[0]}?" if close else ""
