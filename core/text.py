"""Text for people: values and messages on one line, as short as a line can be read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

MOST_OF_VALUE = 100
"""Characters of a value, or of a key, in a message."""
MOST_OF_MESSAGE = 1000
"""Characters of what is said of it."""
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that a terminal obeys instead of showing, and those that no encoding has."""


def printable(text: str) -> str:
    """Text with the characters that would move the cursor or cannot be written as escapes."""
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def is_plain(text: str) -> bool:
    """Whether all of a text can be shown on one line as it is."""
    return not _UNSEEN.search(text) and len(text.splitlines()) <= 1 and "\t" not in text


def in_one_line(text: str, most: int = MOST_OF_MESSAGE) -> str:
    """Text on one line of at most so many characters, its middle left out where it is longer."""
    return elided(printable(" ".join(text.split())), most)


def elided(text: str, most: int) -> str:
    """Text of at most so many characters, its middle left out where it is longer."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def shown(value: object, most: int = MOST_OF_VALUE) -> str:
    """A value as Python writes it, on one line of at most so many characters.

    However large it is, or whether it holds itself, no more of it is written than is shown.
    """
    text = ""
    for piece in _pieces(value, most):
        text += piece
        if len(text) > most:
            return f"{text[: most - 1]}…"
    return text


def _pieces(value: object, most: int) -> Iterator[str]:
    """What `repr` writes, bit by bit; of a string or a number no more than is shown."""
    match value:
        case str():
            yield elided(printable(repr(elided(value, most))), most)
        case bool():
            yield repr(value)
        case int() if value.bit_length() > 3 * most:
            yield f"a number of about {round(value.bit_length() * math.log10(2))} digits"
        case dict():
            yield from _joined("{", (_pair(*item, most) for item in value.items()), "}")
        case list():
            yield from _joined("[", (_pieces(each, most) for each in value), "]")
        case tuple() if type(value) is tuple and len(value) != 1:
            yield from _joined("(", (_pieces(each, most) for each in value), ")")
        case set() if value:
            yield from _joined("{", (_pieces(each, most) for each in value), "}")
        case _:
            yield _named(value, most)


def _joined(start: str, parts: Iterable[Iterator[str]], end: str) -> Iterator[str]:
    yield start
    for number, part in enumerate(parts):
        yield ", " if number else ""
        yield from part
    yield end


def _pair(key: object, value: object, most: int) -> Iterator[str]:
    yield from _pieces(key, most)
    yield ": "
    yield from _pieces(value, most)


def _named(value: object, most: int) -> str:
    try:
        return in_one_line(repr(value), most)
    except Exception:  # the class is the user's, and its `repr` may raise anything
        return f"<{type(value).__name__}>"
