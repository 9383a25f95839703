"""What every class of a configuration builds on: its strict base and the types of its fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from luceloop.core.errors import ConfigError
from luceloop.core.io import plugins
from luceloop.core.io.places import is_url
from luceloop.core.text import is_plain


class Strict(BaseModel):
    """A part of a configuration: unknown keys are errors, and values never change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
        ser_json_inf_nan="constants",  # else infinities among a plugin's `args` would be None
    )


@dataclass(frozen=True)
class AtMost:
    """Marks the type of fields of which a new configuration may ask no more than so much.

    One that is on record is read whatever it says: an older version may have set no limit.
    """

    most: int
    said: str = ""
    """What is said of one that asks for more."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The limit as JSON Schema has it."""
        return handler(core) | {"maximum": self.most}


class _NamesFile:
    """Marks the type of fields that name a file."""


class _NamesCode:
    """Marks the type of fields that name code of the user's own."""


Plugin = Annotated[str, Field(pattern=plugins.PATTERN), _NamesCode()]
"""Code of the user's own, `package.module:attribute`."""
Code = Annotated[str, _NamesCode()]
"""Something of ours by its name, or code of the user's own, which has a colon in its name."""


class Custom(Strict):
    """A part that is code of the user's own."""

    name: Plugin
    """`package.module:attribute`."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments the attribute is called with."""


def _absolute(path: str) -> str:
    return str(Path(_plain(path)).expanduser().absolute())


def _absolute_unless_url(name: str) -> str:
    return _plain(name) if is_url(name) else _absolute(name)


def _plain(path: str) -> str:
    if not is_plain(path):
        raise ValueError("must hold no line breaks and no other control characters")
    return path


Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A number that is neither infinite nor NaN."""
PositiveInt = Annotated[int, Field(ge=1, le=10**9, strict=True)]
"""A whole number from 1."""
Directory = Annotated[str, AfterValidator(_absolute)]
"""A folder; kept as an absolute path."""
File = Annotated[str, AfterValidator(_absolute_unless_url), _NamesFile()]
"""A file: an fsspec URL, or a path, kept as an absolute one."""


def named_files(part: Strict) -> dict[str, str]:
    """The files that a configuration names, by the dotted keys that name them."""
    return dict(_marked(part, _NamesFile))


def named_code(part: Strict) -> dict[str, str]:
    """The code of the user's that a configuration names, by the dotted keys that name it."""
    return {key: name for key, name in _marked(part, _NamesCode) if ":" in name}


def check_limits(part: Strict, prefix: str = "") -> None:
    """Refuse what a new configuration may not ask for.

    Args:
        part: the configuration.
        prefix: what its dotted keys begin with.

    Raises:
        ConfigError: naming the first key that is above its limit.
    """
    for place, inner in nested(part, prefix):
        for key, field in type(inner).model_fields.items():
            for mark in _marks(field.annotation, field.metadata):
                if isinstance(mark, AtMost):
                    _check_leaves(f"{place}{key}", getattr(inner, key), mark)


def _check_leaves(key: str, value: Any, limit: AtMost) -> None:
    for leaf, number in _leaves(key, value):
        if isinstance(number, int) and number > limit.most:
            raise ConfigError(leaf, number, limit.said or f"must be at most {limit.most}")


def nested(part: Strict, prefix: str = "") -> Iterator[tuple[str, Strict]]:
    """A configuration and all parts inside it, each with the start of its dotted keys."""
    yield prefix, part
    for key in type(part).model_fields:
        for place, value in _leaves(f"{prefix}{key}", getattr(part, key)):
            if isinstance(value, Strict):
                yield from nested(value, f"{place}.")


def _marked(part: Strict, mark: type) -> Iterator[tuple[str, str]]:
    """Dotted keys and values of the fields whose type has a mark."""
    for prefix, inner in nested(part):
        for key, field in type(inner).model_fields.items():
            if _has_mark(field.annotation, field.metadata, mark):
                leaves = _leaves(f"{prefix}{key}", getattr(inner, key))
                yield from ((place, value) for place, value in leaves if isinstance(value, str))


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values that a list or a mapping holds, however deep, with their dotted keys."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _leaves(f"{key}.{index}", inner)
    else:
        yield key, value


def strings(value: Any) -> Iterator[str]:
    """All strings in plain values."""
    return (leaf for _, leaf in _leaves("", value) if isinstance(leaf, str))


def _has_mark(annotation: Any, metadata: list[Any], mark: type) -> bool:
    """Whether a field's type has a mark, alone or with other types beside it."""
    return any(isinstance(found, mark) for found in _marks(annotation, metadata))


def _marks(annotation: Any, metadata: list[Any]) -> list[Any]:
    """What is said of a field's type besides what it is, alone or with other types beside it."""
    inside = [argument for part in get_args(annotation) for argument in (part, *get_args(part))]
    return [*metadata, *inside]


def flatten(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys; empty ones stay as they are."""
    return dict(_flat(plain, prefix))


def _flat(plain: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
