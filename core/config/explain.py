"""Explaining what is wrong with a configuration: pydantic's errors as one line for the user."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from luceloop.core.classifier.kinds import CLASSIFIERS
from luceloop.core.config.point import PointConfig
from luceloop.core.config.search import SHORT_KEYS, Dimension, EarlyStopConfig, ObjectiveConfig
from luceloop.core.config.seed_rule import WidthGoal
from luceloop.core.config.sweep import OWN_KEYS, SweepConfig
from luceloop.core.config.users import UserConfig
from luceloop.core.config.webhooks import HIDDEN
from luceloop.core.custom_metrics import CustomMetricConfig
from luceloop.core.data.kinds import DATASETS
from luceloop.core.errors import ConfigError, closest
from luceloop.core.kinds import Kinds
from luceloop.core.learners.kinds import LEARNERS
from luceloop.core.rewards.kinds import REWARDS

PARTS: dict[str, Kinds] = {
    "data": DATASETS,
    "learner": LEARNERS,
    "reward": REWARDS,
    "classifier": CLASSIFIERS,
}
"""The parts of a point that come in several kinds."""
WORDS = {
    "model_type": "must be a mapping of keys to values",
    "dict_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "string_type": "must be text",
}
"""What is said instead of pydantic's words, which are about Python's types."""
RULE = "seed_rule"
"""The sweep's field of the key `seeds` where it is a mapping."""


def explained(error: ValidationError, model: type[BaseModel]) -> ConfigError:
    """The first of pydantic's errors, with the key as users write it; a mistyped key comes first.

    Args:
        error: what pydantic raised.
        model: the configuration that was being built.
    """
    errors = error.errors()
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    place = [str(part) for part in first["loc"]]
    if model is SweepConfig and place[:1] == ["point"]:
        del place[0]
    path, value, kind = _as_written(place), first["input"], first["type"]
    path = [part for part in path if not part.startswith(("literal[", "function-", "constrained"))]
    mistyped = kind == "extra_forbidden" and isinstance(value, str) and "://" in value
    if place[:1] == ["notify"] or mistyped:  # addresses hold tokens
        value = HIDDEN
    if kind == "extra_forbidden":
        return ConfigError(".".join(path), value, _unknown_key(place, path, model))
    if kind == "missing":
        return ConfigError(".".join(path), None, "is required")
    if kind.startswith("union_tag"):
        return _unknown_kind(path, value)
    allowed = WORDS.get(kind, first["msg"].removeprefix("Value error, "))
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, ConfigError):  # a check over several fields that names its own key
        return ConfigError(".".join([*path, raised.key]), raised.value, raised.allowed)
    if isinstance(value, Mapping):
        value = dict(value)
    if path and path[-1] in ("int", "float"):
        path = path[:-1]
    return ConfigError(".".join(path) or "configuration", value, allowed[0].lower() + allowed[1:])


def _as_written(place: list[str]) -> list[str]:
    """The key of a place in the models, without what stands in no file."""
    path = list(place)
    if path[:1] == [RULE]:
        path[0] = "seeds"
    for position in reversed(range(len(path) - 1)):
        part = PARTS.get(path[position])
        if part is not None and part.named(path[position + 1]) is not None:
            del path[position + 1]
    if path[:2] == ["search", "space"]:
        del path[1]
    return path


def _unknown_kind(path: list[str], value: Any) -> ConfigError:
    """The line for a part whose name is not that of any kind."""
    part = ".".join(path)
    if not isinstance(value, Mapping):
        return ConfigError(part, value, "must be a mapping with a name")
    kinds, name = PARTS[path[-1]], value.get("name")
    hint = closest(str(name), kinds.names)
    if "name" not in value:
        mistyped = [key for key in map(str, value) if closest(key, ["name"])]
        hint = f"; did you mean name by {mistyped[0]!r}?" if mistyped else ""
    return ConfigError(f"{part}.name", name, kinds.allowed + hint)


def _unknown_key(place: list[str], path: list[str], model: type[BaseModel]) -> str:
    """What is said of a key that nothing has: the keys there are, and which may be meant."""
    names = _top_keys(model)
    if len(place) > 1:
        names = list(_model_at(place[:-1]).model_fields)
    if len(path) == 1 and (short := SHORT_KEYS.get(path[0]) or _short_for(path[0], names)):
        return f"unknown key; did you mean {short}?"
    return f"unknown key; {path[-1]!r} is not one of {', '.join(names)}" + closest(path[-1], names)


def _short_for(given: str, names: list[str]) -> str:
    """The whole key whose short name a mistyped one is nearest to; empty where a key is nearer."""
    nearest = difflib.get_close_matches(given, [*names, *SHORT_KEYS], n=1)
    return SHORT_KEYS.get(nearest[0], "") if nearest else ""


def _top_keys(model: type[BaseModel]) -> list[str]:
    own = OWN_KEYS if model is SweepConfig else ()
    return [*own[:2], *PointConfig.model_fields, *own[2:]]


def _model_at(place: list[str]) -> type[BaseModel]:
    """The model at a place, as far as it is known."""
    own = place[0] in (*OWN_KEYS, RULE)
    model: type[BaseModel] = SweepConfig if own else PointConfig
    if place[0] in PARTS:
        kind = PARTS[place[0]].named(place[1]) if len(place) > 1 else None
        model, place = kind or model, place[2:]
    while place:
        part, place = place[0], place[1:]
        kinds = PARTS.get(part)
        kind = kinds.named(place[0]) if kinds is not None and place else None
        model = kind or _child(model, part)
    return model


INSIDE: dict[str, type[BaseModel]] = {
    "objective": ObjectiveConfig,
    "early_stop": EarlyStopConfig,
    "space": Dimension,
    "until": WidthGoal,
    "users": UserConfig,
    "metrics": CustomMetricConfig,
}
"""Models of fields whose type is more than a model."""


def _child(model: type[BaseModel], part: str) -> type[BaseModel]:
    """The model of a field; the model itself where that is none, as a number in a list."""
    field = model.model_fields.get(part)
    annotation = None if field is None else field.annotation
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return INSIDE.get(part, model)
