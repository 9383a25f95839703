"""Kinds: the classes that one part of a configuration may be, chosen by its key `name`.

    DATASETS = Kinds(EightGaussiansConfig, TwoMoonsConfig, custom=CustomDataConfig)
    data: Annotated[DatasetConfig, DATASETS]

A new kind is a class in a file of its own and its entry in such a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from luceloop.core.fields import Custom, Strict


class Kinds:
    """The kinds of one part, an annotation of the field that holds it."""

    def __init__(
        self,
        *kinds: type[Strict],
        custom: type[Custom] | None = None,
        unnamed: str | None = None,
    ) -> None:
        """List the kinds.

        Args:
            kinds: each with a field `name`, whose default is the kind's name.
            custom: what a name of the form `package.module:attribute` means.
            unnamed: the kind of a part that does not say its name; an error if not given.
        """
        self._kinds = {kind.model_fields["name"].default: kind for kind in kinds}
        self._custom, self.unnamed = custom, unnamed

    @property
    def names(self) -> list[str]:
        """The names of the kinds, but for code of the user's own."""
        return list(self._kinds)

    @property
    def allowed(self) -> str:
        """What may be chosen, in words for an error."""
        words = f"must be one of {', '.join(self.names)}"
        return f"{words}, or package.module:attribute" if self._custom else words

    def named(self, tag: str) -> type[Strict] | None:
        """The class with this name, or `custom`; None if there is none."""
        return self._custom if tag == "custom" else self._kinds.get(tag)

    def _tag(self, value: Any) -> str | None:
        given = isinstance(value, Mapping)
        name = value.get("name", self.unnamed) if given else getattr(value, "name", "")
        return "custom" if isinstance(name, str) and ":" in name else name

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The union of all kinds, told apart by their names."""
        choices: dict[Any, CoreSchema] = {
            name: handler.generate_schema(kind) for name, kind in self._kinds.items()
        }
        if self._custom is not None:
            choices["custom"] = handler.generate_schema(self._custom)
        return core_schema.tagged_union_schema(choices, discriminator=self._tag)
