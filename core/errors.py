"""The errors that are not bugs of ours. Anything else that is raised is one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from luceloop.core.text import MOST_OF_VALUE, in_one_line, shown


class ConfigError(ValueError):
    """A configuration that cannot run; its message is one line for the user.

    Args:
        key: dotted configuration key, or the command-line argument.
        value: what was given.
        allowed: what would have been accepted, or what to do.
    """

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(key, value, allowed)  # all arguments, so that it survives pickling
        self.key, self.value, self.allowed = key, value, allowed

    def __str__(self) -> str:
        key = in_one_line(self.key, MOST_OF_VALUE)
        return f"{key}={shown(self.value)}: {in_one_line(self.allowed)}"


class _InOneLine(RuntimeError):
    """An error whose message is one line, whatever the words of others that it repeats."""

    def __str__(self) -> str:
        return in_one_line(super().__str__())


class LoopError(_InOneLine):
    """A loop that cannot go on: NaN losses or samples, a reward that breaks its contract."""


class ChangedFileError(RuntimeError):
    """A file of the user's that is not what a sweep has on record; its message is one line.

    Args:
        found: the files, and what became of them.
        remedy: what to do.
    """

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found, remedy)  # all arguments, so that it survives pickling
        self.found, self.remedy = found, remedy

    def __str__(self) -> str:
        return in_one_line(f"{self.found}; {self.remedy}")


class DiskFullError(_InOneLine):
    """A disk that takes no more; its message is one line for the user, what to do included."""


class StorageError(_InOneLine):
    """Storage that does not answer, or refuses; another try may do better."""


class SessionError(RuntimeError):
    """A Ray session that has ended or does not answer; its message is one line for the user.

    Args:
        reason: what has ended.
        remedy: what to do.
        owned: whether this process started the session, and could start another.
    """

    def __init__(self, reason: str, remedy: str = "", owned: bool = False) -> None:
        super().__init__(reason, remedy, owned)  # all arguments, so that it survives pickling
        self.reason, self.remedy, self.owned = reason, remedy, owned

    def __str__(self) -> str:
        return in_one_line("; ".join(filter(None, [self.reason, self.remedy])))


def closest(given: str, known: Iterable[str]) -> str:
    """What is added to a message where something known is spelled almost like `given`."""
    found = difflib.get_close_matches(given[:MOST_OF_VALUE], list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def one_line(error: Exception) -> str:
    """What the system said, else what the error says first, else what it is; no passwords."""
    root: BaseException = error
    while root.__cause__ or root.__context__:
        root = root.__cause__ or root.__context__ or root
    if isinstance(root, OSError) and root.strerror:
        return root.strerror
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return in_one_line(without_password(lines[0]), 300)


_LOGIN = re.compile(
    r"(?<=://)(?:"
    r"[^/\s:@]*:(?!\d+/)(?:(?!://)[^\n'\"])*"  # a name and a password, of whatever but a quote
    r"|[^/\s:@]*:(?!\d+/)\S*"  # the same with a quote
    r"|[^/\s:@]*:\d+/[^\s?#]*"  # the same, where it begins like a port
    r"|[^/\s]*"  # a name alone
    r")@"
)
_NAMED = r"pass(?:word|wd)?|pwd|token|secret|api_?key|signature|credential|auth"
_VALUE = (
    r"(?:\{(?:[^}]|\}\})*\}?"  # in braces, as ODBC has it
    r"|'(?:[^'\\]|\\.)*'?"  # in quotes, as libpq has it
    r'|"(?:[^"\\]|\\.)*"?'
    r"|[^&;\s'\"#]+)"
)
_SECRET = re.compile(
    r"(?i)((?:[?&;]|\b(?=pass|pwd))"
    rf"(?:[\w.-]*(?:{_NAMED})|key|sig)\s*=\s*)"
    rf"{_VALUE}"
)
_WITHIN = re.compile(r"(?i)([?&;]odbc_connect=)[^&\s'\"#]+")
"""A whole list of such settings, spelled as one value."""


def without_password(text: str) -> str:
    """An address, or a message that holds some, without their names, passwords and tokens."""
    return _SECRET.sub(r"\1***", _WITHIN.sub(r"\1***", _LOGIN.sub("", text)))
