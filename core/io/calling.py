"""Calling code of the user's: whatever it does comes to an answer, or to one failure with a name.

Such code may raise anything, `SystemExit` and `KeyboardInterrupt` among it, or end the process by
`os._exit`, of which nobody else hears: a command would end with the code's own exit code, as if all
were done. All code of the user's is imported and called inside `calling`, where

* whatever is raised becomes the failure that the caller names;
* a function of `os` that would end this process raises instead. Threads and processes that the code
  has started may still end themselves, and a crash of compiled code still ends the process;
* what the handler of a signal raises stays what it is: the `KeyboardInterrupt` of Ctrl-C, or the
  `SystemExit` by which Ray ends a worker, are told from those that code raises by having gone
  through the handler.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

LONGEST = 300
"""Characters of a message that are shown."""
ENDINGS = ("_exit", "abort", "execv", "execve")
"""Functions of `os` that end this process, or make another of it; the others call these."""
INTERRUPTING = (signal.SIGINT, signal.SIGTERM)
"""Signals whose handlers may interrupt."""

leave = os._exit
"""Ends this process at once, inside of the user's code, too."""
_here = threading.local()
"""Of this thread: `inside`, the process in which it calls the user's code, if it does."""


class EndingError(BaseException):
    """Raised where the user's code would have ended the process."""


@contextmanager
def calling(failure: Callable[[str, TracebackType | None], Exception]) -> Iterator[None]:
    """Run code of the user's; whatever it raises, or however it ends, is one failure.

    Nothing may be yielded inside: that a generator is closed would look like a deed of the code.

    Args:
        failure: makes the error to raise, of what the code did, in one line ("raised KeyError:
            'x'", "called sys.exit(3)"), and where.

    Raises:
        BaseException: that of a signal's handler, whatever the code makes of it.
    """
    with _endings_forbidden(), _interrupts_noted() as interrupts:
        try:
            yield
        except BaseException as error:
            if interrupts:
                raise interrupts[-1] from None
            raise failure(_in_words(error), error.__traceback__) from error
        if interrupts:
            raise interrupts[-1]


def _in_words(error: BaseException) -> str:
    """What code did, in one line."""
    if isinstance(error, EndingError):
        return f"called {error}"
    try:
        if isinstance(error, SystemExit):
            return f"called sys.exit({_cut('' if error.code is None else repr(error.code))})"
        text = _cut(str(error))
    except BaseException:  # the user's own kind of error, whose words are code, too
        text = ""
    return f"raised {type(error).__name__}" + (f": {text}" if text else "")


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


@contextmanager
def _endings_forbidden() -> Iterator[None]:
    """Have this thread raise where it would end this process."""
    _replace_endings()
    before = getattr(_here, "inside", None)
    _here.inside = os.getpid()
    try:
        yield
    finally:
        _here.inside = before


@functools.cache
def _replace_endings() -> None:
    """Put functions in the places of `os`'s that do the same, outside of the user's code."""
    for name in ENDINGS:
        setattr(os, name, _checked(name, getattr(os, name)))


def _checked(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def ending(*args: Any, **others: Any) -> Any:
        # A process that the code has forked ends as it likes.
        if getattr(_here, "inside", None) == os.getpid():
            raise EndingError(f"os.{name}({', '.join(map(repr, args[:1]))})")
        return real(*args, **others)

    return ending


@contextmanager
def _interrupts_noted() -> Iterator[list[BaseException]]:
    """What handlers of signals have raised so far; only the main thread gets any."""
    noted = list[BaseException]()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def noting(handler: Callable[[int, Any], Any]) -> Callable[[int, Any], Any]:
        def handle(number: int, frame: Any) -> Any:
            try:
                return handler(number, frame)
            except BaseException as error:
                noted.append(error)
                raise

        return handle

    found = {number: signal.getsignal(number) for number in INTERRUPTING}
    before = {number: handler for number, handler in found.items() if callable(handler)}
    for number, handler in before.items():
        signal.signal(number, noting(handler))
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
