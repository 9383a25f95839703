"""Notices that the Ray session a sweep runs on has ended, for which Ray itself would wait for ever.

A thread asks once in a while. When the session is gone, the thread that runs the sweep leaves it at
its next step; where that one is stuck within Ray and does not, the whole process is ended.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import Any, NoReturn

import psutil
import ray
from ray.tune import Callback

from luceloop.core.text import in_one_line

SERVERS = ("raylet", "gcs_server")
"""Processes of a session that it cannot go on without."""
PATIENCE = 25.0
"""Seconds without an answer of Ray's after which it is taken for gone."""
REACTION = 10.0
"""Seconds until the next step of a sweep, after which its thread is taken for stuck."""
ANSWER = 3.0
"""Seconds that one question may take."""
PAUSE = 0.5
"""Seconds between two looks at processes."""


class SessionLost(KeyboardInterrupt):
    """Raised between two steps of a sweep whose Ray session has ended.

    It is an interrupt, since Tune catches errors.
    """


class Watch(Callback):
    """Watches the session that this process is connected to; as a callback of Tune's, leaves it.

    Args:
        owned: whether this process started the session, whose servers are then its children.
        remedy: what the user can do, which ends the line that is printed where the process ends.
    """

    def __init__(self, *, owned: bool, remedy: str) -> None:
        self.lost = ""
        """What has ended; empty while all is well."""
        self._remedy = remedy
        self._servers = _servers() if owned else []
        self._questions = _Questions()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __getstate__(self) -> dict[str, Any]:
        """Without threads: Tune keeps a copy of all it is given."""
        return {"lost": self.lost}

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
        self._over.set()
        self._thread.join()

    def on_step_begin(self, **info: Any) -> None:
        """Leave a session that has ended, where nothing is half done.

        Raises:
            SessionLost: if it has.
        """
        if self.lost:
            raise SessionLost

    def _watch(self) -> None:
        since = 0  # looks, not seconds: a process that was stopped for a while has missed none
        while not self._over.wait(PAUSE):
            since += 1
            ended = self._find_ended()
            if not ended and since * PAUSE >= 2 * ANSWER:
                since = 0
                ended = self._questions.ask()
            if ended:
                self.lost = ended
                if not self._over.wait(REACTION):
                    end_process(f"{ended}; {self._remedy}")
                return

    def _find_ended(self) -> str:
        for name, process in self._servers:
            if not _runs(process):
                return f"Ray's process {name} has ended"
        return ""


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
    try:
        sys.stdout.flush()
        os.write(2, f"{in_one_line(line)}\n".encode())
    finally:
        os._exit(code)  # also where nobody reads what it says


def _servers() -> list[tuple[str, psutil.Process]]:
    children = psutil.Process().children()
    found = [(process.name(), process) for process in children]
    return [(name, process) for name, process in found if name in SERVERS]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
