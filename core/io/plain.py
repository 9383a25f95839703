"""Plain values, what configurations are made of: read from YAML, or taken over from a caller.

Whatever users write passes through here, so that nothing later on meets a value that holds itself,
a list of a billion aliases, a number of a million digits, or a key that stands twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any

import yaml
from pydantic import BaseModel
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from luceloop.core.errors import ConfigError

MOST_CHARACTERS = 1_000_000
"""Characters of a YAML text."""
MOST_DEPTH = 32
"""Mappings and lists that are inside each other, and parts of a dotted key."""
MOST_VALUES = 100_000
"""Values of a configuration, those of an alias counted wherever it stands."""
MOST_DIGITS = 100
"""Digits of a number."""

TOO_DEEP = f"holds more than {MOST_DEPTH} lists and mappings inside each other"
TOO_MANY = f"holds more than {MOST_VALUES} values"
TOO_LONG = f"may have at most {MOST_DIGITS} digits"
ITSELF = "holds itself"
HALF = "holds half of a character (a lone surrogate)"
_HALF = re.compile(r"[\ud800-\udfff]")


def read_yaml(
    text: str, key: str, given: str, refusal: str = "is not a YAML value", *, recorded: bool = False
) -> Any:
    """The plain value of a user's YAML text.

    Args:
        text: the text.
        key: what an error names, with `given`, the value that the user knows it by.
        given: the text itself, or the name of its file.
        refusal: what is said of a text that is not YAML.
        recorded: whether we wrote it, of values that were accepted: with what was left out it is
            longer, and it is read however long it is.

    Raises:
        ConfigError: if it is not YAML, or holds what no configuration can.
    """
    if len(text) > MOST_CHARACTERS and not recorded:
        raise ConfigError(key, given, f"may have at most {MOST_CHARACTERS} characters")
    try:
        return _Loader(text, math.inf if recorded else MOST_VALUES).get_single_data()
    except _RefusedError as error:
        raise ConfigError(key, given, str(error)) from None
    except yaml.YAMLError as error:
        raise ConfigError(key, given, f"{refusal}: {_reason(error)}") from None


def taken_over(given: Any, key: str = "configuration", most: float = MOST_VALUES) -> Any:
    """A copy of plain values whose mappings and lists are its own.

    Args:
        given: the values.
        key: what an error names where nothing inside is at fault.
        most: how many there may be.

    Raises:
        ConfigError: naming the dotted key of what no configuration can hold.
    """
    return _Copier(most).copy(given, key, ())


def _reason(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"{getattr(error, 'problem', None)} in line {mark.line + 1}, column {mark.column + 1}"


class _Copier:
    """Copies mappings and lists, and counts what they hold."""

    def __init__(self, most: float) -> None:
        self._left = most

    def copy(self, given: Any, key: str, outside: tuple[int, ...]) -> Any:
        """A copy of a value that lies within those whose identities are `outside`."""
        self._left -= 1
        if self._left < 0:
            raise ConfigError(key, given, TOO_MANY)
        if not isinstance(given, Mapping | list | tuple):
            return _plain(given, key)
        if id(given) in outside:
            raise ConfigError(key, given, ITSELF)
        if len(outside) >= MOST_DEPTH:
            raise ConfigError(key, given, TOO_DEEP)
        inside = (*outside, id(given))
        if isinstance(given, Mapping):
            return {
                self.copy(name, key, inside): self.copy(each, _inner(key, name, outside), inside)
                for name, each in given.items()
            }
        copied = [self.copy(each, f"{key}.{i}", inside) for i, each in enumerate(given)]
        return copied if isinstance(given, list) else tuple(copied)


def _plain(given: Any, key: str) -> Any:
    """A single value as YAML has it, which is what a sweep's file will say when it is resumed."""
    match given:
        case None | bool() | BaseModel():
            return given
        case Integral():
            if abs(given) >= 10**MOST_DIGITS:
                raise ConfigError(key, given, TOO_LONG)
            return int(given)
        case Real():
            return float(given)
        case str() | PurePath():
            if _HALF.search(str(given)):
                raise ConfigError(key, given, HALF)
            return str(given)
    kind = type(given).__name__
    raise ConfigError(key, given, f"must be text, a number, a list or a mapping, and no {kind}")


def _inner(key: str, name: object, outside: tuple[int, ...]) -> str:
    """The dotted key of what stands inside another one; the outermost has no name."""
    return f"{key}.{name}" if outside else str(name)


class _RefusedError(yaml.YAMLError):
    """Good YAML that no configuration can hold."""


class _Loader(yaml.SafeLoader):
    """Reads YAML's plain values, each key once, within bounds; it has no tags and no dates."""

    def __init__(self, text: str, most: float) -> None:
        super().__init__(text)
        self._most = most
        self._path: list[str] = []
        self._sizes: dict[int, tuple[int, int]] = {}  # by node: its values, and its depth
        self._open: set[str] = set()  # anchors of the nodes around the one that is read

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """The next node, refused where it, with all that its aliases stand for, is too much."""
        with self._inside(index):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            line = event.start_mark.line + 1
            if len(self._path) > MOST_DEPTH:
                raise _RefusedError(f"{TOO_DEEP}, in line {line}")
            if isinstance(event, yaml.AliasEvent) and event.anchor in self._open:
                raise _RefusedError(f"{self._place} {ITSELF}, by the alias *{event.anchor}")
            tag = getattr(event, "tag", None)
            if tag not in (None, "tag:yaml.org,2002:str"):
                raise _RefusedError(f"takes no tags, and there is {tag!r} in line {line}")
            opened = set() if isinstance(event, yaml.AliasEvent) else {event.anchor} - {None}
            self._open |= opened
            node = super().compose_node(parent, index)
            self._open -= opened
            assert isinstance(node, Node)
            self._measure(node)
            return node

    @contextmanager
    def _inside(self, index: Any) -> Iterator[None]:
        self._path.append(index.value if isinstance(index, ScalarNode) else str(index))
        yield
        self._path.pop()

    @property
    def _place(self) -> str:
        return ".".join(self._path[1:]) or "it"

    def _measure(self, node: Node) -> None:
        """Count what a node holds, each alias as all that it stands for."""
        if id(node) in self._sizes:  # an alias
            return
        inner: list[Node] = []
        if isinstance(node, MappingNode):
            self._check_keys(node)
            inner = [each for pair in node.value for each in pair]
        elif isinstance(node, SequenceNode):
            inner = node.value
        sizes = [self._sizes[id(each)] for each in inner]
        size = 1 + sum(size for size, _ in sizes)
        depth = 1 + max((depth for _, depth in sizes), default=0)
        if size > self._most:
            raise _RefusedError(f"{self._place} {TOO_MANY}")
        if depth > MOST_DEPTH:
            raise _RefusedError(f"{self._place} {TOO_DEEP}")
        self._sizes[id(node)] = (size, depth)

    def _check_keys(self, node: MappingNode) -> None:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                raise _RefusedError(f"keys must be plain text, which that in line {line} is not")
            name = self._key(key)
            if name in lines:
                place = ".".join([*self._path[1:], name])
                where = "line" if lines[name] == line else f"lines {lines[name]} and"
                raise _RefusedError(f"key {place} is repeated, in {where} {line}")
            lines[name] = line

    def _key(self, node: ScalarNode) -> str:
        """A key as text: `0x1` is the key 1."""
        known = node.tag in self.yaml_constructors
        return str(self.construct_object(node) if known else node.value)

    def number(self, node: ScalarNode) -> int | float:
        """A number of YAML's many notations, of reasonable length."""
        kind = "int" if node.tag.endswith(":int") else "float"
        if len(node.value) > MOST_DIGITS + 2:  # a sign, and the start of another base
            line = node.start_mark.line + 1
            raise _RefusedError(f"the number in line {line} {TOO_LONG}")
        try:
            return getattr(yaml.SafeLoader, f"construct_yaml_{kind}")(self, node)  # type: ignore
        except (ValueError, OverflowError):
            raise _RefusedError(f"{node.value!r} is no number") from None


def _resolvers_without(tag: str) -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    found = yaml.SafeLoader.yaml_implicit_resolvers
    return {first: [each for each in known if each[0] != tag] for first, known in found.items()}


_Loader.yaml_implicit_resolvers = _resolvers_without("tag:yaml.org,2002:timestamp")
for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.number)
