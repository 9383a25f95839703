"""How a command ends when Ctrl-C is pressed, be it again and again, or its output is closed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from luceloop.core.io.calling import leave
from luceloop.sweeps.console import drop_output, is_output_closed

INTERRUPTED = 130
"""The exit code after Ctrl-C, that of shells."""
PATIENCE = 2
"""How often Ctrl-C lets what is running end in order; whoever presses it again wants to leave."""


class Interruptions:
    """Counts Ctrl-C: what is on record is safe at any moment, so nobody has to wait for an end."""

    def __init__(self) -> None:
        self.count = 0
        self.leaves = False
        """Whether the command has ended, and no more is left than to leave Python."""
        self._told = False

    def press(self, *_: Any) -> None:
        """Answer to Ctrl-C, as a handler of its signal.

        Raises:
            KeyboardInterrupt: unless the command has had its chances, or has ended.
        """
        self.count += 1
        if self.count <= PATIENCE and not self.leaves:
            raise KeyboardInterrupt
        self.tell()
        leave(INTERRUPTED)

    def tell(self) -> None:
        """Say that the command was interrupted, once; from now on it leaves at once."""
        self.leaves = True
        if not self._told:
            self._told = True
            with suppress(OSError):  # where nobody listens
                os.write(2, b"interrupted\n")


@contextmanager
def interruptible() -> Iterator[Interruptions]:
    """Count Ctrl-C until this process ends; where there was none, only until the block does."""
    found, before = Interruptions(), signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before == signal.SIG_IGN:  # as for what a shell starts in the background
        yield found
        return
    signal.signal(signal.SIGINT, found.press)
    try:
        yield found
    finally:
        found.leaves = True
        if not found.count:
            signal.signal(signal.SIGINT, before)


def came_of_interrupt(error: BaseException) -> bool:
    """Whether an error was raised by code that Ctrl-C met at a bad moment."""
    met: BaseException | None = error
    while met is not None and not isinstance(met, KeyboardInterrupt | InterruptedCommand):
        met = met.__cause__ or met.__context__
    return met is not None


class InterruptedCommand(BaseException):
    """Ctrl-C, beyond click, which answers to it with an empty line."""


class Commands(click.Group):
    """Commands that end as we say: after Ctrl-C, and where nobody reads what they print.

    Where any pipe is broken, click would end with 1 and no word.
    """

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        """Read the command line, and print what it asks for, such as help."""
        with _ending():
            return super().make_context(*arguments, **settings)

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        with _ending():
            return super().invoke(context)


@contextmanager
def _ending() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        raise InterruptedCommand from error
    except BrokenPipeError as error:
        if not is_output_closed():
            raise RuntimeError("a process or server has closed its connection") from error
        drop_output()
        sys.exit(0)
