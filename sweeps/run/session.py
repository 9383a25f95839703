"""The Ray session of a run: joined or started, and ended again."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import NoReturn
from unittest import mock

import ray
from ray._private import ray_constants, worker
from ray._private.node import Node
from ray.job_config import JobConfig

import luceloop
from luceloop.core.errors import SessionError, one_line
from luceloop.core.io.plugins import BESIDE
from luceloop.sweeps.run.address import LOCAL, check_session, session_address
from luceloop.sweeps.run.watch import SessionLost, Watch, end_process

UNNEEDED = ("start_monitor", "start_log_monitor", "start_api_server")
"""What Ray starts beside its raylet and GCS, and a sweep on one machine does without."""
NEVER = 10**9
"""Seconds after which Ray ends a process that its GCS does not answer, though a new one may."""
STARTING = 120.0
"""Seconds that Ray may take to start."""
JOINING = 40.0
"""Seconds that a running Ray may take to be joined."""
ENDING = 30.0
"""Seconds that it may take to end."""

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Resuming goes by our ledger; Tune's own snapshot would cost 50 ms a trial.
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_MAX_PENDING_TRIALS_PG": "4",
    # Else Tune asks for the cluster's size every ten seconds, and waits where nobody answers.
    "TUNE_STATE_REFRESH_PERIOD": str(10**9),
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the ledger has them; a line says what happened
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_WARN_THRESHOLD_S": "10",
}
"""How Ray and Tune behave in a sweep."""


@contextmanager
def ray_session(remedy: str = "") -> Iterator[Watch]:
    """Hold a Ray session, and let SIGTERM, a cluster's polite kill, end a run as Ctrl-C does.

    A session that the caller has started is left as it is; else that of `$RAY_ADDRESS` (set inside
    a Ray job) is joined, or one is started in this process and ended with it. One that is started
    here listens on 127.0.0.1 alone.

    Args:
        remedy: what the user can do if the session ends before its time.

    Yields:
        What leaves a session that has ended, as a callback of Tune's.

    Raises:
        SessionError: if there is no session, or it has ended or does not answer any more.
    """
    os.environ |= ENVIRONMENT
    joins = not ray.is_initialized()
    owned = joins and session_address() == LOCAL
    if joins:
        _start(remedy)
    main = threading.current_thread() is threading.main_thread()
    if main:
        before = signal.signal(signal.SIGTERM, _interrupt)  # after ray.init, which sets its own
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # failed points are on record
    watch = Watch(owned=owned, remedy=remedy)
    try:
        with _no_interrupt_lost(), watch:
            yield watch
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt) and not isinstance(error, SessionLost)
        if watch.lost and not interrupted:  # who ends a whole group of processes means the driver
            raise SessionError(watch.lost, remedy, owned) from error
        raise
    finally:
        try:
            if joins:
                gc.collect()  # a handle that is freed after Ray has ended would end this process
                with at_most(ENDING, f"Ray did not end within {ENDING:.0f} s", remedy):
                    ray.shutdown()
        finally:
            if main:
                signal.signal(signal.SIGTERM, before)


class _OwnPath(JobConfig):
    """Keeps Ray from putting the driver's current folder first on the path of its workers.

    There a user's `luceloop.py` or `queue.py` would stand in for ours or Python's. Ray leaves the
    path alone where a job has a working directory.
    """

    def _runtime_env_has_working_dir(self) -> bool:
        return True


def _start(remedy: str) -> None:
    check_session()
    address = session_address()
    if luceloop.__version__ == luceloop.NOT_INSTALLED:  # else workers find it as we did
        paths = [os.environ.get("PYTHONPATH", ""), str(BESIDE)]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    local = address == LOCAL
    named, limit = ("Ray", STARTING) if local else (f"Ray at RAY_ADDRESS={address}", JOINING)
    late = f"{named} did not answer within {limit:.0f} s"
    try:
        where = _small_and_private() if local else nullcontext()
        with at_most(limit, late, remedy), where, _quietly():
            ray.init(
                address=address,
                job_config=_OwnPath(),
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if local else None,
                _system_config={"gcs_rpc_server_reconnect_timeout_s": NEVER} if local else None,
            )
    except Exception as error:  # Ray raises what it likes
        ray.shutdown()
        raise SessionError(f"{named}: {one_line(error)}", remedy, owned=local) from error


@contextmanager
def at_most(seconds: float, line: str, remedy: str) -> Iterator[None]:
    """End this process with a line if it is still in the block after so many seconds.

    Within Ray's own code a thread can be stuck where no signal reaches it.
    """
    said = "; ".join(filter(None, [line, remedy]))
    timer = threading.Timer(seconds, end_process, [said])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _small_and_private() -> Iterator[None]:
    """Have Ray start what one machine needs, on 127.0.0.1 alone.

    It listens there where it supports no clusters, which two names say. An autoscaler, a reader of
    logs and the server of a page that is not shown would take a quarter of the time to start.
    """
    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {name: "0"}))
        stack.enter_context(mock.patch.object(ray_constants, "ENABLE_RAY_CLUSTER", False))
        for unneeded in UNNEEDED:
            stack.enter_context(mock.patch.object(Node, unneeded, lambda *_, **__: None))
        yield


@contextmanager
def _quietly() -> Iterator[None]:
    """Connect without the thread that prints pages of Ray's own log where a process dies."""
    with mock.patch.object(worker, "listen_error_messages", lambda *_: None):
        yield


@contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Interrupt the main thread once more where an interrupt came while Python could not raise it.

    In a finalizer or a callback of a weak reference it would be printed and forgotten. SIGTERM must
    interrupt, too.
    """
    before, main = sys.unraisablehook, threading.main_thread().ident
    timers = list[threading.Timer]()

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            again = threading.Timer(0.1, signal.pthread_kill, [main, signal.SIGTERM])
            again.daemon = True  # which a thread of its own sends, since here it would be lost, too
            again.start()
            timers.append(again)
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in timers:
            timer.cancel()


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
