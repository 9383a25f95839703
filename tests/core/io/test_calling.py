"""Calling code of the user's: whatever it does is one failure, and an interrupt stays one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import pytest

from luceloop.core.errors import ConfigError
from luceloop.core.io import plugins
from luceloop.core.io.calling import calling


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Let Ctrl-C interrupt, which those ignore that a shell has started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Named(Exception):
    """What the caller makes of it."""


def named(did: str, trace: TracebackType | None) -> Exception:
    return Named(did)


class OwnError(BaseException):
    """A kind of error that nobody catches by accident."""


class MuteError(Exception):
    def __str__(self) -> str:
        raise SystemExit(0)


def deep(depth: int = 0) -> int:
    return deep(depth + 1) + 1


def exits(code: object = 0) -> None:
    sys.exit(code)  # type: ignore[arg-type]


def raising(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


DEEDS: dict[str, tuple[Callable[[], object], str]] = {
    "an error": (raising(KeyError("x")), "raised KeyError: 'x'"),
    "an exit": (exits, "called sys.exit(0)"),
    "an exit without a code": (raising(SystemExit()), "called sys.exit()"),
    "a pretended interrupt": (raising(KeyboardInterrupt()), "raised KeyboardInterrupt"),
    "the end of a generator": (raising(GeneratorExit()), "raised GeneratorExit"),
    "the end of an iterator": (raising(StopIteration(3)), "raised StopIteration: 3"),
    "an error of its own": (raising(OwnError("no")), "raised OwnError: no"),
    "an error of several lines": (raising(OSError("a\n  b\nc")), "raised OSError: a b c"),
    "an error without words": (raising(MuteError()), "raised MuteError"),
    "endless recursion": (deep, "raised RecursionError"),
    "an end of the process": (lambda: os._exit(0), "called os._exit(0)"),
    "a crash": (lambda: os.abort(), "called os.abort()"),
    "another program": (
        lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
        f"called os.execv({sys.executable!r})",
    ),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_whatever_code_does_is_the_failure_that_the_caller_names(deed: str):
    call, words = DEEDS[deed]
    with pytest.raises(Named) as error, calling(named):
        call()
    assert str(error.value).startswith(words) and "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_what_returns_is_left_alone():
    with calling(named):
        found = 3
    assert found == 3 and os._exit.__name__ == "_exit"


def test_the_users_code_may_end_processes_that_it_has_forked():
    with calling(named):
        child = os.fork()
        if not child:
            os._exit(7)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def interrupt_soon() -> None:
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_an_interrupt_goes_through_whatever_the_code_makes_of_it():
    def swallows() -> None:
        try:
            time.sleep(20)
        except BaseException:
            pass

    def turns_into_an_exit() -> None:
        try:
            time.sleep(20)
        finally:
            sys.exit(0)

    for call in (lambda: time.sleep(20), swallows, turns_into_an_exit):
        interrupt_soon()
        with pytest.raises(KeyboardInterrupt), calling(named):
            call()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_code_in_another_thread_is_held_to_the_same():
    caught = list[BaseException]()

    def call() -> None:
        try:
            with calling(named):
                raise KeyboardInterrupt
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert [type(error) for error in caught] == [Named]


def test_a_handler_that_code_sets_is_gone_afterwards():
    with calling(named):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


IMPORTS = {
    "exit": ("import sys\n\nsys.exit(0)\n", r"it called sys\.exit\(0\) \(\w+\.py:3\)"),
    "end": ("import os\nos._exit(0)\n", r"it called os\._exit\(0\) \(\w+\.py:2\)"),
    "named end": ("from os import _exit\n_exit(0)\n", r"it called os\._exit\(0\)"),
    "interrupt": ("raise KeyboardInterrupt\n", r"raised KeyboardInterrupt \(\w+\.py:1\)"),
    "syntax": ("def f(:\n", r"raised SyntaxError: .*line 1"),
    "depth": (f"x = {'-' * 5_000}1\n", r"raised (RecursionError|MemoryError)"),
    "lines": ("raise ValueError('one\\ntwo')\n", r"raised ValueError: one two \(\w+\.py:1\)"),
    "attribute": (
        "def __getattr__(name):\n    raise SystemExit(name)\n",
        r"called sys\.exit\('f'\)",
    ),
}


@pytest.mark.parametrize("kind", IMPORTS)
def test_a_module_that_cannot_be_imported_is_refused_with_the_line(kind, write_module):
    source, words = IMPORTS[kind]
    module = write_module(source)
    with pytest.raises(ConfigError, match=words) as error:
        plugins.load("reward.name", f"{module}:f")
    assert error.value.key == "reward.name" and "\n" not in str(error.value)


def test_what_a_module_of_the_users_imports_is_told_by_its_own_line(write_module):
    inner = write_module("\n\nimport sys\nsys.exit(1)\n")
    outer = write_module(f"import {inner}\n")
    with pytest.raises(ConfigError, match=rf"\({inner}\.py:4\)$"):
        plugins.load("data.name", f"{outer}:f")


SLEEPS = """
import time
print("here", flush=True)

def first(x):
    try:
        time.sleep(60)
    except BaseException:
        raise SystemExit(0)
"""


def interrupted_forecast(folder: Path, module: str, source: str, presses: int) -> tuple[int, str]:
    """How a forecast ends whose reward is pressed Ctrl-C upon, and what it says."""
    (folder / f"{module}.py").write_text(source)
    process = subprocess.Popen(
        [sys.executable, "-m", "luceloop", "forecast", "demo", f"reward.name={module}:first"],
        cwd=folder,
        env=dict(os.environ, PYTHONPATH=str(Path(__file__).parents[3])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    for _ in range(presses):
        time.sleep(2)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.processes
def test_ctrl_c_while_users_code_runs_ends_a_command_as_ever(tmp_path: Path):
    assert interrupted_forecast(tmp_path, "sleeps", SLEEPS, 1) == (130, "interrupted\n")


ENDED = """
import os, signal, sys, time
from luceloop.core.io.calling import calling

def handler(*_):
    raise SystemExit(5)  # as Ray's, which ends a worker so

def call():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)

signal.signal(signal.SIGTERM, handler)
with calling(lambda did, trace: RuntimeError(did)):
    call()
"""


def test_a_process_that_its_own_handler_ends_is_ended():
    ran = subprocess.run([sys.executable, "-c", ENDED], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (5, "")


ENDLESS = """
import time
print("here", flush=True)

def first(x):
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""


@pytest.mark.processes
def test_the_third_ctrl_c_leaves_code_that_swallows_all_of_them(tmp_path: Path):
    assert interrupted_forecast(tmp_path, "endless", ENDLESS, 3) == (130, "interrupted\n")
