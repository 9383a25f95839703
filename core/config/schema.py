"""The JSON schema of configuration files, by which editors complete keys and mark mistakes.

It follows the models. Where a file may be written shorter than they are, it says so here: a
sweep's own keys stand beside its point's, `seeds` may be a count, a metric may be its function's
name alone, and searched keys stand beside the options of a search.
"""

from __future__ import annotations

from typing import Any

from luceloop.core.config.explain import PARTS
from luceloop.core.config.search import SHORT_KEYS
from luceloop.core.config.sweep import OWN_KEYS, SweepConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def config_schema() -> Schema:
    """The JSON schema of a configuration file.

    Returns:
        A schema of draft 2020-12. It knows every key, its type and its range; what depends on
        several keys at once is checked by `luceloop validate` alone.
    """
    models = SweepConfig.model_json_schema(by_alias=False)
    parts: dict[str, Schema] = models["$defs"]
    own, point = models["properties"], parts.pop("PointConfig")
    for kinds in PARTS.values():
        for name in kinds.names:
            kind = kinds.named(name)
            if kind is not None and name != kinds.unnamed:
                _require_name(parts[kind.__name__])
    seeds = point["properties"]["seeds"]
    count = {"type": "integer", "minimum": 1}
    choices = [count, {key: seeds[key] for key in ("type", "items")}, _ref("SeedRule")]
    properties = {key: own[key] for key in OWN_KEYS if key in own} | point["properties"]
    properties |= {"seeds": {"description": seeds["description"], "anyOf": choices}}
    _open_search(parts["SearchConfig"])
    metrics = properties["metrics"]["patternProperties"]
    for pattern, metric in metrics.items():
        metrics[pattern] = {"anyOf": [{"type": "string"}, metric]}
    return {
        "$schema": DIALECT,
        "title": "A Luceloop sweep",
        "type": "object",
        "properties": _without_one_of(properties),
        "required": sorted({*models["required"], *point.get("required", ())} - {"point"}),
        "additionalProperties": False,
        "$defs": _without_one_of(parts),
    }


def _require_name(kind: Schema) -> None:
    """Say that a part of this kind must say its name, by which kinds are told apart."""
    kind["required"] = ["name", *kind.get("required", ())]


def _open_search(search: Schema) -> None:
    """Let searched keys stand in a search, dotted or nested, and one objective without a list."""
    properties = search["properties"]
    del properties["space"]
    several = {key: properties["objective"][key] for key in ("type", "items")}
    properties["objective"]["anyOf"] = [several, several["items"]]
    for key in several:
        del properties["objective"][key]
    nested = {"type": "object", "additionalProperties": {"type": "object"}}
    searched: Schema = {"anyOf": [_ref("Dimension"), nested]}
    properties |= {key: searched for key in (*SHORT_KEYS, "lam")}
    search["additionalProperties"] = searched


def _without_one_of(schema: Any) -> Any:
    """The same, where one of several alternatives need not be the only one that fits."""
    if isinstance(schema, dict):
        renamed = {"oneOf": "anyOf"}
        return {renamed.get(key, key): _without_one_of(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_without_one_of(each) for each in schema]
    return schema


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}
