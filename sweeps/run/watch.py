"""Notices that the Ray session a sweep runs on has ended, for which Ray itself would wait for ever.

A thread asks once in a while. When the session is gone, it interrupts the thread that runs the
sweep; where that one is stuck within Ray and does not react, it ends the whole process.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from types import TracebackType
from typing import Any, NoReturn

import psutil
import ray

SERVERS = ("raylet", "gcs_server")
"""Processes of a session that it cannot go on without."""
PATIENCE = 25.0
"""Seconds without an answer of Ray's after which it is taken for gone."""
REACTION = 10.0
"""Seconds that an interrupted thread may take to leave what it does."""
ANSWER = 3.0
"""Seconds that one question may take."""
PAUSE = 0.5
"""Seconds between two looks at processes."""


class SessionLost(KeyboardInterrupt):
    """Raised in the thread that runs a sweep when its Ray session has ended.

    It is an interrupt, since Tune catches errors.
    """


class Watch:
    """Watches the session that this process is connected to, and interrupts the calling thread.

    Args:
        owned: whether this process started the session, whose servers are then its children.
        remedy: what the user can do, which ends the line that is printed where the process ends.
    """

    def __init__(self, *, owned: bool, remedy: str) -> None:
        self.lost = ""
        """What has ended; empty while all is well."""
        self._remedy = remedy
        self._caller = threading.get_ident()
        self._servers = _servers() if owned else []
        self._questions = _Questions()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        """Start watching."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop watching; whether the session was lost is known from then on."""
        if kind is not None and not self.lost:  # maybe it is the reason
            self.lost = self._find_ended()
        with self._lock:
            self._over.set()
            _interrupt(self._caller, None)
        self._thread.join()

    def _watch(self) -> None:
        since = 0  # looks, not seconds: a process that was stopped for a while has missed none
        while not self._over.wait(PAUSE):
            since += 1
            ended = self._find_ended()
            if not ended and since * PAUSE >= 2 * ANSWER:
                since = 0
                ended = self._questions.ask()
            if ended:
                self._interrupt_caller(ended)
                return

    def _find_ended(self) -> str:
        for name, process in self._servers:
            if not _runs(process):
                return f"Ray's process {name} has ended"
        return ""

    def _interrupt_caller(self, ended: str) -> None:
        with self._lock:
            if self._over.is_set():
                return
            self.lost = ended
            _interrupt(self._caller, SessionLost)
        if not self._over.wait(REACTION):
            end_process(f"{ended}; {self._remedy}")


class _Questions:
    """Asks the session whether the node of this process is alive."""

    def __init__(self) -> None:
        context = ray.get_runtime_context()
        self._address = context.gcs_address
        self._node = ray.NodeID.from_hex(context.get_node_id())
        # No public call takes a time limit.
        self._client: Any = ray._private.worker.global_worker.gcs_client
        self._silent = 0.0

    def ask(self) -> str:
        """What has ended; empty if the answer is good, or too early to tell."""
        start = time.monotonic()
        try:
            (alive,) = self._client.check_alive([self._node], timeout=ANSWER)
        except ray.exceptions.RpcError:
            # A stopped process would count the time that it was stopped for.
            self._silent += min(time.monotonic() - start, 2 * ANSWER) + 2 * ANSWER
            if self._silent < PATIENCE:
                return ""
            return f"Ray's head at {self._address} has not answered for {self._silent:.0f} s"
        self._silent = 0.0
        return "" if alive else "Ray has given up the node that the sweep's driver runs on"


def end_process(line: str, code: int = 1) -> NoReturn:
    """End this process with a line for the user, from whatever thread."""
    sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
    os._exit(code)


def _servers() -> list[tuple[str, psutil.Process]]:
    children = psutil.Process().children()
    found = [(process.name(), process) for process in children]
    return [(name, process) for name, process in found if name in SERVERS]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _interrupt(thread: int, error: type[BaseException] | None) -> None:
    """Raise an error in another thread; None takes back what it has not got yet."""
    raised = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
