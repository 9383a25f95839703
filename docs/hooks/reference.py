"""Adds to the site what is generated from the code: every key of a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from luceloop.core.config.schema import config_schema


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of keys."""
    files.append(File.generated(config, "reference/keys.md", content=keys_page(config_schema())))
    return files


def keys_page(schema: dict[str, Any]) -> str:
    """A table of the keys at the top of a file, then one for each part."""
    lines = ["# Every key", "", schema_words(schema), "", *_table(schema)]
    for name, part in schema["$defs"].items():
        lines += ["", f"## {name}", "", part.get("description", ""), "", *_table(part)]
    return "\n".join(lines) + "\n"


def schema_words(schema: dict[str, Any]) -> str:
    """What is said above the first table."""
    return (
        "Generated from the models that read configurations; [Configuration](../configuration.md) "
        f"explains them. Keys that must be given: {', '.join(schema['required']) or 'none'}."
    )


def _table(part: dict[str, Any]) -> Iterator[str]:
    if not part.get("properties"):
        return
    yield "| key | values | default | |"
    yield "|---|---|---|---|"
    for key, field in part["properties"].items():
        default = field.get("default", "")
        shown = "" if default is None or isinstance(default, dict) else f"`{default}`"
        words = " ".join(str(field.get("description", "")).split())
        yield f"| `{key}` | {values(field)} | {shown if shown != '``' else ''} | {words} |"


def values(field: dict[str, Any]) -> str:
    """What a field may hold, in words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{each}`" for each in field["enum"])
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(filter(None, map(values, field["anyOf"]))))
    if field.get("type") == "array":
        return f"a list of {values(field.get('items', {})) or 'values'}"
    if field.get("type") == "null":
        return ""
    words = {"integer": "a whole number", "number": "a number", "string": "text"}
    words |= {"boolean": "true or false", "object": "a mapping"}
    return words.get(field.get("type", ""), "any value") + _range(field)


def _range(field: dict[str, Any]) -> str:
    """The bounds of a number, as in a formula."""
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {field[name]:g}" for name, sign in bounds.items() if name in field]
    return f" {', '.join(found)}" if found else ""
