"""What every class of a configuration builds on: its strict base and the types of its fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from luceloop.core.io import plugins
from luceloop.core.io.places import is_url


class Strict(BaseModel):
    """A part of a configuration: unknown keys are errors, and values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True
    )


class Custom(Strict):
    """A part that is code of the user's own."""

    name: str = Field(pattern=plugins.PATTERN)
    """`package.module:attribute`."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments the attribute is called with."""


class _NamesFile:
    """Marks the type of fields that name a file."""


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _absolute_unless_url(name: str) -> str:
    return name if is_url(name) else _absolute(name)


Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A number that is neither infinite nor NaN."""
PositiveInt = Annotated[int, Field(ge=1, le=10**9, strict=True)]
"""A whole number from 1."""
Directory = Annotated[str, AfterValidator(_absolute)]
"""A folder; kept as an absolute path."""
File = Annotated[str, AfterValidator(_absolute_unless_url), _NamesFile()]
"""A file: an fsspec URL, or a path, kept as an absolute one."""


def named_files(part: Strict, prefix: str = "") -> dict[str, str]:
    """The files that a configuration names, by the dotted keys that name them."""
    found: dict[str, str] = {}
    for key, field in type(part).model_fields.items():
        value = getattr(part, key)
        if isinstance(value, Strict):
            found |= named_files(value, f"{prefix}{key}.")
        elif value is not None and _is_file(field.annotation, field.metadata):
            found[f"{prefix}{key}"] = value
    return found


def _is_file(annotation: Any, metadata: list[Any]) -> bool:
    """Whether a field has the type `File`, alone or with other types beside it."""
    nested = [argument for part in get_args(annotation) for argument in (part, *get_args(part))]
    return any(isinstance(mark, _NamesFile) for mark in (*metadata, *nested))


def flatten(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys; empty ones stay as they are."""
    return dict(_flat(plain, prefix))


def _flat(plain: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
